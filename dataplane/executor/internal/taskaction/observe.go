package taskaction

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/judge"
)

// maxError is the most that is read of what a program wrote about its failure.
const maxError = 10 << 20

// observe says what became of the current attempt's pod.
func (w *work) observe(ctx context.Context) error {
	a := w.live()
	if a == nil {
		return nil
	}
	verdict := judge.Verdict{Phase: v1alpha1.Failed, Failure: judge.Vanished()}
	if w.pod != nil {
		verdict = judge.Pod(w.pod, a.Container, w.now, w.Config.Executor.ImagePullGrace)
	}
	if verdict.Began != nil {
		a.ContainerStartedAt = verdict.Began
	}
	if verdict.Ended != nil {
		a.ContainerEndedAt = verdict.Ended
	}
	switch verdict.Phase {
	case v1alpha1.Succeeded, v1alpha1.Failed:
		failure, err := w.outcome(ctx, a, verdict.Failure)
		if err != nil {
			w.status.Message = cut("its pod has ended, and what it left cannot be read now: " + err.Error())
			return err
		}
		if failure != nil {
			w.fail(a, failure, v1alpha1.Failed)
			return nil
		}
		w.remember(ctx, a)
		w.succeed(a)
		return nil
	}
	phase := verdict.Phase
	if phase != v1alpha1.Running {
		// Whoever enqueues children runs. Its node may say so a second later.
		begun, err := w.hasBegun(ctx, a)
		if err != nil {
			return err
		}
		if begun {
			phase = v1alpha1.Running
		}
	}
	w.enter(a, phase)
	w.status.Message = cut(verdict.Message)
	if !verdict.Again.IsZero() {
		w.lookAgain(verdict.Again)
	}
	return w.timeouts(a)
}

// hasBegun says whether an attempt has children of its own: younger than it, since
// those of an attempt before are still there.
func (w *work) hasBegun(ctx context.Context, a *v1alpha1.Attempt) (bool, error) {
	var children v1alpha1.TaskActionList
	err := w.Client.List(ctx, &children, client.InNamespace(w.action.Namespace),
		client.MatchingFields{byParent: w.action.Spec.Run + "/" + w.action.Spec.Action}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return false, fmt.Errorf("listing children: %w", err)
	}
	return slices.ContainsFunc(children.Items, func(child v1alpha1.TaskAction) bool {
		replayed := child.Spec.Type == v1alpha1.TypeTrace && child.Spec.RecoveredFrom != nil // made by us, not by its pod
		return child.CreatedAt().After(a.StartedAt.Time) && !replayed
	}), nil
}

// outcome reads what the program left, which says more than how it ended: a
// program that caught the author's exception ends with exit code 0. It returns nil
// for a success.
func (w *work) outcome(ctx context.Context, a *v1alpha1.Attempt, failure *judge.Failure) (*judge.Failure, error) {
	if failure != nil && failure.Final {
		return failure, nil
	}
	content, err := w.Store.Get(ctx, a.OutputURI+"/error.pb", maxError)
	if err == nil {
		document := &core.ErrorDocument{}
		if err := proto.Unmarshal(content, document); err != nil {
			return judge.Never(v1alpha1.UserError, "BadErrorDocument", "the program's error.pb cannot be decoded: "+err.Error()), nil
		}
		return judge.Document(document.GetError()), nil
	}
	if errors.Is(err, bucket.ErrTooLarge) { // of an exception with a very long text, most likely
		return judge.TooLong(a.OutputURI+"/error.pb", maxError), nil
	}
	if !errors.Is(err, bucket.ErrNone) {
		return nil, err
	}
	declared := w.declaresOutputs()
	vanished := w.pod == nil
	if failure != nil && !(vanished && declared) {
		return failure, nil
	}
	if !declared {
		return nil, nil
	}
	file := a.OutputURI + "/outputs.pb"
	there, _, err := w.Store.Exists(ctx, file)
	switch {
	case err != nil:
		return nil, err
	case there: // of a pod that vanished, too: outputs are the last that it writes
		return nil, nil
	case failure != nil:
		return failure, nil
	}
	return judge.NoOutputs(file), nil
}

