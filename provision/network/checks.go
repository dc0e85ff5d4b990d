package network

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/resource"
)

// checks are all 28, in order. The functions ask nobody: they judge what was gathered.
var checks = []check{
	{1, "the network is there", Error, []string{callVPCs}, checkThere},
	{2, "the network is the account's own", Warning, []string{callVPCs, callIdentity}, checkOwner},
	{3, "tenancy is the default", Warning, []string{callVPCs}, checkTenancy},
	{4, "the network is large enough", Warning, []string{callVPCs}, checkSize},
	{5, "names are resolved", Error, []string{callAttribute}, checkNames},
	{6, "AWS's name server is used", Warning, []string{callVPCs, callDHCP}, checkNameServer},
	{7, "the subnets are there", Error, []string{callSubnets}, checkSubnets},
	{8, "there are enough zones, each with both tiers", Error, []string{callSubnets, theTiers}, checkZones},
	{9, "EKS takes the zones", Error, []string{callSubnets, theTiers}, checkRefusedZones},
	{10, "the zones are of a region", Error, []string{callSubnets, theTiers, callZones}, checkZoneTypes},
	{11, "the subnets are large enough", Error, []string{callSubnets, theTiers}, checkRoom},
	{12, "each subnet has routes of its own", Warning, []string{callSubnets, callTables}, checkTables},
	{13, "public subnets lead to the internet", Error, []string{callSubnets, callTables, callGateways}, checkPublicRoute},
	{14, "private subnets have a way out", Error, []string{callSubnets, callTables}, checkPrivateRoute},
	{15, "NAT gateways work", Error, []string{callSubnets, callTables, callNATs, callGateways}, checkNAT},
	{16, "each NAT gateway is in the zone that uses it", Warning, []string{callSubnets, callTables, callNATs}, checkNATZone},
	{17, "public addresses are given in public subnets only", Warning, []string{callSubnets, theTiers}, checkPublicAddresses},
	{18, "access lists let the cluster through", Error, []string{callVPCs, callSubnets, theTiers, callACLs}, checkAccessLists},
	{19, "S3 is reached within AWS's network", Warning, []string{callSubnets, callTables, callEndpoints}, checkS3},
	{20, "endpoints of services work", Warning, []string{callSubnets, callTables, callEndpoints, callGroups}, checkEndpoints},
	{21, "subnets are tagged for load balancers", Warning, []string{callSubnets, theTiers}, checkTags},
	{22, "addresses do not overlap", Warning, []string{callVPCs, callPeerings}, checkOverlap},
	{23, "the account does not block the internet", Warning, []string{callBlockInternet}, checkBlockInternet},
	{24, "the account's limits are not reached", Warning, []string{callNATs, callAddresses, callEndpoints, callGroups, callClusters}, checkQuotas},
	{25, "the default group is unused, and groups have few rules", Warning, []string{callGroups, callInterfaces}, checkGroups},
	{26, "IPv6 has a way out", Warning, []string{callVPCs, callSubnets, callTables, callEgressOnly}, checkIPv6},
	{27, "traffic is recorded", Warning, []string{callFlowLogs}, checkFlowLogs},
	{28, "services are reached from inside", Error, nil, checkReachability},
}

func checkThere(f *facts) []Finding {
	switch {
	case f.vpc == nil:
		return []Finding{fail(Error, f.VPC, "aws ec2 describe-vpcs --region "+f.Region, "there is no network %s in %s; it may be in another region or account", f.VPC, f.Region)}
	case f.vpc.State != types.VpcStateAvailable:
		return []Finding{fail(Error, f.VPC, "wait a minute and check again", "it is %s, not available", f.vpc.State)}
	}
	return []Finding{pass(f.VPC, "it is available in %s", f.Region)}
}

func checkOwner(f *facts) []Finding {
	if owner := aws.ToString(f.vpc.OwnerId); owner != f.Account {
		return []Finding{fail(Warning, f.VPC, "aws ram get-resource-shares --resource-owner OTHER-ACCOUNTS",
			"account %s owns it and shares it: account %s can make a cluster in its subnets, but no subnets, gateways, routes or endpoints, and cannot use its security groups", owner, f.Account)}
	}
	return []Finding{pass(f.VPC, "account %s owns it", f.Account)}
}

