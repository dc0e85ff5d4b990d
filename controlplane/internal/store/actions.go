package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// ActionKey names an action.
type ActionKey struct {
	Run  RunKey
	Name string
}

// ActionKeyOf reads the key from its message; of nil it is empty.
func ActionKeyOf(id *common.ActionIdentifier) ActionKey {
	return ActionKey{RunKeyOf(id.GetRun()), id.GetName()}
}

// Proto is the key as a message.
func (k ActionKey) Proto() *common.ActionIdentifier {
	return &common.ActionIdentifier{Run: k.Run.Proto(), Name: k.Name}
}

// String is how a person writes the action.
func (k ActionKey) String() string { return k.Run.String() + "/" + k.Name }

// Action is one step of a run: a task, a trace or a condition. Times that are
// not yet are zero.
type Action struct {
	Key         ActionKey
	Parent      string // empty for the root
	Group       string
	Type        workflow.ActionType
	Title       string // of a trace or a condition
	Task        TaskKey
	TaskType    string
	ShortName   string
	Environment string
	SpecDigest  string

	Phase       common.ActionPhase
	Version     uint64 // as the data plane counts
	CreatedAt   time.Time
	UpdatedAt   time.Time // when the store learnt the last change
	EndedAt     time.Time
	CacheStatus core.CatalogCacheStatus
	InputURI    string
	OutputURI   string // the directory, or a trace's file

	ErrorKind     workflow.ErrorInfo_Kind
	ErrorCode     string
	AbortReason   string
	AbortedBy     *common.EnrichedIdentity // nil where the data plane aborted it by itself
	RecoveredFrom *common.ActionIdentifier

	AttemptCount uint32
	// Attempts hold kinds of errors and no messages, and no cluster events. Lists
	// leave them out.
	Attempts  []*workflow.ActionAttempt
	Condition *workflow.ConditionAction // lists have it too: who signals one has to know its type

	Revision uint64 // of the run, at the last change of this action
}

// Ended says whether nothing more becomes of the action.
func (a Action) Ended() bool { return Ended(a.Phase) }

// Ended says whether a phase is a last one.
func Ended(p common.ActionPhase) bool {
	switch p {
	case common.ActionPhase_ACTION_PHASE_SUCCEEDED, common.ActionPhase_ACTION_PHASE_FAILED,
		common.ActionPhase_ACTION_PHASE_ABORTED, common.ActionPhase_ACTION_PHASE_TIMED_OUT,
		common.ActionPhase_ACTION_PHASE_RECOVERED:
		return true
	}
	return false
}

// ActionDetails is an action with all that a client is shown of it.
type ActionDetails struct {
	Action Action
	Run    Run            // its Root is left empty unless Action is the root
	Spec   *task.TaskSpec // nil for traces and conditions, and until the data plane has sent it
}

// GetAction reads an action. *NotFoundError.
func (s *Store) GetAction(ctx context.Context, key ActionKey) (ActionDetails, error) {
	var details ActionDetails
	found, err := s.database.reads.one(ctx, `SELECT `+runOwnColumns+`, `+actionColumns+`, a.attempts, COALESCE(s.spec, $6)
		FROM actions a CROSS JOIN runs r LEFT JOIN task_specs s ON s.organization = a.organization AND s.digest = a.spec_digest
		WHERE r.organization = a.organization AND r.project = a.project AND r.domain = a.domain AND r.name = a.run
		AND a.organization = $1 AND a.project = $2 AND a.domain = $3 AND a.run = $4 AND a.name = $5`,
		[]any{key.Run.Organization, key.Run.Project, key.Run.Domain, key.Run.Name, key.Name, []byte{}}, func(scan scanner) error {
			var run runRow
			var action actionRow
			var attempts, spec []byte
			err := scan(slices.Concat(run.dest(), action.dest(), []any{&attempts, &spec})...)
			if err != nil {
				return err
			}
			if details.Run, err = run.read(); err != nil {
				return err
			}
			if details.Action, err = action.read(); err != nil {
				return err
			}
			// A list of messages has no encoding of its own, so it is one field of another.
			holder, err := decode[workflow.ActionDetails](attempts)
			if err != nil {
				return err
			}
			details.Action.Attempts = holder.GetAttempts()
			details.Spec, err = decode[task.TaskSpec](spec)
			return err
		})
	if err == nil && !found {
		err = &NotFoundError{"action", key.String()}
	}
	if key.Name == RootAction {
		details.Run.Root = details.Action
	}
	return details, err
}

