package network

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// vpc is the network itself, with its ranges and the resolution of names.
func (m *maker) vpc() *resource.Resource {
	const logicalID = "vpc"
	var cidrs []string
	creates := []string{"ec2:CreateVpc", "ec2:ModifyVpcAttribute"}
	if len(m.want.SecondaryCIDRs) > 0 {
		creates = append(creates, "ec2:AssociateVpcCidrBlock")
	}
	return &resource.Resource{
		Plane: m.Plane, Title: vpcTitle, Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: creates, Updates: []string{"ec2:ModifyVpcAttribute", "ec2:AssociateVpcCidrBlock"},
			Removes: []string{"ec2:DeleteVpc"}, Cost: nothing, ToMake: 5 * time.Second, ToRemove: 3 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: append([]string{fmt.Sprintf("%s in %d zones", m.want.CIDR, m.want.Zones), "DNS support and hostnames on"}, prefixed("further range ", m.want.SecondaryCIDRs)...),
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			if m.planErr != nil {
				return nil, m.planErr
			}
			found, err := every(ctx, ec2.NewDescribeVpcsPaginator(m.AWS.EC2, &ec2.DescribeVpcsInput{Filters: m.filters(logicalID)}),
				func(o *ec2.DescribeVpcsOutput) []types.Vpc { return o.Vpcs })
			if err != nil {
				return nil, err
			}
			if err := m.once(logicalID, len(found) > 0); err != nil {
				return nil, err
			}
			if goal == step.Present {
				if err := m.findZones(ctx); err != nil {
					return nil, err
				}
			}
			if len(found) == 0 {
				return nil, nil
			}
			v := found[0]
			s := &resource.State{Tags: resource.EC2TagMap(v.Tags), Value: aws.ToString(v.VpcId)}
			cidrs = ownRanges(v)
			if v.State == types.VpcStatePending {
				s.Busy = "the network is pending"
			}
			if goal == step.Absent {
				return s, nil
			}
			s.Differ, err = m.compareVPC(ctx, v)
			if slices.ContainsFunc(v.CidrBlockAssociationSet, func(a types.VpcCidrBlockAssociation) bool {
				return a.CidrBlockState != nil && a.CidrBlockState.State == types.VpcCidrBlockStateCodeAssociating
			}) {
				s.Busy = "a range is associating"
			}
			return s, err
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			out, err := m.AWS.EC2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: &m.want.CIDR, TagSpecifications: resource.EC2Tagged(types.ResourceTypeVpc, tags)})
			if err == nil {
				m.made(logicalID, out.Vpc.VpcId)
			}
			return err
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			id := s.Value.(string)
			if err := m.sweepGroups(ctx, id); err != nil {
				return err
			}
			_, err := m.AWS.EC2.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: &id})
			return err
		},
		Tell: func(s *resource.State) {
			m.tell(logicalID)(s)
			if id := m.id(logicalID); id != "" {
				m.Know(plane.VPC, id)
				m.Know(plane.VPCCIDRs, cidrs...)
				return
			}
			m.Know(plane.VPC)
			m.Know(plane.VPCCIDRs)
		},
	}
}

func prefixed(prefix string, list []string) []string {
	var out []string
	for _, one := range list {
		out = append(out, prefix+one)
	}
	return out
}

// ownRanges are a network's ranges, its first one first.
func ownRanges(v types.Vpc) []string {
	ranges := []string{aws.ToString(v.CidrBlock)}
	for _, a := range v.CidrBlockAssociationSet {
		if cidr := aws.ToString(a.CidrBlock); !slices.Contains(ranges, cidr) &&
			(a.CidrBlockState == nil || a.CidrBlockState.State == types.VpcCidrBlockStateCodeAssociated || a.CidrBlockState.State == types.VpcCidrBlockStateCodeAssociating) {
			ranges = append(ranges, cidr)
		}
	}
	return ranges
}

