// Package tasks is Flyte's TaskService: definitions of tasks, every version of
// them, as they are deployed.
//
// It holds no code: a definition names where its code is. Start with Service;
// spec.go checks a definition, for runs too.
package tasks

import (
	"context"
	"errors"
	"strconv"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/task/taskconnect"
	"biplane.dev/biplane/controlplane/internal/identity"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/projects"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Service implements TaskService.
type Service struct {
	store  *store.Store
	scopes *scope.Scopes
}

var _ taskconnect.TaskServiceHandler = (*Service)(nil)

// New returns the service.
func New(s *store.Store, scopes *scope.Scopes) *Service {
	return &Service{store: s, scopes: scopes}
}

// DeployTask records a version of a task. Doing it again changes nothing.
func (s *Service) DeployTask(ctx context.Context, r *task.DeployTaskRequest) (*task.DeployTaskResponse, error) {
	key := store.TaskKeyOf(r.GetTaskId())
	organization, err := s.scopes.Workspace(ctx, key.Organization, key.Project, key.Domain)
	if err != nil {
		return nil, err
	}
	key.Organization = organization
	if err := names.Task(key.Name, key.Version); err != nil {
		return nil, err
	}
	if len(r.GetTriggers()) > 0 {
		return nil, refusal.New(connect.CodeUnimplemented, "triggers come with a later version; deploy task %q without its triggers", key.Name)
	}
	spec, err := Complete(r.GetSpec(), key)
	if err != nil {
		return nil, err
	}
	if _, err := s.store.DeployTask(ctx, key, spec, identity.Principal(ctx)); err != nil {
		return nil, unknownProject(key.Project, err)
	}
	return &task.DeployTaskResponse{}, nil
}

// GetTaskDetails reads one version. A task's pod may read those of other
// workspaces of its organisation, to run them in its own.
func (s *Service) GetTaskDetails(ctx context.Context, r *task.GetTaskDetailsRequest) (*task.GetTaskDetailsResponse, error) {
	key := store.TaskKeyOf(r.GetTaskId())
	organization, err := s.scopes.Organization(ctx, key.Organization)
	if err != nil {
		return nil, err
	}
	key.Organization = organization
	found, spec, err := Get(ctx, s.store, key)
	if err != nil {
		return nil, err
	}
	return &task.GetTaskDetailsResponse{Details: &task.TaskDetails{TaskId: found.Key.Proto(), Metadata: metadata(found), Spec: spec}}, nil
}

// Get reads a task, with a refusal that says how to get one.
func Get(ctx context.Context, s *store.Store, key store.TaskKey) (store.Task, *task.TaskSpec, error) {
	if err := names.Project(key.Project); err != nil {
		return store.Task{}, nil, err
	}
	if err := names.Domain(key.Domain, store.Domains()); err != nil {
		return store.Task{}, nil, err
	}
	if err := names.TaskName(key.Name); err != nil {
		return store.Task{}, nil, err
	}
	found, spec, err := s.GetTask(ctx, key)
	var missing *store.NotFoundError
	if errors.As(err, &missing) {
		return store.Task{}, nil, refusal.NotFound("there is no task %q of version %.80q in %s/%s; deploy it with: flyte deploy", key.Name, key.Version, key.Project, key.Domain)
	}
	return found, spec, err
}

// ListTasks gives one row for each name, with its latest version.
func (s *Service) ListTasks(ctx context.Context, r *task.ListTasksRequest) (*task.ListTasksResponse, error) {
	within, err := s.within(ctx, r.GetOrg(), r.GetProjectId())
	if err != nil {
		return nil, err
	}
	query := store.QueryOf(r.GetRequest())
	for _, known := range r.GetKnownFilters() {
		switch by := known.GetFilterBy().(type) {
		case *task.ListTasksRequest_KnownFilter_DeployedBy:
			query.Filters = append(query.Filters, equal("deployed_by", by.DeployedBy))
		case *task.ListTasksRequest_KnownFilter_IsEntrypoint:
			query.Filters = append(query.Filters, equal("is_entrypoint", strconv.FormatBool(by.IsEntrypoint)))
		}
	}
	found, next, err := s.store.ListTasks(ctx, within, query)
	if err != nil {
		return nil, err
	}
	response := &task.ListTasksResponse{Token: next}
	for _, t := range found {
		response.Tasks = append(response.Tasks, &task.Task{
			TaskId: t.Key.Proto(), Metadata: metadata(t), TaskSummary: &task.TaskSummary{LatestRun: latestRun(t.LatestRun)},
		})
	}
	return response, nil
}

// ListVersions gives every version of one name.
func (s *Service) ListVersions(ctx context.Context, r *task.ListVersionsRequest) (*task.ListVersionsResponse, error) {
	name := r.GetTaskName()
	organization, err := s.scopes.Organization(ctx, name.GetOrg())
	if err != nil {
		return nil, err
	}
	if err := names.TaskName(name.GetName()); err != nil {
		return nil, err
	}
	found, next, err := s.store.ListVersions(ctx, store.TaskKey{
		Organization: organization, Project: name.GetProject(), Domain: name.GetDomain(), Name: name.GetName(),
	}, store.QueryOf(r.GetRequest()))
	if err != nil {
		return nil, err
	}
	response := &task.ListVersionsResponse{Token: next}
	for _, t := range found {
		response.Versions = append(response.Versions, &task.ListVersionsResponse_VersionResponse{
			Version: t.Key.Version, DeployedAt: timestamppb.New(t.DeployedAt), DeployedBy: t.DeployedBy, LatestRun: latestRun(t.LatestRun),
		})
	}
	return response, nil
}

func (s *Service) within(ctx context.Context, organization string, project *common.ProjectIdentifier) (store.TaskScope, error) {
	if project != nil {
		organization = project.GetOrganization()
	}
	organization, err := s.scopes.Organization(ctx, organization)
	if err != nil {
		return store.TaskScope{}, err
	}
	return store.TaskScope{Organization: organization, Project: project.GetName(), Domain: project.GetDomain()}, nil
}

func metadata(t store.Task) *task.TaskMetadata {
	return &task.TaskMetadata{
		DeployedBy: t.DeployedBy, ShortName: t.ShortName, DeployedAt: timestamppb.New(t.DeployedAt),
		EnvironmentName: t.Environment, ShortDescription: t.ShortDescription,
	}
}

func latestRun(r *store.RunSummary) *task.LatestRunSummary {
	if r == nil {
		return nil
	}
	return &task.LatestRunSummary{RunId: r.Run.Proto(), RunTime: timestamppb.New(r.CreatedAt), Phase: r.Phase, RootTaskName: r.TaskName}
}

func equal(field, value string) *common.Filter {
	return &common.Filter{Function: common.Filter_EQUAL, Field: field, Values: []string{value}}
}

func unknownProject(id string, err error) error {
	var missing *store.NotFoundError
	if errors.As(err, &missing) && missing.Kind == "project" {
		return projects.Unknown(id)
	}
	return err
}
