// Package runs is Flyte's RunService: a run is made and handed over in one
// transaction (create.go), read (read.go, messages.go), watched (watch.go and
// its like) and told to end (abort.go, signal.go).
//
// It holds no inputs and no texts of errors: the first are written into the data
// plane's bucket by its proxy, the second read through when somebody asks
// (texts.go). Nor does it decide what becomes of an action: the executor does.
// Start with Service.
package runs

import (
	"context"
	"log/slog"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/planes"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Service implements RunService.
type Service struct {
	store  *store.Store
	scopes *scope.Scopes
	planes *planes.Planes
	now    func() time.Time
	log    *slog.Logger
}

var _ workflowconnect.RunServiceHandler = (*Service)(nil)

// New returns the service.
func New(s *store.Store, scopes *scope.Scopes, p *planes.Planes, now func() time.Time, log *slog.Logger) *Service {
	return &Service{store: s, scopes: scopes, planes: p, now: now, log: log}
}

// GetActionData is the older form of DataProxyService's.
func (s *Service) GetActionData(ctx context.Context, r *workflow.GetActionDataRequest) (*workflow.GetActionDataResponse, error) {
	key, err := s.actionKey(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	found, err := s.store.GetAction(ctx, key)
	if err != nil {
		return nil, unknownAction(key, err)
	}
	data, err := s.planes.Proxy(key.Run.Organization, found.Run.Cluster).GetActionData(ctx, &dataproxy.GetActionDataRequest{ActionId: key.Proto()})
	if err != nil {
		return nil, err
	}
	return &workflow.GetActionDataResponse{Inputs: data.GetInputs(), Outputs: data.GetOutputs()}, nil
}

// runKey reads the name of a run that is to exist.
func (s *Service) runKey(ctx context.Context, id *common.RunIdentifier) (store.RunKey, error) {
	organization, err := s.scopes.Workspace(ctx, id.GetOrg(), id.GetProject(), id.GetDomain())
	if err != nil {
		return store.RunKey{}, err
	}
	if err := names.Run(id.GetName()); err != nil {
		return store.RunKey{}, err
	}
	key := store.RunKeyOf(id)
	key.Organization = organization
	return key, nil
}

// actionKey reads the name of an action that is to exist.
func (s *Service) actionKey(ctx context.Context, id *common.ActionIdentifier) (store.ActionKey, error) {
	run, err := s.runKey(ctx, id.GetRun())
	if err != nil {
		return store.ActionKey{}, err
	}
	return store.ActionKey{Run: run, Name: id.GetName()}, names.Action(id.GetName())
}
