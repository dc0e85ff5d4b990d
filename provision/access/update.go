package access

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"golang.org/x/sync/errgroup"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// Update is a change of what an account has granted: computed from what is there, and
// made by IAM. Start with NewUpdate, then:
//
//	Widens, Narrows  which rights come and go       update_rights.go
//	Edits            what was changed by hand       update_edits.go
//	Needed           what a data plane would miss   update_needs.go
//	Steps            in the order that loses least  update_order.go, update_policy.go, update_role.go
//	Verify, Undo     afterwards                     update_verify.go, update_journal.go
type Update struct {
	// Set is what there will be: what is wanted, and the edits that are kept.
	Set     *Set
	Widens  []Right
	Narrows []Right
	Edits   []Edit

	place
	journal *journal
	granted *Granted
	wanted  *Set

	roles    map[string]*liveRole  // that are there and ours, by name
	policies map[string]livePolicy // what they carry, and what else is ours, by ARN

	changes  []*policyChange
	going    []string            // ARNs of policies that are ours and no longer wanted
	refusals map[string][]string // why a step is refused, by its name

	stack    *InStack
	choice   Choice
	patience time.Duration
}

// UpdateOptions say what is to become of what was granted.
type UpdateOptions struct {
	Granted *Granted
	Wanted  *Set
	Vendor  *vendor.Profile
	Edits   Choice // what becomes of edits by hand

	// Stack is how it is where a stack made all of it.
	Stack *InStack

	// Patience is how long Verify asks again; 0 means 20 seconds.
	Patience time.Duration
}

// InStack is what a stack holds. A stack puts no tags on policies, so that its template is
// what says whose they are and what was written.
type InStack struct {
	Held    []string // ARNs of its policies
	Written *Set     // what its template, as it is in use, makes
}

// NewUpdate reads everything that was granted and compares it with what is wanted. It
// changes nothing.
func NewUpdate(ctx context.Context, api IAM, o UpdateOptions) (*Update, error) {
	j := &journal{IAM: api}
	u := &Update{
		place:   place{iam: j, partition: o.Wanted.Partition, account: o.Wanted.Account, vendor: o.Vendor},
		journal: j, granted: o.Granted, wanted: o.Wanted, Set: o.Wanted.clone(),
		Widens: []Right{}, Narrows: []Right{}, Edits: []Edit{}, refusals: map[string][]string{}, stack: o.Stack, choice: o.Edits, patience: o.Patience,
	}
	if err := u.read(ctx); err != nil {
		return nil, err
	}
	if err := u.checkPaths(); err != nil {
		return nil, err
	}
	u.findEdits(o.Edits)
	if err := u.compare(); err != nil {
		return nil, err
	}
	return u, u.inOrder()
}

// clone is a set whose documents can be replaced.
func (s *Set) clone() *Set {
	c := *s
	if s.Boundary != nil {
		boundary := *s.Boundary
		c.Boundary = &boundary
	}
	c.Roles = slices.Clone(s.Roles)
	for i := range c.Roles {
		c.Roles[i].Policies = slices.Clone(c.Roles[i].Policies)
		c.Roles[i].Attached = slices.Clone(c.Roles[i].Attached)
	}
	return &c
}

// parallelReads bounds how many roles or policies are read at once.
const parallelReads = 4

