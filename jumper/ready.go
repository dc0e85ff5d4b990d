package jumper

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
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
	probesAtOnce = 64
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

// newProber returns one that asks as clients do: by the upstream's own name, if they
// may ask for that, or by the first that they may ask for. The certificate has to be
// for the upstream or for one of these names: the first may be an address, or a name
// on the way.
func newProber(host string, names []string, port uint16, ca *x509.CertPool, addresses *addresses, log *slog.Logger) *prober {
	host = strings.TrimSuffix(host, ".")
	ask := host
	if !slices.Contains(names, lower(host)) {
		ask = names[0]
	}
	config := &tls.Config{ServerName: ask, MinVersion: tls.VersionTLS12}
	// What crypto/tls verifies is a chain and one name. Without a CA there is nothing to
	// verify a chain with; the name still tells the cluster from whatever else may have
	// its address.
	config.InsecureSkipVerify = true
	config.VerifyConnection = func(state tls.ConnectionState) error {
		leaf, others := state.PeerCertificates[0], x509.NewCertPool()
		for _, certificate := range state.PeerCertificates[1:] {
			others.AddCert(certificate)
		}
		if ca != nil {
			if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca, Intermediates: others}); err != nil {
				return err
			}
		}
		err := leaf.VerifyHostname(host)
		for _, name := range names {
			if err == nil {
				break
			}
			if leaf.VerifyHostname(name) == nil {
				err = nil
			}
		}
		return err
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
		return p.addresses.none()
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		shaking sync.WaitGroup
		at      = make(chan netip.Addr)
		mu      sync.Mutex
		proven  bool
		errs    []error
	)
	for range min(len(known), probesAtOnce) {
		shaking.Go(func() {
			for address := range at {
				err := p.handshake(ctx, netip.AddrPortFrom(address, p.port))
				mu.Lock()
				proven, errs = proven || err == nil, append(errs, err)
				mu.Unlock()
				if err == nil {
					cancel() // the others see it
				}
			}
		})
	}
	for _, i := range rand.Perm(len(known)) {
		if ctx.Err() != nil {
			break
		}
		at <- known[i]
	}
	close(at)
	shaking.Wait()
	if proven {
		return nil
	}
	return joined(errs...)
}

func (p *prober) handshake(ctx context.Context, at netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout+probeTimeout)
	defer cancel()
	conn, err := connector.DialTCP(ctx, "tcp", netip.AddrPort{}, at)
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
