package store

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// Group sums up the runs of one task.
type Group struct {
	TaskName    string
	Environment string
	ShortName   string
	Runs        int64
	Phases      map[common.ActionPhase]int64
	Errors      map[workflow.ErrorInfo_Kind]int64 // of the runs that failed
	LatestRun   time.Time
	LatestEnd   time.Time     // zero while none has ended
	Average     time.Duration // of those that have ended
	Recent      []RunSummary  // the newest ten, newest first
}

// GroupRuns sums up the runs of a workspace that were made in [from, to), by
// task, the group with the newest run first; a zero to is open. At most limit
// groups.
func (s *Store) GroupRuns(ctx context.Context, organization, project, domain string, from, to time.Time, limit int) ([]Group, error) {
	const recent = 10
	until := to.UnixMicro()
	if to.IsZero() {
		until = math.MaxInt64
	}
	args := []any{organization, project, domain, micros(from), until}
	byTask := map[string]*Group{}
	total := map[string]time.Duration{}
	ended := map[string]int64{}
	err := s.database.reads.each(ctx, `SELECT task_name, max(environment), max(short_name), phase, error_kind, count(*), max(created_at), max(ended_at),
			CAST(sum(CASE WHEN ended_at > 0 THEN ended_at - created_at ELSE 0 END) AS BIGINT)
		FROM runs WHERE organization = $1 AND project = $2 AND domain = $3 AND created_at >= $4 AND created_at < $5
		GROUP BY task_name, phase, error_kind`, args, func(scan scanner) error {
		var task, environment, shortName string
		var phase common.ActionPhase
		var kind workflow.ErrorInfo_Kind
		var runs, created, end, took int64
		if err := scan(&task, &environment, &shortName, &phase, &kind, &runs, &created, &end, &took); err != nil {
			return err
		}
		g := byTask[task]
		if g == nil {
			g = &Group{TaskName: task, Phases: map[common.ActionPhase]int64{}, Errors: map[workflow.ErrorInfo_Kind]int64{}}
			byTask[task] = g
		}
		g.Environment, g.ShortName = environment, shortName
		g.Runs += runs
		g.Phases[phase] += runs
		if phase == common.ActionPhase_ACTION_PHASE_FAILED || phase == common.ActionPhase_ACTION_PHASE_TIMED_OUT {
			g.Errors[kind] += runs
		}
		if Ended(phase) {
			ended[task] += runs
			total[task] += time.Duration(took) * time.Microsecond
		}
		g.LatestRun = later(g.LatestRun, fromMicros(created))
		g.LatestEnd = later(g.LatestEnd, fromMicros(end))
		return nil
	})
	if err != nil {
		return nil, err
	}
	groups := make([]Group, 0, len(byTask))
	for task, g := range byTask {
		if ended[task] > 0 {
			g.Average = total[task] / time.Duration(ended[task])
		}
		groups = append(groups, *g)
	}
	slices.SortFunc(groups, func(a, b Group) int {
		return cmp.Or(b.LatestRun.Compare(a.LatestRun), cmp.Compare(a.TaskName, b.TaskName))
	})
	groups = groups[:min(len(groups), bounded(limit))]

	places := make(map[string]*Group, len(groups))
	for i := range groups {
		places[groups[i].TaskName] = &groups[i]
	}
	err = s.database.reads.each(ctx, fmt.Sprintf(`SELECT task_name, name, phase, created_at FROM
		(SELECT task_name, name, phase, created_at, row_number() OVER (PARTITION BY task_name ORDER BY created_at DESC, name DESC) AS place
			FROM runs WHERE organization = $1 AND project = $2 AND domain = $3 AND created_at >= $4 AND created_at < $5) AS placed
		WHERE place <= %d ORDER BY task_name, place`, recent), args, func(scan scanner) error {
		summary := RunSummary{Run: RunKey{Organization: organization, Project: project, Domain: domain}}
		var created int64
		if err := scan(&summary.TaskName, &summary.Run.Name, &summary.Phase, &created); err != nil {
			return err
		}
		summary.CreatedAt = fromMicros(created)
		if g := places[summary.TaskName]; g != nil {
			g.Recent = append(g.Recent, summary)
		}
		return nil
	})
	return groups, err
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
