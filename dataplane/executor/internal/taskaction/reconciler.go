// Package taskaction brings TaskActions to their ends: it makes a pod for each
// attempt, says what became of it, tries again, and ends what nobody waits for.
//
// It computes everything from what it reads: the action, its parent and root, its
// pods. So the same code serves a new action, a restart in the middle, and an event
// that was missed. It is the only writer of a TaskAction's status, once, at the end
// of Reconcile; from that status the rest of the world is told (package report).
//
// It makes no actions but traces that a recovered run had (package actions makes them), nor does it keep logs (package podlogs), nor
// remove what is old (package prune). Start with Reconcile.
package taskaction

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/resultcache"
	"biplane.dev/biplane/dataplane/executor/internal/staging"
	"biplane.dev/biplane/dataplane/executor/internal/taskpod"
)

// Options of a Reconciler.
type Options struct {
	Client client.Client // reads from the cache
	Live   client.Reader // reads from the API server
	Events record.EventRecorder
	// PodEvents is what Kubernetes says of pods.
	PodEvents PodEvents
	Store     *bucket.Store
	Config    *config.Config
	// Recorded says whether the control plane has recorded an object as it is at
	// this resource version.
	Recorded func(resourceVersion string) bool
	Now      func() time.Time
	Metrics  *Metrics
	Log      *slog.Logger
}

// Reconciler of TaskActions.
type Reconciler struct {
	Options

	pods      *taskpod.Builder
	stager    *staging.Stager
	results   *resultcache.Cache
	templates *lru.Cache // namespace/digest to *task.TaskSpec; a digest's contents never change
	gate      *gate
}

// Bounds of the memory of templates. Most are of some kilobytes; what is larger, up
// to a megabyte, is read anew.
const (
	templatesKept = 1024
	largeTemplate = 64 << 10
)

// New returns a reconciler, to be registered.
func New(options Options) *Reconciler {
	return &Reconciler{
		Options:   options,
		pods:      &taskpod.Builder{Executor: options.Config.Executor},
		stager:    staging.New(options.Store, options.Config.Storage),
		results:   resultcache.New(options.Store, options.Config.Storage.MetadataBucket),
		templates: lru.New(templatesKept),
		gate:      newGate(),
	}
}

// work is one reconciliation: what was read, and the status as it is to be.
type work struct {
	*Reconciler
	action *v1alpha1.TaskAction
	status *v1alpha1.TaskActionStatus
	parent *v1alpha1.TaskAction // nil for the root, or where it is gone
	root   *v1alpha1.TaskAction // nil where it is gone
	run    *task.RunSpec
	// unreadable is why the run's or the task's definition is none.
	unreadable error
	spec       *task.TaskSpec // nil where the template is gone, and of what is no task
	pod        *corev1.Pod    // of the current attempt, where there is one
	now        time.Time
	again      time.Time // when to look again although nothing happens; zero is never
	said       []said    // events for a person, sent once the status is written
}

type said struct{ kind, reason, message string }

// steps are what is done for an action, in order, until it has ended. Each changes
// w.status alone; launch also makes pods.
func steps(of v1alpha1.ActionType) []func(*work, context.Context) error {
	switch of {
	case v1alpha1.TypeTrace:
		return []func(*work, context.Context) error{
			(*work).begin,
			(*work).trace, // has ended before it came
		}
	case v1alpha1.TypeCondition:
		return []func(*work, context.Context) error{
			(*work).begin,
			(*work).abort,     // told to end, or nobody waits for it
			(*work).condition, // a value, or too late
		}
	}
	return []func(*work, context.Context) error{
		(*work).begin,    // say that it is there
		(*work).abort,    // told to end, or nobody waits for it
		(*work).observe,  // what became of the current attempt's pod
		(*work).deadline, // too late, whatever the attempts are
		(*work).recover,  // another run's outputs
		(*work).launch,   // the next attempt
	}
}

// Reconcile brings an action one step on. An error is of something that passes,
// and is tried again.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	result, err := r.reconcile(ctx, request)
	if errors.Is(ctx.Err(), context.Canceled) {
		return reconcile.Result{}, nil // the process ends, which is no failure of the action's
	}
	return result, err
}

