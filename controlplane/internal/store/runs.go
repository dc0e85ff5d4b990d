package store

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// RootAction is the name of every run's first action.
const RootAction = "a0"

// RunKey names a run.
type RunKey struct {
	Organization, Project, Domain, Name string
}

// RunKeyOf reads the key from its message; of nil it is empty.
func RunKeyOf(id *common.RunIdentifier) RunKey {
	return RunKey{id.GetOrg(), id.GetProject(), id.GetDomain(), id.GetName()}
}

// Proto is the key as a message.
func (k RunKey) Proto() *common.RunIdentifier {
	return &common.RunIdentifier{Org: k.Organization, Project: k.Project, Domain: k.Domain, Name: k.Name}
}

// String is how a person writes the run.
func (k RunKey) String() string { return k.Project + "/" + k.Domain + "/" + k.Name }

// Run is a run and its root action. Its phase and its end are those of the root.
type Run struct {
	Key       RunKey
	Root      Action // without Attempts and Condition
	Cluster   string // the data plane that it was handed to
	Labels    map[string]string
	Source    workflow.RunSource
	Relation  *common.Relation
	CreatedBy *common.EnrichedIdentity
	InputsURI string // of the root
	BaseURI   string // the run output base: {base}/{project}/{domain}/{run}
	Aborted   bool   // somebody aborted the whole run
	CreatedAt time.Time
	// Revision is that of the run's newest change, and that of an Action the run's
	// at its last change. They are assigned under the run's lock, so whoever has
	// seen revision n has seen everything up to n.
	Revision uint64
	// Change is the organisation's counter at the last change of the run or its
	// root: the position for ChangedRuns, in the order of commits.
	Change uint64
}

// NewRun is what CreateRun records.
type NewRun struct {
	Key       RunKey
	Cluster   string
	Spec      *task.RunSpec // labels and relation are taken from it
	TaskID    TaskKey       // what the root runs
	Task      *task.TaskSpec
	InputsURI string
	BaseURI   string
	Source    workflow.RunSource
	CreatedBy *common.EnrichedIdentity
	// Call is a digest of the call that makes it; empty where one cannot be told from
	// another.
	Call string
	// Handover is what the data plane gets; its action is the root.
	Handover *actions.EnqueueRequest
}

