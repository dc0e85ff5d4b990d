package network_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudwatchlogs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/step/killtest"
)

// ofAdmin are the steps of a network for an administrator: what the roles may do is
// tested elsewhere.
func ofAdmin(dp *spec.DataPlane, endpoint, key, secret string, c clock.Clock) (*plane.Plane, step.Runner, error) {
	p, err := plane.New(dp, nil, c)
	if err != nil {
		return nil, step.Runner{}, err
	}
	p.AWS = plane.NewClients(aws.Config{Region: provisiontest.Region, BaseEndpoint: &endpoint, Credentials: credentials.NewStaticCredentialsProvider(key, secret, "")})
	return p, step.Runner{Steps: network.Steps(p), Parallel: 8, Patience: 20 * time.Minute, Clock: c}, nil
}

// small is a network with one of each kind of thing.
func small(name, account string) *spec.DataPlane {
	dp := &spec.DataPlane{APIVersion: spec.APIVersion, Kind: spec.Kind, Metadata: spec.Metadata{Name: name}}
	dp.Spec.Account, dp.Spec.Region = account, provisiontest.Region
	dp.Spec.Network.Create = &spec.NetworkToMake{CIDR: "10.0.0.0/16", Zones: 2, NAT: spec.NATSingle, Endpoints: spec.GatewayOnly}
	dp.Defaults()
	return dp
}

func reach(ctx context.Context, r step.Runner, goal step.Goal) error {
	plan, err := r.Plan(ctx, goal)
	if err != nil {
		return err
	}
	return r.Apply(ctx, plan)
}

// program makes or removes the network of the data plane in DATA_PLANE.
func program() error {
	c, err := clock.FromEnvironment()
	if err != nil {
		return err
	}
	_, r, err := ofAdmin(small(os.Getenv("DATA_PLANE"), os.Getenv("ACCOUNT")), os.Getenv("AWS_ENDPOINT_URL"), os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), c)
	if err != nil {
		return err
	}
	return reach(context.Background(), r, step.Goal(os.Getenv("GOAL")))
}

