// Package executor runs actions: it takes them from who enqueues them, makes pods
// of them, says what became of those, and tells the control plane.
//
// The objects in the cluster are all that it remembers. Whoever enqueues writes a
// TaskAction; the reconciler alone writes its status; from that status parents and
// the control plane are told. So each of the parts can be killed at any time, and
// finds in the objects where it was.
//
// Start with Run.
package executor

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"reflect"
	"sync/atomic"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor/internal/actions"
	"biplane.dev/biplane/dataplane/executor/internal/bucket"
	"biplane.dev/biplane/dataplane/executor/internal/podevents"
	"biplane.dev/biplane/dataplane/executor/internal/podlogs"
	"biplane.dev/biplane/dataplane/executor/internal/prune"
	"biplane.dev/biplane/dataplane/executor/internal/report"
	"biplane.dev/biplane/dataplane/executor/internal/taskaction"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/kube"
	"biplane.dev/biplane/dataplane/internal/peer"
	"biplane.dev/biplane/dataplane/internal/serve"
)

// Run is the process: it returns when the context has ended and what it had begun is
// done.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	cluster, err := kube.Config("executor")
	if err != nil {
		return err
	}
	clientset, err := kubernetes.NewForConfig(cluster)
	if err != nil {
		return fmt.Errorf("making the client of kinds: %w", err)
	}
	if err := checkKinds(clientset.Discovery(), v1alpha1.GroupVersion); err != nil {
		return err
	}
	if err := checkFields(clientset.Discovery(), v1alpha1.GroupVersion, "TaskAction", reflect.TypeFor[v1alpha1.TaskAction]()); err != nil {
		return err
	}
	p, err := newParts(cfg, cluster, log)
	if err != nil {
		return err
	}
	for _, add := range []func(context.Context) error{
		p.serveActions,     // takes actions, and tells parents of their children
		p.reconcileActions, // makes pods of them, and says what became of those
		p.keepLogs,         // of pods that have ended
		p.reportStates,     // to the control plane
		p.removeOld,        // what is finished, told, and old
	} {
		if err := add(ctx); err != nil {
			return err
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return p.manager.Start(ctx) })
	group.Go(func() error { return serve.Serve(ctx, p.server) })
	return group.Wait()
}

// parts are what the pieces of the executor share.
type parts struct {
	cfg     *config.Config
	log     *slog.Logger
	cluster *rest.Config
	manager manager.Manager  // caches, leader election, and the loops that only the leader runs
	live    client.WithWatch // the API server itself
	store   *bucket.Store
	metrics *prometheus.Registry
	server  serve.Options
	synced  atomic.Bool
	told    func() uint64 // up to where the control plane has recorded what we told
}

func newParts(cfg *config.Config, cluster *rest.Config, log *slog.Logger) (*parts, error) {
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, fmt.Errorf("making the scheme: %w", err)
	}
	lock, err := leaderLock(cluster, cfg.Namespace)
	if err != nil {
		return nil, fmt.Errorf("making the lock of the leader: %w", err)
	}
	m, err := ctrl.NewManager(cluster, ctrl.Options{
		Scheme: scheme,
		Logger: logr.FromSlogHandler(log.Handler()),
		Cache: cache.Options{
			DefaultTransform: cache.TransformStripManagedFields(),
			ByObject: map[client.Object]cache.ByObject{
				&corev1.Pod{}: {Label: labels.SelectorFromSet(labels.Set{v1alpha1.LabelManaged: "true"})},
			},
		},
		Metrics:                             metricsserver.Options{BindAddress: "0"}, // ours are served with everything else
		LeaderElection:                      true,
		LeaderElectionID:                    leaseName,
		LeaderElectionNamespace:             cfg.Namespace,
		LeaderElectionReleaseOnCancel:       true,
		LeaderElectionResourceLockInterface: lock,
	})
	if err != nil {
		return nil, fmt.Errorf("making the manager: %w", err)
	}
	live, err := client.NewWithWatch(cluster, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("making the client: %w", err)
	}
	return &parts{
		cfg: cfg, log: log, cluster: cluster, manager: m, live: live,
		store: bucket.New(cfg.Storage, os.Getenv), metrics: prometheus.NewRegistry(),
	}, nil
}

const leaseName = "biplane-executor"

