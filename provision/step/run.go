package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Runner walks steps. The zero value of each field but Steps has a meaning, so
// Runner{Steps: steps} runs.
type Runner struct {
	Steps []Step

	// Parallel is how many steps may be in hand at once; 0 means 4. AWS counts
	// the writes of a whole account, so more is seldom faster, unless the steps
	// wait for most of their time.
	Parallel int
	// PerService is how many of them may be of one service (Description.Service)
	// while they are looked at or make their calls; 0 means no bound. A step that
	// waits for a thing to become ready is not counted.
	PerService int

	// Patience is how long a thing that was made may take to be seen, and how
	// long a conflict may last; 0 means a minute, which IAM never needs. A step
	// that is Described may ask for more.
	Patience time.Duration

	// Clock is where the time comes from; nil means the machine's.
	Clock Clock

	// Progress is told what happens, one event at a time; nil means nobody is.
	Progress func(Event)
}

// Clock is the time as the Runner needs it.
type Clock interface {
	Now() time.Time
	// Sleep waits for d, or returns ctx's error when that ends first.
	Sleep(ctx context.Context, d time.Duration) error
}

// Event is one piece of progress.
type Event struct {
	Step  string
	Stage Stage
	// Action is what is being done to the step.
	Action Action
	Took   time.Duration // of Done and Failed: since Started
	Err    error         // of Failed, and of Waiting: what is waited for
}

// Stage is where in its life a step is.
type Stage string

// The stages. A step that needs no change has none of them.
const (
	Started Stage = "started"
	Waiting Stage = "waiting" // for it to be seen, or for a conflict to end
	Done    Stage = "done"
	Failed  Stage = "failed"
)

// RefusedError is returned for a plan that has steps to refuse. Nothing was
// changed.
type RefusedError struct{ Plan Plan }

func (e *RefusedError) Error() string {
	refused := e.Plan.With(Refuse)
	msg := fmt.Sprintf("%s is not what is wanted there", refused[0].Name)
	if len(refused[0].Details) > 0 {
		msg = fmt.Sprintf("%s: %s", refused[0].Name, refused[0].Details[0])
	}
	if len(refused) > 1 {
		msg += fmt.Sprintf(" (and %d more)", len(refused)-1)
	}
	return msg
}

// StepError is the failure of one step.
type StepError struct {
	Step   string
	Action Action
	Err    error
}

func (e *StepError) Error() string { return fmt.Sprintf("%s %s: %v", e.Action, e.Step, e.Err) }

func (e *StepError) Unwrap() error { return e.Err }

// ErrPlanChanged is returned when a step that was shown as staying as it is
// would be changed now, because somebody else was at work in between.
var ErrPlanChanged = errors.New("the account changed after the plan was shown")

// Plan looks at every step and says what a run would do.
func (r Runner) Plan(ctx context.Context, goal Goal) (Plan, error) {
	order, err := inOrder(r.Steps)
	if err != nil {
		return Plan{}, err
	}
	planned := make([]Planned, len(order))
	// In order, because a step may find its thing by what another one found.
	needs := needsOf(order)
	bound := newBound(r.PerService)
	err = r.each(ctx, len(order), func(i int) []int { return needs[i] }, func(ctx context.Context, i int) error {
		release, err := bound.acquire(ctx, Describe(order[i]).Service)
		if err != nil {
			return err
		}
		defer release()
		found, err := order[i].Look(ctx, goal)
		if err != nil {
			return fmt.Errorf("looking at %s: %w", order[i].Name(), err)
		}
		planned[i] = Planned{Name: order[i].Name(), Change: found.Plan()}
		return nil
	})
	if err != nil {
		return Plan{}, err
	}
	if goal == Absent {
		slices.Reverse(planned) // a plan reads in the order in which it is carried out
	}
	return Plan{Goal: goal, Steps: planned}, nil
}

