// Package server is the HTTPS API of a process node, the one that a kubelet has:
// the API server comes here for logs, exec, attach and port-forward, and whoever
// may for /pods, /stats/summary and /metrics. It is the kubelet's own server in
// front of a host that is not a kubelet, so that paths, protocols and the
// sentences that kubectl shows are the same. Callers are authenticated and
// authorized as a kubelet does it. It runs no pod; it asks the pod agent by the
// interface Pods.
//
// Start with New; host.go answers what the kubelet's server asks.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/apis/apiserver"
	"k8s.io/apiserver/pkg/authentication/authenticatorfactory"
	"k8s.io/apiserver/pkg/authorization/authorizerfactory"
	"k8s.io/apiserver/pkg/server/dynamiccertificates"
	"k8s.io/apiserver/pkg/server/options"
	"k8s.io/client-go/kubernetes"
	"k8s.io/kubelet/pkg/cri/streaming"
	_ "k8s.io/kubernetes/pkg/apis/core/install" // the kubelet's server reads queries and writes pods by its scheme
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	kubelet "k8s.io/kubernetes/pkg/kubelet/server"
)

// Config is what a server is made of.
type Config struct {
	Node     string               // the Node's name
	Pods     Pods                 // the pod agent
	Healthy  func() error         // nil as long as the agent goes round; what /healthz says. May be left out.
	Client   kubernetes.Interface // asked for TokenReviews and SubjectAccessReviews
	ClientCA string               // file: the CA whose client certificates are believed
	Cert     string               // file: the serving certificate
	Key      string               // file: its key
}

// Server is the API of one node.
type Server struct {
	config tls.Config
	api    http.Handler

	// The kubelet's server hands exec, attach and port-forward on to a second,
	// of the container runtime, by a URL. Here that is the next listener of this
	// process. It knows a caller by the token in the URL, which is good once and
	// for a minute.
	streams     streaming.Server
	streamsURL  *url.URL
	streamsStop context.CancelFunc
}

// New makes a server; Serve serves it.
func New(cfg Config) (*Server, error) {
	certificate, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("reading the serving certificate of node %s: %w", cfg.Node, err)
	}
	auth, err := authorization(cfg)
	if err != nil {
		return nil, err
	}
	streamsURL := &url.URL{Scheme: "http"} // Serve knows the host
	streamsConfig := streaming.DefaultConfig
	streamsConfig.BaseURL = streamsURL
	ctx, stop := context.WithCancel(context.Background())
	streams, err := streaming.NewServer(streamsConfig, runtime{pods: cfg.Pods, stopped: ctx})
	if err != nil {
		stop()
		return nil, fmt.Errorf("making the server of streams: %w", err)
	}
	host := &host{pods: cfg.Pods, healthy: cfg.Healthy, streams: streams}
	api := kubelet.NewServer(host, newUsage(cfg.Node, cfg.Pods), nil, nil, auth, &kubeletconfig.KubeletConfiguration{
		EnableDebuggingHandlers: true, // logs, exec, attach and port-forward are called so
	})
	return &Server{
		config:      tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert},
		api:         &api,
		streams:     streams,
		streamsURL:  streamsURL,
		streamsStop: stop,
	}, nil
}

// authorization is a kubelet's: a client certificate of the CA or a token that
// the API server knows, then the API server's word for whether that user may.
func authorization(cfg Config) (kubelet.AuthInterface, error) {
	ca, err := dynamiccertificates.NewDynamicCAContentFromFile("client-ca", cfg.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("reading the CA of clients: %w", err)
	}
	who, _, err := authenticatorfactory.DelegatingAuthenticatorConfig{
		Anonymous:                          &apiserver.AnonymousAuthConfig{Enabled: false},
		TokenAccessReviewClient:            cfg.Client.AuthenticationV1(),
		WebhookRetryBackoff:                options.DefaultAuthWebhookRetryBackoff(),
		CacheTTL:                           2 * time.Minute, // these three: a kubelet's defaults
		ClientCertificateCAContentProvider: ca,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("making the authenticator: %w", err)
	}
	may, err := authorizerfactory.DelegatingAuthorizerConfig{
		SubjectAccessReviewClient: cfg.Client.AuthorizationV1(),
		WebhookRetryBackoff:       options.DefaultAuthWebhookRetryBackoff(),
		AllowCacheTTL:             5 * time.Minute,
		DenyCacheTTL:              30 * time.Second,
	}.New()
	if err != nil {
		return nil, fmt.Errorf("making the authorizer: %w", err)
	}
	return kubelet.NewKubeletAuth(who, kubelet.NewNodeAuthorizerAttributesGetter(types.NodeName(cfg.Node)), may), nil
}

// Serve answers on listener until ctx ends, and returns when every connection
// is closed. It is called once.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	defer s.streamsStop()
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		listener.Close()
		return fmt.Errorf("listening for streams: %w", err)
	}
	s.streamsURL.Host = inner.Addr().String()

	// Streams are hijacked from http.Server, which then forgets them: so the
	// listeners close what they accepted.
	outer, behind := &connections{Listener: listener}, &connections{Listener: inner}
	bounds := http.Server{ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 90 * time.Second, MaxHeaderBytes: 1 << 20}
	outside := &http.Server{Handler: s.api, TLSConfig: &s.config, ReadHeaderTimeout: bounds.ReadHeaderTimeout, IdleTimeout: bounds.IdleTimeout, MaxHeaderBytes: bounds.MaxHeaderBytes,
		// HTTP/2 has no upgrade to SPDY, and nobody asks a kubelet for it.
		TLSNextProto: map[string]func(*http.Server, *tls.Conn, http.Handler){}}
	inside := &http.Server{Handler: s.streams, ReadHeaderTimeout: bounds.ReadHeaderTimeout, IdleTimeout: bounds.IdleTimeout, MaxHeaderBytes: bounds.MaxHeaderBytes}

	ended := make(chan error, 2)
	go func() { ended <- outside.ServeTLS(outer, "", "") }()
	go func() { ended <- inside.Serve(behind) }()
	running := 2
	select {
	case <-ctx.Done():
	case err = <-ended:
		running--
	}
	s.streamsStop()
	outside.Close()
	inside.Close()
	outer.closeAll()
	behind.closeAll()
	for ; running > 0; running-- {
		<-ended
	}
	if err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the API of the node: %w", err)
	}
	return nil
}

// connections is a listener that knows what it accepted.
type connections struct {
	net.Listener
	mu     sync.Mutex
	open   map[*connection]struct{}
	closed bool
}

type connection struct {
	net.Conn
	of *connections
}

func (l *connections) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	known := &connection{conn, l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		conn.Close()
		return nil, net.ErrClosed
	}
	if l.open == nil {
		l.open = map[*connection]struct{}{}
	}
	l.open[known] = struct{}{}
	return known, nil
}

func (c *connection) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

func (l *connections) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		c.Conn.Close()
	}
	l.open = nil
}
