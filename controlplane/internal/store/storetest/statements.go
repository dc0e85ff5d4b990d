package storetest

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/controlplane/internal/store"
)

// hotCalls are the calls that happen all the time, and how many statements each may
// take, beginning and committing a transaction aside, however much there is.
func hotCalls(w *world) []hotCall {
	key := runKey("r1")
	run := 0
	position := uint64(1_000_000)
	scope := store.RunScope{Organization: "acme", Project: "alpha", Domain: "development"}
	return []hotCall{
		{name: "CreateRun", statements: 12, call: func(t testing.TB) {
			run++
			n := newRun(runKey(fmt.Sprint("hot", run)))
			n.Spec.Labels = labels("team", "blue")
			get(w.CreateRun(t.Context(), n))(t)
		}},
		{name: "ApplyStates of many, in another epoch", statements: 13, call: func(t testing.TB) {
			batch := states()
			for i := range 100 {
				position++
				child := state(key, fmt.Sprint("c", i), position, inProgress)
				child.TaskSpecDigest = fmt.Sprintf("sha256:%064x", i)
				batch = append(batch, child)
			}
			position++
			batch = append(batch, state(key, "a0", position, inProgress))
			w.apply(t, batch...)
		}, many: true},
		{name: "GetRun", statements: 1, call: func(t testing.TB) {
			_, _, err := w.GetRun(t.Context(), key)
			must(t, err)
		}},
		{name: "GetAction", statements: 1, call: func(t testing.TB) { get(w.GetAction(t.Context(), store.ActionKey{Run: key, Name: "a0"}))(t) }},
		{name: "ListRuns", statements: 1, call: func(t testing.TB) { page(w.ListRuns(t.Context(), scope, store.Query{Limit: 50}))(t) }},
		{name: "ListRuns, newest first", statements: 1, call: func(t testing.TB) {
			page(w.ListRuns(t.Context(), scope, store.Query{Limit: 50, Sort: []*common.Sort{{Key: "created_at"}}}))(t)
		}},
		{name: "ListRuns, second page", statements: 2, call: func(t testing.TB) {
			_, next := page(w.ListRuns(t.Context(), scope, store.Query{Limit: 2}))(t)
			page(w.ListRuns(t.Context(), scope, store.Query{Limit: 2, Token: next}))(t)
		}},
		{name: "ListRuns of the organisation", statements: 1, call: func(t testing.TB) {
			page(w.ListRuns(t.Context(), store.RunScope{Organization: "acme"}, store.Query{}))(t)
		}},
		{name: "ListRuns of a task", statements: 1, call: func(t testing.TB) {
			of := scope
			of.TaskName = "env.main"
			page(w.ListRuns(t.Context(), of, store.Query{}))(t)
		}},
		{name: "ListRuns of a version", statements: 1, call: func(t testing.TB) {
			of := scope
			of.TaskName, of.TaskVersion = "env.main", "v1"
			page(w.ListRuns(t.Context(), of, store.Query{}))(t)
		}},
		{name: "ListRuns in a phase", statements: 1, call: func(t testing.TB) {
			page(w.ListRuns(t.Context(), scope, store.Query{Filters: []*common.Filter{filter("phase", common.Filter_EQUAL, "4")}}))(t)
		}},
		{name: "ListRuns by label", statements: 1, call: func(t testing.TB) {
			page(w.ListRuns(t.Context(), scope, store.Query{Filters: []*common.Filter{filter("labels.team", common.Filter_EQUAL, "blue")}}))(t)
		}},
		{name: "ListRuns, last changed", statements: 1, call: func(t testing.TB) {
			page(w.ListRuns(t.Context(), scope, store.Query{Sort: []*common.Sort{{Key: "updated_at"}}}))(t)
		}},
		{name: "ListRuns that wait", statements: 1, call: func(t testing.TB) {
			of := scope
			of.PausedOnly = true
			page(w.ListRuns(t.Context(), of, store.Query{}))(t)
		}},
		{name: "ListRuns of a cluster", statements: 1, call: func(t testing.TB) {
			page(w.ListRuns(t.Context(), store.RunScope{Organization: "acme", Cluster: "c1"}, store.Query{}))(t)
		}},
		{name: "ListRuns of somebody, since a time", statements: 1, call: func(t testing.TB) {
			page(w.ListRuns(t.Context(), scope, store.Query{Filters: []*common.Filter{filter("created_by", common.Filter_EQUAL, "ada"),
				filter("created_at", common.Filter_GREATER_THAN_OR_EQUAL, "2026-01-31T15:04:05+00:00")}}))(t)
		}},
		{name: "CreateRun, and again by the same call", statements: 16, call: func(t testing.TB) {
			n := newRun(runKey("again"))
			n.Call = "one"
			for range 2 {
				get(w.CreateRun(t.Context(), n))(t)
			}
		}},
		{name: "ChangedRuns of a task", statements: 2, call: func(t testing.TB) {
			of := scope
			of.TaskName = "env.main"
			_, _, err := w.ChangedRuns(t.Context(), of, store.RunCursor{Change: 1}, 10)
			must(t, err)
		}},
		{name: "LatestRunCursor", statements: 1, call: func(t testing.TB) { get(w.LatestRunCursor(t.Context(), "acme"))(t) }},
		{name: "ListActions of a parent", statements: 1, call: func(t testing.TB) {
			page(w.ListActions(t.Context(), key, store.Query{Filters: []*common.Filter{filter("parent_name", common.Filter_EQUAL, "a0")}}))(t)
		}},
		{name: "ListActions in a phase", statements: 1, call: func(t testing.TB) {
			page(w.ListActions(t.Context(), key, store.Query{Filters: []*common.Filter{filter("phase", common.Filter_VALUE_IN, "4", "1")}}))(t)
		}},
		{name: "GetProject", statements: 1, call: func(t testing.TB) { get(w.GetProject(t.Context(), "acme", "alpha"))(t) }},
		{name: "GetPosition", statements: 1, call: func(t testing.TB) {
			_, _, err := w.GetPosition(t.Context(), "acme", "east")
			must(t, err)
		}},
		{name: "PutTaskSpecs", statements: 2, call: func(t testing.TB) {
			must(t, w.PutTaskSpecs(t.Context(), "acme", []*task.TaskSpec{taskSpec("child")}))
		}},
		{name: "ListClusters", statements: 1, call: func(t testing.TB) { page(w.ListClusters(t.Context(), "acme", store.Query{}))(t) }},
		{name: "Fail", statements: 1, call: func(t testing.TB) {
			must(t, w.Fail(t.Context(), "acme", "east", 1, time.Now()))
		}},
		{name: "ChangedRuns", statements: 2, call: func(t testing.TB) {
			_, _, err := w.ChangedRuns(t.Context(), scope, store.RunCursor{Change: 1}, 10)
			must(t, err)
		}},
		{name: "ListActions", statements: 1, call: func(t testing.TB) { page(w.ListActions(t.Context(), key, store.Query{Limit: 100}))(t) }},
		{name: "ChangedActions", statements: 1, call: func(t testing.TB) {
			_, _, err := w.ChangedActions(t.Context(), key, store.ActionCursor{Revision: 1}, 10)
			must(t, err)
		}},
		{name: "GetActions", statements: 1, call: func(t testing.TB) { get(w.GetActions(t.Context(), key, []string{"a0", "c1"}))(t) }},
		{name: "CountChildren", statements: 1, call: func(t testing.TB) { get(w.CountChildren(t.Context(), key, []string{"a0", "c1", "c2"}))(t) }},
		{name: "MatchActions", statements: 1, call: func(t testing.TB) {
			get(w.MatchActions(t.Context(), key, []string{"a0", "c1"}, []*common.Filter{filter("phase", common.Filter_EQUAL, "4")}))(t)
		}},
		{name: "DeployTask", statements: 6, call: func(t testing.TB) {
			get(w.DeployTask(t.Context(), taskKey("env.main", "v1"), taskSpec("main"), nil))(t)
		}},
		{name: "ListTasks", statements: 1, call: func(t testing.TB) {
			page(w.ListTasks(t.Context(), store.TaskScope{Organization: "acme", Project: "alpha", Domain: "development"}, store.Query{}))(t)
		}},
		{name: "ListTasks of the organisation", statements: 1, call: func(t testing.TB) {
			page(w.ListTasks(t.Context(), store.TaskScope{Organization: "acme"}, store.Query{}))(t)
		}},
		{name: "the latest version", statements: 1, call: func(t testing.TB) {
			page(w.ListTasks(t.Context(), store.TaskScope{Organization: "acme", Project: "alpha", Domain: "development"},
				store.Query{Limit: 1, Filters: []*common.Filter{filter("name", common.Filter_EQUAL, "env.main")}}))(t)
		}},
		{name: "ListVersions", statements: 1, call: func(t testing.TB) { page(w.ListVersions(t.Context(), taskKey("env.main", ""), store.Query{}))(t) }},
		{name: "GetTask", statements: 1, call: func(t testing.TB) {
			_, _, err := w.GetTask(t.Context(), taskKey("env.main", "v1"))
			must(t, err)
		}},
		{name: "Next", statements: 2, call: func(t testing.TB) {
			_, _, err := w.Next(t.Context(), "acme", "east", 10)
			must(t, err)
		}},
		{name: "Acknowledge", statements: 1, call: func(t testing.TB) { must(t, w.Acknowledge(t.Context(), "acme", "east", 1)) }},
		{name: "Heartbeat", statements: 1, call: func(t testing.TB) {
			must(t, w.Heartbeat(t.Context(), "acme", "east", &tunnelv1.HeartbeatRequest{Version: "1"}))
		}},
		{name: "GetConfig", statements: 1, call: func(t testing.TB) { get(w.GetConfig(t.Context(), "acme", "east"))(t) }},
		{name: "CheckCertificate", statements: 1, call: func(t testing.TB) { must(t, w.CheckCertificate(t.Context(), "acme", "east", "acmeeast")) }},
		{name: "Hold, again", statements: 1, call: func(t testing.TB) {
			must(t, w.Hold(t.Context(), "acme", "p1", "h1:1", []string{"c1", "c2"}, time.Hour))
		}},
		{name: "Holders", statements: 1, call: func(t testing.TB) { get(w.Holders(t.Context(), "acme"))(t) }},
		{name: "RecordDial", statements: 1, call: func(t testing.TB) { must(t, w.RecordDial(t.Context(), "acme", "east", "acmeeast")) }},
		{name: "GetCluster", statements: 1, call: func(t testing.TB) { get(w.GetCluster(t.Context(), "acme", "east"))(t) }},
		{name: "ListProjects", statements: 1, call: func(t testing.TB) { page(w.ListProjects(t.Context(), "acme", store.Query{}))(t) }},
		{name: "AbortRun", statements: 10, call: func(t testing.TB) {
			get(w.AbortRun(t.Context(), runKey("hot1"), "", nil))(t)
		}},
		{name: "AbortAction", statements: 6, call: func(t testing.TB) {
			must(t, w.AbortAction(t.Context(), store.ActionKey{Run: key, Name: "c5"}, "", nil))
		}},
		{name: "GroupRuns", statements: 2, call: func(t testing.TB) {
			get(w.GroupRuns(t.Context(), store.GroupQuery{Organization: "acme", Project: "alpha", Domain: "development", From: time.Now().Add(-time.Hour)}))(t)
		}},
		{name: "Prune of a run", statements: 11, call: func(t testing.TB) {
			get(w.Prune(t.Context(), "acme", time.Now().Add(time.Hour), 1))(t)
		}},
		{name: "Prune of nothing", statements: 2, call: func(t testing.TB) { get(w.Prune(t.Context(), "acme", time.UnixMicro(1), 100))(t) }},
	}
}

