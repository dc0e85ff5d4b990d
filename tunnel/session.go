package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-yamux/v5"
)

// Session is one established tunnel. Both of its ends can do the same.
type Session struct {
	link *link
	mux  *yamux.Session
	log  *slog.Logger
	rpc  *transport

	opening  sync.RWMutex  // held to read while a stream is opened
	draining chan struct{} // closed once either side is; written under opening
	closed   atomic.Bool   // by this side
	own      sync.WaitGroup
}

// Handlers are what a peer reaches.
type Handlers struct {
	// RPC serves the calls that come over rpc streams. Nil: there are none.
	RPC http.Handler
	// Raw serves one raw stream, which is closed when it returns. Its context ends
	// with the session. Nil: there are none.
	Raw func(ctx context.Context, name string, stream *Stream)
}

func newSession(conn *link, client bool, options Options) (*Session, error) {
	log := options.log()
	budget := new(atomic.Int64)
	config := &yamux.Config{
		AcceptBacklog: acceptBacklog,
		PingBacklog:   32,
		// Measuring is what pings. The limit is for a ping, see link for writes: so
		// short that a new one goes out in time where the answer to the last is stuck
		// behind bulk.
		MeasureRTTInterval:      pingInterval,
		ConnectionWriteTimeout:  3 * pingInterval / 2,
		MaxIncomingStreams:      maxStreams,
		InitialStreamWindowSize: initialWindow,
		MaxStreamWindowSize:     maxWindow,
		MaxMessageSize:          maxFrame,
		ReadBufSize:             maxFrame,
		LogOutput:               slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer(),
	}
	open := yamux.Server
	if client {
		open = yamux.Client
	}
	mux, err := open(conn, config, func() (yamux.MemoryManager, error) { return &growth{session: budget}, nil })
	if err != nil {
		return nil, fmt.Errorf("starting yamux: %w", err)
	}
	s := &Session{link: conn, mux: mux, log: log, draining: make(chan struct{})}
	s.rpc = newTransport(s)
	s.own.Go(func() { conn.watch(mux.CloseChan()) })
	return s, nil
}

// growth is what one stream's window has grown by. Its session's budget is
// shared, and a refusal leaves the window as it is.
type growth struct {
	session *atomic.Int64
	taken   atomic.Int64
}

func (g *growth) ReserveMemory(size int, priority uint8) error {
	if priority == 255 { // a stream's first window; maxStreams bounds those
		return nil
	}
	if g.session.Add(int64(size)) > windowBudget {
		g.session.Add(-int64(size))
		return errors.New("the session's windows have grown enough")
	}
	g.taken.Add(int64(size))
	return nil
}

func (g *growth) ReleaseMemory(size int) {
	g.session.Add(-int64(size))
	g.taken.Add(-int64(size))
}

func (g *growth) Done() { g.session.Add(-g.taken.Swap(0)) }

// RoundTripper sends HTTP/2 requests to the peer's Handlers.RPC. The host of a
// URL is the peer's to interpret; the scheme is http.
func (s *Session) RoundTripper() http.RoundTripper { return s.rpc }

// OpenRaw opens a stream of bytes to what the peer knows by name. That the peer
// refuses shows as an error of the first read.
func (s *Session) OpenRaw(ctx context.Context, name string) (*Stream, error) {
	if strings.ContainsAny(name, " \n") || name == "" || len("raw "+name) > maxLine {
		return nil, fmt.Errorf("opening a raw stream to %q: not a name", name)
	}
	return s.open(ctx, "raw "+name)
}

// open opens a stream and says its line, all of it before the session begins to
// drain or none.
func (s *Session) open(ctx context.Context, line string) (*Stream, error) {
	s.opening.RLock()
	defer s.opening.RUnlock()
	select {
	case <-s.draining:
		if err := s.Err(); err != nil {
			return nil, err
		}
		return nil, ErrDraining
	default:
	}
	return s.openLine(ctx, line)
}

func (s *Session) openLine(ctx context.Context, line string) (*Stream, error) {
	opened, err := s.mux.OpenStream(ctx)
	if err != nil {
		return nil, fmt.Errorf("opening a stream: %w", s.reason(err))
	}
	if deadline, ok := ctx.Deadline(); ok {
		opened.SetWriteDeadline(deadline)
	}
	if _, err := opened.Write([]byte(line + "\n")); err != nil {
		opened.Reset()
		return nil, fmt.Errorf("opening a stream: %w", s.reason(err))
	}
	opened.SetWriteDeadline(time.Time{})
	return &Stream{opened}, nil
}

