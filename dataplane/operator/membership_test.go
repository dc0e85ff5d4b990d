package operator

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/clustertest"
	"biplane.dev/biplane/tunnel"
)

var apiServer *clustertest.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { apiServer = c; return m.Run() }))
}

// member is a membership that has just been started, as an operator that was killed
// is: what it knows is in the API server.
func member(t *testing.T, g *gateway, namespace string) *membership {
	t.Helper()
	cfg := &config.Config{Namespace: namespace, ControlPlane: config.ControlPlane{Gateway: g.address, Cluster: "c1"}}
	return newMembership(apiServer.Client, cfg, filepath.Join(t.TempDir(), "token"), slog.New(slog.DiscardHandler), time.Now)
}

func putToken(t *testing.T, namespace, token string) {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: joinSecret}, StringData: map[string]string{"token": token + "\n"}}
	if err := apiServer.Client.Create(t.Context(), secret); err != nil {
		t.Fatal(err)
	}
}

func tunnelData(t *testing.T, namespace string) map[string][]byte {
	t.Helper()
	secret := &corev1.Secret{}
	if err := apiServer.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: tunnelSecret}, secret); err != nil {
		t.Fatal(err)
	}
	return secret.Data
}

// dials says whether the gateway takes the certificate in force.
func dials(t *testing.T, g *gateway, m *membership) {
	t.Helper()
	config, err := m.TLS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	session, err := tunnel.Dial(t.Context(), g.address, config, tunnel.Options{})
	if err != nil {
		t.Fatalf("got %v, want a session", err)
	}
	session.Close()
}

