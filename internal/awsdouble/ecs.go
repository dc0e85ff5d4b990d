package awsdouble

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
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
	definition   string // ARN
	desired      int
	deployment   string
	since        time.Time // of that deployment
	network      taskNetwork
	balancers    []taskBalancer
	tasks        []*ecsTask // those that shall run

	asked string         // what made it
	made  map[string]any // and what was answered
}

type taskNetwork struct {
	Subnets        []string `json:"subnets"`
	SecurityGroups []string `json:"securityGroups"`
}

type taskBalancer struct {
	TargetGroupARN string `json:"targetGroupArn"`
	ContainerPort  int    `json:"containerPort"`
}

// ecsTask is one task.
type ecsTask struct {
	arn, definition string
	service         string // ARN
	eni, ip, subnet string
	started         time.Time
	process         *taskProcess // nil where the image is not mapped
}

// definitions is what is read of a task definition.
type taskDefinition struct {
	ARN        string `json:"taskDefinitionArn"`
	Containers []struct {
		Name        string   `json:"name"`
		Image       string   `json:"image"`
		EntryPoint  []string `json:"entryPoint"`
		Command     []string `json:"command"`
		Environment []struct{ Name, Value string }
	} `json:"containerDefinitions"`
}

// ecs performs a decided call of ECS.
func (d *Double) ecs(ctx context.Context, c *call) (*http.Response, error) {
	if err := d.settle(ctx); err != nil {
		return nil, err
	}
	d.tasks.lock.Lock()
	defer d.tasks.lock.Unlock()
	switch c.Operation {
	case "RegisterTaskDefinition":
		for _, role := range []string{c.params.one("taskRoleArn"), c.params.one("executionRoleArn")} {
			if role == "" {
				continue
			}
			if seen, err := d.world.Role(ctx, role); err != nil {
				return nil, err
			} else if seen == nil || !slices.Contains(seen.Trusts, "ecs-tasks.amazonaws.com") {
				return nil, ecsError("ClientException", "Role is not valid")
			}
		}
	case "CreateService", "UpdateService":
		if s := d.tasks.service(c, c.params.one("serviceName")); s != nil && c.Operation == "CreateService" {
			if s.asked != string(c.body) {
				return nil, ecsError("InvalidParameterException", "Creation of service was not idempotent.")
			}
			d.tasks.show(s.made)
			return inJSON(map[string]any{"service": s.made}), nil
		}
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return editJSON(answer, func(root map[string]any) error { return d.tasks.deploy(ctx, c, root) })
	case "DescribeServices":
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return editJSON(answer, func(root map[string]any) error {
			for _, one := range list(root["services"]) {
				d.tasks.show(one)
			}
			return nil
		})
	case "DeleteService":
		s := d.tasks.service(c, c.params.one("service"))
		if s != nil && s.desired > 0 && c.params.one("force") != "true" {
			return nil, ecsError("InvalidParameterException", "The service cannot be stopped while it is scaled above 0.")
		}
		answer, err := d.forward(ctx, c)
		if err == nil && answer.StatusCode < 300 && s != nil {
			s.desired = 0
			if err := d.tasks.scale(ctx, s); err != nil {
				return nil, err
			}
			delete(d.tasks.services, s.arn)
		}
		return answer, err
	case "DeleteCluster":
		for _, s := range d.tasks.services {
			if s.at == c.place() && base(s.cluster) == base(c.params.one("cluster")) {
				return nil, ecsError("ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active.")
			}
		}
	case "ListClusters": // which moto shows when they are INACTIVE, too
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return editJSON(answer, func(root map[string]any) error { return d.activeClusters(ctx, c, root) })
	case "ListTasks":
		arns := []string{}
		for _, s := range d.tasks.services {
			if s.at == c.place() && base(s.cluster) == clusterOf(c) && (c.params.one("serviceName") == "" || base(c.params.one("serviceName")) == s.name) && c.params.one("desiredStatus") != "STOPPED" {
				for _, task := range s.tasks {
					arns = append(arns, task.arn)
				}
			}
		}
		slices.Sort(arns)
		return inJSON(map[string]any{"taskArns": arns}), nil
	case "DescribeTasks":
		tasks, failures := []any{}, []any{}
		for _, id := range c.params.all("tasks.*") {
			if s, task := d.tasks.task(c, id); task != nil {
				tasks = append(tasks, d.tasks.shown(s, task))
			} else {
				failures = append(failures, map[string]any{"arn": id, "reason": "MISSING"})
			}
		}
		return inJSON(map[string]any{"tasks": tasks, "failures": failures}), nil
	case "StopTask":
		s, task := d.tasks.task(c, c.params.one("task"))
		if task == nil {
			return nil, ecsError("InvalidParameterException", "The referenced task was not found.")
		}
		if err := d.tasks.end(ctx, s, task); err != nil {
			return nil, err
		}
		shown := d.tasks.shown(s, task)
		shown["desiredStatus"] = "STOPPED"
		return inJSON(map[string]any{"task": shown}), d.tasks.scale(ctx, s) // which starts another one
	case "ListServiceDeployments":
		s := d.tasks.service(c, c.params.one("service"))
		if s == nil {
			return nil, ecsError("ServiceNotFoundException", "Service not found.")
		}
		return inJSON(map[string]any{"serviceDeployments": []any{d.tasks.deploymentOf(s)}}), nil
	case "DescribeServiceDeployments":
		found := []any{}
		for _, s := range d.tasks.services {
			if one := d.tasks.deploymentOf(s); s.at == c.place() && slices.Contains(c.params.all("serviceDeploymentArns.*"), one["serviceDeploymentArn"].(string)) {
				found = append(found, one)
			}
		}
		return inJSON(map[string]any{"serviceDeployments": found, "failures": []any{}}), nil
	case "UpdateClusterSettings": // which moto has under another name
		return d.clusterSettings(ctx, c)
	}
	return d.forward(ctx, c)
}

