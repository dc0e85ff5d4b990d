package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/eventbridge"
	eventtypes "github.com/aws/aws-sdk-go-v2/service/eventbridge/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"
	sqstypes "github.com/aws/aws-sdk-go-v2/service/sqs/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// queueName is the vendor's prefix and the cluster's name, which the grants have.
func (c *cluster) queueName() string { return c.Vendor.QueuePrefix + "-" + c.ClusterName() }

func (c *cluster) queueTitle() string { return "queue " + c.queueName() }

// events are what AWS tells of nodes that it takes back (Karpenter 1.14's template).
var events = []struct{ name, source, detail string }{
	{"health", "aws.health", "AWS Health Event"},
	{"spot", "aws.ec2", "EC2 Spot Instance Interruption Warning"},
	{"rebalance", "aws.ec2", "EC2 Instance Rebalance Recommendation"},
	{"state", "aws.ec2", "EC2 Instance State-change Notification"},
	{"reservation", "aws.ec2", "EC2 Capacity Reservation Instance Interruption Warning"},
}

// karpenter is the node autoscaler's side in AWS. The autoscaler itself is a chart that
// the operator of the cluster installs.
func (c *cluster) karpenter() []*resource.Resource {
	if !c.Spec.Cluster.Karpenter {
		return nil
	}
	out := []*resource.Resource{c.queue()}
	for _, e := range events {
		out = append(out, c.rule(e.name, e.source, e.detail))
	}
	return append(out, c.autoscalerIdentity())
}

func (c *cluster) queuePolicy() string {
	name := c.queueName()
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{
		map[string]any{"Effect": "Allow", "Principal": map[string]any{"Service": []string{"events.amazonaws.com"}}, "Action": "sqs:SendMessage", "Resource": c.ARN("sqs", name),
			"Condition": map[string]any{"StringEquals": map[string]any{"aws:SourceAccount": c.Place.Account}}},
		map[string]any{"Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": c.ARN("sqs", name), "Condition": map[string]any{"Bool": map[string]any{"aws:SecureTransport": "false"}}},
	}})
	if err != nil {
		panic("cluster: a queue policy of our own cannot be written: " + err.Error())
	}
	return string(policy)
}

func (c *cluster) queue() *resource.Resource {
	name := c.queueName()
	attributes := map[string]string{"MessageRetentionPeriod": "300", "SqsManagedSseEnabled": "true", "Policy": c.queuePolicy()}
	return &resource.Resource{
		Plane: c.Plane, Title: c.queueTitle(), Component: component, LogicalID: "karpenter-queue",
		About: step.Description{Service: "sqs", Creates: []string{"sqs:CreateQueue"}, Updates: []string{"sqs:SetQueueAttributes"}, Removes: []string{"sqs:DeleteQueue"},
			ToMake: 2 * time.Second, ToRemove: time.Second, Patience: 2 * time.Minute},
		Purpose: []string{"what AWS tells of nodes that it takes back, kept for five minutes"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			url, err := c.AWS.SQS.GetQueueUrl(ctx, &sqs.GetQueueUrlInput{QueueName: &name})
			if fault.Gone(err) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			tags, err := c.AWS.SQS.ListQueueTags(ctx, &sqs.ListQueueTagsInput{QueueUrl: url.QueueUrl})
			if err != nil {
				return nil, err
			}
			s := &resource.State{Tags: tags.Tags, Value: aws.ToString(url.QueueUrl)}
			if goal == step.Absent {
				return s, nil
			}
			got, err := c.AWS.SQS.GetQueueAttributes(ctx, &sqs.GetQueueAttributesInput{QueueUrl: url.QueueUrl, AttributeNames: []sqstypes.QueueAttributeName{sqstypes.QueueAttributeNameAll}})
			if err != nil {
				return nil, err
			}
			for _, key := range sorted(attributes) {
				want, have := attributes[key], got.Attributes[key]
				if want == have || key == "Policy" && resource.SameJSON(want, have) {
					continue
				}
				if key == "Policy" && have != "" {
					want, have = "for EventBridge of this account", "another one"
				}
				s.Differ = append(s.Differ, resource.Difference{Field: key, Want: want, Have: have, Put: func(ctx context.Context) error {
					_, err := c.AWS.SQS.SetQueueAttributes(ctx, &sqs.SetQueueAttributesInput{QueueUrl: url.QueueUrl, Attributes: map[string]string{key: attributes[key]}})
					return err
				}})
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			_, err := c.AWS.SQS.CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: &name, Attributes: attributes, Tags: tags})
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			_, err := c.AWS.SQS.DeleteQueue(ctx, &sqs.DeleteQueueInput{QueueUrl: aws.String(s.Value.(string))})
			return err
		},
	}
}

