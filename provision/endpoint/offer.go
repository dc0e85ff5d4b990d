package endpoint

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

const (
	offerTitle      = "endpoint service"
	permissionTitle = "permission of the vendor"
	connectionTitle = "connection of the vendor"
)

// consumer is the one principal that may see the endpoint service.
func (m *maker) consumer() string {
	if m.want.VendorRoleARN != "" {
		return m.want.VendorRoleARN
	}
	return "arn:" + m.Place.Partition + ":iam::" + m.Vendor.Accounts[m.Place.Partition] + ":role/" + strings.TrimPrefix(m.Vendor.ControlPlaneRole, "/")
}

// consumerAccount is the account that it is of.
func (m *maker) consumerAccount() string {
	parts := strings.Split(m.consumer(), ":")
	return parts[4]
}

// offer is the load balancer as others may connect to it, each only when accepted.
func (m *maker) offer() *resource.Resource {
	return &resource.Resource{
		Plane: m.Plane, Title: offerTitle, Requires: []string{m.balancerTitle(), listenerTitle, serviceTitle}, Component: component, LogicalID: "service-offer",
		About: step.Description{Service: "ec2", Creates: []string{"ec2:CreateVpcEndpointServiceConfiguration"}, Updates: []string{"ec2:ModifyVpcEndpointServiceConfiguration"},
			Removes: []string{"ec2:RejectVpcEndpointConnections", "ec2:DeleteVpcEndpointServiceConfigurations"}, Cost: "nothing", ToMake: 30 * time.Second, ToRemove: 5 * time.Second, Patience: 15 * time.Minute},
		Purpose: []string{"every connection needs to be accepted", "private name: " + resource.OrNone(m.want.PrivateDNSName)},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			c, err := m.findOffer(ctx)
			if err != nil || c == nil {
				return nil, err
			}
			s := &resource.State{Tags: resource.EC2TagMap(c.Tags), Value: c}
			switch state := lower(c.ServiceState); state {
			case "available":
			case "failed":
				s.Broken = "the endpoint service has failed"
			case "deleting":
				s.Leaving = "the endpoint service is being deleted"
			case "deleted":
				return nil, nil
			default:
				s.Busy = "the endpoint service is " + state
			}
			if goal == step.Absent || s.Leaving != "" {
				return s, nil
			}
			modify := func(in *ec2.ModifyVpcEndpointServiceConfigurationInput) func(context.Context) error {
				return func(ctx context.Context) error {
					in.ServiceId = c.ServiceId
					_, err := m.AWS.EC2.ModifyVpcEndpointServiceConfiguration(ctx, in)
					return err
				}
			}
			if !aws.ToBool(c.AcceptanceRequired) {
				s.Differ = append(s.Differ, resource.Difference{Field: "acceptance", Want: "required", Have: "not required", Put: modify(&ec2.ModifyVpcEndpointServiceConfigurationInput{AcceptanceRequired: aws.Bool(true)})})
			}
			name := &ec2.ModifyVpcEndpointServiceConfigurationInput{PrivateDnsName: &m.want.PrivateDNSName}
			if m.want.PrivateDNSName == "" {
				name = &ec2.ModifyVpcEndpointServiceConfigurationInput{RemovePrivateDnsName: aws.Bool(true)}
			}
			s.Differ = append(s.Differ, resource.Differ("private name", m.want.PrivateDNSName, aws.ToString(c.PrivateDnsName), modify(name))...)
			if balancer := m.id("load balancer"); balancer != "" && len(c.NetworkLoadBalancerArns) > 0 && resource.Joined(c.NetworkLoadBalancerArns) != balancer {
				others := slices.DeleteFunc(slices.Clone(c.NetworkLoadBalancerArns), func(arn string) bool { return arn == balancer })
				in := &ec2.ModifyVpcEndpointServiceConfigurationInput{RemoveNetworkLoadBalancerArns: others}
				if len(others) == len(c.NetworkLoadBalancerArns) {
					in.AddNetworkLoadBalancerArns = []string{balancer}
				}
				s.Differ = append(s.Differ, resource.Difference{Field: "load balancer", Want: balancer, Have: resource.Joined(c.NetworkLoadBalancerArns), Put: modify(in)})
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			balancer, err := m.needed("load balancer", "the load balancer")
			if err != nil {
				return err
			}
			in := &ec2.CreateVpcEndpointServiceConfigurationInput{NetworkLoadBalancerArns: []string{*balancer}, AcceptanceRequired: aws.Bool(true),
				TagSpecifications: resource.EC2Tagged(types.ResourceTypeVpcEndpointService, tags), ClientToken: m.Token("offer", *balancer, m.want.PrivateDNSName)}
			if m.want.PrivateDNSName != "" {
				in.PrivateDnsName = &m.want.PrivateDNSName
			}
			_, err = m.AWS.EC2.CreateVpcEndpointServiceConfiguration(ctx, in)
			return err
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			id := *s.Value.(*types.ServiceConfiguration).ServiceId
			connections, err := m.connections(ctx, id)
			if err != nil {
				return err
			}
			var open []string // a service that somebody is connected to cannot be deleted
			for _, c := range connections {
				if connected(c) {
					open = append(open, aws.ToString(c.VpcEndpointId))
				}
			}
			if err := m.reject(ctx, id, open); err != nil {
				return err
			}
			out, err := m.AWS.EC2.DeleteVpcEndpointServiceConfigurations(ctx, &ec2.DeleteVpcEndpointServiceConfigurationsInput{ServiceIds: []string{id}})
			if err != nil {
				return err
			}
			return unsuccessful(out.Unsuccessful)
		},
		Tell: func(s *resource.State) {
			var c *types.ServiceConfiguration
			if s != nil {
				c = s.Value.(*types.ServiceConfiguration)
			}
			m.tellOffer(c)
		},
	}
}

