package pki_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/internal/clustertest"
	"biplane.dev/biplane/dataplane/operator/internal/pki"
)

var cluster *clustertest.Cluster

func TestMain(m *testing.M) {
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { cluster = c; return m.Run() }))
}

// keeper is one at a time of its own.
func keeper(namespace string, now time.Time) *pki.Keeper {
	return &pki.Keeper{Client: cluster.Client, Namespace: namespace, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }}
}

func ensure(t *testing.T, k *pki.Keeper, wanted ...pki.Serving) {
	t.Helper()
	if err := k.Ensure(t.Context(), wanted); err != nil {
		t.Fatal(err)
	}
}

func secret(t *testing.T, namespace, name string) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{}
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, secret); err != nil {
		t.Fatal(err)
	}
	return secret
}

// leaf verifies what a Secret has as a client would, and returns it.
func leaf(t *testing.T, k *pki.Keeper, name, host string, now time.Time) *x509.Certificate {
	t.Helper()
	content := secret(t, k.Namespace, name)
	pair, err := tls.X509KeyPair(content.Data["tls.crt"], content.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(k.Bundle())
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host, CurrentTime: now}); err != nil {
		t.Fatalf("got %v, want a certificate for %s", err, host)
	}
	if !bytes.Equal(content.Data["ca.crt"], k.Bundle()) {
		t.Error("got another ca.crt in the Secret than the bundle, want the same")
	}
	return pair.Leaf
}

