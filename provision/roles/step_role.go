package roles

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/step"
)

// sessionSeconds is the longest session, IAM's default and that of the SDKs.
const sessionSeconds = 3600

// roleStep keeps one role: trust and boundary, which are made with it in one call,
// and the inline policy.
type roleStep struct {
	iam  IAM
	set  *Set
	role Role
}

func (s *roleStep) Name() string { return "role " + s.role.Name }

func (s *roleStep) Needs() []string {
	var needs []string
	for _, issuer := range s.set.Providers {
		needs = append(needs, providerStepName(issuer))
	}
	return needs
}

func (s *roleStep) Check(ctx context.Context) error { return step.Settled(ctx, s) }

func (s *roleStep) tags() map[string]string { return s.set.owner().Tags(component, s.role.logicalID) }

// foundRole is the role as it is, and how it differs.
type foundRole struct {
	*roleStep
	goal     step.Goal
	there    bool
	unseen   bool // it is not there, or where this caller may not look
	path     string
	boundary string
	session  int32
	tags     map[string]string
	inline   []string // names
	attached []string // ARNs

	trustDiffers  bool
	policyDiffers bool // it is there, and another one
}

func (s *roleStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found := &foundRole{roleStep: s, goal: goal}
	out, err := s.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &s.role.Name})
	switch {
	case fault.NoSuchEntity(err):
		return found, nil
	case fault.Denied(err):
		// Who may only look under one path is told so of a name that nobody has: IAM
		// does not know under which path it would be. Making it brings it out.
		found.unseen = true
		return found, nil
	case err != nil:
		return nil, err
	}
	found.there = true
	found.path, found.session, found.tags = aws.ToString(out.Role.Path), aws.ToInt32(out.Role.MaxSessionDuration), tagMap(out.Role.Tags)
	if b := out.Role.PermissionsBoundary; b != nil {
		found.boundary = aws.ToString(b.PermissionsBoundaryArn)
	}
	same, err := sameMeaning(out.Role.AssumeRolePolicyDocument, s.role.Trust)
	if err != nil {
		return nil, err
	}
	found.trustDiffers = !same
	return found, found.readPolicies(ctx)
}

// Drift implements step.Drifter.
func (s *roleStep) Drift(ctx context.Context) ([]step.Drift, error) {
	looked, err := s.Look(ctx, step.Present)
	if err != nil {
		return nil, err
	}
	f := looked.(*foundRole)
	var drift []step.Drift
	differs := func(field, want, got string) {
		if want != got {
			drift = append(drift, step.Drift{Resource: s.role.ARN, Field: field, Want: want, Got: got})
		}
	}
	if !f.there {
		differs("existence", "there", "missing")
		return drift, nil
	}
	differs("path", s.role.Path, f.path)
	differs("permissions boundary", or(s.role.Boundary, "none"), or(f.boundary, "none"))
	differs("longest session", fmt.Sprintf("%d s", sessionSeconds), fmt.Sprintf("%d s", f.session))
	if f.trustDiffers {
		differs("trust policy", "for "+strings.Join(s.role.Subjects, ", "), "another one")
	}
	switch {
	case f.policyDiffers:
		differs("inline policy "+PolicyName, "as generated", "another one")
	case len(f.lacks()) > 0:
		differs("inline policy "+PolicyName, "as generated", "missing")
	}
	for _, name := range f.inline {
		if name != PolicyName {
			differs("inline policy "+name, "not there", "there")
		}
	}
	for _, arn := range f.attached {
		differs("policy "+arn, "not attached", "attached")
	}
	missing := f.missingTags()
	for _, key := range ownership.Keys(missing) {
		differs("tag "+key, missing[key], f.tags[key])
	}
	return drift, nil
}

