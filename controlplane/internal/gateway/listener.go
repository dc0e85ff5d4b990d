package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"time"

	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

// admitLimit of the store's answer. The data plane waits for ours for 10 s.
const admitLimit = 8 * time.Second

// server is the one port: HTTP for EnrolmentService, and the tunnel by its ALPN
// protocol, which net/http hands over after the handshake.
func (g *Gateway) server() *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	return &http.Server{
		Protocols: protocols,
		HTTP2:     &http.HTTP2Config{MaxConcurrentStreams: 8},
		Handler:   g.enrolment(),
		TLSConfig: g.tls(),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			tunnel.ALPN: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { g.admit(conn) },
		},
		BaseContext:       func(net.Listener) context.Context { return g.life },
		ReadHeaderTimeout: 10 * time.Second, // the handshake's limit too
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(g.Log.Handler(), slog.LevelDebug),
	}
}

// tls asks for a client certificate as the protocol needs it: a tunnel is not
// even spoken to without one, joining has none yet, renewing shows it.
func (g *Gateway) tls() *tls.Config {
	web := &tls.Config{
		MinVersion:     tls.VersionTLS13,
		NextProtos:     []string{"h2", "http/1.1"},
		GetCertificate: g.authority.forGateway,
		ClientAuth:     tls.VerifyClientCertIfGiven,
		Time:           g.Now,
		// A resumed handshake would show a certificate that was verified once, when
		// it was in force.
		SessionTicketsDisabled: true,
	}
	choose := web.Clone()
	choose.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		chosen := web.Clone()
		chosen.ClientCAs = g.authority.ca.Load().Pool()
		if slices.Contains(hello.SupportedProtos, tunnel.ALPN) {
			chosen.NextProtos = []string{tunnel.ALPN}
			chosen.ClientAuth = tls.RequireAndVerifyClientCert
		}
		return chosen, nil
	}
	return choose
}

// peer is who showed a certificate of ours that is in force, ErrCertificate if
// nobody did.
func (g *Gateway) peer(ctx context.Context, state *tls.ConnectionState) (tunnel.Identity, *x509.Certificate, error) {
	if state == nil || len(state.VerifiedChains) == 0 {
		return tunnel.Identity{}, nil, store.ErrCertificate
	}
	leaf := state.PeerCertificates[0]
	identity, err := tunnel.IdentityOf(leaf)
	// Its CA may have been retired since the handshake.
	if err != nil || !g.authority.ca.Load().Trusts(leaf) {
		return tunnel.Identity{}, nil, store.ErrCertificate
	}
	return identity, leaf, g.Store.CheckCertificate(ctx, identity.Organization, identity.Cluster, pki.Serial(leaf))
}

// begin counts what Run waits for, unless it is about to end.
func (g *Gateway) begin() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.ending {
		g.running.Add(1)
	}
	return !g.ending
}

// admit holds a tunnel for as long as it lasts.
func (g *Gateway) admit(conn *tls.Conn) {
	if !g.begin() {
		return
	}
	defer g.running.Done()
	log := g.Log.With("remote", conn.RemoteAddr().String())
	state := conn.ConnectionState()
	limit, cancel := context.WithTimeout(g.life, admitLimit)
	identity, leaf, err := g.peer(limit, &state)
	cancel()
	log = log.With("organization", identity.Organization, "cluster", identity.Cluster)
	if err != nil {
		g.metrics.refused.Inc()
		log.Warn("tunnel refused", "error", err)
		if errors.Is(err, store.ErrCertificate) {
			tunnel.Refuse(conn, "the certificate of this data plane was revoked, or the cluster removed; add the cluster again and join with the new token")
		}
		return // without a word where it is ours to mend: the data plane comes back soon
	}
	session, err := tunnel.Accept(conn, tunnel.Options{Log: log})
	if err != nil {
		log.Debug("tunnel not accepted", "error", err)
		return
	}
	defer session.Close()
	c := g.cluster(identity)
	if c == nil {
		return
	}
	began := time.Now()
	log.Info("tunnel established")
	err = c.hold(&held{Session: session, leaf: leaf})
	log.Info("tunnel ended", "lived", time.Since(began), "reason", err)
}
