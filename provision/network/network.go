// Package network is the network of a data plane: how its addresses are shared out,
// whether one that is there can hold a data plane, and the steps that make one, or that
// make sure of one that was given. It makes no cluster, and it changes nothing of a
// network that is the customer's.
//
// Start with Steps; PlanAddresses and Check stand on their own. Where things are:
//
//	plan.go              the address plan
//	zones.go             which zones are used
//	services.go          which services are reached by endpoints
//	check.go             the 28 checks: what one says, and how they are run
//	facts.go, routes.go  what is asked of AWS for them, all at once
//	checks.go, checks_acl.go, checks_endpoints.go  what they look at
//	make_vpc.go          VPC, internet gateway, subnets
//	make_routes.go       addresses, NAT gateways, tables of routes
//	make_endpoints.go    endpoints and their security group
//	make_logs.go         the record of traffic, and the default security group
//	leftovers.go         what is no longer wanted, and what a cluster left behind
//	given.go             a network that is the customer's
//	prices.go            what it costs
package network

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// component is what the tags call this package.
const component = "network"

// Steps returns what makes the network, or makes sure of the one that is given. They tell
// the facts VPC, Zones, PublicSubnets, PrivateSubnets, PrivateCIDRs and VPCCIDRs. Zones
// are in the steps' names where they are known by then, see ChooseZones.
func Steps(p *plane.Plane) []step.Step {
	if given := p.Spec.Network.Existing; given != nil {
		return []step.Step{&givenStep{plane: p, want: given}}
	}
	m := newMaker(p)
	var steps []step.Step
	add := func(wanted bool, resources ...*resource.Resource) {
		for _, r := range resources {
			m.declare(r)
			if wanted {
				steps = append(steps, r)
			} else {
				steps = append(steps, resource.NotWanted(r))
			}
		}
	}
	add(true, m.vpc(), m.internetGateway())
	for i := range m.zones {
		add(true, m.subnet(public, i), m.subnet(private, i))
	}
	add(true, m.routes(public, 0))
	for i := range m.zones {
		add(m.hasNAT(i), m.address(i), m.natGateway(i))
		add(true, m.routes(private, i))
	}
	add(true, m.s3Endpoint())
	add(len(m.services) > 0, m.endpointGroup())
	for _, service := range allServices {
		add(slices.Contains(m.services, service), m.endpoint(service))
	}
	add(m.logDays() > 0, m.logRole(), m.logGroup(), m.flowLog())
	return append(steps, &defaultGroupStep{m})
}

// tier is one of the two kinds of subnets.
type tier string

const (
	public  tier = "public"
	private tier = "private"
)

// maker makes one network, and keeps what its steps know of each other.
type maker struct {
	*plane.Plane
	want      spec.NetworkToMake
	addresses *AddressPlan
	planErr   error // why there is no address plan
	services  []string

	mu      sync.Mutex
	zones   []string                // ids; "" where it is not known
	labels  []string                // of the zones in names of steps
	ids     map[string]string       // of what is there, by its logical id
	subnets map[string]types.Subnet // by logical id
	unseen  map[string]string       // ids of what was made in this run and is not seen yet
}

func newMaker(p *plane.Plane) *maker {
	m := &maker{Plane: p, want: *p.Spec.Network.Create, ids: map[string]string{}, subnets: map[string]types.Subnet{}, unseen: map[string]string{}}
	m.addresses, m.planErr = PlanAddresses(m.want.CIDR, m.want.Zones)
	if m.planErr != nil {
		m.addresses = &AddressPlan{Private: make([]Block, m.want.Zones), Public: make([]Block, m.want.Zones)}
	}
	m.zones, m.labels = make([]string, m.want.Zones), make([]string, m.want.Zones)
	known := p.All(plane.Zones)
	if len(known) != m.want.Zones {
		known = m.want.ZoneIDs
	}
	for i := range m.labels {
		m.labels[i] = strconv.Itoa(i + 1)
		if i < len(known) {
			m.labels[i] = known[i]
		}
	}
	switch m.want.Endpoints {
	case spec.AllEndpoints:
		m.services = allServices
	case spec.RecommendedEndpoints, "":
		m.services = recommendedServices
	}
	if p.Spec.PrivateEndpoint.Enabled {
		for _, service := range privateServices {
			if !slices.Contains(m.services, service) {
				m.services = append(slices.Clip(m.services), service)
			}
		}
	}
	return m
}

