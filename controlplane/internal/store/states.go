package store

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// Applied says what became of reported states.
type Applied struct {
	Position uint64 // recorded now; never behind what was recorded before
	// MissingTaskSpecs are digests that actions of the cluster name and the store has
	// not: ask for them and give them to PutTaskSpecs. They come again until they are
	// given, at most 100 at once.
	MissingTaskSpecs []string
	// Unknown counts states that could not be recorded: of runs that are not this
	// cluster's or no more, and of no action at all.
	Unknown int
}

// ApplyStates records states in the order of their positions, and the position
// behind them, in one transaction:
//
//   - what is at or before the recorded position, or not newer than the version
//     recorded of its action, changes nothing, so a batch may come twice;
//   - an action that is not there yet is made, its run must be the cluster's;
//   - an action that has ended stays ended as it did: the late success of an
//     aborted one is dropped, later details of the same end are taken;
//   - texts are cleared: messages of errors and cluster events never rest here,
//     even if a data plane sends them.
//
// With another epoch than is recorded the recorded position counts as 0, and is
// replaced. *NotFoundError for an unknown cluster.
func (s *Store) ApplyStates(ctx context.Context, organization, cluster, epoch string, states []*tunnelv1.ActionState, position uint64) (Applied, error) {
	if position > math.MaxInt64 {
		return Applied{}, fmt.Errorf("position %d of cluster %q is beyond any that etcd gives", position, cluster)
	}
	var applied Applied
	err := s.change(ctx, func(t *tx) error {
		applied = Applied{}
		known, recorded, err := t.lockPosition(ctx, organization, cluster)
		if err != nil {
			return err
		}
		if known != epoch {
			recorded = 0
			if err := t.forgetVersions(ctx, organization, cluster); err != nil {
				return err
			}
		}
		applied.Position = max(recorded, position)

		newest := map[ActionKey]*tunnelv1.ActionState{}
		for _, state := range states {
			key := ActionKeyOf(state.GetId())
			if state.GetPosition() <= recorded {
				continue
			}
			if key.Run.Organization != organization || !nameable(key.Name) || state.GetPhase() == common.ActionPhase_ACTION_PHASE_UNSPECIFIED {
				applied.Unknown++
				continue
			}
			if known := newest[key]; known == nil || known.GetVersion() <= state.GetVersion() {
				newest[key] = state
			}
		}
		if len(newest) > 0 {
			unknown, err := t.apply(ctx, organization, cluster, newest)
			if err != nil {
				return err
			}
			applied.Unknown += unknown
		}
		if applied.MissingTaskSpecs, err = t.wantedSpecs(ctx, organization, cluster); err != nil {
			return err
		}
		if position <= recorded && known == epoch {
			return nil
		}
		_, err = t.exec(ctx, `UPDATE cluster_positions SET epoch = $3, position = $4 WHERE organization = $1 AND cluster = $2`,
			organization, cluster, epoch, applied.Position)
		return err
	})
	if err == nil && applied.Unknown > 0 {
		s.database.log.WarnContext(ctx, "states without a run", "organization", organization, "cluster", cluster, "states", applied.Unknown)
	}
	return applied, err
}

func (t *tx) lockPosition(ctx context.Context, organization, cluster string) (epoch string, position uint64, err error) {
	found, err := t.one(ctx, `UPDATE cluster_positions SET position = position WHERE organization = $1 AND cluster = $2 RETURNING epoch, position`,
		[]any{organization, cluster}, scanInto(&epoch, &position))
	if err == nil && !found {
		err = &NotFoundError{"cluster", cluster}
	}
	return epoch, position, err
}

// forgetVersions has the next state of whatever goes on count as a newer one. In a
// cluster that was restored, objects have versions again that they had before.
func (t *tx) forgetVersions(ctx context.Context, organization, cluster string) error {
	_, err := t.exec(ctx, `UPDATE actions SET version = 0 WHERE organization = $1 AND ended_at = 0 AND (project, domain, run) IN
		(SELECT project, domain, name FROM runs WHERE organization = $1 AND cluster = $2 AND ended_at = 0)`, organization, cluster)
	return err
}

