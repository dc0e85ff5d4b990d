package runs

import (
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

// runMessage is a run as lists show it.
func runMessage(r store.Run) *workflow.Run {
	return &workflow.Run{Action: actionMessage(r, r.Root), Labels: r.Labels}
}

// actionMessage is an action as lists show it.
func actionMessage(r store.Run, a store.Action) *workflow.Action {
	return &workflow.Action{Id: a.Key.Proto(), Metadata: metadata(r, a), Status: status(a)}
}

// details is all there is of an action but for the texts that the data plane
// keeps.
func details(d store.ActionDetails) *workflow.ActionDetails {
	a := d.Action
	m := &workflow.ActionDetails{Id: a.Key.Proto(), Metadata: metadata(d.Run, a), Status: status(a)}
	switch a.Phase {
	case common.ActionPhase_ACTION_PHASE_FAILED, common.ActionPhase_ACTION_PHASE_TIMED_OUT:
		m.Result = &workflow.ActionDetails_ErrorInfo{ErrorInfo: &workflow.ErrorInfo{Kind: a.ErrorKind}}
	case common.ActionPhase_ACTION_PHASE_ABORTED:
		m.Result = &workflow.ActionDetails_AbortInfo{AbortInfo: &workflow.AbortInfo{Reason: a.AbortReason, AbortedBy: a.AbortedBy}}
	}
	switch a.Type {
	case workflow.ActionType_ACTION_TYPE_TRACE:
		// Its interface stays with its parent, which alone needs it.
		m.Spec = &workflow.ActionDetails_Trace{Trace: &task.TraceSpec{}}
	case workflow.ActionType_ACTION_TYPE_CONDITION:
		m.Spec = &workflow.ActionDetails_Condition{Condition: a.Condition}
	default:
		if d.Spec != nil {
			m.Spec = &workflow.ActionDetails_Task{Task: d.Spec}
		}
	}
	for _, attempt := range a.Attempts {
		attempt = proto.CloneOf(attempt)
		attempt.Cluster = d.Run.Cluster
		attempt.LogInfo = append(attempt.LogInfo, links(d.Spec.GetTaskTemplate().GetMetadata().GetLogLinks(), a, attempt)...)
		m.Attempts = append(m.Attempts, attempt)
	}
	return m
}

func metadata(r store.Run, a store.Action) *workflow.ActionMetadata {
	m := &workflow.ActionMetadata{
		Parent: a.Parent, Group: a.Group, ActionType: a.Type, EnvironmentName: a.Environment, FuntionName: a.ShortName,
		ExecutedBy: r.CreatedBy, Source: r.Source, Relation: r.Relation, RecoveredFrom: a.RecoveredFrom,
	}
	switch a.Type {
	case workflow.ActionType_ACTION_TYPE_TRACE:
		m.Spec = &workflow.ActionMetadata_Trace{Trace: &workflow.TraceActionMetadata{Name: a.Title}}
	case workflow.ActionType_ACTION_TYPE_CONDITION:
		m.Spec = &workflow.ActionMetadata_Condition{Condition: &workflow.ConditionActionMetadata{Name: a.Title, Type: a.Condition.GetType()}}
	default:
		m.Spec = &workflow.ActionMetadata_Task{Task: &workflow.TaskActionMetadata{Id: a.Task.Proto(), TaskType: a.TaskType, ShortName: a.ShortName}}
	}
	return m
}

func status(a store.Action) *workflow.ActionStatus {
	m := &workflow.ActionStatus{
		Phase: a.Phase, StartTime: timestamp(a.CreatedAt), Attempts: max(1, a.AttemptCount), CacheStatus: a.CacheStatus,
	}
	if !a.EndedAt.IsZero() {
		// A data plane's times are whole seconds: what took less must not end before
		// it began.
		ended := a.EndedAt
		if ended.Before(a.CreatedAt) {
			ended = a.CreatedAt
		}
		m.EndTime = timestamp(ended)
		m.DurationMs = proto.Uint64(uint64(ended.Sub(a.CreatedAt).Milliseconds()))
	}
	return m
}

func timestamp(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	return timestamppb.New(at)
}
