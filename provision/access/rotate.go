package access

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// A rotation of the external ID has two ends, and a time between them in which the vendor
// changes over: first every trust takes both values, the newest last; then one of them
// alone. Each write is one call, and in both a value is valid before and after it, so
// there is no moment at which the vendor is shut out.

// Rotation says to which end the external IDs of all trusts are brought.
type Rotation struct {
	// To is the value that every trust takes in the end: beside the one that it takes
	// now, or with Finish alone.
	To     string
	Finish bool
}

// RotateSteps are the trusts of a set's roles, one step each. The set is that of
// Granted.Options: a trust that differs from it in more than the external ID was edited
// by somebody, and is refused.
func RotateSteps(api IAM, set *Set, v *vendor.Profile, r Rotation) []step.Step {
	p := place{iam: api, partition: set.Partition, account: set.Account, vendor: v}
	var steps []step.Step
	for _, role := range set.Roles {
		if len(externalIDsOf(role.Trust.Document)) > 0 || role.Name == BreakGlassRole(v) {
			steps = append(steps, &rotateStep{roleStep: newRoleStep(p, set, role), setIDs: externalIDsOf(set.Roles[0].Trust.Document), rotation: r})
		}
	}
	return steps
}

// TrustStepName is the name of the step of a role's trust.
func TrustStepName(role string) string { return "trust of " + roleStepName(role) }

// RotatingTo is the newer of the two values that roles take during a rotation; "" when no
// role takes two. Roles that disagree are an error, a *usererr.Error.
func RotatingTo(ctx context.Context, api IAM, set *Set) (string, error) {
	newest, first := "", ""
	for _, role := range set.Roles {
		live, err := readRoleItself(ctx, api, role.Name)
		if err != nil {
			return "", fmt.Errorf("reading role %s: %w", role.Name, err)
		}
		if live == nil {
			continue
		}
		ids := externalIDsOf(live.trust)
		switch {
		case len(ids) < 2:
		case newest == "":
			newest, first = ids[1], role.Name
		case newest != ids[1]:
			return "", usererr.New(usererr.Refused, "two rotations are under way: role %s has the new external ID %s, and role %s %s", first, newest, role.Name, ids[1]).
				WithHint("agree on one value; --finish --external-id %s, the old one, takes both rotations back", ids[0])
		}
	}
	return newest, nil
}

// rotateStep is one role's trust.
type rotateStep struct {
	*roleStep
	setIDs   []string // of the set, to compare with it all but the external IDs
	rotation Rotation

	// What Make found and wrote, to find out whether somebody else wrote too.
	had   []string
	wrote []byte
}

func (s *rotateStep) Name() string    { return TrustStepName(s.role.Name) }
func (s *rotateStep) Needs() []string { return nil }

type foundTrust struct {
	*rotateStep
	found *foundRole
	ids   []string // that it takes now
}

func (s *rotateStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	live, err := readRoleItself(ctx, s.iam, s.role.Name)
	if err != nil {
		return nil, err
	}
	f := &foundTrust{rotateStep: s, found: &foundRole{roleStep: s.roleStep, goal: goal, live: live}}
	if live != nil {
		f.ids = externalIDsOf(live.trust)
	}
	return f, nil
}

// Check waits until AWS shows what was written. IAM has no way to write only if nobody
// else did; that somebody was at it at the same time is seen here.
func (s *rotateStep) Check(ctx context.Context) error {
	look, err := s.Look(ctx, step.Present)
	if err != nil {
		return err
	}
	f := look.(*foundTrust)
	switch {
	case f.found.live != nil && len(documentDifferences("", f.found.live.trust, s.wrote)) == 0:
		return nil
	case slices.Equal(f.ids, s.had):
		return fmt.Errorf("%s still takes %s: %w", s.roleStep.Name(), f.takes(), step.ErrNotYet)
	}
	return usererr.New(usererr.Refused, "somebody else changed the trust of %s at the same time: it takes %s now", s.roleStep.Name(), f.takes()).
		WithHint("agree with them on one value, and run the same command again to see what is there")
}

func (f *foundTrust) takes() string { return or(strings.Join(f.ids, " and "), "no external ID") }

// wanted is what the trust takes in the end; nil when it cannot be brought there.
func (f *foundTrust) wanted() []string {
	to := f.rotation.To
	switch {
	case f.rotation.Finish && slices.Contains(f.ids, to):
		return []string{to}
	case f.rotation.Finish:
		return nil
	case f.ids[len(f.ids)-1] == to:
		return f.ids // it has begun, or is at its end already
	case len(f.ids) == 1:
		return []string{f.ids[0], to}
	}
	return nil
}