// CreateRun records the run, its root action (QUEUED) and the hand-over to its
// cluster in one transaction: once it returns, the run will be started. Made again
// by the same call, it is the run as it is by now. Errors: *ExistsError when the
// name is taken by another; *NotFoundError for an unknown project or
// cluster; *RefusedError for an archived project or a draining cluster.
func (s *Store) CreateRun(ctx context.Context, n NewRun) (Run, error) {
	digest, encodedTask, err := Digest(n.Task)
	if err != nil {
		return Run{}, err
	}
	messages, err := encodeAll(n.Spec, n.Spec.GetLabels(), n.Spec.GetRelation(), n.CreatedBy)
	if err != nil {
		return Run{}, err
	}
	spec, labels, relation, creator := messages[0], messages[1], messages[2], messages[3]
	root := Action{
		Key: ActionKey{n.Key, RootAction}, Type: workflow.ActionType_ACTION_TYPE_TASK, Task: n.TaskID,
		TaskType: n.Task.GetTaskTemplate().GetType(), ShortName: n.Task.GetShortName(), Environment: n.Task.GetEnvironment().GetName(),
		SpecDigest: digest, Phase: common.ActionPhase_ACTION_PHASE_QUEUED, InputURI: n.InputsURI, AttemptCount: 1, Revision: 1,
	}
	run := Run{
		Key: n.Key, Cluster: n.Cluster, Labels: n.Spec.GetLabels().GetValues(), Source: n.Source, Relation: n.Spec.GetRelation(),
		CreatedBy: n.CreatedBy, InputsURI: n.InputsURI, BaseURI: n.BaseURI, Revision: 1,
	}
	key := n.Key
	repeated := false
	err = s.change(ctx, func(t *tx) error {
		run.CreatedAt = fromMicros(t.now)
		root.CreatedAt, root.UpdatedAt = run.CreatedAt, run.CreatedAt

		var state project.ProjectState
		found, err := t.one(ctx, `SELECT state FROM projects WHERE organization = $1 AND id = $2`,
			[]any{key.Organization, key.Project}, scanInto(&state))
		if err != nil {
			return err
		}
		if err := usable(key.Project, found, state); err != nil {
			return err
		}
		made, err := t.exec(ctx, `INSERT INTO runs (organization, project, domain, name, cluster, spec, labels, relation, source,
				created_by, creator, inputs_uri, base_uri, aborted, created_at, phase, task_name, task_version, environment,
				short_name, error_kind, updated_at, ended_at, revision, change, call)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, FALSE, $14, $15, $16, $17, $18, $19, 0, $14, 0, 1, 0, $20)
			ON CONFLICT (organization, project, domain, name) DO NOTHING`,
			key.Organization, key.Project, key.Domain, key.Name, n.Cluster, spec, labels, relation, n.Source,
			Subject(n.CreatedBy), creator, n.InputsURI, n.BaseURI, t.now, root.Phase, n.TaskID.Name, n.TaskID.Version, root.Environment,
			root.ShortName, n.Call)
		if err != nil {
			return err
		}
		if made == 0 {
			call := ""
			if _, err := t.one(ctx, `SELECT call FROM runs WHERE organization = $1 AND project = $2 AND domain = $3 AND name = $4`,
				key.args(), scanInto(&call)); err != nil {
				return err
			}
			if repeated = call != "" && call == n.Call; repeated {
				return errNothing
			}
			return &ExistsError{"run", key.String()}
		}
		if err := t.insertLabels(ctx, key, run.Labels); err != nil {
			return err
		}
		if err := t.putActions(ctx, []Action{root}); err != nil {
			return err
		}
		if err := t.useSpec(ctx, key.Organization, digest, encodedTask); err != nil {
			return err
		}
		draining, err := t.handOver(ctx, n.Cluster, key, enqueue, n.Handover)
		if err != nil {
			return err
		}
		if draining {
			return &RefusedError{fmt.Sprintf("cluster %q is draining, so it takes no new runs", n.Cluster)}
		}
		run.Change, err = t.changeRuns(ctx, []RunKey{key})
		return err
	})
	if err == nil && repeated {
		run, _, err = s.GetRun(ctx, key)
		return run, err
	}
	run.Root = root
	return run, err
}

func (t *tx) insertLabels(ctx context.Context, run RunKey, labels map[string]string) error {
	if len(labels) == 0 {
		return nil
	}
	rows := newStatement("INSERT INTO run_labels (organization, project, domain, run, label, value) VALUES ",
		run.Organization, run.Project, run.Domain, run.Name)
	for i, label := range slices.Sorted(maps.Keys(labels)) {
		if i > 0 {
			rows.WriteString(", ")
		}
		fmt.Fprintf(rows, "($1, $2, $3, $4, %s, %s)", rows.arg(label), rows.arg(labels[label]))
	}
	_, err := t.exec(ctx, rows.String(), rows.args...)
	return err
}

// lockedRun is what a transaction has to know of a run that it changes.
type lockedRun struct {
	revision uint64 // of this change
	cluster  string
	endedAt  int64 // 0 while it has not
}

// lockRun locks a run and counts its change. What has the revision is there when
// the lock is given back, so revisions are seen in their order.
func (t *tx) lockRun(ctx context.Context, key RunKey) (lockedRun, error) {
	var run lockedRun
	found, err := t.one(ctx, `UPDATE runs SET revision = revision + 1
		WHERE organization = $1 AND project = $2 AND domain = $3 AND name = $4 RETURNING revision, cluster, ended_at`,
		[]any{key.Organization, key.Project, key.Domain, key.Name}, scanInto(&run.revision, &run.cluster, &run.endedAt))
	if err == nil && !found {
		err = &NotFoundError{"run", key.String()}
	}
	t.wake(RunTopic(key))
	return run, err
}

