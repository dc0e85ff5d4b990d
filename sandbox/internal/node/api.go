package node

import (
	"context"
	"fmt"
	"os"
	"syscall"

	v1 "k8s.io/api/core/v1"

	"biplane.dev/biplane/sandbox/internal/container"
	"biplane.dev/biplane/sandbox/internal/node/server"
)

// List is every pod of this node, for the kubelet's API.
func (n *node) List() []*v1.Pod {
	n.mu.Lock()
	workers := make([]*worker, 0, len(n.workers))
	for _, w := range n.workers {
		workers = append(workers, w)
	}
	n.mu.Unlock()
	pods := make([]*v1.Pod, 0, len(workers))
	for _, w := range workers {
		w.mu.Lock()
		pod := *w.pod
		pod.Status = *w.writer.wanted.DeepCopy()
		w.showHooked(&pod.Status)
		w.mu.Unlock()
		pods = append(pods, &pod)
	}
	return pods
}

// showHooked calls containers running that are, but for a postStart hook that
// goes on: a command can be executed beside them.
func (w *worker) showHooked(status *v1.PodStatus) {
	for _, s := range w.slots {
		if !s.running() || s.run.hooked {
			continue
		}
		for _, list := range [][]v1.ContainerStatus{status.InitContainerStatuses, status.ContainerStatuses} {
			for i := range list {
				if list[i].Name == s.spec.Name {
					list[i].State = v1.ContainerState{Running: &v1.ContainerStateRunning{StartedAt: timestamp(s.run.since)}}
				}
			}
		}
	}
}

// Container finds a container by name, for the kubelet's API. Of two pods with
// one name the one that is not on its way out is meant.
func (n *node) Container(namespace, pod, name string) (server.Container, error) {
	var found *worker
	n.mu.Lock()
	for _, w := range n.workers {
		w.mu.Lock()
		if w.pod.Namespace == namespace && w.pod.Name == pod && (found == nil || !w.gone) {
			found = w
		}
		w.mu.Unlock()
	}
	n.mu.Unlock()
	if found == nil {
		return nil, fmt.Errorf("pod %q in namespace %q %w on node %s", pod, namespace, server.ErrNotFound, n.cfg.Name)
	}
	found.mu.Lock()
	defer found.mu.Unlock()
	for _, s := range found.slots {
		if s.spec.Name == name {
			return &containerHandle{w: found, s: s}, nil
		}
	}
	return nil, fmt.Errorf("container %q of pod %q %w", name, pod, server.ErrNotFound)
}

// containerHandle is one container as the kubelet's API sees it.
type containerHandle struct {
	w *worker
	s *slot
}

// Log finds the log of the current attempt, or of the one before. While the next
// attempt waits, the one that ended is the current.
func (h *containerHandle) Log(previous bool) (path string, ended <-chan struct{}, err error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	name, a := h.s.spec.Name, h.s.run
	if previous {
		number := int32(-1)
		switch {
		case a != nil && h.s.waiting != nil && a.ended != nil:
			number = a.number
		case a != nil:
			number = a.number - 1
		case h.s.restarts > 0:
			number = h.s.restarts - 1
		}
		path := h.w.n.logPath(h.w.uid, name, number)
		if _, err := os.Stat(path); number < 0 || err != nil {
			return "", nil, fmt.Errorf("previous terminated container %q in pod %q %w", name, h.w.pod.Name, server.ErrNotFound)
		}
		done := make(chan struct{})
		close(done)
		return path, done, nil
	}
	if a == nil {
		reason := "ContainerCreating"
		if h.s.waiting != nil {
			reason = h.s.waiting.Reason
		}
		return "", nil, fmt.Errorf("container %q in pod %q is waiting to start: %s: %w", name, h.w.pod.Name, reason, server.ErrNotRunning)
	}
	return a.log, a.logEnded, nil
}

// Exec runs a command beside the container's program.
func (h *containerHandle) Exec(ctx context.Context, command []string, streams container.Streams) (int, error) {
	running, err := h.running()
	if err != nil {
		return 0, err
	}
	return running.Exec(ctx, command, nil, streams)
}

// Attach joins the program's streams.
func (h *containerHandle) Attach(ctx context.Context, streams container.Streams) error {
	running, err := h.running()
	if err != nil {
		return err
	}
	return running.Attach(ctx, streams)
}

// Usage is what the container uses.
func (h *containerHandle) Usage() (container.Usage, error) {
	running, err := h.running()
	if err != nil {
		return container.Usage{}, err
	}
	return running.Usage()
}

func (h *containerHandle) running() (*container.Container, error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if !h.s.running() {
		return nil, fmt.Errorf("container %q of pod %q is %w", h.s.spec.Name, h.w.pod.Name, server.ErrNotRunning)
	}
	return h.s.run.container, nil
}

// terminate asks a program to end.
func (w *worker) terminate(a *attempt) {
	if err := a.container.Signal(syscall.SIGTERM); err != nil {
		w.n.log.Debug("a container was not signalled", "error", err)
	}
}