// apply records the newest state of each action, by a number of statements that does
// not depend on theirs until there are hundreds. It says how many have no run here.
func (t *tx) apply(ctx context.Context, organization, cluster string, states map[ActionKey]*tunnelv1.ActionState) (unknown int, err error) {
	keys := make([]ActionKey, 0, len(states))
	for key := range states {
		keys = append(keys, key)
	}
	slices.SortFunc(keys, compareActions)
	revisions, err := t.lockRuns(ctx, organization, cluster, keys)
	if err != nil {
		return 0, err
	}
	known, err := t.readActions(ctx, organization, keys)
	if err != nil {
		return 0, err
	}

	var changed, roots []Action
	digests := map[string]bool{} // of actions that are new here
	for _, key := range keys {
		revision, ours := revisions[key.Run]
		if !ours {
			unknown++
			continue
		}
		action, exists := known[key]
		if !exists {
			action = t.newAction(key, states[key])
		}
		if !t.become(&action, states[key], exists) {
			continue
		}
		action.Revision = revision
		changed = append(changed, action)
		if key.Name == RootAction {
			roots = append(roots, action)
		}
		if !exists && action.SpecDigest != "" {
			digests[action.SpecDigest] = true
		}
		t.wake(RunTopic(key.Run))
	}
	if err := t.putActions(ctx, changed); err != nil {
		return 0, err
	}
	if err := t.updateRuns(ctx, organization, roots); err != nil {
		return 0, err
	}
	if err := t.wantSpecs(ctx, organization, cluster, digests); err != nil {
		return 0, err
	}
	runs := make([]RunKey, len(roots))
	for i, root := range roots {
		runs[i] = root.Key.Run
	}
	for some := range slices.Chunk(runs, t.rows(3)) {
		if _, err := t.changeRuns(ctx, some); err != nil {
			return 0, err
		}
	}
	return unknown, nil
}

func compareActions(a, b ActionKey) int {
	return strings.Compare(a.Run.Project+"\x00"+a.Run.Domain+"\x00"+a.Run.Name+"\x00"+a.Name,
		b.Run.Project+"\x00"+b.Run.Domain+"\x00"+b.Run.Name+"\x00"+b.Name)
}

