package endpoint

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// The vendor's side is in the vendor's own account, by the vendor's own credentials. It
// carries the data plane's tags too, so that it is found again.
const (
	vendorGroupTitle    = "security group in the vendor's network"
	vendorEndpointTitle = "consumer endpoint in the vendor's network"

	hourOfEndpoint = 0.01 // in each zone
)

// vendorRanges are what the load balancer sees callers come from: the vendor's network,
// or where that is not known any private address.
func (m *maker) vendorRanges(ctx context.Context) ([]string, error) {
	v := m.want.Vendor
	if v == nil {
		return privateRanges, nil
	}
	out, err := m.Own.EC2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{v.VPC}})
	if err != nil {
		if fault.Gone(err) {
			return nil, usererr.New(usererr.NotFound, "spec.privateEndpoint.vendor.vpc: there is no %s in the vendor's account, in %s", v.VPC, m.Place.Region).
				WithHint("name a network that the vendor's own credentials see").Because(err)
		}
		return nil, own(err)
	}
	var ranges []string
	for _, vpc := range out.Vpcs {
		for _, a := range vpc.CidrBlockAssociationSet {
			ranges = append(ranges, aws.ToString(a.CidrBlock))
		}
		if len(ranges) == 0 {
			ranges = append(ranges, aws.ToString(vpc.CidrBlock))
		}
	}
	slices.Sort(ranges)
	return slices.Compact(ranges), nil
}

// enterable are the vendor's subnets in whose zones the endpoint service is, one for each
// zone. Zones have names of their own in each account; the vendor's are asked for.
func (m *maker) enterable(ctx context.Context, service string) ([]string, error) {
	v := m.want.Vendor
	services, err := m.Own.EC2.DescribeVpcEndpointServices(ctx, &ec2.DescribeVpcEndpointServicesInput{ServiceNames: []string{service}})
	if err != nil {
		return nil, notSeen(err)
	}
	subnets, err := m.Own.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: v.Subnets})
	if fault.Gone(err) {
		return nil, usererr.New(usererr.NotFound, "spec.privateEndpoint.vendor.subnets: the vendor's account has not all of them: %s", fault.Text(err)).
			WithHint("name subnets of %s that the vendor's own credentials see", v.VPC).Because(err)
	}
	if err != nil {
		return nil, own(err)
	}
	var zones []string
	for _, s := range services.ServiceDetails {
		zones = append(zones, s.AvailabilityZones...)
	}
	var enterable, taken, others []string
	for _, id := range v.Subnets {
		for _, s := range subnets.Subnets {
			zone := aws.ToString(s.AvailabilityZone)
			if aws.ToString(s.SubnetId) != id || slices.Contains(taken, zone) {
				continue
			}
			if taken = append(taken, zone); slices.Contains(zones, zone) {
				enterable = append(enterable, id)
			} else {
				others = append(others, zone)
			}
		}
	}
	if len(enterable) == 0 {
		return nil, usererr.New(usererr.Refused, "spec.privateEndpoint.vendor.subnets are in %s, and the data plane's load balancer is in %s: they share no zone", resource.Joined(others), resource.Joined(zones)).
			WithHint("name a subnet of the vendor's in one of these zones")
	}
	return enterable, nil
}

// notSeen marks that the vendor's account does not see the endpoint service yet: a
// permission takes a moment.
func notSeen(err error) error {
	if err == nil {
		return nil
	}
	if fault.Code(err) == "InvalidServiceName" {
		return fmt.Errorf("%w: %w", step.ErrConflict, err)
	}
	return own(err)
}

// vendorGroup admits the vendor's own network to its endpoint.
func (m *maker) vendorGroup() *resource.Resource {
	r := m.group(group{
		title: vendorGroupTitle, logicalID: "vendor", description: "HTTPS to a customer's private endpoint",
		purpose: "port 443 from the vendor's own network",
		api:     m.vendorEC2, vpc: m.vendorVPC,
		rules: func(ctx context.Context, g types.SecurityGroup) ([]resource.Difference, error) {
			from, err := m.vendorRanges(ctx)
			return inward(m.Own.EC2, g).compare(ports(from, 443)), err
		},
	})
	r.About.Creates = []string{"ec2:CreateSecurityGroup", "ec2:AuthorizeSecurityGroupIngress"}
	r.About.Updates = []string{"ec2:AuthorizeSecurityGroupIngress", "ec2:RevokeSecurityGroupIngress"}
	return m.byVendor(r)
}

// byVendor is a Resource whose calls are made with the vendor's own credentials.
func (m *maker) byVendor(r *resource.Resource) *resource.Resource {
	find, create, remove := r.Find, r.Create, r.Delete
	r.Find = func(ctx context.Context, goal step.Goal) (*resource.State, error) {
		s, err := find(ctx, goal)
		return s, own(err)
	}
	r.Create = func(ctx context.Context, tags map[string]string) error { return own(create(ctx, tags)) }
	if remove != nil {
		r.Delete = func(ctx context.Context, s *resource.State) error { return own(remove(ctx, s)) }
	}
	return r
}

