package jumper

import (
	"bytes"
	"container/list"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Reasons are why a connection has ended: the word in its line, and the label in
// /metrics.
const (
	reasonClosed      = "closed"               // both sides had said all
	reasonClient      = "client_error"         // the client went away in the middle
	reasonUpstream    = "upstream_error"       // the upstream did
	reasonNoHello     = "client_closed"        // the client closed before its ClientHello was there
	reasonHelloTime   = "hello_timeout"        // the ClientHello was not there after 5 s
	reasonHelloLimit  = "hello_too_long"       // it has more than 16 KiB
	reasonNotTLS      = "not_tls"              // it is none
	reasonNoName      = "sni_missing"          // it has no server name
	reasonName        = "sni_refused"          // its server name is none of --sni
	reasonProxy       = "proxy_header"         // --proxy-protocol, and no such header
	reasonEndpoint    = "vpc_endpoint_refused" // its VPC endpoint is none of --vpc-endpoint
	reasonUnreachable = "upstream_unreachable" // no address took the connection
	reasonTooMany     = "too_many"             // there are --max-connections already
	reasonMaxAge      = "max_age"              // it was older than --max-age
	reasonVanished    = "address_vanished"     // its address has left the DNS, --close-vanished ago
	reasonDrained     = "drained"              // --drain was over
)

var reasons = []string{
	reasonClosed, reasonClient, reasonUpstream, reasonNoHello, reasonHelloTime, reasonHelloLimit, reasonNotTLS, reasonNoName, reasonName,
	reasonProxy, reasonEndpoint, reasonUnreachable, reasonTooMany, reasonMaxAge, reasonVanished, reasonDrained,
}

// longestName is the length of the longest host name. What a client says instead of
// one may be 16 KiB, which is not for the log.
const longestName = 255

// tries is how often a hello is said until it is heard.
const tries = 10

// unrecognizedName is the TLS alert of that name, fatal: what a client then shows
// says what was wrong.
var unrecognizedName = []byte{21, 3, 1, 0, 2, 2, 112}

// helloBuffers hold what has been read of a client before it has an upstream.
var helloBuffers = sync.Pool{New: func() any { return new([helloLimit]byte) }}

// stream is one connection, from its acceptance to its line in the log.
type stream struct {
	jumper  *Jumper
	started time.Time
	client  *net.TCPConn
	in, out atomic.Int64 // bytes from the client, and to it

	from     netip.AddrPort // the client, by the PROXY header's word if there is one
	endpoint string         // the client's VPC endpoint, by the same
	name     string         // what the client asked for
	opening  *list.Element  // in Jumper.opening, until its hello is there; Jumper.mu

	ctx    context.Context // of what is done before there is an upstream
	cancel context.CancelFunc

	mu       sync.Mutex
	upstream *net.TCPConn
	address  netip.AddrPort
	reason   string // why it ends; the first one stays
	cause    error

	// Of vanished alone.
	goneSince time.Time
	seen      int64
}

func newStream(j *Jumper, client *net.TCPConn) *stream {
	from := client.RemoteAddr().(*net.TCPAddr).AddrPort()
	ctx, cancel := context.WithCancel(context.Background())
	return &stream{jumper: j, started: time.Now(), client: client, from: netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), ctx: ctx, cancel: cancel}
}

// serve is a connection's life.
func (s *stream) serve() {
	if age := s.jumper.options.MaxAge; age > 0 {
		defer time.AfterFunc(jittered(age), func() { s.end(reasonMaxAge) }).Stop()
	}
	hello, ok := s.admit()
	if s.jumper.opened(s) && ok {
		for try := 1; s.connect() && s.exchange(hello, try < tries); try++ {
			s.jumper.look(s.ctx) // for where the upstream is by now
		}
	}
	s.end(reasonClosed)
}

// admit reads what the client says first, and sees whether it may.
func (s *stream) admit() (hello []byte, ok bool) {
	buffer := helloBuffers.Get().(*[helloLimit]byte)
	defer helloBuffers.Put(buffer)
	_ = s.client.SetReadDeadline(s.started.Add(helloTime)) // fails only on what is closed, which reading says too
	if s.jumper.options.ProxyProtocol && !s.proxied() {
		return nil, false
	}
	name, n, err := peek(s.client, buffer[:])
	s.name = name[:min(len(name), longestName)]
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil, s.failed(reasonHelloTime, nil)
	case errors.Is(err, errHelloTooLong):
		return nil, s.failed(reasonHelloLimit, nil)
	case errors.Is(err, errNotTLS), errors.Is(err, errMalformed):
		return nil, s.failed(reasonNotTLS, err)
	case err != nil:
		return nil, s.failed(reasonNoHello, err)
	case name == "":
		return nil, s.refused(reasonNoName)
	case !s.jumper.allowed(name):
		return nil, s.refused(reasonName)
	}
	_ = s.client.SetReadDeadline(time.Time{})
	return bytes.Clone(buffer[:n]), true
}

// connect finds an address that answers.
func (s *stream) connect() bool {
	upstream, address, err := s.jumper.dial(s.ctx)
	if err != nil {
		return s.failed(reasonUnreachable, err)
	}
	s.mu.Lock()
	ended := s.reason != ""
	s.upstream, s.address = upstream, address
	s.mu.Unlock()
	if ended {
		upstream.Close()
	}
	return !ended
}

