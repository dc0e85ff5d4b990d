package node

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"
	kubeletevents "k8s.io/kubernetes/pkg/kubelet/events"
	"k8s.io/kubernetes/pkg/util/tail"
)

// What is kept of a pod, below its folder:
//
//	volumes/NAME/               until its containers have ended
//	hosts, resolv.conf
//	logs/CONTAINER/N.log        of attempt N, and what was rotated: N.log.1 …
//	containers/CONTAINER/N.message, N.exit
//
// An attempt has a log from before it starts, and an exit record once it ended:
// after a kill of the node that tells what ran, what ended and what was lost.

func (n *node) logPath(uid types.UID, name string, number int32) string {
	return filepath.Join(n.podDir(uid), "logs", name, strconv.Itoa(int(number))+".log")
}

func (n *node) messagePath(uid types.UID, name string, number int32) string {
	return filepath.Join(n.podDir(uid), "containers", name, strconv.Itoa(int(number))+".message")
}

func (n *node) exitPath(uid types.UID, name string, number int32) string {
	return filepath.Join(n.podDir(uid), "containers", name, strconv.Itoa(int(number))+".exit")
}

// removeAttempt forgets one attempt; the one before the newest is kept, for
// `kubectl logs --previous`.
func (n *node) removeAttempt(uid types.UID, name string, number int32) {
	if number < 0 {
		return
	}
	removeLog(n.logPath(uid, name, number))
	_ = os.Remove(n.messagePath(uid, name, number))
	_ = os.Remove(n.exitPath(uid, name, number))
}

// terminated is how an attempt ended, with what it left to say.
func (n *node) terminated(uid types.UID, s *slot, a *attempt) *v1.ContainerStateTerminated {
	<-a.logEnded
	exit := a.container.Exit()
	ended := &v1.ContainerStateTerminated{
		ExitCode: int32(exit.Code), Reason: "Completed",
		StartedAt: timestamp(exit.Started), FinishedAt: timestamp(exit.Finished), ContainerID: containerScheme + "://" + a.id,
	}
	switch {
	case exit.OOMKilled:
		ended.Reason = "OOMKilled"
	case exit.Code != 0:
		ended.Reason = "Error"
	}
	ended.Message = n.message(uid, s, a, exit.Code != 0)
	n.writeExit(uid, s.spec.Name, a.number, ended)
	return ended
}

// message is what a container left in its termination message file or, when it
// failed and asks for that, at the end of its log.
func (n *node) message(uid types.UID, s *slot, a *attempt, failed bool) string {
	if s.spec.TerminationMessagePath != "" {
		content, _, err := tail.ReadAtMost(n.messagePath(uid, s.spec.Name, a.number), kubecontainer.MaxContainerTerminationMessageLength)
		if err == nil && len(content) > 0 {
			return string(content)
		}
	}
	if !failed || s.spec.TerminationMessagePolicy != v1.TerminationMessageFallbackToLogsOnError {
		return ""
	}
	lines := int64(kubecontainer.MaxContainerTerminationMessageLogLines)
	var last bytes.Buffer
	logger := klog.Background()
	options := logs.NewLogOptions(&v1.PodLogOptions{TailLines: &lines}, time.Now())
	if err := logs.ReadLogs(context.Background(), &logger, a.log, a.id, options, nil, &last, &last); err != nil {
		return fmt.Sprintf("the log could not be read: %v", err)
	}
	text := last.Bytes()
	return string(text[max(0, len(text)-kubecontainer.MaxContainerTerminationMessageLogLength):])
}

func (n *node) keepExit(uid types.UID, s *slot, a *attempt) {
	n.writeExit(uid, s.spec.Name, a.number, a.ended)
}

func (n *node) writeExit(uid types.UID, name string, number int32, ended *v1.ContainerStateTerminated) {
	path := n.exitPath(uid, name, number)
	content, err := json.Marshal(ended)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o700)
	}
	if err == nil {
		err = os.WriteFile(path+".new", content, 0o600)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		n.log.Warn("the end of a container was not recorded", "error", err)
	}
}

