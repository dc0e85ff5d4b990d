package dataplane_test

import (
	"slices"
	"testing"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// Under the published grants a plan says what they lack before anything is made; the
// rest is made, found as it is, and removed as far as they go.
func TestCompat(t *testing.T) {
	t.Parallel()
	account, err := provisiontest.Start(t.Context(), awsdouble.Options{Clock: clock.Scaled(1000)}, spec.Compat)
	if err != nil {
		t.Fatal(err)
	}
	defer account.Double.Stop()
	dp := account.DataPlane()
	open := func() []step.Step {
		t.Helper()
		p := account.Open(t, dp, operations.Provision)
		p.DeleteData = true
		steps, err := dataplane.Steps(p)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	steps := open()
	shown := dataplane.NewPlan(steps, account.Plan(t, steps, step.Present))
	for _, want := range []struct{ step, action string }{
		{"add-on aws-ebs-csi-driver", "eks:CreatePodIdentityAssociation"},
		{"log group /aws/eks/opta-" + dp.Metadata.Name + "/cluster", "logs:TagResource"},
		{"endpoint ecr.api", "route53:AssociateVPCWithHostedZone"},
	} {
		if !slices.ContainsFunc(shown.Lacks, func(l dataplane.Lack) bool {
			return l.Step == want.step && slices.Contains(l.Actions, want.action) && l.Lost != ""
		}) {
			t.Errorf("got no lack of %s in %s; got %v", want.action, want.step, shown.Lacks)
		}
	}
	if slices.ContainsFunc(shown.Lacks, func(l dataplane.Lack) bool { return l.Step == "cluster opta-"+dp.Metadata.Name }) {
		t.Error("the cluster itself lacks a grant")
	}
	account.Reach(t, open(), step.Present)
	again := account.Plan(t, open(), step.Present)
	for _, s := range again.Steps {
		if s.Action.Writes() || s.Action == step.Refuse {
			t.Errorf("after it was made, %s: got %s %v", s.Name, s.Action, s.Details)
		}
	}
	account.Reach(t, open(), step.Absent)
	for _, s := range account.Plan(t, open(), step.Absent).Steps {
		if s.Action.Writes() {
			t.Errorf("after it was removed, %s: got %s %v", s.Name, s.Action, s.Details)
		}
	}
}
