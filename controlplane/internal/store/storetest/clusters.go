package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/controlplane/internal/store"
)

func wantToken(t *testing.T, err error) {
	t.Helper()
	if !errors.Is(err, store.ErrToken) {
		t.Errorf("got error %v, want ErrToken", err)
	}
}

func testClusters(t *testing.T, b Backend) {
	ctx := t.Context()
	certificate := store.Certificate{Serial: "1a", Key: "k1", ExpiresAt: time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()}
	sign := func(store.Cluster) (store.Certificate, error) { return certificate, nil }
	soon := func() time.Time { return time.Now().Add(time.Hour) }

	t.Run("joins once by its token", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		token := store.NewJoinToken()
		added := get(w.AddCluster(ctx, "acme", "west", token, soon()))(t)
		equal(t, "joined", added.JoinedAt.IsZero(), true)
		read := get(store.ParseJoinToken(token.String()))(t)
		equal(t, "token read", read, token)

		joined := get(w.Join(ctx, read, func(c store.Cluster) (store.Certificate, error) {
			equal(t, "cluster to sign for", c.Organization+"/"+c.Name, "acme/west")
			return certificate, nil
		}))(t)
		equal(t, "joined", joined.JoinedAt.IsZero(), false)
		equal(t, "serial", joined.CertificateSerial, "1a")
		equal(t, "expiry", joined.CertificateExpiresAt, certificate.ExpiresAt)
		must(t, w.CheckCertificate(ctx, "acme", "west", "1a"))
		_, err := w.Join(ctx, token, func(store.Cluster) (store.Certificate, error) {
			return store.Certificate{Serial: "2b", Key: "k2", ExpiresAt: soon()}, nil
		})
		wantToken(t, err)
		_, err = w.AddCluster(ctx, "acme", "west", store.NewJoinToken(), soon())
		wantError[*store.ExistsError](t, err)
		_, err = w.AddCluster(ctx, "nobody", "west", store.NewJoinToken(), soon())
		wantError[*store.NotFoundError](t, err)
	})
	t.Run("refuses a token that is unknown, expired, void or changed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		void, expired := store.NewJoinToken(), store.NewJoinToken()
		get(w.AddCluster(ctx, "acme", "west", void, soon()))(t)
		get(w.AddCluster(ctx, "acme", "west", expired, time.Now().Add(-time.Second)))(t)
		good := store.NewJoinToken()
		get(w.AddCluster(ctx, "acme", "north", good, soon()))(t)
		other := store.NewJoinToken().String()
		changed := get(store.ParseJoinToken(good.String()[:16] + other[16:]))(t)
		for _, token := range []store.JoinToken{store.NewJoinToken(), void, expired, changed, {}} {
			_, err := w.Join(ctx, token, sign)
			wantToken(t, err)
		}
		for _, text := range []string{"", "token", void.String() + "x", void.String()[1:], strings.Repeat("a", 1<<20)} {
			_, err := store.ParseJoinToken(text)
			wantToken(t, err)
		}
	})
	t.Run("joins again with the same key, when the answer was lost", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		token := store.NewJoinToken()
		get(w.AddCluster(ctx, "acme", "west", token, soon()))(t)
		get(w.Join(ctx, token, sign))(t)
		again := get(w.Join(ctx, token, func(store.Cluster) (store.Certificate, error) {
			return store.Certificate{Serial: "2b", Key: "k1", ExpiresAt: soon()}, nil
		}))(t)
		equal(t, "newest", again.CertificateSerial, "2b")
		_, err := w.Join(ctx, token, func(store.Cluster) (store.Certificate, error) {
			return store.Certificate{Serial: "3c", ExpiresAt: soon()}, nil
		})
		if err == nil {
			t.Error("got no error for a certificate of no key, want one")
		}
	})
	t.Run("joins again by another token, and keeps its runs, when its certificate has expired", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		token := store.NewJoinToken()
		get(w.AddCluster(ctx, "acme", "west", token, soon()))(t)
		get(w.Join(ctx, token, func(store.Cluster) (store.Certificate, error) {
			return store.Certificate{Serial: "1a", Key: "k1", ExpiresAt: time.Now().Add(-time.Second)}, nil
		}))(t)
		n := newRun(runKey("r1"))
		n.Cluster = "west"
		get(w.CreateRun(ctx, n))(t)
		another := store.NewJoinToken()
		get(w.AddCluster(ctx, "acme", "west", another, soon()))(t)
		_, err := w.Join(ctx, token, sign)
		wantToken(t, err)
		joined := get(w.Join(ctx, another, func(store.Cluster) (store.Certificate, error) {
			return store.Certificate{Serial: "2b", Key: "k2", ExpiresAt: soon()}, nil
		}))(t)
		equal(t, "pending", joined.Pending, 1)
	})
	t.Run("keeps its token when nothing could be signed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		token, broken := store.NewJoinToken(), errors.New("no key")
		get(w.AddCluster(ctx, "acme", "west", token, soon()))(t)
		_, err := w.Join(ctx, token, func(store.Cluster) (store.Certificate, error) { return store.Certificate{}, broken })
		if !errors.Is(err, broken) {
			t.Errorf("got error %v, want what signing returned", err)
		}
		get(w.Join(ctx, token, sign))(t)
	})
	t.Run("lets one of many join who have its token", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		token := store.NewJoinToken()
		get(w.AddCluster(ctx, "acme", "west", token, soon()))(t)
		var joined, serial atomic.Int64
		var running sync.WaitGroup
		for range 8 {
			running.Go(func() {
				_, err := w.Join(ctx, token, func(store.Cluster) (store.Certificate, error) {
					n := fmt.Sprint(serial.Add(1))
					return store.Certificate{Serial: n, Key: n, ExpiresAt: soon()}, nil
				})
				if err == nil {
					joined.Add(1)
				} else if !errors.Is(err, store.ErrToken) {
					t.Errorf("got error %v, want ErrToken", err)
				}
			})
		}
		running.Wait()
		equal(t, "joined", joined.Load(), 1)
	})
	t.Run("renews by the certificate in force, and knows its own alone", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		w.join(t, "acme", "west")
		must(t, w.RecordCertificate(ctx, "acme", "west", "acmewest", store.Certificate{Serial: "2b", ExpiresAt: soon()}))
		must(t, w.CheckCertificate(ctx, "acme", "west", "acmewest"))
		must(t, w.CheckCertificate(ctx, "acme", "west", "2b"))
		must(t, w.RecordCertificate(ctx, "acme", "west", "2b", store.Certificate{Serial: "3c", ExpiresAt: time.Now().Add(-time.Second)}))
		equal(t, "newest", get(w.GetCluster(ctx, "acme", "west"))(t).CertificateSerial, "3c")
		for _, c := range [][3]string{{"acme", "west", "3c"}, {"acme", "east", "2b"}, {"globex", "west", "2b"}, {"acme", "west", "none"}} {
			if err := w.CheckCertificate(ctx, c[0], c[1], c[2]); !errors.Is(err, store.ErrCertificate) {
				t.Errorf("%v: got error %v, want ErrCertificate", c, err)
			}
		}
		if err := w.RecordCertificate(ctx, "acme", "west", "3c", store.Certificate{Serial: "4d", ExpiresAt: soon()}); !errors.Is(err, store.ErrCertificate) {
			t.Errorf("got error %v, want ErrCertificate", err)
		}
	})
	t.Run("says how it is", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		equal(t, "report", get(w.GetCluster(ctx, "acme", "east"))(t).Report == nil, true)
		must(t, w.Heartbeat(ctx, "acme", "east", &tunnelv1.HeartbeatRequest{Version: "1.2", ConfigRevision: 7}))
		cluster := get(w.GetCluster(ctx, "acme", "east"))(t)
		equal(t, "version", cluster.Report.GetVersion(), "1.2")
		if since := time.Since(cluster.LastHeartbeat); since < 0 || since > time.Minute {
			t.Errorf("got last heartbeat %v, want now", cluster.LastHeartbeat)
		}
		wantError[*store.NotFoundError](t, w.Heartbeat(ctx, "acme", "west", &tunnelv1.HeartbeatRequest{}))
		_, err := w.SetDraining(ctx, "acme", "west", true)
		wantError[*store.NotFoundError](t, err)
		w.join(t, "acme", "west")
		clusters, next := page(w.ListClusters(ctx, "acme", store.Query{Limit: 1}))(t)
		equal(t, "first page", names(clusters, func(c store.Cluster) string { return c.Name }), "east")
		clusters, next = page(w.ListClusters(ctx, "acme", store.Query{Limit: 1, Token: next}))(t)
		equal(t, "second page", names(clusters, func(c store.Cluster) string { return c.Name })+next, "west")
	})
	t.Run("has a relay port that no other has", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		must(t, w.SetRelayPort(ctx, "acme", "east", 4000))
		must(t, w.SetRelayPort(ctx, "acme", "east", 4000))
		wantError[*store.ExistsError](t, w.SetRelayPort(ctx, "globex", "east", 4000))
		wantError[*store.NotFoundError](t, w.SetRelayPort(ctx, "acme", "west", 4001))
		equal(t, "port", get(w.GetCluster(ctx, "acme", "east"))(t).RelayPort, 4000)
		must(t, w.SetRelayPort(ctx, "acme", "east", 0))
		must(t, w.SetRelayPort(ctx, "globex", "east", 4000))
	})
	t.Run("is removed when nothing runs on it, or by force, and then knows nobody", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		get(w.CreateRun(ctx, newRun(runKey("r1"))))(t)
		w.apply(t, state(runKey("r1"), "c1", 9, running))
		wantError[*store.RefusedError](t, w.RemoveCluster(ctx, "acme", "east", false))
		equal(t, "draining after the refusal", get(w.GetCluster(ctx, "acme", "east"))(t).Draining, false)
		must(t, w.RemoveCluster(ctx, "acme", "east", true))
		_, err := w.GetCluster(ctx, "acme", "east")
		wantError[*store.NotFoundError](t, err)
		equal(t, "child", w.action(t, runKey("r1"), "c1").Phase, aborted)
		if err := w.CheckCertificate(ctx, "acme", "east", "acmeeast"); !errors.Is(err, store.ErrCertificate) {
			t.Errorf("got error %v, want ErrCertificate", err)
		}
		_, err = w.AbortRun(ctx, runKey("r1"), "", nil)
		must(t, err)
		wantError[*store.NotFoundError](t, w.RemoveCluster(ctx, "acme", "east", true))

		token := store.NewJoinToken()
		get(w.AddCluster(ctx, "acme", "east", token, soon()))(t)
		again := get(w.Join(ctx, token, sign))(t)
		equal(t, "position", again.Position, 0)
		equal(t, "pending", again.Pending, 0)
	})
}

