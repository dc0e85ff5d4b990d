package report

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

const (
	// maxBatch of states: some hundred kilobytes, and one transaction.
	maxBatch = 100
	// A lone change is told at once, and the next not before this, so that many become
	// few transactions.
	between = 20 * time.Millisecond
	// maxSpecs is how many definitions are remembered as told.
	maxSpecs = 10_000
)

// send tells what is pending until something is in doubt.
func (s *session) send(ctx context.Context) error {
	pause := newPause()
	for {
		batch := s.pending.first(maxBatch)
		if len(batch) == 0 {
			s.caughtUp.Store(time.Now().UnixNano())
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-s.pending.wake:
			}
			continue
		}
		err := s.tell(ctx, batch)
		switch {
		case errors.Is(err, errDoubt):
			return err
		case err != nil:
			s.Log.WarnContext(ctx, "states are not recorded now", "error", err, "pending", s.pending.len())
			if err := s.returned(ctx, pause); err != nil {
				return err
			}
		default:
			pause = newPause()
			sleep(ctx, between)
		}
	}
}

// tell hands one batch over.
func (s *session) tell(ctx context.Context, batch []change) error {
	// The control plane has the definition of a root, since the run came from there;
	// what children run it may not know. It is told first: a process that is killed
	// in between has told a definition without an action, and not an action without
	// its definition, which nobody would ask for again.
	if err := s.tellSpecs(ctx, batch, func(c change) bool { return c.state.Parent != "" }); err != nil {
		return err
	}
	request := &tunnelv1.ReportStatesRequest{Epoch: s.epoch, Position: batch[len(batch)-1].state.Position}
	for _, c := range batch {
		request.States = append(request.States, c.state)
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
	missing := map[string]bool{}
	for _, digest := range answer.GetMissingTaskSpecs() {
		missing[digest] = true
		delete(s.specs, digest)
	}
	err = s.tellSpecs(ctx, batch, func(c change) bool { return missing[c.state.TaskSpecDigest] })
	if err != nil {
		return err // the batch stays, and is told again with its definitions
	}
	s.recorded = request.Position
	s.pending.recorded(request.Position)
	s.acknowledged.Store(request.Position)
	s.metrics.states.Add(float64(len(batch)))
	return nil
}

// tellSpecs tells the definitions of those of a batch that are wanted and have not
// been told.
func (s *session) tellSpecs(ctx context.Context, batch []change, wanted func(change) bool) error {
	for _, c := range batch {
		digest := c.state.TaskSpecDigest
		if _, told := s.specs[digest]; told || digest == "" || !wanted(c) {
			continue
		}
		if err := s.tellSpec(ctx, c); err != nil {
			return err
		}
		if len(s.specs) >= maxSpecs {
			clear(s.specs)
		}
		s.specs[digest] = struct{}{}
	}
	return nil
}

// tellSpec leaves out what is gone, since nothing runs by it any more, and what
// the control plane refuses, which would be refused again.
func (s *session) tellSpec(ctx context.Context, c change) error {
	spec, err := s.spec(ctx, c)
	if spec == nil || err != nil {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	_, err = s.Link.RecordTaskSpecs(call, &tunnelv1.RecordTaskSpecsRequest{Specs: []*task.TaskSpec{spec}})
	if connect.CodeOf(err) == connect.CodeInvalidArgument {
		s.Log.ErrorContext(ctx, "the control plane refuses the definition of a task", "digest", c.state.TaskSpecDigest, "error", err)
		return nil
	}
	return err
}

func (s *session) spec(ctx context.Context, c change) (*task.TaskSpec, error) {
	template := &v1alpha1.TaskTemplate{}
	switch err := s.Client.Get(ctx, types.NamespacedName{Namespace: c.namespace, Name: c.template}, template); {
	case apierrors.IsNotFound(err):
		return nil, nil
	case err != nil:
		return nil, err
	}
	spec := &task.TaskSpec{}
	if err := proto.Unmarshal(template.Spec, spec); err != nil {
		s.Log.ErrorContext(ctx, "a template cannot be read", "namespace", c.namespace, "template", c.template, "error", err)
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
