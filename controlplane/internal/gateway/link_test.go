package gateway_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/durationpb"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/tunnel"
)

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := link(w.join(t, clusterName).dial(t, tunnel.Handlers{}), "operator-system")
	beat := func(version string) {
		t.Helper()
		answer, err := client.Heartbeat(t.Context(), &tunnelv1.HeartbeatRequest{Version: version, RoundTrip: durationpb.New(7 * time.Millisecond)})
		if err != nil {
			t.Fatal(err)
		}
		if got := answer.GetNext().AsDuration(); got != w.config.Gateway.Heartbeat {
			t.Errorf("got the next in %s, want it in %s", got, w.config.Gateway.Heartbeat)
		}
	}
	beat("v1")
	for range 100 {
		beat("v2")
	}
	known, err := w.store.GetCluster(t.Context(), organization, clusterName)
	if err != nil {
		t.Fatal(err)
	}
	if known.Report.GetVersion() == "" || known.Report.GetRoundTrip().AsDuration() != 7*time.Millisecond || known.LastHeartbeat.IsZero() {
		t.Errorf("got %v, want the first heartbeat recorded", known.Report)
	}
	eventually(t, "a later heartbeat to be recorded", func() bool {
		beat("v3")
		known, err := w.store.GetCluster(t.Context(), organization, clusterName)
		return err == nil && known.Report.GetVersion() == "v3"
	})
}

func TestHeartbeatLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := link(w.join(t, clusterName).dial(t, tunnel.Handlers{}), "operator-system")
	long := strings.Repeat("x", 129)
	for name, request := range map[string]*tunnelv1.HeartbeatRequest{
		"a version without end":           {Version: long},
		"a process whose name is so long": {Peers: []*clusterv1.Peer{{Name: long}}},
		"a process of such a version":     {Peers: []*clusterv1.Peer{{Name: "executor", Version: long}}},
		"a message without end":           {Peers: []*clusterv1.Peer{{Name: "executor", Message: strings.Repeat("x", 1025)}}},
		"more processes than there are":   {Peers: slices.Repeat([]*clusterv1.Peer{{Name: "executor"}}, 17)},
		"a bundle without end":            {DataPlane: &tunnelv1.DataPlane{ProxyCaBundle: strings.Repeat("x", 256<<10)}},
	} {
		t.Run("refuses "+name, func(t *testing.T) {
			t.Parallel()
			_, err := client.Heartbeat(context.WithoutCancel(t.Context()), request)
			wantCode(t, err, connect.CodeInvalidArgument)
		})
	}
}

func TestWatchConfig(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.join(t, clusterName).dial(t, tunnel.Handlers{})
	stream, err := link(session, "operator-system").WatchConfig(t.Context(), &tunnelv1.WatchConfigRequest{})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	first := stream.Msg()
	if first.GetOrganization() != organization || first.GetCluster() != clusterName || len(first.GetWorkspaces()) != len(store.Domains()) {
		t.Errorf("got %v, want this cluster and the workspaces of one project", first)
	}
	if got := first.GetProxyNames(); !slices.Contains(got, "localhost") || !slices.Contains(got, "127.0.0.1") {
		t.Errorf("got the proxy's names %q, want those of the relay", got)
	}
	if _, err := w.store.CreateProject(t.Context(), store.Project{Organization: organization, ID: "second"}); err != nil {
		t.Fatal(err)
	}
	for {
		if !stream.Receive() {
			t.Fatal(stream.Err())
		}
		if got := stream.Msg(); len(got.GetWorkspaces()) == 2*len(store.Domains()) {
			if got.GetRevision() <= first.GetRevision() {
				t.Errorf("got revision %d behind %d, want it to grow", got.GetRevision(), first.GetRevision())
			}
			break
		}
	}
	// A data plane must never take the end of a process for its own cancellation.
	go w.stop()
	for stream.Receive() {
	}
	wantCode(t, stream.Err(), connect.CodeUnavailable)
}

