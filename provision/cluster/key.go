package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/kms"
	"github.com/aws/aws-sdk-go-v2/service/kms/types"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	tagging "github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

const (
	linkedRolesTitle = "service-linked roles"

	// KeyTitle is the name of the step of the key that encrypts everything.
	KeyTitle = "encryption key"
)

// linked are AWS's own roles that a cluster and its nodes rest on, by the service that
// asks for each. They are once in an account, and never removed.
var linked = []struct{ service, role string }{
	{"eks.amazonaws.com", "AWSServiceRoleForAmazonEKS"},
	{"eks-nodegroup.amazonaws.com", "AWSServiceRoleForAmazonEKSNodegroup"},
	{"autoscaling.amazonaws.com", "AWSServiceRoleForAutoScaling"},
	{"elasticloadbalancing.amazonaws.com", "AWSServiceRoleForElasticLoadBalancing"},
}

func (c *cluster) linkedRoles() *resource.Resource {
	services := linked
	if c.Spec.Cluster.Karpenter {
		services = append(services[:len(services):len(services)], struct{ service, role string }{"spot.amazonaws.com", "AWSServiceRoleForEC2Spot"})
	}
	return &resource.Resource{
		Plane: c.Plane, Title: linkedRolesTitle, Component: component, LogicalID: "service-linked-roles",
		About:   step.Description{Service: "iam", Creates: []string{"iam:CreateServiceLinkedRole"}, Updates: []string{"iam:CreateServiceLinkedRole"}, ToMake: 5 * time.Second},
		Purpose: []string{"AWS's own roles for EKS, node groups, scaling and load balancers, where the account has not used these yet"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			s := &resource.State{Ours: true}
			if goal == step.Absent {
				return s, nil
			}
			for _, one := range services {
				_, err := c.AWS.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &one.role})
				if err == nil || fault.Denied(err) {
					continue // who only looks at data planes may not see them
				}
				if !fault.NoSuchEntity(err) {
					return nil, err
				}
				s.Differ = append(s.Differ, resource.Difference{Field: "role for " + one.service, Want: one.role, Put: func(ctx context.Context) error {
					_, err := c.AWS.IAM.CreateServiceLinkedRole(ctx, &iam.CreateServiceLinkedRoleInput{AWSServiceName: &one.service})
					if fault.Code(err) == "InvalidInput" {
						return nil // it was made meanwhile
					}
					return err
				}})
			}
			return s, nil
		},
		Create: func(context.Context, map[string]string) error { return nil }, // it is always there; what lacks is a difference
	}
}

// alias is the key's only name, by which it is found again.
func (c *cluster) alias() string { return "alias/" + c.Prefix() }

func (c *cluster) key() *resource.Resource {
	return &resource.Resource{
		Plane: c.Plane, Title: KeyTitle, Requires: []string{linkedRolesTitle}, Component: component, LogicalID: "key",
		About: step.Description{
			Service: "kms",
			Creates: []string{"kms:CreateKey", "kms:CreateAlias", "kms:EnableKeyRotation"},
			Updates: []string{"iam:CreateServiceLinkedRole", "kms:CreateAlias", "kms:EnableKeyRotation", "kms:PutKeyPolicy"},
			Removes: []string{"kms:DeleteAlias", "kms:ScheduleKeyDeletion"},
			Monthly: 1, Cost: "1 USD a month, and 0.03 USD for 10,000 uses",
			ToMake: 3 * time.Second, ToRemove: 2 * time.Second,
		},
		Purpose: []string{"encrypts the cluster's secrets, its volumes and logs, the buckets and the images", "named " + c.alias(), "renewed every year"},
		Find:    c.findKey,
		Create: func(ctx context.Context, tags map[string]string) error {
			// Without its policy, which is put when the key is there: the right to put one is for
			// keys that carry our tag.
			made, err := c.AWS.KMS.CreateKey(ctx, &kms.CreateKeyInput{Description: aws.String("data plane " + c.Name), Tags: kmsTags(tags)})
			if err != nil || c.Spec.Access.Policy != spec.Compat {
				return err
			}
			// Without the right to look by tag it is found by its name alone.
			_, err = c.AWS.KMS.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(c.alias()), TargetKeyId: made.KeyMetadata.KeyId})
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			key := s.Value.(foundKey)
			if key.named {
				if _, err := c.AWS.KMS.DeleteAlias(ctx, &kms.DeleteAliasInput{AliasName: aws.String(c.alias())}); err != nil && !fault.Gone(err) {
					return err
				}
			}
			_, err := c.AWS.KMS.ScheduleKeyDeletion(ctx, &kms.ScheduleKeyDeletionInput{KeyId: aws.String(key.arn[strings.LastIndexByte(key.arn, '/')+1:]), PendingWindowInDays: aws.Int32(int32(c.Spec.Cluster.KeyDeletionDays))})
			return err
		},
		Stays: func() string {
			if c.DeleteData {
				return ""
			}
			return "it stays, with what it encrypts: nobody asked for data to be deleted"
		},
		Tell: func(s *resource.State) {
			if s == nil {
				c.Know(plane.EncryptionKey)
				return
			}
			c.Know(plane.EncryptionKey, s.Value.(foundKey).arn)
		},
	}
}

