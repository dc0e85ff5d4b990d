package tunnel_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"biplane.dev/biplane/tunnel"
)

// patience is how long a test waits for what must come.
const patience = 2 * time.Minute

// authority is a CA with one server's and one client's certificate.
type authority struct {
	pem            []byte
	roots          *x509.CertPool
	server, client tls.Certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(template *x509.Certificate) tls.Certificate {
		leaf := newKey(t)
		template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(2), root.NotBefore, root.NotAfter
		signed, err := x509.CreateCertificate(rand.Reader, template, root, leaf.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{signed, der}, PrivateKey: leaf}
	}
	a := &authority{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), roots: x509.NewCertPool()}
	a.roots.AddCert(root)
	a.server = sign(&x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	a.client = sign(&x509.Certificate{
		URIs:        []*url.URL{tunnel.Identity{Organization: "acme", Cluster: "c1"}.URI()},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return a
}

func newKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := tunnel.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (a *authority) clientTLS(t testing.TB) *tls.Config {
	t.Helper()
	config, err := tunnel.ClientTLS(a.client, a.pem)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func (a *authority) serverTLS() *tls.Config {
	return &tls.Config{
		Certificates: []tls.Certificate{a.server}, NextProtos: []string{tunnel.ALPN}, MinVersion: tls.VersionTLS13,
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: a.roots,
	}
}

// gateway accepts sessions until the test ends.
type gateway struct {
	address  string
	sessions chan *tunnel.Session
}

func newGateway(t testing.TB, a *authority) *gateway {
	t.Helper()
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &gateway{address: plain.Addr().String(), sessions: make(chan *tunnel.Session, 64)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			socket, err := plain.Accept()
			if err != nil {
				return
			}
			running.Go(func() {
				conn := tls.Server(socket, a.serverTLS())
				if conn.HandshakeContext(context.Background()) != nil {
					socket.Close()
					return
				}
				session, err := tunnel.Accept(conn, tunnel.Options{})
				if err != nil {
					socket.Close()
					return
				}
				g.sessions <- session
			})
		}
	})
	t.Cleanup(func() {
		plain.Close()
		running.Wait()
		for {
			select {
			case session := <-g.sessions:
				session.Close()
			default:
				return
			}
		}
	})
	return g
}

func (g *gateway) next(t testing.TB) *tunnel.Session {
	t.Helper()
	select {
	case session := <-g.sessions:
		t.Cleanup(session.Close)
		return session
	case <-time.After(patience):
		t.Fatal("got no session, want one")
		return nil
	}
}

// pair is both ends of a session; each serves its handlers.
func pair(t testing.TB, inControlPlane, inDataPlane tunnel.Handlers) (control, data *tunnel.Session) {
	t.Helper()
	a := newAuthority(t)
	g := newGateway(t, a)
	return g.pair(t, a, g.address, inControlPlane, inDataPlane)
}

func (g *gateway) pair(t testing.TB, a *authority, address string, inControlPlane, inDataPlane tunnel.Handlers) (control, data *tunnel.Session) {
	t.Helper()
	data, err := tunnel.Dial(t.Context(), address, a.clientTLS(t), tunnel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	control = g.next(t)
	serve(t, control, inControlPlane)
	serve(t, data, inDataPlane)
	return control, data
}

func serve(t testing.TB, session *tunnel.Session, handlers tunnel.Handlers) {
	served := make(chan struct{})
	go func() {
		defer close(served)
		session.Serve(context.Background(), handlers)
	}()
	t.Cleanup(func() {
		session.Close()
		wait(t, served, "the session's handlers to return")
	})
}

func wait(t testing.TB, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Errorf("got nothing in %s, want %s", patience, what)
	}
}

// echo answers a call with its body.
var echo = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Host-Asked", r.Host)
	io.Copy(w, r.Body)
})

// after answers each call once do has returned.
func after(do func()) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		do()
		w.WriteHeader(http.StatusOK)
	})
}
