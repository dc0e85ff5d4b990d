package proxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/logs/dataplane"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/record"
	"biplane.dev/biplane/dataplane/internal/serve"
	"biplane.dev/biplane/dataplane/proxy/internal/bucket"
	"biplane.dev/biplane/dataplane/proxy/internal/logs"
)

const (
	// maxTails are followed at the same time. Each holds a connection to the API
	// server and some buffers.
	maxTails = 300
	// startTimeout is how long a stream is held open for a container to start.
	startTimeout = 10 * time.Minute
	// keepTimeout is how long after an attempt's end its log may be on its way
	// into the bucket when its pod is gone.
	keepTimeout = 30 * time.Second
	// A batch is sent when it has so many lines or bytes, or is so old.
	batchLines = 500
	batchBytes = 256 << 10
	batchAge   = 50 * time.Millisecond
	// Flyte's SDK fails with CANCELED upon a log that says nothing for 30 seconds,
	// instead of asking whether the action still runs. It ignores empty messages.
	quietTime = 10 * time.Second
)

// TailLogs sends the log of an attempt from its first line on, and ends after the
// last. Where the container has not started, it waits.
func (s *service) TailLogs(ctx context.Context, request *dataproxy.TailLogsRequest, stream *connect.ServerStream[dataproxy.TailLogsResponse]) error {
	workspace, err := s.admitAction(ctx, request.GetActionId())
	if err != nil {
		return err
	}
	if request.GetAttempt() == 0 || request.GetAttempt() > 1<<20 {
		return refuse(connect.CodeInvalidArgument, "there is no attempt %d; the first one is 1", request.GetAttempt())
	}
	select {
	case s.tails <- struct{}{}:
	default:
		return refuse(connect.CodeResourceExhausted, "%d logs are followed already; try again when one of them has ended", maxTails)
	}
	s.metrics.tails.Inc()
	defer func() {
		<-s.tails
		s.metrics.tails.Dec()
	}()

	// The end of this process is not the caller's wish, who would not come back.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-serve.Draining(ctx):
			cancel(serve.ErrDraining())
		case <-ctx.Done():
		}
	}()

	// Headers go with the first message: without one, whoever waits for them would
	// not know that the call was taken.
	if err := stream.Send(&dataproxy.TailLogsResponse{}); err != nil {
		return err
	}
	t := &tail{service: s, workspace: workspace, id: request.GetActionId(), attempt: int32(request.GetAttempt()), send: stream.Send}
	defer t.keepAlive(quietTime)()
	containers, err := t.containers(ctx, request)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, c := range containers {
		group.Go(func() error { return t.follow(ctx, c) })
	}
	return group.Wait()
}

// tail is one call of TailLogs.
type tail struct {
	*service
	workspace *v1alpha1.Workspace
	id        *common.ActionIdentifier
	attempt   int32

	mu   sync.Mutex // over send, which several containers share
	send func(*dataproxy.TailLogsResponse) error
}

// keepAlive sends an empty message whenever so much time has gone. What it returns
// ends that, and waits for its end.
func (t *tail) keepAlive(every time.Duration) (stop func()) {
	ticker := time.NewTicker(every)
	stopping, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		defer ticker.Stop()
		for {
			select {
			case <-stopping:
				return
			case <-ticker.C:
			}
			t.mu.Lock()
			err := t.send(&dataproxy.TailLogsResponse{})
			t.mu.Unlock()
			if err != nil {
				return // the caller is gone, which its context tells
			}
		}
	}()
	return func() {
		close(stopping)
		<-stopped
	}
}

// container of the attempt, whose log is wanted.
type container struct {
	pod, name  string
	originator dataplane.LogLineOriginator
}

// containers waits until it is known where the attempt runs, or ran: none, if it
// ended without a pod, as one does whose result was cached.
func (t *tail) containers(ctx context.Context, request *dataproxy.TailLogsRequest) ([]container, error) {
	var found []container
	err := t.until(ctx, "", func(now state) (bool, error) {
		var err error
		found, err = nil, nil
		switch {
		case now.action == nil:
			found, err = t.keptContainers(ctx, "")
			if err == nil && len(found) == 0 {
				err = refuse(connect.CodeNotFound, "there is no log of attempt %d of the action %s of the run %s: there is no such action, or its logs are no longer kept",
					t.attempt, t.id.GetName(), t.id.GetRun().GetName())
			}
			return true, err
		case now.attempt == nil && now.action.Status.Phase.Terminal():
			return true, refuse(connect.CodeNotFound, "the action %s ended after %d attempts, and had no attempt %d", t.id.GetName(), len(now.action.Status.Attempts), t.attempt)
		case now.attempt != nil && now.attempt.Pod != "":
			found = []container{{now.attempt.Pod, now.attempt.Container, dataplane.LogLineOriginator_USER}}
			return true, nil
		}
		return now.attempt != nil && now.attempt.Phase.Terminal(), t.late(now)
	})
	if err != nil || len(found) == 0 {
		return nil, err
	}
	return t.choose(ctx, request, found)
}