func checkTenancy(f *facts) []Finding {
	if t := f.vpc.InstanceTenancy; t != types.TenancyDefault {
		return []Finding{fail(Warning, f.VPC, "aws ec2 modify-vpc-tenancy --vpc-id "+f.VPC+" --instance-tenancy default",
			"its tenancy is %s, which many instance types do not have, and which costs more", t)}
	}
	return []Finding{pass(f.VPC, "its tenancy is default")}
}

func checkSize(f *facts) []Finding {
	var found []Finding
	largest := 32
	for _, a := range f.vpc.CidrBlockAssociationSet {
		cidr := aws.ToString(a.CidrBlock)
		p, err := netip.ParsePrefix(cidr)
		if a.CidrBlockState != nil && a.CidrBlockState.State != types.VpcCidrBlockStateCodeAssociated {
			if s := a.CidrBlockState.State; s != types.VpcCidrBlockStateCodeDisassociated {
				found = append(found, fail(Warning, f.VPC, "wait until it is associated; EKS may take hours to honour a new range", "its range %s is %s", cidr, s))
			}
			continue
		}
		if err != nil {
			continue
		}
		largest = min(largest, p.Bits())
		if !private4(p) {
			found = append(found, fail(Warning, f.VPC, "use private ranges (RFC 1918, or 100.64.0.0/10)", "its range %s is no private one: hosts on the internet with these addresses cannot be reached", cidr))
		}
	}
	if largest > largestNetwork {
		found = append(found, fail(Warning, f.VPC, "aws ec2 associate-vpc-cidr-block --vpc-id "+f.VPC+" --cidr-block 100.64.0.0/16",
			"its largest range is a /%d, and a /%d is recommended: each pod takes an address", largest, largestNetwork))
	}
	if len(found) == 0 {
		found = append(found, pass(f.VPC, "it has a /%d", largest))
	}
	return found
}

func checkNames(f *facts) []Finding {
	var found []Finding
	if !f.dnsSupport {
		found = append(found, fail(Error, f.VPC, "aws ec2 modify-vpc-attribute --vpc-id "+f.VPC+" --enable-dns-support", "DNS support is off: nothing in it can resolve a name by AWS's server"))
	}
	if !f.dnsHostnames {
		found = append(found, fail(Error, f.VPC, "aws ec2 modify-vpc-attribute --vpc-id "+f.VPC+" --enable-dns-hostnames", "DNS hostnames are off: nodes cannot register, and endpoints have no private names"))
	}
	if len(found) == 0 {
		found = append(found, pass(f.VPC, "DNS support and hostnames are on"))
	}
	return found
}

func checkNameServer(f *facts) []Finding {
	severity := Warning
	if f.PrivateEndpoint {
		severity = Error
	}
	id := aws.ToString(f.vpc.DhcpOptionsId)
	if id == "default" {
		return []Finding{{Status: CannotTell, Severity: severity, Message: "its DHCP options are \"default\", which " + callDHCP + " does not show: see on an instance whether it is told AWS's name server"}}
	}
	i := slices.IndexFunc(f.dhcp, func(o types.DhcpOptions) bool { return aws.ToString(o.DhcpOptionsId) == id })
	if i < 0 {
		return []Finding{{Status: CannotTell, Severity: severity, Resource: f.VPC, Message: fmt.Sprintf("its DHCP options %s are not among those that %s shows", id, callDHCP)}}
	}
	var servers []string
	for _, c := range f.dhcp[i].DhcpConfigurations {
		if aws.ToString(c.Key) == "domain-name-servers" {
			for _, v := range c.Values {
				servers = append(servers, aws.ToString(v.Value))
			}
		}
	}
	if slices.Contains(servers, "AmazonProvidedDNS") {
		return []Finding{pass(f.VPC, "AWS's own name server is among those of %s", id)}
	}
	return []Finding{fail(severity, f.VPC, "aws ec2 create-dhcp-options --dhcp-configurations Key=domain-name-servers,Values=AmazonProvidedDNS, then aws ec2 associate-dhcp-options --vpc-id "+f.VPC+" --dhcp-options-id DOPT",
		"its name servers are %s, which must forward AWS's private names to AWS's own server", or(strings.Join(servers, ", "), "none"))}
}

