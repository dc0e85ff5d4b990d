package access

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// Prospect finds out what a grant would make in an account, and what it would meet. It
// only reads, and does without what it may not read.
type Prospect struct {
	Set    *Set // what would be granted
	Vendor *vendor.Profile
	Caller string // the ARN of who asks
	// ExternalIDs are those of an earlier grant, which no report shows.
	ExternalIDs []string
	// Stack is the name of the stack that would be made; empty where IAM is called directly.
	Stack string

	IAM           ReaderIAM
	Organizations Organizations
	Now           time.Time
	Progress      func(what string) // may be nil
}

// ReaderIAM is what a report asks of IAM. *iam.Client is one.
type ReaderIAM interface {
	IAM
	GetUser(context.Context, *iam.GetUserInput, ...func(*iam.Options)) (*iam.GetUserOutput, error)
}

// Forecast is what a Prospect found. Its JSON is read by other programs.
type Forecast struct {
	Account string          `json:"account"`
	Region  string          `json:"region"`
	Profile ProfileName     `json:"profile"`
	Method  string          `json:"method"` // iam or cloudformation
	Caller  string          `json:"caller"`
	Granted *State          `json:"granted"` // an earlier grant; null: none, or not known
	Plan    *step.Plan      `json:"plan"`    // of grant by IAM; null: it could not be made
	Rows    []Row           `json:"rows"`
	Summary ForecastSummary `json:"summary"`
}

// ForecastSummary counts the rows.
type ForecastSummary struct {
	Pass       int `json:"pass"`
	Fail       int `json:"fail"`
	CannotTell int `json:"cannotTell"`
	Info       int `json:"info"`
}

// Info is the Result of a row that is neither good nor bad.
const Info Result = "info"

// The rows of a forecast, in the order in which they are shown.
const (
	callerRow       = "credentials"
	earlierRow      = "earlier grant"
	pathRow         = "under the vendor's path"
	makesRow        = "will be made"
	quotaRow        = "quota"
	mayGrant        = "calls of grant"
	organizationRow = "organization"
	linkedRow       = "service-linked role"
)

// Add adds a row, and counts it.
func (f *Forecast) Add(check, target string, result Result, why string, args ...any) {
	f.Rows = append(f.Rows, Row{Check: check, Target: target, Result: result, Why: fmt.Sprintf(why, args...)})
	switch result {
	case Pass:
		f.Summary.Pass++
	case Fail:
		f.Summary.Fail++
	case CannotTell:
		f.Summary.CannotTell++
	case Info:
		f.Summary.Info++
	}
}

// lacking adds the row of what cannot be told because a call is not allowed.
func (f *Forecast) lacking(check, target string, err error) {
	f.Add(check, target, CannotTell, "%s is not allowed to these credentials", deniedCall(err))
}

// deniedCall names the call that AWS denied, as a policy would.
func deniedCall(err error) string {
	var operation *smithy.OperationError
	if errors.As(err, &operation) {
		return strings.ToLower(operation.ServiceID) + ":" + operation.OperationName
	}
	return "a call"
}

// Run looks at everything. An error means that there is no forecast: AWS cannot be
// reached, or does not know the caller.
func (p *Prospect) Run(ctx context.Context) (*Forecast, error) {
	f := &Forecast{Account: p.Set.Account, Region: p.Set.Region, Profile: p.Set.Profile, Method: "iam", Caller: p.Caller, Rows: []Row{}}
	if p.Stack != "" {
		f.Method = "cloudformation"
	}
	p.now("looking at the caller")
	source, err := p.caller(ctx, f)
	if err != nil {
		return nil, err
	}
	p.now("looking at what is there")
	for _, look := range []func(context.Context, *Forecast) error{p.earlier, p.plan, p.quotas} {
		if err := look(ctx, f); err != nil {
			return nil, err
		}
	}
	p.now("asking what the organization allows")
	bound, err := p.calls(ctx, f, source)
	if err != nil {
		return nil, err
	}
	p.now("looking for service-linked roles")
	return f, p.linked(ctx, f, bound)
}

func (p *Prospect) now(what string) {
	if p.Progress != nil {
		p.Progress(what)
	}
}

