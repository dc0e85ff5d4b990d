package access

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
)

// SessionSeconds is the longest session of every role, IAM's default. The
// vendor assumes the roles from a role of its own, which AWS caps at an hour
// anyway.
const SessionSeconds = 3600

// roleStep keeps one role: trust and boundary, which are made with it in one
// call, and then what is attached to it and put into it.
type roleStep struct {
	place
	role Role
	tags []types.Tag
	// removeAfter, when it is not nil, are the only policies that the role is
	// removed before: those that are there.
	removeAfter map[string]bool
	// window reads the window of the break-glass role; nil for the others.
	window func(trust []byte) *Window
}

func roleStepName(role string) string { return "role " + role }

func (s *roleStep) Name() string { return roleStepName(s.role.Name) }

// Needs are the policies, without which nothing can be attached.
func (s *roleStep) Needs() []string {
	var names []string
	if s.role.Boundary != nil {
		names = append(names, *s.role.Boundary)
	}
	for _, p := range s.role.Policies {
		if p.Kind == managed {
			names = append(names, p.Name)
		}
	}
	var needs []string
	for _, name := range names {
		if s.removeAfter == nil || s.removeAfter[name] {
			needs = append(needs, policyStepName(name))
		}
	}
	return needs
}

func (s *roleStep) Check(ctx context.Context) error { return step.Settled(ctx, s) }

// The kinds of Policy.
const (
	managed = "managed"
	inline  = "inline"
)

// attachments are the ARNs of all managed policies that the role must carry.
func (s *roleStep) attachments() []string {
	arns := slices.Clone(s.role.Attached)
	for _, p := range s.role.Policies {
		if p.Kind == managed {
			arns = append(arns, s.policyARN(s.role.Path, p.Name))
		}
	}
	return arns
}

func (s *roleStep) boundaryARN() string {
	if s.role.keptBoundary != "" {
		return s.role.keptBoundary
	}
	if s.role.Boundary == nil {
		return ""
	}
	return s.policyARN(s.role.Path, *s.role.Boundary)
}

// foundRole is the role as it is; live is nil when it is not there.
type foundRole struct {
	*roleStep
	goal step.Goal
	live *liveRole
}

// liveRole is a role as IAM describes it, with its documents decoded.
type liveRole struct {
	arn      string
	path     string
	trust    []byte
	boundary string // ARN, or empty
	session  int32
	tags     []types.Tag
	attached []string          // ARNs
	inline   map[string][]byte // documents by name
	profiles []string          // instance profiles that hold it; read for Absent

	at   time.Time     // when IAM said so, by its own clock; zero where the answer had no date
	skew time.Duration // how far this machine's clock is ahead of that one
}

func (s *roleStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	live, err := readRole(ctx, s.iam, s.role.Name)
	if err != nil {
		return nil, err
	}
	found := &foundRole{roleStep: s, goal: goal, live: live}
	if goal == step.Absent && live != nil && s.ours(live.tags) {
		live.profiles, err = readInstanceProfiles(ctx, s.iam, s.role.Name)
	}
	return found, err
}

// readInstanceProfiles names the instance profiles that hold the role. IAM
// deletes no role that is in one.
func readInstanceProfiles(ctx context.Context, api IAM, role string) ([]string, error) {
	var names []string
	pages := iam.NewListInstanceProfilesForRolePaginator(api, &iam.ListInstanceProfilesForRoleInput{RoleName: &role})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if fault.NoSuchEntity(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, p := range page.InstanceProfiles {
			names = append(names, aws.ToString(p.InstanceProfileName))
		}
	}
	return names, nil
}

// readRole returns the role of that name, or nil when there is none. A role
// that IAM does not know everywhere yet has nothing attached.
func readRole(ctx context.Context, api IAM, name string) (*liveRole, error) {
	live, err := readRoleItself(ctx, api, name)
	if err != nil || live == nil {
		return nil, err
	}
	return live, live.readPolicies(ctx, api, name)
}

