// Package clusters is what clients ask about data planes: `biplane cluster`
// (biplane.cluster.v1.ClusterService), and where the SDK finds a run's data
// (Flyte's ClusterService, select.go). choose.go says to which data plane a new
// run goes.
//
// It does not speak with data planes: the gateway does. Start with Service.
package clusters

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/biplane/cluster/v1/clusterv1connect"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

// Options are what the service needs besides the store.
type Options struct {
	Gateway   Gateway
	TokenLife time.Duration
	// RelayHost is the name by which clients reach the relay's ports.
	RelayHost string
	Now       func() time.Time
}

// Gateway is what must be asked of where data planes dial in.
type Gateway interface {
	// CAFingerprint is that by which a data plane knows the gateway.
	CAFingerprint() string
	// Connected says whether a data plane's tunnel stands.
	Connected(organization, cluster string) bool
}

// Service implements biplane.cluster.v1.ClusterService.
type Service struct {
	store   *store.Store
	scopes  *scope.Scopes
	options Options
}

var _ clusterv1connect.ClusterServiceHandler = (*Service)(nil)

// New returns the service.
func New(s *store.Store, scopes *scope.Scopes, options Options) *Service {
	return &Service{store: s, scopes: scopes, options: options}
}

// AddCluster registers a data plane, and gives the token with which it joins.
func (s *Service) AddCluster(ctx context.Context, r *clusterv1.AddClusterRequest) (*clusterv1.AddClusterResponse, error) {
	organization, err := s.named(ctx, r.GetOrganization(), r.GetName())
	if err != nil {
		return nil, err
	}
	token := store.NewJoinToken()
	expires := s.options.Now().Add(s.options.TokenLife)
	added, err := s.store.AddCluster(ctx, organization, r.GetName(), token, expires)
	var exists *store.ExistsError
	if errors.As(err, &exists) {
		return nil, refusal.New(connect.CodeAlreadyExists, "the cluster %q has joined already; remove it first with: biplane cluster remove %s", r.GetName(), r.GetName())
	}
	if err != nil {
		return nil, err
	}
	return &clusterv1.AddClusterResponse{
		Cluster:   s.message(added),
		JoinToken: tunnel.Token{Fingerprint: s.options.Gateway.CAFingerprint(), Secret: token.String()}.String(),
		ExpiresAt: timestamppb.New(expires),
	}, nil
}

// ListClusters gives a page of data planes.
func (s *Service) ListClusters(ctx context.Context, r *clusterv1.ListClustersRequest) (*clusterv1.ListClustersResponse, error) {
	organization, err := s.scopes.Organization(ctx, r.GetOrganization())
	if err != nil {
		return nil, err
	}
	found, next, err := s.store.ListClusters(ctx, organization, store.Query{Limit: int(r.GetLimit()), Token: r.GetToken()})
	if err != nil {
		return nil, err
	}
	response := &clusterv1.ListClustersResponse{Token: next}
	for _, c := range found {
		response.Clusters = append(response.Clusters, s.message(c))
	}
	return response, nil
}

// GetCluster reads one.
func (s *Service) GetCluster(ctx context.Context, r *clusterv1.GetClusterRequest) (*clusterv1.GetClusterResponse, error) {
	organization, err := s.named(ctx, r.GetOrganization(), r.GetName())
	if err != nil {
		return nil, err
	}
	c, err := s.store.GetCluster(ctx, organization, r.GetName())
	if err != nil {
		return nil, unknown(r.GetName(), err)
	}
	return &clusterv1.GetClusterResponse{Cluster: s.message(c)}, nil
}

