package taskaction

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// Indexes of the cache, by which an action finds those that it shares something
// with.
const (
	byRun    = "executor/run"    // RUN
	byParent = "executor/parent" // RUN/PARENT
	byCache  = "executor/cache"  // the cache key of an action that has not ended
	byOwner  = "executor/of"     // of pods: the UID of their action
)

func runKey(a *v1alpha1.TaskAction) string { return "run " + a.Namespace + "/" + a.Spec.Run }

func cacheKey(a *v1alpha1.TaskAction) string { return "cache " + a.Spec.CacheKey }

func (w *work) request() reconcile.Request {
	return reconcile.Request{NamespacedName: client.ObjectKeyFromObject(w.action)}
}

// enterRun takes one of the run's places, if it has a limit. A parent that has
// children which have not ended takes none: they are what it waits for.
func (w *work) enterRun(ctx context.Context) (bool, error) {
	limit := int(w.run.GetMaxActionConcurrency())
	if limit == 0 {
		return true, nil
	}
	var all v1alpha1.TaskActionList
	err := w.Client.List(ctx, &all, client.InNamespace(w.action.Namespace), client.MatchingFields{byRun: w.action.Spec.Run}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return false, fmt.Errorf("listing the actions of the run: %w", err)
	}
	waits := map[string]bool{}
	for i := range all.Items {
		if a := &all.Items[i]; a.Spec.Parent != "" && !a.Status.Phase.Terminal() {
			waits[a.Spec.Parent] = true
		}
	}
	if w.admit(runKey(w.action), limit, all.Items, func(a *v1alpha1.TaskAction) bool { return running(a) && !waits[a.Spec.Action] }) {
		return true, nil
	}
	w.wait(v1alpha1.Queued, fmt.Sprintf("as many actions as the run may have at once (%d) are running", limit))
	return false, nil
}

// enterReservation waits where the author wants one action at a time to fill an
// entry of the cache.
func (w *work) enterReservation(ctx context.Context) (bool, error) {
	if !w.cached() || !w.metadata().GetCacheSerializable() {
		return true, nil
	}
	var same v1alpha1.TaskActionList
	if err := w.Client.List(ctx, &same, client.MatchingFields{byCache: w.action.Spec.CacheKey}, client.UnsafeDisableDeepCopy); err != nil {
		return false, fmt.Errorf("listing the actions of one cache key: %w", err)
	}
	if w.admit(cacheKey(w.action), 1, same.Items, running) {
		return true, nil
	}
	w.wait(v1alpha1.WaitingForResources, "another action with the same inputs is running, and this one will take its outputs")
	return false, nil
}

// admit asks the gate; the actions are those that share it, and isInside says
// which of them are.
func (w *work) admit(key string, limit int, actions []v1alpha1.TaskAction, isInside func(*v1alpha1.TaskAction) bool) bool {
	inside, known := map[types.UID]bool{}, map[types.UID]*v1alpha1.TaskAction{}
	for i := range actions {
		a := &actions[i]
		known[a.UID] = a
		if isInside(a) {
			inside[a.UID] = true
		}
	}
	// The objects tell of one that was let in once they show its attempt, or that it
	// is gone.
	settled := func(uid types.UID) bool {
		a, ok := known[uid]
		return !ok || running(a) || a.Status.Phase.Terminal()
	}
	if w.gate.enter(key, w.action.UID, w.request(), limit, inside, settled) {
		return true
	}
	w.lookAgain(w.now.Add(gatePause))
	return false
}

// leaveGates gives the places back of an attempt that could not begin.
func (w *work) leaveGates() {
	w.gate.leave(runKey(w.action), w.action.UID)
	w.gate.leave(cacheKey(w.action), w.action.UID)
}

// running says whether an action has an attempt that has not ended.
func running(a *v1alpha1.TaskAction) bool {
	n := len(a.Status.Attempts)
	return n > 0 && !a.Status.Attempts[n-1].Phase.Terminal()
}

// IsPodOf returns what says whether a pod is an action's, by its name: the action is
// known before its pod is made, and the pod itself may not be yet.
func IsPodOf(actions client.Reader) func(context.Context, types.NamespacedName) bool {
	return func(ctx context.Context, pod types.NamespacedName) bool {
		end := strings.LastIndex(pod.Name, "-")
		if end < 0 {
			return false
		}
		shared := true // nothing of it is read
		err := actions.Get(ctx, types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name[:end]},
			&v1alpha1.TaskAction{}, &client.GetOptions{UnsafeDisableDeepCopy: &shared})
		return err == nil
	}
}

// ownerOf is the UID of a pod's action.
func ownerOf(pod *corev1.Pod) string {
	for _, owner := range pod.OwnerReferences {
		if owner.Kind == "TaskAction" && owner.Controller != nil && *owner.Controller {
			return string(owner.UID)
		}
	}
	return ""
}
