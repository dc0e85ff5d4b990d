package resource

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// Role is a role that AWS services or pods take on. It is under the vendor's path,
// with the boundary.
type Role struct {
	Name      string // union-demo-cluster
	LogicalID string
	Component string
	Purpose   string
	Requires  []string
	// Services may take it on: eks.amazonaws.com. Pods do it by pods.eks.amazonaws.com.
	Services []string
	// Attached are AWS's own policies, with their path: service-role/AmazonEBSCSIDriverPolicy.
	Attached []string
	// Inline are policies of its own by name, as the text that IAM gets.
	Inline map[string]string
	// Profile puts it into an instance profile of the same name.
	Profile bool
	// Fact is told its ARN; "" for none.
	Fact plane.Fact
}

// RoleTitle is the name of the step of a role.
func RoleTitle(name string) string { return "role " + name }

// RoleStep is the step that keeps a role.
func RoleStep(p *plane.Plane, role Role) *Resource {
	r := &roleKeeper{Plane: p, Role: role}
	return &Resource{
		Plane: p, Title: RoleTitle(role.Name), Requires: role.Requires, Component: role.Component, LogicalID: role.LogicalID,
		About: step.Description{
			Service: "iam",
			Creates: r.creates(), Updates: []string{"iam:UpdateAssumeRolePolicy", "iam:PutRolePolicy", "iam:AttachRolePolicy"},
			Removes: []string{"iam:DetachRolePolicy", "iam:DeleteRolePolicy", "iam:DeleteRole"},
			ToMake:  10 * time.Second, ToRemove: 2 * time.Second, Patience: 2 * time.Minute,
		},
		Purpose: []string{role.Purpose},
		Find:    r.find, Create: r.create, Tag: r.tag, Delete: r.remove,
		Templates: func() []Template { return role.Templates(p) },
		Tell: func(s *State) {
			if role.Fact == "" {
				return
			}
			if s == nil {
				p.Know(role.Fact)
				return
			}
			p.Know(role.Fact, p.RoleARN(role.Name))
		},
	}
}

type roleKeeper struct {
	*plane.Plane
	Role
	deleted bool // in this run; IAM may show it for a while yet
}

func (r *roleKeeper) creates() []string {
	calls := []string{"iam:CreateRole"}
	if len(r.Attached) > 0 {
		calls = append(calls, "iam:AttachRolePolicy")
	}
	if len(r.Inline) > 0 {
		calls = append(calls, "iam:PutRolePolicy")
	}
	if r.Profile {
		calls = append(calls, "iam:CreateInstanceProfile", "iam:AddRoleToInstanceProfile")
	}
	return calls
}

// carried is what a role has.
type carried struct {
	inline, attached []string
	profile          bool // the instance profile is there
}

func (r *roleKeeper) trust() string {
	action := any("sts:AssumeRole")
	if slices.ContainsFunc(r.Services, func(s string) bool { return strings.HasPrefix(s, "pods.eks.") }) {
		action = []string{"sts:AssumeRole", "sts:TagSession"}
	}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Principal": map[string]any{"Service": oneOrMany(r.Services)}, "Action": action}}})
	if err != nil {
		panic("resource: a trust policy of our own cannot be written: " + err.Error())
	}
	return string(text)
}

func oneOrMany(list []string) any {
	if len(list) == 1 {
		return list[0]
	}
	return list
}

func (r *roleKeeper) policyARN(name string) string {
	return "arn:" + r.Place.Partition + ":iam::aws:policy/" + name
}

