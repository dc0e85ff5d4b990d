package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/net/netutil"

	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

// A process says every peerBeat which tunnels it holds, and is believed for
// peerLease. One that died is noticed sooner where its connections break, and at
// the latest when its lease has run out.
const (
	peerBeat  = 2 * time.Second
	peerLease = 6 * time.Second
	// peerDial is how long a process may take to answer.
	peerDial = 3 * time.Second
	// maxPeerConnections that others have to us.
	maxPeerConnections = 256
)

// peers are the other processes of the same database. Each tells the store which
// tunnels it holds, and forwards to the others what is for theirs, over a session
// of package tunnel, which has all that this needs: mutual TLS, windows for each
// stream, pings. Both ends are of one CA, and show certificates that no data plane
// has.
//
// Nothing is forwarded twice: who holds no tunnel says so.
type peers struct {
	*Gateway
	process  string // ours
	endpoint string
	listener net.Listener
	told     map[string]chan struct{} // by organisation: our tunnels have changed

	mu      sync.Mutex
	holding map[string][]holder          // by organisation: others'
	links   map[string]*peerLink         // by process: dialled by us
	inbound map[*tunnel.Session]struct{} // dialled by others
	ended   bool                         // holds nothing any more
}

// holder is another process's lease, by our clock.
type holder struct {
	store.Holder
	until time.Time
}

// peerLink is a session to another process, or the try to open one.
type peerLink struct {
	dialled chan struct{}   // closed when one of the two is there
	session *tunnel.Session // serves nothing
	err     error
}

func newPeers(ctx context.Context, g *Gateway, process string) (*peers, error) {
	config := g.Config.Peers
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", config.Listen)
	if err != nil {
		return nil, unavailable("peers.listen", config.Listen, err)
	}
	p := &peers{
		Gateway: g, process: process, endpoint: config.Endpoint, listener: listener,
		holding: map[string][]holder{}, links: map[string]*peerLink{}, inbound: map[*tunnel.Session]struct{}{},
	}
	if p.endpoint == "" {
		p.endpoint = listener.Addr().String()
	}
	p.told = map[string]chan struct{}{}
	for _, organization := range g.Config.Organizations {
		p.told[organization] = make(chan struct{}, 1)
	}
	return p, nil
}

// start serves peers, and follows who they are, until ctx ends.
func (p *peers) start(ctx context.Context) {
	p.Log.Info("listening for peers", "address", p.listener.Addr().String(), "endpoint", p.endpoint, "process", p.process)
	p.running.Go(func() { p.serve(ctx) })
	for organization := range p.told {
		p.running.Go(func() { p.follow(ctx, organization) })
	}
}

// tell has the store told soon that our tunnels of an organisation have changed.
func (p *peers) tell(organization string) {
	if p == nil {
		return
	}
	select {
	case p.told[organization] <- struct{}{}:
	default: // it is about to be, or nobody's
	}
}

// follow tells the store what we hold and reads what others do, again and again.
func (p *peers) follow(ctx context.Context, organization string) {
	woken, stop := p.Store.Watch(store.HoldersTopic(organization))
	defer stop()
	tick := time.NewTicker(peerBeat)
	defer tick.Stop()
	held := false // so says the store
	for {
		var err error
		if held, err = p.refresh(ctx, organization, held); err != nil && ctx.Err() == nil {
			p.Log.Error("cannot exchange with the database which process holds which tunnel", "organization", organization, "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.told[organization]:
		case _, open := <-woken:
			if !open {
				return
			}
		}
	}
}

// refresh is one exchange with the store. held says whether the store may have
// something of ours, before and after.
func (p *peers) refresh(ctx context.Context, organization string, held bool) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, peerLease/2)
	defer cancel()
	ours := p.ours(organization)
	if held || len(ours) > 0 {
		held = true // perhaps, if this fails
		if err := p.Store.Hold(ctx, organization, p.process, p.endpoint, ours, peerLease); err != nil {
			return held, err
		}
		held = len(ours) > 0
	}
	asked := p.Now()
	all, err := p.Store.Holders(ctx, organization)
	if err != nil {
		return held, err
	}
	var others []holder
	for _, h := range all {
		if h.Process == p.process {
			continue
		}
		others = append(others, holder{h, asked.Add(h.Left)})
		// Its port is listened on here too: clients may come to either.
		p.cluster(tunnel.Identity{Organization: organization, Cluster: h.Cluster})
	}
	p.mu.Lock()
	p.holding[organization] = others
	p.mu.Unlock()
	p.forget()
	return held, nil
}

