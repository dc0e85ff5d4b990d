package node

import (
	"context"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	"k8s.io/kubernetes/pkg/kubelet/lifecycle"
	schedulerframework "k8s.io/kubernetes/pkg/scheduler/framework"
)

// bypassed says whether nobody has looked yet whether a pod may be here. The
// scheduler has where its binding left a condition, and so has this node where it
// wrote of the pod before; only other pods, those with nodeName, are looked at,
// since the look costs a comparison with every other pod. What a pod says of its
// operating system is read by no scheduler.
func bypassed(pod *v1.Pod) bool {
	if pod.Status.Phase != v1.PodPending {
		return false
	}
	if pod.Spec.OS != nil && pod.Spec.OS.Name != v1.Linux {
		return true
	}
	_, scheduled := podutil.GetPodCondition(&pod.Status, v1.PodScheduled)
	return scheduled == nil
}

// admit decides about a pod that came past the scheduler as a kubelet does: does
// it fit in what the others leave, and may it be on this Node? One at a time, so
// that of two that do not fit together the first stays.
func (n *node) admit(ctx context.Context, w *worker) lifecycle.PodAdmitResult {
	n.admitting.Lock()
	defer n.admitting.Unlock()
	var others []*v1.Pod
	n.mu.Lock()
	for _, other := range n.workers {
		if other == w {
			continue
		}
		other.mu.Lock()
		if other.admitted && !other.stopped {
			others = append(others, other.pod)
		}
		other.mu.Unlock()
	}
	n.mu.Unlock()

	handler := lifecycle.NewPredicateAdmitHandler(
		func() (*v1.Node, error) { return n.client.CoreV1().Nodes().Get(ctx, n.cfg.Name, metav1.GetOptions{}) },
		noPreemption{},
		func(*schedulerframework.NodeInfo, *lifecycle.PodAdmitAttributes) error { return nil },
	)
	w.mu.Lock()
	pod := w.pod
	w.mu.Unlock()
	result := handler.Admit(&lifecycle.PodAdmitAttributes{Pod: pod, OtherPods: others})
	if result.Admit {
		w.mu.Lock()
		w.admitted = true
		w.mu.Unlock()
	}
	return result
}

// noPreemption evicts nobody for a critical pod.
type noPreemption struct{}

func (noPreemption) HandleAdmissionFailure(_ context.Context, _ *v1.Pod, reasons []lifecycle.PredicateFailureReason) ([]lifecycle.PredicateFailureReason, error) {
	return reasons, nil
}

// admission has a pod that came past the scheduler looked at, and says whether it
// may begin.
func (w *worker) admission(ctx context.Context) bool {
	if w.admitted || w.examined {
		return w.admitted
	}
	w.examined = true
	go func() {
		result := w.n.admit(ctx, w)
		w.do(func() {
			if result.Admit || ctx.Err() != nil {
				return
			}
			if result.Reason == lifecycle.InvalidNodeInfo { // the API server did not answer
				time.AfterFunc(time.Second, func() { w.do(func() { w.examined = false }) })
				return
			}
			w.verdict = &verdict{reason: result.Reason, message: "Pod was rejected: " + result.Message, rejected: true}
			w.n.events.pod(w.pod, v1.EventTypeWarning, result.Reason, "%s", result.Message)
		})
	}()
	return false
}
