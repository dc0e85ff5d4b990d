package tunnel

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

// Stream is one of a session's, a connection of its own: its window is its own
// too, so a reader that is slow holds up the writer of its stream alone.
//
// Close ends both directions: what was written is still delivered, and what the
// peer goes on to write is thrown away, so that it will block in the end. Reset
// ends both at once, and reads and writes of the peer fail.
type Stream struct{ *yamux.Stream }

// readLine reads up to the first line feed, and not a byte further.
func readLine(r io.Reader, limit int) (string, error) {
	var line strings.Builder
	for one := make([]byte, 1); ; {
		if _, err := io.ReadFull(r, one); err != nil {
			return "", fmt.Errorf("reading a line: %w", err)
		}
		if one[0] == '\n' {
			return line.String(), nil
		}
		if line.Len() == limit {
			return "", fmt.Errorf("reading a line: longer than %d bytes", limit)
		}
		line.WriteByte(one[0])
	}
}

// HalfCloser is a connection whose two directions end apart: a Stream, a
// *net.TCPConn, a *tls.Conn.
type HalfCloser interface {
	net.Conn
	CloseWrite() error
}

// ErrIdle ends a Splice over which nothing went for its limit.
var ErrIdle = errors.New("tunnel: idle for too long")

// Splice copies between a and b until both directions have ended, each by its
// own half-close, and closes both. An error of either ends all at once, as does
// a time of idle without a byte in any direction. It returns the bytes from a to
// b, and from b to a. A side that does not read is not read for either: the copy
// holds one buffer.
func Splice(a, b HalfCloser, idle time.Duration) (forth, back int64, err error) {
	var (
		wait    sync.WaitGroup
		once    sync.Once
		started = time.Now()
		active  atomic.Int64
		done    = make(chan struct{})
	)
	fail := func(reason error) {
		once.Do(func() {
			err = reason
			abort(a)
			abort(b)
		})
	}
	pass := func(to, from HalfCloser, count *int64) {
		buffer := make([]byte, 32<<10)
		for {
			n, readErr := from.Read(buffer)
			if n > 0 {
				active.Store(int64(time.Since(started)))
				if _, writeErr := to.Write(buffer[:n]); writeErr != nil {
					fail(fmt.Errorf("writing: %w", writeErr))
					return
				}
				*count += int64(n)
				active.Store(int64(time.Since(started)))
			}
			if errors.Is(readErr, io.EOF) {
				if closeErr := to.CloseWrite(); closeErr != nil {
					fail(fmt.Errorf("ending a direction: %w", closeErr))
				}
				return
			}
			if readErr != nil {
				fail(fmt.Errorf("reading: %w", readErr))
				return
			}
		}
	}
	wait.Go(func() { pass(b, a, &forth) })
	wait.Go(func() { pass(a, b, &back) })

	var watch sync.WaitGroup
	watch.Go(func() {
		timer := time.NewTimer(idle)
		defer timer.Stop()
		for {
			select {
			case <-done:
				return
			case <-timer.C:
			}
			quiet := time.Since(started) - time.Duration(active.Load())
			if quiet >= idle {
				fail(ErrIdle)
				return
			}
			timer.Reset(idle - quiet)
		}
	})
	wait.Wait()
	close(done)
	watch.Wait()
	a.Close()
	b.Close()
	return forth, back, err
}

// abort ends a connection so that its peer sees an error and no end: a session
// cut short must not look complete.
func abort(conn HalfCloser) {
	switch conn := conn.(type) {
	case interface{ Reset() error }:
		conn.Reset()
	case *net.TCPConn:
		conn.SetLinger(0)
		conn.Close()
	default:
		conn.Close()
	}
}
