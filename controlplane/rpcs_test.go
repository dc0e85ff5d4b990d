package controlplane_test

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
	"google.golang.org/protobuf/types/known/emptypb"

	dataplanev1 "biplane.dev/biplane/api/gen/biplane/dataplane/v1"
	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/auth"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// rpcs is every call of Flyte's clients and services: which service's, by whom it
// is called, and how much depends on it (P0: nothing runs without it).
//
//go:embed testdata/flyte2-rpcs.tsv
var rpcs string

// served are the calls that must do what they are for. Every other one of the
// table must say that it is not served, and what there is instead.
func served(w *world, plane *dataPlane) map[string]call {
	id := w.create(&workflow.CreateRunRequest{}).Action.Id
	wait(w.t, plane.enqueued)
	approval := &common.ActionIdentifier{Run: id.Run, Name: "approval"}
	child := &common.ActionIdentifier{Run: id.Run, Name: "child"}
	logs := state(id.Run, 1, running)
	logs.Attempts[0].LogContext = &core.LogContext{PrimaryPodName: "pod"}
	plane.report(logs, &tunnelv1.ActionState{
		Id: approval, Version: 1, Parent: "a0", Type: workflow.ActionType_ACTION_TYPE_CONDITION, Name: "approve",
		Phase: common.ActionPhase_ACTION_PHASE_PAUSED, CreatedAt: timestampOf(time.Now()),
		Condition: &workflow.ConditionAction{Name: "approve", Type: &core.LiteralType{Type: &core.LiteralType_Simple{Simple: core.SimpleType_BOOLEAN}}},
	}, &tunnelv1.ActionState{Id: child, Version: 1, Parent: "a0", Type: workflow.ActionType_ACTION_TYPE_TASK, Phase: running, CreatedAt: timestampOf(time.Now())})
	plane.mu.Lock()
	plane.texts["a0"] = &dataplanev1.GetActionTextsResponse{Attempts: []*dataplanev1.AttemptTexts{{Attempt: 1, ClusterEvents: []*workflow.ClusterEvent{{Message: "pulled"}}}}}
	plane.mu.Unlock()

	deployed := &task.TaskIdentifier{Project: "flytesnacks", Domain: "development", Name: "deployed.main", Version: "v1"}
	if _, err := w.tasks().DeployTask(w.t.Context(), &task.DeployTaskRequest{TaskId: deployed, Spec: spec("deployed.main")}); err != nil {
		w.t.Fatal(err)
	}
	doomed := w.create(&workflow.CreateRunRequest{}).Action.Id
	wait(w.t, plane.enqueued)
	plane.report(&tunnelv1.ActionState{
		Id: &common.ActionIdentifier{Run: doomed.Run, Name: "child"}, Version: 1, Parent: "a0", Type: workflow.ActionType_ACTION_TYPE_TASK,
		Phase: running, CreatedAt: timestampOf(time.Now())})
	inProject := &workflow.CreateRunRequest_ProjectId{ProjectId: flytesnacks}
	yes := &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{Primitive: &core.Primitive{Value: &core.Primitive_Boolean{Boolean: true}}}}}}
	always := func(request proto.Message) call { return call{func(int) proto.Message { return request }, 0} }
	return map[string]call{
		"cluster.ClusterService/SelectCluster": always(&cluster.SelectClusterRequest{
			Operation: cluster.SelectClusterRequest_OPERATION_UPLOAD_INPUTS, Resource: &cluster.SelectClusterRequest_ProjectId{ProjectId: flytesnacks}}),

		// Signing needs an account: package uploads tests it with one.
		"dataproxy.DataProxyService/CreateUploadLocation": {func(int) proto.Message {
			return &dataproxy.CreateUploadLocationRequest{Project: "flytesnacks", Domain: "development", Filename: "a"}
		}, connect.CodeFailedPrecondition},
		"dataproxy.DataProxyService/UploadInputs": always(&dataproxy.UploadInputsRequest{
			Id: &dataproxy.UploadInputsRequest_ProjectId{ProjectId: flytesnacks}, Task: &dataproxy.UploadInputsRequest_TaskId{TaskId: deployed}, Inputs: &task.Inputs{}}),
		"dataproxy.DataProxyService/GetActionData": always(&dataproxy.GetActionDataRequest{ActionId: id}),
		"dataproxy.DataProxyService/TailLogs":      always(&dataproxy.TailLogsRequest{ActionId: id, Attempt: 1}),
		"dataproxy.DataProxyService/CreateDownloadLink": always(&dataproxy.CreateDownloadLinkRequest{
			ArtifactType: dataproxy.ArtifactType_ARTIFACT_TYPE_REPORT,
			Source:       &dataproxy.CreateDownloadLinkRequest_ActionAttemptId{ActionAttemptId: &common.ActionAttemptIdentifier{ActionId: id, Attempt: 1}}}),

		"workflow.RunService/CreateRun": always(&workflow.CreateRunRequest{
			Id: inProject, Task: &workflow.CreateRunRequest_TaskId{TaskId: deployed},
			InputWrapper: &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/x", InputsHash: "h"}}}),
		"workflow.RunService/GetRunDetails":       always(&workflow.GetRunDetailsRequest{RunId: id.Run}),
		"workflow.RunService/GetActionDetails":    always(&workflow.GetActionDetailsRequest{ActionId: id}),
		"workflow.RunService/WatchActionDetails":  always(&workflow.WatchActionDetailsRequest{ActionId: id}),
		"workflow.RunService/AbortRun":            always(&workflow.AbortRunRequest{RunId: doomed.Run}),
		"workflow.RunService/AbortAction":         always(&workflow.AbortActionRequest{ActionId: &common.ActionIdentifier{Run: doomed.Run, Name: "child"}}),
		"workflow.RunService/ListRuns":            always(&workflow.ListRunsRequest{ScopeBy: &workflow.ListRunsRequest_ProjectId{ProjectId: flytesnacks}}),
		"workflow.RunService/ListActions":         always(&workflow.ListActionsRequest{RunId: id.Run}),
		"workflow.RunService/GetActionDataURIs":   always(&workflow.GetActionDataURIsRequest{ActionId: id}),
		"workflow.RunService/GetActionLogContext": always(&workflow.GetActionLogContextRequest{ActionId: id, Attempt: 1}),
		"workflow.RunService/WatchRunDetails":     always(&workflow.WatchRunDetailsRequest{RunId: id.Run}),
		"workflow.RunService/WatchRuns":           always(&workflow.WatchRunsRequest{Target: &workflow.WatchRunsRequest_ProjectId{ProjectId: flytesnacks}}),
		"workflow.RunService/WatchActions":        always(&workflow.WatchActionsRequest{RunId: id.Run}),
		"workflow.RunService/WatchClusterEvents":  always(&workflow.WatchClusterEventsRequest{Id: id, Attempt: 1}),
		"workflow.RunService/WatchGroups": always(&workflow.WatchGroupsRequest{
			ScopeBy: &workflow.WatchGroupsRequest_ProjectId{ProjectId: flytesnacks}, StartDate: timestampOf(time.Now().Add(-time.Hour))}),
		"workflow.RunService/GetActionData": always(&workflow.GetActionDataRequest{ActionId: id}),
		"workflow.RunService/SignalEvent": always(&workflow.SignalEventRequest{
			ActionId: approval, Payload: &workflow.EventPayload{Value: &workflow.EventPayload_BoolValue{BoolValue: true}}}),

		"actions.ActionsService/Enqueue": always(&actions.EnqueueRequest{Action: &actions.Action{ActionId: child}}),
		"actions.ActionsService/WatchForUpdates": always(&actions.WatchForUpdatesRequest{
			Filter: &actions.WatchForUpdatesRequest_ParentActionId{ParentActionId: id}}),
		"actions.ActionsService/Abort":  always(&actions.AbortRequest{ActionId: child}),
		"actions.ActionsService/Signal": always(&actions.SignalRequest{ActionId: approval, ParentActionName: "a0", Value: yes}),

		"task.TaskService/DeployTask":     always(&task.DeployTaskRequest{TaskId: deployed, Spec: spec("deployed.main")}),
		"task.TaskService/GetTaskDetails": always(&task.GetTaskDetailsRequest{TaskId: deployed}),
		"task.TaskService/ListTasks":      always(&task.ListTasksRequest{ScopeBy: &task.ListTasksRequest_ProjectId{ProjectId: flytesnacks}}),
		"task.TaskService/ListVersions":   always(&task.ListVersionsRequest{TaskName: &task.TaskName{Project: "flytesnacks", Domain: "development", Name: "deployed.main"}}),

		"project.ProjectService/GetProject": always(&project.GetProjectRequest{Id: "flytesnacks"}),
		"project.ProjectService/CreateProject": {func(time int) proto.Message {
			return &project.CreateProjectRequest{Project: &project.Project{Id: fmt.Sprint("made", time)}}
		}, 0},
		"project.ProjectService/ListProjects":  always(&project.ListProjectsRequest{}),
		"project.ProjectService/UpdateProject": always(&project.UpdateProjectRequest{Project: &project.Project{Id: "flytesnacks", Name: "Flytesnacks"}}),

		"auth.IdentityService/UserInfo": always(&auth.UserInfoRequest{}),
	}
}

// call is a request, another each time where it can be made once only, and the code
// of its answer, 0 where it is done.
type call struct {
	request func(time int) proto.Message
	code    connect.Code
}

// notYet are calls of P0 and P1 that are not served, each for a reason.
var notYet = []string{
	"auth.AuthMetadataService/", // no login yet
	"app.", "imagebuilder.", "secret.", "trigger.",
	"workflow.InternalRunService/", "workflow.EventsProxyService/", // data planes report through their tunnel
}

func TestRPCs(t *testing.T) { onBoth(t, testRPCs) }

func testRPCs(t *testing.T, db database) {
	w := newWorld(t, db, "")
	plane := w.join("east")
	calls := served(w, plane)
	protocols := map[string][]connect.ClientOption{"Connect": nil, "gRPC": {connect.WithGRPC()}, "gRPC-Web": {connect.WithGRPCWeb()}}

	listed := map[string]bool{}
	for i, line := range strings.Split(strings.TrimSpace(rpcs), "\n")[1:] {
		fields := strings.Split(line, "\t")
		service, method, priority := fields[0], fields[1], fields[3]
		name := strings.TrimPrefix(service, "flyteidl2.") + "/" + method
		listed[name] = true
		call, is := calls[name]
		later := slices.ContainsFunc(notYet, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		if !is && !later && priority != "P2" {
			t.Errorf("got %s of %s not served, want it served", name, priority)
		}
		time := 10 * i
		for protocol, options := range protocols {
			time++
			if !is {
				client := connect.NewClient[emptypb.Empty, emptypb.Empty](w.client, w.url+"/"+service+"/"+method, options...)
				_, err := client.CallUnary(t.Context(), connect.NewRequest(&emptypb.Empty{}))
				refused(t, err, connect.CodeUnimplemented, "")
				if err == nil || strings.Contains(err.Error(), "older than the client") {
					t.Errorf("%s by %s: got %v, want a sentence of its own", name, protocol, err)
				}
				continue
			}
			if err := invoke(t, w, service, method, call.request(time), options); call.code == 0 && err != nil || call.code != 0 && connect.CodeOf(err) != call.code {
				t.Errorf("%s by %s: got %v, want code %v", name, protocol, err, call.code)
			}
		}
	}
	for name := range calls {
		if !listed[name] {
			t.Errorf("got %s called here, want it in the table", name)
		}
	}
}

// TestOrganizationOfEveryRPC has no call forget whose it is.
func TestOrganizationOfEveryRPC(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, "")
	several := newWorld(t, sqlite, "organizations: [default, other]\n")
	for name, call := range served(w, w.join("east")) {
		service, method, _ := strings.Cut("flyteidl2."+name, "/")
		request := call.request(0)
		if !ofOrganization(request.ProtoReflect(), "elsewhere") {
			if name != "auth.IdentityService/UserInfo" {
				t.Errorf("got no organization in a request of %s, want one", name)
			}
			continue
		}
		err := invoke(t, w, service, method, request, nil)
		if connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), `no organization "elsewhere"`) {
			t.Errorf("%s: got %v for another organization, want it refused", name, err)
		}
		ofOrganization(request.ProtoReflect(), "")
		err = invoke(t, several, service, method, request, nil)
		if connect.CodeOf(err) != connect.CodeInvalidArgument || !strings.Contains(err.Error(), "default, other") {
			t.Errorf("%s: got %v without an organization where there are two, want it refused", name, err)
		}
	}
}

