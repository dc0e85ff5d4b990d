package awsdouble

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// ecs calls ECS and reads the answer.
func (a *account) ecs(operation, body string) (answer map[string]any, status int) {
	a.t.Helper()
	r := newRequest(a.t, http.MethodPost, a.d.URL()+"/")
	r.Header.Set("Content-Type", "application/x-amz-json-1.1")
	r.Header.Set("X-Amz-Target", "AmazonEC2ContainerServiceV20141113."+operation)
	status, text, err := send(a.t, a.d, a.key, "ecs", r, body)
	if err != nil {
		a.t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		a.t.Fatalf("%s: got %s: %v", operation, text, err)
	}
	return answer, status
}

func (a *account) mustECS(operation, body string) map[string]any {
	a.t.Helper()
	answer, status := a.ecs(operation, body)
	if status != 200 {
		a.t.Fatalf("%s: got status %d: %v", operation, status, answer)
	}
	return answer
}

func TestServiceRunsItsTasks(t *testing.T) {
	t.Parallel()
	a := &account{t: t, d: startWithMoto(t, Options{Tasks: map[string]string{"example.com/jumper:1": os.Args[0]}}), clock: &testClock{now: time.Now()}}
	a.d.goBy(a.clock)
	a.key = a.d.Accounts().Customer.Credentials
	n := newNetworkFor(t, a.d)
	group := a.ec2("groupId", "CreateSecurityGroup", "VpcId", n.vpc, "GroupName", "tasks", "GroupDescription", "d")
	target := between(t, a.elb("CreateTargetGroup", "Name", "tasks", "Protocol", "TCP", "Port", "8443", "VpcId", n.vpc, "TargetType", "ip",
		"HealthCheckProtocol", "HTTP", "HealthCheckPort", "8080", "HealthCheckPath", "/readyz"), "<TargetGroupArn>", "<")
	a.mustECS("CreateCluster", `{"clusterName":"c"}`)
	definition := `{"family":"f","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],"cpu":"256","memory":"512","taskRoleArn":"arn:aws:iam::123456789012:role/task",
		"containerDefinitions":[{"name":"jumper","image":"example.com/jumper:1","command":["--listen",":8080"],"environment":[{"name":"RUN_TASK","value":"1"}],"portMappings":[{"containerPort":8443}]}]}`
	if answer, status := a.ecs("RegisterTaskDefinition", definition); status != 400 || answer["message"] != "Role is not valid" {
		t.Errorf("got %d %v, want the role refused", status, answer)
	}
	serviceRole(t, a.d, "task", "ecs-tasks.amazonaws.com")
	a.mustECS("RegisterTaskDefinition", definition)
	a.mustECS("CreateService", fmt.Sprintf(`{"cluster":"c","serviceName":"s","taskDefinition":"f","desiredCount":2,"launchType":"FARGATE",
		"networkConfiguration":{"awsvpcConfiguration":{"subnets":[%q,%q],"securityGroups":[%q]}},"loadBalancers":[{"targetGroupArn":%q,"containerName":"jumper","containerPort":8443}]}`,
		n.subnets[0], n.subnets[1], group, target))
	count := func() string {
		t.Helper()
		service := a.mustECS("DescribeServices", `{"cluster":"c","services":["s"]}`)["services"].([]any)[0].(map[string]any)
		return fmt.Sprintf("%v %v %v %v", service["desiredCount"], service["runningCount"], service["pendingCount"], service["deployments"].([]any)[0].(map[string]any)["rolloutState"])
	}
	if got := count(); got != "2 0 2 IN_PROGRESS" {
		t.Errorf("got %s, want tasks that start", got)
	}
	a.clock.pass(typical.StartTask)
	if got := count(); got != "2 2 0 COMPLETED" {
		t.Errorf("got %s, want tasks that run", got)
	}
	healthy := func() int {
		return strings.Count(a.elb("DescribeTargetHealth", "TargetGroupArn", target), "<State>healthy</State>")
	}
	eventually(t, "two healthy targets", func() bool { return healthy() == 2 })
	a.refused("DependencyViolation", "DeleteSecurityGroup", "GroupId", group)

	// A task that ends is followed by another, and both answer at addresses of their own.
	arns := a.mustECS("ListTasks", `{"cluster":"c","serviceName":"s"}`)["taskArns"].([]any)
	task := a.mustECS("DescribeTasks", fmt.Sprintf(`{"cluster":"c","tasks":[%q]}`, arns[0]))["tasks"].([]any)[0].(map[string]any)
	address := ""
	for _, detail := range task["attachments"].([]any)[0].(map[string]any)["details"].([]any) {
		if detail := detail.(map[string]any); detail["name"] == "privateIPv4Address" {
			address = fmt.Sprint(detail["value"])
		}
	}
	if answer, err := http.Get("http://" + address + ":8080/exit"); err == nil {
		answer.Body.Close()
	}
	eventually(t, "another task", func() bool {
		return !strings.Contains(fmt.Sprint(a.mustECS("ListTasks", `{"cluster":"c"}`)["taskArns"]), fmt.Sprint(arns[0])) && healthy() == 2
	})

	if answer, status := a.ecs("DeleteService", `{"cluster":"c","service":"s"}`); status != 400 {
		t.Errorf("got %d %v, want a service with tasks refused", status, answer)
	}
	if answer, status := a.ecs("DeleteCluster", `{"cluster":"c"}`); status != 400 {
		t.Errorf("got %d %v, want a cluster with services refused", status, answer)
	}
	var processes []int
	a.d.tasks.lock.Lock()
	for _, s := range a.d.tasks.services {
		for _, task := range s.tasks {
			processes = append(processes, task.process.cmd.Process.Pid)
		}
	}
	a.d.tasks.lock.Unlock()
	a.mustECS("UpdateService", `{"cluster":"c","service":"s","desiredCount":0}`)
	for _, pid := range processes {
		eventually(t, "end of a task", func() bool { return syscall.Kill(pid, 0) != nil })
	}
	if text := a.elb("DescribeTargetHealth", "TargetGroupArn", target); strings.Contains(text, "<Target>") {
		t.Errorf("got %s, want no targets", text)
	}
	a.mustECS("DeleteService", `{"cluster":"c","service":"s"}`)
	a.mustECS("DeleteCluster", `{"cluster":"c"}`)
	if clusters := a.mustECS("ListClusters", `{}`)["clusterArns"]; len(clusters.([]any)) != 0 {
		t.Errorf("got clusters %v, want none", clusters)
	}
	a.ec2("", "DeleteSecurityGroup", "GroupId", group)
}

