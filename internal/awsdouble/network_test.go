package awsdouble

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
	"biplane.dev/biplane/internal/awsidentity"
)

// testClock is a time that tests move.
type testClock struct {
	lock sync.Mutex
	now  time.Time
}

func (c *testClock) Now() time.Time {
	c.lock.Lock()
	defer c.lock.Unlock()
	return c.now
}

func (c *testClock) pass(d time.Duration) {
	c.lock.Lock()
	defer c.lock.Unlock()
	c.now = c.now.Add(d)
}

// account is the customer's account in a double whose time stands still.
type account struct {
	t     *testing.T
	d     *Double
	clock *testClock
	key   awsidentity.Credentials
}

func newAccount(t *testing.T) *account {
	t.Helper()
	a := &account{t: t, d: startWithMoto(t, Options{}), clock: &testClock{now: time.Now()}}
	a.d.goBy(a.clock)
	a.key = a.d.Accounts().Customer.Credentials
	return a
}

// as is the same double for somebody else.
func (a *account) as(key awsidentity.Credentials) *account {
	other := *a
	other.key = key
	return &other
}

// ec2 calls EC2; what is made has the id that stands in the element.
func (a *account) ec2(element, action string, parameters ...string) string {
	a.t.Helper()
	text := must(a.t, 200)(query(a.t, a.d, a.key, "ec2", action, parameters...))
	if element == "" {
		return text
	}
	return between(a.t, text, "<"+element+">", "</"+element+">")
}

// refused calls EC2, which must refuse with a code.
func (a *account) refused(code, action string, parameters ...string) {
	a.t.Helper()
	status, text, err := query(a.t, a.d, a.key, "ec2", action, parameters...)
	if err != nil {
		a.t.Fatal(err)
	}
	if status < 400 || !strings.Contains(text, "<Code>"+code+"</Code>") {
		a.t.Errorf("%s: got status %d %s, want %s", action, status, text, code)
	}
}

func (a *account) elb(action string, parameters ...string) string {
	a.t.Helper()
	return must(a.t, 200)(query(a.t, a.d, a.key, "elasticloadbalancing", action, append(parameters, "Version", "2015-12-01")...))
}

// eks calls EKS and reads the answer.
func (a *account) eks(method, path, body string) (answer map[string]any, status int) {
	a.t.Helper()
	r := newRequest(a.t, method, a.d.URL()+path)
	r.Header.Set("Content-Type", "application/json")
	status, text, err := send(a.t, a.d, a.key, "eks", r, body)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		a.t.Fatalf("%s %s: got %s: %v", method, path, text, err)
	}
	return answer, status
}