type hotCall struct {
	name       string
	statements int
	call       func(testing.TB)
	many       bool // it writes many rows
}

func testStatements(t *testing.T, b Backend) {
	w := newWorld(t, b)
	get(w.CreateRun(t.Context(), newRun(runKey("r1"))))(t)
	for _, cluster := range []string{"c1", "c2"} {
		w.join(t, "acme", cluster)
	}
	must(t, w.Hold(t.Context(), "acme", "p1", "h1:1", []string{"c1", "c2"}, time.Hour))
	for _, hot := range hotCalls(w) {
		w.statements.take()
		hot.call(t)
		most := hot.statements
		if !b.Shared && hot.many { // where statements are no round trips, they may be short
			most *= 3
		}
		if got := w.statements.take(); len(got) > most {
			t.Errorf("%s: got %d statements, want at most %d: %q", hot.name, len(got), most, got)
		}
	}
}

// testPlans asks the database how it would run every statement of the calls above,
// with enough rows that it matters.
func testPlans(t *testing.T, b Backend) {
	w := newWorld(t, b)
	seed(t, b, w)
	explained := map[string]bool{}
	for _, hot := range hotCalls(w) {
		w.statements.take()
		hot.call(t)
		for _, statement := range w.statements.take() {
			if explained[statement] {
				continue
			}
			explained[statement] = true
			for _, scan := range b.Plan(t, w.url, statement) {
				if mayScan(hot.name, scan) {
					continue
				}
				t.Errorf("%s: got %q, want an index to be used, in %s", hot.name, scan, statement[max(strings.Index(statement, "FROM"), 0):])
			}
		}
	}
	if len(explained) < 50 {
		t.Errorf("got %d statements explained, want all of the calls'", len(explained))
	}
}

