package awsdouble

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// serviceState is an endpoint service, the offering side of PrivateLink. Its
// connections are the endpoints that name it, in whichever account.
type serviceState struct {
	at         place
	id, name   string
	acceptance bool
	since      time.Time
	balancers  []string
	zones      []string
	private    privateName
}

// privateName is a service's private DNS name, and the proof that its owner owns
// it: a TXT record that has the value (Manage DNS names for VPC endpoint services).
type privateName struct {
	name          string
	state         string // pendingVerification, verifying, verified, failed
	label, secret string
	due           time.Time
}

func newPrivateName(name string) privateName {
	if name == "" {
		return privateName{}
	}
	return privateName{name: name, state: "pendingVerification", label: "_" + randomLower(20), secret: "vpce:" + randomLower(20)}
}

func (d *Double) serviceCreated(_ context.Context, c *call, answer *node) error {
	n, shown := d.network, answer.get("serviceConfiguration")
	s := &serviceState{at: c.place(), id: shown.one("serviceId"), name: shown.one("serviceName"), since: n.clock.Now(),
		acceptance: !strings.EqualFold(c.params.one("AcceptanceRequired"), "false"), balancers: c.params.all("NetworkLoadBalancerArn.*"), zones: unique(shown.all("availabilityZoneSet.item")), private: newPrivateName(c.params.one("PrivateDnsName"))}
	n.lock.Lock()
	defer n.lock.Unlock()
	n.services[s.id] = s
	s.show(shown, n.clock.Now())
	return nil
}

func (s *serviceState) show(item *node, now time.Time) {
	item.set("serviceState", "Available")
	if now.Before(s.since.Add(typical.CreateEndpointService)) {
		item.set("serviceState", "Pending")
	}
	item.set("acceptanceRequired", fmt.Sprint(s.acceptance))
	item.keep(func(child *node) bool {
		return child.name != "privateDnsName" && child.name != "privateDnsNameConfiguration"
	})
	if p := s.private; p.name != "" {
		state := p.state
		if state == "verifying" {
			state = "pendingVerification"
		}
		item.children = append(item.children, leaf("privateDnsName", p.name),
			branch("privateDnsNameConfiguration", leaf("state", state), leaf("type", "TXT"), leaf("value", p.secret), leaf("name", p.label)))
	}
}

// allServices has moto show all: it knows no filters here.
func (d *Double) allServices(_ context.Context, c *call) error {
	withoutFilters(c, func(string) bool { return true })
	return nil
}

func (d *Double) showServices(ctx context.Context, c *call, answer *node) error {
	if err := d.settleNames(ctx); err != nil {
		return err
	}
	n, wanted := d.network, filters(c)
	n.lock.Lock()
	defer n.lock.Unlock()
	answer.child("serviceConfigurationSet").keep(func(item *node) bool {
		if s := n.services[item.one("serviceId")]; s != nil {
			s.show(item, n.clock.Now())
		}
		return fits(wanted["service-id"], item.one("serviceId")) && fits(wanted["service-name"], item.one("serviceName")) &&
			fits(wanted["service-state"], item.one("serviceState")) && taggedAs(wanted, item)
	})
	return nil
}

func (d *Double) serviceModified(_ context.Context, c *call) error {
	n, p := d.network, c.params
	n.lock.Lock()
	defer n.lock.Unlock()
	s := n.services[p.one("ServiceId")]
	if s == nil || s.at != c.place() {
		return nil // moto says so
	}
	if acceptance := p.one("AcceptanceRequired"); acceptance != "" {
		s.acceptance = strings.EqualFold(acceptance, "true")
	}
	if name := p.one("PrivateDnsName"); name != "" && name != s.private.name {
		s.private = newPrivateName(name)
	}
	if strings.EqualFold(p.one("RemovePrivateDnsName"), "true") {
		s.private = privateName{}
	}
	removed := p.all("RemoveNetworkLoadBalancerArn.*")
	s.balancers = slices.DeleteFunc(append(s.balancers, p.all("AddNetworkLoadBalancerArn.*")...), func(arn string) bool { return slices.Contains(removed, arn) })
	return nil
}

