package spec_test

import (
	"path/filepath"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/spec"
)

func TestDraft(t *testing.T) {
	whole := spec.Draft{Name: "demo", Account: "012345678901", Region: "eu-central-1", RoleARN: "arn:aws:iam::012345678901:role/union/union-ai-admin", ExternalID: "5Zq0v3l1x8mTfKcW2hYbNg",
		Policy: spec.Strict, CIDR: "10.0.0.0/16", Zones: 3, Kubernetes: spec.CurrentKubernetes, ClusterEndpoint: spec.PublicAddress, Roles: spec.PerServiceAccount}
	for name, c := range map[string]struct {
		change func(*spec.Draft)
		want   func(*spec.DataPlane) bool
		refuse string
	}{
		"it loads": {func(*spec.Draft) {}, func(dp *spec.DataPlane) bool {
			return dp.Metadata.Name == "demo" && dp.Spec.ControlPlane == nil && dp.Spec.Network.Create.Zones == 3
		}, ""},
		"it loads with a given network": {func(d *spec.Draft) {
			d.VPC, d.PrivateSubnets = "vpc-0123456789abcdef0", []string{"subnet-0123456789abcdef0", "subnet-0123456789abcdef1"}
		},
			func(dp *spec.DataPlane) bool {
				return dp.Spec.Network.Create == nil && len(dp.Spec.Network.Existing.PrivateSubnets) == 2
			}, ""},
		"it loads with a control plane": {func(d *spec.Draft) { d.ControlPlane, d.TokenFile = "https://cp.example.com:8443", "a file" },
			func(dp *spec.DataPlane) bool {
				return filepath.Base(dp.Spec.ControlPlane.TokenFile) == "a file" && dp.Spec.ControlPlane.Cluster == "demo"
			}, ""},
		"it quotes what is hostile": {func(d *spec.Draft) { d.Name = "x\nspec: {}" }, nil, "metadata.name"},
		"it refuses what Load does": {func(d *spec.Draft) { d.CIDR = "10.0.0.0/8" }, nil, "spec.network.create.cidr"},
		"it refuses a bad subnet":   {func(d *spec.Draft) { d.VPC, d.PrivateSubnets = "vpc-0123456789abcdef0", []string{"a", "b"} }, nil, "spec.network.existing"},
	} {
		t.Run(name, func(t *testing.T) {
			d := whole
			c.change(&d)
			text, err := d.Text()
			if c.refuse != "" {
				if err == nil || !strings.Contains(err.Error(), c.refuse) {
					t.Errorf("got %v, want a sentence with %q", err, c.refuse)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if dp, err := load(t, string(text)); err != nil || !c.want(dp) {
				t.Errorf("got %+v, %v of\n%s", dp, err, text)
			}
		})
	}
}
