package access

import (
	"context"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// What a stack that holds the access has to know of IAM: what stands in its way before it
// is made, which stacks made the roles that are there, and what was hung on them later,
// which CloudFormation does not remove. provision/access/stack asks.

// Policies are the managed policies of the set, each once: the boundary first.
func (s *Set) Policies() []Policy {
	var all []Policy
	if s.Boundary != nil {
		all = append(all, *s.Boundary)
	}
	for _, r := range s.Roles {
		for _, p := range r.Policies {
			if p.Kind == managed && !slices.ContainsFunc(all, func(have Policy) bool { return have.Name == p.Name }) {
				all = append(all, p)
			}
		}
	}
	return all
}

// RoleNames are the names of the set's roles.
func (s *Set) RoleNames() []string {
	var names []string
	for _, r := range s.Roles {
		names = append(names, r.Name)
	}
	return names
}

// TrustLines says who may assume a role and under which conditions, a line for each
// statement.
func TrustLines(trust []byte) []string { return trustLines(trust) }

// InTheWay are refusals: of every role and policy that a stack would make and that is
// there already, but for those that it holds, by role name or policy ARN. A stack takes
// over nothing.
func InTheWay(ctx context.Context, api IAM, set *Set, v *vendor.Profile, held []string) ([]step.Planned, error) {
	p := place{iam: api, partition: set.Partition, account: set.Account, vendor: v}
	var all []step.Planned
	for _, r := range set.Roles {
		if slices.Contains(held, r.Name) {
			continue
		}
		live, err := readRoleItself(ctx, api, r.Name)
		if err != nil {
			return nil, err
		}
		if live != nil {
			all = append(all, step.Planned{Name: roleStepName(r.Name), Change: p.inTheWay(p.ours(live.tags), tagValue(live.tags, v.TagPrefix+StackTag), tagValue(live.tags, v.TagPrefix+regionTag))})
		}
	}
	for _, policy := range set.Policies() {
		arn := p.policyARN(set.path(), policy.Name)
		if slices.Contains(held, arn) {
			continue
		}
		out, err := api.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
		if fault.NoSuchEntity(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		all = append(all, step.Planned{Name: policyStepName(policy.Name), Change: p.inTheWay(p.ours(out.Policy.Tags), "", "")})
	}
	return all, nil
}

func (p place) inTheWay(ours bool, stack, region string) step.Change {
	switch {
	case ours && stack != "":
		return step.Change{Action: step.Refuse, Details: []string{"the stack " + stack + " made it, for region " + region},
			Hint: "run 'biplane access revoke' first: the roles of an account are for one region; or give that --region"}
	case ours:
		return step.Change{Action: step.Refuse, Details: []string{"it was granted by --method iam, and a stack takes over nothing"},
			Hint: "keep it as it is, with --method iam; or run 'biplane access revoke', then grant again"}
	}
	return step.Change{Action: step.Refuse, Details: []string{"it was made by somebody else, and a stack takes over nothing"},
		Hint: "rename or delete it if it is yours, or choose another roleName and policyName in a file for --vendor-profile"}
}

// StackRef says where a stack is.
type StackRef struct{ Name, Region string }

// MadeBy are the stacks that made access roles which are there, as their tags say.
func MadeBy(ctx context.Context, api IAM, v *vendor.Profile) ([]StackRef, error) {
	refs := map[StackRef]bool{}
	for _, name := range RoleNames(v) {
		live, err := readRoleItself(ctx, api, name)
		if err != nil {
			return nil, err
		}
		if live == nil || !(place{vendor: v}).ours(live.tags) {
			continue
		}
		if stack := tagValue(live.tags, v.TagPrefix+StackTag); stack != "" {
			refs[StackRef{stack, tagValue(live.tags, v.TagPrefix+regionTag)}] = true
		}
	}
	return slices.SortedFunc(maps.Keys(refs), func(a, b StackRef) int { return slices.Compare([]string{a.Region, a.Name}, []string{b.Region, b.Name}) }), nil
}

// Burden is what was hung on a role of a stack later. IAM deletes no such role, and
// CloudFormation removes only what it made.
type Burden struct {
	role        *foundRole
	attachments []string // ARNs; they stay, detached
	inlines     []string // names; they go
}

// Burdens looks at the roles that a stack holds; held are they and its policies' ARNs.
func Burdens(ctx context.Context, api IAM, partition, account string, v *vendor.Profile, held []string) ([]*Burden, error) {
	roles, err := allRoles(ctx, api)
	if err != nil {
		return nil, err
	}
	known, err := grantable(partition, account, v, roles)
	if err != nil {
		return nil, err
	}
	p := place{iam: api, partition: partition, account: account, vendor: v}
	var burdens []*Burden
	for _, r := range roles {
		name := aws.ToString(r.RoleName)
		if !slices.Contains(held, name) {
			continue
		}
		live, err := readRole(ctx, api, name)
		if err != nil {
			return nil, err
		}
		if live == nil {
			continue
		}
		if live.profiles, err = readInstanceProfiles(ctx, api, name); err != nil {
			return nil, err
		}
		wanted, ok := known.role(name, live.path)
		if !ok { // a stack may give other names
			wanted = Role{Name: name, Path: live.path}
		}
		b := &Burden{role: &foundRole{roleStep: &roleStep{place: p, role: wanted}, live: live}}
		for _, arn := range b.role.extraAttachments() {
			if !slices.Contains(held, arn) {
				b.attachments = append(b.attachments, arn)
			}
		}
		for _, policy := range slices.Sorted(maps.Keys(live.inline)) {
			if !slices.ContainsFunc(wanted.Policies, func(w Policy) bool { return w.Kind == inline && w.Name == policy }) {
				b.inlines = append(b.inlines, policy)
			}
		}
		if len(b.attachments)+len(b.inlines)+len(live.profiles) > 0 {
			burdens = append(burdens, b)
		}
	}
	return burdens, nil
}

// Lines say what is done with it.
func (b *Burden) Lines() []string {
	var lines []string
	for _, arn := range b.attachments {
		lines = append(lines, "detach "+arn+" from role "+b.role.role.Name+"; it stays: it is not of the stack")
	}
	for _, profile := range b.role.live.profiles {
		lines = append(lines, "take role "+b.role.role.Name+" out of instance profile "+profile+", which stays: it is not of the stack")
	}
	for _, policy := range b.inlines {
		lines = append(lines, "delete inline policy "+policy+", which was put into role "+b.role.role.Name+" later and cannot stay without it")
	}
	return lines
}

// Remove takes it from the role.
func (b *Burden) Remove(ctx context.Context) error {
	return b.role.unload(ctx, b.attachments, b.inlines)
}

// UsedBy names those who carry a policy beside the roles.
func UsedBy(ctx context.Context, api IAM, policyARN string, roles []string) ([]string, error) {
	s := &policyStep{place: place{iam: api}, users: roles}
	return s.strangersOf(ctx, policyARN)
}

// MarkPolicy puts the tags of a grant on a policy that outlives its stack, so that a later
// revoke knows whose it is.
func MarkPolicy(ctx context.Context, api IAM, policyARN string, profile ProfileName, region string, v *vendor.Profile) error {
	_, err := api.TagPolicy(ctx, &iam.TagPolicyInput{PolicyArn: &policyARN, Tags: place{vendor: v}.tags(&Set{Profile: profile, Region: region})})
	return fault.UnlessGone(err)
}
