package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// address is the public address of a NAT gateway. It stays when the gateway is made
// anew, so that whoever admits it elsewhere need not change anything.
func (m *maker) address(zone int) *resource.Resource {
	logicalID := zonal("address", zone)
	return &resource.Resource{
		Plane: m.Plane, Title: m.addressTitle(zone), Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:AllocateAddress"}, Removes: []string{"ec2:ReleaseAddress"},
			Monthly: hourOfAddress * hoursOfMonth, Cost: addressCost, ToMake: 2 * time.Second, ToRemove: 2 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{"the address that the zone's traffic to the internet comes from"},
		Find: func(ctx context.Context, _ step.Goal) (*resource.State, error) {
			out, err := m.AWS.EC2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: m.filters(logicalID)})
			if err != nil {
				return nil, err
			}
			if err := m.once(logicalID, len(out.Addresses) > 0); err != nil || len(out.Addresses) == 0 {
				return nil, err
			}
			a := out.Addresses[0]
			return &resource.State{Tags: resource.EC2TagMap(a.Tags), Value: aws.ToString(a.AllocationId)}, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			out, err := m.AWS.EC2.AllocateAddress(ctx, &ec2.AllocateAddressInput{Domain: types.DomainTypeVpc, TagSpecifications: resource.EC2Tagged(types.ResourceTypeElasticIp, tags)})
			if err == nil {
				m.made(logicalID, out.AllocationId)
			}
			return err
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			return m.release(ctx, s.Value.(string))
		},
		Tell: m.tell(logicalID),
	}
}

// release gives an address back. One that a gateway still has is refused by several codes.
func (m *maker) release(ctx context.Context, allocation string) error {
	_, err := m.AWS.EC2.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: &allocation})
	if fault.Code(err) == "AuthFailure" && !fault.Denied(err) {
		return fmt.Errorf("address %s is still in use: %w: %w", allocation, step.ErrConflict, err)
	}
	return err
}

func (m *maker) natGateway(zone int) *resource.Resource {
	logicalID := zonal("nat-gateway", zone)
	var before []string // those that ended or failed, as long as EC2 shows them
	var made string     // by this run
	return &resource.Resource{
		Plane: m.Plane, Title: m.natTitle(zone), Requires: []string{gatewayTitle, m.subnetTitle(public, zone), m.addressTitle(zone)}, Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: []string{"ec2:CreateNatGateway"}, Removes: []string{"ec2:DeleteNatGateway"},
			Monthly: hourOfNAT * hoursOfMonth, Cost: natCost, ToMake: 105 * time.Second, ToRemove: 50 * time.Second, Patience: 15 * time.Minute,
		},
		Purpose: []string{m.natPurpose()},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			found, err := m.nats(ctx, logicalID)
			if err != nil {
				return nil, err
			}
			var s *resource.State
			before = nil
			for _, n := range found {
				id := aws.ToString(n.NatGatewayId)
				switch n.State {
				case types.NatGatewayStateDeleted, types.NatGatewayStateFailed:
					if id == made && n.State == types.NatGatewayStateFailed {
						return nil, fmt.Errorf("NAT gateway %s is failed: %s", id, aws.ToString(n.FailureMessage))
					}
					before = append(before, id+" "+aws.ToString(n.FailureMessage))
					continue
				case types.NatGatewayStateDeleting:
					if s == nil {
						s = &resource.State{Tags: resource.EC2TagMap(n.Tags), Value: id, Leaving: "NAT gateway " + id + " is being deleted"}
					}
					continue
				}
				s = &resource.State{Tags: resource.EC2TagMap(n.Tags), Value: id}
				if n.State == types.NatGatewayStatePending {
					s.Busy = "NAT gateway " + id + " is pending"
				}
				if subnet := m.id(zonal("subnet-public", zone)); subnet != "" && goal == step.Present {
					s.Differ = resource.Differ("subnet", subnet, aws.ToString(n.SubnetId), nil)
				}
				break
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			subnet, err := m.needed(zonal("subnet-public", zone), "its subnet")
			if err != nil {
				return err
			}
			address, err := m.needed(zonal("address", zone), "its public address")
			if err != nil {
				return err
			}
			// One that failed a moment ago is no success of this call: those before are part of the token.
			slices.Sort(before)
			made, err = m.anew(ctx, func(part string) (string, error) {
				out, err := m.AWS.EC2.CreateNatGateway(ctx, &ec2.CreateNatGatewayInput{SubnetId: subnet, AllocationId: address, ConnectivityType: types.ConnectivityTypePublic,
					TagSpecifications: resource.EC2Tagged(types.ResourceTypeNatgateway, tags), ClientToken: m.Token("nat", *subnet, *address, strings.Join(before, ","), part)})
				if err != nil {
					return "", err
				}
				return aws.ToString(out.NatGateway.NatGatewayId), nil
			}, func(id string) (bool, error) {
				out, err := m.AWS.EC2.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{NatGatewayIds: []string{id}})
				return err == nil && len(out.NatGateways) == 1 && out.NatGateways[0].State != types.NatGatewayStateDeleting && out.NatGateways[0].State != types.NatGatewayStateDeleted, err
			})
			return err
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			_, err := m.AWS.EC2.DeleteNatGateway(ctx, &ec2.DeleteNatGatewayInput{NatGatewayId: aws.String(s.Value.(string))})
			return err
		},
		Wait: func(ctx context.Context) error {
			waiter := ec2.NewNatGatewayAvailableWaiter(m.AWS.EC2, func(o *ec2.NatGatewayAvailableWaiterOptions) {
				o.MinDelay, o.MaxDelay = m.Clock.Machine(2*time.Second), m.Clock.Machine(3*time.Second)
			})
			id := m.id(logicalID)
			err := waiter.Wait(ctx, &ec2.DescribeNatGatewaysInput{NatGatewayIds: []string{id}}, m.Clock.Machine(12*time.Minute))
			if err == nil || ctx.Err() != nil {
				return err
			}
			return m.whyNATFailed(ctx, id, err)
		},
		Tell: m.tell(logicalID),
	}
}

