// Package operator is the data plane's end of everything that crosses its border:
// it joins the cluster to a control plane, holds the tunnel, passes calls on in
// both directions, and tells the cluster what the control plane says it shall be.
// Inside, it makes the certificates by which the processes know each other.
//
// It runs no action and reads no data of a run: calls go through it as they are.
//
// Start with operator.lead, which is everything that one operator does at a time.
// By file:
//
//	leader.go         of several operators one works
//	certificates.go   the data plane's CA and what it signs (internal/pki)
//	membership.go     join, renew
//	link.go           the tunnel's session, while there is one
//	heartbeat.go      what the control plane is told: health, capacity, storage
//	configuration.go  what the control plane says: workspaces, names of the proxy
//	inbound.go        calls and raw streams from the control plane to our processes
//	endpoint.go       calls of our processes and of task pods, and where they go
//	access.go         which calls those may be
//	view.go           nodes and workspaces, from watches
package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/kube"
	"biplane.dev/biplane/dataplane/internal/peer"
	"biplane.dev/biplane/dataplane/internal/serve"
	"biplane.dev/biplane/dataplane/operator/internal/pki"
	"biplane.dev/biplane/internal/usererr"
)

// Run is `biplane-dataplane operator`.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	if cfg.ControlPlane.Gateway == "" {
		return usererr.New(usererr.Invalid, "controlPlane.gateway is missing from the configuration").
			WithHint("write HOST:PORT of the control plane's gateway")
	}
	kubernetes, err := kube.Config("operator")
	if err != nil {
		return err
	}
	o, err := New(Options{Config: cfg, Kubernetes: kubernetes, Log: log})
	if err != nil {
		return err
	}
	return o.Run(ctx)
}

// Options of an operator.
type Options struct {
	Config     *config.Config
	Kubernetes *rest.Config
	Log        *slog.Logger

	// Identity among the operators of a namespace. Default: the pod's.
	Identity string
	// TokenFile and JoinTokenFile. Default: config's.
	TokenFile, JoinTokenFile string
	// Listener is taken instead of Config.Operator.Listen when there is one.
	Listener net.Listener
	// Now is the clock that certificates live by. Default: time.Now.
	Now func() time.Time
}

// Operator is one.
type Operator struct {
	options Options
	config  *config.Config
	log     *slog.Logger
	client  client.Client // not cached

	leading      atomic.Bool
	certificates *certificates
	membership   *membership
	link         *link
	health       *health
	received     *received
	view         *view
	metrics      *metrics
	buffers      buffers
}

// New makes an operator, which does nothing yet.
func New(options Options) (*Operator, error) {
	if options.TokenFile == "" {
		options.TokenFile = config.TokenFile
	}
	if options.JoinTokenFile == "" {
		options.JoinTokenFile = config.JoinTokenFile
	}
	if options.Now == nil {
		options.Now = time.Now
	}
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, err
	}
	api, err := client.New(options.Kubernetes, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	cfg := options.Config
	o := &Operator{options: options, config: cfg, log: options.Log, client: api}
	if o.view, err = newView(options.Kubernetes, scheme); err != nil {
		return nil, err
	}
	o.received = newReceived(api, cfg.Namespace, o.log)
	o.certificates = &certificates{
		keeper: &pki.Keeper{Client: api, Namespace: cfg.Namespace, Log: o.log, Now: options.Now},
		config: cfg, names: o.received.proxyNames, wake: o.received.applied, log: o.log,
	}
	o.membership = newMembership(api, cfg, options.JoinTokenFile, o.log, options.Now)
	o.health = newHealth(cfg, peer.NewTransport(o.peer()), o.log)
	o.link = newLink(o)
	o.metrics = newMetrics(o)
	return o, nil
}

// peer is how our own processes are called.
func (o *Operator) peer() peer.Options {
	return peer.Options{CA: o.certificates.bundle, TokenFile: o.options.TokenFile}
}

// Run works until ctx ends and everything has been drained.
func (o *Operator) Run(ctx context.Context) error {
	own, err := serve.From(o.certificates.own)
	if err != nil {
		return err
	}
	authenticator := authn.New(o.client)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		group  sync.WaitGroup
		mu     sync.Mutex
		failed error
	)
	run := func(what string, f func(context.Context) error) {
		group.Go(func() {
			defer cancel() // one without the others is no operator
			if err := f(ctx); err != nil {
				mu.Lock()
				defer mu.Unlock()
				failed = errors.Join(failed, fmt.Errorf("%s: %w", what, err))
			}
		})
	}
	run("watching nodes and workspaces", o.view.Run)
	run("leading", func(ctx context.Context) error { return o.elect(ctx, o.lead) })
	front := http.NewServeMux()
	front.Handle("/", authenticator.Wrap(newEndpoint(o)))
	authenticator.Exchange(front, o.config.Operator.Endpoint, connect.WithInterceptors(serve.Interceptor()))
	run("serving", func(ctx context.Context) error {
		return serve.Serve(ctx, serve.Options{
			Listen: o.config.Operator.Listen, Listener: o.options.Listener, Certificates: own,
			Handler: front, Authenticator: authenticator,
			Ready: o.Ready, Metrics: o.metrics.registry, MaxBody: maxBody, DrainTimeout: drainLimit, Log: o.log,
		})
	})
	group.Wait()
	return failed
}

// lead is everything that one operator does at a time, until ctx ends.
func (o *Operator) lead(ctx context.Context) {
	o.leading.Store(true)
	defer o.leading.Store(false)
	var group sync.WaitGroup
	defer group.Wait()
	group.Go(func() { o.received.Run(ctx) })     // workspaces and names, as last received
	group.Go(func() { o.certificates.Run(ctx) }) // the CA and the serving certificates
	group.Go(func() { o.membership.Run(ctx) })   // join, renew
	group.Go(func() { o.health.Run(ctx) })       // how the other processes are
	group.Go(func() { o.link.Run(ctx) })         // the tunnel, and all that goes through it
}

// Ready says why there is nothing yet that this operator can do for a caller. A
// tunnel that is down is no reason: calls that do not need it go on, and the others
// are told.
func (o *Operator) Ready() error {
	if !o.leading.Load() {
		return errors.New("another operator is at work, or the last one was a moment ago")
	}
	if err := o.view.Ready(); err != nil {
		return err
	}
	return o.membership.Ready()
}
