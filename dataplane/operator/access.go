package operator

import (
	"fmt"
	"strings"

	"connectrpc.com/connect"

	"biplane.dev/biplane/dataplane/internal/authn"
)

// destination is where a call goes.
type destination int

const (
	toHere destination = iota + 1
	toExecutor
	toProxy
	toControlPlane
)

// Service accounts of the processes, in the data plane's namespace.
const (
	operatorAccount = "operator-system"
	executorAccount = "executor"
	proxyAccount    = "proxy-system"
)

// rule lets calls through whose path begins with a prefix.
type rule struct {
	prefix string
	to     destination
}

// ofTasks is what a task's pod may call: it is a client of its own workspace, to
// which the control plane, the executor and the proxy keep it. The first rule that
// fits counts.
var ofTasks = []rule{
	{"/flyteidl2.actions.ActionsService/", toExecutor},
	{"/flyteidl2.cluster.ClusterService/SelectCluster", toHere},
	{"/flyteidl2.dataproxy.DataProxyService/CreateUploadLocation", toControlPlane}, // signed by flyteadmin's role
	{"/flyteidl2.dataproxy.DataProxyService/", toProxy},
	{"/flyteidl2.workflow.RunService/", toControlPlane},
	{"/flyteidl2.task.TaskService/", toControlPlane},
	{"/flyteidl2.project.ProjectService/GetProject", toControlPlane},
	{"/flyteidl2.project.ProjectService/ListProjects", toControlPlane},
	{"/flyteidl2.auth.", toControlPlane},
}

// ofProcess is what one of our own may call, by its service account.
func ofProcess(account string) []rule {
	switch account {
	case executorAccount:
		return []rule{
			{"/biplane.tunnel.v1.LinkService/GetPosition", toControlPlane},
			{"/biplane.tunnel.v1.LinkService/ReportStates", toControlPlane},
			{"/biplane.tunnel.v1.LinkService/RecordTaskSpecs", toControlPlane},
		}
	case proxyAccount:
		return []rule{
			{"/biplane.tunnel.v1.LinkService/SignUpload", toControlPlane},
			{"/flyteidl2.task.TaskService/GetTaskDetails", toControlPlane},
			{"/flyteidl2.workflow.RunService/GetRunDetails", toControlPlane},
			{"/flyteidl2.workflow.RunService/GetActionDetails", toControlPlane},
			{"/flyteidl2.workflow.RunService/GetActionDataURIs", toControlPlane},
			{"/flyteidl2.workflow.RunService/GetActionLogContext", toControlPlane},
		}
	}
	return nil
}

// allow says where a call goes, or that it may not be made. Flyte's SDK takes
// UNIMPLEMENTED for "do without it", so that is what a task reads of the services of
// Flyte's that no task can call here.
func allow(rules []rule, caller authn.Caller, path string) (destination, error) {
	for _, rule := range rules {
		if strings.HasPrefix(path, rule.prefix) {
			return rule.to, nil
		}
	}
	if len(path) > maxSentence {
		path = path[:maxSentence]
	}
	procedure := strings.ToValidUTF8(strings.TrimPrefix(path, "/"), "")
	if rules != nil && strings.HasPrefix(procedure, "flyteidl2.") {
		return 0, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("%s cannot be called from inside the cluster", procedure))
	}
	return 0, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the service account %s may not call %s", caller.Name(), procedure))
}
