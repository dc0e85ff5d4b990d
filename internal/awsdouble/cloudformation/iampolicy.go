package cloudformation

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"
)

// target is a role, a user or a group that a policy belongs to, as the property
// that lists it calls it.
type target struct{ property, name string }

func targets(properties map[string]any) []target {
	var out []target
	for _, property := range []string{"Roles", "Users", "Groups"} {
		for _, name := range texts(properties, property) {
			out = append(out, target{property, name})
		}
	}
	return out
}

// errNoGroup is IAM's error, said here because the double's accounts have no groups.
func (t target) errNoGroup() error {
	return &smithy.GenericAPIError{Code: "NoSuchEntity", Message: "The group with name " + t.name + " cannot be found."}
}

func (t target) attach(ctx context.Context, c *iam.Client, arn string) (err error) {
	switch t.property {
	case "Roles":
		_, err = c.AttachRolePolicy(ctx, &iam.AttachRolePolicyInput{RoleName: &t.name, PolicyArn: &arn})
	case "Users":
		_, err = c.AttachUserPolicy(ctx, &iam.AttachUserPolicyInput{UserName: &t.name, PolicyArn: &arn})
	default:
		err = t.errNoGroup()
	}
	return err
}

func (t target) detach(ctx context.Context, c *iam.Client, arn string) (err error) {
	switch t.property {
	case "Roles":
		_, err = c.DetachRolePolicy(ctx, &iam.DetachRolePolicyInput{RoleName: &t.name, PolicyArn: &arn})
	case "Users":
		_, err = c.DetachUserPolicy(ctx, &iam.DetachUserPolicyInput{UserName: &t.name, PolicyArn: &arn})
	default:
		err = t.errNoGroup()
	}
	return err
}

// put, drop and get are of inline policies.
func (t target) put(ctx context.Context, c *iam.Client, name, document string) (err error) {
	switch t.property {
	case "Roles":
		_, err = c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &t.name, PolicyName: &name, PolicyDocument: &document})
	case "Users":
		_, err = c.PutUserPolicy(ctx, &iam.PutUserPolicyInput{UserName: &t.name, PolicyName: &name, PolicyDocument: &document})
	default:
		err = t.errNoGroup()
	}
	return err
}

func (t target) drop(ctx context.Context, c *iam.Client, name string) (err error) {
	switch t.property {
	case "Roles":
		_, err = c.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &t.name, PolicyName: &name})
	case "Users":
		_, err = c.DeleteUserPolicy(ctx, &iam.DeleteUserPolicyInput{UserName: &t.name, PolicyName: &name})
	default:
		err = t.errNoGroup()
	}
	return err
}

func (t target) get(ctx context.Context, c *iam.Client, name string) (any, error) {
	var document *string
	switch t.property {
	case "Roles":
		out, err := c.GetRolePolicy(ctx, &iam.GetRolePolicyInput{RoleName: &t.name, PolicyName: &name})
		if err != nil {
			return nil, err
		}
		document = out.PolicyDocument
	case "Users":
		out, err := c.GetUserPolicy(ctx, &iam.GetUserPolicyInput{UserName: &t.name, PolicyName: &name})
		if err != nil {
			return nil, err
		}
		document = out.PolicyDocument
	default:
		return nil, t.errNoGroup()
	}
	return readDocumentText(document)
}

var managedPolicyKind = kind{
	properties: map[string]form{
		"Description": textForm, "Groups": listForm, "ManagedPolicyName": textForm, "Path": textForm,
		"PolicyDocument": documentForm, "Roles": listForm, "Users": listForm,
	},
	required: []string{"PolicyDocument"}, replaced: []string{"Description", "ManagedPolicyName", "Path"}, named: "ManagedPolicyName",
	attributes: []string{"AttachmentCount", "CreateDate", "DefaultVersionId", "IsAttachable", "PermissionsBoundaryUsageCount", "PolicyArn", "PolicyId", "UpdateDate"},
	iam:        true, handler: managedPolicy{},
}

// managedPolicy is AWS::IAM::ManagedPolicy. Ref gives its ARN.
type managedPolicy struct{}

const maxVersions = 5

func (managedPolicy) create(ctx context.Context, r *request) (Physical, error) {
	c := r.cloud.IAM(r.caller)
	document, err := documentText(r.properties["PolicyDocument"])
	if err != nil {
		return Physical{}, err
	}
	made, err := c.CreatePolicy(ctx, &iam.CreatePolicyInput{
		PolicyName: aws.String(r.name("ManagedPolicyName", 128)), PolicyDocument: &document,
		Path: text(r.properties, "Path"), Description: text(r.properties, "Description"),
	})
	if r.ours(err) {
		made, err = r.findPolicy(ctx, c)
	}
	if err != nil {
		return Physical{}, err
	}
	p := physicalPolicy(made.Policy)
	for _, one := range targets(r.properties) {
		if err := one.attach(ctx, c, p.ID); err != nil {
			return p, err
		}
	}
	p.Attributes["AttachmentCount"] = strconv.Itoa(len(targets(r.properties)))
	_, err = c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &p.ID}) // as a role is looked at
	return p, gone(err)
}

