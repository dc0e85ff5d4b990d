package resource

import (
	"context"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// LogGroup is a log group of CloudWatch Logs.
type LogGroup struct {
	Name                 string
	Component, LogicalID string
	Holds                string // what is in it, for a plan: "the cluster's own logs"
	Days                 int    // how long a line is kept
	Requires             []string
	// Encrypted by the data plane's key, once that is there; else by CloudWatch's own.
	Encrypted bool
	// Retag lets missing tags be written later, for which the grants need a right.
	Retag    bool
	Cost     string
	Patience time.Duration
}

// LogGroupTitle is the name of the step of a log group.
func LogGroupTitle(name string) string { return "log group " + name }

// LogGroupStep is the step that keeps a log group.
func LogGroupStep(p *plane.Plane, g LogGroup) *Resource {
	arn := p.ARN("logs", "log-group:"+g.Name)
	days := strconv.Itoa(g.Days) + " days"
	updates := []string{"logs:PutRetentionPolicy"}
	if g.Encrypted {
		updates = append(updates, "logs:AssociateKmsKey")
	}
	if g.Retag {
		updates = append(updates, "logs:TagResource")
	}
	r := &Resource{
		Plane: p, Title: LogGroupTitle(g.Name), Requires: g.Requires, Component: g.Component, LogicalID: g.LogicalID,
		About: step.Description{
			Service: "logs", Creates: []string{"logs:CreateLogGroup", "logs:PutRetentionPolicy"}, Updates: updates, Removes: []string{"logs:DeleteLogGroup"},
			Cost: g.Cost, ToMake: 2 * time.Second, ToRemove: time.Second, Patience: g.Patience,
		},
		Purpose: []string{g.Holds + ", kept for " + days},
		Find: func(ctx context.Context, goal step.Goal) (*State, error) {
			out, err := p.AWS.Logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &g.Name})
			if err != nil {
				return nil, err
			}
			for _, found := range out.LogGroups {
				if aws.ToString(found.LogGroupName) != g.Name {
					continue
				}
				tags, err := p.AWS.Logs.ListTagsForResource(ctx, &cloudwatchlogs.ListTagsForResourceInput{ResourceArn: &arn})
				if fault.Gone(err) {
					return nil, nil
				}
				if err != nil {
					return nil, err
				}
				s := &State{Tags: tags.Tags}
				if goal == step.Absent {
					return s, nil
				}
				have := ""
				if found.RetentionInDays != nil {
					have = strconv.Itoa(int(*found.RetentionInDays)) + " days"
				}
				s.Differ = append(s.Differ, Differ("retention", days, have, func(ctx context.Context) error {
					_, err := p.AWS.Logs.PutRetentionPolicy(ctx, &cloudwatchlogs.PutRetentionPolicyInput{LogGroupName: &g.Name, RetentionInDays: aws.Int32(int32(g.Days))})
					return err
				})...)
				if key := p.One(plane.EncryptionKey); g.Encrypted && key != "" {
					s.Differ = append(s.Differ, Differ("encryption key", key, aws.ToString(found.KmsKeyId), func(ctx context.Context) error {
						_, err := p.AWS.Logs.AssociateKmsKey(ctx, &cloudwatchlogs.AssociateKmsKeyInput{LogGroupName: &g.Name, KmsKeyId: &key})
						return err
					})...)
				}
				return s, nil
			}
			return nil, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			in := &cloudwatchlogs.CreateLogGroupInput{LogGroupName: &g.Name, Tags: tags}
			if g.Encrypted {
				in.KmsKeyId = aws.String(p.One(plane.EncryptionKey))
			}
			_, err := p.AWS.Logs.CreateLogGroup(ctx, in)
			return err
		},
		Delete: func(ctx context.Context, _ *State) error {
			_, err := p.AWS.Logs.DeleteLogGroup(ctx, &cloudwatchlogs.DeleteLogGroupInput{LogGroupName: &g.Name})
			return err
		},
	}
	if g.Retag {
		r.Tag = func(ctx context.Context, tags map[string]string) error {
			_, err := p.AWS.Logs.TagResource(ctx, &cloudwatchlogs.TagResourceInput{ResourceArn: &arn, Tags: tags})
			return err
		}
	}
	return r
}