func (c *cluster) rule(event, source, detail string) *resource.Resource {
	name := c.queueName() + "-" + event
	pattern := fmt.Sprintf(`{"source":["%s"],"detail-type":["%s"]}`, source, detail)
	const target = "queue"
	putTarget := func(ctx context.Context) error {
		out, err := c.AWS.Events.PutTargets(ctx, &eventbridge.PutTargetsInput{Rule: &name, Targets: []eventtypes.Target{{Id: aws.String(target), Arn: aws.String(c.ARN("sqs", c.queueName()))}}})
		if err == nil && out.FailedEntryCount > 0 {
			return fmt.Errorf("EventBridge did not take the queue as a target: %s", aws.ToString(out.FailedEntries[0].ErrorMessage)) // it is no error of the call
		}
		return err
	}
	return &resource.Resource{
		Plane: c.Plane, Title: "rule " + name, Requires: []string{c.queueTitle()}, Component: component, LogicalID: "karpenter-rule-" + event,
		About: step.Description{Service: "events", Creates: []string{"events:PutRule", "events:PutTargets"}, Updates: []string{"events:PutRule", "events:PutTargets"},
			Removes: []string{"events:RemoveTargets", "events:DeleteRule"}, ToMake: 2 * time.Second, ToRemove: time.Second},
		Purpose: []string{detail + ", to the queue"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := c.AWS.Events.DescribeRule(ctx, &eventbridge.DescribeRuleInput{Name: &name})
			if fault.Gone(err) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			s := &resource.State{Ours: true} // its name has the data plane's in it; reading its tags is no right of ours
			if goal == step.Absent {
				return s, nil
			}
			if !resource.SameJSON(aws.ToString(out.EventPattern), pattern) {
				s.Differ = append(s.Differ, resource.Difference{Field: "pattern", Want: pattern, Have: aws.ToString(out.EventPattern), Put: func(ctx context.Context) error {
					_, err := c.AWS.Events.PutRule(ctx, &eventbridge.PutRuleInput{Name: &name, EventPattern: &pattern})
					return err
				}})
			}
			targets, err := c.AWS.Events.ListTargetsByRule(ctx, &eventbridge.ListTargetsByRuleInput{Rule: &name})
			if err != nil {
				return nil, err
			}
			have := ""
			for _, t := range targets.Targets {
				if aws.ToString(t.Id) == target {
					have = aws.ToString(t.Arn)
				}
			}
			s.Differ = append(s.Differ, resource.Differ("target", c.ARN("sqs", c.queueName()), have, putTarget)...)
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			var list []eventtypes.Tag
			for _, key := range sorted(tags) {
				list = append(list, eventtypes.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
			}
			if _, err := c.AWS.Events.PutRule(ctx, &eventbridge.PutRuleInput{Name: &name, EventPattern: &pattern, Tags: list}); err != nil {
				return err
			}
			return putTarget(ctx)
		},
		Delete: func(ctx context.Context, _ *resource.State) error {
			if _, err := c.AWS.Events.RemoveTargets(ctx, &eventbridge.RemoveTargetsInput{Rule: &name, Ids: []string{target}}); err != nil && !fault.Gone(err) {
				return err
			}
			_, err := c.AWS.Events.DeleteRule(ctx, &eventbridge.DeleteRuleInput{Name: &name})
			return err
		},
	}
}

// autoscalerIdentity gives the autoscaler's service account its role.
func (c *cluster) autoscalerIdentity() *resource.Resource {
	name, account, namespace := c.ClusterName(), "karpenter", "kube-system"
	return &resource.Resource{
		Plane: c.Plane, Title: "identity of karpenter", Component: component, LogicalID: "karpenter-identity",
		Requires: []string{StepName(c.Plane), addonTitle("eks-pod-identity-agent"), "role " + c.autoscalerRole()},
		About: step.Description{Service: "eks", Creates: []string{"eks:CreatePodIdentityAssociation"}, Removes: []string{"eks:DeletePodIdentityAssociation"},
			ToMake: 2 * time.Second, ToRemove: time.Second},
		Purpose: []string{"the service account " + namespace + "/" + account + " takes on " + c.autoscalerRole()},
		Find: func(ctx context.Context, _ step.Goal) (*resource.State, error) {
			if c.One(plane.ClusterVersion) == "" {
				return nil, nil // there is no cluster
			}
			out, err := c.AWS.EKS.ListPodIdentityAssociations(ctx, &eks.ListPodIdentityAssociationsInput{ClusterName: &name, Namespace: &namespace, ServiceAccount: &account})
			if fault.Gone(err) || err == nil && len(out.Associations) == 0 {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			return &resource.State{Ours: true, Value: aws.ToString(out.Associations[0].AssociationId)}, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			_, err := c.AWS.EKS.CreatePodIdentityAssociation(ctx, &eks.CreatePodIdentityAssociationInput{ClusterName: &name, Namespace: &namespace, ServiceAccount: &account,
				RoleArn: aws.String(c.RoleARN(c.autoscalerRole())), Tags: tags})
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			_, err := c.AWS.EKS.DeletePodIdentityAssociation(ctx, &eks.DeletePodIdentityAssociationInput{ClusterName: &name, AssociationId: aws.String(s.Value.(string))})
			return err
		},
	}
}
