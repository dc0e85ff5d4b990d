package controlplane_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/biplane/cluster/v1/clusterv1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster/clusterconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/project/projectconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/task/taskconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
)

func timestampOf(at time.Time) *timestamppb.Timestamp { return timestamppb.New(at) }

func TestProjects(t *testing.T) { onBoth(t, testProjects) }

func testProjects(t *testing.T, db database) {
	w := newWorld(t, db, "")
	create := func(p *project.Project) error {
		_, err := w.projects().CreateProject(t.Context(), &project.CreateProjectRequest{Project: p})
		return err
	}
	if err := create(&project.Project{Id: "demo", Description: "first"}); err != nil {
		t.Fatal(err)
	}

	t.Run("fills in what was left out", func(t *testing.T) {
		got, err := w.projects().GetProject(t.Context(), &project.GetProjectRequest{Id: "demo"})
		if err != nil {
			t.Fatal(err)
		}
		if p := got.Project; p.Name != "demo" || p.Org != "default" || len(p.Domains) != 3 {
			t.Errorf("got %v, want name, organization and domains", p)
		}
	})
	t.Run("takes a name once", func(t *testing.T) {
		refused(t, create(&project.Project{Id: "demo"}), connect.CodeAlreadyExists, "demo")
	})
	t.Run("refuses names that no namespace could have", func(t *testing.T) {
		refused(t, create(&project.Project{Id: strings.Repeat("p", 52)}), connect.CodeInvalidArgument, "at most 51")
		refused(t, create(&project.Project{Id: "Upper"}), connect.CodeInvalidArgument, "lower-case")
		refused(t, create(&project.Project{}), connect.CodeInvalidArgument, "not given")
	})
	t.Run("archives, so that no run begins there", func(t *testing.T) {
		if _, err := w.projects().UpdateProject(t.Context(), &project.UpdateProjectRequest{Project: &project.Project{Id: "demo", State: project.ProjectState_PROJECT_STATE_ARCHIVED}}); err != nil {
			t.Fatal(err)
		}
		_, err := w.tasks().DeployTask(t.Context(), &task.DeployTaskRequest{TaskId: &task.TaskIdentifier{Project: "demo", Domain: "development", Name: "a.b", Version: "v1"}, Spec: spec("a.b")})
		refused(t, err, connect.CodeFailedPrecondition, "flyte update project demo --unarchive")
	})
	t.Run("keeps domains as they are", func(t *testing.T) {
		_, err := w.projects().UpdateProject(t.Context(), &project.UpdateProjectRequest{Project: &project.Project{Id: "demo", Domains: []*project.Domain{{Id: "x"}}}})
		refused(t, err, connect.CodeInvalidArgument, "domains")
	})
	t.Run("lists by the filters that the SDK writes", func(t *testing.T) {
		for filters, want := range map[string]int{
			"": 2, "eq(state, 0)": 1, "eq(state, 1)": 1, "value_in(state, 0;1)": 2, "eq(name,demo)+eq(state, 1)": 1, "contains(name, snacks)": 1,
		} {
			got, err := w.projects().ListProjects(t.Context(), &project.ListProjectsRequest{Filters: filters, Limit: 100})
			if err != nil {
				t.Errorf("got %v for %q", err, filters)
			} else if len(got.Projects.Projects) != want {
				t.Errorf("got %d for %q, want %d", len(got.Projects.Projects), filters, want)
			}
		}
		_, err := w.projects().ListProjects(t.Context(), &project.ListProjectsRequest{Filters: "drop table"})
		refused(t, err, connect.CodeInvalidArgument, "eq(state, 0)")
	})
}

func TestTasks(t *testing.T) { onBoth(t, testTasks) }

