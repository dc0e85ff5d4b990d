package awsdouble

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// endpointState is where a VPC endpoint is in its life. moto's are there at once;
// deleted, it still shows them. Endpoints for gateways are there at once in AWS too.
type endpointState struct {
	at         place
	state      string // pendingAcceptance, pending, available, rejected, deleting, gone
	due        time.Time
	vpc        string
	service    string // com.amazonaws.…
	privateDNS bool
	interfaces []string
	groups     []string
	started    time.Time
}

// endpointFits refuses private names that cannot be, or that another has.
func (d *Double) endpointFits(ctx context.Context, c *call) error {
	n, p := d.network, c.params
	if err := n.serviceOffered(c); err != nil {
		return err
	}
	if p.one("VpcEndpointType") == "" {
		// What is not named is a gateway in AWS, and of no type in moto.
		c.form = maps.Clone(c.form)
		c.form.Set("VpcEndpointType", "Gateway")
	}
	if p.one("VpcEndpointType") != "Interface" || strings.EqualFold(p.one("PrivateDnsEnabled"), "false") || !strings.EqualFold(p.one("PrivateDnsEnabled"), "true") && isPrivateLink(p.one("ServiceName")) {
		return nil
	}
	vpc := p.one("VpcId")
	seen, err := d.world.VPC(ctx, c.where(), vpc)
	if err != nil {
		return err
	}
	if seen == nil {
		return nil // moto says so
	}
	if !seen.DNSSupport || !seen.DNSHostnames {
		return ec2Error("InvalidParameter", "Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to true for %s", vpc)
	}
	n.lock.Lock()
	defer n.lock.Unlock()
	if err := n.nameUsable(p.one("ServiceName")); err != nil {
		return err
	}
	for id, s := range n.endpoints {
		if s.at == c.place() && s.vpc == vpc && s.service == p.one("ServiceName") && s.privateDNS && s.state != "gone" {
			return ec2Error("InvalidParameter", "private-dns-enabled cannot be set because there is already a conflicting DNS domain for %s in the VPC %s (%s)", s.service, vpc, id)
		}
	}
	return nil
}

func (d *Double) endpointCreated(ctx context.Context, c *call, answer *node) error {
	n, endpoint := d.network, answer.get("vpcEndpoint")
	if c.params.one("VpcEndpointType") != "Interface" {
		return nil
	}
	id, service := endpoint.one("vpcEndpointId"), c.params.one("ServiceName")
	now := n.clock.Now()
	s := &endpointState{at: c.place(), state: "pending", due: now.Add(typical.CreateInterfaceEndpoint), vpc: endpoint.one("vpcId"), service: service, started: now,
		privateDNS: !strings.EqualFold(c.params.one("PrivateDnsEnabled"), "false") && (!isPrivateLink(service) || strings.EqualFold(c.params.one("PrivateDnsEnabled"), "true")),
		interfaces: endpoint.all("networkInterfaceIdSet.item"), groups: c.params.all("SecurityGroupId.*")}
	if len(s.groups) == 0 {
		groups, err := n.look(ctx, c.place(), "DescribeSecurityGroups", "vpc-id", s.vpc, "group-name", "default")
		if err != nil {
			return err
		}
		s.groups = groups.all("securityGroupInfo.item.groupId")
	}
	for _, eni := range s.interfaces {
		n.own(eni, "vpc_endpoint", "VPC Endpoint Interface "+id, s.groups)
	}
	n.lock.Lock()
	defer n.lock.Unlock()
	n.endpoints[id] = s
	n.connecting(id, s)
	n.showEndpoint(s, endpoint)
	return nil
}

// showEndpoint puts into what moto says of an endpoint what it does not know.
func (n *network) showEndpoint(s *endpointState, item *node) {
	item.set("state", s.state)
	item.set("privateDnsEnabled", map[bool]string{true: "true", false: "false"}[s.privateDNS])
	groups := item.child("groupSet")
	groups.children = nil
	for _, id := range s.groups {
		groups.children = append(groups.children, branch("item", leaf("groupId", id)))
	}
	entries := item.child("dnsEntrySet")
	for _, entry := range entries.get("item").children {
		if entry.name == "dnsName" { // moto's begins as AWS's does
			own, _, _ := strings.Cut(entry.value, ".")
			entry.value = own + "." + endpointDomain(s.service)
		}
	}
	if service := n.serviceNamed(s.service); service != nil && s.privateDNS && service.private.name != "" {
		entries.children = append(entries.children, branch("item", leaf("dnsName", service.private.name), leaf("hostedZoneId", entries.one("item.hostedZoneId"))))
	}
}

// endpointDomain is where the names of a service's endpoints are: that of
// com.amazonaws.eu-central-1.ecr.api is api.ecr.eu-central-1.vpce.amazonaws.com, that
// of com.amazonaws.vpce.eu-central-1.vpce-svc-1 vpce-svc-1.eu-central-1.vpce.amazonaws.com.
func endpointDomain(service string) string {
	labels := strings.Split(strings.TrimPrefix(strings.TrimPrefix(service, "com.amazonaws."), "vpce."), ".")
	slices.Reverse(labels)
	return strings.Join(labels, ".") + ".vpce.amazonaws.com"
}

