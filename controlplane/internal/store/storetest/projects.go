package storetest

import (
	"testing"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/controlplane/internal/store"
)

func testProjects(t *testing.T, b Backend) {
	w := newWorld(t, b)
	ctx := t.Context()
	beta := store.Project{Organization: "acme", ID: "beta", Name: "Beta", Description: "the second", Labels: map[string]string{"team": "b"}}
	get(w.CreateProject(ctx, beta))(t)

	t.Run("gives back what was made", func(t *testing.T) {
		got := get(w.GetProject(ctx, "acme", "beta"))(t)
		equal(t, "name", got.Name, "Beta")
		equal(t, "description", got.Description, "the second")
		equal(t, "label", got.Labels["team"], "b")
		if got.CreatedAt.IsZero() || !got.CreatedAt.Equal(got.UpdatedAt) {
			t.Errorf("got created %v, updated %v, want the same time", got.CreatedAt, got.UpdatedAt)
		}
	})
	t.Run("refuses a taken ID, and an organisation that is not there", func(t *testing.T) {
		_, err := w.CreateProject(ctx, beta)
		wantError[*store.ExistsError](t, err)
		_, err = w.CreateProject(ctx, store.Project{Organization: "nobody", ID: "x"})
		wantError[*store.NotFoundError](t, err)
		_, err = w.GetProject(ctx, "nobody", "x")
		wantError[*store.NotFoundError](t, err)
	})
	t.Run("replaces everything but the time of its making", func(t *testing.T) {
		changed := get(w.UpdateProject(ctx, store.Project{Organization: "acme", ID: "beta", Name: "B", State: project.ProjectState_PROJECT_STATE_ARCHIVED}))(t)
		got := get(w.GetProject(ctx, "acme", "beta"))(t)
		equal(t, "name", got.Name, "B")
		equal(t, "labels", len(got.Labels), 0)
		equal(t, "state", got.State, project.ProjectState_PROJECT_STATE_ARCHIVED)
		if !got.UpdatedAt.After(got.CreatedAt) || !got.UpdatedAt.Equal(changed.UpdatedAt) {
			t.Errorf("got created %v, updated %v, want a later update", got.CreatedAt, got.UpdatedAt)
		}
		_, err := w.UpdateProject(ctx, store.Project{Organization: "acme", ID: "gamma"})
		wantError[*store.NotFoundError](t, err)
	})
	t.Run("lists by state", func(t *testing.T) {
		id := func(p store.Project) string { return p.ID }
		active, _ := page(w.ListProjects(ctx, "acme", store.Query{Filters: []*common.Filter{filter("state", common.Filter_EQUAL, "0")}}))(t)
		equal(t, "active", names(active, id), "alpha")
		archived, _ := page(w.ListProjects(ctx, "acme", store.Query{Filters: []*common.Filter{filter("state", common.Filter_EQUAL, "archived")}}))(t)
		equal(t, "archived", names(archived, id), "beta")
		all, _ := page(w.ListProjects(ctx, "acme", store.Query{}))(t)
		equal(t, "all", names(all, id), "alpha beta")
	})
	t.Run("starts nothing new in an archived one", func(t *testing.T) {
		key := store.RunKey{Organization: "acme", Project: "beta", Domain: "development", Name: "r1"}
		_, err := w.CreateRun(ctx, newRun(key))
		wantError[*store.RefusedError](t, err)
		_, err = w.DeployTask(ctx, store.TaskKey{Organization: "acme", Project: "beta", Domain: "development", Name: "t", Version: "1"}, taskSpec("t"), nil)
		wantError[*store.RefusedError](t, err)
	})
}