// actionColumns are those of lists.
const actionColumns = `a.organization, a.project, a.domain, a.run, a.name, a.parent, a.group_name, a.type, a.title, a.task_org,
	a.task_project, a.task_domain, a.task_name, a.task_version, a.task_type, a.short_name, a.environment, a.spec_digest, a.phase,
	a.version, a.created_at, a.updated_at, a.ended_at, a.cache_status, a.input_uri, a.output_uri, a.error_kind, a.error_code,
	a.abort_reason, a.aborter, a.recovered_from, a.attempt_count, a.revision, a.condition`

// actionRow is where actionColumns are scanned into.
type actionRow struct {
	action                            Action
	created, updated, ended           int64
	aborter, recoveredFrom, condition []byte
}

func (r *actionRow) dest() []any {
	a := &r.action
	return []any{&a.Key.Run.Organization, &a.Key.Run.Project, &a.Key.Run.Domain, &a.Key.Run.Name, &a.Key.Name, &a.Parent, &a.Group, &a.Type,
		&a.Title, &a.Task.Organization, &a.Task.Project, &a.Task.Domain, &a.Task.Name, &a.Task.Version, &a.TaskType, &a.ShortName,
		&a.Environment, &a.SpecDigest, &a.Phase, &a.Version, &r.created, &r.updated, &r.ended, &a.CacheStatus, &a.InputURI, &a.OutputURI,
		&a.ErrorKind, &a.ErrorCode, &a.AbortReason, &r.aborter, &r.recoveredFrom, &a.AttemptCount, &a.Revision, &r.condition}
}

func (r *actionRow) read() (_ Action, err error) {
	r.action.CreatedAt, r.action.UpdatedAt, r.action.EndedAt = fromMicros(r.created), fromMicros(r.updated), fromMicros(r.ended)
	if r.action.AbortedBy, err = decode[common.EnrichedIdentity](r.aborter); err != nil {
		return Action{}, err
	}
	if r.action.RecoveredFrom, err = decode[common.ActionIdentifier](r.recoveredFrom); err != nil {
		return Action{}, err
	}
	r.action.Condition, err = decode[workflow.ConditionAction](r.condition)
	return r.action, err
}

func scanAction(scan scanner) (Action, error) {
	var row actionRow
	if err := scan(row.dest()...); err != nil {
		return Action{}, err
	}
	return row.read()
}

// putActions writes whole rows, new ones and changed ones, of one organisation.
func (t *tx) putActions(ctx context.Context, actions []Action) error {
	const columns = `organization, project, domain, run, name, parent, group_name, type, title, task_org, task_project, task_domain,
		task_name, task_version, task_type, short_name, environment, spec_digest, phase, version, created_at, updated_at, ended_at,
		cache_status, input_uri, output_uri, error_kind, error_code, abort_reason, aborter, recovered_from, attempt_count, attempts,
		condition, revision`
	// What an action is does not change, what becomes of it does.
	const update = ` ON CONFLICT (organization, project, domain, run, name) DO UPDATE SET phase = excluded.phase,
		version = excluded.version, updated_at = excluded.updated_at, ended_at = excluded.ended_at,
		cache_status = excluded.cache_status, input_uri = excluded.input_uri, output_uri = excluded.output_uri,
		error_kind = excluded.error_kind, error_code = excluded.error_code, abort_reason = excluded.abort_reason,
		aborter = excluded.aborter, recovered_from = excluded.recovered_from, attempt_count = excluded.attempt_count,
		attempts = excluded.attempts, revision = excluded.revision`
	for some := range slices.Chunk(actions, t.rows(35)) {
		rows := newStatement(`INSERT INTO actions (` + columns + `) VALUES `)
		for i, a := range some {
			messages, err := encodeAll(a.AbortedBy, a.RecoveredFrom, &workflow.ActionDetails{Attempts: a.Attempts}, a.Condition)
			if err != nil {
				return err
			}
			aborter, recoveredFrom, attempts, condition := messages[0], messages[1], messages[2], messages[3]
			if i > 0 {
				rows.WriteString(", ")
			}
			k := a.Key.Run
			rows.WriteString("(" + argList(rows, []any{k.Organization, k.Project, k.Domain, k.Name, a.Key.Name, a.Parent, a.Group, a.Type, a.Title,
				a.Task.Organization, a.Task.Project, a.Task.Domain, a.Task.Name, a.Task.Version, a.TaskType, a.ShortName, a.Environment,
				a.SpecDigest, a.Phase, a.Version, micros(a.CreatedAt), micros(a.UpdatedAt), micros(a.EndedAt), a.CacheStatus, a.InputURI,
				a.OutputURI, a.ErrorKind, a.ErrorCode, a.AbortReason, aborter, recoveredFrom, a.AttemptCount, attempts,
				condition, a.Revision}) + ")")
		}
		rows.WriteString(update)
		if _, err := t.exec(ctx, rows.String(), rows.args...); err != nil {
			return err
		}
	}
	return nil
}

