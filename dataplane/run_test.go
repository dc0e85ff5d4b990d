package dataplane_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"biplane.dev/biplane/dataplane"
)

func TestRun(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	file := func(text string) string {
		name := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(name, []byte("apiVersion: biplane.dev/v1alpha1\nkind: DataPlaneConfig\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	for _, test := range []struct {
		name   string
		args   []string
		status int
		out    string // of standard output, or of standard error where the status is not 0
	}{
		{"tells its version", []string{"version"}, 0, "biplane-dataplane devel"},
		{"names the processes when none is named", nil, 2, "clustersync|executor|operator|proxy"},
		{"refuses a process that there is not", []string{"propeller"}, 2, `there is no process called "propeller"`},
		{"refuses a flag that there is not", []string{"operator", "--replicas", "2"}, 2, "flag provided but not defined: -replicas"},
		{"refuses more words than it understands", []string{"operator", "now"}, 2, `"now" is not understood`},
		{"refuses a configuration with an unknown key", []string{"operator", "--config", file("storage:\n  bukket: a\n")}, 2, `there is no key "storage.bukket"`},
		{"refuses a level of logs that there is not", []string{"operator", "--config", file("log:\n  level: loud\n")}, 2, `log.level is "loud"`},
		{"asks for a control plane", []string{"operator", "--config", file("")}, 2, "controlPlane.gateway is missing"},
		{"says that there is no cluster", []string{"operator", "--config", file("controlPlane:\n  gateway: gateway.example:8091\n")}, 2, "there is no cluster to work in"},
	} {
		t.Run(test.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := dataplane.Run(t.Context(), test.args, &stdout, &stderr)
			said := stdout.String()
			if status != 0 {
				said = stderr.String()
			}
			if status != test.status || !strings.Contains(said, test.out) {
				t.Errorf("got %d and %q, want %d and %q", status, said, test.status, test.out)
			}
		})
	}
}
