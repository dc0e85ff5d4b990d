package endpoint

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecs"
	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

const (
	serviceName   = "proxy"
	containerName = "jumper"
	serviceTitle  = "service of the jumpers"

	cpu, memory = "256", "512"
	// A quarter of a processor and half a GiB on Fargate.
	hourOfTask = 0.25*0.04048 + 0.5*0.004445

	// What ECS waits at most between asking a task to end and ending it (Fargate), and
	// what the jumper waits for its streams in that time.
	stopTimeout = 120
	drain       = "115s"
)

func (m *maker) ecsClusterTitle() string { return "ECS cluster " + Name(m.Plane) }
func (m *maker) taskTitle() string       { return "task definition " + Name(m.Plane) }

// image is the jumper's. By default it is in a repository of the account itself, which is
// reached without the internet.
func (m *maker) image() string {
	if m.want.Image != "" {
		return m.want.Image
	}
	return fmt.Sprintf("%s.dkr.ecr.%s.%s/%sbiplane-jumper:%s", m.Place.Account, m.Place.Region, m.Place.DNSSuffix, m.Vendor.Repository, buildinfo.Read().Version)
}

func ecsTags(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range ownership.Keys(tags) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

func ecsTagMap(tags []types.Tag) map[string]string {
	out := map[string]string{}
	for _, t := range tags {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

// ecsCluster is a name under which tasks run on AWS's own machines.
func (m *maker) ecsCluster() *resource.Resource {
	name := Name(m.Plane)
	return &resource.Resource{
		Plane: m.Plane, Title: m.ecsClusterTitle(), Component: component, LogicalID: "ecs-cluster",
		About: step.Description{Service: "ecs", Creates: []string{"ecs:CreateCluster"}, Removes: []string{"ecs:DeleteCluster"}, Cost: "nothing", ToMake: 3 * time.Second, ToRemove: 2 * time.Second, Patience: 10 * time.Minute},
		Find: func(ctx context.Context, _ step.Goal) (*resource.State, error) {
			out, err := m.AWS.ECS.DescribeClusters(ctx, &ecs.DescribeClustersInput{Clusters: []string{name}, Include: []types.ClusterField{types.ClusterFieldTags}})
			if err != nil {
				return unlessGone(nil, err)
			}
			if len(out.Clusters) == 0 {
				return nil, nil
			}
			c := out.Clusters[0]
			s := &resource.State{Tags: ecsTagMap(c.Tags)}
			switch status := aws.ToString(c.Status); status {
			case "ACTIVE":
			case "INACTIVE":
				return nil, nil
			case "FAILED":
				s.Broken = "ECS says FAILED"
			case "DEPROVISIONING":
				s.Leaving = "the ECS cluster is DEPROVISIONING"
			default:
				s.Busy = "the ECS cluster is " + status
			}
			return s, nil
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			_, err := m.AWS.ECS.CreateCluster(ctx, &ecs.CreateClusterInput{ClusterName: &name, Tags: ecsTags(tags)})
			return err
		},
		Delete: func(ctx context.Context, _ *resource.State) error {
			_, err := m.AWS.ECS.DeleteCluster(ctx, &ecs.DeleteClusterInput{Cluster: &name})
			return passingECS(err)
		},
	}
}

// passingECS marks what ends by waiting, for which ECS has codes of its own.
func passingECS(err error) error {
	switch fault.Code(err) {
	case "ClusterContainsServicesException", "ClusterContainsTasksException", "UpdateInProgressException", "ServiceNotActiveException":
		return fmt.Errorf("%w: %w", step.ErrConflict, err)
	}
	return err
}

// definition is what the task is to be.
func (m *maker) definition() (*ecs.RegisterTaskDefinitionInput, error) {
	host, port, name, err := m.upstream()
	if err != nil {
		return nil, err
	}
	ca, err := m.fact(plane.ClusterCA)
	if err != nil {
		return nil, err
	}
	names := name
	if m.want.PrivateDNSName != "" {
		names += "," + m.want.PrivateDNSName
	}
	return &ecs.RegisterTaskDefinitionInput{
		Family: aws.String(Name(m.Plane)), NetworkMode: types.NetworkModeAwsvpc, RequiresCompatibilities: []types.Compatibility{types.CompatibilityFargate},
		Cpu: aws.String(cpu), Memory: aws.String(memory), ExecutionRoleArn: aws.String(m.roleARN(executionRole)), TaskRoleArn: aws.String(m.roleARN(taskRole)),
		RuntimePlatform: &types.RuntimePlatform{CpuArchitecture: types.CPUArchitectureX8664, OperatingSystemFamily: types.OSFamilyLinux},
		ContainerDefinitions: []types.ContainerDefinition{{
			Name: aws.String(containerName), Image: aws.String(m.image()), Essential: aws.Bool(true),
			Command: []string{"--upstream", host, "--upstream-port", port, "--listen", fmt.Sprintf(":%d", jumperPort), "--ready", fmt.Sprintf(":%d", readyPort),
				"--sni", names, "--ca-data", ca, "--drain", drain},
			PortMappings: []types.PortMapping{{ContainerPort: aws.Int32(jumperPort), Protocol: types.TransportProtocolTcp}, {ContainerPort: aws.Int32(readyPort), Protocol: types.TransportProtocolTcp}},
			User:         aws.String("65532:65532"), ReadonlyRootFilesystem: aws.Bool(true), StopTimeout: aws.Int32(stopTimeout),
			LinuxParameters: &types.LinuxParameters{Capabilities: &types.KernelCapabilities{Drop: []string{"ALL"}}},
			Ulimits:         []types.Ulimit{{Name: types.UlimitNameNofile, SoftLimit: 65536, HardLimit: 65536}}, // two for each connection
			LogConfiguration: &types.LogConfiguration{LogDriver: types.LogDriverAwslogs, Options: map[string]string{
				"awslogs-group": m.logGroupName(), "awslogs-region": m.Place.Region, "awslogs-stream-prefix": "jumper"}},
		}},
	}, nil
}

// traits are what counts of a task definition, for comparing: name and value.
func traits(containers []types.ContainerDefinition, more ...*string) [][2]string {
	out := [][2]string{{"processor", aws.ToString(more[0])}, {"memory", aws.ToString(more[1])}, {"execution role", aws.ToString(more[2])}, {"task role", aws.ToString(more[3])}}
	for _, c := range containers {
		log := ""
		if c.LogConfiguration != nil {
			log = string(c.LogConfiguration.LogDriver) + " " + resource.SortedPairs(c.LogConfiguration.Options)
		}
		out = append(out, [][2]string{{"image", aws.ToString(c.Image)}, {"command", strings.Join(c.Command, " ")}, {"user", aws.ToString(c.User)},
			{"read-only root", strconv.FormatBool(aws.ToBool(c.ReadonlyRootFilesystem))}, {"stop timeout", strconv.Itoa(int(aws.ToInt32(c.StopTimeout)))}, {"log", log}}...)
	}
	return out
}

// taskDefinition says what runs. Each change of it is a revision. The one before stays, to
// which a service goes back when an update fails; those before it are retired.
func (m *maker) taskDefinition() *resource.Resource {
	register := func(ctx context.Context, tags map[string]string) error {
		in, err := m.definition()
		if err != nil {
			return err
		}
		in.Tags = ecsTags(tags)
		_, err = m.AWS.ECS.RegisterTaskDefinition(ctx, in)
		return err
	}
	return &resource.Resource{
		Plane: m.Plane, Title: m.taskTitle(), Requires: []string{m.logGroupTitle(), m.after.Cluster}, Component: component, LogicalID: "task",
		About: step.Description{Service: "ecs", Creates: []string{"ecs:RegisterTaskDefinition"}, Updates: []string{"ecs:RegisterTaskDefinition", "ecs:DeregisterTaskDefinition"},
			Removes: []string{"ecs:DeregisterTaskDefinition", "ecs:DeleteTaskDefinitions"}, Cost: "nothing", ToMake: 2 * time.Second, ToRemove: 2 * time.Second, Patience: 10 * time.Minute},
		Purpose: []string{"the jumper, " + m.image(), "on Fargate, no root, its root file system read-only"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			active, err := m.revisions(ctx, types.TaskDefinitionStatusActive)
			if err != nil {
				return nil, err
			}
			if goal == step.Absent {
				retired, err := m.revisions(ctx, types.TaskDefinitionStatusInactive)
				if err != nil || len(active)+len(retired) == 0 {
					return nil, err
				}
				return m.described(ctx, append(active, retired...)[0])
			}
			if len(active) == 0 {
				return nil, nil
			}
			s, err := m.described(ctx, active[0])
			if s == nil || err != nil {
				return nil, err
			}
			got := s.Value.(*types.TaskDefinition)
			s.Value = active[0]
			in, err := m.definition()
			if err != nil {
				return s, nil // the cluster is not there
			}
			var fields, want, have []string
			wanted := traits(in.ContainerDefinitions, in.Cpu, in.Memory, in.ExecutionRoleArn, in.TaskRoleArn)
			got.ContainerDefinitions = slices.DeleteFunc(got.ContainerDefinitions, func(c types.ContainerDefinition) bool { return aws.ToString(c.Name) != containerName })
			is := append(traits(got.ContainerDefinitions, got.Cpu, got.Memory, got.ExecutionRoleArn, got.TaskRoleArn), make([][2]string, len(wanted))...)
			for i, w := range wanted {
				if is[i][1] != w[1] {
					fields, want, have = append(fields, w[0]), append(want, w[1]), append(have, is[i][1])
				}
			}
			if m.know("task changes", strings.Join(fields, ", ")); len(fields) > 0 {
				tags := m.Tags(component, "task")
				s.Differ = append(s.Differ, resource.Difference{Field: strings.Join(fields, ", "), Want: strings.Join(want, ", "), Have: strings.Join(have, ", "), Put: func(ctx context.Context) error {
					if err := register(ctx, tags); err != nil {
						return err
					}
					return m.retire(ctx, active[1:])
				}})
				return s, nil
			}
			if former := active[min(2, len(active)):]; len(former) > 0 {
				s.Differ = append(s.Differ, resource.Difference{Field: "former revisions", Want: "retired", Have: strings.Join(short(former), ", "), Put: func(ctx context.Context) error { return m.retire(ctx, former) }})
			}
			return s, nil
		},
		Create: register,
		Delete: func(ctx context.Context, _ *resource.State) error {
			active, err := m.revisions(ctx, types.TaskDefinitionStatusActive)
			if err != nil {
				return err
			}
			if err := m.retire(ctx, active); err != nil {
				return err
			}
			retired, err := m.revisions(ctx, types.TaskDefinitionStatusInactive)
			if err != nil {
				return err
			}
			for some := range slices.Chunk(retired, 10) { // as many as a call takes
				if _, err := m.AWS.ECS.DeleteTaskDefinitions(ctx, &ecs.DeleteTaskDefinitionsInput{TaskDefinitions: some}); err != nil {
					return err
				}
			}
			return nil
		},
		Tell: func(s *resource.State) {
			arn := ""
			if s != nil {
				arn, _ = s.Value.(string)
			}
			m.know("task", arn)
		},
	}
}

// short are the last parts of ARNs.
func short(arns []string) []string {
	var out []string
	for _, arn := range arns {
		out = append(out, arn[strings.LastIndexByte(arn, '/')+1:])
	}
	return out
}

func (m *maker) retire(ctx context.Context, arns []string) error {
	for _, arn := range arns {
		if _, err := m.AWS.ECS.DeregisterTaskDefinition(ctx, &ecs.DeregisterTaskDefinitionInput{TaskDefinition: &arn}); err != nil {
			return err
		}
	}
	return nil
}

// revisions are the ARNs of the family's revisions, the newest first.
func (m *maker) revisions(ctx context.Context, status types.TaskDefinitionStatus) ([]string, error) {
	family := Name(m.Plane)
	var arns []string
	pages := ecs.NewListTaskDefinitionsPaginator(m.AWS.ECS, &ecs.ListTaskDefinitionsInput{FamilyPrefix: &family, Status: status})
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		arns = append(arns, page.TaskDefinitionArns...)
	}
	revision := func(arn string) int {
		n, _ := strconv.Atoi(arn[strings.LastIndexByte(arn, ':')+1:])
		return n
	}
	slices.SortFunc(arns, func(a, b string) int { return revision(b) - revision(a) })
	return arns, nil
}

// described is a revision, with its tags.
func (m *maker) described(ctx context.Context, arn string) (*resource.State, error) {
	out, err := m.AWS.ECS.DescribeTaskDefinition(ctx, &ecs.DescribeTaskDefinitionInput{TaskDefinition: &arn, Include: []types.TaskDefinitionField{types.TaskDefinitionFieldTags}})
	if fault.Code(err) == "ClientException" {
		return nil, nil // which is how ECS says that it is gone
	}
	if err != nil {
		return nil, err
	}
	return &resource.State{Tags: ecsTagMap(out.Tags), Value: out.TaskDefinition}, nil
}

// service keeps the tasks running, one in each zone as far as they reach, and replaces
// them one after the other: the new one first.
func (m *maker) service() *resource.Resource {
	cluster := Name(m.Plane)
	deployment := &types.DeploymentConfiguration{MinimumHealthyPercent: aws.Int32(100), MaximumPercent: aws.Int32(200),
		DeploymentCircuitBreaker: &types.DeploymentCircuitBreaker{Enable: true, Rollback: true}}
	network := func() (*types.NetworkConfiguration, error) {
		group, err := m.needed("jumper", "the "+jumperGroupTitle)
		if err != nil {
			return nil, err
		}
		subnets := m.All(plane.PrivateSubnets)
		if len(subnets) == 0 {
			return nil, fmt.Errorf("the private subnets are not there: %w", step.ErrConflict)
		}
		return &types.NetworkConfiguration{AwsvpcConfiguration: &types.AwsVpcConfiguration{Subnets: subnets, SecurityGroups: []string{*group}, AssignPublicIp: types.AssignPublicIpDisabled}}, nil
	}
	return &resource.Resource{
		Plane: m.Plane, Title: serviceTitle, Requires: needs(m.after.Ways, m.ecsClusterTitle(), m.taskTitle(), listenerTitle, jumperGroupTitle, wayInTitle), Component: component, LogicalID: "service",
		About: step.Description{Service: "ecs", Creates: []string{"ecs:CreateService"}, Updates: []string{"ecs:UpdateService"}, Removes: []string{"elbv2:DeleteListener", "ecs:UpdateService", "ecs:DeleteService"},
			Monthly: hourOfTask * hoursOfMonth * float64(m.want.Tasks), Cost: fmt.Sprintf("%.4f USD an hour for each task", hourOfTask),
			ToMake: 90 * time.Second, ToRemove: 2 * time.Minute, Patience: 15 * time.Minute},
		Purpose: []string{fmt.Sprintf("%d jumpers, in different zones", m.want.Tasks), "an update that fails is taken back"},
		Find: func(ctx context.Context, goal step.Goal) (*resource.State, error) {
			out, err := m.AWS.ECS.DescribeServices(ctx, &ecs.DescribeServicesInput{Cluster: &cluster, Services: []string{serviceName}, Include: []types.ServiceField{types.ServiceFieldTags}})
			if err != nil {
				return unlessGone(nil, err)
			}
			if len(out.Services) == 0 {
				return nil, nil
			}
			got := out.Services[0]
			s := &resource.State{Tags: ecsTagMap(got.Tags), Value: got}
			switch aws.ToString(got.Status) {
			case "INACTIVE":
				return nil, nil
			case "DRAINING":
				s.Leaving = fmt.Sprintf("%d jumpers end", got.RunningCount)
			}
			if goal == step.Absent || s.Leaving != "" {
				return s, nil
			}
			in := &ecs.UpdateServiceInput{Cluster: &cluster, Service: aws.String(serviceName)}
			put := func(set func(*ecs.UpdateServiceInput) error) func(context.Context) error {
				return func(ctx context.Context) error {
					in := *in
					if err := set(&in); err != nil {
						return err
					}
					_, err := m.AWS.ECS.UpdateService(ctx, &in)
					return err
				}
			}
			if changes := m.id("task changes"); changes != "" { // so that a plan shows what follows
				s.Differ = append(s.Differ, resource.Difference{Field: "task definition", Want: "the next revision", Have: short([]string{aws.ToString(got.TaskDefinition)})[0], Put: func(context.Context) error {
					return fmt.Errorf("the next revision is not there: %w", step.ErrConflict)
				}})
			} else if task := m.id("task"); task != "" {
				s.Differ = append(s.Differ, resource.Differ("task definition", short([]string{task})[0], short([]string{aws.ToString(got.TaskDefinition)})[0], put(func(in *ecs.UpdateServiceInput) error {
					in.TaskDefinition = &task
					return nil
				}))...)
			}
			s.Differ = append(s.Differ, resource.Differ("tasks", strconv.Itoa(m.want.Tasks), strconv.Itoa(int(got.DesiredCount)), put(func(in *ecs.UpdateServiceInput) error {
				in.DesiredCount = aws.Int32(int32(m.want.Tasks))
				return nil
			}))...)
			if c := got.NetworkConfiguration; c != nil && c.AwsvpcConfiguration != nil {
				if want, err := network(); err == nil {
					w, h := want.AwsvpcConfiguration, c.AwsvpcConfiguration
					s.Differ = append(s.Differ, resource.Differ("subnets and group", resource.Joined(w.Subnets)+", "+resource.Joined(w.SecurityGroups), resource.Joined(h.Subnets)+", "+resource.Joined(h.SecurityGroups), put(func(in *ecs.UpdateServiceInput) error {
						in.NetworkConfiguration = want
						return nil
					}))...)
				}
			}
			if c := got.DeploymentConfiguration; c != nil {
				s.Differ = append(s.Differ, resource.Differ("deployment", deploymentText(deployment), deploymentText(c), put(func(in *ecs.UpdateServiceInput) error {
					in.DeploymentConfiguration = deployment
					return nil
				}))...)
			}
			if got.EnableExecuteCommand {
				s.Differ = append(s.Differ, resource.Difference{Field: "shells", Want: "off", Have: "on", Put: put(func(in *ecs.UpdateServiceInput) error {
					in.EnableExecuteCommand = aws.Bool(false)
					return nil
				})})
			}
			if len(s.Differ) > 0 {
				return s, nil // what it waits for may be what is to be changed
			}
			return s, m.serviceReady(ctx, got, s)
		},
		Create: func(ctx context.Context, tags map[string]string) error {
			task, err := m.needed("task", "the task definition")
			if err != nil {
				return err
			}
			group, err := m.needed("target group", "the target group")
			if err != nil {
				return err
			}
			where, err := network()
			if err != nil {
				return err
			}
			_, err = m.AWS.ECS.CreateService(ctx, &ecs.CreateServiceInput{Cluster: &cluster, ServiceName: aws.String(serviceName), TaskDefinition: task, DesiredCount: aws.Int32(int32(m.want.Tasks)),
				LaunchType: types.LaunchTypeFargate, NetworkConfiguration: where, DeploymentConfiguration: deployment, HealthCheckGracePeriodSeconds: aws.Int32(60),
				LoadBalancers: []types.LoadBalancer{{TargetGroupArn: group, ContainerName: aws.String(containerName), ContainerPort: aws.Int32(jumperPort)}}, Tags: ecsTags(tags)})
			return passingECS(err)
		},
		Delete: func(ctx context.Context, s *resource.State) error {
			// What listens goes first, so that nobody is sent to a jumper that ends.
			if balancer := m.id("load balancer"); balancer != "" {
				l, err := m.findListener(ctx, balancer)
				if err != nil {
					return err
				}
				if l != nil {
					if _, err := m.AWS.ELB.DeleteListener(ctx, &elb.DeleteListenerInput{ListenerArn: l.ListenerArn}); err != nil && !fault.Gone(err) {
						return err
					}
				}
			}
			got := s.Value.(types.Service)
			if got.DesiredCount > 0 {
				_, err := m.AWS.ECS.UpdateService(ctx, &ecs.UpdateServiceInput{Cluster: &cluster, Service: aws.String(serviceName), DesiredCount: aws.Int32(0)})
				return passingECS(err) // it is looked at again
			}
			if got.RunningCount > 0 {
				return fmt.Errorf("%d jumpers end: %w", got.RunningCount, step.ErrNotYet)
			}
			_, err := m.AWS.ECS.DeleteService(ctx, &ecs.DeleteServiceInput{Cluster: &cluster, Service: aws.String(serviceName)})
			return passingECS(err)
		},
	}
}

func deploymentText(c *types.DeploymentConfiguration) string {
	b := c.DeploymentCircuitBreaker
	return fmt.Sprintf("%d to %d %%, taken back %v", aws.ToInt32(c.MinimumHealthyPercent), aws.ToInt32(c.MaximumPercent), b != nil && b.Enable && b.Rollback)
}

// serviceReady says what the service still waits for: its tasks, and then that they
// answer, which proves the whole way to the API server.
func (m *maker) serviceReady(ctx context.Context, got types.Service, s *resource.State) error {
	for _, d := range got.Deployments {
		if aws.ToString(d.Status) == "PRIMARY" && d.RolloutState == types.DeploymentRolloutStateFailed {
			s.Broken = "its tasks do not start: " + aws.ToString(d.RolloutStateReason) + "; the log group has what they said"
			return nil
		}
	}
	if got.RunningCount < got.DesiredCount || len(got.Deployments) > 1 {
		s.Busy = fmt.Sprintf("%d of %d jumpers run", got.RunningCount, got.DesiredCount)
		return nil
	}
	targets, err := m.targets(ctx)
	if err != nil {
		return err
	}
	healthy := 0
	for _, t := range targets {
		if t.TargetHealth != nil && t.TargetHealth.State == elbtypes.TargetHealthStateEnumHealthy {
			healthy++
		}
	}
	if healthy < int(got.DesiredCount) {
		s.Busy = fmt.Sprintf("%d of %d jumpers answer at /readyz: the others have no handshake with the API server", healthy, got.DesiredCount)
	}
	return nil
}
