package network

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/servicequotas"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
)

// facts are what AWS says of a network, all of it asked for before anything is judged.
// What could not be asked is in failed, by the call.
type facts struct {
	Request
	vpc           *types.Vpc // nil: there is none
	dnsSupport    bool
	dnsHostnames  bool
	dhcp          []types.DhcpOptions
	subnets       map[string]types.Subnet // of the network, and those that were named
	zones         []types.AvailabilityZone
	tables        []types.RouteTable
	gateways      []types.InternetGateway
	nats          []types.NatGateway // of the region
	acls          []types.NetworkAcl
	endpoints     []types.VpcEndpoint
	groups        []types.SecurityGroup // of the region
	interfaces    []types.NetworkInterface
	services      map[string][]string // zones by name in which a service is offered
	reservations  map[string][]types.SubnetCidrReservation
	peerings      []types.VpcPeeringConnection
	transit       []types.TransitGatewayVpcAttachment
	egressOnly    []types.EgressOnlyInternetGateway
	flowLogs      []types.FlowLog
	blockInternet types.InternetGatewayBlockMode
	addresses     int
	clusters      int
	quotas        map[string]float64 // by code

	// inferred: which subnets are public or private was not said, and follows from the answers.
	inferred bool
	failed   map[string]error
}

// The calls, as the table of operations has them.
const (
	callIdentity      = "sts:GetCallerIdentity"
	callVPCs          = "ec2:DescribeVpcs"
	callAttribute     = "ec2:DescribeVpcAttribute"
	callDHCP          = "ec2:DescribeDhcpOptions"
	callSubnets       = "ec2:DescribeSubnets"
	callZones         = "ec2:DescribeAvailabilityZones"
	callTables        = "ec2:DescribeRouteTables"
	callGateways      = "ec2:DescribeInternetGateways"
	callNATs          = "ec2:DescribeNatGateways"
	callACLs          = "ec2:DescribeNetworkAcls"
	callEndpoints     = "ec2:DescribeVpcEndpoints"
	callGroups        = "ec2:DescribeSecurityGroups"
	callInterfaces    = "ec2:DescribeNetworkInterfaces"
	callServices      = "ec2:DescribeVpcEndpointServices"
	callReservations  = "ec2:GetSubnetCidrReservations"
	callPeerings      = "ec2:DescribeVpcPeeringConnections"
	callTransit       = "ec2:DescribeTransitGatewayVpcAttachments"
	callEgressOnly    = "ec2:DescribeEgressOnlyInternetGateways"
	callFlowLogs      = "ec2:DescribeFlowLogs"
	callBlockInternet = "ec2:DescribeVpcBlockPublicAccessOptions"
	callAddresses     = "ec2:DescribeAddresses"
	callClusters      = "eks:ListClusters"
	callQuota         = "service-quotas:GetServiceQuota"
)