// choose takes those that the request wants: the primary container, or all of a
// pod. An attempt has one pod.
func (t *tail) choose(ctx context.Context, request *dataproxy.TailLogsRequest, found []container) ([]container, error) {
	pod := found[0].pod
	if wanted := request.GetPodName(); wanted != "" && !slices.ContainsFunc(found, func(c container) bool { return c.pod == wanted }) {
		return nil, refuse(connect.CodeNotFound, "attempt %d of the action %s has no pod %q; its pod is %s", t.attempt, t.id.GetName(), short(wanted), pod)
	} else if wanted == "" && !request.GetAllPods() {
		return primary(found), nil
	}
	live := &corev1.Pod{}
	err := t.cluster.Get(ctx, client.ObjectKey{Namespace: t.workspace.Name, Name: pod}, live)
	switch {
	case apierrors.IsNotFound(err):
		kept, err := t.keptContainers(ctx, found[0].name)
		if err != nil || len(kept) == 0 {
			return found, err
		}
		return kept, nil
	case err != nil:
		return nil, because(err, connect.CodeUnavailable, "the cluster does not answer now; try again in a moment")
	}
	var all []container
	for _, c := range slices.Concat(live.Spec.InitContainers, live.Spec.Containers) {
		originator := dataplane.LogLineOriginator_SYSTEM
		if c.Name == found[0].name {
			originator = dataplane.LogLineOriginator_USER
		}
		all = append(all, container{pod, c.Name, originator})
	}
	return all, nil
}

func primary(found []container) []container {
	for _, c := range found {
		if c.originator == dataplane.LogLineOriginator_USER {
			return []container{c}
		}
	}
	return found
}

// keptContainers are those whose logs are in the bucket. Which of them is the
// primary one, the record of the action says, if it is not known.
func (t *tail) keptContainers(ctx context.Context, primary string) ([]container, error) {
	keys, err := t.bucket.List(ctx, t.keptFolder())
	if err != nil {
		return nil, unreadable(err, "which logs are kept")
	}
	if primary == "" && len(keys) > 1 {
		folder := path.Join(t.workspace.Spec.Project, t.workspace.Spec.Domain, t.id.GetRun().GetName(), t.id.GetName())
		if kept, err := record.Read(ctx, t.bucket.Reader(), t.bucket.Name(), folder); err == nil {
			if of := attemptOf(kept.Status.Attempts, t.attempt); of != nil {
				primary = of.Container
			}
		} else if !errors.Is(err, record.ErrNone) {
			t.log.Warn("reading the record of an action", "folder", folder, "error", err)
		}
	}
	var found []container
	for _, key := range keys {
		pod, file, _ := strings.Cut(strings.TrimPrefix(key, t.keptFolder()), "/")
		name, isLog := strings.CutSuffix(file, ".log")
		if pod == "" || !isLog || strings.Contains(name, "/") {
			continue
		}
		originator := dataplane.LogLineOriginator_SYSTEM
		if len(keys) == 1 || name == primary || primary == "" && name == pod {
			originator = dataplane.LogLineOriginator_USER
		}
		found = append(found, container{pod, name, originator})
	}
	return found, nil
}

// keptFolder is where the executor keeps the logs of the attempt.
func (t *tail) keptFolder() string {
	return path.Join("persisted-logs", t.workspace.Spec.Project, t.workspace.Spec.Domain,
		t.id.GetRun().GetName(), t.id.GetName(), strconv.Itoa(int(t.attempt))) + "/"
}