// ours are the clusters of an organisation that dialled us.
func (p *peers) ours(organization string) (names []string) {
	p.Gateway.mu.Lock()
	clusters := slices.Collect(maps.Values(p.clusters))
	p.Gateway.mu.Unlock()
	for _, c := range clusters {
		if c.identity.Organization == organization && c.newest() != nil {
			names = append(names, c.identity.Cluster)
		}
	}
	slices.Sort(names)
	return names
}

// forget what there was of processes that are gone. A session that is good stays,
// whatever its process holds: streams may go over it still.
func (p *peers) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.links, func(_ string, link *peerLink) bool { return !link.usable() })
}

// holders are the other processes that a data plane dialled, the last one first.
func (p *peers) holders(identity tunnel.Identity) (found []holder) {
	if p == nil {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.holding[identity.Organization] {
		if h.Cluster == identity.Cluster && p.Now().Before(h.until) {
			found = append(found, h)
		}
	}
	return found
}

// errNoSession is why a data plane cannot be reached that nobody holds.
var errNoSession = errors.New("no session")

// reach is a session to a process that holds a data plane's tunnel: the last that
// it dialled, unless that one cannot be reached.
func (p *peers) reach(ctx context.Context, identity tunnel.Identity) (*tunnel.Session, error) {
	why := errNoSession
	for _, h := range p.holders(identity) {
		link := p.link(h)
		if link == nil {
			break
		}
		select {
		case <-link.dialled:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		if link.err == nil {
			return link.session, nil
		}
		why = link.err
	}
	return nil, why
}

// link is the one session to a process that there is, dialled where it is not good
// any more. Nil when we are about to end.
func (p *peers) link(h holder) *peerLink {
	p.mu.Lock()
	defer p.mu.Unlock()
	if link := p.links[h.Process]; link != nil && link.usable() {
		return link
	}
	if p.ended {
		return nil
	}
	link := &peerLink{dialled: make(chan struct{})}
	p.links[h.Process] = link
	p.running.Go(func() {
		config, err := p.dialTLS(h.Process)
		if err == nil {
			limit, cancel := context.WithTimeout(p.life, peerDial)
			link.session, err = tunnel.Dial(limit, h.Endpoint, config, tunnel.Options{Log: p.Log})
			cancel()
		}
		if err != nil {
			link.err = fmt.Errorf("reaching the process %s, which holds the tunnel: %w", h.Process, err)
			p.Log.Warn("cannot reach another process", "process", h.Process, "endpoint", h.Endpoint, "error", err)
			close(link.dialled)
			return
		}
		close(link.dialled)
		p.Log.Info("connected to another process", "process", h.Process, "endpoint", h.Endpoint)
		defer p.limitLife(link.session, config.Certificates[0].Leaf)()
		reason := link.session.Serve(p.life, tunnel.Handlers{})
		p.Log.Info("connection to another process ended", "process", h.Process, "reason", reason)
	})
	return link
}

// usable is true while there is hope: it is dialled, or takes new streams.
func (l *peerLink) usable() bool {
	select {
	case <-l.dialled:
	default:
		return true
	}
	if l.err != nil {
		return false
	}
	select {
	case <-l.session.Draining():
		return false
	case <-l.session.Done():
		return false
	default:
		return true
	}
}

func (p *peers) dialTLS(process string) (*tls.Config, error) {
	ours, err := p.authority.forPeers()
	if err != nil {
		return nil, err
	}
	ca := p.authority.ca.Load()
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{*ours},
		// Its certificate names no host. Who it is, the store says.
		InsecureSkipVerify: true,
		VerifyConnection:   func(state tls.ConnectionState) error { return ca.VerifyPeer(state, process) },
	}, nil
}

// serveTLS asks for the certificate of a process: one of a data plane is of the
// same CA, and is not enough.
func (p *peers) serveTLS() (*tls.Config, error) {
	ours, err := p.authority.forPeers()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{tunnel.ALPN},
		Certificates: []tls.Certificate{*ours},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    p.authority.ca.Load().Pool(),
		VerifyConnection: func(state tls.ConnectionState) error {
			_, err := pki.PeerOf(state.PeerCertificates[0])
			return err
		},
		Time:                   p.Now,
		SessionTicketsDisabled: true,
	}, nil
}

