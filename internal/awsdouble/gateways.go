package awsdouble

import (
	"context"
	"net/http"
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
	failure          bool
	eni, association string
}

func (d *Double) natCreated(_ context.Context, c *call, answer *node) error {
	n := d.network
	gateway := answer.get("natGateway")
	id := gateway.one("natGatewayId")
	s := &natState{at: c.place(), state: "pending", due: n.clock.Now().Add(typical.CreateNATGateway), failure: c.fail,
		eni: gateway.one("natGatewayAddressSet.item.networkInterfaceId"), association: gateway.one("natGatewayAddressSet.item.associationId")}
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
		item.set("failureCode", "InsufficientFreeAddressesInSubnet")
		item.set("failureMessage", "There are not enough free addresses in the subnet for the NAT gateway.")
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
			if s.failure {
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

// routeTarget refuses a route to a gateway that is not ready, or elsewhere.
func (d *Double) routeTarget(ctx context.Context, c *call) error {
	n := d.network
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
		table, err := n.look(ctx, c.place(), "DescribeRouteTables", "route-table-id", c.params.one("RouteTableId"))
		if err != nil {
			return err
		}
		if vpc := table.one("routeTableSet.item.vpcId"); vpc != "" && gateway.one("internetGatewaySet.item.attachmentSet.item.vpcId") != vpc {
			return ec2Error("InvalidParameterValue", "route table %s and network gateway %s belong to different networks", c.params.one("RouteTableId"), id)
		}
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

func (d *Double) showRoutes(_ context.Context, _ *call, answer *node) error {
	for _, route := range answer.at("routeTableSet.item.routeSet.item") {
		route.set("state", d.network.routeState(route))
	}
	return nil
}

// gatewayFree refuses to detach an internet gateway that addresses go through.
func (d *Double) gatewayFree(ctx context.Context, c *call) error {
	vpc := c.params.one("VpcId")
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
