package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/controlplane/internal/gateway"
	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/tunnel"
)

func TestJoin(t *testing.T) {
	t.Parallel()
	t.Run("gives a certificate of the cluster that the token is of", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.join(t, "joins")
		if want := (tunnel.Identity{Organization: organization, Cluster: "joins"}); p.membership.Identity != want {
			t.Errorf("got %v, want %v", p.membership.Identity, want)
		}
		if string(p.membership.CABundle) != string(w.CABundle()) {
			t.Error("got another CA bundle than the gateway's")
		}
		known, err := w.store.GetCluster(t.Context(), organization, "joins")
		if err != nil {
			t.Fatal(err)
		}
		if known.JoinedAt.IsZero() || known.CertificateSerial == "" {
			t.Errorf("got %+v in the store, want when it joined and its certificate", known)
		}
	})

	for name, spoil := range map[string]func(t *testing.T, w *world, token string) string{
		"refuses a token whose secret was changed": func(_ *testing.T, _ *world, token string) string { return token[:len(token)-4] + "AAAA" },
		"refuses a token that never was": func(_ *testing.T, _ *world, token string) string {
			return token[:strings.LastIndex(token, ".")+1] + strings.Repeat("A", 43)
		},
		"refuses a token that was spent with another key": func(t *testing.T, w *world, token string) string {
			_, request := newRequest(t)
			if _, err := tunnel.Join(t.Context(), w.address, token, request); err != nil {
				t.Fatal(err)
			}
			return token
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			token := spoil(t, w, w.token(t, clusterName, time.Hour))
			_, request := newRequest(t)
			_, err := tunnel.Join(t.Context(), w.address, token, request)
			wantCode(t, err, connect.CodeUnauthenticated)
		})
	}

	t.Run("refuses a token that has expired", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		_, request := newRequest(t)
		_, err := tunnel.Join(t.Context(), w.address, w.token(t, "expired", -time.Second), request)
		wantCode(t, err, connect.CodeUnauthenticated)
	})

	t.Run("shows the token to no gateway but the one that it names", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		parsed, err := tunnel.ParseToken(w.token(t, "elsewhere", time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		parsed.Fingerprint = strings.Repeat("00", 32)
		_, request := newRequest(t)
		if _, err := tunnel.Join(t.Context(), w.address, parsed.String(), request); err == nil || !strings.Contains(err.Error(), "another control plane") {
			t.Errorf("got %v, want that the gateway is another's", err)
		}
		// Past the check of the honest client, the gateway refuses it as well.
		_, err = stranger(w).Join(t.Context(), &tunnelv1.JoinRequest{Token: parsed.String(), CertificateRequest: request})
		wantCode(t, err, connect.CodeUnauthenticated)
	})

	t.Run("believes no data plane that plays the gateway", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.join(t, clusterName)
		rogue := p.tls(t)
		rogue.NextProtos = []string{"h2"}
		if len(rogue.Certificates[0].Certificate) != 2 {
			t.Fatalf("got a chain of %d, want the CA in it, which the rogue shows", len(rogue.Certificates[0].Certificate))
		}
		listener, err := tls.Listen("tcp", "127.0.0.1:0", rogue)
		if err != nil {
			t.Fatal(err)
		}
		defer listener.Close()
		shown := make(chan string, 1)
		go http.Serve(listener, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { shown <- r.URL.Path }))
		_, request := newRequest(t)
		if _, err := tunnel.Join(t.Context(), listener.Addr().String(), w.token(t, "c2", time.Hour), request); err == nil {
			t.Error("got a certificate, want the rogue refused")
		}
		select {
		case path := <-shown:
			t.Errorf("got the rogue called at %s, want the token kept from it", path)
		default:
		}
	})

	t.Run("gives the same data plane another certificate where the first answer was lost", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.token(t, "lost-answer", time.Hour)
		_, request := newRequest(t)
		for range 2 {
			if _, err := tunnel.Join(t.Context(), w.address, token, request); err != nil {
				t.Fatal(err)
			}
		}
	})

	t.Run("spends no token on what is no certificate request", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.token(t, "no-request", time.Hour)
		_, err := tunnel.Join(t.Context(), w.address, token, []byte("nonsense"))
		wantCode(t, err, connect.CodeInvalidArgument)
		_, request := newRequest(t)
		if _, err := tunnel.Join(t.Context(), w.address, token, request); err != nil {
			t.Errorf("got %v, want the token to be good still", err)
		}
	})

	t.Run("reads no request without end", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		_, err := tunnel.Join(t.Context(), w.address, w.token(t, "endless", time.Hour), make([]byte, 1<<20))
		wantCode(t, err, connect.CodeResourceExhausted)
	})

	t.Run("writes no secret into the log", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		token := w.token(t, "quiet", time.Hour)
		_, request := newRequest(t)
		for range 2 {
			tunnel.Join(t.Context(), w.address, token, request)
		}
		if secret := token[strings.LastIndex(token, ".")+1:]; strings.Contains(w.log.String(), secret) {
			t.Error("got the token's secret in the log, want it nowhere")
		}
	})
}