// stateOf is all that a data plane's network consists of, without ids: a line for each
// thing, "" when there is none.
func stateOf(ctx context.Context, name string) (string, error) {
	api := customer()
	filters := []types.Filter{{Name: aws.String("tag:union:data-plane-id"), Values: []string{name}}}
	var lines []string
	add := func(tags []types.Tag, format string, args ...any) {
		var keys []string
		of := map[string]string{}
		for _, t := range tags {
			keys = append(keys, aws.ToString(t.Key))
			of[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		if of["union:data-plane-id"] != name {
			return // found by an endpoint that knows no such filter
		}
		slices.Sort(keys)
		lines = append(lines, fmt.Sprintf("%s (%s) %s", of["union:logical-id"], strings.Join(keys, " "), fmt.Sprintf(format, args...)))
	}
	vpcs, err1 := api.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: filters})
	subnets, err2 := api.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: filters})
	gateways, err3 := api.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: filters})
	nats, err4 := api.DescribeNatGateways(ctx, &ec2.DescribeNatGatewaysInput{})
	addresses, err5 := api.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: filters})
	tables, err6 := api.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: filters})
	endpoints, err7 := api.DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{Filters: filters})
	groups, err8 := api.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: filters})
	logs, err9 := api.DescribeFlowLogs(ctx, &ec2.DescribeFlowLogsInput{Filter: filters})
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9); err != nil {
		return "", err
	}
	for _, v := range vpcs.Vpcs {
		add(v.Tags, "%s %s", aws.ToString(v.CidrBlock), v.State)
		hostnames, err := api.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: v.VpcId, Attribute: types.VpcAttributeNameEnableDnsHostnames})
		if err != nil {
			return "", err
		}
		lines = append(lines, fmt.Sprintf("hostnames %v", aws.ToBool(hostnames.EnableDnsHostnames.Value)))
	}
	for _, s := range subnets.Subnets {
		add(s.Tags, "%s %s %s public addresses %v", aws.ToString(s.CidrBlock), aws.ToString(s.AvailabilityZoneId), s.State, aws.ToBool(s.MapPublicIpOnLaunch))
	}
	for _, g := range gateways.InternetGateways {
		add(g.Tags, "%d attachments", len(g.Attachments))
	}
	for _, n := range nats.NatGateways {
		if n.State != types.NatGatewayStateDeleted {
			add(n.Tags, "%s %d addresses", n.State, len(n.NatGatewayAddresses))
		}
	}
	for _, a := range addresses.Addresses {
		add(a.Tags, "")
	}
	for _, t := range tables.RouteTables {
		var routes []string
		for _, r := range t.Routes {
			to, _, _ := strings.Cut(aws.ToString(r.GatewayId)+aws.ToString(r.NatGatewayId), "-")
			routes = append(routes, aws.ToString(r.DestinationCidrBlock)+" "+to+" "+string(r.State))
		}
		slices.Sort(routes)
		add(t.Tags, "%d subnets, %s", len(t.Associations), strings.Join(routes, ", "))
	}
	for _, e := range endpoints.VpcEndpoints {
		if state := strings.ToLower(string(e.State)); state != "deleted" {
			add(e.Tags, "%s %s %d tables %d subnets", aws.ToString(e.ServiceName), state, len(e.RouteTableIds), len(e.SubnetIds))
		}
	}
	for _, g := range groups.SecurityGroups {
		add(g.Tags, "%d rules", len(g.IpPermissions))
	}
	for _, l := range logs.FlowLogs {
		add(l.Tags, "%s %s", aws.ToString(l.FlowLogStatus), aws.ToString(l.DeliverLogsStatus))
	}
	logGroups, err := cloudwatchlogs.NewFromConfig(account.Customer()).DescribeLogGroups(ctx, &cloudwatchlogs.DescribeLogGroupsInput{LogGroupNamePrefix: aws.String("union-" + name + "-")})
	if err != nil {
		return "", err
	}
	for _, g := range logGroups.LogGroups {
		lines = append(lines, fmt.Sprintf("log group, %d days", aws.ToInt32(g.RetentionInDays)))
	}
	role := aws.String("union-" + name + "-flow-logs")
	policies, err := iam.NewFromConfig(account.Customer()).ListRolePolicies(ctx, &iam.ListRolePoliciesInput{RoleName: role})
	switch {
	case err == nil:
		lines = append(lines, fmt.Sprintf("role with %v", policies.PolicyNames))
	case !fault.NoSuchEntity(err):
		return "", err
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n"), nil
}

// TestKill kills making and removing a network, loses responses of theirs, and finishes
// them.
func TestKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "network")
	if err := os.Symlink(self, link); err != nil {
		t.Fatal(err)
	}
	key := account.Double.Accounts().Customer.Credentials
	var trials atomic.Int64
	for _, goal := range []step.Goal{step.Present, step.Absent} {
		t.Run("it finishes a run to "+string(goal), func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{
				Path: link, Sample: 8,
				World: func(ctx context.Context) (*killtest.World, error) {
					name := fmt.Sprintf("kill-%s-%d", goal, trials.Add(1))
					if goal == step.Absent {
						_, r, err := ofAdmin(small(name, account.ID()), account.Double.URL(), key.AccessKeyID, key.SecretAccessKey, account.Clock)
						if err == nil {
							err = reach(ctx, r, step.Present)
						}
						if err != nil {
							return nil, err
						}
					}
					return &killtest.World{
						Endpoint: account.Double.URL(),
						Env: append(account.Double.Env(), "RUN_NETWORK=1", "DATA_PLANE="+name, "ACCOUNT="+account.ID(), "GOAL="+string(goal),
							clock.Variable+"=20", "GOMAXPROCS=1"),
						State: func(ctx context.Context) (string, error) {
							state, err := stateOf(ctx, name)
							return strings.ReplaceAll(state, name, "PLANE"), err
						},
						Close: func() {},
					}, nil
				},
			})
		})
	}
}
