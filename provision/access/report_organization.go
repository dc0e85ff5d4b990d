package access

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	orgtypes "github.com/aws/aws-sdk-go-v2/service/organizations/types"
	"golang.org/x/sync/errgroup"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/iampolicy"
)

// What an organization denies is found in two ways. AWS's simulator knows the service
// control policies above an account, but evaluates none that has a condition. And the
// policies themselves can be read, by the management account and those that it delegates
// to; then they are evaluated here, in full.

// Organizations is what a report asks of Organizations. *organizations.Client is one.
type Organizations interface {
	DescribeOrganization(context.Context, *organizations.DescribeOrganizationInput, ...func(*organizations.Options)) (*organizations.DescribeOrganizationOutput, error)
	ListParents(context.Context, *organizations.ListParentsInput, ...func(*organizations.Options)) (*organizations.ListParentsOutput, error)
	ListPoliciesForTarget(context.Context, *organizations.ListPoliciesForTargetInput, ...func(*organizations.Options)) (*organizations.ListPoliciesForTargetOutput, error)
	DescribePolicy(context.Context, *organizations.DescribePolicyInput, ...func(*organizations.Options)) (*organizations.DescribePolicyOutput, error)
}

// pairAsked is an action on a resource.
type pairAsked struct{ action, resource string }

// grantCalls are the calls that a grant makes, on what it makes.
func (p *Prospect) grantCalls() []pairAsked {
	at := place{partition: p.Set.Partition, account: p.Set.Account, vendor: p.Vendor}
	var all []pairAsked
	ask := func(resource string, actions ...string) {
		for _, a := range actions {
			if one := (pairAsked{a, resource}); !slices.Contains(all, one) {
				all = append(all, one)
			}
		}
	}
	policy := func(path, name string) {
		ask(at.policyARN(path, name), "iam:GetPolicy", "iam:GetPolicyVersion", "iam:CreatePolicy", "iam:TagPolicy")
	}
	if p.Set.Boundary != nil {
		policy(p.Set.path(), p.Set.Boundary.Name)
	}
	for _, r := range p.Set.Roles {
		role := at.roleARN(r.Path, r.Name)
		ask(role, "iam:GetRole", "iam:ListRolePolicies", "iam:ListAttachedRolePolicies", "iam:CreateRole", "iam:TagRole")
		if len(r.Attached) > 0 {
			ask(role, "iam:AttachRolePolicy")
		}
		for _, one := range r.Policies {
			if one.Kind == inline {
				ask(role, "iam:GetRolePolicy", "iam:PutRolePolicy")
				continue
			}
			ask(role, "iam:AttachRolePolicy")
			policy(r.Path, one.Name)
		}
	}
	if p.Stack != "" {
		ask("arn:"+p.Set.Partition+":cloudformation:"+p.Set.Region+":"+p.Set.Account+":stack/"+p.Stack+"/*",
			"cloudformation:DescribeStacks", "cloudformation:GetTemplate", "cloudformation:CreateChangeSet", "cloudformation:DescribeChangeSet",
			"cloudformation:ExecuteChangeSet", "cloudformation:DescribeStackEvents", "cloudformation:SetStackPolicy", "cloudformation:UpdateTerminationProtection")
	}
	return all
}

// calls adds what the caller may do of grant, and what the organization denies to the
// roles that grant makes. bound says that it denies making service-linked roles.
func (p *Prospect) calls(ctx context.Context, f *Forecast, from source) (bound bool, err error) {
	member, levels, err := p.organization(ctx, f)
	if err != nil {
		return false, err
	}
	grant := p.grantCalls()
	byRole := make([][]question, len(p.Set.Roles))
	asked := map[pairAsked]bool{}
	for _, one := range grant {
		asked[one] = true
	}
	for i, r := range p.Set.Roles {
		if isForService(p.Vendor, r) {
			continue // the table has no call of the endpoint's tasks
		}
		byRole[i] = p.Set.questions(p.Vendor, deployed{role: r, name: r.Name, arn: p.Set.RoleARN(r)})
		for _, q := range byRole[i] {
			if member {
				asked[pairAsked{q.request.Action, q.request.Resource}] = true
			}
		}
	}

	verdicts, err := p.simulate(ctx, f, from, asked)
	if err != nil {
		return false, err
	}
	var read *iampolicy.Evaluator
	if levels != nil {
		if read, err = iampolicy.Compile(iampolicy.Policies{Identity: []*iampolicy.Document{allowEverything()}, SCP: levels}); err != nil {
			f.Add(organizationRow, "policies", CannotTell, "its service control policies cannot be evaluated: %v", err)
		}
	}
	p.rateGrant(f, from, grant, verdicts, read)
	if !member {
		return false, nil
	}
	for i, r := range p.Set.Roles {
		if byRole[i] == nil {
			continue
		}
		calls, denied := map[string]bool{}, map[string]string{} // by call: what denies it
		for _, q := range byRole[i] {
			calls[q.operation.Call] = true
			by := p.deniedBy(read, q.request)
			if by == "" && verdicts[pairAsked{q.request.Action, q.request.Resource}].organization {
				by = "the organization, by AWS's simulation"
			}
			if by == "" {
				continue
			}
			denied[q.operation.Call] = fmt.Sprintf("%s (%s) by %s", q.request.Action, q.operation.Purpose, by)
			bound = bound || q.request.Action == createLinked
		}
		switch {
		case len(denied) > 0:
			var words []string
			for _, call := range slices.Sorted(maps.Keys(denied)) {
				words = append(words, denied[call])
			}
			f.Add(organizationRow, "role "+r.Name, Fail, "%d of its %d calls are denied: %s", len(denied), len(calls), listed(words, 3))
		case read != nil:
			f.Add(organizationRow, "role "+r.Name, Pass, "none of its %d calls is denied by the organization's policies", len(calls))
		case verdicts != nil:
			f.Add(organizationRow, "role "+r.Name, Pass, "AWS's simulation denies none of its %d calls", len(calls))
		default:
			f.Add(organizationRow, "role "+r.Name, CannotTell, "neither the organization's policies can be read, nor AWS asked for a simulation")
		}
	}
	return bound, nil
}

