package step_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"biplane.dev/biplane/provision/step"
)

// world is what the fake steps change, and the diary of what happened to it.
type world struct {
	mu    sync.Mutex
	there map[string]string // name to content
	diary []string
}

func newWorld() *world { return &world{there: map[string]string{}} }

func (w *world) note(format string, args ...any) {
	w.diary = append(w.diary, fmt.Sprintf(format, args...))
}

// thing is a step that keeps one entry of a world.
type thing struct {
	world *world
	name  string
	needs []string

	made    func(ctx context.Context) error // called by Make before it writes
	unseen  int                             // how often Check is in vain
	lookErr error
}

func (t *thing) Name() string    { return t.name }
func (t *thing) Needs() []string { return t.needs }

func (t *thing) Look(_ context.Context, goal step.Goal) (step.Found, error) {
	t.world.mu.Lock()
	defer t.world.mu.Unlock()
	content, ok := t.world.there[t.name]
	return foundThing{t, goal, content, ok}, t.lookErr
}

func (t *thing) Check(context.Context) error {
	t.world.mu.Lock()
	defer t.world.mu.Unlock()
	if t.unseen > 0 {
		t.unseen--
		return fmt.Errorf("reading %s: %w", t.name, step.ErrNotYet)
	}
	t.world.note("seen %s", t.name)
	return nil
}

type foundThing struct {
	*thing
	goal    step.Goal
	content string
	there   bool
}

func (f foundThing) Plan() step.Change {
	switch {
	case f.goal == step.Absent && !f.there:
		return step.Change{Action: step.None}
	case f.goal == step.Absent && f.content != "ours":
		return step.Change{Action: step.Leave, Details: []string{"it was made by somebody else"}}
	case f.goal == step.Absent:
		return step.Change{Action: step.Remove}
	case !f.there:
		return step.Change{Action: step.Create}
	case f.content != "ours":
		return step.Change{Action: step.Refuse, Details: []string{"its content is " + f.content}, Hint: "rename it"}
	}
	return step.Change{Action: step.Keep}
}

func (f foundThing) Make(ctx context.Context) error {
	if f.made != nil {
		if err := f.made(ctx); err != nil {
			return err
		}
	}
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	f.world.there[f.name] = "ours"
	f.world.note("made %s", f.name)
	return nil
}

func (f foundThing) Remove(context.Context) error {
	f.world.mu.Lock()
	defer f.world.mu.Unlock()
	delete(f.world.there, f.name)
	f.world.note("removed %s", f.name)
	return nil
}

// sleeplessClock counts the time that was slept instead of sleeping.
type sleeplessClock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *sleeplessClock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *sleeplessClock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
	return ctx.Err()
}

// vpc returns a diamond: a network, two things in it, and one that needs both.
func vpc(w *world) []step.Step {
	return []step.Step{
		&thing{world: w, name: "cluster", needs: []string{"subnet a", "subnet b"}},
		&thing{world: w, name: "subnet a", needs: []string{"network"}},
		&thing{world: w, name: "subnet b", needs: []string{"network"}},
		&thing{world: w, name: "network"},
	}
}

func run(t *testing.T, r step.Runner, goal step.Goal) error {
	t.Helper()
	plan, err := r.Plan(t.Context(), goal)
	if err != nil {
		t.Fatalf("got %v from Plan, want none", err)
	}
	return r.Apply(t.Context(), plan)
}

