package jumper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	readyFor     = 30 * time.Second // a handshake with the upstream proves it for this long
	probeEvery   = 10 * time.Second
	probeRetry   = time.Second     // after one that failed
	probeTimeout = 5 * time.Second // of the handshake, after the connection
)

// prober proves the way to the upstream: it makes TLS handshakes with it.
type prober struct {
	addresses *addresses
	port      uint16
	config    *tls.Config
	log       *slog.Logger

	mu     sync.Mutex
	proven time.Time // the last handshake that did
	failed error     // since then
}

func newProber(host string, port uint16, ca *x509.CertPool, addresses *addresses, log *slog.Logger) *prober {
	name := strings.TrimSuffix(host, ".")
	config := &tls.Config{ServerName: name, RootCAs: ca, MinVersion: tls.VersionTLS12}
	if ca == nil {
		// There is nothing to verify a chain with. The name still tells the cluster
		// from whatever else may have its address.
		config.InsecureSkipVerify = true
		config.VerifyConnection = func(state tls.ConnectionState) error { return state.PeerCertificates[0].VerifyHostname(name) }
	}
	return &prober{addresses: addresses, port: port, config: config, log: log}
}

// run probes all known addresses, again and again.
func (p *prober) run(ctx context.Context) {
	known, _ := p.addresses.ask(ctx)
	for ctx.Err() == nil {
		err := p.probe(ctx, known)
		if ctx.Err() != nil {
			return
		}
		p.record(err)
		wait := probeEvery
		if err != nil {
			wait = probeRetry
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
		known = p.addresses.known()
	}
}

// probe is nil once one address proves itself: one suffices for a connection.
func (p *prober) probe(ctx context.Context, known []netip.Addr) error {
	if len(known) == 0 {
		return errNoAddress
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+probeTimeout)
	defer cancel()
	results := make(chan error)
	for _, address := range known {
		go func() { results <- p.handshake(ctx, netip.AddrPortFrom(address, p.port)) }()
	}
	var errs []error
	for range known {
		err := <-results
		if err == nil {
			cancel() // and wait for the others to see it
		}
		errs = append(errs, err)
	}
	if slices.Contains(errs, nil) {
		return nil
	}
	return joined(errs...)
}

func (p *prober) handshake(ctx context.Context, at netip.AddrPort) error {
	conn, err := connector.DialContext(ctx, "tcp", at.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := tls.Client(conn, p.config).HandshakeContext(ctx); err != nil {
		return fmt.Errorf("handshake with %v as %s: %w", at, p.config.ServerName, err)
	}
	return nil
}

func (p *prober) record(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if (err == nil) != (p.failed == nil) || p.proven.IsZero() && err == nil {
		if err == nil {
			p.log.Info("the upstream proves itself")
		} else {
			p.log.Warn("the upstream does not prove itself", "error", err.Error())
		}
	}
	p.failed = err
	if err == nil {
		p.proven = time.Now()
	}
}

// ready is nil while a handshake of the last readyFor proves the way.
func (p *prober) ready() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case !p.proven.IsZero() && time.Since(p.proven) <= readyFor:
		return nil
	case p.failed != nil:
		return p.failed
	}
	return errors.New("no handshake with the upstream yet")
}

// handler answers at the readiness port.
func (j *Jumper) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := j.prober.ready()
		if j.draining.Load() {
			err = errors.New("draining")
		}
		if err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(j.metrics())
	})
	return mux
}
