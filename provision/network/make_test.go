package network_test

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// One account serves every test; each has a data plane of its own in it.
var account *provisiontest.Account

// TestMain lets the test binary be the program that is killed.
func TestMain(m *testing.M) {
	if os.Getenv("RUN_NETWORK") != "" {
		if err := program(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	var err error
	// AWS's states pass a hundred times as fast as our own waiting, so that a slow machine
	// does not run out of patience.
	account, err = provisiontest.Start(context.Background(), awsdouble.Options{Clock: clock.Scaled(2000)}, spec.Strict)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	account.Clock = clock.Scaled(20)
	status := m.Run()
	if err := account.Double.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// as are the steps of a network in a session of one role, with the zones in their names.
func as(t *testing.T, dp *spec.DataPlane, who operations.Roles) (*plane.Plane, []step.Step) {
	t.Helper()
	p := account.Open(t, dp, who)
	if err := network.ChooseZones(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	return p, network.Steps(p)
}

func customer() *ec2.Client { return ec2.NewFromConfig(account.Customer()) }

// actions are the steps of a plan by what they would do, without those that do nothing.
func actions(p step.Plan) map[step.Action][]string {
	by := map[step.Action][]string{}
	for _, s := range p.Steps {
		if s.Action != step.Keep && s.Action != step.None {
			by[s.Action] = append(by[s.Action], s.Name+" "+strings.Join(s.Details, "; "))
		}
	}
	return by
}

// settled fails unless everything is as it is wanted; the default group cannot be
// closed under the strict grants.
func settled(t *testing.T, dp *spec.DataPlane, who operations.Roles) *plane.Plane {
	t.Helper()
	p, steps := as(t, dp, who)
	by := actions(account.Plan(t, steps, step.Present))
	if left := by[step.Leave]; len(left) == 1 && strings.HasPrefix(left[0], "default security group ") {
		delete(by, step.Leave)
	}
	if len(by) > 0 {
		t.Errorf("%s: got %v, want nothing to do", who, by)
	}
	for _, s := range steps {
		if d, ok := s.(step.Drifter); ok {
			drift, err := d.Drift(t.Context())
			if err != nil || len(drift) > 0 {
				t.Errorf("%s: got drift %v, error %v, want none", s.Name(), drift, err)
			}
		}
	}
	return p
}

func remove(t *testing.T, dp *spec.DataPlane) {
	t.Helper()
	_, steps := as(t, dp, operations.Teardown)
	account.Reach(t, steps, step.Absent)
	_, steps = as(t, dp, operations.Teardown)
	if by := actions(account.Plan(t, steps, step.Absent)); len(by) > 0 {
		t.Errorf("got %v, want nothing left to remove", by)
	}
	if left, err := stateOf(t.Context(), dp.Metadata.Name); err != nil || left != "" {
		t.Errorf("got %s, error %v, want nothing left", left, err)
	}
}

func TestLife(t *testing.T) {
	t.Parallel()
	dp := account.DataPlane()
	dp.Spec.Network.Create.SecondaryCIDRs = []string{"100.64.0.0/16"}
	dp.Spec.Tags = map[string]string{"cost-center": "4711"}
	p, steps := as(t, dp, operations.Provision)
	plan := account.Reach(t, steps, step.Present)
	if got := len(plan.With(step.Create)); got != 27 {
		t.Errorf("got %d steps to create, want 27: %s", got, plan.Summary())
	}
	for _, fact := range []plane.Fact{plane.VPC, plane.Zones, plane.PublicSubnets, plane.PrivateSubnets, plane.PrivateCIDRs, plane.VPCCIDRs} {
		want := map[plane.Fact]int{plane.VPC: 1, plane.VPCCIDRs: 2}[fact]
		if want == 0 {
			want = 3
		}
		if got := p.All(fact); len(got) != want {
			t.Errorf("got %s %v, want %d", fact, got, want)
		}
	}
	if got := p.All(plane.Zones); !slices.Equal(got, []string{"euc1-az1", "euc1-az2", "euc1-az3"}) {
		t.Errorf("got zones %v, want those of the region in order", got)
	}
	for _, who := range []operations.Roles{operations.Provision, operations.Observe} {
		q := settled(t, dp, who)
		if !slices.Equal(q.All(plane.PrivateSubnets), p.All(plane.PrivateSubnets)) {
			t.Errorf("%s: got private subnets %v, want %v", who, q.All(plane.PrivateSubnets), p.All(plane.PrivateSubnets))
		}
	}

	t.Run("it passes its own check", func(t *testing.T) {
		report, err := network.Check(t.Context(), plane.NewClients(account.Customer()), network.Request{Region: provisiontest.Region, VPC: p.One(plane.VPC)})
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range report.Checks {
			if one.Status == network.Fail {
				t.Errorf("got %+v, want no failure", one)
			}
		}
	})
	t.Run("it is a network that can be given", func(t *testing.T) {
		given := account.DataPlane()
		given.Spec.Network = spec.Network{Existing: &spec.NetworkThatIs{VPC: p.One(plane.VPC), PublicSubnets: p.All(plane.PublicSubnets), PrivateSubnets: p.All(plane.PrivateSubnets)}}
		for _, who := range []operations.Roles{operations.Provision, operations.Observe} {
			q, steps := as(t, given, who)
			if by := actions(account.Plan(t, steps, step.Present)); len(by) > 0 {
				t.Errorf("%s: got %v, want it kept", who, by)
			}
			for _, fact := range []plane.Fact{plane.VPC, plane.Zones, plane.PublicSubnets, plane.PrivateSubnets, plane.PrivateCIDRs, plane.VPCCIDRs} {
				if !slices.Equal(q.All(fact), p.All(fact)) {
					t.Errorf("%s: got %s %v, want %v", who, fact, q.All(fact), p.All(fact))
				}
			}
		}
		_, steps := as(t, given, operations.Teardown)
		if by := actions(account.Plan(t, steps, step.Absent)); len(by[step.Leave]) != 1 {
			t.Errorf("got %v, want the network left alone", by)
		}
	})
	t.Run("it names the calls that a role does not make", func(t *testing.T) {
		q := account.Open(t, dp, operations.Teardown)
		report, err := network.Check(t.Context(), q.AWS, network.Request{Region: provisiontest.Region, Account: account.ID(), VPC: p.One(plane.VPC)})
		if err != nil {
			t.Fatal(err)
		}
		untold := map[int]string{}
		for _, one := range report.Checks {
			if one.Status == network.CannotTell {
				untold[one.ID] += one.Message
			}
		}
		for id, call := range map[int]string{6: "ec2:DescribeDhcpOptions", 10: "ec2:DescribeAvailabilityZones", 22: "ec2:DescribeVpcPeeringConnections", 23: "ec2:DescribeVpcBlockPublicAccessOptions", 26: "ec2:DescribeEgressOnlyInternetGateways"} {
			if !strings.Contains(untold[id], call+", which this role does not make") {
				t.Errorf("%d: got %q, want %s named", id, untold[id], call)
			}
		}
		if len(report.With(network.Pass, network.Error)) == 0 {
			t.Error("got no check that passes, want those that the role can make")
		}
	})
	t.Run("it puts right what somebody changed", func(t *testing.T) { repair(t, dp, p) })

	// What a cluster leaves behind goes with the network.
	left, err := customer().CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(p.All(plane.PrivateSubnets)[0]), Description: aws.String("aws-K8S-i-0a1"),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeNetworkInterface, Tags: []types.Tag{{Key: aws.String("cluster.k8s.amazonaws.com/name"), Value: aws.String(p.ClusterName())}}}}})
	if err != nil {
		t.Fatal(err)
	}
	group, err := customer().CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{VpcId: aws.String(p.One(plane.VPC)), GroupName: aws.String("k8s-elb"), Description: aws.String("of a load balancer"),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeSecurityGroup, Tags: []types.Tag{{Key: aws.String("elbv2.k8s.aws/cluster"), Value: aws.String(p.ClusterName())}}}}})
	if err != nil {
		t.Fatal(err)
	}
	remove(t, dp)
	if _, err := customer().DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{*left.NetworkInterface.NetworkInterfaceId}}); !fault.Gone(err) {
		t.Errorf("got %v, want the interface that was left behind to be gone", err)
	}
	if _, err := customer().DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*group.GroupId}}); !fault.Gone(err) {
		t.Errorf("got %v, want the group that was left behind to be gone", err)
	}
}

