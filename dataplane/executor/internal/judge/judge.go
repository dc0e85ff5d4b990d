// Package judge says what a pod's state means for the attempt that it is: which
// phase that is, and of a failure, whose fault it is and whether another attempt
// may mend it.
//
// It is a function of the pod and the time. It reads no files: what the program in
// the pod wrote about its own failure (error.pb) is read by the reconciler, and
// Document judges that. Start with Pod.
package judge

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// Budget is what another attempt after a failure is taken from.
type Budget int

// The budgets. What is Permanent fails the action at once.
const (
	Permanent Budget = iota
	User
	System
)

// Failure is why an attempt ended.
type Failure struct {
	v1alpha1.ActionError
	Budget Budget
	// Final says that what the program may have written about its end does not
	// matter: it did not end by itself.
	Final bool
}

// Verdict is what a pod is at a time.
type Verdict struct {
	// Phase of the attempt. Succeeded: the primary container ended with 0, which is
	// not yet a success; see Document. Failed: see Failure.
	Phase   v1alpha1.Phase
	Message string
	Failure *Failure
	// Began and Ended are the primary container's times.
	Began, Ended *v1alpha1.Time
	// Again is when the verdict is another although nothing has happened; zero is never.
	Again time.Time
}

// Pod judges. Grace is how long an image may fail to be pulled.
func Pod(pod *corev1.Pod, primary string, now time.Time, grace time.Duration) Verdict {
	v := Verdict{Phase: v1alpha1.Queued}
	status := container(pod.Status.ContainerStatuses, primary)
	if status != nil {
		v.Began, v.Ended = times(status)
	}
	switch {
	case ended(status) && status.State.Terminated.ExitCode == 0:
		v.Phase = v1alpha1.Succeeded
	case ended(status):
		return v.failed(terminated(pod, primary, status.State.Terminated))
	case pod.Status.Phase == corev1.PodFailed:
		return v.failed(failed(pod))
	case pod.Status.Phase == corev1.PodSucceeded:
		v.Phase = v1alpha1.Succeeded // all ended well, and the node has forgotten how
	case pod.DeletionTimestamp != nil:
		return v.deleted(pod, now)
	case status != nil && status.State.Running != nil:
		v.Phase = v1alpha1.Running
	default:
		return v.waiting(pod, now, grace)
	}
	return v
}

func (v Verdict) failed(f *Failure) Verdict {
	v.Phase, v.Failure = v1alpha1.Failed, f
	return v
}

// lostAfter is how long after its time a deleted pod may stay. Its node tells
// nothing any more then, and may come back or not.
const lostAfter = 30 * time.Second

// deleted is a pod that somebody else than us is taking away: a drained node, a
// person. We took none away before it was judged.
func (v Verdict) deleted(pod *corev1.Pod, now time.Time) Verdict {
	if again := pod.DeletionTimestamp.Add(lostAfter); now.Before(again) {
		v.Phase, v.Message, v.Again = v1alpha1.Running, "the pod is being deleted", again
		if pod.Status.Phase == corev1.PodPending {
			v.Phase = v1alpha1.Initializing
		}
		return v
	}
	return v.failed(Vanished())
}

// Vanished is the failure of a pod that is there no more.
func Vanished() *Failure {
	return system("ResourceDeletedExternally", "the pod was deleted before it had ended, and not by the executor")
}

// disrupted are reasons of pods whose node gave them up.
var disrupted = map[string]bool{
	"Evicted": true, "Preempting": true, "Preempted": true, "Shutdown": true, "Terminated": true, "NodeShutdown": true, "NodeAffinity": true,
	"NodeLost": true, "UnexpectedAdmissionError": true, "OutOfcpu": true, "OutOfmemory": true, "OutOfpods": true, "UnknownError": true,
}

// terminated is a primary container that ended with another code than 0.
func terminated(pod *corev1.Pod, primary string, state *corev1.ContainerStateTerminated) *Failure {
	if reason, why := disruption(pod); reason != "" {
		return system(reason, why)
	}
	switch {
	case state.Reason == "OOMKilled":
		return user("OOMKilled", join(fmt.Sprintf("OOMKilled: the container took more memory than its limit%s: give the task more", memoryLimit(pod, primary)), state.Message)).final()
	case pod.Status.Reason == "DeadlineExceeded":
		return user("DeadlineExceeded", "the pod ran longer than the activeDeadlineSeconds of its template").final()
	case state.ExitCode == 137 || state.ExitCode == 247:
		return system("Interrupted", join(fmt.Sprintf("the container was killed (exit code %d)", state.ExitCode), state.Message))
	case pod.DeletionTimestamp != nil:
		return Vanished()
	case state.Reason == "ContainerCannotRun" || state.Reason == "StartError":
		return user("ContainerCannotRun", join("the container's command could not be started", state.Message))
	}
	return user("NonZeroExitCode", join(fmt.Sprintf("the container ended with exit code %d", state.ExitCode), wholeLines(state.Message)))
}

