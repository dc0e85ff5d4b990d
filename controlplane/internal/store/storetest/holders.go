package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"biplane.dev/biplane/controlplane/internal/store"
)

func testHolders(t *testing.T, b Backend) {
	ctx := t.Context()
	// says is what everybody reads, and whether each lease is as long as it should be.
	says := func(t *testing.T, w *world, lease time.Duration) string {
		t.Helper()
		text := ""
		for _, h := range get(w.Holders(ctx, "acme"))(t) {
			text += fmt.Sprintf("%s:%s@%s ", h.Cluster, h.Process, h.Endpoint)
			if h.Left <= 0 || h.Left > lease {
				t.Errorf("got %s left of a lease of %s", h.Left, lease)
			}
		}
		return text
	}

	t.Run("names who holds a tunnel, the newest first", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		w.join(t, "acme", "west")
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", []string{"east", "west"}, time.Hour))
		must(t, w.Hold(ctx, "acme", "p2", "h2:1", []string{"east"}, time.Hour))
		equal(t, "holders", says(t, w, time.Hour), "east:p2@h2:1 east:p1@h1:1 west:p1@h1:1 ")
		must(t, w.Hold(ctx, "acme", "p1", "h1:2", []string{"west"}, time.Hour))
		equal(t, "holders", says(t, w, time.Hour), "east:p2@h2:1 west:p1@h1:2 ")
		must(t, w.Hold(ctx, "acme", "p2", "h2:1", nil, time.Hour))
		equal(t, "holders", says(t, w, time.Hour), "west:p1@h1:2 ")
		equal(t, "holders of another organisation", len(get(w.Holders(ctx, "globex"))(t)), 0)
	})
	t.Run("names nobody whose lease has run out, until he says so again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		const lease = 50 * time.Millisecond
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", []string{"east"}, lease))
		for deadline := time.Now().Add(20 * time.Second); says(t, w, lease) != ""; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("got a holder, want none behind its lease")
			}
		}
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", []string{"east"}, time.Hour))
		equal(t, "holders", says(t, w, time.Hour), "east:p1@h1:1 ")
	})
	t.Run("forgets a cluster that is removed, and takes none that is not there", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", []string{"east", "nowhere"}, time.Hour))
		equal(t, "holders", says(t, w, time.Hour), "east:p1@h1:1 ")
		must(t, w.RemoveCluster(ctx, "acme", "east", false))
		equal(t, "holders", says(t, w, time.Hour), "")
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", []string{"east"}, time.Hour))
		equal(t, "holders", says(t, w, time.Hour), "")
	})
	t.Run("wakes who watches when a tunnel comes or goes, and for no lease", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		woken, stop := w.Watch(store.HoldersTopic("acme"))
		defer stop()
		<-woken
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", []string{"east"}, time.Hour))
		woke(t, woken)
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", []string{"east"}, time.Hour))
		must(t, w.Hold(ctx, "globex", "p1", "h1:1", []string{"east"}, time.Hour))
		must(t, w.Hold(ctx, "acme", "p1", "h1:1", nil, time.Hour))
		woke(t, woken)
		select {
		case <-woken:
			t.Error("got a third wake-up, want two")
		default:
		}
	})
}

func woke(t *testing.T, woken <-chan struct{}) {
	t.Helper()
	select {
	case <-woken:
	case <-time.After(20 * time.Second):
		t.Fatal("got no wake-up, want one")
	}
}

func testMembers(t *testing.T, b Backend) {
	ctx := t.Context()
	w := newWorld(t, b)
	hour := time.Now().Add(time.Hour).Truncate(time.Microsecond).UTC()
	token := store.NewJoinToken()
	get(w.AddCluster(ctx, "acme", "west", token, hour))(t)
	same := func(what string, got, want store.Member) {
		t.Helper()
		equal(t, what, fmt.Sprintf("%+v", got), fmt.Sprintf("%+v", want))
	}
	of := func(cluster string) store.Member {
		t.Helper()
		for _, m := range get(w.Members(ctx, "acme"))(t) {
			if m.Cluster == cluster {
				return m
			}
		}
		t.Fatalf("got no cluster %s, want it", cluster)
		return store.Member{}
	}
	same("one that has not joined", of("west"), store.Member{Cluster: "west", TokenExpiresAt: hour})

	get(w.Join(ctx, token, func(store.Cluster) (store.Certificate, error) {
		return store.Certificate{Serial: "1a", Key: "k1", ExpiresAt: hour, Issuer: "one", Trusts: []string{"one"}}, nil
	}))(t)
	same("one that has not dialled", of("west"), store.Member{Cluster: "west", ExpiresAt: hour})
	must(t, w.RecordDial(ctx, "acme", "west", "1a"))
	same("one that has dialled", of("west"), store.Member{Cluster: "west", ExpiresAt: hour, Issuer: "one", Trusts: []string{"one"}})

	must(t, w.RecordCertificate(ctx, "acme", "west", "1a", store.Certificate{Serial: "2b", ExpiresAt: hour, Issuer: "two", Trusts: []string{"one", "two"}}))
	must(t, w.RecordDial(ctx, "acme", "west", "1a"))
	equal(t, "one whose answer may be lost", of("west").Issuer, "one")
	must(t, w.RecordDial(ctx, "acme", "west", "2b"))
	same("one that has renewed", of("west"), store.Member{Cluster: "west", ExpiresAt: hour, Issuer: "two", Trusts: []string{"one", "two"}})
	must(t, w.RecordDial(ctx, "acme", "west", "1a")) // a replica that has not seen the new one yet
	equal(t, "one of whose replicas is behind", of("west").Issuer, "two")

	must(t, w.RemoveCluster(ctx, "acme", "west", false))
	get(w.AddCluster(ctx, "acme", "west", store.NewJoinToken(), hour))(t)
	same("one of the same name", of("west"), store.Member{Cluster: "west", TokenExpiresAt: hour})
	equal(t, "another organisation's", len(get(w.Members(ctx, "globex"))(t)), 1)
	if err := w.RecordDial(ctx, "acme", "west", "unknown"); err != nil && !errors.Is(err, store.ErrCertificate) {
		t.Errorf("got %v for a certificate that is not known, want nothing changed", err)
	}
}
