package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
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

// String is how a person writes the task.
func (k TaskKey) String() string {
	name := k.Project + "/" + k.Domain + "/" + k.Name
	if k.Version != "" {
		name += "@" + k.Version
	}
	return name
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
	encoded, err = encode(spec)
	if err != nil {
		return "", nil, err
	}
	sum := sha256.Sum256(encoded)
	return "sha256:" + hex.EncodeToString(sum[:]), encoded, nil
}

// DeployTask records a version, or replaces it where it exists (deploying the
// same again changes nothing but its time), and makes it the latest of its name.
// *NotFoundError for an unknown project, *RefusedError for an archived one.
func (s *Store) DeployTask(ctx context.Context, key TaskKey, spec *task.TaskSpec, by *common.EnrichedIdentity) (Task, error) {
	digest, encoded, err := Digest(spec)
	if err != nil {
		return Task{}, err
	}
	deployer, err := encode(by)
	if err != nil {
		return Task{}, err
	}
	made := Task{
		Key: key, SpecDigest: digest, TaskType: spec.GetTaskTemplate().GetType(), ShortName: spec.GetShortName(),
		Environment: spec.GetEnvironment().GetName(), ShortDescription: spec.GetDocumentation().GetShortDescription(),
		Entrypoint: spec.GetTaskTemplate().GetMetadata().GetIsEntrypoint(), DeployedBy: by,
	}
	err = s.change(ctx, func(t *tx) error {
		if err := t.requireProject(ctx, key.Organization, key.Project); err != nil {
			return err
		}
		t.now = time.Now().UnixMicro() // behind the lock, so that the latest is the last
		made.DeployedAt = fromMicros(t.now)
		var before string
		if _, err := t.one(ctx, `SELECT spec_digest FROM tasks
			WHERE organization = $1 AND project = $2 AND domain = $3 AND name = $4 AND version = $5`,
			[]any{key.Organization, key.Project, key.Domain, key.Name, key.Version}, scanInto(&before)); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `UPDATE tasks SET latest = FALSE
			WHERE organization = $1 AND project = $2 AND domain = $3 AND name = $4 AND latest`,
			key.Organization, key.Project, key.Domain, key.Name); err != nil {
			return err
		}
		if _, err := t.exec(ctx, `INSERT INTO tasks (organization, project, domain, name, version, spec_digest, task_type,
				short_name, environment, short_description, entrypoint, deployed_by, deployer, deployed_at, latest)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, TRUE)
			ON CONFLICT (organization, project, domain, name, version) DO UPDATE SET spec_digest = excluded.spec_digest,
				task_type = excluded.task_type, short_name = excluded.short_name, environment = excluded.environment,
				short_description = excluded.short_description, entrypoint = excluded.entrypoint,
				deployed_by = excluded.deployed_by, deployer = excluded.deployer, deployed_at = excluded.deployed_at, latest = TRUE`,
			key.Organization, key.Project, key.Domain, key.Name, key.Version, digest, made.TaskType,
			made.ShortName, made.Environment, made.ShortDescription, made.Entrypoint, Subject(by), deployer, t.now); err != nil {
			return err
		}
		if err := t.useSpec(ctx, key.Organization, digest, encoded); err != nil {
			return err
		}
		if before != "" && before != digest {
			_, err := t.releaseSpecs(ctx, key.Organization, []string{before})
			return err
		}
		return nil
	})
	return made, err
}

// GetTask reads one version and its spec. An empty version is the latest.
// *NotFoundError.
func (s *Store) GetTask(ctx context.Context, key TaskKey) (Task, *task.TaskSpec, error) {
	version, args := "t.latest", []any{key.Organization, key.Project, key.Domain, key.Name}
	if key.Version != "" {
		version, args = "t.version = $5", append(args, key.Version)
	}
	var found Task
	var spec *task.TaskSpec
	is, err := s.database.reads.one(ctx, `SELECT `+taskColumns+`, s.spec FROM tasks t
		JOIN task_specs s ON s.organization = t.organization AND s.digest = t.spec_digest
		WHERE t.organization = $1 AND t.project = $2 AND t.domain = $3 AND t.name = $4 AND `+version,
		args, func(scan scanner) (err error) {
			var encoded []byte
			found, err = scanTask(func(dest ...any) error { return scan(append(dest, &encoded)...) })
			if err != nil {
				return err
			}
			spec, err = decode[task.TaskSpec](encoded)
			return err
		})
	if err == nil && !is {
		err = &NotFoundError{"task", key.String()}
	}
	return found, spec, err
}

const taskColumns = `t.organization, t.project, t.domain, t.name, t.version, t.spec_digest, t.task_type, t.short_name,
	t.environment, t.short_description, t.entrypoint, t.deployer, t.deployed_at`

