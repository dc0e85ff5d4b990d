package endpoint

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

func (m *maker) logGroupName() string { return m.Vendor.ProxyLogGroup + m.Plane.Name }

func (m *maker) logGroupTitle() string { return "log group " + m.logGroupName() }

// logGroup has a line for each connection, and never what is in it. It is kept as long
// as the cluster's own logs.
func (m *maker) logGroup() *resource.Resource {
	name := m.logGroupName()
	days := m.Spec.Cluster.LogDays
	return &resource.Resource{
		Plane: m.Plane, Title: m.logGroupTitle(), Component: component, LogicalID: "logs",
		About: step.Description{
			Service: "logs", Creates: []string{"logs:CreateLogGroup", "logs:PutRetentionPolicy"}, Updates: []string{"logs:PutRetentionPolicy"}, Removes: []string{"logs:DeleteLogGroup"},
			Cost: "0.50 USD a GB written, 0.03 USD a GB and month kept", ToMake: 2 * time.Second, ToRemove: time.Second,
		},
		Purpose: []string{"a line for each connection, kept for " + strconv.Itoa(days) + " days"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := m.AWS.Logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &name})
			if err != nil {
				return nil, err
			}
			for _, g := range out.LogGroups {
				if aws.ToString(g.LogGroupName) != name {
					continue
				}
				tags, err := m.AWS.Logs.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: aws.String(m.ARN("logs", "log-group:"+name))})
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
				s.Differ = resource.Differ("retention", strconv.Itoa(days)+" days", have, func(ctx context.Context) error {
					_, err := m.AWS.Logs.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: &name, RetentionInDays: aws.Int32(int32(days))})
					return err
				})
				return s, nil
			}
			return nil, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			_, err := m.AWS.Logs.CreateLogGroup(ctx, &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &name, Tags: tags})
			return err
		},
		Delete: func(ctx context.Context, _ *resource.State) error {
			_, err := m.AWS.Logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: &name})
			return err
		},
	}
}