func TestMembership(t *testing.T) {
	t.Parallel()

	t.Run("waits for a token with its key made", func(t *testing.T) {
		t.Parallel()
		g, namespace := newGateway(t), apiServer.Namespace(t, "member")
		m := member(t, g, namespace)
		if _, err := m.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := m.Ready(); err == nil || !strings.Contains(err.Error(), "waiting for a join token in the Secret "+namespace+"/biplane-join") {
			t.Errorf("got %v, want what it waits for", err)
		}
		if _, err := parseKey(tunnelData(t, namespace)["tls.key"]); err != nil {
			t.Errorf("got %v, want a key", err)
		}
	})

	t.Run("joins with the token of the Secret, and deletes that", func(t *testing.T) {
		t.Parallel()
		g, namespace := newGateway(t), apiServer.Namespace(t, "member")
		putToken(t, namespace, g.token)
		m := member(t, g, namespace)
		if _, err := m.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		dials(t, g, m)
		if got := tunnelData(t, namespace); string(got["organization"]) != "acme" || string(got["cluster"]) != "c1" {
			t.Errorf("got %q %q, want acme c1", got["organization"], got["cluster"])
		}
		err := apiServer.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: joinSecret}, &corev1.Secret{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("got %v for the token, want it gone", err)
		}
		again := member(t, g, namespace)
		if _, err := again.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		dials(t, g, again)
		if g.joins != 1 {
			t.Errorf("got %d joins, want 1", g.joins)
		}
	})

	t.Run("joins with the token of the mounted file", func(t *testing.T) {
		t.Parallel()
		g, namespace := newGateway(t), apiServer.Namespace(t, "member")
		m := member(t, g, namespace)
		if err := os.WriteFile(m.tokenFile, []byte(g.token), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the file outlives the token
			if _, err := m.step(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		dials(t, g, m)
		if g.joins != 1 {
			t.Errorf("got %d joins, want 1", g.joins)
		}
	})

	t.Run("goes on where it was killed before the answer came", func(t *testing.T) {
		t.Parallel()
		g, namespace := newGateway(t), apiServer.Namespace(t, "member")
		putToken(t, namespace, g.token)
		g.loseAnswer = true
		killed := member(t, g, namespace)
		if _, err := killed.step(t.Context()); err == nil {
			t.Fatal("got nil, want the answer lost")
		}
		key := tunnelData(t, namespace)["tls.key"]
		m := member(t, g, namespace)
		if _, err := m.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		dials(t, g, m)
		if !bytes.Equal(key, tunnelData(t, namespace)["tls.key"]) {
			t.Error("got another key, want the one that the token was spent for")
		}
	})

	t.Run("renews with a new key when it is due", func(t *testing.T) {
		t.Parallel()
		g, namespace := newGateway(t), apiServer.Namespace(t, "member")
		putToken(t, namespace, g.token)
		due := func() (time.Time, time.Time) { return time.Now().Add(-2 * time.Hour), time.Now().Add(30 * time.Minute) }
		fresh := g.life
		g.life = due
		m := member(t, g, namespace)
		if _, err := m.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		first := tunnelData(t, namespace)
		g.mu.Lock()
		g.life = fresh
		g.mu.Unlock()
		if _, err := m.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		second := tunnelData(t, namespace)
		if bytes.Equal(first["tls.key"], second["tls.key"]) || bytes.Equal(first["tls.crt"], second["tls.crt"]) {
			t.Error("got the same key or certificate, want new ones")
		}
		if got := time.Until(m.Expires()); got < time.Hour {
			t.Errorf("got %s until the end, want a new life", got)
		}
		dials(t, g, m)
		select {
		case <-m.changed:
		default:
			t.Error("got no word of the new certificate, want the tunnel told")
		}
	})

	t.Run("keeps the certificate while it cannot be renewed", func(t *testing.T) {
		t.Parallel()
		g, namespace := newGateway(t), apiServer.Namespace(t, "member")
		putToken(t, namespace, g.token)
		g.life = func() (time.Time, time.Time) { return time.Now().Add(-2 * time.Hour), time.Now().Add(30 * time.Minute) }
		m := member(t, g, namespace)
		if _, err := m.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.stop()
		if _, err := m.step(t.Context()); err != nil || m.Ready() != nil {
			t.Errorf("got %v and %v, want the certificate kept", err, m.Ready())
		}
	})

	t.Run("says that its certificate expired, and joins again with a new token", func(t *testing.T) {
		t.Parallel()
		g, namespace := newGateway(t), apiServer.Namespace(t, "member")
		putToken(t, namespace, g.token)
		fresh := g.life
		g.life = func() (time.Time, time.Time) { return time.Now().Add(-2 * time.Hour), time.Now().Add(-time.Hour) }
		m := member(t, g, namespace)
		if _, err := m.step(t.Context()); err == nil || !strings.Contains(err.Error(), "expired at") {
			t.Errorf("got %v, want it expired", err)
		}
		g.life = fresh
		token := g.newToken()
		secret := &corev1.Secret{}
		if err := apiServer.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: joinSecret}, secret); err == nil {
			secret.Data["token"] = []byte(token)
			if err := apiServer.Client.Update(t.Context(), secret); err != nil {
				t.Fatal(err)
			}
		} else {
			putToken(t, namespace, token)
		}
		if _, err := m.step(t.Context()); err != nil {
			t.Fatal(err)
		}
		dials(t, g, m)
	})

	stranger := newGateway(t)
	for _, test := range []struct {
		name  string
		token func(*gateway) string
		set   func(*membership, *gateway)
		want  string
		joins int // requests that reach the gateway
	}{
		{"refuses what is no token", func(*gateway) string { return "hello" }, nil, "the join token is no token", 0},
		{"refuses a token that was cut", func(g *gateway) string { return g.token[:40] }, nil, "the join token is no token", 0},
		{"says that a token was not accepted", func(g *gateway) string { return g.token + "x" }, nil, "does not accept the join token", 1},
		{"refuses a cluster of another name", func(g *gateway) string { g.cluster = "c2"; return g.token }, nil, `the join token is for the cluster "c2", and controlPlane.cluster is "c1"`, 1},
		{"sends no token to another control plane", func(g *gateway) string { return g.token }, func(m *membership, _ *gateway) { m.gateway = stranger.address }, "does not come from the CA that the join token names", 0},
		{"refuses a token of another CA than the configuration's", func(g *gateway) string { return g.token }, func(m *membership, g *gateway) { m.ca = "another" }, "of another control plane than controlPlane.ca", 0},
		{"takes a token of the configuration's CA", func(g *gateway) string { return g.token }, func(m *membership, g *gateway) { m.ca = string(g.caPEM) }, "", 1},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			g, namespace := newGateway(t), apiServer.Namespace(t, "member")
			putToken(t, namespace, test.token(g))
			m := member(t, g, namespace)
			if test.set != nil {
				test.set(m, g)
			}
			_, err := m.step(t.Context())
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			if g.joins != test.joins {
				t.Errorf("got %d requests at the gateway, want %d", g.joins, test.joins)
			}
			if data := tunnelData(t, namespace); test.want != "" && data["tls.crt"] != nil {
				t.Error("got a certificate, want nothing half-made")
			}
		})
	}
}
