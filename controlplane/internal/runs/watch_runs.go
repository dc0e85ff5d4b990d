package runs

import (
	"context"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
)

const (
	// page of a watch's message.
	page = 100
	// settle is how long changes of many runs are gathered into one message.
	settle = 200 * time.Millisecond
)

// WatchRuns sends the newest runs, then every run that is made or changes. It
// ends when the client leaves.
func (s *Service) WatchRuns(ctx context.Context, r *workflow.WatchRunsRequest, stream *connect.ServerStream[workflow.WatchRunsResponse]) error {
	within, err := s.watchScope(ctx, r)
	if err != nil {
		return err
	}
	// First the position, then the list: what changes in between comes twice.
	cursor, err := s.store.LatestRunCursor(ctx, within.Organization)
	if err != nil {
		return err
	}
	newest := []*common.Sort{{Key: "created_at", Direction: common.Sort_DESCENDING}}
	found, _, err := s.store.ListRuns(ctx, within, store.Query{Sort: newest, Limit: page})
	if err != nil {
		return err
	}
	if err := stream.Send(runsMessage(found)); err != nil {
		return err
	}
	topic := store.OrganizationTopic(within.Organization)
	if within.Project != "" && within.Domain != "" {
		topic = store.WorkspaceTopic(within.Organization, within.Project, within.Domain)
	}
	return s.follow(ctx, topic, func() (bool, error) {
		for {
			found, next, err := s.store.ChangedRuns(ctx, within, cursor, page)
			if err != nil {
				return true, err
			}
			cursor = next
			if len(found) == 0 {
				return false, pause(ctx, settle)
			}
			if err := stream.Send(runsMessage(found)); err != nil {
				return true, err
			}
		}
	})
}

func (s *Service) watchScope(ctx context.Context, r *workflow.WatchRunsRequest) (store.RunScope, error) {
	switch target := r.GetTarget().(type) {
	case *workflow.WatchRunsRequest_Org:
		return s.narrowed(ctx, target.Org, store.RunScope{})
	case *workflow.WatchRunsRequest_ClusterId:
		return s.narrowed(ctx, target.ClusterId.GetOrganization(), store.RunScope{Cluster: target.ClusterId.GetName()})
	case *workflow.WatchRunsRequest_ProjectId:
		id := target.ProjectId
		return s.narrowed(ctx, id.GetOrganization(), store.RunScope{Project: id.GetName(), Domain: id.GetDomain()})
	case *workflow.WatchRunsRequest_TaskId:
		return s.narrowed(ctx, target.TaskId.GetOrg(), ofTask(store.RunScope{}, target.TaskId))
	}
	return store.RunScope{}, refusal.Invalid("the request does not say whose runs to watch; name an org, a project, a cluster or a task")
}

func runsMessage(found []store.Run) *workflow.WatchRunsResponse {
	m := &workflow.WatchRunsResponse{}
	for _, run := range found {
		m.Runs = append(m.Runs, runMessage(run))
	}
	return m
}

// WatchActions sends the actions of a run, then every one that is made or
// changes, and its parent, whose counts change with it. It ends when all have
// ended.
func (s *Service) WatchActions(ctx context.Context, r *workflow.WatchActionsRequest, stream *connect.ServerStream[workflow.WatchActionsResponse]) error {
	key, err := s.runKey(ctx, r.GetRunId())
	if err != nil {
		return err
	}
	run, _, err := s.store.GetRun(ctx, key)
	if err != nil {
		return unknownRun(key, err)
	}
	w := &actionWatch{service: s, run: run, filters: r.GetFilter(), stream: stream, open: map[string]bool{}}
	for query := (store.Query{Limit: page}); ; {
		found, next, err := s.store.ListActions(ctx, key, query)
		if err != nil {
			return err
		}
		if err := w.send(ctx, found); err != nil {
			return err
		}
		if query.Token = next; next == "" {
			break
		}
	}
	cursor := run.Cursor()
	return s.follow(ctx, store.RunTopic(key), func() (bool, error) {
		for {
			found, next, err := s.store.ChangedActions(ctx, key, cursor, page)
			if err != nil {
				return true, err
			}
			cursor = next
			if len(found) == 0 {
				return len(w.open) == 0, pause(ctx, settle/4)
			}
			if err := w.send(ctx, found); err != nil {
				return true, err
			}
		}
	})
}

// actionWatch is one client's.
type actionWatch struct {
	service *Service
	run     store.Run
	filters []*common.Filter
	stream  *connect.ServerStream[workflow.WatchActionsResponse]
	open    map[string]bool // actions that have not ended
}

func (w *actionWatch) send(ctx context.Context, found []store.Action) error {
	if len(found) == 0 {
		return nil
	}
	sent := map[string]bool{}
	for _, a := range found {
		sent[a.Key.Name] = true
		if w.open[a.Key.Name] = true; a.Ended() {
			delete(w.open, a.Key.Name)
		}
	}
	var parents []string
	for _, a := range found {
		if a.Parent != "" && !sent[a.Parent] {
			sent[a.Parent] = true
			parents = append(parents, a.Parent)
		}
	}
	above, err := w.service.store.GetActions(ctx, w.run.Key, parents)
	if err != nil {
		return err
	}
	found = append(found, above...)
	names := make([]string, 0, len(found))
	for _, a := range found {
		names = append(names, a.Key.Name)
	}
	counts, err := w.service.store.CountChildren(ctx, w.run.Key, names)
	if err != nil {
		return err
	}
	var matches map[string]bool
	if len(w.filters) > 0 {
		if matches, err = w.service.store.MatchActions(ctx, w.run.Key, names, w.filters); err != nil {
			return err
		}
	}
	m := &workflow.WatchActionsResponse{}
	for _, a := range found {
		enriched := &workflow.EnrichedAction{
			Action: actionMessage(w.run, a), MeetsFilter: len(w.filters) == 0 || matches[a.Key.Name], ChildrenPhaseCounts: map[int32]int32{},
		}
		for phase, count := range counts[a.Key.Name] {
			enriched.ChildrenPhaseCounts[int32(phase)] = count
		}
		m.EnrichedActions = append(m.EnrichedActions, enriched)
	}
	return w.stream.Send(m)
}

// pause waits, or until the client has left.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
