package awsdouble

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// natState is where a NAT gateway is in its life. moto's are there at once, and
// when deleted they keep their interface and their address.
type natState struct {
	at               place
	state            string // pending, available, failed, deleting, deleted, and gone for what is no longer shown
	due              time.Time
	failure          failure // how it will end, or the zero
	eni, association string
}

// failure is why a NAT gateway cannot be made (VPC User Guide, NAT gateway creation
// fails).
type failure struct{ code, message string }

// natFits refuses an address that a NAT gateway cannot have. moto makes the interface
// before it finds out, and leaves it there.
func (d *Double) natFits(ctx context.Context, c *call) error {
	if c.params.one("ConnectivityType") == "private" {
		return nil
	}
	id := c.params.one("AllocationId")
	if id == "" {
		return ec2Error("MissingParameter", "The request must contain the parameter AllocationId")
	}
	answer, err := d.network.do(ctx, c.place(), "DescribeAddresses", "AllocationId.1", id)
	if isRefused(err) {
		return ec2Error("InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", id)
	}
	if err != nil {
		return err
	}
	if address := answer.get("addressesSet").get("item"); address.one("associationId") != "" {
		return ec2Error("Resource.AlreadyAssociated", "Elastic IP address [%s] is already associated", id)
	}
	return nil
}

func (d *Double) natCreated(ctx context.Context, c *call, answer *node) error {
	n := d.network
	gateway := answer.get("natGateway")
	id := gateway.one("natGatewayId")
	s := &natState{at: c.place(), state: "pending", due: n.clock.Now().Add(typical.CreateNATGateway),
		eni: gateway.one("natGatewayAddressSet.item.networkInterfaceId"), association: gateway.one("natGatewayAddressSet.item.associationId")}
	vpc := gateway.one("vpcId")
	way, err := n.gatewayOf(ctx, c.place(), vpc)
	if err != nil {
		return err
	}
	switch {
	case c.fail:
		s.failure = failure{"InsufficientFreeAddressesInSubnet", "There are not enough free addresses in the subnet for the NAT gateway."}
	case way == "" && c.params.one("ConnectivityType") != "private":
		s.failure = failure{"Gateway.NotAttached", "Network " + vpc + " has no Internet gateway attached"}
	}
	n.own(s.eni, "nat_gateway", "Interface for NAT Gateway "+id, nil)
	n.lock.Lock()
	defer n.lock.Unlock()
	n.nats[id] = s
	s.show(gateway)
	return nil
}

func (s *natState) show(item *node) {
	item.set("state", s.state)
	if item.one("connectivityType") == "" {
		item.set("connectivityType", "public")
	}
	if s.state == "failed" {
		item.set("failureCode", s.failure.code)
		item.set("failureMessage", s.failure.message)
	}
}

// allNATs has moto show all: it filters by its own states, and by no tags.
func (d *Double) allNATs(_ context.Context, c *call) error {
	withoutFilters(c, func(string) bool { return true })
	return nil
}

func (d *Double) showNATs(_ context.Context, c *call, answer *node) error {
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	wanted := filters(c)
	list := answer.child("natGatewaySet")
	list.keep(func(item *node) bool {
		if s := n.nats[item.one("natGatewayId")]; s != nil {
			s.show(item)
		}
		return item.one("state") != "gone" && fits(wanted["state"], item.one("state")) && fits(wanted["vpc-id"], item.one("vpcId")) &&
			fits(wanted["subnet-id"], item.one("subnetId")) && fits(wanted["nat-gateway-id"], item.one("natGatewayId")) && taggedAs(wanted, item)
	})
	if len(wanted) == 0 {
		for _, id := range c.params.all("NatGatewayId.*") {
			if !contains(list, "natGatewayId", id) {
				return ec2Error("NatGatewayNotFound", "NatGateway %s was not found", id)
			}
		}
	}
	return nil
}

func contains(list *node, name, value string) bool {
	for _, item := range list.children {
		if item.one(name) == value {
			return true
		}
	}
	return false
}

