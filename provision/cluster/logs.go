package cluster

import (
	"context"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// logGroupName is where EKS writes the cluster's own logs; the name is EKS's.
func (c *cluster) logGroupName() string { return "/aws/eks/" + c.ClusterName() + "/cluster" }

func (c *cluster) logGroupTitle() string { return "log group " + c.logGroupName() }

func (c *cluster) logGroup() *resource.Resource {
	name := c.logGroupName()
	arn := c.ARN("logs", "log-group:"+name)
	return &resource.Resource{
		Plane: c.Plane, Title: c.logGroupTitle(), Requires: []string{KeyTitle}, Component: component, LogicalID: "cluster-logs",
		About: step.Description{
			Service: "logs",
			Creates: []string{"logs:CreateLogGroup", "logs:PutRetentionPolicy"}, Updates: []string{"logs:PutRetentionPolicy", "logs:AssociateKmsKey", "logs:TagResource"},
			Removes: []string{"logs:DeleteLogGroup"},
			Cost:    "0.50 USD a GB written, 0.03 USD a GB and month kept", ToMake: 2 * time.Second, ToRemove: time.Second,
		},
		Purpose: []string{"the cluster's own logs, kept for " + strconv.Itoa(c.Spec.Cluster.LogDays) + " days"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := c.AWS.Logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &name})
			if err != nil {
				return nil, err
			}
			for _, g := range out.LogGroups {
				if aws.ToString(g.LogGroupName) != name {
					continue
				}
				tags, err := c.AWS.Logs.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: &arn})
				if fault.Gone(err) {
					return nil, nil
				}
				if err != nil {
					return nil, err
				}
				s := &resource.State{Tags: tags.Tags}
				if goal == step.Absent {
					return s, nil
				}
				have := ""
				if g.RetentionInDays != nil {
					have = strconv.Itoa(int(*g.RetentionInDays)) + " days"
				}
				s.Differ = append(s.Differ, resource.Differ("retention", strconv.Itoa(c.Spec.Cluster.LogDays)+" days", have, func(ctx context.Context) error {
					_, err := c.AWS.Logs.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: &name, RetentionInDays: aws.Int32(int32(c.Spec.Cluster.LogDays))})
					return err
				})...)
				if key := c.One(plane.EncryptionKey); key != "" {
					s.Differ = append(s.Differ, resource.Differ("encryption key", key, aws.ToString(g.KmsKeyId), func(ctx context.Context) error {
						_, err := c.AWS.Logs.AssociateKmsKey(ctx, &cloudwatchlogs.AssociateKmsKeyInput{LogGroupName: &name, KmsKeyId: &key})
						return err
					})...)
				}
				return s, nil
			}
			return nil, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			_, err := c.AWS.Logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name, KmsKeyId: aws.String(c.One(plane.EncryptionKey)), Tags: tags})
			return err
		},
		Tag: func(ctx context.Context, tags map[string]string) error {
			_, err := c.AWS.Logs.TagResource(ctx, &cloudwatchlogs.TagResourceInput{ResourceArn: &arn, Tags: tags})
			return err
		},
		Delete: func(ctx context.Context, _ *resource.State) error {
			_, err := c.AWS.Logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: &name})
			return err
		},
	}
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// sameJSON compares documents by what they say.
func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && reflect.DeepEqual(x, y)
}