func checkSubnets(f *facts) []Finding {
	var found []Finding
	named := slices.Concat(f.PublicSubnets, f.PrivateSubnets)
	if len(named) == 0 {
		return []Finding{fail(Error, f.VPC, "biplane network plan --cidr CIDR --zones 3, and make the subnets", "it has no subnet")}
	}
	for i, id := range named {
		s, there := f.subnets[id]
		switch {
		case slices.Contains(named[:i], id):
			found = append(found, fail(Error, id, "name it once", "it is named twice; a subnet is public or private, and counts once").in(f.zoneOf(id)))
		case !there:
			found = append(found, fail(Error, id, "aws ec2 describe-subnets --filters Name=vpc-id,Values="+f.VPC, "there is no such subnet in %s", f.Region))
		case aws.ToString(s.VpcId) != f.VPC:
			found = append(found, fail(Error, id, "aws ec2 describe-subnets --filters Name=vpc-id,Values="+f.VPC, "it is in network %s", aws.ToString(s.VpcId)).in(f.zoneOf(id)))
		case s.State != types.SubnetStateAvailable:
			found = append(found, fail(Error, id, "wait a minute and check again", "it is %s, not available", s.State).in(f.zoneOf(id)))
		default:
			found = append(found, pass(id, "%s, %s", f.tierOf(id), aws.ToString(s.CidrBlock)).in(f.zoneOf(id)))
		}
	}
	return found
}

func checkZones(f *facts) []Finding {
	private, public := f.zonesOf(f.PrivateSubnets), f.zonesOf(f.PublicSubnets)
	var found []Finding
	const remedy = "make a private and a public subnet in each of three zones; 'biplane network plan' says with which ranges"
	switch n := len(private); {
	case n == 0:
		found = append(found, fail(Error, f.VPC, remedy, "it has no private subnet"))
	case n == 1:
		found = append(found, fail(Error, f.VPC, remedy, "its private subnets are in one zone, %s, and EKS wants two", private[0]))
	case n == 2:
		found = append(found, fail(Warning, f.VPC, remedy, "its private subnets are in two zones, %s, and three are recommended", strings.Join(private, " and ")))
	default:
		found = append(found, pass(f.VPC, "its private subnets are in %d zones: %s", n, strings.Join(private, ", ")))
	}
	for _, tier := range []struct {
		ids   []string
		other []string
		lacks string
	}{{f.PrivateSubnets, public, "public"}, {f.PublicSubnets, private, "private"}} {
		for _, id := range tier.ids {
			zone := f.zoneOf(id)
			if zone != "" && !slices.Contains(tier.other, zone) {
				found = append(found, fail(Error, id, "aws ec2 create-subnet --vpc-id "+f.VPC+" --availability-zone-id "+zone+" --cidr-block CIDR",
					"its zone has no %s subnet, and there must be one of each in every zone", tier.lacks).in(zone))
			}
		}
	}
	return found
}

func checkRefusedZones(f *facts) []Finding {
	return f.eachSubnet(func(id string, s types.Subnet) []Finding {
		if zone := f.zoneOf(id); refusedByEKS(zone) {
			severity := Error
			if slices.Contains(f.PublicSubnets, id) {
				severity = Warning // the cluster's own interfaces are in private subnets
			}
			return []Finding{fail(severity, id, "aws ec2 create-subnet --vpc-id "+f.VPC+" --availability-zone-id ZONE --cidr-block CIDR, in another zone, and use that one", "EKS places no cluster in zone %s", zone)}
		}
		return []Finding{pass(id, "EKS takes its zone")}
	})
}

func checkZoneTypes(f *facts) []Finding {
	return f.eachSubnet(func(id string, s types.Subnet) []Finding {
		if outpost := aws.ToString(s.OutpostArn); outpost != "" {
			return []Finding{fail(Error, id, "use a subnet of an availability zone", "it is on an outpost, where a cluster's subnets cannot be")}
		}
		i := slices.IndexFunc(f.zones, func(z types.AvailabilityZone) bool {
			return aws.ToString(z.ZoneId) == aws.ToString(s.AvailabilityZoneId)
		})
		if i < 0 {
			return []Finding{{Status: CannotTell, Message: "its zone is not among those that " + callZones + " shows"}}
		}
		if kind := aws.ToString(f.zones[i].ZoneType); kind != "availability-zone" && kind != "" {
			return []Finding{fail(Error, id, "use a subnet of an availability zone", "its zone is a %s, where a cluster's subnets cannot be", kind)}
		}
		return []Finding{pass(id, "its zone is an availability zone")}
	})
}

