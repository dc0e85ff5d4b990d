package gateway_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"connectrpc.com/connect"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

// A certificate that the CA signed is not enough: it has to be one of those that
// the store knows, of the very cluster that it names.
func TestForgedCertificates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.join(t, "c1").dial(t, tunnel.Handlers{})
	other := w.join(t, "c2")
	ca, err := pki.Read(w.config.Folder)
	if err != nil {
		t.Fatal(err)
	}
	signed := func(identity tunnel.Identity, life time.Duration) *tls.Config {
		t.Helper()
		key, request := newRequest(t)
		leaf, _, err := ca.SignClient(request, identity, time.Now(), life)
		if err != nil {
			t.Fatal(err)
		}
		config := other.tls(t)
		config.Certificates = []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}
		return config
	}
	swapped := other.tls(t) // the certificate of one, the key of another
	swapped.Certificates[0].PrivateKey, _ = newRequest(t)
	for name, c := range map[string]struct {
		config *tls.Config
		said   bool // in a sentence
	}{
		"of a cluster that is there, and never recorded": {signed(tunnel.Identity{Organization: organization, Cluster: "c1"}, time.Hour), true},
		"of a cluster that is not there":                 {signed(tunnel.Identity{Organization: organization, Cluster: "c9"}, time.Hour), true},
		"of an organisation that is not there":           {signed(tunnel.Identity{Organization: "nobody", Cluster: "c1"}, time.Hour), true},
		"of the same cluster of another organisation":    {signed(tunnel.Identity{Organization: "other", Cluster: "c1"}, time.Hour), true},
		"that has expired":                               {signed(tunnel.Identity{Organization: organization, Cluster: "c1"}, -time.Hour), false},
		"whose key somebody else has":                    {swapped, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := context.WithoutCancel(t.Context())
			session, err := tunnel.Dial(ctx, w.address, c.config, tunnel.Options{})
			if err == nil {
				session.Close()
				t.Fatal("got a tunnel, want none")
			}
			var refused *tunnel.RefusedError
			if errors.As(err, &refused) != c.said {
				t.Errorf("got %v, want a sentence: %t", err, c.said)
			}
			_, request := newRequest(t)
			if _, _, err := tunnel.Renew(ctx, w.address, c.config, request); err == nil {
				t.Error("got a certificate, want none")
			}
		})
	}
}

// A token is for the cluster that it was made for: of another one's name, it gives
// that one's certificate, and no more.
func TestTokenOfAnotherCluster(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first, second := w.token(t, "c1", time.Hour), w.token(t, "c2", time.Hour)
	_, request := newRequest(t)
	membership, err := tunnel.Join(t.Context(), w.address, second, request)
	if err != nil {
		t.Fatal(err)
	}
	if membership.Cluster != "c2" {
		t.Errorf("got %s, want the token's own cluster", membership.Cluster)
	}
	block, _ := pem.Decode(membership.Certificate)
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.store.CheckCertificate(t.Context(), organization, "c2", pki.Serial(leaf)); err != nil {
		t.Errorf("got %v, want the certificate to be c2's", err)
	}
	if err := w.store.CheckCertificate(t.Context(), organization, "c1", pki.Serial(leaf)); !errors.Is(err, store.ErrCertificate) {
		t.Errorf("got %v, want the certificate to be no other's", err)
	}
	// The halves of two tokens make none.
	a, err := tunnel.ParseToken(first)
	if err != nil {
		t.Fatal(err)
	}
	b, err := tunnel.ParseToken(second)
	if err != nil {
		t.Fatal(err)
	}
	a.Secret = a.Secret[:16] + b.Secret[16:]
	_, err = tunnel.Join(t.Context(), w.address, a.String(), request)
	wantCode(t, err, connect.CodeUnauthenticated)
}

// Calls that may be large wait for each other, and hold up nothing else.
func TestHeavyCalls(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.join(t, clusterName).dial(t, tunnel.Handlers{})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan struct{}, 4)
	began := make(chan struct{}, 4)
	for range cap(ended) {
		body, write := io.Pipe()
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://controlplane/biplane.tunnel.v1.LinkService/ReportStates", body)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/proto")
		go func() {
			write.Write([]byte{0x12}) // and no more
			began <- struct{}{}
		}()
		go func() {
			defer func() { ended <- struct{}{} }()
			if response, err := (as{session, map[string]string{"Biplane-Service-Account": "union/executor"}}).RoundTrip(request); err == nil {
				response.Body.Close()
			}
		}()
	}
	for range cap(began) {
		select {
		case <-began:
		case <-time.After(patience):
			t.Fatal("got no call, want four under way")
		}
	}
	if _, err := link(session, "operator-system").Heartbeat(t.Context(), &tunnelv1.HeartbeatRequest{}); err != nil {
		t.Errorf("got %v, want a heartbeat to be taken meanwhile", err)
	}
	reported := make(chan error, 1)
	go func() {
		_, err := link(session, "executor").ReportStates(context.Background(), &tunnelv1.ReportStatesRequest{Epoch: "e"})
		reported <- err
	}()
	cancel()
	for range cap(ended) {
		<-ended
	}
	if err := <-reported; err != nil {
		t.Errorf("got %v, want it taken once there was room", err)
	}
}

// What is under way when the gateway is shut down may end; nothing new begins.
func TestShutdown(t *testing.T) {
	t.Parallel()
	first, second := processes(t)
	began, finish := make(chan string, 2), make(chan struct{})
	session := first.join(t, clusterName).dial(t, tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began <- r.URL.Path
		<-finish
		io.WriteString(w, "done")
	})})
	second.reached(t, clusterName)
	answers := make(chan string, 2)
	for path, by := range map[string]*world{"own": first, "forwarded": second} {
		go func() {
			answer, err := get(context.Background(), by.Transport(organization, clusterName), "http://executor/"+path)
			if err != nil {
				answer = path + ": " + err.Error()
			}
			answers <- answer
		}()
	}
	for range 2 {
		select {
		case <-began:
		case <-time.After(patience):
			t.Fatal("got no call, want two under way")
		}
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		first.stop()
	}()
	wait(t, session.Draining(), "the data plane to be told")
	eventually(t, "the other process to know that the tunnel is gone", func() bool { return !second.Connected(organization, clusterName) })
	for _, by := range []*world{first, second} {
		_, err := get(t.Context(), by.Transport(organization, clusterName), "http://executor/late")
		wantCode(t, err, connect.CodeUnavailable)
	}
	close(finish)
	for range 2 {
		select {
		case got := <-answers:
			if got != "200 done" {
				t.Errorf("got %q, want the call that was under way answered", got)
			}
		case <-time.After(patience):
			t.Fatal("got no answer, want two")
		}
	}
	wait(t, stopped, "the gateway to end")
	wait(t, session.Done(), "the tunnel to end")
}
