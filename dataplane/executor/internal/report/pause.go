package report

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstPause = 100 * time.Millisecond
	maxPause   = 2 * time.Second
)

// pause between tries: twice as long each time, and never the same for two data
// planes whose control plane comes back.
type pause struct{ next time.Duration }

func newPause() *pause { return &pause{next: firstPause} }

func (p *pause) sleep(ctx context.Context) {
	sleep(ctx, p.next/2+rand.N(p.next))
	p.next = min(2*p.next, maxPause)
}

// sleep ends early with the context.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
