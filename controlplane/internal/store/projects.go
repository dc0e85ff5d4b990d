package store

import (
	"context"
	"fmt"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
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
	return s.change(ctx, func(t *tx) error {
		for _, name := range names {
			if _, err := t.exec(ctx, `INSERT INTO organizations (name) VALUES ($1) ON CONFLICT (name) DO NOTHING`, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// Organizations lists all there are, by name.
func (s *Store) Organizations(ctx context.Context) ([]string, error) {
	var names []string
	err := s.database.reads.each(ctx, `SELECT name FROM organizations ORDER BY name`, nil, func(scan scanner) error {
		var name string
		err := scan(&name)
		names = append(names, name)
		return err
	})
	return names, err
}

// CreateProject makes a project; its times are set here. *ExistsError when its
// ID is taken, *NotFoundError without its organisation. The configuration of
// every cluster of the organisation changes with it, in one transaction.
func (s *Store) CreateProject(ctx context.Context, p Project) (Project, error) {
	labels, err := encode(&task.Labels{Values: p.Labels})
	if err != nil {
		return Project{}, err
	}
	err = s.change(ctx, func(t *tx) error {
		p.CreatedAt, p.UpdatedAt = fromMicros(t.now), fromMicros(t.now)
		made, err := t.exec(ctx, `INSERT INTO projects (organization, id, name, description, labels, state, created_at, updated_at)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $7) ON CONFLICT (organization, id) DO NOTHING`,
			p.Organization, p.ID, p.Name, p.Description, labels, p.State, t.now)
		if err != nil {
			return err
		}
		if made == 0 {
			return &ExistsError{"project", p.ID}
		}
		return t.changeConfig(ctx, p.Organization)
	})
	return p, err
}

// UpdateProject replaces name, description, labels and state. *NotFoundError.
// Like CreateProject, it changes the configuration of the clusters.
func (s *Store) UpdateProject(ctx context.Context, p Project) (Project, error) {
	labels, err := encode(&task.Labels{Values: p.Labels})
	if err != nil {
		return Project{}, err
	}
	err = s.change(ctx, func(t *tx) error {
		found, err := t.one(ctx, `UPDATE projects SET name = $3, description = $4, labels = $5, state = $6, updated_at = $7
			WHERE organization = $1 AND id = $2 RETURNING `+projectColumns,
			[]any{p.Organization, p.ID, p.Name, p.Description, labels, p.State, t.now}, func(scan scanner) (err error) {
				p, err = scanProject(scan)
				return err
			})
		if err != nil {
			return err
		}
		if !found {
			return &NotFoundError{"project", p.ID}
		}
		return t.changeConfig(ctx, p.Organization)
	})
	return p, err
}

const projectColumns = `organization, id, name, description, labels, state, created_at, updated_at`

func scanProject(scan scanner) (Project, error) {
	var p Project
	var labels []byte
	var created, updated int64
	if err := scan(&p.Organization, &p.ID, &p.Name, &p.Description, &labels, &p.State, &created, &updated); err != nil {
		return Project{}, err
	}
	p.CreatedAt, p.UpdatedAt = fromMicros(created), fromMicros(updated)
	decoded, err := decode[task.Labels](labels)
	p.Labels = decoded.GetValues()
	return p, err
}

// GetProject reads one. *NotFoundError.
func (s *Store) GetProject(ctx context.Context, organization, id string) (p Project, err error) {
	found, err := s.database.reads.one(ctx, `SELECT `+projectColumns+` FROM projects WHERE organization = $1 AND id = $2`,
		[]any{organization, id}, func(scan scanner) (err error) {
			p, err = scanProject(scan)
			return err
		})
	if err == nil && !found {
		err = &NotFoundError{"project", id}
	}
	return p, err
}

// ListProjects gives a page of an organisation's projects, and the token of the
// next page, empty after the last. Fields to filter and sort by: id (or
// identifier), name, state, created_at, updated_at. Default sort: created_at,
// ascending. *QueryError.
func (s *Store) ListProjects(ctx context.Context, organization string, q Query) ([]Project, string, error) {
	return pages[Project]{
		list:    projectList,
		scope:   organization,
		columns: projectColumns,
		from:    `FROM projects WHERE organization = $1`,
		args:    []any{organization},
		tie:     []string{"id"},
		scan:    scanProject,
	}.read(ctx, s.database.reads, q)
}

var projectList = list{
	name: "projects",
	columns: map[string]column{
		"id":         {sql: "id", sorted: true},
		"identifier": {sql: "id", sorted: true},
		"name":       {sql: "name", sorted: true},
		"state":      {sql: "state", kind: enum, enum: project.ProjectState(0).Descriptor()},
		"created_at": {sql: "created_at", kind: moment, sorted: true},
		"updated_at": {sql: "updated_at", kind: moment, sorted: true},
	},
	sort:      "created_at",
	direction: common.Sort_ASCENDING,
}

// requireProject is the state of the project, whose row is locked: of two deploys
// of one task the second waits, so that one of them is the latest.
func (t *tx) requireProject(ctx context.Context, organization, id string) error {
	var state project.ProjectState
	found, err := t.one(ctx, `UPDATE projects SET updated_at = updated_at WHERE organization = $1 AND id = $2 RETURNING state`,
		[]any{organization, id}, scanInto(&state))
	if err != nil {
		return err
	}
	return usable(id, found, state)
}

func usable(id string, found bool, state project.ProjectState) error {
	switch {
	case !found:
		return &NotFoundError{"project", id}
	case archived(state):
		return &RefusedError{fmt.Sprintf("project %q is archived, so nothing new is started in it; restore it with: flyte update project %s --unarchive", id, id)}
	}
	return nil
}

func archived(state project.ProjectState) bool {
	return state == project.ProjectState_PROJECT_STATE_ARCHIVED || state == project.ProjectState_PROJECT_STATE_SYSTEM_ARCHIVED
}