func (r *roleKeeper) find(ctx context.Context, goal step.Goal) (*State, error) {
	out, err := r.AWS.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &r.Role.Name})
	if fault.NoSuchEntity(err) || fault.Denied(err) {
		// Who may look under one path only is refused a name that nobody has, too.
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	has, err := r.carries(ctx)
	if fault.Denied(err) && r.deleted {
		return nil, nil // it went between two calls, and nobody may ask for what is under no path
	}
	if err != nil {
		return nil, err
	}
	s := &State{Tags: map[string]string{}, Value: has}
	for _, t := range out.Role.Tags {
		s.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	if goal == step.Absent {
		if r.deleted {
			s.Leaving = "IAM still shows the role"
		}
		return s, nil
	}

	if path := aws.ToString(out.Role.Path); path != r.RolePath() {
		s.Differ = append(s.Differ, Difference{Field: "path", Want: r.RolePath(), Have: path, Hint: "delete the role, and run the same command again"})
	}
	boundary := ""
	if b := out.Role.PermissionsBoundary; b != nil {
		boundary = aws.ToString(b.PermissionsBoundaryArn)
	}
	if want := r.Boundary(); want != "" {
		s.Differ = append(s.Differ, Differ("permissions boundary", want, boundary, func(ctx context.Context) error {
			_, err := r.AWS.IAM.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: &r.Role.Name, PermissionsBoundary: &want})
			return err
		})...)
	}
	if !sameDocument(out.Role.AssumeRolePolicyDocument, r.trust()) {
		s.Differ = append(s.Differ, Difference{Field: "trust policy", Want: "for " + strings.Join(r.Services, ", "), Have: "another one", Put: func(ctx context.Context) error {
			_, err := r.AWS.IAM.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &r.Role.Name, PolicyDocument: aws.String(r.trust())})
			return err
		}})
	}
	s.Differ = append(s.Differ, r.missing(has)...)
	for name, text := range r.Inline {
		if !slices.Contains(has.inline, name) {
			continue
		}
		got, err := r.AWS.IAM.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &r.Role.Name, PolicyName: &name})
		if err != nil {
			return nil, err
		}
		if !sameDocument(got.PolicyDocument, text) {
			s.Differ = append(s.Differ, Difference{Field: "inline policy " + name, Want: "as generated", Have: "another one", Put: r.putInline(name)})
		}
	}
	s.Differ = append(s.Differ, r.surplus(has)...)
	return s, nil
}

// missing is what the role is to carry and does not.
func (r *roleKeeper) missing(has carried) []Difference {
	var out []Difference
	for _, name := range r.Attached {
		if arn := r.policyARN(name); !slices.Contains(has.attached, arn) {
			out = append(out, Difference{Field: "policy " + name, Want: "attached", Put: func(ctx context.Context) error {
				_, err := r.AWS.IAM.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &r.Role.Name, PolicyArn: &arn})
				return err
			}})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Inline)) {
		if !slices.Contains(has.inline, name) {
			out = append(out, Difference{Field: "inline policy " + name, Want: "put in", Put: r.putInline(name)})
		}
	}
	if r.Profile && !has.profile {
		out = append(out, Difference{Field: "instance profile", Want: r.Role.Name, Put: r.putProfile})
	}
	return out
}

func (r *roleKeeper) putInline(name string) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := r.AWS.IAM.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &r.Role.Name, PolicyName: &name, PolicyDocument: aws.String(r.Inline[name])})
		return err
	}
}

// surplus is what somebody hung on the role: more rights than it is to have. Taking
// them away is not among what the vendor may do while it provisions.
func (r *roleKeeper) surplus(has carried) []Difference {
	var out []Difference
	for _, arn := range has.attached {
		if !slices.ContainsFunc(r.Attached, func(name string) bool { return r.policyARN(name) == arn }) {
			out = append(out, Difference{Field: "policy " + arn, Want: "not attached", Have: "attached",
				Hint: fmt.Sprintf("run 'aws iam detach-role-policy --role-name %s --policy-arn %s'", r.Role.Name, arn)})
		}
	}
	for _, name := range has.inline {
		if _, ours := r.Inline[name]; !ours {
			out = append(out, Difference{Field: "inline policy " + name, Want: "not there", Have: "there",
				Hint: fmt.Sprintf("run 'aws iam delete-role-policy --role-name %s --policy-name %s'", r.Role.Name, name)})
		}
	}
	return out
}

