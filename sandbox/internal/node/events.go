package node

import (
	"context"
	"fmt"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"
	"k8s.io/client-go/util/flowcontrol"
	kubeletevents "k8s.io/kubernetes/pkg/kubelet/events"
)

// Of what every container tells when all goes well, so many a second are
// written, after a burst: a person reads those of the pod that is looked at, and
// 500 pods at once would cost the API server 1500 writes, more than the pods
// themselves. Whatever says that something is wrong is always written.
const (
	ordinaryBurst = 60
	ordinaryEvery = 5 // a second
)

// events writes what happens to pods where a person looks for it. Equal ones are
// counted in one object, by client-go.
type events struct {
	client      kubernetes.Interface
	broadcaster record.EventBroadcaster
	recorder    record.EventRecorder
	ordinary    flowcontrol.PassiveRateLimiter
}

func newEvents(client kubernetes.Interface, name string) *events {
	broadcaster := record.NewBroadcaster()
	return &events{
		client: client, broadcaster: broadcaster,
		// "kubelet" is where people and programs look for what a node says.
		recorder: broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: "kubelet", Host: name}),
		ordinary: flowcontrol.NewTokenBucketPassiveRateLimiter(ordinaryEvery, ordinaryBurst),
	}
}

func (e *events) run(ctx context.Context) error {
	watch := e.broadcaster.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: e.client.CoreV1().Events("")})
	<-ctx.Done()
	watch.Stop()
	e.broadcaster.Shutdown()
	return nil
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
	switch reason {
	case kubeletevents.PulledImage, kubeletevents.CreatedContainer, kubeletevents.StartedContainer:
		if !e.ordinary.TryAccept() {
			return
		}
	}
	e.recorder.Eventf(of, kind, reason, format, args...)
}
