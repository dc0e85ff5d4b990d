package node

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	kubeletevents "k8s.io/kubernetes/pkg/kubelet/events"

	"biplane.dev/biplane/sandbox/internal/container"
)

// kind is where in a pod's spec a container stands.
type kind int

const (
	initContainer kind = iota
	sidecar            // an init container that goes on
	mainContainer
	ephemeral
)

func (k kind) field() string {
	switch k {
	case initContainer, sidecar:
		return "spec.initContainers"
	case ephemeral:
		return "spec.ephemeralContainers"
	}
	return "spec.containers"
}

// slot is one container of a pod's spec, through all its attempts.
type slot struct {
	spec     *v1.Container
	kind     kind
	restarts int32
	run      *attempt                     // the newest; nil before the first
	last     *v1.ContainerStateTerminated // the end of the one before run
	waiting  *v1.ContainerStateWaiting    // why there is none, or no newer one
	starting bool                         // the next is being made
	changed  bool                         // the newest is of another image than the spec's now: the next takes its place
	retry    time.Time                    // not before
	then     *v1.ContainerStateWaiting    // what waiting becomes at thenAt
	thenAt   time.Time
}

// backOff has the container called waiting for another reason after a while.
func (s *slot) backOff(at time.Time, then *v1.ContainerStateWaiting) { s.then, s.thenAt = then, at }

// attempt is one run of a container.
type attempt struct {
	number    int32
	id        string
	imageID   string
	uid, gid  int64
	recovered bool                 // an earlier node ran it
	container *container.Container // nil for one that never ran, or that an earlier node had
	env       []string
	log       string
	logEnded  chan struct{}

	since      time.Time
	ended      *v1.ContainerStateTerminated // nil while it runs
	hooked     bool                         // its postStart hook is done
	started    bool                         // and so is its startup probe
	ready      bool
	kill       *killing
	stopProbes context.CancelFunc
}

func (s *slot) running() bool { return s.run != nil && s.run.ended == nil }

// succeeded says whether an init container is done.
func (s *slot) succeeded() bool {
	return s.run != nil && s.run.ended != nil && s.run.ended.ExitCode == 0
}

// wanted says whether a container that does not run is to be started.
func (s *slot) wanted(pod *v1.Pod) bool {
	return !s.running() && (s.run == nil || s.restartable(pod, s.run.ended.ExitCode))
}

// takeImage takes up another image, the one thing of a container that may change:
// what runs is replaced whatever the restart policy, and back-offs begin anew. What
// was ended to be replaced still is when the image changes once more. An init
// container that runs goes on, as on a kubelet.
func (s *slot) takeImage(spec *v1.Container) {
	if spec.Image == s.spec.Image || s.starting || s.kind == initContainer && s.running() {
		return
	}
	s.spec, s.changed = spec, s.changed || s.running()
	s.retry, s.then = time.Time{}, nil
}

// restartable says whether a container that ended so is started again.
func (s *slot) restartable(pod *v1.Pod, code int32) bool {
	if s.changed {
		return true
	}
	switch s.kind {
	case sidecar:
		return true
	case ephemeral:
		return false
	case initContainer:
		return code != 0 && pod.Spec.RestartPolicy != v1.RestartPolicyNever
	}
	switch pod.Spec.RestartPolicy {
	case v1.RestartPolicyNever:
		return false
	case v1.RestartPolicyOnFailure:
		return code != 0
	}
	return true
}

// mainsBegun says whether a main container has run, since the pod began anew:
// init containers are over then.
func (w *worker) mainsBegun() bool {
	for _, s := range w.slots {
		if s.kind == mainContainer && s.run != nil && !(w.again && s.run.recovered) {
			return true
		}
	}
	return false
}

// mainsOver says whether every main container ended, and none is started again.
func (w *worker) mainsOver() bool {
	for _, s := range w.slots {
		if s.kind == mainContainer && (s.run == nil || s.running() || s.starting || s.restartable(w.pod, s.run.ended.ExitCode)) {
			return false
		}
	}
	return true
}

// initFailed says whether an init container failed for good.
func (w *worker) initFailed() bool {
	for _, s := range w.slots {
		if s.kind == initContainer && s.run != nil && s.run.ended != nil && s.run.ended.ExitCode != 0 && !s.restartable(w.pod, s.run.ended.ExitCode) {
			return true
		}
	}
	return false
}

// killing is the end of an attempt, on its way: the preStop hook, SIGTERM, and
// SIGKILL when the grace period is over.
type killing struct {
	deadline  time.Time
	hooked    bool // the preStop hook is done, or there is none
	signalled bool
}

// leastGrace is given between SIGTERM and SIGKILL even when a hook took all the
// time there was.
const leastGrace = 2 * time.Second

// kill begins to end an attempt, or shortens the time it has. message is for the
// event; "" is that of an ordinary end.
func (w *worker) kill(ctx context.Context, s *slot, grace time.Duration, message string) {
	a := s.run
	deadline := time.Now().Add(grace)
	if a.kill != nil {
		if deadline.Before(a.kill.deadline) {
			a.kill.deadline = deadline
		}
		return
	}
	if message == "" {
		message = "Stopping container " + s.spec.Name
	}
	w.n.events.container(w.pod, s, v1.EventTypeNormal, kubeletevents.KillingContainer, "%s", message)
	a.kill = &killing{deadline: deadline, hooked: true}
	if s.spec.Lifecycle == nil || s.spec.Lifecycle.PreStop == nil {
		return
	}
	a.kill.hooked = false
	pod, spec := w.pod, s.spec
	go func() {
		ctx, cancel := context.WithTimeout(ctx, grace)
		defer cancel()
		if err := w.n.hook(ctx, pod, spec, a, spec.Lifecycle.PreStop); err != nil {
			w.n.log.Info("a preStop hook failed", "pod", podName(pod), "container", s.spec.Name, "error", err)
			w.n.events.container(pod, s, v1.EventTypeWarning, kubeletevents.FailedPreStopHook, "PreStopHook failed")
		}
		w.do(func() { a.kill.hooked = true })
	}()
}

// stepKill does what is next in the end of an attempt; mayStop is false while
// others have to end before it.
func (w *worker) stepKill(s *slot, now time.Time, mayStop bool) {
	a := s.run
	k := a.kill
	if k == nil {
		return
	}
	if !k.signalled {
		if (!k.hooked || !mayStop) && now.Before(k.deadline) {
			w.at(k.deadline)
			return
		}
		k.signalled = true
		if least := now.Add(leastGrace); k.deadline.Before(least) {
			k.deadline = least
		}
		w.terminate(a)
	}
	if now.Before(k.deadline) {
		w.at(k.deadline)
		return
	}
	a.container.Kill()
}
