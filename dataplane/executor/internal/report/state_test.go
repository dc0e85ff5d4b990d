package report_test

import (
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/report"
)

// leaves is what of a TaskAction may leave the data plane: everything that
// TestNothingElseLeaves sees of one whose every text is its own path. A field that
// is added to TaskAction fails that test only if it leaves.
var leaves = []string{
	"condition.description", "condition.name", "condition.prompt", // a person is to read them there
	"spec.Abort.Reason", "status.Message", // why it was aborted, as somebody said there; the message of no other phase
	"spec.Action", "spec.Domain", "spec.Environment", "spec.Group", "spec.InputURI", "spec.Organization", "spec.Parent", "spec.Project",
	"spec.RecoveredFrom.Action", "spec.RecoveredFrom.Run", "spec.Run", "spec.ShortName",
	"spec.TaskDomain", "spec.TaskName", "spec.TaskProject", "spec.TaskType", "spec.TaskVersion", "spec.Template",
	"status.Attempts.Container", "status.Attempts.Error.Code", "status.Attempts.OutputURI", "status.Attempts.Pod",
	"status.Error.Code", "status.OutputURI",
}

func TestNothingElseLeaves(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, kind := range []v1alpha1.ActionType{v1alpha1.TypeTask, v1alpha1.TypeTrace, v1alpha1.TypeCondition} {
		for _, phase := range []v1alpha1.Phase{v1alpha1.Queued, v1alpha1.Running, v1alpha1.Succeeded, v1alpha1.Failed, v1alpha1.Aborted, v1alpha1.TimedOut, v1alpha1.Paused, v1alpha1.Recovered} {
			a := &v1alpha1.TaskAction{}
			label(reflect.ValueOf(&a.Spec).Elem(), "spec")
			label(reflect.ValueOf(&a.Status).Elem(), "status")
			a.Spec.Type, a.Status.Phase = kind, phase
			a.Spec.Condition, _ = proto.Marshal(&workflow.ConditionAction{
				Name: "<condition.name>", Prompt: "<condition.prompt>", Description: "<condition.description>", Timeout: durationpb.New(time.Hour),
				Webhook: &workflow.ConditionWebhook{Url: "<condition.webhook.url>", Payload: &structpb.Struct{Fields: map[string]*structpb.Value{"k": structpb.NewStringValue("<condition.webhook.payload>")}}},
			})
			a.Spec.Trace, _ = proto.Marshal(&workflow.TraceAction{Name: "<trace.name>", Outputs: &task.OutputReferences{OutputUri: "<trace.outputs>"}})
			text, err := protojson.Marshal(report.StateOf(a, "east"))
			if err != nil {
				t.Fatal(err)
			}
			a.Spec.Abort = nil // it was part of what was aborted
			more, err := protojson.Marshal(report.StateOf(a, "east"))
			if err != nil {
				t.Fatal(err)
			}
			text = append(text, more...)
			if phase != v1alpha1.Aborted && strings.Contains(string(text), "<status.Message>") {
				t.Errorf("got the message of %s told, want that of an abort alone", phase)
			}
			for _, found := range regexp.MustCompile(`<([A-Za-z.]+)>`).FindAllStringSubmatch(string(text), -1) {
				seen[found[1]] = true
			}
		}
	}
	for path := range seen {
		if !slices.Contains(leaves, path) {
			t.Errorf("got %s told, want it kept in the data plane", path)
		}
	}
	for _, path := range leaves {
		if !seen[path] && !strings.HasSuffix(path, "Error.Code") { // which is a word, and <…> is none
			t.Errorf("got %s not told, want it so or off the list", path)
		}
	}
}

// label writes into every text below a value where it is.
func label(v reflect.Value, path string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString("<" + path + ">")
	case reflect.Struct:
		for i := range v.NumField() {
			if field := v.Type().Field(i); field.IsExported() && !strings.HasPrefix(field.Type.PkgPath(), "k8s.io/") {
				label(v.Field(i), path+"."+field.Name)
			}
		}
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		if !strings.HasPrefix(v.Type().Elem().PkgPath(), "k8s.io/") {
			label(v.Elem(), path)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			v.SetBytes([]byte("<" + path + ">"))
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		label(v.Index(0), path)
	}
}

