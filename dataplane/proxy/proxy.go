// Package proxy gives clients the bytes that never leave a data plane but to
// them: inputs and outputs, logs, reports, and the texts of errors. It is one of
// the four processes of a data plane, and may only read the metadata bucket: what
// it writes, a run's inputs, it writes through a URL that flyteadmin signed.
//
// It starts nothing and decides nothing about runs, which the executor does, and
// it keeps nothing: what it answers it reads when asked, from the cluster and the
// bucket, and from the control plane where both have forgotten it.
//
// Start with Run. There are two doors to the same calls. By one come the processes
// and tasks of this cluster, with the token of a service account. By the other
// come clients, whose own TLS sessions the relay passes on as they are:
//
//	doors.go     the doors
//	caller.go    who may have what
//	upload.go    UploadInputs
//	data.go      GetActionData
//	download.go  CreateDownloadLink
//	tail.go      TailLogs
//	texts.go     GetActionTexts, which the control plane calls
package proxy

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	corev1client "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/biplane/dataplane/v1/dataplanev1connect"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/task/taskconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/kube"
	"biplane.dev/biplane/dataplane/internal/peer"
	"biplane.dev/biplane/dataplane/internal/serve"
	"biplane.dev/biplane/dataplane/proxy/internal/bucket"
)

// Run serves both doors until the context ends and calls have finished.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	cluster, err := kube.Config("proxy")
	if err != nil {
		return err
	}
	certificates, err := serve.Folder(clientTLSFolder)
	if err != nil {
		return err
	}
	return run(ctx, parts{
		config:       cfg,
		cluster:      cluster,
		bucket:       bucket.New(cfg.Storage, os.Getenv),
		controlPlane: peer.NewTransport(peer.Options{}),
		certificates: certificates,
		listen:       serve.Options{Listen: cfg.Proxy.Listen},
		log:          log,
	})
}

// parts are what Run finds in a pod, and a test makes.
type parts struct {
	config       *config.Config
	cluster      *rest.Config
	bucket       *bucket.Bucket
	controlPlane http.RoundTripper  // to the operator's endpoint
	certificates serve.Certificates // that clients see
	listen       serve.Options      // where, and with which certificate
	log          *slog.Logger
}

func run(ctx context.Context, p parts) error {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	metrics := newMetrics(registry)

	service, err := newService(p, metrics)
	if err != nil {
		return err
	}
	authenticator := authn.New(service.cluster)
	operator := p.config.Namespace + "/" + operatorAccount
	clients := newClientDoor(crossOrigin(service.forClients(), p.config.Proxy.Origins), p.certificates, operator, metrics, p.log)

	inCluster := http.NewServeMux()
	inCluster.Handle("/", service.forCluster())
	inCluster.Handle(rawPath, clients)

	options := p.listen
	options.Handler = authenticator.Wrap(inCluster)
	options.Metrics, options.Authenticator = registry, authenticator
	options.MaxBody, options.Log = maxRequest, p.log
	options.Ready = p.certificates.Ready // without it no client trusts us

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve.Serve(ctx, options) })
	group.Go(func() error { return clients.run(ctx) })
	return group.Wait()
}

// service answers the calls.
type service struct {
	namespace   string // of the data plane's own processes
	clusterName string
	storage     config.Storage
	cluster     client.WithWatch
	pods        corev1client.PodsGetter // for their logs
	bucket      *bucket.Bucket
	uploader    *http.Client // to the bucket, with what others signed

	// All three are the control plane's, reached through the operator.
	tasks taskconnect.TaskServiceClient
	runs  workflowconnect.RunServiceClient
	link  tunnelv1connect.LinkServiceClient

	tails   chan struct{} // one for each log that is followed
	budget  budget
	now     func() time.Time
	metrics *metrics
	log     *slog.Logger
}

func newService(p parts, m *metrics) (*service, error) {
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, err
	}
	// The API server shares itself out; a client's own limit would make one
	// caller wait for another.
	objects := rest.CopyConfig(p.cluster)
	objects.QPS = -1
	cluster, err := client.NewWithWatch(objects, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	// By HTTP/1.1 each log has a connection of its own, and a reader who is slow
	// stalls that and nothing else.
	streams := rest.CopyConfig(objects)
	streams.NextProtos = []string{"http/1.1"}
	pods, err := corev1client.NewForConfig(streams)
	if err != nil {
		return nil, fmt.Errorf("connecting to the cluster: %w", err)
	}
	controlPlane, at := &http.Client{Transport: p.controlPlane}, "https://"+p.config.Operator.Endpoint
	return &service{
		namespace: p.config.Namespace, clusterName: p.config.ControlPlane.Cluster, storage: p.config.Storage,
		cluster: cluster, pods: pods, bucket: p.bucket,
		uploader: &http.Client{
			Transport: http.DefaultTransport.(*http.Transport).Clone(),
			// What is signed is signed for one place.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		tasks:   taskconnect.NewTaskServiceClient(controlPlane, at),
		runs:    workflowconnect.NewRunServiceClient(controlPlane, at),
		link:    tunnelv1connect.NewLinkServiceClient(controlPlane, at),
		tails:   make(chan struct{}, maxTails),
		budget:  newBudget(),
		now:     time.Now,
		metrics: m, log: p.log,
	}, nil
}

// forClients is what clients may call.
func (s *service) forClients() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(dataproxyconnect.NewDataProxyServiceHandler(s, s.options()...))
	return s.budget.wrap(mux)
}

// forCluster is that, and what the control plane may call.
func (s *service) forCluster() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", s.forClients())
	path, texts := dataplanev1connect.NewActionTextServiceHandler(s, s.options()...)
	mux.Handle(path, authn.Only(texts, s.namespace+"/"+operatorAccount))
	return mux
}

func (s *service) options() []connect.HandlerOption {
	return []connect.HandlerOption{
		connect.WithReadMaxBytes(maxRequest),
		connect.WithCompressMinBytes(4 << 10),
		connect.WithInterceptors(serve.Interceptor(), translator{s.log, s.metrics}),
	}
}