// endpointThere says whether an endpoint that moto shows is still there.
func (n *network) endpointThere(item *node) bool {
	n.lock.Lock()
	defer n.lock.Unlock()
	if s := n.endpoints[item.one("vpcEndpointId")]; s != nil {
		n.showEndpoint(s, item)
	}
	return item.one("state") != "deleted" && item.one("state") != "gone"
}

// allEndpoints keeps the filter on states from moto, which has others.
func (d *Double) allEndpoints(_ context.Context, c *call) error {
	withoutFilters(c, func(name string) bool { return name == "vpc-endpoint-state" })
	return nil
}

func (d *Double) showEndpoints(_ context.Context, c *call, answer *node) error {
	wanted := filters(c)
	list := answer.child("vpcEndpointSet")
	there := map[string]bool{}
	list.keep(func(item *node) bool {
		if !d.network.endpointThere(item) {
			return false
		}
		there[item.one("vpcEndpointId")] = true
		return fits(wanted["vpc-endpoint-state"], item.one("state"))
	})
	if len(wanted) == 0 {
		for _, id := range c.params.all("VpcEndpointId.*") {
			if !there[id] {
				return ec2Error("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '%s' does not exist", id)
			}
		}
	}
	return nil
}

// endpointModified keeps what moto forgets: groups, and private names.
func (d *Double) endpointModified(_ context.Context, c *call) error {
	n, p := d.network, c.params
	n.lock.Lock()
	defer n.lock.Unlock()
	s := n.endpoints[p.one("VpcEndpointId")]
	if s == nil {
		return nil
	}
	if private := p.one("PrivateDnsEnabled"); private != "" {
		if strings.EqualFold(private, "true") {
			if err := n.nameUsable(s.service); err != nil {
				return err
			}
		}
		s.privateDNS = strings.EqualFold(private, "true")
	}
	removed := p.all("RemoveSecurityGroupId.*")
	s.groups = slices.DeleteFunc(append(s.groups, p.all("AddSecurityGroupId.*")...), func(id string) bool { return slices.Contains(removed, id) })
	for _, eni := range s.interfaces {
		owned := n.interfaces[eni]
		owned.groups = slices.Clone(s.groups)
		n.interfaces[eni] = owned
	}
	return nil
}

// deleteEndpoints leaves endpoints with interfaces to the clock, and gives the
// others to moto.
func (d *Double) deleteEndpoints(ctx context.Context, c *call) (*http.Response, error) {
	n := d.network
	failed := branch("unsuccessful")
	for _, id := range c.params.all("VpcEndpointId.*") {
		n.lock.Lock()
		s := n.endpoints[id]
		if s != nil && s.state != "gone" && s.at == c.place() {
			if s.state != "deleting" {
				s.state, s.due = "deleting", n.clock.Now().Add(typical.DeleteInterfaceEndpoint)
			}
			n.lock.Unlock()
			continue
		}
		n.lock.Unlock()
		answer, err := n.do(ctx, c.place(), "DescribeVpcEndpoints", "VpcEndpointId.1", id)
		if err != nil && !isRefused(err) {
			return nil, err
		}
		endpoint := answer.get("vpcEndpointSet").get("item")
		if endpoint.one("vpcEndpointId") == "" || endpoint.one("state") == "deleted" {
			failed.children = append(failed.children, branch("item", leaf("resourceId", id), branch("error",
				leaf("code", "InvalidVpcEndpoint.NotFound"), leaf("message", "The Vpc Endpoint Id '"+id+"' does not exist"))))
			continue
		}
		if _, err := n.do(ctx, c.place(), "DeleteVpcEndpoints", "VpcEndpointId.1", id); err != nil {
			return nil, err
		}
	}
	return inXML(c, branch("", leaf("requestId", newRequestID()), failed)), nil
}

func (n *network) settleEndpoints(ctx context.Context, now time.Time) error {
	for id, s := range due(n, n.endpoints, func(s *endpointState) bool { return !s.due.IsZero() && !now.Before(s.due) }) {
		next := s.state
		switch s.state {
		case "pending":
			next = "available"
		case "deleting":
			if _, err := n.do(ctx, s.at, "DeleteVpcEndpoints", "VpcEndpointId.1", id); err != nil {
				return err
			}
			next = "gone"
		}
		n.lock.Lock()
		if state := n.endpoints[id]; state != nil && state.state == s.state {
			state.state, state.due = next, time.Time{}
			if next == "gone" {
				for _, eni := range s.interfaces {
					delete(n.interfaces, eni)
				}
			}
		}
		n.lock.Unlock()
	}
	return nil
}

// isPrivateLink tells the services of others from AWS's own.
func isPrivateLink(service string) bool { return strings.HasPrefix(service, "com.amazonaws.vpce.") }