func TestEnsure(t *testing.T) {
	t.Parallel()
	start := time.Now()
	executor := pki.Serving{Secret: "executor-tls", Names: []string{"executor.union.svc", "executor", "10.0.0.1"}}

	t.Run("makes the CA, its bundle, and what it signs", func(t *testing.T) {
		t.Parallel()
		k := keeper(cluster.Namespace(t, "pki"), start)
		ensure(t, k, executor)
		leaf(t, k, "executor-tls", "executor.union.svc", start)
		leaf(t, k, "executor-tls", "10.0.0.1", start)
		bundle := &corev1.ConfigMap{}
		if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: k.Namespace, Name: pki.Name}, bundle); err != nil {
			t.Fatal(err)
		}
		if got := bundle.Data["ca.crt"]; got != string(k.Bundle()) || strings.Contains(got, "KEY") {
			t.Errorf("got %q in the ConfigMap, want the CA's certificate alone", got)
		}
		if got := k.Certificate("executor-tls"); got == nil || !slices.Contains(got.Leaf.DNSNames, "executor") {
			t.Errorf("got %v from memory, want the certificate", got)
		}
	})

	t.Run("changes nothing that is as it should be", func(t *testing.T) {
		t.Parallel()
		k := keeper(cluster.Namespace(t, "pki"), start)
		ensure(t, k, executor)
		before := []string{secret(t, k.Namespace, pki.Name).ResourceVersion, secret(t, k.Namespace, "executor-tls").ResourceVersion}
		again := executor
		again.Names = []string{"10.0.0.1", "executor", "executor.union.svc", "executor"}
		ensure(t, keeper(k.Namespace, start.Add(19*24*time.Hour)), again)
		after := []string{secret(t, k.Namespace, pki.Name).ResourceVersion, secret(t, k.Namespace, "executor-tls").ResourceVersion}
		if !slices.Equal(before, after) {
			t.Errorf("got versions %v after %v, want no change", after, before)
		}
	})

	for _, test := range []struct {
		name  string
		later time.Duration
		names []string
	}{
		{"renews after two thirds of its life", 21 * 24 * time.Hour, executor.Names},
		{"signs anew for other names", 0, []string{"executor.elsewhere"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			k := keeper(cluster.Namespace(t, "pki"), start)
			ensure(t, k, executor)
			first := leaf(t, k, "executor-tls", "executor", start)
			now := start.Add(test.later)
			k = keeper(k.Namespace, now)
			ensure(t, k, pki.Serving{Secret: "executor-tls", Names: test.names})
			if second := leaf(t, k, "executor-tls", test.names[0], now); first.SerialNumber.Cmp(second.SerialNumber) == 0 {
				t.Error("got the same certificate, want a new one")
			}
		})
	}

	t.Run("makes again what was deleted or damaged", func(t *testing.T) {
		t.Parallel()
		k := keeper(cluster.Namespace(t, "pki"), start)
		proxy := pki.Serving{Secret: "proxy-tls", Names: []string{"proxy"}}
		ensure(t, k, executor, proxy)
		if err := cluster.Client.Delete(t.Context(), secret(t, k.Namespace, "executor-tls")); err != nil {
			t.Fatal(err)
		}
		damaged := secret(t, k.Namespace, "proxy-tls")
		damaged.Data["tls.crt"] = []byte("nonsense")
		if err := cluster.Client.Update(t.Context(), damaged); err != nil {
			t.Fatal(err)
		}
		ensure(t, k, executor, proxy)
		leaf(t, k, "executor-tls", "executor", start)
		leaf(t, k, "proxy-tls", "proxy", start)
	})

	t.Run("renews the CA with its key, so that nobody notices", func(t *testing.T) {
		t.Parallel()
		k := keeper(cluster.Namespace(t, "pki"), start)
		ensure(t, k, executor)
		old := k.Bundle()
		now := start.Add(7 * 365 * 24 * time.Hour)
		k = keeper(k.Namespace, now)
		ensure(t, k, executor)
		if bytes.Equal(old, k.Bundle()) {
			t.Fatal("got the old CA, want it renewed")
		}
		certificate := leaf(t, k, "executor-tls", "executor", now)
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(old)
		if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: "executor", CurrentTime: now}); err != nil {
			t.Errorf("got %v from who has the old bundle, want the new certificate believed", err)
		}
	})

	t.Run("leaves a certificate alone that somebody else put there", func(t *testing.T) {
		t.Parallel()
		k := keeper(cluster.Namespace(t, "pki"), start)
		ensure(t, k, executor)
		theirs := &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: k.Namespace, Name: "proxy-client-tls"},
			Type:       corev1.SecretTypeTLS, Data: secret(t, k.Namespace, "executor-tls").Data,
		}
		if err := cluster.Client.Create(t.Context(), theirs); err != nil {
			t.Fatal(err)
		}
		ensure(t, k, executor, pki.Serving{Secret: "proxy-client-tls", Names: []string{"localhost"}})
		if got := secret(t, k.Namespace, "proxy-client-tls").ResourceVersion; got != theirs.ResourceVersion {
			t.Errorf("got version %s, want %s", got, theirs.ResourceVersion)
		}
	})

	t.Run("does not replace a CA that is damaged, and says what to do", func(t *testing.T) {
		t.Parallel()
		k := keeper(cluster.Namespace(t, "pki"), start)
		ensure(t, k, executor)
		damaged := secret(t, k.Namespace, pki.Name)
		damaged.Data["tls.key"] = []byte("nonsense")
		if err := cluster.Client.Update(t.Context(), damaged); err != nil {
			t.Fatal(err)
		}
		if err := k.Ensure(t.Context(), []pki.Serving{executor}); err == nil || !strings.Contains(err.Error(), "delete it to have a new CA made") {
			t.Errorf("got %v, want what to do", err)
		}
	})

	t.Run("agrees with other operators that begin at the same time", func(t *testing.T) {
		t.Parallel()
		namespace := cluster.Namespace(t, "pki")
		keepers := make([]*pki.Keeper, 8)
		var all sync.WaitGroup
		for i := range keepers {
			keepers[i] = keeper(namespace, start)
			all.Go(func() {
				// A conflict is seen to by the next try, as in the operator.
				for keepers[i].Ensure(t.Context(), []pki.Serving{executor}) != nil && t.Context().Err() == nil {
				}
			})
		}
		all.Wait()
		for _, k := range keepers {
			if !bytes.Equal(k.Bundle(), keepers[0].Bundle()) {
				t.Error("got two CAs, want one")
			}
			leaf(t, k, "executor-tls", "executor", start)
		}
	})
}
