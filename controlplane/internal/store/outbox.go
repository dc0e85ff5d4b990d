package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// Handover is a call that a data plane has to be told. Exactly one of Enqueue and
// Abort is set.
type Handover struct {
	ID        uint64 // grows within its cluster, in the order of commits
	Run       RunKey
	Enqueue   *actions.EnqueueRequest
	Abort     *actions.AbortRequest
	CreatedAt time.Time
	Tries     uint32 // that failed
}

// kind of hand-over, as it is stored.
type handoverKind int64

const (
	enqueue handoverKind = 1
	abort   handoverKind = 2
)

// handOver adds one to the outbox of a cluster, in the order of commits, since the
// counter's row stays locked. It says whether the cluster is draining. *NotFoundError.
func (t *tx) handOver(ctx context.Context, cluster string, run RunKey, kind handoverKind, message proto.Message) (draining bool, err error) {
	payload, err := encode(message)
	if err != nil {
		return false, err
	}
	var id uint64
	found, err := t.one(ctx, `UPDATE clusters SET handovers = handovers + 1 WHERE organization = $1 AND name = $2 RETURNING handovers, draining`,
		[]any{run.Organization, cluster}, scanInto(&id, &draining))
	if err != nil {
		return false, err
	}
	if !found {
		return false, &NotFoundError{"cluster", cluster}
	}
	t.wake(ClusterTopic(run.Organization, cluster))
	_, err = t.exec(ctx, `INSERT INTO outbox (organization, cluster, id, kind, project, domain, run, payload, created_at, tries, next_try)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 0, 0)`,
		run.Organization, cluster, id, int64(kind), run.Project, run.Domain, run.Name, payload, t.now)
	return draining, err
}

// handOverAbort is handOver of an abort. A cluster that was removed has nobody to tell.
func (t *tx) handOverAbort(ctx context.Context, cluster string, action ActionKey, reason string, by *common.EnrichedIdentity) error {
	request := &actions.AbortRequest{ActionId: action.Proto(), AbortedBy: by}
	if reason != "" {
		request.Reason = proto.String(bound(reason, maxText))
	}
	_, err := t.handOver(ctx, cluster, action.Run, abort, request)
	var removed *NotFoundError
	if errors.As(err, &removed) {
		return nil
	}
	return err
}

// Next gives at most n hand-overs that are due, the oldest first. What waits for
// another try holds back the later ones of its own run and no others. wake is
// when the next of those that wait is due, zero when none waits: look again then,
// or when ClusterTopic wakes.
func (s *Store) Next(ctx context.Context, organization, cluster string, n int) (due []Handover, wake time.Time, err error) {
	now := time.Now().UnixMicro()
	err = s.database.reads.each(ctx, fmt.Sprintf(`SELECT o.id, o.kind, o.project, o.domain, o.run, o.payload, o.created_at, o.tries FROM outbox o
		WHERE o.organization = $1 AND o.cluster = $2 AND o.next_try <= $3 AND NOT EXISTS
			(SELECT 1 FROM outbox e WHERE e.organization = o.organization AND e.cluster = o.cluster AND e.project = o.project
				AND e.domain = o.domain AND e.run = o.run AND e.id < o.id AND e.next_try > $3)
		ORDER BY o.id LIMIT %d`, bounded(n)), []any{organization, cluster, now}, func(scan scanner) error {
		h := Handover{Run: RunKey{Organization: organization}}
		var kind handoverKind
		var payload []byte
		var created int64
		if err := scan(&h.ID, &kind, &h.Run.Project, &h.Run.Domain, &h.Run.Name, &payload, &created, &h.Tries); err != nil {
			return err
		}
		h.CreatedAt = fromMicros(created)
		var err error
		switch kind {
		case enqueue:
			h.Enqueue = &actions.EnqueueRequest{}
			err = proto.Unmarshal(payload, h.Enqueue)
		case abort:
			h.Abort = &actions.AbortRequest{}
			err = proto.Unmarshal(payload, h.Abort)
		}
		due = append(due, h)
		return err
	})
	if err != nil {
		return nil, time.Time{}, err
	}
	var waiting int64
	_, err = s.database.reads.one(ctx, `SELECT COALESCE(min(next_try), 0) FROM outbox WHERE organization = $1 AND cluster = $2 AND next_try > $3`,
		[]any{organization, cluster, now}, scanInto(&waiting))
	return due, fromMicros(waiting), err
}

// Acknowledge removes a hand-over that was made. Doing it again does nothing.
func (s *Store) Acknowledge(ctx context.Context, organization, cluster string, id uint64) error {
	return s.change(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `DELETE FROM outbox WHERE organization = $1 AND cluster = $2 AND id = $3`, organization, cluster, id)
		return err
	})
}

// Fail has a hand-over tried again, not before the given time.
func (s *Store) Fail(ctx context.Context, organization, cluster string, id uint64, retry time.Time) error {
	return s.change(ctx, func(t *tx) error {
		_, err := t.exec(ctx, `UPDATE outbox SET tries = tries + 1, next_try = $4 WHERE organization = $1 AND cluster = $2 AND id = $3`,
			organization, cluster, id, micros(retry))
		return err
	})
}

// Reject removes a hand-over that the data plane refuses for good. If it was an
// enqueue, its action has FAILED with this kind and code from then on, in the same
// transaction.
func (s *Store) Reject(ctx context.Context, organization, cluster string, id uint64, kind workflow.ErrorInfo_Kind, code string) error {
	return s.change(ctx, func(t *tx) error {
		run := RunKey{Organization: organization}
		var was handoverKind
		found, err := t.one(ctx, `SELECT kind, project, domain, run FROM outbox WHERE organization = $1 AND cluster = $2 AND id = $3`,
			[]any{organization, cluster, id}, scanInto(&was, &run.Project, &run.Domain, &run.Name))
		if err != nil {
			return err
		}
		if !found {
			return errNothing
		}
		failed := false
		if was == enqueue {
			if failed, err = t.failRun(ctx, run, kind, errorCode(code)); err != nil {
				return err
			}
		}
		if _, err := t.exec(ctx, `DELETE FROM outbox WHERE organization = $1 AND cluster = $2 AND id = $3`, organization, cluster, id); err != nil {
			return err
		}
		if !failed {
			return nil
		}
		_, err = t.changeRuns(ctx, []RunKey{run})
		return err
	})
}

// failRun ends a run that never began, and says whether it had not ended before.
func (t *tx) failRun(ctx context.Context, key RunKey, kind workflow.ErrorInfo_Kind, code string) (bool, error) {
	run, err := t.lockRun(ctx, key)
	var pruned *NotFoundError
	if errors.As(err, &pruned) {
		return false, nil
	}
	if err != nil || run.endedAt > 0 {
		return false, err
	}
	phase := common.ActionPhase_ACTION_PHASE_FAILED
	if _, err := t.exec(ctx, `UPDATE actions SET phase = $5, error_kind = $6, error_code = $7, updated_at = $8, ended_at = $8, revision = $9
		WHERE organization = $1 AND project = $2 AND domain = $3 AND run = $4 AND name = '`+RootAction+`'`,
		append(key.args(), phase, kind, code, t.now, run.revision)...); err != nil {
		return false, err
	}
	_, err = t.exec(ctx, `UPDATE runs SET phase = $5, error_kind = $6, updated_at = $7, ended_at = $7
		WHERE organization = $1 AND project = $2 AND domain = $3 AND name = $4`, append(key.args(), phase, kind, t.now)...)
	return true, err
}
