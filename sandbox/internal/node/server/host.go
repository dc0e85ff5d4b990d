package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/kubelet/pkg/cri/streaming"
	"k8s.io/kubelet/pkg/cri/streaming/portforward"
	"k8s.io/kubelet/pkg/cri/streaming/remotecommand"
	"k8s.io/kubernetes/pkg/api/v1/pod"
	kubecontainer "k8s.io/kubernetes/pkg/kubelet/container"

	"biplane.dev/biplane/sandbox/internal/container"
)

// host is what the kubelet's server asks for everything. Where a sentence here
// reads oddly, it is the kubelet's: people search for it.
type host struct {
	noCgroups // what a process node does not have
	pods      Pods
	healthy   func() error
	streams   streaming.Server
}

func (h *host) GetPods() []*v1.Pod { return h.pods.List() }

func (h *host) GetPodByName(namespace, name string) (*v1.Pod, bool) {
	for _, p := range h.pods.List() {
		if p.Name == name && p.Namespace == namespace {
			return p, true
		}
	}
	return nil, false
}

func (h *host) GetRunningPods(context.Context) ([]*v1.Pod, error) {
	var running []*v1.Pod
	for _, p := range h.pods.List() {
		if p.Status.Phase == v1.PodRunning {
			running = append(running, p)
		}
	}
	return running, nil
}

func (h *host) SyncLoopHealthCheck(*http.Request) error {
	if h.healthy == nil {
		return nil
	}
	return h.healthy()
}

// running finds the pod and the status of a container of it that runs.
func (h *host) running(podFullName string, uid types.UID, name string) (*v1.Pod, bool) {
	podName, namespace, err := kubecontainer.ParsePodFullName(podFullName)
	if err != nil {
		return nil, false
	}
	p, found := h.GetPodByName(namespace, podName)
	if !found || (uid != "" && uid != p.UID) {
		return nil, false
	}
	status, found := containerStatus(&p.Status, name)
	return p, found && status.State.Running != nil
}

func containerStatus(status *v1.PodStatus, name string) (v1.ContainerStatus, bool) {
	for _, statuses := range [][]v1.ContainerStatus{status.ContainerStatuses, status.InitContainerStatuses, status.EphemeralContainerStatuses} {
		if found, ok := pod.GetContainerStatus(statuses, name); ok {
			return found, true
		}
	}
	return v1.ContainerStatus{}, false
}

func (h *host) GetExec(_ context.Context, podFullName string, uid types.UID, name string, command []string, streams remotecommand.Options) (*url.URL, error) {
	p, running := h.running(podFullName, uid, name)
	if !running {
		return nil, fmt.Errorf("container not found (%q)", name)
	}
	answer, err := h.streams.GetExec(&runtimeapi.ExecRequest{
		ContainerId: target{p.Namespace, p.Name, name}.String(), Cmd: command,
		Tty: streams.TTY, Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr,
	})
	if err != nil {
		return nil, err
	}
	return url.Parse(answer.Url)
}

func (h *host) GetAttach(_ context.Context, podFullName string, uid types.UID, name string, streams remotecommand.Options) (*url.URL, error) {
	p, running := h.running(podFullName, uid, name)
	if !running {
		return nil, fmt.Errorf("container %s not found in pod %s", name, podFullName)
	}
	spec := kubecontainer.GetContainerSpec(p, name)
	if spec == nil {
		return nil, fmt.Errorf("container %s not found in pod %s", name, podFullName)
	}
	// Whether it is a terminal was settled when the container was made.
	answer, err := h.streams.GetAttach(&runtimeapi.AttachRequest{
		ContainerId: target{p.Namespace, p.Name, name}.String(),
		Tty:         spec.TTY, Stdin: streams.Stdin, Stdout: streams.Stdout, Stderr: streams.Stderr && !spec.TTY,
	})
	if err != nil {
		return nil, err
	}
	return url.Parse(answer.Url)
}

func (h *host) GetPortForward(_ context.Context, name, namespace string, uid types.UID, options portforward.V4Options) (*url.URL, error) {
	p, found := h.GetPodByName(namespace, name)
	if !found || p.UID != uid || p.Status.Phase != v1.PodRunning {
		return nil, fmt.Errorf("pod not found (%q)", kubecontainer.BuildPodFullName(name, namespace))
	}
	answer, err := h.streams.GetPortForward(&runtimeapi.PortForwardRequest{
		PodSandboxId: target{namespace, name, ""}.String(), Port: options.Ports,
	})
	if err != nil {
		return nil, err
	}
	return url.Parse(answer.Url)
}

// RunInContainer is /run: exec without streams, its output at once and bounded.
func (h *host) RunInContainer(ctx context.Context, podFullName string, uid types.UID, name string, command []string) ([]byte, error) {
	p, running := h.running(podFullName, uid, name)
	if !running {
		return nil, fmt.Errorf("container not found (%q)", name)
	}
	c, err := h.pods.Container(p.Namespace, p.Name, name)
	if err != nil {
		return nil, err
	}
	output := &bounded{room: 16 << 20}
	code, err := c.Exec(ctx, command, container.Streams{Out: output, Err: output})
	if err == nil && code != 0 {
		err = fmt.Errorf("command %q exited with %d: %s", command, code, output.Bytes())
	}
	return output.Bytes(), err
}

// bounded keeps the start of what is written.
type bounded struct {
	bytes.Buffer
	room int
}

func (b *bounded) Write(p []byte) (int, error) {
	keep := p[:min(len(p), b.room)]
	b.room -= len(keep)
	b.Buffer.Write(keep)
	return len(p), nil
}

func (h *host) CheckpointContainer(context.Context, types.UID, string, string, *runtimeapi.CheckpointContainerRequest) error {
	return errors.New("a process node cannot checkpoint a container")
}

func (h *host) GetKubeletContainerLogs(ctx context.Context, podFullName, name string, options *v1.PodLogOptions, stdout, stderr io.Writer) error {
	podName, namespace, err := kubecontainer.ParsePodFullName(podFullName)
	if err != nil {
		return fmt.Errorf("reading logs: %w", err)
	}
	p, found := h.GetPodByName(namespace, podName)
	if !found {
		return fmt.Errorf("pod %q cannot be found - no logs available", podName)
	}
	return readLog(ctx, h.pods, p, name, options, stdout, stderr)
}
