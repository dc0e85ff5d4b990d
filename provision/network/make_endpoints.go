package network

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// findEndpoint finds one endpoint of ours; nil when there is none. before are those that
// ended, as long as EC2 shows them.
func (m *maker) findEndpoint(ctx context.Context, logicalID string, before *[]string) (*types.VpcEndpoint, *resource.State, error) {
	found, err := every(ctx, ec2.NewDescribeVpcEndpointsPaginator(m.AWS.EC2, &ec2.DescribeVpcEndpointsInput{Filters: m.filters(logicalID)}),
		func(o *ec2.DescribeVpcEndpointsOutput) []types.VpcEndpoint { return o.VpcEndpoints })
	if err != nil {
		return nil, nil, err
	}
	var leaving *resource.State
	*before = nil
	for _, e := range found {
		s := &resource.State{Tags: resource.EC2TagMap(e.Tags), Value: aws.ToString(e.VpcEndpointId)}
		switch state := lower(e.State); state {
		case "deleted":
			*before = append(*before, aws.ToString(e.VpcEndpointId))
			continue
		case "deleting":
			s.Leaving = "endpoint " + aws.ToString(e.VpcEndpointId) + " is being deleted"
			leaving = s
			continue
		case "available":
		case "failed", "rejected", "expired":
			s.Broken = "endpoint " + aws.ToString(e.VpcEndpointId) + " is " + state
			if e.LastError != nil {
				s.Broken += ": " + aws.ToString(e.LastError.Message)
			}
		default:
			s.Busy = "endpoint " + aws.ToString(e.VpcEndpointId) + " is " + state
		}
		return &e, s, nil
	}
	return nil, leaving, nil
}

// createEndpoint makes an endpoint by a token of these parts.
func (m *maker) createEndpoint(ctx context.Context, in *ec2.CreateVpcEndpointInput, parts ...string) error {
	_, err := m.anew(ctx, func(part string) (string, error) {
		in.ClientToken = m.Token(append(slices.Clone(parts), part)...)
		out, err := m.AWS.EC2.CreateVpcEndpoint(ctx, in)
		if err != nil {
			return "", err
		}
		return aws.ToString(out.VpcEndpoint.VpcEndpointId), nil
	}, func(id string) (bool, error) {
		out, err := m.AWS.EC2.DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{VpcEndpointIds: []string{id}})
		return err == nil && len(out.VpcEndpoints) == 1 && lower(out.VpcEndpoints[0].State) != "deleting" && lower(out.VpcEndpoints[0].State) != "deleted", err
	})
	return err
}

func (m *maker) deleteEndpoints(ctx context.Context, ids ...string) error {
	out, err := m.AWS.EC2.DeleteVpcEndpoints(ctx, &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: ids})
	if err != nil {
		return err
	}
	return unsuccessful(out.Unsuccessful)
}

func (m *maker) privateTables() (ids, titles []string) {
	for i := range m.labels {
		titles = append(titles, m.routesTitle(private, i))
		if id := m.id(zonal("routes-private", i)); id != "" {
			ids = append(ids, id)
		}
	}
	return ids, titles
}