func (m *maker) findOffer(ctx context.Context) (*types.ServiceConfiguration, error) {
	out, err := m.AWS.EC2.DescribeVpcEndpointServiceConfigurations(ctx, &ec2.DescribeVpcEndpointServiceConfigurationsInput{Filters: m.filters("service-offer")})
	if err != nil || len(out.ServiceConfigurations) == 0 {
		return nil, err
	}
	return &out.ServiceConfigurations[0], nil
}

// tellOffer passes on what the vendor's side and the proof of the name need.
func (m *maker) tellOffer(c *types.ServiceConfiguration) {
	if c == nil {
		c = &types.ServiceConfiguration{}
	}
	m.know("offer", aws.ToString(c.ServiceId))
	m.know("offer name", aws.ToString(c.ServiceName))
	proof := c.PrivateDnsNameConfiguration
	if proof == nil {
		proof = &types.PrivateDnsNameConfiguration{}
	}
	m.know("proof label", aws.ToString(proof.Name))
	m.know("proof value", aws.ToString(proof.Value))
	m.know("proof state", string(proof.State))
}

// permission says who may see the offer: one role of the vendor, and nobody else.
func (m *maker) permission() *resource.Resource {
	modify := func(add, remove []string) func(context.Context) error {
		return func(ctx context.Context) error {
			service, err := m.needed("offer", "the endpoint service")
			if err != nil {
				return err
			}
			_, err = m.AWS.EC2.ModifyVpcEndpointServicePermissions(ctx, &ec2.ModifyVpcEndpointServicePermissionsInput{ServiceId: service, AddAllowedPrincipals: add, RemoveAllowedPrincipals: remove})
			return err
		}
	}
	only := m.consumer()
	return &resource.Resource{
		Plane: m.Plane, Title: permissionTitle, Requires: []string{offerTitle}, Component: component, LogicalID: "permission",
		About:   step.Description{Service: "ec2", Creates: []string{"ec2:ModifyVpcEndpointServicePermissions"}, Updates: []string{"ec2:ModifyVpcEndpointServicePermissions"}, Cost: "nothing", ToMake: 2 * time.Second},
		Purpose: []string{only + ", and nobody else"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			service := m.id("offer")
			if service == "" || goal == step.Absent {
				return nil, nil // it ends with the endpoint service
			}
			out, err := m.AWS.EC2.DescribeVpcEndpointServicePermissions(ctx, &ec2.DescribeVpcEndpointServicePermissionsInput{ServiceId: &service})
			if err != nil {
				return unlessGone(nil, err)
			}
			var others []string
			there := false
			for _, p := range out.AllowedPrincipals {
				if principal := aws.ToString(p.Principal); principal == only {
					there = true
				} else {
					others = append(others, principal)
				}
			}
			if !there && len(others) == 0 {
				return nil, nil
			}
			s := &resource.State{Ours: true}
			if !there {
				s.Differ = append(s.Differ, resource.Difference{Field: "principal", Want: only, Put: modify([]string{only}, nil)})
			}
			if len(others) > 0 {
				s.Differ = append(s.Differ, resource.Difference{Field: "others", Want: "none", Have: resource.Joined(others), Put: modify(nil, others)})
			}
			return s, nil
		},
		Create: func(ctx context.Context, _ map[string]string) error { return modify([]string{only}, nil)(ctx) },
	}
}

func (m *maker) connections(ctx context.Context, service string) ([]types.VpcEndpointConnection, error) {
	var all []types.VpcEndpointConnection
	pages := ec2.NewDescribeVpcEndpointConnectionsPaginator(m.AWS.EC2, &ec2.DescribeVpcEndpointConnectionsInput{Filters: []types.Filter{{Name: aws.String("service-id"), Values: []string{service}}}})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.VpcEndpointConnections...)
	}
	return all, nil
}

