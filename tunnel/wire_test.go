package tunnel_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"
)

// wire is a TCP proxy that can be frozen, as a link is whose far end has lost
// its power; cut; and made as long as a continent.
type wire struct {
	address string
	target  string
	delay   time.Duration // of one direction
	rate    int           // bytes a second towards target; 0: any

	mu     sync.Mutex
	frozen chan struct{} // closed: nothing passes any more
	conns  []net.Conn
}

func newWire(t testing.TB, target string, delay time.Duration) *wire {
	t.Helper()
	return newSlowWire(t, target, delay, 0)
}

func newSlowWire(t testing.TB, target string, delay time.Duration, rate int) *wire {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{address: listener.Addr().String(), target: target, delay: delay, rate: rate, frozen: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", target)
			if err != nil {
				near.Close()
				continue
			}
			w.mu.Lock()
			w.conns = append(w.conns, near, far)
			w.mu.Unlock()
			running.Go(func() { w.pass(ctx, far, near, w.rate) })
			running.Go(func() { w.pass(ctx, near, far, 0) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		cancel()
		w.cut()
		running.Wait()
	})
	return w
}

// freeze keeps the connections and passes nothing more.
func (w *wire) freeze() { close(w.frozen) }

// cut closes the connections that there are; new ones are served.
func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, conn := range w.conns {
		conn.Close()
	}
	w.conns = nil
}

type chunk struct {
	bytes []byte
	due   time.Time
}

// pass copies, each byte no sooner than delay after it came. Between the two
// goroutines is what a long link has in flight: up to 64 MiB.
func (w *wire) pass(ctx context.Context, to, from net.Conn, rate int) {
	flight := make(chan chunk, 1024)
	defer to.Close()
	defer from.Close()
	var writing sync.WaitGroup
	defer writing.Wait()
	defer close(flight)
	writing.Go(func() {
		for c := range flight {
			if wait := time.Until(c.due); wait > 0 {
				time.Sleep(wait)
			}
			if _, err := to.Write(c.bytes); err != nil {
				from.Close()
			}
			if rate > 0 {
				select {
				case <-time.After(time.Duration(len(c.bytes)) * time.Second / time.Duration(rate)):
				case <-ctx.Done():
					rate = 0
				}
			}
		}
		to.Close()
	})
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-w.frozen:
			<-ctx.Done()
			return
		default:
		}
		if n > 0 {
			select {
			case flight <- chunk{append([]byte(nil), buffer[:n]...), time.Now().Add(w.delay)}:
			case <-ctx.Done():
				return
			}
		}
		if err != nil {
			return
		}
	}
}
