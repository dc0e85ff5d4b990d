package operator

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster/clusterconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/clustertest/rights"
	"biplane.dev/biplane/dataplane/internal/serve"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/tunnel"
)

// plane is a data plane: an operator, and small processes in the places of the
// others, in a namespace of their own.
type plane struct {
	t         *testing.T
	gateway   *gateway
	namespace string
	config    *config.Config
	token     string // file of the operator's own token
	executor  *executor
}

func newPlane(t *testing.T) *plane {
	t.Helper()
	p := &plane{t: t, gateway: newGateway(t), namespace: apiServer.Namespace(t, "union"), token: filepath.Join(t.TempDir(), "token"), executor: newExecutor()}
	for _, account := range []string{"operator-system", "executor", "proxy-system", "clustersync-system"} {
		apiServer.Account(t, p.namespace, account)
	}
	if err := rights.Grant(t.Context(), apiServer, p.namespace, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p.token, []byte(apiServer.Token(t, p.namespace, "operator-system", v1alpha1.TokenAudience, nil)), 0o600); err != nil {
		t.Fatal(err)
	}
	p.gateway.api = http.HandlerFunc(echo)
	p.config = &config.Config{
		Namespace:    p.namespace,
		ControlPlane: config.ControlPlane{Gateway: p.gateway.address, Cluster: "c1"},
		Storage:      config.Storage{Region: "us-east-2", MetadataBucket: "meta", FastRegistrationBucket: "fast", ClientEndpoint: "https://s3.example", UploadRoleARN: "arn:aws:iam::1:role/adminflyterole"},
		Operator:     config.Process{Endpoint: "127.0.0.1:1"},
	}
	mux := http.NewServeMux()
	mux.Handle(actionsconnect.NewActionsServiceHandler(p.executor, connect.WithInterceptors(serve.Interceptor())))
	mux.HandleFunc("/", echo)
	p.config.Executor.Endpoint = p.process("executor", mux)
	p.config.Proxy.Endpoint = p.process("proxy", http.HandlerFunc(raw))
	p.config.Clustersync.Endpoint = "127.0.0.1:1" // nobody is there
	return p
}

// process serves as one of ours does, with the certificate that the operator makes:
// a goroutine brings it from the Secret, in the kubelet's place.
func (p *plane) process(name string, handler http.Handler) string {
	t := p.t
	t.Helper()
	folder := t.TempDir()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	group.Go(func() {
		secret := &corev1.Secret{}
		for apiServer.Client.Get(ctx, client.ObjectKey{Namespace: p.namespace, Name: name + "-tls"}, secret) != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
		for _, file := range []string{"tls.key", "tls.crt"} {
			if err := os.WriteFile(filepath.Join(folder, file), secret.Data[file], 0o600); err != nil {
				t.Error(err)
			}
		}
	})
	group.Go(func() {
		serve.Serve(ctx, serve.Options{
			Listener: listener, TLSFolder: folder, Log: quiet(),
			Handler: authn.New(apiServer.Client).Wrap(handler),
		})
	})
	t.Cleanup(func() { cancel(); group.Wait() })
	return listener.Addr().String()
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// echo answers with the headers that arrived.
func echo(w http.ResponseWriter, r *http.Request) {
	caller, _ := authn.From(r.Context())
	fmt.Fprintln(w, r.URL.Path, "caller="+caller.Name(), "authorization="+strings.Join(r.Header["Authorization"], ","),
		"account="+strings.Join(r.Header[headerAccount], ","), "project="+strings.Join(r.Header[headerProject], ","), "domain="+strings.Join(r.Header[headerDomain], ","))
}

// raw takes an upgrade over and sends back what comes; else it is echo.
func raw(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Upgrade") != rawProtocol {
		echo(w, r)
		return
	}
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer conn.Close()
	io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+rawProtocol+"\r\n\r\n")
	io.Copy(conn, buffered)
}

// executor has a stream that goes on until it is told, and refuses what it is told.
type executor struct {
	actionsconnect.UnimplementedActionsServiceHandler
	next  chan string
	ended chan struct{}
}

