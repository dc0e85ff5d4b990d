package store

import (
	"context"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
)

// Applied says what became of reported states.
type Applied struct {
	Position uint64 // recorded now; never behind what was recorded before
	// MissingTaskSpecs are the digests that the states name and the store has not:
	// ask for them and give them to PutTaskSpecs.
	MissingTaskSpecs []string
	// Unknown counts states of runs that are not this cluster's, or no more.
	Unknown int
}

// ApplyStates records states in the order of their positions, and the position
// behind them, in one transaction:
//
//   - what is at or before the recorded position, or not newer than the version
//     recorded of its action, changes nothing, so a batch may come twice;
//   - an action that is not there yet is made, its run must be the cluster's;
//   - an action that has ended stays ended as it did: the late success of an
//     aborted one is dropped, later details of the same end are taken;
//   - texts are cleared: messages of errors and cluster events never rest here,
//     even if a data plane sends them.
//
// *NotFoundError for an unknown cluster.
func (s *Store) ApplyStates(ctx context.Context, organization, cluster string, states []*tunnelv1.ActionState, position uint64) (Applied, error) {
	return Applied{}, errUnfinished
}

// GetPosition is how far the cluster's states have been recorded. *NotFoundError.
func (s *Store) GetPosition(ctx context.Context, organization, cluster string) (uint64, error) {
	return 0, errUnfinished
}
