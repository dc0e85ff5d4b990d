// Package actions is Flyte's ActionsService for callers outside of a data plane:
// every call is passed on to the executor where the run is.
//
// Task pods do not come this way: they call their executor in the cluster. Start
// with Service.
package actions

import (
	"context"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/planes"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Service implements ActionsService.
type Service struct {
	store  *store.Store
	scopes *scope.Scopes
	planes *planes.Planes
}

var _ actionsconnect.ActionsServiceHandler = (*Service)(nil)

// New returns the service.
func New(s *store.Store, scopes *scope.Scopes, p *planes.Planes) *Service {
	return &Service{store: s, scopes: scopes, planes: p}
}

// Enqueue adds an action to a run that is there.
func (s *Service) Enqueue(ctx context.Context, r *actions.EnqueueRequest) (*actions.EnqueueResponse, error) {
	r = proto.CloneOf(r)
	executor, err := s.of(ctx, r.GetAction().GetActionId())
	if err != nil {
		return nil, err
	}
	return executor.Enqueue(ctx, r)
}

// WatchForUpdates passes on what becomes of an action's children.
func (s *Service) WatchForUpdates(ctx context.Context, r *actions.WatchForUpdatesRequest, stream *connect.ServerStream[actions.WatchForUpdatesResponse]) error {
	r = proto.CloneOf(r)
	executor, err := s.of(ctx, r.GetParentActionId())
	if err != nil {
		return err
	}
	updates, err := executor.WatchForUpdates(ctx, r)
	if err != nil {
		return err
	}
	defer updates.Close()
	for updates.Receive() {
		if err := stream.Send(updates.Msg()); err != nil {
			return err
		}
	}
	return updates.Err()
}

// Update is for an executor alone, which needs none of another.
func (s *Service) Update(context.Context, *actions.UpdateRequest) (*actions.UpdateResponse, error) {
	return nil, refusal.New(connect.CodeUnimplemented, "states are reported by data planes, through their tunnel")
}

// Abort ends an action and all below it.
func (s *Service) Abort(ctx context.Context, r *actions.AbortRequest) (*actions.AbortResponse, error) {
	r = proto.CloneOf(r)
	executor, err := s.of(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	return executor.Abort(ctx, r)
}

// Signal gives a condition its value.
func (s *Service) Signal(ctx context.Context, r *actions.SignalRequest) (*actions.SignalResponse, error) {
	r = proto.CloneOf(r)
	executor, err := s.of(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	return executor.Signal(ctx, r)
}

// of is the executor of a run. The organisation is written into the request.
func (s *Service) of(ctx context.Context, id *common.ActionIdentifier) (actionsconnect.ActionsServiceClient, error) {
	run := id.GetRun()
	organization, err := s.scopes.Workspace(ctx, run.GetOrg(), run.GetProject(), run.GetDomain())
	if err != nil {
		return nil, err
	}
	run.Org = organization
	found, _, err := s.store.GetRun(ctx, store.RunKeyOf(run))
	if err != nil {
		return nil, err
	}
	return s.planes.Executor(organization, found.Cluster), nil
}