// logTail is how many bytes of a log's end a kubelet takes for the message of a
// program that left none; a letter that is cut counts three at most.
const logTail = 2 << 10

// wholeLines leaves out the line that such a message begins in the middle of.
func wholeLines(message string) string {
	if _, rest, found := strings.Cut(message, "\n"); found && len(message) >= logTail && len(message) < logTail+3*4 && strings.TrimSpace(rest) != "" {
		return rest
	}
	return message
}

// failed is a pod that failed, while nobody knows how its primary container ended.
func failed(pod *corev1.Pod) *Failure {
	if reason, why := disruption(pod); reason != "" {
		return system(reason, why)
	}
	if pod.Status.Reason == "DeadlineExceeded" {
		return user("DeadlineExceeded", "the pod ran longer than the activeDeadlineSeconds of its template").final()
	}
	for i := range pod.Status.InitContainerStatuses {
		status := &pod.Status.InitContainerStatuses[i]
		if ended(status) && status.State.Terminated.ExitCode != 0 {
			state := status.State.Terminated
			if state.Reason == "OOMKilled" {
				return user("OOMKilled", fmt.Sprintf("the init container %q took more memory than its limit", status.Name))
			}
			return user("InitContainerFailed", join(fmt.Sprintf("the init container %q ended with exit code %d", status.Name, state.ExitCode), state.Message))
		}
	}
	code := pod.Status.Reason
	if code == "" {
		code = "PodFailed"
	}
	return system(code, join("the pod failed before its container had ended", pod.Status.Message))
}

// disruption is why the cluster took the pod from its node; empty where it did not.
func disruption(pod *corev1.Pod) (reason, why string) {
	if disrupted[pod.Status.Reason] {
		return pod.Status.Reason, join("the node gave the pod up", pod.Status.Message)
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.DisruptionTarget && c.Status == corev1.ConditionTrue {
			return "Interrupted", join("the pod was taken from its node ("+c.Reason+")", c.Message)
		}
	}
	return "", ""
}

// waiting is a pod whose primary container has not started.
func (v Verdict) waiting(pod *corev1.Pod, now time.Time, grace time.Duration) Verdict {
	if pod.Spec.NodeName == "" {
		for _, c := range pod.Status.Conditions {
			if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse {
				v.Phase, v.Message = v1alpha1.WaitingForResources, c.Message
			}
		}
		return v
	}
	v.Phase = v1alpha1.Initializing
	since := progressed(pod)
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			state := list[i].State.Waiting
			if state == nil {
				continue
			}
			failure, patient := stuck(list[i].Image, state)
			if failure == nil {
				continue
			}
			if again := since.Add(grace); patient && now.Before(again) {
				v.Message, v.Again = failure.Message, again
				continue
			}
			return v.failed(failure)
		}
	}
	return v
}

// progressed is when the pod came forward last. An image is pulled when its container's
// turn comes, which may be long after the pod's beginning.
func progressed(pod *corev1.Pod) time.Time {
	last := pod.CreationTimestamp.Time
	if pod.Status.StartTime != nil {
		last = pod.Status.StartTime.Time
	}
	for _, list := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range list {
			began, finished := times(&list[i])
			for _, at := range []*v1alpha1.Time{began, finished} {
				if at != nil && at.After(last) && list[i].RestartCount == 0 { // a sidecar that starts again and again comes nowhere
					last = at.Time
				}
			}
		}
	}
	return last
}

