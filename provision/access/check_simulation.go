package access

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"golang.org/x/sync/errgroup"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/vendor"
)

// question is one right that one call of the table needs, as IAM would be asked
// for it when the call is made.
type question struct {
	operation operations.Operation
	request   iampolicy.Request
	// asked are the keys of the context that come from the grant's conditions.
	// The others IAM fills in itself.
	asked iampolicy.Context
}

// simulate asks what a role's documents, as they are in the account, say to
// every call that the table gives to the role. What the wanted documents allow
// must be allowed, and what they do not allow must not be. A reader is asked what AWS says
// to them; nil asks nobody.
func (c *Checker) simulate(ctx context.Context, report *Report, reader IAM, d deployed) error {
	if c.forService(d.role) {
		return nil // the table has no call of the endpoint's tasks
	}
	name := d.name
	if d.why != "" {
		report.add(simulation, name, CannotTell, "%s", d.why)
		report.add(awsSays, name, CannotTell, "%s", d.why)
		return nil
	}
	live, err := iampolicy.Compile(d.policies)
	if err != nil {
		report.add(simulation, name, Fail, "the documents cannot be used: %v", err)
		return nil
	}
	wanted, err := c.Set.evaluator(d.role)
	if err != nil {
		return err
	}

	questions := c.Set.questions(c.Vendor, d)
	decisions := make([]bool, len(questions))
	var lost, gained []string
	missing := map[operations.Phase]map[string]bool{} // calls by phase that the set never allows
	calls := map[string]bool{}
	for i, q := range questions {
		call := string(q.operation.Phase) + " " + q.operation.Call
		calls[call] = true
		decisions[i] = live.Decide(&q.request) == iampolicy.Allowed
		should := wanted.Decide(&q.request) == iampolicy.Allowed
		switch {
		case should && !decisions[i]:
			lost = append(lost, q.String())
		case !should && decisions[i]:
			gained = append(gained, q.String())
		}
		if !should {
			if missing[q.operation.Phase] == nil {
				missing[q.operation.Phase] = map[string]bool{}
			}
			missing[q.operation.Phase][q.operation.Call] = true
		}
	}
	switch {
	case len(lost) > 0:
		report.add(simulation, name, Fail, "it does not allow %s", listed(lost, 3))
	case len(gained) > 0:
		report.add(simulation, name, Fail, "it allows more than is wanted: %s", listed(gained, 3))
	case len(missing) > 0:
		lacks := 0
		for _, of := range missing {
			lacks += len(of)
		}
		report.add(simulation, name, Pass, "%d of its %d calls are allowed, as the policy %s has it; it lacks %d", len(calls)-lacks, len(calls), c.Set.Profile, lacks)
		for _, phase := range slices.Sorted(maps.Keys(missing)) {
			report.add(simulation, name+", step "+string(phase), Pass, "this step will miss %s, which the policy %s does not allow",
				strings.Join(slices.Sorted(maps.Keys(missing[phase])), ", "), c.Set.Profile)
		}
	default:
		report.add(simulation, name, Pass, "all of its %d calls are allowed", len(calls))
	}
	if reader == nil {
		return nil
	}
	return c.askAWS(ctx, report, reader, d, questions, decisions)
}

func (q question) String() string {
	return q.request.Action + " on " + q.request.Resource + " (" + q.operation.Purpose + ")"
}

// evaluator decides by the set's own documents.
func (s *Set) evaluator(role Role) (*iampolicy.Evaluator, error) {
	var policies iampolicy.Policies
	for _, p := range role.Policies {
		document, err := iampolicy.Parse(p.Name, p.Document)
		if err != nil {
			return nil, err
		}
		policies.Identity = append(policies.Identity, document)
	}
	if role.Boundary != nil && s.Boundary != nil {
		document, err := iampolicy.Parse(s.Boundary.Name, s.Boundary.Document)
		if err != nil {
			return nil, err
		}
		policies.Boundary = document
	}
	return iampolicy.Compile(policies)
}

// questions are those of the role's calls, with the names of a vendor profile.
func (s *Set) questions(v *vendor.Profile, d deployed) []question {
	region, _ := LookUpRegion(s.Region)
	place := operations.Place{Partition: s.Partition, DNSSuffix: region.DNSSuffix, Region: s.Region, Account: s.Account}
	names, makes := operations.CompatNames(place, v), byVendor
	if s.Profile == Strict {
		names = operations.StrictNames(place, v)
		for _, r := range strictRoles {
			if d.role.Name == v.RoleName+r.suffix {
				makes = func(op operations.Operation) bool { return op.Roles.Has(r.who) }
			}
		}
	}
	private := slices.ContainsFunc(s.Roles, func(r Role) bool { return isForService(v, r) })

	caller := iampolicy.Principal{
		Type: iampolicy.AWS, RoleARN: d.arn, Account: s.Account,
		ARN: "arn:" + s.Partition + ":sts::" + s.Account + ":assumed-role/" + d.name + "/biplane-check",
	}
	var all []question
	for _, op := range operations.Operations() {
		if !makes(op) || op.Phase == operations.PrivateEndpoint && !private {
			continue
		}
		for _, grant := range op.Grants {
			asked := iampolicy.Context{}
			for _, condition := range grant.When {
				satisfy(asked, names.Condition(condition))
			}
			full := iampolicy.Context{}
			full.Set("aws:PrincipalArn", d.arn)
			full.Set("aws:PrincipalAccount", s.Account)
			full.Set("aws:PrincipalType", "AssumedRole")
			full.Set("aws:userid", userID)
			full.Set("aws:RequestedRegion", s.Region)
			full.Set("aws:SecureTransport", "true")
			maps.Copy(full, asked)
			for _, action := range grant.Actions {
				for _, resource := range grant.Resources {
					all = append(all, question{operation: op, asked: asked, request: iampolicy.Request{
						Principal: caller, Action: action, Resource: names.Example(resource), Context: full,
					}})
				}
			}
		}
	}
	return all
}

