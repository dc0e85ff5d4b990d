package store

import (
	"context"
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
	return nil, errUnfinished
}
