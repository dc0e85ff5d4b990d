// Package jumper is the program biplane-jumper: it stands in front of a private
// EKS endpoint, whose addresses change when AWS rolls the control plane, and
// passes TLS through to whatever addresses the endpoint has now.
//
// It works on layer 4. It ends no TLS, has no key and no certificate, and reads of
// what is passed only the server name in the ClientHello, by which it refuses what
// is not meant for the cluster. It never takes the target from the client: that is
// one fixed name. It does not authenticate anybody; the API server does.
//
// Start with Serve, which names every piece. The flags are in run.go, the page for
// who runs it is docs/jumper.md.
package jumper

import (
	"container/list"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/netutil"
)

// What is not worth a flag.
const (
	keepAlive    = 30 * time.Second // an NLB drops flows that are idle for 350 s, which is not ours to change
	acceptPause  = 100 * time.Millisecond
	readyClients = 64 // connections at once to the readiness port
)

// Options are what a jumper is told, with the defaults that Run gives them.
type Options struct {
	Upstream     string   // host name of the EKS endpoint, or an address; the only target
	UpstreamPort uint16   // 443
	Names        []string // server names that clients may ask for, in lower case; default Upstream

	// CA is what the upstream's certificate must chain to for /readyz. Without one
	// it must name the upstream, and the chain is not proven.
	CA *x509.CertPool

	Refresh        time.Duration    // the upstream is resolved again after this, or sooner: when its record's TTL is over; 15 s
	Stale          time.Duration    // addresses are used this long after the last good answer of the DNS; 1 h
	Drain          time.Duration    // streams go on this long after the end was asked for; 115 s
	MaxConnections int              // connections at once; who is more is closed at once, or who has not said a hello for longest; 10000
	MaxAge         time.Duration    // a stream is closed after this, give or take a tenth; 0: never; 24 h
	CloseVanished  time.Duration    // a stream that is idle is closed when its address has been gone from the DNS for this; 0: never
	DNS            []netip.AddrPort // servers to ask; default those of /etc/resolv.conf, read each time

	// ProxyProtocol wants a PROXY protocol v2 header before everything else, as an
	// NLB sends it; VPCEndpoints, if any, are those that may connect by its word.
	ProxyProtocol bool
	VPCEndpoints  []string

	Connections io.Writer    // gets one JSON line for each connection, when it has ended
	Log         *slog.Logger // everything else
}

// Jumper is one jumper. Make it with New, and serve once.
type Jumper struct {
	options   Options
	addresses *addresses // where the upstream is
	prober    *prober    // whether it is there
	counters  *counters
	lines     *output // the log of connections

	draining atomic.Bool
	mu       sync.Mutex
	streams  map[*stream]struct{}
	opening  list.List // of those *stream whose hello is not there yet, the longest first
}

// New returns a jumper that does nothing yet.
func New(o Options) *Jumper {
	j := &Jumper{options: o, streams: map[*stream]struct{}{}, counters: newCounters()}
	names := &resolver{host: o.Upstream, servers: o.DNS, resolvConf: "/etc/resolv.conf", hosts: "/etc/hosts"}
	j.addresses = newAddresses(names.lookup, o.Refresh, o.Stale, o.Log)
	j.prober = newProber(o.Upstream, o.Names, o.UpstreamPort, o.CA, j.addresses, o.Log)
	return j
}

