package runs

import (
	"context"
	"maps"
	"slices"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
)

const (
	maxGroups = 500
	// groupsSettle is how long changes are gathered: summing up reads many rows.
	groupsSettle = 2 * time.Second
)

// WatchGroups sends the runs of a workspace summed up by task, then a sentinel,
// then each sum that changes. It ends when the client leaves.
func (s *Service) WatchGroups(ctx context.Context, r *workflow.WatchGroupsRequest, stream *connect.ServerStream[workflow.WatchGroupsResponse]) error {
	id := r.GetProjectId()
	organization, err := s.scopes.Workspace(ctx, id.GetOrganization(), id.GetName(), id.GetDomain())
	if err != nil {
		return err
	}
	if !r.GetStartDate().IsValid() {
		return refusal.Invalid("start_date is not given; say from when on runs are summed up")
	}
	if raw := r.GetRequest().GetRawFilters(); len(raw) > 0 {
		return refusal.Invalid("raw_filters are not read here: write %.80q as one of filters", raw[0])
	}
	var to time.Time
	if r.GetEndDate().IsValid() {
		to = r.GetEndDate().AsTime()
	}
	query := store.GroupQuery{
		Organization: organization, Project: id.GetName(), Domain: id.GetDomain(),
		From: r.GetStartDate().AsTime(), To: to, Filters: r.GetRequest().GetFilters(), Limit: maxGroups,
	}
	if asked := int(r.GetRequest().GetLimit()); asked > 0 && asked < maxGroups {
		query.Limit = asked
	}
	if by := r.GetKnownSortFields(); len(by) > 0 {
		query.OldestFirst = by[0].GetCreatedAt() == common.Sort_ASCENDING
	}
	sent := map[string]*workflow.TaskGroup{}
	first := true
	return s.follow(ctx, store.WorkspaceTopic(organization, id.GetName(), id.GetDomain()), func() (bool, error) {
		groups, err := s.store.GroupRuns(ctx, query)
		if err != nil {
			return true, err
		}
		changed := &workflow.WatchGroupsResponse{}
		now := map[string]*workflow.TaskGroup{}
		for _, group := range groups {
			m := groupMessage(group)
			name := group.Environment + "\n" + group.TaskName
			now[name] = m
			if !proto.Equal(sent[name], m) {
				changed.TaskGroups = append(changed.TaskGroups, m)
			}
		}
		for name, m := range sent {
			if now[name] == nil {
				changed.TaskGroups = append(changed.TaskGroups, &workflow.TaskGroup{TaskName: m.TaskName, EnvironmentName: m.EnvironmentName, ShouldDelete: true})
			}
		}
		sent = now
		if len(changed.TaskGroups) > 0 {
			if err := stream.Send(changed); err != nil {
				return true, err
			}
		}
		if first {
			first = false
			if err := stream.Send(&workflow.WatchGroupsResponse{Sentinel: true}); err != nil {
				return true, err
			}
		}
		return false, pause(ctx, groupsSettle)
	})
}

func groupMessage(g store.Group) *workflow.TaskGroup {
	m := &workflow.TaskGroup{
		TaskName: g.TaskName, EnvironmentName: g.Environment, ShortName: g.ShortName, TotalRuns: g.Runs,
		LatestRunTime: timestamp(g.LatestRun), LatestFinishedTime: timestamp(g.LatestEnd), AverageDuration: durationpb.New(g.Average),
		ErrorCounts: &workflow.TaskGroup_ErrorCounts{
			UserError:        g.Errors[workflow.ErrorInfo_KIND_USER],
			SystemError:      g.Errors[workflow.ErrorInfo_KIND_SYSTEM],
			UnspecifiedError: g.Errors[workflow.ErrorInfo_KIND_UNSPECIFIED],
		},
	}
	var failed int64
	for _, phase := range slices.Sorted(maps.Keys(g.Phases)) {
		m.PhaseCounts = append(m.PhaseCounts, &workflow.TaskGroup_PhaseCounts{Phase: phase, Count: g.Phases[phase]})
		if phase == common.ActionPhase_ACTION_PHASE_FAILED || phase == common.ActionPhase_ACTION_PHASE_TIMED_OUT {
			failed += g.Phases[phase]
		}
	}
	if g.Runs > 0 {
		m.AverageFailureRate = float64(failed) / float64(g.Runs)
	}
	for _, run := range g.Recent {
		m.RecentStatuses = append(m.RecentStatuses, &workflow.TaskGroup_RecentStatus{RunName: run.Run.Name, Phase: run.Phase})
	}
	return m
}
