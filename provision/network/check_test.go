package network

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/operations"
)

const (
	testVPC = "vpc-0000000000000000a"
	testIGW = "igw-0000000000000000a"
)

func privateID(i int) string { return fmt.Sprintf("subnet-0000000000000000%d", i) }
func publicID(i int) string  { return fmt.Sprintf("subnet-000000000000001%d0", i) }
func natID(i int) string     { return fmt.Sprintf("nat-0000000000000000%d", i) }
func zoneID(i int) string    { return fmt.Sprintf("euc1-az%d", i+1) }

// healthy is a network to which nothing can be objected.
func healthy() *facts {
	f := &facts{
		Request:      Request{Region: "eu-central-1", Account: "123456789012", VPC: testVPC},
		dnsSupport:   true,
		dnsHostnames: true,
		vpc: &types.Vpc{VpcId: aws.String(testVPC), State: types.VpcStateAvailable, OwnerId: aws.String("123456789012"), InstanceTenancy: types.TenancyDefault,
			CidrBlock: aws.String("10.0.0.0/16"), DhcpOptionsId: aws.String("dopt-1"),
			CidrBlockAssociationSet: []types.VpcCidrBlockAssociation{{CidrBlock: aws.String("10.0.0.0/16"), CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated}}}},
		dhcp: []types.DhcpOptions{{DhcpOptionsId: aws.String("dopt-1"), DhcpConfigurations: []types.DhcpConfiguration{
			{Key: aws.String("domain-name-servers"), Values: []types.AttributeValue{{Value: aws.String("AmazonProvidedDNS")}}}}}},
		subnets:  map[string]types.Subnet{},
		gateways: []types.InternetGateway{{InternetGatewayId: aws.String(testIGW), Attachments: []types.InternetGatewayAttachment{{VpcId: aws.String(testVPC)}}}},
		flowLogs: []types.FlowLog{{FlowLogId: aws.String("fl-1"), ResourceId: aws.String(testVPC), FlowLogStatus: aws.String("ACTIVE")}},
		groups: []types.SecurityGroup{
			{GroupId: aws.String("sg-default"), GroupName: aws.String("default"), VpcId: aws.String(testVPC)},
			{GroupId: aws.String("sg-endpoints"), GroupName: aws.String("endpoints"), VpcId: aws.String(testVPC), IpPermissions: []types.IpPermission{
				{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/16")}}}}},
		},
		services:     map[string][]string{},
		reservations: map[string][]types.SubnetCidrReservation{},
		quotas:       map[string]float64{"L-0263D0A3": 5, "L-FE5A380F": 5, "L-29B6F2EB": 50, "L-E79EC296": 2500, "L-1194D53C": 100, "L-1216C47A": 64},
		failed:       map[string]error{},
	}
	plan, err := PlanAddresses("10.0.0.0/16", 3)
	if err != nil {
		panic(err)
	}
	acl := types.NetworkAcl{NetworkAclId: aws.String("acl-1"), Entries: []types.NetworkAclEntry{
		{RuleNumber: aws.Int32(100), Protocol: aws.String("-1"), CidrBlock: aws.String("0.0.0.0/0"), RuleAction: types.RuleActionAllow, Egress: aws.Bool(true)},
		{RuleNumber: aws.Int32(100), Protocol: aws.String("-1"), CidrBlock: aws.String("0.0.0.0/0"), RuleAction: types.RuleActionAllow, Egress: aws.Bool(false)},
		{RuleNumber: aws.Int32(32767), Protocol: aws.String("-1"), CidrBlock: aws.String("0.0.0.0/0"), RuleAction: types.RuleActionDeny, Egress: aws.Bool(true)},
		{RuleNumber: aws.Int32(32767), Protocol: aws.String("-1"), CidrBlock: aws.String("0.0.0.0/0"), RuleAction: types.RuleActionDeny, Egress: aws.Bool(false)},
	}}
	s3 := types.VpcEndpoint{VpcEndpointId: aws.String("vpce-s3"), VpcEndpointType: types.VpcEndpointTypeGateway, State: types.StateAvailable, ServiceName: aws.String("com.amazonaws.eu-central-1.s3")}
	public := types.RouteTable{RouteTableId: aws.String("rtb-public"), VpcId: aws.String(testVPC), Routes: []types.Route{
		{DestinationCidrBlock: aws.String("10.0.0.0/16"), GatewayId: aws.String("local"), State: types.RouteStateActive},
		{DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: aws.String(testIGW), State: types.RouteStateActive}}}
	main := types.RouteTable{RouteTableId: aws.String("rtb-main"), VpcId: aws.String(testVPC), Associations: []types.RouteTableAssociation{{Main: aws.Bool(true)}}}
	for i := range 3 {
		zone := zoneID(i)
		name := fmt.Sprintf("eu-central-1%c", 'a'+i)
		f.zones = append(f.zones, types.AvailabilityZone{ZoneId: aws.String(zone), ZoneName: aws.String(name), ZoneType: aws.String("availability-zone")})
		subnet := func(id string, b Block, free int, public bool, tag string) {
			f.subnets[id] = types.Subnet{SubnetId: aws.String(id), VpcId: aws.String(testVPC), State: types.SubnetStateAvailable, AvailabilityZone: aws.String(name), AvailabilityZoneId: aws.String(zone),
				CidrBlock: aws.String(b.CIDR.String()), AvailableIpAddressCount: aws.Int32(int32(free)), MapPublicIpOnLaunch: aws.Bool(public), Tags: []types.Tag{{Key: aws.String(tag), Value: aws.String("1")}}}
			acl.Associations = append(acl.Associations, types.NetworkAclAssociation{SubnetId: aws.String(id)})
		}
		subnet(privateID(i), plan.Private[i], 16379, false, "kubernetes.io/role/internal-elb")
		subnet(publicID(i), plan.Public[i], 58, true, "kubernetes.io/role/elb")
		public.Associations = append(public.Associations, types.RouteTableAssociation{SubnetId: aws.String(publicID(i))})
		table := fmt.Sprintf("rtb-private-%d", i)
		f.tables = append(f.tables, types.RouteTable{RouteTableId: aws.String(table), VpcId: aws.String(testVPC),
			Associations: []types.RouteTableAssociation{{SubnetId: aws.String(privateID(i))}},
			Routes:       []types.Route{{DestinationCidrBlock: aws.String("0.0.0.0/0"), NatGatewayId: aws.String(natID(i)), State: types.RouteStateActive}}})
		s3.RouteTableIds = append(s3.RouteTableIds, table)
		f.nats = append(f.nats, types.NatGateway{NatGatewayId: aws.String(natID(i)), VpcId: aws.String(testVPC), SubnetId: aws.String(publicID(i)), State: types.NatGatewayStateAvailable,
			ConnectivityType: types.ConnectivityTypePublic, NatGatewayAddresses: []types.NatGatewayAddress{{PublicIp: aws.String("203.0.113.1")}}})
		f.PublicSubnets, f.PrivateSubnets = append(f.PublicSubnets, publicID(i)), append(f.PrivateSubnets, privateID(i))
	}
	f.tables = append(f.tables, public, main)
	f.acls = []types.NetworkAcl{acl}
	f.endpoints = []types.VpcEndpoint{s3}
	for _, service := range allServices {
		f.endpoints = append(f.endpoints, types.VpcEndpoint{VpcEndpointId: aws.String("vpce-" + service), VpcEndpointType: types.VpcEndpointTypeInterface, State: types.StateAvailable,
			ServiceName: aws.String("com.amazonaws.eu-central-1." + service), PrivateDnsEnabled: aws.Bool(true), SubnetIds: slices.Clone(f.PrivateSubnets),
			Groups: []types.SecurityGroupIdentifier{{GroupId: aws.String("sg-endpoints")}}})
	}
	return f
}

// table finds a table of the facts by its id.
func (f *facts) table(id string) *types.RouteTable {
	i := slices.IndexFunc(f.tables, func(t types.RouteTable) bool { return aws.ToString(t.RouteTableId) == id })
	return &f.tables[i]
}

func (f *facts) change(id string, do func(*types.Subnet)) {
	s := f.subnets[id]
	do(&s)
	f.subnets[id] = s
}

func (f *facts) endpointOf(service string) *types.VpcEndpoint {
	i := slices.IndexFunc(f.endpoints, func(e types.VpcEndpoint) bool { return isOf(aws.ToString(e.ServiceName), f.Region, service) })
	return &f.endpoints[i]
}

// deny puts a rule before all others.
func (f *facts) deny(egress bool, cidr string, from, to int32) {
	f.acls[0].Entries = append(f.acls[0].Entries, types.NetworkAclEntry{RuleNumber: aws.Int32(1), Protocol: aws.String("6"), CidrBlock: aws.String(cidr),
		PortRange: &types.PortRange{From: aws.Int32(from), To: aws.Int32(to)}, RuleAction: types.RuleActionDeny, Egress: aws.Bool(egress)})
}

// rules replaces those of the access list.
func (f *facts) rules(entries ...types.NetworkAclEntry) { f.acls[0].Entries = entries }

func allow(egress bool, cidr, protocol string, from, to int32) types.NetworkAclEntry {
	e := types.NetworkAclEntry{RuleNumber: aws.Int32(100), Protocol: &protocol, CidrBlock: &cidr, RuleAction: types.RuleActionAllow, Egress: &egress}
	if protocol != "-1" {
		e.PortRange = &types.PortRange{From: &from, To: &to}
	}
	return e
}

func (f *facts) withoutNAT() {
	for i := range 3 {
		f.table(fmt.Sprintf("rtb-private-%d", i)).Routes = nil
	}
	f.nats = nil
}

func TestJudgeHealthy(t *testing.T) {
	t.Parallel()
	for _, private := range []bool{false, true} {
		f := healthy()
		f.PrivateEndpoint = private
		report := judge(f)
		for _, c := range checks {
			i := slices.IndexFunc(report.Checks, func(one Finding) bool { return one.ID == c.id })
			if i < 0 {
				t.Errorf("%d: got no finding, want at least one", c.id)
			}
		}
		for _, one := range report.Checks {
			if one.Status != Pass && !(one.Status == NotApplicable && (one.ID == 26 || one.ID == 28)) {
				t.Errorf("got %+v, want pass", one)
			}
			if one.Name == "" || one.Resource == "" || one.Message == "" || one.Severity == "" || one.Remedy != "" || strings.HasSuffix(one.Message, ".") {
				t.Errorf("got %+v, want a name, a resource, a severity and a sentence, and no remedy", one)
			}
		}
	}
	if len(checks) != 28 {
		t.Errorf("got %d checks, want 28", len(checks))
	}
}

// TestJudge breaks one thing at a time. Nothing else may fail but what is named.
func TestJudge(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		breaks   func(*facts)
		id       int
		severity Severity
		resource string
		zone     string
		says     string
		also     []int // checks that fail besides
	}{
		{"misses the network", func(f *facts) { f.vpc = nil }, 1, Error, testVPC, "", "there is no network", nil},
		{"sees a network that is on its way", func(f *facts) { f.vpc.State = types.VpcStatePending }, 1, Error, testVPC, "", "pending", nil},
		{"sees another account's network", func(f *facts) { f.vpc.OwnerId = aws.String("210987654321") }, 2, Warning, testVPC, "", "210987654321", nil},
		{"sees dedicated tenancy", func(f *facts) { f.vpc.InstanceTenancy = types.TenancyDedicated }, 3, Warning, testVPC, "", "dedicated", nil},
		{"sees a small network", func(f *facts) {
			f.vpc.CidrBlock = aws.String("10.0.0.0/20")
			f.vpc.CidrBlockAssociationSet[0].CidrBlock = aws.String("10.0.0.0/20")
		}, 4, Warning, testVPC, "", "/20", nil},
		{"sees a range on its way", func(f *facts) {
			f.vpc.CidrBlockAssociationSet = append(f.vpc.CidrBlockAssociationSet, types.VpcCidrBlockAssociation{CidrBlock: aws.String("100.64.0.0/16"), CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociating}})
		}, 4, Warning, testVPC, "", "100.64.0.0/16 is associating", nil},
		{"sees DNS support off", func(f *facts) { f.dnsSupport = false }, 5, Error, testVPC, "", "support", nil},
		{"sees DNS hostnames off", func(f *facts) { f.dnsHostnames = false }, 5, Error, testVPC, "", "hostnames", nil},
		{"sees another name server", func(f *facts) {
			f.dhcp[0].DhcpConfigurations[0].Values[0].Value = aws.String("10.0.0.2")
		}, 6, Warning, testVPC, "", "10.0.0.2", nil},
		{"minds another name server with a private endpoint", func(f *facts) {
			f.PrivateEndpoint = true
			f.dhcp[0].DhcpConfigurations[0].Values[0].Value = aws.String("10.0.0.2")
		}, 6, Error, testVPC, "", "10.0.0.2", nil},
		{"misses a subnet", func(f *facts) { delete(f.subnets, privateID(1)) }, 7, Error, privateID(1), "", "there is no such subnet", []int{8, 20}},
		{"sees another network's subnet", func(f *facts) {
			f.change(publicID(2), func(s *types.Subnet) { s.VpcId = aws.String("vpc-0000000000000000b") })
		}, 7, Error, publicID(2), "euc1-az3", "vpc-0000000000000000b", []int{8}},
		{"sees a subnet named twice", func(f *facts) { f.PrivateSubnets = append(f.PrivateSubnets, publicID(0)) }, 7, Error, publicID(0), "euc1-az1", "twice", []int{14, 17, 18, 19, 21}},
		{"sees one zone", func(f *facts) { f.PublicSubnets, f.PrivateSubnets = f.PublicSubnets[:1], f.PrivateSubnets[:1] }, 8, Error, testVPC, "", "one zone", nil},
		{"sees two zones", func(f *facts) { f.PublicSubnets, f.PrivateSubnets = f.PublicSubnets[:2], f.PrivateSubnets[:2] }, 8, Warning, testVPC, "", "two zones", nil},
		{"sees a zone without a public subnet", func(f *facts) { f.PublicSubnets = f.PublicSubnets[:2] }, 8, Error, privateID(2), "euc1-az3", "no public subnet", nil},
		{"sees a zone that EKS refuses", func(f *facts) {
			for _, id := range []string{privateID(2), publicID(2)} {
				f.change(id, func(s *types.Subnet) { s.AvailabilityZoneId = aws.String("use1-az3") })
			}
			f.zones[2].ZoneId = aws.String("use1-az3")
		}, 9, Error, privateID(2), "use1-az3", "use1-az3", nil},
		{"sees a local zone", func(f *facts) { f.zones[1].ZoneType = aws.String("local-zone") }, 10, Error, privateID(1), "euc1-az2", "local-zone", nil},
		{"sees an outpost", func(f *facts) {
			f.change(privateID(1), func(s *types.Subnet) { s.OutpostArn = aws.String("arn:aws:outposts:x") })
		}, 10, Error, privateID(1), "euc1-az2", "outpost", nil},
		{"sees a full private subnet", func(f *facts) {
			f.change(privateID(0), func(s *types.Subnet) { s.AvailableIpAddressCount = aws.Int32(15) })
		}, 11, Error, privateID(0), "euc1-az1", "15 free", nil},
		{"subtracts what is reserved", func(f *facts) {
			f.change(privateID(0), func(s *types.Subnet) { s.AvailableIpAddressCount = aws.Int32(20) })
			f.reservations[privateID(0)] = []types.SubnetCidrReservation{{Cidr: aws.String("10.0.0.16/28")}}
		}, 11, Error, privateID(0), "euc1-az1", "4 free addresses (16 more are reserved)", nil},
		{"sees a full public subnet", func(f *facts) {
			f.change(publicID(0), func(s *types.Subnet) { s.AvailableIpAddressCount = aws.Int32(7) })
		}, 11, Error, publicID(0), "euc1-az1", "7 free", nil},
		{"sees a small private subnet", func(f *facts) {
			f.change(privateID(0), func(s *types.Subnet) {
				s.CidrBlock, s.AvailableIpAddressCount = aws.String("10.0.0.0/24"), aws.Int32(251)
			})
		}, 11, Warning, privateID(0), "euc1-az1", "/24", nil},
		{"sees a public /28", func(f *facts) {
			f.change(publicID(0), func(s *types.Subnet) {
				s.CidrBlock, s.AvailableIpAddressCount = aws.String("10.0.192.0/28"), aws.Int32(11)
			})
		}, 11, Warning, publicID(0), "euc1-az1", "/28", nil},
		{"sees a subnet that falls back to the main table", func(f *facts) {
			f.table("rtb-main").Routes = f.table("rtb-private-1").Routes
			f.table("rtb-private-1").Associations = nil
			f.endpointOf("s3").RouteTableIds = append(f.endpointOf("s3").RouteTableIds, "rtb-main")
		}, 12, Warning, privateID(1), "euc1-az2", "rtb-main", nil},
		{"sees a public subnet without a default route", func(f *facts) { f.table("rtb-public").Routes = f.table("rtb-public").Routes[:1] }, 13, Error, publicID(1), "euc1-az2", "no default route", []int{15}},
		{"sees a black hole in a public subnet", func(f *facts) { f.table("rtb-public").Routes[1].State = types.RouteStateBlackhole }, 13, Error, publicID(0), "euc1-az1", "black hole", []int{15}},
		{"sees a gateway that is attached elsewhere", func(f *facts) { f.gateways[0].Attachments[0].VpcId = aws.String("vpc-0000000000000000b") }, 13, Error, publicID(0), "euc1-az1", "not attached", []int{15}},
		{"sees a gateway that is not there", func(f *facts) { f.gateways = nil }, 13, Error, publicID(2), "euc1-az3", "does not exist", []int{15}},
		{"sees a private subnet without a way out", func(f *facts) {
			f.table("rtb-private-0").Routes = nil
			f.endpoints = slices.DeleteFunc(f.endpoints, func(e types.VpcEndpoint) bool { return aws.ToString(e.VpcEndpointId) == "vpce-xray" })
		}, 14, Error, privateID(0), "euc1-az1", "no default route", nil},
		{"bears a private subnet with endpoints alone", func(f *facts) { f.withoutNAT() }, 14, Warning, privateID(0), "euc1-az1", "proxy", nil},
		{"sees a black hole in a private subnet", func(f *facts) { f.table("rtb-private-2").Routes[0].State = types.RouteStateBlackhole }, 14, Error, privateID(2), "euc1-az3", "black hole", nil},
		{"sees a private subnet that leads to the internet", func(f *facts) {
			f.table("rtb-private-2").Routes[0] = types.Route{DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: aws.String(testIGW), State: types.RouteStateActive}
		}, 14, Error, privateID(2), "euc1-az3", testIGW, nil},
		{"warns of a transit gateway", func(f *facts) {
			f.table("rtb-private-2").Routes[0] = types.Route{DestinationCidrBlock: aws.String("0.0.0.0/0"), TransitGatewayId: aws.String("tgw-1"), State: types.RouteStateActive}
		}, 14, Warning, privateID(2), "euc1-az3", "tgw-1", nil},
		{"sees a NAT gateway that failed", func(f *facts) { f.nats[1].State = types.NatGatewayStateFailed }, 15, Error, natID(1), "euc1-az2", "failed", nil},
		{"sees a NAT gateway that is private", func(f *facts) { f.nats[1].ConnectivityType = types.ConnectivityTypePrivate }, 15, Error, natID(1), "euc1-az2", "private", nil},
		{"sees a NAT gateway without an address", func(f *facts) { f.nats[1].NatGatewayAddresses = nil }, 15, Error, natID(1), "euc1-az2", "no public address", nil},
		{"sees a NAT gateway in a private subnet", func(f *facts) { f.nats[1].SubnetId = aws.String(privateID(1)) }, 15, Error, natID(1), "euc1-az2", "does not lead to the internet", nil},
		{"sees a NAT gateway that is not there", func(f *facts) { f.nats = f.nats[:2] }, 15, Error, natID(2), "euc1-az3", "does not exist", nil},
		{"sees a NAT gateway of another zone", func(f *facts) { f.table("rtb-private-2").Routes[0].NatGatewayId = aws.String(natID(0)) }, 16, Warning, privateID(2), "euc1-az3", natID(0), nil},
		{"sees a public subnet that gives no addresses", func(f *facts) {
			f.change(publicID(0), func(s *types.Subnet) { s.MapPublicIpOnLaunch = aws.Bool(false) })
		}, 17, Warning, publicID(0), "euc1-az1", "no public addresses", nil},
		{"sees a private subnet that gives addresses", func(f *facts) {
			f.change(privateID(0), func(s *types.Subnet) { s.MapPublicIpOnLaunch = aws.Bool(true) })
		}, 17, Warning, privateID(0), "euc1-az1", "although it is private", nil},
		{"sees an access list that denies HTTPS", func(f *facts) { f.deny(true, "0.0.0.0/0", 443, 443) }, 18, Error, privateID(0), "euc1-az1", "HTTPS to the outside", nil},
		{"sees an access list that denies a part of the answers", func(f *facts) { f.deny(false, "0.0.0.0/0", 32768, 65535) }, 18, Warning, privateID(0), "euc1-az1", "a part of answers", nil},
		{"sees an access list that denies all answers", func(f *facts) { f.deny(false, "0.0.0.0/0", 1024, 65535) }, 18, Error, privateID(0), "euc1-az1", "denies answers", nil},
		{"sees an access list that denies all by having no rule", func(f *facts) { f.acls[0].Entries = f.acls[0].Entries[2:] }, 18, Error, publicID(0), "euc1-az1", "HTTPS from the outside", nil},
		{"sees an access list that denies a port within the network", func(f *facts) { f.deny(false, "10.0.0.0/16", 10250, 10250) }, 18, Warning, privateID(0), "euc1-az1", "a part of what comes from the network", nil},
		{"sees an access list that lets out to private addresses alone", func(f *facts) { f.rules(allow(true, "10.0.0.0/8", "-1", 0, 0), allow(false, "0.0.0.0/0", "-1", 0, 0)) }, 18, Error, privateID(0), "euc1-az1", "denies HTTPS to the outside", nil},
		{"sees an access list that lets answers in from the network alone", func(f *facts) { f.rules(allow(true, "0.0.0.0/0", "-1", 0, 0), allow(false, "10.0.0.0/16", "-1", 0, 0)) }, 18, Error, privateID(0), "euc1-az1", "denies answers", nil},
		{"sees an access list that keeps names from the network", func(f *facts) {
			f.rules(allow(true, "0.0.0.0/0", "-1", 0, 0), allow(false, "0.0.0.0/0", "6", 0, 65535))
		}, 18, Warning, privateID(0), "euc1-az1", "UDP port 53", nil},
		{"misses the gateway endpoint", func(f *facts) { f.endpoints = f.endpoints[1:] }, 19, Warning, testVPC, "", "no gateway endpoint", nil},
		{"minds the missing gateway endpoint without NAT", func(f *facts) { f.withoutNAT(); f.endpoints = f.endpoints[1:] }, 19, Error, testVPC, "", "no gateway endpoint", []int{14}},
		{"sees a table that the gateway endpoint is not in", func(f *facts) { f.endpoints[0].RouteTableIds = f.endpoints[0].RouteTableIds[:2] }, 19, Warning, "rtb-private-2", "", "vpce-s3", nil},
		{"sees a gateway endpoint with a narrow policy", func(f *facts) {
			f.endpoints[0].PolicyDocument = aws.String(`{"Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:s3:::mine/*"}]}`)
		}, 19, Warning, "vpce-s3", "", "starport", nil},
		{"misses a recommended endpoint", func(f *facts) {
			f.endpoints = slices.DeleteFunc(f.endpoints, func(e types.VpcEndpoint) bool { return aws.ToString(e.VpcEndpointId) == "vpce-logs" })
		}, 20, Warning, testVPC, "", "no endpoint of logs", nil},
		{"misses an endpoint of the private set-up", func(f *facts) {
			f.PrivateEndpoint = true
			f.endpoints = slices.DeleteFunc(f.endpoints, func(e types.VpcEndpoint) bool { return aws.ToString(e.VpcEndpointId) == "vpce-xray" })
		}, 20, Warning, testVPC, "", "no endpoint of xray", nil},
		{"minds a missing endpoint without NAT", func(f *facts) {
			f.withoutNAT()
			f.endpoints = slices.DeleteFunc(f.endpoints, func(e types.VpcEndpoint) bool { return aws.ToString(e.VpcEndpointId) == "vpce-sts" })
		}, 20, Error, testVPC, "", "no endpoint of sts", []int{14}},
		{"sees an endpoint that failed", func(f *facts) { f.endpointOf("ec2").State = types.StateFailed }, 20, Error, "vpce-ec2", "", "failed", nil},
		{"sees an endpoint that waits to be accepted", func(f *facts) { f.endpointOf("ec2").State = types.StatePendingAcceptance }, 20, Error, "vpce-ec2", "", "pendingacceptance", nil},
		{"sees an endpoint without a private name", func(f *facts) { f.endpointOf("ec2").PrivateDnsEnabled = aws.Bool(false) }, 20, Warning, "vpce-ec2", "", "no private name", nil},
		{"sees an endpoint that is not in a zone", func(f *facts) { f.endpointOf("ec2").SubnetIds = f.endpointOf("ec2").SubnetIds[:2] }, 20, Warning, "vpce-ec2", "euc1-az3", "not in zone euc1-az3", nil},
		{"sees an endpoint whose group is too narrow", func(f *facts) {
			f.groups = append(f.groups, types.SecurityGroup{GroupId: aws.String("sg-narrow"), VpcId: aws.String(testVPC), IpPermissions: []types.IpPermission{
				{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/17")}}}}})
			f.endpointOf("ec2").Groups[0].GroupId = aws.String("sg-narrow")
		}, 20, Error, "vpce-ec2", "euc1-az3", "does not admit port 443 from " + privateID(2), nil},
		{"sees an endpoint that admits its own group alone", func(f *facts) {
			f.groups[1].IpPermissions = []types.IpPermission{{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String("sg-endpoints")}}}}
		}, 20, Error, "vpce-ec2", "euc1-az1", "does not admit port 443 from " + privateID(0), nil},
		{"misses a tag", func(f *facts) { f.change(privateID(0), func(s *types.Subnet) { s.Tags = nil }) }, 21, Warning, privateID(0), "euc1-az1", "internal-elb", nil},
		{"sees Docker's range", func(f *facts) {
			f.vpc.CidrBlockAssociationSet = append(f.vpc.CidrBlockAssociationSet, types.VpcCidrBlockAssociation{CidrBlock: aws.String("172.17.0.0/16")})
		}, 22, Warning, testVPC, "", "Docker", []int{}},
		{"sees a peer that overlaps services", func(f *facts) {
			f.peerings = []types.VpcPeeringConnection{{Status: &types.VpcPeeringConnectionStateReason{Code: types.VpcPeeringConnectionStateReasonCodeActive},
				RequesterVpcInfo: &types.VpcPeeringConnectionVpcInfo{VpcId: aws.String(testVPC)},
				AccepterVpcInfo:  &types.VpcPeeringConnectionVpcInfo{VpcId: aws.String("vpc-peer"), CidrBlockSet: []types.CidrBlock{{CidrBlock: aws.String("172.20.0.0/16")}}}}}
		}, 22, Warning, testVPC, "", "vpc-peer", nil},
		{"sees a peer whose first range overlaps", func(f *facts) {
			f.peerings = []types.VpcPeeringConnection{{Status: &types.VpcPeeringConnectionStateReason{Code: types.VpcPeeringConnectionStateReasonCodeActive},
				RequesterVpcInfo: &types.VpcPeeringConnectionVpcInfo{VpcId: aws.String("vpc-peer"), CidrBlock: aws.String("10.0.128.0/20")},
				AccepterVpcInfo:  &types.VpcPeeringConnectionVpcInfo{VpcId: aws.String(testVPC)}}}
		}, 22, Warning, testVPC, "", "10.0.128.0/20", nil},
		{"sees the internet blocked", func(f *facts) { f.blockInternet = types.InternetGatewayBlockModeBlockBidirectional }, 23, Warning, testVPC, "", "both directions", nil},
		{"sees a limit reached", func(f *facts) { f.addresses = 5 }, 24, Warning, testVPC, "", "elastic IP", nil},
		{"sees the default group in use", func(f *facts) {
			f.interfaces = []types.NetworkInterface{{NetworkInterfaceId: aws.String("eni-1"), Groups: []types.GroupIdentifier{{GroupId: aws.String("sg-default")}}}}
		}, 25, Warning, "sg-default", "", "eni-1", nil},
		{"sees a group with many rules", func(f *facts) {
			f.groups[1].IpPermissions[0].IpRanges = append(f.groups[1].IpPermissions[0].IpRanges, make([]types.IpRange, 59)...)
		}, 25, Warning, "sg-endpoints", "", "60 rules", nil},
		{"sees IPv6 without a way out", func(f *facts) {
			f.vpc.Ipv6CidrBlockAssociationSet = []types.VpcIpv6CidrBlockAssociation{{Ipv6CidrBlockState: &types.VpcCidrBlockState{State: types.VpcCidrBlockStateCodeAssociated}}}
		}, 26, Warning, privateID(0), "euc1-az1", "IPv6", nil},
		{"misses the flow log", func(f *facts) { f.flowLogs = nil }, 27, Warning, testVPC, "", "no flow log", nil},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			f := healthy()
			c.breaks(f)
			report := judge(f)
			i := slices.IndexFunc(report.Checks, func(one Finding) bool {
				return one.ID == c.id && one.Status == Fail && one.Severity == c.severity && one.Resource == c.resource && one.Zone == c.zone && strings.Contains(one.Message, c.says)
			})
			if i < 0 {
				t.Errorf("got %s, want %d to fail with %s at %s %s: %q", failures(report), c.id, c.severity, c.resource, c.zone, c.says)
			} else if report.Checks[i].Remedy == "" {
				t.Errorf("got %+v, want a remedy", report.Checks[i])
			}
			for _, one := range report.Checks {
				if one.Status == Fail && one.ID != c.id && !slices.Contains(c.also, one.ID) {
					t.Errorf("got %+v, want nothing else to fail", one)
				}
			}
		})
	}
}

