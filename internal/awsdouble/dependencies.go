package awsdouble

import (
	"context"
	"errors"
	"slices"
	"strings"
)

func isRefused(err error) bool {
	_, ok := errors.AsType[*motoRefusal](err)
	return ok
}

// isAbsent says whether moto refused for want of the thing that was named. That it
// cannot do what it was asked is another matter.
func isAbsent(err error) bool {
	refused, ok := errors.AsType[*motoRefusal](err)
	return ok && (strings.HasSuffix(refused.code, "NotFound") || strings.HasPrefix(refused.code, "Invalid"))
}

// completeVPC gives a new VPC what moto's lack: DHCP options that can be described,
// and the rules of the default security group.
func (d *Double) completeVPC(ctx context.Context, c *call, answer *node) error {
	n, vpc := d.network, answer.get("vpc")
	id := vpc.one("vpcId")
	domain := c.Region + ".compute.internal"
	if c.Region == "us-east-1" {
		domain = "ec2.internal"
	}
	options, err := n.do(ctx, c.place(), "CreateDhcpOptions",
		"DhcpConfiguration.1.Key", "domain-name", "DhcpConfiguration.1.Value.1", domain,
		"DhcpConfiguration.2.Key", "domain-name-servers", "DhcpConfiguration.2.Value.1", "AmazonProvidedDNS")
	if err != nil {
		return err
	}
	dhcp := options.one("dhcpOptions.dhcpOptionsId")
	if _, err := n.do(ctx, c.place(), "AssociateDhcpOptions", "DhcpOptionsId", dhcp, "VpcId", id); err != nil {
		return err
	}
	vpc.set("dhcpOptionsId", dhcp)
	groups, err := n.look(ctx, c.place(), "DescribeSecurityGroups", "vpc-id", id, "group-name", "default")
	if err != nil {
		return err
	}
	group := groups.get("securityGroupInfo").get("item")
	if group.one("groupId") == "" {
		return nil
	}
	if len(group.items("ipPermissions")) == 0 {
		if err := n.letGroupIn(ctx, c.place(), group.one("groupId")); err != nil {
			return err
		}
	}
	if len(group.items("ipPermissionsEgress")) == 0 {
		if _, err := n.do(ctx, c.place(), "AuthorizeSecurityGroupEgress", "GroupId", group.one("groupId"),
			"IpPermissions.1.IpProtocol", "-1", "IpPermissions.1.IpRanges.1.CidrIp", "0.0.0.0/0"); err != nil {
			return err
		}
	}
	return nil
}

// letGroupIn lets the members of a security group reach each other.
func (n *network) letGroupIn(ctx context.Context, at place, group string) error {
	_, err := n.do(ctx, at, "AuthorizeSecurityGroupIngress", "GroupId", group,
		"IpPermissions.1.IpProtocol", "-1", "IpPermissions.1.UserIdGroupPairs.1.GroupId", group, "IpPermissions.1.Groups.1.GroupId", group)
	return err
}

// subnetFree refuses to delete a subnet that interfaces are in.
func (d *Double) subnetFree(ctx context.Context, c *call) error {
	id := c.params.one("SubnetId")
	interfaces, err := d.network.look(ctx, c.place(), "DescribeNetworkInterfaces", "subnet-id", id)
	if err != nil {
		return err
	}
	if len(interfaces.items("networkInterfaceSet")) > 0 {
		return dependency("The subnet '%s' has dependencies and cannot be deleted.", id)
	}
	return nil
}

// subnetDeleted frees the route table that a subnet had: moto keeps the association.
func (d *Double) subnetDeleted(ctx context.Context, c *call, _ *node) error {
	id := c.params.one("SubnetId")
	tables, err := d.network.look(ctx, c.place(), "DescribeRouteTables", "association.subnet-id", id)
	if err != nil {
		return err
	}
	for _, association := range tables.at("routeTableSet.item.associationSet.item") {
		if association.one("subnetId") != id {
			continue
		}
		if _, err := d.network.do(ctx, c.place(), "DisassociateRouteTable", "AssociationId", association.one("routeTableAssociationId")); err != nil && !isRefused(err) {
			return err
		}
	}
	return nil
}

