package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	kubeletevents "k8s.io/kubernetes/pkg/kubelet/events"
)

const (
	refreshEvery   = 10 * time.Second // how soon a changed configMap is seen in a volume
	mountRetry     = 50 * time.Millisecond
	mountQuiet     = time.Second     // what the API server learns by itself soon is not worth an event
	mountRetryMost = 5 * time.Second // the kubelet's is two minutes; nobody is spared by it here
)

// worker runs one pod. Its goroutine is the only one that changes the pod's
// state: whatever takes time runs beside it and hands its result to do. After
// each change sync looks at everything there is and does what is next, so a
// missed event, a restart and an update take the same way.
type worker struct {
	n    *node
	uid  types.UID
	wake chan struct{}

	mu        sync.Mutex // guards all below; held by the goroutine while it thinks
	queue     []func()
	next      time.Time // when to look again, if nothing happens before
	pod       *v1.Pod   // as the API server had it last, with the spec as we know it
	gone      bool      // the API server has it no more
	slots     []*slot
	admitted  bool // it may be on this node
	examined  bool // that is being found out, or was
	measuring bool // what it has on disk
	measure   time.Time
	verdict   *verdict // why the pod is to end, whatever its containers do
	again     bool     // it begins anew, after the node that ran it was gone

	begin    metav1.Time // when the node first saw it
	volumes  volumesState
	refresh  time.Time
	stopped  bool // no container runs, and none will
	removing bool
	cleaned  bool // its volumes are gone
	deleting bool // the API server is being told to forget it
	writer   statusWriter
}

// verdict is an end that containers did not choose.
type verdict struct {
	reason, message string
	rejected        bool // before anything of the pod was made
	now             bool // its programs are not waited for
}

type volumesState struct {
	ready   bool
	working bool
	failing time.Time // since when; zero when they are not
	retry   time.Time
	wait    time.Duration
}

func newWorker(n *node, pod *v1.Pod) *worker {
	w := &worker{n: n, uid: pod.UID, wake: make(chan struct{}, 1), pod: pod}
	w.writer.written = pod.Status
	w.admitted = !bypassed(pod)
	for i := range pod.Spec.InitContainers {
		kind := initContainer
		if podutil.IsRestartableInitContainer(&pod.Spec.InitContainers[i]) {
			kind = sidecar
		}
		w.slots = append(w.slots, &slot{spec: &pod.Spec.InitContainers[i], kind: kind})
	}
	for i := range pod.Spec.Containers {
		w.slots = append(w.slots, &slot{spec: &pod.Spec.Containers[i], kind: mainContainer})
	}
	w.addEphemeral()
	w.recover()
	return w
}

// addEphemeral takes up the containers that somebody added for debugging.
func (w *worker) addEphemeral() {
	known := 0
	for _, s := range w.slots {
		if s.kind == ephemeral {
			known++
		}
	}
	for i := known; i < len(w.pod.Spec.EphemeralContainers); i++ {
		spec := v1.Container(w.pod.Spec.EphemeralContainers[i].EphemeralContainerCommon)
		w.slots = append(w.slots, &slot{spec: &spec, kind: ephemeral})
	}
}

// do has change made to the pod's state by its goroutine, which then thinks
// again.
func (w *worker) do(change func()) {
	w.mu.Lock()
	w.queue = append(w.queue, change)
	w.mu.Unlock()
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// update hands over what the API server says of the pod now.
func (w *worker) update(pod *v1.Pod) {
	w.do(func() { w.see(pod) })
}

func (w *worker) see(pod *v1.Pod) {
	if newer(pod, w.pod) {
		labelled := !sameMetadata(pod, w.pod)
		w.pod = pod
		w.addEphemeral()
		if labelled {
			w.refresh = time.Time{} // downward API volumes show labels and annotations
		}
	}
}

// run is the goroutine. It returns when nothing of the pod is left here, or when
// ctx has ended and its containers with it.
func (w *worker) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.mu.Lock()
		queue := w.queue
		w.queue = nil
		for _, change := range queue {
			change()
		}
		w.next = time.Now().Add(time.Hour)
		finished := w.sync(ctx)
		wait := time.Until(w.next)
		w.mu.Unlock()
		if finished {
			return
		}
		timer.Reset(max(wait, 0))
		select {
		case <-w.wake:
		case <-timer.C:
		case <-ctx.Done():
			w.abandon()
			return
		}
	}
}

// at has the goroutine think again no later than t. It holds mu.
func (w *worker) at(t time.Time) {
	if t.Before(w.next) {
		w.next = t
	}
}