// roomForCluster and roomForLoadBalancers are how many free addresses EKS's own
// interfaces and load balancers want in a subnet.
const (
	roomForCluster       = 16
	roomForLoadBalancers = 8
)

func checkRoom(f *facts) []Finding {
	found := f.eachSubnet(func(id string, s types.Subnet) []Finding {
		cidr, err := netip.ParsePrefix(aws.ToString(s.CidrBlock))
		if err != nil {
			return []Finding{notApplicable("it has no IPv4 addresses")}
		}
		free := int(aws.ToInt32(s.AvailableIpAddressCount))
		reserved := 0
		for _, r := range f.reservations[id] {
			if p, err := netip.ParsePrefix(aws.ToString(r.Cidr)); err == nil && p.Addr().Is4() {
				reserved += addresses(p.Bits())
			}
		}
		free = max(free-reserved, 0)
		note := ""
		if reserved > 0 {
			note = fmt.Sprintf(" (%d more are reserved)", reserved)
		}
		public := slices.Contains(f.PublicSubnets, id)
		larger := "aws ec2 create-subnet --vpc-id " + f.VPC + " --availability-zone-id " + f.zoneOf(id) + " --cidr-block CIDR, with a larger range: a subnet cannot grow"
		switch {
		case !public && free < roomForCluster:
			return []Finding{fail(Error, id, larger, "it has %d free addresses%s, and the cluster's own interfaces want %d", free, note, roomForCluster)}
		case public && free < roomForLoadBalancers:
			return []Finding{fail(Error, id, larger, "it has %d free addresses%s, and a load balancer wants %d", free, note, roomForLoadBalancers)}
		case !public && cidr.Bits() > largestPrivate:
			return []Finding{fail(Warning, id, larger, "it is a /%d with %s free addresses%s, and a /%d is recommended: each pod takes one", cidr.Bits(), thousands(free), note, largestPrivate)}
		case public && cidr.Bits() > 27:
			return []Finding{fail(Warning, id, larger, "it is a /%d, which one load balancer and a NAT gateway nearly fill; a /%d is better", cidr.Bits(), publicBits)}
		}
		return []Finding{pass(id, "it is a /%d with %s free addresses%s", cidr.Bits(), thousands(free), note)}
	})
	if err := f.failed[callReservations]; err != nil {
		found = append(found, Finding{Status: CannotTell, Message: "how many of the free addresses are reserved is not known: it takes " + whyNot(callReservations, err)})
	}
	return found
}

func checkTables(f *facts) []Finding {
	return f.eachSubnet(func(id string, s types.Subnet) []Finding {
		table := f.tableOf(id)
		switch {
		case table == nil:
			return []Finding{fail(Error, id, "aws ec2 associate-route-table --subnet-id "+id+" --route-table-id RTB", "it has no table of routes that can be seen")}
		case !explicit(table, id):
			return []Finding{fail(Warning, id, "aws ec2 associate-route-table --subnet-id "+id+" --route-table-id RTB",
				"no table is associated with it, so that the network's main one, %s, is in force, and changes when that does", aws.ToString(table.RouteTableId))}
		}
		return []Finding{pass(id, "its table is %s", aws.ToString(table.RouteTableId))}
	})
}

func checkPublicRoute(f *facts) []Finding {
	return f.each(f.PublicSubnets, func(id string, s types.Subnet) []Finding {
		if problem, remedy := f.publicProblem(id); problem != "" {
			return []Finding{fail(Error, id, remedy, "%s", problem)}
		}
		return []Finding{pass(id, "it leads to the internet by %s", aws.ToString(defaultRoute(f.tableOf(id)).GatewayId))}
	})
}

