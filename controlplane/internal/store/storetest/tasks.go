package storetest

import (
	"fmt"
	"sync"
	"testing"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/store"
)

func taskKey(name, version string) store.TaskKey {
	return store.TaskKey{Organization: "acme", Project: "alpha", Domain: "development", Name: name, Version: version}
}

func testTasks(t *testing.T, b Backend) {
	ctx := t.Context()
	t.Run("gives back a version and the latest", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		first := taskSpec("main")
		first.TaskTemplate.Metadata.IsEntrypoint = true
		get(w.DeployTask(ctx, taskKey("env.main", "v1"), first, user("ada")))(t)
		get(w.DeployTask(ctx, taskKey("env.main", "v2"), taskSpec("other"), nil))(t)

		got, spec, err := w.GetTask(ctx, taskKey("env.main", "v1"))
		must(t, err)
		if !proto.Equal(spec, first) {
			t.Errorf("got spec %v, want %v", spec, first)
		}
		equal(t, "short name", got.ShortName, "main")
		equal(t, "entrypoint", got.Entrypoint, true)
		equal(t, "deployed by", store.Subject(got.DeployedBy), "ada")
		latest, _, err := w.GetTask(ctx, taskKey("env.main", ""))
		must(t, err)
		equal(t, "latest", latest.Key.Version, "v2")
		_, _, err = w.GetTask(ctx, taskKey("env.main", "v3"))
		wantError[*store.NotFoundError](t, err)
		_, err = w.DeployTask(ctx, store.TaskKey{Organization: "acme", Project: "none", Domain: "development", Name: "x", Version: "1"}, first, nil)
		wantError[*store.NotFoundError](t, err)
	})
	t.Run("is the same after being deployed twice, and the latest again", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		for _, version := range []string{"v1", "v2", "v1", "v1"} {
			get(w.DeployTask(ctx, taskKey("env.main", version), taskSpec("main"), nil))(t)
		}
		versions, _ := page(w.ListVersions(ctx, taskKey("env.main", ""), store.Query{}))(t)
		equal(t, "versions, newest first", names(versions, func(t store.Task) string { return t.Key.Version }), "v1 v2")
		latest, _, err := w.GetTask(ctx, taskKey("env.main", ""))
		must(t, err)
		equal(t, "latest", latest.Key.Version, "v1")
	})
	t.Run("lists one row for each name, with its latest version and run", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		for _, name := range []string{"env.a", "env.main", "env.z"} {
			for _, version := range []string{"v1", "v2"} {
				get(w.DeployTask(ctx, taskKey(name, version), taskSpec(name), nil))(t)
			}
		}
		for _, name := range []string{"r1", "r2"} { // of env.main v1
			get(w.CreateRun(ctx, newRun(runKey(name))))(t)
		}
		scope := store.TaskScope{Organization: "acme", Project: "alpha", Domain: "development"}
		byName := func(t store.Task) string { return t.Key.Name + "@" + t.Key.Version }
		tasks, _ := page(w.ListTasks(ctx, scope, store.Query{Sort: []*common.Sort{{Key: "name", Direction: common.Sort_ASCENDING}}}))(t)
		equal(t, "tasks", names(tasks, byName), "env.a@v2 env.main@v2 env.z@v2")
		if tasks[0].LatestRun != nil || tasks[1].LatestRun == nil || tasks[1].LatestRun.Run.Name != "r2" {
			t.Errorf("got latest runs %v, %v, want none and r2", tasks[0].LatestRun, tasks[1].LatestRun)
		}
		everywhere, _ := page(w.ListTasks(ctx, store.TaskScope{Organization: "acme"}, store.Query{Limit: 1}))(t)
		equal(t, "newest of the organisation", names(everywhere, byName), "env.z@v2")
		found, _ := page(w.ListTasks(ctx, scope, store.Query{Filters: []*common.Filter{
			filter("name", common.Filter_CONTAINS, "env."), filter("name", common.Filter_ENDS_WITH, "ain")}}))(t)
		equal(t, "found by name", names(found, byName), "env.main@v2")

		versions, _ := page(w.ListVersions(ctx, taskKey("env.main", ""), store.Query{}))(t)
		if versions[0].LatestRun != nil || versions[1].LatestRun == nil {
			t.Errorf("got latest runs of versions %v, %v, want the runs of v1 alone", versions[0].LatestRun, versions[1].LatestRun)
		}
	})
	t.Run("has exactly one latest version when many are deployed at once", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		var running sync.WaitGroup
		for i := range 12 {
			running.Go(func() {
				if _, err := w.DeployTask(ctx, taskKey("env.main", fmt.Sprint("v", i)), taskSpec("main"), nil); err != nil {
					t.Errorf("got error %v, want none", err)
				}
			})
		}
		running.Wait()
		tasks, _ := page(w.ListTasks(ctx, store.TaskScope{Organization: "acme"}, store.Query{}))(t)
		equal(t, "rows", len(tasks), 1)
		versions, _ := page(w.ListVersions(ctx, taskKey("env.main", ""), store.Query{}))(t)
		equal(t, "versions", len(versions), 12)
		equal(t, "latest", tasks[0].Key.Version, versions[0].Key.Version)
	})
	t.Run("keeps a spec once, and not longer than something refers to it", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, b)
		spec := taskSpec("main")
		digest, _, err := store.Digest(spec)
		must(t, err)
		get(w.DeployTask(ctx, taskKey("env.main", "v1"), spec, nil))(t)
		get(w.DeployTask(ctx, taskKey("env.main", "v2"), spec, nil))(t)
		get(w.DeployTask(ctx, taskKey("env.main", "v1"), taskSpec("new"), nil))(t)
		get(w.GetTaskSpec(ctx, "acme", digest))(t)
		get(w.DeployTask(ctx, taskKey("env.main", "v2"), taskSpec("new"), nil))(t)
		_, err = w.GetTaskSpec(ctx, "acme", digest)
		wantError[*store.NotFoundError](t, err)
	})
}