// sync does what is next. It never blocks, and says whether nothing is left to
// do. It holds mu.
func (w *worker) sync(ctx context.Context) (finished bool) {
	now := time.Now()
	w.judge(now)
	switch {
	case w.stopped:
	case w.ending():
		w.stop(ctx, now)
	default:
		w.advance(ctx, now)
	}
	w.show(ctx, now)
	return w.stopped && w.clean(ctx)
}

// judge ends a pod that was active for too long.
func (w *worker) judge(now time.Time) {
	limit := w.pod.Spec.ActiveDeadlineSeconds
	if limit == nil || w.verdict != nil || w.stopped {
		return
	}
	end := w.startTime().Add(time.Duration(*limit) * time.Second)
	if now.Before(end) {
		w.at(end)
		return
	}
	w.verdict = &verdict{reason: "DeadlineExceeded", message: "Pod was active on the node longer than the specified deadline"}
	w.n.events.pod(w.pod, v1.EventTypeNormal, w.verdict.reason, w.verdict.message)
}

// ending says whether no container is to be started any more.
func (w *worker) ending() bool {
	if w.gone || w.pod.DeletionTimestamp != nil || w.verdict != nil {
		return true
	}
	return w.mainsOver() || w.initFailed()
}

// stop ends what still runs: main containers at once, then sidecars, the last
// started first, each when those after it are gone.
func (w *worker) stop(ctx context.Context, now time.Time) {
	grace := w.grace()
	alive, later := false, false
	for i := len(w.slots) - 1; i >= 0; i-- {
		s := w.slots[i]
		if s.starting {
			alive = true
			later = true
			continue
		}
		if !s.running() {
			continue
		}
		alive = true
		w.kill(ctx, s, grace, "")
		mayStop := s.kind != sidecar || !later
		w.stepKill(s, now, mayStop)
		later = true
	}
	if !alive {
		w.stopped = true
		w.n.events.settle(w.uid, w.phase() == v1.PodSucceeded)
	}
}

// grace is how long programs have to end by themselves.
func (w *worker) grace() time.Duration {
	if w.verdict != nil && w.verdict.now {
		return time.Second
	}
	seconds := int64(v1.DefaultTerminationGracePeriodSeconds)
	if w.pod.Spec.TerminationGracePeriodSeconds != nil {
		seconds = *w.pod.Spec.TerminationGracePeriodSeconds
	}
	if w.pod.DeletionTimestamp != nil && w.pod.DeletionGracePeriodSeconds != nil {
		seconds = *w.pod.DeletionGracePeriodSeconds
	}
	return time.Duration(max(seconds, 1)) * time.Second
}

// advance starts what is next in a pod that is to run.
func (w *worker) advance(ctx context.Context, now time.Time) {
	if !w.admission(ctx) || !w.volumesReady(ctx, now) {
		return
	}
	w.watchStorage(now)
	w.takeImages()
	for _, s := range w.slots {
		if s.running() && s.changed {
			w.kill(ctx, s, w.grace(), fmt.Sprintf("Container %s definition changed, will be restarted", s.spec.Name))
		}
		if s.running() {
			w.stepKill(s, now, true) // one that failed a probe, or has changed
		}
	}
	begun := w.mainsBegun()
	for _, s := range w.slots {
		switch s.kind {
		case initContainer:
			if begun || s.succeeded() {
				continue
			}
			w.startIfDue(ctx, s, now)
			return // nothing after it before it has succeeded
		case sidecar:
			w.startIfDue(ctx, s, now)
			if !begun && !(s.running() && s.run.started) {
				return
			}
		case mainContainer, ephemeral:
			w.startIfDue(ctx, s, now)
		}
	}
}

// volumesReady sets the volumes up, and keeps them up to date from then on.
func (w *worker) volumesReady(ctx context.Context, now time.Time) bool {
	v := &w.volumes
	if v.ready && !w.n.volumes.written(w.pod) {
		return true
	}
	due := v.retry
	if v.ready {
		due = w.refresh
	}
	if v.working {
		return v.ready
	}
	if now.Before(due) {
		w.at(due)
		return v.ready
	}
	v.working = true
	pod := w.pod.DeepCopy()
	pod.Status.HostIP, pod.Status.PodIP = w.n.ip, w.n.ip
	go func() {
		err := w.n.preparePod(pod)
		w.do(func() { w.volumesDone(err) })
	}()
	return v.ready
}

