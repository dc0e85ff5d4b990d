package operator

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/tunnel"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// gateway is the control plane's end, small: the real tunnel and the real protocol
// of enrolment, with a token and a configuration in memory.
type gateway struct {
	tunnelv1connect.UnimplementedEnrolmentServiceHandler
	tunnelv1connect.UnimplementedLinkServiceHandler

	address string
	caPEM   []byte
	ca      *x509.Certificate
	key     *ecdsa.PrivateKey
	server  *http.Server
	api     http.Handler // Flyte's services

	mu         sync.Mutex
	cluster    string // that tokens are for
	token      string // the one that is good
	spentBy    []byte // the public key of who spent it
	loseAnswer bool   // of the next Join
	life       func() (from, until time.Time)
	joins      int
	renewals   int
	session    *tunnel.Session
	sessions   chan *tunnel.Session
	heartbeats chan *tunnelv1.HeartbeatRequest
	config     *tunnelv1.Config
	changed    chan struct{} // closed and replaced with every new config
}

type requestKey struct{}

func newGateway(t *testing.T) *gateway {
	t.Helper()
	key, err := tunnel.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{
		ca: ca, key: key, caPEM: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cluster: "c1",
		life:     func() (time.Time, time.Time) { return time.Now().Add(-time.Minute), time.Now().Add(23 * time.Hour) },
		sessions: make(chan *tunnel.Session, 64), heartbeats: make(chan *tunnelv1.HeartbeatRequest, 1024), changed: make(chan struct{}),
	}
	g.newToken()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.address = listener.Addr().String()
	g.start(t, listener)
	return g
}

// newToken makes another token than the one before.
func (g *gateway) newToken() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.token = tunnel.Token{Fingerprint: tunnel.Fingerprint(g.ca), Secret: rand.Text()}.String()
	g.spentBy = nil
	return g.token
}

// start serves at the gateway's address; stop ends that, and all sessions.
func (g *gateway) start(t *testing.T, listener net.Listener) {
	t.Helper()
	serving := g.sign(t, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	roots := x509.NewCertPool()
	roots.AddCert(g.ca)
	config := &tls.Config{
		Certificates: []tls.Certificate{serving}, MinVersion: tls.VersionTLS13,
		ClientCAs: roots, ClientAuth: tls.VerifyClientCertIfGiven, NextProtos: []string{tunnel.ALPN, "h2"},
	}
	_, enrolment := tunnelv1connect.NewEnrolmentServiceHandler(g)
	g.server = &http.Server{
		TLSConfig: config,
		ErrorLog:  log.New(io.Discard, "", 0),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			enrolment.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), requestKey{}, r)))
		}),
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){
			tunnel.ALPN: func(_ *http.Server, conn *tls.Conn, _ http.Handler) { g.admit(conn) },
		},
	}
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	g.server.Protocols = protocols
	go g.server.ServeTLS(listener, "", "")
	t.Cleanup(g.stop)
}

func (g *gateway) stop() {
	g.server.Close()
	g.mu.Lock()
	session := g.session
	g.mu.Unlock()
	if session != nil {
		session.Close()
	}
}

// restart comes back at the same address.
func (g *gateway) restart(t *testing.T) {
	t.Helper()
	listener, err := net.Listen("tcp", g.address)
	if err != nil {
		t.Fatal(err)
	}
	g.start(t, listener)
}

func (g *gateway) admit(conn *tls.Conn) {
	if len(conn.ConnectionState().PeerCertificates) == 0 {
		tunnel.Refuse(conn, "there is no certificate")
		return
	}
	session, err := tunnel.Accept(conn, tunnel.Options{})
	if err != nil {
		conn.Close()
		return
	}
	g.mu.Lock()
	g.session = session
	g.mu.Unlock()
	g.sessions <- session
	path, link := tunnelv1connect.NewLinkServiceHandler(g)
	mux := http.NewServeMux()
	mux.Handle(path, link)
	if g.api != nil {
		mux.Handle("/", g.api)
	}
	session.Serve(context.Background(), tunnel.Handlers{RPC: mux})
}

// next is a session that was not asked for before.
func (g *gateway) next(t *testing.T) *tunnel.Session {
	t.Helper()
	select {
	case session := <-g.sessions:
		return session
	case <-time.After(patience):
		t.Fatal("got no session, want one")
		return nil
	}
}