func (d *Double) deleteServices(ctx context.Context, c *call) (*http.Response, error) {
	n := d.network
	failed := branch("unsuccessful")
	refuse := func(id, code, message string) {
		failed.children = append(failed.children, branch("item", leaf("resourceId", id), branch("error", leaf("code", code), leaf("message", message))))
	}
	for _, id := range c.params.all("ServiceId.*") {
		n.lock.Lock()
		s := n.services[id]
		there := s != nil && s.at == c.place()
		active := there && slices.ContainsFunc(slices.Collect(maps.Values(n.endpoints)), func(e *endpointState) bool {
			return e.service == s.name && slices.Contains([]string{"pendingAcceptance", "pending", "available"}, e.state)
		})
		n.lock.Unlock()
		switch {
		case !there:
			refuse(id, "InvalidVpcEndpointServiceId.NotFound", "The VpcEndpointService Id '"+id+"' does not exist")
		case active:
			refuse(id, "ExistingVpcEndpointConnections", "Service "+id+" has existing active VPC Endpoint connections!")
		default:
			if _, err := n.do(ctx, c.place(), "DeleteVpcEndpointServiceConfigurations", "ServiceId.1", id); err != nil {
				return nil, err
			}
			n.lock.Lock()
			delete(n.services, id)
			n.lock.Unlock()
		}
	}
	return inXML(c, branch("", leaf("requestId", newRequestID()), failed)), nil
}

func (d *Double) verifyName(_ context.Context, c *call) (*http.Response, error) {
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	s := n.services[c.params.one("ServiceId")]
	if s == nil || s.at != c.place() {
		return nil, ec2Error("InvalidVpcEndpointServiceId.NotFound", "The VpcEndpointService Id '%s' does not exist", c.params.one("ServiceId"))
	}
	if s.private.name == "" {
		return nil, ec2Error("InvalidParameter", "The service %s has no private DNS name", s.id)
	}
	if s.private.state != "verified" {
		s.private.state, s.private.due = "verifying", n.clock.Now().Add(typical.VerifyPrivateDNS)
	}
	return done(c), nil
}

// settleNames looks for the records of the names whose verification is due.
func (d *Double) settleNames(ctx context.Context) error {
	n, now := d.network, d.network.clock.Now()
	for id, s := range due(n, n.services, func(s *serviceState) bool { return s.private.state == "verifying" && !now.Before(s.private.due) }) {
		found, err := d.recordExists(ctx, s.private)
		if err != nil {
			return err
		}
		n.lock.Lock()
		if state := n.services[id]; state != nil && state.private.state == "verifying" {
			state.private.state = "failed"
			if found {
				state.private.state = "verified"
			}
		}
		n.lock.Unlock()
	}
	return nil
}