// follow sends one container's log.
func (t *tail) follow(ctx context.Context, c container) error {
	source := &source{tail: t, container: c}
	lines := make(chan logs.Line, 16)
	sent := 0
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(lines)
		return logs.Follow(ctx, source, func(l logs.Line) error {
			select {
			case lines <- l:
				sent++
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
	})
	group.Go(func() error { return t.batches(ctx, c, lines) })
	err := group.Wait()
	if !errors.Is(err, logs.ErrGone) {
		return err
	}
	if source.kept && sent == 0 {
		return nil // it wrote nothing
	}
	if sent > 0 {
		t.log.Warn("ending a log early, since the rest of it is gone", "namespace", t.workspace.Name, "pod", c.pod, "container", c.name, "error", err)
		return nil
	}
	return because(err, connect.CodeNotFound, "the log of attempt %d of the action %s is no longer kept", t.attempt, t.id.GetName())
}

// batches sends lines together: one message each would be slow, and one that
// waits for many would be late.
func (t *tail) batches(ctx context.Context, c container, lines <-chan logs.Line) error {
	of := &dataplane.ContainerIdentifier{
		ClusterName: t.clusterName, KubernetesNamespace: t.workspace.Name, KubernetesPodName: c.pod, KubernetesContainerName: c.name,
	}
	var batch []*dataplane.LogLine
	size := 0
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		t.mu.Lock()
		defer t.mu.Unlock()
		err := t.send(&dataproxy.TailLogsResponse{Logs: []*dataproxy.TailLogsResponse_Logs{{Lines: batch, Container: of}}})
		t.metrics.logBytes.Add(float64(size))
		batch, size = nil, 0
		return err
	}
	var due <-chan time.Time
	for {
		select {
		case line, more := <-lines:
			if !more {
				return flush()
			}
			if len(batch) == 0 {
				due = time.After(batchAge)
			}
			// A program may write any bytes, a message holds none but UTF-8.
			text := strings.ToValidUTF8(line.Text, "\uFFFD")
			batch = append(batch, &dataplane.LogLine{Timestamp: timestamppb.New(line.At), Message: text, Originator: c.originator})
			if size += len(line.Text); len(batch) < batchLines && size < batchBytes {
				continue
			}
		case <-due:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
		due = nil
		if err := flush(); err != nil {
			return err
		}
	}
}

// source is a container's log, in its pod or in the bucket.
type source struct {
	*tail
	container
	kept  bool // the executor has said that all there is is in the bucket
	begun bool // the container has been seen to run, or to have run
}

// Where implements logs.Sources.
func (s *source) Where(ctx context.Context) (kind logs.Kind, err error) {
	err = s.until(ctx, s.pod, func(now state) (bool, error) {
		if now.action == nil {
			kind = logs.Kept
			return true, nil
		}
		if now.attempt == nil {
			kind = logs.Nowhere
			return true, nil
		}
		if now.attempt.LogsKept {
			kind, s.kept = logs.Kept, true
			return true, nil
		}
		if now.pod == nil || now.attempt.PodUID != "" && string(now.pod.UID) != now.attempt.PodUID {
			// The executor removes a pod once its log is kept. What is not kept some
			// time after the end was lost, with its node for instance.
			kind = logs.Kept
			return now.attempt.Phase.Terminal() && now.waited > keepTimeout, s.late(now)
		}
		switch status := containerStatus(now.pod, s.name); {
		case status != nil && status.State.Running != nil:
			kind, s.begun = logs.Running, true
			return true, nil
		case status != nil && status.State.Terminated != nil:
			kind, s.begun = logs.Ended, true
			return true, nil
		}
		// One that never started has written nothing.
		kind = logs.Nowhere
		over := now.pod.Status.Phase == corev1.PodFailed || now.pod.Status.Phase == corev1.PodSucceeded || now.attempt.Phase.Terminal()
		return over, s.late(now)
	})
	// An API server that is away for a moment is no end: the caller would begin
	// anew, and read every line twice.
	if connect.CodeOf(err) == connect.CodeUnavailable {
		err = fmt.Errorf("%w: %w", logs.ErrUnknown, err)
	}
	return kind, err
}

// late is not said of a container that has started: the caller would read its
// log from the beginning.
func (s *source) late(now state) error {
	if s.begun {
		return nil
	}
	return s.tail.late(now)
}

// Live implements logs.Sources.
func (s *source) Live(ctx context.Context, since time.Time, follow bool) (io.ReadCloser, error) {
	options := &corev1.PodLogOptions{Container: s.name, Follow: follow, Timestamps: true}
	if !since.IsZero() {
		options.SinceTime = &metav1.Time{Time: since}
	}
	s.log.Debug("reading a log in its pod", "namespace", s.workspace.Name, "pod", s.pod, "container", s.name, "since", since, "follow", follow)
	body, err := s.pods.Pods(s.workspace.Name).GetLogs(s.pod, options).Stream(ctx)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("%w: %w", logs.ErrGone, err)
	}
	return body, err
}

