package storetest

import (
	"fmt"
	"testing"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

func due(t *testing.T, w *world, n int) (string, time.Time) {
	t.Helper()
	handovers, wake, err := w.Next(t.Context(), "acme", "east", n)
	must(t, err)
	return names(handovers, func(h store.Handover) string {
		kind := "enqueue"
		if h.Abort != nil {
			kind = "abort"
		}
		return fmt.Sprintf("%s:%s", kind, h.Run.Name)
	}), wake
}

func testOutbox(t *testing.T, b Backend) {
	ctx := t.Context()
	begin := func(t *testing.T) (*world, []store.Handover) {
		t.Parallel()
		w := newWorld(t, b)
		for _, name := range []string{"r1", "r2"} {
			get(w.CreateRun(ctx, newRun(runKey(name))))(t)
		}
		get(w.AbortRun(ctx, runKey("r1"), "", nil))(t)
		all, _, err := w.Next(ctx, "acme", "east", 10)
		must(t, err)
		return w, all
	}
	t.Run("gives what is due in order, until it is acknowledged", func(t *testing.T) {
		w, all := begin(t)
		for range 2 {
			got, wake := due(t, w, 10)
			equal(t, "due", got, "enqueue:r1 enqueue:r2 abort:r1")
			equal(t, "wake", wake.IsZero(), true)
		}
		got, _ := due(t, w, 1)
		equal(t, "the first", got, "enqueue:r1")
		for range 2 {
			must(t, w.Acknowledge(ctx, "acme", "east", all[0].ID))
		}
		got, _ = due(t, w, 10)
		equal(t, "the rest", got, "enqueue:r2 abort:r1")
		cluster := get(w.GetCluster(ctx, "acme", "east"))(t)
		equal(t, "pending", cluster.Pending, 2)
		equal(t, "oldest", cluster.OldestPending, all[1].CreatedAt)
	})
	t.Run("holds back what follows in the same run while it waits, and nothing else", func(t *testing.T) {
		w, all := begin(t)
		retry := time.Now().Add(time.Hour).Truncate(time.Microsecond)
		must(t, w.Fail(ctx, "acme", "east", all[0].ID, retry))
		got, wake := due(t, w, 10)
		equal(t, "due", got, "enqueue:r2")
		equal(t, "wake", wake.Equal(retry), true)
		must(t, w.Fail(ctx, "acme", "east", all[0].ID, time.Now().Add(-time.Second)))
		got, wake = due(t, w, 10)
		equal(t, "due again", got, "enqueue:r1 enqueue:r2 abort:r1")
		equal(t, "wake", wake.IsZero(), true)
		handovers, _, err := w.Next(ctx, "acme", "east", 1)
		must(t, err)
		equal(t, "tries", handovers[0].Tries, 2)
	})
	t.Run("fails the run that a data plane refuses for good", func(t *testing.T) {
		w, all := begin(t)
		for range 2 {
			must(t, w.Reject(ctx, "acme", "east", all[1].ID, workflow.ErrorInfo_KIND_SYSTEM, "InvalidSpec"))
		}
		run, _, err := w.GetRun(ctx, runKey("r2"))
		must(t, err)
		equal(t, "phase", run.Root.Phase, failed)
		equal(t, "kind", run.Root.ErrorKind, workflow.ErrorInfo_KIND_SYSTEM)
		equal(t, "code", run.Root.ErrorCode, "InvalidSpec")
		equal(t, "ended", run.Root.EndedAt.IsZero(), false)
		must(t, w.Reject(ctx, "acme", "east", all[0].ID, workflow.ErrorInfo_KIND_SYSTEM, "InvalidSpec"))
		equal(t, "what was aborted before", w.action(t, runKey("r1"), "a0").Phase, aborted)
		got, _ := due(t, w, 10)
		equal(t, "due", got, "abort:r1")
	})
}
