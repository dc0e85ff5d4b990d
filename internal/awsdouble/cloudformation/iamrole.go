package cloudformation

import (
	"context"
	"net/url"
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

var roleKind = kind{
	properties: map[string]form{
		"AssumeRolePolicyDocument": documentForm, "Description": textForm, "ManagedPolicyArns": listForm, "MaxSessionDuration": numberForm,
		"Path": textForm, "PermissionsBoundary": textForm, "Policies": listForm, "RoleName": textForm, "Tags": listForm,
	},
	required: []string{"AssumeRolePolicyDocument"}, replaced: []string{"Path", "RoleName"}, named: "RoleName",
	attributes: []string{"Arn", "RoleId"}, tagged: true, iam: true, handler: role{},
}

// role is AWS::IAM::Role. Ref gives its name.
type role struct{}

func (role) create(ctx context.Context, r *request) (Physical, error) {
	c := r.cloud.IAM(r.caller)
	trust, err := documentText(r.properties["AssumeRolePolicyDocument"])
	if err != nil {
		return Physical{}, err
	}
	inline, err := inlinePolicies(r.properties)
	if err != nil {
		return Physical{}, err
	}
	name := r.name("RoleName", 64)
	made, err := c.CreateRole(ctx, &iam.CreateRoleInput{
		RoleName: &name, AssumeRolePolicyDocument: &trust, Path: text(r.properties, "Path"), Description: text(r.properties, "Description"),
		MaxSessionDuration: seconds(r.properties), PermissionsBoundary: text(r.properties, "PermissionsBoundary"), Tags: tagsOf(r.properties),
	})
	if r.ours(err) {
		var there *iam.GetRoleOutput
		if there, err = c.GetRole(ctx, &iam.GetRoleInput{RoleName: &name}); err == nil {
			made = &iam.CreateRoleOutput{Role: there.Role}
		}
	}
	if err != nil {
		return Physical{}, err
	}
	p := Physical{ID: name, Attributes: map[string]string{"Arn": *made.Role.Arn, "RoleId": *made.Role.RoleId}}
	self := target{"Roles", name}
	for _, arn := range texts(r.properties, "ManagedPolicyArns") {
		if err := self.attach(ctx, c, arn); err != nil {
			return p, err
		}
	}
	for _, one := range inline {
		if err := self.put(ctx, c, one.name, one.document); err != nil {
			return p, err
		}
	}
	// CloudFormation looks at what it made, so that who may not look cannot make. That
	// it is not to be seen yet is no failure.
	_, err = c.GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	return p, gone(err)
}

func (role) update(ctx context.Context, r *request) (Physical, error) {
	c, name := r.cloud.IAM(r.caller), r.physical.ID
	self := target{"Roles", name}
	if r.differs("AssumeRolePolicyDocument") {
		trust, err := documentText(r.properties["AssumeRolePolicyDocument"])
		if err != nil {
			return r.physical, err
		}
		if _, err := c.UpdateAssumeRolePolicy(ctx, &iam.UpdateAssumeRolePolicyInput{RoleName: &name, PolicyDocument: &trust}); err != nil {
			return r.physical, err
		}
	}
	if r.differs("Description") || r.differs("MaxSessionDuration") {
		in := &iam.UpdateRoleInput{RoleName: &name, Description: text(r.properties, "Description"), MaxSessionDuration: seconds(r.properties)}
		if in.Description == nil {
			in.Description = aws.String("")
		}
		if in.MaxSessionDuration == nil {
			in.MaxSessionDuration = aws.Int32(3600)
		}
		if _, err := c.UpdateRole(ctx, in); err != nil {
			return r.physical, err
		}
	}
	if err := updateBoundary(ctx, c, r); err != nil {
		return r.physical, err
	}
	if err := updateAttached(ctx, c, r, self); err != nil {
		return r.physical, err
	}
	if err := updateInline(ctx, c, r, self); err != nil {
		return r.physical, err
	}
	removed, added := tagChanges(r)
	if removed != nil {
		if _, err := c.UntagRole(ctx, &iam.UntagRoleInput{RoleName: &name, TagKeys: removed}); err != nil {
			return r.physical, err
		}
	}
	if added != nil {
		if _, err := c.TagRole(ctx, &iam.TagRoleInput{RoleName: &name, Tags: added}); err != nil {
			return r.physical, err
		}
	}
	return r.physical, nil
}

func updateBoundary(ctx context.Context, c *iam.Client, r *request) error {
	if !r.differs("PermissionsBoundary") {
		return nil
	}
	boundary := text(r.properties, "PermissionsBoundary")
	if boundary == nil {
		_, err := c.DeleteRolePermissionsBoundary(ctx, &iam.DeleteRolePermissionsBoundaryInput{RoleName: &r.physical.ID})
		return gone(err)
	}
	_, err := c.PutRolePermissionsBoundary(ctx, &iam.PutRolePermissionsBoundaryInput{RoleName: &r.physical.ID, PermissionsBoundary: boundary})
	return err
}

func updateAttached(ctx context.Context, c *iam.Client, r *request, self target) error {
	before, after := texts(r.previous, "ManagedPolicyArns"), texts(r.properties, "ManagedPolicyArns")
	for _, arn := range before {
		if !slices.Contains(after, arn) {
			if err := gone(self.detach(ctx, c, arn)); err != nil {
				return err
			}
		}
	}
	for _, arn := range after {
		if !slices.Contains(before, arn) {
			if err := self.attach(ctx, c, arn); err != nil {
				return err
			}
		}
	}
	return nil
}

func updateInline(ctx context.Context, c *iam.Client, r *request, self target) error {
	before, err := inlinePolicies(r.previous)
	if err != nil {
		return err
	}
	after, err := inlinePolicies(r.properties)
	if err != nil {
		return err
	}
	for _, one := range before {
		if !slices.ContainsFunc(after, func(other inlinePolicy) bool { return other.name == one.name }) {
			if err := gone(self.drop(ctx, c, one.name)); err != nil {
				return err
			}
		}
	}
	for _, one := range after {
		if !slices.Contains(before, one) {
			if err := self.put(ctx, c, one.name, one.document); err != nil {
				return err
			}
		}
	}
	return nil
}

// delete takes away what the template gave the role. What others attached to it,
// or put into it, makes IAM refuse.
func (role) delete(ctx context.Context, r *request) error {
	c, self := r.cloud.IAM(r.caller), target{"Roles", r.physical.ID}
	for _, arn := range texts(r.properties, "ManagedPolicyArns") {
		if err := gone(self.detach(ctx, c, arn)); err != nil {
			return err
		}
	}
	inline, err := inlinePolicies(r.properties)
	if err != nil {
		return err
	}
	for _, one := range inline {
		if err := gone(self.drop(ctx, c, one.name)); err != nil {
			return err
		}
	}
	_, err = c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &r.physical.ID})
	return gone(err)
}