func (w *work) declaresOutputs() bool {
	return len(w.spec.GetTaskTemplate().GetInterface().GetOutputs().GetVariables()) > 0
}

// Codes by which Flyte's SDK raises the right exception.
const (
	queuedTooLong = "QUEUED_TIMEOUT_EXCEEDED"
	ranTooLong    = "MAX_RUNTIME_EXCEEDED"
	tooLate       = "DEADLINE_EXCEEDED"
)

// timeouts ends an attempt that waits or runs too long. What is left of its pod is
// stopped by tidy, when this is written.
func (w *work) timeouts(a *v1alpha1.Attempt) error {
	metadata := w.metadata()
	switch a.Phase {
	case v1alpha1.Running:
		limit, since := metadata.GetTimeout().AsDuration(), ran(a)
		if limit > 0 && w.over(since, limit) {
			w.fail(a, judge.TimedOut(ranTooLong, "the attempt ran longer than its timeout of "+limit.String()), v1alpha1.TimedOut)
		}
	case v1alpha1.Queued, v1alpha1.WaitingForResources:
		limit := metadata.GetTimeouts().GetQueuedTimeout().AsDuration()
		if limit > 0 && w.over(w.queuedSince(), limit) {
			w.fail(a, judge.TimedOut(queuedTooLong, "the attempt waited longer than its queued timeout of "+limit.String()+": "+w.status.Message), v1alpha1.TimedOut)
		}
	}
	return nil
}

// over says whether a time has passed, or has this looked at again when it has.
func (w *work) over(since time.Time, limit time.Duration) bool {
	until := since.Add(limit)
	if w.now.Before(until) {
		w.lookAgain(until)
		return false
	}
	return true
}

// ran is since when an attempt runs. The node's time is of whole seconds, so that
// ours is taken where it is of the same moment; it is much later where the executor
// was away.
func ran(a *v1alpha1.Attempt) time.Time {
	seen := a.StartedAt.Time
	for i := len(a.Transitions) - 1; i >= 0; i-- {
		if a.Transitions[i].Phase == v1alpha1.Running {
			seen = a.Transitions[i].At.Time
			break
		}
	}
	if began := a.ContainerStartedAt; began != nil && seen.Sub(began.Time) > 2*time.Second {
		return began.Time
	}
	return seen
}

// born is when the action was enqueued; where only the second of that is kept, its
// end, so that nothing is too late too early.
func born(a *v1alpha1.TaskAction) time.Time {
	if a.Spec.EnqueuedAt == nil {
		return a.CreationTimestamp.Add(time.Second)
	}
	return a.Spec.EnqueuedAt.Time
}

// queuedSince is when the current attempt, or the one to come, began to wait.
func (w *work) queuedSince() time.Time {
	since := born(w.action)
	if before := w.before(); before != nil && before.EndedAt != nil {
		since = before.EndedAt.Time
	}
	if w.status.NotBefore != nil && w.status.NotBefore.After(since) {
		since = w.status.NotBefore.Time
	}
	return since
}

// before is the last attempt that has ended.
func (w *work) before() *v1alpha1.Attempt {
	for i := len(w.status.Attempts) - 1; i >= 0; i-- {
		if w.status.Attempts[i].Phase.Terminal() {
			return &w.status.Attempts[i]
		}
	}
	return nil
}

// deadline ends the action when the time for all of its attempts is over.
func (w *work) deadline(context.Context) error {
	limit := w.metadata().GetTimeouts().GetDeadline().AsDuration()
	if limit <= 0 || !w.over(born(w.action), limit) {
		return nil
	}
	failure := v1alpha1.ActionError{Code: tooLate, Kind: v1alpha1.UserError,
		Message: "the action did not end within its deadline of " + limit.String()}
	if a := w.live(); a != nil {
		attempt := failure
		a.Error = &attempt
		w.end(a, v1alpha1.TimedOut)
	}
	w.status.Error = &failure
	w.finish(v1alpha1.TimedOut, "TimedOut", failure.Message)
	return nil
}

func (w *work) metadata() *core.TaskMetadata { return w.spec.GetTaskTemplate().GetMetadata() }