// sign makes a key of its own.
func (g *gateway) sign(t *testing.T, template *x509.Certificate) tls.Certificate {
	t.Helper()
	key, err := tunnel.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(time.Now().UnixNano()), g.ca.NotBefore, g.ca.NotAfter
	der, err := x509.CreateCertificate(rand.Reader, template, g.ca, key.Public(), g.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, g.ca.Raw}, PrivateKey: key}
}

// issue signs a certificate of the key of a request, with the life that is set.
func (g *gateway) issue(request []byte, cluster string) (string, error) {
	parsed, err := x509.ParseCertificateRequest(request)
	if err != nil {
		return "", err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()),
		URIs:         []*url.URL{tunnel.Identity{Organization: "acme", Cluster: cluster}.URI()},
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}
	template.NotBefore, template.NotAfter = g.life()
	der, err := x509.CreateCertificate(rand.Reader, template, g.ca, parsed.PublicKey, g.key)
	if err != nil {
		return "", err
	}
	leaf := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return string(leaf) + string(g.caPEM), nil
}

// Join implements EnrolmentService: by token and public key, so that one who asks
// again, since the answer was lost, gets one.
func (g *gateway) Join(_ context.Context, request *tunnelv1.JoinRequest) (*tunnelv1.JoinResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.joins++
	parsed, err := x509.ParseCertificateRequest(request.GetCertificateRequest())
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	if request.GetToken() != g.token || g.spentBy != nil && !bytes.Equal(g.spentBy, parsed.RawSubjectPublicKeyInfo) {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("the token is spent"))
	}
	g.spentBy = parsed.RawSubjectPublicKeyInfo
	if g.loseAnswer {
		g.loseAnswer = false
		panic(http.ErrAbortHandler)
	}
	chain, err := g.issue(request.GetCertificateRequest(), g.cluster)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return &tunnelv1.JoinResponse{CertificateChain: chain, CaBundle: string(g.caPEM), Organization: "acme", Cluster: g.cluster}, nil
}

// Renew implements EnrolmentService.
func (g *gateway) Renew(ctx context.Context, request *tunnelv1.RenewRequest) (*tunnelv1.RenewResponse, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.renewals++
	if len(ctx.Value(requestKey{}).(*http.Request).TLS.PeerCertificates) == 0 {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("there is no certificate"))
	}
	chain, err := g.issue(request.GetCertificateRequest(), g.cluster)
	if err != nil {
		return nil, connect.NewError(connect.CodeInvalidArgument, err)
	}
	return &tunnelv1.RenewResponse{CertificateChain: chain, CaBundle: string(g.caPEM)}, nil
}

// Heartbeat implements LinkService.
func (g *gateway) Heartbeat(ctx context.Context, request *tunnelv1.HeartbeatRequest) (*tunnelv1.HeartbeatResponse, error) {
	call, _ := connect.CallInfoForHandlerContext(ctx)
	if got := call.RequestHeader().Get(headerAccount); got == "" {
		return nil, connect.NewError(connect.CodeUnauthenticated, errors.New("nobody says who beats"))
	}
	g.heartbeats <- request
	return &tunnelv1.HeartbeatResponse{Next: durationpb.New(100 * time.Millisecond)}, nil
}

// WatchConfig implements LinkService.
func (g *gateway) WatchConfig(ctx context.Context, _ *tunnelv1.WatchConfigRequest, stream *connect.ServerStream[tunnelv1.Config]) error {
	for {
		g.mu.Lock()
		config, changed := g.config, g.changed
		g.mu.Unlock()
		if config != nil {
			if err := stream.Send(config); err != nil {
				return err
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return connect.NewError(connect.CodeUnavailable, ctx.Err())
		}
	}
}

// GetPosition implements LinkService.
func (g *gateway) GetPosition(context.Context, *tunnelv1.GetPositionRequest) (*tunnelv1.GetPositionResponse, error) {
	return &tunnelv1.GetPositionResponse{Position: 42}, nil
}

func (g *gateway) configure(config *tunnelv1.Config) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.config = config
	close(g.changed)
	g.changed = make(chan struct{})
}

// heartbeat waits for one that fits.
func (g *gateway) heartbeat(t *testing.T, fits func(*tunnelv1.HeartbeatRequest) bool) *tunnelv1.HeartbeatRequest {
	t.Helper()
	var last *tunnelv1.HeartbeatRequest
	deadline := time.After(patience)
	for {
		select {
		case last = <-g.heartbeats:
			if fits(last) {
				return last
			}
		case <-deadline:
			t.Fatalf("got %v as the last heartbeat, want another one", last)
		}
	}
}