func (m *maker) natPurpose() string {
	if m.want.NAT == "single" {
		return "the way out of all private subnets; when its zone ends, so does the others' way out"
	}
	return "the way out of the zone's private subnet"
}

// whyNATFailed is what EC2 says of a NAT gateway that did not become available.
func (m *maker) whyNATFailed(ctx context.Context, id string, err error) error {
	out, lookErr := m.AWS.EC2.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{NatGatewayIds: []string{id}})
	if lookErr == nil && len(out.NatGateways) == 1 && aws.ToString(out.NatGateways[0].FailureMessage) != "" {
		return fmt.Errorf("NAT gateway %s is %s: %s", id, out.NatGateways[0].State, *out.NatGateways[0].FailureMessage)
	}
	return err
}

// nats finds NAT gateways of ours.
func (m *maker) nats(ctx context.Context, logicalID string) ([]types.NatGateway, error) {
	found, err := every(ctx, ec2.NewDescribeNatGatewaysPaginator(m.AWS.EC2, &ec2.DescribeNatGatewaysInput{Filter: m.filters(logicalID)}),
		func(o *ec2.DescribeNatGatewaysOutput) []types.NatGateway { return o.NatGateways })
	// Looked at once more, because there are endpoints that know no filter by tags here.
	return slices.DeleteFunc(found, func(n types.NatGateway) bool {
		tags := resource.EC2TagMap(n.Tags)
		return m.Owner.Of(tags, component) != ownership.Ours || m.logicalID(tags) != logicalID
	}), err
}

// routes is a table of routes: one for all public subnets, one for each private one.
func (m *maker) routes(t tier, zone int) *resource.Resource {
	logicalID, purpose := "routes-public", "the public subnets lead to the internet gateway"
	requires := append([]string{vpcTitle, gatewayTitle}, m.subnetTitles(public)...)
	var members []string // logical ids of subnets
	way := "internet-gateway"
	if t == private {
		logicalID, purpose, way = zonal("routes-private", zone), "the private subnet leads nowhere but to endpoints", ""
		requires, members = []string{vpcTitle, m.subnetTitle(private, zone)}, []string{zonal("subnet-private", zone)}
		if nat := m.natFor(zone); nat >= 0 {
			purpose, way = "the private subnet leads to "+m.natTitle(nat), zonal("nat-gateway", nat)
			requires = append(requires, m.natTitle(nat))
		}
	} else {
		for i := range m.labels {
			members = append(members, zonal("subnet-public", i))
		}
	}
	creates := []string{"ec2:CreateRouteTable", "ec2:AssociateRouteTable"}
	if way != "" {
		creates = append(creates, "ec2:CreateRoute")
	}
	return &resource.Resource{
		Plane: m.Plane, Title: m.routesTitle(t, zone), Requires: requires, Component: component, LogicalID: logicalID,
		About: step.Description{
			Service: "ec2", Creates: creates, Updates: []string{"ec2:CreateRoute", "ec2:ReplaceRoute", "ec2:AssociateRouteTable", "ec2:ReplaceRouteTableAssociation"},
			Removes: []string{"ec2:DisassociateRouteTable", "ec2:DeleteRouteTable"}, Cost: nothing, ToMake: 3 * time.Second, ToRemove: 3 * time.Second, Patience: 10 * time.Minute,
		},
		Purpose: []string{purpose},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			found, err := every(ctx, ec2.NewDescribeRouteTablesPaginator(m.AWS.EC2, &ec2.DescribeRouteTablesInput{Filters: m.filters(logicalID)}),
				func(o *ec2.DescribeRouteTablesOutput) []types.RouteTable { return o.RouteTables })
			if err != nil {
				return nil, err
			}
			if len(found) == 0 {
				return nil, nil
			}
			table := &found[0]
			s := &resource.State{Tags: resource.EC2TagMap(table.Tags), Value: table}
			if goal == step.Present {
				s.Differ = append(m.compareRoute(table, way), m.compareMembers(table, members)...)
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			vpc, err := m.needed("vpc", "the network")
			if err != nil {
				return err
			}
			_, err = m.AWS.EC2.CreateRouteTable(ctx, &ec2.CreateRouteTableInput{VpcId: vpc, TagSpecifications: resource.EC2Tagged(types.ResourceTypeRouteTable, tags)})
			return err
		},
		Tag: m.tagByID(logicalID),
		Delete: func(ctx context.Context, s *resource.State) error {
			table := s.Value.(*types.RouteTable)
			for _, a := range table.Associations {
				if aws.ToBool(a.Main) {
					continue
				}
				if _, err := m.AWS.EC2.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: a.RouteTableAssociationId}); err != nil && !fault.Gone(err) {
					return err
				}
			}
			_, err := m.AWS.EC2.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: table.RouteTableId})
			return err
		},
		Tell: func(s *resource.State) {
			if s != nil {
				s = &resource.State{Value: aws.ToString(s.Value.(*types.RouteTable).RouteTableId)}
			}
			m.tell(logicalID)(s)
		},
	}
}