func TestServiceWithoutProgram(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	a.mustECS("CreateCluster", `{"clusterName":"c"}`)
	a.mustECS("UpdateClusterSettings", `{"cluster":"c","settings":[{"name":"containerInsights","value":"enabled"}]}`)
	a.mustECS("RegisterTaskDefinition", `{"family":"f","containerDefinitions":[{"name":"x","image":"/bin/sh","command":["-c","exit 1"],"memory":10}]}`)
	const create = `{"cluster":"c","serviceName":"s","taskDefinition":"f","desiredCount":1}`
	arn := a.mustECS("CreateService", create)["service"].(map[string]any)["serviceArn"]
	if again := a.mustECS("CreateService", create)["service"].(map[string]any)["serviceArn"]; again != arn {
		t.Errorf("got %v when it was made again, want %v", again, arn)
	}
	if answer, status := a.ecs("CreateService", strings.Replace(create, `:1}`, `:2}`, 1)); status != 400 {
		t.Errorf("got %d %v, want another service of that name refused", status, answer)
	}
	a.clock.pass(typical.StartTask)
	deployments := a.mustECS("ListServiceDeployments", fmt.Sprintf(`{"cluster":"c","service":%q}`, arn))["serviceDeployments"].([]any)
	one := deployments[0].(map[string]any)
	if one["status"] != "SUCCESSFUL" {
		t.Errorf("got %v, want a deployment that is done", one)
	}
	described := a.mustECS("DescribeServiceDeployments", fmt.Sprintf(`{"serviceDeploymentArns":[%q]}`, one["serviceDeploymentArn"]))
	if len(described["serviceDeployments"].([]any)) != 1 {
		t.Errorf("got %v, want the deployment", described)
	}
	a.d.tasks.lock.Lock()
	defer a.d.tasks.lock.Unlock()
	for _, s := range a.d.tasks.services {
		if len(s.tasks) != 1 || s.tasks[0].process != nil {
			t.Errorf("got %d tasks, the first with process %v, want one and none", len(s.tasks), s.tasks[0].process)
		}
	}
}