// hasNAT reports whether a zone has a NAT gateway.
func (m *maker) hasNAT(zone int) bool {
	return m.want.NAT != spec.NATNone && (zone == 0 || m.want.NAT != spec.NATSingle)
}

// natFor is the zone whose NAT gateway is the way out of another; -1 for none.
func (m *maker) natFor(zone int) int {
	switch {
	case m.want.NAT == spec.NATNone:
		return -1
	case m.hasNAT(zone):
		return zone
	}
	return 0
}

func (m *maker) logDays() int {
	if m.want.FlowLogDays == nil {
		return 30
	}
	return *m.want.FlowLogDays
}

// Logical ids. They count zones instead of naming them, so that a thing is found again
// also where nobody can tell which zones were chosen.
func zonal(kind string, zone int) string { return kind + "-" + strconv.Itoa(zone+1) }

// Titles of steps.
const (
	vpcTitle     = "network"
	gatewayTitle = "internet gateway"
	s3Title      = "endpoint s3"

	// EndpointGroup is the name of the step of the group in front of the VPC endpoints.
	EndpointGroup = "security group of endpoints"
)

func (m *maker) subnetTitle(t tier, zone int) string {
	return "subnet " + string(t) + " " + m.labels[zone]
}
func (m *maker) natTitle(zone int) string     { return "NAT gateway " + m.labels[zone] }
func (m *maker) addressTitle(zone int) string { return "public address " + m.labels[zone] }
func (m *maker) routesTitle(t tier, zone int) string {
	if t == public {
		return "routes public"
	}
	return "routes private " + m.labels[zone]
}

func (m *maker) subnetTitles(t tier) []string {
	var titles []string
	for i := range m.labels {
		titles = append(titles, m.subnetTitle(t, i))
	}
	return titles
}

// id is that of a thing that is there, by its logical id; "" when it is not.
func (m *maker) id(logicalID string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[logicalID]
}

// tell is for Resource.Tell of a thing whose State.Value is its id.
func (m *maker) tell(logicalID string) func(*resource.State) {
	return func(s *resource.State) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.ids[logicalID] = ""
		if s != nil && s.Leaving == "" {
			m.ids[logicalID], _ = s.Value.(string)
		}
	}
}

// needed is the id of a thing without which a call cannot be made.
func (m *maker) needed(logicalID, what string) (*string, error) {
	id := m.id(logicalID)
	if id == "" {
		return nil, fmt.Errorf("%s is not there: %w", what, step.ErrConflict)
	}
	return &id, nil
}

// once guards what has no client token: EC2 may not show for some seconds what was made,
// and what is not seen would be made again. It is called with what was found.
func (m *maker) once(logicalID string, seen bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if seen {
		delete(m.unseen, logicalID)
		return nil
	}
	if id := m.unseen[logicalID]; id != "" {
		return fmt.Errorf("%s was made, and is not to be seen yet: %w", id, step.ErrNotYet)
	}
	return nil
}

// made remembers what was made until it is seen.
func (m *maker) made(logicalID string, id *string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.unseen[logicalID] = aws.ToString(id)
}

// filters find the things of a logical id; all of the network's when it is "".
func (m *maker) filters(logicalID string) []types.Filter {
	tags := m.Owner.Tags(component, logicalID)
	prefix := m.Vendor.TagPrefix
	keys := []string{m.Vendor.ManagedByKey(), prefix + "component", prefix + "data-plane-id"}
	if logicalID != "" {
		keys = append(keys, prefix+"logical-id")
	}
	var filters []types.Filter
	for _, key := range keys {
		filters = append(filters, types.Filter{Name: aws.String("tag:" + key), Values: []string{tags[key]}})
	}
	return filters
}

// logicalID is what of ours a thing is, by its tags.
func (m *maker) logicalID(tags map[string]string) string {
	return tags[m.Vendor.TagPrefix+"logical-id"]
}

// tag writes the tags of a thing that is there. The ownership tag is written by the call
// that makes a thing and by no other, which the access roles deny.
func (m *maker) tag(id func() string) func(context.Context, map[string]string) error {
	return func(ctx context.Context, tags map[string]string) error {
		delete(tags, m.Vendor.ManagedByKey())
		_, err := m.AWS.EC2.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{id()}, Tags: resource.EC2Tags(tags)})
		return err
	}
}

func (m *maker) tagByID(logicalID string) func(context.Context, map[string]string) error {
	return m.tag(func() string { return m.id(logicalID) })
}
