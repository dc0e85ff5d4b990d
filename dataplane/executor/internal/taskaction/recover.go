package taskaction

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"

	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/actions"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/condition"
	"biplane.dev/biplane/dataplane/executor/internal/recovery"
	"biplane.dev/biplane/dataplane/internal/record"
)

// recover takes the outputs of the same action of another run, which the server
// that enqueued this one has found. Where that one's object was gone already, its
// record says how it ended; where there is none, this one runs as any other.
func (w *work) recover(ctx context.Context) error {
	source := w.action.Spec.RecoveredFrom
	if source == nil || len(w.status.Attempts) > 0 {
		return nil
	}
	uri := source.OutputURI
	if uri == "" {
		kept, err := w.recordOf(ctx, source.Run, source.Action)
		if err != nil || !recovery.Succeeded(kept.Status.Phase) {
			return err
		}
		uri = kept.Status.OutputURI
	}
	if there, _, err := w.Store.Exists(ctx, uri+"/outputs.pb"); err != nil {
		return err
	} else if !there && w.declaresOutputs() {
		return nil // deleted since
	}
	w.status.OutputURI = uri
	w.finish(v1alpha1.Recovered, "Recovered", "the outputs are those of run "+source.Run)
	return nil
}

// recoverValue is recover for a condition.
func (w *work) recoverValue(ctx context.Context) (bool, error) {
	source := w.action.Spec.RecoveredFrom
	if source == nil {
		return false, nil
	}
	value := source.Value
	if value == nil {
		kept, err := w.recordOf(ctx, source.Run, source.Action)
		if err != nil || !recovery.Succeeded(kept.Status.Phase) || kept.Status.Value == nil {
			return false, err
		}
		value = kept.Status.Value
	}
	literal := &core.Literal{}
	if err := proto.Unmarshal(value, literal); err != nil {
		return false, nil
	}
	if fits, _, err := condition.Fits(w.action.Spec.Condition, literal); err != nil || !fits {
		return false, nil // it asks for something else now
	}
	w.status.Value = value
	w.finish(v1alpha1.Recovered, "Recovered", "the value is that of run "+source.Run)
	return true, nil
}

// replay makes the traces that the same action had in the run that is recovered, before
// this one begins: it finds them as if they were of an attempt of its own, and does
// not do again what it had done.
func (w *work) replay(ctx context.Context) error {
	run := recovery.From(w.run, w.action.Namespace)
	if run == "" {
		return nil
	}
	traces, err := w.tracesOf(ctx, run)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(replayedAtOnce)
	for _, trace := range traces {
		if recovery.Again(w.run, trace.Action) {
			continue
		}
		group.Go(func() error {
			decoded := &workflow.TraceAction{}
			if err := proto.Unmarshal(trace.Trace, decoded); err != nil || !recovery.Succeeded(tracedPhase(decoded)) {
				return nil
			}
			if _, _, err := bucket.Split(decoded.GetOutputs().GetOutputUri()); err != nil {
				return nil // it gave nothing that could be taken
			}
			if there, _, err := w.Store.Exists(ctx, decoded.GetOutputs().GetOutputUri()); err != nil || !there {
				return err
			}
			made := actions.RecoveredTrace(w.action, v1alpha1.ActionReference{Run: run, Action: trace.Action}, trace)
			if err := w.Client.Create(ctx, made); err != nil && !apierrors.IsAlreadyExists(err) {
				return fmt.Errorf("taking over the trace %s: %w", trace.Action, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// replayedAtOnce bounds what a task with thousands of traces asks for.
const replayedAtOnce = 16

// tracesOf are those of the action of this one's name in another run: of its objects,
// and of its record, since the objects of a run go one after the other.
func (w *work) tracesOf(ctx context.Context, run string) ([]record.Trace, error) {
	traces, err := w.tracesBelow(ctx, run)
	if err != nil {
		return nil, err
	}
	kept, err := w.recordOf(ctx, run, w.action.Spec.Action)
	if err != nil {
		return nil, err
	}
	for _, trace := range kept.Traces {
		if !slices.ContainsFunc(traces, func(there record.Trace) bool { return there.Action == trace.Action }) {
			traces = append(traces, trace)
		}
	}
	return traces, nil
}

// tracesBelow the action of this one's name in a run, be it this one's own. One that
// the reconciler has not come by has not failed.
func (w *work) tracesBelow(ctx context.Context, run string) ([]record.Trace, error) {
	var children v1alpha1.TaskActionList
	err := w.Client.List(ctx, &children, client.InNamespace(w.action.Namespace),
		client.MatchingFields{byParent: run + "/" + w.action.Spec.Action}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return nil, fmt.Errorf("listing traces: %w", err)
	}
	var traces []record.Trace
	for i := range children.Items {
		if child := &children.Items[i]; child.Spec.Type == v1alpha1.TypeTrace && child.Status.Phase != v1alpha1.Failed {
			traces = append(traces, record.Trace{
				Action: child.Spec.Action, ShortName: child.Spec.ShortName, Group: child.Spec.Group, InputURI: child.Spec.InputURI, Trace: child.Spec.Trace})
		}
	}
	return traces, nil
}

// recordOf reads how an action of another run ended; the zero record where none is
// kept. Runs of a workspace are side by side.
func (w *work) recordOf(ctx context.Context, run, action string) (record.Record, error) {
	name, folder, err := bucket.Split(w.action.Spec.RunOutputBase)
	if err != nil {
		return record.Record{}, nil // nothing was ever kept there
	}
	kept, err := record.Read(ctx, w.Store.S3, name, path.Join(path.Dir(folder), run, action))
	if errors.Is(err, record.ErrNone) {
		return record.Record{}, nil
	}
	if err != nil {
		return record.Record{}, fmt.Errorf("reading how %s of run %s ended: %w", action, run, err)
	}
	return kept, nil
}