// Serve answers what the peer opens until the session ends, and says why it
// did. It is to be called once: a peer's streams wait for it. The end of ctx
// closes the session; for a soft end call Drain. All handlers have returned when
// Serve does.
func (s *Session) Serve(ctx context.Context, handlers Handlers) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		running sync.WaitGroup
		calls   calls
	)
	streams := newListener(s.link.LocalAddr()) // for calls
	server := newServer(ctx, handlers.RPC, &calls, s.log)
	running.Go(func() { server.Serve(streams) })
	running.Go(func() {
		select {
		case <-ctx.Done():
			s.Close()
		case <-s.Done():
			cancel()
		}
	})

	for {
		accepted, err := s.mux.AcceptStream()
		if err != nil {
			break
		}
		running.Go(func() { s.route(ctx, &Stream{accepted}, handlers, streams) })
	}
	cancel()
	streams.Close()
	server.Close()
	calls.end()
	running.Wait()
	s.own.Wait()
	return s.Err()
}

// route reads a stream's line and hands it to who it is for.
func (s *Session) route(ctx context.Context, stream *Stream, handlers Handlers, streams *listener) {
	stream.SetReadDeadline(time.Now().Add(lineLimit))
	line, err := readLine(stream, maxLine)
	stream.SetReadDeadline(time.Time{})
	if err != nil {
		s.log.Debug("stream without a line", "error", err)
		stream.Reset()
		return
	}
	kind, name, _ := strings.Cut(line, " ")
	switch {
	case kind == "rpc" && handlers.RPC != nil && streams.put(stream):
		// The HTTP server closes it.
	case kind == "raw" && handlers.Raw != nil && name != "":
		defer stream.Close()
		handlers.Raw(ctx, name, stream)
	case kind == "drain":
		s.log.Debug("peer drains the tunnel")
		s.stopOpening()
		stream.Close() // which is our answer: behind it we open nothing
	default:
		s.log.Debug("stream refused", "kind", kind)
		stream.Reset()
	}
}

// Draining is closed once either side is to end the session: nothing new can be
// opened, and what is open goes on.
func (s *Session) Draining() <-chan struct{} { return s.draining }

// Done is closed once the session is no more; Err says why.
func (s *Session) Done() <-chan struct{} { return s.mux.CloseChan() }

// Err is nil while the session lives, and then why it ended: ErrClosed,
// ErrLost, ErrSilent or what the connection said.
func (s *Session) Err() error {
	if !s.mux.IsClosed() {
		return nil
	}
	return s.reason(errors.New("connection lost"))
}

// reason prefers what we know of the session's end over what a stream saw of it.
func (s *Session) reason(seen error) error {
	if s.closed.Load() {
		return ErrClosed
	}
	if lost := s.link.lost.Load(); lost != nil {
		return *lost
	}
	return seen
}

// RTT is the time of a round trip, smoothed; 0 until it was measured.
func (s *Session) RTT() time.Duration { return s.mux.RTT() }

// Stats of a session so far.
type Stats struct {
	Received, Sent uint64 // bytes inside TLS
	Streams        int    // open now, of both sides
}

// Stats counts.
func (s *Session) Stats() Stats {
	return Stats{Received: s.link.received.Load(), Sent: s.link.sent.Load(), Streams: s.mux.NumStreams()}
}

// RemoteAddr is the peer's.
func (s *Session) RemoteAddr() net.Addr { return s.link.RemoteAddr() }

// Drain ends the session softly: the peer is told to open nothing more here, what
// is open may end, and then, or with the end of ctx, the session is closed.
func (s *Session) Drain(ctx context.Context) {
	defer s.Close()
	stop := context.AfterFunc(ctx, s.Close)
	defer stop()
	s.stopOpening()
	s.sayDrain(ctx)
	// An rpc stream is closed by its client, behind the call that it serves. There
	// is no GOAWAY for it: a call that was just being sent would be lost.
	tick := time.NewTicker(drainTick) // yamux counts its streams and does not tell
	defer tick.Stop()
	for s.mux.NumStreams() > 0 {
		select {
		case <-tick.C:
		case <-s.Done():
			return
		}
	}
}

// sayDrain tells the peer, and returns once it has heard: what it had opened
// until then has arrived before its answer, and is served. So a drain loses no
// call.
func (s *Session) sayDrain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainAnswer)
	defer cancel()
	stream, err := s.openLine(ctx, "drain")
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { stream.Reset() })
	defer stop()
	defer stream.Close()
	stream.CloseWrite()
	io.Copy(io.Discard, stream)
}

// stopOpening returns once nothing more will be opened from here.
func (s *Session) stopOpening() {
	s.opening.Lock()
	defer s.opening.Unlock()
	select {
	case <-s.draining:
	default:
		close(s.draining)
	}
	s.rpc.closeIdle()
}

// Close ends the session and all of its streams at once.
func (s *Session) Close() {
	if !s.mux.IsClosed() {
		s.closed.Store(true)
	}
	s.mux.Close() // fails what is being opened, for which stopOpening waits
	s.stopOpening()
	s.own.Wait()
}