func TestNetworkTakesItsTime(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	n := newNetworkFor(t, a.d)
	vpc, public, private := n.vpc, n.subnets[0], n.subnets[1]
	if options := a.ec2("", "DescribeDhcpOptions", "DhcpOptionsId.1", a.ec2("dhcpOptionsId", "DescribeVpcs", "VpcId.1", vpc)); !strings.Contains(options, "AmazonProvidedDNS") {
		t.Errorf("got %s, want options that can be described", options)
	}
	gateway := a.ec2("internetGatewayId", "CreateInternetGateway")
	table := a.ec2("routeTableId", "CreateRouteTable", "VpcId", vpc)
	a.refused("InvalidParameterValue", "CreateRoute", "RouteTableId", table, "DestinationCidrBlock", "0.0.0.0/0", "GatewayId", gateway)
	a.ec2("", "AttachInternetGateway", "VpcId", vpc, "InternetGatewayId", gateway)
	address := a.ec2("allocationId", "AllocateAddress", "Domain", "vpc")
	create := []string{"SubnetId", public, "AllocationId", address, "ClientToken", "t", "TagSpecification.1.ResourceType", "natgateway", "TagSpecification.1.Tag.1.Key", "owner", "TagSpecification.1.Tag.1.Value", "us"}
	nat := a.ec2("natGatewayId", "CreateNatGateway", create...)
	if again := a.ec2("natGatewayId", "CreateNatGateway", create...); again != nat {
		t.Errorf("got %s under the same token, want %s", again, nat)
	}
	a.refused("IdempotentParameterMismatch", "CreateNatGateway", "SubnetId", private, "AllocationId", address, "ClientToken", "t")
	state := func() string { return a.ec2("state", "DescribeNatGateways", "NatGatewayId.1", nat) }
	want := func(want string) {
		t.Helper()
		if got := state(); got != want {
			t.Errorf("got a NAT gateway in state %s, want %s", got, want)
		}
	}
	want("pending")
	a.refused("InvalidNatGatewayID.NotFound", "CreateRoute", "RouteTableId", table, "DestinationCidrBlock", "0.0.0.0/0", "NatGatewayId", nat)
	for filters, there := range map[string]bool{"state pending": true, "state available": false, "tag:owner us": true, "tag:owner them": false, "tag-key owner": true, "vpc-id " + vpc: true, "subnet-id subnet-0": false} {
		name, value, _ := strings.Cut(filters, " ")
		if got := strings.Contains(a.ec2("", "DescribeNatGateways", "Filter.1.Name", name, "Filter.1.Value.1", value), nat); got != there {
			t.Errorf("with the filter %s: got %t, want %t", filters, got, there)
		}
	}
	a.clock.pass(typical.CreateNATGateway)
	want("available")
	a.ec2("", "CreateRoute", "RouteTableId", table, "DestinationCidrBlock", "0.0.0.0/0", "NatGatewayId", nat)

	a.refused("DependencyViolation", "DeleteSubnet", "SubnetId", public)
	a.refused("DependencyViolation", "DetachInternetGateway", "VpcId", vpc, "InternetGatewayId", gateway)
	a.refused("InvalidIPAddress.InUse", "ReleaseAddress", "AllocationId", address)
	a.refused("InvalidParameterValue", "DeleteNetworkInterface", "NetworkInterfaceId", a.ec2("networkInterfaceId", "DescribeNetworkInterfaces", "Filter.1.Name", "subnet-id", "Filter.1.Value.1", public))
	a.ec2("", "DeleteNatGateway", "NatGatewayId", nat)
	want("deleting")
	a.refused("InvalidIPAddress.InUse", "ReleaseAddress", "AllocationId", address)
	a.clock.pass(typical.DeleteNATGateway)
	want("deleted")
	if routes := a.ec2("", "DescribeRouteTables", "RouteTableId.1", table); !strings.Contains(routes, "<state>blackhole</state>") {
		t.Errorf("got %s, want a blackhole", routes)
	}
	a.ec2("", "ReleaseAddress", "AllocationId", address)
	a.ec2("", "DetachInternetGateway", "VpcId", vpc, "InternetGatewayId", gateway)
	a.ec2("", "DeleteSubnet", "SubnetId", public)
	a.clock.pass(typical.ShowDeletedNAT)
	a.refused("NatGatewayNotFound", "DescribeNatGateways", "NatGatewayId.1", nat)
	a.refused("NatGatewayNotFound", "DeleteNatGateway", "NatGatewayId", nat)

	a.refused("DependencyViolation", "DeleteVpc", "VpcId", vpc)
	a.ec2("", "DeleteRouteTable", "RouteTableId", table)
	a.ec2("", "DeleteSubnet", "SubnetId", private)
	a.ec2("", "DeleteVpc", "VpcId", vpc)
}