func testTasks(t *testing.T, db database) {
	w := newWorld(t, db, "")
	id := func(name, version string) *task.TaskIdentifier {
		return &task.TaskIdentifier{Project: "flytesnacks", Domain: "development", Name: name, Version: version}
	}
	deploy := func(id *task.TaskIdentifier) error {
		_, err := w.tasks().DeployTask(t.Context(), &task.DeployTaskRequest{TaskId: id, Spec: spec(id.Name)})
		return err
	}
	for _, version := range []string{"v1", "v2", "v2"} { // the last changes nothing
		if err := deploy(id("hello.main", version)); err != nil {
			t.Fatal(err)
		}
	}
	t.Run("reads a version, which says whose it is", func(t *testing.T) {
		got, err := w.tasks().GetTaskDetails(t.Context(), &task.GetTaskDetailsRequest{TaskId: id("hello.main", "v1")})
		if err != nil {
			t.Fatal(err)
		}
		if d := got.Details; d.TaskId.Org != "default" || d.Spec.TaskTemplate.Id.Project != "flytesnacks" || d.Metadata.EnvironmentName != "hello" {
			t.Errorf("got %v, want the whole task", d)
		}
	})
	t.Run("lists one row for each name, the latest", func(t *testing.T) {
		got, err := w.tasks().ListTasks(t.Context(), &task.ListTasksRequest{
			//lint:ignore SA1019 clients still send it
			Request: &common.ListRequest{Limit: 1, SortBy: &common.Sort{Key: "created_at"}, Filters: []*common.Filter{{Field: "name", Values: []string{"hello.main"}}}},
			ScopeBy: &task.ListTasksRequest_ProjectId{ProjectId: flytesnacks},
		})
		if err != nil {
			t.Fatal(err)
		}
		if len(got.Tasks) != 1 || got.Tasks[0].TaskId.Version != "v2" {
			t.Errorf("got %v, want v2 alone", got.Tasks)
		}
		versions, err := w.tasks().ListVersions(t.Context(), &task.ListVersionsRequest{TaskName: &task.TaskName{Project: "flytesnacks", Domain: "development", Name: "hello.main"}})
		if err != nil || len(versions.Versions) != 2 {
			t.Errorf("got %v, %v, want both versions", versions, err)
		}
	})
	t.Run("lists by what is known of tasks", func(t *testing.T) {
		entry := spec("entry.main")
		entry.TaskTemplate.Metadata.IsEntrypoint = true
		if _, err := w.tasks().DeployTask(t.Context(), &task.DeployTaskRequest{TaskId: id("entry.main", "v1"), Spec: entry}); err != nil {
			t.Fatal(err)
		}
		known := func(is bool) *task.ListTasksRequest_KnownFilter {
			return &task.ListTasksRequest_KnownFilter{FilterBy: &task.ListTasksRequest_KnownFilter_IsEntrypoint{IsEntrypoint: is}}
		}
		by := &task.ListTasksRequest_KnownFilter{FilterBy: &task.ListTasksRequest_KnownFilter_DeployedBy{DeployedBy: "ada"}}
		for name, c := range map[string]struct {
			request *task.ListTasksRequest
			want    string
		}{
			"entrypoints":             {&task.ListTasksRequest{KnownFilters: []*task.ListTasksRequest_KnownFilter{known(true)}}, "entry.main"},
			"others":                  {&task.ListTasksRequest{KnownFilters: []*task.ListTasksRequest_KnownFilter{known(false)}}, "hello.main"},
			"somebody's":              {&task.ListTasksRequest{KnownFilters: []*task.ListTasksRequest_KnownFilter{by}}, ""},
			"those of an environment": {&task.ListTasksRequest{Request: &common.ListRequest{Limit: 1000, Filters: []*common.Filter{{Function: common.Filter_CONTAINS, Field: "name", Values: []string{"entry."}}}}}, "entry.main"},
			"the organization's":      {&task.ListTasksRequest{ScopeBy: &task.ListTasksRequest_Org{Org: "default"}, Request: &common.ListRequest{SortByFields: []*common.Sort{{Key: "name", Direction: common.Sort_ASCENDING}}}}, "entry.main hello.main"},
		} {
			if c.request.ScopeBy == nil {
				c.request.ScopeBy = &task.ListTasksRequest_ProjectId{ProjectId: flytesnacks}
			}
			got, err := w.tasks().ListTasks(t.Context(), c.request)
			var found []string
			for _, t := range got.GetTasks() {
				found = append(found, t.GetTaskId().GetName())
			}
			if err != nil || strings.Join(found, " ") != c.want {
				t.Errorf("got %v, %v for %s, want %q", found, err, name, c.want)
			}
		}
		_, err := w.tasks().ListVersions(t.Context(), &task.ListVersionsRequest{TaskName: &task.TaskName{Project: "flytesnacks", Domain: "development", Name: "hello.main"},
			Request: &common.ListRequest{Filters: []*common.Filter{{Field: "colour", Values: []string{"red"}}}}})
		refused(t, err, connect.CodeInvalidArgument, "colour")
	})
	t.Run("refuses what it cannot keep", func(t *testing.T) {
		refused(t, deploy(id("hello.main", strings.Repeat("v", 64))), connect.CodeInvalidArgument, "at most 63")
		refused(t, deploy(id(strings.Repeat("n", 256), "v1")), connect.CodeInvalidArgument, "at most 255")
		refused(t, deploy(&task.TaskIdentifier{Project: "nope", Domain: "development", Name: "a", Version: "v"}), connect.CodeNotFound, "flyte create project")
		_, err := w.tasks().DeployTask(t.Context(), &task.DeployTaskRequest{TaskId: id("a", "v"), Spec: spec("a"), Triggers: []*task.TaskTrigger{{Name: "daily"}}})
		refused(t, err, connect.CodeUnimplemented, "triggers")
		large := spec("hello.large")
		large.TaskTemplate.GetContainer().Args = []string{strings.Repeat("x", 5<<20)}
		_, err = w.tasks().DeployTask(t.Context(), &task.DeployTaskRequest{TaskId: id("hello.large", "v"), Spec: large})
		refused(t, err, connect.CodeInvalidArgument, "may have 1048576")
	})
}