// ofOrganization writes an organization wherever a request has a place for one, and says
// whether it has any.
func ofOrganization(m protoreflect.Message, organization string) (found bool) {
	for i := range m.Descriptor().Fields().Len() {
		field := m.Descriptor().Fields().Get(i)
		switch {
		case field.Kind() == protoreflect.StringKind && (field.Name() == "org" || field.Name() == "organization"):
			if oneof := field.ContainingOneof(); oneof == nil || m.WhichOneof(oneof) == nil {
				m.Set(field, protoreflect.ValueOfString(organization))
				found = true
			}
		case field.Kind() == protoreflect.MessageKind && !field.IsList() && !field.IsMap() && m.Has(field):
			if ofOrganization(m.Mutable(field).Message(), organization) {
				found = true
			}
		}
	}
	return found
}

// invoke makes any call, and of a stream takes the first message.
func invoke(t *testing.T, w *world, service, method string, request proto.Message, options []connect.ClientOption) error {
	t.Helper()
	found, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(service + "." + method))
	if err != nil {
		t.Fatal(err)
	}
	described := found.(protoreflect.MethodDescriptor)
	encoded, err := proto.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}
	sent := dynamicpb.NewMessage(described.Input())
	if err := proto.Unmarshal(encoded, sent); err != nil {
		t.Fatal(err)
	}
	options = append([]connect.ClientOption{connect.WithSchema(described), connect.WithResponseInitializer(func(spec connect.Spec, message any) error {
		if m, is := message.(*dynamicpb.Message); is {
			*m = *dynamicpb.NewMessage(spec.Schema.(protoreflect.MethodDescriptor).Output())
		}
		return nil
	})}, options...)
	client := connect.NewClient[dynamicpb.Message, dynamicpb.Message](w.client, w.url+"/"+service+"/"+method, options...)
	if !described.IsStreamingServer() {
		_, err := client.CallUnary(t.Context(), connect.NewRequest(sent))
		return err
	}
	stream, err := client.CallServerStream(t.Context(), connect.NewRequest(sent))
	if err != nil {
		return err
	}
	defer stream.Close()
	if !stream.Receive() {
		return fmt.Errorf("got no message, want one: %w", stream.Err())
	}
	return nil
}
