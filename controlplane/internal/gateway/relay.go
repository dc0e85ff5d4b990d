package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

const (
	maxRelayed = 512 // connections of one data plane
	// relayIdle is long: a client that follows a log may hear nothing for an hour.
	relayIdle   = 2 * time.Hour
	relayOpen   = 10 * time.Second
	relayListen = time.Second // between two tries of a port that is taken
	// relayAway is what that becomes for a data plane that dialled another process: on
	// one machine that one has the port for good.
	relayAway = 15 * time.Second
	// relayPatience with a port that is taken: the process that we replace holds
	// it until it is drained.
	relayPatience = 2 * int(drainLimit/relayListen)
	rawProxy      = "proxy"
)

// relay passes what clients say to the port of this data plane on to its proxy,
// and the answers back, until ctx ends. It is TLS that ends in the proxy: what
// passes here is ciphertext. Once the data plane has a port, it is listened
// on whether or not there is a tunnel, so that nobody else gets it.
func (c *cluster) relay(ctx context.Context) {
	listener := c.relayListener(ctx)
	if listener == nil {
		return
	}
	var passing sync.WaitGroup
	defer passing.Wait()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	c.log.Info("relaying to the data plane's proxy", "address", listener.Addr().String())
	passing.Go(func() { c.claim(ctx, listener) })
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil { // out of file descriptors: not for ever
			c.log.Error("cannot accept a client", "error", err)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
			continue
		}
		passing.Go(func() { c.pass(ctx, conn.(*net.TCPConn), false) })
	}
}

// pass serves one client, or one that a peer passes on: ours says so.
func (c *cluster) pass(ctx context.Context, conn tunnel.HalfCloser, ours bool) {
	select {
	case c.room <- struct{}{}:
		defer func() { <-c.room }()
	default:
		c.gateway.metrics.relayRefused.Inc()
		abort(conn)
		return
	}
	stream, err := c.openRaw(ctx, ours)
	if err != nil {
		c.gateway.metrics.relayRefused.Inc()
		c.log.Debug("cannot relay", "error", err)
		abort(conn)
		return
	}
	c.gateway.metrics.relayed.Inc()
	defer c.gateway.metrics.relayed.Dec()
	up, down, err := tunnel.Splice(conn, stream, relayIdle)
	c.gateway.metrics.relayBytes.WithLabelValues("to_data_plane").Add(float64(up))
	c.gateway.metrics.relayBytes.WithLabelValues("to_client").Add(float64(down))
	c.log.Debug("relayed", "up", up, "down", down, "error", err)
}

// abort refuses a client so that it sees a failure and no end of its session.
func abort(conn tunnel.HalfCloser) {
	switch conn := conn.(type) {
	case *net.TCPConn:
		conn.SetLinger(0)
	case *tunnel.Stream:
		conn.Reset()
	}
	conn.Close()
}

// relayListener listens on the port that the store keeps for this data plane.
// One that has none yet gets one, and one whose port cannot be had another: but
// only by the process that it has dialled, since clients go where the store says,
// and would find no tunnel at another.
func (c *cluster) relayListener(ctx context.Context) net.Listener {
	missed, wait := 0, relayListen
	for {
		session, changed := c.reach()
		listener, err := c.relayPort(ctx, session != nil, missed >= relayPatience)
		switch {
		case listener != nil:
			return listener
		case err == nil || ctx.Err() != nil:
			wait = relayListen // it has no port yet
		case session != nil:
			wait = relayListen
			missed++
			c.log.Warn("cannot listen for the data plane's clients", "error", err)
		default:
			wait = min(2*wait, relayAway)
		}
		select {
		case <-time.After(wait):
		case <-changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *cluster) relayPort(ctx context.Context, connected, another bool) (net.Listener, error) {
	known, err := c.gateway.Store.GetCluster(ctx, c.identity.Organization, c.identity.Cluster)
	if err != nil {
		return nil, err
	}
	first, last, err := c.gateway.Config.Relay.PortRange()
	if err != nil {
		return nil, err
	}
	kept := int(known.RelayPort)
	good := kept != 0 && (first == 0 || first <= kept && kept <= last)
	switch {
	case good && !another:
		return c.listen(ctx, kept)
	case !connected:
		return nil, nil
	}
	for port := first; port <= last; port++ {
		listener, err := c.listen(ctx, port)
		if err != nil {
			continue
		}
		err = c.setRelayPort(ctx, listener)
		if err == nil {
			return listener, nil
		}
		listener.Close()
		var taken *store.ExistsError
		if !errors.As(err, &taken) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("no port of relay.ports is free (%q)", c.gateway.Config.Relay.Ports)
}

// claim has the store name our port for as long as the data plane's tunnel is
// ours: while it was another process's, that one may have chosen another.
func (c *cluster) claim(ctx context.Context, listener net.Listener) {
	for {
		session, changed := c.reach()
		var again <-chan time.Time
		if session != nil {
			known, err := c.gateway.Store.GetCluster(ctx, c.identity.Organization, c.identity.Cluster)
			if err == nil && int(known.RelayPort) != listener.Addr().(*net.TCPAddr).Port {
				err = c.setRelayPort(ctx, listener)
			}
			if err != nil && ctx.Err() == nil {
				c.log.Warn("cannot tell clients the data plane's port", "error", err)
				again = time.After(relayListen)
			}
		}
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

func (c *cluster) setRelayPort(ctx context.Context, listener net.Listener) error {
	return c.gateway.Store.SetRelayPort(ctx, c.identity.Organization, c.identity.Cluster, uint16(listener.Addr().(*net.TCPAddr).Port))
}

func (c *cluster) listen(ctx context.Context, port int) (net.Listener, error) {
	return new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(c.gateway.Config.Relay.Address, strconv.Itoa(port)))
}
