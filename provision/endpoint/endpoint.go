// Package endpoint makes the private endpoint of a data plane: the way on which the
// vendor's network reaches a Kubernetes API server that has no public address, and
// nothing else in the customer's network. A consumer endpoint in the vendor's network
// is connected by PrivateLink to a network load balancer in the customer's, whose
// targets are tasks of the jumper (biplane-jumper), which passes TLS through to EKS.
//
// It makes no cluster and no network (provision/cluster, provision/network; the network
// has the VPC endpoints that a private cluster needs), and none of the two roles of its
// tasks, which are the customer's to grant.
//
// Start with Steps, and Find where the file asks for none; Health is what a check asks besides. Where things are, in the order
// in which they are made:
//
//	roles.go     the two roles of the tasks, looked at
//	logs.go      the tasks' log group
//	groups.go    security groups, and the way into the cluster
//	balancer.go  load balancer, target group, listener
//	tasks.go     ECS cluster, task definition, service
//	offer.go     the endpoint service: who may see it, and who is connected
//	vendor.go    the vendor's side: its endpoint, and the group in front of it
//	name.go      the private name: proof, and where it leads
//	health.go    what answers, and who is connected
package endpoint

import (
	"context"
	"fmt"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// component is what the tags call this package.
const component = Component

// Component is that name, for who has to tell these steps from others.
const Component = "endpoint"

// After is what must be there before, and what only an operator can know.
type After struct {
	Network []string // steps that tell the network's facts
	Ways    []string // steps of what tasks need to reach their image and their log
	Cluster string   // the step that tells the cluster's
	// Accept are consumer endpoints of the vendor's that somebody else made: they are let
	// in beside the one that is made here.
	Accept []string
}

// Ports of a task, which runs without root.
const (
	jumperPort = 8443
	readyPort  = 8080
)

// longestName is how long a load balancer's name may be, and a target group's.
const longestName = 32

// Steps returns what makes the private endpoint, or removes it. Its errors are
// *usererr.Error: what the file has that cannot be built.
func Steps(p *plane.Plane, after After) ([]step.Step, error) {
	m := newMaker(p, after)
	if err := m.check(); err != nil {
		return nil, err
	}
	steps := []step.Step{m.grantedRole(executionRole), m.grantedRole(taskRole)}
	add := func(wanted bool, resources ...func() *resource.Resource) {
		for _, r := range resources {
			if wanted {
				steps = append(steps, m.whenGranted(r()))
			}
		}
	}
	vendor, named := m.want.Vendor != nil, m.want.PrivateDNSName != ""
	add(true, m.logGroup, m.balancerGroup, m.jumperGroup, m.wayIn,
		m.balancer, m.targetGroup, m.listener,
		m.ecsCluster, m.taskDefinition, m.service,
		m.offer, m.permission)
	add(vendor, m.vendorGroup, m.vendorEndpoint)
	add(true, m.connection)
	add(m.proves(), m.proof)
	if named {
		steps = append(steps, &verification{m})
	}
	add(vendor && named && m.want.Vendor.PrivateZone == "", m.privateName)
	add(vendor && named && m.want.Vendor.PrivateZone != "", m.privateRecord)
	return steps, nil
}

// Find looks whether there is a private endpoint that the file does not ask for, or a part
// of one, and tells the fact PrivateEndpoint. Its security groups and its log group are
// looked for, which everybody may who looks at a data plane: the groups are there before
// what costs, and go after it.
func Find(ctx context.Context, p *plane.Plane) error {
	if p.Spec.PrivateEndpoint.Enabled {
		return nil
	}
	groups, err := p.AWS.EC2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: tagFilters(p, "", "component", "data-plane-id")})
	if err != nil {
		return fmt.Errorf("looking for a private endpoint: %w", err)
	}
	if len(groups.SecurityGroups) > 0 {
		p.Know(plane.PrivateEndpoint, aws.ToString(groups.SecurityGroups[0].GroupId))
		return nil
	}
	name := newMaker(p, After{}).logGroupName()
	logs, err := p.AWS.Logs.DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: &name})
	if err != nil {
		return fmt.Errorf("looking for a private endpoint: %w", err)
	}
	for _, g := range logs.LogGroups {
		if aws.ToString(g.LogGroupName) == name {
			p.Know(plane.PrivateEndpoint, name)
		}
	}
	return nil
}

// whenGranted has a step come after the looks at the roles: where the account was not
// opened for a private endpoint, that is what is said, and nothing else is asked.
func (m *maker) whenGranted(r *resource.Resource) *resource.Resource {
	r.Requires = append(r.Requires, m.roleTitle(executionRole), m.roleTitle(taskRole))
	find := r.Find
	r.Find = func(ctx context.Context, goal step.Goal) (*resource.State, error) {
		if goal == step.Present && m.id("not granted") != "" {
			return nil, nil
		}
		return find(ctx, goal)
	}
	return r
}

