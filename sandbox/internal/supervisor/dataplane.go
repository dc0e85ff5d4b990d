package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"connectrpc.com/connect"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/api/gen/biplane/cluster/v1/clusterv1connect"
	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/bootstrap"
	"biplane.dev/biplane/sandbox/internal/image"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// The data plane of a sandbox is installed as any other is, by its chart, and its
// processes are pods.
const (
	dataPlaneCluster   = "sandbox" // its name in the control plane
	dataPlaneNamespace = "union"
	dataPlaneImage     = "biplane-dataplane"
)

// dataPlaneProcesses each listen on a port of their own, since pods share the
// machine's network.
var dataPlaneProcesses = []string{"operator", "clustersync", "executor", "proxy"}

// portOf is the name in the record of a process's port.
func portOf(process string) string { return sandbox.FlyteDataPlane + "-" + process }

// empty reports whether the sandbox is for a data plane that somebody is going to make:
// it has a control plane, and none that has joined.
func (s *Supervisor) empty() bool {
	return s.plan.has[sandbox.FlyteAdmin] && !s.plan.has[sandbox.FlyteDataPlane]
}

// checkDataPlane leaves the data plane out where no node could run its pods:
// on kwok's nothing runs, and a kubelet would have to be given its image.
func (s *Supervisor) checkDataPlane(p *plan) error {
	if !p.has[sandbox.FlyteDataPlane] || s.record.Options.Node == sandbox.ProcessNode {
		return nil
	}
	for _, asked := range s.record.Options.Only {
		if asked == sandbox.FlyteDataPlane {
			return usererr.New(usererr.Refused, "a sandbox of %s nodes has no data plane", s.record.Options.Node).
				WithHint("give --node %s, or leave %s out of --only", sandbox.ProcessNode, sandbox.FlyteDataPlane)
		}
	}
	p.has[sandbox.FlyteDataPlane], p.has[sandbox.FlyteAdmin] = false, false
	return nil
}

// addDataPlane lays ready the image of its processes: a root with the one program. A
// data plane that somebody else installs has the same.
func (s *Supervisor) addDataPlane(*plan) error {
	program, err := s.beside(dataPlaneImage)
	if err != nil {
		return err
	}
	root := filepath.Join(s.Folder.DataPlane(), "image")
	if err := os.MkdirAll(root, 0o700); err != nil {
		return usererr.New(usererr.Unavailable, "cannot make the folder %s: %v", root, cause(err)).Because(err)
	}
	if err := copyProgram(program, filepath.Join(root, dataPlaneImage)); err != nil {
		return usererr.New(usererr.Unavailable, "cannot lay ready the image of the data plane: %v", cause(err)).Because(err)
	}
	return image.Map(string(s.Folder), dataPlaneImage+":*", root)
}