// source is the user or role behind the caller, as IAM simulates it.
type source struct {
	arn      string // empty: IAM cannot simulate it
	boundary string // ARN; empty: none, or not known
}

// caller adds who asks, with the permissions boundary on it.
func (p *Prospect) caller(ctx context.Context, f *Forecast) (source, error) {
	parsed, err := arn.Parse(p.Caller)
	if err != nil {
		return source{}, fmt.Errorf("reading the caller's ARN: %w", err)
	}
	var s source
	kind, rest, _ := strings.Cut(parsed.Resource, "/")
	switch kind {
	case "user":
		out, err := p.IAM.GetUser(ctx, &iam.GetUserInput{})
		s.arn = p.Caller
		if fault.Denied(err) {
			f.lacking(callerRow, "boundary", err)
			return s, nil
		}
		if err != nil {
			return s, fmt.Errorf("reading the caller: %w", err)
		}
		if b := out.User.PermissionsBoundary; b != nil {
			s.boundary = aws.ToString(b.PermissionsBoundaryArn)
		}
	case "assumed-role":
		name, _, _ := strings.Cut(rest, "/")
		live, err := readRoleItself(ctx, p.IAM, name)
		if fault.Denied(err) {
			f.lacking(callerRow, "boundary", err)
			return s, nil // the role's path is not in the session's ARN
		}
		if err != nil {
			return s, fmt.Errorf("reading the caller's role: %w", err)
		}
		if live != nil {
			s.arn, s.boundary = live.arn, live.boundary
		}
	default:
		f.Add(callerRow, "boundary", Info, "%s has no permissions boundary", p.Caller)
		return s, nil
	}
	if s.boundary != "" {
		f.Add(callerRow, "boundary", Info, "%s has the permissions boundary %s; what it allows of grant's calls is below", cmp.Or(s.arn, p.Caller), s.boundary)
	} else {
		f.Add(callerRow, "boundary", Pass, "%s has no permissions boundary", cmp.Or(s.arn, p.Caller))
	}
	return s, nil
}

// earlier adds what is granted, and what else is under the vendor's path.
func (p *Prospect) earlier(ctx context.Context, f *Forecast) error {
	granted, err := ReadState(ctx, p.IAM, p.Set.Partition, p.Set.Account, p.Vendor, p.Now)
	switch {
	case fault.Denied(err):
		f.lacking(earlierRow, p.Vendor.RoleName, err)
	case err != nil:
		return fmt.Errorf("reading what is granted: %w", err)
	case granted == nil:
		f.Add(earlierRow, p.Vendor.RoleName, Pass, "nothing is granted yet")
	case granted.Profile != p.Set.Profile || granted.Region != p.Set.Region || granted.Method != f.Method:
		f.Add(earlierRow, p.Vendor.RoleName, Fail, "%s is granted already for %s, by %s; change it with 'biplane access update', or revoke it first", granted.Profile, granted.Region, granted.Method)
	default:
		f.Add(earlierRow, p.Vendor.RoleName, Info, "the same is granted already, version %s; grant would only make what is missing", cmp.Or(granted.PolicyVersion, "unknown"))
	}
	f.Granted = granted

	_, others, err := RevokeSteps(ctx, p.IAM, p.Set.Partition, p.Set.Account, p.Vendor, nil)
	switch {
	case fault.Denied(err):
		f.lacking(pathRow, p.Vendor.Path, err)
	case err != nil:
		return err
	case len(others) > 0:
		f.Add(pathRow, p.Vendor.Path, Info, "there are things that no grant makes, which stay: %s", listed(others, 3))
	default:
		f.Add(pathRow, p.Vendor.Path, Pass, "nothing else is there")
	}
	return nil
}