// changeRuns counts a change of the organisation's runs, gives it to these, and
// wakes who watches them. It locks the organisation, so it comes last.
func (t *tx) changeRuns(ctx context.Context, keys []RunKey) (change uint64, err error) {
	if len(keys) == 0 {
		return 0, nil
	}
	organization := keys[0].Organization
	found, err := t.one(ctx, `UPDATE organizations SET change = change + 1 WHERE name = $1 RETURNING change`,
		[]any{organization}, scanInto(&change))
	if err != nil {
		return 0, err
	}
	if !found {
		return 0, &NotFoundError{"organization", organization}
	}
	changed := newStatement("", organization, change)
	rows := make([]string, len(keys))
	for i, key := range keys {
		rows[i] = fmt.Sprintf("(%s, %s, %s)", changed.arg(key.Project), changed.arg(key.Domain), changed.arg(key.Name))
		t.wake(RunTopic(key), WorkspaceTopic(organization, key.Project, key.Domain), OrganizationTopic(organization))
	}
	_, err = t.exec(ctx, `WITH changed (project, domain, name) AS (VALUES `+strings.Join(rows, ", ")+`)
		UPDATE runs SET change = $2 FROM changed
		WHERE runs.organization = $1 AND runs.project = changed.project AND runs.domain = changed.domain AND runs.name = changed.name`,
		changed.args...)
	return change, err
}

// GetRun reads a run and its spec. *NotFoundError.
func (s *Store) GetRun(ctx context.Context, key RunKey) (Run, *task.RunSpec, error) {
	var run Run
	var spec *task.RunSpec
	found, err := s.database.reads.one(ctx, `SELECT `+runColumns+`, r.spec `+fromRuns+` AND r.project = $2 AND r.domain = $3 AND r.name = $4`,
		[]any{key.Organization, key.Project, key.Domain, key.Name}, func(scan scanner) (err error) {
			var encoded []byte
			run, err = scanRun(func(dest ...any) error { return scan(append(dest, &encoded)...) })
			if err != nil {
				return err
			}
			spec, err = decode[task.RunSpec](encoded)
			return err
		})
	if err == nil && !found {
		err = &NotFoundError{"run", key.String()}
	}
	return run, spec, err
}

// A run is read with its root action, so that one statement gives a whole page. No
// run is without one. But of a LEFT JOIN both databases know that it leaves out no
// run, so they begin with runs, in the order of the page, and stop at its end.
const (
	runOwnColumns = `r.organization, r.project, r.domain, r.name, r.cluster, r.labels, r.source, r.relation, r.creator,
		r.inputs_uri, r.base_uri, r.aborted, r.created_at, r.revision, r.change`
	runColumns = runOwnColumns + ", " + actionColumns
	fromRuns   = `FROM runs r LEFT JOIN actions a ON a.organization = r.organization AND a.project = r.project
		AND a.domain = r.domain AND a.run = r.name AND a.name = '` + RootAction + `' WHERE r.organization = $1`
)

// runRow is where the columns of a run are scanned into.
type runRow struct {
	run                       Run
	labels, relation, creator []byte
	created                   int64
}

func (r *runRow) dest() []any {
	return []any{&r.run.Key.Organization, &r.run.Key.Project, &r.run.Key.Domain, &r.run.Key.Name, &r.run.Cluster, &r.labels,
		&r.run.Source, &r.relation, &r.creator, &r.run.InputsURI, &r.run.BaseURI, &r.run.Aborted, &r.created, &r.run.Revision, &r.run.Change}
}

func (r *runRow) read() (Run, error) {
	r.run.CreatedAt = fromMicros(r.created)
	labels, err := decode[task.Labels](r.labels)
	if err != nil {
		return Run{}, err
	}
	r.run.Labels = labels.GetValues()
	if r.run.Relation, err = decode[common.Relation](r.relation); err != nil {
		return Run{}, err
	}
	r.run.CreatedBy, err = decode[common.EnrichedIdentity](r.creator)
	return r.run, err
}

