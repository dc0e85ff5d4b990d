package endpoint_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	ecstypes "github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/route53"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/step/killtest"
)

// killed is the variable with the goal of the program that is killed.
const killed = "PRIVATE_ENDPOINT_GOAL"

// program makes or removes the private endpoint of the file in DATA_PLANE, as the
// command line does.
func program() error {
	c, err := clock.FromEnvironment()
	if err != nil {
		return err
	}
	dp, err := spec.Load(os.Getenv("DATA_PLANE"))
	if err != nil {
		return err
	}
	endpoint := os.Getenv("AWS_ENDPOINT_URL")
	vendor := aws.Config{Region: dp.Spec.Region, BaseEndpoint: &endpoint,
		Credentials: credentials.NewStaticCredentialsProvider(os.Getenv("AWS_ACCESS_KEY_ID"), os.Getenv("AWS_SECRET_ACCESS_KEY"), os.Getenv("AWS_SESSION_TOKEN"))}
	goal, as := step.Goal(os.Getenv(killed)), operations.Provision
	if goal == step.Absent {
		as = operations.Teardown
	}
	ctx := context.Background()
	p, err := plane.Open(ctx, plane.Options{DataPlane: dp, Vendors: vendor, As: as, Clock: c})
	if err != nil {
		return err
	}
	steps, err := dataplane.PrivateEndpoint(p, goal, nil)
	if err != nil {
		return err
	}
	r := step.Runner{Steps: steps, Parallel: 32, PerService: 5, Clock: c}
	plan, err := r.Plan(ctx, goal)
	if err != nil {
		return err
	}
	return r.Apply(ctx, plan)
}

// stateOf is all that a private endpoint consists of, on both sides, without ids.
func (w *place) stateOf(ctx context.Context) (string, error) {
	name := "unionai-access-" + w.dp.Metadata.Name
	customer, vendor := account.Customer(), account.Vendor()
	ours := []ec2types.Filter{{Name: aws.String("tag:union:data-plane-id"), Values: []string{w.dp.Metadata.Name}}, {Name: aws.String("tag:union:component"), Values: []string{"endpoint"}}}
	var lines []string
	line := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }

	for _, cfg := range []aws.Config{customer, vendor} {
		groups, err := ec2.NewFromConfig(cfg).DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: ours})
		if err != nil {
			return "", err
		}
		for _, g := range groups.SecurityGroups {
			line("group %s, %d in, %d out, %d tags", aws.ToString(g.GroupName), len(g.IpPermissions), len(g.IpPermissionsEgress), len(g.Tags))
		}
	}
	balancers, err := elb.NewFromConfig(customer).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
	if err != nil {
		return "", err
	}
	for _, b := range balancers.LoadBalancers {
		if aws.ToString(b.LoadBalancerName) != name {
			continue
		}
		listeners, err := elb.NewFromConfig(customer).DescribeListeners(ctx, &elb.DescribeListenersInput{LoadBalancerArn: b.LoadBalancerArn})
		if err != nil {
			return "", err
		}
		line("load balancer %s, %d listeners", b.State.Code, len(listeners.Listeners))
	}
	targets, err := elb.NewFromConfig(customer).DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{})
	if err != nil {
		return "", err
	}
	for _, g := range targets.TargetGroups {
		if aws.ToString(g.TargetGroupName) == name {
			line("target group")
		}
	}
	for _, status := range []ecstypes.TaskDefinitionStatus{ecstypes.TaskDefinitionStatusActive, ecstypes.TaskDefinitionStatusInactive} {
		tasks, err := ecs.NewFromConfig(customer).ListTaskDefinitions(ctx, &ecs.ListTaskDefinitionsInput{FamilyPrefix: &name, Status: status})
		if err != nil {
			return "", err
		}
		line("%d task definitions %s", len(tasks.TaskDefinitionArns), status)
	}
	if services, err := ecs.NewFromConfig(customer).DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &name, Services: []string{"proxy"}}); err == nil {
		for _, s := range services.Services {
			if aws.ToString(s.Status) == "ACTIVE" {
				line("service, %d of %d", s.RunningCount, s.DesiredCount)
			}
		}
	}
	offers, err := ec2.NewFromConfig(customer).DescribeVpcEndpointServiceConfigurations(ctx, &ec2.DescribeVpcEndpointServiceConfigurationsInput{Filters: ours})
	if err != nil {
		return "", err
	}
	for _, o := range offers.ServiceConfigurations {
		connections, err := ec2.NewFromConfig(customer).DescribeVpcEndpointConnections(ctx, &ec2.DescribeVpcEndpointConnectionsInput{Filters: []ec2types.Filter{{Name: aws.String("service-id"), Values: []string{*o.ServiceId}}}})
		if err != nil {
			return "", err
		}
		line("endpoint service, name %s, %d connections", o.PrivateDnsNameConfiguration.State, len(connections.VpcEndpointConnections))
	}
	endpoints, err := ec2.NewFromConfig(vendor).DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{Filters: ours})
	if err != nil {
		return "", err
	}
	for _, e := range endpoints.VpcEndpoints {
		if state := strings.ToLower(string(e.State)); state != "deleted" {
			line("vendor's endpoint %s, private name %v", state, aws.ToBool(e.PrivateDnsEnabled))
		}
	}
	records, err := route53.NewFromConfig(vendor).ListResourceRecordSets(ctx, &route53.ListResourceRecordSetsInput{HostedZoneId: &w.dp.Spec.PrivateEndpoint.Vendor.PublicZone})
	if err != nil {
		return "", err
	}
	for _, r := range records.ResourceRecordSets {
		if strings.Contains(aws.ToString(r.Name), "."+w.dp.Metadata.Name+".") {
			line("record %s", r.Type)
		}
	}
	slices.Sort(lines)
	return strings.ReplaceAll(strings.Join(lines, "\n"), w.dp.Metadata.Name, "PLANE"), nil
}