// rateGrant adds what the caller may do of the calls of grant.
func (p *Prospect) rateGrant(f *Forecast, from source, grant []pairAsked, verdicts map[pairAsked]verdict, read *iampolicy.Evaluator) {
	var organization, boundary, own []string
	add := func(list *[]string, action string) {
		if !slices.Contains(*list, action) {
			*list = append(*list, action)
		}
	}
	for _, one := range grant {
		v := verdicts[one]
		request := iampolicy.Request{Action: one.action, Resource: one.resource, Context: iampolicy.Context{},
			Principal: iampolicy.Principal{Type: iampolicy.AWS, ARN: p.Caller, RoleARN: from.arn, Account: p.Set.Account}}
		request.Context.Set("aws:PrincipalArn", from.arn)
		request.Context.Set("aws:PrincipalAccount", p.Set.Account)
		request.Context.Set("aws:RequestedRegion", p.Set.Region)
		request.Context.Set("aws:SecureTransport", "true")
		switch {
		case v.organization || p.deniedBy(read, request) != "":
			add(&organization, one.action)
		case v.boundary:
			add(&boundary, one.action)
		case verdicts != nil && !v.allowed:
			add(&own, one.action)
		}
	}
	who := "the caller"
	switch {
	case len(organization) > 0:
		f.Add(mayGrant, who, Fail, "the organization denies %s to everybody in this account", listed(organization, 6))
	case len(boundary) > 0:
		f.Add(mayGrant, who, Fail, "the permissions boundary %s does not allow %s", from.boundary, listed(boundary, 6))
	case len(own) > 0:
		f.Add(mayGrant, who, Info, "these credentials may not grant, for want of %s; run grant with others", listed(own, 6))
	case verdicts != nil:
		f.Add(mayGrant, who, Pass, "these credentials may make all calls of grant")
	}
}

// deniedBy names the service control policy that denies a request; "" for none.
func (p *Prospect) deniedBy(read *iampolicy.Evaluator, request iampolicy.Request) string {
	if read == nil {
		return ""
	}
	request.Context = maps.Clone(request.Context)
	if service, _, _ := strings.Cut(request.Action, ":"); service == "iam" || service == "route53" || service == "organizations" {
		request.Context.Set("aws:RequestedRegion", globalRegion(p.Set.Partition))
	}
	if read.Decide(&request) == iampolicy.Allowed {
		return ""
	}
	why := read.Explain(&request)
	if why.Decision == iampolicy.ExplicitDeny && len(why.Statements) > 0 {
		return "policy " + why.Statements[0].Document
	}
	return "the want of a policy that allows it"
}

// globalRegion is the region that calls of services without regions are signed for.
func globalRegion(partition string) string {
	switch partition {
	case "aws-us-gov":
		return "us-gov-west-1"
	case "aws-cn":
		return "cn-north-1"
	}
	return "us-east-1"
}

// organization adds whether the account is in one that binds it, and reads its policies
// where that is allowed: level by level, from the root down; nil where they are not known.
func (p *Prospect) organization(ctx context.Context, f *Forecast) (member bool, levels [][]*iampolicy.Document, err error) {
	out, err := p.Organizations.DescribeOrganization(ctx, &organizations.DescribeOrganizationInput{})
	switch {
	case fault.Code(err) == "AWSOrganizationsNotInUseException":
		f.Add(organizationRow, p.Set.Account, Pass, "the account is in no organization, so no service control policy binds it")
		return false, nil, nil
	case fault.Denied(err):
		f.lacking(organizationRow, p.Set.Account, err)
		return true, nil, nil // it may be
	case err != nil:
		return false, nil, fmt.Errorf("asking for the organization: %w", err)
	}
	management := aws.ToString(out.Organization.MasterAccountId)
	if management == p.Set.Account {
		f.Add(organizationRow, p.Set.Account, Pass, "it is the management account of its organization, which no service control policy binds")
		return false, nil, nil
	}
	levels, err = p.readPolicies(ctx)
	if fault.Denied(err) {
		f.Add(organizationRow, "policies with conditions", CannotTell,
			"AWS's simulation leaves them out, and %s is for the management account %s and those that it delegates to; its administrators can say", deniedCall(err), management)
		return true, nil, nil
	}
	if err != nil {
		return false, nil, err
	}
	names := map[string]bool{}
	for _, level := range levels {
		for _, doc := range level {
			names[doc.Name] = true
		}
	}
	f.Add(organizationRow, p.Set.Account, Info, "its management account is %s; its service control policies were read: %s", management, listed(slices.Sorted(maps.Keys(names)), 5))
	return true, levels, nil
}