func scanRun(scan scanner) (Run, error) {
	var run runRow
	var root actionRow
	if err := scan(append(run.dest(), root.dest()...)...); err != nil {
		return Run{}, err
	}
	read, err := run.read()
	if err != nil {
		return Run{}, err
	}
	read.Root, err = root.read()
	return read, err
}

// AbortRun marks the run, and every action of it that has not ended, as ABORTED
// and hands the abort to the cluster, in one transaction. A run that has ended
// stays as it is, without an error. *NotFoundError.
func (s *Store) AbortRun(ctx context.Context, key RunKey, reason string, by *common.EnrichedIdentity) (Run, error) {
	err := s.change(ctx, func(t *tx) error {
		run, err := t.lockRun(ctx, key)
		if err != nil {
			return err
		}
		if run.endedAt > 0 {
			return errNothing
		}
		return t.abortRun(ctx, key, run, reason, by)
	})
	if err != nil {
		return Run{}, err
	}
	run, _, err := s.GetRun(ctx, key)
	return run, err
}

// abortRun marks everything of a locked run that has not ended, and hands it over.
func (t *tx) abortRun(ctx context.Context, key RunKey, run lockedRun, reason string, by *common.EnrichedIdentity) error {
	if _, err := t.markAborted(ctx, key, run.revision, "", reason, by); err != nil {
		return err
	}
	if _, err := t.exec(ctx, `UPDATE runs SET aborted = TRUE, phase = $5, updated_at = $6, ended_at = $6
		WHERE organization = $1 AND project = $2 AND domain = $3 AND name = $4`,
		key.Organization, key.Project, key.Domain, key.Name, common.ActionPhase_ACTION_PHASE_ABORTED, t.now); err != nil {
		return err
	}
	if err := t.handOverAbort(ctx, run.cluster, ActionKey{key, RootAction}, reason, by); err != nil {
		return err
	}
	_, err := t.changeRuns(ctx, []RunKey{key})
	return err
}

// RunScope says whose runs a list or a watch has. Empty fields mean any, but for
// the organisation.
type RunScope struct {
	Organization          string
	Project, Domain       string
	TaskName, TaskVersion string
	Cluster               string
	PausedOnly            bool // only runs with an action that is PAUSED
}

// ListRuns gives a page of runs and the token of the next. Fields to filter by:
// name, phase, task_name, task_version, environment (or environment_name),
// short_name (or function_name), created_by, created_at, updated_at, start_time,
// end_time, cluster, source, labels.KEY (EQUAL, NOT_EQUAL, VALUE_IN, VALUE_NOT_IN,
// EXISTS, NOT_EXISTS); to sort by: created_at (or start_time), updated_at,
// end_time, name. Default sort: created_at, ascending. *QueryError.
func (s *Store) ListRuns(ctx context.Context, scope RunScope, q Query) ([]Run, string, error) {
	where, args := scope.where("")
	tie := []string{"r.project", "r.domain", "r.name"}
	if scope.Project != "" && scope.Domain != "" {
		tie = []string{"r.name"}
	}
	return pages[Run]{
		list:    runList,
		scope:   scope,
		columns: runColumns,
		from:    fromRuns + where,
		args:    args,
		tie:     tie,
		scan:    scanRun,
	}.read(ctx, s.database.reads, q)
}

// where is the rest of fromRuns, with all the arguments. What is given stands behind
// each column but the organisation.
func (scope RunScope) where(behind string) (string, []any) {
	where := newStatement("", scope.Organization)
	for _, field := range []struct{ column, value string }{
		{"r.project", scope.Project},
		{"r.domain", scope.Domain},
		{"r.task_name", scope.TaskName},
		{"r.task_version", scope.TaskVersion},
		{"r.cluster", scope.Cluster},
	} {
		if field.value != "" {
			where.and("%s = %s", field.column+behind, where.arg(field.value))
		}
	}
	if scope.PausedOnly {
		where.and(`EXISTS (SELECT 1 FROM actions p WHERE p.organization = r.organization AND p.project = r.project
			AND p.domain = r.domain AND p.run = r.name AND p.phase = %d)`, common.ActionPhase_ACTION_PHASE_PAUSED)
	}
	return where.String(), where.args
}

