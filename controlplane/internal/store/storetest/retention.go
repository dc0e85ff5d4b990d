package storetest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/controlplane/internal/store"
)

func testRetention(t *testing.T, b Backend) {
	ctx := t.Context()
	w := newWorld(t, b)
	old, live := runKey("old"), runKey("live")
	for i, key := range []store.RunKey{old, live} {
		n := newRun(key)
		n.Task = taskSpec(key.Name)
		n.Spec.Labels = labels("n", fmt.Sprint(i))
		get(w.CreateRun(ctx, n))(t)
	}
	states := []*tunnelv1.ActionState{state(old, "a0", 1, succeeded), state(live, "a0", 2, running)}
	for i := range 25 {
		child := state(old, fmt.Sprint("c", i), uint64(3+i), succeeded)
		child.TaskSpecDigest = fmt.Sprintf("sha256:%064x", i) // never sent
		states = append(states, child)
	}
	w.apply(t, states...)
	digest := w.action(t, old, "a0").SpecDigest

	t.Run("deletes nothing that ended later", func(t *testing.T) {
		equal(t, "pruned", get(w.Prune(ctx, "acme", time.UnixMicro(1_700_000_100_000_000), 100))(t), store.Pruned{})
		equal(t, "another organisation's", get(w.Prune(ctx, "globex", time.Now(), 100))(t), store.Pruned{})
	})
	t.Run("deletes certificates that have expired, whatever is kept of runs", func(t *testing.T) {
		must(t, w.RecordCertificate(ctx, "acme", "east", "acmeeast", store.Certificate{Serial: "gone", Key: "k", ExpiresAt: time.Now().Add(-time.Second)}))
		// The cluster's newest one is named there, too.
		equal(t, "recorded", bytes.Count(dump(t, b, w.url), []byte("\ngone\n")), 2)
		equal(t, "pruned", get(w.Prune(ctx, "acme", time.Time{}, 100))(t), store.Pruned{})
		equal(t, "left", bytes.Count(dump(t, b, w.url), []byte("\ngone\n")), 1)
		must(t, w.CheckCertificate(ctx, "acme", "east", "acmeeast"))
	})
	t.Run("deletes in bounded batches, the root last", func(t *testing.T) {
		for range 2 {
			equal(t, "batch", get(w.Prune(ctx, "acme", time.Now(), 10))(t), store.Pruned{Actions: 10, More: true})
			get(w.GetAction(ctx, store.ActionKey{Run: old, Name: "a0"}))(t)
		}
		equal(t, "last batch", get(w.Prune(ctx, "acme", time.Now(), 10))(t), store.Pruned{Runs: 1, Actions: 6, TaskSpecs: 1})
		equal(t, "nothing left", get(w.Prune(ctx, "acme", time.Now(), 10))(t), store.Pruned{})
	})
	t.Run("leaves nothing of what it deleted, and all else", func(t *testing.T) {
		_, _, err := w.GetRun(ctx, old)
		wantError[*store.NotFoundError](t, err)
		_, err = w.GetTaskSpec(ctx, "acme", digest)
		wantError[*store.NotFoundError](t, err)
		_, _, err = w.GetRun(ctx, live)
		must(t, err)
		get(w.GetTaskSpec(ctx, "acme", w.action(t, live, "a0").SpecDigest))(t)
		applied := w.apply(t, state(old, "c1", 100, succeeded))
		equal(t, "late states of it", applied.Unknown, 1)
		equal(t, "specs still wanted", len(applied.MissingTaskSpecs), 0)
	})
	t.Run("lets the name be used again", func(t *testing.T) {
		get(w.CreateRun(ctx, newRun(old)))(t)
		equal(t, "labels", len(get(w.GetAction(ctx, store.ActionKey{Run: old, Name: "a0"}))(t).Run.Labels), 0)
	})
}
