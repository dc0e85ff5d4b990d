package dataplane_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// A cluster goes to the next version by the operate role, from wherever a run that was
// killed has left it, and to no other.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	dp := account.DataPlane()
	dp.Spec.Cluster.Version = "1.33"
	dp.Spec.Cluster.NodeGroups = []spec.NodeGroup{{Name: "system"}, {Name: "more"}}
	dp.Defaults()
	account.Reach(t, as(t, dp, operations.Provision), step.Present)
	defer func() { account.Reach(t, as(t, dp, operations.Teardown), step.Absent) }()

	p := account.Open(t, dp, operations.Operate)
	steps := func(to string, force bool) []step.Step {
		t.Helper()
		steps, err := cluster.UpgradeSteps(t.Context(), p, to, force)
		if err != nil {
			t.Fatal(err)
		}
		return steps
	}
	for to, want := range map[string]string{"1.35": "one minor version at a time", "1.32": "never taken back", "1.34.2": "no Kubernetes version", "new": "no Kubernetes version"} {
		var said *usererr.Error
		if _, err := cluster.UpgradeSteps(t.Context(), p, to, false); !errors.As(err, &said) || !strings.Contains(said.Error(), want) || said.Hint == "" {
			t.Errorf("to %s: got %v, want a sentence with %q and a hint", to, err, want)
		}
	}

	// Somebody began the first step and was killed.
	if _, err := p.AWS.EKS.UpdateClusterVersion(t.Context(), &eks.UpdateClusterVersionInput{Name: aws.String(p.ClusterName()), Version: aws.String("1.34")}); err != nil {
		t.Fatal(err)
	}
	account.Reach(t, steps("1.34", false), step.Present)
	// The nodes are at the end of the row, so all before them are done.
	for _, group := range []string{"system", "more"} {
		out, err := p.AWS.EKS.DescribeNodegroup(t.Context(), &eks.DescribeNodegroupInput{ClusterName: aws.String(p.ClusterName()), NodegroupName: &group})
		if err != nil || aws.ToString(out.Nodegroup.Version) != "1.34" {
			t.Errorf("node group %s: got %v, error %v, want 1.34", group, out.Nodegroup.Version, err)
		}
	}
	for _, s := range account.Plan(t, steps("1.34", false), step.Present).Steps {
		if s.Action != step.Keep {
			t.Errorf("after the upgrade, %s: got %s %v, want nothing to do", s.Name, s.Action, s.Details)
		}
	}

	// The file says the new version, or the old one.
	refused := account.Plan(t, as(t, dp, operations.Observe), step.Present).With(step.Refuse)
	if len(refused) != 1 || !strings.Contains(refused[0].Hint, `write version: "1.34"`) {
		t.Errorf("with the old version in the file: got %v, want the cluster alone refused", refused)
	}
	dp.Spec.Cluster.Version = "1.34"
	observed := account.Open(t, dp, operations.Observe)
	all, err := dataplane.Steps(observed)
	if err != nil {
		t.Fatal(err)
	}
	if plan := account.Plan(t, all, step.Present); plan.Writes() || len(plan.With(step.Refuse)) > 0 {
		t.Errorf("with the new version in the file: got %s", plan.Summary())
	}

	// What EKS has found against the next version refuses, and can be overruled.
	if _, err := p.AWS.EKS.UpdateAddon(t.Context(), &eks.UpdateAddonInput{ClusterName: aws.String(p.ClusterName()), AddonName: aws.String("coredns"), AddonVersion: aws.String("v1.12.1-eksbuild.2")}); err != nil {
		t.Fatal(err)
	}
	waiter := eks.NewAddonActiveWaiter(p.AWS.EKS, func(o *eks.AddonActiveWaiterOptions) {
		o.MinDelay, o.MaxDelay = p.Clock.Machine(1e9), p.Clock.Machine(10e9)
	})
	if err := waiter.Wait(t.Context(), &eks.DescribeAddonInput{ClusterName: aws.String(p.ClusterName()), AddonName: aws.String("coredns")}, 60e9); err != nil {
		t.Fatal(err)
	}
	if plan := account.Plan(t, steps("1.35", false), step.Present); len(plan.With(step.Refuse)) != 1 || !strings.Contains(plan.With(step.Refuse)[0].Details[0], "coredns v1.12.1-eksbuild.2") {
		t.Errorf("with an add-on that does not fit: got %v, want it refused by name", plan.Steps)
	}
	account.Reach(t, steps("1.35", true), step.Present)
	for _, s := range account.Plan(t, steps("1.35", false), step.Present).Steps {
		if s.Action != step.Keep {
			t.Errorf("after it was overruled, %s: got %s %v, want nothing to do", s.Name, s.Action, s.Details)
		}
	}
}
