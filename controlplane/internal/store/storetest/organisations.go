package storetest

import (
	"encoding/json"
	"testing"
	"time"

	"biplane.dev/biplane/controlplane/internal/store"
)

// testOrganisations does in one organisation what may be done, with everything in
// another under the same names, and looks at the other.
func testOrganisations(t *testing.T, b Backend) {
	ctx := t.Context()
	w := newWorld(t, b)
	mine, theirs := runKey("r1"), runKey("r1")
	theirs.Organization = "globex"
	for _, key := range []store.RunKey{mine, theirs} {
		n := newRun(key)
		n.Spec.Labels = labels("team", key.Organization)
		get(w.CreateRun(ctx, n))(t)
		get(w.DeployTask(ctx, store.TaskKey{Organization: key.Organization, Project: "alpha", Domain: "development", Name: "env.main", Version: "v1"}, taskSpec("main"), nil))(t)
	}
	w.apply(t, state(mine, "a0", 1, running), state(mine, "c1", 2, running))
	look := func() string {
		known, position, err := w.GetPosition(ctx, "globex", "east")
		must(t, err)
		run, _, err := w.GetRun(ctx, theirs)
		must(t, err)
		runs, _ := page(w.ListRuns(ctx, store.RunScope{Organization: "globex"}, store.Query{}))(t)
		actions, _ := page(w.ListActions(ctx, theirs, store.Query{}))(t)
		tasks, _ := page(w.ListTasks(ctx, store.TaskScope{Organization: "globex"}, store.Query{}))(t)
		projects, _ := page(w.ListProjects(ctx, "globex", store.Query{}))(t)
		clusters, _ := page(w.ListClusters(ctx, "globex", store.Query{}))(t)
		config := get(w.GetConfig(ctx, "globex", "east"))(t)
		due, wake, err := w.Next(ctx, "globex", "east", 10)
		must(t, err)
		changed, cursor, err := w.ChangedRuns(ctx, store.RunScope{Organization: "globex"}, store.RunCursor{}, 10)
		must(t, err)
		groups := get(w.GroupRuns(ctx, store.GroupQuery{Organization: "globex", Project: "alpha", Domain: "development", From: run.CreatedAt, To: run.CreatedAt.AddDate(1, 0, 0)}))(t)
		return string(get(json.Marshal([]any{run, runs, actions, tasks, projects, clusters, config, due, wake, changed, cursor, groups,
			w.CheckCertificate(ctx, "globex", "east", "globexeast"), known, position}))(t))
	}
	before := look()

	get(w.AbortRun(ctx, mine, "mine", user("ada")))(t)
	get(w.Prune(ctx, "acme", time.Now().Add(time.Hour), 100))(t)
	get(w.UpdateProject(ctx, store.Project{Organization: "acme", ID: "alpha", Name: "changed", State: 1}))(t)
	due, _, err := w.Next(ctx, "acme", "east", 10)
	must(t, err)
	for _, h := range due {
		must(t, w.Acknowledge(ctx, "acme", "east", h.ID))
	}
	must(t, w.SetProxyNames(ctx, "acme", "east", []string{"mine"}))
	must(t, w.RemoveCluster(ctx, "acme", "east", true))
	equal(t, "the other organisation", look(), before)

	for what, err := range map[string]error{
		"a run":    second(w.GetAction(ctx, store.ActionKey{Run: store.RunKey{Organization: "globex", Project: "alpha", Domain: "development", Name: "r1"}, Name: "c1"})),
		"a spec":   second(w.GetTaskSpec(ctx, "initech", "sha256:0")),
		"a config": second(w.GetConfig(ctx, "acme", "east")),
	} {
		if err == nil {
			t.Errorf("%s: got no error, want one", what)
		}
	}
}

func second[T any](_ T, err error) error { return err }
