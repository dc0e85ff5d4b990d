package storetest

import (
	"fmt"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

func testStates(t *testing.T, b Backend) {
	ctx := t.Context()
	key := runKey("r1")
	begin := func(t *testing.T) *world {
		t.Parallel()
		w := newWorld(t, b)
		get(w.CreateRun(ctx, newRun(key)))(t)
		return w
	}
	t.Run("records children and the end of the run", func(t *testing.T) {
		w := begin(t)
		applied := w.apply(t, state(key, "a0", 1, running), state(key, "c1", 2, queued), state(key, "c1", 3, running))
		equal(t, "position", applied.Position, 3)
		known, position, err := w.GetPosition(ctx, "acme", "east")
		must(t, err)
		equal(t, "position read", position, 3)
		equal(t, "epoch read", known, epoch)
		child := w.action(t, key, "c1")
		equal(t, "phase", child.Phase, running)
		equal(t, "version", child.Version, 3)
		equal(t, "parent", child.Parent, "a0")

		end := state(key, "a0", 4, failed)
		end.ErrorKind, end.ErrorCode, end.OutputUri = workflow.ErrorInfo_KIND_USER, "ValueError", "s3://metadata/r1/a0/1"
		end.Attempts = []*workflow.ActionAttempt{{Attempt: 1, Phase: failed}, {Attempt: 2, Phase: failed, LogsAvailable: true}}
		w.apply(t, end)
		run, _, err := w.GetRun(ctx, key)
		must(t, err)
		equal(t, "phase", run.Root.Phase, failed)
		equal(t, "error", run.Root.ErrorKind, workflow.ErrorInfo_KIND_USER)
		equal(t, "code", run.Root.ErrorCode, "ValueError")
		equal(t, "output", run.Root.OutputURI, "s3://metadata/r1/a0/1")
		equal(t, "input of the root", run.Root.InputURI, newRun(key).InputsURI)
		equal(t, "end", run.Root.EndedAt.UnixMicro(), end.GetEndedAt().AsTime().UnixMicro())
		equal(t, "attempts", run.Root.AttemptCount, 2)
		equal(t, "logs", w.action(t, key, "a0").Attempts[1].GetLogsAvailable(), true)
	})
	t.Run("changes nothing when a batch comes twice or late", func(t *testing.T) {
		w := begin(t)
		batch := []*tunnelv1.ActionState{state(key, "a0", 1, running), state(key, "c1", 2, running)}
		w.apply(t, batch...)
		w.apply(t, state(key, "c1", 5, succeeded))
		before, _, err := w.GetRun(ctx, key)
		must(t, err)
		applied := w.apply(t, batch...)
		equal(t, "position", applied.Position, 5)
		after, _, err := w.GetRun(ctx, key)
		must(t, err)
		equal(t, "revision", after.Revision, before.Revision)
		equal(t, "phase", w.action(t, key, "c1").Phase, succeeded)
	})
	t.Run("takes the newest version of a batch in any order, and none that is old", func(t *testing.T) {
		w := begin(t)
		newer, older := state(key, "c1", 2, succeeded), state(key, "c1", 3, running)
		newer.Version, older.Version = 9, 8
		w.apply(t, newer, older)
		equal(t, "phase", w.action(t, key, "c1").Phase, succeeded)
		late := state(key, "a0", 4, running)
		late.Version = 5
		w.apply(t, late)
		old := state(key, "a0", 6, failed)
		old.Version = 5
		w.apply(t, old)
		equal(t, "phase of the root", w.action(t, key, "a0").Phase, running)
	})
	t.Run("never takes back an end, and takes later details of it", func(t *testing.T) {
		w := begin(t)
		w.apply(t, state(key, "c1", 1, succeeded))
		back := state(key, "c1", 2, running)
		back.Attempts = []*workflow.ActionAttempt{{Attempt: 1, Cluster: "late"}}
		w.apply(t, back, state(key, "c2", 3, failed))
		w.apply(t, state(key, "c2", 4, succeeded))
		child := w.action(t, key, "c1")
		equal(t, "phase", child.Phase, succeeded)
		equal(t, "details", child.Attempts[0].GetCluster(), "late")
		equal(t, "first end", w.action(t, key, "c2").Phase, failed)
	})
	t.Run("drops the late success of what was aborted", func(t *testing.T) {
		w := begin(t)
		w.apply(t, state(key, "a0", 1, running), state(key, "c1", 2, running))
		get(w.AbortRun(ctx, key, "enough", nil))(t)
		late := state(key, "a0", 3, succeeded)
		late.OutputUri = "s3://late"
		confirmed := state(key, "c1", 4, aborted)
		confirmed.AbortReason = "its parent was aborted"
		confirmed.Attempts = []*workflow.ActionAttempt{{Attempt: 1, Phase: aborted}}
		w.apply(t, late, confirmed)
		root, child := w.action(t, key, "a0"), w.action(t, key, "c1")
		equal(t, "phase", root.Phase, aborted)
		equal(t, "output", root.OutputURI, "")
		equal(t, "reason", child.AbortReason, "enough")
		equal(t, "attempts", len(child.Attempts), 1)
	})
	t.Run("gives each change of a run the next revision", func(t *testing.T) {
		w := begin(t)
		cursor := store.ActionCursor{}
		var seen []string
		for position, batch := range [][]string{{"a0"}, {"c1", "c2"}, {"c2"}} {
			var states []*tunnelv1.ActionState
			for i, name := range batch {
				states = append(states, state(key, name, uint64(10*position+i+1), running))
			}
			w.apply(t, states...)
			changed, next, err := w.ChangedActions(ctx, key, cursor, 10)
			must(t, err)
			seen = append(seen, names(changed, actionName))
			cursor = next
		}
		equal(t, "changes", fmt.Sprint(seen), "[a0 c1 c2 c2]")
	})
	t.Run("asks for a spec until it is given", func(t *testing.T) {
		w := begin(t)
		spec := taskSpec("child")
		digest, _, err := store.Digest(spec)
		must(t, err)
		child := state(key, "c1", 1, running)
		child.TaskSpecDigest, child.TaskId = digest, &task.TaskIdentifier{Name: "env.child", Version: "v1"}
		known := state(key, "c2", 2, running)
		known.TaskSpecDigest = get(w.GetAction(ctx, store.ActionKey{Run: key, Name: "a0"}))(t).Action.SpecDigest
		equal(t, "missing", fmt.Sprint(w.apply(t, child, known).MissingTaskSpecs), fmt.Sprint([]string{digest}))
		equal(t, "missing still", fmt.Sprint(w.apply(t, child, known).MissingTaskSpecs), fmt.Sprint([]string{digest}))

		uninvited := taskSpec("uninvited")
		must(t, w.PutTaskSpecs(ctx, "acme", []*task.TaskSpec{spec, uninvited}))
		equal(t, "missing no more", len(w.apply(t, state(key, "c1", 3, running)).MissingTaskSpecs), 0)
		details := get(w.GetAction(ctx, store.ActionKey{Run: key, Name: "c1"}))(t)
		equal(t, "spec", details.Spec.GetShortName(), "child")
		equal(t, "task", details.Action.Task.Name, "env.child")
		uninvitedDigest, _, _ := store.Digest(uninvited)
		_, err = w.GetTaskSpec(ctx, "acme", uninvitedDigest)
		wantError[*store.NotFoundError](t, err)
	})
	t.Run("ignores runs that are not the cluster's, and goes on", func(t *testing.T) {
		w := begin(t)
		w.join(t, "acme", "west")
		other := newRun(runKey("r2"))
		other.Cluster = "west"
		get(w.CreateRun(ctx, other))(t)
		foreign := state(store.RunKey{Organization: "globex", Project: "alpha", Domain: "development", Name: "r1"}, "a0", 3, running)
		applied := w.apply(t, state(runKey("r2"), "a0", 1, succeeded), state(runKey("gone"), "a0", 2, succeeded), foreign,
			state(key, "", 4, running), state(key, "c1", 5, common.ActionPhase_ACTION_PHASE_UNSPECIFIED), state(key, "a0", 6, running))
		equal(t, "unknown", applied.Unknown, 5)
		equal(t, "position", applied.Position, 6)
		equal(t, "the other cluster's run", w.action(t, runKey("r2"), "a0").Phase, queued)
		equal(t, "its own run", w.action(t, key, "a0").Phase, running)
		_, err := w.ApplyStates(ctx, "acme", "north", epoch, nil, 1)
		wantError[*store.NotFoundError](t, err)
		_, _, err = w.GetPosition(ctx, "acme", "north")
		wantError[*store.NotFoundError](t, err)
		if _, err := w.ApplyStates(ctx, "acme", "east", epoch, nil, 1<<63); err == nil {
			t.Error("got no error for a position beyond etcd's, want one")
		}
	})
	t.Run("begins anew in another epoch, and keeps what has ended", func(t *testing.T) {
		w := begin(t)
		w.apply(t, state(key, "a0", 50, running), state(key, "c1", 51, succeeded), state(key, "c2", 52, running))
		again := states(state(key, "c1", 1, running), state(key, "c2", 2, failed), state(key, "c3", 3, running))
		applied := get(w.ApplyStates(ctx, "acme", "east", "second", again, 3))(t)
		equal(t, "position", applied.Position, 3)
		equal(t, "an end", w.action(t, key, "c1").Phase, succeeded)
		equal(t, "what went on", w.action(t, key, "c2").Phase, failed)
		equal(t, "what is new", w.action(t, key, "c3").Phase, running)
		known, position, err := w.GetPosition(ctx, "acme", "east")
		must(t, err)
		equal(t, "position and epoch", fmt.Sprint(position, known), "3second")
	})
	t.Run("takes times that are missing from its own clock", func(t *testing.T) {
		w := begin(t)
		bare := state(key, "c1", 1, succeeded)
		bare.CreatedAt, bare.EndedAt = nil, &timestamppb.Timestamp{Seconds: -1 << 60}
		w.apply(t, bare)
		child := w.action(t, key, "c1")
		for _, at := range []time.Time{child.CreatedAt, child.EndedAt} {
			if since := time.Since(at); since < 0 || since > time.Minute {
				t.Errorf("got %v, want now", at)
			}
		}
	})
	t.Run("takes a batch of thousands over many runs", func(t *testing.T) {
		w := begin(t)
		var states []*tunnelv1.ActionState
		position := uint64(0)
		for r := range 3 {
			run := runKey(fmt.Sprint("big", r))
			get(w.CreateRun(ctx, newRun(run)))(t)
			for c := range 700 {
				position++
				states = append(states, state(run, fmt.Sprint("c", c), position, succeeded))
			}
		}
		w.statements.take()
		w.apply(t, states...)
		if n := len(w.statements.take()); b.Shared && n > 30 {
			t.Errorf("got %d statements for 2,100 states, want at most 30", n)
		}
		for r := range 3 {
			counts := get(w.CountChildren(ctx, runKey(fmt.Sprint("big", r)), []string{"a0"}))(t)
			equal(t, "children", counts["a0"][succeeded], 700)
		}
	})
}
