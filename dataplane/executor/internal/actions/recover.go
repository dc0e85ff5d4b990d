package actions

import (
	"context"
	"errors"
	"slices"

	"google.golang.org/protobuf/proto"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// recoverable says which action's outputs a task takes instead of running: the one
// of its name in the run that its own run recovers, if that succeeded. The names
// of actions are the same in both runs, since they are hashes of what they do.
//
// Where the source's object is gone, its record in the bucket may still say how it
// ended; the reconciler reads it, and it is told so by a reference without
// OutputURI.
func (s *Server) recoverable(ctx context.Context, who caller, e *enqueued) (*v1alpha1.ActionReference, error) {
	action := e.request.GetAction()
	if e.parent == nil || action.GetTask() == nil {
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
	case there.Status.Phase != v1alpha1.Succeeded && there.Status.Phase != v1alpha1.Recovered, there.Status.OutputURI == "":
		return nil, nil
	}
	reference.OutputURI = there.Status.OutputURI
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
	relation := spec.GetRelation()
	if relation.GetRelationType() != common.RelationType_RELATION_TYPE_RECOVER || slices.Contains(spec.GetRecover().GetForceRerunActions(), e.action) {
		return nil, nil
	}
	run := relation.GetRelatedTo()
	if v1alpha1.NamespaceOf(run.GetProject(), run.GetDomain()) != e.namespace || !runName.MatchString(run.GetName()) {
		return nil, nil
	}
	return &reference{e.namespace, run.GetName(), e.action}, nil
}