// compareRoute looks at a table's route to everywhere; way is the logical id of what it
// leads to, "" for nothing.
func (m *maker) compareRoute(table *types.RouteTable, way string) []resource.Difference {
	route := defaultRoute(table)
	if way == "" {
		if route != nil {
			return []resource.Difference{{Field: "default route", Want: "none", Have: target(route),
				Hint: "delete it: aws ec2 delete-route --route-table-id " + aws.ToString(table.RouteTableId) + " --destination-cidr-block 0.0.0.0/0"}}
		}
		return nil
	}
	everywhere := aws.String(anywhere.String())
	nat, gateway := aws.String(m.id(way)), (*string)(nil)
	if way == "internet-gateway" {
		nat, gateway = nil, nat
	}
	want := or(m.id(way), "what is made for it")
	ready := func() error {
		_, err := m.needed(way, "what the route leads to")
		return err
	}
	if route == nil {
		return []resource.Difference{{Field: "default route", Want: want, Put: func(ctx context.Context) error {
			if err := ready(); err != nil {
				return err
			}
			_, err := m.AWS.EC2.CreateRoute(ctx, &ec2.CreateRouteInput{RouteTableId: table.RouteTableId, DestinationCidrBlock: everywhere, NatGatewayId: nat, GatewayId: gateway})
			return notYetRouted(err)
		}}}
	}
	have := target(route)
	if route.State == types.RouteStateBlackhole {
		have += ", which is a black hole"
	}
	if have == m.id(way) {
		return nil
	}
	return []resource.Difference{{Field: "default route", Want: want, Have: have, Put: func(ctx context.Context) error {
		if err := ready(); err != nil {
			return err
		}
		_, err := m.AWS.EC2.ReplaceRoute(ctx, &ec2.ReplaceRouteInput{RouteTableId: table.RouteTableId, DestinationCidrBlock: everywhere, NatGatewayId: nat, GatewayId: gateway})
		return notYetRouted(err)
	}}}
}

// notYetRouted marks what passes: the way out was made a moment ago, or somebody else
// made the route.
func notYetRouted(err error) error {
	if c := fault.Code(err); c == "RouteAlreadyExists" || c == "InvalidNatGatewayID.NotFound" || c == "NatGatewayNotFound" {
		return fmt.Errorf("%w: %w", step.ErrConflict, err)
	}
	return err
}

// compareMembers looks at which subnets a table is for.
func (m *maker) compareMembers(table *types.RouteTable, members []string) []resource.Difference {
	var differ []resource.Difference
	for _, logicalID := range members {
		subnet := m.id(logicalID)
		if subnet != "" && explicit(table, subnet) {
			continue
		}
		differ = append(differ, resource.Difference{Field: "routes of " + strings.ReplaceAll(logicalID, "-", " "), Want: aws.ToString(table.RouteTableId), Put: func(ctx context.Context) error {
			subnet, err := m.needed(logicalID, "the subnet")
			if err != nil {
				return err
			}
			_, err = m.AWS.EC2.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: table.RouteTableId, SubnetId: subnet})
			if fault.Code(err) == "Resource.AlreadyAssociated" {
				return m.reassociate(ctx, aws.ToString(table.RouteTableId), *subnet, err)
			}
			return err
		}})
	}
	return differ
}

// reassociate gives a subnet that somebody gave other routes its own again.
func (m *maker) reassociate(ctx context.Context, table, subnet string, cause error) error {
	out, err := m.AWS.EC2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: []types.Filter{{Name: aws.String("association.subnet-id"), Values: []string{subnet}}}})
	if err != nil {
		return err
	}
	for _, t := range out.RouteTables {
		for _, a := range t.Associations {
			if aws.ToString(a.SubnetId) == subnet && aws.ToString(t.RouteTableId) != table {
				_, err := m.AWS.EC2.ReplaceRouteTableAssociation(ctx, &ec2.ReplaceRouteTableAssociationInput{AssociationId: a.RouteTableAssociationId, RouteTableId: &table})
				return err
			}
		}
	}
	return errors.Join(step.ErrConflict, cause) // by now it is free, or ours
}
