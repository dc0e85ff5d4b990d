package tunnel_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"biplane.dev/biplane/tunnel"
)

func TestDial(t *testing.T) {
	t.Parallel()
	a, other := newAuthority(t), newAuthority(t)
	g := newGateway(t, a)
	for name, spoil := range map[string]func(*tls.Config){
		"refuses TLS 1.2":                           func(c *tls.Config) { c.MinVersion, c.MaxVersion = 0, tls.VersionTLS12 },
		"refuses who shows no certificate":          func(c *tls.Config) { c.Certificates = nil },
		"refuses a certificate of another CA":       func(c *tls.Config) { c.Certificates = []tls.Certificate{other.client} },
		"refuses a server's certificate of its own": func(c *tls.Config) { c.Certificates = []tls.Certificate{a.server} },
		"believes no gateway of another CA":         func(c *tls.Config) { c.RootCAs = other.roots },
		"believes no gateway of another name":       func(c *tls.Config) { c.ServerName = "elsewhere.example" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := a.clientTLS(t)
			spoil(config)
			session, err := tunnel.Dial(t.Context(), g.address, config, tunnel.Options{})
			if err == nil {
				session.Close()
				t.Error("got a session, want none")
			}
		})
	}

	t.Run("says what to do about a CA that it does not know", func(t *testing.T) {
		t.Parallel()
		config := a.clientTLS(t)
		config.RootCAs = other.roots
		if _, err := tunnel.Dial(t.Context(), g.address, config, tunnel.Options{}); err == nil || !strings.Contains(err.Error(), "join anew") {
			t.Errorf("got %v, want that it has to join anew", err)
		}
	})

	t.Run("hears in one sentence why it is refused", func(t *testing.T) {
		t.Parallel()
		address := serveOnce(t, a, func(conn *tls.Conn) { tunnel.Refuse(conn, "the cluster was\nremoved "+strings.Repeat("!", 1000)) })
		_, err := tunnel.Dial(t.Context(), address, a.clientTLS(t), tunnel.Options{})
		var refused *tunnel.RefusedError
		if !errors.As(err, &refused) || !strings.HasPrefix(refused.Reason, "the cluster was removed !") {
			t.Errorf("got %v, want the reason on one line", err)
		}
	})

	t.Run("waits for no greeting longer than its context", func(t *testing.T) {
		t.Parallel()
		hold := make(chan struct{})
		address := serveOnce(t, a, func(*tls.Conn) { <-hold })
		t.Cleanup(func() { close(hold) })
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := tunnel.Dial(ctx, address, a.clientTLS(t), tunnel.Options{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want that the context ended", err)
		}
	})

	t.Run("takes no greeting without end", func(t *testing.T) {
		t.Parallel()
		address := serveOnce(t, a, func(conn *tls.Conn) {
			for _, err := conn.Write(make([]byte, 4096)); err == nil; _, err = conn.Write(make([]byte, 4096)) {
			}
		})
		if _, err := tunnel.Dial(t.Context(), address, a.clientTLS(t), tunnel.Options{}); err == nil || !strings.Contains(err.Error(), "longer than") {
			t.Errorf("got %v, want the line refused", err)
		}
	})
}

// serveOnce has one connection served behind its handshake.
func serveOnce(t *testing.T, a *authority, behind func(*tls.Conn)) (address string) {
	t.Helper()
	listener, err := tls.Listen("tcp", "127.0.0.1:0", a.serverTLS())
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		if conn := conn.(*tls.Conn); conn.Handshake() == nil {
			behind(conn)
		}
	}()
	t.Cleanup(func() {
		listener.Close()
		wait(t, served, "the server to be done")
	})
	return listener.Addr().String()
}

func TestKeep(t *testing.T) {
	t.Parallel()
	start := func(t *testing.T, a *authority, address string, use func(context.Context, *tunnel.Session)) (stop func()) {
		ctx, cancel := context.WithCancel(context.Background())
		kept := make(chan struct{})
		go func() {
			defer close(kept)
			tunnel.Keep(ctx, tunnel.KeepOptions{
				Address: address,
				TLS:     func(context.Context) (*tls.Config, error) { return a.clientTLS(t), nil },
			}, patience, use)
		}()
		stop = func() {
			cancel()
			wait(t, kept, "Keep to return")
		}
		t.Cleanup(stop)
		return stop
	}
	serveEcho := func(ctx context.Context, session *tunnel.Session) { session.Serve(ctx, tunnel.Handlers{RPC: echo}) }

	t.Run("is back when the link was cut", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t)
		g := newGateway(t, a)
		w := newWire(t, g.address, 0)
		start(t, a, w.address, serveEcho)
		for range 3 {
			control := g.next(t)
			if _, _, err := post(t.Context(), control, "http://executor/", "hello"); err != nil {
				t.Fatal(err)
			}
			w.cut()
			wait(t, control.Done(), "the session to end")
		}
		g.next(t)
	})

	t.Run("has the next session before a drained one has ended", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t)
		g := newGateway(t, a)
		began, finish := make(chan struct{}), make(chan struct{})
		var calls atomic.Int32
		start(t, a, g.address, func(ctx context.Context, session *tunnel.Session) {
			session.Serve(ctx, tunnel.Handlers{RPC: after(func() {
				if calls.Add(1) == 1 {
					close(began)
					<-finish
				}
			})})
		})
		first := g.next(t)
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			if _, _, err := post(context.Background(), first, "http://executor/", ""); err != nil {
				t.Errorf("got %v from a call under way, want it to end as always", err)
			}
		}()
		wait(t, began, "the call to begin")
		go first.Drain(context.Background())
		second := g.next(t)
		if _, _, err := post(t.Context(), second, "http://executor/", ""); err != nil {
			t.Error(err)
		}
		close(finish)
		wait(t, answered, "the answer on the first")
		wait(t, first.Done(), "the first to end")
	})

	t.Run("drains when it is to end", func(t *testing.T) {
		t.Parallel()
		a := newAuthority(t)
		g := newGateway(t, a)
		began, finish := make(chan struct{}), make(chan struct{})
		stop := start(t, a, g.address, func(ctx context.Context, session *tunnel.Session) {
			session.Serve(ctx, tunnel.Handlers{RPC: after(func() {
				close(began)
				<-finish
			})})
		})
		control := g.next(t)
		serve(t, control, tunnel.Handlers{})
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			if _, _, err := post(context.Background(), control, "http://executor/", ""); err != nil {
				t.Errorf("got %v from a call under way, want it to end as always", err)
			}
		}()
		wait(t, began, "the call to begin")
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			stop()
		}()
		wait(t, control.Draining(), "the peer to hear of it")
		close(finish)
		wait(t, answered, "the answer")
		wait(t, stopped, "Keep to return")
	})
}

