package store

import (
	"context"
	"time"
)

// Pruned says what one call of Prune deleted.
type Pruned struct {
	Runs, Actions, TaskSpecs int
	More                     bool // there is more to prune: call again
}

// Prune deletes runs of the organisation that ended before the given time, with
// all below them and the task specs that nothing refers to any more, and the
// certificates that expired: at most limit actions in one short transaction.
func (s *Store) Prune(ctx context.Context, organization string, before time.Time, limit int) (Pruned, error) {
	return Pruned{}, errUnfinished
}