// AbortAction marks the action, and all below it that has not ended, as ABORTED
// and hands the abort to the cluster, in one transaction. An action that has
// ended stays as it is, without an error. *NotFoundError.
func (s *Store) AbortAction(ctx context.Context, key ActionKey, reason string, by *common.EnrichedIdentity) error {
	if key.Name == RootAction {
		_, err := s.AbortRun(ctx, key.Run, reason, by)
		return err
	}
	return s.change(ctx, func(t *tx) error {
		run, err := t.lockRun(ctx, key.Run)
		if err != nil {
			var missing *NotFoundError
			if errors.As(err, &missing) {
				err = &NotFoundError{"action", key.String()}
			}
			return err
		}
		var endedAt int64
		found, err := t.one(ctx, `SELECT ended_at FROM actions
			WHERE organization = $1 AND project = $2 AND domain = $3 AND run = $4 AND name = $5`,
			[]any{key.Run.Organization, key.Run.Project, key.Run.Domain, key.Run.Name, key.Name}, scanInto(&endedAt))
		switch {
		case err != nil:
			return err
		case !found:
			return &NotFoundError{"action", key.String()}
		case endedAt > 0:
			return errNothing
		}
		if _, err := t.markAborted(ctx, key.Run, run.revision, key.Name, reason, by); err != nil {
			return err
		}
		return t.handOverAbort(ctx, run.cluster, key, reason, by)
	})
}

// markAborted ends what has not ended of a locked run: the named action and all
// below it, or everything without a name.
func (t *tx) markAborted(ctx context.Context, run RunKey, revision uint64, name, reason string, by *common.EnrichedIdentity) (int64, error) {
	aborter, err := encode(by)
	if err != nil {
		return 0, err
	}
	mark := newStatement("", run.Organization, run.Project, run.Domain, run.Name)
	below := ""
	if name != "" {
		fmt.Fprintf(mark, `WITH RECURSIVE below (name) AS (
			SELECT a.name FROM actions a
				WHERE a.organization = $1 AND a.project = $2 AND a.domain = $3 AND a.run = $4 AND a.name = %s
			UNION SELECT a.name FROM below b JOIN actions a ON a.parent = b.name
				WHERE a.organization = $1 AND a.project = $2 AND a.domain = $3 AND a.run = $4) `, mark.arg(name))
		below = " AND name IN (SELECT name FROM below)"
	}
	now := mark.arg(t.now)
	fmt.Fprintf(mark, `UPDATE actions SET phase = %s, updated_at = %s, ended_at = %[2]s, abort_reason = %s, aborter = %s, revision = %s
		WHERE organization = $1 AND project = $2 AND domain = $3 AND run = $4 AND ended_at = 0`+below,
		mark.arg(common.ActionPhase_ACTION_PHASE_ABORTED), now, mark.arg(bound(reason, maxText)), mark.arg(aborter), mark.arg(revision))
	return t.exec(ctx, mark.String(), mark.args...)
}

// ListActions gives a page of a run's actions and the token of the next. Fields
// to filter by: name, phase, parent_name (or parent), action_type, group,
// task_name, task_version, task_type, short_name, environment (or
// environment_name), created_at, updated_at, start_time, end_time, cache_status;
// to sort by: created_at (or start_time), updated_at, end_time, name. Default
// sort: created_at, ascending. *NotFoundError for an unknown run, *QueryError.
func (s *Store) ListActions(ctx context.Context, run RunKey, q Query) ([]Action, string, error) {
	page, next, err := pages[Action]{
		list:    actionList,
		scope:   run,
		columns: actionColumns,
		from:    `FROM actions a WHERE ` + ofRun,
		args:    run.args(),
		tie:     []string{"a.name"},
		scan:    scanAction,
	}.read(ctx, s.database.reads, q)
	if err == nil && len(page) == 0 {
		// Every run has its root, so an empty answer is rare enough to ask why.
		_, _, err = s.GetRun(ctx, run)
	}
	return page, next, err
}

// ofRun is the condition for a run's actions, whose arguments are the first four.
const ofRun = `a.organization = $1 AND a.project = $2 AND a.domain = $3 AND a.run = $4`

func (k RunKey) args() []any { return []any{k.Organization, k.Project, k.Domain, k.Name} }

