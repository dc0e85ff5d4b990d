// Package e2e_test runs Flyte's own SDK and command line, unmodified, against a
// whole sandbox: what authors of workflows do, in the words that they type.
//
//	e2e_test.go     a person with an SDK of a version, at a sandbox
//	sdk_test.go     what the SDK does from Python and from the command line
//	faults_test.go  what happens while something of the sandbox is away
//	provision_test.go  a data plane that is made in an account, runs a workflow, and goes
//	workflows/      what is run; check.py and further.py assert from Python
//	sdk/            versions of the SDK, locked
package e2e_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/internal/sandbox"
)

// The first is the latest; the others are older, as clients are.
var versions = flag.String("sdk", "2.12.1,2.6.10", "versions of the SDK to run, of those in sdk/")

// patience is how long one command may take, on a busy machine.
const patience = 10 * time.Minute

// person is somebody with a shell in which everything is set up.
type person struct {
	version string
	top     string // of the tree
	dir     string // where the sandboxes are
	env     []string
	status  sandbox.Status
}

// newPerson starts a sandbox, with more flags perhaps, whose pods use the SDK of that version, as the
// person does. Everything goes when the test ends.
func newPerson(t *testing.T, version string, flags ...string) *person {
	t.Helper()
	top, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	p := &person{version: version, top: top, dir: filepath.Join(t.TempDir(), "sandboxes")}
	venv := filepath.Join(top, ".cache", "flyte-"+version)
	p.env = append(os.Environ(), "HOME="+t.TempDir(), "NO_COLOR=1", "TERM=dumb", "COLUMNS=200", "VIRTUAL_ENV="+venv,
		"PATH="+strings.Join([]string{filepath.Join(top, "bin"), filepath.Join(top, ".cache", "bin"), filepath.Join(venv, "bin"), os.Getenv("PATH")}, ":"))
	p.ok(t, filepath.Join(top, "test", "python", "setup.sh"), "flyte-"+version, filepath.Join("sdk", version+".txt"))

	t.Cleanup(func() {
		if t.Failed() {
			p.tell(t)
		}
		p.run(t, "biplane", "sandbox", "down", "--dir", p.dir, "--purge")
	})
	began := time.Now()
	p.ok(t, "biplane", append([]string{"sandbox", "up", "--dir", p.dir, "--python", venv}, flags...)...)
	t.Logf("flyte %s: the sandbox is up after %.1f s", version, time.Since(began).Seconds())
	var env map[string]string
	p.json(t, &env, "biplane", "sandbox", "env", "--dir", p.dir, "--output", "json")
	for name, value := range env {
		p.env = append(p.env, name+"="+value)
	}
	p.json(t, &p.status, "biplane", "sandbox", "status", "--dir", p.dir, "--output", "json")
	return p
}

// result is how a command ended.
type result struct {
	stdout, stderr string
	exit           int
}

// run runs a command in the folder of the workflows.
func (p *person) run(t *testing.T, name string, args ...string) result {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), patience)
	defer done()
	command := p.command(ctx, name, args...)
	var stdout, stderr bytes.Buffer
	command.Stdout, command.Stderr = &stdout, &stderr
	err := command.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%s %s: %v", name, strings.Join(args, " "), err)
	}
	return result{stdout.String(), stderr.String(), command.ProcessState.ExitCode()}
}

func (p *person) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	if !strings.Contains(name, "/") { // the person's own PATH is meant, not the test's
		name = p.find(name)
	}
	command := exec.CommandContext(ctx, name, args...)
	command.Env, command.WaitDelay = p.env, 5*time.Second
	command.Dir = "workflows"
	if name == filepath.Join(p.top, "test", "python", "setup.sh") {
		command.Dir = "."
	}
	return command
}

// find is the program of that name on the person's PATH, or the name.
func (p *person) find(name string) string {
	for _, variable := range slices.Backward(p.env) { // the last of a name counts
		list, found := strings.CutPrefix(variable, "PATH=")
		if !found {
			continue
		}
		for _, folder := range filepath.SplitList(list) {
			path := filepath.Join(folder, name)
			if info, err := os.Stat(path); err == nil && !info.IsDir() {
				return path
			}
		}
		break
	}
	return name
}

// ok runs a command that must succeed, and returns what it printed.
func (p *person) ok(t *testing.T, name string, args ...string) string {
	t.Helper()
	r := p.run(t, name, args...)
	if r.exit != 0 {
		t.Fatalf("%s %s: got exit status %d, want 0\n%s\n%s", filepath.Base(name), strings.Join(args, " "), r.exit, r.stdout, r.stderr)
	}
	return r.stdout
}

func (p *person) json(t *testing.T, into any, name string, args ...string) {
	t.Helper()
	out := p.ok(t, name, args...)
	if err := json.Unmarshal([]byte(out), into); err != nil {
		t.Fatalf("%s %s: %v in %s", name, strings.Join(args, " "), err, out)
	}
}

// tell shows what there is to see of a sandbox in which something failed.
func (p *person) tell(t *testing.T) {
	for _, command := range [][]string{
		{"kubectl", "get", "pods,taskactions,workspaces", "-A", "-o", "wide"},
		{"kubectl", "-n", "union", "logs", "deployment/operator", "--tail", "40"},
		{"kubectl", "-n", "union", "logs", "deployment/executor", "--tail", "60"},
		{"kubectl", "-n", "union", "logs", "deployment/proxy", "--tail", "40"},
		{"biplane", "sandbox", "logs", "controlplane", "--dir", p.dir},
	} {
		r := p.run(t, command[0], command[1:]...)
		if len(r.stdout) > 8000 {
			r.stdout = "…" + r.stdout[len(r.stdout)-8000:]
		}
		t.Logf("$ %s\n%s%s", strings.Join(command, " "), r.stdout, r.stderr)
	}
}
