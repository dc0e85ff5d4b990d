package proxy

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/task/taskconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/clustertest"
	"biplane.dev/biplane/dataplane/internal/clustertest/rights"
	"biplane.dev/biplane/dataplane/internal/peer"
	"biplane.dev/biplane/dataplane/internal/serve"
	"biplane.dev/biplane/dataplane/proxy/internal/bucket"
)

const (
	organization = "acme"
	domain       = "development"
	namespace    = "union"
	proxyAccount = "proxy-system"
)

// sandbox is a real cluster, a real store, and a node that runs pods.
var sandbox *clustertest.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int {
		sandbox = c
		// The store's certificate is of the sandbox's own CA, and 'biplane sandbox env'
		// sets these for whoever talks to it.
		for _, variable := range []string{"SSL_CERT_FILE", "AWS_CA_BUNDLE"} {
			os.Setenv(variable, filepath.Join(c.Sandbox.Dir, "aws", "ca-bundle.crt"))
		}
		if err := rights.Grant(context.Background(), c, namespace, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return m.Run()
	}, "kubernetes", "s3", "node"))
}

// account is S3 as one service account, or the administrator, sees it.
func account(t *testing.T, profile string) *s3.Client {
	t.Helper()
	folder := filepath.Join(sandbox.Sandbox.Dir, "aws")
	cfg, err := awsconfig.LoadDefaultConfig(t.Context(), awsconfig.WithSharedConfigProfile(profile),
		awsconfig.WithSharedConfigFiles([]string{filepath.Join(folder, "config")}),
		awsconfig.WithSharedCredentialsFiles([]string{filepath.Join(folder, "credentials")}))
	if err != nil {
		t.Fatal(err)
	}
	return s3.NewFromConfig(cfg, func(o *s3.Options) {
		o.BaseEndpoint, o.UsePathStyle = aws.String(sandbox.Sandbox.S3.Endpoint), true
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
	})
}

// role is what a pod of a service account finds in its environment.
func role(t *testing.T, profile string) func(string) string {
	t.Helper()
	folder := filepath.Join(sandbox.Sandbox.Dir, "aws")
	text, err := os.ReadFile(filepath.Join(folder, "config"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "[profile "+profile+"]")
	_, line, _ := strings.Cut(section, "role_arn = ")
	arn, _, _ := strings.Cut(line, "\n")
	return func(name string) string {
		return map[string]string{"AWS_ROLE_ARN": arn, "AWS_WEB_IDENTITY_TOKEN_FILE": filepath.Join(folder, "tokens", profile)}[name]
	}
}

// plane is a proxy that runs, and what is around it.
type plane struct {
	storage config.Storage
	control *controlPlane
	address string // of its listener in the cluster
	folder  string // with the CA, and the operator's token
	stop    func() // and waits

	workspace v1alpha1.Workspace // of this test alone
}

// start runs a proxy with a workspace of its own.
func start(t *testing.T) *plane {
	t.Helper()
	p := &plane{folder: t.TempDir(), storage: config.Storage{
		Region:         sandbox.Sandbox.S3.Region,
		MetadataBucket: sandbox.Sandbox.Buckets.Metadata,
		Endpoint:       sandbox.Sandbox.S3.Endpoint,
		ClientEndpoint: sandbox.Sandbox.S3.Endpoint,
		STSEndpoint:    sandbox.Sandbox.STS.Endpoint,
	}}
	p.workspace = workspace(t)
	certify(t, p.folder)
	for file, account := range map[string]string{"operator-token": operatorAccount, "proxy-token": proxyAccount} {
		if err := os.WriteFile(filepath.Join(p.folder, file), []byte(sandbox.Token(t, namespace, account, v1alpha1.TokenAudience, nil)), 0o600); err != nil {
			t.Fatal(err)
		}
	}

	p.control = &controlPlane{signer: s3.NewPresignClient(account(t, "flyteadmin")), bucket: p.storage.MetadataBucket}
	operator := serveControlPlane(t, p.control, p.folder)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.address = listener.Addr().String()
	certificates, err := serve.Folder(p.folder)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, parts{
			config: &config.Config{
				Namespace: namespace, Storage: p.storage, ControlPlane: config.ControlPlane{Cluster: "here"},
				Operator: config.Process{Endpoint: operator},
				Proxy:    config.Proxy{Origins: []string{"https://console.example"}},
			},
			cluster:      rights.Of(sandbox, namespace, proxyAccount),
			bucket:       bucket.New(p.storage, role(t, proxyAccount)),
			controlPlane: peer.NewTransport(peer.Options{CAFile: filepath.Join(p.folder, "ca.crt"), TokenFile: filepath.Join(p.folder, "proxy-token")}),
			certificates: certificates,
			listen:       serve.Options{Listener: listener, TLSFolder: p.folder},
			log:          log,
		})
	}()
	p.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("got %v from the proxy's end, want nil", err)
		}
	})
	t.Cleanup(p.stop)
	return p
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Logf("%s", strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// workspace makes one, with its namespace and a service account for its pods.
func workspace(t *testing.T) v1alpha1.Workspace {
	t.Helper()
	project := "p" + strings.ToLower(rand.Text()[:10])
	w := v1alpha1.Workspace{
		ObjectMeta: metav1.ObjectMeta{Name: v1alpha1.NamespaceOf(project, domain)},
		Spec:       v1alpha1.WorkspaceSpec{Organization: organization, Project: project, Domain: domain},
	}
	if err := sandbox.Client.Create(t.Context(), &w); err != nil {
		t.Fatal(err)
	}
	if err := sandbox.Client.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Name}}); err != nil {
		t.Fatal(err)
	}
	sandbox.Account(t, w.Name, "tasks")
	grantWorkspace(t, w.Name)
	return w
}

