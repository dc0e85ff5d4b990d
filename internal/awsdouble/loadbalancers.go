package awsdouble

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// balancerState is a load balancer: where it is in its life, and the interfaces
// that it has in its subnets, which moto does not make.
type balancerState struct {
	at         place
	state      string // provisioning, active, failed, deleting
	due        time.Time
	failure    bool
	vpc        string
	public     bool
	interfaces []string
}

// elbRules are the rules of Elastic Load Balancing, version 2.
var elbRules = map[string]rule{
	"CreateLoadBalancer":    {instead: (*Double).createBalancer},
	"CreateListener":        {instead: (*Double).createListener},
	"DescribeLoadBalancers": {after: (*Double).showBalancers},
	"DeleteLoadBalancer":    {before: (*Double).balancerFree, after: (*Double).balancerDeleted},
	"SetSecurityGroups":     {before: (*Double).balancerGroups},
	"DescribeTargetHealth":  {before: (*Double).settleTasks, after: (*Double).showTargets},
}

// elb performs a decided call of Elastic Load Balancing.
func (d *Double) elb(ctx context.Context, c *call) (*http.Response, error) {
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	return d.byRule(ctx, c, elbRules[c.Operation])
}

// createBalancer makes one of a name, however often it is asked with the same settings;
// moto makes another each time. With other settings the name is taken (Elastic Load
// Balancing API reference, CreateLoadBalancer).
func (d *Double) createBalancer(ctx context.Context, c *call) (*http.Response, error) {
	created := func(root *node) error { return d.balancerCreated(ctx, c, root) }
	there, err := d.world.ask(ctx, c, want{service: "elasticloadbalancing", operation: "DescribeLoadBalancers",
		form: []string{"Version", "2015-12-01", "Names.member.1", c.params.one("Name")}})
	if err != nil {
		return nil, err
	}
	known := there.at("DescribeLoadBalancersResult.LoadBalancers.member")
	if len(known) == 0 {
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return edit(c, answer, created)
	}
	subnets := func(list []string) string { return strings.Join(slices.Sorted(slices.Values(list)), " ") }
	if known[0].one("Type") != cmp.Or(c.params.one("Type"), "application") || known[0].one("Scheme") != cmp.Or(c.params.one("Scheme"), "internet-facing") ||
		subnets(known[0].all("AvailabilityZones.member.SubnetId")) != subnets(c.params.all("Subnets.*")) {
		return nil, &refusal{"DuplicateLoadBalancerName", "A load balancer with the same name '" + c.params.one("Name") + "' exists, but with different settings", http.StatusBadRequest}
	}
	answer, err := d.fromMotoBalancers(c, inXML(c, branch("", branch("CreateLoadBalancerResult", branch("LoadBalancers", known[0])))))
	if err != nil {
		return nil, err
	}
	return edit(c, answer, created)
}

// createListener makes one for a port, in the same way.
func (d *Double) createListener(ctx context.Context, c *call) (*http.Response, error) {
	there, err := d.world.ask(ctx, c, want{service: "elasticloadbalancing", operation: "DescribeListeners",
		form: []string{"Version", "2015-12-01", "LoadBalancerArn", c.params.one("LoadBalancerArn")}})
	if err != nil {
		return nil, err
	}
	for _, known := range there.at("DescribeListenersResult.Listeners.member") {
		if known.one("Port") != c.params.one("Port") {
			continue
		}
		if known.one("Protocol") != c.params.one("Protocol") || known.one("DefaultActions.member.TargetGroupArn") != c.params.one("DefaultActions.1.TargetGroupArn") {
			return nil, &refusal{"DuplicateListener", "A listener already exists on this port for this load balancer", http.StatusBadRequest}
		}
		return d.fromMotoBalancers(c, inXML(c, branch("", branch("CreateListenerResult", branch("Listeners", known)))))
	}
	return d.forward(ctx, c)
}

