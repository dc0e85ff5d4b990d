package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Pruned says what one call of Prune deleted.
type Pruned struct {
	Runs, Actions, TaskSpecs int
	More                     bool // there is more to prune: call again
}

// Prune deletes runs of the organisation that ended before the given time, with
// all below them and the task specs that nothing refers to any more, and the
// certificates that have expired: at most limit actions in one short transaction.
// With a zero time no run is deleted.
func (s *Store) Prune(ctx context.Context, organization string, before time.Time, limit int) (pruned Pruned, err error) {
	limit = max(limit, 1)
	err = s.change(ctx, func(t *tx) error {
		pruned = Pruned{}
		if _, err := t.exec(ctx, `DELETE FROM certificates WHERE organization = $1 AND expires_at < $2`, organization, t.now); err != nil {
			return err
		}
		var runs []RunKey
		err := t.each(ctx, fmt.Sprintf(`SELECT project, domain, name FROM runs
			WHERE organization = $1 AND ended_at > 0 AND ended_at < $2 ORDER BY ended_at LIMIT %d`, min(limit, maxLimit)+1),
			[]any{organization, before.UnixMicro()}, func(scan scanner) error {
				run := RunKey{Organization: organization}
				err := scan(&run.Project, &run.Domain, &run.Name)
				runs = append(runs, run)
				return err
			})
		if err != nil {
			return err
		}
		var digests []string
		for i, run := range runs {
			if pruned.Actions == limit || i == maxLimit {
				pruned.More = true
				break
			}
			// Runs before actions, as whoever records states locks them.
			locked, err := t.lockRun(ctx, run)
			var gone *NotFoundError
			if err != nil && !errors.As(err, &gone) {
				return err
			}
			// Another process may have pruned it meanwhile, and its name be another's.
			if err != nil || locked.endedAt == 0 || locked.endedAt >= before.UnixMicro() {
				pruned.More = true
				continue
			}
			deleted, all, err := t.pruneActions(ctx, run, limit-pruned.Actions, &digests)
			if err != nil {
				return err
			}
			pruned.Actions += deleted
			if !all {
				pruned.More = true
				break
			}
			pruned.Runs++
			for _, statement := range []string{
				`DELETE FROM run_labels WHERE organization = $1 AND project = $2 AND domain = $3 AND run = $4`,
				`DELETE FROM runs WHERE organization = $1 AND project = $2 AND domain = $3 AND name = $4`,
			} {
				if _, err := t.exec(ctx, statement, run.args()...); err != nil {
					return err
				}
			}
		}
		pruned.TaskSpecs, err = t.releaseSpecs(ctx, organization, slices.Compact(slices.Sorted(slices.Values(digests))))
		return err
	})
	return pruned, err
}

// pruneActions deletes at most limit actions of a run, its root as the last one, and
// says whether these were all.
func (t *tx) pruneActions(ctx context.Context, run RunKey, limit int, digests *[]string) (deleted int, all bool, err error) {
	count := func(scan scanner) error {
		var digest string
		err := scan(&digest)
		*digests = append(*digests, digest)
		deleted++
		return err
	}
	err = t.each(ctx, fmt.Sprintf(`DELETE FROM actions WHERE organization = $1 AND project = $2 AND domain = $3 AND run = $4 AND name IN
		(SELECT a.name FROM actions a WHERE `+ofRun+` AND a.name <> '`+RootAction+`' LIMIT %d) RETURNING spec_digest`, limit), run.args(), count)
	if err != nil || deleted == limit {
		return deleted, false, err
	}
	err = t.each(ctx, `DELETE FROM actions WHERE organization = $1 AND project = $2 AND domain = $3 AND run = $4 RETURNING spec_digest`,
		run.args(), count)
	return deleted, true, err
}