func (m *maker) compareVPC(ctx context.Context, v types.Vpc) ([]resource.Difference, error) {
	id := aws.ToString(v.VpcId)
	differ := resource.Differ("range", m.want.CIDR, aws.ToString(v.CidrBlock), nil)
	there := m.zonesThere()
	if there > m.want.Zones {
		differ = append(differ, resource.Difference{Field: "number of zones", Want: fmt.Sprint(m.want.Zones), Have: fmt.Sprint(there),
			Hint: fmt.Sprintf("write zones: %d; a zone can be added, but not taken away while nodes may be in it", there)})
	}
	set := func(field string, in *ec2.ModifyVpcAttributeInput, have *types.AttributeBooleanValue) {
		if have != nil && aws.ToBool(have.Value) {
			return
		}
		differ = append(differ, resource.Difference{Field: field, Want: "on", Have: "off", Put: func(ctx context.Context) error {
			_, err := m.AWS.EC2.ModifyVpcAttribute(ctx, in)
			return err
		}})
	}
	on := &types.AttributeBooleanValue{Value: aws.Bool(true)}
	support, err := m.AWS.EC2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &id, Attribute: types.VpcAttributeNameEnableDnsSupport})
	if err != nil {
		return nil, err
	}
	set("DNS support", &ec2.ModifyVpcAttributeInput{VpcId: &id, EnableDnsSupport: on}, support.EnableDnsSupport)
	hostnames, err := m.AWS.EC2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &id, Attribute: types.VpcAttributeNameEnableDnsHostnames})
	if err != nil {
		return nil, err
	}
	set("DNS hostnames", &ec2.ModifyVpcAttributeInput{VpcId: &id, EnableDnsHostnames: on}, hostnames.EnableDnsHostnames)
	ranges := ownRanges(v)
	for _, cidr := range m.want.SecondaryCIDRs {
		if !slices.Contains(ranges, cidr) {
			differ = append(differ, resource.Difference{Field: "further range", Want: cidr, Put: func(ctx context.Context) error {
				_, err := m.AWS.EC2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: &id, CidrBlock: &cidr})
				return err
			}})
		}
	}
	return differ, nil
}

// zonesThere is for how many zones there are private subnets, by the last of them.
func (m *maker) zonesThere() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	last := 0
	for logicalID := range m.subnets {
		if text, ok := strings.CutPrefix(logicalID, "subnet-private-"); ok {
			if n, err := strconv.Atoi(text); err == nil {
				last = max(last, n)
			}
		}
	}
	return last
}

// findZones settles which zones are used: those in which there are subnets of ours, and for
// the rest the first that EKS takes.
func (m *maker) findZones(ctx context.Context) error {
	taken, there, err := lookAtZones(ctx, m)
	if err != nil {
		return err
	}
	zones, err := chooseZones(there, m.want.ZoneIDs, taken, m.want.Zones)
	if err != nil {
		return err
	}
	for i, id := range m.want.ZoneIDs {
		if i < len(taken) && taken[i] != "" && taken[i] != id {
			return usererr.New(usererr.Refused, "the subnets of zone %d are in %s, and spec.network.create.zoneIds wants them in %s, which cannot be changed", i+1, taken[i], id).
				WithHint("write zoneIds: [%s], or build another data plane", strings.Join(zones, ", "))
		}
	}
	m.mu.Lock()
	m.zones = zones
	m.mu.Unlock()
	m.Know(plane.Zones, zones...)
	return nil
}

// lookAtZones says in which zones there are subnets already, in the order of the logical
// ids, and where one is missing, which zones the account has.
func lookAtZones(ctx context.Context, m *maker) (taken, there []string, err error) {
	found, err := every(ctx, ec2.NewDescribeSubnetsPaginator(m.AWS.EC2, &ec2.DescribeSubnetsInput{Filters: m.filters("")}),
		func(o *ec2.DescribeSubnetsOutput) []types.Subnet { return o.Subnets })
	if err != nil {
		return nil, nil, err
	}
	m.mu.Lock()
	m.subnets = map[string]types.Subnet{}
	for _, s := range found {
		m.subnets[m.logicalID(resource.EC2TagMap(s.Tags))] = s
	}
	m.mu.Unlock()
	taken = make([]string, m.want.Zones)
	for _, s := range found {
		for i := range taken {
			if id := m.logicalID(resource.EC2TagMap(s.Tags)); id == zonal("subnet-private", i) || id == zonal("subnet-public", i) {
				taken[i] = aws.ToString(s.AvailabilityZoneId)
			}
		}
	}
	if !slices.Contains(taken, "") {
		return taken, nil, nil
	}
	out, err := m.AWS.EC2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{})
	if err != nil {
		return nil, nil, err
	}
	for _, z := range out.AvailabilityZones {
		if kind := aws.ToString(z.ZoneType); z.State == types.AvailabilityZoneStateAvailable && (kind == "" || kind == "availability-zone") {
			there = append(there, aws.ToString(z.ZoneId))
		}
	}
	return taken, there, nil
}

// noneOfOurs refuses to leave a network that was made for the data plane for one that is
// given.
func noneOfOurs(ctx context.Context, p *plane.Plane) error {
	found, err := p.AWS.EC2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: (&maker{Plane: p}).filters("vpc")})
	if err != nil || len(found.Vpcs) == 0 {
		return err
	}
	return usererr.New(usererr.Refused, "spec.network is existing, and data plane %s has a network of its own, %s, which cannot be changed for another", p.Name, aws.ToString(found.Vpcs[0].VpcId)).
		WithHint("write network: {create: {cidr: %s, …}}, or build another data plane", aws.ToString(found.Vpcs[0].CidrBlock))
}

