package storetest

import (
	"fmt"
	"testing"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/controlplane/internal/store"
)

// deadline is for what must happen, and is generous.
const deadline = time.Minute

func wantWoken(t *testing.T, what string, woken <-chan struct{}) {
	t.Helper()
	select {
	case _, open := <-woken:
		if !open {
			t.Errorf("%s: got the end of the watch, want a wake-up", what)
		}
	case <-time.After(deadline):
		t.Errorf("%s: got no wake-up, want one", what)
	}
}

func testWatches(t *testing.T, b Backend) {
	ctx := t.Context()
	key := runKey("r1")
	digest, _, err := store.Digest(taskSpec("late"))
	must(t, err)
	topics := map[string]store.Topic{
		"spec":         store.SpecTopic("acme", digest),
		"run":          store.RunTopic(key),
		"workspace":    store.WorkspaceTopic("acme", "alpha", "development"),
		"organisation": store.OrganizationTopic("acme"),
		"cluster":      store.ClusterTopic("acme", "east"),
		"config":       store.ConfigTopic("acme"),
	}
	changes := []struct {
		name  string
		make  func(*testing.T, *world)
		wakes []string
	}{
		{"a run that is made", func(t *testing.T, w *world) { get(w.CreateRun(ctx, newRun(key)))(t) }, []string{"run", "workspace", "organisation", "cluster"}},
		{"a child", func(t *testing.T, w *world) { w.apply(t, state(key, "c1", 1, running)) }, []string{"run"}},
		{"a root", func(t *testing.T, w *world) { w.apply(t, state(key, "a0", 2, running)) }, []string{"run", "workspace", "organisation"}},
		{"a spec that comes behind", func(t *testing.T, w *world) {
			late := state(key, "c2", 3, running)
			late.TaskSpecDigest = digest
			w.apply(t, late)
			must(t, w.PutTaskSpecs(ctx, "acme", []*task.TaskSpec{taskSpec("late")}))
		}, []string{"run", "spec"}},
		{"an abort", func(t *testing.T, w *world) { get(w.AbortRun(ctx, key, "", nil))(t) }, []string{"run", "workspace", "organisation", "cluster"}},
		{"a drain", func(t *testing.T, w *world) { get(w.SetDraining(ctx, "acme", "east", true))(t) }, []string{"cluster"}},
		{"a project", func(t *testing.T, w *world) {
			get(w.CreateProject(ctx, store.Project{Organization: "acme", ID: "beta"}))(t)
		}, []string{"config"}},
		{"a removal", func(t *testing.T, w *world) { must(t, w.RemoveCluster(ctx, "acme", "east", true)) }, []string{"cluster"}},
	}
	t.Run("wakes who watches what changed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		watching := w
		if b.Shared {
			watching = openWorld(t, w.url) // another process
		}
		watches := map[string]<-chan struct{}{}
		for name, topic := range topics {
			woken, stop := watching.Watch(topic)
			defer stop()
			watches[name] = woken
			wantWoken(t, name+" at first", woken)
		}
		// Of another organisation: woken by nothing.
		foreign, stop := watching.Watch(store.OrganizationTopic("globex"))
		defer stop()
		wantWoken(t, "foreign at first", foreign)
		for _, change := range changes {
			change.make(t, w)
			for _, name := range change.wakes {
				wantWoken(t, fmt.Sprintf("%s by %s", name, change.name), watches[name])
			}
		}
		select {
		case <-foreign:
			t.Error("got a wake-up for another organisation, want none")
		default:
		}
	})
	t.Run("keeps one wake-up for who is busy", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		woken, stop := w.Watch(store.ConfigTopic("acme"))
		defer stop()
		for i := range 20 {
			get(w.CreateProject(ctx, store.Project{Organization: "acme", ID: fmt.Sprint("p", i)}))(t)
		}
		wantWoken(t, "after twenty changes", woken)
	})
	t.Run("ends when it is stopped or the store is closed", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		_, stop := w.Watch(store.ConfigTopic("acme"))
		stop()
		stop()
		woken, stop := w.Watch(store.ConfigTopic("acme"))
		<-woken
		must(t, w.Close())
		if _, open := <-woken; open {
			t.Error("got a wake-up, want the end of the watch")
		}
		stop()
		late, _ := w.Watch(store.ConfigTopic("acme"))
		for range late { // ends, since it is closed
		}
	})
	t.Run("does not take one name for another", func(t *testing.T) {
		t.Parallel()
		if store.WorkspaceTopic("a/b", "c", "d") == store.WorkspaceTopic("a", "b/c", "d") || store.ClusterTopic("a%2F", "b") == store.ClusterTopic("a/", "b") {
			t.Error("got one topic for two names, want two")
		}
	})
	t.Run("wakes everybody when it may have missed something", func(t *testing.T) {
		t.Parallel()
		if b.Interrupt == nil {
			return // wake-ups do not leave the process
		}
		w := newWorld(t, b)
		woken, stop := w.Watch(store.ConfigTopic("acme"))
		defer stop()
		<-woken
		b.Interrupt(t, w.url)
		wantWoken(t, "after the connection was lost", woken)
		get(w.CreateProject(ctx, store.Project{Organization: "acme", ID: "beta"}))(t)
		wantWoken(t, "by a change after that", woken)
	})
	t.Run("misses nothing while changes go on", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		watching := w
		if b.Shared {
			watching = openWorld(t, w.url)
		}
		get(w.CreateRun(ctx, newRun(key)))(t)
		const children = 150
		failed := make(chan error, 1)
		go func() {
			for i := range children {
				if _, err := w.ApplyStates(ctx, "acme", "east", epoch, states(state(key, fmt.Sprint("c", i), uint64(i+1), running)), uint64(i+1)); err != nil {
					failed <- err
					return
				}
			}
			failed <- nil
		}()
		woken, stop := watching.Watch(store.RunTopic(key))
		defer stop()
		seen := map[string]bool{}
		cursor := store.ActionCursor{}
		end := time.After(deadline)
		for len(seen) < children+1 {
			select {
			case <-woken:
			case <-end:
				t.Fatalf("got %d actions, want %d", len(seen), children+1)
			}
			for {
				changed, next, err := watching.ChangedActions(ctx, key, cursor, 7)
				must(t, err)
				for _, action := range changed {
					seen[action.Key.Name] = true
				}
				cursor = next
				if len(changed) < 7 {
					break
				}
			}
		}
		must(t, <-failed)
	})
}
