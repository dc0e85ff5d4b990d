package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/store"
)

// testConcurrency has two stores on one database, as two processes would, or a
// backup beside the one of SQLite.
func testConcurrency(t *testing.T, b Backend) {
	ctx := t.Context()
	begin := func(t *testing.T) []*world {
		t.Parallel()
		w := newWorld(t, b)
		return []*world{w, openWorld(t, w.url)}
	}
	t.Run("makes a run once when many make it at once", func(t *testing.T) {
		stores := begin(t)
		var made atomic.Int64
		var running sync.WaitGroup
		for i := range 10 {
			running.Go(func() {
				_, err := stores[i%2].CreateRun(ctx, newRun(runKey("r1")))
				var exists *store.ExistsError
				if err == nil {
					made.Add(1)
				} else if !errors.As(err, &exists) {
					t.Errorf("got error %v, want an ExistsError", err)
				}
			})
		}
		running.Wait()
		equal(t, "made", made.Load(), 1)
		got, _ := due(t, stores[0], 10)
		equal(t, "hand-overs", got, "enqueue:r1")
	})
	t.Run("prunes by several at once, each run once", func(t *testing.T) {
		stores := begin(t)
		const runs = 40
		for i := range runs {
			key := runKey(fmt.Sprint("r", i))
			get(stores[0].CreateRun(ctx, newRun(key)))(t)
			get(stores[0].AbortRun(ctx, key, "", nil))(t)
		}
		var pruned atomic.Int64
		var running sync.WaitGroup
		for i := range 4 {
			running.Go(func() {
				for more := true; more; {
					count, err := stores[i%2].Prune(ctx, "acme", time.Now(), 3)
					if err != nil {
						t.Errorf("got error %v, want none", err)
					}
					pruned.Add(int64(count.Runs))
					more = count.More
				}
			})
		}
		running.Wait()
		equal(t, "pruned", pruned.Load(), runs)
		left, _ := page(stores[0].ListRuns(ctx, store.RunScope{Organization: "acme"}, store.Query{}))(t)
		equal(t, "left", len(left), 0)
	})
	t.Run("hands over in the order of commits, and shows changes in it", func(t *testing.T) {
		stores := begin(t)
		const writers, each = 4, 12
		var running sync.WaitGroup
		var writing atomic.Bool
		writing.Store(true)
		for i := range writers {
			running.Go(func() {
				for n := range each {
					key := runKey(fmt.Sprintf("r%d-%d", i, n))
					if _, err := stores[i%2].CreateRun(ctx, newRun(key)); err != nil {
						t.Errorf("got error %v, want none", err)
					}
					if n%3 == 0 {
						if _, err := stores[(i+1)%2].AbortRun(ctx, key, "", nil); err != nil {
							t.Errorf("got error %v, want none", err)
						}
					}
				}
			})
		}
		go func() {
			running.Wait()
			writing.Store(false)
		}()
		// Who reads meanwhile, by cursors alone, sees everything in the end: nothing
		// appears behind a position that was read.
		seen := map[string]common.ActionPhase{}
		cursor, last := store.RunCursor{}, uint64(0)
		handedOver := map[uint64]bool{}
		for more := true; more; {
			more = writing.Load()
			for {
				changed, next, err := stores[1].ChangedRuns(ctx, store.RunScope{Organization: "acme"}, cursor, 5)
				must(t, err)
				for _, run := range changed {
					seen[run.Key.Name] = run.Root.Phase
				}
				cursor = next
				if len(changed) < 5 {
					break
				}
			}
			due, _, err := stores[0].Next(ctx, "acme", "east", 5)
			must(t, err)
			for _, h := range due {
				if h.ID <= last {
					t.Errorf("got hand-over %d after %d, want a later one", h.ID, last)
				}
				last = h.ID
				handedOver[h.ID] = true
				must(t, stores[0].Acknowledge(ctx, "acme", "east", h.ID))
			}
			more = more || len(due) > 0
		}
		equal(t, "runs seen", len(seen), writers*each)
		endings := 0
		for _, phase := range seen {
			if phase == aborted {
				endings++
			}
		}
		equal(t, "ends seen", endings, writers*each/3)
		equal(t, "hand-overs", len(handedOver), writers*each+writers*each/3)
	})
	t.Run("shows the changes of a run in the order of revisions", func(t *testing.T) {
		stores := begin(t)
		key := runKey("r1")
		get(stores[0].CreateRun(ctx, newRun(key)))(t)
		const children = 60
		var running sync.WaitGroup
		var writing atomic.Bool
		writing.Store(true)
		running.Go(func() {
			for i := range children {
				if _, err := stores[0].ApplyStates(ctx, "acme", "east", epoch, states(state(key, fmt.Sprint("c", i), uint64(i+1), inProgress)), uint64(i+1)); err != nil {
					t.Errorf("got error %v, want none", err)
				}
			}
		})
		running.Go(func() {
			for range children {
				name := fmt.Sprint("c", rand.IntN(children))
				err := stores[1].AbortAction(ctx, store.ActionKey{Run: key, Name: name}, "", nil)
				var missing *store.NotFoundError
				if err != nil && !errors.As(err, &missing) {
					t.Errorf("got error %v, want none", err)
				}
			}
		})
		go func() {
			running.Wait()
			writing.Store(false)
		}()
		seen := map[string]common.ActionPhase{}
		cursor := store.ActionCursor{}
		for more := true; more; {
			more = writing.Load()
			changed, next, err := stores[0].ChangedActions(ctx, key, cursor, 100)
			must(t, err)
			for _, action := range changed {
				if action.Revision < cursor.Revision {
					t.Errorf("got revision %d after %d, want a later one", action.Revision, cursor.Revision)
				}
				seen[action.Key.Name] = action.Phase
			}
			cursor = next
			more = more || len(changed) > 0
		}
		all, _ := page(stores[1].ListActions(ctx, key, store.Query{}))(t)
		equal(t, "actions seen", len(seen), children+1)
		for _, action := range all {
			equal(t, "phase seen of "+action.Key.Name, seen[action.Key.Name], action.Phase)
		}
	})
	t.Run("keeps a spec that is used while it is given up", func(t *testing.T) {
		stores := begin(t)
		spec := taskSpec("shared")
		var running sync.WaitGroup
		stop := make(chan struct{})
		running.Go(func() {
			for position := uint64(1); ; position++ {
				select {
				case <-stop:
					return
				default:
				}
				key := runKey(fmt.Sprint("old", position))
				n := newRun(key)
				n.Task = spec
				if _, err := stores[0].CreateRun(ctx, n); err != nil {
					t.Errorf("got error %v, want none", err)
					return
				}
				if _, err := stores[0].AbortRun(ctx, key, "", nil); err != nil {
					t.Errorf("got error %v, want none", err)
				}
				if _, err := stores[0].Prune(ctx, "acme", time.Now().Add(time.Hour), 10); err != nil {
					t.Errorf("got error %v, want none", err)
				}
			}
		})
		for i := range 40 {
			key := runKey(fmt.Sprint("live", i))
			n := newRun(key)
			n.Task = spec
			get(stores[1].CreateRun(ctx, n))(t)
			if details := get(stores[1].GetAction(ctx, store.ActionKey{Run: key, Name: "a0"}))(t); details.Spec == nil {
				t.Errorf("got no spec of run %d, want it", i)
			}
		}
		close(stop)
		running.Wait()
	})
}
