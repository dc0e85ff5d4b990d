package gateway

import (
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

// maxSessions of one data plane: its operator's replicas, those that are about
// to end, and some to spare. The oldest makes room.
const maxSessions = 8

// watchPause between two looks at a data plane's certificates. A session that is
// to end does within a second.
const watchPause = 250 * time.Millisecond

// cluster is one data plane as this process knows it, from its joining to its
// removal.
type cluster struct {
	gateway  *Gateway
	identity tunnel.Identity
	log      *slog.Logger
	end      context.CancelFunc
	faults   faults        // of hand-overs
	room     chan struct{} // has a place for each client that is relayed
	heavy    chan struct{} // has a place for each call that may be large

	mu       sync.Mutex
	ended    bool          // takes no more sessions
	sessions []*held       // the newest is the last
	changed  chan struct{} // closed, and replaced, whenever sessions change
}

// held is a session with the certificate that it was opened with.
type held struct {
	*tunnel.Session
	leaf *x509.Certificate
}

func (g *Gateway) known(identity tunnel.Identity) *cluster {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.clusters[identity]
}

// cluster starts to look after a data plane, once. It is nil when the gateway
// is about to end.
func (g *Gateway) cluster(identity tunnel.Identity) *cluster {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c := g.clusters[identity]; c != nil || g.ending {
		return c
	}
	ctx, end := context.WithCancel(g.life)
	c := &cluster{
		gateway:  g,
		identity: identity,
		log:      g.Log.With("organization", identity.Organization, "cluster", identity.Cluster),
		end:      end,
		room:     make(chan struct{}, maxRelayed),
		heavy:    make(chan struct{}, maxHeavy),
		changed:  make(chan struct{}),
	}
	g.clusters[identity] = c
	g.running.Go(func() {
		defer end()
		var parts sync.WaitGroup
		parts.Go(func() { c.relay(ctx) })
		parts.Go(func() { c.deliver(ctx) })
		c.watch(ctx)
		c.mu.Lock()
		c.ended = true
		c.mu.Unlock()
		for _, session := range c.all() {
			session.Close()
		}
		parts.Wait()
	})
	return c
}

// hold serves a session until it ends, and says why it did.
func (c *cluster) hold(h *held) error {
	c.mu.Lock()
	if c.ended {
		c.mu.Unlock()
		return store.ErrCertificate
	}
	c.sessions = append(c.sessions, h)
	if len(c.sessions) > maxSessions {
		oldest := c.sessions[0]
		c.gateway.running.Go(func() { drain(oldest.Session) })
	}
	c.notify()
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.sessions = slices.DeleteFunc(c.sessions, func(other *held) bool { return other == h })
		c.notify()
		c.mu.Unlock()
	}()

	// Again, for what was revoked or retired since: from here on watch, and
	// replaceAuthority, see this session.
	if err := c.checkOne(c.gateway.life, h); err != nil {
		return err
	}
	if !c.gateway.authority.ca.Load().Trusts(h.leaf) {
		return store.ErrCertificate
	}
	if err := c.gateway.Store.RecordDial(c.gateway.life, c.identity.Organization, c.identity.Cluster, pki.Serial(h.leaf)); err != nil {
		// A rotation of the CA waits for this data plane's next tunnel then.
		c.log.Warn("cannot record that a certificate is in use", "error", err)
	}
	defer c.gateway.limitLife(h.Session, h.leaf)()

	return h.Serve(c.gateway.life, tunnel.Handlers{RPC: c.calls(h.Session)})
}

// limitLife ends a session before its certificate does. At five sixths of its life
// the other end has long renewed it, and is asked to come with the new one; what
// is left is for calls to end.
func (g *Gateway) limitLife(session *tunnel.Session, leaf *x509.Certificate) (stop func()) {
	life, now := leaf.NotAfter.Sub(leaf.NotBefore), g.Now()
	soft := time.AfterFunc(leaf.NotBefore.Add(life*5/6).Sub(now), func() { drain(session) })
	hard := time.AfterFunc(leaf.NotAfter.Sub(now), session.Close)
	return func() {
		soft.Stop()
		hard.Stop()
	}
}

// drain lets what is under way end, streams that go on for hours excepted.
func drain(session *tunnel.Session) {
	limit, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	session.Drain(limit)
}

// notify tells who waits; c.mu is held.
func (c *cluster) notify() {
	close(c.changed)
	c.changed = make(chan struct{})
	c.gateway.peers.tell(c.identity.Organization)
}

// newest is the youngest session that takes new streams, nil without one. With
// several replicas of an operator each holds one, and any is as good.
func (c *cluster) newest() *tunnel.Session {
	session, _ := c.reach()
	return session
}

// reach is newest, and a channel that is closed when it may be another.
func (c *cluster) reach() (*tunnel.Session, <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, h := range slices.Backward(c.sessions) {
		select {
		case <-h.Draining():
		case <-h.Done():
		default:
			return h.Session, c.changed
		}
	}
	return nil, c.changed
}

func (c *cluster) all() []*held {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.sessions)
}

// watch closes the sessions whose certificate is no longer good, as soon as the
// store says so, and gives the data plane up when it was removed.
func (c *cluster) watch(ctx context.Context) {
	woken, stop := c.gateway.Store.Watch(store.ClusterTopic(c.identity.Organization, c.identity.Cluster))
	defer stop()
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-woken:
			if !open {
				return
			}
		}
		err := c.check(ctx)
		for err != nil && !gone(err) && ctx.Err() == nil {
			c.log.Error("cannot check certificates", "error", err)
			pause(ctx, time.Second)
			err = c.check(ctx)
		}
		if gone(err) {
			c.log.Info("data plane removed")
			c.gateway.mu.Lock()
			delete(c.gateway.clusters, c.identity)
			c.gateway.mu.Unlock()
			c.end()
			return
		}
		// Every hand-over wakes us too. The pause makes one look of many.
		pause(ctx, watchPause)
	}
}

func gone(err error) bool {
	var missing *store.NotFoundError
	return errors.As(err, &missing)
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (c *cluster) check(ctx context.Context) error {
	if _, err := c.gateway.Store.GetCluster(ctx, c.identity.Organization, c.identity.Cluster); err != nil {
		return err
	}
	for _, h := range c.all() {
		if err := c.checkOne(ctx, h); errors.Is(err, store.ErrCertificate) {
			c.log.Warn("tunnel closed: its certificate was revoked")
			h.Close()
		} else if err != nil {
			return err
		}
	}
	return nil
}

func (c *cluster) checkOne(ctx context.Context, h *held) error {
	return c.gateway.Store.CheckCertificate(ctx, c.identity.Organization, c.identity.Cluster, pki.Serial(h.leaf))
}
