package taskaction

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/judge"
	"biplane.dev/biplane/dataplane/executor/internal/staging"
	"biplane.dev/biplane/dataplane/executor/internal/taskpod"
)

// Pauses of what no event ends.
const (
	quotaPause = 5 * time.Second  // until a quota is asked again
	gatePause  = 30 * time.Second // until a gate is, whose waker may have been missed
	stopPause  = 2 * time.Minute  // until a pod that is to stop is deleted, and thought lost
	lostPause  = 10 * time.Minute // until a pod that is deleted, and stays, is
)

// launch begins the next attempt where there is none, as soon as it may.
func (w *work) launch(ctx context.Context) error {
	if w.live() != nil {
		return nil
	}
	begins, err := w.mayBegin(ctx)
	if err != nil || !begins {
		return err
	}
	number := int32(len(w.status.Attempts)) + 1
	pod, failure, err := w.make(ctx, number)
	if err == nil && failure == nil {
		pod, failure, err = w.create(ctx, pod)
	}
	if err != nil {
		w.leaveGates()
		w.status.Message = cut("not started yet: " + err.Error())
		return err
	}
	if failure == nil && pod == nil { // the cluster has no room for it
		w.leaveGates()
		return nil
	}
	a := w.newAttempt(number)
	if failure != nil {
		w.fail(a, failure, v1alpha1.Failed)
		return nil
	}
	a.Pod, a.PodUID, a.Container = pod.Name, string(pod.UID), pod.Annotations["primary_container_name"]
	w.status.NotBefore, w.status.Message, w.status.Error = nil, "", nil
	return nil
}

func (w *work) newAttempt(number int32) *v1alpha1.Attempt {
	w.status.Attempts = append(w.status.Attempts, v1alpha1.Attempt{
		Number: number, StartedAt: v1alpha1.At(w.now), OutputURI: taskpod.Folder(w.action, number), CacheStatus: w.status.CacheStatus,
	})
	a := w.attempt()
	w.enter(a, v1alpha1.Queued)
	return a
}

// mayBegin goes through what an attempt has to wait for. An action that waits says
// why, and is looked at again when that may have changed.
func (w *work) mayBegin(ctx context.Context) (bool, error) {
	if w.tooLongInQueue() {
		return false, nil
	}
	if not := w.status.NotBefore; not != nil && w.now.Before(not.Time) {
		w.lookAgain(not.Time)
		return false, nil
	}
	if stops, err := w.stillStopping(ctx); stops || err != nil {
		return false, err
	}
	if suspended, err := w.suspended(ctx); suspended || err != nil {
		return false, err
	}
	if free, err := w.enterReservation(ctx); !free || err != nil {
		return false, err
	}
	if w.lookup(ctx) {
		return false, nil // found in the cache
	}
	return w.enterRun(ctx)
}

// tooLongInQueue is for an attempt without a pod; see timeouts for one with.
func (w *work) tooLongInQueue() bool {
	limit := w.metadata().GetTimeouts().GetQueuedTimeout().AsDuration()
	if limit <= 0 || !w.over(w.queuedSince(), limit) {
		return false
	}
	message := "the attempt waited longer than its queued timeout of " + limit.String()
	if w.status.Message != "" {
		message += ": " + w.status.Message
	}
	w.fail(w.newAttempt(int32(len(w.status.Attempts))+1), judge.TimedOut(queuedTooLong, message), v1alpha1.TimedOut)
	return true
}

// stillStopping waits for the pod of the attempt before: two of them must not
// write to the author's own places at once.
func (w *work) stillStopping(ctx context.Context) (bool, error) {
	a := w.before()
	if a == nil || a.Pod == "" || a.EndedAt == nil {
		return false, nil
	}
	pod, err := w.podOf(ctx, w.action.Namespace, a)
	if err != nil || pod == nil || judge.Over(pod) {
		return false, err
	}
	if lost := a.EndedAt.Add(stopPause); w.now.Before(lost) {
		w.status.Message = "the pod of the attempt before is being stopped"
		w.lookAgain(lost)
		return true, nil
	}
	return false, nil
}

func (w *work) suspended(ctx context.Context) (bool, error) {
	workspace := &v1alpha1.Workspace{}
	err := w.Client.Get(ctx, types.NamespacedName{Name: w.action.Namespace}, workspace)
	if apierrors.IsNotFound(err) || err == nil && !workspace.Spec.Suspended {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("reading the workspace: %w", err)
	}
	w.wait(v1alpha1.Queued, "the project is archived: restore it, and this goes on")
	return true, nil
}

func (w *work) wait(phase v1alpha1.Phase, message string) {
	if w.status.Phase != phase || w.status.Message != message {
		w.say(corev1.EventTypeNormal, "Waiting", "%s", message)
	}
	w.status.Phase, w.status.Message = phase, cut(message)
}