func newExecutor() *executor {
	return &executor{next: make(chan string), ended: make(chan struct{}, 16)}
}

func (e *executor) Abort(context.Context, *actions.AbortRequest) (*actions.AbortResponse, error) {
	err := connect.NewError(connect.CodeFailedPrecondition, errors.New("it has ended"))
	err.Meta().Set("Reason", "ended")
	return nil, err
}

func (e *executor) WatchForUpdates(ctx context.Context, _ *actions.WatchForUpdatesRequest, stream *connect.ServerStream[actions.WatchForUpdatesResponse]) error {
	defer func() { e.ended <- struct{}{} }()
	for {
		select {
		case name := <-e.next:
			if name == "" {
				return connect.NewError(connect.CodeUnavailable, errors.New("the executor is shut down"))
			}
			update := &actions.WatchForUpdatesResponse{Message: &actions.WatchForUpdatesResponse_ActionUpdate{ActionUpdate: &workflow.ActionUpdate{OutputUri: name}}}
			if err := stream.Send(update); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// running is an operator of a plane.
type running struct {
	*Operator
	url  string
	stop func() // and wait
}

// start runs another operator of the plane; each has a port of its own.
func (p *plane) start(identity string) *running {
	t := p.t
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	cfg := *p.config
	cfg.Operator.Endpoint = listener.Addr().String()
	o, err := New(Options{
		Config: &cfg, Kubernetes: rights.Of(apiServer, p.namespace, operatorAccount), Log: quiet(), Identity: identity,
		TokenFile: p.token, JoinTokenFile: filepath.Join(t.TempDir(), "join"), Listener: listener,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- o.Run(ctx) }()
	r := &running{Operator: o, url: "https://" + listener.Addr().String(), stop: sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("got %v from the operator, want nil", usererr.Chain(err))
			}
		case <-time.After(patience):
			t.Error("got no end of the operator, want one")
		}
	})}
	t.Cleanup(r.stop)
	return r
}

// until waits for what must come to be.
func until(t *testing.T, what string, is func() error) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := is()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %v after %s, want %s", err, patience, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// caller calls the operator's endpoint with a token.
func (p *plane) caller(token string) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: p.bundle()}, ForceAttemptHTTP2: true}
	p.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: bearer{token, transport}, Timeout: patience}
}

type bearer struct {
	token string
	base  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if b.token != "" {
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	r.Header.Set(headerAccount, "union/operator-system") // forged
	r.Header.Set(headerProject, "somebody-elses")
	return b.base.RoundTrip(r)
}

// bundle is the data plane's CA, as clustersync finds it.
func (p *plane) bundle() *x509.CertPool {
	p.t.Helper()
	object := &corev1.ConfigMap{}
	until(p.t, "the ConfigMap with the CA", func() error {
		return apiServer.Client.Get(context.Background(), client.ObjectKey{Namespace: p.namespace, Name: "biplane-ca"}, object)
	})
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(object.Data["ca.crt"]))
	return roots
}

// task is a pod of a workspace, and its token.
func (p *plane) task(namespace string) string {
	p.t.Helper()
	apiServer.Account(p.t, namespace, "task")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "a0"},
		Spec:       corev1.PodSpec{ServiceAccountName: "task", Containers: []corev1.Container{{Name: "main", Image: "host.example/true"}}},
	}
	if err := apiServer.Client.Create(p.t.Context(), pod); err != nil {
		p.t.Fatal(err)
	}
	return apiServer.Token(p.t, namespace, "task", v1alpha1.TokenAudience, pod)
}

