package s3_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"biplane.dev/biplane/sandbox/internal/identity"
	"biplane.dev/biplane/sandbox/internal/pki"
	"biplane.dev/biplane/sandbox/internal/s3"
)

const (
	account = "123456789012"
	region  = "eu-central-1"
	issuer  = "https://oidc.eks.eu-central-1.amazonaws.com/id/0123456789ABCDEF0123456789ABCDEF"
)

// programVariable makes this test's executable one of the programs: S3 runs once
// a process and changes its working directory.
const programVariable = "S3_TEST_PROGRAM"

func TestMain(m *testing.M) {
	switch program := os.Getenv(programVariable); program {
	case "":
	case "s3", "identity", "bare":
		command := s3.Command()
		switch program {
		case "identity":
			command = identity.Command()
		case "bare":
			command = bareCommand()
		}
		if err := command.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, program+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	status := m.Run()
	shared.stop()
	os.Exit(status)
}

// world is an identity program and an S3 program, with a key set of a cluster
// that is not there.
type world struct {
	dir      string
	pki      *pki.PKI
	admin    pki.AccessKey
	s3       string // endpoints
	iam, sts string
	client   *http.Client
	roots    *x509.CertPool
	keys     *keySet
	stops    []func()
	identity *process
	store    *process
	socket   string
	gateway  string // file of the gateway's key
}

// shared is the world of all tests that do not harm it.
var shared sharedWorld

type sharedWorld struct {
	once  sync.Once
	world *world
	err   error
}

func (s *sharedWorld) get(t testing.TB) *world {
	t.Helper()
	s.once.Do(func() { s.world, s.err = newWorld() })
	if s.err != nil {
		t.Fatal(s.err)
	}
	return s.world
}

func (s *sharedWorld) stop() {
	if s.world != nil {
		s.world.stop()
	}
}

// ownWorld is for tests that stop or break something.
func ownWorld(t testing.TB) *world {
	t.Helper()
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.stop)
	return w
}

func newWorld() (w *world, err error) {
	dir, err := os.MkdirTemp("", "s3-test-")
	if err != nil {
		return nil, err
	}
	w = &world{dir: dir}
	w.stops = append(w.stops, func() { os.RemoveAll(dir) })
	defer func() {
		if err != nil {
			w.stop()
		}
	}()
	for _, folder := range []string{"run", "identity", "s3"} {
		if err := os.Mkdir(filepath.Join(dir, folder), 0o700); err != nil {
			return w, err
		}
	}
	if w.pki, err = pki.Open(filepath.Join(dir, "pki"), time.Now()); err != nil {
		return w, err
	}
	serving, err := w.pki.Pair("serving", pki.Subject{User: "serving", IPs: []string{"127.0.0.1"}, Names: []string{"localhost"}})
	if err != nil {
		return w, err
	}
	adminFile, admin, err := w.pki.AccessKey("admin")
	if err != nil {
		return w, err
	}
	gatewayFile, _, err := w.pki.AccessKey("gateway")
	if err != nil {
		return w, err
	}
	w.admin, w.gateway = admin, gatewayFile
	ca, err := os.ReadFile(w.pki.CA())
	if err != nil {
		return w, err
	}
	w.roots = x509.NewCertPool()
	w.roots.AppendCertsFromPEM(ca)
	w.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: w.roots}, MaxIdleConnsPerHost: 64}, Timeout: 2 * time.Minute}
	w.stops = append(w.stops, w.client.CloseIdleConnections)
	if w.keys, err = newKeySet(serving); err != nil {
		return w, err
	}
	w.stops = append(w.stops, w.keys.stop)

	ports, err := freePorts(3)
	if err != nil {
		return w, err
	}
	w.iam, w.sts, w.s3 = "https://"+ports[0], "https://"+ports[1], "https://"+ports[2]
	w.socket = filepath.Join(dir, "run", "identity.sock")
	w.identity = &process{program: "identity", dir: filepath.Join(dir, "run"), args: []string{
		"--dir", filepath.Join(dir, "identity"), "--account", account, "--region", region,
		"--admin-key-file", adminFile, "--gateway-key-file", gatewayFile, "--socket", "identity.sock",
		"--iam-address", ports[0], "--sts-address", ports[1], "--tls-cert-file", serving.Cert, "--tls-private-key-file", serving.Key,
		"--ca-file", w.pki.CA(), "--issuer", issuer, "--jwks-url", w.keys.url,
	}}
	w.store = &process{program: "s3", dir: filepath.Join(dir, "run"), args: []string{
		"--dir", filepath.Join(dir, "s3"), "--address", ports[2], "--tls-cert-file", serving.Cert, "--tls-private-key-file", serving.Key,
		"--account", account, "--region", region, "--identity-socket", "identity.sock", "--gateway-key-file", gatewayFile,
	}}
	w.stops = append(w.stops, w.identity.stop, w.store.stop)
	if err := w.start(w.identity, w.sts+"/readyz"); err != nil {
		return w, err
	}
	return w, w.start(w.store, w.s3+s3.HealthPath)
}