func TestClusters(t *testing.T) { onBoth(t, testClusters) }

func testClusters(t *testing.T, db database) {
	w := newWorld(t, db, "api:\n  listen: 127.0.0.1:0\n  dataPlane: direct\n")
	selector := clusterconnect.NewClusterServiceClient(w.client, w.url)
	ask := func(operation cluster.SelectClusterRequest_Operation) (*cluster.SelectClusterResponse, error) {
		return selector.SelectCluster(t.Context(), &cluster.SelectClusterRequest{Operation: operation, Resource: &cluster.SelectClusterRequest_ProjectId{ProjectId: flytesnacks}})
	}
	uploadInputs := cluster.SelectClusterRequest_OPERATION_UPLOAD_INPUTS

	t.Run("says that there is none", func(t *testing.T) {
		_, err := ask(uploadInputs)
		refused(t, err, connect.CodeFailedPrecondition, "no cluster is joined")
		if got, err := ask(cluster.SelectClusterRequest_OPERATION_CREATE_UPLOAD_LOCATION); err != nil || got.ClusterEndpoint != "" {
			t.Errorf("got %v, %v, want this server", got, err)
		}
	})
	plane := w.join("east")
	var west *dataPlane
	t.Run("shows one that has joined", func(t *testing.T) {
		c := w.listened("east")
		if c.State != clusterv1.ClusterState_CLUSTER_STATE_READY || c.Version != "test" || !strings.HasPrefix(c.ProxyEndpoint, "https://localhost:") {
			t.Errorf("got %v, want it ready, with an endpoint", c)
		}
		_, err := w.clusters().AddCluster(t.Context(), &clusterv1.AddClusterRequest{Name: "east"})
		refused(t, err, connect.CodeAlreadyExists, "has joined already")
	})
	t.Run("sends clients to its proxy", func(t *testing.T) {
		got, err := ask(uploadInputs)
		if err != nil || !strings.HasPrefix(got.ClusterEndpoint, "https://localhost:") || got.Cluster != "east" {
			t.Errorf("got %v, %v, want the relay's port", got, err)
		}
		_, err = selector.SelectCluster(t.Context(), &cluster.SelectClusterRequest{Operation: cluster.SelectClusterRequest_OPERATION_TAIL_LOGS,
			Resource: &cluster.SelectClusterRequest_ActionId{ActionId: &common.ActionIdentifier{Run: &common.RunIdentifier{Project: "flytesnacks", Domain: "development", Name: "gone"}, Name: "a0"}}})
		if connect.CodeOf(err) != connect.CodeNotFound {
			t.Errorf("got %v, want NOT_FOUND", err)
		}
	})
	t.Run("gives a draining one no new runs, and says how to undo it", func(t *testing.T) {
		if _, err := w.clusters().DrainCluster(t.Context(), &clusterv1.DrainClusterRequest{Name: "east"}); err != nil {
			t.Fatal(err)
		}
		_, err := ask(uploadInputs)
		refused(t, err, connect.CodeFailedPrecondition, "drain --undo")
		if _, err := w.clusters().DrainCluster(t.Context(), &clusterv1.DrainClusterRequest{Name: "east", Undrain: true}); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("prefers the one that the queue names, then that of the project's name", func(t *testing.T) {
		west = w.join("west")
		w.create(&workflow.CreateRunRequest{RunSpec: &task.RunSpec{Queue: "west"}})
		wait(t, west.enqueued)
		w.create(&workflow.CreateRunRequest{})
		wait(t, plane.enqueued)
		if _, err := w.projects().CreateProject(t.Context(), &project.CreateProjectRequest{Project: &project.Project{Id: "west"}}); err != nil {
			t.Fatal(err)
		}
		w.create(&workflow.CreateRunRequest{Id: &workflow.CreateRunRequest_ProjectId{ProjectId: &common.ProjectIdentifier{Name: "west", Domain: "staging"}}})
		wait(t, west.enqueued)
	})
	t.Run("recovers a run where it ran", func(t *testing.T) {
		ran := w.create(&workflow.CreateRunRequest{RunSpec: &task.RunSpec{Queue: "west"}}).Action.Id.Run
		wait(t, west.enqueued)
		recover := func(queue string) *task.RunSpec {
			return &task.RunSpec{Queue: queue, Relation: &common.Relation{RelationType: common.RelationType_RELATION_TYPE_RECOVER, RelatedTo: ran}}
		}
		w.create(&workflow.CreateRunRequest{RunSpec: recover("")})
		if got := wait(t, west.enqueued).RunSpec.GetRelation().GetRelatedTo().GetName(); got != ran.Name {
			t.Errorf("got %q, want %q", got, ran.Name)
		}
		_, err := w.runs().CreateRun(t.Context(), &workflow.CreateRunRequest{
			Id: &workflow.CreateRunRequest_ProjectId{ProjectId: flytesnacks}, Task: withSpec(spec("hello.main")), RunSpec: recover("east")})
		refused(t, err, connect.CodeInvalidArgument, `ran on the cluster "west"`)
	})
	t.Run("keeps one with runs, unless it is forced", func(t *testing.T) {
		_, err := w.clusters().RemoveCluster(t.Context(), &clusterv1.RemoveClusterRequest{Name: "west"})
		if connect.CodeOf(err) != connect.CodeFailedPrecondition {
			t.Errorf("got %v, want FAILED_PRECONDITION", err)
		}
		if _, err := w.clusters().RemoveCluster(t.Context(), &clusterv1.RemoveClusterRequest{Name: "west", Force: true}); err != nil {
			t.Fatal(err)
		}
		_, err = w.clusters().GetCluster(t.Context(), &clusterv1.GetClusterRequest{Name: "west"})
		refused(t, err, connect.CodeNotFound, "biplane cluster add west")
	})
	t.Run("refuses a name that is none", func(t *testing.T) {
		_, err := w.clusters().AddCluster(t.Context(), &clusterv1.AddClusterRequest{Name: "No!"})
		refused(t, err, connect.CodeInvalidArgument, "lower-case")
	})
}

func TestDataProxy(t *testing.T) { onBoth(t, testDataProxy) }

func testDataProxy(t *testing.T, db database) {
	w := newWorld(t, db, "") // without TLS, so calls are relayed
	plane := w.join("east")
	id := w.create(&workflow.CreateRunRequest{}).Action.Id

	t.Run("is this server where calls are relayed", func(t *testing.T) {
		got, err := clusterconnect.NewClusterServiceClient(w.client, w.url).SelectCluster(t.Context(), &cluster.SelectClusterRequest{
			Operation: cluster.SelectClusterRequest_OPERATION_GET_ACTION_DATA, Resource: &cluster.SelectClusterRequest_ActionId{ActionId: id}})
		if err != nil || got.ClusterEndpoint != "" {
			t.Errorf("got %v, %v, want this server", got, err)
		}
	})
	t.Run("passes calls on, with the organization", func(t *testing.T) {
		without := &common.ActionIdentifier{Run: &common.RunIdentifier{Project: "flytesnacks", Domain: "development", Name: id.Run.Name}, Name: "a0"}
		got, err := w.data().GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: without})
		if err != nil || got.InputsUri != "default" {
			t.Errorf("got %v, %v, want the organization", got, err)
		}
		if _, err := w.data().UploadInputs(t.Context(), &dataproxy.UploadInputsRequest{Id: &dataproxy.UploadInputsRequest_ProjectId{ProjectId: flytesnacks}}); err != nil {
			t.Error(err)
		}
		wait(t, plane.uploads)
	})
	t.Run("passes lines on as they come", func(t *testing.T) {
		stream, err := w.data().TailLogs(t.Context(), &dataproxy.TailLogsRequest{ActionId: id, Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		lines := 0
		for stream.Receive() {
			lines++
		}
		if lines != 3 || stream.Err() != nil {
			t.Errorf("got %d lines, %v, want 3", lines, stream.Err())
		}
	})
	t.Run("passes a refusal on as it was", func(t *testing.T) {
		_, err := w.data().CreateDownloadLink(t.Context(), &dataproxy.CreateDownloadLinkRequest{Source: &dataproxy.CreateDownloadLinkRequest_ActionAttemptId{
			ActionAttemptId: &common.ActionAttemptIdentifier{ActionId: id, Attempt: 1}}})
		refused(t, err, connect.CodeNotFound, "has no such thing")
	})
	t.Run("passes actions on, and never says CANCELED to a client that is there", func(t *testing.T) {
		client := actionsconnect.NewActionsServiceClient(w.client, w.url, connect.WithGRPC())
		stream, err := client.WatchForUpdates(t.Context(), &actions.WatchForUpdatesRequest{Filter: &actions.WatchForUpdatesRequest_ParentActionId{ParentActionId: id}})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if !stream.Receive() || !stream.Msg().GetControlMessage().GetSentinel() {
			t.Errorf("got %v, want the sentinel", stream.Msg())
		}
		stream.Receive()
		refused(t, stream.Err(), connect.CodeUnavailable, "")
	})
	t.Run("signs nothing without an issuer, and nothing out of its folder", func(t *testing.T) {
		_, err := w.data().CreateUploadLocation(t.Context(), &dataproxy.CreateUploadLocationRequest{Project: "flytesnacks", Domain: "development", Filename: "a"})
		refused(t, err, connect.CodeFailedPrecondition, "issuer.url")
		_, err = w.data().CreateUploadLocation(t.Context(), &dataproxy.CreateUploadLocationRequest{Project: "flytesnacks", Domain: "development", Filename: "../../a"})
		refused(t, err, connect.CodeInvalidArgument, "filename")
		_, err = w.data().CreateUploadLocation(t.Context(), &dataproxy.CreateUploadLocationRequest{Project: "flytesnacks", Domain: "development", Filename: "a", ContentLength: 6 << 30})
		refused(t, err, connect.CodeInvalidArgument, "content_length")
		_, err = w.data().CreateUploadLocation(t.Context(), &dataproxy.CreateUploadLocationRequest{Project: "nope", Domain: "development", Filename: "a"})
		refused(t, err, connect.CodeNotFound, "flyte create project")
	})
	t.Run("says that a data plane cannot be reached", func(t *testing.T) {
		plane.leave()
		_, err := w.data().GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: id})
		refused(t, err, connect.CodeUnavailable, `"east" cannot be reached now`)
	})
}

