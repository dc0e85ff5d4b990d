package taskaction

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/judge"
	"biplane.dev/biplane/dataplane/executor/internal/podlogs"
	"biplane.dev/biplane/dataplane/internal/record"
)

// ConditionKept says that the record of an action that has ended is in the bucket.
const ConditionKept = "Kept"

// keep notes which logs are in the bucket and, when the action has ended and nothing
// of it runs any more, writes its record: so its texts can be read when its object is
// gone. An event of a pod calls again when there is more to keep, and the end itself
// does once it is written: of what was read too early the API server refuses the end,
// and a record would tell of it for ever.
func (w *work) keep(ctx context.Context) error {
	pods, err := w.ownPods(ctx)
	if err != nil {
		return err
	}
	all := len(pods) <= len(w.status.Attempts)
	for i := range w.status.Attempts {
		a := &w.status.Attempts[i]
		pod, err := w.podThere(ctx, pods, a)
		if err != nil {
			return err
		}
		if pod != nil && !w.lost(pod) {
			mark := pod.Annotations[podlogs.Annotation]
			a.LogsKept = a.Phase.Terminal() && mark == podlogs.Kept
			all = all && mark != ""
		}
	}
	if !all || !w.status.Phase.Terminal() || w.news() || meta.IsStatusConditionTrue(w.status.Conditions, ConditionKept) {
		return nil
	}
	if w.eventsDue() {
		w.lookAgain(w.now.Add(eventsPause / 10))
		return nil
	}
	name, folder, err := bucket.Split(strings.TrimSuffix(w.action.Spec.RunOutputBase, "/") + "/" + w.action.Spec.Action)
	if err != nil {
		return nil // nowhere to write it to
	}
	kept := record.Record{Status: *w.status.DeepCopy(), Events: w.podEvents()}
	if w.action.Spec.Type == v1alpha1.TypeTask {
		if kept.Traces, err = w.tracesBelow(ctx, w.action.Spec.Run); err != nil {
			return err
		}
	}
	if err := record.Write(ctx, w.Store.S3, name, folder, kept); err != nil {
		return err
	}
	w.setCondition(metav1.Condition{Type: ConditionKept, Status: metav1.ConditionTrue, Reason: "Recorded"})
	return nil
}

// ownPods are the action's pods, by UID, as the cache knows them.
func (w *work) ownPods(ctx context.Context) (map[string]*corev1.Pod, error) {
	var list corev1.PodList
	err := w.Client.List(ctx, &list, client.InNamespace(w.action.Namespace), client.MatchingFields{byOwner: string(w.action.UID)})
	if err != nil {
		return nil, fmt.Errorf("listing pods: %w", err)
	}
	pods := map[string]*corev1.Pod{}
	for i := range list.Items {
		pods[string(list.Items[i].UID)] = &list.Items[i]
	}
	return pods, nil
}

// lost says of a pod that is being deleted that nobody finishes that: its node is
// away. Should it come back, it deletes the pod itself.
func (w *work) lost(pod *corev1.Pod) bool {
	return pod.DeletionTimestamp != nil && w.over(pod.DeletionTimestamp.Time, lostPause)
}

// podThere is the pod of an attempt. One that has just been made may not be known
// to the cache.
func (w *work) podThere(ctx context.Context, pods map[string]*corev1.Pod, a *v1alpha1.Attempt) (*corev1.Pod, error) {
	if pod := pods[a.PodUID]; pod != nil || a.PodUID == "" || a.LogsKept || a.EndedAt == nil || w.now.Sub(a.EndedAt.Time) > time.Minute {
		return pod, nil
	}
	return w.podOf(ctx, w.action.Namespace, a)
}

// PodEvents remembers what Kubernetes says of a pod until it is told to forget.
type PodEvents interface {
	Of(pod types.UID) []record.Event
	Forget(pod types.UID)
}

// podEvents are what Kubernetes said of the pods, the oldest of each attempt first.
func (w *work) podEvents() []record.Event {
	var kept []record.Event
	for i := range w.status.Attempts {
		a := &w.status.Attempts[i]
		for _, e := range w.PodEvents.Of(types.UID(a.PodUID)) {
			e.Attempt = a.Number
			kept = append(kept, e)
		}
	}
	slices.SortStableFunc(kept, func(a, b record.Event) int {
		return cmp.Or(cmp.Compare(a.Attempt, b.Attempt), a.OccurredAt.Compare(b.OccurredAt))
	})
	return kept
}

// eventsPause is how long a record waits for the first event of a pod: Kubernetes tells
// late what became of one that ran for a moment.
const eventsPause = 5 * time.Second

// eventsDue says that of a pod that ended a moment ago nothing has been told yet.
func (w *work) eventsDue() bool {
	return slices.ContainsFunc(w.status.Attempts, func(a v1alpha1.Attempt) bool {
		return a.PodUID != "" && a.EndedAt != nil && w.now.Sub(a.EndedAt.Time) < eventsPause && len(w.PodEvents.Of(types.UID(a.PodUID))) == 0
	})
}

