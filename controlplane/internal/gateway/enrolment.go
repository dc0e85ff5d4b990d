package gateway

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"connectrpc.com/connect"
	"golang.org/x/time/rate"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

const (
	maxEnrolment = 16 << 10 // bytes of a request

	// A token cannot be guessed. The limits are for the price of a signature and a
	// transaction: from one address, and from all together.
	eachPerSecond, eachBurst = 1, 10
	allPerSecond, allBurst   = 20, 100
	maxAddresses             = 4096
)

// enrolment is all that is served outside of a tunnel.
func (g *Gateway) enrolment() http.Handler {
	path, handler := tunnelv1connect.NewEnrolmentServiceHandler(&enrolment{g},
		connect.WithReadMaxBytes(maxEnrolment), connect.WithRecover(g.recover))
	mux := http.NewServeMux()
	mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		strip(r.Header)
		r.Body = http.MaxBytesReader(w, r.Body, 2*maxEnrolment)
		handler.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connection{}, r)))
	})
	return mux
}

// connection is the key of the *http.Request, for its TLS state and its address.
type connection struct{}

type enrolment struct{ *Gateway }

// Join spends a token.
func (e *enrolment) Join(ctx context.Context, request *tunnelv1.JoinRequest) (*tunnelv1.JoinResponse, error) {
	log := e.Log.With("remote", remote(ctx).String())
	if !e.limits.join.allow(remote(ctx)) {
		return nil, refusal.New(connect.CodeResourceExhausted, "too many joins from your address; try again in a minute")
	}
	invalid := refusal.New(connect.CodeUnauthenticated, "%s", store.ErrToken.Error()+"; run 'biplane cluster add' for a new one")
	text, err := tunnel.ParseToken(request.GetToken())
	if err != nil {
		log.Warn("join refused", "error", "no token of this form")
		return nil, invalid
	}
	token, err := store.ParseJoinToken(text.Secret)
	if err != nil || text.Fingerprint != e.CAFingerprint() {
		log.Warn("join refused", "error", "no token of this gateway")
		return nil, invalid
	}
	ca := e.authority.ca.Load()
	var chain []byte
	joined, err := e.Store.Join(ctx, token, func(of store.Cluster) (store.Certificate, error) {
		leaf, signed, err := ca.SignClient(request.GetCertificateRequest(),
			tunnel.Identity{Organization: of.Organization, Cluster: of.Name}, e.Now(), e.Config.Gateway.CertificateLife)
		if err != nil {
			return store.Certificate{}, err
		}
		chain = signed
		return recordOf(ca, leaf), nil
	})
	switch {
	case errors.Is(err, store.ErrToken):
		log.Warn("join refused", "error", err)
		return nil, invalid
	case errors.Is(err, pki.ErrRequest):
		return nil, refusal.Invalid("certificate_request is %v", err)
	case err != nil:
		return nil, e.failed(ctx, "join failed", err)
	}
	log.Info("data plane joined", "organization", joined.Organization, "cluster", joined.Name)
	return &tunnelv1.JoinResponse{
		CertificateChain: string(chain),
		CaBundle:         string(ca.Bundle()),
		Organization:     joined.Organization,
		Cluster:          joined.Name,
	}, nil
}

// Renew takes the certificate in force for a new one.
func (e *enrolment) Renew(ctx context.Context, request *tunnelv1.RenewRequest) (*tunnelv1.RenewResponse, error) {
	if !e.limits.renew.allow(remote(ctx)) {
		return nil, refusal.New(connect.CodeResourceExhausted, "too many renewals from your address; try again in a minute")
	}
	refused := refusal.New(connect.CodeUnauthenticated, "%s", store.ErrCertificate.Error()+"; add the cluster again and join with the new token")
	identity, inForce, err := e.peer(ctx, state(ctx))
	switch {
	case errors.Is(err, store.ErrCertificate):
		e.Log.Warn("renewal refused", "remote", remote(ctx).String(), "error", err)
		return nil, refused
	case err != nil:
		return nil, e.failed(ctx, "renewal failed", err)
	}
	ca := e.authority.ca.Load()
	leaf, chain, err := ca.SignClient(request.GetCertificateRequest(), identity, e.Now(), e.Config.Gateway.CertificateLife)
	if errors.Is(err, pki.ErrRequest) {
		return nil, refusal.Invalid("certificate_request is %v", err)
	} else if err != nil {
		return nil, e.failed(ctx, "renewal failed", err)
	}
	err = e.Store.RecordCertificate(ctx, identity.Organization, identity.Cluster, pki.Serial(inForce), recordOf(ca, leaf))
	switch {
	case errors.Is(err, store.ErrCertificate):
		return nil, refused
	case err != nil:
		return nil, e.failed(ctx, "renewal failed", err)
	}
	e.Log.Info("certificate renewed", "organization", identity.Organization, "cluster", identity.Cluster, "expires", leaf.NotAfter)
	return &tunnelv1.RenewResponse{CertificateChain: string(chain), CaBundle: string(ca.Bundle())}, nil
}

func recordOf(ca *pki.CA, leaf *x509.Certificate) store.Certificate {
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	return store.Certificate{Serial: pki.Serial(leaf), ExpiresAt: leaf.NotAfter, Key: hex.EncodeToString(key[:]),
		Issuer: tunnel.Fingerprint(ca.Certificate()), Trusts: ca.Fingerprints()}
}

func state(ctx context.Context) *tls.ConnectionState {
	return ctx.Value(connection{}).(*http.Request).TLS
}

func remote(ctx context.Context) netip.Addr {
	host, _, _ := net.SplitHostPort(ctx.Value(connection{}).(*http.Request).RemoteAddr)
	address, _ := netip.ParseAddr(host)
	return address.Unmap()
}

// limits are apart, so that strangers who try to join keep nobody from renewing.
type limits struct{ join, renew *limit }

func newLimits() limits { return limits{newLimit(), newLimit()} }

type limit struct {
	mu   sync.Mutex
	all  *rate.Limiter
	each map[netip.Prefix]*rate.Limiter
}

func newLimit() *limit {
	return &limit{all: rate.NewLimiter(allPerSecond, allBurst), each: map[netip.Prefix]*rate.Limiter{}}
}

func (l *limit) allow(address netip.Addr) bool {
	bits := address.BitLen()
	if address.Is6() {
		bits = 64 // what one customer has
	}
	prefix, _ := address.Prefix(bits)
	l.mu.Lock()
	defer l.mu.Unlock()
	one := l.each[prefix]
	if one == nil {
		if len(l.each) == maxAddresses {
			clear(l.each) // whoever fills it is held by the limit of all
		}
		one = rate.NewLimiter(eachPerSecond, eachBurst)
		l.each[prefix] = one
	}
	return one.Allow() && l.all.Allow()
}