// groupFree refuses to delete a security group that something has, or refers to.
func (d *Double) groupFree(ctx context.Context, c *call) error {
	id := c.params.one("GroupId")
	if id == "" {
		return nil // by name: only in the default VPC
	}
	name, used, err := d.network.groupUsed(ctx, c.place(), id)
	switch {
	case err != nil:
		return err
	case name == "default":
		return ec2Error("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
	case used:
		return dependency("resource %s has a dependent object", id)
	}
	return nil // or not there, which moto says
}

// groupUsed says whether an interface has a security group, or a rule of another one
// names it. name is "" for one that is not there.
func (n *network) groupUsed(ctx context.Context, at place, id string) (name string, used bool, err error) {
	groups, err := n.look(ctx, at, "DescribeSecurityGroups")
	if err != nil {
		return "", false, err
	}
	for _, group := range groups.items("securityGroupInfo") {
		if group.one("groupId") == id {
			name = group.one("groupName")
			continue
		}
		for _, path := range []string{"ipPermissions.item.groups.item.groupId", "ipPermissionsEgress.item.groups.item.groupId"} {
			used = used || slices.Contains(group.all(path), id)
		}
	}
	interfaces, err := n.look(ctx, at, "DescribeNetworkInterfaces", "group-id", id)
	if err != nil {
		return name, used, err
	}
	n.lock.Lock()
	defer n.lock.Unlock()
	for _, item := range interfaces.items("networkInterfaceSet") {
		// moto puts some interfaces into the default group: they have their own here.
		used = used || n.interfaces[item.one("networkInterfaceId")].groups == nil
	}
	for _, owned := range n.interfaces {
		used = used || slices.Contains(owned.groups, id)
	}
	return name, used && name != "", nil
}

// vpcFree refuses to delete a VPC that something is in. moto looks at subnets and
// route tables alone.
func (d *Double) vpcFree(ctx context.Context, c *call) error {
	n, id := d.network, c.params.one("VpcId")
	for _, one := range []struct{ operation, filter, list, id string }{
		{"DescribeSubnets", "vpc-id", "subnetSet", "subnetId"},
		{"DescribeInternetGateways", "attachment.vpc-id", "internetGatewaySet", "internetGatewayId"},
		{"DescribeNetworkInterfaces", "vpc-id", "networkInterfaceSet", "networkInterfaceId"},
		{"DescribeVpcEndpoints", "vpc-id", "vpcEndpointSet", "vpcEndpointId"},
		{"DescribeSecurityGroups", "vpc-id", "securityGroupInfo", "groupId"},
		{"DescribeNetworkAcls", "vpc-id", "networkAclSet", "networkAclId"},
	} {
		answer, err := n.look(ctx, c.place(), one.operation, one.filter, id)
		if err != nil {
			return err
		}
		for _, item := range answer.items(one.list) {
			if item.one("groupName") == "default" || item.one("default") == "true" || one.operation == "DescribeVpcEndpoints" && !n.endpointThere(item) {
				continue
			}
			return dependency("The vpc '%s' has dependencies and cannot be deleted.", id)
		}
	}
	return nil
}

// groupNamed refuses names that EC2 keeps for itself (CreateSecurityGroup).
func (d *Double) groupNamed(_ context.Context, c *call) error {
	switch name := c.params.one("GroupName"); {
	case strings.EqualFold(name, "default"):
		return ec2Error("InvalidParameterValue", "Cannot use reserved security group name: %s", name)
	case strings.HasPrefix(name, "sg-"):
		return ec2Error("InvalidParameterValue", "Invalid value '%s' for groupName. A security group name cannot begin with sg-", name)
	}
	return nil
}

// subnetWithoutTable refuses a second route table for a subnet.
func (d *Double) subnetWithoutTable(ctx context.Context, c *call) error {
	subnet, table := c.params.one("SubnetId"), c.params.one("RouteTableId")
	if subnet == "" {
		return nil
	}
	tables, err := d.network.look(ctx, c.place(), "DescribeRouteTables", "association.subnet-id", subnet)
	if err != nil {
		return err
	}
	if there := tables.one("routeTableSet.item.routeTableId"); there != "" && there != table {
		return ec2Error("Resource.AlreadyAssociated", "the specified association for route table %s conflicts with an existing association", table)
	}
	return nil
}

// tableNotMain refuses to delete the route table that a VPC was made with.
func (d *Double) tableNotMain(ctx context.Context, c *call) error {
	id := c.params.one("RouteTableId")
	tables, err := d.network.look(ctx, c.place(), "DescribeRouteTables", "route-table-id", id)
	if err != nil {
		return err
	}
	for _, association := range tables.at("routeTableSet.item.associationSet.item") {
		if association.one("main") == "true" {
			return dependency("The routeTable '%s' has dependencies and cannot be deleted.", id)
		}
	}
	return nil
}
