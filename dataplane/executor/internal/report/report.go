// Package report tells the control plane what becomes of actions: it lists and
// watches TaskActions and hands their states over, in the order of etcd's
// revision.
//
// There is no log of events. The objects are the truth, their resourceVersion is
// the position, and the control plane keeps that position in the transaction in
// which it records the states. So whatever happens to this process, to the link
// or to either side, what has not been told is what a list finds behind the
// position. An action that changes faster than it can be told is told as it is
// then: its attempts carry the times of what was in between.
//
// What leaves the data plane is what StateOf makes of a TaskAction and the
// definitions of tasks, and nothing else: names, times, phases, URIs, kinds of
// error, and no text. Texts are read through, by the proxy.
//
// Start with Run, which is the order of things; StateOf is what is said.
package report

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
)

// Options of New.
type Options struct {
	// Client lists and watches at the API server itself.
	Client client.WithWatch
	// Link is the control plane, by the operator's endpoint.
	Link tunnelv1connect.LinkServiceClient
	// Cluster is this data plane's name in the control plane.
	Cluster string
	Metrics prometheus.Registerer
	Log     *slog.Logger
}

// Reporter is the loop. There is one in a data plane at a time; a second would be
// of no use and no harm.
type Reporter struct {
	Options

	metrics      *metrics
	acknowledged atomic.Uint64
	caughtUp     atomic.Int64 // Unix nanoseconds: when nothing was left to be told
	session      atomic.Pointer[session]
}

// New returns a Reporter that is to be run.
func New(options Options) (*Reporter, error) {
	r := &Reporter{Options: options}
	r.caughtUp.Store(time.Now().UnixNano())
	var err error
	r.metrics, err = newMetrics(options.Metrics, r)
	return r, err
}

// Acknowledged is the position up to which the control plane has recorded the
// states: that of an object whose resourceVersion is not above it. 0 until the
// control plane has been asked.
func (r *Reporter) Acknowledged() uint64 { return r.acknowledged.Load() }

// Run reports until the context ends, and returns nil then. While the control
// plane is away it holds one state of each action that changes.
func (r *Reporter) Run(ctx context.Context) error {
	pause := newPause()
	for ctx.Err() == nil {
		begun := time.Now()
		err := r.follow(ctx)
		if ctx.Err() != nil {
			break
		}
		if time.Since(begun) > time.Minute {
			pause = newPause()
		}
		r.Log.WarnContext(ctx, "states are not reported now", "error", err)
		pause.sleep(ctx)
	}
	return nil
}

// follow asks where to go on, lists what is behind that, and then tells what it
// watches, until something is in doubt.
func (r *Reporter) follow(ctx context.Context) error {
	epoch, position, err := r.begin(ctx)
	if err != nil {
		return err
	}
	s := &session{Reporter: r, epoch: epoch, recorded: position, pending: newPending(), undefined: map[string]struct{}{}}
	revision, err := s.list(ctx, position)
	if err != nil {
		return err
	}
	if number(revision) < position {
		// etcd was restored. What it has forgotten is lost, and what it says from now
		// on is counted anew.
		if epoch, err = r.anotherEpoch(ctx); err != nil {
			return err
		}
		r.Log.WarnContext(ctx, "the cluster has gone back behind what was recorded", "revision", revision, "recorded", position, "epoch", epoch)
		s.epoch, s.recorded = epoch, 0
		if revision, err = s.list(ctx, 0); err != nil {
			return err
		}
	}
	r.acknowledged.Store(s.recorded)
	r.session.Store(s)
	defer r.session.Store(nil)
	r.Log.InfoContext(ctx, "reporting states", "epoch", s.epoch, "behind", s.recorded, "revision", revision, "pending", s.pending.len())

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.watch(ctx, revision) })
	group.Go(func() error { return s.send(ctx) })
	return group.Wait()
}

// session is one stretch without doubt: a list, the watch that goes on from it,
// and what the control plane has recorded of them.
type session struct {
	*Reporter

	epoch     string
	recorded  uint64
	pending   *pending
	undefined map[string]struct{} // digests of definitions that are not to be had
}

// errDoubt ends a session in which something may have been missed.
var errDoubt = errors.New("something may have been missed")

func doubt(format string, args ...any) error {
	return fmt.Errorf("%w: %w", errDoubt, fmt.Errorf(format, args...))
}