// s3Endpoint leads to S3 from every private subnet. It costs nothing, and what lies in
// buckets is most of the traffic.
func (m *maker) s3Endpoint() *resource.Resource {
	const logicalID = "endpoint-s3"
	_, requires := m.privateTables()
	var before []string
	return &resource.Resource{
		Plane: m.Plane, Title: s3Title, Requires: append(requires, vpcTitle), Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:CreateVpcEndpoint"}, Updates: []string{"ec2:ModifyVpcEndpoint"}, Removes: []string{"ec2:DeleteVpcEndpoints"},
			Cost: nothing, ToMake: 5 * time.Second, ToRemove: 5 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{"S3 is reached within AWS's network, from every private subnet"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			e, s, err := m.findEndpoint(ctx, logicalID, &before)
			if e == nil || goal == step.Absent {
				return s, err
			}
			tables, titles := m.privateTables()
			if len(tables) < len(titles) {
				s.Differ = append(s.Differ, resource.Difference{Field: "tables of routes", Want: "those that are made, too", Put: func(context.Context) error {
					return fmt.Errorf("not all tables of routes are there: %w", step.ErrConflict)
				}})
				return s, nil
			}
			missing := slices.DeleteFunc(tables, func(id string) bool { return slices.Contains(e.RouteTableIds, id) })
			if len(missing) > 0 {
				s.Differ = append(s.Differ, resource.Difference{Field: "tables of routes", Want: strings.Join(missing, ", ") + " too", Put: func(ctx context.Context) error {
					_, err := m.AWS.EC2.ModifyVpcEndpoint(ctx, &ec2.ModifyVpcEndpointInput{VpcEndpointId: e.VpcEndpointId, AddRouteTableIds: missing})
					return err
				}})
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := m.needed("vpc", "the network")
			if err != nil {
				return err
			}
			tables, titles := m.privateTables()
			if len(tables) < len(titles) {
				return fmt.Errorf("not all tables of routes are there: %w", step.ErrConflict)
			}
			return m.createEndpoint(ctx, &ec2.CreateVpcEndpointInput{VpcId: vpc, VpcEndpointType: types.VpcEndpointTypeGateway, ServiceName: aws.String(serviceName(m.Place.Region, "s3")),
				RouteTableIds: tables, TagSpecifications: resource.EC2Tagged(types.ResourceTypeVpcEndpoint, tags)}, slices.Concat([]string{logicalID, *vpc}, tables, before)...)
		},
		Tag:    m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error { return m.deleteEndpoints(ctx, s.Value.(string)) },
		Tell:   m.tell(logicalID),
	}
}

// endpointGroup admits HTTPS from the network to the endpoints, and nothing else.
func (m *maker) endpointGroup() *resource.Resource {
	const logicalID = "endpoint-group"
	name := m.Prefix() + "-endpoints"
	return &resource.Resource{
		Plane: m.Plane, Title: EndpointGroup, Requires: []string{vpcTitle}, Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress"}, Updates: []string{"ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"},
			Removes: []string{"ec2:DeleteSecurityGroup"}, Cost: nothing, ToMake: 3 * time.Second, ToRemove: 2 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{"port 443 from the network's own ranges"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			found, err := every(ctx, ec2.NewDescribeSecurityGroupsPaginator(m.AWS.EC2, &ec2.DescribeSecurityGroupsInput{Filters: m.filters(logicalID)}),
				func(o *ec2.DescribeSecurityGroupsOutput) []types.SecurityGroup { return o.SecurityGroups })
			if err != nil {
				return nil, err
			}
			if err := m.once(logicalID, len(found) > 0); err != nil || len(found) == 0 {
				return nil, err
			}
			g := found[0]
			s := &resource.State{Tags: resource.EC2TagMap(g.Tags), Value: aws.ToString(g.GroupId)}
			if goal == step.Present {
				s.Differ = m.compareGroup(g)
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := m.needed("vpc", "the network")
			if err != nil {
				return err
			}
			out, err := m.AWS.EC2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: vpc, GroupName: &name, Description: aws.String(endpointGroupText),
				TagSpecifications: resource.EC2Tagged(types.ResourceTypeSecurityGroup, tags)})
			if err == nil {
				m.made(logicalID, out.GroupId)
			}
			if fault.Code(err) == "InvalidGroup.Duplicate" {
				return fmt.Errorf("%w: %w", step.ErrConflict, err)
			}
			return err
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			_, err := m.AWS.EC2.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(s.Value.(string))})
			return err
		},
		Tell: m.tell(logicalID),
	}
}

// endpointGroupText has none of the characters that EC2 refuses there, such as an apostrophe.
const endpointGroupText = "HTTPS to the endpoints of services"