// gather asks for everything at once, and then once more for what follows from the
// answers. Its error is one that would meet every call: no way to AWS, or credentials that
// AWS does not take.
func gather(ctx context.Context, api plane.Clients, r Request) (*facts, error) {
	f := &facts{Request: r, failed: map[string]error{}, subnets: map[string]types.Subnet{}, services: map[string][]string{},
		reservations: map[string][]types.SubnetCidrReservation{}, quotas: map[string]float64{}}
	of := func(names ...string) []types.Filter {
		var filters []types.Filter
		for _, name := range names {
			filters = append(filters, types.Filter{Name: aws.String(name), Values: []string{r.VPC}})
		}
		return filters
	}
	var a asking
	if f.Account == "" {
		a.ask(f, callIdentity, func() error {
			out, err := api.STS.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			if err == nil {
				f.Account = aws.ToString(out.Account)
			}
			return err
		})
	}
	a.ask(f, callVPCs, func() error {
		// By a filter and not by its id, which would be an error where there is none.
		found, err := every(ctx, ec2.NewDescribeVpcsPaginator(api.EC2, &ec2.DescribeVpcsInput{Filters: of("vpc-id")}),
			func(o *ec2.DescribeVpcsOutput) []types.Vpc { return o.Vpcs })
		if len(found) > 0 {
			f.vpc = &found[0]
		}
		return err
	})
	attribute := func(name types.VpcAttributeName, keep func(*ec2.DescribeVpcAttributeOutput)) {
		a.ask(f, callAttribute, func() error {
			out, err := api.EC2.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: &r.VPC, Attribute: name})
			if err == nil {
				keep(out)
			}
			return err
		})
	}
	attribute(types.VpcAttributeNameEnableDnsSupport, func(o *ec2.DescribeVpcAttributeOutput) {
		f.dnsSupport = o.EnableDnsSupport != nil && aws.ToBool(o.EnableDnsSupport.Value)
	})
	attribute(types.VpcAttributeNameEnableDnsHostnames, func(o *ec2.DescribeVpcAttributeOutput) {
		f.dnsHostnames = o.EnableDnsHostnames != nil && aws.ToBool(o.EnableDnsHostnames.Value)
	})
	subnets := func(filter types.Filter) {
		a.ask(f, callSubnets, func() error {
			found, err := every(ctx, ec2.NewDescribeSubnetsPaginator(api.EC2, &ec2.DescribeSubnetsInput{Filters: []types.Filter{filter}}),
				func(o *ec2.DescribeSubnetsOutput) []types.Subnet { return o.Subnets })
			a.locked(func() {
				for _, s := range found {
					f.subnets[aws.ToString(s.SubnetId)] = s
				}
			})
			return err
		})
	}
	subnets(of("vpc-id")[0])
	if named := slices.Concat(r.PublicSubnets, r.PrivateSubnets); len(named) > 0 {
		subnets(types.Filter{Name: aws.String("subnet-id"), Values: slices.Compact(slices.Sorted(slices.Values(named)))})
	}
	a.ask(f, callZones, func() error {
		out, err := api.EC2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{AllAvailabilityZones: aws.Bool(true)})
		if err == nil {
			f.zones = out.AvailabilityZones
		}
		return err
	})
	list(&a, f, callDHCP, &f.dhcp, func() ([]types.DhcpOptions, error) {
		return every(ctx, ec2.NewDescribeDhcpOptionsPaginator(api.EC2, &ec2.DescribeDhcpOptionsInput{}),
			func(o *ec2.DescribeDhcpOptionsOutput) []types.DhcpOptions { return o.DhcpOptions })
	})
	list(&a, f, callTables, &f.tables, func() ([]types.RouteTable, error) {
		return every(ctx, ec2.NewDescribeRouteTablesPaginator(api.EC2, &ec2.DescribeRouteTablesInput{Filters: of("vpc-id")}),
			func(o *ec2.DescribeRouteTablesOutput) []types.RouteTable { return o.RouteTables })
	})
	list(&a, f, callGateways, &f.gateways, func() ([]types.InternetGateway, error) {
		return every(ctx, ec2.NewDescribeInternetGatewaysPaginator(api.EC2, &ec2.DescribeInternetGatewaysInput{}),
			func(o *ec2.DescribeInternetGatewaysOutput) []types.InternetGateway { return o.InternetGateways })
	})
	list(&a, f, callNATs, &f.nats, func() ([]types.NatGateway, error) {
		return every(ctx, ec2.NewDescribeNatGatewaysPaginator(api.EC2, &ec2.DescribeNatGatewaysInput{}),
			func(o *ec2.DescribeNatGatewaysOutput) []types.NatGateway { return o.NatGateways })
	})
	list(&a, f, callACLs, &f.acls, func() ([]types.NetworkAcl, error) {
		return every(ctx, ec2.NewDescribeNetworkAclsPaginator(api.EC2, &ec2.DescribeNetworkAclsInput{Filters: of("vpc-id")}),
			func(o *ec2.DescribeNetworkAclsOutput) []types.NetworkAcl { return o.NetworkAcls })
	})
	list(&a, f, callEndpoints, &f.endpoints, func() ([]types.VpcEndpoint, error) {
		return every(ctx, ec2.NewDescribeVpcEndpointsPaginator(api.EC2, &ec2.DescribeVpcEndpointsInput{Filters: of("vpc-id")}),
			func(o *ec2.DescribeVpcEndpointsOutput) []types.VpcEndpoint { return o.VpcEndpoints })
	})
	list(&a, f, callGroups, &f.groups, func() ([]types.SecurityGroup, error) {
		return every(ctx, ec2.NewDescribeSecurityGroupsPaginator(api.EC2, &ec2.DescribeSecurityGroupsInput{}),
			func(o *ec2.DescribeSecurityGroupsOutput) []types.SecurityGroup { return o.SecurityGroups })
	})
	list(&a, f, callInterfaces, &f.interfaces, func() ([]types.NetworkInterface, error) {
		return every(ctx, ec2.NewDescribeNetworkInterfacesPaginator(api.EC2, &ec2.DescribeNetworkInterfacesInput{Filters: of("vpc-id")}),
			func(o *ec2.DescribeNetworkInterfacesOutput) []types.NetworkInterface { return o.NetworkInterfaces })
	})
	list(&a, f, callPeerings, &f.peerings, func() ([]types.VpcPeeringConnection, error) {
		return every(ctx, ec2.NewDescribeVpcPeeringConnectionsPaginator(api.EC2, &ec2.DescribeVpcPeeringConnectionsInput{}),
			func(o *ec2.DescribeVpcPeeringConnectionsOutput) []types.VpcPeeringConnection {
				return o.VpcPeeringConnections
			})
	})
	list(&a, f, callTransit, &f.transit, func() ([]types.TransitGatewayVpcAttachment, error) {
		return every(ctx, ec2.NewDescribeTransitGatewayVpcAttachmentsPaginator(api.EC2, &ec2.DescribeTransitGatewayVpcAttachmentsInput{Filters: of("vpc-id")}),
			func(o *ec2.DescribeTransitGatewayVpcAttachmentsOutput) []types.TransitGatewayVpcAttachment {
				return o.TransitGatewayVpcAttachments
			})
	})
	list(&a, f, callEgressOnly, &f.egressOnly, func() ([]types.EgressOnlyInternetGateway, error) {
		return every(ctx, ec2.NewDescribeEgressOnlyInternetGatewaysPaginator(api.EC2, &ec2.DescribeEgressOnlyInternetGatewaysInput{}),
			func(o *ec2.DescribeEgressOnlyInternetGatewaysOutput) []types.EgressOnlyInternetGateway {
				return o.EgressOnlyInternetGateways
			})
	})
	list(&a, f, callFlowLogs, &f.flowLogs, func() ([]types.FlowLog, error) {
		return every(ctx, ec2.NewDescribeFlowLogsPaginator(api.EC2, &ec2.DescribeFlowLogsInput{}),
			func(o *ec2.DescribeFlowLogsOutput) []types.FlowLog { return o.FlowLogs })
	})
	a.ask(f, callServices, func() error {
		// All of a region are some hundred; naming one that it lacks would be an error.
		var names []string
		for _, service := range allServices {
			names = append(names, serviceName(r.Region, service))
		}
		in := &ec2.DescribeVpcEndpointServicesInput{Filters: []types.Filter{{Name: aws.String("service-name"), Values: names}}}
		for {
			out, err := api.EC2.DescribeVpcEndpointServices(ctx, in)
			if err != nil {
				return err
			}
			for _, s := range out.ServiceDetails {
				if slices.ContainsFunc(s.ServiceType, func(t types.ServiceTypeDetail) bool { return t.ServiceType == types.ServiceTypeInterface }) {
					f.services[aws.ToString(s.ServiceName)] = s.AvailabilityZones
				}
			}
			if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
				return nil
			}
		}
	})
	a.ask(f, callBlockInternet, func() error {
		out, err := api.EC2.DescribeVpcBlockPublicAccessOptions(ctx, &ec2.DescribeVpcBlockPublicAccessOptionsInput{})
		if err == nil && out.VpcBlockPublicAccessOptions != nil {
			f.blockInternet = out.VpcBlockPublicAccessOptions.InternetGatewayBlockMode
		}
		return err
	})
	a.ask(f, callAddresses, func() error {
		out, err := api.EC2.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{})
		if err == nil {
			f.addresses = len(out.Addresses)
		}
		return err
	})
	a.ask(f, callClusters, func() error {
		pages := eks.NewListClustersPaginator(api.EKS, &eks.ListClustersInput{})
		for pages.HasMorePages() {
			page, err := pages.NextPage(ctx)
			if err != nil {
				return err
			}
			f.clusters += len(page.Clusters)
		}
		return nil
	})
	for _, q := range quotas {
		a.ask(f, callQuota, func() error {
			out, err := api.Quotas.GetServiceQuota(ctx, &servicequotas.GetServiceQuotaInput{ServiceCode: aws.String(q.service), QuotaCode: aws.String(q.code)})
			if err == nil && out.Quota != nil {
				a.locked(func() { f.quotas[q.code] = aws.ToFloat64(out.Quota.Value) })
			}
			return err
		})
	}
	a.wait()

	f.sortTiers()
	for _, id := range slices.Concat(f.PublicSubnets, f.PrivateSubnets) {
		if _, there := f.subnets[id]; !there {
			continue
		}
		a.ask(f, callReservations, func() error {
			out, err := api.EC2.GetSubnetCidrReservations(ctx, &ec2.GetSubnetCidrReservationsInput{SubnetId: &id})
			if err == nil {
				a.locked(func() { f.reservations[id] = out.SubnetIpv4CidrReservations })
			}
			return err
		})
	}
	a.wait()
	for _, call := range slices.Sorted(maps.Keys(f.failed)) {
		if hopeless(f.failed[call]) {
			return nil, f.failed[call]
		}
	}
	return f, ctx.Err()
}