func failures(r *Report) string {
	var b strings.Builder
	for _, one := range r.Checks {
		if one.Status == Fail {
			fmt.Fprintf(&b, "\n%d %s %s %s: %s", one.ID, one.Severity, one.Resource, one.Zone, one.Message)
		}
	}
	return or(b.String(), "no failure")
}

// TestJudgeCannotTell withholds one call at a time.
func TestJudgeCannotTell(t *testing.T) {
	t.Parallel()
	refused := &smithy.GenericAPIError{Code: "UnauthorizedOperation", Message: "no"}
	calls := map[string]bool{}
	for _, c := range checks {
		for _, call := range c.needs {
			calls[call] = true
		}
	}
	delete(calls, theTiers)
	for call := range calls {
		f := healthy()
		f.failed[call] = refused
		report := judge(f)
		for _, c := range checks {
			if !slices.Contains(c.needs, call) {
				continue
			}
			i := slices.IndexFunc(report.Checks, func(one Finding) bool { return one.ID == c.id })
			if got := report.Checks[i]; got.Status != CannotTell || !strings.Contains(got.Message, call) || got.Severity != c.severity {
				t.Errorf("without %s: got %+v, want it to be unable to tell, and the call named", call, got)
			}
		}
		if len(report.With(Fail, Error)) > 0 {
			t.Errorf("without %s: got %s, want no failure", call, failures(report))
		}
	}
	// Where nobody said which subnets are public, that takes the tables of routes.
	f := healthy()
	f.PublicSubnets, f.PrivateSubnets = nil, nil
	f.sortTiers()
	f.failed[callTables] = refused
	for _, one := range judge(f).Checks {
		if takes := slices.Contains(checks[one.ID-1].needs, theTiers); takes && (one.Status != CannotTell || !strings.Contains(one.Message, callTables)) {
			t.Errorf("got %+v, want it to be unable to tell without %s", one, callTables)
		}
	}

	f = healthy()
	f.failed[callTransit], f.failed[callReservations], f.failed[callQuota] = refused, &operations.UnlistedCallError{Service: "EC2", Operation: "GetSubnetCidrReservations"}, refused
	f.failed[callServices] = refused
	f.quotas = nil
	got := map[int][]Status{}
	for _, one := range judge(f).Checks {
		if one.Status == CannotTell {
			got[one.ID] = append(got[one.ID], one.Status)
		}
	}
	for _, id := range []int{11, 20, 22, 24} {
		if len(got[id]) != 1 {
			t.Errorf("got %v of %d, want it to be unable to tell once", got[id], id)
		}
	}
	if len(got) != 4 {
		t.Errorf("got %v, want 11, 20, 22 and 24 to be unable to tell", got)
	}
}

