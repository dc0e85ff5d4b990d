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
)

// taskDefinition is what is read of one.
type taskDefinition struct {
	ARN         string `json:"taskDefinitionArn"`
	Status      string `json:"status"`
	NetworkMode string `json:"networkMode"`
	Containers  []struct {
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
	if err := d.tasks.settle(ctx); err != nil {
		return nil, err
	}
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
		if err := d.serviceFits(ctx, c); err != nil {
			return nil, err
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
		if err != nil || answer.StatusCode >= 300 || s == nil {
			return answer, err
		}
		if err := d.tasks.remove(ctx, s); err != nil {
			return nil, err
		}
		return editJSON(answer, func(root map[string]any) error {
			if shown, ok := root["service"].(map[string]any); ok {
				shown["status"] = "DRAINING" // and INACTIVE, when somebody looks
			}
			return nil
		})
	case "DeleteCluster":
		for _, s := range d.tasks.services {
			if s.at == c.place() && base(s.cluster) == base(c.params.one("cluster")) {
				return nil, ecsError("ClusterContainsServicesException", "The Cluster cannot be deleted while Services are active.")
			}
		}
		for _, task := range d.tasks.stopped {
			if task.of.at == c.place() && base(task.of.cluster) == base(c.params.one("cluster")) && task.process.alive() {
				return nil, ecsError("ClusterContainsTasksException", "The Cluster cannot be deleted while Tasks are active.")
			}
		}
	case "ListServices": // which moto shows when they are INACTIVE, too
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return editJSON(answer, func(root map[string]any) error {
			arns, _ := root["serviceArns"].([]any)
			root["serviceArns"] = slices.DeleteFunc(arns, func(arn any) bool { return d.tasks.services[fmt.Sprint(arn)] == nil })
			return nil
		})
	case "ListClusters": // which moto shows when they are INACTIVE, too
		answer, err := d.forward(ctx, c)
		if err != nil {
			return nil, err
		}
		return editJSON(answer, func(root map[string]any) error { return d.activeClusters(ctx, c, root) })
	case "ListTasks":
		arns := []string{}
		for _, task := range d.tasks.listed(c.params.one("desiredStatus") == "STOPPED") {
			if s := task.of; s.at == c.place() && base(s.cluster) == clusterOf(c) && (c.params.one("serviceName") == "" || base(c.params.one("serviceName")) == s.name) &&
				(c.params.one("family") == "" || strings.HasPrefix(base(task.deployment.definition), c.params.one("family")+":")) {
				arns = append(arns, task.arn)
			}
		}
		slices.Sort(arns)
		return inJSON(map[string]any{"taskArns": arns}), nil
	case "DescribeTasks":
		tasks, failures := []any{}, []any{}
		for _, id := range c.params.all("tasks.*") {
			if task := d.tasks.task(c, id); task != nil {
				tasks = append(tasks, d.tasks.shown(task))
			} else {
				failures = append(failures, map[string]any{"arn": id, "reason": "MISSING"})
			}
		}
		return inJSON(map[string]any{"tasks": tasks, "failures": failures}), nil
	case "StopTask":
		task := d.tasks.task(c, c.params.one("task"))
		if task == nil {
			return nil, ecsError("InvalidParameterException", "The referenced task was not found.")
		}
		reason := c.params.one("reason")
		if reason == "" {
			reason = "Task stopped by user"
		}
		if err := d.tasks.end(ctx, task, "UserInitiated", reason); err != nil {
			return nil, err
		}
		return inJSON(map[string]any{"task": d.tasks.shown(task)}), d.tasks.scale(ctx, task.of) // which starts another one
	case "ListServiceDeployments":
		s := d.tasks.service(c, c.params.one("service"))
		if s == nil {
			return nil, ecsError("ServiceNotFoundException", "Service not found.")
		}
		return inJSON(map[string]any{"serviceDeployments": d.tasks.deploymentsOf(s)}), nil
	case "DescribeServiceDeployments":
		found := []any{}
		for _, s := range d.tasks.services {
			for _, one := range d.tasks.deploymentsOf(s) {
				if s.at == c.place() && slices.Contains(c.params.all("serviceDeploymentArns.*"), one["serviceDeploymentArn"].(string)) {
					found = append(found, one)
				}
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

func (t *tasks) task(c *call, id string) *ecsTask {
	for _, task := range append(t.listed(false), t.stopped...) {
		if task.of.at == c.place() && (task.arn == id || base(task.arn) == id) {
			return task
		}
	}
	return nil
}

// listed are the tasks that shall run, or those that shall not any more.
func (t *tasks) listed(stopped bool) []*ecsTask {
	if stopped {
		return t.stopped
	}
	var all []*ecsTask
	for _, s := range t.services {
		all = append(all, s.tasks...)
	}
	return all
}

// serviceFits refuses what moto takes for a service: a cluster, a service or a task
// definition that is no more, and no network for tasks that need one.
func (d *Double) serviceFits(ctx context.Context, c *call) error {
	ask := func(operation string, input map[string]any, answer any) (found bool, err error) {
		status, text, err := d.world.send(ctx, c.Account, c.Region, want{service: "ecs", operation: operation, target: "AmazonEC2ContainerServiceV20141113", json: input})
		if err != nil || status >= 300 {
			return false, err
		}
		return true, json.Unmarshal(text, answer)
	}
	var clusters struct{ Clusters []struct{ Status string } }
	if found, err := ask("DescribeClusters", map[string]any{"clusters": []string{clusterOf(c)}}, &clusters); err != nil {
		return err
	} else if found && len(clusters.Clusters) == 1 && clusters.Clusters[0].Status == "INACTIVE" {
		return ecsError("ClientException", "The referenced cluster was inactive.")
	}
	if c.Operation == "UpdateService" && d.tasks.service(c, base(c.params.one("service"))) == nil {
		var services struct{ Services []struct{ Status string } }
		if found, err := ask("DescribeServices", map[string]any{"cluster": clusterOf(c), "services": []string{base(c.params.one("service"))}}, &services); err != nil {
			return err
		} else if found && len(services.Services) == 1 {
			return ecsError("ServiceNotActiveException", "Service was not ACTIVE.")
		}
		return nil // moto says so
	}
	named := c.params.one("taskDefinition")
	if named == "" {
		return nil
	}
	var answer struct {
		Definition taskDefinition `json:"taskDefinition"`
	}
	found, err := ask("DescribeTaskDefinition", map[string]any{"taskDefinition": named}, &answer)
	switch {
	case err != nil:
		return err
	case !found:
		return ecsError("ClientException", "TaskDefinition not found.")
	case answer.Definition.Status == "INACTIVE":
		return ecsError("ClientException", "TaskDefinition is inactive")
	case c.Operation == "CreateService" && answer.Definition.NetworkMode == "awsvpc" && len(c.params.all("networkConfiguration.awsvpcConfiguration.subnets.*")) == 0:
		return ecsError("InvalidParameterException", "Network Configuration must be provided when networkMode 'awsvpc' is specified.")
	}
	return nil
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
	t.stopped = nil
}
