package endpoint

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

func (m *maker) balancerTitle() string    { return "load balancer " + Name(m.Plane) }
func (m *maker) targetGroupTitle() string { return "target group " + Name(m.Plane) }

const listenerTitle = "listener of the load balancer"

// Attributes, as ELB names them. A task that ends gets no new connection for as long as
// its jumper waits for streams to end, and what is still open then is closed.
var (
	balancerAttributes = [][2]string{{"load_balancing.cross_zone.enabled", "true"}, {"deletion_protection.enabled", "true"}}
	targetAttributes   = [][2]string{{"deregistration_delay.timeout_seconds", "120"}, {"deregistration_delay.connection_termination.enabled", "true"}}
)

const (
	hoursOfMonth   = 730
	hourOfBalancer = 0.0225 // list price of us-east-1, 2026-11, as the others
)

func elbTags(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range ownership.Keys(tags) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

func (m *maker) elbTagsOf(ctx context.Context, arn string) (map[string]string, error) {
	out, err := m.AWS.ELB.DescribeTags(ctx, &elb.DescribeTagsInput{ResourceArns: []string{arn}})
	if err != nil {
		return nil, err
	}
	tags := map[string]string{}
	for _, d := range out.TagDescriptions {
		for _, t := range d.Tags {
			tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
	}
	return tags, nil
}

// balancer has the address that stays while EKS replaces the API server's. Its group is
// given when it is made: one that was made without can never have any.
func (m *maker) balancer() *resource.Resource {
	name := Name(m.Plane)
	return &resource.Resource{
		Plane: m.Plane, Title: m.balancerTitle(), Requires: needs(m.after.Network, balancerGroupTitle), Component: component, LogicalID: "load-balancer",
		About: step.Description{
			Service: "elasticloadbalancing", Creates: []string{"elbv2:CreateLoadBalancer", "elbv2:ModifyLoadBalancerAttributes"},
			Updates: []string{"elbv2:ModifyLoadBalancerAttributes", "elbv2:SetSecurityGroups"}, Removes: []string{"elbv2:ModifyLoadBalancerAttributes", "elbv2:DeleteLoadBalancer"},
			Monthly: hourOfBalancer * hoursOfMonth, Cost: "0.0225 USD an hour, and 0.006 USD for a unit of capacity and hour",
			ToMake: 150 * time.Second, ToRemove: 30 * time.Second, Patience: 15 * time.Minute,
		},
		Purpose: []string{"internal, in every private subnet, spread over zones, protected from deletion"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := m.AWS.ELB.DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{Names: []string{name}})
			if fault.Gone(err) || err == nil && len(out.LoadBalancers) == 0 {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			b := out.LoadBalancers[0]
			arn := aws.ToString(b.LoadBalancerArn)
			s := &resource.State{Value: arn}
			if s.Tags, err = m.elbTagsOf(ctx, arn); err != nil {
				return unlessGone(s, err)
			}
			if b.State != nil {
				switch code := lower(b.State.Code); code {
				case "active", "active_impaired":
				case "failed":
					s.Broken = "the load balancer has failed: " + aws.ToString(b.State.Reason)
				case "deleting":
					s.Leaving = "the load balancer is being deleted"
				default:
					s.Busy = "the load balancer is " + code
				}
			}
			if goal == step.Absent {
				return s, nil
			}
			s.Differ = resource.Differ("scheme", string(types.LoadBalancerSchemeEnumInternal), string(b.Scheme), nil)
			if subnets := m.All(plane.PrivateSubnets); len(subnets) > 0 {
				var have []string
				for _, zone := range b.AvailabilityZones {
					have = append(have, aws.ToString(zone.SubnetId))
				}
				s.Differ = append(s.Differ, resource.Differ("subnets", resource.Joined(subnets), resource.Joined(have), nil)...)
			}
			if group := m.id("balancer"); group != "" && resource.Joined(b.SecurityGroups) != group {
				s.Differ = append(s.Differ, resource.Difference{Field: "security group", Want: group, Have: resource.Joined(b.SecurityGroups), Put: func(ctx context.Context) error {
					_, err := m.AWS.ELB.SetSecurityGroups(ctx, &elb.SetSecurityGroupsInput{LoadBalancerArn: &arn, SecurityGroups: []string{group}})
					return err
				}})
			}
			attributes, err := m.AWS.ELB.DescribeLoadBalancerAttributes(ctx, &elb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: &arn})
			if err != nil {
				return nil, err
			}
			for _, want := range balancerAttributes {
				have := ""
				for _, a := range attributes.Attributes {
					if aws.ToString(a.Key) == want[0] {
						have = aws.ToString(a.Value)
					}
				}
				s.Differ = append(s.Differ, resource.Differ(want[0], want[1], have, func(ctx context.Context) error { return m.setBalancer(ctx, arn, want[0], want[1]) })...)
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			group, err := m.needed("balancer", "the "+balancerGroupTitle)
			if err != nil {
				return err
			}
			subnets := m.All(plane.PrivateSubnets)
			if len(subnets) == 0 {
				return fmt.Errorf("the private subnets are not there: %w", step.ErrConflict)
			}
			_, err = m.AWS.ELB.CreateLoadBalancer(ctx, &elb.CreateLoadBalancerInput{Name: &name, Type: types.LoadBalancerTypeEnumNetwork, Scheme: types.LoadBalancerSchemeEnumInternal,
				IpAddressType: types.IpAddressTypeIpv4, Subnets: subnets, SecurityGroups: []string{*group}, Tags: elbTags(tags)})
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			arn := s.Value.(string)
			if err := m.setBalancer(ctx, arn, "deletion_protection.enabled", "false"); err != nil {
				return err
			}
			_, err := m.AWS.ELB.DeleteLoadBalancer(ctx, &elb.DeleteLoadBalancerInput{LoadBalancerArn: &arn})
			return err
		},
		Tell: m.tell("load balancer"),
	}
}

func (m *maker) setBalancer(ctx context.Context, arn, key, value string) error {
	_, err := m.AWS.ELB.ModifyLoadBalancerAttributes(ctx, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &arn,
		Attributes: []types.LoadBalancerAttribute{{Key: &key, Value: &value}}})
	return err
}

// unlessGone is a look at what went away while it was looked at.
func unlessGone(s *resource.State, err error) (*resource.State, error) {
	if fault.Gone(err) {
		return nil, nil
	}
	return s, err
}

// targetGroup collects the tasks that answer at their readiness port: those that have
// made a handshake with the API server in the last half minute.
func (m *maker) targetGroup() *resource.Resource {
	name := Name(m.Plane)
	return &resource.Resource{
		Plane: m.Plane, Title: m.targetGroupTitle(), Requires: needs(m.after.Network), Component: component, LogicalID: "target-group",
		About: step.Description{
			Service: "elasticloadbalancing", Creates: []string{"elbv2:CreateTargetGroup", "elbv2:ModifyTargetGroupAttributes"},
			Updates: []string{"elbv2:ModifyTargetGroup", "elbv2:ModifyTargetGroupAttributes"}, Removes: []string{"elbv2:DeleteTargetGroup"},
			Cost: "nothing", ToMake: 2 * time.Second, ToRemove: 2 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{"jumpers by their addresses, as long as they answer at /readyz", "one that ends is waited for, for 120 seconds"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := m.AWS.ELB.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{Names: []string{name}})
			if fault.Gone(err) || err == nil && len(out.TargetGroups) == 0 {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			g := out.TargetGroups[0]
			arn := aws.ToString(g.TargetGroupArn)
			s := &resource.State{Value: arn}
			if s.Tags, err = m.elbTagsOf(ctx, arn); err != nil {
				return unlessGone(s, err)
			}
			if goal == step.Absent {
				return s, nil
			}
			s.Differ = resource.Differ("targets", "TCP ip", fmt.Sprintf("%s %s", g.Protocol, g.TargetType), nil)
			if vpc := m.One(plane.VPC); vpc != "" {
				s.Differ = append(s.Differ, resource.Differ("network", vpc, aws.ToString(g.VpcId), nil)...)
			}
			want, have := fmt.Sprintf("HTTP %d /readyz", readyPort), fmt.Sprintf("%s %s %s", g.HealthCheckProtocol, aws.ToString(g.HealthCheckPort), aws.ToString(g.HealthCheckPath))
			s.Differ = append(s.Differ, resource.Differ("health check", want, have, func(ctx context.Context) error {
				_, err := m.AWS.ELB.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{TargetGroupArn: &arn, HealthCheckProtocol: types.ProtocolEnumHttp,
					HealthCheckPort: aws.String(strconv.Itoa(readyPort)), HealthCheckPath: aws.String("/readyz")})
				return err
			})...)
			attributes, err := m.AWS.ELB.DescribeTargetGroupAttributes(ctx, &elb.DescribeTargetGroupAttributesInput{TargetGroupArn: &arn})
			if err != nil {
				return nil, err
			}
			for _, want := range targetAttributes {
				have := ""
				for _, a := range attributes.Attributes {
					if aws.ToString(a.Key) == want[0] {
						have = aws.ToString(a.Value)
					}
				}
				s.Differ = append(s.Differ, resource.Differ(want[0], want[1], have, func(ctx context.Context) error {
					_, err := m.AWS.ELB.ModifyTargetGroupAttributes(ctx, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: &arn,
						Attributes: []types.TargetGroupAttribute{{Key: &want[0], Value: &want[1]}}})
					return err
				})...)
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := m.fact(plane.VPC)
			if err != nil {
				return err
			}
			_, err = m.AWS.ELB.CreateTargetGroup(ctx, &elb.CreateTargetGroupInput{Name: &name, VpcId: &vpc, Protocol: types.ProtocolEnumTcp, Port: aws.Int32(443), TargetType: types.TargetTypeEnumIp,
				HealthCheckEnabled: aws.Bool(true), HealthCheckProtocol: types.ProtocolEnumHttp, HealthCheckPort: aws.String(strconv.Itoa(readyPort)), HealthCheckPath: aws.String("/readyz"),
				HealthCheckIntervalSeconds: aws.Int32(10), HealthyThresholdCount: aws.Int32(2), UnhealthyThresholdCount: aws.Int32(2), Tags: elbTags(tags)})
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			_, err := m.AWS.ELB.DeleteTargetGroup(ctx, &elb.DeleteTargetGroupInput{TargetGroupArn: aws.String(s.Value.(string))})
			return err
		},
		Tell: m.tell("target group"),
	}
}

// listener takes connections at port 443. The service stops it before its tasks end.
func (m *maker) listener() *resource.Resource {
	forward := func(group string) []types.Action {
		return []types.Action{{Type: types.ActionTypeEnumForward, TargetGroupArn: &group}}
	}
	return &resource.Resource{
		Plane: m.Plane, Title: listenerTitle, Requires: []string{m.balancerTitle(), m.targetGroupTitle()}, Component: component, LogicalID: "listener",
		About: step.Description{
			Service: "elasticloadbalancing", Creates: []string{"elbv2:CreateListener"}, Updates: []string{"elbv2:ModifyListener"}, Removes: []string{"elbv2:DeleteListener"},
			Cost: "nothing", ToMake: 2 * time.Second, ToRemove: time.Second,
		},
		Purpose: []string{"TCP, port 443: TLS is passed through, and ends in the cluster"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			balancer := m.id("load balancer")
			if balancer == "" {
				return nil, nil
			}
			l, err := m.findListener(ctx, balancer)
			if err != nil || l == nil {
				return nil, err
			}
			arn := aws.ToString(l.ListenerArn)
			s := &resource.State{Value: arn}
			if s.Tags, err = m.elbTagsOf(ctx, arn); err != nil {
				return unlessGone(s, err)
			}
			if goal == step.Absent {
				return s, nil
			}
			group, have := m.id("target group"), ""
			for _, a := range l.DefaultActions {
				have = aws.ToString(a.TargetGroupArn)
			}
			want := fmt.Sprintf("TCP %d to %s", 443, group)
			if group != "" {
				s.Differ = resource.Differ("rule", want, fmt.Sprintf("%s %d to %s", l.Protocol, aws.ToInt32(l.Port), have), func(ctx context.Context) error {
					_, err := m.AWS.ELB.ModifyListener(ctx, &elb.ModifyListenerInput{ListenerArn: &arn, Port: aws.Int32(443), Protocol: types.ProtocolEnumTcp, DefaultActions: forward(group)})
					return err
				})
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			balancer, err := m.needed("load balancer", "the load balancer")
			if err != nil {
				return err
			}
			group, err := m.needed("target group", "the target group")
			if err != nil {
				return err
			}
			_, err = m.AWS.ELB.CreateListener(ctx, &elb.CreateListenerInput{LoadBalancerArn: balancer, Port: aws.Int32(443), Protocol: types.ProtocolEnumTcp,
				DefaultActions: forward(*group), Tags: elbTags(tags)})
			if fault.Code(err) == "DuplicateListener" {
				return fmt.Errorf("%w: %w", step.ErrConflict, err)
			}
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			_, err := m.AWS.ELB.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: aws.String(s.Value.(string))})
			return err
		},
	}
}

// findListener finds the one listener of the load balancer; nil when there is none.
func (m *maker) findListener(ctx context.Context, balancer string) (*types.Listener, error) {
	out, err := m.AWS.ELB.DescribeListeners(ctx, &elb.DescribeListenersInput{LoadBalancerArn: &balancer})
	if fault.Gone(err) || err == nil && len(out.Listeners) == 0 {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &out.Listeners[0], nil
}

// targets are the jumpers as the load balancer sees them.
func (m *maker) targets(ctx context.Context) ([]types.TargetHealthDescription, error) {
	group := m.id("target group")
	if group == "" {
		return nil, nil
	}
	out, err := m.AWS.ELB.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &group})
	if fault.Gone(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return out.TargetHealthDescriptions, nil
}