// stuck is a container that cannot start. Patient: that may still change, and
// counts only after the grace.
func stuck(image string, state *corev1.ContainerStateWaiting) (f *Failure, patient bool) {
	switch state.Reason {
	case "InvalidImageName":
		return permanent("InvalidImageName", join(fmt.Sprintf("%q is no name of an image", image), state.Message)), false
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "ImageInspectError", "SignatureValidationFailed":
		why := join(fmt.Sprintf("the image %q cannot be pulled", image), state.Message)
		if strings.Contains(strings.ToLower(state.Message), "toomanyrequests") || strings.Contains(state.Message, "429 Too Many") {
			return system("ImagePullBackOff", why), true // the registry's limit is nobody's mistake
		}
		return user("ImagePullBackOff", why), true
	case "CreateContainerConfigError":
		return permanent(state.Reason, join("the container's configuration cannot be had", state.Message)), false
	case "CreateContainerError", "RunContainerError":
		return permanent(state.Reason, join("the container cannot be made", state.Message)), true
	}
	return nil, false
}

// Document judges what a program wrote about its failure. Where it says that
// another attempt may help, that is one of the author's, whosever fault it was.
func Document(document *core.ContainerError) *Failure {
	f := &Failure{ActionError: v1alpha1.ActionError{Code: document.GetCode(), Kind: v1alpha1.UserError, Message: document.GetMessage()}}
	if document.GetOrigin() == core.ExecutionError_SYSTEM {
		f.Kind = v1alpha1.SystemError
	}
	if f.Code == "" {
		f.Code = "Unknown"
	}
	if document.GetKind() == core.ContainerError_RECOVERABLE {
		f.Budget, f.Recoverable = User, true
	}
	return f
}

// NoOutputs is the failure of a program that ended well and wrote nothing of what
// its task declares.
func NoOutputs(file string) *Failure {
	return user("OutputsNotFound", "the program ended with exit code 0 and wrote no outputs to "+file)
}

// TooLong is the failure of a program whose own words about it are too many to be
// read. Most failures may be retried, so this one may.
func TooLong(file string, most int) *Failure {
	return user("ErrorTooLong", fmt.Sprintf("the program failed, and what it wrote about it in %s has more than %d MiB: raise exceptions with shorter texts", file, most>>20))
}

func user(code, message string) *Failure {
	return &Failure{ActionError: v1alpha1.ActionError{Code: code, Kind: v1alpha1.UserError, Message: message, Recoverable: true}, Budget: User}
}

func system(code, message string) *Failure {
	return &Failure{ActionError: v1alpha1.ActionError{Code: code, Kind: v1alpha1.SystemError, Message: message, Recoverable: true}, Budget: System}
}

func permanent(code, message string) *Failure {
	return &Failure{ActionError: v1alpha1.ActionError{Code: code, Kind: v1alpha1.UserError, Message: message}, Budget: Permanent}
}

// Never is a failure that no other attempt mends.
func Never(kind v1alpha1.ErrorKind, code, message string) *Failure {
	f := permanent(code, message)
	f.Kind = kind
	return f
}

// TimedOut is the failure of an attempt that took too long, which the author's
// retries are for.
func TimedOut(code, message string) *Failure { return user(code, message).final() }

func (f *Failure) final() *Failure {
	f.Final = true
	return f
}

// join puts what Kubernetes or the program said behind our own sentence.
func join(sentence, said string) string {
	if said = strings.TrimSpace(said); said == "" {
		return sentence
	}
	return sentence + ": " + said
}

func memoryLimit(pod *corev1.Pod, name string) string {
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == name {
			if quantity, ok := c.Resources.Limits[corev1.ResourceMemory]; ok {
				return " of " + quantity.String()
			}
		}
	}
	return ""
}

func container(statuses []corev1.ContainerStatus, name string) *corev1.ContainerStatus {
	for i := range statuses {
		if statuses[i].Name == name {
			return &statuses[i]
		}
	}
	return nil
}

func ended(status *corev1.ContainerStatus) bool {
	return status != nil && status.State.Terminated != nil
}

func times(status *corev1.ContainerStatus) (began, finished *v1alpha1.Time) {
	at := func(t metav1.Time) *v1alpha1.Time {
		if t.IsZero() {
			return nil
		}
		return v1alpha1.At(t.Time)
	}
	switch {
	case status.State.Running != nil:
		return at(status.State.Running.StartedAt), nil
	case status.State.Terminated != nil:
		return at(status.State.Terminated.StartedAt), at(status.State.Terminated.FinishedAt)
	}
	return nil, nil
}

// Over says whether a pod runs nothing any more.
func Over(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// String names the budget.
func (b Budget) String() string { return [...]string{"none", "user", "system"}[b] }
