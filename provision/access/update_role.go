package access

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
)

// roleUpdate makes a role, or puts its trust, boundary and inline policies right and
// attaches what it lacks. What is to be detached stays until roleEnd.
type roleUpdate struct {
	*roleStep
	update  *Update
	needs   []string
	refusal []string
	was     *liveRole // when the plan was made; nil: there was none
}

func (s *roleUpdate) Needs() []string { return s.needs }

func (s *roleUpdate) Check(ctx context.Context) error {
	found, err := s.Look(ctx, step.Present)
	if err != nil {
		return err
	}
	if change := found.Plan(); change.Action.Writes() {
		return fmt.Errorf("%s: %w", strings.Join(change.Details, "; "), step.ErrNotYet)
	}
	return nil
}

type foundRoleUpdate struct {
	*foundRole
	step *roleUpdate
}

func (s *roleUpdate) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	looked, err := s.roleStep.Look(ctx, goal)
	if err != nil {
		return nil, err
	}
	return &foundRoleUpdate{looked.(*foundRole), s}, nil
}

// interims are the policies that are attached until the others have changed.
func (s *roleUpdate) interims() []string {
	return s.update.interimsOf(func(c *policyChange) bool { return c.role == s.role.Name })
}

func (f *foundRoleUpdate) lacking() []string {
	return append(f.missingAttachments(), slices.DeleteFunc(f.step.interims(), func(arn string) bool { return slices.Contains(f.live.attached, arn) })...)
}

// wrongInlines are the inline policies that are missing or have another document.
func (f *foundRoleUpdate) wrongInlines() []Policy {
	var wrong []Policy
	for _, p := range f.role.Policies {
		if p.Kind != inline {
			continue
		}
		if have, ok := f.live.inline[p.Name]; !ok || len(documentDifferences("", have, p.Document)) > 0 {
			wrong = append(wrong, p)
		}
	}
	return wrong
}

func (f *foundRoleUpdate) Plan() step.Change {
	if f.live == nil {
		change := f.foundRole.Plan()
		if line := countLine("widens", f.step.update.Widens, func(r Right) bool { return r.Role == f.role.Name }); line != "" {
			change.Details = append(change.Details, line)
		}
		return change
	}
	if !f.ours(f.live.tags) {
		return f.foundRole.Plan()
	}
	if f.step.refusal != nil {
		return step.Change{Action: step.Refuse, Details: f.step.refusal, Hint: editHint}
	}
	var lines []string
	if differences := f.trustDifferences(); len(differences) > 0 {
		if f.step.was == nil || !bytes.Equal(f.live.trust, f.step.was.trust) {
			return step.Change{Action: step.Refuse, Details: []string{"somebody changed its trust after it was read"}, Hint: "run the same command again to see the new plan"}
		}
		lines = append(append(lines, differences...), f.step.update.rightLines(f.role.Name, trustPolicy)...)
	}
	lines = append(lines, f.boundaryDifferences()...)
	if f.live.session > f.role.maxSession() {
		lines = append(lines, f.sessionDifference())
	}
	for _, p := range f.wrongInlines() {
		lines = append(append(lines, "put in "+p.Name), f.step.update.rightLines(f.role.Name, p.Name)...)
	}
	for _, arn := range f.lacking() {
		lines = append(lines, "attach "+arn)
	}
	switch {
	case len(lines) > 0:
		return step.Change{Action: step.Update, Details: lines}
	case f.openWindow() != nil:
		return step.Change{Action: step.Keep, Details: []string{"it is " + f.openWindow().Words()}}
	}
	return step.Change{Action: step.Keep}
}

func (f *foundRoleUpdate) Make(ctx context.Context) error {
	if f.live == nil || !f.ours(f.live.tags) {
		return f.foundRole.Make(ctx)
	}
	name := &f.role.Name
	for _, arn := range f.lacking() {
		if _, err := f.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: &arn}); err != nil {
			return fault.Passing(err)
		}
	}
	trust, inlines := f.trustDifferences(), f.wrongInlines()
	if (len(trust) > 0 || len(inlines) > 0) && f.step.update.stack == nil {
		if err := f.markBoth(ctx); err != nil {
			return err
		}
	}
	if len(trust) > 0 {
		_, err := f.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: aws.String(string(f.role.Trust.Document))})
		if err != nil {
			return fault.Passing(err)
		}
	}
	if err := f.putBoundary(ctx); err != nil {
		return err
	}
	if most := f.role.maxSession(); f.live.session > most {
		if _, err := f.iam.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: name, MaxSessionDuration: &most, Description: aws.String(f.role.Purpose)}); err != nil {
			return fault.Passing(err)
		}
	}
	for _, p := range inlines {
		_, err := f.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: &p.Name, PolicyDocument: aws.String(string(p.Document))})
		if err != nil {
			return fault.Passing(err)
		}
	}
	return nil
}

// markBoth names in the role's tag the documents that are coming beside those that were
// written before.
func (f *foundRoleUpdate) markBoth(ctx context.Context) error {
	digests := f.step.update.wantedRole(f.role.Name).digests()
	before := f.written(f.live.tags)
	if len(before) == 0 {
		before = append(before, digest(f.live.trust))
		for _, name := range sortedKeys(f.live.inline) {
			before = append(before, digest(f.live.inline[name]))
		}
	}
	for _, d := range before {
		if !slices.Contains(digests, d) {
			digests = append(digests, d)
		}
	}
	missing := missingTags(f.live.tags, []types.Tag{f.digestTag(digests...)})
	if len(missing) == 0 {
		return nil
	}
	_, err := f.iam.TagRole(ctx, &iam.TagRoleInput{RoleName: &f.role.Name, Tags: missing})
	return fault.Passing(err)
}

