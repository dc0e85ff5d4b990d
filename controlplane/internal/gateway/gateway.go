// Package gateway is the control plane's end of the tunnels: where data planes
// join, dial in, and are reached.
//
// It decides nothing about runs. What is to be told to a data plane is in the
// store's outbox, what a data plane tells goes into the store, and the calls of
// its tasks go to the API, with a caller in their context. It never reads what
// clients say to a data plane: the relay passes their TLS sessions on.
//
// Start with New and Run. Then, by file:
//
//	listener.go   one port: who joins, who renews, who has a tunnel
//	authority.go  the CA in force, and its rotation
//	enrolment.go  EnrolmentService: a token or a certificate for a certificate
//	cluster.go    the sessions of one data plane; revocation
//	calls.go      calls that come up a tunnel: who may call what
//	link.go       LinkService: heartbeat, configuration, states, signatures
//	delivery.go   the outbox of one data plane, delivered in order
//	relay.go      the port of one data plane, for its clients' own sessions
//	peers.go      other processes of the same database: who holds which tunnel
//	forward.go    Transport: calls to a data plane, by a tunnel of ours or a peer's
//	metrics.go    what can be counted
package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/netutil"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/controlplane/internal/uploads"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/tunnel"
)

// drainLimit is how long sessions may take to end when the gateway does. A
// client's idle TLS session in the relay ends with it.
const drainLimit = 5 * time.Second

// maxConnections, whoever holds them: strangers must not use up the files that
// clients and the database need.
const maxConnections = 4096

// Store is what the gateway asks of the store.
type Store interface {
	Watch(store.Topic) (woken <-chan struct{}, stop func())
	Organizations(context.Context) ([]string, error)

	ListClusters(ctx context.Context, organization string, q store.Query) ([]store.Cluster, string, error)
	GetCluster(ctx context.Context, organization, name string) (store.Cluster, error)
	SetRelayPort(ctx context.Context, organization, cluster string, port uint16) error
	Heartbeat(ctx context.Context, organization, cluster string, report *tunnelv1.HeartbeatRequest) error

	Join(ctx context.Context, token store.JoinToken, sign func(store.Cluster) (store.Certificate, error)) (store.Cluster, error)
	RecordCertificate(ctx context.Context, organization, cluster, inForce string, renewed store.Certificate) error
	CheckCertificate(ctx context.Context, organization, cluster, serial string) error
	RecordDial(ctx context.Context, organization, cluster, serial string) error

	Hold(ctx context.Context, organization, process, endpoint string, clusters []string, lease time.Duration) error
	Holders(ctx context.Context, organization string) ([]store.Holder, error)

	GetConfig(ctx context.Context, organization, cluster string) (*tunnelv1.Config, error)
	SetProxyNames(ctx context.Context, organization, cluster string, names []string) error
	GetProject(ctx context.Context, organization, id string) (store.Project, error)

	GetPosition(ctx context.Context, organization, cluster string) (epoch string, position uint64, err error)
	ApplyStates(ctx context.Context, organization, cluster, epoch string, states []*tunnelv1.ActionState, position uint64) (store.Applied, error)
	PutTaskSpecs(ctx context.Context, organization string, specs []*task.TaskSpec) error

	Next(ctx context.Context, organization, cluster string, n int) (due []store.Handover, wake time.Time, err error)
	Acknowledge(ctx context.Context, organization, cluster string, id uint64) error
	Fail(ctx context.Context, organization, cluster string, id uint64, retry time.Time) error
	Reject(ctx context.Context, organization, cluster string, id uint64, kind workflow.ErrorInfo_Kind, code string) error
}

// Uploads signs the writing of one object: package uploads does.
type Uploads interface {
	Sign(ctx context.Context, cluster string, plane *tunnelv1.DataPlane, put uploads.Put) (*uploads.Signed, error)
}

// Options are what a gateway needs; all but Metrics must be given.
type Options struct {
	Config  *config.Config
	Store   Store
	API     http.Handler // for calls of task pods and proxies; package caller says who calls
	Uploads Uploads
	Log     *slog.Logger
	Now     func() time.Time
	Metrics prometheus.Registerer
}

// Gateway is one process's end of the tunnels. A data plane that dialled another
// process of the same database is reached through that one, where both have a
// listener for their peers.
type Gateway struct {
	Options
	authority *authority
	listener  net.Listener
	peers     *peers // nil: it stands alone
	limits    limits
	metrics   *metrics

	running  sync.WaitGroup  // what goes on beside the listener
	life     context.Context // of all that, longer than Run's context: it is drained
	end      context.CancelFunc
	mu       sync.Mutex
	clusters map[tunnel.Identity]*cluster
	ending   bool
}

