package report

import (
	"container/list"
	"sync"
	"time"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
)

// change is the state of an action, as it is to be told.
type change struct {
	key   string // of the object
	state *tunnelv1.ActionState
	size  int       // of the state, encoded
	since time.Time // when the first change was seen that has not been recorded
}

// pending is what has not been recorded yet: of each action the last state, in
// the order of positions. It is bounded by how many actions there are.
type pending struct {
	wake chan struct{} // has room for one

	mu    sync.Mutex
	order *list.List // of change
	of    map[string]*list.Element
}

func newPending() *pending {
	return &pending{wake: make(chan struct{}, 1), order: list.New(), of: map[string]*list.Element{}}
}

// reset takes changes, in order, instead of what it held.
func (p *pending) reset(changes []change) {
	p.mu.Lock()
	p.order.Init()
	clear(p.of)
	p.mu.Unlock()
	for _, c := range changes {
		p.add(c)
	}
}

// add takes a change whose position is above all others. The state that it
// replaces needs to be told no more: once this one is recorded, so is whatever
// was before.
func (p *pending) add(c change) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if element, ok := p.of[c.key]; ok {
		c.since = element.Value.(change).since
		p.order.Remove(element)
	}
	p.of[c.key] = p.order.PushBack(c)
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// first returns the oldest changes, at most so many and of so many bytes, but one
// at least, and leaves them.
func (p *pending) first(most, bytes int) []change {
	p.mu.Lock()
	defer p.mu.Unlock()
	batch := make([]change, 0, min(most, p.order.Len()))
	for element := p.order.Front(); element != nil && len(batch) < most; element = element.Next() {
		c := element.Value.(change)
		if bytes -= c.size; bytes < 0 && len(batch) > 0 {
			break
		}
		batch = append(batch, c)
	}
	return batch
}

// recorded forgets what is at or before a position.
func (p *pending) recorded(position uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for element := p.order.Front(); element != nil && element.Value.(change).state.Position <= position; element = p.order.Front() {
		delete(p.of, element.Value.(change).key)
		p.order.Remove(element)
	}
}

func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.order.Len()
}

// oldest is when the change that waits longest was seen; the zero time for none.
func (p *pending) oldest() (oldest time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for element := p.order.Front(); element != nil; element = element.Next() {
		if since := element.Value.(change).since; oldest.IsZero() || since.Before(oldest) {
			oldest = since
		}
	}
	return oldest
}
