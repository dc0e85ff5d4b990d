package awsdouble

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// ecsService is what a service of ECS has besides what moto knows of it: tasks.
// Each has an interface in a subnet and is a target of the service's groups. Where
// its image is one of Options.Tasks, it is a process of this machine too.
type ecsService struct {
	at           place
	arn, cluster string // ARNs
	name         string
	desired      int
	balancers    []taskBalancer
	breaker      taskBreaker
	deployments  []*ecsDeployment // the latest first; the others have tasks until its own run
	tasks        []*ecsTask       // those that shall run
	events       []ecsEvent       // the latest first
	failed       int              // tasks, of all deployments

	asked string         // what made it
	made  map[string]any // and what was answered
}

// ecsDeployment is one revision of a service.
type ecsDeployment struct {
	id, definition string // definition is an ARN
	network        taskNetwork
	since          time.Time
	state, why     string // IN_PROGRESS, COMPLETED or FAILED
	failures       int    // tasks that ended by themselves
}

type ecsEvent struct {
	id, message string
	at          time.Time
}

type taskNetwork struct {
	Subnets        []string `json:"subnets"`
	SecurityGroups []string `json:"securityGroups"`
}

type taskBalancer struct {
	TargetGroupARN string `json:"targetGroupArn"`
	ContainerPort  int    `json:"containerPort"`
}

// taskBreaker is the deployment circuit breaker.
type taskBreaker struct {
	Enable   bool `json:"enable"`
	Rollback bool `json:"rollback"`
}

// ecsTask is one task.
type ecsTask struct {
	of              *ecsService
	deployment      *ecsDeployment
	arn             string
	containers      []any
	eni, ip, subnet string
	started         time.Time
	process         *taskProcess // nil where the image is not mapped

	stopping   time.Time // since when it shall not run any more
	code, said string    // and why
}

const (
	stoppedTasks = 1000 // are shown; ECS shows them for an hour at least
	ecsEvents    = 100  // that a service keeps
	breakerLeast = 3    // failures; half of the tasks if that is more, and no more than breakerMost
	breakerMost  = 200
)