func (w *worker) volumesDone(err error) {
	v := &w.volumes
	v.working = false
	w.refresh = time.Now().Add(refreshEvery)
	if err == nil {
		v.ready, v.wait, v.failing = true, 0, time.Time{}
		return
	}
	if v.failing.IsZero() {
		v.failing = time.Now()
	}
	// A volume that could not be brought up to date stays as it was: a secret
	// that is deleted keeps its files.
	v.wait = min(max(2*v.wait, mountRetry), mountRetryMost)
	v.retry = time.Now().Add(v.wait)
	if !v.ready && time.Since(v.failing) < mountQuiet {
		return
	}
	for _, failed := range unjoin(err) {
		w.n.events.pod(w.pod, v1.EventTypeWarning, kubeletevents.FailedMountVolume, "%v", failed)
	}
}

// unjoin takes the parts of errors.Join apart.
func unjoin(err error) []error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()
	}
	return []error{err}
}

// takeImages gives each container the image that the pod has for it now.
func (w *worker) takeImages() {
	inits, mains := 0, 0
	for _, s := range w.slots {
		switch s.kind {
		case initContainer, sidecar:
			s.takeImage(&w.pod.Spec.InitContainers[inits])
			inits++
		case mainContainer:
			s.takeImage(&w.pod.Spec.Containers[mains])
			mains++
		}
	}
}

// restartKey is a container with its image, as long as which the time before it is
// started again grows.
func (w *worker) restartKey(s *slot) string {
	return string(w.uid) + "_" + s.spec.Name + "_" + s.spec.Image
}

// startIfDue starts a container that is to run and whose back-off is over.
func (w *worker) startIfDue(ctx context.Context, s *slot, now time.Time) {
	if s.starting || !s.wanted(w.pod) {
		return
	}
	if now.Before(s.retry) {
		w.at(s.retry)
		if s.then == nil {
			return
		}
		if now.Before(s.thenAt) {
			w.at(s.thenAt)
			return
		}
		s.waiting, s.then = s.then, nil
		w.n.events.container(w.pod, s, v1.EventTypeNormal, kubeletevents.BackOffPullImage, "%s", s.waiting.Message)
		return
	}
	if s.run != nil {
		key := w.restartKey(s)
		finished := s.run.ended.FinishedAt.Time
		if w.n.restarts.IsInBackOffSince(key, finished) {
			wait := w.n.restarts.Get(key)
			s.retry = finished.Add(wait)
			w.at(s.retry)
			message := fmt.Sprintf("back-off %v restarting failed container=%s pod=%s_%s(%s)", wait, s.spec.Name, w.pod.Name, w.pod.Namespace, w.uid)
			s.waiting = &v1.ContainerStateWaiting{Reason: "CrashLoopBackOff", Message: message}
			w.n.events.container(w.pod, s, v1.EventTypeWarning, kubeletevents.BackOffStartContainer,
				"Back-off restarting failed container %s in pod %s_%s(%s)", s.spec.Name, w.pod.Name, w.pod.Namespace, w.uid)
			return
		}
		w.n.restarts.Next(key, finished)
	}
	w.start(ctx, s)
}

// clean removes what only a running pod needs, and once the API server may
// forget the pod has it do so; when it has, the rest goes too.
func (w *worker) clean(ctx context.Context) (finished bool) {
	if !w.cleaned {
		if !w.removing {
			w.removing = true
			go func() {
				err := w.n.releasePod(w.uid, w.pod)
				w.do(func() {
					w.removing = false
					w.cleaned = err == nil
					if err != nil {
						w.n.log.Warn("volumes of a pod were not removed", "pod", podName(w.pod), "error", err)
					}
				})
			}()
		}
		w.at(time.Now().Add(time.Second)) // when it failed
		return false
	}
	if w.gone {
		return true
	}
	if w.pod.DeletionTimestamp != nil && !w.deleting && w.writer.settled() {
		w.deleting = true
		pod := w.pod
		go func() {
			err := w.n.forget(ctx, pod)
			if err == nil || ctx.Err() != nil {
				return // the watch says when it is gone
			}
			w.n.log.Warn("a pod that ended was not deleted", "pod", podName(pod), "error", err)
			time.AfterFunc(time.Second, func() { w.do(func() { w.deleting = false }) })
		}()
	}
	return false
}

// abandon kills what runs when the node itself ends: nothing is said of it, and
// the next start finds the pod as after a machine's restart.
func (w *worker) abandon() {
	w.mu.Lock()
	var running []*attempt
	for _, s := range w.slots {
		if s.run != nil && s.run.stopProbes != nil {
			s.run.stopProbes()
		}
		if s.running() {
			running = append(running, s.run)
		}
	}
	w.mu.Unlock()
	for _, a := range running {
		a.container.Kill()
	}
	for _, a := range running {
		<-a.container.Done()
	}
}

func (n *node) podDir(uid types.UID) string { return filepath.Join(n.cfg.Dir, "pods", string(uid)) }

func podName(pod *v1.Pod) string { return pod.Namespace + "/" + pod.Name }