// as returns an HTTP client with a token of a service account.
func (p *plane) as(t *testing.T, token string) *http.Client {
	t.Helper()
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: peer.NewTransport(peer.Options{CAFile: filepath.Join(p.folder, "ca.crt"), TokenFile: file})}
}

// operator calls as the control plane does.
func (p *plane) operator() *http.Client {
	return &http.Client{Transport: peer.NewTransport(peer.Options{CAFile: filepath.Join(p.folder, "ca.crt"), TokenFile: filepath.Join(p.folder, "operator-token")})}
}

func (p *plane) proxy(client *http.Client, options ...connect.ClientOption) dataproxyconnect.DataProxyServiceClient {
	return dataproxyconnect.NewDataProxyServiceClient(client, "https://"+p.address, options...)
}

// action names one of the plane's workspace.
func (p *plane) action(run, name string) *common.ActionIdentifier {
	return &common.ActionIdentifier{Name: name, Run: &common.RunIdentifier{
		Org: organization, Project: p.workspace.Spec.Project, Domain: domain, Name: run,
	}}
}

// runKey is where a run writes.
func (p *plane) runKey(run string) string {
	return strings.Join([]string{p.workspace.Spec.Project, domain, run}, "/")
}

// taskAction makes the object of an action, with its status.
func (p *plane) taskAction(t *testing.T, run, name string, status v1alpha1.TaskActionStatus) *v1alpha1.TaskAction {
	t.Helper()
	base := "s3://" + p.storage.MetadataBucket + "/" + p.runKey(run)
	a := &v1alpha1.TaskAction{
		ObjectMeta: metav1.ObjectMeta{Namespace: p.workspace.Name, Name: v1alpha1.ActionName(run, name)},
		Spec: v1alpha1.TaskActionSpec{
			Organization: organization, Project: p.workspace.Spec.Project, Domain: domain, Run: run, Action: name,
			Type: v1alpha1.TypeTask, RunOutputBase: base, InputURI: base + "/" + name + "/inputs.pb",
		},
	}
	if err := sandbox.Client.Create(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	a.Status = status
	p.update(t, a)
	return a
}

func (p *plane) update(t *testing.T, a *v1alpha1.TaskAction) {
	t.Helper()
	if err := sandbox.Client.Status().Update(t.Context(), a); err != nil {
		t.Fatal(err)
	}
}

// put writes an object as a task or the executor would.
func (p *plane) put(t *testing.T, key string, content []byte) {
	t.Helper()
	if _, err := account(t, "executor").PutObject(t.Context(), &s3.PutObjectInput{
		Bucket: &p.storage.MetadataBucket, Key: &key, Body: strings.NewReader(string(content)),
	}); err != nil {
		t.Fatal(err)
	}
}

func (p *plane) get(t *testing.T, key string) []byte {
	t.Helper()
	object, err := account(t, "admin").GetObject(t.Context(), &s3.GetObjectInput{Bucket: &p.storage.MetadataBucket, Key: &key})
	if err != nil {
		t.Fatal(err)
	}
	defer object.Body.Close()
	content, err := io.ReadAll(object.Body)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

// refused checks an answer's code, and that its sentence has what is wanted.
func refused(t *testing.T, err error, code connect.Code, want string) {
	t.Helper()
	if connect.CodeOf(err) != code || !strings.Contains(fmt.Sprint(err), want) {
		t.Errorf("got %v, want %s with %q", err, code, want)
	}
}

// controlPlane is the three services that the proxy calls by the operator. It
// signs uploads as flyteadmin.
type controlPlane struct {
	taskconnect.UnimplementedTaskServiceHandler
	workflowconnect.UnimplementedRunServiceHandler
	tunnelv1connect.UnimplementedLinkServiceHandler

	signer *s3.PresignClient
	bucket string

	mu        sync.Mutex
	specs     map[string]*task.TaskSpec // by the task's name
	uris      *workflow.GetActionDataURIsResponse
	elsewhere atomic.Bool // sign another key than was asked for
	signed    atomic.Int64
}

func (c *controlPlane) SignUpload(ctx context.Context, r *tunnelv1.SignUploadRequest) (*tunnelv1.SignUploadResponse, error) {
	key := r.GetKey()
	if c.elsewhere.Load() {
		key = "elsewhere"
	}
	c.signed.Add(1)
	signed, err := c.signer.PresignPutObject(ctx, &s3.PutObjectInput{Bucket: &c.bucket, Key: &key})
	if err != nil {
		return nil, connect.NewError(connect.CodeInternal, err)
	}
	headers := map[string]string{}
	for name, values := range signed.SignedHeader {
		if name != "Host" {
			headers[name] = values[0]
		}
	}
	return &tunnelv1.SignUploadResponse{Url: signed.URL, Headers: headers}, nil
}

func (c *controlPlane) GetTaskDetails(_ context.Context, r *task.GetTaskDetailsRequest) (*task.GetTaskDetailsResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	spec := c.specs[r.GetTaskId().GetName()]
	if spec == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such task"))
	}
	return &task.GetTaskDetailsResponse{Details: &task.TaskDetails{TaskId: r.GetTaskId(), Spec: spec}}, nil
}

func (c *controlPlane) GetActionDataURIs(context.Context, *workflow.GetActionDataURIsRequest) (*workflow.GetActionDataURIsResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.uris == nil {
		return nil, connect.NewError(connect.CodeNotFound, errors.New("there is no such action"))
	}
	return c.uris, nil
}

// serveControlPlane returns host:port, where callers need a token.
func serveControlPlane(t *testing.T, c *controlPlane, folder string) string {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle(tunnelv1connect.NewLinkServiceHandler(c))
	mux.Handle(taskconnect.NewTaskServiceHandler(c))
	mux.Handle(workflowconnect.NewRunServiceHandler(c))
	certificates, err := serve.Folder(folder)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{
		Handler:   authn.New(sandbox.Client).Wrap(mux),
		TLSConfig: &tls.Config{GetCertificate: certificates.GetCertificate, NextProtos: []string{"h2", "http/1.1"}},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.ServeTLS(listener, "", "")
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return listener.Addr().String()
}

// certify writes a CA, and a certificate of it for this machine.
func certify(t *testing.T, folder string) {
	t.Helper()
	template := func(serial int64) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	}
	sign := func(of, by *x509.Certificate, key, signer *ecdsa.PrivateKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, of, by, key.Public(), signer)
		if err != nil {
			t.Fatal(err)
		}
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	}
	var keys [2]*ecdsa.PrivateKey
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	ca, leaf := template(1), template(2)
	ca.IsCA, ca.BasicConstraintsValid, ca.Subject.CommonName = true, true, "data plane"
	leaf.IPAddresses, leaf.DNSNames = []net.IP{net.IPv4(127, 0, 0, 1)}, []string{"localhost"}
	private, err := x509.MarshalPKCS8PrivateKey(keys[1])
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{
		"ca.crt":  sign(ca, ca, keys[0], keys[0]),
		"tls.crt": sign(leaf, ca, keys[1], keys[0]),
		"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	} {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// offline is a bucket that is not asked.
func offline(storage config.Storage) *bucket.Bucket {
	return bucket.New(storage, func(string) string { return "" })
}

func withWatch(t *testing.T) client.WithWatch {
	t.Helper()
	c, err := client.NewWithWatch(sandbox.Config, client.Options{Scheme: sandbox.Client.Scheme()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
