package template

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// sixRegions are those of the published links.
var sixRegions = []string{"us-east-1", "us-east-2", "us-west-2", "eu-west-1", "eu-west-2", "eu-central-1"}

// One run, because cfn-lint takes seconds for each template.
func TestCfnLintFindsNothingInTheSixRegions(t *testing.T) {
	t.Parallel()
	lint, err := filepath.Abs("../../../.cache/venv/bin/cfn-lint")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(lint); err != nil {
		t.Fatalf("got %v, want cfn-lint, which 'make setup' installs", err)
	}
	dir := t.TempDir()
	arguments := append([]string{"--regions"}, sixRegions...)
	arguments = append(arguments, "--template")
	for _, v := range variants() {
		made := made(t, v.Options)
		for _, f := range Formats {
			file := filepath.Join(dir, v.name+"."+string(f))
			if err := os.WriteFile(file, made.Bytes(f), 0o600); err != nil {
				t.Fatal(err)
			}
			arguments = append(arguments, file)
		}
	}
	out, err := exec.CommandContext(t.Context(), lint, arguments...).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("got %v and\n%s\nwant no error and no warning", err, out)
	}
	t.Logf("%d templates", len(arguments)-len(sixRegions)-2)
}