// copyProgram copies a program unless it is there. A link would leave a running
// pod with half a program when the original is built anew.
func copyProgram(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	if there, err := os.Stat(to); err == nil && there.Size() == info.Size() && there.ModTime().Equal(info.ModTime()) {
		return nil
	}
	target, err := os.CreateTemp(filepath.Dir(to), "."+filepath.Base(to)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(target.Name()) // is gone by then, when all went well
	_, err = io.Copy(target, source)
	if err = errors.Join(err, target.Chmod(0o755), target.Close()); err != nil {
		return err
	}
	if err := os.Chtimes(target.Name(), time.Time{}, info.ModTime()); err != nil {
		return err
	}
	return os.Rename(target.Name(), to)
}

// joinDataPlane installs the chart and has the data plane join the control plane;
// at a later up it finds both, and waits until they have found each other.
func (s *Supervisor) joinDataPlane(ctx context.Context, made bootstrap.Result) error {
	began := time.Now()
	s.events.add(sandbox.Event{Name: sandbox.FlyteDataPlane, State: sandbox.EventState(sandbox.ComponentStarting)})
	clusters, err := s.clusterClient()
	if err != nil {
		return err
	}
	token, err := joinToken(ctx, clusters)
	if err != nil {
		return s.notJoined(err)
	}
	_, err = chart.Install(ctx, chart.Options{
		Target:  chart.Target{Kubeconfig: s.Folder.Kubeconfig(), Namespace: dataPlaneNamespace, Log: s.log},
		Cluster: dataPlaneCluster, Token: token, Values: s.chartValues(made), Timeout: upPatience,
	})
	if err != nil {
		return s.notJoined(err)
	}
	cluster, err := awaitReady(ctx, clusters)
	if err != nil {
		return s.notJoined(err)
	}
	if err := s.trustAll(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	s.dataPlane = &sandbox.DataPlane{Cluster: dataPlaneCluster, Namespace: dataPlaneNamespace, ProxyEndpoint: cluster.GetProxyEndpoint()}
	s.mu.Unlock()
	s.events.add(sandbox.Event{Name: sandbox.FlyteDataPlane, State: sandbox.EventState(sandbox.ComponentReady), Text: "joined as " + dataPlaneCluster, Took: time.Since(began)})
	return nil
}

// trustAll has clients trust the proxies of all data planes that have joined: the
// sandbox's own, and those that somebody else installed.
func (s *Supervisor) trustAll(ctx context.Context) error {
	if !s.plan.has[sandbox.FlyteAdmin] {
		return nil
	}
	clusters, err := s.clusterClient()
	if err != nil {
		return err
	}
	answer, err := clusters.ListClusters(ctx, &clusterv1.ListClustersRequest{})
	if err != nil {
		return usererr.New(usererr.Unavailable, "the control plane does not tell its data planes: %v", err).
			WithHint("see %s", s.Folder.Log(sandbox.FlyteAdmin)).Because(err)
	}
	var all []byte
	for _, cluster := range answer.GetClusters() {
		all = append(append(all, cluster.GetCaBundle()...), '\n')
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := sandbox.WriteFile(s.Folder.DataPlaneCA(), all, 0o600); err != nil {
		return err
	}
	return s.pki.Bundle(s.Folder.CABundle(), s.Folder.DataPlaneCA())
}

func (s *Supervisor) notJoined(err error) error {
	var said *usererr.Error
	if errors.As(err, &said) {
		return err
	}
	return usererr.New(usererr.Unavailable, "the data plane does not join: %v", err).
		WithHint("see %s and 'kubectl -n %s get pods', and run the same command again", s.Folder.Log(sandbox.FlyteAdmin), dataPlaneNamespace).Because(err)
}

// clusterClient asks the control plane about data planes.
func (s *Supervisor) clusterClient() (clusterv1connect.ClusterServiceClient, error) {
	client, err := component.Client(s.pki.CA())
	if err != nil {
		return nil, err
	}
	return clusterv1connect.NewClusterServiceClient(client, "https://"+s.localhost(sandbox.FlyteAdmin)), nil
}

// joinToken registers the data plane. It is empty for one that has joined.
func joinToken(ctx context.Context, clusters clusterv1connect.ClusterServiceClient) ([]byte, error) {
	added, err := clusters.AddCluster(ctx, &clusterv1.AddClusterRequest{Name: dataPlaneCluster})
	if connect.CodeOf(err) == connect.CodeAlreadyExists {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("registering the data plane: %w", err)
	}
	return []byte(added.GetJoinToken()), nil
}

// awaitReady asks until the data plane is there and all of it is well.
func awaitReady(ctx context.Context, clusters clusterv1connect.ClusterServiceClient) (*clusterv1.Cluster, error) {
	ctx, done := context.WithTimeout(ctx, upPatience)
	defer done()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	last := "it has not called yet"
	for {
		answer, err := clusters.GetCluster(ctx, &clusterv1.GetClusterRequest{Name: dataPlaneCluster})
		switch cluster := answer.GetCluster(); {
		case err != nil:
			last = err.Error()
		case cluster.GetState() == clusterv1.ClusterState_CLUSTER_STATE_READY && cluster.GetCaBundle() != "" && cluster.GetProxyEndpoint() != "":
			return cluster, nil
		default:
			for _, peer := range cluster.GetPeers() {
				if !peer.GetReady() {
					last = peer.GetName() + ": " + peer.GetMessage()
				}
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for the data plane: %w: %s", ctx.Err(), last)
		}
	}
}

// ownValues are those in which a sandbox differs from an account of AWS, for whoever
// installs a data plane in it.
func (s *Supervisor) ownValues() map[string]any {
	values := map[string]any{
		"image":             map[string]any{"repository": dataPlaneImage},
		"storage":           map[string]any{"endpoint": s.endpoint(sandbox.ObjectStore), "stsEndpoint": s.endpoint(portSTS)},
		"priorityClassName": "system-cluster-critical", // so that a fan-out leaves them time on a small machine
		"updateStrategy":    "Recreate",                // an old pod and its new one would want one port
	}
	for _, process := range dataPlaneProcesses {
		values[process] = map[string]any{"port": s.record.Ports[portOf(process)], "listenAddress": "127.0.0.1"}
	}
	return values
}

// chartValues are those of the sandbox's own data plane.
func (s *Supervisor) chartValues(made bootstrap.Result) map[string]any {
	facts := chart.Facts{
		Gateway: s.address(portGateway), Cluster: dataPlaneCluster,
		Region: s.record.Region, Metadata: made.Buckets.Metadata, FastRegistration: made.Buckets.FastRegistration,
		Operator: made.Roles["operator-system"], Executor: made.Roles["executor"], Proxy: made.Roles["proxy-system"],
		Task: made.Roles["clusterresource-template"], Upload: made.Roles["flyteadmin"],
	}
	return chart.Merge(chart.ValuesOf(facts), s.ownValues())
}
