package controlplane_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/biplane/cluster/v1/clusterv1connect"
	dataplanev1 "biplane.dev/biplane/api/gen/biplane/dataplane/v1"
	"biplane.dev/biplane/api/gen/biplane/dataplane/v1/dataplanev1connect"
	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/logs/dataplane"
	"biplane.dev/biplane/api/gen/flyteidl2/project/projectconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/task/taskconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
	"biplane.dev/biplane/controlplane"
	"biplane.dev/biplane/controlplane/internal/store/storetest"
	"biplane.dev/biplane/tunnel"
)

// world is a control plane as people run it, by its command line.
type world struct {
	t       *testing.T
	file    string // its configuration
	url     string
	gateway string // host:port
	client  *http.Client
	stop    func() int    // and its exit status
	logged  func() string // what it logged, once it has stopped
}

// database gives the YAML that names an empty one, which goes with the test.
type database func(t *testing.T) string

func sqlite(*testing.T) string { return "" } // a file in its folder, by default

func postgres(t *testing.T) string {
	return "database: {url: '" + postgresServer.NewDatabase(t) + "'}\n"
}

// postgresServer is one for all tests: a database of it costs a moment.
var postgresServer *storetest.Server

func TestMain(m *testing.M) {
	if file := os.Getenv(serveEnv); file != "" { // see process
		os.Exit(controlplane.Run(context.Background(), []string{"serve", "--config", file}, os.Stdout, os.Stderr))
	}
	server, err := storetest.StartServer(false)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the control plane's tests need PostgreSQL:", err)
		os.Exit(1)
	}
	postgresServer = server
	code := m.Run()
	server.Stop()
	os.Exit(code)
}

// onBoth runs a test on each kind of database.
func onBoth(t *testing.T, test func(*testing.T, database)) {
	t.Parallel()
	for name, db := range map[string]database{"SQLite": sqlite, "PostgreSQL": postgres} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, db)
		})
	}
}

// newWorld starts one. more is YAML beside what every test needs.
func newWorld(t *testing.T, db database, more string) *world {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "controlplane.yaml")
	text := `apiVersion: biplane.dev/v1alpha1
kind: ControlPlaneConfig
folder: state
api:
  listen: 127.0.0.1:0
gateway:
  listen: 127.0.0.1:0
  heartbeat: 200ms
log:
  level: debug
  format: json
` + db(t) + more
	if strings.HasPrefix(more, "api:") {
		text = strings.Replace(text, "api:\n  listen: 127.0.0.1:0\n", "", 1)
	}
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return startWorld(t, file)
}

func startWorld(t *testing.T, file string) *world {
	t.Helper()
	w := &world{t: t, file: file}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	reader, writer := io.Pipe()
	status := make(chan int, 1)
	go func() {
		status <- controlplane.Run(ctx, []string{"serve", "--config", file}, io.Discard, writer)
		writer.Close()
	}()
	w.stop = sync.OnceValue(func() int {
		cancel()
		return <-status
	})
	// The log says where it listens; what it said is shown when the test fails.
	listening := make(chan string, 2)
	var said strings.Builder
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(reader); lines.Scan(); {
			var line struct{ Msg, Address string }
			if err := json.Unmarshal(lines.Bytes(), &line); err == nil && line.Msg != "statement" {
				fmt.Fprintln(&said, lines.Text())
			}
			if strings.HasPrefix(line.Msg, "listening for") {
				listening <- line.Msg + "=" + line.Address
			}
		}
	}()
	w.logged = func() string {
		w.stop()
		<-read
		return said.String()
	}
	t.Cleanup(func() {
		if got := w.stop(); got != 0 {
			t.Errorf("got exit status %d, want 0", got)
		}
		if said := w.logged(); t.Failed() {
			t.Log(said)
		}
	})
	for range 2 {
		select {
		case line := <-listening:
			what, address, _ := strings.Cut(line, "=")
			if strings.HasSuffix(what, "clients") {
				w.url = "http://" + address
			} else {
				w.gateway = address
			}
		case <-time.After(time.Minute):
			t.Fatal("the control plane did not start")
		}
	}
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	t.Cleanup(transport.CloseIdleConnections)
	w.client = &http.Client{Transport: transport}
	return w
}