// connected reports whether a connection is there or wants to be.
func connected(c types.VpcEndpointConnection) bool {
	return slices.Contains([]string{"pendingacceptance", "pending", "available"}, lower(c.VpcEndpointState))
}

func (m *maker) reject(ctx context.Context, service string, endpoints []string) error {
	if len(endpoints) == 0 {
		return nil
	}
	out, err := m.AWS.EC2.RejectVpcEndpointConnections(ctx, &ec2.RejectVpcEndpointConnectionsInput{ServiceId: &service, VpcEndpointIds: endpoints})
	if err != nil {
		return err
	}
	return unsuccessful(out.Unsuccessful)
}

// expects reports whether a connection is one that is to be: of the vendor's account, and
// by an endpoint whose id is known.
func (m *maker) expects(c types.VpcEndpointConnection) bool {
	id := aws.ToString(c.VpcEndpointId)
	return aws.ToString(c.VpcEndpointOwner) == m.consumerAccount() && (id == m.id("vendor endpoint") || slices.Contains(m.after.Accept, id))
}

// undecided reports whether nobody has said what to do with a connection: it is of the
// vendor's account, and somebody else made the vendor's side.
func (m *maker) undecided(c types.VpcEndpointConnection) bool {
	return m.want.Vendor == nil && aws.ToString(c.VpcEndpointOwner) == m.consumerAccount()
}

// connection lets the vendor's endpoint in, and turns every other one away.
func (m *maker) connection() *resource.Resource {
	requires := []string{permissionTitle}
	purpose := "the endpoint that --accept names, of account " + m.consumerAccount()
	if m.want.Vendor != nil {
		requires = append(requires, vendorEndpointTitle)
		purpose = "the vendor's endpoint, by its id and its account " + m.consumerAccount()
	}
	return &resource.Resource{
		Plane: m.Plane, Title: connectionTitle, Requires: requires, Component: component, LogicalID: "connection",
		About: step.Description{Service: "ec2", Creates: []string{"ec2:AcceptVpcEndpointConnections"}, Updates: []string{"ec2:AcceptVpcEndpointConnections", "ec2:RejectVpcEndpointConnections"}, Cost: "nothing",
			ToMake: 40 * time.Second, Patience: 15 * time.Minute},
		Purpose: []string{purpose, "every other one is rejected"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			service := m.id("offer")
			if service == "" || goal == step.Absent {
				return nil, nil // it ends with the endpoint service
			}
			all, err := m.connections(ctx, service)
			if err != nil {
				return unlessGone(nil, err)
			}
			s := &resource.State{Ours: true}
			waiting := m.after.Accept
			if m.want.Vendor != nil {
				waiting = append(slices.Clone(waiting), m.id("vendor endpoint"))
			}
			for _, c := range all {
				id, state := aws.ToString(c.VpcEndpointId), lower(c.VpcEndpointState)
				if !m.expects(c) {
					if connected(c) && !m.undecided(c) {
						s.Differ = append(s.Differ, resource.Difference{Field: "connection of " + id, Want: "rejected", Have: state + ", of account " + aws.ToString(c.VpcEndpointOwner),
							Put: func(ctx context.Context) error { return m.reject(ctx, service, []string{id}) }})
					}
					continue
				}
				waiting = slices.DeleteFunc(slices.Clone(waiting), func(one string) bool { return one == id })
				switch state {
				case "pendingacceptance", "rejected":
					s.Differ = append(s.Differ, resource.Difference{Field: "connection of " + id, Want: "accepted", Have: state, Put: func(ctx context.Context) error { return m.accept(ctx, service, id) }})
				case "available":
				case "failed", "expired", "deleted", "deleting":
					s.Broken = fmt.Sprintf("the connection of %s is %s", id, state)
				default:
					s.Busy = fmt.Sprintf("the connection of %s is %s", id, state)
				}
			}
			if len(s.Differ) > 0 {
				s.Busy = "" // it is busy with what is answered now
			} else if len(waiting) > 0 && waiting[0] != "" {
				s.Busy = fmt.Sprintf("%s does not ask to connect yet", waiting[0])
			} else if len(waiting) > 0 {
				return nil, nil // the vendor's endpoint is not there
			}
			return s, nil
		},
		// What there is to answer is seen when it is looked at again.
		Create: func(context.Context, map[string]string) error { return nil },
	}
}

func (m *maker) accept(ctx context.Context, service, endpoint string) error {
	out, err := m.AWS.EC2.AcceptVpcEndpointConnections(ctx, &ec2.AcceptVpcEndpointConnectionsInput{ServiceId: &service, VpcEndpointIds: []string{endpoint}})
	if err != nil {
		if fault.Code(err) == "InvalidState" {
			return fmt.Errorf("%w: %w", step.ErrConflict, err)
		}
		return err
	}
	return unsuccessful(out.Unsuccessful)
}