// Serve passes connections of traffic through, and answers at ready, until ctx
// ends. Then it takes no new connection and is not ready any more; it returns when
// the last stream has ended or was cut after Options.Drain.
func (j *Jumper) Serve(ctx context.Context, traffic, ready net.Listener) {
	working, stop := context.WithCancel(context.WithoutCancel(ctx))
	j.lines = newOutput(j.options.Connections, func(err error) { j.options.Log.Error("lines of connections are lost", "error", err.Error()) })
	defer j.lines.close()
	var parts sync.WaitGroup
	parts.Go(func() { j.addresses.run(working) }) // addresses.go, dns.go: the upstream's addresses, again and again
	parts.Go(func() { j.prober.run(working) })    // ready.go: a handshake with them, again and again
	parts.Go(func() { j.closeVanished(working) }) // below
	web := &http.Server{                          // ready.go, metrics.go: /livez, /readyz, /metrics
		Handler:           j.handler(),
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second, IdleTimeout: 15 * time.Second,
		MaxHeaderBytes: 4 << 10,
		ErrorLog:       slog.NewLogLogger(j.options.Log.Handler(), slog.LevelDebug),
	}
	parts.Go(func() { _ = web.Serve(netutil.LimitListener(ready, readyClients)) })

	var connections sync.WaitGroup
	accepting := make(chan struct{})
	go func() {
		defer close(accepting)
		j.accept(traffic, &connections) // stream.go: from the ClientHello to the last byte
	}()

	<-ctx.Done()
	j.draining.Store(true)
	traffic.Close()
	<-accepting
	j.options.Log.Info("draining", "streams", j.open(), "longest", j.options.Drain.String())
	ended := make(chan struct{})
	go func() { connections.Wait(); close(ended) }()
	select {
	case <-ended:
	case <-time.After(j.options.Drain):
		for _, s := range j.all() {
			s.end(reasonDrained)
		}
		<-ended
	}
	stop()
	web.Close()
	parts.Wait()
	j.options.Log.Info("ended")
}

// accept takes connections until the listener is closed.
func (j *Jumper) accept(traffic net.Listener, connections *sync.WaitGroup) {
	slots := make(chan struct{}, j.options.MaxConnections)
	for {
		accepted, err := traffic.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // too many open files, most likely: give those that are open the time to end
			j.options.Log.Error("accepting", "error", err.Error())
			time.Sleep(acceptPause)
			continue
		}
		s := newStream(j, accepted.(*net.TCPConn))
		select {
		case slots <- struct{}{}:
		default:
			if !j.giveWay() {
				s.end(reasonTooMany)
				s.log()
				continue
			}
			slots <- struct{}{} // of the one that gave way, in a moment
		}
		j.mu.Lock()
		j.streams[s] = struct{}{}
		s.opening = j.opening.PushBack(s)
		j.mu.Unlock()
		connections.Go(func() {
			s.serve()
			j.mu.Lock()
			delete(j.streams, s)
			j.mu.Unlock()
			s.log()
			<-slots
		})
	}
}

// giveWay ends the stream that has been waiting longest for its client's hello, if
// there is one: who opens connections and says nothing keeps nobody else out.
func (j *Jumper) giveWay() bool {
	j.mu.Lock()
	longest := j.opening.Front()
	if longest != nil {
		j.opening.Remove(longest)
		longest.Value.(*stream).opening = nil
	}
	j.mu.Unlock()
	if longest == nil {
		return false
	}
	longest.Value.(*stream).end(reasonTooMany)
	return true
}

// opened is told that a stream waits for no hello any more. It is false if the
// stream had to give way.
func (j *Jumper) opened(s *stream) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s.opening == nil {
		return false
	}
	j.opening.Remove(s.opening)
	s.opening = nil
	return true
}

func (j *Jumper) open() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.streams)
}

func (j *Jumper) all() []*stream {
	j.mu.Lock()
	defer j.mu.Unlock()
	all := make([]*stream, 0, len(j.streams))
	for s := range j.streams {
		all = append(all, s)
	}
	return all
}

// closeVanished closes streams whose address has been gone from the DNS for
// CloseVanished, once no byte has passed between two looks: clients connect again,
// to where the upstream is now, and none is cut in the middle of an answer.
func (j *Jumper) closeVanished(ctx context.Context) {
	if j.options.CloseVanished == 0 {
		return
	}
	look := time.NewTicker(max(j.options.CloseVanished/10, time.Millisecond))
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			known := j.addresses.known()
			for _, s := range j.all() {
				if len(known) > 0 && s.vanished(known, now, j.options.CloseVanished) {
					s.end(reasonVanished)
				}
			}
		}
	}
}

// jittered is d, give or take a tenth, so that what began together does not end
// together.
func jittered(d time.Duration) time.Duration {
	return d - d/10 + rand.N(d/5+1)
}

// allowed says whether clients may ask for a name. Host names have no case.
func (j *Jumper) allowed(name string) bool {
	return slices.Contains(j.options.Names, lower(name))
}

// lower is the lower case of a host name: of ASCII alone, as the DNS has it.
func lower(name string) string {
	b := []byte(name)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}
