package store

import (
	"context"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/project"
)

// Domains are those of every project, in the order in which they are shown.
func Domains() []string { return []string{"development", "staging", "production"} }

// Project is one of an organisation. Its workspaces are it in each of Domains.
type Project struct {
	Organization string
	ID           string
	Name         string // for people
	Description  string
	Labels       map[string]string
	State        project.ProjectState
	CreatedAt    time.Time
	UpdatedAt    time.Time
}

// EnsureOrganizations makes those that are not there yet.
func (s *Store) EnsureOrganizations(ctx context.Context, names ...string) error {
	return errUnfinished
}

// Organizations lists all there are, by name.
func (s *Store) Organizations(ctx context.Context) ([]string, error) { return nil, errUnfinished }

// CreateProject makes a project; its times are set here. *ExistsError when its
// ID is taken, *NotFoundError without its organisation. The configuration of
// every cluster of the organisation changes with it, in one transaction.
func (s *Store) CreateProject(ctx context.Context, p Project) (Project, error) {
	return Project{}, errUnfinished
}

// UpdateProject replaces name, description, labels and state. *NotFoundError.
// Like CreateProject, it changes the configuration of the clusters.
func (s *Store) UpdateProject(ctx context.Context, p Project) (Project, error) {
	return Project{}, errUnfinished
}

// GetProject reads one. *NotFoundError.
func (s *Store) GetProject(ctx context.Context, organization, id string) (Project, error) {
	return Project{}, errUnfinished
}

// ListProjects gives a page of an organisation's projects, and the token of the
// next page, empty after the last. Fields to filter and sort by: id (or
// identifier), name, state, created_at, updated_at. Default sort: created_at,
// ascending. *QueryError.
func (s *Store) ListProjects(ctx context.Context, organization string, q Query) ([]Project, string, error) {
	return nil, "", errUnfinished
}
