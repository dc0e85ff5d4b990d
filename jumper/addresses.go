package jumper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// The upstream is not resolved more often than this, however many connections
	// ask for it because none of the known addresses takes them.
	lookupGap = 100 * time.Millisecond
	// A record that may not be kept at all is kept this long.
	shortestTTL = time.Second
	// After a lookup that failed, the next one is this far off, then twice as far.
	firstRetry = time.Second
	// More addresses than this are not used. EKS has two to four.
	mostAddresses = 1024
	// More than this are not named in the log.
	namedAddresses = 16
)

// answer is what a lookup says: at least one address.
type answer struct {
	addresses []netip.Addr
	ttl       time.Duration // for how long; negative: for ever
	// missing says of which addresses the DNS gave no answer, good or bad, while it
	// did of the others; nil: of none.
	missing func(netip.Addr) bool
}

// addresses keeps the upstream's addresses. What is known is used as long as the
// DNS does not say otherwise, and for a while when it says nothing.
type addresses struct {
	lookup         func(context.Context) (answer, error)
	refresh, stale time.Duration
	log            *slog.Logger

	kick chan struct{} // somebody waits for next

	mu       sync.Mutex
	current  []netip.Addr  // in order
	next     chan struct{} // closed when the next lookup to begin has ended
	answered time.Time     // when the DNS last gave an answer
	failing  time.Time     // since when it gives none; zero while it gives one
	partial  time.Time     // since when it gives answers with something missing; zero while it gives whole ones
	why      error         // the last lookup failed; nil if it did not
	failures int64
	changes  int64
}

func newAddresses(lookup func(context.Context) (answer, error), refresh, stale time.Duration, log *slog.Logger) *addresses {
	return &addresses{lookup: lookup, refresh: refresh, stale: stale, log: log, kick: make(chan struct{}, 1), next: make(chan struct{})}
}

// run looks again and again.
func (a *addresses) run(ctx context.Context) {
	retry := firstRetry
	for {
		a.mu.Lock()
		done := a.next
		a.next = make(chan struct{})
		a.mu.Unlock()

		began := time.Now()
		found, err := a.lookup(ctx)
		if ctx.Err() != nil {
			return
		}
		var wait time.Duration
		if err != nil {
			a.failed(err)
			wait, retry = min(retry, a.refresh), min(2*retry, a.refresh)
		} else {
			a.found(found)
			wait, retry = a.refresh, firstRetry
			if found.ttl >= 0 {
				wait = min(wait, max(found.ttl, shortestTTL))
			}
		}
		close(done)

		due := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			due.Stop()
			return
		case <-due.C:
			continue
		case <-a.kick:
			due.Stop()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(began.Add(lookupGap))):
		}
	}
}

func (a *addresses) found(found answer) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := found.addresses
	switch {
	case found.missing == nil:
		a.partial = time.Time{}
	case a.partial.IsZero():
		a.partial = time.Now()
		fallthrough
	case time.Since(a.partial) <= a.stale:
		now = slices.Concat(now, slices.DeleteFunc(slices.Clone(a.current), func(old netip.Addr) bool { return !found.missing(old) }))
	}
	slices.SortFunc(now, netip.Addr.Compare)
	now = slices.Compact(now)
	now = now[:min(len(now), mostAddresses)]
	if !a.failing.IsZero() {
		a.log.Info("the DNS answers again", "after", time.Since(a.failing).String())
	}
	a.answered, a.failing, a.why = time.Now(), time.Time{}, nil
	if !slices.Equal(now, a.current) {
		a.log.Info("the upstream's addresses", "now", named(now), "before", named(a.current))
		if a.current != nil {
			a.changes++
		}
		a.current = now
	}
}

func (a *addresses) failed(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failures++
	a.why = err
	if a.failing.IsZero() {
		a.failing = time.Now()
		a.log.Warn("the DNS does not answer, using what it said before", "addresses", named(a.current), "for", a.stale.String(), "error", err.Error())
	}
	if a.current != nil && time.Since(a.answered) > a.stale {
		a.log.Error("the DNS has not answered for too long, using no addresses any more", "addresses", named(a.current), "error", err.Error())
		a.current = nil
	}
}

// named is as many addresses as the log is to have.
func named(all []netip.Addr) string {
	text := fmt.Sprint(all[:min(len(all), namedAddresses)])
	if more := len(all) - namedAddresses; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// none is the error of there being no addresses.
func (a *addresses) none() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.why != nil {
		return fmt.Errorf("%w: %w", errNoAddress, a.why)
	}
	return errNoAddress
}

// known is what is known now. It is not to be changed.
func (a *addresses) known() []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.current
}

// ask is what is known after one more lookup, one that begins after the call.
func (a *addresses) ask(ctx context.Context) ([]netip.Addr, error) {
	a.mu.Lock()
	next := a.next
	a.mu.Unlock()
	select {
	case a.kick <- struct{}{}:
	default: // somebody has, and it has not been seen yet
	}
	select {
	case <-next:
		return a.known(), nil
	case <-ctx.Done():
		return nil, errors.New("the DNS did not answer in time")
	}
}

// addressState is what /metrics tells of them.
type addressState struct {
	known             int
	stale             time.Duration // since the DNS gave the last answer, while it gives none
	failures, changes int64
}

func (a *addresses) state() addressState {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := addressState{known: len(a.current), failures: a.failures, changes: a.changes}
	if !a.failing.IsZero() && !a.answered.IsZero() {
		s.stale = time.Since(a.answered)
	}
	return s
}