// start starts a program and waits until it answers.
func (w *world) start(p *process, health string) error {
	if err := p.start(); err != nil {
		return err
	}
	for {
		answer, err := w.client.Get(health)
		if err == nil {
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-p.ended:
			return fmt.Errorf("%s ended before it served: %s", p.program, p.output.String())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (w *world) stop() {
	for i := len(w.stops) - 1; i >= 0; i-- {
		w.stops[i]()
	}
}

// process is a program of the executable under test.
type process struct {
	program string
	dir     string
	args    []string
	command *exec.Cmd
	ended   chan struct{}
	output  *output
}

type output struct {
	lock sync.Mutex
	b    bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.lock.Lock()
	defer o.lock.Unlock()
	return o.b.String()
}

func (p *process) start() error {
	own, err := os.Executable()
	if err != nil {
		return err
	}
	p.output, p.ended = &output{}, make(chan struct{})
	p.command = exec.Command(own, p.args...)
	p.command.Dir = p.dir
	p.command.Env = append(os.Environ(), programVariable+"="+p.program)
	p.command.Stdout, p.command.Stderr = p.output, p.output
	p.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := p.command.Start(); err != nil {
		return err
	}
	go func() {
		p.command.Wait()
		close(p.ended)
	}()
	return nil
}

func (p *process) stop() {
	if p.command == nil || p.command.Process == nil {
		return
	}
	p.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(time.Minute):
		p.command.Process.Kill()
		<-p.ended
	}
}

func (p *process) kill() {
	p.command.Process.Kill()
	<-p.ended
}

func freePorts(n int) ([]string, error) {
	var out []string
	var open []net.Listener
	defer func() {
		for _, l := range open {
			l.Close()
		}
	}()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		open = append(open, l)
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// keySet serves the keys of a cluster as its API server would, and signs tokens.
type keySet struct {
	url    string
	server *http.Server
	lock   sync.Mutex
	keys   []signingKey
	asked  int
}

type signingKey struct {
	id  string
	key *rsa.PrivateKey
}

func newKeySet(serving pki.Pair) (*keySet, error) {
	k := &keySet{}
	if _, err := k.add("first"); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	k.url = "https://" + listener.Addr().String() + "/openid/v1/jwks"
	k.server = &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.lock.Lock()
		defer k.lock.Unlock()
		k.asked++
		var set jose.JSONWebKeySet
		for _, one := range k.keys {
			set.Keys = append(set.Keys, jose.JSONWebKey{Key: one.key.Public(), KeyID: one.id, Algorithm: "RS256", Use: "sig"})
		}
		json.NewEncoder(w).Encode(set)
	})}
	go k.server.ServeTLS(listener, serving.Cert, serving.Key)
	return k, nil
}

func (k *keySet) stop() { k.server.Close() }

func (k *keySet) add(id string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	k.lock.Lock()
	defer k.lock.Unlock()
	k.keys = append(k.keys, signingKey{id, key})
	return key, nil
}

