package gateway_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/gateway"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/controlplane/internal/uploads"
	"biplane.dev/biplane/tunnel"
)

const (
	// patience is how long a test waits for what must come.
	patience = 2 * time.Minute

	organization = "acme"
	clusterName  = "c1"
	projectName  = "flytesnacks"
)

// world is a gateway on a store of its own.
type world struct {
	*gateway.Gateway
	config  *config.Config
	store   *store.Store
	address string
	log     *log
	metrics *prometheus.Registry

	mu      sync.Mutex
	callers []caller.Caller // of the API
	headers []http.Header
	signed  []uploads.Put
	stop    func()
}

func newWorld(t testing.TB, change ...func(*config.Config)) *world {
	t.Helper()
	folder := t.TempDir()
	w := &world{
		log: &log{},
		config: &config.Config{
			Organizations: []string{organization, "other"},
			Gateway: config.Gateway{Listen: "127.0.0.1:0", Names: []string{"127.0.0.1"}, CertificateLife: time.Hour,
				TokenLife: time.Hour, Heartbeat: 200 * time.Millisecond},
			Relay:  config.Relay{Address: "127.0.0.1", Host: "localhost"},
			Folder: filepath.Join(folder, "keys"),
		},
	}
	for _, f := range change {
		f(w.config)
	}
	var err error
	if w.store, err = store.Open(t.Context(), "sqlite:"+filepath.Join(folder, "biplane.db"), slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.store.Close() })
	if err := w.store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.store.EnsureOrganizations(t.Context(), w.config.Organizations...); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.CreateProject(t.Context(), store.Project{Organization: organization, ID: projectName, Name: projectName}); err != nil {
		t.Fatal(err)
	}
	w.start(t)
	return w
}

// start runs a gateway on the store, again after stop.
func (w *world) start(t testing.TB) {
	t.Helper()
	var err error
	w.metrics = prometheus.NewRegistry()
	w.Gateway, err = gateway.New(t.Context(), gateway.Options{
		Config: w.config, Store: w.store, API: http.HandlerFunc(w.api), Uploads: w, Now: time.Now, Metrics: w.metrics,
		Log: slog.New(slog.NewTextHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	})
	if err != nil {
		t.Fatal(err)
	}
	w.address = w.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := w.Run(ctx); err != nil {
			t.Errorf("got %v from Run, want it to end as asked", err)
		}
	}()
	w.stop = func() {
		cancel()
		wait(t, ended, "the gateway to end")
	}
	t.Cleanup(w.stop)
}

// beside is a second process on the same database.
func (w *world) beside(t testing.TB, change ...func(*config.Config)) *world {
	t.Helper()
	its := *w.config
	for _, f := range change {
		f(&its)
	}
	second := &world{config: &its, store: w.store, log: w.log}
	second.start(t)
	return second
}

// api remembers who called.
func (w *world) api(rw http.ResponseWriter, r *http.Request) {
	from, _ := caller.From(r.Context())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.callers = append(w.callers, from)
	w.headers = append(w.headers, r.Header.Clone())
	io.WriteString(rw, "api")
}

// Sign remembers what was signed.
func (w *world) Sign(_ context.Context, _ string, _ *tunnelv1.DataPlane, put uploads.Put) (*uploads.Signed, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.signed = append(w.signed, put)
	return &uploads.Signed{URL: "https://s3.example/" + put.Key, ExpiresAt: time.Now().Add(time.Minute)}, nil
}

// token registers a cluster.
func (w *world) token(t testing.TB, name string, life time.Duration) string {
	t.Helper()
	token := store.NewJoinToken()
	if _, err := w.store.AddCluster(t.Context(), organization, name, token, time.Now().Add(life)); err != nil {
		t.Fatal(err)
	}
	return tunnel.Token{Fingerprint: w.CAFingerprint(), Secret: token.String()}.String()
}

// plane is a data plane that has joined.
type plane struct {
	world      *world
	key        *ecdsa.PrivateKey
	membership *tunnel.Membership
}

func (w *world) join(t testing.TB, name string) *plane {
	t.Helper()
	key, request := newRequest(t)
	membership, err := tunnel.Join(t.Context(), w.address, w.token(t, name, time.Hour), request)
	if err != nil {
		t.Fatal(err)
	}
	return &plane{w, key, membership}
}

func newRequest(t testing.TB) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := tunnel.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	request, err := tunnel.CertificateRequest(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, request
}