// forgetEvents of an action whose record is written, and known to be.
func (w *work) forgetEvents() {
	if !meta.IsStatusConditionTrue(w.status.Conditions, ConditionKept) {
		return
	}
	for i := range w.status.Attempts {
		w.PodEvents.Forget(types.UID(w.status.Attempts[i].PodUID))
	}
}

// Pods that have ended stay a moment, for those who are reading their logs.
const podStays = 10 * time.Second

// tidy ends what the written status wants no more: pods of attempts that have
// ended, and pods that belong to none. A pod that still runs is stopped by its own
// deadline rather than deleted: it stays until its logs are kept.
func (w *work) tidy(ctx context.Context) error {
	w.forgetEvents()
	pods, err := w.ownPods(ctx)
	if err != nil {
		return err
	}
	attempts := map[string]*v1alpha1.Attempt{}
	for i := range w.status.Attempts {
		attempts[w.status.Attempts[i].PodUID] = &w.status.Attempts[i]
	}
	for uid, pod := range pods {
		a := attempts[uid]
		switch {
		case pod.DeletionTimestamp != nil, a == nil && !w.status.Phase.Terminal(), a != nil && !a.Phase.Terminal():
		case a == nil, pod.Spec.NodeName == "":
			err = w.deletePod(ctx, pod)
		case !judge.Over(pod):
			err = w.stop(ctx, pod, a)
		case a.LogsKept, pod.Annotations[podlogs.Annotation] == podlogs.Lost:
			err = w.deleteLater(ctx, pod, a)
		}
		if err != nil {
			return err
		}
	}
	there := slices.ContainsFunc(slices.Collect(maps.Values(pods)), func(pod *corev1.Pod) bool { return !w.lost(pod) })
	return w.release(ctx, there)
}

// stopGrace is for a pod that did not end by its deadline, in seconds.
const stopGrace = 10

func (w *work) deletePod(ctx context.Context, pod *corev1.Pod, options ...client.DeleteOption) error {
	err := w.Client.Delete(ctx, pod, append(options, client.Preconditions{UID: &pod.UID})...)
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("deleting the pod %s: %w", pod.Name, err)
	}
	return nil
}

// stop gives the pod a deadline that has passed, which its node ends it by. A node
// that does not hear it is thought lost.
func (w *work) stop(ctx context.Context, pod *corev1.Pod, a *v1alpha1.Attempt) error {
	if lost := a.EndedAt.Add(stopPause); w.now.Before(lost) {
		w.lookAgain(lost)
	} else {
		return w.deletePod(ctx, pod, client.GracePeriodSeconds(stopGrace)) // whatever its author asked for
	}
	if deadline := pod.Spec.ActiveDeadlineSeconds; deadline != nil && *deadline == 1 {
		return nil
	}
	stopped := pod.DeepCopy()
	one := int64(1)
	stopped.Spec.ActiveDeadlineSeconds = &one
	if err := client.IgnoreNotFound(w.Client.Patch(ctx, stopped, client.MergeFrom(pod))); err != nil {
		return fmt.Errorf("stopping the pod %s: %w", pod.Name, err)
	}
	return nil
}

func (w *work) deleteLater(ctx context.Context, pod *corev1.Pod, a *v1alpha1.Attempt) error {
	if at := a.EndedAt.Add(podStays); w.now.Before(at) {
		w.lookAgain(at)
		return nil
	}
	return w.deletePod(ctx, pod)
}

// release lets an object go that is being deleted, once its end is recorded in the
// control plane and its pods are gone.
func (w *work) release(ctx context.Context, pods bool) error {
	if w.action.DeletionTimestamp == nil || !w.status.Phase.Terminal() || !slices.Contains(w.action.Finalizers, v1alpha1.FinalizerRecorded) {
		return nil
	}
	if pods {
		return nil // an event of theirs will call again
	}
	if !w.Recorded(w.action.ResourceVersion) || !meta.IsStatusConditionTrue(w.status.Conditions, ConditionKept) {
		w.lookAgain(w.now.Add(recordedPause))
		return nil
	}
	released := w.action.DeepCopy()
	released.Finalizers = slices.DeleteFunc(released.Finalizers, func(f string) bool { return f == v1alpha1.FinalizerRecorded })
	err := w.Client.Patch(ctx, released, client.MergeFromWithOptions(w.action, client.MergeFromWithOptimisticLock{}))
	if err := client.IgnoreNotFound(err); err != nil {
		return fmt.Errorf("releasing the action: %w", err)
	}
	return nil
}

// recordedPause is until the control plane is asked again what it has recorded.
const recordedPause = 2 * time.Second