func TestJoinIsLimited(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	p := w.join(t, clusterName)
	limited := false
	for range 30 {
		_, err := stranger(w).Join(t.Context(), &tunnelv1.JoinRequest{Token: "guess"})
		limited = limited || connect.CodeOf(err) == connect.CodeResourceExhausted
	}
	if !limited {
		t.Error("got thirty guesses answered at once, want them limited")
	}
	_, request := newRequest(t)
	if _, _, err := tunnel.Renew(t.Context(), w.address, p.tls(t), request); err != nil {
		t.Errorf("got %v for who renews meanwhile, want a certificate", err)
	}
}

// stranger shows no certificate and believes everything.
func stranger(w *world) tunnelv1connect.EnrolmentServiceClient {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	return tunnelv1connect.NewEnrolmentServiceClient(&http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, Protocols: protocols, DisableKeepAlives: true,
	}}, "https://"+w.address)
}

func TestRenew(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("gives a certificate with which a tunnel can be opened", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "renews")
		key, request := newRequest(t)
		certificate, bundle, err := tunnel.Renew(t.Context(), w.address, p.tls(t), request)
		if err != nil {
			t.Fatal(err)
		}
		p.key, p.membership.Certificate, p.membership.CABundle = key, certificate, bundle
		p.dial(t, tunnel.Handlers{})
	})

	t.Run("takes the certificate in force as the only proof", func(t *testing.T) {
		t.Parallel()
		_, request := newRequest(t)
		_, err := stranger(w).Renew(t.Context(), &tunnelv1.RenewRequest{CertificateRequest: request})
		wantCode(t, err, connect.CodeUnauthenticated)
	})

	t.Run("refuses a certificate that was revoked", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "revoked")
		if err := w.store.RemoveCluster(t.Context(), organization, "revoked", false); err != nil {
			t.Fatal(err)
		}
		_, request := newRequest(t)
		_, _, err := tunnel.Renew(t.Context(), w.address, p.tls(t), request)
		wantCode(t, err, connect.CodeUnauthenticated)
	})
}

func TestCA(t *testing.T) {
	t.Parallel()
	t.Run("outlives the gateway", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		before := w.CAFingerprint()
		w.stop()
		w.start(t)
		if after := w.CAFingerprint(); after != before {
			t.Errorf("got the CA %s after a restart, want %s as before", after, before)
		}
	})

	t.Run("is in a file that only its owner may read", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		file := filepath.Join(w.config.Folder, pki.File)
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("got %s, want 0600", info.Mode().Perm())
		}
		w.stop()
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
		refused(t, w, usererr.Refused)
	})

	t.Run("is not made anew where it cannot be read", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.stop()
		if err := os.WriteFile(filepath.Join(w.config.Folder, pki.File), []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		refused(t, w, usererr.Invalid)
	})

	t.Run("is one where two processes begin at once", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		prints := make(chan string, 8)
		for range cap(prints) {
			go func() {
				ca, err := pki.Open(folder, time.Now())
				if err != nil {
					prints <- err.Error()
					return
				}
				prints <- tunnel.Fingerprint(ca.Certificate())
			}()
		}
		first := <-prints
		for range cap(prints) - 1 {
			if other := <-prints; other != first {
				t.Errorf("got %s and %s, want one", first, other)
			}
		}
	})
}

func refused(t *testing.T, w *world, want usererr.Kind) {
	t.Helper()
	_, err := gateway.New(context.Background(), gateway.Options{Config: w.config, Store: w.store, Now: time.Now})
	var said *usererr.Error
	if !errors.As(err, &said) || said.Kind != want || said.Hint == "" {
		t.Errorf("got %v, want it refused with a hint", err)
	}
}

func short(c *config.Config) { c.Gateway.CertificateLife = 6 * time.Second }
