package controlplane_test

import (
	"testing"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
)

func newRuns(w *world, options ...connect.ClientOption) workflowconnect.RunServiceClient {
	return workflowconnect.NewRunServiceClient(w.client, w.url, options...)
}

func TestRun(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	plane := w.join("east")

	t.Run("is handed over, watched and ends", func(t *testing.T) {
		run := w.create(&workflow.CreateRunRequest{})
		id := run.Action.Id
		if id.GetRun().GetOrg() != "default" || id.GetRun().GetProject() != "flytesnacks" || len(id.GetRun().GetName()) != 20 || id.GetName() != "a0" {
			t.Errorf("got %v, want the whole name", id)
		}
		handed := wait(t, plane.enqueued)
		if got, want := handed.Action.RunOutputBase, "s3://meta/flytesnacks/development/"+id.Run.Name; got != want {
			t.Errorf("got base %q, want %q", got, want)
		}
		if got, want := handed.Action.InputUri, "s3://meta/uploads/x/inputs.pb"; got != want {
			t.Errorf("got inputs %q, want %q", got, want)
		}
		template := handed.Action.GetTask().GetSpec().GetTaskTemplate().GetId()
		if template.GetOrg() != "default" || template.GetProject() != "flytesnacks" || template.GetDomain() != "development" {
			t.Errorf("got template of %v, want it to say whose it is", template)
		}
		if !handed.RunSpec.GetRunStartTime().IsValid() {
			t.Error("got no start time, want one")
		}

		stream, err := w.runs().WatchActionDetails(t.Context(), &workflow.WatchActionDetailsRequest{ActionId: id})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		var phases []common.ActionPhase
		for stream.Receive() {
			phase := stream.Msg().Details.GetStatus().GetPhase()
			phases = append(phases, phase)
			switch phase {
			case common.ActionPhase_ACTION_PHASE_QUEUED:
				plane.report(state(id.Run, 1, common.ActionPhase_ACTION_PHASE_RUNNING))
			case common.ActionPhase_ACTION_PHASE_RUNNING:
				plane.report(state(id.Run, 2, common.ActionPhase_ACTION_PHASE_SUCCEEDED))
			}
		}
		if err := stream.Err(); err != nil {
			t.Fatal(err)
		}
		if len(phases) != 3 || phases[2] != common.ActionPhase_ACTION_PHASE_SUCCEEDED {
			t.Errorf("got %v, want QUEUED, RUNNING, SUCCEEDED", phases)
		}
	})
}