func (f *foundTrust) Plan() step.Change {
	live := f.found.live
	switch {
	case live == nil:
		return step.Change{Action: step.None}
	case !f.ours(live.tags):
		return step.Change{Action: step.Leave, Details: []string{notOurs(f.vendor.ManagedByKey())}}
	case len(f.ids) == 0 && len(documentDifferences("", live.trust, f.role.Trust.Document)) == 0:
		return step.Change{Action: step.Keep, Details: []string{"it is switched off, and asks for no external ID"}}
	}
	if differences := f.edited(); len(differences) > 0 {
		return step.Change{
			Action: step.Refuse, Details: append([]string{"it was edited by hand"}, differences...),
			Hint: "put it back, or run 'biplane access update', which shows what differs; a trust that somebody edited is not written over",
		}
	}
	wanted := f.wanted()
	switch {
	case wanted != nil && slices.Equal(wanted, f.ids):
		return step.Change{Action: step.Keep, Details: []string{"it takes " + f.takes()}}
	case wanted != nil:
		return step.Change{Action: step.Update, Details: []string{"it takes " + f.takes() + ", and will take " + strings.Join(wanted, " and ")}}
	case f.rotation.Finish:
		return f.cannotFinish()
	case f.ids[0] == f.rotation.To:
		return step.Change{
			Action: step.Refuse, Details: []string{fmt.Sprintf("a rotation from %s to %s is under way", f.ids[0], f.ids[1])},
			Hint: fmt.Sprintf("to go back to %s, run 'biplane access rotate-external-id --finish --external-id %s'", f.ids[0], f.ids[0]),
		}
	}
	return step.Change{
		Action: step.Refuse, Details: []string{fmt.Sprintf("a rotation to another external ID is under way, to %s", f.ids[1])},
		Hint: fmt.Sprintf("finish that one with --finish, or take it back with --finish --external-id %s, before another is begun", f.ids[0]),
	}
}

// cannotFinish refuses to leave a value alone that the trust does not take.
func (f *foundTrust) cannotFinish() step.Change {
	return step.Change{
		Action: step.Refuse, Details: []string{fmt.Sprintf("it takes %s, and not %s", f.takes(), f.rotation.To)},
		Hint: fmt.Sprintf("the rotation did not get as far as here: go on with 'biplane access rotate-external-id --external-id %s', or give with --finish the value to go back to", f.rotation.To),
	}
}

// edited says in what the trust differs from the set's beside the external IDs.
func (f *foundTrust) edited() []string {
	one := *f.found.live
	if len(f.ids) > 0 {
		one.trust = withExternalIDs(one.trust, f.setIDs)
	}
	return (&foundRole{roleStep: f.roleStep, live: &one}).trustDifferences()
}

func (f *foundTrust) Make(ctx context.Context) error {
	text := withExternalIDs(f.found.live.trust, f.wanted())
	_, err := f.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &f.role.Name, PolicyDocument: aws.String(string(text))})
	if err == nil {
		f.had, f.wrote = f.ids, text
	}
	return fault.Passing(err)
}

func (f *foundTrust) Remove(context.Context) error { return nil }

// rotationWords says what it means that a trust takes two values.
func rotationWords(ids []string) string {
	return fmt.Sprintf("a rotation of the external ID is under way: %s are both valid; once nobody uses the old one, the customer finishes it with 'biplane access rotate-external-id --finish'",
		strings.Join(ids, " and "))
}

// externalIDsOf are the values that a trust takes, the newest last.
func externalIDsOf(trust []byte) []string {
	doc, err := iampolicy.Parse("trust", trust)
	if err != nil {
		return nil
	}
	for _, s := range doc.Statements {
		for _, c := range s.Condition {
			if strings.EqualFold(c.Key, "sts:ExternalId") {
				return c.Values
			}
		}
	}
	return nil
}

// withExternalIDs is the trust with other values in the place of those that it takes, and
// everything else as it is.
func withExternalIDs(trust []byte, ids []string) []byte {
	doc, err := iampolicy.Parse("trust", trust)
	if err != nil {
		return trust
	}
	for _, s := range doc.Statements {
		for i, c := range s.Condition {
			if strings.EqualFold(c.Key, "sts:ExternalId") {
				s.Condition[i].Values = ids
			}
		}
	}
	return doc.Text()
}
