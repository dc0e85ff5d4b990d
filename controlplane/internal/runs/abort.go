package runs

import (
	"context"

	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/identity"
	"biplane.dev/biplane/controlplane/internal/names"
)

// AbortRun ends a run and all below it. What it says here holds at once; the pods
// end when the data plane hears of it.
func (s *Service) AbortRun(ctx context.Context, r *workflow.AbortRunRequest) (*workflow.AbortRunResponse, error) {
	key, err := s.runKey(ctx, r.GetRunId())
	if err != nil {
		return nil, err
	}
	if _, err := s.store.AbortRun(ctx, key, names.Reason(r.GetReason()), identity.Principal(ctx)); err != nil {
		return nil, unknownRun(key, err)
	}
	return &workflow.AbortRunResponse{}, nil
}

// AbortAction ends an action and all below it.
func (s *Service) AbortAction(ctx context.Context, r *workflow.AbortActionRequest) (*workflow.AbortActionResponse, error) {
	key, err := s.actionKey(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	if err := s.store.AbortAction(ctx, key, names.Reason(r.GetReason()), identity.Principal(ctx)); err != nil {
		return nil, unknownAction(key, err)
	}
	return &workflow.AbortActionResponse{}, nil
}