// TestCallers is about calls that come up a tunnel.
func TestCallers(t *testing.T) { onBoth(t, testCallers) }

func testCallers(t *testing.T, db database) {
	w := newWorld(t, db, "organizations: [default, other]\n")
	plane := w.joinOf("default", "east")
	pod := plane.client("flytesnacks-development/default", "flytesnacks", "development")
	const url = "http://controlplane"

	t.Run("lets a task make runs in its own workspace, and belong to its organization", func(t *testing.T) {
		got, err := workflowconnect.NewRunServiceClient(pod, url).CreateRun(t.Context(), &workflow.CreateRunRequest{
			Id: &workflow.CreateRunRequest_ProjectId{ProjectId: flytesnacks}, Task: withSpec(spec("hello.main")),
			InputWrapper: &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/x", InputsHash: "h"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if got, want := got.Run.Action.Id.Run.Org, "default"; got != want {
			t.Errorf("got organization %q, want %q", got, want)
		}
		if got := got.Run.Action.Metadata.GetExecutedBy().GetApplication().GetId().GetSubject(); got != "flytesnacks-development/default" {
			t.Errorf("got %q as who ran it, want the pod's account", got)
		}
	})
	for name, call := range map[string]func(*http.Client) error{
		"keeps a task from another workspace": func(c *http.Client) error {
			_, err := workflowconnect.NewRunServiceClient(c, url).ListRuns(t.Context(), &workflow.ListRunsRequest{ScopeBy: &workflow.ListRunsRequest_ProjectId{
				ProjectId: &common.ProjectIdentifier{Name: "flytesnacks", Domain: "production"}}})
			return err
		},
		"keeps a task from another organization": func(c *http.Client) error {
			_, err := workflowconnect.NewRunServiceClient(c, url).GetRunDetails(t.Context(), &workflow.GetRunDetailsRequest{
				RunId: &common.RunIdentifier{Org: "other", Project: "flytesnacks", Domain: "development", Name: "r"}})
			return err
		},
		"keeps a task from making projects": func(c *http.Client) error {
			_, err := projectconnect.NewProjectServiceClient(c, url).CreateProject(t.Context(), &project.CreateProjectRequest{Project: &project.Project{Id: "x"}})
			return err
		},
		"keeps a task from data planes": func(c *http.Client) error {
			_, err := clusterv1connect.NewClusterServiceClient(c, url).ListClusters(t.Context(), &clusterv1.ListClustersRequest{})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, call(pod), connect.CodePermissionDenied, "")
		})
	}
	t.Run("lets the proxy read tasks, and make nothing", func(t *testing.T) {
		proxy := plane.client("union/proxy-system", "", "")
		_, err := taskconnect.NewTaskServiceClient(proxy, url).GetTaskDetails(t.Context(), &task.GetTaskDetailsRequest{
			TaskId: &task.TaskIdentifier{Project: "flytesnacks", Domain: "development", Name: "a.b", Version: "v"}})
		refused(t, err, connect.CodeNotFound, "")
		_, err = taskconnect.NewTaskServiceClient(proxy, url).DeployTask(t.Context(), &task.DeployTaskRequest{})
		refused(t, err, connect.CodePermissionDenied, "proxy-system")
	})
	t.Run("sends a task by its operator, whatever the configuration says", func(t *testing.T) {
		got, err := clusterconnect.NewClusterServiceClient(pod, url).SelectCluster(t.Context(), &cluster.SelectClusterRequest{
			Operation: cluster.SelectClusterRequest_OPERATION_UPLOAD_INPUTS, Resource: &cluster.SelectClusterRequest_ProjectId{ProjectId: flytesnacks}})
		if err != nil || got.ClusterEndpoint != "" {
			t.Errorf("got %v, %v, want where it called", got, err)
		}
	})
}