// serviceOf makes a service of two tasks, and says how its deployments are.
func serviceOf(t *testing.T, a *account, more, definition string) (target string, deployments func() string) {
	t.Helper()
	n := newNetworkFor(t, a.d)
	target = between(t, a.elb("CreateTargetGroup", "Name", "tasks", "Protocol", "TCP", "Port", "8443", "VpcId", n.vpc, "TargetType", "ip",
		"HealthCheckProtocol", "HTTP", "HealthCheckPort", "8080", "HealthCheckPath", "/readyz"), "<TargetGroupArn>", "<")
	a.mustECS("CreateCluster", `{"clusterName":"c"}`)
	a.mustECS("RegisterTaskDefinition", definition)
	network := fmt.Sprintf(`"networkConfiguration":{"awsvpcConfiguration":{"subnets":[%q,%q],"securityGroups":[%q]}},"loadBalancers":[{"targetGroupArn":%q,"containerName":"jumper","containerPort":8443}]`,
		n.subnets[0], n.subnets[1], a.ec2("groupId", "CreateSecurityGroup", "VpcId", n.vpc, "GroupName", "tasks", "GroupDescription", "d"), target)
	if answer, status := a.ecs("CreateService", `{"cluster":"c","serviceName":"s","taskDefinition":"f","desiredCount":2}`); status != 400 || !strings.Contains(fmt.Sprint(answer["message"]), "Network Configuration must be provided") {
		t.Errorf("got %d %v, want a network wanted", status, answer)
	}
	if answer, status := a.ecs("CreateService", `{"cluster":"c","serviceName":"s","taskDefinition":"none","desiredCount":2}`); status != 400 || answer["message"] != "TaskDefinition not found." {
		t.Errorf("got %d %v, want the definition refused", status, answer)
	}
	a.mustECS("CreateService", `{"cluster":"c","serviceName":"s","taskDefinition":"f","desiredCount":2,"launchType":"FARGATE",`+network+more+`}`)
	return target, func() string {
		t.Helper()
		service := a.mustECS("DescribeServices", `{"cluster":"c","services":["s"]}`)["services"].([]any)[0].(map[string]any)
		var all []string
		for _, one := range list(service["deployments"]) {
			all = append(all, fmt.Sprintf("%v %v %v of %v %v", one["status"], base(fmt.Sprint(one["taskDefinition"])), one["runningCount"], one["desiredCount"], one["rolloutState"]))
		}
		return strings.Join(all, ", ")
	}
}

const jumperTask = `{"family":"f","networkMode":"awsvpc","requiresCompatibilities":["FARGATE"],"cpu":"256","memory":"512",
	"containerDefinitions":[{"name":"jumper","image":"example.com/jumper:1","command":["--listen",":8080"],"environment":[{"name":"RUN_TASK","value":"1"}],"portMappings":[{"containerPort":8443}]}]}`

func TestServiceRollsOver(t *testing.T) {
	t.Parallel()
	a := &account{t: t, d: startWithMoto(t, Options{Tasks: map[string]string{"example.com/jumper:1": os.Args[0]}}), clock: &testClock{now: time.Now()}}
	a.d.goBy(a.clock)
	a.key = a.d.Accounts().Customer.Credentials
	target, deployments := serviceOf(t, a, "", jumperTask)
	a.clock.pass(typical.StartTask)
	if got := deployments(); got != "PRIMARY f:1 2 of 2 COMPLETED" {
		t.Errorf("got %s, want tasks that run", got)
	}
	arns := func(status string) string {
		t.Helper()
		return fmt.Sprint(a.mustECS("ListTasks", `{"cluster":"c","serviceName":"s","desiredStatus":"`+status+`"}`)["taskArns"])
	}
	before := arns("RUNNING")
	targets := func() int { return strings.Count(a.elb("DescribeTargetHealth", "TargetGroupArn", target), "<Target>") }
	healthy := func() int {
		return strings.Count(a.elb("DescribeTargetHealth", "TargetGroupArn", target), "<State>healthy</State>")
	}

	// New tasks run beside the old ones, until they pass their health checks.
	a.mustECS("RegisterTaskDefinition", jumperTask)
	a.mustECS("UpdateService", `{"cluster":"c","service":"s","taskDefinition":"f"}`)
	if got := deployments(); got != "PRIMARY f:2 0 of 2 IN_PROGRESS, ACTIVE f:1 2 of 2 COMPLETED" {
		t.Errorf("got %s, want both deployments", got)
	}
	if got := targets(); got != 4 {
		t.Errorf("got %d targets, want the old and the new ones", got)
	}
	eventually(t, "four healthy targets", func() bool { return healthy() == 4 })
	a.clock.pass(typical.StartTask)
	if got := deployments(); got != "PRIMARY f:2 2 of 2 COMPLETED" {
		t.Errorf("got %s, want the new tasks alone", got)
	}
	if got := targets(); got != 2 {
		t.Errorf("got %d targets, want the new ones alone", got)
	}
	if got := arns("STOPPED"); !sameWords(got, before) {
		t.Errorf("got %s stopped, want %s", got, before)
	}
	var statuses []string
	for _, one := range list(a.mustECS("ListServiceDeployments", `{"cluster":"c","service":"s"}`)["serviceDeployments"]) {
		statuses = append(statuses, fmt.Sprint(one["status"]))
	}
	if got := strings.Join(statuses, " "); got != "SUCCESSFUL SUCCESSFUL" {
		t.Errorf("got service deployments %s, want both done", got)
	}

	// A task that is stopped is followed by another one, and shows why.
	var running struct{ TaskArns []string }
	if err := json.Unmarshal([]byte(asJSON(a.mustECS("ListTasks", `{"cluster":"c"}`))), &running); err != nil {
		t.Fatal(err)
	}
	stopped := running.TaskArns[0]
	a.mustECS("StopTask", fmt.Sprintf(`{"cluster":"c","task":%q,"reason":"it hangs"}`, stopped))
	if got := deployments(); got != "PRIMARY f:2 1 of 2 COMPLETED" {
		t.Errorf("got %s, want one that starts", got)
	}
	task := func() map[string]any {
		t.Helper()
		return list(a.mustECS("DescribeTasks", fmt.Sprintf(`{"cluster":"c","tasks":[%q]}`, stopped))["tasks"])[0]
	}
	eventually(t, "end of the task", func() bool { return task()["lastStatus"] == "STOPPED" })
	if got := task(); got["stoppedReason"] != "it hangs" || got["stopCode"] != "UserInitiated" || list(got["containers"])[0]["exitCode"] == nil {
		t.Errorf("got %v, want why it stopped", got)
	}

	a.mustECS("UpdateService", `{"cluster":"c","service":"s","desiredCount":0}`)
	if got := a.mustECS("DeleteService", `{"cluster":"c","service":"s"}`)["service"].(map[string]any)["status"]; got != "DRAINING" {
		t.Errorf("got the service %v, want it DRAINING", got)
	}
	if answer, status := a.ecs("UpdateService", `{"cluster":"c","service":"s","desiredCount":1}`); status != 400 || !strings.Contains(fmt.Sprint(answer["__type"]), "ServiceNotActiveException") {
		t.Errorf("got %d %v, want a service that is no more refused", status, answer)
	}
	if got := a.mustECS("ListServices", `{"cluster":"c"}`)["serviceArns"].([]any); len(got) != 0 {
		t.Errorf("got services %v, want none", got)
	}
	eventually(t, "end of the tasks", func() bool { _, status := a.ecs("DeleteCluster", `{"cluster":"c"}`); return status == 200 })
	if answer, status := a.ecs("CreateService", `{"cluster":"c","serviceName":"s","taskDefinition":"f","desiredCount":0}`); status != 400 || answer["message"] != "The referenced cluster was inactive." {
		t.Errorf("got %d %v, want a cluster that is no more refused", status, answer)
	}
}

