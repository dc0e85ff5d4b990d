package jumper

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what has to come, however slow the machine.
const patience = time.Minute

const upstreamName = "eks.example.test"

// authority is a CA as a cluster has it, and a certificate of the upstream.
type authority struct {
	file        string // the CA, in PEM
	pem         []byte
	pool        *x509.CertPool
	certificate tls.Certificate
	until       func(end time.Time) tls.Certificate // the same, with another end
}

func newAuthority(t testing.TB, names ...string) *authority {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "kubernetes"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	caDER, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	must(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "kube-apiserver"}, NotBefore: ca.NotBefore, NotAfter: ca.NotAfter,
		DNSNames: names, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	a := &authority{file: filepath.Join(t.TempDir(), "ca.crt"), pool: x509.NewCertPool()}
	a.until = func(end time.Time) tls.Certificate {
		leaf.NotAfter = end
		der, err := x509.CreateCertificate(rand.Reader, leaf, ca, key.Public(), caKey)
		must(err)
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	a.certificate = a.until(ca.NotAfter)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})
	must(os.WriteFile(a.file, a.pem, 0o600))
	a.pool.AppendCertsFromPEM(a.pem)
	return a
}

// expired is the same authority with a certificate that is over.
func (a *authority) expired() *authority {
	return &authority{file: a.file, pem: a.pem, pool: a.pool, certificate: a.until(time.Now().Add(-time.Minute))}
}

// upstream is a cluster's endpoint: one address and what it does with a connection.
type upstream struct {
	net.Listener
	at      netip.AddrPort
	arrived chan struct{} // one for each connection, while there is room
	serving sync.WaitGroup
}

// serveUpstream listens at a host, on a free port or the given, until the end of
// the test or Close.
func serveUpstream(t testing.TB, host string, port uint16, handle func(*net.TCPConn)) *upstream {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	u := &upstream{Listener: l, at: netip.MustParseAddrPort(l.Addr().String()), arrived: make(chan struct{}, 1)}
	u.serving.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case u.arrived <- struct{}{}:
			default:
			}
			u.serving.Go(func() {
				defer conn.Close()
				handle(conn.(*net.TCPConn))
			})
		}
	})
	t.Cleanup(func() { l.Close(); u.serving.Wait() })
	return u
}

// echoes handles a connection in TLS: it says back all it is told, until it is told
// nothing more. So does answers.
func (a *authority) echoes(raw *net.TCPConn) { a.echo(raw) }

func (a *authority) answers(raw *called) { a.echo(raw) }

func (a *authority) echo(raw net.Conn) {
	conn := tls.Server(raw, &tls.Config{Certificates: []tls.Certificate{a.certificate}})
	_, _ = io.Copy(conn, conn)
	conn.Close()
}

// running is a jumper under test.
type running struct {
	listen, ready string
	lines         chan line // of standard output
	said          *said     // on standard error
	stop          context.CancelFunc
	exit          chan int
}

// said is what a program has written, for a test that fails.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// start runs the program on free ports until the test's end.
func start(t testing.TB, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, stdout := io.Pipe()
	errs, stderr := io.Pipe()
	r := &running{lines: make(chan line, 10000), said: &said{}, stop: cancel, exit: make(chan int, 1)}
	go func() {
		code := Run(ctx, append([]string{"--listen", "127.0.0.1:0", "--ready", "127.0.0.1:0"}, args...), stdout, stderr)
		stdout.Close()
		stderr.Close()
		r.exit <- code
	}()
	var reading sync.WaitGroup
	reading.Go(func() {
		defer close(r.lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			var l line
			decoder := json.NewDecoder(bytes.NewReader(scanner.Bytes()))
			decoder.DisallowUnknownFields()
			if err := decoder.Decode(&l); err != nil {
				t.Errorf("got %q on standard output, want a connection's line: %v", scanner.Text(), err)
			}
			r.lines <- l
		}
	})
	listening := make(chan struct{})
	reading.Go(func() {
		lines := bufio.NewScanner(io.TeeReader(errs, r.said))
		var first struct{ Msg, Listen, Ready string }
		for lines.Scan() {
			if first.Listen == "" && json.Unmarshal(lines.Bytes(), &first) == nil && first.Msg == "listening" {
				r.listen, r.ready = first.Listen, first.Ready
				close(listening)
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		reading.Wait()
		if t.Failed() {
			t.Logf("the jumper said:\n%s", r.said)
		}
	})
	select {
	case <-listening:
	case code := <-r.exit:
		t.Fatalf("got exit status %d, want it to listen: %s", code, r.said)
	case <-time.After(patience):
		t.Fatalf("got no word of where it listens: %s", r.said)
	}
	return r
}

// line is the next connection that ended.
func (r *running) line(t testing.TB) line {
	t.Helper()
	select {
	case l, ok := <-r.lines:
		if !ok {
			t.Fatal("got the end of standard output, want a line")
		}
		return l
	case <-time.After(patience):
		t.Fatal("got no line of a connection")
	}
	panic("unreachable")
}

// get asks at the readiness port.
func (r *running) get(t testing.TB, path string) (int, string) {
	t.Helper()
	response, err := http.Get("http://" + r.ready + path)
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

// until asks at the readiness port again and again, until what comes is right.
func (r *running) until(t testing.TB, path string, right func(code int, body string) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		code, body := r.get(t, path)
		if right(code, body) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %d %q of %s to the end", code, body, path)
		}
	}
}

// metric waits until a series has a value.
func (r *running) metric(t testing.TB, series, value string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		_, body := r.get(t, "/metrics")
		_, after, _ := strings.Cut(body, "\nbiplane_jumper_"+series+" ")
		got, _, _ := strings.Cut(after, "\n")
		if got == value {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %s %q to the end, want %s", series, got, value)
		}
	}
}

// dial opens a connection to the jumper and does no more.
func (r *running) dial(t testing.TB) *net.TCPConn {
	t.Helper()
	conn, err := net.Dial("tcp", r.listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return conn.(*net.TCPConn)
}

// client is a TLS connection through the jumper.
func (r *running) client(t testing.TB, a *authority, name string) (*tls.Conn, error) {
	t.Helper()
	conn := tls.Client(r.dial(t), &tls.Config{ServerName: name, RootCAs: a.pool})
	return conn, conn.HandshakeContext(t.Context())
}

// talk says something through a new connection and wants it back.
func (r *running) talk(a *authority, name, text string) error {
	dialer := &net.Dialer{Timeout: patience}
	conn, err := tls.DialWithDialer(dialer, "tcp", r.listen, &tls.Config{ServerName: name, RootCAs: a.pool})
	if err != nil {
		return err
	}
	defer conn.Close()
	return echoed(conn, text)
}

// echoed says something and its end, and wants it back, and the end.
func echoed(conn *tls.Conn, text string) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, text); err != nil {
		return err
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	back, err := io.ReadAll(conn)
	if err != nil {
		return err
	}
	if string(back) != text {
		return errors.New("got " + string(back) + " back, want " + text)
	}
	return nil
}