var actionList = list{
	name: "actions",
	columns: map[string]column{
		"name":             {sql: "a.name", sorted: true},
		"phase":            {sql: "a.phase", kind: enum, enum: common.ActionPhase(0).Descriptor()},
		"parent_name":      {sql: "a.parent"},
		"parent":           {sql: "a.parent"},
		"action_type":      {sql: "a.type", kind: enum, enum: workflow.ActionType(0).Descriptor()},
		"group":            {sql: "a.group_name"},
		"task_name":        {sql: "a.task_name"},
		"task_version":     {sql: "a.task_version"},
		"task_type":        {sql: "a.task_type"},
		"short_name":       {sql: "a.short_name"},
		"environment":      {sql: "a.environment"},
		"environment_name": {sql: "a.environment"},
		"cache_status":     {sql: "a.cache_status", kind: enum, enum: core.CatalogCacheStatus(0).Descriptor()},
		"created_at":       {sql: "a.created_at", kind: moment, sorted: true},
		"start_time":       {sql: "a.created_at", kind: moment, sorted: true},
		"updated_at":       {sql: "a.updated_at", kind: moment, sorted: true},
		"end_time":         {sql: "a.ended_at", kind: moment, sorted: true},
	},
	sort:      "created_at",
	direction: common.Sort_ASCENDING,
}

// ActionCursor is a position in the changes of one run. The zero one is before
// all of them, Run.Cursor behind those that the run had when it was read.
type ActionCursor struct {
	Revision uint64
	Last     string // of the actions with Revision, up to which one has been read
}

// Cursor is the position behind all that the run was when it was read. To show a
// run and follow it: read the run, list its actions, then go on with
// ChangedActions from here. What changed meanwhile comes twice, nothing is missed.
func (r Run) Cursor() ActionCursor { return ActionCursor{Revision: r.Revision + 1} }

// ChangedActions gives at most limit actions that were made or changed behind the
// cursor, in the order of revisions, and the cursor behind them.
func (s *Store) ChangedActions(ctx context.Context, run RunKey, after ActionCursor, limit int) ([]Action, ActionCursor, error) {
	changed := newStatement(`SELECT `+actionColumns+` FROM actions a WHERE `+ofRun, run.args()...)
	changed.and("(a.revision, a.name) > (%s, %s)", changed.arg(after.Revision), changed.arg(after.Last))
	fmt.Fprintf(changed, " ORDER BY a.revision, a.name LIMIT %d", bounded(limit))
	var actions []Action
	err := s.database.reads.each(ctx, changed.String(), changed.args, func(scan scanner) error {
		action, err := scanAction(scan)
		actions = append(actions, action)
		after = ActionCursor{action.Revision, action.Key.Name}
		return err
	})
	return actions, after, err
}

// GetActions reads the named actions of a run, as lists have them, in one statement.
// A name that is not there is not in the result. At most 1,000 names.
func (s *Store) GetActions(ctx context.Context, run RunKey, names []string) ([]Action, error) {
	names = names[:min(len(names), maxLimit)]
	if len(names) == 0 {
		return nil, nil
	}
	read := newStatement(`SELECT `+actionColumns+` FROM actions a WHERE `+ofRun, run.args()...)
	read.and("a.name IN (%s)", argList(read, names))
	var actions []Action
	err := s.database.reads.each(ctx, read.String(), read.args, func(scan scanner) error {
		action, err := scanAction(scan)
		actions = append(actions, action)
		return err
	})
	return actions, err
}

// MatchActions says which of the named actions of a run meet the filters (those
// of ListActions), in one statement. *QueryError.
func (s *Store) MatchActions(ctx context.Context, run RunKey, names []string, filters []*common.Filter) (map[string]bool, error) {
	names = names[:min(len(names), maxLimit)]
	if len(names) == 0 {
		return nil, nil
	}
	match := newStatement(`SELECT a.name FROM actions a WHERE `+ofRun, run.args()...)
	match.and("a.name IN (%s)", argList(match, names))
	if err := match.filter(actionList, filters); err != nil {
		return nil, err
	}
	matched := make(map[string]bool, len(names))
	err := s.database.reads.each(ctx, match.String(), match.args, func(scan scanner) error {
		var name string
		err := scan(&name)
		matched[name] = true
		return err
	})
	return matched, err
}

// CountChildren counts the children of each of the named actions by phase, in one
// statement. A name without children is not in the result. At most 1,000 names.
func (s *Store) CountChildren(ctx context.Context, run RunKey, parents []string) (map[string]map[common.ActionPhase]int32, error) {
	parents = parents[:min(len(parents), maxLimit)]
	if len(parents) == 0 {
		return nil, nil
	}
	count := newStatement(`SELECT a.parent, a.phase, count(*) FROM actions a WHERE `+ofRun, run.args()...)
	count.and("a.parent IN (%s) GROUP BY a.parent, a.phase", argList(count, parents))
	counts := map[string]map[common.ActionPhase]int32{}
	err := s.database.reads.each(ctx, count.String(), count.args, func(scan scanner) error {
		var parent string
		var phase common.ActionPhase
		var children int32
		if err := scan(&parent, &phase, &children); err != nil {
			return err
		}
		if counts[parent] == nil {
			counts[parent] = map[common.ActionPhase]int32{}
		}
		counts[parent][phase] = children
		return nil
	})
	return counts, err
}
