package tunnel

import (
	"io"
	"net"
	"sync/atomic"
	"time"
)

// link is the TLS connection as yamux sees it. It knows when something was last
// received, and limits each write by itself: yamux's one limit is for pings too,
// which must be short, and may leave a write half of it.
type link struct {
	net.Conn
	socket net.Conn // below TLS

	heard    atomic.Int64 // nanoseconds since started
	started  time.Time
	received atomic.Uint64
	sent     atomic.Uint64
	lost     atomic.Pointer[error] // why no more is received
}

func newLink(conn, socket net.Conn) *link {
	return &link{Conn: conn, socket: socket, started: time.Now()}
}

func (l *link) Read(b []byte) (int, error) {
	n, err := l.Conn.Read(b)
	if n > 0 {
		l.heard.Store(int64(time.Since(l.started)))
		l.received.Add(uint64(n))
	}
	if err == io.EOF {
		// Streams wrap what ends the session, and must not look complete.
		err = ErrLost
	}
	if err != nil {
		l.lose(err)
	}
	return n, err
}

func (l *link) Write(b []byte) (int, error) {
	if err := l.Conn.SetWriteDeadline(time.Now().Add(writeLimit)); err != nil {
		return 0, err
	}
	n, err := l.Conn.Write(b)
	l.sent.Add(uint64(n))
	if err != nil {
		l.lose(err)
	}
	return n, err
}

// lose keeps the first reason.
func (l *link) lose(err error) { l.lost.CompareAndSwap(nil, &err) }

// SetWriteDeadline does nothing, see link.
func (l *link) SetWriteDeadline(time.Time) error { return nil }

// watch closes the socket once nothing was received for silenceLimit. It closes
// below TLS, whose own farewell would wait for a socket that takes nothing.
func (l *link) watch(done <-chan struct{}) {
	timer := time.NewTimer(silenceLimit)
	defer timer.Stop()
	for {
		select {
		case <-done:
			return
		case <-timer.C:
		}
		silence := time.Since(l.started) - time.Duration(l.heard.Load())
		if silence >= silenceLimit {
			l.lose(ErrSilent)
			l.socket.Close()
			return
		}
		timer.Reset(silenceLimit - silence)
	}
}