func (d *Double) natThere(ctx context.Context, c *call) error {
	id := c.params.one("NatGatewayId")
	n := d.network
	n.lock.Lock()
	s := n.nats[id]
	n.lock.Unlock()
	if s == nil { // made by CloudFormation, or not at all
		answer, err := n.do(ctx, c.place(), "DescribeNatGateways", "NatGatewayId.1", id)
		if err != nil {
			return err
		}
		if answer.one("natGatewaySet.item.natGatewayId") == "" {
			return ec2Error("NatGatewayNotFound", "NatGateway %s was not found", id)
		}
		n.lock.Lock()
		n.nats[id] = &natState{at: c.place(), state: "available", eni: answer.one("natGatewaySet.item.natGatewayAddressSet.item.networkInterfaceId"),
			association: answer.one("natGatewaySet.item.natGatewayAddressSet.item.associationId")}
		n.lock.Unlock()
		return nil
	}
	if s.state == "gone" || s.at != c.place() {
		return ec2Error("NatGatewayNotFound", "NatGateway %s was not found", id)
	}
	return nil
}

func (d *Double) natDeleted(_ context.Context, c *call, _ *node) error {
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	if s := n.nats[c.params.one("NatGatewayId")]; s.state != "deleting" && s.state != "deleted" {
		s.state, s.due = "deleting", n.clock.Now().Add(typical.DeleteNATGateway)
	}
	return nil
}

func (n *network) settleNATs(ctx context.Context, now time.Time) error {
	for id, s := range due(n, n.nats, func(s *natState) bool { return !s.due.IsZero() && !now.Before(s.due) }) {
		next, until := s.state, time.Time{}
		switch s.state {
		case "pending":
			next = "available"
			if s.failure != (failure{}) {
				next, until = "failed", s.due.Add(typical.ShowDeletedNAT)
			}
		case "deleting":
			next, until = "deleted", s.due.Add(typical.ShowDeletedNAT)
		case "deleted", "failed":
			next = "gone"
		}
		// One that failed is deleted by EC2 itself, and holds nothing meanwhile.
		if next == "deleted" || next == "failed" {
			if s.association != "" {
				if _, err := n.do(ctx, s.at, "DisassociateAddress", "AssociationId", s.association); err != nil && !isRefused(err) {
					return err
				}
			}
			if err := n.removeInterface(ctx, s.at, s.eni); err != nil {
				return err
			}
		}
		n.lock.Lock()
		if state := n.nats[id]; state != nil && state.state == s.state {
			state.state, state.due = next, until
		}
		n.lock.Unlock()
	}
	return nil
}

// gatewayOf is the internet gateway of a VPC, or "".
func (n *network) gatewayOf(ctx context.Context, at place, vpc string) (string, error) {
	gateways, err := n.look(ctx, at, "DescribeInternetGateways", "attachment.vpc-id", vpc)
	return gateways.one("internetGatewaySet.item.internetGatewayId"), err
}

// routeTargets are the parameters of which a route has one (CreateRoute).
var routeTargets = []string{"GatewayId", "NatGatewayId", "NetworkInterfaceId", "InstanceId", "VpcPeeringConnectionId", "TransitGatewayId",
	"EgressOnlyInternetGatewayId", "VpcEndpointId", "LocalGatewayId", "CarrierGatewayId", "CoreNetworkArn", "LocalTarget", "OdbNetworkArn"}

// routeTarget refuses a route to a gateway that is not ready, or elsewhere, and one
// that is the VPC's own.
func (d *Double) routeTarget(ctx context.Context, c *call) error {
	n := d.network
	given := 0
	for _, one := range routeTargets {
		if c.params.one(one) != "" {
			given++
		}
	}
	if given != 1 {
		return ec2Error(map[bool]string{true: "MissingParameter", false: "InvalidParameterCombination"}[given == 0],
			"The request must contain exactly one of gatewayId, natGatewayId, networkInterfaceId, vpcPeeringConnectionId, transitGatewayId or another target")
	}
	tables, err := n.look(ctx, c.place(), "DescribeRouteTables", "route-table-id", c.params.one("RouteTableId"))
	if err != nil {
		return err
	}
	table := tables.get("routeTableSet").get("item")
	if c.Operation == "CreateRoute" && isLocal(table, c.params.one("DestinationCidrBlock")) {
		return ec2Error("RouteAlreadyExists", "The route identified by %s already exists.", c.params.one("DestinationCidrBlock"))
	}
	if id := c.params.one("NatGatewayId"); id != "" {
		n.lock.Lock()
		s := n.nats[id]
		ready := s != nil && s.state == "available"
		n.lock.Unlock()
		if s == nil {
			answer, err := n.do(ctx, c.place(), "DescribeNatGateways", "NatGatewayId.1", id)
			if err != nil {
				return err
			}
			ready = answer.one("natGatewaySet.item.state") == "available"
		}
		if !ready {
			return ec2Error("InvalidNatGatewayID.NotFound", "The natGateway ID '%s' does not exist", id)
		}
	}
	if id := c.params.one("GatewayId"); strings.HasPrefix(id, "igw-") {
		gateway, err := n.look(ctx, c.place(), "DescribeInternetGateways", "internet-gateway-id", id)
		if err != nil {
			return err
		}
		if gateway.one("internetGatewaySet.item.internetGatewayId") == "" {
			return ec2Error("InvalidGatewayID.NotFound", "The gateway ID '%s' does not exist", id)
		}
		if vpc := table.one("vpcId"); vpc != "" && gateway.one("internetGatewaySet.item.attachmentSet.item.vpcId") != vpc {
			return ec2Error("InvalidParameterValue", "route table %s and network gateway %s belong to different networks", c.params.one("RouteTableId"), id)
		}
	}
	return nil
}