func readRoleItself(ctx context.Context, api IAM, name string) (*liveRole, error) {
	out, err := api.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if fault.NoSuchEntity(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	live := &liveRole{
		arn: aws.ToString(out.Role.Arn), path: aws.ToString(out.Role.Path),
		session: aws.ToInt32(out.Role.MaxSessionDuration), tags: out.Role.Tags, inline: map[string][]byte{},
	}
	if b := out.Role.PermissionsBoundary; b != nil {
		live.boundary = aws.ToString(b.PermissionsBoundaryArn)
	}
	live.at, _ = awsmiddleware.GetServerTime(out.ResultMetadata)
	if here, ok := awsmiddleware.GetResponseAt(out.ResultMetadata); ok && !live.at.IsZero() {
		live.skew = here.Sub(live.at)
	}
	live.trust, err = plain(out.Role.AssumeRolePolicyDocument)
	return live, err
}

// readPolicies reads what is attached to the role and what is in it.
func (live *liveRole) readPolicies(ctx context.Context, api IAM, name string) error {
	attached := iam.NewListAttachedRolePoliciesPaginator(api, &iam.ListAttachedRolePoliciesInput{RoleName: &name})
	for attached.HasMorePages() {
		page, err := attached.NextPage(ctx)
		if fault.NoSuchEntity(err) {
			break
		}
		if err != nil {
			return err
		}
		for _, p := range page.AttachedPolicies {
			live.attached = append(live.attached, aws.ToString(p.PolicyArn))
		}
	}
	inlines := iam.NewListRolePoliciesPaginator(api, &iam.ListRolePoliciesInput{RoleName: &name})
	for inlines.HasMorePages() {
		page, err := inlines.NextPage(ctx)
		if fault.NoSuchEntity(err) {
			break
		}
		if err != nil {
			return err
		}
		for _, policy := range page.PolicyNames {
			out, err := api.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &name, PolicyName: &policy})
			if fault.NoSuchEntity(err) {
				continue
			}
			if err != nil {
				return err
			}
			if live.inline[policy], err = plain(out.PolicyDocument); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *foundRole) Plan() step.Change {
	if f.goal == step.Absent {
		return f.planRemoval()
	}
	if f.live == nil {
		details := append([]string{f.role.Purpose}, trustLines(f.role.Trust.Document)...)
		if boundary := f.boundaryARN(); boundary != "" {
			details = append(details, "bounded by "+boundary)
		}
		return step.Change{Action: step.Create, Details: append(details, f.missing()...)}
	}
	if differences := f.differences(); len(differences) > 0 {
		return f.refusal(f.live.tags, f.roleStep.tags, differences)
	}
	missing := f.missing()
	if tags := missingTags(f.live.tags, f.roleStep.tags); len(tags) > 0 {
		missing = append([]string{"set tags " + tagText(tags)}, missing...)
	}
	switch {
	case !f.ours(f.live.tags):
		return step.Change{Action: step.Adopt, Details: append([]string{"it is as wanted; from now on 'revoke' removes it"}, missing...)}
	case len(missing) > 0:
		return step.Change{Action: step.Finish, Details: missing}
	}
	if w := f.openWindow(); w != nil {
		return step.Change{Action: step.Keep, Details: []string{"it is " + w.Words()}}
	}
	return step.Change{Action: step.Keep}
}

// missing says what is not attached or put in yet.
func (f *foundRole) missing() []string {
	var lines []string
	for _, arn := range f.missingAttachments() {
		lines = append(lines, "attach "+arn)
	}
	for _, p := range f.missingInlines() {
		lines = append(lines, fmt.Sprintf("put in %s, %s characters", p.Name, thousands(p.Size)))
	}
	return lines
}

func (f *foundRole) missingAttachments() []string {
	return slices.DeleteFunc(f.attachments(), func(arn string) bool {
		return f.live != nil && slices.Contains(f.live.attached, arn)
	})
}

func (f *foundRole) missingInlines() []Policy {
	return slices.DeleteFunc(slices.Clone(f.role.Policies), func(p Policy) bool {
		if p.Kind != inline {
			return true
		}
		return f.live != nil && f.live.inline[p.Name] != nil
	})
}

// differences says in what the role there is not the one wanted. What is merely
// missing is no difference: a run that was killed leaves that.
func (f *foundRole) differences() []string {
	lines := append(f.trustDifferences(), f.boundaryDifferences()...)
	if f.live.path != f.role.Path {
		lines = append(lines, f.pathDifference())
	}
	if f.live.session > f.role.maxSession() {
		lines = append(lines, f.sessionDifference())
	}
	for _, p := range f.role.Policies {
		if have := f.live.inline[p.Name]; p.Kind == inline && have != nil {
			lines = append(lines, documentDifferences("its inline policy "+p.Name, have, p.Document)...)
		}
	}
	for _, extra := range f.extras() {
		lines = append(lines, "it carries "+extra+", which is not of this set")
	}
	return lines
}

// formDifferences is about the role itself: path, tags, length of sessions.
func (f *foundRole) formDifferences() []string {
	var lines []string
	if f.live.path != f.role.Path {
		lines = append(lines, f.pathDifference())
	}
	if f.live.session > f.role.maxSession() {
		lines = append(lines, f.sessionDifference())
	}
	if missing := missingTags(f.live.tags, f.roleStep.tags); len(missing) > 0 {
		lines = append(lines, "it lacks the tags "+tagText(missing))
	}
	return lines
}

func (f *foundRole) pathDifference() string {
	return fmt.Sprintf("its path is %s, wanted %s", f.live.path, f.role.Path)
}

func (f *foundRole) sessionDifference() string {
	return fmt.Sprintf("its sessions may last %d seconds, wanted %d", f.live.session, f.role.maxSession())
}

// maxSession is the longest session of the role in seconds.
func (r Role) maxSession() int32 { return max(SessionSeconds, r.keptSession) }

// openWindow is the window of the break-glass role while that is switched on.
func (f *foundRole) openWindow() *Window {
	if f.window == nil {
		return nil
	}
	return f.window(f.live.trust)
}

func (f *foundRole) trustDifferences() []string {
	if f.openWindow() != nil {
		return nil // it is switched on, as the customer wanted it
	}
	if len(documentDifferences("the trust policy", f.live.trust, f.role.Trust.Document)) == 0 {
		return nil
	}
	lines := []string{"its trust policy is another one"}
	if ids := externalIDsOf(f.live.trust); len(ids) > 1 {
		lines = []string{rotationWords(ids), lines[0]}
	}
	for _, line := range trustLines(f.live.trust) {
		lines = append(lines, "  there:  "+line)
	}
	for _, line := range trustLines(f.role.Trust.Document) {
		lines = append(lines, "  wanted: "+line)
	}
	return lines
}

func (f *foundRole) boundaryDifferences() []string {
	if f.live.boundary == f.boundaryARN() {
		return nil
	}
	return []string{fmt.Sprintf("its permissions boundary is %s, wanted %s", or(f.live.boundary, "none"), or(f.boundaryARN(), "none"))}
}

// extras names the policies of the role that are not of the set.
func (f *foundRole) extras() []string {
	var extras []string
	for _, arn := range f.extraAttachments() {
		extras = append(extras, "policy "+arn)
	}
	for _, name := range slices.Sorted(maps.Keys(f.live.inline)) {
		wanted := slices.ContainsFunc(f.role.Policies, func(p Policy) bool { return p.Kind == inline && p.Name == name })
		if !wanted && !IsWindowPolicy(f.vendor, f.role.Name, name, f.live.inline[name]) {
			extras = append(extras, "inline policy "+name)
		}
	}
	return extras
}

func (f *foundRole) extraAttachments() []string {
	wanted := f.attachments()
	return slices.DeleteFunc(slices.Clone(f.live.attached), func(arn string) bool { return slices.Contains(wanted, arn) })
}

func (f *foundRole) Make(ctx context.Context) error {
	name := aws.String(f.role.Name)
	if f.live == nil {
		in := &iam.CreateRoleInput{
			RoleName:                 name,
			Path:                     aws.String(f.role.Path),
			AssumeRolePolicyDocument: aws.String(string(f.role.Trust.Document)),
			Description:              aws.String(f.role.Purpose),
			MaxSessionDuration:       aws.Int32(SessionSeconds),
			Tags:                     f.roleStep.tags,
		}
		if boundary := f.boundaryARN(); boundary != "" {
			in.PermissionsBoundary = &boundary
		}
		if _, err := f.iam.CreateRole(ctx, in); err != nil {
			return fault.Passing(err)
		}
	} else if tags := missingTags(f.live.tags, f.roleStep.tags); len(tags) > 0 {
		if _, err := f.iam.TagRole(ctx, &iam.TagRoleInput{RoleName: name, Tags: tags}); err != nil {
			return fault.Passing(err)
		}
	}
	for _, arn := range f.missingAttachments() {
		if _, err := f.iam.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: name, PolicyArn: &arn}); err != nil {
			return fault.Passing(err)
		}
	}
	for _, p := range f.missingInlines() {
		_, err := f.iam.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: &p.Name, PolicyDocument: aws.String(string(p.Document))})
		if err != nil {
			return fault.Passing(err)
		}
	}
	return nil
}