// exchange says to the upstream what the client has said, and passes bytes until
// both sides have ended. It is true, and the client still there, when the upstream
// broke off before it said a word and was told no more than the hello: an address
// that goes away resets the connections that it has not accepted yet, and nothing
// is lost by saying the hello elsewhere. That happens only if again is set.
func (s *stream) exchange(hello []byte, again bool) bool {
	client, upstream := &side{conn: s.client, gone: reasonClient}, &side{conn: s.upstream, gone: reasonUpstream}
	n, err := s.upstream.Write(hello)
	s.in.Store(int64(n))
	if err != nil {
		s.upstream.Close()
		return again || s.failed(reasonUpstream, err)
	}
	unheard := make(chan error, 1)
	go func() {
		defer close(unheard)
		reading, writing := relay(client.conn, upstream, &s.out)
		if again && reading != nil && s.out.Load() == 0 {
			unheard <- reading
			_ = s.client.SetReadDeadline(time.Unix(1, 0)) // wakes the other direction, if it has nothing in hand
			return
		}
		s.passed(client, upstream, reading, writing)
	}()
	reading, writing := relay(upstream.conn, client, &s.in)
	woken := errors.Is(reading, os.ErrDeadlineExceeded)
	if !woken {
		s.passed(upstream, client, reading, writing)
	}
	broke := <-unheard
	for range unheard { // to its end
	}
	if broke == nil {
		return false
	}
	if !woken || s.in.Load() != int64(len(hello)) {
		return s.failed(reasonUpstream, broke)
	}
	s.upstream.Close()
	return s.client.SetReadDeadline(time.Time{}) == nil
}

// side is one of the two, while bytes pass.
type side struct {
	conn *net.TCPConn
	said atomic.Bool // all it had to say
	gone string      // the reason, when it goes away before that
}

// passed is the end of one direction. It is the other's affair only when it is an
// error: a side that has said all may still listen. It may as well have closed,
// which shows only when something is sent to it.
func (s *stream) passed(dst, src *side, reading, writing error) {
	switch {
	case reading != nil:
		s.failed(src.gone, reading)
	case writing != nil && dst.said.Load():
		s.end(reasonClosed)
	case writing != nil:
		s.failed(dst.gone, writing)
	}
}

// refused says so in TLS, and ends.
func (s *stream) refused(reason string) bool {
	_ = s.client.SetWriteDeadline(time.Now().Add(helloTime))
	_, _ = s.client.Write(unrecognizedName) // a courtesy
	return s.failed(reason, nil)
}

func (s *stream) failed(reason string, cause error) bool {
	s.mu.Lock()
	if s.reason == "" {
		s.cause = cause
	}
	s.mu.Unlock()
	s.end(reason)
	return false
}

// end closes both sides. The first reason is the reason.
func (s *stream) end(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" {
		s.reason = reason
	}
	s.cancel()
	s.client.Close()
	if s.upstream != nil {
		s.upstream.Close()
	}
}

// vanished says whether its address has been gone for long, and nothing passed
// since the last call. Calls come one after the other.
func (s *stream) vanished(known []netip.Addr, now time.Time, long time.Duration) bool {
	s.mu.Lock()
	address := s.address.Addr()
	s.mu.Unlock()
	if !address.IsValid() || slices.Contains(known, address) {
		s.goneSince = time.Time{}
		return false
	}
	if s.goneSince.IsZero() {
		s.goneSince = now
	}
	passed := s.in.Load() + s.out.Load()
	idle := passed == s.seen
	s.seen = passed
	return idle && now.Sub(s.goneSince) >= long
}

// line is what the log says of a connection. docs/jumper.md describes it.
type line struct {
	Time     time.Time `json:"time"`
	ID       string    `json:"id"`
	Client   string    `json:"client"`
	Endpoint string    `json:"vpcEndpoint,omitempty"`
	SNI      string    `json:"sni"`
	Upstream string    `json:"upstream"`
	Reason   string    `json:"reason"`
	Error    string    `json:"error,omitempty"`
	In       int64     `json:"bytesIn"`
	Out      int64     `json:"bytesOut"`
	Seconds  float64   `json:"seconds"`
}

// log says and counts what has become of it, once.
func (s *stream) log() {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := line{
		Time: s.started.UTC(), ID: newID(), Client: s.from.String(), Endpoint: s.endpoint, SNI: s.name, Reason: s.reason,
		In: s.in.Load(), Out: s.out.Load(), Seconds: time.Since(s.started).Seconds(),
	}
	if s.address.IsValid() {
		l.Upstream = s.address.String()
	}
	if s.cause != nil && !errors.Is(s.cause, io.EOF) {
		l.Error = s.cause.Error()
	}
	s.jumper.counters.ended(l)
	text, err := json.Marshal(l)
	if err != nil {
		panic(err) // text and numbers are always JSON
	}
	_, _ = s.jumper.lines.Write(append(text, '\n')) // counts what it loses
}

// newID is a random name, so that those of all tasks and their predecessors
// differ.
func newID() string {
	var id [8]byte
	rand.Read(id[:])
	return hex.EncodeToString(id[:])
}
