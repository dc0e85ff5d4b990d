package controlplane_test

import (
	"io"
	"net"
	"sync"
	"testing"
)

// wire leads from a TCP port to a socket, and can be cut.
type wire struct {
	t        *testing.T
	listener net.Listener
	socket   string

	mu      sync.Mutex
	severed bool
	ends    []net.Conn
	running sync.WaitGroup
}

func newWire(t *testing.T, socket string) *wire {
	t.Helper()
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{t: t, listener: listener, socket: socket}
	w.running.Go(w.accept)
	t.Cleanup(func() {
		listener.Close()
		w.cut()
		w.running.Wait()
	})
	return w
}

func (w *wire) address() string { return w.listener.Addr().String() }

func (w *wire) accept() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("unix", w.socket)
		w.mu.Lock()
		if err != nil || w.severed {
			near.Close()
			if err == nil {
				far.Close()
			}
			w.mu.Unlock()
			continue
		}
		w.ends = append(w.ends, near, far)
		for _, pair := range [][2]net.Conn{{near, far}, {far, near}} {
			w.running.Go(func() {
				io.Copy(pair[0], pair[1])
				pair[0].Close()
				pair[1].Close()
			})
		}
		w.mu.Unlock()
	}
}

// cut ends every connection, and every one that is tried from then on.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.severed = true
	for _, end := range w.ends {
		end.Close()
	}
	w.ends = nil
}

func (w *wire) restore() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.severed = false
}
