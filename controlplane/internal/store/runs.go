package store

import (
	"context"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
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
	// Handover is what the data plane gets; its action is the root.
	Handover *actions.EnqueueRequest
}

// CreateRun records the run, its root action (QUEUED) and the hand-over to its
// cluster in one transaction: once it returns, the run will be started. Errors:
// *ExistsError when the name is taken; *NotFoundError for an unknown project or
// cluster; *RefusedError for an archived project or a draining cluster.
func (s *Store) CreateRun(ctx context.Context, n NewRun) (Run, error) { return Run{}, errUnfinished }

// GetRun reads a run and its spec. *NotFoundError.
func (s *Store) GetRun(ctx context.Context, key RunKey) (Run, *task.RunSpec, error) {
	return Run{}, nil, errUnfinished
}

// AbortRun marks the run, and every action of it that has not ended, as ABORTED
// and hands the abort to the cluster, in one transaction. A run that has ended
// stays as it is, without an error. *NotFoundError.
func (s *Store) AbortRun(ctx context.Context, key RunKey, reason string, by *common.EnrichedIdentity) (Run, error) {
	return Run{}, errUnfinished
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
	return nil, "", errUnfinished
}

// RunCursor is a position in the changes of an organisation's runs. The zero one
// is before all of them.
type RunCursor struct {
	Change uint64
	Last   RunKey // of those with Change, up to which one has been read
}

// ChangedRuns gives at most limit runs that were made or changed behind the
// cursor, in the order of commits, and the cursor behind them.
func (s *Store) ChangedRuns(ctx context.Context, scope RunScope, after RunCursor, limit int) ([]Run, RunCursor, error) {
	return nil, RunCursor{}, errUnfinished
}

// LatestRunCursor is the position now: read it, then list, then go on with
// ChangedRuns behind it, and no change is missed.
func (s *Store) LatestRunCursor(ctx context.Context, organization string) (RunCursor, error) {
	return RunCursor{}, errUnfinished
}