// serve takes the sessions of others, until ctx ends.
func (p *peers) serve(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() { p.listener.Close() })
	defer stop()
	limited := netutil.LimitListener(p.listener, maxPeerConnections)
	for {
		conn, err := limited.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil { // out of file descriptors: not for ever
			p.Log.Error("cannot accept a peer", "error", err)
			pause(ctx, time.Second)
			continue
		}
		p.running.Go(func() {
			defer conn.Close()
			p.admitPeer(conn)
		})
	}
}

func (p *peers) admitPeer(socket net.Conn) {
	log := p.Log.With("remote", socket.RemoteAddr().String())
	config, err := p.serveTLS()
	if err != nil {
		log.Error("cannot sign a certificate for peers", "error", err)
		return
	}
	conn := tls.Server(socket, config)
	limit, cancel := context.WithTimeout(p.life, peerDial)
	err = conn.HandshakeContext(limit)
	cancel()
	if err != nil || conn.ConnectionState().NegotiatedProtocol != tunnel.ALPN {
		p.metrics.refused.Inc()
		log.Warn("peer refused", "error", err)
		return
	}
	session, err := tunnel.Accept(conn, tunnel.Options{Log: log})
	if err != nil {
		log.Debug("peer not accepted", "error", err)
		return
	}
	defer session.Close()
	leaf := conn.ConnectionState().PeerCertificates[0]
	if !p.enter(session) || !p.authority.ca.Load().Trusts(leaf) {
		return
	}
	defer p.leave(session)
	defer p.limitLife(session, leaf)()
	session.Serve(p.life, tunnel.Handlers{RPC: p.forwarded(), Raw: p.forwardedRaw})
}

func (p *peers) enter(session *tunnel.Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		p.inbound[session] = struct{}{}
	}
	return !p.ended
}

func (p *peers) leave(session *tunnel.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.inbound, session)
}

// sessions are all there are, with others as with us.
func (p *peers) sessions() (all []*tunnel.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, link := range p.links {
		select {
		case <-link.dialled:
			if link.session != nil {
				all = append(all, link.session)
			}
		default:
		}
	}
	return slices.AppendSeq(all, maps.Keys(p.inbound))
}

// renew has every session dialled again, by the certificates of another CA.
func (p *peers) renew() {
	for _, session := range p.sessions() {
		p.running.Go(func() { drain(session) })
	}
}

// drain tells the others that we hold nothing any more, and ends the sessions.
func (p *peers) drain(ctx context.Context) {
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	var draining sync.WaitGroup
	for organization := range p.told {
		draining.Go(func() {
			if err := p.Store.Hold(ctx, organization, p.process, p.endpoint, nil, peerLease); err != nil {
				p.Log.Warn("cannot tell the others that this process holds no tunnel any more; they will find out", "error", err)
			}
		})
	}
	for _, session := range p.sessions() {
		draining.Go(func() { session.Drain(ctx) })
	}
	draining.Wait()
}
