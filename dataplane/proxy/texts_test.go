package proxy

import (
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	dataplanev1 "biplane.dev/biplane/api/gen/biplane/dataplane/v1"
	"biplane.dev/biplane/api/gen/biplane/dataplane/v1/dataplanev1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/record"
)

func TestGetActionTexts(t *testing.T) {
	t.Parallel()
	p := start(t)
	texts := dataplanev1connect.NewActionTextServiceClient(p.operator(), "https://"+p.address)
	failed := func(message string) *v1alpha1.ActionError {
		return &v1alpha1.ActionError{Code: "ValueError", Kind: v1alpha1.UserError, Message: message}
	}

	t.Run("it reads messages and the cluster's events while there is an action", func(t *testing.T) {
		t.Parallel()
		p.taskAction(t, "now", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Failed, Error: failed("no such file"), Attempts: []v1alpha1.Attempt{
			{Number: 1, Phase: v1alpha1.Failed, Pod: "now-1", Error: failed("not now")},
			{Number: 2, Phase: v1alpha1.Failed, Pod: "now-2", Error: failed("no such file")},
		}})
		event := &corev1.Event{
			ObjectMeta:     metav1.ObjectMeta{Namespace: p.workspace.Name, Name: "now-2.1"},
			InvolvedObject: corev1.ObjectReference{Kind: "Pod", Namespace: p.workspace.Name, Name: "now-2"},
			Type:           "Warning", Reason: "BackOff", Message: "Back-off pulling image", Count: 3, Source: corev1.EventSource{Component: "kubelet"},
			LastTimestamp: metav1.Now(),
		}
		if err := sandbox.Client.Create(t.Context(), event); err != nil {
			t.Fatal(err)
		}
		answer, err := texts.GetActionTexts(t.Context(), &dataplanev1.GetActionTextsRequest{ActionId: p.action("now", "a0")})
		if err != nil || len(answer.GetAttempts()) != 2 || answer.GetErrorMessage() != "no such file" || answer.GetAttempts()[0].GetErrorMessage() != "not now" {
			t.Fatalf("got %v, %v, want the messages of both attempts", answer, err)
		}
		events := answer.GetAttempts()[1].GetClusterEvents()
		if len(events) != 1 || events[0].GetReason() != "BackOff" || events[0].GetCount() != 3 || events[0].GetType() != workflow.ClusterEvent_TYPE_WARNING || len(answer.GetAttempts()[0].GetClusterEvents()) != 0 {
			t.Errorf("got %v, want the one event at the second attempt", answer)
		}
	})

	t.Run("it says what an action waits for while it has no pod", func(t *testing.T) {
		t.Parallel()
		says := func(run string, status v1alpha1.TaskActionStatus) []*dataplanev1.AttemptTexts {
			p.taskAction(t, run, "a0", status)
			answer, err := texts.GetActionTexts(t.Context(), &dataplanev1.GetActionTextsRequest{ActionId: p.action(run, "a0")})
			if err != nil {
				t.Fatal(err)
			}
			return answer.GetAttempts()
		}
		waiting := v1alpha1.TaskActionStatus{Phase: v1alpha1.WaitingForResources, Message: "exceeded quota"}
		got := says("waiting", waiting)
		if len(got) != 1 || got[0].GetAttempt() != 1 || len(got[0].GetClusterEvents()) != 1 || got[0].GetClusterEvents()[0].GetMessage() != "exceeded quota" {
			t.Errorf("got %v, want the message as the first attempt's event", got)
		}
		waiting.Attempts = []v1alpha1.Attempt{{Number: 1, Phase: v1alpha1.Failed, Error: failed("once"), EndedAt: v1alpha1.At(time.Now())}}
		if got := says("waiting-again", waiting); len(got) != 2 || got[1].GetAttempt() != 2 || len(got[1].GetClusterEvents()) != 1 {
			t.Errorf("got %v, want the message as the second attempt's event", got)
		}
		waiting.Attempts[0] = v1alpha1.Attempt{Number: 1, Phase: v1alpha1.WaitingForResources}
		if got := says("waiting-pod", waiting); len(got) != 1 || len(got[0].GetClusterEvents()) != 0 {
			t.Errorf("got %v, want what Kubernetes says of the pod, which is nothing", got)
		}
	})

	t.Run("it reads the whole of a long message where the attempt left it", func(t *testing.T) {
		t.Parallel()
		whole := strings.Repeat("a long traceback\n", 1000)
		folder := "s3://" + p.storage.MetadataBucket + "/" + p.runKey("long") + "/a0/1"
		p.put(t, p.runKey("long")+"/a0/1/error.pb", marshal(t, &core.ErrorDocument{Error: &core.ContainerError{Message: whole}}))
		p.taskAction(t, "long", "a0", v1alpha1.TaskActionStatus{Phase: v1alpha1.Failed, Error: failed(whole[:4<<10]), Attempts: []v1alpha1.Attempt{
			{Number: 1, Phase: v1alpha1.Failed, OutputURI: folder, Error: failed(whole[:4<<10])},
		}})
		answer, err := texts.GetActionTexts(t.Context(), &dataplanev1.GetActionTextsRequest{ActionId: p.action("long", "a0")})
		if err != nil || answer.GetAttempts()[0].GetErrorMessage() != whole || answer.GetErrorMessage() != whole {
			t.Errorf("got %d and %d bytes, %v, want %d", len(answer.GetErrorMessage()), len(answer.GetAttempts()[0].GetErrorMessage()), err, len(whole))
		}
	})

	t.Run("it reads the record when the action is gone", func(t *testing.T) {
		t.Parallel()
		kept := record.Record{
			Status: v1alpha1.TaskActionStatus{Phase: v1alpha1.Failed, Error: failed("kept"), Attempts: []v1alpha1.Attempt{{Number: 1, Error: failed("kept")}}},
			Events: []record.Event{{Attempt: 1, OccurredAt: time.Now(), Reason: "Scheduled", Type: "Normal"}},
		}
		if err := record.Write(t.Context(), account(t, "executor"), p.storage.MetadataBucket, "elsewhere/"+p.runKey("gone")+"/a0", kept); err != nil {
			t.Fatal(err)
		}
		request := &dataplanev1.GetActionTextsRequest{ActionId: p.action("gone", "a0"), ActionBaseUri: "s3://" + p.storage.MetadataBucket + "/elsewhere/" + p.runKey("gone") + "/a0"}
		answer, err := texts.GetActionTexts(t.Context(), request)
		if err != nil || answer.GetErrorMessage() != "kept" || len(answer.GetAttempts()) != 1 || len(answer.GetAttempts()[0].GetClusterEvents()) != 1 {
			t.Errorf("got %v, %v, want what was kept", answer, err)
		}
		request.ActionBaseUri = "s3://" + p.storage.MetadataBucket + "/secret/production/r1/a0"
		_, err = texts.GetActionTexts(t.Context(), request)
		refused(t, err, connect.CodePermissionDenied, "nothing else may be read")
	})

	t.Run("it says that texts are gone", func(t *testing.T) {
		t.Parallel()
		_, err := texts.GetActionTexts(t.Context(), &dataplanev1.GetActionTextsRequest{ActionId: p.action("absent", "a0")})
		refused(t, err, connect.CodeNotFound, "no longer kept in the data plane")
	})
}
