package server

import (
	"context"
	"errors"

	v1 "k8s.io/api/core/v1"

	"biplane.dev/biplane/sandbox/internal/container"
)

// ErrNotFound is wrapped by what Pods returns for a pod, container or log that
// the node does not have; ErrNotRunning for a container that is not running now.
// The text around it is for the person who asked.
var (
	ErrNotFound   = errors.New("not found")
	ErrNotRunning = errors.New("not running")
)

// Pods is the node as its API sees it. Its methods may be called from any
// goroutine.
type Pods interface {
	// List is every pod of this node with the status as the node has it now.
	List() []*v1.Pod

	// Container finds a container (or init container) of a pod by name.
	Container(namespace, pod, name string) (Container, error)
}

// Container is what the node tells of one container of a pod, its current
// attempt.
type Container interface {
	// Log is the CRI log file of the current or of the previous attempt. It may
	// be replaced while it is read: when it is full, it is renamed beside itself
	// and made anew under the same name. ended is closed when no more comes.
	Log(previous bool) (path string, ended <-chan struct{}, err error)

	// Exec runs a command beside the program, with the container's environment.
	// It returns the command's exit code.
	Exec(ctx context.Context, command []string, streams container.Streams) (int, error)

	// Attach joins the program's own streams, until it ends or ctx does.
	Attach(ctx context.Context, streams container.Streams) error

	// Usage is what the container uses now.
	Usage() (container.Usage, error)
}