// plan adds what grant would do, step by step.
func (p *Prospect) plan(ctx context.Context, f *Forecast) error {
	if p.Set.Boundary != nil {
		f.Add(makesRow, "boundary "+p.Set.Boundary.Name, Info, "%s characters: the most that roles made by the vendor can do", thousands(p.Set.Boundary.Size))
	}
	for _, r := range p.Set.Roles {
		var sizes []string
		for _, policy := range r.Policies {
			sizes = append(sizes, thousands(policy.Size))
		}
		var has []string
		if len(sizes) > 0 {
			has = append(has, "policies of "+strings.Join(sizes, " + ")+" characters")
		}
		for _, policy := range r.Attached {
			has = append(has, "AWS's "+policy[strings.LastIndexByte(policy, '/')+1:])
		}
		f.Add(makesRow, "role "+r.Name, Info, "%s; %s, a trust of %s", r.Purpose, strings.Join(has, ", "), thousands(r.Trust.Size))
	}
	runner := step.Runner{Steps: GrantSteps(p.IAM, p.Set, p.Vendor)}
	plan, err := runner.Plan(ctx, step.Present)
	if fault.Denied(err) {
		f.lacking(makesRow, "plan", err)
		return nil
	}
	if err != nil {
		return err
	}
	p.hide(plan)
	f.Plan = &plan
	for _, s := range plan.Steps {
		switch s.Action {
		case step.Refuse:
			f.Add(makesRow, s.Name, Fail, "it is there already, and grant would refuse: %s", strings.Join(s.Details[:min(2, len(s.Details))], ": "))
		case step.Adopt, step.Finish:
			f.Add(makesRow, s.Name, Info, "it is there; grant would %s it", s.Action)
		}
	}
	if len(plan.With(step.Refuse)) == 0 {
		f.Add(makesRow, "plan", Pass, "nothing is in the way: %s", strings.TrimSuffix(strings.TrimPrefix(plan.Summary(), "Plan: "), "."))
	}
	return nil
}

// hide blots the external IDs out of a plan: a report goes from hand to hand.
func (p *Prospect) hide(plan step.Plan) {
	var pairs []string
	for _, id := range p.ExternalIDs {
		if id != "" {
			pairs = append(pairs, id, "…")
		}
	}
	blot := strings.NewReplacer(pairs...)
	for _, s := range plan.Steps {
		for i := range s.Details {
			s.Details[i] = blot.Replace(s.Details[i])
		}
	}
}

// quotas adds every limit that grant counts with: used, allowed, needed.
func (p *Prospect) quotas(ctx context.Context, f *Forecast) error {
	summary, err := p.IAM.GetAccountSummary(ctx, &iam.GetAccountSummaryInput{})
	if err != nil && !fault.Denied(err) {
		return fmt.Errorf("reading the account's limits: %w", err)
	}
	limits := map[string]int{}
	for key, published := range publishedQuotas {
		limits[key] = published
		if err == nil {
			if own, there := summary.SummaryMap[key]; there {
				limits[key] = int(own)
			}
		}
	}
	roles, policies := p.toMake(f.Plan)
	for _, count := range []struct {
		what, used, quota string
		more              int
	}{{"roles", "Roles", "RolesQuota", roles}, {"customer managed policies", "Policies", "PoliciesQuota", policies}} {
		if err != nil {
			f.Add(quotaRow, count.quota, CannotTell, "%s is not allowed to these credentials; %d more %s are needed, and AWS lets an account have %s unless it was raised",
				deniedCall(err), count.more, count.what, thousands(limits[count.quota]))
			continue
		}
		used, result := int(summary.SummaryMap[count.used]), Pass
		if used+count.more > limits[count.quota] {
			result = Fail
		}
		f.Add(quotaRow, count.quota, result, "%s of %s %s are used, and %d more are needed", thousands(used), thousands(limits[count.quota]), count.what, count.more)
	}
	for _, size := range p.sizes() {
		result := Pass
		if size.most > limits[size.quota] {
			result = Fail
		}
		f.Add(quotaRow, size.quota, result, "%s needs %s, and %s are allowed", size.what, thousands(size.most), thousands(limits[size.quota]))
	}
	return nil
}

// toMake counts what grant would create: by the plan, or everything without one.
func (p *Prospect) toMake(plan *step.Plan) (roles, policies int) {
	is := map[string]bool{}
	for _, r := range p.Set.Roles {
		is[roleStepName(r.Name)] = true
	}
	var names []string
	if plan == nil {
		for _, s := range GrantSteps(p.IAM, p.Set, p.Vendor) {
			names = append(names, s.Name())
		}
	} else {
		for _, s := range plan.With(step.Create) {
			names = append(names, s.Name)
		}
	}
	for _, name := range names {
		if is[name] {
			roles++
		} else {
			policies++
		}
	}
	return roles, policies
}

