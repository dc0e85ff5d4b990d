package proxy

import (
	"cmp"
	"context"
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	dataplanev1 "biplane.dev/biplane/api/gen/biplane/dataplane/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/record"
	"biplane.dev/biplane/dataplane/proxy/internal/bucket"
)

const (
	// maxStatusMessage is where the executor cuts a message in a status; what is
	// as long may have been longer.
	maxStatusMessage = 4 << 10
	// maxError of a message that is read whole, and maxErrorFile of the file it is in.
	maxError     = 256 << 10
	maxErrorFile = 4 << 20
	// maxEvents of one action, the newest.
	maxEvents = 500
)

// GetActionTexts answers what a control plane shows and does not keep: messages
// of errors, and what Kubernetes said of the pods.
func (s *service) GetActionTexts(ctx context.Context, request *dataplanev1.GetActionTextsRequest) (*dataplanev1.GetActionTextsResponse, error) {
	id := request.GetActionId()
	workspace, err := s.admitAction(ctx, id)
	if err != nil {
		return nil, err
	}
	action, err := s.action(ctx, id)
	if err != nil {
		return nil, err
	}
	var texts record.Record
	var waiting *dataplanev1.AttemptTexts
	if action != nil {
		texts.Status = action.Status
		if texts.Events, err = s.events(ctx, action); err != nil {
			return nil, err
		}
		waiting = waitsFor(&action.Status)
	} else {
		folder := path.Join(workspace.Spec.Project, workspace.Spec.Domain, id.GetRun().GetName(), id.GetName())
		if uri := request.GetActionBaseUri(); uri != "" {
			if folder, err = s.keyOf(workspace, strings.TrimSuffix(uri, "/")); err != nil {
				return nil, err
			}
		}
		texts, err = record.Read(ctx, s.bucket.Reader(), s.bucket.Name(), folder)
		if errors.Is(err, record.ErrNone) {
			return nil, refuse(connect.CodeNotFound, "the texts of the action %s of the run %s are no longer kept in the data plane", id.GetName(), id.GetRun().GetName())
		}
		if err != nil {
			return nil, unreadable(err, "the record of the action "+id.GetName())
		}
	}

	answer := &dataplanev1.GetActionTextsResponse{}
	for _, attempt := range texts.Status.Attempts {
		t := &dataplanev1.AttemptTexts{Attempt: uint32(attempt.Number), ErrorMessage: s.message(ctx, workspace, attempt.Error, attempt.OutputURI)}
		for _, event := range texts.Events {
			if event.Attempt == attempt.Number {
				t.ClusterEvents = append(t.ClusterEvents, clusterEvent(event))
			}
		}
		answer.Attempts = append(answer.Attempts, t)
	}
	if waiting != nil {
		answer.Attempts = append(answer.Attempts, waiting)
	}
	if failed := texts.Status.Error; failed != nil {
		answer.ErrorMessage = failed.Message
		// The action's error is its last attempt's, which was read whole.
		if last := len(answer.Attempts) - 1; last >= 0 && len(answer.ErrorMessage) >= maxStatusMessage-cutMargin &&
			len(answer.Attempts[last].ErrorMessage) > len(answer.ErrorMessage) {
			answer.ErrorMessage = answer.Attempts[last].ErrorMessage
		}
	}
	return answer, nil
}

// waitsFor is the attempt that an action has not begun, with what it waits for as
// its event: there is no pod yet of which Kubernetes could say anything.
func waitsFor(status *v1alpha1.TaskActionStatus) *dataplanev1.AttemptTexts {
	if status.Message == "" || status.Phase != v1alpha1.Queued && status.Phase != v1alpha1.WaitingForResources {
		return nil
	}
	next := int32(1)
	if n := len(status.Attempts); n > 0 {
		if status.Attempts[n-1].EndedAt == nil {
			return nil // it has a pod
		}
		next = status.Attempts[n-1].Number + 1
	}
	return &dataplanev1.AttemptTexts{Attempt: uint32(next), ClusterEvents: []*workflow.ClusterEvent{clusterEvent(record.Event{
		OccurredAt: time.Now(), Type: corev1.EventTypeNormal, Reason: "Waiting", Message: status.Message, Source: "executor", Count: 1,
	})}}
}

// cutMargin: a message that was cut is not always of the full length, since no
// letter is cut in two and something may say that it was cut.
const cutMargin = 64

// message is an error's, whole: from the attempt's own file where the status has
// only the beginning.
func (s *service) message(ctx context.Context, workspace *v1alpha1.Workspace, failed *v1alpha1.ActionError, folder string) string {
	if failed == nil {
		return ""
	}
	if len(failed.Message) < maxStatusMessage-cutMargin || folder == "" {
		return failed.Message
	}
	key, err := s.keyOf(workspace, folder+"/error.pb")
	if err != nil {
		return failed.Message
	}
	file, err := s.bucket.Get(ctx, key, maxErrorFile)
	if err != nil {
		if !errors.Is(err, bucket.ErrNone) {
			s.log.Warn("reading an error's text", "key", key, "error", err)
		}
		return failed.Message
	}
	document := &core.ErrorDocument{}
	if err := proto.Unmarshal(file, document); err != nil || document.GetError().GetMessage() == "" {
		return failed.Message
	}
	whole := document.GetError().GetMessage()
	if len(whole) > maxError {
		// The end of a traceback says more than its beginning.
		whole = "…" + validTail(whole, maxError)
	}
	return whole
}

// validTail is the end of a text, from the beginning of a letter on.
func validTail(text string, most int) string {
	tail := text[len(text)-most:]
	for len(tail) > 0 && tail[0]&0xc0 == 0x80 {
		tail = tail[1:]
	}
	return tail
}

// events are what Kubernetes still knows of an action's pods.
func (s *service) events(ctx context.Context, action *v1alpha1.TaskAction) ([]record.Event, error) {
	var events []record.Event
	for _, attempt := range action.Status.Attempts {
		if attempt.Pod == "" {
			continue
		}
		var list corev1.EventList
		if err := s.cluster.List(ctx, &list, client.InNamespace(action.Namespace), client.Limit(maxEvents),
			client.MatchingFields{"involvedObject.kind": "Pod", "involvedObject.name": attempt.Pod}); err != nil {
			return nil, because(err, connect.CodeUnavailable, "the cluster does not answer now; try again in a moment")
		}
		for _, e := range list.Items {
			if attempt.PodUID != "" && e.InvolvedObject.UID != "" && string(e.InvolvedObject.UID) != attempt.PodUID {
				continue
			}
			at := e.LastTimestamp.Time
			if at.IsZero() {
				at = e.EventTime.Time
			}
			events = append(events, record.Event{
				Attempt: attempt.Number, OccurredAt: at, Type: e.Type, Reason: e.Reason, Message: e.Message,
				Source: cmp.Or(e.Source.Component, e.ReportingController), Count: max(e.Count, 1),
			})
		}
	}
	slices.SortStableFunc(events, func(a, b record.Event) int { return a.OccurredAt.Compare(b.OccurredAt) })
	return events[max(0, len(events)-maxEvents):], nil
}

func clusterEvent(e record.Event) *workflow.ClusterEvent {
	kind := workflow.ClusterEvent_TYPE_NORMAL
	if e.Type == corev1.EventTypeWarning {
		kind = workflow.ClusterEvent_TYPE_WARNING
	}
	at := e.OccurredAt
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	return &workflow.ClusterEvent{
		OccurredAt: timestamppb.New(at), Message: e.Message, Type: kind, Reason: e.Reason, SourceComponent: e.Source, Count: e.Count,
	}
}
