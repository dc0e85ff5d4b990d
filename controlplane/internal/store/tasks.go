package store

import (
	"context"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/task"
)

// TaskKey names one version of a task.
type TaskKey struct {
	Organization, Project, Domain, Name, Version string
}

// TaskKeyOf reads the key from its message; of nil it is empty.
func TaskKeyOf(id *task.TaskIdentifier) TaskKey {
	return TaskKey{id.GetOrg(), id.GetProject(), id.GetDomain(), id.GetName(), id.GetVersion()}
}

// Proto is the key as a message, nil when it is empty.
func (k TaskKey) Proto() *task.TaskIdentifier {
	if k == (TaskKey{}) {
		return nil
	}
	return &task.TaskIdentifier{Org: k.Organization, Project: k.Project, Domain: k.Domain, Name: k.Name, Version: k.Version}
}

// Task is one deployed version, without its spec.
type Task struct {
	Key              TaskKey
	SpecDigest       string
	TaskType         string
	ShortName        string
	Environment      string
	ShortDescription string
	Entrypoint       bool // task_template.metadata.is_entrypoint
	DeployedBy       *common.EnrichedIdentity
	DeployedAt       time.Time
	// LatestRun is the newest run of this name (ListTasks) or of this version
	// (ListVersions); nil when there is none.
	LatestRun *RunSummary
}

// RunSummary is as much of a run as lists of tasks show.
type RunSummary struct {
	Run       RunKey
	Phase     common.ActionPhase
	CreatedAt time.Time
	TaskName  string
}

// Digest names a task spec by its content: "sha256:" and the hash of its
// deterministic encoding, which it returns too. Every process computes it the
// same way, from the message.
func Digest(spec *task.TaskSpec) (digest string, encoded []byte, err error) {
	return "", nil, errUnfinished
}

// DeployTask records a version, or replaces it where it exists (deploying the
// same again changes nothing but its time), and makes it the latest of its name.
// *NotFoundError for an unknown project, *RefusedError for an archived one.
func (s *Store) DeployTask(ctx context.Context, key TaskKey, spec *task.TaskSpec, by *common.EnrichedIdentity) (Task, error) {
	return Task{}, errUnfinished
}

// GetTask reads one version and its spec. An empty version is the latest.
// *NotFoundError.
func (s *Store) GetTask(ctx context.Context, key TaskKey) (Task, *task.TaskSpec, error) {
	return Task{}, nil, errUnfinished
}

// TaskScope says whose tasks a list has. An empty project means all.
type TaskScope struct {
	Organization, Project, Domain string
}

// ListTasks gives one row for each name, its latest version. Fields to filter by:
// name, version, short_name, environment (or environment_name), task_type,
// deployed_by, is_entrypoint ("true" or "false"), created_at (or deployed_at);
// to sort by: created_at (or deployed_at), name. Default sort: created_at,
// descending. *QueryError.
func (s *Store) ListTasks(ctx context.Context, scope TaskScope, q Query) ([]Task, string, error) {
	return nil, "", errUnfinished
}

// ListVersions gives every version of one name (the key's version is ignored).
// Fields to filter by: version, deployed_by, created_at (or deployed_at); to
// sort by: created_at, version. Default sort: created_at, descending. *QueryError.
func (s *Store) ListVersions(ctx context.Context, key TaskKey, q Query) ([]Task, string, error) {
	return nil, "", errUnfinished
}

// GetTaskSpec reads a spec by its digest. *NotFoundError.
func (s *Store) GetTaskSpec(ctx context.Context, organization, digest string) (*task.TaskSpec, error) {
	return nil, errUnfinished
}

// PutTaskSpecs records the specs that ApplyStates missed. A spec that no action
// of the organisation refers to is left out, so that nobody can fill the store.
func (s *Store) PutTaskSpecs(ctx context.Context, organization string, specs []*task.TaskSpec) error {
	return errUnfinished
}
