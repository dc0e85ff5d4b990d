package actions

import (
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
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
		Phase: common.ActionPhase(common.ActionPhase_value["ACTION_PHASE_"+string(phase)]),
		// The folder of a task's outputs, to which the SDK adds outputs.pb; of a trace the
		// file itself.
		OutputUri: a.Status.OutputURI,
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
	if a.Spec.Type == v1alpha1.TypeCondition && phase == v1alpha1.Succeeded && a.Spec.Signal != nil {
		value := &core.Literal{}
		if err := proto.Unmarshal(a.Spec.Signal.Value, value); err == nil {
			update.Value = value
		}
	}
	return update
}
