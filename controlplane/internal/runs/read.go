package runs

import (
	"context"
	"errors"
	"strings"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
)

// GetRunDetails reads a run, its spec and its root action.
func (s *Service) GetRunDetails(ctx context.Context, r *workflow.GetRunDetailsRequest) (*workflow.GetRunDetailsResponse, error) {
	key, err := s.runKey(ctx, r.GetRunId())
	if err != nil {
		return nil, err
	}
	found, err := s.runDetails(ctx, key, s.withEvents)
	if err != nil {
		return nil, err
	}
	return &workflow.GetRunDetailsResponse{Details: found.message}, nil
}

// GetActionDetails reads an action, the texts of its errors from the data plane
// included.
func (s *Service) GetActionDetails(ctx context.Context, r *workflow.GetActionDetailsRequest) (*workflow.GetActionDetailsResponse, error) {
	key, err := s.actionKey(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	found, err := s.action(ctx, key)
	if err != nil {
		return nil, err
	}
	return &workflow.GetActionDetailsResponse{Details: s.withEvents(ctx, found)}, nil
}

// specLimit is how long a reader waits for a task spec that its data plane is about
// to send: it comes one message behind the first state of its action.
const specLimit = 2 * time.Second

// action reads an action with its task's definition, without which a client could
// not read what it gave.
func (s *Service) action(ctx context.Context, key store.ActionKey) (store.ActionDetails, error) {
	found, err := s.store.GetAction(ctx, key)
	if err != nil {
		return found, unknownAction(key, err)
	}
	if found.Spec != nil || found.Action.SpecDigest == "" {
		return found, nil
	}
	limit, cancel := context.WithTimeout(ctx, specLimit)
	defer cancel()
	err = s.follow(limit, store.SpecTopic(key.Run.Organization, found.Action.SpecDigest), func() (bool, error) {
		found, err = s.store.GetAction(ctx, key)
		return found.Spec != nil, err
	})
	if err != nil && limit.Err() != nil && ctx.Err() == nil {
		return found, nil // without
	}
	return found, unknownAction(key, err)
}

// ListRuns gives a page of runs.
func (s *Service) ListRuns(ctx context.Context, r *workflow.ListRunsRequest) (*workflow.ListRunsResponse, error) {
	within, err := s.runScope(ctx, r)
	if err != nil {
		return nil, err
	}
	found, next, err := s.store.ListRuns(ctx, within, store.QueryOf(r.GetRequest()))
	if err != nil {
		return nil, err
	}
	response := &workflow.ListRunsResponse{Token: next}
	for _, run := range found {
		response.Runs = append(response.Runs, runMessage(run))
	}
	return response, nil
}

func (s *Service) runScope(ctx context.Context, r *workflow.ListRunsRequest) (store.RunScope, error) {
	within := store.RunScope{PausedOnly: r.GetPausedActionsOnly()}
	organization := r.GetOrg()
	switch by := r.GetScopeBy().(type) {
	case *workflow.ListRunsRequest_ProjectId:
		organization, within.Project, within.Domain = by.ProjectId.GetOrganization(), by.ProjectId.GetName(), by.ProjectId.GetDomain()
	case *workflow.ListRunsRequest_TaskName:
		organization, within.Project, within.Domain = by.TaskName.GetOrg(), by.TaskName.GetProject(), by.TaskName.GetDomain()
		within.TaskName = by.TaskName.GetName()
	case *workflow.ListRunsRequest_TaskId:
		organization = by.TaskId.GetOrg()
		within = ofTask(within, by.TaskId)
	case *workflow.ListRunsRequest_TriggerName:
		return store.RunScope{}, refusal.New(connect.CodeUnimplemented, "triggers come with a later version; list the runs of a task or a project")
	}
	return s.narrowed(ctx, organization, within)
}

func ofTask(within store.RunScope, id *task.TaskIdentifier) store.RunScope {
	within.Project, within.Domain, within.TaskName, within.TaskVersion = id.GetProject(), id.GetDomain(), id.GetName(), id.GetVersion()
	return within
}

// narrowed keeps a task's pod to its own workspace.
func (s *Service) narrowed(ctx context.Context, organization string, within store.RunScope) (store.RunScope, error) {
	organization, err := s.scopes.Organization(ctx, organization)
	if err != nil {
		return store.RunScope{}, err
	}
	within.Organization = organization
	if own := scope.Own(ctx); own != nil {
		if within.Project != "" && within.Project != own.Project || within.Domain != "" && within.Domain != own.Domain {
			return store.RunScope{}, refusal.New(connect.CodePermissionDenied, "a task of %s-%s may not read runs of %s-%s", own.Project, own.Domain, within.Project, within.Domain)
		}
		within.Project, within.Domain = own.Project, own.Domain
	}
	return within, nil
}

// ListActions gives a page of a run's actions.
func (s *Service) ListActions(ctx context.Context, r *workflow.ListActionsRequest) (*workflow.ListActionsResponse, error) {
	key, err := s.runKey(ctx, r.GetRunId())
	if err != nil {
		return nil, err
	}
	run, _, err := s.store.GetRun(ctx, key)
	if err != nil {
		return nil, unknownRun(key, err)
	}
	found, next, err := s.store.ListActions(ctx, key, store.QueryOf(r.GetRequest()))
	if err != nil {
		return nil, err
	}
	response := &workflow.ListActionsResponse{Token: next}
	for _, a := range found {
		response.Actions = append(response.Actions, actionMessage(run, a))
	}
	return response, nil
}

// GetActionDataURIs says where inputs and outputs are: files both.
func (s *Service) GetActionDataURIs(ctx context.Context, r *workflow.GetActionDataURIsRequest) (*workflow.GetActionDataURIsResponse, error) {
	key, err := s.actionKey(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	found, err := s.store.GetAction(ctx, key)
	if err != nil {
		return nil, unknownAction(key, err)
	}
	response := &workflow.GetActionDataURIsResponse{InputsUri: found.Action.InputURI, OutputsUri: found.Action.OutputURI}
	if response.OutputsUri != "" && found.Action.Type == workflow.ActionType_ACTION_TYPE_TASK {
		response.OutputsUri = strings.TrimRight(response.OutputsUri, "/") + "/outputs.pb"
	}
	return response, nil
}

// GetActionLogContext says in which pods and containers an attempt ran.
func (s *Service) GetActionLogContext(ctx context.Context, r *workflow.GetActionLogContextRequest) (*workflow.GetActionLogContextResponse, error) {
	key, err := s.actionKey(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	found, err := s.store.GetAction(ctx, key)
	if err != nil {
		return nil, unknownAction(key, err)
	}
	for _, attempt := range found.Action.Attempts {
		if attempt.GetAttempt() == r.GetAttempt() && attempt.GetLogContext() != nil {
			return &workflow.GetActionLogContextResponse{
				LogContext: attempt.GetLogContext(), Cluster: found.Run.Cluster, StartTime: attempt.GetStartTime(), EndTime: attempt.GetEndTime(),
			}, nil
		}
	}
	return nil, refusal.NotFound("the attempt %d of %s has no pod yet", r.GetAttempt(), key)
}

// found is a run as it was read at a revision.
type foundRun struct {
	message  *workflow.RunDetails
	revision uint64
	ended    bool
}

// runDetails reads a run, with whichever texts of its root.
func (s *Service) runDetails(ctx context.Context, key store.RunKey, texts func(context.Context, store.ActionDetails) *workflow.ActionDetails) (foundRun, error) {
	run, spec, err := s.store.GetRun(ctx, key)
	if err != nil {
		return foundRun{}, unknownRun(key, err)
	}
	root, err := s.store.GetAction(ctx, store.ActionKey{Run: key, Name: store.RootAction})
	if err != nil {
		return foundRun{}, unknownRun(key, err)
	}
	return foundRun{
		message:  &workflow.RunDetails{RunSpec: spec, Action: texts(ctx, root)},
		revision: max(run.Root.Revision, root.Action.Revision),
		ended:    root.Action.Ended(),
	}, nil
}

func unknownRun(key store.RunKey, err error) error {
	var missing *store.NotFoundError
	if errors.As(err, &missing) && missing.Kind == "run" {
		return refusal.Because(err, connect.CodeNotFound, "there is no run %q in %s/%s; list them with: flyte get run", key.Name, key.Project, key.Domain)
	}
	return err
}

func unknownAction(key store.ActionKey, err error) error {
	var missing *store.NotFoundError
	if errors.As(err, &missing) {
		return refusal.Because(err, connect.CodeNotFound, "there is no action %q in the run %s; list them with: flyte get action %s", key.Name, key.Run, key.Run.Name)
	}
	return err
}
