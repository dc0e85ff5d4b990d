package runs

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// eventsEvery is how often the data plane is asked for the events of a pod: they
// are its own, and nothing tells this server when there are more.
const eventsEvery = 2 * time.Second

// WatchClusterEvents sends the events of an attempt's pod, as the data plane tells
// them, until the attempt has ended.
func (s *Service) WatchClusterEvents(ctx context.Context, r *workflow.WatchClusterEventsRequest, stream *connect.ServerStream[workflow.WatchClusterEventsResponse]) error {
	key, err := s.actionKey(ctx, r.GetId())
	if err != nil {
		return err
	}
	for sent := 0; ; {
		found, err := s.store.GetAction(ctx, key)
		if err != nil {
			return unknownAction(key, err)
		}
		ended := found.Action.Ended() || found.Action.AttemptCount > r.GetAttempt()
		texts, err := s.texts(ctx, found)
		if err != nil && connect.CodeOf(err) != connect.CodeNotFound {
			return err
		}
		for _, attempt := range texts.GetAttempts() {
			if attempt.GetAttempt() > lastAttempt(found.Action) {
				continue // it has no pod yet: what it waits for may change
			}
			events := attempt.GetClusterEvents()
			if attempt.GetAttempt() != r.GetAttempt() || len(events) <= sent {
				continue
			}
			if err := stream.Send(&workflow.WatchClusterEventsResponse{ClusterEvents: events[sent:]}); err != nil {
				return err
			}
			sent = len(events)
		}
		if ended {
			return nil
		}
		if err := pause(ctx, eventsEvery); err != nil {
			return err
		}
	}
}
