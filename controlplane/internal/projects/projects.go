// Package projects is Flyte's ProjectService, and makes the projects of the
// configuration.
//
// It makes no namespace: a data plane does, of the workspaces that its
// configuration names. Start with Service; filters.go reads the filters of lists.
package projects

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"connectrpc.com/connect"
	"k8s.io/apimachinery/pkg/util/validation"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/project/projectconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
)

const (
	maxName        = 255
	maxDescription = 2048
	maxLabels      = 64
)

// Service implements ProjectService.
type Service struct {
	store  *store.Store
	scopes *scope.Scopes
}

var _ projectconnect.ProjectServiceHandler = (*Service)(nil)

// New returns the service.
func New(s *store.Store, scopes *scope.Scopes) *Service {
	return &Service{store: s, scopes: scopes}
}

// Seed makes projects in an organisation that has them not yet.
func Seed(ctx context.Context, s *store.Store, organization string, ids []string) error {
	for _, id := range ids {
		_, err := s.CreateProject(ctx, store.Project{Organization: organization, ID: id, Name: id})
		var exists *store.ExistsError
		if err != nil && !errors.As(err, &exists) {
			return fmt.Errorf("making the project %s: %w", id, err)
		}
	}
	return nil
}

// Unknown is the refusal for a project that is not there, with the command that
// makes it.
func Unknown(id string) *connect.Error {
	return refusal.NotFound("there is no project %q; make it with: flyte create project --id %s --name %s", id, id, id)
}

// CreateProject makes one. Its domains are those of every project.
func (s *Service) CreateProject(ctx context.Context, r *project.CreateProjectRequest) (*project.CreateProjectResponse, error) {
	p, err := s.read(ctx, r.GetProject())
	if err != nil {
		return nil, err
	}
	if p.State != project.ProjectState_PROJECT_STATE_ACTIVE {
		return nil, refusal.Invalid("a project begins active; make %q first, and archive it then", p.ID)
	}
	if _, err := s.store.CreateProject(ctx, p); err != nil {
		return nil, answer(p.ID, err)
	}
	return &project.CreateProjectResponse{}, nil
}

// UpdateProject replaces all that may change of a project: name, description,
// labels and whether it is archived.
func (s *Service) UpdateProject(ctx context.Context, r *project.UpdateProjectRequest) (*project.UpdateProjectResponse, error) {
	if len(r.GetProject().GetDomains()) > 0 {
		return nil, refusal.Invalid("the domains of a project cannot be changed; leave domains out")
	}
	p, err := s.read(ctx, r.GetProject())
	if err != nil {
		return nil, err
	}
	if _, err := s.store.UpdateProject(ctx, p); err != nil {
		return nil, answer(p.ID, err)
	}
	return &project.UpdateProjectResponse{}, nil
}

// GetProject reads one.
func (s *Service) GetProject(ctx context.Context, r *project.GetProjectRequest) (*project.GetProjectResponse, error) {
	organization, err := s.scopes.Organization(ctx, r.GetOrg())
	if err != nil {
		return nil, err
	}
	if err := names.Project(r.GetId()); err != nil {
		return nil, err
	}
	if own := scope.Own(ctx); own != nil && own.Project != r.GetId() {
		return nil, refusal.New(connect.CodePermissionDenied, "a task of project %q may not read project %q", own.Project, r.GetId())
	}
	p, err := s.store.GetProject(ctx, organization, r.GetId())
	if err != nil {
		return nil, answer(r.GetId(), err)
	}
	return &project.GetProjectResponse{Project: message(p)}, nil
}

// ListProjects gives a page of them.
func (s *Service) ListProjects(ctx context.Context, r *project.ListProjectsRequest) (*project.ListProjectsResponse, error) {
	organization, err := s.scopes.Organization(ctx, r.GetOrg())
	if err != nil {
		return nil, err
	}
	filters, err := parseFilters(r.GetFilters())
	if err != nil {
		return nil, err
	}
	if own := scope.Own(ctx); own != nil {
		filters = append(filters, &common.Filter{Function: common.Filter_EQUAL, Field: "id", Values: []string{own.Project}})
	}
	query := store.Query{Filters: filters, Limit: int(r.GetLimit()), Token: r.GetToken()}
	if r.GetSortBy().GetKey() != "" {
		query.Sort = []*common.Sort{r.GetSortBy()}
	}
	found, next, err := s.store.ListProjects(ctx, organization, query)
	if err != nil {
		return nil, err
	}
	page := &project.Projects{Token: next}
	for _, p := range found {
		page.Projects = append(page.Projects, message(p))
	}
	return &project.ListProjectsResponse{Projects: page}, nil
}

// read checks a project as a client wrote it.
func (s *Service) read(ctx context.Context, p *project.Project) (store.Project, error) {
	organization, err := s.scopes.Organization(ctx, p.GetOrg())
	if err != nil {
		return store.Project{}, err
	}
	if err := names.Project(p.GetId()); err != nil {
		return store.Project{}, err
	}
	if err := names.Short("the project's name", p.GetName(), maxName); err != nil {
		return store.Project{}, err
	}
	if len(p.GetDescription()) > maxDescription {
		return store.Project{}, refusal.Invalid("the description of project %q has %d bytes; write at most %d", p.GetId(), len(p.GetDescription()), maxDescription)
	}
	labels := p.GetLabels().GetValues()
	if len(labels) > maxLabels {
		return store.Project{}, refusal.Invalid("project %q has %d labels; give at most %d", p.GetId(), len(labels), maxLabels)
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if len(validation.IsQualifiedName(key)) > 0 || len(validation.IsValidLabelValue(labels[key])) > 0 {
			return store.Project{}, refusal.Invalid("the label %.80q=%.80q of project %q is none that Kubernetes takes; use letters, digits and - _ . of at most 63 characters", key, labels[key], p.GetId())
		}
	}
	if state := p.GetState(); state != project.ProjectState_PROJECT_STATE_ACTIVE && state != project.ProjectState_PROJECT_STATE_ARCHIVED {
		return store.Project{}, refusal.Invalid("the state of project %q can be ACTIVE or ARCHIVED, not %v", p.GetId(), state)
	}
	name := p.GetName()
	if name == "" {
		name = p.GetId()
	}
	return store.Project{Organization: organization, ID: p.GetId(), Name: name, Description: p.GetDescription(), Labels: labels, State: p.GetState()}, nil
}

func message(p store.Project) *project.Project {
	m := &project.Project{Id: p.ID, Name: p.Name, Description: p.Description, State: p.State, Org: p.Organization}
	for _, domain := range store.Domains() {
		m.Domains = append(m.Domains, &project.Domain{Id: domain, Name: domain})
	}
	if len(p.Labels) > 0 {
		m.Labels = &task.Labels{Values: p.Labels}
	}
	return m
}

func answer(id string, err error) error {
	var missing *store.NotFoundError
	if errors.As(err, &missing) && missing.Kind == "project" {
		return Unknown(id)
	}
	return err
}
