package taskaction

import (
	"context"
	"strings"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// trace ends a trace as its parent says: it ran there. It is kept so that the
// parent's next attempt finds its outputs and does not run it again.
func (w *work) trace(context.Context) error {
	trace := &workflow.TraceAction{}
	if err := proto.Unmarshal(w.action.Spec.Trace, trace); err != nil {
		w.fault("BadTrace", "the trace cannot be decoded: "+err.Error())
		return nil
	}
	phase := v1alpha1.Phase(strings.TrimPrefix(trace.GetPhase().String(), "ACTION_PHASE_"))
	if !phase.Terminal() {
		phase = v1alpha1.Succeeded // a trace is enqueued when it has ended, and a failure says so
	}
	w.finish(phase, "Traced", "")
	w.status.OutputURI = trace.GetOutputs().GetOutputUri()
	if at := trace.GetStartTime(); at != nil {
		started := metav1.NewTime(at.AsTime())
		w.status.StartedAt = &started
	}
	if at := trace.GetEndTime(); at != nil {
		ended := metav1.NewTime(at.AsTime())
		w.status.EndedAt = &ended
	}
	return nil
}
