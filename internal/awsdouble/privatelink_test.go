package awsdouble

import (
	"strings"
	"testing"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

func TestBalancerOfOneName(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	n := newNetworkFor(t, a.d)
	make := func(scheme string) (int, string, error) {
		return query(t, a.d, a.key, "elasticloadbalancing", "CreateLoadBalancer", "Name", "nlb", "Type", "network", "Scheme", scheme,
			"Subnets.member.1", n.subnets[0], "Subnets.member.2", n.subnets[1], "Version", "2015-12-01")
	}
	_, first, _ := make("internal")
	a.clock.pass(typical.CreateNetworkLoadBalancer)
	_, again, _ := make("internal")
	if arn := between(t, first, "<LoadBalancerArn>", "<"); arn != between(t, again, "<LoadBalancerArn>", "<") || !strings.Contains(arn, "/net/") || !strings.Contains(again, "<Code>active</Code>") {
		t.Errorf("got %s and then %s, want the same load balancer, active by then", first, again)
	}
	if list := a.elb("DescribeLoadBalancers"); strings.Count(list, "<LoadBalancerArn>") != 1 {
		t.Errorf("got %s, want one load balancer", list)
	}
	if status, text, err := make("internet-facing"); err != nil || status != 400 || !strings.Contains(text, "<Code>DuplicateLoadBalancerName</Code>") {
		t.Errorf("got %d %s %v, want that the name is taken", status, text, err)
	}

	group := between(t, a.elb("CreateTargetGroup", "Name", "tasks", "Protocol", "TCP", "Port", "443", "VpcId", n.vpc, "TargetType", "ip"), "<TargetGroupArn>", "<")
	listen := []string{"LoadBalancerArn", between(t, first, "<LoadBalancerArn>", "<"), "Protocol", "TCP", "Port", "443",
		"DefaultActions.member.1.Type", "forward", "DefaultActions.member.1.TargetGroupArn", group}
	listener := between(t, a.elb("CreateListener", listen...), "<ListenerArn>", "<")
	if got := between(t, a.elb("CreateListener", listen...), "<ListenerArn>", "<"); got != listener || !strings.Contains(got, ":listener/net/") {
		t.Errorf("got %s, want the same listener, %s", got, listener)
	}
	if list := a.elb("DescribeListeners", listen[:2]...); strings.Count(list, "<ListenerArn>") != 1 {
		t.Errorf("got %s, want one listener", list)
	}
}

func TestPrivateNameOfEndpoint(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	n := newNetworkFor(t, a.d)
	balancer := between(t, a.elb("CreateLoadBalancer", "Name", "nlb", "Type", "network", "Scheme", "internal", "Subnets.member.1", n.subnets[0], "Subnets.member.2", n.subnets[1]), "<LoadBalancerArn>", "<")
	a.clock.pass(typical.CreateNetworkLoadBalancer)
	service := func(more ...string) (id, name string) {
		made := a.ec2("", "CreateVpcEndpointServiceConfiguration", append([]string{"NetworkLoadBalancerArn.1", balancer, "AcceptanceRequired", "false"}, more...)...)
		return between(t, made, "<serviceId>", "<"), between(t, made, "<serviceName>", "<")
	}
	connect := func(name, private string) []string {
		return []string{"VpcId", n.vpc, "ServiceName", name, "VpcEndpointType", "Interface", "SubnetId.1", n.subnets[0], "PrivateDnsEnabled", private}
	}
	a.ec2("", "ModifyVpcAttribute", "VpcId", n.vpc, "EnableDnsHostnames.Value", "true")

	_, nameless := service()
	refused := func(name, want string) {
		t.Helper()
		status, text, err := query(t, a.d, a.key, "ec2", "CreateVpcEndpoint", connect(name, "true")...)
		if err != nil || status != 400 || !strings.Contains(text, "<Code>InvalidParameter</Code>") || !strings.Contains(text, want) {
			t.Errorf("got %d %s %v, want that the service %s", status, text, err, want)
		}
	}
	refused(nameless, "does not provide a private DNS name")
	id, name := service("PrivateDnsName", "k8s.example.com")
	refused(name, "has not verified the private DNS name")

	endpoint := a.ec2("vpcEndpointId", "CreateVpcEndpoint", connect(name, "false")...)
	shown := a.ec2("", "DescribeVpcEndpoints", "VpcEndpointId.1", endpoint)
	group := between(t, a.ec2("", "DescribeSecurityGroups", "Filter.1.Name", "vpc-id", "Filter.1.Value.1", n.vpc, "Filter.2.Name", "group-name", "Filter.2.Value.1", "default"), "<groupId>", "<")
	if got := between(t, shown, "<groupSet><item><groupId>", "<"); got != group {
		t.Errorf("got group %s, want the default group %s", got, group)
	}
	if got := between(t, shown, "<dnsName>", "<"); !strings.HasPrefix(got, endpoint+"-") || !strings.HasSuffix(got, "."+id+".eu-central-1.vpce.amazonaws.com") {
		t.Errorf("got name %s, want it below that of %s", got, id)
	}
}

func TestEndpointDomain(t *testing.T) {
	t.Parallel()
	for service, want := range map[string]string{
		"com.amazonaws.eu-central-1.logs":                "logs.eu-central-1.vpce.amazonaws.com",
		"com.amazonaws.eu-central-1.ecr.api":             "api.ecr.eu-central-1.vpce.amazonaws.com",
		"com.amazonaws.vpce.eu-central-1.vpce-svc-0123a": "vpce-svc-0123a.eu-central-1.vpce.amazonaws.com",
	} {
		if got := endpointDomain(service); got != want {
			t.Errorf("got %s of %s, want %s", got, service, want)
		}
	}
}
