package awsdouble

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
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
