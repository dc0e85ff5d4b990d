package access

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/vendor"
)

// IAM is what grant, update, check and revoke ask of IAM, and nothing more: an
// administrator who wants to write a policy for them finds it here.
// *iam.Client is one.
type IAM interface {
	GetAccountSummary(context.Context, *iam.GetAccountSummaryInput, ...func(*iam.Options)) (*iam.GetAccountSummaryOutput, error)

	GetRole(context.Context, *iam.GetRoleInput, ...func(*iam.Options)) (*iam.GetRoleOutput, error)
	ListRoles(context.Context, *iam.ListRolesInput, ...func(*iam.Options)) (*iam.ListRolesOutput, error)
	CreateRole(context.Context, *iam.CreateRoleInput, ...func(*iam.Options)) (*iam.CreateRoleOutput, error)
	TagRole(context.Context, *iam.TagRoleInput, ...func(*iam.Options)) (*iam.TagRoleOutput, error)
	UntagRole(context.Context, *iam.UntagRoleInput, ...func(*iam.Options)) (*iam.UntagRoleOutput, error)
	UpdateRole(context.Context, *iam.UpdateRoleInput, ...func(*iam.Options)) (*iam.UpdateRoleOutput, error)
	UpdateAssumeRolePolicy(context.Context, *iam.UpdateAssumeRolePolicyInput, ...func(*iam.Options)) (*iam.UpdateAssumeRolePolicyOutput, error)
	PutRolePermissionsBoundary(context.Context, *iam.PutRolePermissionsBoundaryInput, ...func(*iam.Options)) (*iam.PutRolePermissionsBoundaryOutput, error)
	DeleteRolePermissionsBoundary(context.Context, *iam.DeleteRolePermissionsBoundaryInput, ...func(*iam.Options)) (*iam.DeleteRolePermissionsBoundaryOutput, error)
	DeleteRole(context.Context, *iam.DeleteRoleInput, ...func(*iam.Options)) (*iam.DeleteRoleOutput, error)

	ListRolePolicies(context.Context, *iam.ListRolePoliciesInput, ...func(*iam.Options)) (*iam.ListRolePoliciesOutput, error)
	GetRolePolicy(context.Context, *iam.GetRolePolicyInput, ...func(*iam.Options)) (*iam.GetRolePolicyOutput, error)
	PutRolePolicy(context.Context, *iam.PutRolePolicyInput, ...func(*iam.Options)) (*iam.PutRolePolicyOutput, error)
	DeleteRolePolicy(context.Context, *iam.DeleteRolePolicyInput, ...func(*iam.Options)) (*iam.DeleteRolePolicyOutput, error)

	ListAttachedRolePolicies(context.Context, *iam.ListAttachedRolePoliciesInput, ...func(*iam.Options)) (*iam.ListAttachedRolePoliciesOutput, error)
	AttachRolePolicy(context.Context, *iam.AttachRolePolicyInput, ...func(*iam.Options)) (*iam.AttachRolePolicyOutput, error)
	DetachRolePolicy(context.Context, *iam.DetachRolePolicyInput, ...func(*iam.Options)) (*iam.DetachRolePolicyOutput, error)

	ListInstanceProfilesForRole(context.Context, *iam.ListInstanceProfilesForRoleInput, ...func(*iam.Options)) (*iam.ListInstanceProfilesForRoleOutput, error)
	RemoveRoleFromInstanceProfile(context.Context, *iam.RemoveRoleFromInstanceProfileInput, ...func(*iam.Options)) (*iam.RemoveRoleFromInstanceProfileOutput, error)

	GetPolicy(context.Context, *iam.GetPolicyInput, ...func(*iam.Options)) (*iam.GetPolicyOutput, error)
	GetPolicyVersion(context.Context, *iam.GetPolicyVersionInput, ...func(*iam.Options)) (*iam.GetPolicyVersionOutput, error)
	ListPolicies(context.Context, *iam.ListPoliciesInput, ...func(*iam.Options)) (*iam.ListPoliciesOutput, error)
	ListPolicyVersions(context.Context, *iam.ListPolicyVersionsInput, ...func(*iam.Options)) (*iam.ListPolicyVersionsOutput, error)
	ListEntitiesForPolicy(context.Context, *iam.ListEntitiesForPolicyInput, ...func(*iam.Options)) (*iam.ListEntitiesForPolicyOutput, error)
	CreatePolicy(context.Context, *iam.CreatePolicyInput, ...func(*iam.Options)) (*iam.CreatePolicyOutput, error)
	TagPolicy(context.Context, *iam.TagPolicyInput, ...func(*iam.Options)) (*iam.TagPolicyOutput, error)
	UntagPolicy(context.Context, *iam.UntagPolicyInput, ...func(*iam.Options)) (*iam.UntagPolicyOutput, error)
	CreatePolicyVersion(context.Context, *iam.CreatePolicyVersionInput, ...func(*iam.Options)) (*iam.CreatePolicyVersionOutput, error)
	SetDefaultPolicyVersion(context.Context, *iam.SetDefaultPolicyVersionInput, ...func(*iam.Options)) (*iam.SetDefaultPolicyVersionOutput, error)
	DeletePolicyVersion(context.Context, *iam.DeletePolicyVersionInput, ...func(*iam.Options)) (*iam.DeletePolicyVersionOutput, error)
	DeletePolicy(context.Context, *iam.DeletePolicyInput, ...func(*iam.Options)) (*iam.DeletePolicyOutput, error)

	SimulatePrincipalPolicy(context.Context, *iam.SimulatePrincipalPolicyInput, ...func(*iam.Options)) (*iam.SimulatePrincipalPolicyOutput, error)
}

