package taskaction

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
)

// gate lets a number of actions at once begin what they share: a run's places, or
// the right to fill an entry of the cache. Who is inside is read from the objects;
// the gate remembers only those that it has just let in, until the objects say so,
// and who waits, to wake them. Both are found again after a restart.
//
// One process reconciles a cluster's actions (leader election), so that its memory
// is as good as a Lease for each key, and needs neither a heartbeat nor an expiry.
type gate struct {
	mu      sync.Mutex
	entered map[string]map[types.UID]bool
	waiting map[string][]reconcile.Request
}

func newGate() *gate {
	return &gate{entered: map[string]map[types.UID]bool{}, waiting: map[string][]reconcile.Request{}}
}

// enter says whether who may begin. Inside are those that the objects show;
// settled says of one that was let in that the objects tell about it by now.
func (g *gate) enter(key string, who types.UID, request reconcile.Request, limit int, inside map[types.UID]bool, settled func(types.UID) bool) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	entered := g.entered[key]
	for other := range entered {
		if settled(other) {
			delete(entered, other)
		}
	}
	count := len(entered)
	for other := range inside {
		if !entered[other] {
			count++
		}
	}
	if inside[who] || entered[who] {
		return true
	}
	if count >= limit {
		g.wait(key, request)
		return false
	}
	if entered == nil {
		entered = map[types.UID]bool{}
		g.entered[key] = entered
	}
	entered[who] = true
	return true
}

func (g *gate) wait(key string, request reconcile.Request) {
	for _, there := range g.waiting[key] {
		if there == request {
			return
		}
	}
	g.waiting[key] = append(g.waiting[key], request)
}

// leave takes back what enter gave to one that could not begin after all.
func (g *gate) leave(key string, who types.UID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.entered[key], who)
}

// wake returns those that have waited longest, for whom there may be a place now.
func (g *gate) wake(key string) []reconcile.Request {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.entered[key]) == 0 {
		delete(g.entered, key)
	}
	waiting := g.waiting[key]
	n := min(len(waiting), wakeAtOnce)
	woken := waiting[:n:n]
	if g.waiting[key] = waiting[n:]; len(waiting) == n {
		delete(g.waiting, key)
	}
	return woken
}

// wakeAtOnce is more than one, since one that is woken may have been aborted.
const wakeAtOnce = 4
