package dataplane_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// The published grants are enough for a private endpoint: it is made, found as it is, and
// removed, also when the file no longer asks for it.
func TestPrivateEndpointUnderCompat(t *testing.T) {
	t.Parallel()
	account, err := provisiontest.Start(t.Context(), awsdouble.Options{Clock: clock.Scaled(1000)}, spec.Compat)
	if err != nil {
		t.Fatal(err)
	}
	defer account.Double.Stop()
	dp := account.DataPlane()
	privateEndpoint(t, account, dp)
	steps := func() []step.Step {
		t.Helper()
		p := account.Open(t, dp, operations.Provision)
		if err := dataplane.LookFirst(t.Context(), p); err != nil {
			t.Fatal(err)
		}
		steps, err := dataplane.Steps(p)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	account.Reach(t, steps(), step.Present)
	for _, s := range account.Plan(t, steps(), step.Present).Steps {
		if s.Action.Writes() || s.Action == step.Refuse {
			t.Errorf("%s: got %s (%v), want nothing to do", s.Name, s.Action, s.Details)
		}
	}

	dp.Spec.PrivateEndpoint.Enabled = false
	shown := map[string]bool{}
	for _, s := range account.Plan(t, steps(), step.Present).Steps {
		shown[s.Name] = s.Action == step.Leave && strings.Contains(strings.Join(s.Details, ""), "private-endpoint remove")
		if s.Action.Writes() || s.Action == step.Refuse {
			t.Errorf("%s: got %s (%v), want what is there to stay", s.Name, s.Action, s.Details)
		}
	}
	for _, name := range []string{"load balancer unionai-access-" + dp.Metadata.Name, "security group of the jumpers", "endpoint service"} {
		if !shown[name] {
			t.Errorf("%s: got nothing, want it to be shown as no longer asked for", name)
		}
	}
	account.Reach(t, steps(), step.Absent)
	balancers, err := elasticloadbalancingv2.NewFromConfig(account.Customer()).DescribeLoadBalancers(t.Context(), &elasticloadbalancingv2.DescribeLoadBalancersInput{})
	if err != nil || len(balancers.LoadBalancers) > 0 {
		t.Errorf("got load balancers %v and error %v, want none", balancers, err)
	}
}

// privateEndpoint gives a data plane a private endpoint, with a network and a zone of the
// vendor's that it leads to.
func privateEndpoint(t *testing.T, account *provisiontest.Account, dp *spec.DataPlane) {
	t.Helper()
	api := ec2.NewFromConfig(account.Vendor())
	vpc, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.99.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := api.ModifyVpcAttribute(t.Context(), &ec2.ModifyVpcAttributeInput{VpcId: vpc.Vpc.VpcId, EnableDnsHostnames: &types.AttributeBooleanValue{Value: aws.Bool(true)}}); err != nil {
		t.Fatal(err)
	}
	subnet, err := api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String("10.99.0.0/24"), AvailabilityZone: aws.String(provisiontest.Region + "a")})
	if err != nil {
		t.Fatal(err)
	}
	zone, err := route53.NewFromConfig(account.Vendor()).CreateHostedZone(t.Context(), &route53.CreateHostedZoneInput{Name: aws.String("vendor.example"), CallerReference: aws.String(t.Name() + dp.Metadata.Name)})
	if err != nil {
		t.Fatal(err)
	}
	dp.Spec.PrivateEndpoint = spec.PrivateEndpoint{Enabled: true, PrivateDNSName: dp.Metadata.Name + ".vendor.example",
		Vendor: &spec.VendorSide{VPC: *vpc.Vpc.VpcId, Subnets: []string{*subnet.Subnet.SubnetId}, PublicZone: (*zone.HostedZone.Id)[len("/hostedzone/"):]}}
	dp.Defaults()
}
