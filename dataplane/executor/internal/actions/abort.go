package actions

import (
	"context"
	"errors"

	"connectrpc.com/connect"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// maxReason of an abort, in bytes.
const maxReason = 1 << 10

// Abort tells an action to end. Only the action itself is told: what is below an
// action that ends is the reconciler's to end, however it ended, and a tree that
// is told in many places is half told when one write fails.
func (s *Server) Abort(ctx context.Context, request *flyteactions.AbortRequest) (*flyteactions.AbortResponse, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	r, err := resolve(request.GetActionId())
	if err != nil {
		return nil, err
	}
	action, err := s.mayAbort(ctx, who, r)
	if err != nil {
		return nil, err
	}
	// Why and by whom is shown in the control plane. A pod's words are data, and stay
	// here.
	reason, by := cut(request.GetReason(), maxReason), identity(request.GetAbortedBy())
	if !who.operator() {
		reason, by = "cancelled by its parent", ""
	}
	if by == "" {
		by = who.name()
	}
	_, err = s.change(ctx, action, func(a *v1alpha1.TaskAction) error {
		if a.Spec.Abort != nil || a.Status.Phase.Terminal() {
			return errUnchanged
		}
		a.Spec.Abort = &v1alpha1.Abort{Reason: reason, By: by, At: metav1.Now()}
		return nil
	})
	if errors.Is(err, errUnknown) {
		return nil, notFound(r)
	}
	if err != nil {
		return nil, err
	}
	return &flyteactions.AbortResponse{}, nil
}

// mayAbort finds the action and says whether the caller may abort it. A pod is
// told nothing of runs that are not its own, not even that they are not there.
func (s *Server) mayAbort(ctx context.Context, who caller, r reference) (*v1alpha1.TaskAction, error) {
	if !who.operator() {
		if own := referenceTo(who.own); r.namespace != own.namespace || r.run != own.run {
			return nil, notBelow(who, r)
		}
	}
	action, err := s.find(ctx, r)
	if errors.Is(err, errUnknown) {
		return nil, notFound(r)
	}
	if err != nil || who.operator() {
		return action, err
	}
	below := false
	err = s.ancestors(ctx, action, func(a *v1alpha1.TaskAction) bool {
		below = a.Spec.Parent == who.own.Spec.Action
		return !below
	})
	if err != nil && !errors.Is(err, errUnknown) {
		return nil, err
	}
	if !below {
		return nil, notBelow(who, r)
	}
	return action, nil
}

func notBelow(who caller, r reference) error {
	return refuse(connect.CodePermissionDenied, "the pod of action %s may abort what is below that action only, and %s of namespace %s is not",
		referenceTo(who.own), r, r.namespace)
}

func notFound(r reference) error {
	return refuse(connect.CodeNotFound, "there is no action %s in namespace %s", r, r.namespace)
}

// errUnchanged is what a function that change calls returns to leave an action as
// it is.
var errUnchanged = errors.New("nothing is to be changed")

// change writes what a function does to an action that was read from the cache. A
// version that was written meanwhile is read, and the function called again.
// Returned is the action as it is then; the error is the function's, errUnknown,
// or an answer for the caller.
func (s *Server) change(ctx context.Context, a *v1alpha1.TaskAction, do func(*v1alpha1.TaskAction) error) (*v1alpha1.TaskAction, error) {
	for range maxConflicts {
		changed := a.DeepCopy()
		if err := do(changed); errors.Is(err, errUnchanged) {
			return a, nil
		} else if err != nil {
			return nil, err
		}
		err := s.Client.Patch(ctx, changed, client.MergeFromWithOptions(a, client.MergeFromWithOptimisticLock{}))
		switch {
		case err == nil:
			return changed, nil
		case apierrors.IsNotFound(err):
			return nil, errUnknown
		case !apierrors.IsConflict(err):
			return nil, s.failed(ctx, "changing an action", err)
		}
		if a, err = s.findLive(ctx, referenceTo(a)); err != nil {
			return nil, err
		}
	}
	return nil, refuse(connect.CodeUnavailable, "action %s is changing too fast; call again", referenceTo(a))
}

// maxConflicts is far over what happens: a status is written a few times a second.
const maxConflicts = 20

// identity is what is kept of a person: what the control plane knows them by.
func identity(who *common.EnrichedIdentity) string {
	user, application := who.GetUser(), who.GetApplication()
	for _, name := range []string{
		user.GetSpec().GetEmail(), user.GetId().GetSubject(), application.GetSpec().GetName(), application.GetId().GetSubject(),
	} {
		if name != "" {
			return cut(name, maxText)
		}
	}
	return ""
}
