package dataplane_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
)

// What is exported has every step of the graph, and cfn-lint, which comes with moto, finds
// nothing in it.
func TestExport(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*spec.DataPlane){
		"the smallest": func(*spec.DataPlane) {},
		"all that there is": func(dp *spec.DataPlane) {
			dp.Spec.Cluster.Karpenter, dp.Spec.Tags, dp.Spec.Org = true, map[string]string{"team": "data"}, "acme"
			n := dp.Spec.Network.Create
			n.ZoneIDs, n.SecondaryCIDRs, n.Endpoints, n.NAT = []string{"euc1-az1", "euc1-az2", "euc1-az3"}, []string{"100.64.0.0/16"}, spec.AllEndpoints, spec.NATSingle
			dp.Spec.Cluster.ServiceCIDR, dp.Spec.Cluster.Endpoint = "172.20.0.0/16", spec.PrivateAddress
			dp.Spec.Cluster.NodeGroups = append(dp.Spec.Cluster.NodeGroups, spec.NodeGroup{Name: "gpu", Spot: true, InstanceTypes: []string{"m7g.xlarge"},
				Labels: map[string]string{"gpu": "yes"}, Taints: []spec.Taint{{Key: "gpu", Effect: "NoSchedule"}}})
			dp.Spec.ControlPlane = &spec.ControlPlane{Endpoint: "https://cp.example.com", Cluster: "demo", TokenFile: "token", Issuer: "https://issuer.example.com"}
			dp.Spec.Buckets.Origins = []string{"https://console.example.com"}
		},
		"a network that is there, and shared roles": func(dp *spec.DataPlane) {
			dp.Spec.Network = spec.Network{Existing: &spec.NetworkThatIs{VPC: "vpc-0123456789abcdef0", PrivateSubnets: []string{"subnet-0123456789abcdef0", "subnet-0123456789abcdef1"}}}
			dp.Spec.WorkspaceRoles = spec.SharedRoles
		},
		"a private endpoint": func(dp *spec.DataPlane) { dp.Spec.PrivateEndpoint.Enabled = true },
		"no way out": func(dp *spec.DataPlane) {
			none := 0
			dp.Spec.Network.Create.NAT, dp.Spec.Network.Create.Endpoints, dp.Spec.Network.Create.FlowLogDays = spec.NATNone, spec.AllEndpoints, &none
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dp := account.DataPlane()
			change(dp)
			dp.Defaults()
			p, err := plane.New(dp, nil, clock.Clock{})
			if err != nil {
				t.Fatal(err)
			}
			exported, err := dataplane.Export(p)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.MarshalIndent(exported.Template, "", " ")
			if err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(t.TempDir(), "template.json")
			if err := os.WriteFile(file, text, 0o600); err != nil {
				t.Fatal(err)
			}
			if out, err := exec.CommandContext(t.Context(), "../../.cache/venv/bin/cfn-lint", "--regions", p.Place.Region, "--template", file).CombinedOutput(); err != nil {
				t.Errorf("cfn-lint: %v\n%s", err, out)
			}
		})
	}
}
