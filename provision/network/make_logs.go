package network

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

func (m *maker) logGroupName() string { return m.Prefix() + "-vpc-flow" }
func (m *maker) logRoleName() string  { return m.Prefix() + "-flow-logs" }

// logRole lets EC2 write the record of traffic, into one log group.
func (m *maker) logRole() *resource.Resource {
	group := m.ARN("logs", "log-group:"+m.logGroupName())
	policy, err := json.Marshal(map[string]any{"Version": "2012-10-17", "Statement": []any{map[string]any{
		"Effect": "Allow", "Action": []string{"logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"}, "Resource": []string{group, group + ":*"},
	}}})
	if err != nil {
		panic("network: a policy of our own cannot be written: " + err.Error())
	}
	return resource.RoleStep(m.Plane, resource.Role{
		Name: m.logRoleName(), LogicalID: "flow-log-role", Component: component, Purpose: "writes the record of the network's traffic",
		Services: []string{"vpc-flow-logs.amazonaws.com"}, Inline: map[string]string{"flow-logs": string(policy)},
	})
}

func (m *maker) logGroup() *resource.Resource {
	return resource.LogGroupStep(m.Plane, resource.LogGroup{
		Name: m.logGroupName(), Component: component, LogicalID: "flow-log-group",
		Holds: "the record of the network's traffic", Days: m.logDays(), Retag: true,
		Cost: flowLogCost, Patience: 10 * time.Minute,
	})
}

// flowLog records all traffic of the network, what was let through and what was not.
func (m *maker) flowLog() *resource.Resource {
	const logicalID = "flow-log"
	return &resource.Resource{
		Plane: m.Plane, Title: "flow log", Requires: []string{vpcTitle, resource.RoleTitle(m.logRoleName()), resource.LogGroupTitle(m.logGroupName())}, Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:CreateFlowLogs"}, Removes: []string{"ec2:DeleteFlowLogs"},
			Cost: "with its log group", ToMake: 3 * time.Second, ToRemove: 2 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{"records all traffic, accepted and rejected"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			found, err := every(ctx, ec2.NewDescribeFlowLogsPaginator(m.AWS.EC2, &ec2.DescribeFlowLogsInput{Filter: m.filters(logicalID)}),
				func(o *ec2.DescribeFlowLogsOutput) []types.FlowLog { return o.FlowLogs })
			if err != nil || len(found) == 0 {
				return nil, err
			}
			l := found[0]
			s := &resource.State{Tags: resource.EC2TagMap(l.Tags), Value: aws.ToString(l.FlowLogId)}
			if goal == step.Absent {
				return s, nil
			}
			if vpc := m.id("vpc"); vpc != "" {
				s.Differ = resource.Differ("network", vpc, aws.ToString(l.ResourceId), nil)
			}
			s.Differ = append(s.Differ, resource.Differ("traffic", string(types.TrafficTypeAll), string(l.TrafficType), nil)...)
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := m.needed("vpc", "the network")
			if err != nil {
				return err
			}
			out, err := m.AWS.EC2.CreateFlowLogs(ctx, &ec2.CreateFlowLogsInput{
				ResourceType: types.FlowLogsResourceTypeVpc, ResourceIds: []string{*vpc}, TrafficType: types.TrafficTypeAll,
				LogDestinationType: types.LogDestinationTypeCloudWatchLogs, LogGroupName: aws.String(m.logGroupName()), DeliverLogsPermissionArn: aws.String(m.RoleARN(m.logRoleName())),
				TagSpecifications: resource.EC2Tagged(types.ResourceTypeVpcFlowLog, tags),
			})
			if fault.Code(err) == "FlowLogAlreadyExists" {
				return fmt.Errorf("%w: %w", step.ErrConflict, err)
			}
			if err != nil {
				return err
			}
			if err := unsuccessful(out.Unsuccessful); err != nil {
				// A role that was made a moment ago cannot be assumed everywhere yet.
				if text := strings.ToLower(err.Error()); strings.Contains(text, "assume") || strings.Contains(text, "access denied") {
					return fmt.Errorf("%w: %w", step.ErrConflict, err)
				}
				return err
			}
			return nil
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			out, err := m.AWS.EC2.DeleteFlowLogs(ctx, &ec2.DeleteFlowLogsInput{FlowLogIds: []string{s.Value.(string)}})
			if err != nil {
				return err
			}
			return unsuccessful(out.Unsuccessful)
		},
		Tell: m.tell(logicalID),
	}
}

