package actions

import (
	"context"
	"errors"
	"time"

	"connectrpc.com/connect"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/serve"
)

// WatchForUpdates tells a parent of its direct children: all there are, those that
// have ended and traces too, since a parent that is tried again takes their
// results and does not run them again; then the sentinel; then whatever changes.
//
// A message without content would be an action without name to the SDK, so
// nothing keeps the stream warm but HTTP/2's own pings. It ends with UNAVAILABLE
// whatever the reason: after CANCELED the SDK would never watch again.
func (s *Server) WatchForUpdates(ctx context.Context, request *flyteactions.WatchForUpdatesRequest, stream *connect.ServerStream[flyteactions.WatchForUpdatesResponse]) error {
	parent, since, err := s.mayWatch(ctx, request.GetParentActionId())
	if err != nil {
		return err
	}
	// First the subscription, then the list: what changes in between is told twice
	// and not never.
	watcher := s.watchers.add(parent)
	defer s.watchers.remove(watcher)
	told := &told{stream: stream, since: since, last: map[string]state{}}
	if err := s.tellAll(ctx, parent, told); err != nil {
		return err
	}
	for {
		select {
		case <-serve.Draining(ctx):
			return serve.ErrDraining()
		case <-ctx.Done():
			return connect.NewError(connect.CodeUnavailable, errors.New("the call has ended; call again"))
		case <-watcher.wake:
		}
		for _, child := range watcher.take() {
			// The state is read now, and was not sent along: so a slow reader gets the
			// last one, and never an older one after a newer.
			a := &v1alpha1.TaskAction{}
			switch err := s.Cache.Get(ctx, parent.sibling(child).key(), a); {
			case apierrors.IsNotFound(err):
				continue
			case err != nil:
				return s.failed(ctx, "reading a child", err)
			}
			if err := told.tell(a); err != nil {
				return err
			}
		}
	}
}

// mayWatch says whose children the caller may watch: an action's pod its own. It
// returns since when the attempt is that watches, zero for the operator.
func (s *Server) mayWatch(ctx context.Context, id *common.ActionIdentifier) (parent reference, since time.Time, err error) {
	who, err := s.caller(ctx)
	if err != nil {
		return parent, since, err
	}
	if parent, err = resolve(id); err != nil {
		return parent, since, err
	}
	if who.operator() {
		if _, err = s.find(ctx, parent); errors.Is(err, errUnknown) {
			err = notFound(parent)
		}
		return parent, since, err
	}
	if own := referenceTo(who.own); parent != own {
		return parent, since, refuse(connect.CodePermissionDenied,
			"the pod of action %s of namespace %s may watch the children of that action only, and not of %s of namespace %s", own, own.namespace, parent, parent.namespace)
	}
	return parent, who.began, nil
}

func (s *Server) tellAll(ctx context.Context, parent reference, told *told) error {
	var children v1alpha1.TaskActionList
	err := s.Cache.List(ctx, &children, client.InNamespace(parent.namespace),
		client.MatchingFields{byParent: parentKey(parent.run, parent.action)}, client.UnsafeDisableDeepCopy)
	if err != nil {
		return s.failed(ctx, "listing children", err)
	}
	for i := range children.Items {
		if err := told.tell(&children.Items[i]); err != nil {
			return err
		}
	}
	return told.stream.Send(&flyteactions.WatchForUpdatesResponse{Message: &flyteactions.WatchForUpdatesResponse_ControlMessage{
		ControlMessage: &workflow.ControlMessage{Sentinel: true},
	}})
}

// told is what one stream has been sent, so that a change which the parent cannot
// see wakes nobody.
type told struct {
	stream *connect.ServerStream[flyteactions.WatchForUpdatesResponse]
	since  time.Time // of the attempt that watches
	last   map[string]state
}

type state struct {
	phase   v1alpha1.Phase
	version int64
}

func (t *told) tell(a *v1alpha1.TaskAction) error {
	if tracesAnew(a, t.since) {
		return nil
	}
	now := state{a.Status.Phase, a.Status.Version}
	if before, ok := t.last[a.Spec.Action]; ok && before == now {
		return nil
	}
	t.last[a.Spec.Action] = now
	return t.stream.Send(&flyteactions.WatchForUpdatesResponse{Message: &flyteactions.WatchForUpdatesResponse_ActionUpdate{ActionUpdate: updateOf(a)}})
}

// tracesAnew says of a trace that failed in an attempt before, and may succeed in this
// one, that this one must not hear of it: the SDK would run it again all the same, but
// enqueue its new end never, since it knows of one; and so the attempt after this one
// would run it once more.
func tracesAnew(a *v1alpha1.TaskAction, attempt time.Time) bool {
	if a.Spec.Type != v1alpha1.TypeTrace || a.Status.Phase != v1alpha1.Failed || attempt.IsZero() {
		return false
	}
	if !a.CreatedAt().Before(attempt) {
		return a.Status.ObservedGeneration != a.Generation // of which the status does not tell yet
	}
	return a.Status.Error == nil || a.Status.Error.Recoverable
}
