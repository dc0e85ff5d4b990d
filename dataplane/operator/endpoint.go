package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"sync"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/cluster"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster/clusterconnect"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/peer"
	"biplane.dev/biplane/dataplane/internal/serve"
)

// Headers by which the control plane is told who calls. It believes them of us,
// and we of nobody.
const (
	headerAccount = "Biplane-Service-Account"
	headerProject = "Biplane-Project"
	headerDomain  = "Biplane-Domain"
)

const (
	// maxBody of a call that passes through: a run's inputs are the largest. It is not
	// held in memory.
	maxBody = 128 << 20
	// maxCalls pass through at the same time, long streams included: what a tunnel
	// takes, and some 100 MB.
	maxCalls = 1000
)

// endpoint is the API in the cluster: what our processes and task pods call. Calls
// for a process here keep the caller's own token, since that process knows what a
// pod may; calls for the control plane lose it, which is nothing for outside.
type endpoint struct {
	o            *Operator
	slots        chan struct{} // one is taken for each call
	here         http.Handler
	executor     http.Handler
	proxy        http.Handler
	controlPlane http.Handler
}

func newEndpoint(o *Operator) http.Handler {
	as := o.peer()
	as.KeepAuthorization = true
	callers := peer.NewTransport(as)
	here := http.NewServeMux()
	here.Handle(clusterconnect.NewClusterServiceHandler(clusters{name: o.config.ControlPlane.Cluster}, connect.WithInterceptors(serve.Interceptor())))
	return &endpoint{
		o:            o,
		slots:        make(chan struct{}, maxCalls),
		here:         here,
		executor:     o.forwarder("executor", "https", o.config.Executor.Endpoint, callers, nil),
		proxy:        o.forwarder("proxy", "https", o.config.Proxy.Endpoint, callers, nil),
		controlPlane: o.forwarder("control plane", "http", "controlplane", o.link, func(out *http.Request) { out.Header.Del("Authorization") }),
	}
}

// ServeHTTP sends a call to where it belongs. It goes inside authn.
func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case e.slots <- struct{}{}:
		defer func() { <-e.slots }()
	default:
		authn.Refuse(w, r, connect.NewError(connect.CodeResourceExhausted, errors.New("too many calls are being passed on; call again")))
		return
	}
	for _, header := range []string{headerAccount, headerProject, headerDomain} {
		r.Header.Del(header)
	}
	to, err := e.route(r)
	if err != nil {
		e.o.metrics.refused.Inc()
		authn.Refuse(w, r, err)
		return
	}
	switch to {
	case toHere:
		e.here.ServeHTTP(w, r)
	case toExecutor:
		e.executor.ServeHTTP(w, r)
	case toProxy:
		e.proxy.ServeHTTP(w, r)
	case toControlPlane:
		e.controlPlane.ServeHTTP(w, r)
	}
}

// route finds out who calls, adds to the request what the control plane is to know
// of it, and says where it goes.
func (e *endpoint) route(r *http.Request) (destination, error) {
	caller, ok := authn.From(r.Context())
	if !ok {
		return 0, connect.NewError(connect.CodeUnauthenticated, errors.New("no token was sent"))
	}
	if !e.o.leading.Load() {
		return 0, connect.NewError(connect.CodeUnavailable, errors.New("another operator is at work; call again"))
	}
	r.Header.Set(headerAccount, caller.Name())
	if caller.Namespace == e.o.config.Namespace {
		return allow(ofProcess(caller.ServiceAccount), caller, r.URL.Path)
	}
	workspace, err := e.o.view.workspace(r.Context(), caller.Namespace)
	if err != nil {
		return 0, connect.NewError(connect.CodeUnavailable, errors.New("the workspaces are not known yet; call again"))
	}
	if workspace == nil || caller.Pod == "" { // a task is a pod
		return allow(nil, caller, r.URL.Path)
	}
	r.Header.Set(headerProject, workspace.Spec.Project)
	r.Header.Set(headerDomain, workspace.Spec.Domain)
	return allow(ofTasks, caller, r.URL.Path)
}

// clusters answers the SDK's question which cluster serves what: the endpoint that
// it asked.
type clusters struct {
	clusterconnect.UnimplementedClusterServiceHandler
	name string
}

func (c clusters) SelectCluster(context.Context, *cluster.SelectClusterRequest) (*cluster.SelectClusterResponse, error) {
	return &cluster.SelectClusterResponse{Cluster: c.name}, nil
}

// forwarder passes calls on as they are: streams as they come, trailers too, for
// hours if need be. name is what callers are told when it cannot be reached.
func (o *Operator) forwarder(name, scheme, host string, transport http.RoundTripper, change func(out *http.Request)) http.Handler {
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = scheme, host, host
			if change != nil {
				change(p.Out)
			}
		},
		Transport:     transport,
		FlushInterval: -1,
		BufferPool:    &o.buffers,
		ErrorLog:      slog.NewLogLogger(o.log.Handler(), slog.LevelDebug),
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			o.log.Debug("a call was not passed on", "to", name, "path", r.URL.Path, "error", err)
			authn.Refuse(w, r, unreachable(r.Context(), name, err))
		},
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer o.metrics.forwarded(name)()
		proxy.ServeHTTP(w, r)
	})
}

// unreachable is what a caller reads when a call could not be passed on.
func unreachable(ctx context.Context, name string, err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return connect.NewError(connect.CodeResourceExhausted, fmt.Errorf("the request has more than %d bytes", tooLarge.Limit))
	}
	if connect.CodeOf(context.Cause(ctx)) == connect.CodeUnavailable {
		return serve.ErrDraining()
	}
	return connect.NewError(connect.CodeUnavailable, fmt.Errorf("the %s cannot be reached now", name))
}

// buffers are those that bodies pass through.
type buffers struct{ pool sync.Pool }

const bufferSize = 32 << 10

// Get implements httputil.BufferPool.
func (b *buffers) Get() []byte {
	if buffer, ok := b.pool.Get().(*[bufferSize]byte); ok {
		return buffer[:]
	}
	return make([]byte, bufferSize)
}

// Put implements httputil.BufferPool.
func (b *buffers) Put(buffer []byte) { b.pool.Put((*[bufferSize]byte)(buffer)) }
