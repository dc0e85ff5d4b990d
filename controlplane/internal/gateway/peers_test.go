package gateway_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

func withPeers(c *config.Config) { c.Peers.Listen = "127.0.0.1:0" }

// elsewhere is another machine's address, so that both can have a data plane's port.
func elsewhere(c *config.Config) { c.Relay.Address = "127.0.0.2" }

// processes are two of one database, which know each other's tunnels.
func processes(t *testing.T) (first, second *world) {
	t.Helper()
	first = newWorld(t, withPeers)
	return first, first.beside(t, elsewhere)
}

// reached waits until a process knows a way to a data plane.
func (w *world) reached(t *testing.T, cluster string) {
	t.Helper()
	eventually(t, "the process to know of the tunnel", func() bool { return w.Connected(organization, cluster) })
}

// parrot answers a call with what was asked, and a client with its bytes.
func parrot(asked func(http.Header)) tunnel.Handlers {
	return tunnel.Handlers{
		RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if asked != nil {
				asked(r.Header)
			}
			fmt.Fprintf(w, "%s %s: ", r.Host, r.URL.Path)
			http.NewResponseController(w).Flush()
			io.Copy(w, r.Body)
		}),
		Raw: upper.Raw,
	}
}

func TestPeers(t *testing.T) {
	t.Parallel()
	first, second := processes(t)

	t.Run("pass a call on, and its answer", func(t *testing.T) {
		t.Parallel()
		headers := make(chan http.Header, 1)
		first.join(t, "calls").dial(t, parrot(func(h http.Header) { headers <- h }))
		second.reached(t, "calls")
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://proxy/some/call", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Biplane-Service-Account", "union/executor")
		request.Header.Set("Other", "kept")
		response, err := second.Transport(organization, "calls").RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if got, err := io.ReadAll(response.Body); err != nil || string(got) != "proxy /some/call: hello" {
			t.Errorf("got %q, %v, want the answer of the process that was named", got, err)
		}
		got := <-headers
		for _, name := range []string{"Biplane-Service-Account", "Biplane-Organization", "Biplane-Cluster"} {
			if got.Get(name) != "" {
				t.Errorf("got the header %s in the data plane, want it kept from there", name)
			}
		}
		if got.Get("Other") != "kept" {
			t.Errorf("got %v, want the other header too", got)
		}
	})

	t.Run("pass a stream on as it comes, until either side leaves", func(t *testing.T) {
		t.Parallel()
		left := make(chan struct{})
		first.join(t, "streams").dial(t, tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "first")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(left)
		})})
		second.reached(t, "streams")
		ctx, cancel := context.WithCancel(t.Context())
		request, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://executor/", nil)
		response, err := second.Transport(organization, "streams").RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.ReadFull(response.Body, make([]byte, len("first"))); err != nil {
			t.Fatal(err)
		}
		cancel()
		wait(t, left, "the data plane to hear that the caller left")
	})

	t.Run("say UNAVAILABLE where the tunnel ends in the middle of an answer", func(t *testing.T) {
		t.Parallel()
		session := first.join(t, "breaks").dial(t, tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})})
		second.reached(t, "breaks")
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://executor/", nil)
		response, err := second.Transport(organization, "breaks").RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.ReadFull(response.Body, make([]byte, len("half"))); err != nil {
			t.Fatal(err)
		}
		session.Close()
		_, err = io.ReadAll(response.Body)
		wantCode(t, err, connect.CodeUnavailable)
		// Then it is the other that says so, or ours once it has heard.
		got, err := get(t.Context(), second.Transport(organization, "breaks"), "http://executor/")
		if connect.CodeOf(err) != connect.CodeUnavailable && !strings.HasPrefix(got, "503 ") {
			t.Errorf("got %q, %v, want UNAVAILABLE", got, err)
		}
	})

	t.Run("pass a client's bytes on, and each end by itself", func(t *testing.T) {
		t.Parallel()
		first.join(t, "clients").dial(t, parrot(nil))
		port := first.relayPort(t, "clients")
		second.reached(t, "clients")
		var conn net.Conn
		eventually(t, "the other process to have the port too", func() bool {
			var err error
			conn, err = net.Dial("tcp", net.JoinHostPort("127.0.0.2", strconv.Itoa(int(port))))
			return err == nil
		})
		defer conn.Close()
		sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18)
		go func() {
			conn.Write(sent)
			conn.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if want := append(sent, "end of proxy"...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v, want %d as they were sent, and the answer to their end", len(got), err, len(want))
		}
	})

	t.Run("stall nobody for a reader that stops", func(t *testing.T) {
		t.Parallel()
		stop := make(chan struct{})
		full := make(chan struct{})
		var once sync.Once
		first.join(t, "slow").dial(t, tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/flood" {
				io.WriteString(w, "answer")
				return
			}
			wrote := time.AfterFunc(time.Second, func() { once.Do(func() { close(full) }) }) // no write has ended for so long
			defer wrote.Stop()
			for block := make([]byte, 64<<10); r.Context().Err() == nil; wrote.Reset(time.Second) {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		})})
		defer close(stop)
		second.reached(t, "slow")
		transport := second.Transport(organization, "slow")
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://executor/flood", nil)
		response, err := transport.RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		wait(t, full, "the windows to be full")
		for range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			if got, err := get(ctx, transport, "http://executor/"); err != nil || got != "200 answer" {
				t.Errorf("got %q, %v beside a reader that stopped, want an answer", got, err)
			}
			cancel()
		}
	})

	t.Run("follow a tunnel from one to the other", func(t *testing.T) {
		t.Parallel()
		p := first.join(t, "moves")
		session := p.dial(t, parrot(nil))
		second.reached(t, "moves")
		session.Close()
		eventually(t, "both to know that it is gone", func() bool {
			return !first.Connected(organization, "moves") && !second.Connected(organization, "moves")
		})
		p.world = second
		p.dial(t, parrot(nil))
		first.reached(t, "moves")
		eventually(t, "a call to go the other way", func() bool {
			got, err := get(t.Context(), first.Transport(organization, "moves"), "http://executor/")
			return err == nil && got == "200 executor /: "
		})
	})
}