func TestServiceGoesBack(t *testing.T) {
	t.Parallel()
	a := &account{t: t, d: startWithMoto(t, Options{Tasks: map[string]string{"example.com/jumper:1": os.Args[0], "example.com/broken:1": "/bin/false"}}), clock: &testClock{now: time.Now()}}
	a.d.goBy(a.clock)
	a.key = a.d.Accounts().Customer.Credentials
	_, deployments := serviceOf(t, a, `,"deploymentConfiguration":{"deploymentCircuitBreaker":{"enable":true,"rollback":true}}`, jumperTask)
	a.clock.pass(typical.StartTask)
	if got := deployments(); got != "PRIMARY f:1 2 of 2 COMPLETED" {
		t.Errorf("got %s, want tasks that run", got)
	}
	a.mustECS("RegisterTaskDefinition", strings.Replace(jumperTask, "jumper:1", "broken:1", 1))
	a.mustECS("UpdateService", `{"cluster":"c","service":"s","taskDefinition":"f:2"}`)
	eventually(t, "way back", func() bool { return deployments() == "PRIMARY f:1 2 of 2 COMPLETED" })
	service := list(a.mustECS("DescribeServices", `{"cluster":"c","services":["s"]}`)["services"])[0]
	if text := fmt.Sprint(service["events"]); !strings.Contains(text, "tasks failed to start") || !strings.Contains(text, "rolling back") || base(fmt.Sprint(service["taskDefinition"])) != "f:1" {
		t.Errorf("got %v of %v, want it told", text, service["taskDefinition"])
	}
	var statuses []string
	for _, one := range list(a.mustECS("ListServiceDeployments", `{"cluster":"c","service":"s"}`)["serviceDeployments"]) {
		statuses = append(statuses, fmt.Sprint(one["status"]))
	}
	if got := strings.Join(statuses, " "); got != "SUCCESSFUL STOPPED" {
		t.Errorf("got service deployments %s, want the broken one stopped", got)
	}
}

// sameWords says whether two lists have the same in them, in any order.
func sameWords(a, b string) bool {
	words := func(text string) []string {
		return slices.Sorted(slices.Values(strings.Fields(strings.Trim(text, "[]"))))
	}
	return slices.Equal(words(a), words(b))
}
