// Package storetest says what the store does: one suite, which the tests of
// package store run on SQLite and on PostgreSQL.
//
// It is not for the services above the store: the control plane's own tests are,
// on both databases too, for which StartServer gives them one. Start with Run.
package storetest

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Backend is a kind of database.
type Backend struct {
	Name string
	// NewDatabase gives the URL of an empty one, which goes with the test.
	NewDatabase func(t testing.TB) (url string)
	// Empty is NewDatabase with the tables of another, which nobody has open and
	// which has no rows.
	Empty func(t testing.TB, like string) (url string)
	// Shared says that stores of several processes wake each other, by connections
	// which Interrupt breaks.
	Shared    bool
	Interrupt func(t testing.TB, url string)
	// Driver and DataSource open the database behind a URL without the store.
	Driver     string
	DataSource func(url string) string
	// Plan explains a statement, whose arguments are not known; its answer has a line
	// for each table that is read whole, and for each sort of a whole answer.
	Plan func(t testing.TB, url, statement string) (scans []string)

	migrated string // a database that others are like
}

// Run runs the whole suite.
func Run(t *testing.T, b Backend) {
	b = b.withMigrated(t)
	for _, part := range []struct {
		name string
		test func(*testing.T, Backend)
	}{
		{"database", testDatabase},
		{"projects", testProjects},
		{"tasks", testTasks},
		{"runs", testRuns},
		{"actions", testActions},
		{"states", testStates},
		{"texts", testTexts},
		{"outbox", testOutbox},
		{"clusters", testClusters},
		{"holders", testHolders},
		{"members", testMembers},
		{"config", testConfig},
		{"watches", testWatches},
		{"queries", testQueries},
		{"pages", testPages},
		{"groups", testGroups},
		{"retention", testRetention},
		{"concurrency", testConcurrency},
		{"organisations", testOrganisations},
		{"statements", testStatements},
		{"plans", testPlans},
	} {
		t.Run(part.name, func(t *testing.T) {
			t.Parallel()
			part.test(t, b)
		})
	}
}

// withMigrated migrates a database once for all tests.
func (b Backend) withMigrated(t testing.TB) Backend {
	t.Helper()
	b.migrated = b.NewDatabase(t)
	w := openWorld(t, b.migrated)
	must(t, w.Migrate(t.Context()))
	must(t, w.Close())
	return b
}

// world is a migrated store with two organisations, each with a project "alpha", and
// a cluster "east" that has joined.
type world struct {
	*store.Store
	url        string
	statements *statements
}

func newWorld(t testing.TB, b Backend) *world {
	t.Helper()
	w := openWorld(t, b.Empty(t, b.migrated))
	ctx := t.Context()
	must(t, w.EnsureOrganizations(ctx, "acme", "globex"))
	for _, organization := range []string{"acme", "globex"} {
		get(w.CreateProject(ctx, store.Project{Organization: organization, ID: "alpha", Name: "Alpha"}))(t)
		w.join(t, organization, "east")
	}
	return w
}

func openWorld(t testing.TB, url string) *world {
	t.Helper()
	w := &world{url: url, statements: &statements{}}
	opened, err := store.Open(t.Context(), url, slog.New(w.statements))
	must(t, err)
	t.Cleanup(func() { opened.Close() })
	w.Store = opened
	return w
}

func (w *world) join(t testing.TB, organization, name string) store.Cluster {
	t.Helper()
	token := store.NewJoinToken()
	get(w.AddCluster(t.Context(), organization, name, token, time.Now().Add(time.Hour)))(t)
	return get(w.Join(t.Context(), token, func(store.Cluster) (store.Certificate, error) {
		return store.Certificate{Serial: organization + name, Key: name, ExpiresAt: time.Now().Add(time.Hour)}, nil
	}))(t)
}

// statements remembers what a store runs, which it logs.
type statements struct {
	mu  sync.Mutex
	sql []string
}

func (s *statements) Enabled(context.Context, slog.Level) bool { return true }
func (s *statements) WithAttrs([]slog.Attr) slog.Handler       { return s }
func (s *statements) WithGroup(string) slog.Handler            { return s }
func (s *statements) Handle(_ context.Context, r slog.Record) error {
	if r.Message != "statement" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r.Attrs(func(a slog.Attr) bool {
		s.sql = append(s.sql, a.Value.String())
		return true
	})
	return nil
}

// take gives what was run since the last time.
func (s *statements) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := s.sql
	s.sql = nil
	return taken
}

// What tests are made of.

func runKey(name string) store.RunKey {
	return store.RunKey{Organization: "acme", Project: "alpha", Domain: "development", Name: name}
}

