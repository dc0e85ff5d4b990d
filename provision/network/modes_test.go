package network_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

var planes atomic.Int64

// newSmall is a small network of a name that no other test has.
func newSmall(change func(*spec.DataPlane)) *spec.DataPlane {
	dp := small(fmt.Sprintf("m%d", planes.Add(1)), account.ID())
	if change != nil {
		change(dp)
	}
	return dp
}

func admin(t *testing.T, dp *spec.DataPlane) (*plane.Plane, step.Runner) {
	t.Helper()
	key := account.Double.Accounts().Customer.Credentials
	p, r, err := ofAdmin(dp, account.Double.URL(), key.AccessKeyID, key.SecretAccessKey, account.Clock)
	if err != nil {
		t.Fatal(err)
	}
	return p, r
}

func bring(t *testing.T, dp *spec.DataPlane, goal step.Goal) *plane.Plane {
	t.Helper()
	p, r := admin(t, dp)
	if err := reach(t.Context(), r, goal); err != nil {
		t.Fatalf("%s: %v", goal, err)
	}
	return p
}

// todo is what a run would do.
func todo(t *testing.T, dp *spec.DataPlane, goal step.Goal) map[step.Action][]string {
	t.Helper()
	_, r := admin(t, dp)
	plan, err := r.Plan(t.Context(), goal)
	if err != nil {
		t.Fatal(err)
	}
	by := actions(plan)
	if left := by[step.Leave]; len(left) == 1 && strings.HasPrefix(left[0], "default security group ") {
		delete(by, step.Leave)
	}
	return by
}

func gone(t *testing.T, dp *spec.DataPlane) {
	t.Helper()
	bring(t, dp, step.Absent)
	if left, err := stateOf(t.Context(), dp.Metadata.Name); err != nil || left != "" {
		t.Errorf("got %s, error %v, want nothing left", left, err)
	}
}