func (role) read(ctx context.Context, r *request) (map[string]any, error) {
	c, name := r.cloud.IAM(r.caller), &r.physical.ID
	out, err := c.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	if err != nil {
		return nil, err
	}
	trust, err := readDocumentText(out.Role.AssumeRolePolicyDocument)
	if err != nil {
		return nil, err
	}
	actual := map[string]any{"RoleName": *out.Role.RoleName, "Path": *out.Role.Path, "AssumeRolePolicyDocument": trust}
	if out.Role.Description != nil {
		actual["Description"] = *out.Role.Description
	}
	if out.Role.MaxSessionDuration != nil {
		actual["MaxSessionDuration"] = strconv.Itoa(int(*out.Role.MaxSessionDuration))
	}
	if out.Role.PermissionsBoundary != nil {
		actual["PermissionsBoundary"] = *out.Role.PermissionsBoundary.PermissionsBoundaryArn
	}
	if len(out.Role.Tags) > 0 {
		actual["Tags"] = tagList(out.Role.Tags)
	}
	attached := []any{}
	pages := iam.NewListAttachedRolePoliciesPaginator(c, &iam.ListAttachedRolePoliciesInput{RoleName: name})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, one := range page.AttachedPolicies {
			attached = append(attached, *one.PolicyArn)
		}
	}
	inline := []any{}
	names := iam.NewListRolePoliciesPaginator(c, &iam.ListRolePoliciesInput{RoleName: name})
	for names.HasMorePages() {
		page, err := names.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, one := range page.PolicyNames {
			document, err := target{"Roles", *name}.get(ctx, c, one)
			if err != nil {
				return nil, err
			}
			inline = append(inline, map[string]any{"PolicyName": one, "PolicyDocument": document})
		}
	}
	actual["ManagedPolicyArns"], actual["Policies"] = attached, inline
	return actual, nil
}

func seconds(properties map[string]any) *int32 {
	written := text(properties, "MaxSessionDuration")
	if written == nil {
		return nil
	}
	n, err := strconv.ParseInt(*written, 10, 32)
	if err != nil {
		return aws.Int32(0) // too large for IAM as well, which says what it takes
	}
	return aws.Int32(int32(n))
}

// inlinePolicy is a member of Policies.
type inlinePolicy struct{ name, document string }

func inlinePolicies(properties map[string]any) ([]inlinePolicy, error) {
	list, _ := properties["Policies"].([]any)
	var out []inlinePolicy
	for i, one := range list {
		object, _ := one.(map[string]any)
		name := text(object, "PolicyName")
		if name == nil || object["PolicyDocument"] == nil {
			return nil, invalid("#/Policies/%d: required keys [PolicyDocument, PolicyName] not found", i)
		}
		document, err := documentText(object["PolicyDocument"])
		if err != nil {
			return nil, err
		}
		out = append(out, inlinePolicy{*name, document})
	}
	return out, nil
}

// Tags

func tagsOf(properties map[string]any) []types.Tag {
	list, _ := properties["Tags"].([]any)
	var out []types.Tag
	for _, one := range list {
		object, _ := one.(map[string]any)
		key, value := "", ""
		if given := text(object, "Key"); given != nil {
			key = *given
		}
		if given := text(object, "Value"); given != nil {
			value = *given
		}
		out = append(out, types.Tag{Key: &key, Value: &value})
	}
	return out
}

func tagList(tags []types.Tag) []any {
	out := []any{}
	for _, one := range tags {
		out = append(out, map[string]any{"Key": *one.Key, "Value": *one.Value})
	}
	return out
}

// tagChanges are the keys that an update takes away, and what it adds or changes.
func tagChanges(r *request) (removed []string, added []types.Tag) {
	before, after := tagsOf(r.previous), tagsOf(r.properties)
	for _, one := range before {
		if !slices.ContainsFunc(after, func(other types.Tag) bool { return *other.Key == *one.Key }) {
			removed = append(removed, *one.Key)
		}
	}
	for _, one := range after {
		if !slices.ContainsFunc(before, func(other types.Tag) bool { return *other.Key == *one.Key && *other.Value == *one.Value }) {
			added = append(added, one)
		}
	}
	return removed, added
}

// readDocumentText undoes the encoding of documents in IAM's answers.
func readDocumentText(encoded *string) (any, error) {
	text, err := url.PathUnescape(aws.ToString(encoded))
	if err != nil {
		return nil, err
	}
	return opened(text), nil
}