func TestApply(t *testing.T) {
	t.Parallel()

	t.Run("it makes what is needed first and removes it last", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		r := step.Runner{Steps: vpc(w), Parallel: 1, Clock: &sleeplessClock{}}
		if err := run(t, r, step.Present); err != nil {
			t.Fatal(err)
		}
		if err := run(t, r, step.Absent); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(w.diary, ", ")
		want := "made network, seen network, made subnet a, seen subnet a, made subnet b, seen subnet b, made cluster, seen cluster, " +
			"removed cluster, removed subnet b, removed subnet a, removed network"
		// The two subnets need each other in no way, so their order on removal is free.
		other := strings.Replace(want, "removed subnet b, removed subnet a", "removed subnet a, removed subnet b", 1)
		if got != want && got != other {
			t.Errorf("got %s\nwant %s", got, want)
		}
	})

	t.Run("it has independent steps in hand at once", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		var both sync.WaitGroup
		both.Add(2)
		meet := func(context.Context) error {
			both.Done()
			both.Wait() // never ends unless the other one is being made as well
			return nil
		}
		steps := vpc(w)
		steps[1].(*thing).made, steps[2].(*thing).made = meet, meet
		if err := run(t, step.Runner{Steps: steps, Parallel: 2}, step.Present); err != nil {
			t.Error(err)
		}
	})

	t.Run("it does nothing the second time", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		r := step.Runner{Steps: vpc(w)}
		if err := run(t, r, step.Present); err != nil {
			t.Fatal(err)
		}
		w.diary = nil
		if err := run(t, r, step.Present); err != nil || len(w.diary) != 0 {
			t.Errorf("got %v and %v, want no change and no error", w.diary, err)
		}
	})

	t.Run("it finishes the steps in hand after an error and starts no more", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		failed := make(chan struct{})
		broken := errors.New("no room")
		steps := vpc(w)
		steps[1].(*thing).made = func(context.Context) error { close(failed); return broken }
		steps[2].(*thing).made = func(context.Context) error { <-failed; return nil }
		err := run(t, step.Runner{Steps: steps}, step.Present)
		var stepErr *step.StepError
		if !errors.As(err, &stepErr) || stepErr.Step != "subnet a" || !errors.Is(err, broken) {
			t.Errorf("got %v, want a StepError of subnet a that is %v", err, broken)
		}
		if !slices.Contains(w.diary, "seen subnet b") || slices.Contains(w.diary, "made cluster") {
			t.Errorf("got %v, want subnet b finished and the cluster not begun", w.diary)
		}
	})

	t.Run("it looks again when somebody else was faster", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		late := &thing{world: w, name: "role"}
		late.made = func(context.Context) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.there["role"] = "ours" // the other one's, and just as wanted
			return fmt.Errorf("EntityAlreadyExists: %w", step.ErrConflict)
		}
		if err := run(t, step.Runner{Steps: []step.Step{late}, Clock: &sleeplessClock{}}, step.Present); err != nil {
			t.Errorf("got %v, want none", err)
		}
	})

	t.Run("it looks before it makes again what may have been made, once that can be seen", func(t *testing.T) {
		t.Parallel()
		w, clock := newWorld(), &sleeplessClock{}
		lost := &thing{world: w, name: "vpc"}
		made := 0
		lost.made = func(context.Context) error {
			made++
			w.there["vpc"] = "ours"
			return fmt.Errorf("cut off: %w", step.ErrUnclear)
		}
		began := clock.Now()
		if err := run(t, step.Runner{Steps: []step.Step{lost}, Clock: clock}, step.Present); err != nil {
			t.Fatal(err)
		}
		if waited := clock.Now().Sub(began); made != 1 || waited < 10*time.Second {
			t.Errorf("got it made %d times, looked at again after %v; want once, and after 10 s at least", made, waited)
		}
	})

	t.Run("it refuses what differs when it looks again", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		late := &thing{world: w, name: "role"}
		late.made = func(context.Context) error {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.there["role"] = "theirs"
			return step.ErrConflict
		}
		err := run(t, step.Runner{Steps: []step.Step{late}, Clock: &sleeplessClock{}}, step.Present)
		var refused *step.RefusedError
		if !errors.As(err, &refused) || w.there["role"] != "theirs" {
			t.Errorf("got %v and content %q, want a RefusedError and theirs untouched", err, w.there["role"])
		}
	})

	t.Run("it waits until what was made is seen, longer each time", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		clock := &sleeplessClock{}
		var waits int
		r := step.Runner{Steps: []step.Step{&thing{world: w, name: "role", unseen: 5}}, Clock: clock, Progress: func(e step.Event) {
			if e.Stage == step.Waiting {
				waits++
			}
		}}
		if err := run(t, r, step.Present); err != nil {
			t.Fatal(err)
		}
		want := (100 + 200 + 400 + 800 + 1600) * time.Millisecond
		if got := clock.Now().Sub(time.Time{}); got != want || waits != 5 {
			t.Errorf("got %v in %d waits, want %v in 5", got, waits, want)
		}
	})

	t.Run("it gives up once its patience is at an end", func(t *testing.T) {
		t.Parallel()
		r := step.Runner{Steps: []step.Step{&thing{world: newWorld(), name: "role", unseen: 1 << 30}}, Clock: &sleeplessClock{}, Patience: 20 * time.Second}
		if err := run(t, r, step.Present); !errors.Is(err, step.ErrNotYet) {
			t.Errorf("got %v, want ErrNotYet", err)
		}
	})

	t.Run("it makes nothing when one step is refused", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		w.there["cluster"] = "theirs"
		err := run(t, step.Runner{Steps: vpc(w)}, step.Present)
		var refused *step.RefusedError
		if !errors.As(err, &refused) || len(w.diary) != 0 {
			t.Errorf("got %v and %v, want a RefusedError and no change", err, w.diary)
		}
	})

	t.Run("it leaves what is not ours", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		w.there["network"] = "theirs"
		if err := run(t, step.Runner{Steps: vpc(w)}, step.Absent); err != nil || w.there["network"] != "theirs" {
			t.Errorf("got %v and %q, want it left", err, w.there["network"])
		}
	})

	t.Run("it does not change what was shown as unchanged", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		w.there["network"] = "ours"
		r := step.Runner{Steps: vpc(w)}
		plan, err := r.Plan(t.Context(), step.Present)
		if err != nil {
			t.Fatal(err)
		}
		delete(w.there, "network")
		if err := r.Apply(t.Context(), plan); !errors.Is(err, step.ErrPlanChanged) {
			t.Errorf("got %v, want ErrPlanChanged", err)
		}
	})

	t.Run("it stops between steps when it is interrupted", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		steps := vpc(w)
		steps[3].(*thing).made = func(context.Context) error { cancel(); return nil }
		r := step.Runner{Steps: steps}
		plan, err := r.Plan(ctx, step.Present)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Apply(ctx, plan); !errors.Is(err, context.Canceled) || slices.Contains(w.diary, "made subnet a") {
			t.Errorf("got %v and %v, want Canceled and nothing after the network", err, w.diary)
		}
	})
}