// ChooseZones finds out which zones a network that is to be made has, or will have, and
// tells the fact Zones. Called before Steps, their names have the zones in them instead of
// numbers. Where the caller may not look, or they cannot be had, the fact stays unknown: the
// step of the network says why, if it is to be made. Where the network is given, one that
// was made is refused.
func ChooseZones(ctx context.Context, p *plane.Plane) error {
	if p.Spec.Network.Create == nil {
		return noneOfOurs(ctx, p)
	}
	m := newMaker(p)
	taken, there, err := lookAtZones(ctx, m)
	if err != nil {
		if fault.Denied(err) || unlisted(err) {
			return nil
		}
		return err
	}
	if zones, err := chooseZones(there, m.want.ZoneIDs, taken, m.want.Zones); err == nil {
		p.Know(plane.Zones, zones...)
	}
	return nil
}

func (m *maker) internetGateway() *resource.Resource {
	const logicalID = "internet-gateway"
	type value struct {
		id       string
		attached string
	}
	return &resource.Resource{
		Plane: m.Plane, Title: gatewayTitle, Requires: []string{vpcTitle}, Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:CreateInternetGateway", "ec2:AttachInternetGateway"}, Updates: []string{"ec2:AttachInternetGateway"},
			Removes: []string{"ec2:DetachInternetGateway", "ec2:DeleteInternetGateway"}, Cost: nothing, ToMake: 3 * time.Second, ToRemove: 3 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{"the way out of the public subnets"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			found, err := every(ctx, ec2.NewDescribeInternetGatewaysPaginator(m.AWS.EC2, &ec2.DescribeInternetGatewaysInput{Filters: m.filters(logicalID)}),
				func(o *ec2.DescribeInternetGatewaysOutput) []types.InternetGateway { return o.InternetGateways })
			if err != nil {
				return nil, err
			}
			if err := m.once(logicalID, len(found) > 0); err != nil || len(found) == 0 {
				return nil, err
			}
			g := found[0]
			v := value{id: aws.ToString(g.InternetGatewayId)}
			for _, a := range g.Attachments {
				v.attached = aws.ToString(a.VpcId)
			}
			s := &resource.State{Tags: resource.EC2TagMap(g.Tags), Value: v}
			if goal == step.Absent {
				return s, nil
			}
			vpc := m.id("vpc")
			switch {
			case v.attached == "":
				s.Differ = append(s.Differ, resource.Difference{Field: "attachment", Want: or(vpc, "to the network"), Put: func(ctx context.Context) error {
					vpc, err := m.needed("vpc", "the network")
					if err != nil {
						return err
					}
					_, err = m.AWS.EC2.AttachInternetGateway(ctx, &ec2.AttachInternetGatewayInput{InternetGatewayId: &v.id, VpcId: vpc})
					return err
				}})
			case vpc != "":
				s.Differ = append(s.Differ, resource.Differ("attachment", vpc, v.attached, nil)...)
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			out, err := m.AWS.EC2.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{TagSpecifications: resource.EC2Tagged(types.ResourceTypeInternetGateway, tags)})
			if err == nil {
				m.made(logicalID, out.InternetGateway.InternetGatewayId)
			}
			return err
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			v := s.Value.(value)
			if v.attached != "" {
				if _, err := m.AWS.EC2.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: &v.id, VpcId: &v.attached}); err != nil && fault.Code(err) != "Gateway.NotAttached" {
					return err
				}
			}
			_, err := m.AWS.EC2.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: &v.id})
			return err
		},
		Tell: func(s *resource.State) {
			if s != nil {
				s = &resource.State{Value: s.Value.(value).id}
			}
			m.tell(logicalID)(s)
		},
	}
}

// kubernetesTags are those by which the cluster's controllers find a subnet.
func (m *maker) kubernetesTags(t tier) map[string]string {
	tags := map[string]string{"kubernetes.io/cluster/" + m.ClusterName(): "shared"}
	if t == public {
		tags["kubernetes.io/role/elb"] = "1"
		return tags
	}
	tags["kubernetes.io/role/internal-elb"] = "1"
	tags["karpenter.sh/discovery"] = m.ClusterName()
	return tags
}