// isLocal says whether a destination is that of a table's route in its VPC.
func isLocal(table *node, destination string) bool {
	for _, route := range table.items("routeSet") {
		if destination != "" && route.one("destinationCidrBlock") == destination && route.one("gatewayId") == "local" {
			return true
		}
	}
	return false
}

func (d *Double) routeNotLocal(ctx context.Context, c *call) error {
	table, destination := c.params.one("RouteTableId"), c.params.one("DestinationCidrBlock")
	tables, err := d.network.look(ctx, c.place(), "DescribeRouteTables", "route-table-id", table)
	if err != nil {
		return err
	}
	if isLocal(tables.get("routeTableSet").get("item"), destination) {
		return ec2Error("InvalidParameterValue", "cannot remove local route %s in route table %s", destination, table)
	}
	return nil
}

// routeState is whether a route leads anywhere.
func (n *network) routeState(route *node) string {
	n.lock.Lock()
	defer n.lock.Unlock()
	if s := n.nats[route.one("natGatewayId")]; s != nil && s.state != "available" && s.state != "pending" && s.state != "deleting" {
		return "blackhole"
	}
	if n.detached[route.one("gatewayId")] {
		return "blackhole"
	}
	return route.one("state")
}

// routesByState has moto show tables by all filters but the states of their routes,
// which it does not know.
func (d *Double) routesByState(_ context.Context, c *call) error {
	withoutFilters(c, func(name string) bool { return name == "route.state" })
	return nil
}

func (d *Double) showRoutes(ctx context.Context, c *call, answer *node) error {
	wanted := filters(c)["route.state"]
	list := answer.get("routeTableSet")
	for _, route := range list.at("item.routeSet.item") {
		state := d.network.routeState(route)
		if eni := route.one("networkInterfaceId"); eni != "" {
			interfaces, err := d.network.look(ctx, c.place(), "DescribeNetworkInterfaces", "network-interface-id", eni)
			if err != nil {
				return err
			}
			if len(interfaces.items("networkInterfaceSet")) == 0 {
				state = "blackhole"
			}
		}
		route.set("state", state)
	}
	if len(wanted) > 0 && list != nil {
		list.keep(func(table *node) bool { return fits(wanted, table.all("routeSet.item.state")...) })
	}
	return nil
}

// gatewayFits refuses a second internet gateway for a VPC.
func (d *Double) gatewayFits(ctx context.Context, c *call) error {
	vpc := c.params.one("VpcId")
	there, err := d.network.gatewayOf(ctx, c.place(), vpc)
	if err != nil {
		return err
	}
	if there != "" && there != c.params.one("InternetGatewayId") {
		return ec2Error("InvalidParameterValue", "Network %s already has an internet gateway attached", vpc)
	}
	return nil
}

// gatewayFree refuses to detach an internet gateway that addresses go through.
func (d *Double) gatewayFree(ctx context.Context, c *call) error {
	vpc, id := c.params.one("VpcId"), c.params.one("InternetGatewayId")
	gateways, err := d.network.look(ctx, c.place(), "DescribeInternetGateways", "internet-gateway-id", id)
	if err != nil {
		return err
	}
	if gateway := gateways.get("internetGatewaySet").get("item"); gateway.one("internetGatewayId") != "" && gateway.one("attachmentSet.item.vpcId") != vpc {
		return ec2Error("Gateway.NotAttached", "resource %s is not attached to network %s", id, vpc)
	}
	addresses, err := d.network.look(ctx, c.place(), "DescribeAddresses")
	if err != nil {
		return err
	}
	interfaces, err := d.network.look(ctx, c.place(), "DescribeNetworkInterfaces", "vpc-id", vpc)
	if err != nil {
		return err
	}
	for _, address := range addresses.items("addressesSet") {
		if eni := address.one("networkInterfaceId"); eni != "" && contains(interfaces.child("networkInterfaceSet"), "networkInterfaceId", eni) {
			return dependency("Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", vpc)
		}
	}
	for _, balancer := range d.network.balancersIn(vpc) {
		if balancer.public {
			return dependency("Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", vpc)
		}
	}
	return nil
}

