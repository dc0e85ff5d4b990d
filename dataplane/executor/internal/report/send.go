package report

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

const (
	// maxBatch of states, and of their bytes, is one transaction: a state is mostly of
	// one kilobyte, and of hundreds after hundreds of attempts.
	maxBatch      = 100
	maxBatchBytes = 1 << 20
	// A lone change is told at once, and the next not before this, so that many become
	// few transactions.
	between = 20 * time.Millisecond
	// maxUndefined is how many definitions are remembered as not to be had.
	maxUndefined = 10_000
)

// send tells what is pending until something is in doubt. It begins even with
// nothing, since a definition may have been asked for in vain before.
func (s *session) send(ctx context.Context) error {
	pause := newPause()
	for greeted := false; ; {
		batch := s.pending.first(maxBatch, maxBatchBytes)
		if len(batch) == 0 && greeted {
			s.caughtUp.Store(time.Now().UnixNano())
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.pending.wake:
			}
			continue
		}
		err := s.tell(ctx, batch)
		if refused(err) {
			err = s.tellEach(ctx, batch)
		}
		switch {
		case errors.Is(err, errDoubt):
			return err
		case err != nil:
			s.Log.WarnContext(ctx, "the control plane does not take states now", "error", err, "pending", s.pending.len())
			if err := s.returned(ctx, pause); err != nil {
				return err
			}
		default:
			greeted = true
			pause = newPause()
			sleep(ctx, between)
		}
	}
}

// tell hands one batch over, and the definitions that the control plane misses
// then: it asks for them until it has them, so that nothing is lost when this
// process is killed in between.
func (s *session) tell(ctx context.Context, batch []change) error {
	request := &tunnelv1.ReportStatesRequest{Epoch: s.epoch, Position: s.recorded}
	for _, c := range batch {
		request.States = append(request.States, c.state)
		request.Position = c.state.Position
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	answer, err := s.Link.ReportStates(call, request)
	if err != nil {
		return err
	}
	if answer.GetPosition() < request.Position {
		return doubt("the control plane was told up to %d and has recorded up to %d", request.Position, answer.GetPosition())
	}
	s.recorded = request.Position
	s.pending.recorded(request.Position)
	s.acknowledged.Store(request.Position)
	s.metrics.states.Add(float64(len(batch)))
	return s.define(ctx, answer.GetMissingTaskSpecs())
}

// refused says that the same call would be answered the same again.
func refused(err error) bool {
	code := connect.CodeOf(err)
	return code == connect.CodeInvalidArgument || code == connect.CodePermissionDenied
}

// tellEach hands over a batch that was refused one state at a time, and leaves out
// those that are refused: one object that a hand has made must not keep all
// others from being told. That it is the state, and not the caller, is seen by a call
// without states.
func (s *session) tellEach(ctx context.Context, batch []change) error {
	for _, c := range batch {
		err := s.tell(ctx, []change{c})
		if !refused(err) {
			if err != nil {
				return err
			}
			continue
		}
		if err := s.tell(ctx, nil); err != nil {
			return err
		}
		s.Log.ErrorContext(ctx, "the control plane refuses a state for good", "action", c.key, "error", err)
		s.metrics.refused.Inc()
		s.pending.recorded(c.state.Position)
	}
	return nil
}

// define tells definitions of tasks, each in a message of its own, since one may
// be a megabyte. What is gone and what is refused is not looked for again, although it is
// asked for.
func (s *session) define(ctx context.Context, digests []string) error {
	for _, digest := range digests {
		if _, hopeless := s.undefined[digest]; hopeless {
			continue
		}
		spec, err := s.spec(ctx, digest)
		if err != nil {
			return err
		}
		if spec != nil {
			call, cancel := context.WithTimeout(ctx, callTimeout)
			_, err = s.Link.RecordTaskSpecs(call, &tunnelv1.RecordTaskSpecsRequest{Specs: []*task.TaskSpec{spec}})
			cancel()
			if err == nil {
				continue
			}
			if !refused(err) {
				return err
			}
		}
		s.Log.ErrorContext(ctx, "the control plane misses the definition of a task for good", "digest", digest, "error", err)
		if len(s.undefined) >= maxUndefined {
			clear(s.undefined)
		}
		s.undefined[digest] = struct{}{}
	}
	return nil
}

// spec finds a definition in whatever workspace has it; nil where none has.
func (s *session) spec(ctx context.Context, digest string) (*task.TaskSpec, error) {
	name := strings.TrimPrefix(digest, digestPrefix)
	var templates v1alpha1.TaskTemplateList
	if err := s.Client.List(ctx, &templates, client.MatchingFields{"metadata.name": name}, client.Limit(1)); err != nil {
		return nil, fmt.Errorf("looking for a template: %w", err)
	}
	if len(templates.Items) == 0 {
		return nil, nil
	}
	spec := &task.TaskSpec{}
	if err := proto.Unmarshal(templates.Items[0].Spec, spec); err != nil {
		s.Log.ErrorContext(ctx, "a template cannot be read", "template", name, "error", err)
		return nil, nil
	}
	return spec, nil
}

// returned waits until the control plane answers again. It is then where it was, or
// further, when only the answer was lost; else it was restored or moved.
func (s *session) returned(ctx context.Context, pause *pause) error {
	for {
		if pause.sleep(ctx); ctx.Err() != nil {
			return ctx.Err()
		}
		epoch, position, err := s.begin(ctx)
		if err != nil {
			s.Log.DebugContext(ctx, "the control plane is away", "error", err)
			continue
		}
		if epoch != s.epoch || position < s.recorded {
			return doubt("the control plane was at %s %d and is at %s %d", s.epoch, s.recorded, epoch, position)
		}
		return nil
	}
}
