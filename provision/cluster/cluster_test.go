package cluster_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// One account serves every test; each has a data plane of its own in it.
var account *provisiontest.Account

func TestMain(m *testing.M) {
	var err error
	account, err = provisiontest.Start(context.Background(), awsdouble.Options{Clock: clock.Scaled(2000)}, spec.Strict)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	if err := account.Double.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// network is what a customer has: a VPC with a private subnet in each of two zones.
type network struct {
	vpc     string
	subnets []string
}

func newNetwork(t *testing.T) network {
	t.Helper()
	api := ec2.NewFromConfig(account.Customer())
	vpc, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
	if err != nil {
		t.Fatal(err)
	}
	n := network{vpc: *vpc.Vpc.VpcId}
	for i, zone := range []string{"a", "b"} {
		subnet, err := api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: &n.vpc, AvailabilityZone: aws.String(provisiontest.Region + zone), CidrBlock: aws.String(fmt.Sprintf("10.0.%d.0/18", i*64))})
		if err != nil {
			t.Fatal(err)
		}
		n.subnets = append(n.subnets, *subnet.Subnet.SubnetId)
	}
	return n
}

// as are the steps of the cluster in a session of one role, in that network.
func (n network) as(t *testing.T, dp *spec.DataPlane, who operations.Roles) (*plane.Plane, []step.Step) {
	t.Helper()
	p := account.Open(t, dp, who)
	p.Know(plane.VPC, n.vpc)
	p.Know(plane.PrivateSubnets, n.subnets...)
	return p, cluster.Steps(p, cluster.After{})
}

func TestLife(t *testing.T) {
	n, dp := newNetwork(t), account.DataPlane()
	dp.Spec.Cluster.Karpenter = true

	_, provision := n.as(t, dp, operations.Provision)
	account.Reach(t, provision, step.Present)
	for _, who := range []operations.Roles{operations.Observe, operations.Provision} {
		_, steps := n.as(t, dp, who)
		for _, s := range account.Plan(t, steps, step.Present).Steps {
			if s.Action != step.Keep {
				t.Errorf("%s: %s: got %s (%v), want it kept", who, s.Name, s.Action, s.Details)
			}
		}
	}
	p, teardown := n.as(t, dp, operations.Teardown)
	p.DeleteData = true
	account.Reach(t, teardown, step.Absent)
	for _, s := range account.Plan(t, teardown, step.Absent).Steps {
		if s.Action != step.None && s.Name != "service-linked roles" {
			t.Errorf("%s: got %s (%v), want it gone", s.Name, s.Action, s.Details)
		}
	}
}