type foundKey struct {
	arn   string
	named bool
}

// findKey looks for the alias, and then, since a run may have ended between the key
// and its name, for a key with our tags.
func (c *cluster) findKey(ctx context.Context, goal step.Goal) (*resource.State, error) {
	found := foundKey{}
	pages := kms.NewListAliasesPaginator(c.AWS.KMS, &kms.ListAliasesInput{})
	for pages.HasMorePages() && !found.named {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Aliases {
			if aws.ToString(a.AliasName) == c.alias() && a.TargetKeyId != nil {
				found = foundKey{arn: c.ARN("kms", "key/"+*a.TargetKeyId), named: true}
			}
		}
	}
	if !found.named {
		arn, err := c.orphanedKey(ctx)
		if err != nil || arn == "" {
			return nil, err
		}
		found.arn = arn
	}
	s := &resource.State{Tags: map[string]string{}, Value: found}
	tags := kms.NewListResourceTagsPaginator(c.AWS.KMS, &kms.ListResourceTagsInput{KeyId: &found.arn})
	for tags.HasMorePages() {
		page, err := tags.NextPage(ctx)
		if fault.Denied(err) {
			return s, nil // a key that is not ours: strict may not read its tags
		}
		if err != nil {
			return nil, err
		}
		for _, t := range page.Tags {
			s.Tags[aws.ToString(t.TagKey)] = aws.ToString(t.TagValue)
		}
	}
	out, err := c.AWS.KMS.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &found.arn})
	if fault.Denied(err) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	switch state := out.KeyMetadata.KeyState; {
	case state == types.KeyStatePendingDeletion && !found.named:
		return nil, nil // it was removed; KMS keeps it for its waiting time, and a new one is made
	case state != types.KeyStateEnabled && state != "":
		s.Broken = fmt.Sprintf("it is %s", state)
		s.Remedy = fmt.Sprintf("run 'aws kms enable-key --key-id %s --region %s'", found.arn, c.Place.Region)
		if state == types.KeyStatePendingDeletion {
			s.Remedy = fmt.Sprintf("run 'aws kms cancel-key-deletion --key-id %s --region %s' and 'aws kms enable-key' with the same", found.arn, c.Place.Region)
		}
	}
	if goal == step.Absent || s.Broken != "" {
		return s, nil
	}
	if !found.named {
		s.Differ = append(s.Differ, resource.Difference{Field: "name", Want: c.alias(), Put: func(ctx context.Context) error {
			_, err := c.AWS.KMS.CreateAlias(ctx, &kms.CreateAliasInput{AliasName: aws.String(c.alias()), TargetKeyId: &found.arn})
			return err
		}})
	}
	rotation, err := c.AWS.KMS.GetKeyRotationStatus(ctx, &kms.GetKeyRotationStatusInput{KeyId: &found.arn})
	if err != nil {
		return nil, err
	}
	if !rotation.KeyRotationEnabled {
		s.Differ = append(s.Differ, resource.Difference{Field: "rotation", Want: "every year", Put: func(ctx context.Context) error {
			_, err := c.AWS.KMS.EnableKeyRotation(ctx, &kms.EnableKeyRotationInput{KeyId: &found.arn})
			return err
		}})
	}
	policy, err := c.AWS.KMS.GetKeyPolicy(ctx, &kms.GetKeyPolicyInput{KeyId: &found.arn, PolicyName: aws.String("default")})
	if err != nil {
		return nil, err
	}
	if !resource.SameJSON(aws.ToString(policy.Policy), c.keyPolicy()) {
		s.Differ = append(s.Differ, resource.Difference{Field: "key policy", Want: "for this account, its nodes and its logs", Have: "another one", Put: func(ctx context.Context) error {
			in := &kms.PutKeyPolicyInput{KeyId: &found.arn, PolicyName: aws.String("default"), Policy: aws.String(c.keyPolicy())}
			_, err := c.AWS.KMS.PutKeyPolicy(ctx, in)
			if fault.Code(err) != "MalformedPolicyDocumentException" {
				return err
			}
			// It names the role of AWS's scaling. Who may not look at a role that is not there
			// is refused, as if it were; so its absence may show here first.
			if _, err := c.AWS.IAM.CreateServiceLinkedRole(ctx, &iam.CreateServiceLinkedRoleInput{AWSServiceName: aws.String("autoscaling.amazonaws.com")}); err != nil && fault.Code(err) != "InvalidInput" {
				return err
			}
			_, err = c.AWS.KMS.PutKeyPolicy(ctx, in)
			return err
		}})
	}
	return s, nil
}

