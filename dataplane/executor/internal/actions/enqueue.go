package actions

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// Enqueue makes an action: the root of a run for the operator, children for the
// pod of their parent.
//
// An action is named by what it does (Flyte's SDK hashes the parent, the task,
// the inputs and the place in the sequence), so a name that is taken is the same
// action: ALREADY_EXISTS, which every caller reads as done. That holds where the
// definition differs a little, as it may when a parent's next try computes its
// overrides anew: the first one counts. Only an action that the caller could
// never follow, of another parent or another type, is refused for good, since the
// caller would wait for it for ever.
func (s *Server) Enqueue(ctx context.Context, request *flyteactions.EnqueueRequest) (*flyteactions.EnqueueResponse, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	r, err := resolve(request.GetAction().GetActionId())
	if err != nil {
		return nil, err
	}
	e := &enqueued{reference: r, request: request}
	if e.parent, err = s.parentOf(ctx, who, e); err != nil {
		return nil, err
	}
	if e.root, err = s.mayBegin(ctx, e); err != nil {
		return nil, err
	}
	action, template, err := e.objects()
	if err != nil {
		return nil, err
	}
	if action.Spec.RecoveredFrom, err = s.recoverable(ctx, who, e); err != nil {
		return nil, err
	}
	if err := s.writing.Acquire(ctx, 1); err != nil {
		return nil, s.failed(ctx, "waiting to enqueue", err)
	}
	defer s.writing.Release(1)
	if template != nil {
		if err := s.keepTemplate(ctx, template); err != nil {
			return nil, err
		}
	}
	switch err := s.Client.Create(ctx, action); {
	case err == nil:
		return &flyteactions.EnqueueResponse{}, nil
	case apierrors.IsAlreadyExists(err):
		return nil, s.existing(ctx, action)
	case apierrors.IsNotFound(err):
		return nil, noNamespace(r.namespace)
	default:
		return nil, s.failed(ctx, "creating an action", err)
	}
}

// enqueued is what is to be enqueued, and below what.
type enqueued struct {
	reference
	request *flyteactions.EnqueueRequest
	parent  *v1alpha1.TaskAction // nil for a root
	root    *v1alpha1.TaskAction // nil for a root
}

// parentOf finds the parent and says whether the caller may give it a child.
func (s *Server) parentOf(ctx context.Context, who caller, e *enqueued) (*v1alpha1.TaskAction, error) {
	name := e.request.GetAction().GetParentActionName()
	if !who.operator() {
		if own := referenceTo(who.own); e.sibling(name) != own {
			return nil, refuse(connect.CodePermissionDenied,
				"the pod of action %s of namespace %s may enqueue children of that action only, and not %s below %q of namespace %s",
				own, own.namespace, e.reference, cut(name, 80), e.namespace)
		}
		return who.own, nil
	}
	switch {
	case name == "" && e.action != v1alpha1.RootAction:
		return nil, refuse(connect.CodeInvalidArgument, "parent_action_name of action %s is missing: only %s has none", e.reference, v1alpha1.RootAction)
	case name == "":
		return nil, nil
	case e.action == v1alpha1.RootAction:
		return nil, refuse(connect.CodeInvalidArgument, "parent_action_name of action %s is %q: leave it out, since %s is the root", e.reference, cut(name, 80), v1alpha1.RootAction)
	case !actionName.MatchString(name):
		return nil, refuse(connect.CodeInvalidArgument, "parent_action_name is %q: give the name of an action", cut(name, 80))
	}
	parent, err := s.find(ctx, e.sibling(name))
	if errors.Is(err, errUnknown) {
		return nil, refuse(connect.CodeAborted, "the parent %s of action %s is gone", name, e.reference)
	}
	return parent, err
}