// recover finds out what became of a pod that an earlier node ran, from what is
// on disk and what the API server was told. Its containers went with that node.
func (w *worker) recover() {
	statuses := map[string]v1.ContainerStatus{}
	for _, list := range [][]v1.ContainerStatus{w.pod.Status.InitContainerStatuses, w.pod.Status.ContainerStatuses, w.pod.Status.EphemeralContainerStatuses} {
		for _, status := range list {
			statuses[status.Name] = status
		}
	}
	if w.pod.Status.Phase == v1.PodSucceeded || w.pod.Status.Phase == v1.PodFailed {
		w.stopped = true
	}
	lost := false
	for _, s := range w.slots {
		status := statuses[s.spec.Name]
		s.restarts, s.last = status.RestartCount, status.LastTerminationState.Terminated
		number, ended, ran := w.n.lastAttempt(w.uid, s.spec.Name)
		switch {
		case ran && (ended != nil || !w.stopped || status.State.Terminated == nil):
			if number > status.RestartCount && status.State.Terminated != nil {
				s.last = status.State.Terminated
			}
			s.restarts = number
		case status.State.Terminated != nil:
			number, ended = status.RestartCount, status.State.Terminated
		case status.State.Running != nil:
			number = status.RestartCount
		default:
			continue // it never ran
		}
		if ended == nil {
			lost = true
			ended = &v1.ContainerStateTerminated{
				ExitCode: 137, Reason: kubecontainer.ContainerReasonStatusUnknown,
				Message:    "The container could not be located when the pod was terminated",
				FinishedAt: metav1.Now(),
			}
			if status.State.Running != nil {
				ended.StartedAt, ended.ContainerID = status.State.Running.StartedAt, status.ContainerID
			}
		}
		ending := make(chan struct{})
		close(ending)
		s.run = &attempt{
			number: number, id: strings.TrimPrefix(status.ContainerID, containerScheme+"://"), imageID: status.ImageID,
			log: w.n.logPath(w.uid, s.spec.Name, number), logEnded: ending, ended: ended, hooked: true, recovered: true,
		}
	}
	if lost && !w.ending() && !w.stopped {
		// As after a machine's restart the pod begins anew, with its init
		// containers.
		w.n.events.pod(w.pod, v1.EventTypeNormal, kubeletevents.SandboxChanged, "Pod sandbox changed, it will be killed and re-created.")
		w.again = true
		for _, s := range w.slots {
			if s.kind == initContainer && s.run != nil {
				s.last, s.restarts, s.run = s.run.ended, s.run.number+1, nil
			}
		}
	}
}

// lastAttempt is the newest attempt of a container that has left a trace; ended
// is nil when it was lost.
func (n *node) lastAttempt(uid types.UID, name string) (number int32, ended *v1.ContainerStateTerminated, ran bool) {
	entries, err := os.ReadDir(filepath.Join(n.podDir(uid), "logs", name))
	if err != nil {
		return 0, nil, false
	}
	for _, entry := range entries {
		digits, isLog := strings.CutSuffix(entry.Name(), ".log")
		if of, err := strconv.ParseInt(digits, 10, 32); isLog && err == nil && (!ran || int32(of) > number) {
			number, ran = int32(of), true
		}
	}
	if !ran {
		return 0, nil, false
	}
	content, err := os.ReadFile(n.exitPath(uid, name, number))
	if err != nil {
		return number, nil, true
	}
	ended = &v1.ContainerStateTerminated{}
	if json.Unmarshal(content, ended) != nil {
		return number, nil, true
	}
	return number, ended, true
}

// timestamp is a time as the API has it, in whole seconds.
func timestamp(t time.Time) metav1.Time { return metav1.NewTime(t).Rfc3339Copy() }