// orphanedKey is the ARN of a key that has our tags, and no name; "" when there is none.
func (c *cluster) orphanedKey(ctx context.Context) (string, error) {
	want := c.Owner.Tags(component, "key")
	var filters []tagging.TagFilter
	for _, key := range []string{c.Vendor.ManagedByKey(), c.Vendor.TagPrefix + "data-plane-id", c.Vendor.TagPrefix + "logical-id"} {
		filters = append(filters, tagging.TagFilter{Key: aws.String(key), Values: []string{want[key]}})
	}
	out, err := c.AWS.Tags.GetResources(ctx, &resourcegroupstaggingapi.GetResourcesInput{ResourceTypeFilters: []string{"kms:key"}, TagFilters: filters})
	if fault.Denied(err) && c.Spec.Access.Policy == spec.Compat {
		return "", nil // the published grants cannot look by tag: a key that a killed run left unnamed stays where it is
	}
	if err != nil {
		return "", err
	}
	for _, r := range out.ResourceTagMappingList {
		arn := aws.ToString(r.ResourceARN)
		key, err := c.AWS.KMS.DescribeKey(ctx, &kms.DescribeKeyInput{KeyId: &arn})
		if err != nil {
			return "", err
		}
		if key.KeyMetadata.KeyState != types.KeyStatePendingDeletion {
			return arn, nil
		}
	}
	return "", nil
}

// keyPolicy lets the account decide by IAM, and AWS's scaling and log services use the
// key for what they hold for us. IAM alone cannot: these are not roles of the account's.
func (c *cluster) keyPolicy() string {
	arn := func(resource string) string {
		return "arn:" + c.Place.Partition + ":iam::" + c.Place.Account + ":" + resource
	}
	uses := []string{"kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"}
	scaling := map[string]any{"AWS": arn("role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling")}
	text, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Sid": "Account", "Effect": "Allow", "Principal": map[string]any{"AWS": arn("root")}, "Action": "kms:*", "Resource": "*"},
		map[string]any{"Sid": "Volumes", "Effect": "Allow", "Principal": scaling, "Action": uses, "Resource": "*"},
		map[string]any{"Sid": "VolumeGrants", "Effect": "Allow", "Principal": scaling, "Action": "kms:CreateGrant", "Resource": "*",
			"Condition": map[string]any{"Bool": map[string]any{"kms:GrantIsForAWSResource": "true"}}},
		map[string]any{"Sid": "Logs", "Effect": "Allow", "Principal": map[string]any{"Service": "logs." + c.Place.Region + "." + c.Place.DNSSuffix}, "Action": uses, "Resource": "*",
			"Condition": map[string]any{"ArnLike": map[string]any{"kms:EncryptionContext:aws:logs:arn": c.ARN("logs", "log-group:*")}}},
	}})
	if err != nil {
		panic("cluster: a key policy of our own cannot be written: " + err.Error())
	}
	return string(text)
}

func kmsTags(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range sorted(tags) {
		list = append(list, types.Tag{TagKey: aws.String(key), TagValue: aws.String(tags[key])})
	}
	return list
}
