package runs

import (
	"context"
	"time"

	"connectrpc.com/connect"

	dataplanev1 "biplane.dev/biplane/api/gen/biplane/dataplane/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
)

const (
	// textsLimit is how long a reader waits for a data plane before it is told that
	// the texts are there and not here.
	textsLimit = 2 * time.Second

	unreachable = "kept in the data plane, which cannot be reached now"
	gone        = "the data plane has no message for it, or no longer"
)

// withTexts is an action's details, with the messages of its errors and, beside
// them, the events of its pods as the data plane tells them now. Nothing of them
// is kept. Without errors the data plane is not asked.
func (s *Service) withTexts(ctx context.Context, d store.ActionDetails) *workflow.ActionDetails {
	m := details(d)
	if !hasTexts(m) {
		return m
	}
	return s.addTexts(ctx, d, m)
}

// withEvents is withTexts for who asks once: the events of a pod that is under way
// say why it waits, and an attempt that has no pod yet is shown for what it waits for.
func (s *Service) withEvents(ctx context.Context, d store.ActionDetails) *workflow.ActionDetails {
	m := details(d)
	if !hasTexts(m) && (d.Action.Ended() || d.Action.Type != workflow.ActionType_ACTION_TYPE_TASK) {
		return m
	}
	return s.addTexts(ctx, d, m)
}

func (s *Service) addTexts(ctx context.Context, d store.ActionDetails, m *workflow.ActionDetails) *workflow.ActionDetails {
	texts, err := s.texts(ctx, d)
	missing := unreachable
	if connect.CodeOf(err) == connect.CodeNotFound {
		missing = gone
	}
	byAttempt := map[uint32]*dataplanev1.AttemptTexts{}
	for _, attempt := range texts.GetAttempts() {
		byAttempt[attempt.GetAttempt()] = attempt
	}
	for _, attempt := range m.GetAttempts() {
		known := byAttempt[attempt.GetAttempt()]
		attempt.ClusterEvents = known.GetClusterEvents()
		if attempt.ErrorInfo != nil {
			attempt.ErrorInfo.Message = message(known.GetErrorMessage(), "", missing, err)
		}
	}
	if next := byAttempt[lastAttempt(d.Action)+1]; next != nil && !d.Action.Ended() {
		m.Attempts = append(m.Attempts, &workflow.ActionAttempt{
			Attempt: next.GetAttempt(), Phase: d.Action.Phase, Cluster: d.Run.Cluster, ClusterEvents: next.GetClusterEvents(),
		})
	}
	if info := m.GetErrorInfo(); info != nil {
		info.Message = message(texts.GetErrorMessage(), d.Action.ErrorCode, missing, err)
	}
	return m
}

// lastAttempt is the number of the newest attempt that the data plane has begun.
func lastAttempt(a store.Action) uint32 {
	if len(a.Attempts) == 0 {
		return 0
	}
	return a.Attempts[len(a.Attempts)-1].GetAttempt()
}

// hasTexts says whether anything failed.
func hasTexts(m *workflow.ActionDetails) bool {
	if m.GetErrorInfo() != nil {
		return true
	}
	for _, attempt := range m.GetAttempts() {
		if attempt.GetErrorInfo() != nil {
			return true
		}
	}
	return false
}

func message(text, code, missing string, err error) string {
	if text == "" && err == nil {
		missing = gone
	}
	switch {
	case text != "":
		return text
	case code != "":
		return code + ": " + missing
	}
	return missing
}

func (s *Service) texts(ctx context.Context, d store.ActionDetails) (*dataplanev1.GetActionTextsResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, textsLimit)
	defer cancel()
	texts, err := s.planes.Texts(d.Run.Key.Organization, d.Run.Cluster).GetActionTexts(ctx, &dataplanev1.GetActionTextsRequest{
		ActionId:      d.Action.Key.Proto(),
		ActionBaseUri: d.Run.BaseURI + "/" + d.Action.Key.Name,
	})
	if err != nil {
		s.log.Debug("texts not read", "action", d.Action.Key.String(), "cluster", d.Run.Cluster, "error", err)
	}
	return texts, err
}
