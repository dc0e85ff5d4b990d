package server

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/refusal"
)

// What may be called through a tunnel. A task's pod is a client of its own
// workspace, kept to it by package scope. Of a data plane's own processes the
// proxy alone has to ask for what it does not know.
var (
	ofTasks = []string{
		"/flyteidl2.workflow.RunService/",
		"/flyteidl2.task.TaskService/",
		"/flyteidl2.cluster.ClusterService/",
		"/flyteidl2.dataproxy.DataProxyService/",
		"/flyteidl2.project.ProjectService/GetProject",
		"/flyteidl2.project.ProjectService/ListProjects",
		"/flyteidl2.auth.",
	}
	ofProxy = []string{
		"/flyteidl2.task.TaskService/GetTaskDetails",
		"/flyteidl2.workflow.RunService/GetRunDetails",
		"/flyteidl2.workflow.RunService/GetActionDetails",
		"/flyteidl2.workflow.RunService/GetActionDataURIs",
		"/flyteidl2.workflow.RunService/GetActionLogContext",
	}
)

// allow refuses what a data plane may not call. Clients may call all there is.
func allow(ctx context.Context, procedure string) error {
	from, ok := caller.From(ctx)
	if !ok {
		return nil
	}
	_, account, _ := strings.Cut(from.ServiceAccount, "/")
	var may []string
	switch {
	case from.Workspace != nil:
		may = ofTasks
	case account == "proxy-system":
		may = ofProxy
	}
	for _, prefix := range may {
		if strings.HasPrefix(procedure, prefix) {
			return nil
		}
	}
	return refusal.New(connect.CodePermissionDenied, "%s of the cluster %q may not call %s",
		from.ServiceAccount, from.Cluster, strings.TrimPrefix(procedure, "/"))
}
