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