// Apply carries out a plan that somebody has approved. It looks at each step
// again and does no more than was approved; it stops at the first error, once
// the steps in hand have ended. Its errors are *RefusedError, *StepError, and
// ctx's.
func (r Runner) Apply(ctx context.Context, plan Plan) error {
	if len(plan.With(Refuse)) > 0 {
		return &RefusedError{Plan: plan}
	}
	order, err := inOrder(r.Steps)
	if err != nil {
		return err
	}
	approved := map[string]Action{}
	for _, s := range plan.Steps {
		approved[s.Name] = s.Action
	}
	needs := needsOf(order)
	if plan.Goal == Absent {
		needs = inverted(needs)
	}
	emit := serialised(r.Progress)
	bound := newBound(r.PerService)
	return r.each(ctx, len(order), func(i int) []int { return needs[i] }, func(ctx context.Context, i int) error {
		return r.apply(ctx, order[i], plan.Goal, approved[order[i].Name()], bound, emit)
	})
}

// apply brings one step to the goal.
func (r Runner) apply(ctx context.Context, s Step, goal Goal, approved Action, bound bound, emit func(Event)) error {
	clock := r.clock()
	about := Describe(s)
	patience := about.patience(goal, r.patience())
	started := clock.Now()
	fail := func(action Action, err error) error {
		emit(Event{Step: s.Name(), Stage: Failed, Action: action, Took: clock.Now().Sub(started), Err: err})
		return &StepError{Step: s.Name(), Action: action, Err: err}
	}

	action := approved
	announced := false
	ctx = context.WithValue(ctx, waitingKey{}, func(reason string) {
		emit(Event{Step: s.Name(), Stage: Waiting, Action: action, Err: errors.New(reason)})
	})
	err := r.patiently(ctx, patience, []error{ErrConflict, ErrNotYet, ErrUnclear}, func(err error) {
		emit(Event{Step: s.Name(), Stage: Waiting, Action: action, Err: err})
	}, func() error {
		release, err := bound.acquire(ctx, about.Service)
		if err != nil {
			return err
		}
		defer release()
		found, err := s.Look(ctx, goal)
		if err != nil {
			return err
		}
		change := found.Plan()
		if !announced || change.Action.Writes() {
			action = change.Action // of the last look there may be nothing left to do
		}
		if change.Action == Refuse {
			return &RefusedError{Plan{Goal: goal, Steps: []Planned{{s.Name(), change}}}}
		}
		if !change.Action.Writes() {
			return nil
		}
		if !approved.Writes() {
			return ErrPlanChanged
		}
		if !announced {
			announced = true
			emit(Event{Step: s.Name(), Stage: Started, Action: action})
		}
		if goal == Absent {
			return found.Remove(ctx)
		}
		return found.Make(ctx)
	})
	if err != nil {
		return fail(action, err)
	}
	if !announced {
		return nil
	}

	if goal == Present {
		err := r.patiently(ctx, patience, []error{ErrNotYet}, func(err error) {
			emit(Event{Step: s.Name(), Stage: Waiting, Action: action, Err: err})
		}, func() error { return s.Check(ctx) })
		if err != nil {
			return fail(action, err)
		}
	}
	emit(Event{Step: s.Name(), Stage: Done, Action: action, Took: clock.Now().Sub(started)})
	return nil
}

type waitingKey struct{}

// OnWaiting returns a context in which tell hears what is waited for, outside of a
// Runner's Apply.
func OnWaiting(ctx context.Context, tell func(reason string)) context.Context {
	return context.WithValue(ctx, waitingKey{}, tell)
}

// WaitingFor tells the Runner's Progress what a step waits for that waits by itself,
// in its Make, Remove or Check, as with a waiter of the SDK.
func WaitingFor(ctx context.Context, reason string) {
	if tell, ok := ctx.Value(waitingKey{}).(func(string)); ok {
		tell(reason)
	}
}

