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
		{"tells it by a flag, too", []string{"--version"}, 0, "biplane-dataplane devel"},
		{"says where help is when no process is named", nil, 2, "no process is named\nhint: run 'biplane-dataplane --help'"},
		{"names the processes", []string{"--help"}, 0, "  clustersync  make and keep the namespaces"},
		{"knows help by its short flag", []string{"-h"}, 0, "Exit status: 0"},
		{"knows help by its name", []string{"help"}, 0, "biplane-dataplane PROCESS [--config FILE]"},
		{"tells what a process does", []string{"proxy", "--help"}, 0, "Give inputs, outputs, logs and texts of errors to who may read them."},
		{"tells where a process looks for its file", []string{"operator", "-h"}, 0, "default /etc/biplane/config/config.yaml"},
		{"refuses a process that there is not", []string{"propeller"}, 2, "there is no process called \"propeller\"\nhint: run 'biplane-dataplane --help'"},
		{"names the process that was meant", []string{"operater"}, 2, "did you mean 'biplane-dataplane operator'?"},
		{"refuses words behind version", []string{"version", "now"}, 2, `version takes no argument, got "now"`},
		{"refuses a flag that there is not", []string{"operator", "--replicas", "2"}, 2, "flag provided but not defined: -replicas"},
		{"refuses a flag without its value", []string{"operator", "--config"}, 2, "flag needs an argument: -config"},
		{"says that there is no such file", []string{"operator", "--config", "none.yaml"}, 2, "cannot read the configuration none.yaml"},
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
			if status == 0 && stderr.Len() > 0 || status != 0 && stdout.Len() > 0 {
				t.Errorf("got %q on standard output and %q on standard error, want results on the first and errors on the second", &stdout, &stderr)
			}
			if status != test.status || !strings.Contains(said, test.out) {
				t.Errorf("got %d and %q, want %d and %q", status, said, test.status, test.out)
			}
		})
	}
}
