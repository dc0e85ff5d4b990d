package store

import (
	"context"
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
	// leave Attempts and Condition nil.
	Attempts  []*workflow.ActionAttempt
	Condition *workflow.ConditionAction

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
	return ActionDetails{}, errUnfinished
}

// AbortAction marks the action, and all below it that has not ended, as ABORTED
// and hands the abort to the cluster, in one transaction. An action that has
// ended stays as it is, without an error. *NotFoundError.
func (s *Store) AbortAction(ctx context.Context, key ActionKey, reason string, by *common.EnrichedIdentity) error {
	return errUnfinished
}

// ListActions gives a page of a run's actions and the token of the next. Fields
// to filter by: name, phase, parent_name (or parent), action_type, group,
// task_name, task_version, task_type, short_name, environment (or
// environment_name), created_at, updated_at, start_time, end_time, cache_status;
// to sort by: created_at (or start_time), updated_at, end_time, name. Default
// sort: created_at, ascending. *NotFoundError for an unknown run, *QueryError.
func (s *Store) ListActions(ctx context.Context, run RunKey, q Query) ([]Action, string, error) {
	return nil, "", errUnfinished
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
	return nil, ActionCursor{}, errUnfinished
}

// MatchActions says which of the named actions of a run meet the filters (those
// of ListActions), in one statement. *QueryError.
func (s *Store) MatchActions(ctx context.Context, run RunKey, names []string, filters []*common.Filter) (map[string]bool, error) {
	return nil, errUnfinished
}

// CountChildren counts the children of each of the named actions by phase, in one
// statement. A name without children is not in the result.
func (s *Store) CountChildren(ctx context.Context, run RunKey, parents []string) (map[string]map[common.ActionPhase]int32, error) {
	return nil, errUnfinished
}
