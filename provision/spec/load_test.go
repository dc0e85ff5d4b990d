package spec_test

import (
	_ "embed"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/spec"
)

// smallest is the file that is a contract.
//
//go:embed testdata/smallest.yaml
var smallest string

func load(t *testing.T, text string) (*spec.DataPlane, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "dataplane.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return spec.Load(file)
}

func TestSmallest(t *testing.T) {
	dp, err := load(t, smallest)
	if err != nil {
		t.Fatal(err)
	}
	n, g := dp.Spec.Network.Create, dp.Spec.Cluster.NodeGroups
	if n.NAT != spec.NATPerZone || n.Endpoints != spec.RecommendedEndpoints || *n.FlowLogDays != 30 || len(g) != 1 || g[0].Name != "system" || g[0].Min != 2 || dp.Spec.Buckets.Suffix != "123456789012" {
		t.Errorf("got defaults %+v, %+v, %+v", n, g, dp.Spec.Buckets)
	}
}

// Every sentence names the field, and every one has a hint.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ from, to, want string }{
		{"metadata: {name: demo}", "metadata: {name: Demo}", "metadata.name"},
		{"metadata: {name: demo}", "metadata: {name: a-name-that-is-too-long-for-it}", "metadata.name"},
		{"metadata: {name: demo}", "metadata: {nmae: demo}", "metadata.nmae"},
		{`account: "123456789012"`, `account: "12345"`, "spec.account"},
		{"region: eu-central-1", "regoin: eu-central-1", "spec.regoin"},
		{`role/union/union-ai-admin"`, `user/x"`, "spec.access.roleArn"},
		{`iam::123456789012`, `iam::210987654321`, "spec.access.roleArn"},
		{`externalId: "5Zq0v3l1x8mTfKcW2hYbNg", `, "", "spec.access.externalId"},
		{"policy: strict", "policy: strikt", "spec.access.policy"},
		{"https://cp", "http://cp", "spec.controlPlane.endpoint"},
		{"cidr: 10.0.0.0/16", "cidr: 10.0.0.0/8", "spec.network.create.cidr"},
		{"cidr: 10.0.0.0/16", "cidr: 10.0.0.1/16", "spec.network.create.cidr"},
		{"cidr: 10.0.0.0/16", "cidr: ten", "spec.network.create.cidr"},
		{"zones: 3", "zones: 9", "spec.network.create.zones"},
		{"zones: 3", "zones: 3, nat: none", "spec.network.create.nat"},
		{"zones: 3", "zones: 3, zoneIds: [eu-central-1a, eu-central-1b, eu-central-1c]", "zoneIds"},
		{"zones: 3", "zones: 3, secondaryCidrs: [10.0.128.0/17]", `spec.network.create.secondaryCidrs: "10.0.128.0/17" overlaps 10.0.0.0/16 of spec.network.create.cidr`},
		{"zones: 3}}", "zones: 3}, onPremises: [192.168.0.0/16, 10.0.0.0/8]}", `spec.network.onPremises: "10.0.0.0/8" overlaps 10.0.0.0/16 of spec.network.create.cidr`},
		{"zones: 3}}", "zones: 3}, onPremises: [172.16.0.0/12]}", `spec.network.onPremises: "172.16.0.0/12" overlaps 172.20.0.0/16, which EKS may take`},
		{"{create: {cidr: 10.0.0.0/16, zones: 3}}", "{existing: {vpc: vpc-1}}", "spec.network.existing.vpc"},
		{"{create: {cidr: 10.0.0.0/16, zones: 3}}", "{}", "spec.network"},
		{`version: "1.34"`, `version: "1.34.2"`, "spec.cluster.version"},
		{`version: "1.34"`, `version: "1.34", serviceCidr: 10.0.0.0/16`, "spec.cluster.serviceCidr"},
		{`version: "1.34"`, `version: "1.34", logDays: 31`, "spec.cluster.logDays"},
		{`version: "1.34"`, `version: "1.34", nodeGroups: [{name: a, min: 5, max: 2}]`, "min 5 and max 2"},
		{"endpoint: public", "endpoint: pubic", "spec.cluster.endpoint"},
		{"workspaceRoles: per-service-account", "workspaceRoles: one", "spec.workspaceRoles"},
		{"privateEndpoint: {enabled: false}", "tags: {'aws:x': y}", "spec.tags"},
		{"kind: DataPlane", "kind: Dataplane", "kind"},
		{"v1alpha1", "v1", "apiVersion"},
	} {
		t.Run(c.to, func(t *testing.T) {
			_, err := load(t, strings.Replace(smallest, c.from, c.to, 1))
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != usererr.Invalid || said.Hint == "" || !strings.Contains(said.Error(), c.want) {
				t.Errorf("got %v, want a sentence with %q and a hint", err, c.want)
			}
		})
	}
}
