package operator

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/tunnel"
)

const (
	// drainLimit of what is under way when the operator is shut down. Its successor
	// begins when it has ended, and until then nothing new is taken: calls are to
	// finish, streams to begin anew.
	drainLimit = 3 * time.Second
	// renewalDrainLimit of a session whose certificate was renewed: its successor
	// stands, so what is long may take long.
	renewalDrainLimit = time.Hour
	// bridge is how long a call waits for a tunnel that is being dialled again.
	bridge = time.Second
)

// errNoTunnel is what callers are told while there is no session.
func errNoTunnel() error {
	return connect.NewError(connect.CodeUnavailable, errors.New("the control plane cannot be reached now"))
}

// link is the tunnel: a session while there is one. It is the RoundTripper of calls
// to the control plane.
type link struct {
	account    string // ours, NAMESPACE/NAME
	membership *membership
	gateway    string
	inbound    tunnel.Handlers
	tell       func(context.Context, tunnelv1connect.LinkServiceClient) // heartbeats
	listen     func(context.Context, tunnelv1connect.LinkServiceClient) // configuration
	dialled    func(time.Duration, error)
	log        *slog.Logger

	mu      sync.Mutex
	session *tunnel.Session // nil while there is none that takes calls
	up      chan struct{}   // closed while there is one
}

func newLink(o *Operator) *link {
	return &link{
		account:    o.config.Namespace + "/" + operatorAccount,
		membership: o.membership, gateway: o.config.ControlPlane.Gateway, log: o.log,
		inbound: newInbound(o),
		tell: func(ctx context.Context, client tunnelv1connect.LinkServiceClient) {
			(&heartbeat{operator: o}).Run(ctx, client)
		},
		listen:  o.received.Watch,
		dialled: func(took time.Duration, err error) { o.metrics.dialled(took, err) },
		up:      make(chan struct{}),
	}
}

// Run holds the tunnel once this data plane has joined, until ctx ends and what
// went through it has been drained.
func (l *link) Run(ctx context.Context) {
	select {
	case <-ctx.Done():
		return
	case <-l.membership.joined:
	}
	tunnel.Keep(ctx, tunnel.KeepOptions{
		Options: tunnel.Options{Log: l.log},
		Address: l.gateway,
		TLS:     l.membership.TLS,
		Dialled: l.dialled,
	}, drainLimit, l.use)
}

// use is everything that goes on in one session, until it ends.
func (l *link) use(ctx context.Context, session *tunnel.Session) {
	l.open(session)
	defer l.close(session)

	// What we ourselves ask ends as soon as the session is to end: its successor
	// asks again.
	asking, cancel := context.WithCancel(ctx)
	own := as{account: l.account, base: session.RoundTripper()}
	client := tunnelv1connect.NewLinkServiceClient(&http.Client{Transport: own}, "http://controlplane", connect.WithReadMaxBytes(maxConfig))

	var group sync.WaitGroup
	defer group.Wait()
	defer cancel()
	group.Go(func() { l.tell(asking, client) })
	group.Go(func() { l.listen(asking, client) })
	group.Go(func() {
		select {
		case <-session.Draining():
		case <-asking.Done():
		}
		l.close(session)
		cancel()
	})
	group.Go(func() {
		select {
		case <-l.membership.changed:
			l.log.Info("dialling again with the new certificate")
			limited, done := context.WithTimeout(ctx, renewalDrainLimit)
			defer done()
			session.Drain(limited)
		case <-asking.Done():
		}
	})
	session.Serve(ctx, l.inbound)
}

func (l *link) open(session *tunnel.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		close(l.up)
	}
	l.session = session
}

// close gives a session up for new calls; its successor may be there already.
func (l *link) close(session *tunnel.Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == session {
		l.session, l.up = nil, make(chan struct{})
	}
}

// Up says whether there is a session.
func (l *link) Up() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.session != nil
}

// RTT is the session's; 0 without one.
func (l *link) RTT() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.session == nil {
		return 0
	}
	return l.session.RTT()
}

// RoundTrip sends a request to the control plane. While there is no tunnel the
// error is errNoTunnel.
func (l *link) RoundTrip(r *http.Request) (*http.Response, error) {
	session := l.wait(r.Context())
	if session == nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, errNoTunnel()
	}
	return session.RoundTripper().RoundTrip(r)
}

func (l *link) wait(ctx context.Context) *tunnel.Session {
	timer := time.NewTimer(bridge)
	defer timer.Stop()
	for {
		l.mu.Lock()
		session, up := l.session, l.up
		l.mu.Unlock()
		if session != nil {
			return session
		}
		select {
		case <-up:
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// as says in every request on whose behalf it is.
type as struct {
	account string
	base    http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (a as) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set(headerAccount, a.account)
	return a.base.RoundTrip(r)
}