func TestToken(t *testing.T) {
	t.Parallel()
	good := tunnel.Token{Fingerprint: strings.Repeat("0a", 32), Secret: "part.of.secret"}
	if got, err := tunnel.ParseToken(" " + good.String() + "\n"); err != nil || got != good {
		t.Errorf("got %v, %v, want what was written", got, err)
	}
	for name, text := range map[string]string{
		"refuses nothing":                   "",
		"refuses another version":           "bpj2." + good.Fingerprint + ".s",
		"refuses a short fingerprint":       "bpj1.0a0a.s",
		"refuses a fingerprint in capitals": "bpj1." + strings.ToUpper(good.Fingerprint) + ".s",
		"refuses an empty secret":           "bpj1." + good.Fingerprint + ".",
		"refuses a secret without end":      "bpj1." + good.Fingerprint + "." + strings.Repeat("s", 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := tunnel.ParseToken(text); err == nil {
				t.Errorf("got %v, want an error", got)
			} else if text != "" && strings.Contains(err.Error(), text) {
				t.Errorf("got %q, want the token left out", err)
			}
		})
	}
}

// Whatever is taken for a token is written as it was read.
func FuzzParseToken(f *testing.F) {
	f.Add("bpj1." + strings.Repeat("0a", 32) + ".secret")
	f.Add("bpj1..")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := tunnel.ParseToken(text)
		if err == nil && token.String() != strings.TrimSpace(text) {
			t.Errorf("got %q of %q, want it unchanged", token, text)
		}
	})
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	want := tunnel.Identity{Organization: "acme", Cluster: "c1"}
	if got, err := tunnel.IdentityOf(&x509.Certificate{URIs: []*url.URL{want.URI()}}); err != nil || got != want {
		t.Errorf("got %v, %v, want what was signed", got, err)
	}
	for _, text := range []string{
		"biplane://org/acme/cluster/", "biplane://org//cluster/c1", "biplane://org/acme/cluster/c1/x", "biplane://org/acme/node/c1",
		"https://org/acme/cluster/c1", "biplane://org/acme/cluster/c1?x=y", "biplane://else/acme/cluster/c1",
	} {
		uri, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tunnel.IdentityOf(&x509.Certificate{URIs: []*url.URL{uri}}); err == nil {
			t.Errorf("got %v of %s, want an error", got, text)
		}
	}
	if _, err := tunnel.IdentityOf(&x509.Certificate{URIs: []*url.URL{want.URI(), want.URI()}}); err == nil {
		t.Error("got an identity of two, want an error")
	}
}

func TestSplice(t *testing.T) {
	t.Parallel()
	connect := func(t *testing.T) (near, far *net.TCPConn) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		dialled, err := net.Dial("tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		accepted, err := listener.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			dialled.Close()
			accepted.Close()
		})
		return dialled.(*net.TCPConn), accepted.(*net.TCPConn)
	}
	t.Run("ends what nothing passes over", func(t *testing.T) {
		t.Parallel()
		a, _ := connect(t)
		b, _ := connect(t)
		if _, _, err := tunnel.Splice(a, b, 50*time.Millisecond); !errors.Is(err, tunnel.ErrIdle) {
			t.Errorf("got %v, want ErrIdle", err)
		}
	})
	t.Run("passes a failure on as a failure", func(t *testing.T) {
		t.Parallel()
		a, client := connect(t)
		b, server := connect(t)
		go tunnel.Splice(a, b, patience)
		client.Write([]byte("x"))
		if _, err := server.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		client.SetLinger(0)
		client.Close() // a reset
		if _, err := server.Read(make([]byte, 1)); err == nil || err.Error() == "EOF" {
			t.Errorf("got %v, want an error that is no end", err)
		}
	})
}
