package clusters

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/cluster"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster/clusterconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/projects"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Selector implements Flyte's ClusterService: the SDK asks it where to call
// before it uploads or reads anything. An empty endpoint means this server.
type Selector struct {
	store   *store.Store
	scopes  *scope.Scopes
	gateway Gateway
	host    string
	direct  bool
}

var _ clusterconnect.ClusterServiceHandler = (*Selector)(nil)

// NewSelector returns the service. host is the relay's name for clients; direct
// says whether they are sent there, or this server passes their calls on.
func NewSelector(s *store.Store, scopes *scope.Scopes, gateway Gateway, host string, direct bool) *Selector {
	return &Selector{store: s, scopes: scopes, gateway: gateway, host: host, direct: direct}
}

// SelectCluster says where the call that the operation names is to be made.
func (s *Selector) SelectCluster(ctx context.Context, r *cluster.SelectClusterRequest) (*cluster.SelectClusterResponse, error) {
	switch r.GetOperation() {
	case cluster.SelectClusterRequest_OPERATION_UNSPECIFIED:
		return nil, refusal.Invalid("operation is not given; name the one that is to be called")
	case cluster.SelectClusterRequest_OPERATION_UPLOAD_TRIGGER:
		return nil, refusal.New(connect.CodeUnimplemented, "triggers come with a later version")
	case cluster.SelectClusterRequest_OPERATION_UPLOAD_INPUTS,
		cluster.SelectClusterRequest_OPERATION_GET_ACTION_DATA,
		cluster.SelectClusterRequest_OPERATION_CREATE_DOWNLOAD_LINK,
		cluster.SelectClusterRequest_OPERATION_TAIL_LOGS:
	default:
		// This server's own, or unserved: which it is, the call itself is told.
		return &cluster.SelectClusterResponse{}, nil
	}
	if r.GetAppId() != nil {
		return &cluster.SelectClusterResponse{}, nil
	}
	chosen, err := s.of(ctx, r)
	if err != nil {
		return nil, err
	}
	response := &cluster.SelectClusterResponse{Cluster: chosen.Name}
	// A task's pod came here by its operator, which has the way to the proxy.
	if _, tunnelled := caller.From(ctx); !tunnelled && s.direct {
		response.ClusterEndpoint = endpoint(s.host, chosen)
		if response.ClusterEndpoint == "" {
			return nil, refusal.New(connect.CodeUnavailable, "the cluster %q has no proxy that clients can reach yet; wait until 'biplane cluster show %s' says ready", chosen.Name, chosen.Name)
		}
		// The relay has no words for it: its clients would see a connection reset.
		if !s.gateway.Connected(chosen.Organization, chosen.Name) {
			return nil, refusal.New(connect.CodeUnavailable, "the cluster %q cannot be reached now; 'biplane cluster show %s' tells how it is", chosen.Name, chosen.Name)
		}
	}
	return response, nil
}

// of finds the data plane of the resource.
func (s *Selector) of(ctx context.Context, r *cluster.SelectClusterRequest) (store.Cluster, error) {
	switch resource := r.GetResource().(type) {
	case *cluster.SelectClusterRequest_ProjectId:
		id := resource.ProjectId
		return s.ofProject(ctx, id.GetOrganization(), id.GetName(), id.GetDomain())
	case *cluster.SelectClusterRequest_TaskId:
		id := resource.TaskId
		return s.ofProject(ctx, id.GetOrg(), id.GetProject(), id.GetDomain())
	case *cluster.SelectClusterRequest_ActionId:
		return s.ofRun(ctx, resource.ActionId.GetRun())
	case *cluster.SelectClusterRequest_ActionAttemptId:
		return s.ofRun(ctx, resource.ActionAttemptId.GetActionId().GetRun())
	case *cluster.SelectClusterRequest_ClusterId:
		organization, err := s.scopes.Organization(ctx, resource.ClusterId.GetOrganization())
		if err != nil {
			return store.Cluster{}, err
		}
		found, err := s.store.GetCluster(ctx, organization, resource.ClusterId.GetName())
		return found, unknown(resource.ClusterId.GetName(), err)
	}
	return store.Cluster{}, refusal.Invalid("the request names no project, task or action, by which a cluster could be found")
}

func (s *Selector) ofProject(ctx context.Context, organization, project, domain string) (store.Cluster, error) {
	organization, err := s.scopes.Workspace(ctx, organization, project, domain)
	if err != nil {
		return store.Cluster{}, err
	}
	if _, err := s.store.GetProject(ctx, organization, project); err != nil {
		var missing *store.NotFoundError
		if errors.As(err, &missing) {
			return store.Cluster{}, projects.Unknown(project)
		}
		return store.Cluster{}, err
	}
	return Choose(ctx, s.store, organization, project, "")
}

func (s *Selector) ofRun(ctx context.Context, id *common.RunIdentifier) (store.Cluster, error) {
	organization, err := s.scopes.Workspace(ctx, id.GetOrg(), id.GetProject(), id.GetDomain())
	if err != nil {
		return store.Cluster{}, err
	}
	key := store.RunKeyOf(id)
	key.Organization = organization
	run, _, err := s.store.GetRun(ctx, key)
	if err != nil {
		return store.Cluster{}, err
	}
	found, err := s.store.GetCluster(ctx, organization, run.Cluster)
	return found, unknown(run.Cluster, err)
}