func scanTask(scan scanner) (Task, error) {
	var t Task
	var deployer []byte
	var deployed int64
	err := scan(&t.Key.Organization, &t.Key.Project, &t.Key.Domain, &t.Key.Name, &t.Key.Version, &t.SpecDigest, &t.TaskType, &t.ShortName,
		&t.Environment, &t.ShortDescription, &t.Entrypoint, &deployer, &deployed)
	if err != nil {
		return Task{}, err
	}
	t.DeployedAt = fromMicros(deployed)
	t.DeployedBy, err = decode[common.EnrichedIdentity](deployer)
	return t, err
}

// The latest run of a listed task is looked up in an index for each row, within
// the one statement.
const latestRunColumns = `COALESCE(r.name, ''), COALESCE(r.phase, 0), COALESCE(r.created_at, 0)`

func latestRunJoin(more string) string {
	return `LEFT JOIN runs r ON r.organization = t.organization AND r.project = t.project AND r.domain = t.domain AND r.name =
		(SELECT l.name FROM runs l WHERE l.organization = t.organization AND l.project = t.project AND l.domain = t.domain
			AND l.task_name = t.name` + more + ` ORDER BY l.created_at DESC, l.name DESC LIMIT 1)`
}

func scanTaskWithRun(scan scanner) (Task, error) {
	var run string
	var phase common.ActionPhase
	var created int64
	t, err := scanTask(func(dest ...any) error { return scan(append(dest, &run, &phase, &created)...) })
	if err == nil && run != "" {
		t.LatestRun = &RunSummary{
			Run:   RunKey{t.Key.Organization, t.Key.Project, t.Key.Domain, run},
			Phase: phase, CreatedAt: fromMicros(created), TaskName: t.Key.Name,
		}
	}
	return t, err
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
	where, args, tie := `t.organization = $1`, []any{scope.Organization}, []string{"t.project", "t.domain", "t.name"}
	if scope.Project != "" {
		where, args = where+` AND t.project = $2`, append(args, scope.Project)
		if scope.Domain != "" {
			where, args, tie = where+` AND t.domain = $3`, append(args, scope.Domain), []string{"t.name"}
		}
	}
	return pages[Task]{
		list:    taskList,
		scope:   scope,
		columns: taskColumns + ", " + latestRunColumns,
		from:    `FROM tasks t ` + latestRunJoin("") + ` WHERE ` + where + ` AND t.latest`,
		args:    args,
		tie:     tie,
		scan:    scanTaskWithRun,
	}.read(ctx, s.database.reads, q)
}

// ListVersions gives every version of one name (the key's version is ignored).
// Fields to filter by: version, deployed_by, created_at (or deployed_at); to
// sort by: created_at, version. Default sort: created_at, descending. *QueryError.
func (s *Store) ListVersions(ctx context.Context, key TaskKey, q Query) ([]Task, string, error) {
	key.Version = ""
	return pages[Task]{
		list:    versionList,
		scope:   key,
		columns: taskColumns + ", " + latestRunColumns,
		from: `FROM tasks t ` + latestRunJoin(" AND l.task_version = t.version") +
			` WHERE t.organization = $1 AND t.project = $2 AND t.domain = $3 AND t.name = $4`,
		args: []any{key.Organization, key.Project, key.Domain, key.Name},
		tie:  []string{"t.version"},
		scan: scanTaskWithRun,
	}.read(ctx, s.database.reads, q)
}

var taskList = list{
	name: "tasks",
	columns: map[string]column{
		"name":             {sql: "t.name", sorted: true},
		"version":          {sql: "t.version"},
		"short_name":       {sql: "t.short_name"},
		"environment":      {sql: "t.environment"},
		"environment_name": {sql: "t.environment"},
		"task_type":        {sql: "t.task_type"},
		"deployed_by":      {sql: "t.deployed_by"},
		"is_entrypoint":    {sql: "t.entrypoint", kind: flag},
		"created_at":       {sql: "t.deployed_at", kind: moment, sorted: true},
		"deployed_at":      {sql: "t.deployed_at", kind: moment, sorted: true},
	},
	sort:      "created_at",
	direction: common.Sort_DESCENDING,
}

var versionList = list{
	name: "versions",
	columns: map[string]column{
		"version":     {sql: "t.version", sorted: true},
		"deployed_by": {sql: "t.deployed_by"},
		"created_at":  {sql: "t.deployed_at", kind: moment, sorted: true},
		"deployed_at": {sql: "t.deployed_at", kind: moment, sorted: true},
	},
	sort:      "created_at",
	direction: common.Sort_DESCENDING,
}