func (d *Double) gatewayDetached(_ context.Context, c *call, _ *node) error {
	d.network.lock.Lock()
	defer d.network.lock.Unlock()
	d.network.detached[c.params.one("InternetGatewayId")] = true
	return nil
}

func (d *Double) gatewayAttached(_ context.Context, c *call, _ *node) error {
	d.network.lock.Lock()
	defer d.network.lock.Unlock()
	delete(d.network.detached, c.params.one("InternetGatewayId"))
	return nil
}

// addressFree refuses to release an address that is in use.
func (d *Double) addressFree(ctx context.Context, c *call) error {
	id := c.params.one("AllocationId")
	if id == "" {
		return nil
	}
	answer, err := d.network.do(ctx, c.place(), "DescribeAddresses", "AllocationId.1", id)
	if isRefused(err) {
		return ec2Error("InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", id)
	}
	if err != nil {
		return err
	}
	if address := answer.get("addressesSet").get("item"); address.one("associationId") != "" || address.one("networkInterfaceId") != "" {
		return &refusal{"InvalidIPAddress.InUse", "Address " + address.one("publicIp") + " is in use.", http.StatusBadRequest}
	}
	return nil
}

// addressReachable refuses to map an address into a VPC that has no internet gateway.
func (d *Double) addressReachable(ctx context.Context, c *call) error {
	n, eni := d.network, c.params.one("NetworkInterfaceId")
	if eni == "" {
		return nil
	}
	interfaces, err := n.look(ctx, c.place(), "DescribeNetworkInterfaces", "network-interface-id", eni)
	if err != nil {
		return err
	}
	vpc := interfaces.one("networkInterfaceSet.item.vpcId")
	if vpc == "" {
		return nil // moto says so
	}
	gateway, err := n.gatewayOf(ctx, c.place(), vpc)
	if err == nil && gateway == "" {
		err = ec2Error("Gateway.NotAttached", "Network %s is not attached to any internet gateway", vpc)
	}
	return err
}

// addressOwn refuses to take an address from an interface that a service has.
func (d *Double) addressOwn(ctx context.Context, c *call) error {
	n, id := d.network, c.params.one("AssociationId")
	if id == "" {
		return nil
	}
	addresses, err := n.look(ctx, c.place(), "DescribeAddresses", "association-id", id)
	if err != nil {
		return err
	}
	eni := addresses.one("addressesSet.item.networkInterfaceId")
	n.lock.Lock()
	defer n.lock.Unlock()
	if _, owned := n.interfaces[eni]; owned {
		return ec2Error("AuthFailure", "You do not have permission to access the specified resource.")
	}
	return nil
}

// endpointPossible refuses an endpoint of a service that AWS does not have, and a gateway
// endpoint whose route a table has already (CreateVpcEndpoint).
func (d *Double) endpointPossible(ctx context.Context, c *call) error {
	n, service := d.network, c.params.one("ServiceName")
	if strings.HasPrefix(service, "com.amazonaws."+c.Region+".") {
		if _, err := n.do(ctx, c.place(), "DescribeVpcEndpointServices", "ServiceName.1", service); isRefused(err) {
			return ec2Error("InvalidServiceName", "The Vpc Endpoint Service '%s' does not exist", service)
		} else if err != nil {
			return err
		}
	}
	if tables := c.params.all("RouteTableId.*"); len(tables) > 0 {
		there, err := n.look(ctx, c.place(), "DescribeVpcEndpoints", "vpc-id", c.params.one("VpcId"), "service-name", service)
		if err != nil {
			return err
		}
		for _, item := range there.items("vpcEndpointSet") {
			for _, table := range item.all("routeTableIdSet.item") {
				if slices.Contains(tables, table) && n.endpointThere(item) {
					return ec2Error("RouteAlreadyExists", "route table %s already has a route with the destination of %s", table, service)
				}
			}
		}
	}
	return d.endpointFits(ctx, c)
}