// defaultGroupStep closes the network's default security group, in which whatever names
// no group would be. It ends with the network.
//
// AWS makes the group without our tag, and lets nobody tag it as it is made: so the
// right to close it would be one to close every group of the account. The strict grants
// do without; there the plan says so, and nothing of ours is in the group.
type defaultGroupStep struct{ *maker }

func (s *defaultGroupStep) Name() string    { return "default security group" }
func (s *defaultGroupStep) Needs() []string { return []string{vpcTitle} }

func (s *defaultGroupStep) Describe() step.Description {
	calls := []string{"ec2:RevokeSecurityGroupIngress", "ec2:RevokeSecurityGroupEgress"}
	return step.Description{Service: "ec2", Creates: calls, Updates: calls, Cost: nothing, ToMake: 2 * time.Second}
}

func (s *defaultGroupStep) Check(ctx context.Context) error { return step.Settled(ctx, s) }

type foundDefaultGroup struct {
	*defaultGroupStep
	goal  step.Goal
	vpc   string
	group *types.SecurityGroup
}

func (s *defaultGroupStep) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found := &foundDefaultGroup{defaultGroupStep: s, goal: goal, vpc: s.id("vpc")}
	if goal == step.Absent || found.vpc == "" {
		return found, nil
	}
	out, err := s.AWS.EC2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
		{Name: aws.String("vpc-id"), Values: []string{found.vpc}}, {Name: aws.String("group-name"), Values: []string{"default"}}}})
	if err != nil {
		return nil, err
	}
	if len(out.SecurityGroups) > 0 {
		found.group = &out.SecurityGroups[0]
	}
	return found, nil
}

func (f *foundDefaultGroup) open() int {
	return len(f.group.IpPermissions) + len(f.group.IpPermissionsEgress)
}

func (f *foundDefaultGroup) Plan() step.Change {
	const purpose = "revoke its rules, so that nothing gets into it or out"
	switch {
	case f.goal == step.Absent:
		return step.Change{Action: step.None}
	case f.Spec.Access.Policy != spec.Compat:
		if f.group == nil || f.open() == 0 {
			return step.Change{Action: step.Keep}
		}
		return step.Change{Action: step.Leave, Details: []string{
			"it has AWS's own rules, and nothing is in it; the strict grants change no group without our tag, and AWS makes this one without",
			fmt.Sprintf("the account's owner can close it: aws ec2 revoke-security-group-egress --group-id %s --protocol all --cidr 0.0.0.0/0, and revoke-security-group-ingress --group-id %s --source-group %s --protocol all",
				aws.ToString(f.group.GroupId), aws.ToString(f.group.GroupId), aws.ToString(f.group.GroupId)),
		}}
	case f.group == nil:
		return step.Change{Action: step.Create, Details: []string{purpose}}
	case f.open() > 0:
		return step.Change{Action: step.Finish, Details: []string{purpose}}
	}
	return step.Change{Action: step.Keep}
}

func (f *foundDefaultGroup) Make(ctx context.Context) error {
	if f.group == nil {
		return fmt.Errorf("the network's default group is not to be seen yet: %w", step.ErrConflict)
	}
	if len(f.group.IpPermissions) > 0 {
		_, err := f.AWS.EC2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: f.group.GroupId, IpPermissions: f.group.IpPermissions})
		if err != nil {
			return fault.Passing(err)
		}
	}
	if len(f.group.IpPermissionsEgress) > 0 {
		_, err := f.AWS.EC2.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: f.group.GroupId, IpPermissions: f.group.IpPermissionsEgress})
		return fault.Passing(err)
	}
	return nil
}

func (f *foundDefaultGroup) Remove(context.Context) error { return nil }
