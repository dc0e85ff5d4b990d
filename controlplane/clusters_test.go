package controlplane_test

import (
	"testing"

	"connectrpc.com/connect"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster/clusterconnect"
)

// A client that is sent to a port behind which there is no tunnel sees a connection
// that is reset, and nobody tells it why.
func TestSelectClusterThatIsAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t, sqlite, "api:\n  listen: 127.0.0.1:0\n  dataPlane: direct\n")
	plane := w.join("c1")
	w.listened("c1")
	ask := func() (*cluster.SelectClusterResponse, error) {
		return clusterconnect.NewClusterServiceClient(w.client, w.url).SelectCluster(t.Context(), &cluster.SelectClusterRequest{
			Operation: cluster.SelectClusterRequest_OPERATION_UPLOAD_INPUTS,
			Resource:  &cluster.SelectClusterRequest_ProjectId{ProjectId: flytesnacks}})
	}
	if got, err := ask(); err != nil || got.ClusterEndpoint == "" {
		t.Errorf("got %v, %v, want the relay's port", got, err)
	}
	plane.leave()
	until(t, "the control plane to know that the tunnel is gone", func() bool {
		got, err := w.clusters().GetCluster(t.Context(), &clusterv1.GetClusterRequest{Name: "c1"})
		return err == nil && got.Cluster.State == clusterv1.ClusterState_CLUSTER_STATE_UNREACHABLE
	})
	_, err := ask()
	refused(t, err, connect.CodeUnavailable, `the cluster "c1" cannot be reached now; 'biplane cluster show c1' tells how it is`)
	plane.dial(w)
	until(t, "clients to be sent there again", func() bool {
		got, err := ask()
		return err == nil && got.ClusterEndpoint != ""
	})
}