func TestStateOf(t *testing.T) {
	t.Parallel()
	at := func(second int) time.Time { return time.Date(2026, 5, 4, 3, 2, second, 1000, time.UTC) }
	micro := func(second int) *v1alpha1.Time { return v1alpha1.At(at(second)) }
	stamp := func(second int) *timestamppb.Timestamp { return timestamppb.New(at(second)) }
	end := micro(9)
	spec := v1alpha1.TaskActionSpec{
		Organization: "acme", Project: "p", Domain: "d", Run: "r1", Action: "c1", Parent: "a0", Group: "batch", Type: v1alpha1.TypeTask,
		InputURI: "s3://m/r1/c1/inputs.pb", Template: strings.Repeat("ab", 32),
		TaskProject: "tp", TaskDomain: "td", TaskName: "env.main", TaskVersion: "v1", TaskType: "python", ShortName: "main", Environment: "env",
	}
	meta := metav1.ObjectMeta{Namespace: "p-d", Name: "r1-c1", ResourceVersion: "42", CreationTimestamp: metav1.NewTime(at(0).Truncate(time.Second))}
	id := &common.ActionIdentifier{Run: &common.RunIdentifier{Org: "acme", Project: "p", Domain: "d", Name: "r1"}, Name: "c1"}
	logs := func(pod string, begin, end *timestamppb.Timestamp) *core.LogContext {
		return &core.LogContext{PrimaryPodName: pod, Pods: []*core.PodLogContext{{
			Namespace: "p-d", PodName: pod, PrimaryContainerName: "main",
			Containers: []*core.ContainerContext{{ContainerName: "main", Process: &core.ContainerContext_ProcessContext{ContainerStartTime: begin, ContainerEndTime: end}}},
		}}}
	}

	t.Run("it says all of a task that succeeded at its second try", func(t *testing.T) {
		t.Parallel()
		failure := &v1alpha1.ActionError{Code: "OOMKilled", Kind: v1alpha1.UserError, Message: "text", Recoverable: true}
		got := report.StateOf(&v1alpha1.TaskAction{ObjectMeta: meta, Spec: spec, Status: v1alpha1.TaskActionStatus{
			Phase: v1alpha1.Succeeded, Version: 7, Message: "text", EndedAt: end, OutputURI: "s3://m/r1/c1/2", CacheStatus: "POPULATED",
			Attempts: []v1alpha1.Attempt{
				{Number: 1, Phase: v1alpha1.Failed, Pod: "r1-c1-0", PodUID: "u", Container: "main", StartedAt: micro(1), EndedAt: micro(4),
					ContainerStartedAt: micro(2), ContainerEndedAt: micro(3), OutputURI: "s3://m/r1/c1/1", Error: failure,
					Transitions: []v1alpha1.Transition{{Phase: v1alpha1.Queued, At: *micro(1)}, {Phase: v1alpha1.Running, At: *micro(2)}, {Phase: v1alpha1.Failed, At: *micro(4)}}},
				{Number: 2, Phase: v1alpha1.Succeeded, Pod: "r1-c1-1", Container: "main", StartedAt: micro(5), OutputURI: "s3://m/r1/c1/2/", CacheStatus: "POPULATED",
					Transitions: []v1alpha1.Transition{{Phase: v1alpha1.Running, At: *micro(5)}}},
			},
		}}, "east")
		want := &tunnelv1.ActionState{
			Position: 42, Id: id, Version: 7, Parent: "a0", Group: "batch", Type: workflow.ActionType_ACTION_TYPE_TASK,
			TaskId:   &task.TaskIdentifier{Org: "acme", Project: "tp", Domain: "td", Name: "env.main", Version: "v1"},
			TaskType: "python", ShortName: "main", Environment: "env", TaskSpecDigest: "sha256:" + strings.Repeat("ab", 32),
			InputUri: "s3://m/r1/c1/inputs.pb", OutputUri: "s3://m/r1/c1/2", Phase: common.ActionPhase_ACTION_PHASE_SUCCEEDED,
			CreatedAt: timestamppb.New(meta.CreationTimestamp.Time), EndedAt: timestamppb.New(end.Time), CacheStatus: core.CatalogCacheStatus_CACHE_POPULATED,
			Attempts: []*workflow.ActionAttempt{
				{Attempt: 1, Phase: common.ActionPhase_ACTION_PHASE_FAILED, StartTime: stamp(1), EndTime: stamp(4), Cluster: "east", LogsAvailable: true,
					ErrorInfo: &workflow.ErrorInfo{Kind: workflow.ErrorInfo_KIND_USER}, Outputs: &task.OutputReferences{ReportUri: "s3://m/r1/c1/1/report.html"},
					LogContext: logs("r1-c1-0", stamp(2), stamp(3)),
					PhaseTransitions: []*workflow.PhaseTransition{
						{Phase: common.ActionPhase_ACTION_PHASE_QUEUED, StartTime: stamp(1), EndTime: stamp(2)},
						{Phase: common.ActionPhase_ACTION_PHASE_RUNNING, StartTime: stamp(2), EndTime: stamp(4)},
						{Phase: common.ActionPhase_ACTION_PHASE_FAILED, StartTime: stamp(4), EndTime: stamp(4)},
					}},
				{Attempt: 2, Phase: common.ActionPhase_ACTION_PHASE_SUCCEEDED, StartTime: stamp(5), Cluster: "east", LogsAvailable: true,
					Outputs:    &task.OutputReferences{OutputUri: "s3://m/r1/c1/2/outputs.pb", ReportUri: "s3://m/r1/c1/2/report.html"},
					LogContext: logs("r1-c1-1", nil, nil), CacheStatus: core.CatalogCacheStatus_CACHE_POPULATED,
					PhaseTransitions: []*workflow.PhaseTransition{{Phase: common.ActionPhase_ACTION_PHASE_RUNNING, StartTime: stamp(5)}}},
			},
		}
		if !proto.Equal(got, want) {
			t.Errorf("got %v, want %v", protojson.Format(got), protojson.Format(want))
		}
	})

	state := func(change func(*v1alpha1.TaskAction)) *tunnelv1.ActionState {
		a := &v1alpha1.TaskAction{ObjectMeta: meta, Spec: spec}
		change(a)
		return report.StateOf(a, "east")
	}
	for name, c := range map[string]struct {
		change func(*v1alpha1.TaskAction)
		see    func(*tunnelv1.ActionState) any
		want   any
	}{
		"it calls QUEUED what nobody has looked at": {func(*v1alpha1.TaskAction) {},
			func(s *tunnelv1.ActionState) any { return s.Phase }, common.ActionPhase_ACTION_PHASE_QUEUED},
		"it says kind and code of an error": {func(a *v1alpha1.TaskAction) {
			a.Status.Phase, a.Status.Error = v1alpha1.Failed, &v1alpha1.ActionError{Code: "RetriesExhausted|ValueError", Kind: v1alpha1.SystemError}
		}, func(s *tunnelv1.ActionState) any { return s.ErrorKind.String() + " " + s.ErrorCode }, "KIND_SYSTEM RetriesExhausted|ValueError"},
		"it says no error of what is tried again": {func(a *v1alpha1.TaskAction) {
			a.Status.Phase, a.Status.Error = v1alpha1.Queued, &v1alpha1.ActionError{Code: "ValueError", Kind: v1alpha1.UserError}
		}, func(s *tunnelv1.ActionState) any { return s.ErrorKind.String() + " " + s.ErrorCode }, "KIND_UNSPECIFIED "},
		"it says no code that is a text": {func(a *v1alpha1.TaskAction) {
			a.Status.Phase, a.Status.Error = v1alpha1.Failed, &v1alpha1.ActionError{Code: "the balance is 12", Kind: v1alpha1.UserError}
		}, func(s *tunnelv1.ActionState) any { return s.ErrorCode }, "Unknown"},
		"it says no code of 65 characters": {func(a *v1alpha1.TaskAction) {
			a.Status.Phase, a.Status.Error = v1alpha1.Failed, &v1alpha1.ActionError{Code: strings.Repeat("x", 65), Kind: v1alpha1.UserError}
		}, func(s *tunnelv1.ActionState) any { return s.ErrorCode }, "Unknown"},
		"it says why it was aborted": {func(a *v1alpha1.TaskAction) {
			a.Status.Phase, a.Spec.Abort = v1alpha1.Aborted, &v1alpha1.Abort{Reason: "enough"}
		}, func(s *tunnelv1.ActionState) any { return s.AbortReason }, "enough"},
		"it says why what it was part of was": {func(a *v1alpha1.TaskAction) { a.Status.Phase, a.Status.Message = v1alpha1.Aborted, "its run has ended" },
			func(s *tunnelv1.ActionState) any { return s.AbortReason }, "its run has ended"},
		"it says what it was recovered from": {func(a *v1alpha1.TaskAction) {
			a.Status.Phase, a.Spec.RecoveredFrom = v1alpha1.Recovered, &v1alpha1.ActionReference{Run: "r0", Action: "c1"}
		}, func(s *tunnelv1.ActionState) any { return s.RecoveredFrom.GetRun().GetName() }, "r0"},
		"it is not recovered because it might have been": {func(a *v1alpha1.TaskAction) {
			a.Status.Phase, a.Spec.RecoveredFrom = v1alpha1.Running, &v1alpha1.ActionReference{Run: "r0", Action: "c1"}
		}, func(s *tunnelv1.ActionState) any { return s.RecoveredFrom == nil }, true},
		"it has no logs before there is a pod": {func(a *v1alpha1.TaskAction) {
			a.Status.Attempts = []v1alpha1.Attempt{{Number: 1, Phase: v1alpha1.Queued}}
		},
			func(s *tunnelv1.ActionState) any {
				return s.Attempts[0].LogsAvailable || s.Attempts[0].LogContext != nil
			}, false},
		"it gives a trace its name and file": {func(a *v1alpha1.TaskAction) {
			a.Spec.Type, a.Spec.Template, a.Status.Phase, a.Status.OutputURI = v1alpha1.TypeTrace, "", v1alpha1.Succeeded, "s3://m/t/outputs.pb"
		}, func(s *tunnelv1.ActionState) any {
			return fmt.Sprint(s.Name, " ", s.OutputUri, " ", s.TaskSpecDigest == "", s.TaskId == nil)
		}, "main s3://m/t/outputs.pb true true"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := c.see(state(c.change)); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