// Kept implements logs.Sources.
func (s *source) Kept(ctx context.Context, offset int64) (io.ReadCloser, error) {
	s.log.Debug("reading a log in the bucket", "namespace", s.workspace.Name, "pod", s.pod, "container", s.name, "offset", offset)
	object, err := s.bucket.Open(ctx, s.keptFolder()+path.Join(s.pod, s.name+".log"), offset)
	if errors.Is(err, bucket.ErrNone) {
		return nil, fmt.Errorf("%w: %w", logs.ErrGone, err)
	}
	if err != nil {
		return nil, err
	}
	return object, nil
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if status.Name == name {
			return &status
		}
	}
	return nil
}

// state is what the cluster says now of an attempt.
type state struct {
	action  *v1alpha1.TaskAction // nil: it is gone, or never was
	attempt *v1alpha1.Attempt    // nil: it has not begun
	pod     *corev1.Pod          // nil: it is gone, or not there yet
	waited  time.Duration
}

// late is what is said to a caller who has waited for so long.
func (t *tail) late(now state) error {
	if now.waited < startTimeout {
		return nil
	}
	return refuse(connect.CodeNotFound, "attempt %d of the action %s has not started in %s, so it has no log yet; ask again", t.attempt, t.id.GetName(), startTimeout)
}

// until asks for the state, again whenever it changes, until decide is content.
func (t *tail) until(ctx context.Context, pod string, decide func(state) (bool, error)) error {
	start := t.now()
	for {
		now := state{waited: t.now().Sub(start)}
		var err error
		if now.action, err = t.action(ctx, t.id); err != nil {
			return err
		}
		if now.action != nil {
			now.attempt = attemptOf(now.action.Status.Attempts, t.attempt)
		}
		if pod != "" {
			found := &corev1.Pod{}
			switch err := t.cluster.Get(ctx, client.ObjectKey{Namespace: t.workspace.Name, Name: pod}, found); {
			case err == nil:
				now.pod = found
			case !apierrors.IsNotFound(err):
				return because(err, connect.CodeUnavailable, "the cluster does not answer now; try again in a moment")
			}
		}
		done, err := decide(now)
		if done || err != nil {
			return err
		}
		if err := t.change(ctx, now, pod); err != nil {
			return err
		}
	}
}

// lookAgain is when to look though no change was seen: a watch may break, and
// time itself changes what is to be done.
const lookAgain = 5 * time.Second

// change waits for one of the objects to change.
func (t *tail) change(ctx context.Context, now state, pod string) error {
	caller := ctx
	ctx, cancel := context.WithTimeout(ctx, lookAgain)
	var watches sync.WaitGroup
	defer watches.Wait()
	defer cancel()
	changed := make(chan struct{}, 2)
	watch := func(list client.ObjectList, name string, last client.Object) {
		options := &client.ListOptions{
			Namespace: t.workspace.Name, FieldSelector: fields.OneTermEqualSelector("metadata.name", name), Raw: &metav1.ListOptions{},
		}
		if last != nil {
			options.Raw.ResourceVersion = last.GetResourceVersion()
		}
		w, err := t.cluster.Watch(ctx, list, options)
		if err != nil {
			t.log.Debug("watching", "name", name, "error", err) // the next look tells whether the cluster answers
			return
		}
		watches.Go(func() {
			defer w.Stop()
			select {
			case <-w.ResultChan():
				changed <- struct{}{}
			case <-ctx.Done():
			}
		})
	}
	// An interface with nothing in it is not nil.
	var lastAction, lastPod client.Object
	if now.action != nil {
		lastAction = now.action
	}
	if now.pod != nil {
		lastPod = now.pod
	}
	watch(&v1alpha1.TaskActionList{}, v1alpha1.ActionName(t.id.GetRun().GetName(), t.id.GetName()), lastAction)
	if pod != "" {
		watch(&corev1.PodList{}, pod, lastPod)
	}
	select {
	case <-changed:
	case <-ctx.Done():
	}
	return context.Cause(caller)
}

func attemptOf(attempts []v1alpha1.Attempt, number int32) *v1alpha1.Attempt {
	for i := range attempts {
		if attempts[i].Number == number {
			return &attempts[i]
		}
	}
	return nil
}