// publicProblem says why a subnet does not lead to the internet by itself; "" when it does.
func (f *facts) publicProblem(id string) (problem, remedy string) {
	table := f.tableOf(id)
	if table == nil {
		return "it has no table of routes that can be seen", "aws ec2 associate-route-table --subnet-id " + id + " --route-table-id RTB"
	}
	name := aws.ToString(table.RouteTableId)
	route := defaultRoute(table)
	replace := "aws ec2 replace-route --route-table-id " + name + " --destination-cidr-block 0.0.0.0/0 --gateway-id IGW"
	if route == nil {
		return "its table " + name + " has no default route", "aws ec2 create-route --route-table-id " + name + " --destination-cidr-block 0.0.0.0/0 --gateway-id IGW"
	}
	gateway := aws.ToString(route.GatewayId)
	switch {
	case !strings.HasPrefix(gateway, "igw-"):
		return fmt.Sprintf("the default route of its table %s leads to %s, and not to an internet gateway", name, target(route)), replace
	case route.State == types.RouteStateBlackhole:
		return fmt.Sprintf("the default route of its table %s leads to %s, which is no longer there: it is a black hole", name, gateway), replace
	}
	i := slices.IndexFunc(f.gateways, func(g types.InternetGateway) bool { return aws.ToString(g.InternetGatewayId) == gateway })
	if i < 0 {
		return fmt.Sprintf("the default route of its table %s leads to %s, which does not exist", name, gateway), replace
	}
	if !slices.ContainsFunc(f.gateways[i].Attachments, func(a types.InternetGatewayAttachment) bool { return aws.ToString(a.VpcId) == f.VPC }) {
		return fmt.Sprintf("the default route of its table %s leads to %s, which is not attached to this network", name, gateway),
			"aws ec2 attach-internet-gateway --internet-gateway-id " + gateway + " --vpc-id " + f.VPC
	}
	return "", ""
}

func checkPrivateRoute(f *facts) []Finding {
	return f.each(f.PrivateSubnets, func(id string, s types.Subnet) []Finding {
		table := f.tableOf(id)
		if table == nil {
			return []Finding{fail(Error, id, "aws ec2 associate-route-table --subnet-id "+id+" --route-table-id RTB", "it has no table of routes that can be seen")}
		}
		name := aws.ToString(table.RouteTableId)
		route := defaultRoute(table)
		create := "aws ec2 create-route --route-table-id " + name + " --destination-cidr-block 0.0.0.0/0 --nat-gateway-id NAT"
		if route == nil {
			if f.failed[callEndpoints] == nil && len(f.missingServices(privateServices)) == 0 {
				return []Finding{fail(Warning, id, create, "its table %s has no default route: AWS's services have endpoints, but the control plane and other registries are reached by a proxy only", name)}
			}
			return []Finding{fail(Error, id, create, "its table %s has no default route, so that nothing outside is reached", name)}
		}
		replace := strings.Replace(create, "create-route", "replace-route", 1)
		to := target(route)
		switch {
		case route.State == types.RouteStateBlackhole:
			return []Finding{fail(Error, id, replace, "the default route of its table %s leads to %s, which is no longer there: it is a black hole", name, to)}
		case strings.HasPrefix(to, "igw-"):
			return []Finding{fail(Error, id, replace, "the default route of its table %s leads to the internet gateway %s: it is no private subnet, and what has no public address there reaches nothing", name, to)}
		case strings.HasPrefix(to, "nat-"):
			return []Finding{pass(id, "its way out is %s", to)}
		}
		return []Finding{fail(Warning, id, "make sure that what is behind it lets the cluster out to AWS and to the control plane",
			"the default route of its table %s leads to %s, and what is behind that cannot be seen", name, to)}
	})
}