// New opens the CA, or makes it, and the listener: what is wrong with either is
// known before anything is served.
func New(ctx context.Context, options Options) (*Gateway, error) {
	process := rand.Text()
	authority, err := openAuthority(options.Config.Folder, options.Config.Gateway.Names, process, options.Now)
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", options.Config.Gateway.Listen)
	if err != nil {
		return nil, unavailable("gateway.listen", options.Config.Gateway.Listen, err)
	}
	g := &Gateway{
		Options:   options,
		authority: authority,
		listener:  listener,
		limits:    newLimits(),
		metrics:   newMetrics(options.Metrics),
		clusters:  map[tunnel.Identity]*cluster{},
	}
	if options.Config.Peers.Listen != "" {
		if g.peers, err = newPeers(ctx, g, process); err != nil {
			listener.Close()
			return nil, err
		}
	}
	if options.Metrics != nil {
		options.Metrics.MustRegister(newTunnels(g))
	}
	g.life, g.end = context.WithCancel(context.WithoutCancel(ctx))
	return g, nil
}

func unavailable(key, address string, cause error) error {
	return usererr.New(usererr.Unavailable, "%s %s cannot be listened on: %v", key, address, cause).
		WithHint("choose another %s, or stop what listens there", key).Because(cause)
}

// Run serves data planes until ctx ends, and then lets what is under way finish
// for a moment.
func (g *Gateway) Run(ctx context.Context) error {
	server := g.server()
	served := make(chan error, 1)
	go func() { served <- server.ServeTLS(netutil.LimitListener(g.listener, maxConnections), "", "") }()
	g.Log.Info("listening for data planes", "address", g.listener.Addr().String(), "ca", g.CAFingerprint())
	g.running.Go(func() { g.recall(ctx) })
	g.running.Go(func() { g.followAuthority(ctx) })
	if g.peers != nil {
		g.peers.start(ctx)
	}

	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		err = fmt.Errorf("serving data planes: %w", err)
	}
	g.drain(server)
	if err == nil {
		if ended := <-served; !errors.Is(ended, http.ErrServerClosed) {
			err = fmt.Errorf("serving data planes: %w", ended)
		}
	}
	return err
}

// recall takes up every data plane that has joined before, so that its port is
// listened on again at once.
func (g *Gateway) recall(ctx context.Context) {
	for wait := time.Second; ; wait = min(2*wait, 30*time.Second) {
		err := g.recallAll(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		g.Log.Error("cannot list data planes", "error", err)
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
	}
}

func (g *Gateway) recallAll(ctx context.Context) error {
	organizations, err := g.Store.Organizations(ctx)
	if err != nil {
		return err
	}
	for _, organization := range organizations {
		for query := (store.Query{Limit: 100}); ; {
			page, next, err := g.Store.ListClusters(ctx, organization, query)
			if err != nil {
				return err
			}
			for _, known := range page {
				if !known.JoinedAt.IsZero() {
					g.cluster(tunnel.Identity{Organization: organization, Cluster: known.Name})
				}
			}
			if query.Token = next; next == "" {
				break
			}
		}
	}
	return nil
}

// drain ends sessions softly, then everything.
func (g *Gateway) drain(server *http.Server) {
	g.mu.Lock()
	g.ending = true
	var sessions []*tunnel.Session
	for _, c := range g.clusters {
		for _, h := range c.all() {
			sessions = append(sessions, h.Session)
		}
	}
	g.mu.Unlock()
	limit, cancel := context.WithTimeout(g.life, drainLimit)
	defer cancel()
	var draining sync.WaitGroup
	if g.peers != nil {
		draining.Go(func() { g.peers.drain(limit) })
	}
	for _, session := range sessions {
		draining.Go(func() { session.Drain(limit) })
	}
	draining.Go(func() {
		if server.Shutdown(limit) != nil {
			server.Close()
		}
	})
	draining.Wait()
	g.end()
	g.running.Wait()
}

// Addr is where data planes dial.
func (g *Gateway) Addr() net.Addr { return g.listener.Addr() }

// CABundle is the certificates in PEM by which a data plane knows this gateway.
func (g *Gateway) CABundle() []byte { return g.authority.ca.Load().Bundle() }

// CAFingerprint is what a join token says of it.
func (g *Gateway) CAFingerprint() string {
	return tunnel.Fingerprint(g.authority.ca.Load().Certificate())
}

// Connected says whether a data plane can be reached from here now.
func (g *Gateway) Connected(organization, cluster string) bool {
	identity := tunnel.Identity{Organization: organization, Cluster: cluster}
	return g.holds(identity) != nil || len(g.peers.holders(identity)) > 0
}

// holds is the session of a data plane that dialled this process, nil without one.
func (g *Gateway) holds(identity tunnel.Identity) *tunnel.Session {
	if c := g.known(identity); c != nil {
		return c.newest()
	}
	return nil
}

// Transport carries calls to the processes of a data plane: a URL's host is
// executor or proxy, its scheme http. Without a tunnel, here or at a peer, every
// call is answered UNAVAILABLE, a *connect.Error.
func (g *Gateway) Transport(organization, cluster string) http.RoundTripper {
	return &transport{gateway: g, identity: tunnel.Identity{Organization: organization, Cluster: cluster}}
}