func taskSpec(name string) *task.TaskSpec {
	return &task.TaskSpec{
		TaskTemplate: &core.TaskTemplate{Id: &core.Identifier{Name: "env." + name}, Type: "python", Metadata: &core.TaskMetadata{}},
		ShortName:    name,
		Environment:  &task.Environment{Name: "env"},
	}
}

func user(subject string) *common.EnrichedIdentity {
	return &common.EnrichedIdentity{Principal: &common.EnrichedIdentity_User{User: &common.User{Id: &common.UserIdentifier{Subject: subject}}}}
}

func newRun(key store.RunKey) store.NewRun {
	return store.NewRun{
		Key:     key,
		Cluster: "east",
		Spec:    &task.RunSpec{Queue: "east"},
		TaskID: store.TaskKey{Organization: key.Organization, Project: key.Project, Domain: key.Domain,
			Name: "env.main", Version: "v1"},
		Task:      taskSpec("main"),
		InputsURI: "s3://metadata/inputs/" + key.Name,
		BaseURI:   "s3://metadata/" + key.String(),
		Source:    workflow.RunSource_RUN_SOURCE_CLI,
		CreatedBy: user("ada"),
		Handover:  &actions.EnqueueRequest{Action: &actions.Action{ActionId: (store.ActionKey{Run: key, Name: store.RootAction}).Proto()}},
	}
}

func labels(label, value string) *task.Labels {
	return &task.Labels{Values: map[string]string{label: value}}
}

// state is one that a data plane reports, of a child of the root unless it is it.
func state(run store.RunKey, name string, position uint64, phase common.ActionPhase) *tunnelv1.ActionState {
	s := &tunnelv1.ActionState{
		Position:  position,
		Version:   position,
		Id:        (store.ActionKey{Run: run, Name: name}).Proto(),
		Type:      workflow.ActionType_ACTION_TYPE_TASK,
		Phase:     phase,
		CreatedAt: timestamppb.New(time.UnixMicro(1_700_000_000_000_000 + int64(position))),
	}
	if name != store.RootAction {
		s.Parent = store.RootAction
	}
	if store.Ended(phase) {
		s.EndedAt = timestamppb.New(time.UnixMicro(1_700_000_100_000_000 + int64(position)))
	}
	return s
}

const (
	queued     = common.ActionPhase_ACTION_PHASE_QUEUED
	running    = common.ActionPhase_ACTION_PHASE_RUNNING
	inProgress = running // where running is something else
	succeeded  = common.ActionPhase_ACTION_PHASE_SUCCEEDED
	failed     = common.ActionPhase_ACTION_PHASE_FAILED
	aborted    = common.ActionPhase_ACTION_PHASE_ABORTED
	paused     = common.ActionPhase_ACTION_PHASE_PAUSED
)

func states(all ...*tunnelv1.ActionState) []*tunnelv1.ActionState { return all }

// apply reports states, behind which the position is that of the last.
func (w *world) apply(t testing.TB, states ...*tunnelv1.ActionState) store.Applied {
	t.Helper()
	return get(w.ApplyStates(t.Context(), "acme", "east", epoch, states, states[len(states)-1].GetPosition()))(t)
}

// epoch is that in which positions are counted, unless it is what is tested.
const epoch = "first"

func (w *world) action(t testing.TB, run store.RunKey, name string) store.Action {
	t.Helper()
	return get(w.GetAction(t.Context(), store.ActionKey{Run: run, Name: name}))(t).Action
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("got error %v, want none", err)
	}
}

// get unwraps what a call gives, and ends the test at an error: get(call())(t).
func get[T any](value T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		must(t, err)
		return value
	}
}

// page is get for a page and the token of the next.
func page[T any](rows []T, next string, err error) func(testing.TB) ([]T, string) {
	return func(t testing.TB) ([]T, string) {
		t.Helper()
		must(t, err)
		return rows, next
	}
}

// wantError says that an error is of a type.
func wantError[E error](t testing.TB, err error) {
	t.Helper()
	var want E
	if !errors.As(err, &want) {
		t.Errorf("got error %v, want a %T", err, want)
	}
}

func filter(field string, function common.Filter_Function, values ...string) *common.Filter {
	return &common.Filter{Field: field, Function: function, Values: values}
}

func equal[T comparable](t testing.TB, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// names is a list of rows as a test compares it.
func names[T any](rows []T, name func(T) string) string {
	all := make([]string, len(rows))
	for i, row := range rows {
		all[i] = name(row)
	}
	return strings.Join(all, " ")
}

func runName(r store.Run) string       { return r.Key.Name }
func actionName(a store.Action) string { return a.Key.Name }
