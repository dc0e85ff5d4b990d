package taskaction

import (
	"context"
	"errors"
	"strings"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/judge"
)

// trace ends a trace as its parent says: it ran there. It is kept so that the
// parent's next attempt finds its outputs and does not run it again.
func (w *work) trace(ctx context.Context) error {
	trace := &workflow.TraceAction{}
	if err := proto.Unmarshal(w.action.Spec.Trace, trace); err != nil {
		w.fault("BadTrace", "the trace cannot be decoded: "+err.Error())
		return nil
	}
	if from := w.action.Spec.RecoveredFrom; from != nil {
		w.status.OutputURI = trace.GetOutputs().GetOutputUri()
		w.finish(v1alpha1.Recovered, "Recovered", "the outputs are those of run "+from.Run)
		return nil
	}
	phase := tracedPhase(trace)
	if phase == v1alpha1.Failed {
		if err := w.traceFailed(ctx); err != nil {
			return err
		}
	}
	w.finish(phase, "Traced", "")
	w.status.OutputURI = trace.GetOutputs().GetOutputUri()
	if at := trace.GetStartTime(); at != nil {
		w.status.StartedAt = v1alpha1.At(at.AsTime())
	}
	if at := trace.GetEndTime(); at != nil {
		w.status.EndedAt = v1alpha1.At(at.AsTime())
	}
	return nil
}

// tracedPhase is how a trace ended. It is enqueued when it has, and a failure says so.
func tracedPhase(trace *workflow.TraceAction) v1alpha1.Phase {
	phase := v1alpha1.Phase(strings.TrimPrefix(trace.GetPhase().String(), "ACTION_PHASE_"))
	if !phase.Terminal() {
		return v1alpha1.Succeeded
	}
	return phase
}

// tracedAgain says of a trace that had failed whether its parent's next attempt has done
// it again, which is the only end that another may follow.
func tracedAgain(a *v1alpha1.TaskAction) bool {
	return a.Spec.Type == v1alpha1.TypeTrace && a.Status.Phase == v1alpha1.Failed &&
		a.Status.ObservedGeneration != a.Generation && a.DeletionTimestamp == nil
}

// traceFailed reads why a trace failed, which its parent wrote beside its inputs. The
// SDK raises that again in the parent's next attempt; where it is recoverable, or
// there is none, it runs the trace anew.
func (w *work) traceFailed(ctx context.Context) error {
	content, err := w.Store.Get(ctx, w.action.Spec.RunOutputBase+"/"+w.action.Spec.Action+"/error.pb", maxError)
	if errors.Is(err, bucket.ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	document := &core.ErrorDocument{}
	if err := proto.Unmarshal(content, document); err != nil {
		return nil // as where there is none
	}
	failure := judge.Document(document.GetError()).ActionError
	failure.Message = cut(failure.Message)
	w.status.Error = &failure
	return nil
}
