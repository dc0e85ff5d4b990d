package gateway

import (
	"context"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

const (
	batch        = 64 // hand-overs read at a time
	lanes        = 16 // runs that are handed over at the same time
	deliverLimit = 15 * time.Second

	// Between two tries of one row. A fault is waited for longer than a circumstance:
	// see judge.
	firstRetry     = 200 * time.Millisecond
	lastRetry      = 5 * time.Second
	lastFaultRetry = 30 * time.Second
	maxFaults      = 30 // with these waits more than ten minutes
)

// deliver hands the outbox over for as long as the data plane can be reached
// from here. Hand-overs of one run keep their order; runs do not wait for each
// other, since what one of them waits for says nothing about the next.
//
// Two processes may deliver at the same time for a moment, when a data plane
// dials the second before the first has noticed that its session is dead. There
// is no lease against it, because a lease could not hold either: a call that left
// in time may arrive late. What makes it harmless is that all three steps are
// idempotent by name: an Enqueue of a run that is there is ALREADY_EXISTS, even
// when the run was aborted meanwhile, since its object outlives its end; an Abort
// of what has ended changes nothing; and an acknowledged row is acknowledged
// again.
func (c *cluster) deliver(ctx context.Context) {
	woken, stop := c.gateway.Store.Watch(store.ClusterTopic(c.identity.Organization, c.identity.Cluster))
	defer stop()
	var (
		running  sync.WaitGroup
		busy     = map[store.RunKey]bool{} // those that are being handed over
		finished = make(chan store.RunKey, lanes)
	)
	defer running.Wait()
	for {
		session, changed := c.reach()
		if session == nil {
			select {
			case <-ctx.Done():
				return
			case <-changed:
			}
			continue
		}
		due, wake, err := c.gateway.Store.Next(ctx, c.identity.Organization, c.identity.Cluster, batch)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			c.log.Error("cannot read the outbox", "error", err)
			wake = c.gateway.Now().Add(time.Second)
		}
		for _, rows := range byRun(due) {
			run := rows[0].Run
			if busy[run] || len(busy) == lanes {
				continue
			}
			busy[run] = true
			running.Go(func() {
				c.deliverRun(ctx, rows)
				finished <- run
			})
		}
		var retry <-chan time.Time
		if !wake.IsZero() {
			retry = time.After(max(wake.Sub(c.gateway.Now()), 0))
		}
		select {
		case <-ctx.Done():
			return
		case _, open := <-woken:
			if !open {
				return
			}
		case <-session.Draining():
		case <-retry:
		case run := <-finished:
			delete(busy, run)
		}
		for len(finished) > 0 {
			delete(busy, <-finished)
		}
	}
}

// byRun groups hand-overs, and keeps the order of the runs and of each one's.
func byRun(due []store.Handover) [][]store.Handover {
	var runs [][]store.Handover
	at := map[store.RunKey]int{}
	for _, handover := range due {
		i, known := at[handover.Run]
		if !known {
			i = len(runs)
			at[handover.Run] = i
			runs = append(runs, nil)
		}
		runs[i] = append(runs[i], handover)
	}
	return runs
}

// deliverRun makes the calls of one run, one after the other, up to the first
// that has to be made again.
func (c *cluster) deliverRun(ctx context.Context, rows []store.Handover) {
	for _, handover := range rows {
		switch c.deliverOne(ctx, handover) {
		case done:
		case later:
			return
		case stuck:
			pause(ctx, firstRetry)
			return
		}
	}
}

type outcome int

const (
	done  outcome = iota // the row is gone
	later                // the row is to be tried again, at its time
	stuck                // the row is as it was
)

