// Package podlogs keeps the logs of pods that have ended: those of each container,
// as Kubernetes gives them, in the metadata bucket. They are read from there when
// the pod is gone.
//
// What its node has rotated away by then is gone: a kubelet gives the newest file of a
// log, of 10 MiB unless containerLogMaxSize says more. To have the rest, every log would
// have to be followed from its beginning, by a stream through the API server for each
// container that runs, and to be kept in pieces that outlive this process; that is
// worth it once somebody's logs are longer, and their nodes cannot be told.
//
// A pod is marked (Annotation) when that is done, and not deleted before. Logs of a
// running pod are read from its node, which is package proxy's. Start with
// Reconciler.
package podlogs

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/judge"
)

// Annotation of a pod that has ended says that its logs are kept, or that they
// cannot be had.
const (
	Annotation = "biplane.dev/logs"
	Kept       = "kept"
	Lost       = "lost"
)

const (
	// MaxBytes of one container's log are kept.
	MaxBytes = 256 << 20
	// patience with a node that does not give them.
	patience = 5 * time.Minute
	workers  = 16
	// reads is how many logs are read at once, each of which may take the memory of
	// one part of an upload.
	reads = 16
	// atMost is how long the logs of one pod may take.
	atMost = 30 * time.Minute
)

// Reconciler of pods that have ended.
type Reconciler struct {
	Client client.Client
	Logs   kubernetes.Interface
	Store  *bucket.Store
	Bucket string // of metadata
	Now    func() time.Time
	Log    *slog.Logger

	reading *semaphore.Weighted
}

// Register has the manager call Reconcile for every pod of ours that ends.
func (r *Reconciler) Register(m manager.Manager) error {
	r.begin()
	noNameCheck := true
	return ctrl.NewControllerManagedBy(m).
		Named("podlogs").
		For(&corev1.Pod{}).
		WithEventFilter(predicate.NewPredicateFuncs(func(object client.Object) bool { return unkept(object.(*corev1.Pod)) })).
		WithOptions(controller.Options{
			MaxConcurrentReconciles: workers,
			ReconciliationTimeout:   atMost,
			SkipNameValidation:      &noNameCheck,
			RateLimiter:             workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](200*time.Millisecond, 15*time.Second),
		}).
		Complete(r)
}

func (r *Reconciler) begin() { r.reading = semaphore.NewWeighted(reads) }

func unkept(pod *corev1.Pod) bool {
	return judge.Over(pod) && pod.Annotations[Annotation] == "" && pod.Labels[v1alpha1.LabelManaged] == "true"
}

// Reconcile keeps the logs of one pod.
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	pod := &corev1.Pod{}
	if err := r.Client.Get(ctx, request.NamespacedName, pod); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err)
	}
	if !unkept(pod) {
		return reconcile.Result{}, nil
	}
	mark := Kept
	if err := r.keep(ctx, pod); err != nil {
		if errors.Is(ctx.Err(), context.Canceled) {
			return reconcile.Result{}, nil // the process ends
		}
		if unreadable := (*unreadable)(nil); !errors.As(err, &unreadable) || r.Now().Sub(endOf(pod)) < patience {
			return reconcile.Result{}, fmt.Errorf("keeping the logs: %w", err) // a bucket that is away comes back
		}
		r.Log.Warn("giving up the logs of a pod", "namespace", pod.Namespace, "pod", pod.Name, "error", err)
		mark = Lost
	}
	marked := pod.DeepCopy()
	if marked.Annotations == nil {
		marked.Annotations = map[string]string{}
	}
	marked.Annotations[Annotation] = mark
	if err := client.IgnoreNotFound(r.Client.Patch(ctx, marked, client.MergeFrom(pod))); err != nil {
		return reconcile.Result{}, fmt.Errorf("marking the pod: %w", err)
	}
	return reconcile.Result{}, nil
}

func (r *Reconciler) keep(ctx context.Context, pod *corev1.Pod) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(4)
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for _, status := range statuses {
			if status.ContainerID == "" && status.State.Terminated == nil {
				continue // it never started
			}
			group.Go(func() error { return r.keepOne(ctx, pod, status.Name) })
		}
	}
	return group.Wait()
}

func (r *Reconciler) keepOne(ctx context.Context, pod *corev1.Pod, container string) error {
	if err := r.reading.Acquire(ctx, 1); err != nil {
		return err
	}
	defer r.reading.Release(1)
	stream, err := r.Logs.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{Container: container, Timestamps: true}).Stream(ctx)
	if apierrors.IsNotFound(err) || apierrors.IsBadRequest(err) {
		return nil // the pod is gone, or the container never had a log
	}
	if err != nil {
		return &unreadable{container, err}
	}
	defer stream.Close()
	log := &noted{r: stream}
	err = r.Store.Upload(ctx, URI(r.Bucket, pod, container), &bounded{r: bufio.NewReaderSize(log, 64<<10), left: MaxBytes, now: r.Now})
	if log.failed != nil {
		return &unreadable{container, log.failed}
	}
	return err
}

// unreadable is a log that its node does not give.
type unreadable struct {
	container string
	cause     error
}

func (u *unreadable) Error() string {
	return "reading the log of " + u.container + ": " + u.cause.Error()
}
func (u *unreadable) Unwrap() error { return u.cause }

// noted tells an end that is none from the failure of whom the log goes to.
type noted struct {
	r      io.Reader
	failed error
}

// Read implements io.Reader.
func (n *noted) Read(p []byte) (int, error) {
	read, err := n.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		n.failed = err
	}
	return read, err
}

// URI of the log of a container.
func URI(metadataBucket string, pod *corev1.Pod, container string) string {
	of := func(label string) string { return pod.Labels[label] }
	return fmt.Sprintf("s3://%s/persisted-logs/%s/%s/%s/%s/%s/%s/%s.log", metadataBucket,
		of(v1alpha1.LabelProject), of(v1alpha1.LabelDomain), of(v1alpha1.LabelRun), of(v1alpha1.LabelAction), of(v1alpha1.LabelAttempt), pod.Name, container)
}

// endOf is the end of the last container.
func endOf(pod *corev1.Pod) time.Time {
	end := pod.CreationTimestamp.Time
	for _, status := range pod.Status.ContainerStatuses {
		if state := status.State.Terminated; state != nil && state.FinishedAt.After(end) {
			end = state.FinishedAt.Time
		}
	}
	return end
}

// bounded ends a log that is too long with a line that says so.
type bounded struct {
	r    io.Reader
	left int64
	now  func() time.Time
	note []byte
	cut  bool
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if b.left > 0 {
		n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
		b.left -= int64(n)
		return n, err
	}
	if !b.cut {
		b.cut = true
		if n, err := b.r.Read(make([]byte, 1)); n == 0 && errors.Is(err, io.EOF) {
			return 0, io.EOF
		}
		b.note = fmt.Appendf(nil, "\n%s The log was longer than %d MiB and ends here.\n", b.now().UTC().Format(time.RFC3339Nano), MaxBytes>>20)
	}
	if len(b.note) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.note)
	b.note = b.note[n:]
	return n, nil
}