// findPolicy finds the policy that has the name, as if it was made just now.
func (r *request) findPolicy(ctx context.Context, c *iam.Client) (*iam.CreatePolicyOutput, error) {
	path := aws.ToString(text(r.properties, "Path"))
	if path == "" {
		path = "/"
	}
	arn := "arn:" + r.env.Partition + ":iam::" + r.env.Account + ":policy" + path + r.name("ManagedPolicyName", 128)
	there, err := c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		return nil, err
	}
	return &iam.CreatePolicyOutput{Policy: there.Policy}, nil
}

func physicalPolicy(p *types.Policy) Physical {
	return Physical{ID: *p.Arn, Attributes: map[string]string{
		"AttachmentCount": strconv.Itoa(int(aws.ToInt32(p.AttachmentCount))), "CreateDate": p.CreateDate.Format(time.RFC3339), "DefaultVersionId": *p.DefaultVersionId,
		"IsAttachable": "true", "PermissionsBoundaryUsageCount": strconv.Itoa(int(aws.ToInt32(p.PermissionsBoundaryUsageCount))),
		"PolicyArn": *p.Arn, "PolicyId": *p.PolicyId, "UpdateDate": p.UpdateDate.Format(time.RFC3339),
	}}
}

func (managedPolicy) update(ctx context.Context, r *request) (Physical, error) {
	c, arn := r.cloud.IAM(r.caller), r.physical.ID
	if r.differs("PolicyDocument") {
		if err := newVersion(ctx, c, r); err != nil {
			return r.physical, err
		}
	}
	before, after := targets(r.previous), targets(r.properties)
	for _, one := range after {
		if !slices.Contains(before, one) {
			if err := one.attach(ctx, c, arn); err != nil {
				return r.physical, err
			}
		}
	}
	for _, one := range before {
		if !slices.Contains(after, one) {
			if err := gone(one.detach(ctx, c, arn)); err != nil {
				return r.physical, err
			}
		}
	}
	out, err := c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		return r.physical, err
	}
	return physicalPolicy(out.Policy), nil
}

// newVersion makes the document the policy's default version. Where there is no
// room, the oldest version that is not in force goes.
func newVersion(ctx context.Context, c *iam.Client, r *request) error {
	document, err := documentText(r.properties["PolicyDocument"])
	if err != nil {
		return err
	}
	versions, err := others(ctx, c, r.physical.ID)
	if err != nil {
		return err
	}
	if len(versions) >= maxVersions-1 {
		oldest := versions[len(versions)-1]
		if _, err := c.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: &r.physical.ID, VersionId: oldest.VersionId}); err != nil {
			return err
		}
	}
	_, err = c.CreatePolicyVersion(ctx, &iam.CreatePolicyVersionInput{PolicyArn: &r.physical.ID, PolicyDocument: &document, SetAsDefault: true})
	return err
}

// others are the versions that are not in force, the newest first.
func others(ctx context.Context, c *iam.Client, arn string) ([]types.PolicyVersion, error) {
	out, err := c.ListPolicyVersions(ctx, &iam.ListPolicyVersionsInput{PolicyArn: &arn}) // five at most
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(out.Versions, func(v types.PolicyVersion) bool { return v.IsDefaultVersion }), nil
}

// delete fails where others have attached the policy.
func (managedPolicy) delete(ctx context.Context, r *request) error {
	c, arn := r.cloud.IAM(r.caller), r.physical.ID
	for _, one := range targets(r.properties) {
		if err := gone(one.detach(ctx, c, arn)); err != nil {
			return err
		}
	}
	versions, err := others(ctx, c, arn)
	if err != nil {
		return gone(err)
	}
	for _, one := range versions {
		if _, err := c.DeletePolicyVersion(ctx, &iam.DeletePolicyVersionInput{PolicyArn: &arn, VersionId: one.VersionId}); gone(err) != nil {
			return err
		}
	}
	_, err = c.DeletePolicy(ctx, &iam.DeletePolicyInput{PolicyArn: &arn})
	return gone(err)
}

func (managedPolicy) read(ctx context.Context, r *request) (map[string]any, error) {
	c, arn := r.cloud.IAM(r.caller), r.physical.ID
	out, err := c.GetPolicy(ctx, &iam.GetPolicyInput{PolicyArn: &arn})
	if err != nil {
		return nil, err
	}
	version, err := c.GetPolicyVersion(ctx, &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: out.Policy.DefaultVersionId})
	if err != nil {
		return nil, err
	}
	document, err := readDocumentText(version.PolicyVersion.Document)
	if err != nil {
		return nil, err
	}
	actual := map[string]any{"ManagedPolicyName": *out.Policy.PolicyName, "Path": *out.Policy.Path, "PolicyDocument": document}
	if out.Policy.Description != nil {
		actual["Description"] = *out.Policy.Description
	}
	var roles, users []string
	pages := iam.NewListEntitiesForPolicyPaginator(c, &iam.ListEntitiesForPolicyInput{PolicyArn: &arn, PolicyUsageFilter: types.PolicyUsageTypePermissionsPolicy})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, one := range page.PolicyRoles {
			roles = append(roles, *one.RoleName)
		}
		for _, one := range page.PolicyUsers {
			users = append(users, *one.UserName)
		}
	}
	actual["Roles"], actual["Users"] = asList(roles), asList(users)
	return actual, nil
}