func TestReportStates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	client := link(w.join(t, clusterName).dial(t, newExecutor(nil).handlers()), "executor")
	key := w.run(t, clusterName, "reported")
	state := func(position uint64, organization string) *tunnelv1.ActionState {
		run := key
		run.Organization = organization
		return &tunnelv1.ActionState{
			Position: position, Version: position, Id: store.ActionKey{Run: run, Name: store.RootAction}.Proto(),
			Type: workflow.ActionType_ACTION_TYPE_TASK, Phase: common.ActionPhase_ACTION_PHASE_RUNNING,
		}
	}
	for range 2 { // a batch may come twice
		answer, err := client.ReportStates(t.Context(), &tunnelv1.ReportStatesRequest{States: []*tunnelv1.ActionState{state(5, organization)}, Position: 6})
		if err != nil {
			t.Fatal(err)
		}
		if answer.GetPosition() != 6 {
			t.Errorf("got position %d, want 6", answer.GetPosition())
		}
	}
	position, err := client.GetPosition(t.Context(), &tunnelv1.GetPositionRequest{})
	if err != nil || position.GetPosition() != 6 {
		t.Errorf("got %v, %v, want position 6", position, err)
	}
	if run, _, err := w.store.GetRun(t.Context(), key); err != nil || run.Root.Phase != common.ActionPhase_ACTION_PHASE_RUNNING {
		t.Errorf("got %s, %v, want the run as it was reported", run.Root.Phase, err)
	}
	t.Run("of a restored cluster begin anew", func(t *testing.T) {
		answer, err := client.ReportStates(t.Context(), &tunnelv1.ReportStatesRequest{Epoch: "restored", Position: 2})
		if err != nil || answer.GetPosition() != 2 {
			t.Errorf("got %v, %v, want position 2 of another epoch", answer, err)
		}
		at, err := client.GetPosition(t.Context(), &tunnelv1.GetPositionRequest{})
		if err != nil || at.GetPosition() != 2 || at.GetEpoch() != "restored" {
			t.Errorf("got %v, %v, want position 2 of the epoch restored", at, err)
		}
	})

	t.Run("of another cluster's runs change nothing", func(t *testing.T) {
		other := link(w.join(t, "c2").dial(t, tunnel.Handlers{}), "executor")
		ended := state(100, organization)
		ended.Phase = common.ActionPhase_ACTION_PHASE_SUCCEEDED
		if _, err := other.ReportStates(t.Context(), &tunnelv1.ReportStatesRequest{States: []*tunnelv1.ActionState{ended}, Position: 100}); err != nil {
			t.Fatal(err)
		}
		if run, _, err := w.store.GetRun(t.Context(), key); err != nil || run.Root.Phase != common.ActionPhase_ACTION_PHASE_RUNNING {
			t.Errorf("got %s, %v, want the run as its own cluster reported it", run.Root.Phase, err)
		}
	})

	for name, c := range map[string]struct {
		request *tunnelv1.ReportStatesRequest
		code    connect.Code
	}{
		"refuses states of another organisation": {&tunnelv1.ReportStatesRequest{States: []*tunnelv1.ActionState{state(7, "other")}, Position: 8}, connect.CodePermissionDenied},
		"refuses states out of order":            {&tunnelv1.ReportStatesRequest{States: []*tunnelv1.ActionState{state(9, organization), state(8, organization)}, Position: 9}, connect.CodeInvalidArgument},
		"refuses states behind the position":     {&tunnelv1.ReportStatesRequest{States: []*tunnelv1.ActionState{state(9, organization)}, Position: 8}, connect.CodeInvalidArgument},
		"refuses an epoch without end":           {&tunnelv1.ReportStatesRequest{Epoch: strings.Repeat("e", 65)}, connect.CodeInvalidArgument},
		"refuses more than it will hold":         {&tunnelv1.ReportStatesRequest{States: make([]*tunnelv1.ActionState, 5001), Position: 8}, connect.CodeInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for i, s := range c.request.States {
				if s == nil {
					c.request.States[i] = state(7, organization)
				}
			}
			_, err := client.ReportStates(context.WithoutCancel(t.Context()), c.request)
			wantCode(t, err, c.code)
		})
	}
}

func TestSignUpload(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	session := w.join(t, clusterName).dial(t, tunnel.Handlers{})
	if _, err := link(session, "operator-system").Heartbeat(t.Context(), &tunnelv1.HeartbeatRequest{DataPlane: &tunnelv1.DataPlane{MetadataBucket: "metadata"}}); err != nil {
		t.Fatal(err)
	}
	client := link(session, "proxy-system")
	good := "uploads/acme/flytesnacks/development/offloaded-inputs/0a/inputs.pb"
	answer, err := client.SignUpload(t.Context(), &tunnelv1.SignUploadRequest{Project: projectName, Domain: "development", Key: good})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(answer.GetUrl(), good) || len(w.signed) != 1 || w.signed[0].Bucket != "metadata" || w.signed[0].Key != good {
		t.Errorf("got %v for %v, want one put into the metadata bucket", answer, w.signed)
	}
	for name, c := range map[string]struct {
		project, domain, key string
		code                 connect.Code
	}{
		"refuses another organisation's":      {projectName, "development", strings.Replace(good, "acme", "other", 1), connect.CodeInvalidArgument},
		"refuses another workspace's":         {projectName, "development", strings.Replace(good, "development", "production", 1), connect.CodeInvalidArgument},
		"refuses what is no input":            {projectName, "development", "uploads/acme/flytesnacks/development/code/fast.tar.gz", connect.CodeInvalidArgument},
		"refuses a key that climbs":           {projectName, "development", "uploads/acme/flytesnacks/development/offloaded-inputs/../../../x", connect.CodeInvalidArgument},
		"refuses the folder itself":           {projectName, "development", "uploads/acme/flytesnacks/development/offloaded-inputs/", connect.CodeInvalidArgument},
		"refuses a project that is not there": {"nowhere", "development", strings.Replace(good, projectName, "nowhere", 1), connect.CodeNotFound},
		"refuses a domain that is none":       {projectName, "mars", strings.Replace(good, "development", "mars", 1), connect.CodeInvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := client.SignUpload(context.WithoutCancel(t.Context()), &tunnelv1.SignUploadRequest{Project: c.project, Domain: c.domain, Key: c.key})
			wantCode(t, err, c.code)
		})
	}
}