// findVendorEndpoint finds it. before are those that ended, as long as EC2 shows them.
func (m *maker) findVendorEndpoint(ctx context.Context) (found *types.VpcEndpoint, before []string, err error) {
	pages := ec2.NewDescribeVpcEndpointsPaginator(m.Own.EC2, &ec2.DescribeVpcEndpointsInput{Filters: m.filters("vendor-endpoint")})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, e := range page.VpcEndpoints {
			if lower(e.State) == "deleted" {
				before = append(before, aws.ToString(e.VpcEndpointId))
				continue
			}
			if found == nil || lower(found.State) == "deleting" {
				found = &e
			}
		}
	}
	return found, before, nil
}

// vendorEndpoint is where the vendor's network enters. It is made when it asks to be let
// in; whether it is, the connection says.
func (m *maker) vendorEndpoint() *resource.Resource {
	var before []string
	v := m.want.Vendor
	return m.byVendor(&resource.Resource{
		Plane: m.Plane, Title: vendorEndpointTitle, Requires: []string{permissionTitle, vendorGroupTitle}, Component: component, LogicalID: "vendor-endpoint",
		About: step.Description{Service: "ec2", Creates: []string{"ec2:CreateVpcEndpoint"}, Updates: []string{"ec2:ModifyVpcEndpoint"}, Removes: []string{"ec2:DeleteVpcEndpoints"},
			Monthly: hourOfEndpoint * hoursOfMonth * float64(len(v.Subnets)), Cost: "0.01 USD an hour in each zone, and 0.01 USD a GB; the vendor pays it",
			ToMake: 10 * time.Second, ToRemove: 45 * time.Second, Patience: 15 * time.Minute},
		Purpose: []string{"in " + v.VPC + ", with the vendor's own credentials"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			e, gone, err := m.findVendorEndpoint(ctx)
			before = gone
			if err != nil || e == nil {
				return nil, err
			}
			s := &resource.State{Tags: resource.EC2TagMap(e.Tags), Value: e}
			switch state := lower(e.State); state {
			case "deleting":
				s.Leaving = "endpoint " + aws.ToString(e.VpcEndpointId) + " is being deleted"
			case "failed", "expired":
				s.Broken = "endpoint " + aws.ToString(e.VpcEndpointId) + " is " + state
			}
			if goal == step.Absent || s.Leaving != "" {
				return s, nil
			}
			if service := m.id("offer name"); service != "" {
				s.Differ = resource.Differ("service", service, aws.ToString(e.ServiceName), nil)
			}
			modify := func(in *ec2.ModifyVpcEndpointInput) func(context.Context) error {
				return func(ctx context.Context) error {
					in.VpcEndpointId = e.VpcEndpointId
					_, err := m.Own.EC2.ModifyVpcEndpoint(ctx, in)
					return own(err)
				}
			}
			if lower(e.State) != "available" {
				return s, nil // what it has can be changed once it is let in
			}
			wanted, err := m.enterable(ctx, aws.ToString(e.ServiceName))
			if err != nil {
				return nil, err
			}
			missing := slices.DeleteFunc(wanted, func(id string) bool { return slices.Contains(e.SubnetIds, id) })
			if len(missing) > 0 {
				s.Differ = append(s.Differ, resource.Difference{Field: "subnets", Want: resource.Joined(missing) + " too", Put: modify(&ec2.ModifyVpcEndpointInput{AddSubnetIds: missing})})
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			service, err := m.needed("offer name", "the endpoint service")
			if err != nil {
				return err
			}
			group, err := m.needed("vendor", "the "+vendorGroupTitle)
			if err != nil {
				return err
			}
			subnets, err := m.enterable(ctx, *service)
			if err != nil {
				return err
			}
			_, err = m.Own.EC2.CreateVpcEndpoint(ctx, &ec2.CreateVpcEndpointInput{VpcId: &v.VPC, VpcEndpointType: types.VpcEndpointTypeInterface, ServiceName: service, SubnetIds: subnets,
				SecurityGroupIds: []string{*group}, PrivateDnsEnabled: aws.Bool(false), TagSpecifications: resource.EC2Tagged(types.ResourceTypeVpcEndpoint, tags),
				ClientToken: m.Token(slices.Concat([]string{"vendor", v.VPC, *service, *group}, subnets, before)...)})
			return notSeen(err)
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			out, err := m.Own.EC2.DeleteVpcEndpoints(ctx, &ec2.DeleteVpcEndpointsInput{VpcEndpointIds: []string{*s.Value.(*types.VpcEndpoint).VpcEndpointId}})
			if err != nil {
				return err
			}
			return unsuccessful(out.Unsuccessful)
		},
		Tell: func(s *resource.State) {
			id := ""
			if s != nil && s.Leaving == "" {
				id = aws.ToString(s.Value.(*types.VpcEndpoint).VpcEndpointId)
			}
			m.know("vendor endpoint", id)
		},
	})
}
