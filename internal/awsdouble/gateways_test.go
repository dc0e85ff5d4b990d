package awsdouble

import (
	"strings"
	"testing"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

func TestGatewaysOfAVPC(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	vpc := a.ec2("vpcId", "CreateVpc", "CidrBlock", "10.0.0.0/16")
	subnet := a.ec2("subnetId", "CreateSubnet", "VpcId", vpc, "CidrBlock", "10.0.0.0/24")
	table := a.ec2("routeTableId", "CreateRouteTable", "VpcId", vpc)
	igw := a.ec2("internetGatewayId", "CreateInternetGateway")
	second := a.ec2("internetGatewayId", "CreateInternetGateway")
	address := a.ec2("allocationId", "AllocateAddress", "Domain", "vpc")
	route := func(cidr string, target ...string) []string {
		return append([]string{"RouteTableId", table, "DestinationCidrBlock", cidr}, target...)
	}

	// A NAT gateway in a VPC without an internet gateway fails, and lets go of its address.
	nat := a.ec2("natGatewayId", "CreateNatGateway", "SubnetId", subnet, "AllocationId", address)
	a.clock.pass(typical.CreateNATGateway)
	if text := a.ec2("", "DescribeNatGateways", "NatGatewayId.1", nat); !strings.Contains(text, "<state>failed</state>") || !strings.Contains(text, "<failureCode>Gateway.NotAttached</failureCode>") {
		t.Errorf("got %s, want it failed for want of an internet gateway", text)
	}
	eni := a.ec2("networkInterfaceId", "CreateNetworkInterface", "SubnetId", subnet)
	a.refused("Gateway.NotAttached", "AssociateAddress", "AllocationId", address, "NetworkInterfaceId", eni)

	a.refused("InvalidParameterValue", "CreateRoute", route("0.0.0.0/0", "GatewayId", igw)...)
	a.ec2("", "AttachInternetGateway", "InternetGatewayId", igw, "VpcId", vpc)
	a.refused("InvalidParameterValue", "AttachInternetGateway", "InternetGatewayId", second, "VpcId", vpc)
	a.refused("Gateway.NotAttached", "DetachInternetGateway", "InternetGatewayId", second, "VpcId", vpc)
	a.refused("InvalidGatewayID.NotFound", "CreateRoute", route("0.0.0.0/0", "GatewayId", "igw-0123456789abcdef0")...)
	a.refused("MissingParameter", "CreateRoute", route("0.0.0.0/0")...)
	a.refused("InvalidParameterCombination", "CreateRoute", route("0.0.0.0/0", "GatewayId", igw, "NatGatewayId", nat)...)
	a.refused("RouteAlreadyExists", "CreateRoute", route("10.0.0.0/16", "GatewayId", igw)...)
	a.refused("InvalidParameterValue", "DeleteRoute", route("10.0.0.0/16")...)

	a.refused("MissingParameter", "CreateNatGateway", "SubnetId", subnet)
	a.refused("InvalidAllocationID.NotFound", "CreateNatGateway", "SubnetId", subnet, "AllocationId", "eipalloc-0123456789abcdef0")
	nat = a.ec2("natGatewayId", "CreateNatGateway", "SubnetId", subnet, "AllocationId", address)
	a.refused("Resource.AlreadyAssociated", "CreateNatGateway", "SubnetId", subnet, "AllocationId", address)
	a.clock.pass(typical.CreateNATGateway)
	association := between(t, a.ec2("", "DescribeAddresses", "AllocationId.1", address), "<associationId>", "</associationId>")
	a.refused("AuthFailure", "DisassociateAddress", "AssociationId", association)
	a.refused("DependencyViolation", "DetachInternetGateway", "InternetGatewayId", igw, "VpcId", vpc)
	a.ec2("", "CreateRoute", route("0.0.0.0/0", "NatGatewayId", nat)...)
	blackholes := func() int {
		return strings.Count(a.ec2("", "DescribeRouteTables", "Filter.1.Name", "route.state", "Filter.1.Value.1", "blackhole"), "<routeTableId>"+table)
	}
	if got := blackholes(); got != 0 {
		t.Errorf("got %d tables with a route to nowhere, want none", got)
	}
	a.ec2("", "DeleteNatGateway", "NatGatewayId", nat)
	a.clock.pass(typical.DeleteNATGateway)
	if blackholes() == 0 {
		t.Error("got no table with a route to nowhere, want the one whose NAT gateway is gone")
	}

	// A route to an interface ends with it.
	a.ec2("", "ReplaceRoute", route("0.0.0.0/0", "GatewayId", igw)...)
	a.ec2("", "CreateRoute", route("192.0.2.0/24", "NetworkInterfaceId", eni)...)
	if blackholes() != 0 {
		t.Error("got a route to nowhere, want two that lead somewhere")
	}
	a.ec2("", "DeleteNetworkInterface", "NetworkInterfaceId", eni)
	if blackholes() == 0 {
		t.Error("got no route to nowhere, want the one whose interface is gone")
	}
}

func TestRouteTablesOfSubnets(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	vpc := a.ec2("vpcId", "CreateVpc", "CidrBlock", "10.0.0.0/16")
	subnet := a.ec2("subnetId", "CreateSubnet", "VpcId", vpc, "CidrBlock", "10.0.0.0/24")
	main := between(t, a.ec2("", "DescribeRouteTables", "Filter.1.Name", "vpc-id", "Filter.1.Value.1", vpc), "<routeTableId>", "</routeTableId>")
	one, other := a.ec2("routeTableId", "CreateRouteTable", "VpcId", vpc), a.ec2("routeTableId", "CreateRouteTable", "VpcId", vpc)
	a.ec2("", "AssociateRouteTable", "RouteTableId", one, "SubnetId", subnet)
	a.refused("Resource.AlreadyAssociated", "AssociateRouteTable", "RouteTableId", other, "SubnetId", subnet)
	a.refused("DependencyViolation", "DeleteRouteTable", "RouteTableId", one)
	a.refused("DependencyViolation", "DeleteRouteTable", "RouteTableId", main)
	a.ec2("", "DeleteSubnet", "SubnetId", subnet)
	a.ec2("", "DeleteRouteTable", "RouteTableId", one) // free, now that its subnet is gone
	a.ec2("", "DeleteRouteTable", "RouteTableId", other)
	a.refused("InvalidParameterValue", "CreateSecurityGroup", "VpcId", vpc, "GroupName", "sg-mine", "GroupDescription", "x")
	a.refused("InvalidParameterValue", "CreateSecurityGroup", "VpcId", vpc, "GroupName", "Default", "GroupDescription", "x")
	list := a.ec2("networkAclId", "CreateNetworkAcl", "VpcId", vpc)
	a.refused("DependencyViolation", "DeleteVpc", "VpcId", vpc)
	a.ec2("", "DeleteNetworkAcl", "NetworkAclId", list)
	a.ec2("", "DeleteVpc", "VpcId", vpc)
}

func TestEndpointsThatCannotBe(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	vpc := a.ec2("vpcId", "CreateVpc", "CidrBlock", "10.0.0.0/16")
	table := a.ec2("routeTableId", "CreateRouteTable", "VpcId", vpc)
	service := "com.amazonaws." + a.d.region + "."
	a.refused("InvalidServiceName", "CreateVpcEndpoint", "VpcId", vpc, "ServiceName", service+"nope")
	gateway := a.ec2("vpcEndpointId", "CreateVpcEndpoint", "VpcId", vpc, "ServiceName", service+"s3", "RouteTableId.1", table)
	a.refused("RouteAlreadyExists", "CreateVpcEndpoint", "VpcId", vpc, "ServiceName", service+"s3", "RouteTableId.1", table)
	a.ec2("", "CreateVpcEndpoint", "VpcId", vpc, "ServiceName", service+"dynamodb", "RouteTableId.1", table)
	a.ec2("", "DeleteVpcEndpoints", "VpcEndpointId.1", gateway)
	a.ec2("", "CreateVpcEndpoint", "VpcId", vpc, "ServiceName", service+"s3", "RouteTableId.1", table)
}