func TestEndpointsTakeTheirTime(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	n := newNetworkFor(t, a.d)
	group := a.ec2("groupId", "CreateSecurityGroup", "VpcId", n.vpc, "GroupName", "endpoints", "GroupDescription", "d")
	create := []string{"VpcId", n.vpc, "ServiceName", "com.amazonaws.eu-central-1.sts", "VpcEndpointType", "Interface", "SubnetId.1", n.subnets[0], "SecurityGroupId.1", group}
	a.refused("InvalidParameter", "CreateVpcEndpoint", create...) // the VPC gives no names to hosts
	a.ec2("", "ModifyVpcAttribute", "VpcId", n.vpc, "EnableDnsHostnames.Value", "true")
	endpoint := a.ec2("vpcEndpointId", "CreateVpcEndpoint", create...)
	a.refused("InvalidParameter", "CreateVpcEndpoint", create...) // its name is taken
	if got := a.ec2("state", "DescribeVpcEndpoints", "VpcEndpointId.1", endpoint); got != "pending" {
		t.Errorf("got state %s, want pending", got)
	}
	a.clock.pass(typical.CreateInterfaceEndpoint)
	if got := a.ec2("state", "DescribeVpcEndpoints", "Filter.1.Name", "vpc-endpoint-state", "Filter.1.Value.1", "available"); got != "available" {
		t.Errorf("got state %s, want available", got)
	}
	if services := a.ec2("serviceName", "DescribeVpcEndpointServices", "Filter.1.Name", "service-name", "Filter.1.Value.1", "com.amazonaws.eu-central-1.sts"); services != "com.amazonaws.eu-central-1.sts" {
		t.Errorf("got service %q, want that of sts", services)
	}
	a.refused("DependencyViolation", "DeleteSecurityGroup", "GroupId", group)
	a.refused("DependencyViolation", "DeleteSubnet", "SubnetId", n.subnets[0])
	gateway := a.ec2("vpcEndpointId", "CreateVpcEndpoint", "VpcId", n.vpc, "ServiceName", "com.amazonaws.eu-central-1.s3")
	if got := a.ec2("vpcEndpointType", "DescribeVpcEndpoints", "VpcEndpointId.1", gateway); got != "Gateway" {
		t.Errorf("got type %q of an endpoint that names none, want Gateway", got)
	}
	answer := a.ec2("", "DeleteVpcEndpoints", "VpcEndpointId.1", endpoint, "VpcEndpointId.2", "vpce-0", "VpcEndpointId.3", gateway)
	if !strings.Contains(answer, "<resourceId>vpce-0</resourceId>") || strings.Contains(answer, gateway) {
		t.Errorf("got %s, want the endpoint that is not there named, and no other", answer)
	}
	a.refused("InvalidVpcEndpointId.NotFound", "DescribeVpcEndpoints", "VpcEndpointId.1", gateway)
	a.refused("DependencyViolation", "DeleteSubnet", "SubnetId", n.subnets[0])
	a.clock.pass(typical.DeleteInterfaceEndpoint)
	a.refused("InvalidVpcEndpointId.NotFound", "DescribeVpcEndpoints", "VpcEndpointId.1", endpoint)

	other := a.ec2("groupId", "CreateSecurityGroup", "VpcId", n.vpc, "GroupName", "other", "GroupDescription", "d")
	a.ec2("", "AuthorizeSecurityGroupIngress", "GroupId", other, "IpPermissions.1.IpProtocol", "tcp", "IpPermissions.1.FromPort", "443", "IpPermissions.1.ToPort", "443", "IpPermissions.1.Groups.1.GroupId", group)
	a.refused("DependencyViolation", "DeleteSecurityGroup", "GroupId", group)
	a.ec2("", "DeleteSecurityGroup", "GroupId", other)
	a.ec2("", "DeleteSecurityGroup", "GroupId", group)
	a.refused("CannotDelete", "DeleteSecurityGroup", "GroupId", a.ec2("groupId", "DescribeSecurityGroups", "Filter.1.Name", "vpc-id", "Filter.1.Value.1", n.vpc))
}

