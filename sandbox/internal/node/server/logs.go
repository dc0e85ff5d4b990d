package server

import (
	"context"
	"fmt"
	"io"
	"time"

	v1 "k8s.io/api/core/v1"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-client/pkg/logs"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/images"
)

// readLog writes the log of a container as options want it. As with a kubelet,
// what was rotated away is not shown, and following goes on in the new file.
func readLog(ctx context.Context, pods Pods, pod *v1.Pod, name string, options *v1.PodLogOptions, stdout, stderr io.Writer) error {
	if err := mayHaveLog(pod, name, options.Previous); err != nil {
		return err
	}
	c, err := pods.Container(pod.Namespace, pod.Name, name)
	if err != nil {
		return err
	}
	path, ended, err := c.Log(options.Previous)
	if err != nil {
		return err
	}
	// An empty write sends the header, so that a follower of a silent container
	// knows that it is connected.
	if stdout != nil {
		if _, err := stdout.Write(nil); err != nil {
			return err
		}
	}
	logger := klog.FromContext(ctx)
	return logs.ReadLogs(ctx, &logger, path, name, logs.NewLogOptions(options, time.Now()), untilEnded{ended: ended}, stdout, stderr)
}

// mayHaveLog is the sentence for a container that has no log that was asked for.
func mayHaveLog(pod *v1.Pod, name string, previous bool) error {
	status, found := containerStatus(&pod.Status, name)
	if !found {
		return fmt.Errorf("container %q in pod %q is not available", name, pod.Name)
	}
	last := status.LastTerminationState.Terminated
	waiting := status.State.Waiting
	switch {
	case previous && (last == nil || last.ContainerID == ""):
		return fmt.Errorf("previous terminated container %q in pod %q not found", name, pod.Name)
	case previous, status.State.Running != nil:
		return nil
	case status.State.Terminated != nil:
		if status.State.Terminated.ContainerID == "" && (last == nil || last.ContainerID == "") {
			return fmt.Errorf("container %q in pod %q is terminated", name, pod.Name)
		}
		return nil
	case last != nil:
		if last.ContainerID == "" {
			return fmt.Errorf("container %q in pod %q is terminated", name, pod.Name)
		}
		return nil
	case waiting == nil:
		return fmt.Errorf("container %q in pod %q is waiting to start - no logs yet", name, pod.Name)
	case waiting.Reason == images.ErrImagePull.Error():
		return fmt.Errorf("container %q in pod %q is waiting to start: image can't be pulled", name, pod.Name)
	case waiting.Reason == images.ErrImagePullBackOff.Error():
		return fmt.Errorf("container %q in pod %q is waiting to start: trying and failing to pull image", name, pod.Name)
	}
	return fmt.Errorf("container %q in pod %q is waiting to start: %v", name, pod.Name, waiting.Reason)
}

// untilEnded is the one method of a container runtime that a follower of a log
// calls: does the container still run?
type untilEnded struct {
	internalapi.RuntimeService
	ended <-chan struct{}
}

func (u untilEnded) ContainerStatus(context.Context, string, bool) (*runtimeapi.ContainerStatusResponse, error) {
	state := runtimeapi.ContainerState_CONTAINER_RUNNING
	select {
	case <-u.ended:
		state = runtimeapi.ContainerState_CONTAINER_EXITED
	default:
	}
	return &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{State: state}}, nil
}
