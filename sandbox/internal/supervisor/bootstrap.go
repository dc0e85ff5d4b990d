package supervisor

import (
	"context"

	"biplane.dev/biplane/internal/sandbox"
)

// result is what preparing the components has made.
type result struct {
	buckets sandbox.Buckets
}

// prepare makes what is in the components of a sandbox from the first up on:
// namespaces, roles, buckets, profiles.
func (s *Supervisor) prepare(ctx context.Context) error {
	return nil
}
