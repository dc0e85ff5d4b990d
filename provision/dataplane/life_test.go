package dataplane_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// One account serves every test; each has a data plane of its own in it.
var account *provisiontest.Account

func TestMain(m *testing.M) {
	var err error
	account, err = provisiontest.Start(context.Background(), awsdouble.Options{Clock: clock.Scaled(1000)}, spec.Strict)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status := m.Run()
	if err := account.Double.Stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// as are the steps of a data plane in a session of one role.
func as(t *testing.T, dp *spec.DataPlane, who operations.Roles) []step.Step {
	t.Helper()
	p := account.Open(t, dp, who)
	p.DeleteData = true
	steps, err := dataplane.Steps(p)
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

// A data plane is made by the provision role, found as it is by those who look, and
// removed by the teardown role, each with the strict grants and nothing else.
func TestLife(t *testing.T) {
	dp := account.DataPlane()
	dp.Spec.Cluster.Karpenter = true

	account.Reach(t, as(t, dp, operations.Provision), step.Present)
	for _, who := range []operations.Roles{operations.Observe, operations.Provision, operations.Operate} {
		for _, s := range account.Plan(t, as(t, dp, who), step.Present).Steps {
			if s.Action.Writes() || s.Action == step.Refuse {
				t.Errorf("%s: %s: got %s (%v), want nothing to do", who, s.Name, s.Action, s.Details)
			}
		}
	}
	account.Reach(t, as(t, dp, operations.Teardown), step.Absent)
	for _, s := range account.Plan(t, as(t, dp, operations.Teardown), step.Absent).Steps {
		if s.Action.Writes() || s.Action == step.Leave {
			t.Errorf("%s: got %s (%v), want it gone", s.Name, s.Action, s.Details)
		}
	}
}