func checkNAT(f *facts) []Finding {
	users := f.usersOfNAT()
	var found []Finding
	for _, id := range slices.Sorted(maps.Keys(users)) {
		const anew = "aws ec2 create-nat-gateway --subnet-id PUBLIC-SUBNET --allocation-id EIPALLOC, and replace the routes to it"
		i := slices.IndexFunc(f.nats, func(n types.NatGateway) bool { return aws.ToString(n.NatGatewayId) == id })
		if i < 0 {
			found = append(found, fail(Error, id, anew, "it does not exist, and %s leads to it", strings.Join(users[id], ", ")).in(f.zoneOf(users[id][0])))
			continue
		}
		nat := f.nats[i]
		subnet := aws.ToString(nat.SubnetId)
		zone := f.zoneOf(subnet)
		problem, _ := f.publicProblem(subnet)
		switch {
		case nat.State != types.NatGatewayStateAvailable:
			why := ""
			if m := aws.ToString(nat.FailureMessage); m != "" {
				why = ": " + m
			}
			found = append(found, fail(Error, id, anew, "it is %s, not available%s", nat.State, why).in(zone))
		case nat.ConnectivityType == types.ConnectivityTypePrivate:
			found = append(found, fail(Error, id, anew, "it is a private one, which does not lead to the internet").in(zone))
		case !slices.ContainsFunc(nat.NatGatewayAddresses, func(a types.NatGatewayAddress) bool {
			return aws.ToString(a.PublicIp) != "" || aws.ToString(a.AllocationId) != ""
		}):
			found = append(found, fail(Error, id, anew, "it has no public address").in(zone))
		case problem != "":
			found = append(found, fail(Error, id, anew, "it is in %s, which does not lead to the internet: %s", subnet, problem).in(zone))
		default:
			found = append(found, pass(id, "it is available in %s", subnet).in(zone))
		}
	}
	if len(found) == 0 {
		return []Finding{notApplicable("no private subnet leads to a NAT gateway")}
	}
	return found
}

func checkNATZone(f *facts) []Finding {
	found := f.each(f.PrivateSubnets, func(id string, s types.Subnet) []Finding {
		route := defaultRoute(f.tableOf(id))
		if route == nil || aws.ToString(route.NatGatewayId) == "" {
			return nil
		}
		nat := aws.ToString(route.NatGatewayId)
		i := slices.IndexFunc(f.nats, func(n types.NatGateway) bool { return aws.ToString(n.NatGatewayId) == nat })
		if i < 0 {
			return nil // check 15 says so
		}
		if zone := f.zoneOf(aws.ToString(f.nats[i].SubnetId)); zone != f.zoneOf(id) {
			return []Finding{fail(Warning, id, "make a NAT gateway in a public subnet of "+f.zoneOf(id)+", and replace the default route of "+aws.ToString(f.tableOf(id).RouteTableId),
				"its NAT gateway %s is in zone %s: traffic between zones costs, and the zone's end is this one's too", nat, or(zone, "that cannot be seen"))}
		}
		return []Finding{pass(id, "its NAT gateway %s is in its zone", nat)}
	})
	if len(found) == 0 {
		return []Finding{notApplicable("no private subnet leads to a NAT gateway")}
	}
	return found
}

func checkPublicAddresses(f *facts) []Finding {
	return f.eachSubnet(func(id string, s types.Subnet) []Finding {
		public, gives := slices.Contains(f.PublicSubnets, id), aws.ToBool(s.MapPublicIpOnLaunch)
		switch {
		case public && !gives:
			return []Finding{fail(Warning, id, "aws ec2 modify-subnet-attribute --subnet-id "+id+" --map-public-ip-on-launch", "it gives no public addresses, which nodes in a public subnet need")}
		case !public && gives:
			return []Finding{fail(Warning, id, "aws ec2 modify-subnet-attribute --subnet-id "+id+" --no-map-public-ip-on-launch", "it gives public addresses, although it is private")}
		}
		return []Finding{pass(id, "%s", map[bool]string{true: "it gives public addresses", false: "it gives none"}[gives])}
	})
}