// TestJudgeBears has networks that are made in another way, and in which nothing fails.
func TestJudgeBears(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		how  func(*facts)
	}{
		{"an access list with the least rules", func(f *facts) {
			least := []types.NetworkAclEntry{
				allow(false, "10.0.0.0/17", "-1", 0, 0), allow(false, "10.0.128.0/17", "-1", 0, 0), allow(true, "10.0.0.0/16", "-1", 0, 0),
				allow(true, "0.0.0.0/0", "6", 443, 443), allow(false, "0.0.0.0/0", "6", 1024, 65535), allow(true, "0.0.0.0/0", "6", 1024, 65535), allow(false, "0.0.0.0/0", "6", 443, 443)}
			for i := range least {
				least[i].RuleNumber = aws.Int32(int32(100 + i))
			}
			f.rules(least...)
		}},
		{"a group of endpoints that admits a subnet in parts", func(f *facts) {
			f.groups[1].IpPermissions[0].IpRanges = []types.IpRange{{CidrIp: aws.String("10.0.0.0/17")}, {CidrIp: aws.String("10.0.128.0/19")}, {CidrIp: aws.String("10.0.160.0/19")}}
		}},
		{"a group of endpoints that admits a list of ranges", func(f *facts) {
			f.groups[1].IpPermissions[0].IpRanges, f.groups[1].IpPermissions[0].PrefixListIds = nil, []types.PrefixListId{{PrefixListId: aws.String("pl-1")}}
		}},
	} {
		f := healthy()
		c.how(f)
		for _, one := range judge(f).Checks {
			if one.Status == Fail {
				t.Errorf("%s: got %+v, want it to pass", c.name, one)
			}
		}
	}
}