// read reads the roles that a grant may have made, and the policies that they carry or
// that are left of a run that was killed.
func (u *Update) read(ctx context.Context) error {
	names := append(RoleNames(u.vendor), taskRoleName(u.vendor, u.wanted.Region), executionRoleName(u.vendor, u.wanted.Region))
	live := make([]*liveRole, len(names))
	reads, all := errgroup.WithContext(ctx)
	reads.SetLimit(parallelReads)
	for i, name := range names {
		reads.Go(func() (err error) {
			live[i], err = readRole(all, u.journal.IAM, name)
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return err
	}
	u.roles, u.policies = map[string]*liveRole{}, map[string]livePolicy{}
	var arns []string
	for i, role := range live {
		if role != nil && u.ours(role.tags) {
			u.roles[names[i]] = role
			arns = append(arns, role.attached...)
		}
	}
	for _, p := range u.wantedPolicies() {
		arns = append(arns, p.arn)
	}
	pages := iam.NewListPoliciesPaginator(u.journal.IAM, &iam.ListPoliciesInput{Scope: types.PolicyScopeTypeLocal, PathPrefix: aws.String(u.wanted.path())})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return fmt.Errorf("listing policies: %w", err)
		}
		for _, p := range page.Policies {
			if strings.HasPrefix(aws.ToString(p.PolicyName), u.vendor.PolicyName) {
				arns = append(arns, aws.ToString(p.Arn))
			}
		}
	}
	slices.Sort(arns)
	arns = slices.DeleteFunc(slices.Compact(arns), func(arn string) bool { return strings.Contains(arn, ":iam::aws:") })
	documents := make([]livePolicy, len(arns))
	reads, all = errgroup.WithContext(ctx)
	reads.SetLimit(parallelReads)
	for i, arn := range arns {
		reads.Go(func() (err error) {
			documents[i], err = readPolicy(all, u.journal.IAM, arn)
			return err
		})
	}
	if err := reads.Wait(); err != nil {
		return err
	}
	wanted := u.wantedPolicies()
	for i, arn := range arns {
		if documents[i].document == nil {
			continue
		}
		u.policies[arn] = documents[i]
		isWanted := slices.ContainsFunc(wanted, func(w wantedPolicy) bool { return w.arn == arn })
		if !isWanted && u.isMine(arn) {
			u.going = append(u.going, arn)
		}
	}
	return nil
}

// isMine reports whether a grant or its stack made a policy.
func (u *Update) isMine(arn string) bool {
	return u.ours(u.policies[arn].tags) || u.stack != nil && slices.Contains(u.stack.Held, arn)
}

// wantedPolicy is one managed policy of the set.
type wantedPolicy struct {
	arn, path, purpose string
	role               string // "" for the boundary
	policy             *Policy
}

// wantedPolicies are all managed policies of Set, the boundary first.
func (u *Update) wantedPolicies() []wantedPolicy {
	var all []wantedPolicy
	if b := u.Set.Boundary; b != nil {
		path := u.Set.path()
		all = append(all, wantedPolicy{arn: u.policyARN(path, b.Name), path: path, purpose: boundaryPurpose, policy: b})
	}
	for i := range u.Set.Roles {
		r := &u.Set.Roles[i]
		for j := range r.Policies {
			if p := &r.Policies[j]; p.Kind == managed {
				all = append(all, wantedPolicy{arn: u.policyARN(r.Path, p.Name), path: r.Path, purpose: policyPurpose(*r), role: r.Name, policy: p})
			}
		}
	}
	return all
}

// checkPaths refuses what IAM cannot do: a role stays where it is.
func (u *Update) checkPaths() error {
	for _, r := range u.wanted.Roles {
		live := u.roles[r.Name]
		if live == nil || live.path == r.Path {
			continue
		}
		return usererr.New(usererr.Refused, "role %s is %s, and as policy %s has it, with these names, it would be %s: IAM moves no role, and another ARN is another role to the vendor",
			r.Name, live.arn, u.wanted.Profile, u.roleARN(r.Path, r.Name)).
			WithHint("keep --policy %s and the path of the vendor profile; or run 'biplane access revoke', grant again, and tell the vendor the new ARN", u.granted.Profile)
	}
	return nil
}