func (r *roleKeeper) carries(ctx context.Context) (carried, error) {
	var has carried
	attached := iam.NewListAttachedRolePoliciesPaginator(r.AWS.IAM, &iam.ListAttachedRolePoliciesInput{RoleName: &r.Role.Name})
	for attached.HasMorePages() {
		page, err := attached.NextPage(ctx)
		if err != nil && !fault.NoSuchEntity(err) {
			return has, err
		}
		if err != nil {
			break
		}
		for _, p := range page.AttachedPolicies {
			has.attached = append(has.attached, aws.ToString(p.PolicyArn))
		}
	}
	inline := iam.NewListRolePoliciesPaginator(r.AWS.IAM, &iam.ListRolePoliciesInput{RoleName: &r.Role.Name})
	for inline.HasMorePages() {
		page, err := inline.NextPage(ctx)
		if err != nil && !fault.NoSuchEntity(err) {
			return has, err
		}
		if err != nil {
			break
		}
		has.inline = append(has.inline, page.PolicyNames...)
	}
	if r.Profile {
		out, err := r.AWS.IAM.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &r.Role.Name})
		if err != nil && !fault.NoSuchEntity(err) && !fault.Denied(err) {
			return has, err
		}
		has.profile = err == nil && slices.ContainsFunc(out.InstanceProfile.Roles, func(role types.Role) bool { return aws.ToString(role.RoleName) == r.Role.Name })
	}
	return has, nil
}

func (r *roleKeeper) create(ctx context.Context, tags map[string]string) error {
	in := &iam.CreateRoleInput{
		RoleName: &r.Role.Name, Path: aws.String(r.RolePath()), Description: &r.Purpose,
		AssumeRolePolicyDocument: aws.String(r.trust()), Tags: iamTags(tags),
	}
	if boundary := r.Boundary(); boundary != "" {
		in.PermissionsBoundary = &boundary
	}
	if _, err := r.AWS.IAM.CreateRole(ctx, in); err != nil {
		return err
	}
	// All that it carries, too, and not once it is seen: that can take a minute.
	for _, d := range r.missing(carried{}) {
		if err := d.Put(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (r *roleKeeper) tag(ctx context.Context, tags map[string]string) error {
	_, err := r.AWS.IAM.TagRole(ctx, &iam.TagRoleInput{RoleName: &r.Role.Name, Tags: iamTags(tags)})
	return err
}

func (r *roleKeeper) putProfile(ctx context.Context) error {
	_, err := r.AWS.IAM.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{
		InstanceProfileName: &r.Role.Name, Path: aws.String(r.RolePath()), Tags: iamTags(r.Tags(r.Component, r.LogicalID))})
	if err != nil && fault.Code(err) != "EntityAlreadyExists" {
		return err
	}
	_, err = r.AWS.IAM.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: &r.Role.Name, RoleName: &r.Role.Name})
	if fault.Code(err) == "LimitExceeded" {
		return nil // a profile holds one role: it is in it
	}
	return err
}

// remove empties the role, which IAM asks for, and deletes it.
func (r *roleKeeper) remove(ctx context.Context, s *State) error {
	has := s.Value.(carried)
	if r.Profile {
		_, err := r.AWS.IAM.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: &r.Role.Name, RoleName: &r.Role.Name})
		if err != nil && !fault.NoSuchEntity(err) && !fault.Denied(err) {
			return err
		}
		_, err = r.AWS.IAM.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: &r.Role.Name})
		if err != nil && !fault.NoSuchEntity(err) && !fault.Denied(err) {
			return err
		}
	}
	for _, arn := range has.attached {
		if _, err := r.AWS.IAM.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &r.Role.Name, PolicyArn: &arn}); err != nil && !fault.NoSuchEntity(err) {
			return err
		}
	}
	for _, name := range has.inline {
		if _, err := r.AWS.IAM.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &r.Role.Name, PolicyName: &name}); err != nil && !fault.NoSuchEntity(err) {
			return err
		}
	}
	_, err := r.AWS.IAM.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &r.Role.Name})
	r.deleted = err == nil
	return err
}

// sameDocument compares policies by what they say; got may be in the form of a URL.
func sameDocument(got *string, want string) bool {
	text := aws.ToString(got)
	if plain, err := url.QueryUnescape(text); err == nil && strings.HasPrefix(text, "%7B") {
		text = plain
	}
	return SameJSON(text, want)
}

func iamTags(tags map[string]string) []types.Tag {
	var list []types.Tag
	for key, value := range tags {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(value)})
	}
	slices.SortFunc(list, func(a, b types.Tag) int { return strings.Compare(*a.Key, *b.Key) })
	return list
}