// place is one customer account, and how things in it are named and marked.
type place struct {
	iam       IAM
	partition string
	account   string
	vendor    *vendor.Profile
}

func (p place) policyARN(path, name string) string {
	return "arn:" + p.partition + ":iam::" + p.account + ":policy" + path + name
}

func (p place) roleARN(path, name string) string {
	return "arn:" + p.partition + ":iam::" + p.account + ":role" + path + name
}

// RoleARN is the ARN of a role of the set.
func (s *Set) RoleARN(r Role) string {
	return place{partition: s.Partition, account: s.Account}.roleARN(r.Path, r.Name)
}

// The tags on everything that grant makes, beside vendor.Profile.ManagedByKey.
const (
	componentTag   = "component" // what part of Biplane made it
	componentValue = "access"
	profileTag     = "profile"
	regionTag      = "region"
	versionTag     = "policy-version" // PolicyVersion, on roles
	StackTag       = "stack"          // the stack that made a role; only on those
)

// Tags are the tags on everything that grant makes, and on the roles also the version
// of the documents.
func (s *Set) Tags(v *vendor.Profile) map[string]string {
	tags := map[string]string{}
	for _, t := range (place{vendor: v}).roleTags(s) {
		tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return tags
}

// roleTags marks a role: as everything, and with the version of the documents.
func (p place) roleTags(set *Set) []types.Tag {
	key := p.vendor.TagPrefix + versionTag
	return append(p.tags(set), types.Tag{Key: &key, Value: aws.String(PolicyVersion)})
}

// policyTags marks a policy: as everything, and with its document's digest.
func (p place) policyTags(set *Set, policy Policy) []types.Tag {
	return append(p.tags(set), p.digestTag(digest(policy.Document)))
}

// tags marks what a set consists of. They go into the create call itself, so
// that a thing is never there without its owner's name on it.
func (p place) tags(set *Set) []types.Tag {
	tag := func(key, value string) types.Tag { return types.Tag{Key: &key, Value: &value} }
	return []types.Tag{
		tag(p.vendor.ManagedByKey(), vendor.ManagedByValue),
		tag(p.vendor.TagPrefix+componentTag, componentValue),
		tag(p.vendor.TagPrefix+profileTag, string(set.Profile)),
		tag(p.vendor.TagPrefix+regionTag, set.Region),
	}
}

// ours reports whether grant made, or adopted, what carries these tags. What
// the vendor makes later has the same manager, but another component.
func (p place) ours(tags []types.Tag) bool {
	return tagValue(tags, p.vendor.ManagedByKey()) == vendor.ManagedByValue &&
		tagValue(tags, p.vendor.TagPrefix+componentTag) == componentValue
}

func tagValue(tags []types.Tag, key string) string {
	for _, t := range tags {
		if aws.ToString(t.Key) == key {
			return aws.ToString(t.Value)
		}
	}
	return ""
}

// missingTags returns those of want that are not among have, or differ there.
func missingTags(have, want []types.Tag) []types.Tag {
	return slices.DeleteFunc(slices.Clone(want), func(t types.Tag) bool {
		return slices.ContainsFunc(have, func(h types.Tag) bool {
			return aws.ToString(h.Key) == aws.ToString(t.Key) && aws.ToString(h.Value) == aws.ToString(t.Value)
		})
	})
}

func tagText(tags []types.Tag) string {
	var parts []string
	for _, t := range tags {
		parts = append(parts, aws.ToString(t.Key)+"="+aws.ToString(t.Value))
	}
	return strings.Join(parts, ", ")
}

// plain decodes a document as IAM returns it, percent-encoded (RFC 3986).
func plain(document *string) ([]byte, error) {
	text, err := url.PathUnescape(aws.ToString(document))
	if err != nil {
		return nil, fmt.Errorf("decoding a policy document from IAM: %w", err)
	}
	return []byte(text), nil
}
