// Package server is how the API is reached: Connect, gRPC and gRPC-Web, over
// HTTP/1.1, HTTP/2 and h2c, on one port, with what every call has in common
// (interceptor.go), who may call what (allow.go), and an honest answer for what
// is not served (unserved.go). Health and metrics are on the same port.
//
// It knows no service: each is its own package and is handed to Mount. Start
// with New.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

const (
	// maxMessage is above every limit that a service sets, so that the service
	// refuses in its own words. Connect's own RESOURCE_EXHAUSTED the SDK repeats.
	maxMessage = 32 << 20
	// smallest message that is worth compressing.
	smallest = 1 << 10
	// drainFor is how long calls under way may take once the server is to stop.
	drainFor = 10 * time.Second
)

// Options are what a server needs.
type Options struct {
	Log     *slog.Logger
	Metrics *prometheus.Registry
	// Hosts are the names by which clients call, loopback's own apart.
	Hosts []string
	// Origins are the web pages that may call.
	Origins []string
	// Ready says why the server cannot serve; nil when it can.
	Ready func(context.Context) error
}

// Server is the API for clients, and for the gateway that passes calls of data
// planes on.
type Server struct {
	options  Options
	mux      *http.ServeMux
	services []string // mounted
	metrics  *metrics
	errors   *connect.ErrorWriter

	draining context.Context // done once streams must end
	drain    context.CancelFunc
}

// New returns a server without services.
func New(options Options) *Server {
	s := &Server{options: options, mux: http.NewServeMux(), metrics: newMetrics(options.Metrics)}
	s.draining, s.drain = context.WithCancel(context.Background())
	s.errors = connect.NewErrorWriter(s.HandlerOptions()...)
	s.mux.HandleFunc("/", s.unserved)
	return s
}

// HandlerOptions are what every service's handler is made with.
func (s *Server) HandlerOptions() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithReadMaxBytes(maxMessage),
		connect.WithCompressMinBytes(smallest),
		connect.WithInterceptors(&interceptor{s}),
		connect.WithRecover(s.recover),
	}
}

// Mount serves a service: path and handler are what its generated constructor
// returns.
func (s *Server) Mount(path string, handler http.Handler) {
	name := strings.Trim(path, "/")
	s.services = append(s.services, name)
	known := methods(name)
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if !known[strings.TrimPrefix(r.URL.Path, path)] {
			s.unserved(w, r)
			return
		}
		handler.ServeHTTP(w, r)
	})
}

// ServeHTTP serves the calls alone: for a gateway, which says in the context who
// calls.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// Clients is all that clients reach: the calls, health, metrics.
func (s *Server) Clients() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.cors(s.mux))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	var unready atomic.Bool // as the log has it: who asks may do so all the time
	mux.HandleFunc("/readyz", func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Err() != nil {
			http.Error(w, "the server is shutting down", http.StatusServiceUnavailable)
			return
		}
		err := s.options.Ready(r.Context())
		if r.Context().Err() != nil {
			return // who asked has left: nothing was learnt
		}
		if before := unready.Swap(err != nil); !before && err != nil {
			s.options.Log.Warn("not ready", "error", err)
		} else if before && err == nil {
			s.options.Log.Info("ready again")
		}
		if err != nil {
			http.Error(w, "the database cannot be used now; the log says why", http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	})
	mux.HandleFunc("/.well-known/oauth-authorization-server", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "this server has no login yet", http.StatusNotImplemented)
	})
	mux.Handle("/metrics", promhttp.HandlerFor(s.options.Metrics, promhttp.HandlerOpts{}))
	return s.known(mux)
}

// Serve serves clients on a listener until ctx ends, then lets calls finish and
// ends streams. Without certificates it speaks HTTP/1.1 and h2c.
func (s *Server) Serve(ctx context.Context, listener net.Listener, certificates *tls.Config) error {
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(certificates == nil)
	web := &http.Server{
		Handler:   s.Clients(),
		TLSConfig: certificates,
		Protocols: &protocols,
		// Watches live for hours: a client that is gone without a word is found by pings.
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 1000, SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.options.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() {
		if certificates != nil {
			ended <- web.ServeTLS(listener, "", "")
		} else {
			ended <- web.Serve(listener)
		}
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("serving the API: %w", err)
	case <-ctx.Done():
	}
	s.Drain()
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainFor)
	defer cancel()
	err := web.Shutdown(stop)
	if errors.Is(err, context.DeadlineExceeded) {
		s.options.Log.Warn("calls did not finish in time", "after", drainFor)
		err = web.Close()
	}
	<-ended
	if err != nil {
		return fmt.Errorf("stopping the API: %w", err)
	}
	return nil
}

// Drain ends every stream with UNAVAILABLE, upon which clients watch again.
func (s *Server) Drain() { s.drain() }

// known refuses a Host that is not ours. Otherwise a web page whose name was
// made to point at loopback could call as the person who reads it.
func (s *Server) known(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		host = strings.Trim(host, "[]")
		ip, err := netip.ParseAddr(host)
		if host != "localhost" && (err != nil || !ip.IsLoopback()) && !slices.Contains(s.options.Hosts, host) {
			http.Error(w, "this server is not called by that name; set api.url in its configuration", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// cors lets the web pages of the configuration call, and no others: every call
// needs a header that a browser asks us about first.
func (s *Server) cors(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		origin := r.Header.Get("Origin")
		if origin != "" && slices.Contains(s.options.Origins, origin) {
			header := w.Header()
			header.Set("Access-Control-Allow-Origin", origin)
			header.Add("Vary", "Origin")
			header.Set("Access-Control-Expose-Headers", "Grpc-Status, Grpc-Message, Grpc-Status-Details-Bin, X-Request-Id")
			if r.Method == http.MethodOptions {
				header.Set("Access-Control-Allow-Methods", "GET, POST")
				header.Set("Access-Control-Allow-Headers", "Content-Type, Connect-Protocol-Version, Connect-Timeout-Ms, Grpc-Timeout, X-Grpc-Web, X-User-Agent, Authorization, X-Request-Id")
				header.Set("Access-Control-Max-Age", "7200")
				w.WriteHeader(http.StatusNoContent)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}
