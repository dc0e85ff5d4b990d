package tunnel

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// HTTP/2 has a window for each of its connections beside those of its streams,
// so calls that share a connection share a fate: one that is not read can use up
// the window of all. Hence a connection, which is a stream of the tunnel, serves
// one call at a time, and waits for the next one when the call has ended. An
// opened stream costs no round trip, only work. Rejected: one HTTP/2 connection
// for all calls (stalls); one for each call (three times the work of a small one,
// BenchmarkCall).
const (
	maxIdleCalls = 32
	idleCallLife = 30 * time.Second
	// callWindow of one direction of one call: 4 MiB, 40 MB/s at 100 ms. What is
	// larger goes raw.
	callWindow = 4 << 20
)

// transport is the client of the peer's RPC handler.
type transport struct {
	session *Session
	dialer  *http.Transport

	mu   sync.Mutex // never held over a call of a ClientConn that may call changed
	busy map[*http.ClientConn]bool
	idle []*http.ClientConn // the last one used is the last
	done bool               // no more is kept
}

func newTransport(s *Session) *transport {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &transport{
		session: s,
		busy:    map[*http.ClientConn]bool{},
		dialer: &http.Transport{
			Protocols: protocols,
			HTTP2: &http.HTTP2Config{
				MaxReceiveBufferPerConnection: callWindow,
				MaxReceiveBufferPerStream:     callWindow,
			},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return s.open(ctx, "rpc")
			},
			DisableCompression: true, // Connect compresses where it pays
			IdleConnTimeout:    idleCallLife,
		},
	}
}

// RoundTrip sends one request, over a stream that no other has meanwhile.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	conn, err := t.take(request.Context())
	if err != nil {
		if request.Body != nil {
			request.Body.Close()
		}
		return nil, err
	}
	response, err := conn.RoundTrip(request)
	if err != nil {
		t.changed(conn)
		return nil, t.session.reason(err)
	}
	response.Body = &body{ReadCloser: response.Body, transport: t, conn: conn}
	return response, nil
}

// body tells why the session ended where HTTP/2 saw only that its stream did.
type body struct {
	io.ReadCloser
	transport *transport
	conn      *http.ClientConn
}

func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = b.transport.session.reason(err)
	}
	return n, err
}

func (b *body) Close() error {
	// A ClientConn tells of changes, but not of one while it tells of another.
	defer b.transport.changed(b.conn)
	return b.ReadCloser.Close()
}

// take gives a connection with a place reserved for one call.
func (t *transport) take(ctx context.Context) (*http.ClientConn, error) {
	for {
		conn := t.pop()
		if conn == nil {
			break
		}
		if conn.Reserve() == nil {
			t.use(conn)
			return conn, nil
		}
		conn.Close() // the peer gave it up
	}
	conn, err := t.dialer.NewClientConn(ctx, "http", "peer:80")
	if err != nil {
		return nil, fmt.Errorf("opening a stream for a call: %w", t.session.reason(err))
	}
	if err := conn.Reserve(); err != nil {
		conn.Close()
		return nil, fmt.Errorf("opening a stream for a call: %w", t.session.reason(err))
	}
	t.use(conn)
	conn.SetStateHook(t.changed)
	return conn, nil
}

func (t *transport) pop() *http.ClientConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := len(t.idle) - 1
	if last < 0 {
		return nil
	}
	conn := t.idle[last]
	t.idle = t.idle[:last]
	return conn
}

func (t *transport) use(conn *http.ClientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy[conn] = true
}

// changed is told of every change of a connection, and takes back one whose call
// has ended. While it serves one, or one is reserved, it is in flight. Closing
// has to wait for the lock's end, since it is a change too.
func (t *transport) changed(conn *http.ClientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case conn.Err() != nil:
		delete(t.busy, conn)
		t.idle = slices.DeleteFunc(t.idle, func(other *http.ClientConn) bool { return other == conn })
		go conn.Close()
	case !t.busy[conn] || conn.InFlight() > 0:
	case t.done || len(t.idle) == maxIdleCalls:
		delete(t.busy, conn)
		go conn.Close()
	default:
		delete(t.busy, conn)
		t.idle = append(t.idle, conn)
	}
}

// closeIdle closes what no call uses, and has the others closed after theirs.
func (t *transport) closeIdle() {
	t.mu.Lock()
	idle := t.idle
	t.idle, t.done = nil, true
	t.mu.Unlock()
	for _, conn := range idle {
		conn.Close()
	}
}

// calls are the handlers that run, for which an http.Server does not wait.
type calls struct {
	mu      sync.Mutex
	ended   bool
	running sync.WaitGroup
}

func (c *calls) begin() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.ended {
		c.running.Add(1)
	}
	return !c.ended
}

// end lets no other begin, and waits for those that have.
func (c *calls) end() {
	c.mu.Lock()
	c.ended = true
	c.mu.Unlock()
	c.running.Wait()
}

// newServer serves the peer's calls.
func newServer(ctx context.Context, handler http.Handler, calls *calls, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Protocols: protocols,
		HTTP2: &http.HTTP2Config{
			// One call at a time by our own client. The rest is for the moment between
			// the end of one and the beginning of the next.
			MaxConcurrentStreams:          4,
			MaxReceiveBufferPerConnection: callWindow,
			MaxReceiveBufferPerStream:     callWindow,
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if calls.begin() {
				defer calls.running.Done()
				handler.ServeHTTP(w, r)
			}
		}),
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: lineLimit,
		IdleTimeout:       4 * idleCallLife, // the client's is shorter, so that it does not call into a closed one
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
}

// listener hands streams to an http.Server.
type listener struct {
	address net.Addr
	streams chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func newListener(address net.Addr) *listener {
	return &listener{address: address, streams: make(chan net.Conn), closed: make(chan struct{})}
}

// put reports whether the server took the stream.
func (l *listener) put(stream net.Conn) bool {
	select {
	case l.streams <- stream:
		return true
	case <-l.closed:
		return false
	}
}

// Accept is part of net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	select {
	case stream := <-l.streams:
		return stream, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close is part of net.Listener.
func (l *listener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

// Addr is part of net.Listener.
func (l *listener) Addr() net.Addr { return l.address }
