package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/serve"
)

const (
	// rawPath and rawProtocol are how the operator hands over a client's own TLS
	// session.
	rawPath     = "/biplane/raw"
	rawProtocol = "biplane-raw"
	// clientTLSFolder has the certificate that clients see, which the data plane's
	// own CA signed: the control plane, which relays, cannot show it.
	clientTLSFolder = "/etc/biplane/client-tls"
	// maxClients are connected at the same time.
	maxClients = 2000
	// A client whose machine sleeps is asked by a ping whether it is still there.
	pingAfter   = 15 * time.Second
	pingTimeout = 15 * time.Second
	idleTimeout = 3 * time.Minute
	// A client who sends its request so slowly is none of ours.
	headerTimeout = 10 * time.Second
	maxHeader     = 64 << 10
	// drainTimeout is that of package serve, so that both doors close together.
	drainTimeout = 15 * time.Second
)

// clientDoor serves clients whose TLS sessions come through the relay, each as
// one stream of bytes that the operator hands over. It is a listener, to the HTTP
// server behind it, and a handler, to the one before.
type clientDoor struct {
	server *http.Server
	conns  chan net.Conn
	slots  chan struct{}
	closed chan struct{}
	close  sync.Once

	operator string // NAMESPACE/NAME of its service account
	metrics  *metrics
	log      *slog.Logger
}

func newClientDoor(handler http.Handler, certificates serve.Certificates, operator string, m *metrics, log *slog.Logger) *clientDoor {
	d := &clientDoor{
		conns: make(chan net.Conn), slots: make(chan struct{}, maxClients), closed: make(chan struct{}),
		operator: operator, metrics: m, log: log,
	}
	d.server = &http.Server{
		Handler: http.MaxBytesHandler(handler, maxRequest),
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12, GetCertificate: certificates.GetCertificate, NextProtos: []string{"h2", "http/1.1"},
		},
		HTTP2:             &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		ConnContext:       withOuter,
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // of handshakes that failed, mostly
	}
	return d
}

// run serves until the context ends and calls have finished.
func (d *clientDoor) run(ctx context.Context) error {
	ended := make(chan error, 1)
	go func() { ended <- d.server.ServeTLS(d, "", "") }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer cancel()
	if err := d.server.Shutdown(ctx); err != nil {
		d.log.Warn("ending the clients' calls that have not finished", "after", drainTimeout)
		d.server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ServeHTTP takes a stream over from the operator.
func (d *clientDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if caller, ok := authn.From(r.Context()); !ok || caller.Name() != d.operator {
		http.Error(w, "only the operator hands over clients", http.StatusForbidden)
		return
	}
	if r.Method != http.MethodPost || !strings.EqualFold(r.Header.Get("Upgrade"), rawProtocol) || r.ContentLength != 0 {
		w.Header().Set("Upgrade", rawProtocol)
		w.Header().Set("Connection", "Upgrade")
		http.Error(w, "send a POST without body, and Upgrade: "+rawProtocol, http.StatusUpgradeRequired)
		return
	}
	select {
	case d.slots <- struct{}{}:
	default:
		http.Error(w, "too many clients are connected", http.StatusServiceUnavailable)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		<-d.slots
		http.Error(w, "a connection can only be handed over by HTTP/1.1", http.StatusHTTPVersionNotSupported)
		return
	}
	d.metrics.connections.Inc()
	taken := &clientConn{Conn: conn, reader: buffered.Reader, outer: context.WithoutCancel(r.Context()), free: func() {
		<-d.slots
		d.metrics.connections.Dec()
	}}
	_ = conn.SetDeadline(time.Time{})
	if _, err := conn.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + rawProtocol + "\r\n\r\n")); err != nil {
		taken.Close()
		return
	}
	select {
	case d.conns <- taken:
	case <-d.closed:
		taken.Close()
	}
}

// Accept implements net.Listener.
func (d *clientDoor) Accept() (net.Conn, error) {
	select {
	case conn := <-d.conns:
		return conn, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (d *clientDoor) Close() error {
	d.close.Do(func() { close(d.closed) })
	return nil
}

// Addr implements net.Listener.
func (d *clientDoor) Addr() net.Addr { return &net.UnixAddr{Name: rawPath, Net: rawProtocol} }

// withOuter marks whoever comes by this door, and lets the streams in it know of
// the end of this process, which the outer server tells.
func withOuter(ctx context.Context, conn net.Conn) context.Context {
	if secured, ok := conn.(*tls.Conn); ok {
		if taken, ok := secured.NetConn().(*clientConn); ok {
			ctx = bothContexts{ctx, taken.outer}
		}
	}
	return withClient(ctx)
}

// bothContexts ends with the first, and knows what both know.
type bothContexts struct {
	context.Context
	outer context.Context
}

// Value implements context.Context.
func (b bothContexts) Value(key any) any {
	if v := b.Context.Value(key); v != nil {
		return v
	}
	return b.outer.Value(key)
}

// crossOrigin lets the web pages that are named call, and no others: a browser
// would otherwise read a customer's data for any page, since clients show no token.
func crossOrigin(next http.Handler, origins []string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if origin == "" {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Add("Vary", "Origin")
		if !slices.Contains(origins, origin) {
			_ = connect.NewErrorWriter().Write(w, r, refuse(connect.CodePermissionDenied, "pages of %q may not call; add it to proxy.origins", short(origin)))
			return
		}
		header := w.Header()
		header.Set("Access-Control-Allow-Origin", origin)
		header.Set("Access-Control-Expose-Headers", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin")
		if r.Method == http.MethodOptions && r.Header.Get("Access-Control-Request-Method") != "" {
			header.Set("Access-Control-Allow-Methods", "GET, POST")
			header.Set("Access-Control-Allow-Headers", "Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent, Authorization, X-Request-Id")
			header.Set("Access-Control-Max-Age", "7200")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		next.ServeHTTP(w, r)
	})
}
