package actions_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crlog "sigs.k8s.io/controller-runtime/pkg/log"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/actions"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/clustertest"
	"biplane.dev/biplane/dataplane/internal/serve"
)

var cluster *clustertest.Cluster

func TestMain(m *testing.M) {
	crlog.SetLogger(logr.Discard())
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { cluster = c; return m.Run() }))
}

// deadline of whatever is waited for; nothing takes a tenth of it.
const deadline = time.Minute

// world is a server on a workspace of its own. The test is the operator and the
// reconciler.
type world struct {
	t         *testing.T
	home      string // the namespace of the data plane's own processes
	namespace string
	project   string
	domain    string
	operator  actionsconnect.ActionsServiceClient
	address   string
	stop      func() // returns once the server has drained
}

const organization = "acme"

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, project: "p"}
	w.namespace = cluster.Namespace(t, w.project)
	w.domain = w.namespace[len(w.project)+1:]
	w.home = cluster.Namespace(t, "home")
	cluster.Account(t, w.home, "operator-system")
	cluster.Account(t, w.namespace, "default")
	w.create(&v1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: w.namespace},
		Spec:       v1alpha1.WorkspaceSpec{Organization: organization, Project: w.project, Domain: w.domain},
	})
	w.serve()
	w.operator = w.client(cluster.Token(t, w.home, "operator-system", v1alpha1.TokenAudience, nil))
	return w
}

// in is the same world, whose failures are a part's of the test.
func (w *world) in(t *testing.T) *world {
	part := *w
	part.t = t
	return &part
}

func (w *world) serve() {
	t := w.t
	ctx, cancel := context.WithCancel(context.Background())
	log := slog.New(slog.NewTextHandler(t.Output(), nil))
	reads, err := cache.New(cluster.Config, cache.Options{Scheme: cluster.Client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	server, err := actions.New(ctx, actions.Options{
		Client: cluster.Client, Cache: reads, Namespace: w.home, Metrics: prometheus.NewRegistry(), Log: log,
	})
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := reads.Start(ctx); err != nil {
			t.Errorf("the cache: %v", err)
		}
	})
	if !reads.WaitForCacheSync(ctx) {
		t.Fatal("got no cache")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.address = listener.Addr().String()
	mux := http.NewServeMux()
	mux.Handle(server.Handler())
	serving, drain := context.WithCancel(ctx)
	running.Go(func() {
		err := serve.Serve(serving, serve.Options{
			Listener: listener, Certificates: shown(), Handler: authn.New(cluster.Client).Wrap(mux), Log: log,
		})
		if err != nil {
			t.Errorf("the server: %v", err)
		}
		cancel()
	})
	w.stop = func() { drain(); running.Wait() }
	t.Cleanup(w.stop)
}

// shown is a certificate that httptest's clients trust.
func shown() certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return certificate(s.TLS.Certificates[0])
}

type certificate tls.Certificate

func (c certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return (*tls.Certificate)(&c), nil
}
func (certificate) Ready() error { return nil }

// client is one with a connection of its own.
func (w *world) client(token string, options ...connect.ClientOption) actionsconnect.ActionsServiceClient {
	return w.clientWith(&http.HTTP2Config{}, token, options...)
}

func (w *world) clientWith(config *http.HTTP2Config, token string, options ...connect.ClientOption) actionsconnect.ActionsServiceClient {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	transport := s.Client().Transport.(*http.Transport).Clone()
	transport.ForceAttemptHTTP2, transport.HTTP2 = true, config
	w.t.Cleanup(transport.CloseIdleConnections)
	return actionsconnect.NewActionsServiceClient(&http.Client{Transport: bearer{token, transport}}, "https://"+w.address, options...)
}