func (f *foundRole) planRemoval() step.Change {
	switch {
	case f.live == nil:
		return step.Change{Action: step.None}
	case !f.ours(f.live.tags):
		return step.Change{Action: step.Leave, Details: append([]string{notOurs(f.vendor.ManagedByKey())}, trustLines(f.live.trust)...)}
	}
	details := []string{f.live.arn}
	for _, arn := range f.extraAttachments() {
		details = append(details, "detach "+arn+", which stays: it is not of this set")
	}
	for _, profile := range f.live.profiles {
		details = append(details, "take it out of instance profile "+profile+", which stays: it is not of this set")
	}
	for _, extra := range f.extras() {
		if strings.HasPrefix(extra, "inline") {
			details = append(details, "delete "+extra+", which was put into it later and cannot stay without it")
		}
	}
	return step.Change{Action: step.Remove, Details: details}
}

// Remove empties the role, which IAM asks for, and deletes it.
func (f *foundRole) Remove(ctx context.Context) error {
	if err := f.unload(ctx, f.live.attached, slices.Sorted(maps.Keys(f.live.inline))); err != nil {
		return err
	}
	_, err := f.iam.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: aws.String(f.role.Name)})
	return fault.UnlessGone(err)
}

// unload takes policies from the role, and the role out of the instance profiles.
func (f *foundRole) unload(ctx context.Context, attached, inline []string) error {
	name := aws.String(f.role.Name)
	for _, arn := range attached {
		_, err := f.iam.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: name, PolicyArn: &arn})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	for _, policy := range inline {
		_, err := f.iam.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: &policy})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	for _, profile := range f.live.profiles {
		_, err := f.iam.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{RoleName: name, InstanceProfileName: &profile})
		if err := fault.UnlessGone(err); err != nil {
			return err
		}
	}
	return nil
}