// sortTiers finds out which subnets are public and which private, where that was not
// said: public are those that lead to the internet by themselves. A tag for load balancers
// is a word on what a subnet is meant to be, and so is its name; they go before what its
// routes make of it, in this order. Of subnets that are neither for this cluster nor tagged
// nobody can tell from here; whoever has such names those that are meant.
func (f *facts) sortTiers() {
	inferPublic, inferPrivate := len(f.PublicSubnets) == 0, len(f.PrivateSubnets) == 0
	f.inferred = inferPublic || inferPrivate
	byZone := slices.SortedFunc(maps.Keys(f.subnets), func(a, b string) int {
		return cmp.Or(cmp.Compare(f.zoneOf(a), f.zoneOf(b)), cmp.Compare(a, b))
	})
	for _, id := range byZone {
		if aws.ToString(f.subnets[id].VpcId) != f.VPC || slices.Contains(f.PublicSubnets, id) || slices.Contains(f.PrivateSubnets, id) {
			continue
		}
		route := defaultRoute(f.tableOf(id))
		public := route != nil && strings.HasPrefix(aws.ToString(route.GatewayId), "igw-")
		tags := resource.EC2TagMap(f.subnets[id].Tags)
		_, external := tags["kubernetes.io/role/elb"]
		_, internal := tags["kubernetes.io/role/internal-elb"]
		if external == internal {
			name := strings.ToLower(tags["Name"])
			external, internal = strings.Contains(name, "public"), strings.Contains(name, "private")
		}
		if external != internal {
			public = external
		}
		switch {
		case public && inferPublic:
			f.PublicSubnets = append(f.PublicSubnets, id)
		case !public && inferPrivate:
			f.PrivateSubnets = append(f.PrivateSubnets, id)
		}
	}
}