type bearer struct {
	token string
	http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if b.token != "" {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.RoundTripper.RoundTrip(r)
}

func (w *world) create(object client.Object) {
	w.t.Helper()
	if err := cluster.Client.Create(w.t.Context(), object); err != nil {
		w.t.Fatal(err)
	}
}

// id of an action of this workspace.
func (w *world) id(run, action string) *common.ActionIdentifier {
	return &common.ActionIdentifier{
		Run:  &common.RunIdentifier{Org: organization, Project: w.project, Domain: w.domain, Name: run},
		Name: action,
	}
}

func (w *world) base(run string) string {
	return "s3://metadata/" + w.project + "/" + w.domain + "/" + run
}

// taskAction is what the SDK sends of a task.
func (w *world) taskAction(run, parent, action string) *flyteactions.Action {
	a := &flyteactions.Action{
		ActionId: w.id(run, action), InputUri: w.base(run) + "/" + action + "/inputs.pb", RunOutputBase: w.base(run), Group: "batch",
		Spec: &flyteactions.Action_Task{Task: &workflow.TaskAction{
			Id:       &task.TaskIdentifier{Name: "env.main", Version: "v1"},
			Spec:     taskSpec("env.main"),
			CacheKey: wrapperspb.String("key"),
			Queue:    "fast",
		}},
	}
	if parent != "" {
		a.ParentActionName = proto.String(parent)
	}
	return a
}

func taskSpec(name string) *task.TaskSpec {
	return &task.TaskSpec{
		ShortName: "main", Environment: &task.Environment{Name: "env"},
		TaskTemplate: &core.TaskTemplate{
			Type: "python", Id: &core.Identifier{ResourceType: core.ResourceType_TASK, Name: name, Version: "v1"},
			Target: &core.TaskTemplate_Container{Container: &core.Container{Image: "image", Args: []string{"a0", "--inputs", "{{.input}}"}}},
		},
	}
}

// run enqueues the root of a run, as the operator does.
func (w *world) run(run string, spec *task.RunSpec) {
	w.t.Helper()
	if spec == nil {
		spec = &task.RunSpec{}
	}
	if _, err := w.operator.Enqueue(w.t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction(run, "", "a0"), RunSpec: spec}); err != nil {
		w.t.Fatal(err)
	}
}

// child enqueues one as the operator, who may everything.
func (w *world) child(run, parent, action string) {
	w.t.Helper()
	if _, err := w.operator.Enqueue(w.t.Context(), &flyteactions.EnqueueRequest{Action: w.taskAction(run, parent, action)}); err != nil {
		w.t.Fatal(err)
	}
}

// get reads an action from the API server.
func (w *world) get(run, action string) *v1alpha1.TaskAction {
	w.t.Helper()
	a := &v1alpha1.TaskAction{}
	if err := cluster.Client.Get(w.t.Context(), types.NamespacedName{Namespace: w.namespace, Name: run + "-" + action}, a); err != nil {
		w.t.Fatal(err)
	}
	return a
}

// status writes one as the reconciler does.
func (w *world) status(run, action string, change func(*v1alpha1.TaskActionStatus)) {
	w.t.Helper()
	a := w.get(run, action)
	change(&a.Status)
	a.Status.Version++
	if err := cluster.Client.Status().Update(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) phase(run, action string, phase v1alpha1.Phase) {
	w.t.Helper()
	w.status(run, action, func(s *v1alpha1.TaskActionStatus) { s.Phase = phase })
}

// pod makes the pod of an attempt, and with known also the status that names it.
// Returned is a client with the token that the kubelet would mount.
func (w *world) pod(run, action string, attempt int, known bool) actionsconnect.ActionsServiceClient {
	w.t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: w.namespace, Name: run + "-" + action + "-" + strconv.Itoa(attempt),
			Labels: map[string]string{
				v1alpha1.LabelRun: run, v1alpha1.LabelAction: action, v1alpha1.LabelAttempt: strconv.Itoa(attempt), v1alpha1.LabelManaged: "true",
			},
		},
		Spec: corev1.PodSpec{ServiceAccountName: "default", Containers: []corev1.Container{{Name: "main", Image: "image"}}},
	}
	w.create(pod)
	if known {
		w.status(run, action, func(s *v1alpha1.TaskActionStatus) {
			s.Phase = v1alpha1.Running
			s.Attempts = append(s.Attempts, v1alpha1.Attempt{Number: int32(attempt), Phase: v1alpha1.Running, Pod: pod.Name, PodUID: string(pod.UID)})
		})
	}
	return w.client(cluster.Token(w.t, w.namespace, "default", v1alpha1.TokenAudience, pod))
}

// wantCode checks how a call ended; 0 is well.
func wantCode(t *testing.T, err error, want connect.Code) {
	t.Helper()
	if want == 0 {
		if err != nil {
			t.Errorf("got %v, want it done", err)
		}
		return
	}
	if got := connect.CodeOf(err); err == nil || got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}