// GetTaskSpec reads a spec by its digest. *NotFoundError.
func (s *Store) GetTaskSpec(ctx context.Context, organization, digest string) (spec *task.TaskSpec, err error) {
	found, err := s.database.reads.one(ctx, `SELECT spec FROM task_specs WHERE organization = $1 AND digest = $2`,
		[]any{organization, digest}, func(scan scanner) error {
			var encoded []byte
			if err := scan(&encoded); err != nil {
				return err
			}
			spec, err = decode[task.TaskSpec](encoded)
			return err
		})
	if err == nil && !found {
		err = &NotFoundError{"task spec", digest}
	}
	return spec, err
}

// PutTaskSpecs records the specs that ApplyStates missed. One that it did not miss
// is left out, so that nobody can fill the store.
func (s *Store) PutTaskSpecs(ctx context.Context, organization string, specs []*task.TaskSpec) error {
	encoded := make(map[string][]byte, len(specs))
	for _, spec := range specs {
		digest, bytes, err := Digest(spec)
		if err != nil {
			return err
		}
		encoded[digest] = bytes
	}
	return s.change(ctx, func(t *tx) error {
		for _, digest := range slices.Sorted(maps.Keys(encoded)) {
			if _, err := t.exec(ctx, `INSERT INTO task_specs (organization, digest, spec, uses)
				SELECT CAST($1 AS TEXT), CAST($2 AS TEXT), $3, 1
				WHERE EXISTS (SELECT 1 FROM wanted_specs WHERE organization = $1 AND digest = $2)
				ON CONFLICT (organization, digest) DO NOTHING`, organization, digest, encoded[digest]); err != nil {
				return err
			}
			wanted, err := t.exec(ctx, `DELETE FROM wanted_specs WHERE organization = $1 AND digest = $2`, organization, digest)
			if err != nil {
				return err
			}
			if wanted > 0 {
				t.wake(SpecTopic(organization, digest))
			}
		}
		return nil
	})
}

// useSpec records a reference to a spec, and the spec where it is not there yet.
// The row stays locked until the transaction ends: see releaseSpecs.
func (t *tx) useSpec(ctx context.Context, organization, digest string, encoded []byte) error {
	// The bytes may be many, so they are sent only where they are missing.
	used, err := t.exec(ctx, `UPDATE task_specs SET uses = uses + 1 WHERE organization = $1 AND digest = $2`, organization, digest)
	if err != nil || used > 0 {
		return err
	}
	_, err = t.exec(ctx, `INSERT INTO task_specs (organization, digest, spec, uses) VALUES ($1, $2, $3, 1)
		ON CONFLICT (organization, digest) DO UPDATE SET uses = task_specs.uses + 1`, organization, digest, encoded)
	return err
}

// releaseSpecs deletes those of the specs that nothing refers to any more, and says
// how many these are. Whoever refers to one counts up its uses before committing. So
// a reference that was not to be seen when they were read has either been counted
// by then, and its spec is left alone, or finds the spec gone and makes it anew.
func (t *tx) releaseSpecs(ctx context.Context, organization string, digests []string) (int, error) {
	if len(digests) == 0 {
		return 0, nil
	}
	unwanted := newStatement(`DELETE FROM wanted_specs WHERE organization = $1 AND NOT EXISTS
		(SELECT 1 FROM actions a WHERE a.organization = wanted_specs.organization AND a.spec_digest = wanted_specs.digest)`, organization)
	unwanted.and("digest IN (%s)", argList(unwanted, digests))
	if _, err := t.exec(ctx, unwanted.String(), unwanted.args...); err != nil {
		return 0, err
	}
	unused := newStatement(`SELECT s.digest, s.uses FROM task_specs s WHERE s.organization = $1
		AND NOT EXISTS (SELECT 1 FROM actions a WHERE a.organization = s.organization AND a.spec_digest = s.digest)
		AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.organization = s.organization AND t.spec_digest = s.digest)`, organization)
	unused.and("s.digest IN (%s) ORDER BY s.digest", argList(unused, digests))
	var values []string
	deletion := newStatement("", organization)
	err := t.each(ctx, unused.String(), unused.args, func(scan scanner) error {
		var digest string
		var uses int64
		err := scan(&digest, &uses)
		values = append(values, fmt.Sprintf("(digest = %s AND uses = %s)", deletion.arg(digest), deletion.arg(uses)))
		return err
	})
	if err != nil || len(values) == 0 {
		return 0, err
	}
	deleted, err := t.exec(ctx, `DELETE FROM task_specs WHERE organization = $1 AND (`+strings.Join(values, " OR ")+`)`, deletion.args...)
	return int(deleted), err
}

// Subject is the name by which filters know an identity: empty for none.
func Subject(identity *common.EnrichedIdentity) string {
	if user := identity.GetUser(); user != nil {
		return user.GetId().GetSubject()
	}
	return identity.GetApplication().GetId().GetSubject()
}
