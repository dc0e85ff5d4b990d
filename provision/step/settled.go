package step

import (
	"context"
	"fmt"
	"strings"
)

// Settled is the usual Check: what Make made is there when looking finds nothing
// more to do. It returns ErrNotYet while something is still to be done.
func Settled(ctx context.Context, s Step) error {
	found, err := s.Look(ctx, Present)
	if err != nil {
		return err
	}
	change := found.Plan()
	details := strings.Join(change.Details, "; ")
	switch change.Action {
	case Keep:
		return nil
	case Refuse:
		return fmt.Errorf("%s is not as it was made: %s", s.Name(), details)
	default:
		return fmt.Errorf("%s: %s: %w", s.Name(), details, ErrNotYet)
	}
}

// Untouched is what a look found of which nothing is made or removed in this run: the
// Change says why, and its action is none that writes.
type Untouched Change

// Plan implements Found.
func (u Untouched) Plan() Change { return Change(u) }

// Make has nothing to make.
func (Untouched) Make(context.Context) error { return nil }

// Remove has nothing to remove.
func (Untouched) Remove(context.Context) error { return nil }