func checkS3(f *facts) []Finding {
	i := slices.IndexFunc(f.endpoints, func(e types.VpcEndpoint) bool {
		return isOf(aws.ToString(e.ServiceName), f.Region, "s3") && e.VpcEndpointType == types.VpcEndpointTypeGateway && !gone(e)
	})
	tables, direct := f.privateTables()
	severity := func(tables ...string) Severity {
		if slices.ContainsFunc(tables, func(t string) bool { return !direct[t] }) {
			return Error // nothing else leads to S3
		}
		return Warning
	}
	if i < 0 {
		return []Finding{fail(severity(tables...), f.VPC,
			"aws ec2 create-vpc-endpoint --vpc-id "+f.VPC+" --service-name "+serviceName(f.Region, "s3")+" --route-table-ids "+strings.Join(tables, " "),
			"it has no gateway endpoint of S3: images and data go through the NAT gateway, which costs, or nowhere")}
	}
	e := f.endpoints[i]
	id := aws.ToString(e.VpcEndpointId)
	var found []Finding
	if !strings.EqualFold(string(e.State), "available") {
		found = append(found, fail(severity(tables...), id, "aws ec2 describe-vpc-endpoints --vpc-endpoint-ids "+id, "it is %s, not available", strings.ToLower(string(e.State))))
	}
	if policy := aws.ToString(e.PolicyDocument); narrows(policy) && !strings.Contains(policy, "starport-layer-bucket") {
		found = append(found, fail(Warning, id, "aws ec2 modify-vpc-endpoint --vpc-endpoint-id "+id+" --reset-policy",
			"its policy does not name prod-%s-starport-layer-bucket, from which images of ECR come", f.Region))
	}
	for _, table := range tables {
		if slices.Contains(e.RouteTableIds, table) {
			found = append(found, pass(table, "it leads to S3 by %s", id))
			continue
		}
		found = append(found, fail(severity(table), table, "aws ec2 modify-vpc-endpoint --vpc-endpoint-id "+id+" --add-route-table-ids "+table,
			"the gateway endpoint of S3, %s, is not in it, and it is the table of private subnets", id))
	}
	return found
}

func checkTags(f *facts) []Finding {
	return f.eachSubnet(func(id string, s types.Subnet) []Finding {
		key := "kubernetes.io/role/internal-elb"
		if slices.Contains(f.PublicSubnets, id) {
			key = "kubernetes.io/role/elb"
		}
		if value, there := resource.EC2TagMap(s.Tags)[key]; !there || value != "1" && value != "" {
			return []Finding{fail(Warning, id, "aws ec2 create-tags --resources "+id+" --tags Key="+key+",Value=1", "it lacks the tag %s=1, by which load balancers find their subnets", key)}
		}
		return []Finding{pass(id, "it has %s", key)}
	})
}

func checkOverlap(f *facts) []Finding {
	var found []Finding
	own := f.ranges()
	overlaps := func(p netip.Prefix) bool { return slices.ContainsFunc(own, p.Overlaps) }
	if overlaps(serviceRanges[0]) && overlaps(serviceRanges[1]) {
		found = append(found, fail(Warning, f.VPC, "write cluster.serviceCidr in dataplane.yaml: a /12 to /24 of a private range that nothing uses",
			"it overlaps both ranges that EKS chooses from for services, %s and %s", serviceRanges[0], serviceRanges[1]))
	}
	if overlaps(dockerBridge) {
		found = append(found, fail(Warning, f.VPC, "use another range for the nodes' subnets", "it overlaps %s, Docker's own network on each node", dockerBridge))
	}
	for _, p := range f.peerings {
		if p.Status == nil || p.Status.Code != types.VpcPeeringConnectionStateReasonCodeActive {
			continue
		}
		other := p.AccepterVpcInfo
		if other != nil && aws.ToString(other.VpcId) == f.VPC {
			other = p.RequesterVpcInfo
		} else if p.RequesterVpcInfo == nil || aws.ToString(p.RequesterVpcInfo.VpcId) != f.VPC {
			continue
		}
		if other == nil {
			continue
		}
		blocks := []string{aws.ToString(other.CidrBlock)}
		for _, block := range other.CidrBlockSet {
			blocks = append(blocks, aws.ToString(block.CidrBlock))
		}
		for _, block := range slices.Compact(slices.Sorted(slices.Values(blocks))) {
			if cidr, err := netip.ParsePrefix(block); err == nil && (overlaps(cidr) || slices.ContainsFunc(serviceRanges, cidr.Overlaps)) {
				found = append(found, fail(Warning, f.VPC, "write cluster.serviceCidr in dataplane.yaml, or route to the peer's other ranges",
					"its peer %s (%s) has %s, which overlaps this network or the services of a cluster in it", aws.ToString(other.VpcId), aws.ToString(p.VpcPeeringConnectionId), cidr))
			}
		}
	}
	if len(found) > 0 {
		return found
	}
	if err := f.failed[callTransit]; err != nil {
		return []Finding{{Status: CannotTell, Message: "nothing overlaps of what can be seen, but whether there is a transit gateway takes " + whyNot(callTransit, err)}}
	}
	if len(f.transit) > 0 {
		return []Finding{{Status: CannotTell, Message: fmt.Sprintf("nothing overlaps of what can be seen, but ranges behind the transit gateway %s cannot be: compare them with %s",
			aws.ToString(f.transit[0].TransitGatewayId), joined(own))}}
	}
	return []Finding{pass(f.VPC, "nothing overlaps of what AWS knows; compare what is behind a VPN with %s", joined(own))}
}