func post(t *testing.T, c *http.Client, url string) (int, string) {
	t.Helper()
	response, err := c.Post(url, "application/proto", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// TestOperator is the life of one data plane. It is not parallel: a configuration is
// all the workspaces that a cluster has.
func TestOperator(t *testing.T) {
	p := newPlane(t)
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}}
	if err := apiServer.Client.Create(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	node.Status = corev1.NodeStatus{
		Conditions:  []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}},
		Allocatable: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("3500m"), corev1.ResourceMemory: resource.MustParse("8Gi"), corev1.ResourcePods: resource.MustParse("110")},
	}
	if err := apiServer.Client.Status().Update(t.Context(), node); err != nil {
		t.Fatal(err)
	}
	first := p.start("first")

	until(t, "waiting for a token", func() error {
		if err := first.Ready(); err == nil || !strings.Contains(err.Error(), "waiting for a join token") {
			return fmt.Errorf("%v", err)
		}
		return nil
	})
	putToken(t, p.namespace, p.gateway.token)
	session := p.gateway.next(t)

	t.Run("tells the control plane how it is", func(t *testing.T) {
		beat := p.gateway.heartbeat(t, func(beat *tunnelv1.HeartbeatRequest) bool {
			return slices.ContainsFunc(beat.GetPeers(), func(peer *clusterv1.Peer) bool { return peer.GetName() == "executor" && peer.GetReady() }) &&
				beat.GetCapacity().GetNodes() > 0 && beat.GetRoundTrip().AsDuration() > 0
		})
		if got := beat.GetCapacity(); got.GetMilliCpu() != 3500 || got.GetMemoryBytes() != 8<<30 || got.GetPods() != 110 || got.GetNodes() != 1 {
			t.Errorf("got %v, want 3500m, 8 GiB and 110 pods of 1 node", got)
		}
		plane := beat.GetDataPlane()
		if plane.GetMetadataBucket() != "meta" || plane.GetS3Endpoint() != "https://s3.example" || plane.GetNamespace() != p.namespace || !strings.Contains(plane.GetProxyCaBundle(), "BEGIN CERTIFICATE") {
			t.Errorf("got %v, want what the configuration and the CA say", plane)
		}
		for _, peer := range beat.GetPeers() {
			if peer.GetName() == "clustersync" && (peer.GetReady() || !strings.Contains(peer.GetMessage(), "does not answer")) {
				t.Errorf("got %v for a process that is not there, want it told", peer)
			}
		}
	})

	t.Run("makes the workspaces that it is told of, and says so", func(t *testing.T) {
		p.gateway.configure(&tunnelv1.Config{Revision: 7, Organization: "acme", Cluster: "c1", ProxyNames: []string{"data.acme.example", "127.0.0.1"}, Workspaces: []*tunnelv1.Workspace{
			{Project: "snacks", Domain: "development"}, {Project: "snacks", Domain: "production", Suspended: true}, {Project: "NO NAME", Domain: "x"},
		}})
		p.gateway.heartbeat(t, func(beat *tunnelv1.HeartbeatRequest) bool { return beat.GetConfigRevision() == 7 })
		wantWorkspaces(t, map[string]v1alpha1.WorkspaceSpec{
			"snacks-development": {Organization: "acme", Project: "snacks", Domain: "development"},
			"snacks-production":  {Organization: "acme", Project: "snacks", Domain: "production", Suspended: true},
		})
		until(t, "the proxy's names in its certificate", func() error {
			secret := &corev1.Secret{}
			if err := apiServer.Client.Get(t.Context(), client.ObjectKey{Namespace: p.namespace, Name: "proxy-client-tls"}, secret); err != nil {
				return err
			}
			pair, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
			if err != nil {
				return err
			}
			return pair.Leaf.VerifyHostname("data.acme.example")
		})
	})

	t.Run("suspends a workspace that is no longer there, and deletes none", func(t *testing.T) {
		p.gateway.configure(&tunnelv1.Config{Revision: 8, Organization: "acme", Cluster: "c1", Workspaces: []*tunnelv1.Workspace{{Project: "snacks", Domain: "production"}}})
		p.gateway.heartbeat(t, func(beat *tunnelv1.HeartbeatRequest) bool { return beat.GetConfigRevision() == 8 })
		wantWorkspaces(t, map[string]v1alpha1.WorkspaceSpec{
			"snacks-development": {Organization: "acme", Project: "snacks", Domain: "development", Suspended: true},
			"snacks-production":  {Organization: "acme", Project: "snacks", Domain: "production"},
		})
	})

	t.Run("does not hand a workspace to another organization", func(t *testing.T) {
		p.gateway.configure(&tunnelv1.Config{Revision: 9, Organization: "rival", Cluster: "c1", Workspaces: []*tunnelv1.Workspace{{Project: "snacks", Domain: "production"}}})
		p.gateway.heartbeat(t, func(beat *tunnelv1.HeartbeatRequest) bool { return beat.GetConfigRevision() == 9 })
		wantWorkspaces(t, map[string]v1alpha1.WorkspaceSpec{
			"snacks-development": {Organization: "acme", Project: "snacks", Domain: "development", Suspended: true},
			"snacks-production":  {Organization: "acme", Project: "snacks", Domain: "production"},
		})
		p.gateway.configure(&tunnelv1.Config{Revision: 10, Organization: "acme", Cluster: "c1", Workspaces: []*tunnelv1.Workspace{{Project: "snacks", Domain: "production"}}})
		p.gateway.heartbeat(t, func(beat *tunnelv1.HeartbeatRequest) bool { return beat.GetConfigRevision() == 10 })
	})

	t.Run("does not hand a workspace to another project whose namespace has the same name", func(t *testing.T) {
		have := &v1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: "a-b-c"}, Spec: v1alpha1.WorkspaceSpec{Organization: "acme", Project: "a-b", Domain: "c"}}
		want := have.Spec
		r := newReceived(apiServer.Client, p.namespace, quiet())
		if err := r.applyWorkspace(t.Context(), have, have.Name, v1alpha1.WorkspaceSpec{Organization: "acme", Project: "a", Domain: "b-c"}); err != nil || have.Spec != want {
			t.Errorf("got %+v, %v, want %+v, and nothing written", have.Spec, err, want)
		}
	})

	if err := apiServer.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "snacks-production"}}); err != nil {
		t.Fatal(err)
	}
	taskToken := p.task("snacks-production")
	t.Run("in the cluster", func(t *testing.T) { testEndpoint(t, p, first, taskToken) })
	t.Run("from the control plane", func(t *testing.T) { testInbound(t, p, session) })

	t.Run("says that the control plane cannot be reached, and does the rest", func(t *testing.T) {
		p.gateway.stop()
		until(t, "the tunnel to be down", func() error {
			if first.link.Up() {
				return errors.New("it is up")
			}
			return nil
		})
		task := p.caller(taskToken)
		status, body := post(t, task, first.url+"/flyteidl2.workflow.RunService/CreateRun")
		if status != http.StatusServiceUnavailable || !strings.Contains(body, "the control plane cannot be reached now") {
			t.Errorf("got %d %s, want 503 and the sentence", status, body)
		}
		if status, body := post(t, task, first.url+"/flyteidl2.actions.ActionsService/Enqueue2"); status != http.StatusOK && status != http.StatusNotFound {
			t.Errorf("got %d %s from the executor, want its answer", status, body)
		}
		if err := first.Ready(); err != nil {
			t.Errorf("got %v, want it ready", err)
		}
	})

	t.Run("knows its configuration when it starts without control plane", func(t *testing.T) {
		first.stop()
		second := p.start("second")
		until(t, "the configuration that was kept", func() error {
			if got := second.received.Revision(); got != 10 {
				return fmt.Errorf("revision %d", got)
			}
			return second.Ready()
		})
		p.gateway.restart(t)
		p.gateway.next(t)
		p.gateway.heartbeat(t, func(beat *tunnelv1.HeartbeatRequest) bool { return beat.GetConfigRevision() == 10 })
		if p.gateway.joins != 1 {
			t.Errorf("got %d joins, want 1", p.gateway.joins)
		}
	})
}