var policyKind = kind{
	properties: map[string]form{"Groups": listForm, "PolicyDocument": documentForm, "PolicyName": textForm, "Roles": listForm, "Users": listForm},
	required:   []string{"PolicyDocument", "PolicyName"}, attributes: []string{"Id"}, iam: true, legacy: true, handler: policy{},
}

// policy is AWS::IAM::Policy, which is inline. Ref gives a generated name.
type policy struct{}

func (policy) create(ctx context.Context, r *request) (Physical, error) {
	document, err := documentText(r.properties["PolicyDocument"])
	if err != nil {
		return Physical{}, err
	}
	all := targets(r.properties)
	if len(all) == 0 {
		return Physical{}, &StatusReason{Text: "At least one of [Groups,Roles,Users] must be non-empty."}
	}
	id := r.generatedName(128)
	made := Physical{ID: id, Attributes: map[string]string{"Id": id}}
	c := r.cloud.IAM(r.caller)
	for i, one := range all {
		if err := one.put(ctx, c, *text(r.properties, "PolicyName"), document); err != nil {
			if i == 0 {
				made = Physical{}
			}
			return made, err
		}
	}
	return made, nil
}

func (policy) update(ctx context.Context, r *request) (Physical, error) {
	document, err := documentText(r.properties["PolicyDocument"])
	if err != nil {
		return r.physical, err
	}
	c := r.cloud.IAM(r.caller)
	before, after := targets(r.previous), targets(r.properties)
	for _, one := range after {
		if err := one.put(ctx, c, *text(r.properties, "PolicyName"), document); err != nil {
			return r.physical, err
		}
	}
	for _, one := range before {
		if r.differs("PolicyName") || !slices.Contains(after, one) {
			if err := gone(one.drop(ctx, c, *text(r.previous, "PolicyName"))); err != nil {
				return r.physical, err
			}
		}
	}
	return r.physical, nil
}

func (policy) delete(ctx context.Context, r *request) error {
	c := r.cloud.IAM(r.caller)
	for _, one := range targets(r.properties) {
		if err := gone(one.drop(ctx, c, *text(r.properties, "PolicyName"))); err != nil {
			return err
		}
	}
	return nil
}

// read finds whom the policy is with. Where one of them has another document,
// that is the one it tells.
func (policy) read(ctx context.Context, r *request) (map[string]any, error) {
	c := r.cloud.IAM(r.caller)
	found := map[string][]any{}
	var document any
	for _, one := range targets(r.properties) {
		its, err := one.get(ctx, c, *text(r.properties, "PolicyName"))
		if isGone(err) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if document == nil || same(document, opened(r.properties["PolicyDocument"])) {
			document = its
		}
		found[one.property] = append(found[one.property], one.name)
	}
	if document == nil {
		return nil, errGone
	}
	actual := map[string]any{"PolicyName": *text(r.properties, "PolicyName"), "PolicyDocument": document}
	for property, names := range found {
		actual[property] = names
	}
	return actual, nil
}

var rolePolicyKind = kind{
	properties: map[string]form{"PolicyDocument": documentForm, "PolicyName": textForm, "RoleName": textForm},
	required:   []string{"PolicyName", "RoleName"}, replaced: []string{"PolicyName", "RoleName"}, attributes: []string{}, iam: true, handler: rolePolicy{},
}

// rolePolicy is AWS::IAM::RolePolicy: one policy in one role.
type rolePolicy struct{}

func (rolePolicy) create(ctx context.Context, r *request) (Physical, error) {
	document, err := documentText(r.properties["PolicyDocument"])
	if err != nil {
		return Physical{}, err
	}
	policy, role := *text(r.properties, "PolicyName"), *text(r.properties, "RoleName")
	if err := (target{"Roles", role}).put(ctx, r.cloud.IAM(r.caller), policy, document); err != nil {
		return Physical{}, err
	}
	return Physical{ID: policy + "|" + role}, nil
}

func (h rolePolicy) update(ctx context.Context, r *request) (Physical, error) {
	_, err := h.create(ctx, r)
	return r.physical, err
}

func (rolePolicy) delete(ctx context.Context, r *request) error {
	return gone(target{"Roles", *text(r.properties, "RoleName")}.drop(ctx, r.cloud.IAM(r.caller), *text(r.properties, "PolicyName")))
}

func (rolePolicy) read(ctx context.Context, r *request) (map[string]any, error) {
	policy, role := *text(r.properties, "PolicyName"), *text(r.properties, "RoleName")
	document, err := target{"Roles", role}.get(ctx, r.cloud.IAM(r.caller), policy)
	if err != nil {
		return nil, err
	}
	return map[string]any{"PolicyName": policy, "RoleName": role, "PolicyDocument": document}, nil
}
