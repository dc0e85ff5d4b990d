package storetest

import (
	"testing"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
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

	all := store.GroupQuery{Organization: "acme", Project: "alpha", Domain: "development", From: begin}
	groups := get(w.GroupRuns(ctx, all))(t)
	equal(t, "groups, that of the newest run first", names(groups, func(g store.Group) string { return g.TaskName }), "env.main env.other")
	main := groups[0]
	equal(t, "runs", main.Runs, 3)
	equal(t, "queued", main.Phases[queued], 1)
	equal(t, "user errors", main.Errors[workflow.ErrorInfo_KIND_USER], 1)
	equal(t, "environment", main.Environment, "env")
	equal(t, "recent", names(main.Recent, func(r store.RunSummary) string { return r.Run.Name }), "r4 r2 r1")
	equal(t, "an end", main.LatestEnd.IsZero(), false)
	equal(t, "no end", groups[1].LatestEnd.IsZero(), true)
	before := all
	before.From, before.To = begin.Add(-time.Hour), begin
	equal(t, "groups before", len(get(w.GroupRuns(ctx, before))(t)), 0)
	last := all
	last.Limit, last.OldestFirst = 1, true
	equal(t, "the last of them", names(get(w.GroupRuns(ctx, last))(t), func(g store.Group) string { return g.TaskName }), "env.other")
	failures := all
	failures.Filters = []*common.Filter{filter("phase", common.Filter_EQUAL, "FAILED")}
	groups = get(w.GroupRuns(ctx, failures))(t)
	equal(t, "groups of what failed", len(groups), 1)
	equal(t, "what failed", names(groups[0].Recent, func(r store.RunSummary) string { return r.Run.Name }), "r1")
	failures.Filters[0].Field = "colour"
	_, err := w.GroupRuns(ctx, failures)
	wantError[*store.QueryError](t, err)
}
