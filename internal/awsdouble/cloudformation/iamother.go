package cloudformation

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
)

var instanceProfileKind = kind{
	properties: map[string]form{"InstanceProfileName": textForm, "Path": textForm, "Roles": listForm},
	required:   []string{"Roles"}, replaced: []string{"InstanceProfileName", "Path"}, named: "InstanceProfileName",
	attributes: []string{"Arn"}, iam: true, handler: instanceProfile{},
}

// instanceProfile is AWS::IAM::InstanceProfile. Ref gives its name.
type instanceProfile struct{}

func (instanceProfile) create(ctx context.Context, r *request) (Physical, error) {
	c, name := r.cloud.IAM(r.caller), r.name("InstanceProfileName", 128)
	made, err := c.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: &name, Path: text(r.properties, "Path")})
	if r.ours(err) {
		var there *iam.GetInstanceProfileOutput
		if there, err = c.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &name}); err == nil {
			made = &iam.CreateInstanceProfileOutput{InstanceProfile: there.InstanceProfile}
		}
	}
	if err != nil {
		return Physical{}, err
	}
	p := Physical{ID: name, Attributes: map[string]string{"Arn": *made.InstanceProfile.Arn}}
	for _, role := range texts(r.properties, "Roles") {
		if r.again && len(made.InstanceProfile.Roles) > 0 {
			break // it has its one role
		}
		if _, err := c.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: &name, RoleName: &role}); err != nil {
			return p, err
		}
	}
	return p, nil
}

func (instanceProfile) update(ctx context.Context, r *request) (Physical, error) {
	c, name := r.cloud.IAM(r.caller), &r.physical.ID
	before, after := texts(r.previous, "Roles"), texts(r.properties, "Roles")
	for _, role := range before {
		if !slices.Contains(after, role) {
			_, err := c.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: name, RoleName: &role})
			if gone(err) != nil {
				return r.physical, err
			}
		}
	}
	for _, role := range after {
		if !slices.Contains(before, role) {
			if _, err := c.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: name, RoleName: &role}); err != nil {
				return r.physical, err
			}
		}
	}
	return r.physical, nil
}

func (instanceProfile) delete(ctx context.Context, r *request) error {
	c, name := r.cloud.IAM(r.caller), &r.physical.ID
	for _, role := range texts(r.properties, "Roles") {
		_, err := c.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: name, RoleName: &role})
		if gone(err) != nil {
			return err
		}
	}
	_, err := c.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: name})
	return gone(err)
}

func (instanceProfile) read(ctx context.Context, r *request) (map[string]any, error) {
	out, err := r.cloud.IAM(r.caller).GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &r.physical.ID})
	if err != nil {
		return nil, err
	}
	var roles []string
	for _, one := range out.InstanceProfile.Roles {
		roles = append(roles, *one.RoleName)
	}
	return map[string]any{"InstanceProfileName": r.physical.ID, "Path": *out.InstanceProfile.Path, "Roles": asList(roles)}, nil
}

var serviceLinkedRoleKind = kind{
	properties: map[string]form{"AWSServiceName": textForm, "CustomSuffix": textForm, "Description": textForm},
	required:   []string{"AWSServiceName"}, replaced: []string{"AWSServiceName", "CustomSuffix"}, attributes: []string{"RoleName"}, handler: serviceLinkedRole{},
}

// serviceLinkedRole is AWS::IAM::ServiceLinkedRole. Ref gives its name.
type serviceLinkedRole struct{}

func (serviceLinkedRole) create(ctx context.Context, r *request) (Physical, error) {
	made, err := r.cloud.IAM(r.caller).CreateServiceLinkedRole(ctx, &iam.CreateServiceLinkedRoleInput{
		AWSServiceName: text(r.properties, "AWSServiceName"), CustomSuffix: text(r.properties, "CustomSuffix"), Description: text(r.properties, "Description"),
	})
	if err != nil {
		return Physical{}, err
	}
	return Physical{ID: *made.Role.RoleName, Attributes: map[string]string{"RoleName": *made.Role.RoleName}}, nil
}

func (serviceLinkedRole) update(ctx context.Context, r *request) (Physical, error) {
	in := &iam.UpdateRoleInput{RoleName: &r.physical.ID, Description: text(r.properties, "Description")}
	if in.Description == nil {
		in.Description = aws.String("")
	}
	_, err := r.cloud.IAM(r.caller).UpdateRole(ctx, in)
	return r.physical, err
}

func (serviceLinkedRole) delete(ctx context.Context, r *request) error {
	_, err := r.cloud.IAM(r.caller).DeleteServiceLinkedRole(ctx, &iam.DeleteServiceLinkedRoleInput{RoleName: &r.physical.ID})
	return gone(err)
}