func (k *keySet) public() crypto.PublicKey { return k.keys[0].key.Public() }

// token is what a service account's projected token says; its fields are
// changed by tests.
type token struct {
	algorithm jose.SignatureAlgorithm
	key       any
	keyID     string
	claims    map[string]any
}

func (k *keySet) token(subject string) *token {
	now := time.Now()
	return &token{algorithm: jose.RS256, key: k.keys[0].key, keyID: k.keys[0].id, claims: map[string]any{
		"iss": issuer, "sub": "system:serviceaccount:" + subject, "aud": []string{"sts.amazonaws.com"},
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	}}
}

func (t *token) with(claim string, value any) *token { t.claims[claim] = value; return t }

func (t *token) signed(tb testing.TB) string {
	tb.Helper()
	options := (&jose.SignerOptions{}).WithHeader("kid", t.keyID).WithType("JWT")
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: t.algorithm, Key: t.key}, options)
	if err != nil {
		tb.Fatal(err)
	}
	text, err := jwt.Signed(signer).Claims(t.claims).Serialize()
	if err != nil {
		tb.Fatal(err)
	}
	return text
}

func ecKey(tb testing.TB) *ecdsa.PrivateKey {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

// Clients: the AWS SDK as it is.

func (w *world) config(provider aws.CredentialsProvider) aws.Config {
	return aws.Config{Region: region, Credentials: provider, HTTPClient: w.client, RetryMaxAttempts: 1}
}

func (w *world) adminKey() aws.CredentialsProvider {
	return credentials.NewStaticCredentialsProvider(w.admin.ID, w.admin.Secret, "")
}

func (w *world) s3As(provider aws.CredentialsProvider) *awss3.Client {
	return awss3.NewFromConfig(w.config(provider), func(o *awss3.Options) { o.BaseEndpoint = &w.s3 })
}

func (w *world) iamAs(provider aws.CredentialsProvider) *iam.Client {
	return iam.NewFromConfig(w.config(provider), func(o *iam.Options) { o.BaseEndpoint = &w.iam })
}

func (w *world) stsAs(provider aws.CredentialsProvider) *sts.Client {
	return sts.NewFromConfig(w.config(provider), func(o *sts.Options) { o.BaseEndpoint = &w.sts })
}

// session gets a session of a role by a token, as a pod does.
func (w *world) session(t testing.TB, role, token string) aws.CredentialsProvider {
	t.Helper()
	provider, err := w.assume(role, token, "")
	if err != nil {
		t.Fatalf("assuming %s: %v", role, err)
	}
	return provider
}

func (w *world) assume(role, token, policy string) (aws.CredentialsProvider, error) {
	in := &sts.AssumeRoleWithWebIdentityInput{RoleArn: &role, RoleSessionName: aws.String("test"), WebIdentityToken: &token}
	if policy != "" {
		in.Policy = &policy
	}
	out, err := w.stsAs(aws.AnonymousCredentials{}).AssumeRoleWithWebIdentity(context.Background(), in)
	if err != nil {
		return nil, err
	}
	c := out.Credentials
	return credentials.NewStaticCredentialsProvider(*c.AccessKeyId, *c.SecretAccessKey, *c.SessionToken), nil
}

// bucket makes a bucket and takes it away with all that is in it.
func (w *world) bucket(t testing.TB, name string) string {
	t.Helper()
	admin := w.s3As(w.adminKey())
	_, err := admin.CreateBucket(t.Context(), &awss3.CreateBucketInput{Bucket: &name})
	if err != nil {
		t.Fatalf("making bucket %s: %v", name, err)
	}
	t.Cleanup(func() {
		ctx := context.Background()
		admin.DeleteBucketPolicy(ctx, &awss3.DeleteBucketPolicyInput{Bucket: &name})
		for {
			out, err := admin.ListObjectVersions(ctx, &awss3.ListObjectVersionsInput{Bucket: &name})
			if err != nil || len(out.Versions)+len(out.DeleteMarkers) == 0 {
				break
			}
			for _, v := range out.Versions {
				admin.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &name, Key: v.Key, VersionId: v.VersionId})
			}
			for _, v := range out.DeleteMarkers {
				admin.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &name, Key: v.Key, VersionId: v.VersionId})
			}
		}
		if _, err := admin.DeleteBucket(ctx, &awss3.DeleteBucketInput{Bucket: &name}); err != nil {
			t.Errorf("deleting bucket %s: %v", name, err)
		}
	})
	return name
}

