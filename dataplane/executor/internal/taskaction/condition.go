package taskaction

import (
	"context"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// condition waits for a value from a person, for as long as its author says, unless
// the run that is recovered had one.
func (w *work) condition(ctx context.Context) error {
	if signal := w.action.Spec.Signal; signal != nil {
		w.status.Value = signal.Value
		w.finish(v1alpha1.Succeeded, "Signaled", "")
		return nil
	}
	asked := &workflow.ConditionAction{}
	if err := proto.Unmarshal(w.action.Spec.Condition, asked); err != nil {
		w.fault("BadCondition", "the condition cannot be decoded: "+err.Error())
		return nil
	}
	if w.status.Phase != v1alpha1.Paused {
		if recovered, err := w.recoverValue(ctx); recovered || err != nil {
			return err
		}
	}
	w.status.Phase = v1alpha1.Paused
	timeout := asked.GetTimeout().AsDuration()
	if timeout <= 0 {
		return nil
	}
	if until := born(w.action).Add(timeout); w.now.Before(until) {
		w.lookAgain(until)
		return nil
	}
	w.status.Error = &v1alpha1.ActionError{
		Code: "ConditionTimedOut", Kind: v1alpha1.UserError, Message: "nobody signalled the condition within " + timeout.String()}
	w.finish(v1alpha1.TimedOut, "TimedOut", w.status.Error.Message)
	return nil
}

// fault ends an action that was written by somebody who should know better.
func (w *work) fault(code, message string) {
	w.status.Error = &v1alpha1.ActionError{Code: code, Kind: v1alpha1.SystemError, Message: message}
	w.finish(v1alpha1.Failed, "InvalidSpec", message)
}
