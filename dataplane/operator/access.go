package operator

import (
	"fmt"
	"regexp"
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

// rule lets calls through whose path is its own, or where that ends with a slash or
// a dot, below it.
type rule struct {
	path string
	to   destination
}

func (r rule) fits(path string) bool {
	if strings.HasSuffix(r.path, "/") || strings.HasSuffix(r.path, ".") {
		return strings.HasPrefix(path, r.path)
	}
	return path == r.path
}

// procedure is the path of a call, and nothing else gets through: what a server
// behind us might read otherwise than we do is nobody's call.
var procedure = regexp.MustCompile(`^/[A-Za-z0-9_.]+/[A-Za-z0-9_]+$`)

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
	known := procedure.MatchString(path)
	for _, rule := range rules {
		if known && rule.fits(path) {
			return rule.to, nil
		}
	}
	if len(path) > maxSentence {
		path = path[:maxSentence]
	}
	name := strings.ToValidUTF8(strings.TrimPrefix(path, "/"), "")
	if known && rules != nil && strings.HasPrefix(name, "flyteidl2.") {
		return 0, connect.NewError(connect.CodeUnimplemented, fmt.Errorf("%s cannot be called from inside the cluster", name))
	}
	return 0, connect.NewError(connect.CodePermissionDenied, fmt.Errorf("the service account %s may not call %s", caller.Name(), name))
}