// hopeless reports whether every other call would meet the same: it is not that AWS
// refused this one.
func hopeless(err error) bool {
	var unlisted *operations.UnlistedCallError
	if errors.As(err, &unlisted) {
		return false
	}
	var answer smithy.APIError
	if !errors.As(err, &answer) {
		return true
	}
	switch answer.ErrorCode() {
	case "AuthFailure", "ExpiredToken", "ExpiredTokenException", "RequestExpired", "InvalidClientTokenId", "UnrecognizedClientException",
		"SignatureDoesNotMatch", "IncompleteSignature", "MissingAuthenticationToken", "OptInRequired":
		return true
	}
	return false
}

// whyNot says in a few words why a call has no answer.
func whyNot(call string, err error) string {
	var unlisted *operations.UnlistedCallError
	switch {
	case errors.As(err, &unlisted):
		return call + ", which this role does not make"
	case fault.Denied(err):
		return call + ", which the caller may not do"
	}
	return fmt.Sprintf("%s, which failed (%s)", call, or(fault.Code(err), err.Error()))
}

// asking makes calls at the same time and keeps their errors.
type asking struct {
	group sync.WaitGroup
	mu    sync.Mutex
}

func (a *asking) ask(f *facts, call string, do func() error) {
	a.group.Go(func() {
		if err := do(); err != nil {
			a.locked(func() { f.failed[call] = err })
		}
	})
}

func (a *asking) locked(do func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	do()
}

func (a *asking) wait() { a.group.Wait() }

// list asks for a list.
func list[T any](a *asking, f *facts, call string, into *[]T, do func() ([]T, error)) {
	a.ask(f, call, func() (err error) {
		*into, err = do()
		return err
	})
}

// pages is one of the SDK's paginators of EC2.
type pages[Out any] interface {
	HasMorePages() bool
	NextPage(context.Context, ...func(*ec2.Options)) (Out, error)
}

// every collects what all pages have.
func every[Out, T any](ctx context.Context, p pages[Out], items func(Out) []T) ([]T, error) {
	var all []T
	for p.HasMorePages() {
		page, err := p.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, items(page)...)
	}
	return all, nil
}
