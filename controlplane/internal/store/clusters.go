package store

import (
	"context"
	"time"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
)

// Cluster is a data plane.
type Cluster struct {
	Organization         string
	Name                 string
	Draining             bool // takes no new runs
	CreatedAt            time.Time
	JoinedAt             time.Time // zero until it has
	CertificateSerial    string    // the newest
	CertificateExpiresAt time.Time
	RelayPort            uint16 // 0 until one is set

	LastHeartbeat time.Time
	// Report is the last heartbeat, nil before the first: version, peers, capacity,
	// data plane, configuration in force, round trip.
	Report *tunnelv1.HeartbeatRequest

	Position      uint64
	Pending       uint32    // hand-overs that are not acknowledged
	OldestPending time.Time // zero when there are none
}

// AddCluster registers a data plane with the token by which it may join, or gives
// one that has not joined another; the one before is void then. *ExistsError once
// it has joined, *NotFoundError for an unknown organisation.
func (s *Store) AddCluster(ctx context.Context, organization, name string, token JoinToken, expires time.Time) (Cluster, error) {
	return Cluster{}, errUnfinished
}

// Certificate is what is recorded of one that was signed.
type Certificate struct {
	Serial    string
	ExpiresAt time.Time
}

// Join spends a token: sign is called for the cluster that the token is of, and
// the certificate is recorded in the transaction that spends the token. Either
// both are done or neither. ErrToken, or what sign returns.
func (s *Store) Join(ctx context.Context, token JoinToken, sign func(Cluster) (Certificate, error)) (Cluster, error) {
	return Cluster{}, errUnfinished
}

// RecordCertificate records a renewed certificate beside the one in force, which
// stays good until it expires. ErrCertificate when the one in force is not.
func (s *Store) RecordCertificate(ctx context.Context, organization, cluster, inForce string, renewed Certificate) error {
	return errUnfinished
}

// CheckCertificate is nil for a serial that is the cluster's, not revoked and not
// expired, ErrCertificate otherwise. Ask it at every new connection, and again
// whenever ClusterTopic wakes.
func (s *Store) CheckCertificate(ctx context.Context, organization, cluster, serial string) error {
	return errUnfinished
}

// GetCluster reads one. *NotFoundError.
func (s *Store) GetCluster(ctx context.Context, organization, name string) (Cluster, error) {
	return Cluster{}, errUnfinished
}

// ListClusters gives a page and the token of the next. Fields to filter by: name,
// created_at; to sort by: name, created_at. Default sort: name, ascending.
// *QueryError.
func (s *Store) ListClusters(ctx context.Context, organization string, q Query) ([]Cluster, string, error) {
	return nil, "", errUnfinished
}

// SetDraining stops or starts that the cluster takes new runs. *NotFoundError.
func (s *Store) SetDraining(ctx context.Context, organization, name string, draining bool) (Cluster, error) {
	return Cluster{}, errUnfinished
}

// RemoveCluster forgets a cluster, drops what was to be handed to it and revokes
// its certificates. *RefusedError while runs on it have not ended, unless forced:
// then they are recorded as ABORTED. *NotFoundError.
func (s *Store) RemoveCluster(ctx context.Context, organization, name string, force bool) error {
	return errUnfinished
}

// Heartbeat records what a data plane says of itself. *NotFoundError.
func (s *Store) Heartbeat(ctx context.Context, organization, cluster string, report *tunnelv1.HeartbeatRequest) error {
	return errUnfinished
}

// SetRelayPort keeps the port by which clients reach the cluster's proxy.
// *ExistsError when another cluster has it, *NotFoundError.
func (s *Store) SetRelayPort(ctx context.Context, organization, cluster string, port uint16) error {
	return errUnfinished
}