// ready is what /readyz answers.
func (w *world) ready() int {
	w.t.Helper()
	response, err := w.client.Get(w.url + "/readyz")
	if err != nil {
		w.t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode
}

func (w *world) projects() projectconnect.ProjectServiceClient {
	return projectconnect.NewProjectServiceClient(w.client, w.url)
}
func (w *world) tasks() taskconnect.TaskServiceClient {
	return taskconnect.NewTaskServiceClient(w.client, w.url)
}
func (w *world) runs() workflowconnect.RunServiceClient {
	return workflowconnect.NewRunServiceClient(w.client, w.url)
}
func (w *world) clusters() clusterv1connect.ClusterServiceClient {
	return clusterv1connect.NewClusterServiceClient(w.client, w.url)
}
func (w *world) data() dataproxyconnect.DataProxyServiceClient {
	return dataproxyconnect.NewDataProxyServiceClient(w.client, w.url)
}

// dataPlane is as much of one as an API needs: it joins and dials by the real
// tunnel, and its executor and proxy are small and real servers.
type dataPlane struct {
	t       *testing.T
	config  *tls.Config // with its certificate
	session *tunnel.Session
	served  chan struct{} // closed when nothing is served any more

	enqueued chan *actions.EnqueueRequest
	aborted  chan *actions.AbortRequest
	signals  chan *actions.SignalRequest
	uploads  chan *dataproxy.UploadInputsRequest

	mu       sync.Mutex
	position uint64
	texts    map[string]*dataplanev1.GetActionTextsResponse // by action
}

// join adds a data plane, and lets it join, dial in and say what it is.
func (w *world) join(name string) *dataPlane {
	w.t.Helper()
	return w.joinOf("", name)
}

func (w *world) joinOf(organization, name string) *dataPlane {
	w.t.Helper()
	t := w.t
	added, err := w.clusters().AddCluster(t.Context(), &clusterv1.AddClusterRequest{Organization: organization, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	key, err := tunnel.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := tunnel.CertificateRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	member, err := tunnel.Join(t.Context(), w.gateway, added.JoinToken, request)
	if err != nil {
		t.Fatal(err)
	}
	var certificate tls.Certificate
	for rest := member.Certificate; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		certificate.Certificate = append(certificate.Certificate, block.Bytes)
	}
	certificate.PrivateKey = key
	if certificate.Leaf, err = x509.ParseCertificate(certificate.Certificate[0]); err != nil {
		t.Fatal(err)
	}
	config, err := tunnel.ClientTLS(certificate, member.CABundle)
	if err != nil {
		t.Fatal(err)
	}
	p := &dataPlane{t: t, config: config,
		enqueued: make(chan *actions.EnqueueRequest, 100), aborted: make(chan *actions.AbortRequest, 100),
		signals: make(chan *actions.SignalRequest, 100), uploads: make(chan *dataproxy.UploadInputsRequest, 100),
		texts: map[string]*dataplanev1.GetActionTextsResponse{},
	}
	p.dial(w)
	t.Cleanup(p.leave)
	if _, err := p.as("operator-system").Heartbeat(t.Context(), &tunnelv1.HeartbeatRequest{
		Version: "test", Peers: []*clusterv1.Peer{{Name: "executor", Ready: true}},
		DataPlane: &tunnelv1.DataPlane{Region: "eu-central-1", MetadataBucket: "meta", FastRegistrationBucket: "fast", Namespace: "union"},
	}); err != nil {
		t.Fatal(err)
	}
	return p
}

// listened is a cluster once its port of the relay is listened on: a moment after
// it has joined.
func (w *world) listened(name string) *clusterv1.Cluster {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		got, err := w.clusters().GetCluster(w.t.Context(), &clusterv1.GetClusterRequest{Name: name})
		if err != nil {
			w.t.Fatal(err)
		}
		if got.Cluster.ProxyEndpoint != "" || time.Now().After(deadline) {
			return got.Cluster
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// dial opens the tunnel, to a control plane that may have been started anew.
func (p *dataPlane) dial(w *world) {
	p.t.Helper()
	session, err := tunnel.Dial(p.t.Context(), w.gateway, p.config.Clone(), tunnel.Options{})
	if err != nil {
		p.t.Fatal(err)
	}
	served := make(chan struct{})
	p.session, p.served = session, served
	go func() {
		defer close(served)
		session.Serve(context.WithoutCancel(p.t.Context()), tunnel.Handlers{RPC: p.handler(), Raw: mirror})
	}()
}

// leave ends the tunnel.
func (p *dataPlane) leave() {
	p.session.Close()
	<-p.served
}

// as calls up the tunnel as one of the data plane's own accounts.
func (p *dataPlane) as(account string) tunnelv1connect.LinkServiceClient {
	return tunnelv1connect.NewLinkServiceClient(p.client("union/"+account, "", ""), "http://controlplane")
}

// client calls up the tunnel in somebody's name.
func (p *dataPlane) client(account, project, domain string) *http.Client {
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		r = r.Clone(r.Context())
		r.Header.Set("Biplane-Service-Account", account)
		if project != "" {
			r.Header.Set("Biplane-Project", project)
			r.Header.Set("Biplane-Domain", domain)
		}
		return p.session.RoundTripper().RoundTrip(r)
	})}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func (p *dataPlane) handler() http.Handler {
	executor, proxy := http.NewServeMux(), http.NewServeMux()
	executor.Handle(actionsconnect.NewActionsServiceHandler(&executorDouble{plane: p}))
	proxy.Handle(dataproxyconnect.NewDataProxyServiceHandler(&proxyDouble{plane: p}))
	proxy.Handle(dataplanev1connect.NewActionTextServiceHandler(&proxyDouble{plane: p}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Host {
		case "executor":
			executor.ServeHTTP(w, r)
		case "proxy":
			proxy.ServeHTTP(w, r)
		default:
			http.NotFound(w, r)
		}
	})
}

// report tells states up, in order.
func (p *dataPlane) report(states ...*tunnelv1.ActionState) {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, state := range states {
		p.position++
		state.Position = p.position
	}
	if _, err := p.as("executor").ReportStates(p.t.Context(), &tunnelv1.ReportStatesRequest{States: states, Position: p.position}); err != nil {
		p.t.Fatal(err)
	}
}

// state is one of a root action.
func state(run *common.RunIdentifier, version uint64, phase common.ActionPhase) *tunnelv1.ActionState {
	now := timestamppb.Now()
	s := &tunnelv1.ActionState{
		Id: &common.ActionIdentifier{Run: run, Name: "a0"}, Version: version, Phase: phase, CreatedAt: now,
		Type: workflow.ActionType_ACTION_TYPE_TASK, TaskType: "python", ShortName: "main", Environment: "hello",
		Attempts: []*workflow.ActionAttempt{{Attempt: 1, Phase: phase, StartTime: now}},
	}
	switch phase {
	case common.ActionPhase_ACTION_PHASE_SUCCEEDED:
		s.EndedAt, s.OutputUri = now, "s3://meta/flytesnacks/development/"+run.Name+"/a0/1"
	case common.ActionPhase_ACTION_PHASE_FAILED:
		s.EndedAt, s.ErrorKind, s.ErrorCode = now, workflow.ErrorInfo_KIND_USER, "ValueError"
		s.Attempts[0].ErrorInfo = &workflow.ErrorInfo{Kind: workflow.ErrorInfo_KIND_USER}
	}
	return s
}

type executorDouble struct {
	actionsconnect.UnimplementedActionsServiceHandler
	plane *dataPlane
}

func (e *executorDouble) Enqueue(_ context.Context, r *actions.EnqueueRequest) (*actions.EnqueueResponse, error) {
	e.plane.enqueued <- r
	return &actions.EnqueueResponse{}, nil
}

func (e *executorDouble) Abort(_ context.Context, r *actions.AbortRequest) (*actions.AbortResponse, error) {
	e.plane.aborted <- r
	return &actions.AbortResponse{}, nil
}

func (e *executorDouble) Signal(_ context.Context, r *actions.SignalRequest) (*actions.SignalResponse, error) {
	e.plane.signals <- r
	return &actions.SignalResponse{}, nil
}

func (e *executorDouble) WatchForUpdates(ctx context.Context, r *actions.WatchForUpdatesRequest, stream *connect.ServerStream[actions.WatchForUpdatesResponse]) error {
	err := stream.Send(&actions.WatchForUpdatesResponse{Message: &actions.WatchForUpdatesResponse_ControlMessage{ControlMessage: &workflow.ControlMessage{Sentinel: true}}})
	if err != nil {
		return err
	}
	return connect.NewError(connect.CodeCanceled, errors.New("as a server that stops would say"))
}

type proxyDouble struct {
	dataproxyconnect.UnimplementedDataProxyServiceHandler
	plane *dataPlane
}

func (p *proxyDouble) GetActionTexts(_ context.Context, r *dataplanev1.GetActionTextsRequest) (*dataplanev1.GetActionTextsResponse, error) {
	p.plane.mu.Lock()
	defer p.plane.mu.Unlock()
	texts, ok := p.plane.texts[r.GetActionId().GetName()]
	if !ok {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("no texts"))
	}
	return texts, nil
}

func (p *proxyDouble) UploadInputs(_ context.Context, r *dataproxy.UploadInputsRequest) (*dataproxy.UploadInputsResponse, error) {
	p.plane.uploads <- r
	return &dataproxy.UploadInputsResponse{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/uploads/x", InputsHash: "hash"}}, nil
}

func (p *proxyDouble) GetActionData(_ context.Context, r *dataproxy.GetActionDataRequest) (*dataproxy.GetActionDataResponse, error) {
	return &dataproxy.GetActionDataResponse{InputsUri: r.GetActionId().GetRun().GetOrg()}, nil
}

func (p *proxyDouble) CreateDownloadLink(_ context.Context, r *dataproxy.CreateDownloadLinkRequest) (*dataproxy.CreateDownloadLinkResponse, error) {
	if r.GetArtifactType() != dataproxy.ArtifactType_ARTIFACT_TYPE_REPORT {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("the attempt has no such thing"))
	}
	return &dataproxy.CreateDownloadLinkResponse{}, nil
}

func (p *proxyDouble) TailLogs(_ context.Context, _ *dataproxy.TailLogsRequest, stream *connect.ServerStream[dataproxy.TailLogsResponse]) error {
	for i := range 3 {
		err := stream.Send(&dataproxy.TailLogsResponse{Logs: []*dataproxy.TailLogsResponse_Logs{{
			Lines: []*dataplane.LogLine{{Message: fmt.Sprintf("line %d\n", i)}},
		}}})
		if err != nil {
			return err
		}
	}
	return nil
}

// spec is a task as `flyte run` sends it: without organisation, project and domain.
func spec(name string) *task.TaskSpec {
	return &task.TaskSpec{
		ShortName: "main", Environment: &task.Environment{Name: "hello"},
		TaskTemplate: &core.TaskTemplate{
			Id: &core.Identifier{ResourceType: core.ResourceType_TASK, Name: name, Version: "v1"}, Type: "python",
			Metadata:  &core.TaskMetadata{},
			Interface: &core.TypedInterface{},
			Target:    &core.TaskTemplate_Container{Container: &core.Container{Image: "image", Args: []string{"a0"}}},
		},
	}
}

var flytesnacks = &common.ProjectIdentifier{Name: "flytesnacks", Domain: "development"}

// create makes a run as `flyte run` does.
func (w *world) create(request *workflow.CreateRunRequest) *workflow.Run {
	w.t.Helper()
	if request.Id == nil {
		request.Id = &workflow.CreateRunRequest_ProjectId{ProjectId: flytesnacks}
	}
	if request.Task == nil {
		request.Task = &workflow.CreateRunRequest_TaskSpec{TaskSpec: spec("hello.main")}
	}
	if request.InputWrapper == nil {
		request.InputWrapper = &workflow.CreateRunRequest_OffloadedInputData{OffloadedInputData: &common.OffloadedInputData{Uri: "s3://meta/uploads/x", InputsHash: "hash"}}
	}
	made, err := w.runs().CreateRun(w.t.Context(), request)
	if err != nil {
		w.t.Fatal(err)
	}
	return made.Run
}

// wait receives, or gives up.
func wait[T any](t *testing.T, from <-chan T) T {
	t.Helper()
	select {
	case got := <-from:
		return got
	case <-time.After(time.Minute):
		t.Fatal("waited for a minute in vain")
		panic("unreachable")
	}
}

// refused checks a code, and that the sentence says what it should.
func refused(t *testing.T, err error, code connect.Code, says string) {
	t.Helper()
	var said *connect.Error
	if !errors.As(err, &said) || said.Code() != code || !strings.Contains(said.Message(), says) {
		t.Errorf("got %v, want %v with %q", err, code, says)
	}
}