// recordExists looks for the TXT record in every public zone of every account, at
// the name or above it.
func (d *Double) recordExists(ctx context.Context, p privateName) (bool, error) {
	for account := range d.world.identity.keys {
		text, err := d.world.raw(ctx, account, "us-east-1", want{service: "route53", operation: "ListHostedZones", path: "/2013-04-01/hostedzone"})
		if err != nil {
			return false, err
		}
		zones, err := fromMoto(text)
		if err != nil {
			return false, fmt.Errorf("reading moto's zones: %w", err)
		}
		for _, zone := range zones.at("HostedZones.HostedZone") {
			if zone.one("Config.PrivateZone") == "true" {
				continue
			}
			text, err := d.world.raw(ctx, account, "us-east-1", want{service: "route53", operation: "ListResourceRecordSets",
				path: "/2013-04-01/hostedzone/" + url.PathEscape(base(zone.one("Id"))) + "/rrset"})
			if err != nil {
				return false, err
			}
			records, err := fromMoto(text)
			if err != nil {
				return false, fmt.Errorf("reading moto's records: %w", err)
			}
			for _, record := range records.at("ResourceRecordSets.ResourceRecordSet") {
				under, ok := strings.CutPrefix(strings.TrimSuffix(record.one("Name"), "."), p.label+".")
				if ok && record.one("Type") == "TXT" && (under == p.name || strings.HasSuffix(p.name, "."+under)) &&
					slices.ContainsFunc(record.all("ResourceRecords.ResourceRecord.Value"), func(v string) bool { return strings.Trim(v, `"`) == p.secret }) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// serviceOffered refuses an endpoint for a service of somebody who does not offer
// it to the caller.
func (n *network) serviceOffered(c *call) error {
	name := c.params.one("ServiceName")
	if !isPrivateLink(name) {
		return nil
	}
	refused := ec2Error("InvalidServiceName", "The Vpc Endpoint Service '%s' does not exist", name)
	n.lock.Lock()
	s := n.serviceNamed(name)
	n.lock.Unlock()
	if s == nil {
		return refused
	}
	for _, id := range c.params.all("SubnetId.*") {
		subnet, err := n.look(c.request.Context(), c.place(), "DescribeSubnets", "subnet-id", id)
		if err != nil {
			return err
		}
		if zone := subnet.one("subnetSet.item.availabilityZone"); zone != "" && !slices.Contains(s.zones, zone) {
			return ec2Error("InvalidParameter", "The VPC endpoint service %s does not support the availability zone of the subnet: %s.", name, id)
		}
	}
	return n.offered(c.request.Context(), c, s)
}

// offered refuses who is none of a service's principals, as if there were no service.
func (n *network) offered(ctx context.Context, c *call, s *serviceState) error {
	if s.at.account == c.Account {
		return nil
	}
	answer, err := n.do(ctx, s.at, "DescribeVpcEndpointServicePermissions", "ServiceId", s.id)
	if err != nil {
		return err
	}
	for _, principal := range answer.all("allowedPrincipals.item.principal") {
		if principal == "*" || principal == c.principal || principal == c.Account || principal == "arn:"+c.Partition+":iam::"+c.Account+":root" {
			return nil
		}
	}
	return ec2Error("InvalidServiceName", "The Vpc Endpoint Service '%s' does not exist", s.name)
}

// describeServices shows the endpoint services that are asked for by name, where somebody
// in the double offers them to the caller. moto knows the caller's own, and AWS's.
func (d *Double) describeServices(ctx context.Context, c *call) (*http.Response, error) {
	names := c.params.all("ServiceName.*")
	if !slices.ContainsFunc(names, isPrivateLink) {
		// moto has no filter by name.
		wanted := filters(c)["service-name"]
		withoutFilters(c, func(name string) bool { return name == "service-name" })
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return edit(c, answer, func(root *node) error {
			root.child("serviceNameSet").keep(func(item *node) bool { return fits(wanted, item.value) })
			root.child("serviceDetailSet").keep(func(item *node) bool { return fits(wanted, item.one("serviceName")) })
			return nil
		})
	}
	list, details := branch("serviceNameSet"), branch("serviceDetailSet")
	for _, name := range names {
		d.network.lock.Lock()
		s := d.network.serviceNamed(name)
		d.network.lock.Unlock()
		if s == nil {
			return nil, ec2Error("InvalidServiceName", "The Vpc Endpoint Service '%s' does not exist", name)
		}
		if err := d.network.offered(ctx, c, s); err != nil {
			return nil, err
		}
		zones := branch("availabilityZoneSet")
		for _, zone := range s.zones {
			zones.children = append(zones.children, leaf("item", zone))
		}
		list.children = append(list.children, leaf("item", name))
		one := branch("item", leaf("serviceName", name), leaf("serviceId", s.id), leaf("owner", s.at.account), leaf("acceptanceRequired", fmt.Sprint(s.acceptance)),
			leaf("managesVpcEndpoints", "false"), leaf("vpcEndpointPolicySupported", "false"), branch("serviceType", branch("item", leaf("serviceType", "Interface"))), zones)
		if p := s.private; p.name != "" {
			one.children = append(one.children, leaf("privateDnsName", p.name), leaf("privateDnsNameVerificationState", strings.Replace(p.state, "verifying", "pendingVerification", 1)))
		}
		details.children = append(details.children, one)
	}
	return inXML(c, branch("", leaf("requestId", newRequestID()), list, details)), nil
}

func (n *network) serviceNamed(name string) *serviceState {
	for _, s := range n.services {
		if s.name == name {
			return s
		}
	}
	return nil
}

// connecting has a new endpoint ask to be let in, where that is wanted.
func (n *network) connecting(id string, s *endpointState) {
	if service := n.serviceNamed(s.service); service != nil && service.acceptance {
		s.state, s.due = "pendingAcceptance", time.Time{}
	}
}

// nameUsable refuses endpoints the private name of a service that has none, or has
// not proven that it is its own.
func (n *network) nameUsable(service string) error {
	s := n.serviceNamed(service)
	switch {
	case s == nil || s.private.state == "verified":
		return nil
	case s.private.name == "":
		return ec2Error("InvalidParameter", "Private DNS can't be enabled because the service %s does not provide a private DNS name.", service)
	}
	return ec2Error("InvalidParameter", "Private DNS can't be enabled because the service %s provider has not verified the private DNS name.", service)
}

func (d *Double) showConnections(_ context.Context, c *call) (*http.Response, error) {
	n, wanted := d.network, filters(c)
	n.lock.Lock()
	defer n.lock.Unlock()
	list := branch("vpcEndpointConnectionSet")
	for _, id := range slices.Sorted(maps.Keys(n.endpoints)) {
		e := n.endpoints[id]
		s := n.serviceNamed(e.service)
		if s == nil || s.at != c.place() || e.state == "gone" || !fits(wanted["service-id"], s.id) || !fits(wanted["vpc-endpoint-id"], id) ||
			!fits(wanted["vpc-endpoint-owner"], e.at.account) || !fits(wanted["vpc-endpoint-state"], e.state) {
			continue
		}
		balancers := branch("networkLoadBalancerArnSet")
		for _, arn := range s.balancers {
			balancers.children = append(balancers.children, leaf("item", arn))
		}
		list.children = append(list.children, branch("item",
			leaf("serviceId", s.id), leaf("vpcEndpointId", id), leaf("vpcEndpointOwner", e.at.account), leaf("vpcEndpointState", e.state),
			leaf("creationTimestamp", e.started.UTC().Format(time.RFC3339)), leaf("ipAddressType", "ipv4"), leaf("vpcEndpointRegion", e.at.region),
			leaf("vpcEndpointConnectionId", "vpce-con-"+strings.TrimPrefix(id, "vpce-")), balancers))
	}
	return inXML(c, branch("", leaf("requestId", newRequestID()), list)), nil
}

// answerConnections accepts or rejects endpoints.
func (d *Double) answerConnections(_ context.Context, c *call) (*http.Response, error) {
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	s := n.services[c.params.one("ServiceId")]
	if s == nil || s.at != c.place() {
		return nil, ec2Error("InvalidVpcEndpointServiceId.NotFound", "The VpcEndpointService Id '%s' does not exist", c.params.one("ServiceId"))
	}
	failed := branch("unsuccessful")
	accept := c.Operation == "AcceptVpcEndpointConnections"
	for _, id := range c.params.all("VpcEndpointId.*") {
		e := n.endpoints[id]
		refuse := func(code, message string) {
			failed.children = append(failed.children, branch("item", leaf("resourceId", id), branch("error", leaf("code", code), leaf("message", message))))
		}
		switch {
		case e == nil || e.service != s.name || e.state == "gone":
			refuse("InvalidVpcEndpointId.NotFound", "The Vpc Endpoint Id '"+id+"' does not exist")
		case accept && (e.state == "pendingAcceptance" || e.state == "rejected"):
			e.state, e.due = "pending", n.clock.Now().Add(typical.ConnectEndpoint)
		case !accept && e.state != "deleting":
			e.state, e.due = "rejected", time.Time{}
		case e.state == "deleting":
			refuse("InvalidState", "The endpoint "+id+" is in the state deleting")
		}
	}
	return inXML(c, branch("", leaf("requestId", newRequestID()), failed)), nil
}