// file is the data plane's file.
func (w *place) file(t *testing.T) string {
	t.Helper()
	v := w.dp.Spec.PrivateEndpoint.Vendor
	name := filepath.Join(t.TempDir(), "dataplane.yaml")
	must(t, os.WriteFile(name, fmt.Appendf(nil, `apiVersion: biplane.dev/v1alpha1
kind: DataPlane
metadata: {name: %s}
spec:
  account: %q
  region: %s
  access: {roleArn: %q, externalId: %s}
  network: {create: {cidr: 10.0.0.0/16, zones: 2, nat: single, endpoints: gateway-only}}
  cluster: {version: "1.34"}
  privateEndpoint:
    enabled: true
    privateDnsName: %s
    vendor: {vpc: %s, subnets: [%s], publicZone: %s}
`, w.dp.Metadata.Name, account.ID(), provisiontest.Region, w.dp.Spec.Access.RoleARN, provisiontest.ExternalID, w.dp.Spec.PrivateEndpoint.PrivateDNSName, v.VPC, strings.Join(v.Subnets, ", "), v.PublicZone), 0o600))
	return name
}

// TestKill kills making and removing a private endpoint, loses responses of theirs, and
// finishes them.
func TestKill(t *testing.T) {
	t.Parallel()
	self, err := os.Executable()
	must(t, err)
	link := filepath.Join(t.TempDir(), "private-endpoint")
	must(t, os.Symlink(self, link))
	key := account.Double.Accounts().Vendor.Credentials
	public := zone(t, "kill.example", false)
	// Networks and clusters are made once for each trial at a time, and used again.
	free := make(chan *place, killtest.Workers())
	for range cap(free) {
		w := newPlace(t, true)
		account.Reach(t, network.Steps(account.Open(t, w.dp, operations.Provision)), step.Present) // the rest of it
		w.dp.Spec.PrivateEndpoint.PrivateDNSName, w.dp.Spec.PrivateEndpoint.Vendor.PublicZone = w.dp.Metadata.Name+".kill.example", public
		free <- w
	}
	for _, goal := range []step.Goal{step.Present, step.Absent} {
		t.Run("it finishes a run to "+string(goal), func(t *testing.T) {
			killtest.Run(t, killtest.Program{
				Path: link, Sample: 4,
				World: func(ctx context.Context) (*killtest.World, error) {
					w := <-free
					if goal == step.Absent {
						account.Reach(t, w.all(t, operations.Provision, step.Present), step.Present)
					}
					return &killtest.World{
						Endpoint: account.Double.URL(),
						Env: append(slices.DeleteFunc(account.Double.Env(), func(v string) bool { return strings.HasPrefix(v, "AWS_ACCESS") || strings.HasPrefix(v, "AWS_SECRET") }),
							"AWS_ACCESS_KEY_ID="+key.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+key.SecretAccessKey, "AWS_SESSION_TOKEN="+key.SessionToken,
							"DATA_PLANE="+w.file(t), killed+"="+string(goal), "GOMAXPROCS=1"),
						State: w.stateOf,
						Close: func() {
							account.Reach(t, w.all(t, operations.Teardown, step.Absent), step.Absent)
							free <- w
						},
					}, nil
				},
			})
		})
	}
}

// all are the steps as the command line takes them.
func (w *place) all(t *testing.T, who operations.Roles, goal step.Goal) []step.Step {
	t.Helper()
	steps, err := dataplane.PrivateEndpoint(account.Open(t, w.dp, who), goal, nil)
	must(t, err)
	return steps
}