// make says what the pod is to be, and brings what it reads to where it reads it.
func (w *work) make(ctx context.Context, number int32) (*corev1.Pod, *judge.Failure, error) {
	attempt := taskpod.Attempt{
		Action: w.action, Run: w.run, Spec: w.spec, Number: number,
		Interruptible: w.interruptible(),
	}
	if before := w.before(); before != nil {
		attempt.Previous = before.OutputURI
	}
	if name := w.metadata().GetPodTemplateName(); name != "" {
		attempt.Template = &corev1.PodTemplate{}
		err := w.Live.Get(ctx, types.NamespacedName{Namespace: w.action.Namespace, Name: name}, attempt.Template)
		if apierrors.IsNotFound(err) {
			return nil, judge.Never(v1alpha1.UserError, "PodTemplateNotFound", fmt.Sprintf(
				"the task names the PodTemplate %q, and the namespace %s has none of that name", name, w.action.Namespace)), nil
		}
		if err != nil {
			return nil, nil, fmt.Errorf("reading the PodTemplate %s: %w", name, err)
		}
	}
	if taskpod.NeedsInputs(w.spec) {
		content, err := w.Store.Get(ctx, w.action.Spec.InputURI, maxInputs)
		switch {
		case errors.Is(err, bucket.ErrNone):
			return nil, judge.Never(v1alpha1.UserError, "InputsNotFound", "the command names an input, and there are no inputs in "+w.action.Spec.InputURI), nil
		case errors.Is(err, bucket.ErrTooLarge):
			return nil, judge.Never(v1alpha1.UserError, "BadInputs", fmt.Sprintf(
				"the command names an input, and the inputs have more than %d MiB: read them in the program", maxInputs>>20)), nil
		case err != nil:
			return nil, nil, err
		}
		attempt.Inputs = &task.Inputs{}
		if err := proto.Unmarshal(content, attempt.Inputs); err != nil {
			return nil, judge.Never(v1alpha1.UserError, "BadInputs", "the inputs cannot be decoded: "+err.Error()), nil
		}
	}
	pod, err := w.pods.Build(attempt)
	if invalid := (*taskpod.Invalid)(nil); errors.As(err, &invalid) {
		return nil, judge.Never(v1alpha1.UserError, invalid.Code, invalid.Message), nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("making the pod: %w", err)
	}
	if taskpod.NeedsTemplateFile(w.spec) {
		content, err := proto.Marshal(w.spec.GetTaskTemplate())
		if err != nil {
			return nil, nil, fmt.Errorf("encoding the template: %w", err)
		}
		if err := w.Store.Put(ctx, taskpod.TemplateFile(taskpod.Folder(w.action, number)), content); err != nil {
			return nil, nil, err
		}
	}
	switch err := w.stager.Stage(ctx, w.spec); {
	case errors.Is(err, staging.ErrNoBundle):
		return nil, judge.Never(v1alpha1.UserError, "CodeBundleNotFound",
			"the code of the task is in neither bucket: delete the SDK's cache of uploads (~/.flyte) and run it anew"), nil
	case err != nil:
		return nil, nil, fmt.Errorf("staging the code bundle: %w", err)
	}
	if number == 1 {
		if err := w.replay(ctx); err != nil {
			return nil, nil, err
		}
	}
	return pod, nil, nil
}

// maxInputs is over what the SDK lets through (10 MiB).
const maxInputs = 32 << 20

// interruptible says whether the attempt's node may be taken away: not when the
// system has no other attempt left.
func (w *work) interruptible() bool {
	wanted := w.metadata().GetInterruptible()
	if run := w.run.GetInterruptible(); run != nil {
		wanted = run.GetValue()
	}
	budget := w.Config.Executor.SystemRetries
	return wanted && (budget == 0 || w.status.SystemFailures < budget)
}

// create makes the pod. No pod, no failure and no error: the cluster does not take
// one now.
func (w *work) create(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, *judge.Failure, error) {
	err := w.Client.Create(ctx, pod)
	switch {
	case err == nil:
		w.Metrics.started()
		return pod, nil, nil
	case apierrors.IsAlreadyExists(err):
		return w.adopt(ctx, pod)
	case apierrors.IsForbidden(err), apierrors.IsTooManyRequests(err):
		// A quota, most of the time. It says itself what is used up.
		w.wait(v1alpha1.WaitingForResources, "the cluster takes no pod now: "+message(err))
		w.lookAgain(w.now.Add(quotaPause))
		return nil, nil, nil
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		return nil, judge.Never(v1alpha1.UserError, "BadTaskSpecification", "the cluster refuses the pod: "+message(err)), nil
	}
	return nil, nil, fmt.Errorf("creating the pod: %w", err)
}

// adopt takes the pod that was created before, by a reconciliation that did not
// come to write it down.
func (w *work) adopt(ctx context.Context, pod *corev1.Pod) (*corev1.Pod, *judge.Failure, error) {
	there := &corev1.Pod{}
	if err := w.Live.Get(ctx, client.ObjectKeyFromObject(pod), there); err != nil {
		return nil, nil, fmt.Errorf("reading the pod that is there: %w", err)
	}
	if !metav1.IsControlledBy(there, w.action) {
		w.wait(v1alpha1.WaitingForResources, fmt.Sprintf("there is a pod %q already that is not this action's: delete it", pod.Name))
		w.lookAgain(w.now.Add(quotaPause))
		return nil, nil, nil
	}
	return there, nil, nil
}

// message is what the API server says, without what we know.
func message(err error) string {
	if status := apierrors.APIStatus(nil); errors.As(err, &status) {
		return status.Status().Message
	}
	return err.Error()
}