func TestPrivateLink(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	offered := newNetworkFor(t, a.d)
	balancer := between(t, a.elb("CreateLoadBalancer", "Name", "nlb", "Type", "network", "Scheme", "internal", "Subnets.member.1", offered.subnets[0], "Subnets.member.2", offered.subnets[1]), "<LoadBalancerArn>", "<")
	if !strings.Contains(balancer, ":loadbalancer/net/nlb/") {
		t.Errorf("got load balancer %s, want it a network's", balancer)
	}
	if text := a.elb("DescribeLoadBalancers"); !strings.Contains(text, "<Code>provisioning</Code>") {
		t.Errorf("got %s, want a load balancer that is being provisioned", text)
	}
	a.clock.pass(typical.CreateNetworkLoadBalancer)
	if text := a.elb("DescribeLoadBalancers"); !strings.Contains(text, "<Code>active</Code>") {
		t.Errorf("got %s, want an active load balancer", text)
	}
	made := a.ec2("", "CreateVpcEndpointServiceConfiguration", "NetworkLoadBalancerArn.1", balancer, "AcceptanceRequired", "true", "PrivateDnsName", "k8s.example.com",
		"TagSpecification.1.ResourceType", "vpc-endpoint-service", "TagSpecification.1.Tag.1.Key", "owner", "TagSpecification.1.Tag.1.Value", "us")
	service, name := between(t, made, "<serviceId>", "<"), between(t, made, "<serviceName>", "<")
	label, secret := between(t, made, "<name>", "<"), between(t, made, "<value>vpce", "<")
	state := func() string {
		t.Helper()
		return between(t, a.ec2("", "DescribeVpcEndpointServiceConfigurations", "Filter.1.Name", "tag:owner", "Filter.1.Value.1", "us"), "<privateDnsNameConfiguration><state>", "<")
	}
	verify := func() {
		t.Helper()
		a.ec2("", "StartVpcEndpointServicePrivateDnsVerification", "ServiceId", service)
		if got := state(); got != "pendingVerification" {
			t.Errorf("got the name %s, want pendingVerification", got)
		}
		a.clock.pass(typical.VerifyPrivateDNS)
	}
	verify()
	if got := state(); got != "failed" {
		t.Errorf("got the name %s without a record, want failed", got)
	}

	// The vendor's side: it is let in by name, asks, and proves the name.
	theirs := a.as(a.d.Accounts().vendorAdministrator)
	vpc := theirs.ec2("vpcId", "CreateVpc", "CidrBlock", "10.9.0.0/16")
	subnet := theirs.ec2("subnetId", "CreateSubnet", "VpcId", vpc, "CidrBlock", "10.9.0.0/24", "AvailabilityZone", "eu-central-1a")
	connect := []string{"VpcId", vpc, "ServiceName", name, "VpcEndpointType", "Interface", "SubnetId.1", subnet, "PrivateDnsEnabled", "false"}
	theirs.refused("InvalidServiceName", "CreateVpcEndpoint", connect...)
	theirs.refused("InvalidServiceName", "DescribeVpcEndpointServices", "ServiceName.1", name)
	a.ec2("", "ModifyVpcEndpointServicePermissions", "ServiceId", service, "AddAllowedPrincipals.1", "arn:aws:iam::479331373192:root")
	if services := theirs.ec2("", "DescribeVpcEndpointServices", "ServiceName.1", name); !strings.Contains(services, "<item>eu-central-1a</item>") {
		t.Errorf("got %s, want the service with its zones", services)
	}
	elsewhere := theirs.ec2("subnetId", "CreateSubnet", "VpcId", vpc, "CidrBlock", "10.9.1.0/24", "AvailabilityZone", "eu-central-1c")
	theirs.refused("InvalidParameter", "CreateVpcEndpoint", "VpcId", vpc, "ServiceName", name, "VpcEndpointType", "Interface", "SubnetId.1", elsewhere)
	endpoint := theirs.ec2("vpcEndpointId", "CreateVpcEndpoint", connect...)
	connection := func() string {
		t.Helper()
		return a.ec2("vpcEndpointState", "DescribeVpcEndpointConnections", "Filter.1.Name", "service-id", "Filter.1.Value.1", service)
	}
	steps := func(want string) {
		t.Helper()
		if got := connection(); got != want {
			t.Errorf("got a connection in state %s, want %s", got, want)
		}
		if got := theirs.ec2("state", "DescribeVpcEndpoints", "VpcEndpointId.1", endpoint); got != want {
			t.Errorf("got an endpoint in state %s, want %s", got, want)
		}
	}
	steps("pendingAcceptance")
	if answer := a.ec2("", "DeleteVpcEndpointServiceConfigurations", "ServiceId.1", service); !strings.Contains(answer, "ExistingVpcEndpointConnections") {
		t.Errorf("got %s, want the connection in the way", answer)
	}
	a.ec2("", "AcceptVpcEndpointConnections", "ServiceId", service, "VpcEndpointId.1", endpoint)
	steps("pending")
	a.clock.pass(typical.ConnectEndpoint)
	steps("available")
	theirs.refused("InvalidParameter", "ModifyVpcEndpoint", "VpcEndpointId", endpoint, "PrivateDnsEnabled", "true")

	zone := func(method, path, body string) string {
		t.Helper()
		r := newRequest(t, method, a.d.URL()+"/2013-04-01"+path)
		status, text, err := send(t, a.d, theirs.key, "route53", r, body)
		if err != nil || status >= 300 {
			t.Fatalf("%s %s: got %d %s %v", method, path, status, text, err)
		}
		return text
	}
	id := between(t, zone(http.MethodPost, "/hostedzone", `<CreateHostedZoneRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><Name>example.com</Name><CallerReference>1</CallerReference></CreateHostedZoneRequest>`), "<Id>/hostedzone/", "<")
	zone(http.MethodPost, "/hostedzone/"+id+"/rrset/", fmt.Sprintf(`<ChangeResourceRecordSetsRequest xmlns="https://route53.amazonaws.com/doc/2013-04-01/"><ChangeBatch><Changes><Change><Action>CREATE</Action>
		<ResourceRecordSet><Name>%s.k8s.example.com</Name><Type>TXT</Type><TTL>60</TTL><ResourceRecords><ResourceRecord><Value>"vpce%s"</Value></ResourceRecord></ResourceRecords></ResourceRecordSet></Change></Changes></ChangeBatch></ChangeResourceRecordSetsRequest>`, label, secret))
	verify()
	if got := state(); got != "verified" {
		t.Errorf("got the name %s with its record, want verified", got)
	}
	theirs.ec2("", "ModifyVpcEndpoint", "VpcEndpointId", endpoint, "PrivateDnsEnabled", "true")

	status, text, err := query(t, a.d, a.key, "elasticloadbalancing", "DeleteLoadBalancer", "LoadBalancerArn", balancer, "Version", "2015-12-01")
	if err != nil || status != 400 || !strings.Contains(text, "ResourceInUse") {
		t.Errorf("got %d %s %v, want the load balancer in use", status, text, err)
	}
	a.ec2("", "RejectVpcEndpointConnections", "ServiceId", service, "VpcEndpointId.1", endpoint)
	steps("rejected")
	if answer := a.ec2("", "DeleteVpcEndpointServiceConfigurations", "ServiceId.1", service); strings.Contains(answer, "<item>") {
		t.Errorf("got %s, want the service gone", answer)
	}
	a.refused("DependencyViolation", "DeleteSubnet", "SubnetId", offered.subnets[0])
	a.elb("DeleteLoadBalancer", "LoadBalancerArn", balancer)
	a.refused("DependencyViolation", "DeleteSubnet", "SubnetId", offered.subnets[0])
	a.clock.pass(typical.DeleteNetworkLoadBalancer)
	a.ec2("", "DeleteSubnet", "SubnetId", offered.subnets[0])
}