func (r *Reconciler) reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	w, err := r.read(ctx, request)
	if w == nil || err != nil {
		return reconcile.Result{}, err
	}
	for _, step := range steps(w.action.Spec.Type) {
		if w.status.Phase.Terminal() || err != nil {
			break
		}
		err = step(w, ctx)
	}
	if err == nil {
		err = w.keep(ctx) // the logs, and what can be read when the object is gone
	}
	if conflict, writeErr := w.write(ctx); conflict {
		// Somebody wrote meanwhile, so what was read is old.
		return reconcile.Result{RequeueAfter: conflictPause}, nil
	} else if writeErr != nil {
		return reconcile.Result{}, errors.Join(err, writeErr)
	}
	if err == nil {
		err = w.tidy(ctx) // pods, and the object itself, that are wanted no more
	}
	if err != nil {
		return reconcile.Result{}, err
	}
	return w.result(), nil
}

const conflictPause = 20 * time.Millisecond

// read returns nil where the action is gone. Of one that has ended nothing more is
// read: it stays as it is.
func (r *Reconciler) read(ctx context.Context, request reconcile.Request) (*work, error) {
	action := &v1alpha1.TaskAction{}
	if err := r.Client.Get(ctx, request.NamespacedName, action); err != nil {
		return nil, client.IgnoreNotFound(err)
	}
	w := &work{Reconciler: r, action: action, status: action.Status.DeepCopy(), run: &task.RunSpec{}, now: r.Now()}
	if tracedAgain(action) {
		w.status = &v1alpha1.TaskActionStatus{Version: action.Status.Version}
	}
	if w.status.Phase.Terminal() {
		return w, nil
	}
	var err error
	if w.root, err = r.sibling(ctx, action, v1alpha1.RootAction); err != nil {
		return nil, err
	}
	if action.Spec.Parent != "" {
		if w.parent, err = r.sibling(ctx, action, action.Spec.Parent); err != nil {
			return nil, err
		}
	}
	if w.root != nil {
		w.unreadable = proto.Unmarshal(w.root.Spec.RunSpec, w.run)
	}
	if action.Spec.Type != v1alpha1.TypeTask {
		return w, nil
	}
	if w.spec, err = r.template(ctx, action); errors.Is(err, errUnreadable) {
		w.unreadable = err
	} else if err != nil {
		return nil, err
	}
	if attempt := w.live(); attempt != nil {
		w.pod, err = r.podOf(ctx, action.Namespace, attempt)
	}
	return w, err
}

// errUnreadable is of what was written by somebody who should know better: no other
// try makes it readable.
var errUnreadable = errors.New("it cannot be decoded")

// template reads what an action runs; nil where it is gone.
func (r *Reconciler) template(ctx context.Context, action *v1alpha1.TaskAction) (*task.TaskSpec, error) {
	key := types.NamespacedName{Namespace: action.Namespace, Name: action.Spec.Template}
	if spec, ok := r.templates.Get(key); ok {
		return spec.(*task.TaskSpec), nil
	}
	if key.Name == "" {
		return nil, nil
	}
	object := &v1alpha1.TaskTemplate{}
	if err := r.Live.Get(ctx, key, object); apierrors.IsNotFound(err) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading the template %s: %w", key.Name, err)
	}
	spec := &task.TaskSpec{}
	if err := proto.Unmarshal(object.Spec, spec); err != nil {
		return nil, fmt.Errorf("the TaskTemplate %s: %w: %w", key.Name, errUnreadable, err)
	}
	if len(object.Spec) <= largeTemplate {
		r.templates.Add(key, spec)
	}
	return spec, nil
}

// sibling reads another action of the run; nil where there is none. A child may
// be heard of before its parent is.
func (r *Reconciler) sibling(ctx context.Context, action *v1alpha1.TaskAction, name string) (*v1alpha1.TaskAction, error) {
	if action.Spec.Action == name {
		return action, nil
	}
	key := types.NamespacedName{Namespace: action.Namespace, Name: v1alpha1.ActionName(action.Spec.Run, name)}
	for _, reader := range []client.Reader{r.Client, r.Live} {
		sibling := &v1alpha1.TaskAction{}
		err := reader.Get(ctx, key, sibling)
		if err == nil && sibling.Spec.Run == action.Spec.Run {
			return sibling, nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("reading %s: %w", key.Name, err)
		}
	}
	return nil, nil
}