// compareGroup says which of the network's ranges are not admitted, and what is that
// should not be.
func (m *maker) compareGroup(g types.SecurityGroup) []resource.Difference {
	var differ []resource.Difference
	// A range that is added in the same run counts already.
	want := slices.Concat(m.All(plane.VPCCIDRs), []string{m.want.CIDR}, m.want.SecondaryCIDRs)
	slices.Sort(want)
	want = slices.Compact(want)
	var have []string
	for _, p := range g.IpPermissions {
		exact := aws.ToString(p.IpProtocol) == "tcp" && aws.ToInt32(p.FromPort) == 443 && aws.ToInt32(p.ToPort) == 443
		surplus := types.IpPermission{IpProtocol: p.IpProtocol, FromPort: p.FromPort, ToPort: p.ToPort, Ipv6Ranges: p.Ipv6Ranges, PrefixListIds: p.PrefixListIds, UserIdGroupPairs: p.UserIdGroupPairs}
		for _, r := range p.IpRanges {
			if exact && slices.Contains(want, aws.ToString(r.CidrIp)) {
				have = append(have, aws.ToString(r.CidrIp))
				continue
			}
			surplus.IpRanges = append(surplus.IpRanges, r)
		}
		if len(surplus.IpRanges)+len(surplus.Ipv6Ranges)+len(surplus.PrefixListIds)+len(surplus.UserIdGroupPairs) == 0 {
			continue
		}
		differ = append(differ, resource.Difference{Field: "admittance", Want: "port 443 from the network alone", Have: ruleText(surplus), Put: func(ctx context.Context) error {
			_, err := m.AWS.EC2.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: []types.IpPermission{surplus}})
			return err
		}})
	}
	for _, cidr := range want {
		if slices.Contains(have, cidr) {
			continue
		}
		differ = append(differ, resource.Difference{Field: "admittance", Want: "port 443 from " + cidr, Put: func(ctx context.Context) error {
			_, err := m.AWS.EC2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: g.GroupId, IpPermissions: []types.IpPermission{{
				IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443), IpRanges: []types.IpRange{{CidrIp: &cidr, Description: aws.String("the network")}}}}})
			if fault.Code(err) == "InvalidPermission.Duplicate" {
				return nil
			}
			return err
		}})
	}
	return differ
}

func ruleText(p types.IpPermission) string {
	var from []string
	for _, r := range p.IpRanges {
		from = append(from, aws.ToString(r.CidrIp))
	}
	for _, r := range p.Ipv6Ranges {
		from = append(from, aws.ToString(r.CidrIpv6))
	}
	for _, r := range p.PrefixListIds {
		from = append(from, aws.ToString(r.PrefixListId))
	}
	for _, r := range p.UserIdGroupPairs {
		from = append(from, aws.ToString(r.GroupId))
	}
	what := fmt.Sprintf("%s ports %d to %d", aws.ToString(p.IpProtocol), aws.ToInt32(p.FromPort), aws.ToInt32(p.ToPort))
	if aws.ToString(p.IpProtocol) == "-1" {
		what = "everything"
	}
	return what + " from " + strings.Join(from, ", ")
}