func wantWorkspaces(t *testing.T, want map[string]v1alpha1.WorkspaceSpec) {
	t.Helper()
	list := &v1alpha1.WorkspaceList{}
	if err := apiServer.Client.List(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	got := map[string]v1alpha1.WorkspaceSpec{}
	for _, workspace := range list.Items {
		got[workspace.Name] = workspace.Spec
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func testEndpoint(t *testing.T, p *plane, o *running, taskToken string) {
	until(t, "the workspace in view", func() error {
		if workspace, err := o.view.workspace(t.Context(), "snacks-production"); workspace == nil {
			return fmt.Errorf("%v", err)
		}
		return nil
	})
	apiServer.Account(t, "snacks-production", "podless")
	stranger := apiServer.Namespace(t, "stranger")
	tokens := map[string]string{
		"task": taskToken, "nobody": "",
		"stranger": p.task(stranger),
		"podless":  apiServer.Token(t, "snacks-production", "podless", v1alpha1.TokenAudience, nil),
	}
	for _, account := range []string{"executor", "proxy-system", "clustersync-system"} {
		tokens[account] = apiServer.Token(t, p.namespace, account, v1alpha1.TokenAudience, nil)
	}
	const (
		run        = "/flyteidl2.workflow.RunService/CreateRun"
		enqueue    = "/flyteidl2.actions.ActionsService/Elsewhere"
		link       = "/biplane.tunnel.v1.LinkService/"
		inTunnel   = "caller=/ authorization= account="
		forbidden  = http.StatusForbidden
		noSuchCall = http.StatusNotImplemented
	)
	for _, test := range []struct {
		name, caller, path string
		status             int
		want               string
	}{
		{"passes a task's call to the control plane with its workspace, without its token", "task", run, http.StatusOK,
			run + " " + inTunnel + "snacks-production/task project=snacks domain=production"},
		{"passes a task's call to the proxy with its own token", "task", "/flyteidl2.dataproxy.DataProxyService/UploadInputs", http.StatusOK,
			"caller=snacks-production/task authorization=Bearer " + taskToken},
		{"has uploads signed by the control plane", "task", "/flyteidl2.dataproxy.DataProxyService/CreateUploadLocation", http.StatusOK, inTunnel + "snacks-production/task"},
		{"passes the proxy's question on as the proxy", "proxy-system", link + "SignUpload", noSuchCall, "unimplemented"},
		{"refuses what is nobody's to call", "task", link + "SignUpload", forbidden, "may not call biplane.tunnel.v1.LinkService/SignUpload"},
		{"refuses a heartbeat of the executor", "executor", link + "Heartbeat", forbidden, "may not call"},
		{"refuses states of the proxy", "proxy-system", link + "ReportStates", forbidden, "may not call"},
		{"refuses all to clustersync", "clustersync-system", run, forbidden, "may not call"},
		{"refuses making projects to a task", "task", "/flyteidl2.project.ProjectService/CreateProject", noSuchCall, "cannot be called from inside the cluster"},
		{"refuses a pod of a namespace that is no workspace's", "stranger", run, forbidden, "may not call"},
		{"refuses a token that is no pod's", "podless", run, forbidden, "may not call"},
		{"refuses a task what only begins as one of its calls does", "task", "/flyteidl2.cluster.ClusterService/SelectClusters", noSuchCall, "cannot be called from inside the cluster"},
		{"refuses the executor what only begins as one of its calls does", "executor", link + "ReportStatesOfOthers", forbidden, "may not call"},
		{"refuses a path that somebody might read otherwise", "task", "/flyteidl2.auth.%2F..%2Fbiplane.tunnel.v1.LinkService/ReportStates", forbidden, "may not call"},
		{"refuses a path that is longer than a call's", "task", "/flyteidl2.workflow.RunService/CreateRun/x", forbidden, "may not call"},
		{"asks for a token", "nobody", run, http.StatusUnauthorized, "no token was sent"},
	} {
		t.Run(test.name, func(t *testing.T) {
			status, body := post(t, p.caller(tokens[test.caller]), o.url+test.path)
			if status != test.status || !strings.Contains(body, test.want) {
				t.Errorf("got %d %s, want %d %s", status, body, test.status, test.want)
			}
		})
	}

	t.Run("answers SelectCluster itself, with the endpoint that was asked", func(t *testing.T) {
		answer, err := clusterconnect.NewClusterServiceClient(p.caller(taskToken), o.url).SelectCluster(t.Context(), &cluster.SelectClusterRequest{})
		if err != nil || answer.GetClusterEndpoint() != "" || answer.GetCluster() != "c1" {
			t.Errorf("got %v %v, want c1 and no endpoint", answer, err)
		}
	})
	t.Run("passes the executor's calls to the control plane", func(t *testing.T) {
		answer, err := tunnelv1connect.NewLinkServiceClient(p.caller(tokens["executor"]), o.url).GetPosition(t.Context(), &tunnelv1.GetPositionRequest{})
		if err != nil || answer.GetPosition() != 42 {
			t.Errorf("got %v %v, want 42", answer, err)
		}
	})
	t.Run("passes a task's stream from the executor, each message at once", func(t *testing.T) {
		for name, option := range protocols() {
			t.Run(name, func(t *testing.T) {
				testStream(t, p.executor, actionsconnect.NewActionsServiceClient(p.caller(taskToken), o.url, option))
			})
		}
	})
}

func protocols() map[string]connect.ClientOption {
	return map[string]connect.ClientOption{"Connect": connect.WithClientOptions(), "gRPC": connect.WithGRPC(), "gRPC-Web": connect.WithGRPCWeb()}
}

// testStream has what a stream is forwarded for: its messages as they come, its
// error at the end, and at the other end that the caller went.
func testStream(t *testing.T, e *executor, api actionsconnect.ActionsServiceClient) {
	t.Helper()
	// The client returns once there is something to read.
	open := func(ctx context.Context, first string) *connect.ServerStreamForClient[actions.WatchForUpdatesResponse] {
		go func() { e.next <- first }()
		stream, err := api.WatchForUpdates(ctx, &actions.WatchForUpdatesRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !stream.Receive() || stream.Msg().GetActionUpdate().GetOutputUri() != first {
			t.Fatalf("got %v %v, want %s", stream.Msg(), stream.Err(), first)
		}
		return stream
	}
	stream := open(t.Context(), "s3://out/1")
	for _, want := range []string{"s3://out/2", "s3://out/3"} {
		e.next <- want
		if !stream.Receive() || stream.Msg().GetActionUpdate().GetOutputUri() != want {
			t.Fatalf("got %v %v, want %s", stream.Msg(), stream.Err(), want)
		}
	}
	e.next <- ""
	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnavailable || !strings.Contains(stream.Err().Error(), "the executor is shut down") {
		t.Errorf("got %v, want the executor's own error", stream.Err())
	}
	stream.Close()
	<-e.ended

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	open(ctx, "s3://out/1")
	cancel()
	select {
	case <-e.ended:
	case <-time.After(patience):
		t.Error("got a stream that goes on, want it ended with its caller")
	}

	_, err := api.Abort(t.Context(), &actions.AbortRequest{})
	var said *connect.Error
	if !errors.As(err, &said) || said.Code() != connect.CodeFailedPrecondition || said.Meta().Get("Reason") != "ended" {
		t.Errorf("got %v, want the executor's error with its metadata", err)
	}
}

func testInbound(t *testing.T, p *plane, session *tunnel.Session) {
	down := &http.Client{Transport: session.RoundTripper(), Timeout: patience}

	t.Run("passes calls to the process that the host names, as the operator", func(t *testing.T) {
		status, body := post(t, down, "http://executor/a.Service/Call")
		if want := "/a.Service/Call caller=" + p.namespace + "/operator-system"; status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("got %d %s, want %s", status, body, want)
		}
	})
	for _, test := range []struct{ name, host, want string }{
		{"has no process of another name", "api-server", "a data plane has no process called"},
		{"says that a process cannot be reached", "clustersync", "the clustersync cannot be reached now"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if _, body := post(t, down, "http://"+test.host+"/a.Service/Call"); !strings.Contains(body, test.want) {
				t.Errorf("got %s, want %s", body, test.want)
			}
		})
	}
	t.Run("passes streams, in each protocol", func(t *testing.T) {
		for name, option := range protocols() {
			t.Run(name, func(t *testing.T) {
				testStream(t, p.executor, actionsconnect.NewActionsServiceClient(down, "http://executor", option))
			})
		}
	})
	t.Run("passes a client's own session to the proxy, byte by byte", func(t *testing.T) {
		stream, err := session.OpenRaw(t.Context(), "proxy")
		if err != nil {
			t.Fatal(err)
		}
		sent := bytes.Repeat([]byte("ciphertext "), 100_000)
		go func() {
			stream.Write(sent)
			stream.CloseWrite()
		}()
		got, err := io.ReadAll(stream)
		if err != nil || !bytes.Equal(got, sent) {
			t.Errorf("got %d bytes and %v, want the %d that were sent", len(got), err, len(sent))
		}
	})
	t.Run("has no raw stream to anybody else", func(t *testing.T) {
		stream, err := session.OpenRaw(t.Context(), "executor")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("got %v, want it reset", err)
		}
	})
}

func TestOneOperatorWorks(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	putToken(t, p.namespace, p.gateway.token)
	first := p.start("first")
	p.gateway.next(t)
	second := p.start("second")
	until(t, "the second to wait", func() error {
		if err := second.Ready(); err == nil || !strings.Contains(err.Error(), "another operator is at work") {
			return fmt.Errorf("%v", err)
		}
		return nil
	})
	if !first.leading.Load() || second.leading.Load() {
		t.Errorf("got %v and %v leading, want the first alone", first.leading.Load(), second.leading.Load())
	}
	first.stop()
	p.gateway.next(t)
	until(t, "the second to be at work", second.Ready)
	if p.gateway.joins != 1 {
		t.Errorf("got %d joins, want 1", p.gateway.joins)
	}
}

func TestEndpointIsBounded(t *testing.T) {
	t.Parallel()
	full := &endpoint{slots: make(chan struct{}, 1)}
	full.slots <- struct{}{}
	server := httptest.NewServer(full)
	defer server.Close()
	_, err := clusterconnect.NewClusterServiceClient(http.DefaultClient, server.URL).SelectCluster(t.Context(), &cluster.SelectClusterRequest{})
	if got, want := connect.CodeOf(err), connect.CodeResourceExhausted; got != want {
		t.Errorf("got %v (%v), want %v", got, err, want)
	}
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	namespace := apiServer.Namespace(t, "union")
	apiServer.Account(t, namespace, "operator-system")
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "operator-1"},
		Spec:       corev1.PodSpec{ServiceAccountName: "operator-system", Containers: []corev1.Container{{Name: "main", Image: "host.example/true"}}},
	}
	if err := apiServer.Client.Create(t.Context(), pod); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ name, token, want string }{
		{"is the pod's, which a container that is started again has too", apiServer.Token(t, namespace, "operator-system", v1alpha1.TokenAudience, pod), "operator-1_" + string(pod.UID)},
		{"is not told by a token of no pod", apiServer.Token(t, namespace, "operator-system", v1alpha1.TokenAudience, nil), ""},
		{"is not told by what is no token", "hello", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "token")
			if err := os.WriteFile(file, []byte(test.token), 0o600); err != nil {
				t.Fatal(err)
			}
			if got := podOf(file); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRenewedCertificateIsDialledWith(t *testing.T) {
	t.Parallel()
	p := newPlane(t)
	putToken(t, p.namespace, p.gateway.token)
	o := p.start("first")
	old := p.gateway.next(t)
	// What waits on the old session goes on while the new one stands.
	down := actionsconnect.NewActionsServiceClient(&http.Client{Transport: old.RoundTripper()}, "http://executor")
	go func() { p.executor.next <- "s3://out/1" }()
	var stream *connect.ServerStreamForClient[actions.WatchForUpdatesResponse]
	until(t, "the executor", func() (err error) {
		stream, err = down.WatchForUpdates(t.Context(), &actions.WatchForUpdatesRequest{})
		if err == nil && !stream.Receive() {
			err = stream.Err()
		}
		return err
	})
	o.membership.changed <- struct{}{}
	p.gateway.next(t)
	p.executor.next <- "s3://out/2"
	if !stream.Receive() || stream.Msg().GetActionUpdate().GetOutputUri() != "s3://out/2" {
		t.Errorf("got %v %v, want the stream to go on", stream.Msg(), stream.Err())
	}
	p.executor.next <- ""
	select {
	case <-old.Done():
	case <-time.After(patience):
		t.Error("got a session that stays, want it ended once nothing uses it")
	}
	until(t, "the new session", func() error {
		if !o.link.Up() {
			return errors.New("it is down")
		}
		return nil
	})
}