// Steps returns what makes the change, for a Runner. What comes is made before what goes
// is taken, and what is no longer wanted is removed at the end.
func (u *Update) Steps() []step.Step {
	var created, changed, roles, ends, policies []step.Step
	names := func(steps []step.Step) []string {
		var all []string
		for _, s := range steps {
			all = append(all, s.Name())
		}
		return all
	}
	users := append(RoleNames(u.vendor), taskRoleName(u.vendor, u.wanted.Region), executionRoleName(u.vendor, u.wanted.Region))

	var last []string // the change before
	for _, c := range u.changes {
		s := &policyUpdate{change: c, policyStep: &policyStep{
			place: u.place, policy: c.policy, path: c.path, purpose: c.purpose, tags: c.tags, users: users,
		}, refusal: u.refusals[policyStepName(c.policy.Name)], held: u.stack != nil && slices.Contains(u.stack.Held, c.arn)}
		if c.changes() {
			changed = append(changed, s)
			continue
		}
		created = append(created, s)
	}
	for _, r := range u.Set.Roles {
		s := u.newRoleStep(r)
		if u.stack == nil {
			s.tags = append(s.tags, u.digestTag(u.wantedRole(r.Name).digests()...))
		}
		roles = append(roles, &roleUpdate{roleStep: s, update: u, needs: names(created), refusal: u.refusals[s.Name()], was: u.roles[r.Name]})
	}
	before := names(roles)
	for _, s := range changed { // one after the other, in their order
		s := s.(*policyUpdate)
		s.needs = append(slices.Clone(before), last...)
		last = []string{s.Name()}
	}
	before = append(before, names(changed)...)
	for _, r := range u.Set.Roles {
		ends = append(ends, &roleEnd{place: u.place, role: r.Name, update: u, needs: before})
	}
	for _, name := range sortedKeys(u.roles) {
		if u.wantedRole(name) == nil {
			d := &drop{Step: u.roleToDrop(name), needs: before}
			if line := countLine("narrows", u.Narrows, func(r Right) bool { return r.Role == name }); line != "" {
				d.lines = []string{line}
			}
			ends = append(ends, d)
		}
	}
	interims := u.interims()
	for _, arn := range append(slices.DeleteFunc(slices.Clone(u.going), func(arn string) bool { return slices.Contains(interims, arn) }), interims...) {
		path, name := u.splitPolicyARN(arn)
		policies = append(policies, &drop{
			Step:  &policyStep{place: u.place, policy: Policy{Name: name}, path: path, users: users},
			needs: names(ends), later: slices.Contains(interims, arn),
		})
	}
	all := slices.Concat(created, roles, changed, ends, policies)
	if u.stack != nil {
		return all // its template has the marks
	}
	return append(all, &rolesMark{update: u, needs: names(all)})
}

// RestoreSteps returns what puts edits by hand back to what the stack's template says. A
// stack itself would see no change where its template has none. What it then has not in
// common with the wanted template is the stack's to change.
func (u *Update) RestoreSteps(ctx context.Context) ([]step.Step, error) {
	r, err := NewUpdate(ctx, u.journal.IAM, UpdateOptions{Granted: u.granted, Wanted: u.stack.Written, Vendor: u.vendor, Edits: u.choice, Stack: u.stack})
	if err != nil {
		return nil, err
	}
	r.journal, r.iam = u.journal, u.journal
	for name, lines := range u.refusals {
		r.refusals[name] = lines
	}
	return r.Steps(), nil
}

func (u *Update) newRoleStep(r Role) *roleStep { return newRoleStep(u.place, u.Set, r) }

// wantedRole is the role of the wanted set, before edits are kept in it.
func (u *Update) wantedRole(name string) *Role {
	for i := range u.wanted.Roles {
		if u.wanted.Roles[i].Name == name {
			return &u.wanted.Roles[i]
		}
	}
	return nil
}

// splitPolicyARN is the path and name of a policy of the account.
func (u *Update) splitPolicyARN(arn string) (path, name string) {
	resource := strings.TrimPrefix(arn, u.policyARN("", ""))
	cut := strings.LastIndexByte(resource, '/') + 1
	return resource[:cut], resource[cut:]
}

// roleToDrop is a role that is no longer wanted, with all that is ours in it.
func (u *Update) roleToDrop(name string) step.Step {
	live := u.roles[name]
	role := Role{Name: name, Path: live.path}
	for _, arn := range live.attached {
		if _, known := u.policies[arn]; !known || u.isMine(arn) {
			role.Attached = append(role.Attached, arn)
		}
	}
	for policy, text := range live.inline {
		if slices.Contains(u.written(live.tags), digest(text)) || len(u.written(live.tags)) == 0 {
			role.Policies = append(role.Policies, Policy{Name: policy, Kind: inline})
		}
	}
	return &roleStep{place: u.place, role: role, removeAfter: map[string]bool{}}
}