func TestClusterInItsAccount(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	request := clusterRequest(t, a.d, "demo", "cluster")
	var asked struct {
		ResourcesVPCConfig struct{ SubnetIDs []string } `json:"resourcesVpcConfig"`
	}
	if err := json.Unmarshal([]byte(request), &asked); err != nil {
		t.Fatal(err)
	}
	subnet := asked.ResourcesVPCConfig.SubnetIDs[0]
	if answer, status := a.eks(http.MethodPost, "/clusters", request); status != 200 {
		t.Fatalf("got %d %v", status, answer)
	}
	if !a.d.world.roleExists(a.d.customer, "AWSServiceRoleForAmazonEKS") {
		t.Error("got no service-linked role, want it made")
	}
	a.clock.pass(typical.CreateCluster)
	answer, _ := a.eks(http.MethodGet, "/clusters/demo", "")
	group := fmt.Sprint(answer["cluster"].(map[string]any)["resourcesVpcConfig"].(map[string]any)["clusterSecurityGroupId"])
	shown := a.ec2("", "DescribeNetworkInterfaces", "Filter.1.Name", "description", "Filter.1.Value.1", "Amazon EKS demo", "Filter.2.Name", "status", "Filter.2.Value.1", "in-use")
	if strings.Count(shown, "<networkInterfaceId>") != 2 || !strings.Contains(shown, group) {
		t.Errorf("got %s, want two interfaces in use, in %s", shown, group)
	}
	a.refused("DependencyViolation", "DeleteSubnet", "SubnetId", subnet)
	a.refused("DependencyViolation", "DeleteSecurityGroup", "GroupId", group)

	// A node group in a subnet without a route fails, and joins with one.
	node := serviceRole(t, a.d, "node", "ec2.amazonaws.com", "AmazonEKSWorkerNodePolicy")
	status := func(name string) string {
		answer, _ := a.eks(http.MethodGet, "/clusters/demo/node-groups/"+name, "")
		return fmt.Sprint(answer["nodegroup"].(map[string]any)["status"])
	}
	create := func(name string) {
		t.Helper()
		if answer, status := a.eks(http.MethodPost, "/clusters/demo/node-groups", fmt.Sprintf(`{"nodegroupName":%q,"nodeRole":%q,"subnets":[%q],"tags":{"owner":"us"}}`, name, node, subnet)); status != 200 {
			t.Fatalf("got %d %v", status, answer)
		}
	}
	create("lost")
	a.clock.pass(typical.FailNodegroup)
	if got := status("lost"); got != "CREATE_FAILED" {
		t.Errorf("got a node group without a route %s, want CREATE_FAILED", got)
	}
	vpc := a.ec2("vpcId", "DescribeSubnets", "SubnetId.1", subnet)
	gateway := a.ec2("internetGatewayId", "CreateInternetGateway")
	a.ec2("", "AttachInternetGateway", "VpcId", vpc, "InternetGatewayId", gateway)
	nat := a.ec2("natGatewayId", "CreateNatGateway", "SubnetId", asked.ResourcesVPCConfig.SubnetIDs[1], "AllocationId", a.ec2("allocationId", "AllocateAddress", "Domain", "vpc"))
	a.clock.pass(typical.CreateNATGateway)
	table := a.ec2("routeTableId", "CreateRouteTable", "VpcId", vpc)
	a.ec2("", "CreateRoute", "RouteTableId", table, "DestinationCidrBlock", "0.0.0.0/0", "NatGatewayId", nat)
	a.ec2("", "AssociateRouteTable", "RouteTableId", table, "SubnetId", subnet)
	create("found")
	a.clock.pass(typical.CreateNodegroup)
	if got := status("found"); got != "ACTIVE" {
		t.Errorf("got a node group with a route %s, want ACTIVE", got)
	}

	// What is decided goes by the tags that EKS has.
	owner := a.as(roleSession(t, a.d, "owner", `{"Effect":"Allow","Action":"eks:DeleteNodegroup","Resource":"arn:aws:eks:*:*:nodegroup/demo/found/*","Condition":{"StringEquals":{"aws:ResourceTag/owner":"us"}}}`))
	if answer, status := owner.eks(http.MethodDelete, "/clusters/demo/node-groups/lost", ""); status != 403 {
		t.Errorf("got %d %v, want 403", status, answer)
	}
	if answer, status := owner.eks(http.MethodDelete, "/clusters/demo/node-groups/found", ""); status != 200 {
		t.Errorf("got %d %v, want 200", status, answer)
	}
	a.eks(http.MethodDelete, "/clusters/demo/node-groups/lost", "")
	a.clock.pass(typical.DeleteNodegroup)
	a.eks(http.MethodDelete, "/clusters/demo", "")
	a.clock.pass(typical.DeleteCluster)
	a.ec2("", "DeleteSubnet", "SubnetId", subnet)
	a.refused("InvalidGroup.NotFound", "DescribeSecurityGroups", "GroupId.1", group)
}

