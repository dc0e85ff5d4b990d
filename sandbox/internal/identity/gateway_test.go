package identity_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/versity/versitygw/auth"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/identity"
	"biplane.dev/biplane/sandbox/internal/pki"
)

const account = "123456789012"

// running is an identity program without a cluster.
type running struct {
	cfg    identity.Config
	admin  pki.AccessKey
	gate   pki.AccessKey
	client *http.Client
	url    string
}

func start(t *testing.T) *running {
	t.Helper()
	dir := t.TempDir()
	keys, err := pki.Open(filepath.Join(dir, "pki"), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	serving, err := keys.Pair("serving", pki.Subject{User: "serving", IPs: []string{"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	r := &running{}
	r.cfg = identity.Config{
		Dir: dir, Account: account, Region: "eu-central-1", Socket: filepath.Join(dir, "identity.sock"),
		CertFile: serving.Cert, KeyFile: serving.Key, CAFile: keys.CA(), Log: slog.New(slog.DiscardHandler),
	}
	if r.cfg.AdminKeyFile, r.admin, err = keys.AccessKey("admin"); err != nil {
		t.Fatal(err)
	}
	if r.cfg.GatewayKeyFile, r.gate, err = keys.AccessKey("gateway"); err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.cfg.IAMAddress = listener.Addr().String()
	listener.Close()
	r.url = "https://" + r.cfg.IAMAddress
	ca, err := os.ReadFile(keys.CA())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(transport.CloseIdleConnections)
	r.client = &http.Client{Transport: transport}
	r.run(t)
	return r
}

// run runs the program until the test ends.
func (r *running) run(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	listened, ended := make(chan struct{}), make(chan error, 1)
	cfg := r.cfg
	cfg.Listened = func() { close(listened) }
	go func() { ended <- identity.Run(ctx, cfg) }()
	select {
	case <-listened:
	case err := <-ended:
		t.Fatalf("got %v, want it to run", err)
	}
	var once bool
	stop = func() {
		if once {
			return
		}
		once = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("got %v at its end, want nothing", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

// versitygw's own client of its protocol is the judge of ours.
func TestProtocol(t *testing.T) {
	t.Parallel()
	r := start(t)
	client, err := auth.NewIAMServiceStandalone(auth.Account{Access: r.gate.ID, Secret: r.gate.Secret, Role: auth.RoleAdmin},
		auth.IAMServiceStandaloneConfig{Endpoint: r.cfg.Socket, Region: "eu-central-1"})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Shutdown()
	if got, want := client.BucketOwner().Arn, "arn:aws:iam::"+account+":root"; got != want {
		t.Errorf("it says that the account is %s, want %s", got, want)
	}

	key, who, err := client.DeriveSigningKey(r.admin.ID, "", "20260131", "eu-central-1", "s3")
	if err != nil {
		t.Fatal(err)
	}
	if want := "arn:aws:iam::" + account + ":user/administrator"; len(key) != 32 || who.Arn != want {
		t.Errorf("got a key of %d bytes of %s, want one of 32 of %s", len(key), who.Arn, want)
	}
	if _, _, err := client.DeriveSigningKey("AKIANOBODYNOBODYNOBO", "", "20260131", "eu-central-1", "s3"); !errors.Is(err, auth.ErrNoSuchUser) {
		t.Errorf("got %v for a key that nobody has, want %v", err, auth.ErrNoSuchUser)
	}
	if _, _, err := client.DeriveSigningKey(r.admin.ID, "somebody's token", "20260131", "eu-central-1", "s3"); !errors.Is(err, auth.ErrInvalidSessionToken) {
		t.Errorf("got %v for a user's key with a token, want %v", err, auth.ErrInvalidSessionToken)
	}

	decided, err := client.EvaluatePolicy(r.admin.ID, "", []auth.Action{auth.GetObjectAction, auth.PutObjectAction},
		[]string{"arn:aws:s3:::b/x", "arn:aws:s3:::b/y"}, map[string][]string{"aws:SourceIp": {"127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(decided.Decisions, decided.HasSessionPolicy), "[[1 1] [1 1]] false"; got != want {
		t.Errorf("got %s, want %s (allowed is 1)", got, want)
	}
	missing, err := client.ResolveAccounts([]string{r.admin.ID, "AKIANOBODYNOBODYNOBO"})
	if err != nil || len(missing) != 1 || missing[0] != "AKIANOBODYNOBODYNOBO" {
		t.Errorf("got %v (%v), want the one that is not there", missing, err)
	}
	invalid, err := client.ResolvePrincipals([]string{"arn:aws:iam::" + account + ":root", "arn:aws:iam::" + account + ":role/nobody"})
	if err != nil || len(invalid) != 1 || !strings.HasSuffix(invalid[0], "nobody") {
		t.Errorf("got %v (%v), want the role that is not there", invalid, err)
	}

	stranger, err := auth.NewIAMServiceStandalone(auth.Account{Access: r.gate.ID, Secret: "guessed"}, auth.IAMServiceStandaloneConfig{Endpoint: r.cfg.Socket})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Shutdown()
	if key, _, err := stranger.DeriveSigningKey(r.admin.ID, "", "20260131", "eu-central-1", "s3"); err == nil {
		t.Errorf("got a key of %d bytes with a guessed secret, want a refusal", len(key))
	}
}

func TestSocketIsOneUsers(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, file := range []string{r.cfg.Socket, r.cfg.Socket + ".generation", filepath.Join(r.cfg.Dir, "identity.db")} {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Mode().Perm(); got != 0o600 {
			t.Errorf("%s: got mode %04o, want 0600", filepath.Base(file), got)
		}
	}
}

func TestHealth(t *testing.T) {
	t.Parallel()
	r := start(t)
	for _, path := range []string{"/healthz", "/readyz"} {
		answer, err := r.client.Get(r.url + path)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		if answer.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s, want 200 OK", path, answer.Status)
		}
	}
}

func TestGenerationGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	writer, err := identity.NewGeneration(socket)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := identity.OpenGeneration(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	first, err := reader.Read()
	if err != nil {
		t.Fatal(err)
	}
	writer.Next()
	second, _ := reader.Read()
	writer.Close()
	again, err := identity.NewGeneration(socket)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	third, _ := reader.Read()
	if !(first < second && second < third) {
		t.Errorf("got %d, %d, %d, want them to grow", first, second, third)
	}
}

func TestKeyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name, file string
		want       usererr.Kind
	}{
		{"refuses a file that others can read", write("open", `{"id":"a","secret":"b"}`, 0o644), usererr.Refused},
		{"refuses a file without a secret", write("empty", `{"id":"a"}`, 0o600), usererr.Invalid},
		{"refuses what is no JSON", write("text", `a:b`, 0o600), usererr.Invalid},
		{"refuses a file that is not there", filepath.Join(dir, "missing"), usererr.NotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := identity.ReadKey(c.file)
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != c.want {
				t.Errorf("got %v, want an error of kind %v", err, c.want)
			}
		})
	}
	key, err := identity.ReadKey(write("good", `{"id":"a","secret":"b"}`, 0o600))
	if err != nil || key != (identity.Key{ID: "a", Secret: "b"}) {
		t.Errorf("got %v (%v), want a and b", key, err)
	}
}
