package actions

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/recovery"
)

// updateOf is what a parent is told of a child. It stays in the data plane, so
// the error has its message and the condition its value.
func updateOf(a *v1alpha1.TaskAction) *workflow.ActionUpdate {
	phase := a.Status.Phase
	if phase == "" {
		phase = v1alpha1.Queued // it is enqueued, and the reconciler has not come by
	}
	update := &workflow.ActionUpdate{
		ActionId: &common.ActionIdentifier{
			Run:  &common.RunIdentifier{Org: a.Spec.Organization, Project: a.Spec.Project, Domain: a.Spec.Domain, Name: a.Spec.Run},
			Name: a.Spec.Action,
		},
		Phase:     common.ActionPhase(common.ActionPhase_value["ACTION_PHASE_"+string(phase)]),
		OutputUri: outputURI(a),
	}
	if e := a.Status.Error; e != nil && phase.Terminal() {
		update.Error = &core.ExecutionError{
			Code: e.Code, Message: e.Message,
			Kind: core.ExecutionError_ErrorKind(core.ExecutionError_ErrorKind_value[string(e.Kind)]),
		}
		if e.Recoverable {
			update.Error.Recoverability = core.ContainerError_RECOVERABLE
		}
		if a.Status.EndedAt != nil {
			update.Error.Timestamp = timestamppb.New(a.Status.EndedAt.Time)
		}
	}
	if a.Spec.Type == v1alpha1.TypeCondition && recovery.Succeeded(phase) {
		value := &core.Literal{}
		if encoded := valueOf(a); encoded != nil && proto.Unmarshal(encoded, value) == nil {
			update.Value = value
		}
	}
	return update
}

// valueOf a condition that ended well. One that did so before statuses had values has it
// in its signal.
func valueOf(a *v1alpha1.TaskAction) []byte {
	if a.Status.Value == nil && a.Spec.Signal != nil {
		return a.Spec.Signal.Value
	}
	return a.Status.Value
}

// outputURI is the folder of a task's outputs, to which the SDK adds outputs.pb, or
// the file of a trace. The SDK reads it of what has succeeded, but it warns in the
// parent's log of every state without one. So a task has the folder of its
// current attempt from the start.
func outputURI(a *v1alpha1.TaskAction) string {
	switch last := lastAttempt(a); {
	case a.Status.OutputURI != "" || a.Spec.Type != v1alpha1.TypeTask:
		return a.Status.OutputURI
	case last.OutputURI != "":
		return last.OutputURI
	}
	return a.Spec.RunOutputBase + "/" + a.Spec.Action + "/1"
}