var runList = list{
	name: "runs",
	columns: map[string]column{
		"name":             {sql: "r.name", sorted: true},
		"phase":            {sql: "r.phase", kind: enum, enum: common.ActionPhase(0).Descriptor()},
		"task_name":        {sql: "r.task_name"},
		"task_version":     {sql: "r.task_version"},
		"environment":      {sql: "r.environment"},
		"environment_name": {sql: "r.environment"},
		"short_name":       {sql: "r.short_name"},
		"function_name":    {sql: "r.short_name"},
		"created_by":       {sql: "r.created_by"},
		"cluster":          {sql: "r.cluster"},
		"source":           {sql: "r.source", kind: enum, enum: workflow.RunSource(0).Descriptor()},
		"created_at":       {sql: "r.created_at", kind: moment, sorted: true},
		"start_time":       {sql: "r.created_at", kind: moment, sorted: true},
		"updated_at":       {sql: "r.updated_at", kind: moment, sorted: true},
		"end_time":         {sql: "r.ended_at", kind: moment, sorted: true},
	},
	labels: `SELECT 1 FROM run_labels WHERE organization = r.organization AND project = r.project
		AND domain = r.domain AND run = r.name`,
	sort:      "created_at",
	direction: common.Sort_ASCENDING,
}

// RunCursor is a position in the changes of an organisation's runs. The zero one
// is before all of them.
type RunCursor struct {
	Change uint64
	Last   RunKey // of those with Change, up to which one has been read
}

// ChangedRuns gives at most limit runs that were made or changed behind the
// cursor, in the order of commits, and the cursor behind them and behind all that
// changed of other runs meanwhile.
func (s *Store) ChangedRuns(ctx context.Context, scope RunScope, after RunCursor, limit int) ([]Run, RunCursor, error) {
	// Read first: who finds no more runs of the scope has seen all up to here. Without
	// it a watch of a quiet task would look through the changes of all others since its
	// own last one, each time.
	latest, err := s.LatestRunCursor(ctx, scope.Organization)
	if err != nil {
		return nil, after, err
	}
	// Few changes are behind a cursor, which no database knows: the columns of the
	// scope are written as none that it could find by another index.
	where, args := scope.where(" || ''")
	changed := newStatement(`SELECT `+runColumns+` `+fromRuns+where, args...)
	changed.and("(r.change, r.project, r.domain, r.name) > (%s, %s, %s, %s)", changed.arg(after.Change),
		changed.arg(after.Last.Project), changed.arg(after.Last.Domain), changed.arg(after.Last.Name))
	fmt.Fprintf(changed, " ORDER BY r.change, r.project, r.domain, r.name LIMIT %d", bounded(limit))
	var runs []Run
	err = s.database.reads.each(ctx, changed.String(), changed.args, func(scan scanner) error {
		run, err := scanRun(scan)
		runs = append(runs, run)
		after = RunCursor{run.Change, run.Key}
		return err
	})
	if err == nil && len(runs) < bounded(limit) && latest.Change > after.Change {
		after = latest
	}
	return runs, after, err
}

// LatestRunCursor is the position now: read it, then list, then go on with
// ChangedRuns behind it, and no change is missed.
func (s *Store) LatestRunCursor(ctx context.Context, organization string) (RunCursor, error) {
	var change uint64
	found, err := s.database.reads.one(ctx, `SELECT change FROM organizations WHERE name = $1`, []any{organization}, scanInto(&change))
	if err == nil && !found {
		err = &NotFoundError{"organization", organization}
	}
	return RunCursor{Change: change + 1}, err
}
