package network

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// tableOf is the table whose routes are in force in a subnet: the one that is associated
// with it, or else the network's main one. nil when neither is seen.
func (f *facts) tableOf(subnet string) *types.RouteTable {
	var main *types.RouteTable
	for i := range f.tables {
		t := &f.tables[i]
		if explicit(t, subnet) {
			return t
		}
		if slices.ContainsFunc(t.Associations, func(a types.RouteTableAssociation) bool { return aws.ToBool(a.Main) }) &&
			aws.ToString(t.VpcId) == aws.ToString(f.subnets[subnet].VpcId) {
			main = t
		}
	}
	return main
}

// explicit reports whether a table is associated with a subnet.
func explicit(t *types.RouteTable, subnet string) bool {
	return slices.ContainsFunc(t.Associations, func(a types.RouteTableAssociation) bool { return aws.ToString(a.SubnetId) == subnet })
}

// defaultRoute is a table's route to everywhere; nil when it has none.
func defaultRoute(t *types.RouteTable) *types.Route {
	if t == nil {
		return nil
	}
	i := slices.IndexFunc(t.Routes, func(r types.Route) bool { return aws.ToString(r.DestinationCidrBlock) == "0.0.0.0/0" })
	if i < 0 {
		return nil
	}
	return &t.Routes[i]
}

// target is the id of what a route leads to.
func target(r *types.Route) string {
	for _, id := range []*string{r.NatGatewayId, r.TransitGatewayId, r.GatewayId, r.VpcPeeringConnectionId, r.InstanceId, r.NetworkInterfaceId,
		r.EgressOnlyInternetGatewayId, r.LocalGatewayId, r.CarrierGatewayId, r.CoreNetworkArn} {
		if aws.ToString(id) != "" {
			return *id
		}
	}
	return "nothing"
}

// usersOfNAT are the private subnets that lead to each NAT gateway, by its id.
func (f *facts) usersOfNAT() map[string][]string {
	users := map[string][]string{}
	for _, id := range f.PrivateSubnets {
		if !f.mine(id) {
			continue
		}
		if route := defaultRoute(f.tableOf(id)); route != nil && aws.ToString(route.NatGatewayId) != "" {
			users[*route.NatGatewayId] = append(users[*route.NatGatewayId], id)
		}
	}
	return users
}

// privateTables are the tables of the private subnets, and for each whether it has a
// way out.
func (f *facts) privateTables() (ids []string, wayOut map[string]bool) {
	wayOut = map[string]bool{}
	for _, subnet := range f.PrivateSubnets {
		t := f.tableOf(subnet)
		if t == nil || !f.mine(subnet) {
			continue
		}
		id := aws.ToString(t.RouteTableId)
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
		route := defaultRoute(t)
		wayOut[id] = route != nil && route.State != types.RouteStateBlackhole
	}
	return ids, wayOut
}

// zoneOf is the id of a subnet's zone; "" when it is not known.
func (f *facts) zoneOf(subnet string) string {
	return aws.ToString(f.subnets[subnet].AvailabilityZoneId)
}

// mine reports whether a subnet is of the network. Of what is not, check 7 alone speaks.
func (f *facts) mine(subnet string) bool { return aws.ToString(f.subnets[subnet].VpcId) == f.VPC }

// zonesOf are the zones of the network's subnets among these, each once, in order.
func (f *facts) zonesOf(subnets []string) []string {
	var zones []string
	for _, id := range subnets {
		if zone := f.zoneOf(id); zone != "" && f.mine(id) {
			zones = append(zones, zone)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(zones)))
}

func (f *facts) tierOf(subnet string) string {
	if slices.Contains(f.PublicSubnets, subnet) {
		return "public"
	}
	return "private"
}

// ranges are the network's own.
func (f *facts) ranges() []netip.Prefix {
	var all []netip.Prefix
	for _, a := range f.vpc.CidrBlockAssociationSet {
		if a.CidrBlockState != nil && a.CidrBlockState.State != types.VpcCidrBlockStateCodeAssociated {
			continue
		}
		if p, err := netip.ParsePrefix(aws.ToString(a.CidrBlock)); err == nil {
			all = append(all, p)
		}
	}
	if p, err := netip.ParsePrefix(aws.ToString(f.vpc.CidrBlock)); err == nil && !slices.Contains(all, p) {
		all = append([]netip.Prefix{p}, all...)
	}
	return all
}

// each judges those of the subnets that are the network's, and says of each finding
// which one it is about.
func (f *facts) each(ids []string, judge func(string, types.Subnet) []Finding) []Finding {
	var found []Finding
	for i, id := range ids {
		s := f.subnets[id]
		if !f.mine(id) || slices.Contains(ids[:i], id) {
			continue
		}
		for _, one := range judge(id, s) {
			if one.Resource == "" {
				one.Resource = id
			}
			found = append(found, one.in(f.zoneOf(id)))
		}
	}
	return found
}

// eachSubnet is each for both tiers.
func (f *facts) eachSubnet(judge func(string, types.Subnet) []Finding) []Finding {
	return f.each(slices.Concat(f.PublicSubnets, f.PrivateSubnets), judge)
}

func joined(ranges []netip.Prefix) string {
	var texts []string
	for _, r := range ranges {
		texts = append(texts, r.String())
	}
	return strings.Join(texts, ", ")
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