func (f *foundRoleUpdate) putBoundary(ctx context.Context) error {
	if len(f.boundaryDifferences()) == 0 {
		return nil
	}
	if wanted := f.boundaryARN(); wanted != "" {
		_, err := f.iam.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: &f.role.Name, PermissionsBoundary: &wanted})
		return fault.Passing(err)
	}
	_, err := f.iam.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: &f.role.Name})
	return fault.Passing(err)
}

// roleEnd takes from a role what is no longer wanted in it, once all else is there.
type roleEnd struct {
	place
	role   string
	update *Update
	needs  []string
}

func (s *roleEnd) Name() string    { return "rest of role " + s.role }
func (s *roleEnd) Needs() []string { return s.needs }

func (s *roleEnd) Check(ctx context.Context) error {
	found, err := s.Look(ctx, step.Present)
	if err == nil && len(found.(*foundEnd).attached)+len(found.(*foundEnd).inlines) > 0 {
		err = step.ErrNotYet
	}
	return err
}

type foundEnd struct {
	*roleEnd
	attached []string // to be detached
	inlines  []string // to be deleted
	later    []string // to be detached in the same run in which they are attached
}

func (s *roleEnd) Look(ctx context.Context, _ step.Goal) (step.Found, error) {
	live, err := readRole(ctx, s.iam, s.role)
	found := &foundEnd{roleEnd: s}
	if err != nil || live == nil || !s.ours(live.tags) {
		return found, err
	}
	for _, r := range s.update.Set.Roles {
		if r.Name != s.role {
			continue
		}
		f := &foundRole{roleStep: s.update.newRoleStep(r), live: live}
		found.attached = f.extraAttachments()
		for _, name := range sortedKeys(live.inline) {
			wanted := slices.ContainsFunc(r.Policies, func(p Policy) bool { return p.Kind == inline && p.Name == name })
			if !wanted && !IsWindowPolicy(s.vendor, s.role, name, live.inline[name]) {
				found.inlines = append(found.inlines, name)
			}
		}
	}
	if s.update.refusals[roleStepName(s.role)] != nil {
		return &foundEnd{roleEnd: s}, nil // the role itself is refused
	}
	for _, arn := range s.update.interimsOf(func(c *policyChange) bool { return c.role == s.role }) {
		if !slices.Contains(live.attached, arn) {
			found.later = append(found.later, arn)
		}
	}
	return found, nil
}

func (f *foundEnd) Plan() step.Change {
	var lines []string
	for _, arn := range append(slices.Clone(f.attached), f.later...) {
		_, name := f.update.splitPolicyARN(arn)
		lines = append(append(lines, "detach "+arn), f.update.rightLines(f.role, name)...)
	}
	for _, name := range f.inlines {
		lines = append(lines, "delete inline policy "+name)
	}
	if len(lines) == 0 {
		return step.Change{Action: step.None}
	}
	return step.Change{Action: step.Update, Details: lines}
}

func (f *foundEnd) Make(ctx context.Context) error {
	for _, arn := range f.attached {
		_, err := f.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &f.role, PolicyArn: &arn})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	for _, name := range f.inlines {
		_, err := f.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &f.role, PolicyName: &name})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	return nil
}

func (f *foundEnd) Remove(context.Context) error { return nil }

// rolesMark writes the version of the documents on the roles, when they have it.
type rolesMark struct {
	update *Update
	needs  []string
}

func (s *rolesMark) Name() string    { return "marks of the roles" }
func (s *rolesMark) Needs() []string { return s.needs }

func (s *rolesMark) Check(ctx context.Context) error {
	found, err := s.Look(ctx, step.Present)
	if err == nil && len(found.(*foundMark).missing) > 0 {
		err = step.ErrNotYet
	}
	return err
}

type foundMark struct {
	*rolesMark
	missing map[string][]types.Tag // by role
}

func (s *rolesMark) Look(ctx context.Context, _ step.Goal) (step.Found, error) {
	u := s.update
	found := &foundMark{s, map[string][]types.Tag{}}
	for _, r := range u.Set.Roles {
		live, err := readRoleItself(ctx, u.iam, r.Name)
		if err != nil {
			return nil, err
		}
		if live == nil || !u.ours(live.tags) {
			continue // it is made with its marks
		}
		want := append(u.roleTags(u.wanted), u.digestTag(u.wantedRole(r.Name).digests()...))
		if missing := missingTags(live.tags, want); len(missing) > 0 {
			found.missing[r.Name] = missing
		}
	}
	return found, nil
}

func (f *foundMark) Plan() step.Change {
	var lines []string
	for _, role := range sortedKeys(f.missing) {
		lines = append(lines, "set on role "+role+" "+tagText(f.missing[role]))
	}
	if len(lines) == 0 {
		return step.Change{Action: step.None}
	}
	return step.Change{Action: step.Update, Details: lines}
}

func (f *foundMark) Make(ctx context.Context) error {
	for _, role := range sortedKeys(f.missing) {
		if _, err := f.update.iam.TagRole(ctx, &iam.TagRoleInput{RoleName: &role, Tags: f.missing[role]}); err != nil {
			return fault.Passing(err)
		}
	}
	return nil
}

func (f *foundMark) Remove(context.Context) error { return nil }