// sizeNeed is the largest document, or number of them, that a quota bounds.
type sizeNeed struct {
	quota, what string
	most        int
}

func (p *Prospect) sizes() []sizeNeed {
	needs := []sizeNeed{{quota: "PolicySizeQuota"}, {quota: "AssumeRolePolicySizeQuota"}, {quota: "AttachedPoliciesPerRoleQuota"}, {quota: "RolePolicySizeQuota"}}
	raise := func(i int, what string, n int) {
		if n > needs[i].most {
			needs[i].what, needs[i].most = what, n
		}
	}
	if b := p.Set.Boundary; b != nil {
		raise(0, "the largest policy, "+b.Name+",", b.Size)
	}
	for _, r := range p.Set.Roles {
		inlines, attached := 0, len(r.Attached)
		for _, policy := range r.Policies {
			if policy.Kind == inline {
				inlines += policy.Size
				continue
			}
			attached++
			raise(0, "the largest policy, "+policy.Name+",", policy.Size)
		}
		raise(1, "the longest trust, of role "+r.Name+",", r.Trust.Size)
		raise(2, "the role with the most policies, "+r.Name+",", attached)
		raise(3, "the longest inline policy, of role "+r.Name+",", inlines)
	}
	return slices.DeleteFunc(needs, func(n sizeNeed) bool { return n.most == 0 })
}

// linked adds the roles of AWS's own that a data plane's services have.
func (p *Prospect) linked(ctx context.Context, f *Forecast, bound bool) error {
	private := slices.ContainsFunc(p.Set.Roles, func(r Role) bool { return isForService(p.Vendor, r) })
	names := map[string]string{
		"eks": "AWSServiceRoleForAmazonEKS", "eks-nodegroup": "AWSServiceRoleForAmazonEKSNodegroup", "autoscaling": "AWSServiceRoleForAutoScaling",
		"elasticloadbalancing": "AWSServiceRoleForElasticLoadBalancing", "spot": "AWSServiceRoleForEC2Spot", "ecs": "AWSServiceRoleForECS",
	}
	for _, service := range linkedServices(private) {
		name := names[service]
		role, err := readRoleItself(ctx, p.IAM, name)
		switch {
		case fault.Denied(err):
			f.lacking(linkedRow, service, err)
		case err != nil:
			return fmt.Errorf("looking for role %s: %w", name, err)
		case role != nil:
			f.Add(linkedRow, service, Pass, "%s is there", name)
		case bound:
			f.Add(linkedRow, service, Fail, "%s is not there, and the organization lets nobody make it (iam:CreateServiceLinkedRole)", name)
		default:
			f.Add(linkedRow, service, Info, "%s is not there; AWS makes it with the first data plane, by the provision role's right to iam:CreateServiceLinkedRole", name)
		}
	}
	return nil
}

// linkedServices are those whose service-linked roles the operations table makes.
func linkedServices(private bool) []string {
	var all []string
	for _, op := range operations.Operations() {
		if op.Phase == operations.PrivateEndpoint && !private {
			continue
		}
		for _, g := range op.Grants {
			if !slices.Contains(g.Actions, createLinked) {
				continue
			}
			for _, c := range g.When {
				if c.Key != "iam:AWSServiceName" {
					continue
				}
				for _, service := range c.Values {
					if service = strings.TrimSuffix(service, ".amazonaws.com"); !slices.Contains(all, service) {
						all = append(all, service)
					}
				}
			}
		}
	}
	return all
}

const createLinked = "iam:CreateServiceLinkedRole"

// allowEverything is a policy that bounds nobody.
func allowEverything() *iampolicy.Document {
	return &iampolicy.Document{Version: "2012-10-17", Statements: []iampolicy.Statement{{Effect: iampolicy.Allow, Action: []string{"*"}, Resource: []string{"*"}}}}
}