// endpoint is an interface endpoint, in every private subnet whose zone has the service.
func (m *maker) endpoint(service string) *resource.Resource {
	logicalID := "endpoint-" + strings.ReplaceAll(service, ".", "-")
	name := serviceName(m.Place.Region, service)
	var before []string
	return &resource.Resource{
		Plane: m.Plane, Title: "endpoint " + service, Requires: append([]string{vpcTitle, EndpointGroup}, m.subnetTitles(private)...), Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:CreateVpcEndpoint"}, Updates: []string{"ec2:ModifyVpcEndpoint"}, Removes: []string{"ec2:DeleteVpcEndpoints"},
			Monthly: hourOfEndpoint * hoursOfMonth * float64(m.want.Zones), Cost: endpointCost, ToMake: 60 * time.Second, ToRemove: 45 * time.Second, Patience: 20 * time.Minute,
		},
		Purpose: []string{"the service is reached within AWS's network, by its own name"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			e, s, err := m.findEndpoint(ctx, logicalID, &before)
			if e == nil || goal == step.Absent {
				return s, err
			}
			return s, m.compareEndpoint(ctx, e, name, s)
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := m.needed("vpc", "the network")
			if err != nil {
				return err
			}
			group, err := m.needed("endpoint-group", "the security group of endpoints")
			if err != nil {
				return err
			}
			subnets, err := m.subnetsWith(ctx, name)
			if err != nil {
				return err
			}
			return m.createEndpoint(ctx, &ec2.CreateVpcEndpointInput{VpcId: vpc, VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: &name, SubnetIds: subnets,
				SecurityGroupIds: []string{*group}, PrivateDnsEnabled: aws.Bool(true), TagSpecifications: resource.EC2Tagged(types.ResourceTypeVpcEndpoint, tags)},
				slices.Concat([]string{logicalID, *vpc, *group}, subnets, before)...)
		},
		Tag:    m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error { return m.deleteEndpoints(ctx, s.Value.(string)) },
		Tell:   m.tell(logicalID),
	}
}

func (m *maker) compareEndpoint(ctx context.Context, e *types.VpcEndpoint, name string, s *resource.State) error {
	modify := func(field, want, have string, in *ec2.ModifyVpcEndpointInput) {
		in.VpcEndpointId = e.VpcEndpointId
		s.Differ = append(s.Differ, resource.Difference{Field: field, Want: want, Have: have, Put: func(ctx context.Context) error {
			_, err := m.AWS.EC2.ModifyVpcEndpoint(ctx, in)
			return err
		}})
	}
	if !aws.ToBool(e.PrivateDnsEnabled) {
		modify("private name", "on", "off", &ec2.ModifyVpcEndpointInput{PrivateDnsEnabled: aws.Bool(true)})
	}
	if group := m.id("endpoint-group"); group != "" && !slices.ContainsFunc(e.Groups, func(g types.SecurityGroupIdentifier) bool { return aws.ToString(g.GroupId) == group }) {
		modify("security group", group, "", &ec2.ModifyVpcEndpointInput{AddSecurityGroupIds: []string{group}})
	}
	if len(m.All(plane.PrivateSubnets)) < len(m.labels) {
		s.Differ = append(s.Differ, resource.Difference{Field: "subnets", Want: "those that are made, too", Put: func(context.Context) error {
			return fmt.Errorf("not all private subnets are there: %w", step.ErrConflict)
		}})
	} else if len(e.SubnetIds) < len(m.labels) {
		wanted, err := m.subnetsWith(ctx, name)
		if err != nil {
			return err
		}
		missing := slices.DeleteFunc(wanted, func(id string) bool { return slices.Contains(e.SubnetIds, id) })
		if len(missing) > 0 {
			modify("subnets", strings.Join(missing, ", ")+" too", "", &ec2.ModifyVpcEndpointInput{AddSubnetIds: missing})
		}
	}
	return nil
}

// subnetsWith are the private subnets in whose zones a service can have an endpoint; all
// of them where the caller may not look that up.
func (m *maker) subnetsWith(ctx context.Context, service string) ([]string, error) {
	var zones []string
	out, err := m.AWS.EC2.DescribeVpcEndpointServices(ctx, &ec2.DescribeVpcEndpointServicesInput{ServiceNames: []string{service}})
	switch {
	case fault.Denied(err) || unlisted(err):
	case err != nil:
		return nil, err
	default:
		for _, s := range out.ServiceDetails {
			if slices.ContainsFunc(s.ServiceType, func(t types.ServiceTypeDetail) bool { return t.ServiceType == types.ServiceTypeInterface }) {
				zones = append(zones, s.AvailabilityZones...)
			}
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var ids []string
	for i := range m.zones {
		n, there := m.subnets[zonal("subnet-private", i)]
		if there && (len(zones) == 0 || slices.Contains(zones, aws.ToString(n.AvailabilityZone))) {
			ids = append(ids, aws.ToString(n.SubnetId))
		}
	}
	return ids, nil
}