// readPolicies reads what the role carries. A role that IAM does not know
// everywhere yet carries nothing.
func (f *foundRole) readPolicies(ctx context.Context) error {
	inline := iam.NewListRolePoliciesPaginator(f.iam, &iam.ListRolePoliciesInput{RoleName: &f.role.Name})
	for inline.HasMorePages() {
		page, err := inline.NextPage(ctx)
		if fault.NoSuchEntity(err) {
			break
		}
		if err != nil {
			return err
		}
		f.inline = append(f.inline, page.PolicyNames...)
	}
	attached := iam.NewListAttachedRolePoliciesPaginator(f.iam, &iam.ListAttachedRolePoliciesInput{RoleName: &f.role.Name})
	for attached.HasMorePages() {
		page, err := attached.NextPage(ctx)
		if fault.NoSuchEntity(err) {
			break
		}
		if err != nil {
			return err
		}
		for _, p := range page.AttachedPolicies {
			f.attached = append(f.attached, aws.ToString(p.PolicyArn))
		}
	}
	if f.goal == step.Absent || !slices.Contains(f.inline, PolicyName) {
		return nil // who removes need not be able to read documents
	}
	out, err := f.iam.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &f.role.Name, PolicyName: aws.String(PolicyName)})
	if fault.NoSuchEntity(err) {
		f.inline = slices.DeleteFunc(f.inline, func(name string) bool { return name == PolicyName })
		return nil
	}
	if err != nil {
		return err
	}
	same, err := sameMeaning(out.PolicyDocument, f.role.Policy)
	f.policyDiffers = !same
	return err
}

func (f *foundRole) Plan() step.Change {
	owner := f.set.owner()
	relation := owner.Of(f.tags, component)
	if f.goal == step.Absent {
		return f.planRemoval(relation)
	}
	if !f.there {
		details := []string{f.role.Purpose, "trusts " + strings.Join(f.role.Subjects, ", ")}
		if f.role.Boundary != "" {
			details = append(details, "bounded by "+f.role.Boundary)
		}
		return step.Change{Action: step.Create, Details: append(details, f.lacks()...)}
	}

	if fixed := f.unchangeable(); len(fixed) > 0 {
		return step.Change{Action: step.Refuse, Details: fixed, Hint: "detach or delete what is not of this set, or remove the role, and run the same command again"}
	}
	changed := f.changed()
	switch {
	case relation == ownership.Other:
		return step.Change{Action: step.Refuse, Details: []string{whose(owner, f.tags, relation)},
			Hint: "give this data plane another name; with shared roles there can be only one in an account"}
	case relation == ownership.Foreign && (len(changed) > 0 || !f.set.config.Adopt):
		return step.Change{Action: step.Refuse, Details: append([]string{whose(owner, f.tags, relation)}, changed...),
			Hint: "rename or delete it, or ask for what is as wanted to be adopted"}
	case relation == ownership.Foreign:
		return step.Change{Action: step.Adopt, Details: append([]string{"it is as wanted; from now on it is removed with the data plane"}, f.lacks()...)}
	case len(changed) > 0:
		return step.Change{Action: step.Update, Details: append(changed, f.lacks()...)}
	case len(f.lacks()) > 0 || len(f.missingTags()) > 0:
		return step.Change{Action: step.Finish, Details: append(f.lacks(), tagLine(f.missingTags())...)}
	}
	return step.Change{Action: step.Keep}
}

// unchangeable is what no call of ours could put right: a path is for life, and
// taking rights away is not among what the vendor may do to a role.
func (f *foundRole) unchangeable() []string {
	var lines []string
	if f.path != f.role.Path {
		lines = append(lines, fmt.Sprintf("its path is %s, wanted %s", f.path, f.role.Path))
	}
	for _, arn := range f.attached {
		lines = append(lines, "it carries policy "+arn+", which is not of this set")
	}
	for _, name := range f.inline {
		if name != PolicyName {
			lines = append(lines, "it carries inline policy "+name+", which is not of this set")
		}
	}
	if f.boundary != f.role.Boundary && f.role.Boundary == "" {
		lines = append(lines, "its permissions boundary is "+f.boundary+", wanted none")
	}
	return lines
}

// changed is what is there and another than is wanted.
func (f *foundRole) changed() []string {
	var lines []string
	if f.trustDiffers {
		lines = append(lines, "its trust policy is another one; wanted are "+strings.Join(f.role.Subjects, ", "))
	}
	if f.policyDiffers {
		lines = append(lines, "its inline policy "+PolicyName+" is another one")
	}
	if f.boundary != f.role.Boundary && f.role.Boundary != "" {
		lines = append(lines, fmt.Sprintf("its permissions boundary is %s, wanted %s", or(f.boundary, "none"), f.role.Boundary))
	}
	if f.session != sessionSeconds {
		lines = append(lines, fmt.Sprintf("its sessions may last %d seconds, wanted %d", f.session, sessionSeconds))
	}
	return lines
}

// lacks is what is merely not there yet: a run that was killed leaves that.
func (f *foundRole) lacks() []string {
	if slices.Contains(f.inline, PolicyName) {
		return nil
	}
	return []string{fmt.Sprintf("put in %s, %d characters", PolicyName, f.role.PolicySize())}
}