func (p *plane) tls(t testing.TB) *tls.Config {
	t.Helper()
	pair := tls.Certificate{PrivateKey: p.key}
	for rest := p.membership.Certificate; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		pair.Certificate = append(pair.Certificate, block.Bytes)
	}
	config, err := tunnel.ClientTLS(pair, p.membership.CABundle)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// dial opens a tunnel, serves handlers in it, and waits until it can be reached.
func (p *plane) dial(t testing.TB, handlers tunnel.Handlers) *tunnel.Session {
	t.Helper()
	session, err := tunnel.Dial(t.Context(), p.world.address, p.tls(t), tunnel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		session.Serve(context.Background(), handlers)
	}()
	t.Cleanup(func() {
		session.Close()
		wait(t, served, "the session's handlers to return")
	})
	eventually(t, "the gateway to know of the session", func() bool {
		return p.world.Connected(organization, p.membership.Cluster)
	})
	return session
}

// as calls through a tunnel as an operator does, on behalf of one of its own.
type as struct {
	session *tunnel.Session
	header  map[string]string
}

func (a as) RoundTrip(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	for name, value := range a.header {
		request.Header.Set(name, value)
	}
	return a.session.RoundTripper().RoundTrip(request)
}

func link(session *tunnel.Session, account string) tunnelv1connect.LinkServiceClient {
	return tunnelv1connect.NewLinkServiceClient(&http.Client{
		Transport: as{session, map[string]string{"Biplane-Service-Account": "union/" + account}},
	}, "http://controlplane")
}

// executor is as much of a data plane as the outbox sees.
type executor struct {
	actionsconnect.UnimplementedActionsServiceHandler

	mu     sync.Mutex
	answer func(call string, try int) error // nil: yes
	tries  map[string]int
	done   []string // "enqueue NAME", "abort NAME", in the order of their success
}

func newExecutor(answer func(call string, try int) error) *executor {
	return &executor{answer: answer, tries: map[string]int{}}
}

func (e *executor) handlers() tunnel.Handlers {
	mux := http.NewServeMux()
	mux.Handle(actionsconnect.NewActionsServiceHandler(e))
	return tunnel.Handlers{RPC: mux}
}

func (e *executor) Enqueue(_ context.Context, r *actions.EnqueueRequest) (*actions.EnqueueResponse, error) {
	return &actions.EnqueueResponse{}, e.take("enqueue " + r.GetAction().GetActionId().GetRun().GetName())
}

func (e *executor) Abort(_ context.Context, r *actions.AbortRequest) (*actions.AbortResponse, error) {
	return &actions.AbortResponse{}, e.take("abort " + r.GetActionId().GetRun().GetName())
}

func (e *executor) take(call string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.tries[call]++
	if e.answer != nil {
		if err := e.answer(call, e.tries[call]); err != nil {
			return err
		}
	}
	e.done = append(e.done, call)
	return nil
}

func (e *executor) heard() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.done...)
}

// run makes a run that is to be handed over.
func (w *world) run(t testing.TB, cluster, name string) store.RunKey {
	t.Helper()
	key := store.RunKey{Organization: organization, Project: projectName, Domain: "development", Name: name}
	spec := &task.TaskSpec{TaskTemplate: &core.TaskTemplate{Type: "python"}}
	_, err := w.store.CreateRun(t.Context(), store.NewRun{
		Key: key, Cluster: cluster, Spec: &task.RunSpec{}, Task: spec,
		TaskID: store.TaskKey{Organization: organization, Project: projectName, Domain: "development", Name: "main", Version: "v1"},
		Handover: &actions.EnqueueRequest{Action: &actions.Action{
			ActionId: store.ActionKey{Run: key, Name: store.RootAction}.Proto(),
			Spec:     &actions.Action_Task{},
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (w *world) pending(t testing.TB, cluster string) uint32 {
	t.Helper()
	known, err := w.store.GetCluster(t.Context(), organization, cluster)
	if err != nil {
		t.Fatal(err)
	}
	return known.Pending
}

// log is what was logged.
type log struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func wait(t testing.TB, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("got nothing in %s, want %s", patience, what)
	}
}

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got nothing in %s, want %s", patience, what)
		}
	}
}

func wantCode(t testing.TB, err error, want connect.Code) {
	t.Helper()
	if err == nil || connect.CodeOf(err) != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func get(ctx context.Context, transport http.RoundTripper, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	response, err := (&http.Client{Transport: transport}).Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return fmt.Sprint(response.StatusCode, " ", string(text)), err
}
