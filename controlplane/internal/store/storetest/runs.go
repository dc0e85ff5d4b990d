package storetest

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

func testRuns(t *testing.T, b Backend) {
	ctx := t.Context()
	t.Run("is made with its root and its hand-over, and read back whole", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		n := newRun(runKey("r1"))
		n.Spec.Labels = &task.Labels{Values: map[string]string{"team": "blue", "tier": "1"}}
		n.Spec.Relation = &common.Relation{RelatedTo: runKey("r0").Proto(), RelationType: common.RelationType_RELATION_TYPE_RERUN}
		made := get(w.CreateRun(ctx, n))(t)

		run, spec, err := w.GetRun(ctx, n.Key)
		must(t, err)
		if !proto.Equal(spec, n.Spec) {
			t.Errorf("got spec %v, want %v", spec, n.Spec)
		}
		for _, r := range []store.Run{made, run} {
			equal(t, "key", r.Key, n.Key)
			equal(t, "root", r.Root.Key.Name, "a0")
			equal(t, "phase", r.Root.Phase, queued)
			equal(t, "attempts", r.Root.AttemptCount, 1)
			equal(t, "task", r.Root.Task, n.TaskID)
			equal(t, "label", r.Labels["team"], "blue")
			equal(t, "relation", r.Relation.GetRelatedTo().GetName(), "r0")
			equal(t, "creator", store.Subject(r.CreatedBy), "ada")
			equal(t, "source", r.Source, workflow.RunSource_RUN_SOURCE_CLI)
			equal(t, "inputs", r.Root.InputURI, n.InputsURI)
			equal(t, "base", r.BaseURI, n.BaseURI)
			equal(t, "revision", r.Revision, 1)
			equal(t, "change", r.Change, made.Change)
		}
		details := get(w.GetAction(ctx, store.ActionKey{Run: n.Key, Name: "a0"}))(t)
		if !proto.Equal(details.Spec, n.Task) {
			t.Errorf("got task spec %v, want %v", details.Spec, n.Task)
		}
		due, _, err := w.Next(ctx, "acme", "east", 10)
		must(t, err)
		if len(due) != 1 || !proto.Equal(due[0].Enqueue, n.Handover) || due[0].Run != n.Key {
			t.Errorf("got hand-overs %v, want the enqueue", due)
		}
	})
	t.Run("is the one that there is when the call that made it is repeated", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		n := newRun(runKey("r1"))
		n.Call = "one"
		get(w.CreateRun(ctx, n))(t)
		w.apply(t, state(n.Key, "a0", 1, running))
		again := get(w.CreateRun(ctx, n))(t)
		equal(t, "phase", again.Root.Phase, running)
		equal(t, "hand-overs", get(w.GetCluster(ctx, "acme", "east"))(t).Pending, 1)
		for _, call := range []string{"", "two"} {
			n.Call = call
			_, err := w.CreateRun(ctx, n)
			wantError[*store.ExistsError](t, err)
		}
	})
	t.Run("leaves nothing of a run that is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		get(w.CreateRun(ctx, newRun(runKey("r1"))))(t)
		_, err := w.CreateRun(ctx, newRun(runKey("r1")))
		wantError[*store.ExistsError](t, err)

		elsewhere := newRun(runKey("r2"))
		elsewhere.Cluster = "west"
		_, err = w.CreateRun(ctx, elsewhere)
		wantError[*store.NotFoundError](t, err)
		unknown := newRun(store.RunKey{Organization: "acme", Project: "none", Domain: "development", Name: "r3"})
		_, err = w.CreateRun(ctx, unknown)
		wantError[*store.NotFoundError](t, err)
		get(w.SetDraining(ctx, "acme", "east", true))(t)
		_, err = w.CreateRun(ctx, newRun(runKey("r4")))
		wantError[*store.RefusedError](t, err)

		runs, _ := page(w.ListRuns(ctx, store.RunScope{Organization: "acme"}, store.Query{}))(t)
		equal(t, "runs", names(runs, runName), "r1")
		equal(t, "hand-overs", get(w.GetCluster(ctx, "acme", "east"))(t).Pending, 1)
	})
	t.Run("ends with all that it has when it is aborted, once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		key := runKey("r1")
		get(w.CreateRun(ctx, newRun(key)))(t)
		w.apply(t, state(key, "a0", 1, running), state(key, "c1", 2, running), state(key, "c2", 3, succeeded))
		run := get(w.AbortRun(ctx, key, "enough", user("bob")))(t)
		equal(t, "phase", run.Root.Phase, aborted)
		equal(t, "aborted", run.Aborted, true)
		equal(t, "reason", run.Root.AbortReason, "enough")
		equal(t, "by", store.Subject(run.Root.AbortedBy), "bob")
		equal(t, "running child", w.action(t, key, "c1").Phase, aborted)
		equal(t, "finished child", w.action(t, key, "c2").Phase, succeeded)

		again := get(w.AbortRun(ctx, key, "again", nil))(t)
		equal(t, "reason of the second time", again.Root.AbortReason, "enough")
		equal(t, "revision of the second time", again.Revision, run.Revision)
		due, _, err := w.Next(ctx, "acme", "east", 10)
		must(t, err)
		if len(due) != 2 || due[1].Abort.GetActionId().GetName() != "a0" || due[1].Abort.GetReason() != "enough" {
			t.Errorf("got hand-overs %v, want the enqueue and one abort", due)
		}
		_, err = w.AbortRun(ctx, runKey("none"), "", nil)
		wantError[*store.NotFoundError](t, err)
	})
	t.Run("is listed by whatever it has", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		start := time.Now()
		for i, name := range []string{"r1", "r2", "r3", "r4"} {
			n := newRun(runKey(name))
			n.Spec.Labels = &task.Labels{Values: map[string]string{"n": name}}
			if i%2 == 0 {
				n.Spec.Labels.Values["even"] = "yes"
				n.CreatedBy = user("bob")
			}
			if name == "r4" {
				n.TaskID.Version = "v2"
			}
			get(w.CreateRun(ctx, n))(t)
		}
		w.apply(t, state(runKey("r1"), "a0", 1, succeeded), state(runKey("r2"), "a0", 2, failed),
			state(runKey("r3"), "a0", 3, running), state(runKey("r3"), "c1", 4, paused))

		for _, c := range []struct {
			name    string
			filters []*common.Filter
			want    string
		}{
			{"phase by number", []*common.Filter{filter("phase", common.Filter_EQUAL, "5")}, "r1"},
			{"phase by name", []*common.Filter{filter("phase", common.Filter_VALUE_IN, "SUCCEEDED", "ACTION_PHASE_FAILED")}, "r1 r2"},
			{"phase not in", []*common.Filter{filter("phase", common.Filter_VALUE_NOT_IN, "5", "6")}, "r3 r4"},
			{"a phase that the SDK cut into characters", []*common.Filter{filter("phase", common.Filter_VALUE_IN, "1", "0")}, ""},
			{"task name", []*common.Filter{filter("task_name", common.Filter_EQUAL, "env.main")}, "r1 r2 r3 r4"},
			{"task version", []*common.Filter{filter("task_version", common.Filter_NOT_EQUAL, "v1")}, "r4"},
			{"creator", []*common.Filter{filter("created_by", common.Filter_EQUAL, "bob")}, "r1 r3"},
			{"label", []*common.Filter{filter("labels.n", common.Filter_EQUAL, "r2")}, "r2"},
			{"label in", []*common.Filter{filter("labels.n", common.Filter_VALUE_IN, "r2", "r3")}, "r2 r3"},
			{"label exists", []*common.Filter{filter("labels.even", common.Filter_EXISTS)}, "r1 r3"},
			{"label does not exist", []*common.Filter{filter("labels.even", common.Filter_NOT_EXISTS)}, "r2 r4"},
			{"label differs", []*common.Filter{filter("labels.n", common.Filter_NOT_EQUAL, "r2")}, "r1 r3 r4"},
			{"both of two", []*common.Filter{filter("labels.even", common.Filter_EXISTS), filter("phase", common.Filter_EQUAL, "4")}, "r3"},
			{"time", []*common.Filter{filter("created_at", common.Filter_GREATER_THAN_OR_EQUAL, start.Add(-time.Minute).Format(time.RFC3339))}, "r1 r2 r3 r4"},
			{"time before", []*common.Filter{filter("created_at", common.Filter_LESS_THAN, start.Add(-time.Minute).Format(time.RFC3339))}, ""},
			{"end", []*common.Filter{filter("end_time", common.Filter_LESS_THAN, start.Format(time.RFC3339))}, "r1 r2"},
			{"no end", []*common.Filter{filter("end_time", common.Filter_NOT_EXISTS)}, "r3 r4"},
			{"name contains", []*common.Filter{filter("name", common.Filter_CONTAINS_CASE_INSENSITIVE, "R")}, "r1 r2 r3 r4"},
			{"a name that no database can hold", []*common.Filter{filter("name", common.Filter_EQUAL, "r1\x00")}, ""},
		} {
			runs, _ := page(w.ListRuns(ctx, store.RunScope{Organization: "acme"}, store.Query{Filters: c.filters}))(t)
			equal(t, c.name, names(runs, runName), c.want)
		}
		for _, c := range []struct {
			name  string
			scope store.RunScope
			want  string
		}{
			{"workspace", store.RunScope{Organization: "acme", Project: "alpha", Domain: "staging"}, ""},
			{"task", store.RunScope{Organization: "acme", Project: "alpha", Domain: "development", TaskName: "env.main", TaskVersion: "v2"}, "r4"},
			{"cluster", store.RunScope{Organization: "acme", Cluster: "east"}, "r1 r2 r3 r4"},
			{"paused", store.RunScope{Organization: "acme", PausedOnly: true}, "r3"},
			{"other organisation", store.RunScope{Organization: "globex"}, ""},
		} {
			runs, _ := page(w.ListRuns(ctx, c.scope, store.Query{}))(t)
			equal(t, c.name, names(runs, runName), c.want)
		}
	})
	t.Run("is among the changed ones once for each change, in order", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		scope := store.RunScope{Organization: "acme", Project: "alpha", Domain: "development"}
		for _, name := range []string{"r1", "r2", "r3"} {
			get(w.CreateRun(ctx, newRun(runKey(name))))(t)
		}
		changed, cursor, err := w.ChangedRuns(ctx, scope, store.RunCursor{}, 2)
		must(t, err)
		equal(t, "first page", names(changed, runName), "r1 r2")
		changed, cursor, err = w.ChangedRuns(ctx, scope, cursor, 2)
		must(t, err)
		equal(t, "second page", names(changed, runName), "r3")
		latest := get(w.LatestRunCursor(ctx, "acme"))(t)

		w.apply(t, state(runKey("r3"), "a0", 1, running), state(runKey("r1"), "a0", 2, running), state(runKey("r2"), "c1", 3, running))
		for _, from := range []store.RunCursor{cursor, latest} {
			changed, _, err = w.ChangedRuns(ctx, scope, from, 10)
			must(t, err)
			equal(t, "whose root changed", names(changed, runName), "r1 r3")
		}
		elsewhere, quiet, err := w.ChangedRuns(ctx, store.RunScope{Organization: "acme", Project: "alpha", Domain: "staging"}, store.RunCursor{}, 10)
		must(t, err)
		equal(t, "elsewhere", names(elsewhere, runName), "")
		equal(t, "position where nothing changed", quiet, get(w.LatestRunCursor(ctx, "acme"))(t))
	})
}