// repair changes a network by hand, and has it put right.
func repair(t *testing.T, dp *spec.DataPlane, p *plane.Plane) {
	api := customer()
	vpc, private := p.One(plane.VPC), p.All(plane.PrivateSubnets)
	tables, err := api.DescribeRouteTables(t.Context(), &ec2.DescribeRouteTablesInput{Filters: []types.Filter{{Name: aws.String("association.subnet-id"), Values: private}}})
	if err != nil {
		t.Fatal(err)
	}
	gateways, err := api.DescribeInternetGateways(t.Context(), &ec2.DescribeInternetGatewaysInput{Filters: []types.Filter{{Name: aws.String("attachment.vpc-id"), Values: []string{vpc}}}})
	if err != nil {
		t.Fatal(err)
	}
	groups, err := api.DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpc}}, {Name: aws.String("group-name"), Values: []string{"union-" + dp.Metadata.Name + "-endpoints"}}}})
	if err != nil {
		t.Fatal(err)
	}
	first := tables.RouteTables[0]
	everywhere := aws.String("0.0.0.0/0")
	for name, change := range map[string]func() error{
		"DNS hostnames off": func() error {
			_, err := api.ModifyVpcAttribute(t.Context(), &ec2.ModifyVpcAttributeInput{VpcId: &vpc, EnableDnsHostnames: &types.AttributeBooleanValue{Value: aws.Bool(false)}})
			return err
		},
		"a private subnet that gives addresses": func() error {
			_, err := api.ModifySubnetAttribute(t.Context(), &ec2.ModifySubnetAttributeInput{SubnetId: &private[0], MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: aws.Bool(true)}})
			return err
		},
		"a private subnet that leads to the internet": func() error {
			_, err := api.ReplaceRoute(t.Context(), &ec2.ReplaceRouteInput{RouteTableId: first.RouteTableId, DestinationCidrBlock: everywhere, GatewayId: gateways.InternetGateways[0].InternetGatewayId})
			return err
		},
		"a subnet without its table": func() error {
			_, err := api.DisassociateRouteTable(t.Context(), &ec2.DisassociateRouteTableInput{AssociationId: tables.RouteTables[1].Associations[0].RouteTableAssociationId})
			return err
		},
		"an endpoint open to all": func() error {
			_, err := api.AuthorizeSecurityGroupIngress(t.Context(), &ec2.AuthorizeSecurityGroupIngressInput{GroupId: groups.SecurityGroups[0].GroupId, IpPermissions: []types.IpPermission{
				{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(22), ToPort: aws.Int32(22), IpRanges: []types.IpRange{{CidrIp: everywhere}}}}})
			return err
		},
		"a tag that is gone": func() error {
			_, err := api.DeleteTags(t.Context(), &ec2.DeleteTagsInput{Resources: []string{private[1]}, Tags: []types.Tag{{Key: aws.String("kubernetes.io/role/internal-elb")}, {Key: aws.String("cost-center")}}})
			return err
		},
	} {
		if err := change(); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	_, steps := as(t, dp, operations.Observe)
	var got []string
	for _, s := range steps {
		if d, ok := s.(step.Drifter); ok {
			drift, err := d.Drift(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range drift {
				got = append(got, one.Resource+": "+one.Field+" is "+one.Got+", want "+one.Want)
			}
		}
	}
	if len(got) != 7 {
		t.Errorf("got drift\n%s\nwant 7 lines", strings.Join(got, "\n"))
	}
	_, steps = as(t, dp, operations.Provision)
	plan := account.Reach(t, steps, step.Present)
	if by := actions(plan); len(by[step.Create])+len(by[step.Refuse])+len(by[step.Replace]) > 0 {
		t.Errorf("got %v, want changes in place only", by)
	}
	settled(t, dp, operations.Observe)
}
