package supervisor

import (
	"sync"
	"time"

	"biplane.dev/biplane/internal/sandbox"
)

// events are those of the last up, for everybody who asks, from the first on.
type events struct {
	now func() time.Time

	mu    sync.Mutex
	all   []sandbox.Event
	ended bool
	more  chan struct{} // closed when there is another
}

func newEvents(now func() time.Time) *events {
	return &events{now: now, more: make(chan struct{})}
}

// begin forgets those of the up before, if that has ended, and says whether it
// had.
func (e *events) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended {
		return false
	}
	e.all, e.ended = nil, false
	return true
}

// add is without effect once the up has ended.
func (e *events) add(event sandbox.Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return
	}
	event.At = e.now()
	e.all = append(e.all, event)
	close(e.more)
	e.more = make(chan struct{})
}

// end adds the last one.
func (e *events) end(err error, took time.Duration) {
	last := sandbox.Event{State: sandbox.EventState(sandbox.ComponentReady), Took: took}
	if err != nil {
		refusal := sandbox.RefusalOf(err)
		last = sandbox.Event{State: sandbox.Failed, Text: refusal.Error, Took: took, Refusal: &refusal}
	}
	e.add(last)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
}

// from returns those from the nth on; whether they end there; and what is
// closed when there are more.
func (e *events) from(n int) (events []sandbox.Event, ended bool, more <-chan struct{}) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n < len(e.all) {
		events = append(events, e.all[n:]...)
	}
	return events, e.ended, e.more
}
