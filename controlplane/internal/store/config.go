package store

import (
	"context"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
)

// GetConfig is what the cluster is to be: the workspaces of its organisation, the
// archived ones suspended, and the names for its proxy's certificate. The
// revision grows in every transaction that changes any of it. *NotFoundError.
func (s *Store) GetConfig(ctx context.Context, organization, cluster string) (*tunnelv1.Config, error) {
	return nil, errUnfinished
}

// SetProxyNames keeps the DNS names and IP addresses for the certificate of the
// cluster's proxy; setting the same again changes nothing. *NotFoundError.
func (s *Store) SetProxyNames(ctx context.Context, organization, cluster string, names []string) error {
	return errUnfinished
}