// DrainCluster stops, or starts again, that it takes new runs.
func (s *Service) DrainCluster(ctx context.Context, r *clusterv1.DrainClusterRequest) (*clusterv1.DrainClusterResponse, error) {
	organization, err := s.named(ctx, r.GetOrganization(), r.GetName())
	if err != nil {
		return nil, err
	}
	c, err := s.store.SetDraining(ctx, organization, r.GetName(), !r.GetUndrain())
	if err != nil {
		return nil, unknown(r.GetName(), err)
	}
	return &clusterv1.DrainClusterResponse{Cluster: s.message(c)}, nil
}

// RemoveCluster forgets it.
func (s *Service) RemoveCluster(ctx context.Context, r *clusterv1.RemoveClusterRequest) (*clusterv1.RemoveClusterResponse, error) {
	organization, err := s.named(ctx, r.GetOrganization(), r.GetName())
	if err != nil {
		return nil, err
	}
	if err := s.store.RemoveCluster(ctx, organization, r.GetName(), r.GetForce()); err != nil {
		return nil, unknown(r.GetName(), err)
	}
	return &clusterv1.RemoveClusterResponse{}, nil
}

func (s *Service) named(ctx context.Context, organization, name string) (string, error) {
	organization, err := s.scopes.Organization(ctx, organization)
	if err != nil {
		return "", err
	}
	return organization, names.Cluster(name)
}

func (s *Service) message(c store.Cluster) *clusterv1.Cluster {
	m := &clusterv1.Cluster{
		Name:                 c.Name,
		Organization:         c.Organization,
		State:                s.state(c),
		CreatedAt:            timestamp(c.CreatedAt),
		JoinedAt:             timestamp(c.JoinedAt),
		LastHeartbeat:        timestamp(c.LastHeartbeat),
		Version:              c.Report.GetVersion(),
		RoundTrip:            c.Report.GetRoundTrip(),
		PendingHandovers:     c.Pending,
		Peers:                c.Report.GetPeers(),
		Capacity:             c.Report.GetCapacity(),
		ProxyEndpoint:        endpoint(s.options.RelayHost, c),
		CaBundle:             c.Report.GetDataPlane().GetProxyCaBundle(),
		CertificateExpiresAt: timestamp(c.CertificateExpiresAt),
		Draining:             c.Draining,
	}
	if !c.OldestPending.IsZero() {
		m.Lag = durationpb.New(max(0, s.options.Now().Sub(c.OldestPending)))
	}
	return m
}

func (s *Service) state(c store.Cluster) clusterv1.ClusterState {
	switch {
	case c.JoinedAt.IsZero():
		return clusterv1.ClusterState_CLUSTER_STATE_PENDING
	case !s.options.Gateway.Connected(c.Organization, c.Name):
		return clusterv1.ClusterState_CLUSTER_STATE_UNREACHABLE
	case c.Draining:
		return clusterv1.ClusterState_CLUSTER_STATE_DRAINING
	case c.Report == nil:
		return clusterv1.ClusterState_CLUSTER_STATE_DEGRADED
	}
	for _, peer := range c.Report.GetPeers() {
		if !peer.GetReady() {
			return clusterv1.ClusterState_CLUSTER_STATE_DEGRADED
		}
	}
	return clusterv1.ClusterState_CLUSTER_STATE_READY
}

// endpoint is where clients reach a data plane's proxy, by the relay.
func endpoint(host string, c store.Cluster) string {
	if c.RelayPort == 0 {
		return ""
	}
	return (&url.URL{Scheme: "https", Host: net.JoinHostPort(host, strconv.Itoa(int(c.RelayPort)))}).String()
}

func timestamp(at time.Time) *timestamppb.Timestamp {
	if at.IsZero() {
		return nil
	}
	return timestamppb.New(at)
}

func unknown(name string, err error) error {
	var missing *store.NotFoundError
	if errors.As(err, &missing) {
		return refusal.Because(err, connect.CodeNotFound, "there is no cluster %q; 'biplane cluster list' shows all, 'biplane cluster add %s' registers it", name, name)
	}
	if err != nil {
		return fmt.Errorf("cluster %s: %w", name, err)
	}
	return nil
}
