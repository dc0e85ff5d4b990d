package node

import (
	"cmp"
	"context"
	"slices"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	podutil "k8s.io/kubernetes/pkg/api/v1/pod"
	v1qos "k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	"k8s.io/kubernetes/pkg/kubelet/status"
	kubetypes "k8s.io/kubernetes/pkg/kubelet/types"
	statusutil "k8s.io/kubernetes/pkg/util/pod"
)

// How long a change may wait to be written together with what follows it. An end
// and an error are written at once; a program that is over in a moment never
// costs a write that says it runs. At the API server's 3 ms of CPU a write, that
// is a third of what such a pod costs.
const (
	patienceStarting = time.Second
	patienceRunning  = 100 * time.Millisecond
)

// statusWriter is what the API server was told of a pod, one write at a time.
type statusWriter struct {
	written v1.PodStatus // as the API server has it
	wanted  v1.PodStatus
	since   time.Time // when wanted first differed; zero when it does not
	retry   time.Time
	busy    bool
}

// settled says whether the API server knows all there is to say.
func (s *statusWriter) settled() bool { return s.since.IsZero() && !s.busy }

// show writes the pod's status when it has changed. It holds mu.
func (w *worker) show(ctx context.Context, now time.Time) {
	out := &w.writer
	out.wanted = w.status()
	if w.gone || out.busy || ctx.Err() != nil {
		return
	}
	if equality.Semantic.DeepEqual(out.wanted, out.written) {
		out.since = time.Time{}
		return
	}
	if out.since.IsZero() {
		out.since = now
	}
	if due := later(out.since.Add(w.patience()), out.retry); now.Before(due) {
		w.at(due)
		return
	}
	out.busy = true
	pod := w.pod.DeepCopy()
	pod.Status = out.wanted
	go func() {
		updated, err := w.n.writePodStatus(ctx, pod)
		w.do(func() { w.wrote(pod.Status, updated, err) })
	}()
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func (w *worker) wrote(sent v1.PodStatus, updated *v1.Pod, err error) {
	out := &w.writer
	out.busy = false
	switch {
	case err == nil:
		out.written, out.since, out.retry = sent, time.Time{}, time.Time{}
		w.see(updated)
	case apierrors.IsNotFound(err):
		// The watch says the same soon.
		out.retry = time.Now().Add(time.Second)
	default:
		out.retry = time.Now().Add(time.Second)
		w.n.log.Warn("a pod's status was not written", "pod", podName(w.pod), "error", err)
	}
}

// writePodStatus writes what pod says of its status. An update costs the API
// server half of what a patch costs; where somebody else wrote in between, the
// patch takes its place, which changes our part alone.
func (n *node) writePodStatus(ctx context.Context, pod *v1.Pod) (*v1.Pod, error) {
	updated, err := n.client.CoreV1().Pods(pod.Namespace).UpdateStatus(ctx, pod, metav1.UpdateOptions{})
	if !apierrors.IsConflict(err) {
		return updated, err
	}
	current, err := n.client.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if current.UID != pod.UID {
		return nil, apierrors.NewNotFound(v1.Resource("pods"), pod.Name)
	}
	merged := pod.Status.DeepCopy()
	merged.Conditions = slices.DeleteFunc(merged.Conditions, func(c v1.PodCondition) bool { return !kubetypes.PodConditionByKubelet(c.Type) })
	for _, condition := range current.Status.Conditions {
		if !kubetypes.PodConditionByKubelet(condition.Type) {
			merged.Conditions = append(merged.Conditions, condition)
		}
	}
	updated, _, unchanged, err := statusutil.PatchPodStatus(ctx, n.client, pod.Namespace, pod.Name, pod.UID, current.Status, *merged)
	if unchanged { // an earlier write came through whose answer did not
		return current, nil
	}
	return updated, err
}

// patience is how long what changed may wait for more.
func (w *worker) patience() time.Duration {
	wanted, written := &w.writer.wanted, &w.writer.written
	if w.stopped || wanted.Phase == v1.PodFailed || w.pod.DeletionTimestamp != nil {
		return 0
	}
	for _, list := range [][]v1.ContainerStatus{wanted.InitContainerStatuses, wanted.ContainerStatuses} {
		for _, c := range list {
			if c.State.Waiting != nil && c.State.Waiting.Message != "" {
				return 0
			}
		}
	}
	if wanted.Phase == v1.PodPending && written.StartTime == nil {
		return patienceStarting
	}
	return patienceRunning
}

// startTime is when the node first saw the pod.
func (w *worker) startTime() time.Time {
	if w.writer.written.StartTime != nil {
		return w.writer.written.StartTime.Time
	}
	if w.begin.IsZero() {
		w.begin = metav1.Now().Rfc3339Copy()
	}
	return w.begin.Time
}

// status is the pod's status now, as the kubelet would compute it.
func (w *worker) status() v1.PodStatus {
	pod, before := w.pod, &w.writer.written
	if w.stopped && podutil.IsPodPhaseTerminal(before.Phase) {
		return *before // nothing more will happen
	}
	start := metav1.NewTime(w.startTime()).Rfc3339Copy()
	s := v1.PodStatus{
		ObservedGeneration:          podutil.CalculatePodStatusObservedGeneration(pod),
		QOSClass:                    v1qos.GetPodQOS(pod),
		StartTime:                   &start,
		HostIP:                      w.n.ip,
		HostIPs:                     []v1.HostIP{{IP: w.n.ip}},
		PodIP:                       w.n.ip,
		PodIPs:                      []v1.PodIP{{IP: w.n.ip}},
		NominatedNodeName:           pod.Status.NominatedNodeName,
		ResourceClaimStatuses:       pod.Status.ResourceClaimStatuses,
		ExtendedResourceClaimStatus: pod.Status.ExtendedResourceClaimStatus,
		Resize:                      pod.Status.Resize,
	}
	if w.verdict != nil && w.verdict.rejected {
		s.Phase, s.Reason, s.Message = w.phase(), w.verdict.reason, w.verdict.message
		s.Conditions = pod.Status.Conditions
		return s
	}
	for _, slot := range w.slots {
		one := w.containerStatus(slot)
		switch slot.kind {
		case initContainer, sidecar:
			s.InitContainerStatuses = append(s.InitContainerStatuses, one)
		case mainContainer:
			s.ContainerStatuses = append(s.ContainerStatuses, one)
		case ephemeral:
			s.EphemeralContainerStatuses = append(s.EphemeralContainerStatuses, one)
		}
	}
	byName := func(a, b v1.ContainerStatus) int { return cmp.Compare(a.Name, b.Name) }
	slices.SortFunc(s.ContainerStatuses, byName)
	slices.SortFunc(s.EphemeralContainerStatuses, byName)

	s.Phase = w.phase()
	if w.verdict != nil && s.Phase == v1.PodFailed {
		s.Reason, s.Message = w.verdict.reason, w.verdict.message
	}
	w.addConditions(&s)
	return s
}

// phase is the summary. An end is said only when nothing runs any more.
func (w *worker) phase() v1.PodPhase {
	if podutil.IsPodPhaseTerminal(w.writer.written.Phase) {
		return w.writer.written.Phase
	}
	if podutil.IsPodPhaseTerminal(w.pod.Status.Phase) {
		return w.pod.Status.Phase
	}
	running, never, failed := 0, 0, 0
	initializing := false
	for _, s := range w.slots {
		switch s.kind {
		case initContainer:
			initializing = initializing || !s.succeeded() && !w.mainsBegun()
		case sidecar:
			initializing = initializing || !w.mainsBegun() && !(s.running() && s.run.started)
			if s.running() {
				running++
			}
		case mainContainer:
			switch {
			case s.run == nil || s.running() && !s.run.hooked:
				never++
			case s.running():
				running++
			case s.run.ended.ExitCode != 0:
				failed++
			}
		}
	}
	switch {
	case w.stopped && (w.verdict != nil || failed > 0 || never > 0 || w.initFailed()):
		return v1.PodFailed
	case w.stopped:
		return v1.PodSucceeded
	case w.ending() && w.writer.written.Phase != "":
		return w.writer.written.Phase // on its way to its end
	case initializing || never > 0:
		return v1.PodPending
	}
	// Something runs, or will again.
	return v1.PodRunning
}

func (w *worker) addConditions(s *v1.PodStatus) {
	pod, before := w.pod, &w.writer.written
	for _, condition := range pod.Status.Conditions {
		if !kubetypes.PodConditionByKubelet(condition.Type) {
			s.Conditions = append(s.Conditions, condition)
		}
	}
	all := slices.Concat(s.InitContainerStatuses, s.ContainerStatuses)
	phase := s.Phase
	if w.stopped && w.verdict == nil && !w.mainsBegun() && !w.initFailed() {
		phase = v1.PodPending // it was deleted before it had begun, and is called Failed for that alone
	}
	ready := v1.PodCondition{Type: v1.PodReadyToStartContainers, Status: v1.ConditionFalse}
	if w.volumes.ready && !w.stopped {
		ready.Status = v1.ConditionTrue
	}
	ready.ObservedGeneration = podutil.CalculatePodConditionObservedGeneration(before, pod.Generation, ready.Type)
	s.Conditions = append(s.Conditions, ready,
		status.GeneratePodInitializedCondition(pod, before, all, phase),
		status.GeneratePodReadyCondition(pod, before, s.Conditions, all, phase),
		status.GenerateContainersReadyCondition(pod, before, all, phase),
		v1.PodCondition{
			Type: v1.PodScheduled, Status: v1.ConditionTrue,
			ObservedGeneration: podutil.CalculatePodConditionObservedGeneration(before, pod.Generation, v1.PodScheduled),
		})
	for i := range s.Conditions {
		condition := &s.Conditions[i]
		if !kubetypes.PodConditionByKubelet(condition.Type) {
			continue
		}
		condition.LastTransitionTime = metav1.Now().Rfc3339Copy()
		for _, old := range [][]v1.PodCondition{w.writer.wanted.Conditions, before.Conditions} {
			if _, was := podutil.GetPodConditionFromList(old, condition.Type); was != nil && was.Status == condition.Status {
				condition.LastTransitionTime = was.LastTransitionTime
				break
			}
		}
	}
}

// containerStatus is the part of one container.
func (w *worker) containerStatus(s *slot) v1.ContainerStatus {
	c := v1.ContainerStatus{Name: s.spec.Name, Image: s.spec.Image, RestartCount: s.restarts, LastTerminationState: v1.ContainerState{Terminated: s.last}}
	started := false
	c.Started = &started
	for _, mount := range s.spec.VolumeMounts {
		one := v1.VolumeMountStatus{Name: mount.Name, MountPath: mount.MountPath, ReadOnly: mount.ReadOnly}
		if mount.ReadOnly {
			disabled := v1.RecursiveReadOnlyDisabled
			one.RecursiveReadOnly = &disabled
		}
		c.VolumeMounts = append(c.VolumeMounts, one)
	}
	if s.run == nil {
		c.State.Waiting = s.waiting
		if s.waiting == nil {
			reason := "ContainerCreating"
			if len(w.pod.Spec.InitContainers) > 0 {
				reason = "PodInitializing"
			}
			c.State.Waiting = &v1.ContainerStateWaiting{Reason: reason}
		}
		if w.stopped && w.initialized() {
			c.State = v1.ContainerState{Terminated: &v1.ContainerStateTerminated{
				Reason: kubecontainer.ContainerReasonStatusUnknown, ExitCode: 137,
				Message: "The container could not be located when the pod was terminated",
			}}
		}
		return c
	}
	a := s.run
	c.ImageID, c.ContainerID = a.imageID, containerScheme+"://"+a.id
	if !a.recovered {
		c.Resources = s.spec.Resources.DeepCopy()
		c.AllocatedResources = s.spec.Resources.Requests
		c.User = &v1.ContainerUser{Linux: &v1.LinuxContainerUser{UID: a.uid, GID: a.gid, SupplementalGroups: []int64{a.gid}}}
	}
	switch {
	case a.ended == nil && !a.hooked:
		c.State.Waiting = &v1.ContainerStateWaiting{Reason: "ContainerCreating"}
	case a.ended == nil:
		c.State.Running = &v1.ContainerStateRunning{StartedAt: timestamp(a.since)}
		started = a.started
		c.Ready = s.kind != initContainer && a.started && a.ready
	case s.changed && !w.ending():
		// Not terminated: the API server lets no container leave that state whose
		// restart policy does not say so, and would refuse to hear of the next one.
		c.State.Waiting = &v1.ContainerStateWaiting{Reason: "ContainerCreating"}
		c.LastTerminationState = v1.ContainerState{Terminated: w.short(a.ended)}
	case s.waiting != nil && !w.stopped:
		c.State.Waiting = s.waiting
		c.LastTerminationState = v1.ContainerState{Terminated: w.short(a.ended)}
	default:
		c.State.Terminated = w.short(a.ended)
		c.LastTerminationState = v1.ContainerState{} // a kubelet keeps one container that ended
		c.Ready = s.kind == initContainer && a.ended.ExitCode == 0
	}
	return c
}

// initialized says whether no init container is left to be run.
func (w *worker) initialized() bool {
	for _, s := range w.slots {
		if s.kind == initContainer && !s.succeeded() && !w.mainsBegun() {
			return false
		}
	}
	return true
}

// short is an end whose message leaves room for those of the pod's other
// containers.
func (w *worker) short(ended *v1.ContainerStateTerminated) *v1.ContainerStateTerminated {
	most := kubecontainer.MaxPodTerminationMessageLogLength / len(w.slots)
	if len(ended.Message) <= most {
		return ended
	}
	cut := ended.DeepCopy()
	cut.Message = cut.Message[:most]
	return cut
}