// readPolicies reads the service control policies on the account and everything above it.
func (p *Prospect) readPolicies(ctx context.Context) ([][]*iampolicy.Document, error) {
	known := map[string]*iampolicy.Document{}
	var levels [][]*iampolicy.Document
	for target := p.Set.Account; ; {
		level, err := p.attached(ctx, target, known)
		if err != nil {
			return nil, err
		}
		levels = append(levels, level)
		if strings.HasPrefix(target, "r-") { // the root, which has no parent
			slices.Reverse(levels)
			return levels, nil
		}
		out, err := p.Organizations.ListParents(ctx, &organizations.ListParentsInput{ChildId: &target})
		if err != nil {
			return nil, err
		}
		if len(out.Parents) != 1 || len(levels) > deepest {
			return nil, fmt.Errorf("the organization has %d parents of %s, not one", len(out.Parents), target)
		}
		target = aws.ToString(out.Parents[0].Id)
	}
}

// deepest is more levels than an organization has.
const deepest = 10

// attached reads the service control policies on one level. known are those of others.
func (p *Prospect) attached(ctx context.Context, target string, known map[string]*iampolicy.Document) ([]*iampolicy.Document, error) {
	var level []*iampolicy.Document
	pages := organizations.NewListPoliciesForTargetPaginator(p.Organizations, &organizations.ListPoliciesForTargetInput{
		TargetId: &target, Filter: orgtypes.PolicyTypeServiceControlPolicy,
	})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, summary := range page.Policies {
			id, name := aws.ToString(summary.Id), aws.ToString(summary.Name)
			if known[id] == nil {
				out, err := p.Organizations.DescribePolicy(ctx, &organizations.DescribePolicyInput{PolicyId: &id})
				if err != nil {
					return nil, err
				}
				if known[id], err = iampolicy.Parse(name, []byte(aws.ToString(out.Policy.Content))); err != nil {
					return nil, fmt.Errorf("reading the service control policy %s: %w", name, err)
				}
			}
			level = append(level, known[id])
		}
	}
	return level, nil
}

// verdict is what AWS's simulation says of one action on one resource.
type verdict struct {
	allowed      bool
	organization bool // it denies
	boundary     bool // the caller's does not allow
}

// simulate asks what the caller may do; nil where that cannot be asked. The organization's
// part of the answer is everybody's in the account.
func (p *Prospect) simulate(ctx context.Context, f *Forecast, from source, asked map[pairAsked]bool) (map[pairAsked]verdict, error) {
	if from.arn == "" {
		f.Add(mayGrant, "the caller", CannotTell, "AWS simulates users and roles, and cannot be asked about %s", p.Caller)
		return nil, nil
	}
	byResource := map[string][]string{}
	for one := range asked {
		byResource[one.resource] = append(byResource[one.resource], one.action)
	}
	resources := slices.Sorted(maps.Keys(byResource))
	answers := make([][]types.EvaluationResult, len(resources))
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(parallelQuestions)
	for i, resource := range resources {
		slices.Sort(byResource[resource])
		calls.Go(func() error {
			pages := iam.NewSimulatePrincipalPolicyPaginator(p.IAM, &iam.SimulatePrincipalPolicyInput{
				PolicySourceArn: &from.arn, ActionNames: byResource[resource], ResourceArns: []string{resource},
			})
			for pages.HasMorePages() {
				page, err := pages.NextPage(ctx)
				if err != nil {
					return err
				}
				answers[i] = append(answers[i], page.EvaluationResults...)
			}
			return nil
		})
	}
	err := calls.Wait()
	if fault.Denied(err) {
		f.lacking(mayGrant, "the caller", err)
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("asking AWS what the caller may do: %w", err)
	}
	all := map[pairAsked]verdict{}
	for i, resource := range resources {
		for _, r := range answers[i] {
			v := verdict{allowed: r.EvalDecision == types.PolicyEvaluationDecisionTypeAllowed}
			v.organization = r.OrganizationsDecisionDetail != nil && !r.OrganizationsDecisionDetail.AllowedByOrganizations
			v.boundary = r.PermissionsBoundaryDecisionDetail != nil && !r.PermissionsBoundaryDecisionDetail.AllowedByPermissionsBoundary
			all[pairAsked{aws.ToString(r.EvalActionName), resource}] = v
		}
	}
	return all, nil
}