func TestModes(t *testing.T) {
	t.Parallel()
	t.Run("it closes the default group where the grants allow it", func(t *testing.T) {
		t.Parallel()
		none := 0
		dp := newSmall(func(dp *spec.DataPlane) {
			dp.Spec.Access.Policy = spec.Compat
			dp.Spec.Network.Create.NAT, dp.Spec.Network.Create.FlowLogDays = spec.NATNone, &none
		})
		p := bring(t, dp, step.Present)
		if by := todo(t, dp, step.Present); len(by) > 0 {
			t.Errorf("got %v, want nothing to do", by)
		}
		out, err := customer().DescribeSecurityGroups(t.Context(), &ec2.DescribeSecurityGroupsInput{Filters: []types.Filter{
			{Name: aws.String("vpc-id"), Values: []string{p.One(plane.VPC)}}, {Name: aws.String("group-name"), Values: []string{"default"}}}})
		if err != nil {
			t.Fatal(err)
		}
		if g := out.SecurityGroups[0]; len(g.IpPermissions)+len(g.IpPermissionsEgress) > 0 {
			t.Errorf("got rules %v and %v, want none", g.IpPermissions, g.IpPermissionsEgress)
		}
		gone(t, dp)
	})

	t.Run("it makes every endpoint where there is no NAT, or a private one of the cluster", func(t *testing.T) {
		t.Parallel()
		dp := newSmall(func(dp *spec.DataPlane) {
			dp.Spec.Network.Create.NAT, dp.Spec.Network.Create.Endpoints = spec.NATNone, spec.AllEndpoints
		})
		p := bring(t, dp, step.Present)
		report, err := network.Check(t.Context(), plane.NewClients(account.Customer()), network.Request{Region: dp.Spec.Region, VPC: p.One(plane.VPC), PrivateEndpoint: true})
		if err != nil {
			t.Fatal(err)
		}
		if bad := report.With(network.Fail, network.Error); len(bad) > 0 {
			t.Errorf("got %v, want no error", bad)
		}
		private := newSmall(func(dp *spec.DataPlane) { dp.Spec.PrivateEndpoint.Enabled = true })
		var endpoints []string
		for _, line := range todo(t, private, step.Present)[step.Create] {
			if strings.HasPrefix(line, "endpoint ") {
				endpoints = append(endpoints, line)
			}
		}
		if len(endpoints) != 14 {
			t.Errorf("got %d endpoints for a private cluster endpoint, want 14: %v", len(endpoints), endpoints)
		}
		gone(t, dp)
	})

	t.Run("it shows what is no longer wanted, and removes it with the rest", func(t *testing.T) {
		t.Parallel()
		dp := newSmall(func(dp *spec.DataPlane) {
			dp.Spec.Network.Create.NAT, dp.Spec.Network.Create.Endpoints = spec.NATPerZone, spec.RecommendedEndpoints
		})
		bring(t, dp, step.Present)
		none := 0
		c := dp.Spec.Network.Create
		c.NAT, c.Endpoints, c.FlowLogDays = spec.NATSingle, spec.GatewayOnly, &none
		by := todo(t, dp, step.Present)
		// A NAT gateway and its address, four endpoints and their group, flow log, log group, role; and the default group.
		if len(by[step.Leave]) != 11 || len(by[step.Update]) != 1 || len(by) != 2 {
			t.Errorf("got %v, want 11 left and the routes of zone 2 changed", by)
		}
		bring(t, dp, step.Present)
		gone(t, dp)
	})

	t.Run("it makes a subnet again that somebody deleted, and what hung on it", func(t *testing.T) {
		t.Parallel()
		dp := newSmall(nil)
		p := bring(t, dp, step.Present)
		before, err := stateOf(t.Context(), dp.Metadata.Name)
		if err != nil {
			t.Fatal(err)
		}
		victim := p.All(plane.PrivateSubnets)[1]
		tables, err := customer().DescribeRouteTables(t.Context(), &ec2.DescribeRouteTablesInput{Filters: []types.Filter{{Name: aws.String("association.subnet-id"), Values: []string{victim}}}})
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range tables.RouteTables[0].Associations {
			if _, err := customer().DisassociateRouteTable(t.Context(), &ec2.DisassociateRouteTableInput{AssociationId: a.RouteTableAssociationId}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := customer().DeleteSubnet(t.Context(), &ec2.DeleteSubnetInput{SubnetId: &victim}); err != nil {
			t.Fatal(err)
		}
		by := todo(t, dp, step.Present)
		if len(by[step.Create]) != 1 || !strings.HasPrefix(by[step.Create][0], "subnet private 2") || len(by[step.Finish]) != 1 {
			t.Errorf("got %v, want the subnet created and its routes finished", by)
		}
		bring(t, dp, step.Present)
		if after, err := stateOf(t.Context(), dp.Metadata.Name); err != nil || after != before {
			t.Errorf("got\n%s\nerror %v, want\n%s", after, err, before)
		}

		t.Run("it refuses another range", func(t *testing.T) {
			dp.Spec.Network.Create.CIDR = "10.1.0.0/16"
			if by := todo(t, dp, step.Present); len(by[step.Refuse]) == 0 || !strings.Contains(by[step.Refuse][0], "its range is 10.0.0.0/16, wanted 10.1.0.0/16, and cannot be changed") {
				t.Errorf("got %v, want it refused", by)
			}
			dp.Spec.Network.Create.CIDR = "10.0.0.0/16"
		})
		gone(t, dp)
	})

	t.Run("it adds a zone, and takes none away", func(t *testing.T) {
		t.Parallel()
		// It is not removed: moto cannot delete a gateway endpoint that got a further table.
		dp := newSmall(nil)
		bring(t, dp, step.Present)
		dp.Spec.Network.Create.Zones = 3
		p := bring(t, dp, step.Present)
		if by := todo(t, dp, step.Present); len(by) > 0 || len(p.All(plane.PrivateSubnets)) != 3 {
			t.Errorf("got %v and subnets %v, want nothing to do, and three", by, p.All(plane.PrivateSubnets))
		}
		dp.Spec.Network.Create.Zones = 2
		if by := todo(t, dp, step.Present); len(by[step.Refuse]) != 1 || !strings.Contains(by[step.Refuse][0], "number of zones is 3, wanted 2, and cannot be changed") {
			t.Errorf("got %v, want it refused", by)
		}
	})

	t.Run("it puts subnets into the zones that are named", func(t *testing.T) {
		t.Parallel()
		dp := newSmall(func(dp *spec.DataPlane) { dp.Spec.Network.Create.ZoneIDs = []string{"euc1-az3", "euc1-az1"} })
		_, r := admin(t, dp)
		plan, err := r.Plan(t.Context(), step.Present)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(plan.Steps, func(s step.Planned) bool { return s.Name == "subnet private euc1-az3" }) {
			t.Errorf("got %v, want the zones in the names", plan.Steps)
		}
		dp.Spec.Network.Create.ZoneIDs = []string{"euc1-az9", "euc1-az1"}
		_, r = admin(t, dp)
		if _, err := r.Plan(t.Context(), step.Present); err == nil || !strings.Contains(err.Error(), "no zone euc1-az9") {
			t.Errorf("got %v, want the zone refused", err)
		}
	})

	t.Run("it refuses a network that cannot hold a data plane, with all reasons", func(t *testing.T) {
		t.Parallel()
		vpc, err := customer().CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.7.0.0/16")})
		if err != nil {
			t.Fatal(err)
		}
		subnet, err := customer().CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String("10.7.0.0/18")})
		if err != nil {
			t.Fatal(err)
		}
		dp := account.DataPlane()
		dp.Spec.Network = spec.Network{Existing: &spec.NetworkThatIs{VPC: *vpc.Vpc.VpcId, PrivateSubnets: []string{*subnet.Subnet.SubnetId}}}
		_, steps := as(t, dp, operations.Observe)
		plan := account.Plan(t, steps, step.Present)
		refused := plan.With(step.Refuse)
		if len(refused) != 1 || len(refused[0].Details) < 3 || refused[0].Hint == "" || !strings.Contains(strings.Join(refused[0].Details, "\n"), "DNS hostnames are off") {
			t.Errorf("got %+v, want one refusal with every reason and a hint", plan.Steps)
		}
	})
}