// lockRuns is lockRun for the runs of many actions, those of the cluster alone.
func (t *tx) lockRuns(ctx context.Context, organization, cluster string, keys []ActionKey) (map[RunKey]uint64, error) {
	runs := make([]RunKey, len(keys))
	for i, key := range keys {
		runs[i] = key.Run
	}
	revisions := make(map[RunKey]uint64)
	for some := range slices.Chunk(slices.Compact(runs), t.rows(3)) {
		lock := newStatement("", organization, cluster)
		rows := make([]string, len(some))
		for i, run := range some {
			rows[i] = "(" + argList(lock, []string{run.Project, run.Domain, run.Name}) + ")"
		}
		err := t.each(ctx, `WITH reported (in_project, in_domain, in_run) AS (VALUES `+strings.Join(rows, ", ")+`)
			UPDATE runs SET revision = revision + 1 FROM reported
			WHERE organization = $1 AND cluster = $2 AND project = in_project AND domain = in_domain AND name = in_run
			RETURNING project, domain, name, revision`, lock.args, func(scan scanner) error {
			run := RunKey{Organization: organization}
			var revision uint64
			err := scan(&run.Project, &run.Domain, &run.Name, &revision)
			revisions[run] = revision
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return revisions, nil
}

func (t *tx) readActions(ctx context.Context, organization string, keys []ActionKey) (map[ActionKey]Action, error) {
	known := make(map[ActionKey]Action, len(keys))
	for some := range slices.Chunk(keys, t.rows(4)) {
		read := newStatement("", organization)
		rows := make([]string, len(some))
		for i, key := range some {
			rows[i] = "(" + argList(read, []string{key.Run.Project, key.Run.Domain, key.Run.Name, key.Name}) + ")"
		}
		err := t.each(ctx, `WITH reported (in_project, in_domain, in_run, in_name) AS (VALUES `+strings.Join(rows, ", ")+`)
			SELECT `+actionColumns+` FROM reported CROSS JOIN actions a
			WHERE a.organization = $1 AND a.project = in_project AND a.domain = in_domain AND a.run = in_run AND a.name = in_name`,
			read.args, func(scan scanner) error {
				action, err := scanAction(scan)
				known[action.Key] = action
				return err
			})
		if err != nil {
			return nil, err
		}
	}
	return known, nil
}

// newAction is what an action is, from the first state of it that arrives.
func (t *tx) newAction(key ActionKey, state *tunnelv1.ActionState) Action {
	a := Action{
		Key:         key,
		Parent:      bound(state.GetParent(), maxName),
		Group:       bound(state.GetGroup(), maxText),
		Type:        state.GetType(),
		Title:       bound(state.GetName(), maxText),
		Task:        TaskKeyOf(state.GetTaskId()),
		TaskType:    bound(state.GetTaskType(), maxName),
		ShortName:   bound(state.GetShortName(), maxName),
		Environment: bound(state.GetEnvironment(), maxName),
		Condition:   conditionToKeep(state.GetCondition()),
		CreatedAt:   timeOr(state.GetCreatedAt(), t.now),
	}
	for _, part := range []*string{&a.Task.Organization, &a.Task.Project, &a.Task.Domain, &a.Task.Name, &a.Task.Version} {
		*part = bound(*part, maxName)
	}
	if digestForm.MatchString(state.GetTaskSpecDigest()) {
		a.SpecDigest = state.GetTaskSpecDigest()
	}
	return a
}

// become is the next state of an action, and says whether it is one. The end of an
// action is never taken back and never another: who has seen it has acted on it.
func (t *tx) become(a *Action, state *tunnelv1.ActionState, exists bool) bool {
	phase := state.GetPhase()
	if exists && state.GetVersion() <= a.Version {
		return false
	}
	wasEnded := a.Ended()
	if wasEnded && Ended(phase) && phase != a.Phase {
		return false
	}
	a.Version = min(state.GetVersion(), math.MaxInt64)
	a.UpdatedAt = fromMicros(t.now)
	a.CacheStatus = state.GetCacheStatus()
	a.Attempts = attemptsToKeep(state.GetAttempts())
	a.AttemptCount = countAttempts(a)
	if wasEnded {
		return true
	}
	a.Phase = phase
	if uri := bound(state.GetInputUri(), maxURI); uri != "" {
		a.InputURI = uri
	}
	a.OutputURI = bound(state.GetOutputUri(), maxURI)
	a.ErrorKind = state.GetErrorKind()
	a.ErrorCode = errorCode(state.GetErrorCode())
	a.AbortReason = bound(state.GetAbortReason(), maxText)
	if from := state.GetRecoveredFrom(); from != nil {
		a.RecoveredFrom = ActionKeyOf(from).Proto()
	}
	if a.Ended() {
		a.EndedAt = timeOr(state.GetEndedAt(), t.now)
	}
	return true
}

func countAttempts(a *Action) uint32 {
	count := uint32(0)
	for _, attempt := range a.Attempts {
		count = max(count, attempt.GetAttempt())
	}
	if a.Type == workflow.ActionType_ACTION_TYPE_TASK {
		count = max(count, 1)
	}
	return count
}

// attemptsToKeep names every field that is kept, so that what a newer data plane may
// send is not kept until somebody has decided that it may be. Messages of errors and
// cluster events are texts of the customer's, and stay in the data plane.
func attemptsToKeep(attempts []*workflow.ActionAttempt) []*workflow.ActionAttempt {
	kept := make([]*workflow.ActionAttempt, 0, len(attempts))
	for _, attempt := range attempts {
		keep := &workflow.ActionAttempt{
			Phase:            attempt.GetPhase(),
			StartTime:        attempt.GetStartTime(),
			EndTime:          attempt.EndTime,
			Attempt:          attempt.GetAttempt(),
			LogInfo:          attempt.GetLogInfo(),
			Outputs:          attempt.GetOutputs(), // where they are, not what
			LogsAvailable:    attempt.GetLogsAvailable(),
			CacheStatus:      attempt.GetCacheStatus(),
			PhaseTransitions: attempt.GetPhaseTransitions(),
			Cluster:          attempt.GetCluster(),
			LogContext:       attempt.GetLogContext(),
			CacheMetadata:    attempt.GetCacheMetadata(),
		}
		if attempt.GetErrorInfo() != nil {
			keep.ErrorInfo = &workflow.ErrorInfo{Kind: attempt.GetErrorInfo().GetKind()}
		}
		keep = proto.CloneOf(keep)
		dropUnknown(keep.ProtoReflect())
		kept = append(kept, keep)
	}
	return kept
}

// conditionToKeep leaves out the webhook, whose address may hold a secret: the data
// plane calls it.
func conditionToKeep(condition *workflow.ConditionAction) *workflow.ConditionAction {
	if condition == nil {
		return nil
	}
	keep := proto.CloneOf(condition)
	keep.Webhook = nil
	dropUnknown(keep.ProtoReflect())
	return keep
}

func dropUnknown(m protoreflect.Message) {
	m.SetUnknown(nil)
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		switch {
		case field.IsMap():
			if field.MapValue().Message() != nil {
				value.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
					dropUnknown(v.Message())
					return true
				})
			}
		case field.Message() == nil:
		case field.IsList():
			for i := range value.List().Len() {
				dropUnknown(value.List().Get(i).Message())
			}
		default:
			dropUnknown(value.Message())
		}
		return true
	})
}