// Of a process that died: nobody is there, or somebody else, or nothing answers.
func TestDeadPeer(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withPeers)
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone.Close()
	other := newWorld(t, withPeers)
	other.join(t, clusterName).dial(t, parrot(nil))
	for name, endpoint := range map[string]string{
		"refused": gone.Addr().String(), "silent": silent.Addr().String(), "impostor": first(t, other).Endpoint,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w.join(t, name)
			if err := w.store.Hold(t.Context(), organization, "dead-"+name, endpoint, []string{name}, time.Hour); err != nil {
				t.Fatal(err)
			}
			w.reached(t, name)
			_, err := get(t.Context(), w.Transport(organization, name), "http://executor/")
			wantCode(t, err, connect.CodeUnavailable)
			if err == nil || !strings.Contains(err.Error(), "cannot be reached now") {
				t.Errorf("got %v, want a sentence", err)
			}
		})
	}

	t.Run("is not asked once its lease has run out", func(t *testing.T) {
		t.Parallel()
		w.join(t, "expired")
		if err := w.store.Hold(t.Context(), organization, "dead", silent.Addr().String(), []string{"expired"}, 300*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the lease to have run out", func() bool { return !w.Connected(organization, "expired") })
		_, err := get(t.Context(), w.Transport(organization, "expired"), "http://executor/")
		wantCode(t, err, connect.CodeUnavailable)
	})
}

// first is who holds the one tunnel there is.
func first(t *testing.T, w *world) store.Holder {
	t.Helper()
	var holders []store.Holder
	eventually(t, "the store to know who holds the tunnel", func() bool {
		var err error
		holders, err = w.store.Holders(t.Context(), organization)
		return err == nil && len(holders) == 1
	})
	return holders[0]
}

func TestPeerListener(t *testing.T) {
	t.Parallel()
	w := newWorld(t, withPeers)
	p := w.join(t, clusterName)
	p.dial(t, parrot(nil))
	endpoint := first(t, w).Endpoint
	ca, err := pki.Read(w.config.Folder)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := pki.Open(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signed := func(certificate *tls.Certificate, err error) *tls.Config {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Config{Certificates: []tls.Certificate{*certificate}, InsecureSkipVerify: true}
	}
	// What it takes, or the others would prove nothing.
	good := signed(ca.SignPeer("another", time.Now()))
	session, err := tunnel.Dial(t.Context(), endpoint, good, tunnel.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer session.Close()

	dataPlane := p.tls(t)
	dataPlane.InsecureSkipVerify = true
	old := signed(ca.SignPeer("another", time.Now()))
	old.MaxVersion = tls.VersionTLS12
	for name, config := range map[string]*tls.Config{
		"takes nobody without a certificate":           {InsecureSkipVerify: true},
		"takes no data plane":                          dataPlane,
		"takes no gateway":                             signed(ca.SignServer([]string{"127.0.0.1"}, time.Now())),
		"takes no process of another CA":               signed(foreign.SignPeer("another", time.Now())),
		"takes no process whose certificate has ended": signed(ca.SignPeer("another", time.Now().AddDate(-1, 0, 0))),
		"takes no TLS 1.2":                             old,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if session, err := tunnel.Dial(context.WithoutCancel(t.Context()), endpoint, config, tunnel.Options{}); err == nil {
				session.Close()
				t.Error("got a session, want none")
			}
		})
	}

	t.Run("'s certificate opens no tunnel and renews nothing", func(t *testing.T) {
		t.Parallel()
		_, err := tunnel.Dial(context.WithoutCancel(t.Context()), w.address, good, tunnel.Options{})
		var refused *tunnel.RefusedError
		if !errors.As(err, &refused) {
			t.Errorf("got %v, want it refused", err)
		}
		_, request := newRequest(t)
		_, _, err = tunnel.Renew(context.WithoutCancel(t.Context()), w.address, good, request)
		wantCode(t, err, connect.CodeUnauthenticated)
	})

	for name, raw := range map[string]string{
		"knows no name of another form":        "proxy",
		"reaches nothing else of a data plane": organization + "/" + clusterName + "/executor",
		"knows no other data plane":            organization + "/other/proxy",
		"knows no other organisation":          "other/" + clusterName + "/proxy",
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := session.OpenRaw(t.Context(), raw)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("got %v, want an error that is no end", err)
			}
		})
	}

	t.Run("says of a data plane that it does not hold that it cannot be reached", func(t *testing.T) {
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://executor/some/call", strings.NewReader("x"))
		request.Header.Set("Content-Type", "application/proto")
		request.Header.Set("Biplane-Organization", "other")
		request.Header.Set("Biplane-Cluster", clusterName)
		response, err := session.RoundTripper().RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(string(text), `"unavailable"`) {
			t.Errorf("got %s %s, %v, want UNAVAILABLE", response.Status, text, err)
		}
	})
}