// provider registers the cluster's issuer, once.
func (w *world) provider(t testing.TB) string {
	t.Helper()
	_, err := w.iamAs(w.adminKey()).CreateOpenIDConnectProvider(t.Context(), &iam.CreateOpenIDConnectProviderInput{
		Url: aws.String(issuer), ClientIDList: []string{"sts.amazonaws.com"}, ThumbprintList: []string{strings.Repeat("0", 40)},
	})
	if err != nil && code(err) != "EntityAlreadyExists" {
		t.Fatal(err)
	}
	return "arn:aws:iam::" + account + ":oidc-provider/" + strings.TrimPrefix(issuer, "https://")
}

// trust is a role's trust in one subject, or in those like it.
func trust(operator, subject string) string {
	name := strings.TrimPrefix(issuer, "https://")
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::%s:oidc-provider/%s"},
		"Action":"sts:AssumeRoleWithWebIdentity","Condition":{%q:{"%s:aud":"sts.amazonaws.com","%s:sub":"system:serviceaccount:%s"}}}]}`,
		account, name, operator, name, name, subject)
}

// role makes a role with one inline policy ("" for none) and takes it away.
func (w *world) role(t testing.TB, name, trust, policy string, more ...func(*iam.CreateRoleInput)) string {
	t.Helper()
	w.provider(t)
	admin := w.iamAs(w.adminKey())
	in := &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: &trust}
	for _, change := range more {
		change(in)
	}
	out, err := admin.CreateRole(t.Context(), in)
	if err != nil {
		t.Fatalf("making role %s: %v", name, err)
	}
	if policy != "" {
		w.grant(t, name, policy)
	}
	t.Cleanup(func() {
		admin.DeleteRolePolicy(context.Background(), &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: aws.String("s3")})
		admin.DeleteRole(context.Background(), &iam.DeleteRoleInput{RoleName: &name})
	})
	return *out.Role.Arn
}

func (w *world) grant(t testing.TB, role, policy string) {
	t.Helper()
	_, err := w.iamAs(w.adminKey()).PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &role, PolicyName: aws.String("s3"), PolicyDocument: &policy})
	if err != nil {
		t.Fatalf("giving role %s its policy: %v", role, err)
	}
}

func (w *world) put(t testing.TB, client *awss3.Client, bucket, key, text string) {
	t.Helper()
	_, err := client.PutObject(t.Context(), &awss3.PutObjectInput{Bucket: &bucket, Key: &key, Body: strings.NewReader(text)})
	if err != nil {
		t.Fatalf("putting %s/%s: %v", bucket, key, err)
	}
}

// policy is a document of statements.
func policy(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// code is AWS's code of an error, "" for none.
func code(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return ""
	case errors.As(err, &api):
		return api.ErrorCode()
	}
	return err.Error()
}

func wantCode(t *testing.T, err error, want string) {
	t.Helper()
	if got := code(err); got != want {
		t.Errorf("got %q (%v), want %q", got, err, want)
	}
}

// send does a request as it stands and gives S3's code, "" for success.
func (w *world) send(t testing.TB, method, address, body string) (code string, status int) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, address, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	if answer.StatusCode < 300 {
		return "", answer.StatusCode
	}
	_, rest, _ := strings.Cut(string(text), "<Code>")
	code, _, _ = strings.Cut(rest, "</Code>")
	if code == "" {
		code = answer.Status
	}
	return code, answer.StatusCode
}

func form(pairs ...string) string {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		values.Set(pairs[i], pairs[i+1])
	}
	return values.Encode()
}