// settle goes on with deployments: it is called before every look at services.
func (t *tasks) settle(ctx context.Context) error {
	for len(t.stopped) > stoppedTasks && !t.stopped[0].process.alive() {
		t.stopped = t.stopped[1:]
	}
	for _, s := range t.services {
		if err := t.scale(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// deploy brings a service's tasks to what moto says of it after a create or an
// update.
func (t *tasks) deploy(ctx context.Context, c *call, root map[string]any) error {
	shown, _ := root["service"].(map[string]any)
	var said struct {
		ARN        string         `json:"serviceArn"`
		Cluster    string         `json:"clusterArn"`
		Name       string         `json:"serviceName"`
		Definition string         `json:"taskDefinition"`
		Desired    int            `json:"desiredCount"`
		Balancers  []taskBalancer `json:"loadBalancers"`
	}
	if err := json.Unmarshal([]byte(asJSON(shown)), &said); err != nil {
		return fmt.Errorf("reading what moto says of a service: %w", err)
	}
	s := t.services[said.ARN]
	if s == nil {
		s = &ecsService{at: c.place(), arn: said.ARN, cluster: said.Cluster, name: said.Name, asked: string(c.body), made: shown}
		t.services[said.ARN] = s
	}
	var asked struct {
		Network struct {
			VPC *taskNetwork `json:"awsvpcConfiguration"`
		} `json:"networkConfiguration"`
		Deployment struct {
			Breaker *taskBreaker `json:"deploymentCircuitBreaker"`
		} `json:"deploymentConfiguration"`
		Force bool `json:"forceNewDeployment"`
	}
	if err := json.Unmarshal(c.body, &asked); err != nil {
		return fmt.Errorf("%w: the body is no JSON object", errNotACall)
	}
	if asked.Deployment.Breaker != nil {
		s.breaker = *asked.Deployment.Breaker
	}
	s.desired, s.balancers = said.Desired, said.Balancers
	definition := ""
	if len(s.deployments) > 0 {
		definition = s.deployments[0].definition
	}
	if c.params.one("taskDefinition") != "" {
		named, err := t.definition(ctx, s.at, said.Definition) // a family is its latest revision now, and that one it stays
		if err != nil {
			return err
		}
		definition = named.ARN
	}
	if len(s.deployments) == 0 || s.deployments[0].definition != definition || asked.Force || asked.Network.VPC != nil {
		next := &ecsDeployment{id: randomLower(20), definition: definition, since: t.double.network.clock.Now(), state: "IN_PROGRESS"}
		if len(s.deployments) > 0 {
			next.network = s.deployments[0].network
		}
		if asked.Network.VPC != nil {
			next.network = *asked.Network.VPC
		}
		s.deployments = slices.Insert(s.deployments, 0, next)
	}
	if err := t.scale(ctx, s); err != nil {
		return err
	}
	t.show(shown)
	return nil
}

// scale brings a service on: tasks of the latest deployment are started, and those of
// the others end as these run. So it is with minimumHealthyPercent 100 and
// maximumPercent 200, which are the defaults.
func (t *tasks) scale(ctx context.Context, s *ecsService) error {
	if len(s.deployments) == 0 {
		return nil
	}
	latest := s.deployments[0]
	of := func(latestOnes bool) []*ecsTask {
		return slices.DeleteFunc(slices.Clone(s.tasks), func(task *ecsTask) bool { return (task.deployment == latest) != latestOnes })
	}
	for own := of(true); len(own) > s.desired; own = of(true) {
		if err := t.end(ctx, own[len(own)-1], "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/"+latest.id+")"); err != nil {
			return err
		}
	}
	for len(of(true)) < s.desired && len(s.tasks) < 2*s.desired && latest.state != "FAILED" {
		if err := t.begin(ctx, s); err != nil {
			return err
		}
	}
	serving := 0
	if old := of(false); len(old) > 0 {
		for _, task := range of(true) {
			if t.runs(task) && t.answers(ctx, task) {
				serving++
			}
		}
		for keep := max(s.desired-serving, 0); len(old) > keep; old = old[1:] {
			if err := t.end(ctx, old[0], "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/"+old[0].deployment.id+")"); err != nil {
				return err
			}
		}
	}
	if latest.state == "IN_PROGRESS" && len(of(false)) == 0 && t.running(of(true)) == s.desired {
		latest.state = "COMPLETED"
		t.event(s, fmt.Sprintf("(service %s) (deployment ecs-svc/%s) deployment completed.", s.name, latest.id))
		t.event(s, fmt.Sprintf("(service %s) has reached a steady state.", s.name))
	}
	return nil
}

// broke is told of a task that ended by itself, and sees whether the deployment is to
// be given up.
func (t *tasks) broke(s *ecsService, of *ecsDeployment) {
	of.failures++
	s.failed++
	if !s.breaker.Enable || of.state != "IN_PROGRESS" || of != s.deployments[0] || of.failures < min(max((s.desired+1)/2, breakerLeast), breakerMost) {
		return
	}
	of.state, of.why = "FAILED", "ECS deployment circuit breaker: tasks failed to start."
	t.event(s, fmt.Sprintf("(service %s) (deployment ecs-svc/%s) deployment failed: tasks failed to start.", s.name, of.id))
	if !s.breaker.Rollback {
		return
	}
	for i, before := range s.deployments {
		if before.state == "COMPLETED" {
			s.deployments = slices.Insert(slices.Delete(s.deployments, i, i+1), 0, before)
			before.failures = 0
			before.state, before.why = "IN_PROGRESS", "ECS deployment circuit breaker: rolling back to deploymentId ecs-svc/"+before.id+"."
			t.event(s, fmt.Sprintf("(service %s) rolling back to deployment ecs-svc/%s.", s.name, before.id))
			return
		}
	}
}

func (t *tasks) event(s *ecsService, message string) {
	s.events = slices.Insert(s.events, 0, ecsEvent{newRequestID(), message, t.double.network.clock.Now()})
	s.events = s.events[:min(len(s.events), ecsEvents)]
}

// begin starts one task of the latest deployment: an interface, a process where there
// is one, a target.
func (t *tasks) begin(ctx context.Context, s *ecsService) error {
	n, deployment := t.double.network, s.deployments[0]
	definition, err := t.definition(ctx, s.at, deployment.definition)
	if err != nil {
		return err
	}
	id := randomHex(32)
	task := &ecsTask{of: s, deployment: deployment, arn: strings.Replace(s.cluster, ":cluster/", ":task/", 1) + "/" + id, started: n.clock.Now()}
	for _, container := range definition.Containers {
		task.containers = append(task.containers, map[string]any{"name": container.Name, "image": container.Image})
	}
	if subnets := deployment.network.Subnets; len(subnets) > 0 {
		task.subnet = subnets[len(s.tasks)%len(subnets)]
		if task.eni, err = n.makeInterface(ctx, s.at, "interface", task.subnet, "arn:aws:ecs:"+s.at.region+":"+s.at.account+":attachment/"+id, deployment.network.SecurityGroups); err != nil {
			return fmt.Errorf("making the interface of a task: %w", err)
		}
		seen, err := n.do(ctx, s.at, "DescribeNetworkInterfaces", "NetworkInterfaceId.1", task.eni)
		if err != nil {
			return err
		}
		task.ip = seen.one("networkInterfaceSet.item.privateIpAddress")
	}
	if task.process, err = t.start(definition, id, func() { t.ended(task) }); err != nil {
		return err
	}
	if task.process != nil {
		task.ip = task.process.ip
	}
	s.tasks = append(s.tasks, task)
	t.event(s, fmt.Sprintf("(service %s) has started 1 tasks: (task %s).", s.name, id))
	return t.target(ctx, task, "RegisterTargets")
}

// end stops one task and takes away what it had.
func (t *tasks) end(ctx context.Context, task *ecsTask, code, reason string) error {
	s := task.of
	if !task.stopping.IsZero() {
		return nil
	}
	s.tasks = slices.DeleteFunc(s.tasks, func(other *ecsTask) bool { return other == task })
	task.stopping, task.code, task.said = t.double.network.clock.Now(), code, reason
	t.stopped = append(t.stopped, task)
	t.event(s, fmt.Sprintf("(service %s) has stopped 1 running tasks: (task %s).", s.name, base(task.arn)))
	if task.process != nil {
		task.process.stop()
	}
	if err := t.target(ctx, task, "DeregisterTargets"); err != nil && !isRefused(err) {
		return err
	}
	if task.eni == "" {
		return nil
	}
	return t.double.network.removeInterface(ctx, s.at, task.eni)
}

// remove ends all tasks of a service, and forgets it.
func (t *tasks) remove(ctx context.Context, s *ecsService) error {
	for _, task := range slices.Clone(s.tasks) {
		if err := t.end(ctx, task, "ServiceSchedulerInitiated", "Scaling activity initiated by (deployment ecs-svc/"+task.deployment.id+")"); err != nil {
			return err
		}
	}
	delete(t.services, s.arn)
	return nil
}

// target adds a task to the groups of its service, or takes it out.
func (t *tasks) target(ctx context.Context, task *ecsTask, operation string) error {
	for _, balancer := range task.of.balancers {
		if balancer.TargetGroupARN == "" || task.ip == "" {
			continue
		}
		_, err := t.double.world.do(ctx, task.of.at.account, task.of.at.region, want{service: "elasticloadbalancing", operation: operation, form: []string{"Version", "2015-12-01",
			"TargetGroupArn", balancer.TargetGroupARN, "Targets.member.1.Id", task.ip, "Targets.member.1.Port", strconv.Itoa(balancer.ContainerPort)}})
		if err != nil {
			return err
		}
	}
	return nil
}

// answers says whether a task passes the health checks of its service's groups: those
// that have no process do.
func (t *tasks) answers(ctx context.Context, task *ecsTask) bool {
	if task.process == nil {
		return true
	}
	for _, balancer := range task.of.balancers {
		if balancer.TargetGroupARN == "" {
			continue
		}
		group, err := t.double.targetGroup(ctx, task.of.at, balancer.TargetGroupARN)
		if err != nil || checkTarget(ctx, group, task.ip, strconv.Itoa(balancer.ContainerPort)) != nil {
			return false
		}
	}
	return true
}

func (t *tasks) definition(ctx context.Context, at place, named string) (*taskDefinition, error) {
	status, text, err := t.double.world.send(ctx, at.account, at.region, want{service: "ecs", operation: "DescribeTaskDefinition", target: "AmazonEC2ContainerServiceV20141113",
		json: map[string]any{"taskDefinition": named}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Definition taskDefinition `json:"taskDefinition"`
	}
	if status >= 300 {
		return nil, fmt.Errorf("moto answers with status %d to what task definition %s is", status, named)
	}
	return &answer.Definition, json.Unmarshal(text, &answer)
}

// runs says whether a task is past its start and not ended.
func (t *tasks) runs(task *ecsTask) bool {
	return task.stopping.IsZero() && !t.double.network.clock.Now().Before(task.started.Add(typical.StartTask)) && (task.process == nil || task.process.alive())
}

func (t *tasks) running(of []*ecsTask) (count int) {
	for _, task := range of {
		if t.runs(task) {
			count++
		}
	}
	return count
}

// show puts into what moto says of a service how its tasks are.
func (t *tasks) show(shown map[string]any) {
	arn, _ := shown["serviceArn"].(string)
	s := t.services[arn]
	if s == nil {
		return
	}
	running := t.running(s.tasks)
	shown["runningCount"], shown["pendingCount"], shown["desiredCount"], shown["taskDefinition"] = running, len(s.tasks)-running, s.desired, s.deployments[0].definition
	deployments, events := []any{}, []any{}
	for i, one := range s.deployments {
		own := slices.DeleteFunc(slices.Clone(s.tasks), func(task *ecsTask) bool { return task.deployment != one })
		status, desired := "PRIMARY", s.desired
		if i > 0 {
			if len(own) == 0 {
				continue
			}
			status, desired = "ACTIVE", len(own)
		}
		running := t.running(own)
		why := one.why
		if why == "" {
			why = "ECS deployment ecs-svc/" + one.id + " " + strings.ToLower(strings.ReplaceAll(one.state, "_", " ")) + "."
		}
		deployments = append(deployments, map[string]any{"id": "ecs-svc/" + one.id, "status": status, "taskDefinition": one.definition, "desiredCount": desired, "runningCount": running,
			"pendingCount": len(own) - running, "failedTasks": one.failures, "createdAt": one.since.Unix(), "updatedAt": one.since.Unix(), "launchType": "FARGATE",
			"networkConfiguration": map[string]any{"awsvpcConfiguration": map[string]any{"subnets": one.network.Subnets, "securityGroups": one.network.SecurityGroups, "assignPublicIp": "DISABLED"}},
			"rolloutState":         one.state, "rolloutStateReason": why})
	}
	for _, one := range s.events {
		events = append(events, map[string]any{"id": one.id, "message": one.message, "createdAt": one.at.Unix()})
	}
	shown["deployments"], shown["events"] = deployments, events
}

// deploymentsOf are the service deployments of a service, the latest first.
func (t *tasks) deploymentsOf(s *ecsService) []map[string]any {
	all := []map[string]any{}
	for i, one := range s.deployments {
		status := map[string]string{"IN_PROGRESS": "IN_PROGRESS", "COMPLETED": "SUCCESSFUL", "FAILED": "STOPPED"}[one.state]
		if i > 0 && one.state == "IN_PROGRESS" {
			status = "STOPPED" // the next came before it was done
		}
		own := slices.DeleteFunc(slices.Clone(s.tasks), func(task *ecsTask) bool { return task.deployment != one })
		all = append(all, map[string]any{
			"serviceDeploymentArn": strings.Replace(s.arn, ":service/", ":service-deployment/", 1) + "/" + one.id, "serviceArn": s.arn, "clusterArn": s.cluster,
			"createdAt": one.since.Unix(), "startedAt": one.since.Unix(), "status": status, "targetServiceRevision": map[string]any{"requestedTaskCount": s.desired, "runningTaskCount": t.running(own)},
		})
	}
	return all
}

// shown is a task as DescribeTasks shows it.
func (t *tasks) shown(task *ecsTask) map[string]any {
	status, desired := "PENDING", "RUNNING"
	switch {
	case !task.stopping.IsZero() && task.process.alive():
		status, desired = "STOPPING", "STOPPED"
	case !task.stopping.IsZero():
		status, desired = "STOPPED", "STOPPED"
	case t.runs(task):
		status = "RUNNING"
	}
	attachment := "ATTACHED"
	if desired == "STOPPED" {
		attachment = "DELETED"
	}
	details, containers := []any{}, []any{}
	for name, value := range map[string]string{"subnetId": task.subnet, "networkInterfaceId": task.eni, "privateIPv4Address": task.ip} {
		details = append(details, map[string]any{"name": name, "value": value})
	}
	for _, one := range list(task.containers) {
		container := map[string]any{"name": one["name"], "image": one["image"], "taskArn": task.arn, "lastStatus": status}
		if code, ended := task.process.exit(); ended && !task.stopping.IsZero() {
			container["exitCode"] = code
		}
		containers = append(containers, container)
	}
	shown := map[string]any{
		"taskArn": task.arn, "clusterArn": task.of.cluster, "taskDefinitionArn": task.deployment.definition, "group": "service:" + task.of.name, "launchType": "FARGATE",
		"lastStatus": status, "desiredStatus": desired, "healthStatus": "UNKNOWN", "createdAt": task.started.Unix(), "startedAt": task.started.Add(typical.StartTask).Unix(),
		"attachments": []any{map[string]any{"id": base(task.arn), "type": "ElasticNetworkInterface", "status": attachment, "details": details}},
		"containers":  containers, "overrides": map[string]any{}, "tags": []any{}, "version": 1, "startedBy": "ecs-svc/" + task.deployment.id,
	}
	if !task.stopping.IsZero() {
		shown["stoppedReason"], shown["stopCode"], shown["stoppingAt"] = task.said, task.code, task.stopping.Unix()
		if status == "STOPPED" {
			shown["stoppedAt"] = task.stopping.Unix()
		}
	}
	return shown
}

// ended follows a task whose process has ended by another one.
func (t *tasks) ended(task *ecsTask) {
	time.Sleep(restartPause) // of the machine: a process that cannot start must not be started all the time
	t.lock.Lock()
	defer t.lock.Unlock()
	s := task.of
	if t.stopping || !slices.Contains(s.tasks, task) {
		return // it was to end
	}
	t.double.log.Warn("task ended by itself", "service", s.name, "log", t.logOf(base(task.arn)))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ending := t.end(ctx, task, "EssentialContainerExited", "Essential container in task exited")
	t.broke(s, task.deployment)
	if err := errors.Join(ending, t.scale(ctx, s)); err != nil {
		t.double.log.Error("starting a task again", "service", s.name, "error", err)
	}
}
