package template

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

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
	arguments := append([]string{"--regions"}, LinkRegions...)
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
	t.Logf("%d templates", len(arguments)-len(LinkRegions)-2)
}