// patiently does do until it returns none of the passing errors, waiting
// longer each time, or until the patience is at its end.
func (r Runner) patiently(ctx context.Context, patience time.Duration, passing []error, waiting func(error), do func() error) error {
	// As many tries as two minutes hold are made in any case: by a clock that runs fast,
	// patience is over before a slow machine has asked twice.
	// What goes step after step waits half the longest pause too long at each.
	const first, longest, least = 100 * time.Millisecond, 3 * time.Second, 45
	// What EC2 has made, it shows within seconds ("eventual consistency", EC2 API reference).
	const seen = 15 * time.Second
	clock := r.clock()
	end := clock.Now().Add(patience)
	for try, pause := 1, first; ; try, pause = try+1, min(2*pause, longest) {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := do()
		if !slices.ContainsFunc(passing, func(p error) bool { return errors.Is(err, p) }) {
			return err
		}
		if errors.Is(err, ErrUnclear) {
			pause = seen
		}
		if try >= least && clock.Now().Add(pause).After(end) {
			return fmt.Errorf("gave up after %v: %w", patience, err)
		}
		waiting(err)
		if err := clock.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// each does visit for 0 to n-1, each after those it needs, as many at once as
// the Runner allows. After an error or the end of ctx it starts no more, waits
// for those in hand, and returns the first error.
func (r Runner) each(ctx context.Context, n int, needs func(int) []int, visit func(context.Context, int) error) error {
	parallel := r.Parallel
	if parallel <= 0 {
		parallel = 4
	}
	type outcome struct {
		i   int
		err error
	}
	outcomes := make(chan outcome)
	started, done := make([]bool, n), make([]bool, n)
	ready := func(i int) bool {
		return !started[i] && !slices.ContainsFunc(needs(i), func(need int) bool { return !done[need] })
	}

	var first error
	for running := 0; ; {
		for i := 0; i < n && running < parallel && first == nil && ctx.Err() == nil; i++ {
			if ready(i) {
				started[i] = true
				running++
				go func() { outcomes <- outcome{i, visit(ctx, i)} }()
			}
		}
		if running == 0 {
			break
		}
		o := <-outcomes
		running--
		done[o.i] = o.err == nil
		if first == nil {
			first = o.err
		}
	}
	if first == nil && slices.Contains(done, false) {
		return ctx.Err() // what needs imply an order was checked before, so only ctx can have stopped it
	}
	return first
}

func (r Runner) patience() time.Duration {
	if r.Patience == 0 {
		return time.Minute
	}
	return r.Patience
}

// bound keeps what is in hand of one service at once within a number.
type bound struct {
	of map[string]chan struct{} // nil: no bound
	mu *sync.Mutex
	n  int
}

func newBound(n int) bound {
	if n <= 0 {
		return bound{}
	}
	return bound{of: map[string]chan struct{}{}, mu: &sync.Mutex{}, n: n}
}

// acquire waits for room in a service; "" has no bound.
func (b bound) acquire(ctx context.Context, service string) (release func(), err error) {
	if b.of == nil || service == "" {
		return func() {}, nil
	}
	b.mu.Lock()
	room, ok := b.of[service]
	if !ok {
		room = make(chan struct{}, b.n)
		b.of[service] = room
	}
	b.mu.Unlock()
	select {
	case room <- struct{}{}:
		return func() { <-room }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (r Runner) clock() Clock {
	if r.Clock == nil {
		return machineClock{}
	}
	return r.Clock
}

// machineClock is the clock of the machine.
type machineClock struct{}

func (machineClock) Now() time.Time { return time.Now() }

func (machineClock) Sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// serialised returns a function that calls f one call at a time; f may be nil.
func serialised(f func(Event)) func(Event) {
	if f == nil {
		return func(Event) {}
	}
	var mu sync.Mutex
	return func(e Event) {
		mu.Lock()
		defer mu.Unlock()
		f(e)
	}
}