// deliverOne makes one call and records what became of it.
func (c *cluster) deliverOne(ctx context.Context, handover store.Handover) outcome {
	organization, name := c.identity.Organization, c.identity.Cluster
	log := c.log.With("run", handover.Run.String(), "handover", handover.ID)
	began := time.Now()
	err := c.call(ctx, handover)
	if ctx.Err() != nil {
		return stuck
	}
	code := connect.CodeOf(err)
	fault := faulty(err)
	faults := c.faults.count(handover.ID, fault)
	switch judge(handover.Enqueue != nil, err, faults) {
	case delivered:
		c.gateway.metrics.handovers.WithLabelValues("delivered").Inc()
		c.gateway.metrics.handoverSeconds.Observe(time.Since(handover.CreatedAt).Seconds())
		log.Debug("handed over", "took", time.Since(began), "waited", time.Since(handover.CreatedAt))
		if err := c.gateway.Store.Acknowledge(ctx, organization, name, handover.ID); err != nil {
			log.Error("cannot acknowledge a hand-over", "error", err)
			return stuck
		}
	case refused:
		c.gateway.metrics.handovers.WithLabelValues("rejected").Inc()
		// The code and not the text, which is the data plane's.
		log.Error("data plane refused a hand-over for good", "code", code.String(), "tries", handover.Tries+1)
		if err := c.gateway.Store.Reject(ctx, organization, name, handover.ID, workflow.ErrorInfo_KIND_SYSTEM, errorCode(code)); err != nil {
			log.Error("cannot record a refused hand-over", "error", err)
			return stuck
		}
	case again:
		if c.newest() == nil {
			return stuck // it was never tried
		}
		c.gateway.metrics.handovers.WithLabelValues("retried").Inc()
		most := lastRetry
		if fault {
			most = lastFaultRetry
		}
		wait := min(firstRetry<<min(handover.Tries, 16), most)
		wait = wait/2 + rand.N(wait/2)
		log.Warn("hand-over failed, to be tried again", "code", code.String(), "tries", handover.Tries+1, "in", wait)
		if err := c.gateway.Store.Fail(ctx, organization, name, handover.ID, c.gateway.Now().Add(wait)); err != nil {
			log.Error("cannot record a failed hand-over", "error", err)
			return stuck
		}
		return later
	}
	c.faults.forget(handover.ID)
	return done
}

func (c *cluster) call(ctx context.Context, handover store.Handover) error {
	ctx, cancel := context.WithTimeout(ctx, deliverLimit)
	defer cancel()
	client := actionsconnect.NewActionsServiceClient(
		&http.Client{Transport: c.gateway.Transport(c.identity.Organization, c.identity.Cluster)}, "http://executor")
	var err error
	if handover.Enqueue != nil {
		_, err = client.Enqueue(ctx, handover.Enqueue)
	} else {
		_, err = client.Abort(ctx, handover.Abort)
	}
	return err
}

type verdict int

const (
	delivered verdict = iota
	refused
	again
)

// judge says what the answer to a hand-over means. What was done before is done.
// What the data plane refuses, the same call will not change. A fault may be there
// for ever or not, so it is tried for some time. All else, UNAVAILABLE above all,
// is a circumstance, and is tried without end: a run is not lost because a cluster
// was switched off for a week.
func judge(enqueue bool, err error, faults int) verdict {
	if err == nil {
		return delivered
	}
	switch code := connect.CodeOf(err); code {
	case connect.CodeAlreadyExists:
		if enqueue {
			return delivered
		}
		return refused
	case connect.CodeNotFound:
		if !enqueue {
			return delivered
		}
		return refused
	case connect.CodeInvalidArgument, connect.CodeFailedPrecondition, connect.CodeAborted,
		connect.CodeOutOfRange, connect.CodeUnimplemented, connect.CodeDataLoss:
		return refused
	}
	if faulty(err) && faults >= maxFaults {
		return refused
	}
	return again
}

// faulty says that it is some program's fault.
func faulty(err error) bool {
	if err == nil {
		return false
	}
	switch connect.CodeOf(err) {
	case connect.CodeInternal, connect.CodeUnknown, connect.CodePermissionDenied, connect.CodeUnauthenticated:
		return true
	}
	return false
}

// faults counts those of each row. They are in memory alone: after a restart a
// row has its tries anew, which costs minutes and loses nothing.
type faults struct {
	mu    sync.Mutex
	ofRow map[uint64]int
}

func (f *faults) count(id uint64, one bool) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if one {
		if f.ofRow == nil {
			f.ofRow = map[uint64]int{}
		}
		f.ofRow[id]++
	}
	return f.ofRow[id]
}

func (f *faults) forget(id uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ofRow, id)
}

// errorCode is the word that a client reads as the run's error code.
func errorCode(code connect.Code) string {
	return "HandoverRefused:" + code.String()
}