// podOf reads the pod of an attempt; nil where it is gone. That a cache does not
// know it says nothing: it may not have heard of it yet.
func (r *Reconciler) podOf(ctx context.Context, namespace string, attempt *v1alpha1.Attempt) (*corev1.Pod, error) {
	for _, reader := range []client.Reader{r.Client, r.Live} {
		pod := &corev1.Pod{}
		err := reader.Get(ctx, types.NamespacedName{Namespace: namespace, Name: attempt.Pod}, pod)
		if err == nil && string(pod.UID) == attempt.PodUID {
			return pod, nil
		}
		if err != nil && !apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("reading the pod %s: %w", attempt.Pod, err)
		}
	}
	return nil, nil
}

// write writes the status if it has changed. Its version grows with what others are
// to be told.
func (w *work) write(ctx context.Context) (conflict bool, err error) {
	w.status.ObservedGeneration = w.action.Generation
	if equality.Semantic.DeepEqual(w.status, &w.action.Status) {
		return false, nil
	}
	before := w.action.Status
	if w.news() {
		w.status.Version++
	}
	written := w.action.DeepCopy()
	written.Status = *w.status
	switch err := w.Client.Status().Update(ctx, written); {
	case apierrors.IsConflict(err):
		return true, nil
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, fmt.Errorf("writing the status: %w", err)
	}
	w.action = written
	w.status = written.Status.DeepCopy()
	w.Metrics.wrote(&before, w.status, w.action)
	for _, s := range w.said {
		w.Events.Event(written, s.kind, s.reason, s.message)
	}
	if before.Phase != w.status.Phase {
		w.Log.Info("phase", "namespace", written.Namespace, "action", written.Name, "from", before.Phase, "to", w.status.Phase)
	}
	return false, nil
}

// news says whether others are to be told what is not written yet.
func (w *work) news() bool {
	return !equality.Semantic.DeepEqual(tellable(w.status), tellable(&w.action.Status))
}

// tellable is the part of a status that others are told.
func tellable(status *v1alpha1.TaskActionStatus) *v1alpha1.TaskActionStatus {
	part := status.DeepCopy()
	part.Version, part.ObservedGeneration, part.Conditions, part.NotBefore = 0, 0, nil, nil
	if !part.Phase.Terminal() {
		part.Message = ""
	}
	for i := range part.Attempts {
		part.Attempts[i].LogsKept = false
	}
	return part
}

func (w *work) result() reconcile.Result {
	if w.again.IsZero() {
		return reconcile.Result{}
	}
	return reconcile.Result{RequeueAfter: max(w.again.Sub(w.Now()), time.Millisecond)}
}

// lookAgain at a time, or before it.
func (w *work) lookAgain(at time.Time) {
	if w.again.IsZero() || at.Before(w.again) {
		w.again = at
	}
}

func (w *work) say(kind, reason, format string, args ...any) {
	w.said = append(w.said, said{kind, reason, fmt.Sprintf(format, args...)})
}

// begin says that the action is there, and ends one that nobody can read.
func (w *work) begin(context.Context) error {
	if w.status.Phase == "" {
		w.status.Phase = v1alpha1.Queued
		w.status.StartedAt = v1alpha1.At(w.action.CreatedAt())
	}
	switch {
	case w.live() != nil:
	case w.unreadable != nil:
		w.fault("BadDefinition", "the definition of the run or the task cannot be read: "+w.unreadable.Error())
	case w.action.Spec.Type == v1alpha1.TypeTask && w.spec == nil:
		w.fault("TemplateNotFound", "the definition of the task, TaskTemplate "+w.action.Spec.Template+", is gone: run it anew")
	}
	return nil
}

// finish ends the action.
func (w *work) finish(phase v1alpha1.Phase, reason, message string) {
	w.status.Phase, w.status.EndedAt, w.status.NotBefore = phase, v1alpha1.At(w.now), nil
	w.status.Message = cut(message)
	kind, status := "Failed", metav1.ConditionTrue
	if phase == v1alpha1.Succeeded || phase == v1alpha1.Recovered {
		kind = "Succeeded"
	}
	w.setCondition(metav1.Condition{Type: kind, Status: status, Reason: reason, Message: shorten(message, shortError)})
}
