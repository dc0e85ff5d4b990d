package taskaction

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// atMost is how long one step of an action may take, so that no call that hangs takes
// a worker away for ever.
const atMost = 2 * time.Minute

// Register has the manager reconcile TaskActions: when one changes, when one of its
// pods does, and when what it waits for does.
func (r *Reconciler) Register(ctx context.Context, m manager.Manager) error {
	if err := index(ctx, m); err != nil {
		return fmt.Errorf("indexing the cache: %w", err)
	}
	noNameCheck := true // several managers live in one process of a test
	return ctrl.NewControllerManagedBy(m).
		Named("taskaction").
		For(&v1alpha1.TaskAction{}).
		Owns(&corev1.Pod{}).
		Watches(&v1alpha1.TaskAction{}, handler.Funcs{CreateFunc: r.wakeParent, UpdateFunc: r.wakeOthers}).
		Watches(&v1alpha1.Workspace{}, handler.EnqueueRequestsFromMapFunc(r.ofWorkspace)).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: r.Config.Executor.Workers,
			ReconciliationTimeout:   atMost,
			SkipNameValidation:      &noNameCheck,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, 15*time.Second),
		}).
		Complete(r)
}

func index(ctx context.Context, m manager.Manager) error {
	indexer := m.GetFieldIndexer()
	for name, of := range map[string]func(*v1alpha1.TaskAction) string{
		byRun: func(a *v1alpha1.TaskAction) string { return a.Spec.Run },
		byParent: func(a *v1alpha1.TaskAction) string {
			if a.Spec.Parent == "" {
				return ""
			}
			return a.Spec.Run + "/" + a.Spec.Parent
		},
		byCache: func(a *v1alpha1.TaskAction) string {
			if a.Status.Phase.Terminal() {
				return ""
			}
			return a.Spec.CacheKey
		},
	} {
		err := indexer.IndexField(ctx, &v1alpha1.TaskAction{}, name, func(object client.Object) []string {
			if key := of(object.(*v1alpha1.TaskAction)); key != "" {
				return []string{key}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return indexer.IndexField(ctx, &corev1.Pod{}, byOwner, func(object client.Object) []string {
		if owner := ownerOf(object.(*corev1.Pod)); owner != "" {
			return []string{owner}
		}
		return nil
	})
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// wakeParent tells a parent whose pod is not known to run that it has a child.
func (r *Reconciler) wakeParent(ctx context.Context, e event.CreateEvent, q queue) {
	child := e.Object.(*v1alpha1.TaskAction)
	if child.Spec.Parent == "" {
		return
	}
	key := types.NamespacedName{Namespace: child.Namespace, Name: v1alpha1.ActionName(child.Spec.Run, child.Spec.Parent)}
	parent := &v1alpha1.TaskAction{}
	if err := r.Client.Get(ctx, key, parent); err == nil && parent.Status.Phase == v1alpha1.Initializing {
		q.Add(reconcile.Request{NamespacedName: key})
	}
}

// wakeOthers tells those whom the end of an action, or of its attempt, concerns:
// its children, which nobody waits for any more, and whoever waits for its place.
func (r *Reconciler) wakeOthers(ctx context.Context, e event.UpdateEvent, q queue) {
	before, now := e.ObjectOld.(*v1alpha1.TaskAction), e.ObjectNew.(*v1alpha1.TaskAction)
	if running(before) && !running(now) || !before.Status.Phase.Terminal() && now.Status.Phase.Terminal() {
		for _, key := range []string{runKey(now), cacheKey(now)} {
			for _, request := range r.gate.wake(key) {
				q.Add(request)
			}
		}
	}
	ending := now.Status.Phase.Terminal() && !before.Status.Phase.Terminal()
	if root := now.Spec.Parent == ""; ending || root && now.Spec.Abort != nil && before.Spec.Abort == nil {
		field, key := byParent, now.Spec.Run+"/"+now.Spec.Action
		if root { // the whole tree at once
			field, key = byRun, now.Spec.Run
		}
		r.enqueue(ctx, q, now.Namespace, client.MatchingFields{field: key})
	}
}

func (r *Reconciler) enqueue(ctx context.Context, q queue, namespace string, which client.ListOption) {
	for _, request := range r.unfinished(ctx, namespace, which) {
		q.Add(request)
	}
}

func (r *Reconciler) ofWorkspace(ctx context.Context, workspace client.Object) []reconcile.Request {
	return r.unfinished(ctx, workspace.GetName())
}

// unfinished lists the actions that have not ended.
func (r *Reconciler) unfinished(ctx context.Context, namespace string, which ...client.ListOption) []reconcile.Request {
	var list v1alpha1.TaskActionList
	if err := r.Client.List(ctx, &list, append(which, client.InNamespace(namespace), client.UnsafeDisableDeepCopy)...); err != nil {
		r.Log.Error("listing actions", "namespace", namespace, "error", err) // the cache is not to be had: it is the end
		return nil
	}
	var requests []reconcile.Request
	for i := range list.Items {
		if a := &list.Items[i]; !a.Status.Phase.Terminal() {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: a.Namespace, Name: a.Name}})
		}
	}
	return requests
}