// Bounds of what a data plane may have kept, in bytes. What is longer is cut.
const (
	maxName = 255
	maxText = 1024
	maxURI  = 2048
)

var (
	digestForm    = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	errorCodeForm = regexp.MustCompile(`^[A-Za-z0-9_|.:-]{0,64}$`)
)

// errorCode keeps a word. Anything else may be a message under another name.
func errorCode(code string) string {
	if !errorCodeForm.MatchString(code) {
		return ""
	}
	return code
}

// nameable says whether an action can have the name.
func nameable(name string) bool { return name != "" && len(name) <= 63 }

func bound(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	for limit > 0 && !utf8.RuneStart(text[limit]) {
		limit--
	}
	return text[:limit]
}

func timeOr(given *timestamppb.Timestamp, now int64) time.Time {
	if given == nil || !given.IsValid() || given.AsTime().UnixMicro() <= 0 {
		return fromMicros(now)
	}
	return given.AsTime()
}

// updateRuns gives runs what became of their roots.
func (t *tx) updateRuns(ctx context.Context, organization string, roots []Action) error {
	for some := range slices.Chunk(roots, t.rows(7)) {
		update := newStatement("", organization)
		rows := make([]string, len(some))
		for i, root := range some {
			k := root.Key.Run
			rows[i] = "(" + argList(update, []string{k.Project, k.Domain, k.Name})
			for _, number := range []int64{int64(root.Phase), int64(root.ErrorKind), micros(root.UpdatedAt), micros(root.EndedAt)} {
				rows[i] += ", CAST(" + update.arg(number) + " AS BIGINT)"
			}
			rows[i] += ")"
		}
		if _, err := t.exec(ctx, `WITH root (in_project, in_domain, in_run, in_phase, in_error_kind, in_updated_at, in_ended_at) AS
			(VALUES `+strings.Join(rows, ", ")+`)
			UPDATE runs SET phase = in_phase, error_kind = in_error_kind, updated_at = in_updated_at, ended_at = in_ended_at FROM root
			WHERE organization = $1 AND project = in_project AND domain = in_domain AND name = in_run`, update.args...); err != nil {
			return err
		}
	}
	return nil
}

// wantSpecs records the references to specs by new actions, and which of the specs
// have still to be sent.
func (t *tx) wantSpecs(ctx context.Context, organization, cluster string, digests map[string]bool) error {
	all := make([]string, 0, len(digests))
	for digest := range digests {
		all = append(all, digest)
	}
	slices.Sort(all)
	for some := range slices.Chunk(all, t.rows(1)) {
		use := newStatement("", organization)
		err := t.each(ctx, `UPDATE task_specs SET uses = uses + 1 WHERE organization = $1 AND digest IN (`+argList(use, some)+`) RETURNING digest`,
			use.args, func(scan scanner) error {
				var digest string
				err := scan(&digest)
				delete(digests, digest)
				return err
			})
		if err != nil {
			return err
		}
	}
	for some := range slices.Chunk(all, t.rows(1)) {
		want := newStatement("INSERT INTO wanted_specs (organization, cluster, digest) VALUES ", organization, cluster)
		var rows []string
		for _, digest := range some {
			if digests[digest] {
				rows = append(rows, "($1, $2, "+want.arg(digest)+")")
			}
		}
		if len(rows) == 0 {
			continue
		}
		want.WriteString(strings.Join(rows, ", ") + " ON CONFLICT (organization, cluster, digest) DO NOTHING")
		if _, err := t.exec(ctx, want.String(), want.args...); err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) wantedSpecs(ctx context.Context, organization, cluster string) (digests []string, err error) {
	err = t.each(ctx, `SELECT digest FROM wanted_specs WHERE organization = $1 AND cluster = $2 ORDER BY digest LIMIT 100`,
		[]any{organization, cluster}, func(scan scanner) error {
			var digest string
			err := scan(&digest)
			digests = append(digests, digest)
			return err
		})
	return digests, err
}

// GetPosition is how far the cluster's states have been recorded, and in which
// epoch. *NotFoundError.
func (s *Store) GetPosition(ctx context.Context, organization, cluster string) (epoch string, position uint64, err error) {
	found, err := s.database.reads.one(ctx, `SELECT epoch, position FROM cluster_positions WHERE organization = $1 AND cluster = $2`,
		[]any{organization, cluster}, scanInto(&epoch, &position))
	if err == nil && !found {
		err = &NotFoundError{"cluster", cluster}
	}
	return epoch, position, err
}
