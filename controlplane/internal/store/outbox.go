package store

import (
	"context"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
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

// Next gives at most n hand-overs that are due, the oldest first. What waits for
// another try holds back the later ones of its own run and no others. wake is
// when the next of those that wait is due, zero when none waits: look again then,
// or when ClusterTopic wakes.
func (s *Store) Next(ctx context.Context, organization, cluster string, n int) (due []Handover, wake time.Time, err error) {
	return nil, time.Time{}, errUnfinished
}

// Acknowledge removes a hand-over that was made. Doing it again does nothing.
func (s *Store) Acknowledge(ctx context.Context, organization, cluster string, id uint64) error {
	return errUnfinished
}

// Fail has a hand-over tried again, not before the given time.
func (s *Store) Fail(ctx context.Context, organization, cluster string, id uint64, retry time.Time) error {
	return errUnfinished
}

// Reject removes a hand-over that the data plane refuses for good. If it was an
// enqueue, its action has FAILED with this kind and code from then on, in the same
// transaction.
func (s *Store) Reject(ctx context.Context, organization, cluster string, id uint64, kind workflow.ErrorInfo_Kind, code string) error {
	return errUnfinished
}