func (serviceLinkedRole) read(context.Context, *request) (map[string]any, error) {
	return nil, errNoDrift
}

var oidcProviderKind = kind{
	properties: map[string]form{"ClientIdList": listForm, "Tags": listForm, "ThumbprintList": listForm, "Url": textForm},
	replaced:   []string{"Url"}, named: "Url", attributes: []string{"Arn"}, tagged: true, handler: oidcProvider{},
}

// oidcProvider is AWS::IAM::OIDCProvider. Ref gives its ARN.
type oidcProvider struct{}

func (oidcProvider) create(ctx context.Context, r *request) (Physical, error) {
	made, err := r.cloud.IAM(r.caller).CreateOpenIDConnectProvider(ctx, &iam.CreateOpenIDConnectProviderInput{
		Url: aws.String(aws.ToString(text(r.properties, "Url"))), ClientIDList: texts(r.properties, "ClientIdList"), ThumbprintList: texts(r.properties, "ThumbprintList"), Tags: tagsOf(r.properties),
	})
	if err != nil {
		return Physical{}, err
	}
	arn := *made.OpenIDConnectProviderArn
	return Physical{ID: arn, Attributes: map[string]string{"Arn": arn}}, nil
}

func (oidcProvider) update(ctx context.Context, r *request) (Physical, error) {
	c, arn := r.cloud.IAM(r.caller), &r.physical.ID
	if r.differs("ThumbprintList") {
		in := &iam.UpdateOpenIDConnectProviderThumbprintInput{OpenIDConnectProviderArn: arn, ThumbprintList: append([]string{}, texts(r.properties, "ThumbprintList")...)}
		if _, err := c.UpdateOpenIDConnectProviderThumbprint(ctx, in); err != nil {
			return r.physical, err
		}
	}
	before, after := texts(r.previous, "ClientIdList"), texts(r.properties, "ClientIdList")
	for _, id := range after {
		if !slices.Contains(before, id) {
			if _, err := c.AddClientIDToOpenIDConnectProvider(ctx, &iam.AddClientIDToOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, ClientID: &id}); err != nil {
				return r.physical, err
			}
		}
	}
	for _, id := range before {
		if !slices.Contains(after, id) {
			if _, err := c.RemoveClientIDFromOpenIDConnectProvider(ctx, &iam.RemoveClientIDFromOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, ClientID: &id}); err != nil {
				return r.physical, err
			}
		}
	}
	removed, added := tagChanges(r)
	if removed != nil {
		if _, err := c.UntagOpenIDConnectProvider(ctx, &iam.UntagOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, TagKeys: removed}); err != nil {
			return r.physical, err
		}
	}
	if added != nil {
		if _, err := c.TagOpenIDConnectProvider(ctx, &iam.TagOpenIDConnectProviderInput{OpenIDConnectProviderArn: arn, Tags: added}); err != nil {
			return r.physical, err
		}
	}
	return r.physical, nil
}

func (oidcProvider) delete(ctx context.Context, r *request) error {
	_, err := r.cloud.IAM(r.caller).DeleteOpenIDConnectProvider(ctx, &iam.DeleteOpenIDConnectProviderInput{OpenIDConnectProviderArn: &r.physical.ID})
	return gone(err)
}

func (oidcProvider) read(ctx context.Context, r *request) (map[string]any, error) {
	out, err := r.cloud.IAM(r.caller).GetOpenIDConnectProvider(ctx, &iam.GetOpenIDConnectProviderInput{OpenIDConnectProviderArn: &r.physical.ID})
	if err != nil {
		return nil, err
	}
	return map[string]any{
		"Url": "https://" + *out.Url, "ClientIdList": asList(out.ClientIDList), "ThumbprintList": asList(out.ThumbprintList), "Tags": tagList(out.Tags),
	}, nil
}

var waitHandleKind = kind{properties: map[string]form{}, attributes: []string{}, handler: waitHandle{}}

// waitHandle is AWS::CloudFormation::WaitConditionHandle, which is an address
// and nothing else: a resource for templates that need none.
type waitHandle struct{}

func (waitHandle) create(_ context.Context, r *request) (Physical, error) {
	return Physical{ID: "https://cloudformation-waitcondition." + r.env.URLSuffix + "/" + r.generatedName(128)}, nil
}
func (waitHandle) update(_ context.Context, r *request) (Physical, error) { return r.physical, nil }
func (waitHandle) delete(context.Context, *request) error                 { return nil }
func (waitHandle) read(context.Context, *request) (map[string]any, error) { return nil, errNoDrift }
