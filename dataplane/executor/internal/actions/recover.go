package actions

import (
	"context"
	"errors"

	"google.golang.org/protobuf/proto"

	"connectrpc.com/connect"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/recovery"
)

// recoverable says which action's results a task or a condition takes instead of
// running or waiting: the one of its name in the run that its own run recovers, if
// that succeeded. Of traces, which come when they have run already, the reconciler
// makes those of the source before their parent begins.
//
// Where the source's object is gone, its record in the bucket may still say how it
// ended; the reconciler reads it, and it is told so by a reference that says nothing
// but the names.
func (s *Server) recoverable(ctx context.Context, who caller, e *enqueued) (*v1alpha1.ActionReference, error) {
	if _, trace := e.request.GetAction().GetSpec().(*flyteactions.Action_Trace); trace || e.parent == nil {
		return nil, nil
	}
	source, err := e.source(who)
	if source == nil || err != nil {
		return nil, err
	}
	reference := &v1alpha1.ActionReference{Run: source.run, Action: source.action}
	there, err := s.find(ctx, *source)
	switch {
	case errors.Is(err, errUnknown):
		return reference, nil
	case err != nil:
		return nil, err
	case !recovery.Succeeded(there.Status.Phase):
		return nil, nil
	}
	reference.OutputURI, reference.Value = there.Status.OutputURI, valueOf(there)
	return reference, nil
}

// source is the action to be recovered from; nil for none.
func (e *enqueued) source(who caller) (*reference, error) {
	if given := e.request.GetAction().GetRecoveredFrom(); given != nil && who.operator() {
		source, err := resolve(given)
		if err == nil && source.namespace != e.namespace {
			err = refuse(connect.CodeInvalidArgument, "recovered_from is of another workspace: an action is recovered within its own")
		}
		return &source, err
	}
	spec := &task.RunSpec{}
	if err := proto.Unmarshal(e.root.Spec.RunSpec, spec); err != nil {
		return nil, nil // the reconciler says so, of the root
	}
	run := recovery.From(spec, e.namespace)
	if run == "" || recovery.Again(spec, e.action) {
		return nil, nil
	}
	return &reference{e.namespace, run, e.action}, nil
}