// mayScan is true for what sorts or sums up a whole answer on purpose, or one that
// PostgreSQL takes for a short one.
func mayScan(call, scan string) bool {
	switch call {
	case "GroupRuns": // of the runs of one workspace in a time, found by an index
		return !strings.Contains(scan, "runs")
	case "GetConfig", // of all projects of an organisation
		"ListRuns that wait",
		"ListRuns by label", // which is taken to be rare
		"Prune of nothing":  // a time between two others is, too
		return strings.Contains(scan, "Sort")
	}
	return false
}

// seed fills the tables with some ten thousand rows, by statements of its own.
func seed(t testing.TB, b Backend, w *world) {
	t.Helper()
	db := get(sql.Open(b.Driver, b.DataSource(w.url)))(t)
	defer db.Close()
	rows := func(n int) string {
		return fmt.Sprintf("WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) ", n)
	}
	const who = `CASE i % 5 WHEN 0 THEN 'globex' ELSE 'acme' END, CASE i % 3 WHEN 0 THEN 'beta' ELSE 'alpha' END,
		CASE i % 4 WHEN 0 THEN 'staging' ELSE 'development' END`
	const first = 1700000000000000
	for _, statement := range []string{
		rows(2000) + `INSERT INTO organizations (name) SELECT 'o' || i FROM n`,
		rows(3000) + `INSERT INTO projects (organization, id, name, description, labels, state, created_at, updated_at)
			SELECT CASE i % 3 WHEN 0 THEN 'acme' ELSE 'o' || i END, 'p' || i, '', '', '', 0, i, i FROM n`,
		rows(3000) + `INSERT INTO task_specs (organization, digest, spec, uses) SELECT 'acme', 'd' || i, '', 1 FROM n`,
		rows(10000) + `INSERT INTO tasks (organization, project, domain, name, version, spec_digest, task_type, short_name, environment,
			short_description, entrypoint, deployed_by, deployer, deployed_at, latest)
			SELECT ` + who + `, 'env.t' || (i / 2), 'v' || i, 'd' || (i % 3000), '', '', '', '', FALSE, '', '', i, i % 2 = 0 FROM n`,
		rows(12000) + `INSERT INTO runs (organization, project, domain, name, cluster, spec, labels, relation, source, created_by, creator,
			inputs_uri, base_uri, aborted, created_at, phase, task_name, task_version, environment, short_name, error_kind, updated_at,
			ended_at, revision, change)
			SELECT ` + who + `, 'run' || i, 'c' || (i % 10), '', '', '', 2, '', '', '', '', FALSE, ` + fmt.Sprint(first) + ` + i, 5, 'env.t' || (i % 400),
			'v' || (i % 10), '', '', 0, ` + fmt.Sprint(first) + ` + i, CASE i % 7 WHEN 0 THEN 0 ELSE ` + fmt.Sprint(first) + ` + i END, 1, i FROM n`,
		`INSERT INTO run_labels (organization, project, domain, run, label, value)
			SELECT organization, project, domain, name, 'team', task_name FROM runs`,
		rows(3) + `INSERT INTO actions (organization, project, domain, run, name, parent, group_name, type, title, task_org, task_project,
			task_domain, task_name, task_version, task_type, short_name, environment, spec_digest, phase, version, created_at, updated_at,
			ended_at, cache_status, input_uri, output_uri, error_kind, error_code, abort_reason, aborter, recovered_from, attempt_count,
			attempts, condition, revision)
			SELECT organization, project, domain, name, CASE i WHEN 1 THEN 'a0' ELSE 'k' || i END, CASE i WHEN 1 THEN '' ELSE 'a0' END, '', 1,
			'', '', '', '', task_name, task_version, '', '', '', 'd' || (change % 3000), phase, 1, created_at + i, updated_at, ended_at, 0, '', '',
			0, '', '', '', '', 1, '', '', i FROM runs, n`,
		rows(1000) + `INSERT INTO clusters (organization, name, draining, created_at, joined_at, token_id, token_hash, token_key, token_expires_at,
			certificate_serial, certificate_expires_at, relay_port, proxy_names, handovers)
			SELECT 'acme', 'c' || i, FALSE, i, 1, '', '', '', 0, '', 0, 0, '', 0 FROM n`,
		`INSERT INTO cluster_positions (organization, cluster, epoch, position) SELECT organization, name, '', 1 FROM clusters WHERE name <> 'east'`,
		`INSERT INTO cluster_reports (organization, cluster, received_at, report) SELECT organization, name, 1, '' FROM clusters WHERE name <> 'east'`,
		rows(3000) + `INSERT INTO certificates (organization, cluster, serial, expires_at, revoked)
			SELECT 'acme', 'c' || (i % 400), 's' || i, ` + fmt.Sprint(int64(9e15)) + ` + i, FALSE FROM n`,
		rows(3000) + `INSERT INTO tunnel_holders (organization, cluster, process, endpoint, since, alive_until)
			SELECT CASE i % 3 WHEN 0 THEN 'acme' ELSE 'o' || i END, 'c' || i, 'p' || (i % 9), '', i, i FROM n`,
		rows(4000) + `INSERT INTO outbox (organization, cluster, id, kind, project, domain, run, payload, created_at, tries, next_try)
			SELECT 'acme', 'c' || (i % 3), i, 1, 'alpha', 'development', 'run' || i, '', i, 0, 0 FROM n`,
		rows(3000) + `INSERT INTO wanted_specs (organization, cluster, digest) SELECT 'acme', 'c' || (i % 400), 'w' || i FROM n`,
		"ANALYZE",
	} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("seeding: got %v, want it done: %s", err, statement)
		}
	}
	get(w.CreateRun(t.Context(), newRun(runKey("r1"))))(t)
}