func (f *foundRole) missingTags() map[string]string {
	return ownership.Missing(f.tags, f.roleStep.tags())
}

func (f *foundRole) Make(ctx context.Context) error {
	name := &f.role.Name
	if !f.there {
		in := &iam.CreateRoleInput{
			RoleName:                 name,
			Path:                     &f.role.Path,
			AssumeRolePolicyDocument: aws.String(string(f.role.Trust)),
			Description:              &f.role.Purpose,
			MaxSessionDuration:       aws.Int32(sessionSeconds),
			Tags:                     tagList(f.roleStep.tags()),
		}
		if f.role.Boundary != "" {
			in.PermissionsBoundary = &f.role.Boundary
		}
		if _, err := f.iam.CreateRole(ctx, in); err != nil {
			var exists *types.EntityAlreadyExistsException
			if f.unseen && errors.As(err, &exists) {
				return f.takenElsewhere(ctx, err)
			}
			return fault.Passing(err)
		}
		err := f.putPolicy(ctx)
		if fault.Denied(err) {
			// Rights over a role that IAM does not know everywhere yet come to nothing.
			return fmt.Errorf("%w: %w", step.ErrConflict, err)
		}
		return err
	}
	if tags := f.missingTags(); len(tags) > 0 {
		if _, err := f.iam.TagRole(ctx, &iam.TagRoleInput{RoleName: name, Tags: tagList(tags)}); err != nil {
			return fault.Passing(err)
		}
	}
	// The boundary before anything is given, the trust last.
	if f.boundary != f.role.Boundary {
		if _, err := f.iam.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: name, PermissionsBoundary: &f.role.Boundary}); err != nil {
			return fault.Passing(err)
		}
	}
	if f.session != sessionSeconds {
		if _, err := f.iam.UpdateRole(ctx, &iam.UpdateRoleInput{RoleName: name, Description: &f.role.Purpose, MaxSessionDuration: aws.Int32(sessionSeconds)}); err != nil {
			return fault.Passing(err)
		}
	}
	if f.policyDiffers || len(f.lacks()) > 0 {
		if err := f.putPolicy(ctx); err != nil {
			return err
		}
	}
	if f.trustDiffers {
		_, err := f.iam.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: name, PolicyDocument: aws.String(string(f.role.Trust))})
		return fault.Passing(err)
	}
	return nil
}

// takenElsewhere tells a role that somebody made a moment ago from one that is under
// another path, which this caller will never see.
func (f *foundRole) takenElsewhere(ctx context.Context, exists error) error {
	_, err := f.iam.GetRole(ctx, &iam.GetRoleInput{RoleName: &f.role.Name})
	if fault.Denied(err) {
		return usererr.New(usererr.Refused, "there is a role %s that this caller may not look at, since it is not under %s", f.role.Name, f.role.Path).
			WithHint("rename or delete it, or give the data plane another name").Because(exists)
	}
	return fault.Passing(exists)
}

func (f *foundRole) putPolicy(ctx context.Context) error {
	_, err := f.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
		RoleName: &f.role.Name, PolicyName: aws.String(PolicyName), PolicyDocument: aws.String(string(f.role.Policy))})
	return fault.Passing(err)
}

func (f *foundRole) planRemoval(relation ownership.Relation) step.Change {
	switch {
	case !f.there:
		return step.Change{Action: step.None}
	case relation != ownership.Ours:
		return step.Change{Action: step.Leave, Details: []string{whose(f.set.owner(), f.tags, relation)}}
	}
	details := []string{f.role.ARN}
	for _, arn := range f.attached {
		details = append(details, "detach "+arn+", which stays: it is not of this set")
	}
	for _, name := range f.inline {
		if name != PolicyName {
			details = append(details, "delete inline policy "+name+", which was put into it later and cannot stay without it")
		}
	}
	return step.Change{Action: step.Remove, Details: details}
}

// Remove empties the role, which IAM asks for, and deletes it.
func (f *foundRole) Remove(ctx context.Context) error {
	name := &f.role.Name
	for _, arn := range f.attached {
		_, err := f.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: &arn})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	for _, policy := range f.inline {
		_, err := f.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: &policy})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	_, err := f.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name})
	return fault.UnlessGone(err)
}

func tagLine(tags map[string]string) []string {
	if len(tags) == 0 {
		return nil
	}
	return []string{"set tags " + strings.Join(ownership.Keys(tags), ", ")}
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
