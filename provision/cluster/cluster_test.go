package cluster_test

import (
	"slices"
	"testing"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// What the file asked for once is among the steps, wanted no longer, and takes nothing to
// make; what it asks for is wanted.
func TestStepsHaveWhatTheFileNoLongerAsksFor(t *testing.T) {
	t.Parallel()
	dp := &spec.DataPlane{Metadata: spec.Metadata{Name: "demo"}, Spec: spec.Spec{Account: "123456789012", Region: "eu-central-1",
		Access:  spec.Access{RoleARN: "arn:aws:iam::123456789012:role/union/union-ai-admin", ExternalID: "5Zq0v3l1x8mTfKcW2hYbNg"},
		Network: spec.Network{Create: &spec.NetworkToMake{CIDR: "10.0.0.0/16"}}, Cluster: spec.Cluster{Version: "1.34"}}}
	dp.Defaults()
	p, err := plane.New(dp, vendor.Default(), clock.Scaled(1))
	if err != nil {
		t.Fatal(err)
	}
	p.Know(plane.NodeGroups, "system", "former")
	unwanted := map[string]bool{}
	for _, s := range cluster.Steps(p, cluster.After{}) {
		_, unwanted[s.Name()] = s.(resource.Unwanted)
		if about := step.Describe(s); unwanted[s.Name()] && (len(about.Creates) > 0 || about.Monthly > 0) {
			t.Errorf("%s: got %+v, want nothing of what it would take to make it", s.Name(), about)
		}
	}
	for _, name := range []string{"node group former", "queue Karpenter-union-demo"} {
		if no, there := unwanted[name]; !there || !no {
			t.Errorf("%s: got wanted or missing, want it to be no longer asked for", name)
		}
	}
	for _, name := range []string{"node group system", "cluster union-demo", "encryption key"} {
		if no, there := unwanted[name]; !there || no {
			t.Errorf("%s: got unwanted or missing, want it to be asked for", name)
		}
	}

	p.Spec.Cluster.Karpenter = true
	if !slices.ContainsFunc(cluster.Steps(p, cluster.After{}), func(s step.Step) bool {
		_, no := s.(resource.Unwanted)
		return s.Name() == "queue Karpenter-union-demo" && !no
	}) {
		t.Error("got no queue that is asked for, want one with karpenter: true")
	}
}