// check refuses what cannot be built.
func (m *maker) check() error {
	if room := longestName - len(m.Vendor.EndpointPrefix); len(m.Plane.Name) > room {
		return usererr.New(usererr.Invalid, "metadata.name: %q has %d characters, and a load balancer's name, %s… with at most %d, leaves room for %d",
			m.Plane.Name, len(m.Plane.Name), m.Vendor.EndpointPrefix, longestName, room).WithHint("shorten it, or leave privateEndpoint out")
	}
	v := m.want.Vendor
	switch {
	case v == nil:
	case v.Region != "" && v.Region != m.Place.Region:
		return usererr.New(usererr.Invalid, "spec.privateEndpoint.vendor.region: %q is not the data plane's %s, and PrivateLink between regions is not granted", v.Region, m.Place.Region).
			WithHint("name a network of the vendor's in %s, and leave region out", m.Place.Region)
	case v.VPC == "" || len(v.Subnets) == 0:
		return usererr.New(usererr.Invalid, "spec.privateEndpoint.vendor has no vpc or no subnets").
			WithHint("name the vendor's network and at least one of its subnets, or leave vendor out where somebody else makes its side")
	case v.PublicZone+v.PrivateZone != "" && m.want.PrivateDNSName == "":
		return usererr.New(usererr.Invalid, "spec.privateEndpoint.vendor has a zone, and privateDnsName is missing").
			WithHint("write the name that the zones are for: %s.k8s.vendor.example", m.Plane.Name)
	}
	return nil
}

// maker makes the steps, and keeps what they know of each other.
type maker struct {
	*plane.Plane
	want  spec.PrivateEndpoint
	after After

	mu  sync.Mutex
	ids map[string]string // ids and ARNs of what is there
}

func newMaker(p *plane.Plane, after After) *maker {
	return &maker{Plane: p, want: p.Spec.PrivateEndpoint, after: after, ids: map[string]string{}}
}

// Name is that of the load balancer, the target group, the ECS cluster and the family
// of tasks of a data plane.
func Name(p *plane.Plane) string { return p.Vendor.EndpointPrefix + p.Name }

// id is what is known of a thing that is there; "" when it is not.
func (m *maker) id(of string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ids[of]
}

func (m *maker) know(of, value string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ids[of] = value
}

// tell is for Resource.Tell of a thing whose State.Value is its id.
func (m *maker) tell(of string) func(*resource.State) {
	return func(s *resource.State) {
		id := ""
		if s != nil && s.Leaving == "" {
			id, _ = s.Value.(string)
		}
		m.know(of, id)
	}
}

// needed is the id of a thing without which a call cannot be made.
func (m *maker) needed(of, what string) (*string, error) {
	id := m.id(of)
	if id == "" {
		return nil, fmt.Errorf("%s is not there: %w", what, step.ErrConflict)
	}
	return &id, nil
}

// fact is a fact without which a call cannot be made.
func (m *maker) fact(f plane.Fact) (string, error) {
	value := m.One(f)
	if value == "" {
		return "", fmt.Errorf("the %s is not known: %w", f, step.ErrConflict)
	}
	return value, nil
}

// needs are the names of steps, those of before first.
func needs(before []string, more ...string) []string {
	return append(append([]string{}, before...), more...)
}

// upstream is where the API server answers within the network, and the name that its
// certificate has.
func (m *maker) upstream() (host, port, name string, err error) {
	address, err := m.fact(plane.ClusterAddress)
	if err != nil {
		return "", "", "", err
	}
	if host, port, err = plane.HostPort(address); err != nil {
		return "", "", "", fmt.Errorf("the cluster's address %q is none", address)
	}
	return host, port, plane.CertificateName(host), nil
}

// filters find the things of a logical id that EC2 has.
func (m *maker) filters(logicalID string) []types.Filter {
	return tagFilters(m.Plane, logicalID, "component", "data-plane-id", "logical-id")
}

func tagFilters(p *plane.Plane, logicalID string, keys ...string) []types.Filter {
	tags := p.Owner.Tags(component, logicalID)
	filters := []types.Filter{{Name: aws.String("tag:" + p.Vendor.ManagedByKey()), Values: []string{tags[p.Vendor.ManagedByKey()]}}}
	for _, key := range keys {
		key = p.Vendor.TagPrefix + key
		filters = append(filters, types.Filter{Name: aws.String("tag:" + key), Values: []string{tags[key]}})
	}
	return filters
}

// unsuccessful is the error of a call that reports failures in its answer.
func unsuccessful(items []types.UnsuccessfulItem) error {
	for _, item := range items {
		if item.Error == nil || strings.HasSuffix(aws.ToString(item.Error.Code), "NotFound") {
			continue
		}
		err := fmt.Errorf("%s: %s (%s)", aws.ToString(item.ResourceId), aws.ToString(item.Error.Message), aws.ToString(item.Error.Code))
		if aws.ToString(item.Error.Code) == "ExistingVpcEndpointConnections" {
			return fmt.Errorf("%w: %w", step.ErrConflict, err) // a rejected one takes a moment to go
		}
		return err
	}
	return nil
}

// lower is a state, which some calls of EC2 write with a capital.
func lower[T ~string](state T) string { return strings.ToLower(string(state)) }

// own says of an error of a call to the vendor's own account whose right is missing.
func own(err error) error {
	if !fault.Denied(err) {
		return err
	}
	return usererr.New(usererr.Denied, "the vendor's own credentials lack a right in the vendor's account: %s", fault.Text(err)).
		WithHint("give them the rights that docs/private-endpoint.md lists, or leave spec.privateEndpoint.vendor out and make the vendor's side by hand").Because(err)
}