// userID is the aws:userid of the caller in the questions.
const userID = "AROAEXAMPLEEXAMPLEEXA:biplane-check"

// satisfy puts a value into the context with which the condition holds.
func satisfy(asked iampolicy.Context, c operations.Condition) {
	operator := strings.TrimSuffix(c.Operator[strings.LastIndexByte(c.Operator, ':')+1:], "IfExists")
	value := c.Values[0]
	if strings.Contains(value, "${aws:userid}") {
		value = strings.ReplaceAll(value, "${aws:userid}", userID)
		asked.Set("aws:userid", userID)
	}
	switch {
	case operator == "Null":
		if _, there := asked.Get(c.Key); value == "false" && !there {
			asked.Set(c.Key, "x")
		}
		return
	case strings.Contains(operator, "Not"):
		return // it holds when the key is absent
	case strings.HasSuffix(operator, "Like"), strings.HasPrefix(operator, "Arn"):
		value = strings.NewReplacer("*", "x", "?", "x").Replace(value)
	}
	asked.Set(c.Key, value)
}

// parallelQuestions bounds how many calls ask AWS at once: IAM throttles early.
const parallelQuestions = 4

// askAWS puts the same questions to SimulatePrincipalPolicy, which knows what
// is not in the documents, such as the organization's own policies. Questions
// about the same resource in the same context go in one call.
func (c *Checker) askAWS(ctx context.Context, report *Report, reader IAM, d deployed, questions []question, decisions []bool) error {
	batches := map[string][]int{}
	for i, q := range questions {
		key := q.request.Resource + "\x00" + fmt.Sprint(q.asked) // fmt prints maps in the order of their keys
		batches[key] = append(batches[key], i)
	}
	differs := make([]string, len(questions))
	calls, ctx := errgroup.WithContext(ctx)
	calls.SetLimit(parallelQuestions)
	for _, key := range slices.Sorted(maps.Keys(batches)) {
		calls.Go(func() error {
			answers, err := simulateBatch(ctx, reader, d.arn, questions, batches[key])
			if err != nil {
				return err
			}
			for _, i := range batches[key] {
				answer := answers[strings.ToLower(questions[i].request.Action)]
				if (answer.decision == types.PolicyEvaluationDecisionTypeAllowed) != decisions[i] {
					differs[i] = fmt.Sprintf("%s says %s to %s", cmp.Or(answer.by, "AWS"), answer.decision, questions[i])
				}
			}
			return nil
		})
	}
	err := calls.Wait()
	if fault.Denied(err) {
		report.add(awsSays, d.name, CannotTell, "%s", unreadable(err))
		return nil
	}
	if err != nil {
		return fmt.Errorf("asking AWS what role %s may do: %w", d.name, err)
	}
	differs = slices.DeleteFunc(differs, func(s string) bool { return s == "" })
	if len(differs) > 0 {
		report.add(awsSays, d.name, Fail, "%s", listed(differs, 3))
		return nil
	}
	report.add(awsSays, d.name, Pass, "SimulatePrincipalPolicy gives the same %d answers", len(questions))
	return nil
}

// answer is what AWS says to one question.
type answer struct {
	decision types.PolicyEvaluationDecisionType
	by       string // who decided, when it was not the role's own policies
}

// simulateBatch asks for all actions of a batch at once.
func simulateBatch(ctx context.Context, api IAM, roleARN string, questions []question, batch []int) (map[string]answer, error) {
	first := questions[batch[0]]
	in := &iam.SimulatePrincipalPolicyInput{PolicySourceArn: &roleARN, ResourceArns: []string{first.request.Resource}}
	for _, i := range batch {
		if action := questions[i].request.Action; !slices.Contains(in.ActionNames, action) {
			in.ActionNames = append(in.ActionNames, action)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(first.asked)) {
		in.ContextEntries = append(in.ContextEntries, types.ContextEntry{
			ContextKeyName: &key, ContextKeyType: types.ContextKeyTypeEnumString, ContextKeyValues: first.asked[key],
		})
	}
	answers := map[string]answer{}
	pages := iam.NewSimulatePrincipalPolicyPaginator(api, in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, result := range page.EvaluationResults {
			a := answer{decision: result.EvalDecision}
			if o := result.OrganizationsDecisionDetail; o != nil && !o.AllowedByOrganizations {
				a.by = "the organization (SCP)"
			}
			answers[strings.ToLower(aws.ToString(result.EvalActionName))] = a
		}
	}
	return answers, nil
}