func (d *Double) balancerCreated(ctx context.Context, c *call, answer *node) error {
	n := d.network
	for _, item := range answer.at("CreateLoadBalancerResult.LoadBalancers.member") {
		arn := item.one("LoadBalancerArn")
		n.lock.Lock()
		known := n.balancers[arn]
		n.lock.Unlock()
		if known == nil {
			known = &balancerState{at: c.place(), state: "provisioning", due: n.clock.Now().Add(typical.CreateNetworkLoadBalancer), failure: c.fail,
				vpc: item.one("VpcId"), public: item.one("Scheme") == "internet-facing"}
			_, name, _ := strings.Cut(arn, ":loadbalancer/")
			groups := item.all("SecurityGroups.member")
			for _, subnet := range item.all("AvailabilityZones.member.SubnetId") {
				eni, err := n.makeInterface(ctx, c.place(), "network_load_balancer", subnet, "ELB "+name, groups)
				if err != nil {
					return err
				}
				known.interfaces = append(known.interfaces, eni)
			}
			n.lock.Lock()
			n.balancers[arn] = known
			n.lock.Unlock()
		}
		known.show(item)
	}
	return nil
}

// makeInterface makes an interface that a service has in a subnet.
func (n *network) makeInterface(ctx context.Context, at place, kind, subnet, description string, groups []string) (string, error) {
	form := []string{"SubnetId", subnet, "Description", description}
	for i, group := range groups {
		form = append(form, "SecurityGroupId."+number(i+1), group)
	}
	answer, err := n.do(ctx, at, "CreateNetworkInterface", form...)
	if err != nil {
		return "", err
	}
	id := answer.one("networkInterface.networkInterfaceId")
	if groups == nil {
		groups = []string{}
	}
	n.own(id, kind, description, groups)
	return id, nil
}

func (s *balancerState) show(item *node) { item.child("State").set("Code", s.state) }

func (d *Double) showBalancers(_ context.Context, _ *call, answer *node) error {
	d.network.lock.Lock()
	defer d.network.lock.Unlock()
	for _, item := range answer.at("DescribeLoadBalancersResult.LoadBalancers.member") {
		if s := d.network.balancers[item.one("LoadBalancerArn")]; s != nil {
			s.show(item)
		}
	}
	return nil
}

// balancerFree refuses to delete a load balancer that an endpoint service has.
func (d *Double) balancerFree(_ context.Context, c *call) error {
	arn := c.params.one("LoadBalancerArn")
	d.network.lock.Lock()
	defer d.network.lock.Unlock()
	for _, s := range d.network.services {
		if slices.Contains(s.balancers, arn) {
			return &refusal{"ResourceInUse", "Load balancer '" + arn + "' cannot be deleted because it is currently associated with another service", http.StatusBadRequest}
		}
	}
	return nil
}

func (d *Double) balancerDeleted(_ context.Context, c *call, _ *node) error {
	d.network.lock.Lock()
	defer d.network.lock.Unlock()
	if s := d.network.balancers[c.params.one("LoadBalancerArn")]; s != nil && s.state != "deleting" {
		s.state, s.due = "deleting", d.network.clock.Now().Add(typical.DeleteNetworkLoadBalancer)
	}
	return nil
}

// balancerGroups gives the interfaces the groups that the load balancer gets.
func (d *Double) balancerGroups(_ context.Context, c *call) error {
	n := d.network
	n.lock.Lock()
	defer n.lock.Unlock()
	if s := n.balancers[c.params.one("LoadBalancerArn")]; s != nil {
		for _, eni := range s.interfaces {
			owned := n.interfaces[eni]
			owned.groups = c.params.all("SecurityGroups.*")
			n.interfaces[eni] = owned
		}
	}
	return nil
}

// balancersIn are those of a VPC.
func (n *network) balancersIn(vpc string) []balancerState {
	n.lock.Lock()
	defer n.lock.Unlock()
	var found []balancerState
	for _, s := range n.balancers {
		if s.vpc == vpc && s.state != "deleting" {
			found = append(found, *s)
		}
	}
	return found
}

func (n *network) settleBalancers(ctx context.Context, now time.Time) error {
	for arn, s := range due(n, n.balancers, func(s *balancerState) bool { return !s.due.IsZero() && !now.Before(s.due) }) {
		next := "active"
		if s.failure {
			next = "failed"
		}
		if s.state == "deleting" {
			for _, eni := range s.interfaces {
				if err := n.removeInterface(ctx, s.at, eni); err != nil {
					return err
				}
			}
			n.lock.Lock()
			delete(n.balancers, arn)
			n.lock.Unlock()
			continue
		}
		n.lock.Lock()
		if state := n.balancers[arn]; state != nil && state.state == s.state {
			state.state, state.due = next, time.Time{}
		}
		n.lock.Unlock()
	}
	return nil
}