// leaderLock is held by the pod rather than by the process: a container that was
// killed and is started again in its pod goes on at once, where a new identity would
// wait until the old one's lease has expired. Outside of a pod there is nothing that
// keeps two processes of one name apart, so there the manager's own lock is taken.
func leaderLock(cluster *rest.Config, namespace string) (resourcelock.Interface, error) {
	pod, err := os.Hostname()
	if _, inPod := os.LookupEnv("KUBERNETES_SERVICE_HOST"); !inPod || err != nil {
		return nil, err
	}
	clientset, err := kubernetes.NewForConfig(cluster)
	if err != nil {
		return nil, err
	}
	return resourcelock.New(resourcelock.LeasesResourceLock, namespace, leaseName, clientset.CoreV1(), clientset.CoordinationV1(),
		resourcelock.ResourceLockConfig{Identity: pod})
}

func (p *parts) serveActions(ctx context.Context) error {
	server, err := actions.New(ctx, actions.Options{
		Client: p.live, Cache: p.manager.GetCache(), Namespace: p.cfg.Namespace, Metrics: p.metrics, Log: p.log,
	})
	if err != nil {
		return fmt.Errorf("making the ActionsService: %w", err)
	}
	authenticator := authn.New(p.live)
	mux := http.NewServeMux()
	path, handler := server.Handler()
	mux.Handle(path, authenticator.Wrap(handler))
	authenticator.Exchange(mux, p.cfg.Executor.Endpoint, connect.WithInterceptors(serve.Interceptor()))
	p.server = serve.Options{
		Listen: p.cfg.Executor.Listen, Handler: mux, Ready: p.ready, Log: p.log,
		Metrics: prometheus.Gatherers{p.metrics, ctrlmetrics.Registry}, Authenticator: authenticator,
	}
	return p.manager.Add(always(func(ctx context.Context) error {
		p.synced.Store(p.manager.GetCache().WaitForCacheSync(ctx))
		return nil
	}))
}

func (p *parts) ready() error {
	if !p.synced.Load() {
		return fmt.Errorf("it has not read the cluster's actions yet")
	}
	return nil
}

func (p *parts) reconcileActions(ctx context.Context) error {
	metrics, err := taskaction.NewMetrics(p.metrics)
	if err != nil {
		return fmt.Errorf("registering metrics: %w", err)
	}
	clientset, err := kubernetes.NewForConfig(p.cluster)
	if err != nil {
		return fmt.Errorf("making the client of events: %w", err)
	}
	events := &podevents.Memory{Ours: taskaction.IsPodOf(p.manager.GetClient())}
	err = p.manager.Add(manager.RunnableFunc(func(ctx context.Context) error {
		events.Follow(ctx, clientset.CoreV1().RESTClient())
		return nil
	}))
	if err != nil {
		return fmt.Errorf("following the events of pods: %w", err)
	}
	return taskaction.New(taskaction.Options{
		Client: p.manager.GetClient(), Live: p.manager.GetAPIReader(), Events: p.manager.GetEventRecorderFor("biplane-executor"), PodEvents: events,
		Store: p.store, Config: p.cfg, Recorded: p.recorded, Now: time.Now, Metrics: metrics, Log: p.log,
	}).Register(ctx, p.manager)
}

func (p *parts) keepLogs(context.Context) error {
	clientset, err := kubernetes.NewForConfig(p.cluster)
	if err != nil {
		return fmt.Errorf("making the client of logs: %w", err)
	}
	return (&podlogs.Reconciler{
		Client: p.manager.GetClient(), Logs: clientset, Store: p.store, Bucket: p.cfg.Storage.MetadataBucket, Now: time.Now, Log: p.log,
	}).Register(p.manager)
}

func (p *parts) reportStates(context.Context) error {
	link := tunnelv1connect.NewLinkServiceClient(&http.Client{Transport: peer.NewTransport(peer.Options{})}, "https://"+p.cfg.Operator.Endpoint)
	reporter, err := report.New(report.Options{
		Client: p.live, Link: link, Cluster: p.cfg.ControlPlane.Cluster, Metrics: p.metrics, Log: p.log,
	})
	if err != nil {
		return fmt.Errorf("making the reporter: %w", err)
	}
	p.told = reporter.Acknowledged
	return p.manager.Add(manager.RunnableFunc(reporter.Run))
}

func (p *parts) recorded(resourceVersion string) bool {
	return prune.Recorded(resourceVersion, p.told())
}

func (p *parts) removeOld(context.Context) error {
	return p.manager.Add(manager.RunnableFunc((&prune.Pruner{
		Client: p.manager.GetClient(), Live: p.live, Store: p.store, Config: p.cfg, Recorded: p.recorded, Now: time.Now, Log: p.log,
	}).Run))
}

// always is what the others than the leader do, too.
type always func(context.Context) error

// Start implements manager.Runnable.
func (f always) Start(ctx context.Context) error { return f(ctx) }

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (always) NeedLeaderElection() bool { return false }
