package cli_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/cli"
)

// TestReceive has what a transcript cannot: the receiver runs while it is asked. That it
// believes a stack is in announce.txtar.
func TestReceive(t *testing.T) {
	t.Parallel()
	t.Run("refuses on its own URL, is healthy, and ends well when it is told to", func(t *testing.T) {
		t.Parallel()
		r := startReceiver(t, "http://127.0.0.1:8443/announcements", "--listen", "127.0.0.1:0")
		if status, text := r.ask(http.DefaultClient, http.MethodGet, "http://"+r.address+"/healthz"); status != 200 || text != "ok\n" {
			t.Errorf("got %d %q, want 200 ok", status, text)
		}
		if status, text := r.ask(http.DefaultClient, http.MethodPost, "http://"+r.address+"/announcements"); status != 400 {
			t.Errorf("got %d %q, want 400", status, text)
		}
		status, out, log := r.stop()
		if status != 0 || out != "" {
			t.Errorf("got status %d and %q, want 0 and nothing", status, out)
		}
		if !strings.Contains(log, `msg="announcement refused" status=400`) {
			t.Errorf("got the log %q, want the refusal", log)
		}
	})
	t.Run("has TLS of its own, of the certificate that is there now", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		certificate, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
		first := writeCertificate(t, certificate, key)
		r := startReceiver(t, "https://vendor.example.com/", "--listen", "127.0.0.1:0", "--tls-cert", certificate, "--tls-key", key)
		for _, pool := range []*x509.CertPool{writeCertificate(t, certificate, key), first} {
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "vendor.example.com"}, DisableKeepAlives: true}}
			answer, err := client.Get("https://" + r.address + "/healthz")
			if (err == nil) == (pool == first) {
				t.Errorf("got error %v with the first certificate: %t, want it to be refused", err, pool == first)
			}
			if err == nil {
				answer.Body.Close()
			}
		}
		if status, _, _ := r.stop(); status != 0 {
			t.Errorf("got status %d, want 0", status)
		}
	})
}

// receiver is a `biplane access receive` that runs.
type receiver struct {
	t       *testing.T
	address string
	cancel  context.CancelFunc
	status  chan int
	out     bytes.Buffer
	log     bytes.Buffer
	logged  chan struct{}
}

func startReceiver(t *testing.T, url string, args ...string) *receiver {
	t.Helper()
	expect := filepath.Join(t.TempDir(), "customers.yaml")
	if err := os.WriteFile(expect, []byte("apiVersion: biplane.dev/v1\nkind: ExpectedCustomers\ncustomers:\n- {name: acme, externalIds: [5Zq0v3l1x8mTfKcW2hYbNg]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	r := &receiver{t: t, cancel: cancel, status: make(chan int, 1), logged: make(chan struct{})}
	read, write := io.Pipe()
	go func() {
		r.status <- cli.Run(ctx, append([]string{"access", "receive", "--url", url, "--expect", expect}, args...), cli.Streams{In: strings.NewReader(""), Out: &r.out, Err: write})
		write.Close()
	}()
	lines := bufio.NewReader(read)
	first, err := lines.ReadString('\n')
	r.address, _, _ = strings.Cut(strings.TrimPrefix(first, "Listening on "), " ")
	if _, _, bad := net.SplitHostPort(r.address); err != nil || bad != nil {
		t.Fatalf("got %q, want the address it listens on", first)
	}
	go func() {
		defer close(r.logged)
		io.Copy(&r.log, lines)
	}()
	return r
}

func (r *receiver) ask(client *http.Client, method, url string) (int, string) {
	r.t.Helper()
	request, err := http.NewRequestWithContext(r.t.Context(), method, url, strings.NewReader("{}"))
	if err != nil {
		r.t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	answer, err := client.Do(request)
	if err != nil {
		r.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return answer.StatusCode, string(text)
}

// stop ends it as a signal would, and returns its exit status and what it wrote.
func (r *receiver) stop() (status int, out, log string) {
	r.cancel()
	status = <-r.status
	<-r.logged
	return status, r.out.String(), r.log.String()
}

func writeCertificate(t *testing.T, certificate, key string) *x509.CertPool {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: []string{"vendor.example.com"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{certificate: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "PRIVATE KEY", Bytes: secret}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(parsed)
	return pool
}
