package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/utils/exec"

	"biplane.dev/biplane/sandbox/internal/container"
)

// target names a container, or with no name a pod, where the library of streams
// wants a container's id. A slash is in none of the three.
type target struct{ namespace, pod, name string }

func (t target) String() string { return t.namespace + "/" + t.pod + "/" + t.name }

func parseTarget(id string) (target, error) {
	parts := strings.Split(id, "/")
	if len(parts) != 3 {
		return target{}, fmt.Errorf("%q names no container", id)
	}
	return target{parts[0], parts[1], parts[2]}, nil
}

// runtime runs what a stream is for.
type runtime struct {
	pods    Pods
	stopped context.Context // ends with the server, which hijacked streams do not know of
}

func (r runtime) Exec(ctx context.Context, id string, command []string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, failed := r.find(id)
	if failed != nil {
		return failed
	}
	ctx, cancel := r.context(ctx)
	defer cancel()
	code, failed := c.Exec(ctx, command, streamsOf(ctx, in, out, err, tty, resize))
	if failed != nil {
		return failed
	}
	if code != 0 {
		return exec.CodeExitError{Err: fmt.Errorf("command terminated with exit code %d", code), Code: code}
	}
	return nil
}

func (r runtime) Attach(ctx context.Context, id string, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) error {
	c, failed := r.find(id)
	if failed != nil {
		return failed
	}
	ctx, cancel := r.context(ctx)
	defer cancel()
	return c.Attach(ctx, streamsOf(ctx, in, out, err, tty, resize))
}

func (r runtime) find(id string) (Container, error) {
	t, err := parseTarget(id)
	if err != nil {
		return nil, err
	}
	return r.pods.Container(t.namespace, t.pod, t.name)
}

func (r runtime) context(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	release := context.AfterFunc(r.stopped, cancel)
	return ctx, func() { release(); cancel() }
}

// streamsOf is what a client wants of the three streams. An interface that holds
// a nil pointer is not nil, so each is looked at.
func streamsOf(ctx context.Context, in io.Reader, out, err io.WriteCloser, tty bool, resize <-chan remotecommand.TerminalSize) container.Streams {
	streams := container.Streams{TTY: tty}
	if in != nil {
		streams.In = in
	}
	if out != nil {
		streams.Out = out
	}
	if err != nil {
		streams.Err = err
	}
	if resize != nil {
		sizes := make(chan container.Size)
		streams.Resize = sizes
		go func() {
			defer close(sizes)
			for {
				select {
				case size, more := <-resize:
					if !more {
						return
					}
					select {
					case sizes <- container.Size{Columns: size.Width, Rows: size.Height}:
					case <-ctx.Done():
						return
					}
				case <-ctx.Done():
					return
				}
			}
		}()
	}
	return streams
}

// PortForward carries one connection to a port of a pod. Pods share the
// machine's network, so that is a port of the loopback, or of the pod's own
// address for a program that listens only there.
func (r runtime) PortForward(ctx context.Context, id string, port int32, stream io.ReadWriteCloser) error {
	defer stream.Close()
	t, err := parseTarget(id)
	if err != nil {
		return err
	}
	ctx, cancel := r.context(ctx)
	defer cancel()
	conn, err := r.dial(ctx, t, port)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close(); stream.Close() })
	defer stop()

	// Each direction ends by itself: a client that has said all may still want
	// the answer. When the pod has closed, nothing more can come, and the client
	// is not waited for.
	var sent sync.WaitGroup
	sent.Go(func() {
		io.Copy(conn, stream)
		if tcp, ok := conn.(*net.TCPConn); ok {
			tcp.CloseWrite()
		}
	})
	_, err = io.Copy(stream, conn)
	stream.Close()
	conn.Close()
	sent.Wait()
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("copying from port %d of pod %s: %w", port, t.pod, err)
	}
	return nil
}

func (r runtime) dial(ctx context.Context, t target, port int32) (net.Conn, error) {
	hosts := []string{"127.0.0.1", "::1"}
	for _, p := range r.pods.List() {
		if p.Namespace == t.namespace && p.Name == t.pod && p.Status.PodIP != "" && p.Status.PodIP != hosts[0] {
			hosts = append([]string{p.Status.PodIP}, hosts...)
		}
	}
	var dialer net.Dialer
	var refused []string
	for _, host := range hosts {
		conn, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(int(port))))
		if err == nil {
			return conn, nil
		}
		refused = append(refused, err.Error())
	}
	return nil, fmt.Errorf("failed to connect to localhost:%d of pod %s: %s", port, t.pod, strings.Join(refused, "; "))
}
