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

// GroupQuery says which runs of a workspace are summed up, and which groups given.
type GroupQuery struct {
	Organization, Project, Domain string

	From, To    time.Time        // when they were made, [From, To); a zero To is open
	Filters     []*common.Filter // those of ListRuns
	OldestFirst bool             // the group whose newest run is the oldest; else the newest
	Limit       int              // of groups; as that of a Query
}

// GroupRuns sums up runs by task, in two statements. *QueryError.
func (s *Store) GroupRuns(ctx context.Context, q GroupQuery) ([]Group, error) {
	const recent = 10
	until := q.To.UnixMicro()
	if q.To.IsZero() {
		until = math.MaxInt64
	}
	of := func(columns string) (*statement, error) {
		runs := newStatement(`SELECT `+columns+` FROM runs r
			WHERE r.organization = $1 AND r.project = $2 AND r.domain = $3 AND r.created_at >= $4 AND r.created_at < $5`,
			q.Organization, q.Project, q.Domain, micros(q.From), until)
		return runs, runs.filter(runList, q.Filters)
	}
	sums, err := of(`r.task_name, max(r.environment), max(r.short_name), r.phase, r.error_kind, count(*), max(r.created_at), max(r.ended_at),
		CAST(sum(CASE WHEN r.ended_at > 0 THEN r.ended_at - r.created_at ELSE 0 END) AS BIGINT)`)
	if err != nil {
		return nil, err
	}
	sums.WriteString(` GROUP BY r.task_name, r.phase, r.error_kind`)
	byTask := map[string]*Group{}
	total := map[string]time.Duration{}
	ended := map[string]int64{}
	err = s.database.reads.each(ctx, sums.String(), sums.args, func(scan scanner) error {
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
		g.Environment, g.ShortName = max(g.Environment, environment), max(g.ShortName, shortName)
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
		if q.OldestFirst {
			a, b = b, a
		}
		return cmp.Or(b.LatestRun.Compare(a.LatestRun), cmp.Compare(a.TaskName, b.TaskName))
	})
	groups = groups[:min(len(groups), bounded(q.Limit))]

	places := make(map[string]*Group, len(groups))
	for i := range groups {
		places[groups[i].TaskName] = &groups[i]
	}
	newest, err := of(`r.task_name, r.name, r.phase, r.created_at,
		row_number() OVER (PARTITION BY r.task_name ORDER BY r.created_at DESC, r.name DESC) AS place`)
	if err != nil {
		return nil, err
	}
	err = s.database.reads.each(ctx, fmt.Sprintf(`SELECT task_name, name, phase, created_at FROM (%s) AS placed
		WHERE place <= %d ORDER BY task_name, place`, newest, recent), newest.args, func(scan scanner) error {
		summary := RunSummary{Run: RunKey{Organization: q.Organization, Project: q.Project, Domain: q.Domain}}
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
