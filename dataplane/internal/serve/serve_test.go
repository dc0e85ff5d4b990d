package serve_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/dataplane/internal/serve"
)

// issue writes a new certificate, signed by itself, as the kubelet does: a new
// folder, and one link swapped.
func issue(t *testing.T, folder, name string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, DNSNames: []string{"localhost"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	version := t.TempDir()
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, content := range map[string][]byte{"tls.crt": certificate, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})} {
		if err := os.WriteFile(filepath.Join(version, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(filepath.Join(folder, file)); err != nil {
			if err := os.Symlink(filepath.Join("..data", file), filepath.Join(folder, file)); err != nil {
				t.Fatal(err)
			}
		}
	}
	next := filepath.Join(folder, "..next")
	if err := errors.Join(os.Symlink(version, next), os.Rename(next, filepath.Join(folder, "..data"))); err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return pool
}

type running struct {
	address string
	stop    func()
	ended   chan error
}

func start(t *testing.T, options serve.Options) *running {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	options.Listener, options.Log = listener, slog.New(slog.NewTextHandler(io.Discard, nil))
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{address: "https://localhost:" + port, stop: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- serve.Serve(ctx, options) }()
	t.Cleanup(cancel)
	return r
}

// client trusts a pool, or with nil anything.
func client(t *testing.T, pool *x509.CertPool, http1 bool) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, InsecureSkipVerify: pool == nil},
		ForceAttemptHTTP2: !http1,
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

func get(t *testing.T, c *http.Client, url string) (*http.Response, string) {
	t.Helper()
	response, err := c.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(body)
}

func TestServe(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	pool := issue(t, folder, "first")
	var notReady atomic.Bool
	s := start(t, serve.Options{
		TLSFolder: folder, MaxBody: 1000, Metrics: prometheus.NewRegistry(),
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				http.Error(w, err.Error(), http.StatusRequestEntityTooLarge)
			}
		}),
		Ready: func() error {
			if notReady.Load() {
				return errors.New("the store is away")
			}
			return nil
		},
	})

	t.Run("speaks HTTP/2 and HTTP/1.1", func(t *testing.T) {
		for major, http1 := range map[int]bool{2: false, 1: true} {
			if response, _ := get(t, client(t, pool, http1), s.address+"/livez"); response.ProtoMajor != major || response.StatusCode != http.StatusOK {
				t.Errorf("got %s %s, want HTTP/%d 200", response.Proto, response.Status, major)
			}
		}
	})
	t.Run("says why it is not ready", func(t *testing.T) {
		if response, body := get(t, client(t, pool, false), s.address+"/readyz"); response.StatusCode != http.StatusOK {
			t.Errorf("got %s %q, want 200", response.Status, body)
		}
		notReady.Store(true)
		response, body := get(t, client(t, pool, false), s.address+"/readyz")
		if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "the store is away") {
			t.Errorf("got %s %q, want 503 and the reason", response.Status, body)
		}
	})
	t.Run("refuses a body over the limit", func(t *testing.T) {
		response, err := client(t, pool, false).Post(s.address+"/", "text/plain", strings.NewReader(strings.Repeat("x", 1001)))
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("got %s, want 413", response.Status)
		}
	})
	t.Run("refuses TLS 1.1", func(t *testing.T) {
		connection, err := tls.Dial("tcp", strings.TrimPrefix(s.address, "https://"), &tls.Config{RootCAs: pool, MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10})
		if err == nil {
			connection.Close()
			t.Error("got a connection, want it refused")
		}
	})
	t.Run("shows the new certificate once it is replaced", func(t *testing.T) {
		renewed := issue(t, folder, "second")
		deadline := time.Now().Add(time.Minute)
		for {
			_, err := client(t, renewed, false).Get(s.address + "/livez")
			if err == nil {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %v, want the new certificate", err)
			}
		}
	})
}

func TestServeWaitsForItsCertificate(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	s := start(t, serve.Options{TLSFolder: folder})
	anyone := client(t, nil, false)
	if response, _ := get(t, anyone, s.address+"/livez"); response.StatusCode != http.StatusOK {
		t.Errorf("got %s for /livez without certificate, want 200", response.Status)
	}
	response, body := get(t, anyone, s.address+"/readyz")
	if response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(body, "waiting for the certificate that the operator makes") {
		t.Errorf("got %s %q for /readyz without certificate, want 503 and the reason", response.Status, body)
	}
	issue(t, folder, "first")
	for deadline := time.Now().Add(time.Minute); ; {
		response, body := get(t, anyone, s.address+"/readyz")
		if response.StatusCode == http.StatusOK {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %s %q, want 200 once there is one", response.Status, body)
		}
	}
}

// watcher has a stream that lives as long as the server, and a call that takes
// until it is released.
type watcher struct {
	actionsconnect.UnimplementedActionsServiceHandler
	called  chan struct{}
	release chan struct{}
}

func (w *watcher) WatchForUpdates(ctx context.Context, _ *actions.WatchForUpdatesRequest, stream *connect.ServerStream[actions.WatchForUpdatesResponse]) error {
	if err := stream.Send(&actions.WatchForUpdatesResponse{}); err != nil {
		return err
	}
	select {
	case <-serve.Draining(ctx):
		return serve.ErrDraining()
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (w *watcher) Enqueue(context.Context, *actions.EnqueueRequest) (*actions.EnqueueResponse, error) {
	close(w.called)
	<-w.release
	return &actions.EnqueueResponse{}, nil
}

func TestServeWaitsForItsPort(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	issue(t, folder, "one")
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	lines := make(lineWriter, 10)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- serve.Serve(ctx, serve.Options{Listen: other.Addr().String(), TLSFolder: folder, Log: slog.New(slog.NewTextHandler(lines, nil))})
	}()
	if line := <-lines; !strings.Contains(line, "waiting for the port") {
		t.Errorf("got %q, want it waiting while another has the port", line)
	}
	other.Close()
	if line := <-lines; !strings.Contains(line, "listening") {
		t.Errorf("got %q, want it listening once the port is free", line)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// lineWriter hands over what is logged.
type lineWriter chan string

func (w lineWriter) Write(b []byte) (int, error) {
	w <- string(b)
	return len(b), nil
}

func TestServeDrains(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	pool := issue(t, folder, "first")
	w := &watcher{called: make(chan struct{}), release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle(actionsconnect.NewActionsServiceHandler(w, connect.WithInterceptors(serve.Interceptor())))
	s := start(t, serve.Options{TLSFolder: folder, Handler: mux})
	api := actionsconnect.NewActionsServiceClient(client(t, pool, false), s.address)

	stream, err := api.WatchForUpdates(t.Context(), &actions.WatchForUpdatesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if !stream.Receive() {
		t.Fatalf("got %v, want a first message", stream.Err())
	}
	enqueued := make(chan error, 1)
	go func() {
		_, err := api.Enqueue(t.Context(), &actions.EnqueueRequest{})
		enqueued <- err
	}()
	<-w.called
	s.stop()

	if stream.Receive() || connect.CodeOf(stream.Err()) != connect.CodeUnavailable {
		t.Errorf("got %v at the end of a stream, want %v", stream.Err(), connect.CodeUnavailable)
	}
	close(w.release)
	if err := <-enqueued; err != nil {
		t.Errorf("got %v for a call that was under way, want its answer", err)
	}
	if err := <-s.ended; err != nil {
		t.Errorf("got %v, want nil", err)
	}
}