func TestRoleThatIsNotSeenYet(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	request := clusterRequest(t, a.d, "demo", "cluster")
	a.d.Identity().SetConsistencyDelay(time.Hour)
	must(t, 200)(query(t, a.d, a.key, "iam", "CreateRole", "Version", "2010-05-08", "RoleName", "fresh", "AssumeRolePolicyDocument",
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":["eks.amazonaws.com","vpc-flow-logs.amazonaws.com"]},"Action":"sts:AssumeRole"}]}`))
	answer, status := a.eks(http.MethodPost, "/clusters", strings.Replace(request, "role/cluster", "role/fresh", 1))
	if status != 400 || !strings.Contains(fmt.Sprint(answer["message"]), "could not be assumed because it does not exist") {
		t.Errorf("got %d %v, want the role not seen", status, answer)
	}
	a.refused("InvalidParameter", "CreateFlowLogs", "ResourceType", "VPC", "ResourceId.1", "vpc-1", "TrafficType", "ALL", "LogGroupName", "g", "DeliverLogsPermissionArn", "arn:aws:iam::123456789012:role/fresh")
	a.d.Identity().SetConsistencyDelay(0)
	if answer, status := a.eks(http.MethodPost, "/clusters", strings.Replace(request, "role/cluster", "role/fresh", 1)); status != 200 {
		t.Errorf("got %d %v, want the role seen", status, answer)
	}
}

func TestFaultsOfStates(t *testing.T) {
	t.Parallel()
	d := startWithMoto(t, Options{Faults: []Fault{
		{Kind: Fail, Service: "ec2", Operation: "CreateNatGateway"}, {Kind: Quota, Service: "ec2", Operation: "AllocateAddress", After: 1},
		{Kind: SCP, Service: "ec2", Operation: "CreateInternetGateway"}, {Kind: Expired, Service: "eks"},
		{Kind: Throttle, Service: "ec2", Operation: "DescribeRegions", For: 5 * time.Minute},
	}})
	a := &account{t: t, d: d, clock: &testClock{now: time.Now()}, key: d.Accounts().Customer.Credentials}
	d.goBy(a.clock)
	n := newNetworkFor(t, d)
	nat := a.ec2("natGatewayId", "CreateNatGateway", "SubnetId", n.subnets[0], "AllocationId", a.ec2("allocationId", "AllocateAddress", "Domain", "vpc"))
	a.clock.pass(typical.CreateNATGateway)
	if got := a.ec2("state", "DescribeNatGateways", "NatGatewayId.1", nat); got != "failed" {
		t.Errorf("got state %s, want failed", got)
	}
	a.refused("AddressLimitExceeded", "AllocateAddress", "Domain", "vpc")
	a.refused("UnauthorizedOperation", "CreateInternetGateway")
	d.faults.clock = a.clock
	for range 3 {
		a.refused("RequestLimitExceeded", "DescribeRegions")
		a.clock.pass(time.Minute)
	}
	a.clock.pass(2 * time.Minute)
	a.ec2("", "DescribeRegions")
	if answer, status := a.eks(http.MethodGet, "/clusters", ""); status != 403 || !strings.Contains(fmt.Sprint(answer["__type"]), "ExpiredToken") {
		t.Errorf("got %d %v, want the session over", status, answer)
	}
}

func TestWhatMotoLacksOfOthers(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	call := func(service, target, body string) (string, int) {
		t.Helper()
		r := newRequest(t, http.MethodPost, a.d.URL()+"/")
		r.Header.Set("Content-Type", "application/x-amz-json-1.1")
		r.Header.Set("X-Amz-Target", target)
		status, text, err := send(t, a.d, a.key, service, r, body)
		if err != nil {
			t.Fatal(err)
		}
		return text, status
	}
	call("logs", "Logs_20140328.CreateLogGroup", `{"logGroupName":"/g"}`)
	var made struct{ KeyMetadata struct{ Arn string } }
	if text, status := call("kms", "TrentService.CreateKey", `{}`); json.Unmarshal([]byte(text), &made) != nil || status != 200 {
		t.Fatalf("got %d %s, want a key", status, text)
	}
	key := made.KeyMetadata.Arn
	if text, status := call("logs", "Logs_20140328.AssociateKmsKey", `{"logGroupName":"/g","kmsKeyId":"`+key+`"}`); status != 200 {
		t.Errorf("got %d %s, want the group given a key", status, text)
	}
	if text, _ := call("logs", "Logs_20140328.DescribeLogGroups", `{}`); !strings.Contains(text, `"kmsKeyId":"`+key+`"`) {
		t.Errorf("got %s, want the key", text)
	}
	if text, status := call("logs", "Logs_20140328.AssociateKmsKey", `{"logGroupName":"/none","kmsKeyId":"`+key+`"}`); status != 400 || !strings.Contains(text, "ResourceNotFound") {
		t.Errorf("got %d %s, want no such group", status, text)
	}
	var answer struct{ Parameter struct{ Value string } }
	text, status := call("ssm", "AmazonSSM.GetParameter", `{"Name":"/aws/service/eks/optimized-ami/1.34/amazon-linux-2023/x86_64/standard/recommended/image_id"}`)
	if err := json.Unmarshal([]byte(text), &answer); err != nil || status != 200 {
		t.Fatalf("got %d %s, want an image", status, text)
	}
	a.ec2("imageId", "DescribeImages", "ImageId.1", answer.Parameter.Value)
	if text, status := call("ssm", "AmazonSSM.GetParameter", `{"Name":"/aws/service/eks/optimized-ami/1.99/amazon-linux-2023/x86_64/standard/recommended/image_id"}`); status != 400 {
		t.Errorf("got %d %s, want no image of that version", status, text)
	}
}
