package runs

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
)

// again is how often a watch looks whether the database is back.
const again = time.Second

// follow calls read at once, and again whenever the topic may have changed, until
// it says that it is done. Wakes that come while it reads are one wake: a slow
// client gets the last state and not every one before it. A watch that has begun
// outlives a database that is away.
func (s *Service) follow(ctx context.Context, topic store.Topic, read func() (done bool, err error)) error {
	woken, stop := s.store.Watch(topic)
	defer stop()
	for began := false; ; began = true {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case _, open := <-woken:
			if !open {
				return refusal.New(connect.CodeUnavailable, "the server is shutting down; watch again")
			}
		}
		done, err := read()
		for began && err != nil && store.Unreachable(err) {
			if err := pause(ctx, again); err != nil {
				return err
			}
			done, err = read()
		}
		if done || err != nil {
			return err
		}
	}
}

// WatchActionDetails sends an action as it is, then each of its changes, and ends
// with the last.
func (s *Service) WatchActionDetails(ctx context.Context, r *workflow.WatchActionDetailsRequest, stream *connect.ServerStream[workflow.WatchActionDetailsResponse]) error {
	key, err := s.actionKey(ctx, r.GetActionId())
	if err != nil {
		return err
	}
	var seen seen
	return s.follow(ctx, store.RunTopic(key.Run), func() (bool, error) {
		found, err := s.action(ctx, key)
		if err != nil {
			return true, err
		}
		if seen.before(found.Action.Revision) {
			return false, nil
		}
		return found.Action.Ended(), stream.Send(&workflow.WatchActionDetailsResponse{Details: s.withTexts(ctx, found)})
	})
}

// WatchRunDetails does the same for a run and its root.
func (s *Service) WatchRunDetails(ctx context.Context, r *workflow.WatchRunDetailsRequest, stream *connect.ServerStream[workflow.WatchRunDetailsResponse]) error {
	key, err := s.runKey(ctx, r.GetRunId())
	if err != nil {
		return err
	}
	var seen seen
	return s.follow(ctx, store.RunTopic(key), func() (bool, error) {
		found, err := s.runDetails(ctx, key, s.withTexts)
		if err != nil {
			return true, err
		}
		if seen.before(found.revision) {
			return false, nil
		}
		return found.ended, stream.Send(&workflow.WatchRunDetailsResponse{Details: found.message})
	})
}

// seen is the newest revision that was sent.
type seen struct {
	any      bool
	revision uint64
}

// before says that a revision brings nothing new, and remembers it.
func (s *seen) before(revision uint64) bool {
	if s.any && revision <= s.revision {
		return true
	}
	s.any, s.revision = true, revision
	return false
}