func testConfig(t *testing.T, b Backend) {
	ctx := t.Context()
	w := newWorld(t, b)
	workspaces := func(c *tunnelv1.Config) string {
		return names(c.GetWorkspaces(), func(w *tunnelv1.Workspace) string {
			return fmt.Sprintf("%s-%s:%v", w.GetProject(), w.GetDomain(), w.GetSuspended())
		})
	}
	first := get(w.GetConfig(ctx, "acme", "east"))(t)
	equal(t, "workspaces", workspaces(first), "alpha-development:false alpha-staging:false alpha-production:false")

	get(w.CreateProject(ctx, store.Project{Organization: "acme", ID: "beta"}))(t)
	get(w.UpdateProject(ctx, store.Project{Organization: "acme", ID: "alpha", State: 1}))(t)
	second := get(w.GetConfig(ctx, "acme", "east"))(t)
	equal(t, "workspaces after changes", workspaces(second),
		"alpha-development:true alpha-staging:true alpha-production:true beta-development:false beta-staging:false beta-production:false")
	equal(t, "revision", second.GetRevision(), first.GetRevision()+2)

	for range 2 {
		must(t, w.SetProxyNames(ctx, "acme", "east", []string{"localhost", "127.0.0.1"}))
	}
	third := get(w.GetConfig(ctx, "acme", "east"))(t)
	equal(t, "names", strings.Join(third.GetProxyNames(), " "), "localhost 127.0.0.1")
	equal(t, "revision after names", third.GetRevision(), second.GetRevision()+1)
	_, err := w.GetConfig(ctx, "acme", "west")
	wantError[*store.NotFoundError](t, err)
	wantError[*store.NotFoundError](t, w.SetProxyNames(ctx, "acme", "west", []string{"x"}))
}