func checkBlockInternet(f *facts) []Finding {
	switch f.blockInternet {
	case types.InternetGatewayBlockModeBlockBidirectional:
		return []Finding{fail(Warning, f.VPC, "aws ec2 create-vpc-block-public-access-exclusion --vpc-id "+f.VPC+" --internet-gateway-exclusion-mode allow-bidirectional",
			"the account blocks the internet in both directions in this region: gateways lead nowhere, unless this network is an exception")}
	case types.InternetGatewayBlockModeBlockIngress:
		return []Finding{fail(Warning, f.VPC, "aws ec2 create-vpc-block-public-access-exclusion --vpc-id "+f.VPC+" --internet-gateway-exclusion-mode allow-bidirectional",
			"the account blocks what comes from the internet in this region: public load balancers are not reached, unless this network is an exception")}
	}
	return []Finding{pass(f.VPC, "the account blocks nothing")}
}

func checkIPv6(f *facts) []Finding {
	if !slices.ContainsFunc(f.vpc.Ipv6CidrBlockAssociationSet, func(a types.VpcIpv6CidrBlockAssociation) bool {
		return a.Ipv6CidrBlockState != nil && a.Ipv6CidrBlockState.State == types.VpcCidrBlockStateCodeAssociated
	}) {
		return []Finding{notApplicable("it has no IPv6 range")}
	}
	return f.each(f.PrivateSubnets, func(id string, s types.Subnet) []Finding {
		table := f.tableOf(id)
		if table == nil {
			return nil
		}
		for _, r := range table.Routes {
			if aws.ToString(r.DestinationIpv6CidrBlock) == "::/0" && r.State != types.RouteStateBlackhole && aws.ToString(r.EgressOnlyInternetGatewayId) != "" {
				return []Finding{pass(id, "its way out over IPv6 is %s", aws.ToString(r.EgressOnlyInternetGatewayId))}
			}
		}
		gateway := "EIGW"
		if len(f.egressOnly) > 0 {
			gateway = aws.ToString(f.egressOnly[0].EgressOnlyInternetGatewayId)
		}
		return []Finding{fail(Warning, id, "aws ec2 create-route --route-table-id "+aws.ToString(table.RouteTableId)+" --destination-ipv6-cidr-block ::/0 --egress-only-internet-gateway-id "+gateway,
			"the network has IPv6, and its table %s has no way out over it by an egress-only gateway", aws.ToString(table.RouteTableId))}
	})
}

func checkFlowLogs(f *facts) []Finding {
	for _, l := range f.flowLogs {
		if aws.ToString(l.ResourceId) == f.VPC && aws.ToString(l.FlowLogStatus) == "ACTIVE" {
			if status := aws.ToString(l.DeliverLogsStatus); status == "FAILED" {
				return []Finding{fail(Warning, f.VPC, "aws ec2 describe-flow-logs --flow-log-ids "+aws.ToString(l.FlowLogId), "its flow log %s cannot deliver: %s", aws.ToString(l.FlowLogId), aws.ToString(l.DeliverLogsErrorMessage))}
			}
			return []Finding{pass(f.VPC, "its flow log is %s", aws.ToString(l.FlowLogId))}
		}
	}
	return []Finding{fail(Warning, f.VPC, "aws ec2 create-flow-logs --resource-type VPC --resource-ids "+f.VPC+" --traffic-type ALL --log-group-name GROUP --deliver-logs-permission-arn ROLE",
		"no flow log records its traffic")}
}

func checkReachability(f *facts) []Finding {
	return []Finding{notApplicable("it is proven from inside, once there is a cluster: firewalls, endpoint policies and an organisation's policies cannot be seen from here")}
}