func TestSortTiers(t *testing.T) {
	t.Parallel()
	f := healthy()
	public, private := f.PublicSubnets, f.PrivateSubnets
	f.PublicSubnets, f.PrivateSubnets = nil, nil
	f.sortTiers()
	if !slices.Equal(f.PublicSubnets, public) || !slices.Equal(f.PrivateSubnets, private) {
		t.Errorf("got %v and %v, want %v and %v", f.PublicSubnets, f.PrivateSubnets, public, private)
	}
	f.PublicSubnets, f.PrivateSubnets = nil, private[:2]
	f.sortTiers()
	if !slices.Equal(f.PublicSubnets, public) || !slices.Equal(f.PrivateSubnets, private[:2]) {
		t.Errorf("got %v and %v, want %v and the two that were named", f.PublicSubnets, f.PrivateSubnets, public)
	}

	// Routes decide where there are no tags, and tags where there are.
	f = healthy()
	f.change(privateID(0), func(s *types.Subnet) { s.Tags = nil })
	for i := range 2 {
		f.table(fmt.Sprintf("rtb-private-%d", i)).Routes = f.table("rtb-public").Routes
	}
	f.PublicSubnets, f.PrivateSubnets = nil, nil
	f.sortTiers()
	if !slices.Contains(f.PublicSubnets, privateID(0)) || !slices.Contains(f.PrivateSubnets, privateID(1)) {
		t.Errorf("got public %v, want %s by its routes, and %s private by its tag", f.PublicSubnets, privateID(0), privateID(1))
	}

	// A name decides where there is no such tag.
	f = healthy()
	f.change(privateID(0), func(s *types.Subnet) {
		s.Tags = []types.Tag{{Key: aws.String("Name"), Value: aws.String("Prod-Private-1a")}}
	})
	f.table("rtb-private-0").Routes = f.table("rtb-public").Routes
	f.PublicSubnets, f.PrivateSubnets = nil, nil
	f.sortTiers()
	if !slices.Contains(f.PrivateSubnets, privateID(0)) {
		t.Errorf("got private %v, want %s by its name", f.PrivateSubnets, privateID(0))
	}
}
