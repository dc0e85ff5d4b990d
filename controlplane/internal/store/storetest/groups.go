package storetest

import (
	"testing"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

func testGroups(t *testing.T, b Backend) {
	ctx := t.Context()
	w := newWorld(t, b)
	begin := time.Now().Add(-time.Second)
	for _, name := range []string{"r1", "r2", "r3", "r4"} {
		n := newRun(runKey(name))
		if name == "r3" {
			n.TaskID.Name = "env.other"
		}
		get(w.CreateRun(ctx, n))(t)
	}
	broken := state(runKey("r1"), "a0", 1, failed)
	broken.ErrorKind = workflow.ErrorInfo_KIND_USER
	w.apply(t, broken, state(runKey("r2"), "a0", 2, succeeded))

	groups := get(w.GroupRuns(ctx, "acme", "alpha", "development", begin, time.Time{}, 10))(t)
	equal(t, "groups, that of the newest run first", names(groups, func(g store.Group) string { return g.TaskName }), "env.main env.other")
	main := groups[0]
	equal(t, "runs", main.Runs, 3)
	equal(t, "queued", main.Phases[queued], 1)
	equal(t, "user errors", main.Errors[workflow.ErrorInfo_KIND_USER], 1)
	equal(t, "environment", main.Environment, "env")
	equal(t, "recent", names(main.Recent, func(r store.RunSummary) string { return r.Run.Name }), "r4 r2 r1")
	equal(t, "an end", main.LatestEnd.IsZero(), false)
	equal(t, "no end", groups[1].LatestEnd.IsZero(), true)
	none := get(w.GroupRuns(ctx, "acme", "alpha", "development", begin.Add(-time.Hour), begin, 10))(t)
	equal(t, "groups before", len(none), 0)
	one := get(w.GroupRuns(ctx, "acme", "alpha", "development", begin, time.Time{}, 1))(t)
	equal(t, "groups at most", len(one), 1)
}