func (m *maker) subnet(t tier, zone int) *resource.Resource {
	logicalID := zonal("subnet-"+string(t), zone)
	title := m.subnetTitle(t, zone)
	block := m.addresses.Private[zone].CIDR
	what := "nodes and pods"
	if t == public {
		block, what = m.addresses.Public[zone].CIDR, "load balancers and the NAT gateway"
	}
	creates := []string{"ec2:CreateSubnet"}
	if t == public {
		creates = append(creates, "ec2:ModifySubnetAttribute")
	}
	return &resource.Resource{
		Plane: m.Plane, Title: title, Requires: []string{vpcTitle}, Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: creates, Updates: []string{"ec2:ModifySubnetAttribute", "ec2:CreateTags"}, Removes: []string{"ec2:DeleteSubnet"},
			Cost: nothing, ToMake: 3 * time.Second, ToRemove: 3 * time.Second, Patience: 20 * time.Minute,
		},
		Purpose: []string{fmt.Sprintf("%s for %s", block, what)},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			found, err := every(ctx, ec2.NewDescribeSubnetsPaginator(m.AWS.EC2, &ec2.DescribeSubnetsInput{Filters: m.filters(logicalID)}),
				func(o *ec2.DescribeSubnetsOutput) []types.Subnet { return o.Subnets })
			if err != nil {
				return nil, err
			}
			if err := m.once(logicalID, len(found) > 0); err != nil || len(found) == 0 {
				return nil, err
			}
			n := found[0]
			id := aws.ToString(n.SubnetId)
			s := &resource.State{Tags: resource.EC2TagMap(n.Tags), Value: n}
			if n.State == types.SubnetStatePending {
				s.Busy = "the subnet is pending"
			}
			if goal == step.Absent {
				return s, nil
			}
			s.Differ = resource.Differ("range", block.String(), aws.ToString(n.CidrBlock), nil)
			if vpc := m.id("vpc"); vpc != "" {
				s.Differ = append(s.Differ, resource.Differ("network", vpc, aws.ToString(n.VpcId), nil)...)
			}
			want, have := onOff(t == public), onOff(aws.ToBool(n.MapPublicIpOnLaunch))
			if want != have {
				s.Differ = append(s.Differ, resource.Differ("public addresses", want, have, func(ctx context.Context) error {
					_, err := m.AWS.EC2.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{SubnetId: &id, MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: aws.Bool(t == public)}})
					return err
				})...)
			}
			for key, value := range m.kubernetesTags(t) {
				s.Differ = append(s.Differ, resource.Differ("tag "+key, value, s.Tags[key], func(ctx context.Context) error {
					_, err := m.AWS.EC2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id}, Tags: resource.EC2Tags(map[string]string{key: value})})
					return err
				})...)
			}
			slices.SortStableFunc(s.Differ, func(a, b resource.Difference) int { return strings.Compare(a.Field, b.Field) })
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := m.needed("vpc", "the network")
			if err != nil {
				return err
			}
			for key, value := range m.kubernetesTags(t) {
				tags[key] = value
			}
			m.mu.Lock()
			id := m.zones[zone]
			m.mu.Unlock()
			out, err := m.AWS.EC2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc, CidrBlock: aws.String(block.String()), AvailabilityZoneId: &id, TagSpecifications: resource.EC2Tagged(types.ResourceTypeSubnet, tags)})
			if err == nil {
				m.made(logicalID, out.Subnet.SubnetId)
			}
			return err
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			return m.deleteSubnet(ctx, aws.ToString(s.Value.(types.Subnet).SubnetId))
		},
		Tell: func(s *resource.State) { m.tellSubnet(logicalID, s) },
	}
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// tellSubnet keeps what is known of a subnet, and tells the others of a tier once all of it
// are there.
func (m *maker) tellSubnet(logicalID string, s *resource.State) {
	m.mu.Lock()
	delete(m.subnets, logicalID)
	m.ids[logicalID] = ""
	if s != nil {
		n := s.Value.(types.Subnet)
		m.subnets[logicalID], m.ids[logicalID] = n, aws.ToString(n.SubnetId)
	}
	defer m.mu.Unlock()
	for _, t := range []struct {
		tier
		ids, cidrs plane.Fact
	}{{public, plane.PublicSubnets, ""}, {private, plane.PrivateSubnets, plane.PrivateCIDRs}} {
		var ids, cidrs []string
		for i := range m.zones {
			if n, ok := m.subnets[zonal("subnet-"+string(t.tier), i)]; ok {
				ids, cidrs = append(ids, aws.ToString(n.SubnetId)), append(cidrs, aws.ToString(n.CidrBlock))
			}
		}
		if len(ids) < len(m.zones) {
			ids, cidrs = nil, nil
		}
		m.Know(t.ids, ids...)
		if t.cidrs != "" {
			m.Know(t.cidrs, cidrs...)
		}
	}
}
