package node

import (
	"fmt"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	kubeletevents "k8s.io/kubernetes/pkg/kubelet/events"
)

// What every container tells when all goes well is held back for a moment. Of
// pods that are over by then and succeeded, so many tell it a second, after a
// burst: 500 such pods at once would cost the API server 1500 writes, more than
// the pods themselves. A kubelet is bounded likewise, to 50 events a second. Every
// other pod, and whatever says that something is wrong, tells all.
const (
	heldBack    = time.Second
	quietBurst  = 100
	quietSecond = 20
)

// events writes what happens to pods where a person looks for it. Equal ones are
// counted in one object, by client-go.
type events struct {
	client      kubernetes.Interface
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	quiet       flowcontrol.PassiveRateLimiter

	mu   sync.Mutex
	held map[types.UID][]func()
}

func newEvents(client kubernetes.Interface, name string) *events {
	broadcaster := record.NewBroadcaster()
	return &events{
		client: client, broadcaster: broadcaster,
		// "kubelet" is where people and programs look for what a node says.
		recorder: broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: "kubelet", Host: name}),
		quiet:    flowcontrol.NewTokenBucketPassiveRateLimiter(quietSecond, quietBurst),
		held:     map[types.UID][]func(){},
	}
}

// start writes what is recorded from now on; what was recorded before is lost.
func (e *events) start() (stop func()) {
	watch := e.broadcaster.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: e.client.CoreV1().Events("")})
	return func() {
		watch.Stop()
		e.broadcaster.Shutdown()
	}
}

// pod records an event of a pod.
func (e *events) pod(pod *v1.Pod, kind, reason, format string, args ...any) {
	e.record(&v1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
	}, kind, reason, format, args...)
}

// container records an event of a container.
func (e *events) container(pod *v1.Pod, c *slot, kind, reason, format string, args ...any) {
	e.record(&v1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		FieldPath: fmt.Sprintf("%s{%s}", c.kind.field(), c.spec.Name),
	}, kind, reason, format, args...)
}

func (e *events) record(of *v1.ObjectReference, kind, reason, format string, args ...any) {
	write := func() { e.recorder.Eventf(of, kind, reason, format, args...) }
	switch reason {
	case kubeletevents.PulledImage, kubeletevents.CreatedContainer, kubeletevents.StartedContainer:
		e.mu.Lock()
		e.held[of.UID] = append(e.held[of.UID], write)
		first := len(e.held[of.UID]) == 1
		e.mu.Unlock()
		if first {
			time.AfterFunc(heldBack, func() { e.settle(of.UID, false) })
		}
		return
	}
	e.settle(of.UID, false) // in their order
	write()
}

// settle writes what was held back of a pod; of one that succeeded all or
// nothing.
func (e *events) settle(uid types.UID, succeeded bool) {
	e.mu.Lock()
	held := e.held[uid]
	delete(e.held, uid)
	e.mu.Unlock()
	if succeeded && !e.quiet.TryAccept() {
		return
	}
	for _, write := range held {
		write()
	}
}
