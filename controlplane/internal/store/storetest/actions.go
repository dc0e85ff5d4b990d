package storetest

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

func testActions(t *testing.T, b Backend) {
	ctx := t.Context()
	w := newWorld(t, b)
	key := runKey("r1")
	get(w.CreateRun(ctx, newRun(key)))(t)
	// a0 has c1, c2 and a condition; c1 has d1 and d2, d1 has e1.
	c1, c2, d1, d2, e1 := state(key, "c1", 2, running), state(key, "c2", 3, succeeded), state(key, "d1", 4, running), state(key, "d2", 5, failed), state(key, "e1", 6, queued)
	d1.Parent, d2.Parent, e1.Parent = "c1", "c1", "d1"
	c2.Group = "loop"
	ask := state(key, "ask", 7, paused)
	ask.Type, ask.Name = workflow.ActionType_ACTION_TYPE_CONDITION, "approve"
	ask.Condition = &workflow.ConditionAction{Name: "approve", Prompt: "really?"}
	w.apply(t, state(key, "a0", 1, running), c1, c2, d1, d2, e1, ask)

	t.Run("is listed by whatever it has", func(t *testing.T) {
		for _, c := range []struct {
			filters []*common.Filter
			want    string
		}{
			{nil, "c1 c2 d1 d2 e1 ask a0"}, // the root's time is the control plane's own
			{[]*common.Filter{filter("parent_name", common.Filter_EQUAL, "c1")}, "d1 d2"},
			{[]*common.Filter{filter("parent", common.Filter_NOT_EXISTS)}, "a0"},
			{[]*common.Filter{filter("action_type", common.Filter_EQUAL, "3")}, "ask"},
			{[]*common.Filter{filter("group", common.Filter_EQUAL, "loop")}, "c2"},
			{[]*common.Filter{filter("phase", common.Filter_VALUE_IN, "4", "9")}, "c1 d1 ask a0"},
		} {
			actions, _ := page(w.ListActions(ctx, key, store.Query{Filters: c.filters}))(t)
			equal(t, fmt.Sprint(c.filters), names(actions, actionName), c.want)
		}
		_, _, err := w.ListActions(ctx, runKey("none"), store.Query{})
		wantError[*store.NotFoundError](t, err)
		nothing, _ := page(w.ListActions(ctx, key, store.Query{Filters: []*common.Filter{filter("phase", common.Filter_EQUAL, "8")}}))(t)
		equal(t, "of no such phase", len(nothing), 0)
	})
	t.Run("has its condition and its run", func(t *testing.T) {
		details := get(w.GetAction(ctx, store.ActionKey{Run: key, Name: "ask"}))(t)
		equal(t, "prompt", details.Action.Condition.GetPrompt(), "really?")
		equal(t, "title", details.Action.Title, "approve")
		equal(t, "creator of the run", store.Subject(details.Run.CreatedBy), "ada")
		_, err := w.GetAction(ctx, store.ActionKey{Run: key, Name: "none"})
		wantError[*store.NotFoundError](t, err)
	})
	t.Run("counts children by phase", func(t *testing.T) {
		counts := get(w.CountChildren(ctx, key, []string{"a0", "c1", "c2"}))(t)
		equal(t, "children", fmt.Sprint(counts), fmt.Sprint(map[string]map[common.ActionPhase]int32{
			"a0": {running: 1, succeeded: 1, paused: 1}, "c1": {running: 1, failed: 1}}))
	})
	t.Run("is read with others by name", func(t *testing.T) {
		found := get(w.GetActions(ctx, key, []string{"c2", "none", "a0"}))(t)
		slices.SortFunc(found, func(a, b store.Action) int { return strings.Compare(a.Key.Name, b.Key.Name) })
		equal(t, "found", names(found, actionName), "a0 c2")
	})
	t.Run("says which meet a filter", func(t *testing.T) {
		matched := get(w.MatchActions(ctx, key, []string{"c1", "c2", "none"}, []*common.Filter{filter("phase", common.Filter_EQUAL, "4")}))(t)
		equal(t, "matched", fmt.Sprint(matched), "map[c1:true]")
	})
	t.Run("is aborted with all below it and nothing beside it", func(t *testing.T) {
		before, _, err := w.GetRun(ctx, key)
		must(t, err)
		must(t, w.AbortAction(ctx, store.ActionKey{Run: key, Name: "c1"}, "stop", user("bob")))
		must(t, w.AbortAction(ctx, store.ActionKey{Run: key, Name: "c1"}, "again", user("bob")))
		for name, want := range map[string]common.ActionPhase{"a0": running, "c1": aborted, "c2": succeeded, "d1": aborted, "d2": failed, "e1": aborted, "ask": paused} {
			equal(t, name, w.action(t, key, name).Phase, want)
		}
		equal(t, "reason", w.action(t, key, "e1").AbortReason, "stop")
		changed, cursor, err := w.ChangedActions(ctx, key, before.Cursor(), 2)
		must(t, err)
		equal(t, "changed", names(changed, actionName), "c1 d1")
		changed, _, err = w.ChangedActions(ctx, key, cursor, 10)
		must(t, err)
		equal(t, "changed, next page", names(changed, actionName), "e1")

		due, _, err := w.Next(ctx, "acme", "east", 10)
		must(t, err)
		if len(due) != 2 || due[1].Abort.GetActionId().GetName() != "c1" {
			t.Errorf("got hand-overs %v, want the enqueue and one abort", due)
		}
		wantError[*store.NotFoundError](t, w.AbortAction(ctx, store.ActionKey{Run: key, Name: "none"}, "", nil))
		wantError[*store.NotFoundError](t, w.AbortAction(ctx, store.ActionKey{Run: runKey("none"), Name: "c1"}, "", nil))
	})
	t.Run("is the run when it is the root", func(t *testing.T) {
		must(t, w.AbortAction(ctx, store.ActionKey{Run: key, Name: "a0"}, "all", nil))
		run, _, err := w.GetRun(ctx, key)
		must(t, err)
		equal(t, "aborted", run.Aborted, true)
		equal(t, "condition", w.action(t, key, "ask").Phase, aborted)
	})
}
