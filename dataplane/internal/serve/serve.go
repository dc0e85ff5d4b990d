// Package serve is the listener of every process of the data plane: TLS with a
// certificate that is replaced while it runs, /livez and /readyz without token,
// /metrics for who may get them, and an end that loses nobody's call.
//
// It does not say who calls: that is package authn, around the handler. Start
// with Serve.
//
// # Its end
//
// When the context ends (SIGTERM), /readyz fails, so that the Service sends
// nobody new. Then Draining closes: a handler of a stream, which may live for
// hours, ends it with ErrDraining. Calls have Options.DrainTimeout to finish; then their
// contexts end. A client must never read CANCELED from us, which Flyte's SDK takes
// for its own wish and stops watching for ever: Interceptor makes that UNAVAILABLE.
package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/internal/buildinfo"
)

// Options of Serve.
type Options struct {
	// Listen is host:port.
	Listen string
	// Listener is taken instead of Listen when there is one.
	Listener net.Listener
	// TLSFolder has tls.crt and tls.key. Default: config.TLSFolder.
	TLSFolder string
	// Certificates are taken instead of TLSFolder when there are some.
	Certificates Certificates
	// Handler is asked for every path but /livez (by its old name /healthz), /readyz and /metrics.
	Handler http.Handler
	// Ready says why the process can do nothing for a caller now, in one sentence.
	// Default: it always can.
	Ready func() error
	// Metrics are shown to whom Authenticator lets see them. Without both: to nobody.
	Metrics       prometheus.Gatherer
	Authenticator *authn.Authenticator
	// MaxBody of a request, in bytes. Default: 16 MiB.
	MaxBody int64
	// DrainTimeout is how long calls may go on at the end. Default: 15 seconds.
	DrainTimeout time.Duration
	Log          *slog.Logger
}

// VersionHeader of the answer to /readyz tells the process's version.
const VersionHeader = "Biplane-Version"

const (
	// A client who sends its request so slowly is none of ours.
	headerTimeout = 10 * time.Second
	// idleTimeout is over the client's own (package peer), so that no request meets
	// a connection that is just being closed.
	idleTimeout = 2 * time.Minute
	// maxHeader has room for a token and much else.
	maxHeader      = 64 << 10
	defaultMaxBody = 16 << 20
	// One parent watches and enqueues up to a thousand children over one connection.
	maxStreams = 2000
	// A client whose node is lost is asked by a ping whether it is still there.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second

	// settleTime is until everybody's view of the Service has lost this pod.
	settleTime = time.Second
	// defaultDrainTimeout and abortTimeout together are below the 30 seconds after
	// which Kubernetes kills.
	defaultDrainTimeout = 15 * time.Second
	abortTimeout        = 5 * time.Second
	// portPause is between two attempts to have a port that somebody else has.
	portPause = 100 * time.Millisecond
)

// Serve answers until the context ends and calls have finished. The error is nil
// then.
func Serve(ctx context.Context, options Options) error {
	s, err := newServer(options)
	if err != nil {
		return err
	}
	listener := options.Listener
	if listener == nil {
		if listener, err = listen(ctx, options.Listen, options.Log); err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("listening: %w", err)
		}
	}
	ended := make(chan error, 1)
	go func() { ended <- s.http.ServeTLS(listener, "", "") }()
	options.Log.Info("listening", "address", listener.Addr().String())
	select {
	case err := <-ended:
		return fmt.Errorf("serving: %w", err)
	case <-ctx.Done():
	}
	s.drain()
	<-ended
	options.Log.Info("drained")
	return nil
}

// listen waits for a port that somebody has: where pods share a network, the
// process before this one, which is about to give it back.
func listen(ctx context.Context, address string, log *slog.Logger) (net.Listener, error) {
	deadline := time.Now().Add(defaultDrainTimeout + abortTimeout)
	for said := false; ; said = true {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Now().After(deadline) {
			return listener, err
		}
		if !said {
			log.Info("waiting for the port", "address", address)
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(portPause):
		}
	}
}

type server struct {
	options  Options
	http     *http.Server
	stopping chan struct{} // closed: not ready any more
	draining chan struct{} // closed: streams end
	abort    context.CancelCauseFunc
}

func newServer(options Options) (*server, error) {
	if options.Handler == nil {
		options.Handler = http.NotFoundHandler()
	}
	if options.Ready == nil {
		options.Ready = func() error { return nil }
	}
	if options.MaxBody == 0 {
		options.MaxBody = defaultMaxBody
	}
	if options.DrainTimeout == 0 {
		options.DrainTimeout = defaultDrainTimeout
	}
	if options.TLSFolder == "" {
		options.TLSFolder = config.TLSFolder
	}
	if options.Certificates == nil {
		certificates, err := Folder(options.TLSFolder)
		if err != nil {
			return nil, err
		}
		options.Certificates = certificates
	}
	base, abort := context.WithCancelCause(context.Background())
	s := &server{options: options, stopping: make(chan struct{}), draining: make(chan struct{}), abort: abort}
	base = context.WithValue(base, drainingKey{}, (<-chan struct{})(s.draining))
	s.http = &http.Server{
		Handler: s.routes(),
		TLSConfig: &tls.Config{
			MinVersion:     tls.VersionTLS12,
			GetCertificate: options.Certificates.GetCertificate,
			NextProtos:     []string{"h2", "http/1.1"},
		},
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams, SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug), // of handshakes that failed, mostly
	}
	return s, nil
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/livez", "/healthz"} {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set(VersionHeader, buildinfo.Read().Version)
		if err := s.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	if s.options.Metrics != nil && s.options.Authenticator != nil {
		mux.Handle("GET /metrics", s.options.Authenticator.WrapMetrics(promhttp.HandlerFor(s.options.Metrics, promhttp.HandlerOpts{})))
	}
	mux.Handle("/", http.MaxBytesHandler(s.options.Handler, s.options.MaxBody))
	return mux
}

func (s *server) ready() error {
	select {
	case <-s.stopping:
		return errors.New("it is being shut down")
	default:
	}
	if err := s.options.Certificates.Ready(); err != nil {
		return err
	}
	return s.options.Ready()
}

func (s *server) drain() {
	close(s.stopping)
	time.Sleep(settleTime)
	close(s.draining)
	ctx, cancel := context.WithTimeout(context.Background(), s.options.DrainTimeout)
	defer cancel()
	err := s.http.Shutdown(ctx)
	s.abort(ErrDraining())
	if err == nil {
		return
	}
	s.options.Log.Warn("ending the calls that have not finished", "after", s.options.DrainTimeout)
	ctx, cancel = context.WithTimeout(context.Background(), abortTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		s.http.Close()
	}
}