// activeClusters leaves out of a list what was deleted.
func (d *Double) activeClusters(ctx context.Context, c *call, root map[string]any) error {
	arns, _ := root["clusterArns"].([]any)
	if len(arns) == 0 {
		return nil
	}
	_, text, err := d.world.send(ctx, c.Account, c.Region, want{service: "ecs", operation: "DescribeClusters", target: "AmazonEC2ContainerServiceV20141113", json: map[string]any{"clusters": arns}})
	if err != nil {
		return err
	}
	var answer struct {
		Clusters []struct{ ClusterArn, Status string } `json:"clusters"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("reading what moto says of clusters: %w", err)
	}
	root["clusterArns"] = slices.DeleteFunc(arns, func(arn any) bool {
		return slices.ContainsFunc(answer.Clusters, func(one struct{ ClusterArn, Status string }) bool {
			return one.ClusterArn == arn && one.Status == "INACTIVE"
		})
	})
	return nil
}

func (d *Double) clusterSettings(ctx context.Context, c *call) (*http.Response, error) {
	var input map[string]any
	if err := json.Unmarshal(c.body, &input); err != nil {
		return nil, fmt.Errorf("%w: the body is no JSON object", errNotACall)
	}
	status, text, err := d.world.send(ctx, c.Account, c.Region, want{service: "ecs", operation: "UpdateCluster", target: "AmazonEC2ContainerServiceV20141113", json: input})
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: status, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}}, Body: io.NopCloser(bytes.NewReader(text)), ContentLength: int64(len(text))}, nil
}

func ecsError(code, message string) error {
	return &refusal{code, message, http.StatusBadRequest}
}

// clusterOf is the name of the cluster that a call means.
func clusterOf(c *call) string {
	if cluster := base(c.params.one("cluster")); cluster != "" {
		return cluster
	}
	return "default"
}

func inJSON(v map[string]any) *http.Response {
	text := asJSON(v)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/x-amz-json-1.1"}},
		Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text))}
}

// editJSON changes an answer of moto's that went well.
func editJSON(answer *http.Response, change func(root map[string]any) error) (*http.Response, error) {
	if answer.StatusCode >= 300 {
		return answer, nil
	}
	defer answer.Body.Close()
	d := json.NewDecoder(io.LimitReader(answer.Body, maxAnswer))
	d.UseNumber()
	var root map[string]any
	if err := d.Decode(&root); err != nil {
		return nil, fmt.Errorf("reading moto's answer: %w", err)
	}
	if err := change(root); err != nil {
		return nil, err
	}
	text := asJSON(root)
	answer.Body, answer.ContentLength = io.NopCloser(strings.NewReader(text)), int64(len(text))
	answer.Header.Set("Content-Length", strconv.Itoa(len(text)))
	return answer, nil
}

// list are the objects of a list.
func list(v any) []map[string]any {
	var found []map[string]any
	members, _ := v.([]any)
	for _, one := range members {
		if object, ok := one.(map[string]any); ok {
			found = append(found, object)
		}
	}
	return found
}

func (t *tasks) service(c *call, name string) *ecsService {
	for _, s := range t.services {
		if s.at == c.place() && (s.arn == name || s.name == name && base(s.cluster) == clusterOf(c)) {
			return s
		}
	}
	return nil
}

func (t *tasks) task(c *call, id string) (*ecsService, *ecsTask) {
	for _, s := range t.services {
		for _, task := range s.tasks {
			if s.at == c.place() && (task.arn == id || base(task.arn) == id) {
				return s, task
			}
		}
	}
	return nil, nil
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
		Force bool `json:"forceNewDeployment"`
	}
	if err := json.Unmarshal(c.body, &asked); err != nil {
		return fmt.Errorf("%w: the body is no JSON object", errNotACall)
	}
	if asked.Network.VPC != nil {
		s.network = *asked.Network.VPC
	}
	if s.definition != said.Definition || asked.Force || asked.Network.VPC != nil || s.deployment == "" {
		s.deployment, s.since = randomLower(20), t.double.network.clock.Now()
		for _, task := range slices.Clone(s.tasks) {
			if err := t.end(ctx, s, task); err != nil {
				return err
			}
		}
	}
	s.definition, s.desired, s.balancers = said.Definition, said.Desired, said.Balancers
	if err := t.scale(ctx, s); err != nil {
		return err
	}
	t.show(shown)
	return nil
}

// scale starts and ends tasks until there are as many as shall be.
func (t *tasks) scale(ctx context.Context, s *ecsService) error {
	for len(s.tasks) > s.desired {
		if err := t.end(ctx, s, s.tasks[len(s.tasks)-1]); err != nil {
			return err
		}
	}
	for len(s.tasks) < s.desired {
		if err := t.begin(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// begin starts one task: an interface, a process where there is one, a target.
func (t *tasks) begin(ctx context.Context, s *ecsService) error {
	n := t.double.network
	definition, err := t.definition(ctx, s)
	if err != nil {
		return err
	}
	id := randomHex(32)
	task := &ecsTask{arn: strings.Replace(s.cluster, ":cluster/", ":task/", 1) + "/" + id, definition: s.definition, service: s.arn, started: n.clock.Now()}
	if len(s.network.Subnets) > 0 {
		task.subnet = s.network.Subnets[len(s.tasks)%len(s.network.Subnets)]
		if task.eni, err = n.makeInterface(ctx, s.at, "interface", task.subnet, "arn:aws:ecs:"+s.at.region+":"+s.at.account+":attachment/"+id, s.network.SecurityGroups); err != nil {
			return fmt.Errorf("making the interface of a task: %w", err)
		}
		seen, err := n.do(ctx, s.at, "DescribeNetworkInterfaces", "NetworkInterfaceId.1", task.eni)
		if err != nil {
			return err
		}
		task.ip = seen.one("networkInterfaceSet.item.privateIpAddress")
	}
	if task.process, err = t.start(definition, id, func() { t.ended(s.arn, task) }); err != nil {
		return err
	}
	if task.process != nil {
		task.ip = task.process.ip
	}
	s.tasks = append(s.tasks, task)
	return t.target(ctx, s, task, "RegisterTargets")
}

// end stops one task and takes away what it had.
func (t *tasks) end(ctx context.Context, s *ecsService, task *ecsTask) error {
	s.tasks = slices.DeleteFunc(s.tasks, func(other *ecsTask) bool { return other == task })
	if task.process != nil {
		task.process.stop()
	}
	if err := t.target(ctx, s, task, "DeregisterTargets"); err != nil && !isRefused(err) {
		return err
	}
	if task.eni == "" {
		return nil
	}
	return t.double.network.removeInterface(ctx, s.at, task.eni)
}

// target adds a task to the groups of its service, or takes it out.
func (t *tasks) target(ctx context.Context, s *ecsService, task *ecsTask, operation string) error {
	for _, balancer := range s.balancers {
		if balancer.TargetGroupARN == "" || task.ip == "" {
			continue
		}
		_, err := t.double.world.do(ctx, s.at.account, s.at.region, want{service: "elasticloadbalancing", operation: operation, form: []string{"Version", "2015-12-01",
			"TargetGroupArn", balancer.TargetGroupARN, "Targets.member.1.Id", task.ip, "Targets.member.1.Port", strconv.Itoa(balancer.ContainerPort)}})
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tasks) definition(ctx context.Context, s *ecsService) (*taskDefinition, error) {
	status, text, err := t.double.world.send(ctx, s.at.account, s.at.region, want{service: "ecs", operation: "DescribeTaskDefinition", target: "AmazonEC2ContainerServiceV20141113",
		json: map[string]any{"taskDefinition": s.definition}})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Definition taskDefinition `json:"taskDefinition"`
	}
	if status >= 300 {
		return nil, fmt.Errorf("moto answers with status %d to what task definition %s is", status, s.definition)
	}
	return &answer.Definition, json.Unmarshal(text, &answer)
}

// running are the tasks that are past their start.
func (t *tasks) running(s *ecsService) int {
	count, now := 0, t.double.network.clock.Now()
	for _, task := range s.tasks {
		if !now.Before(task.started.Add(typical.StartTask)) {
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
	running := t.running(s)
	shown["runningCount"], shown["pendingCount"], shown["desiredCount"] = running, s.desired-running, s.desired
	state := "COMPLETED"
	if running < s.desired {
		state = "IN_PROGRESS"
	}
	deployment := map[string]any{"id": "ecs-svc/" + s.deployment, "status": "PRIMARY", "taskDefinition": s.definition, "desiredCount": s.desired, "runningCount": running,
		"pendingCount": s.desired - running, "failedTasks": 0, "createdAt": s.since.Unix(), "updatedAt": s.since.Unix(), "launchType": "FARGATE",
		"rolloutState": state, "rolloutStateReason": "ECS deployment ecs-svc/" + s.deployment + " " + strings.ToLower(strings.ReplaceAll(state, "_", " ")) + "."}
	shown["deployments"] = []any{deployment}
}

func (t *tasks) deploymentOf(s *ecsService) map[string]any {
	status := "SUCCESSFUL"
	if t.running(s) < s.desired {
		status = "IN_PROGRESS"
	}
	return map[string]any{
		"serviceDeploymentArn": strings.Replace(s.arn, ":service/", ":service-deployment/", 1) + "/" + s.deployment, "serviceArn": s.arn, "clusterArn": s.cluster,
		"createdAt": s.since.Unix(), "startedAt": s.since.Unix(), "status": status, "targetServiceRevision": map[string]any{"requestedTaskCount": s.desired, "runningTaskCount": t.running(s)},
	}
}

// shown is a task as DescribeTasks shows it.
func (t *tasks) shown(s *ecsService, task *ecsTask) map[string]any {
	status := "PENDING"
	if !t.double.network.clock.Now().Before(task.started.Add(typical.StartTask)) {
		status = "RUNNING"
	}
	details := []any{}
	for name, value := range map[string]string{"subnetId": task.subnet, "networkInterfaceId": task.eni, "privateIPv4Address": task.ip} {
		details = append(details, map[string]any{"name": name, "value": value})
	}
	return map[string]any{
		"taskArn": task.arn, "clusterArn": s.cluster, "taskDefinitionArn": task.definition, "group": "service:" + s.name, "launchType": "FARGATE",
		"lastStatus": status, "desiredStatus": "RUNNING", "healthStatus": "UNKNOWN", "createdAt": task.started.Unix(), "startedAt": task.started.Add(typical.StartTask).Unix(),
		"attachments": []any{map[string]any{"id": base(task.arn), "type": "ElasticNetworkInterface", "status": "ATTACHED", "details": details}},
		"containers":  []any{}, "overrides": map[string]any{}, "tags": []any{}, "version": 1,
	}
}

// forget drops every service, with the moto that had them.
func (t *tasks) forget() {
	t.lock.Lock()
	defer t.lock.Unlock()
	for _, s := range t.services {
		for _, task := range s.tasks {
			if task.process != nil {
				task.process.stop()
			}
		}
	}
	maps.DeleteFunc(t.services, func(string, *ecsService) bool { return true })
}