func TestPlan(t *testing.T) {
	t.Parallel()

	for name, steps := range map[string][]step.Step{
		"it refuses two steps of one name":          {&thing{name: "a"}, &thing{name: "a"}},
		"it refuses a need that is no step":         {&thing{name: "a", needs: []string{"b"}}},
		"it refuses needs in a circle":              {&thing{name: "a", needs: []string{"b"}}, &thing{name: "b", needs: []string{"a"}}},
		"it says which step could not be looked at": {&thing{world: newWorld(), name: "a", lookErr: errors.New("denied")}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, err := (step.Runner{Steps: steps}).Plan(t.Context(), step.Present); err == nil || !strings.Contains(err.Error(), "a") {
				t.Errorf("got %v, want an error that names the step", err)
			}
		})
	}

	t.Run("it prints what would be done and leaves out what stays absent", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		w.there["network"], w.there["cluster"] = "ours", "theirs"
		r := step.Runner{Steps: vpc(w)}
		present, err := r.Plan(t.Context(), step.Present)
		if err != nil {
			t.Fatal(err)
		}
		absent, err := r.Plan(t.Context(), step.Absent)
		if err != nil {
			t.Fatal(err)
		}
		var got strings.Builder
		present.WriteText(&got)
		absent.WriteText(&got)
		want := `    network   keep
  + subnet a  create
  + subnet b  create
  ! cluster   refuse
      its content is theirs

Plan: 2 to create, 1 unchanged, 1 refused.
  = cluster  leave
      it was made by somebody else
  - network  remove

Plan: 1 to remove, 1 left alone.
`
		if got.String() != want {
			t.Errorf("got\n%s\nwant\n%s", got.String(), want)
		}
	})

	t.Run("it has a JSON form", func(t *testing.T) {
		t.Parallel()
		w := newWorld()
		w.there["a"] = "theirs"
		plan, err := (step.Runner{Steps: []step.Step{&thing{world: w, name: "a"}}}).Plan(t.Context(), step.Present)
		if err != nil {
			t.Fatal(err)
		}
		got, _ := json.Marshal(plan)
		want := `{"goal":"present","steps":[{"name":"a","action":"refuse","details":["its content is theirs"],"hint":"rename it"}]}`
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
}