// mayBegin says whether anything new may begin there, and returns the root of the
// run that a child is of. An abort that the cache has not heard of is no loss: the
// reconciler ends what it finds below an action that has ended.
func (s *Server) mayBegin(ctx context.Context, e *enqueued) (root *v1alpha1.TaskAction, err error) {
	if e.parent == nil {
		return nil, s.workspaceOpen(ctx, e.namespace)
	}
	var ended *v1alpha1.TaskAction
	err = s.ancestors(ctx, e.parent, func(a *v1alpha1.TaskAction) bool {
		root = a
		if a.Spec.Abort != nil || a.Status.Phase.Terminal() || a.DeletionTimestamp != nil {
			ended = a
		}
		return ended == nil
	})
	switch {
	case errors.Is(err, errUnknown):
		return nil, refuse(connect.CodeAborted, "the run %s is gone, so nothing more begins in it", e.run)
	case err != nil:
		return nil, err
	case ended != nil:
		return nil, refuse(connect.CodeAborted, "action %s has ended or is being aborted, so nothing more begins below it", referenceTo(ended))
	}
	return root, nil
}

// workspaceOpen says why no run may begin in a workspace.
func (s *Server) workspaceOpen(ctx context.Context, namespace string) error {
	workspace := &v1alpha1.Workspace{}
	switch err := s.Cache.Get(ctx, types.NamespacedName{Name: namespace}, workspace); {
	case apierrors.IsNotFound(err):
		return noNamespace(namespace)
	case err != nil:
		return s.failed(ctx, "reading a workspace", err)
	case workspace.Spec.Suspended:
		return refuse(connect.CodeFailedPrecondition, "the project %q is archived: restore it to run anything in it", workspace.Spec.Project)
	}
	// Waiting would not help: a person has to settle it first.
	ready := meta.FindStatusCondition(workspace.Status.Conditions, "Ready")
	if ready != nil && (ready.Reason == v1alpha1.ReasonForeignNamespace || ready.Reason == v1alpha1.ReasonInvalidName) {
		return refuse(connect.CodeFailedPrecondition, "nothing can run in the project %q and its domain %q: %s", workspace.Spec.Project, workspace.Spec.Domain, ready.Message)
	}
	return nil
}

// noNamespace is UNAVAILABLE, since a workspace comes by another way than its
// first run, and may come after it.
func noNamespace(namespace string) error {
	return refuse(connect.CodeUnavailable, "the namespace %s is not there yet; call again", namespace)
}

// existing answers for a name that is taken.
func (s *Server) existing(ctx context.Context, action *v1alpha1.TaskAction) error {
	r := referenceTo(action)
	there := &v1alpha1.TaskAction{}
	switch err := s.Client.Get(ctx, r.key(), there); {
	case apierrors.IsNotFound(err), err == nil && there.DeletionTimestamp != nil:
		return refuse(connect.CodeUnavailable, "another action of the name %s is just being removed; call again", r)
	case err != nil:
		return s.failed(ctx, "reading an action", err)
	case referenceTo(there) != r:
		return refuse(connect.CodeInvalidArgument, "the name of action %s is taken by action %s: take another name for the run", r, referenceTo(there))
	case there.Spec.Parent != action.Spec.Parent || there.Spec.Type != action.Spec.Type:
		return refuse(connect.CodeInvalidArgument, "action %s is a %s below %q already: take another name", r, there.Spec.Type, there.Spec.Parent)
	case there.Spec.Type == v1alpha1.TypeTrace && there.Status.Phase == v1alpha1.Failed:
		// The parent's next attempt has done again what failed there.
		_, err := s.change(ctx, there, func(a *v1alpha1.TaskAction) error {
			if a.Status.Phase != v1alpha1.Failed {
				return errUnchanged
			}
			a.Spec.Trace, a.Spec.EnqueuedAt = action.Spec.Trace, action.Spec.EnqueuedAt
			return nil
		})
		if err != nil && !errors.Is(err, errUnknown) {
			return err
		}
	}
	return refuse(connect.CodeAlreadyExists, "action %s has been enqueued already", r)
}
