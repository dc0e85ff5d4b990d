package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/internal/awsdouble/typical"
)

// account is an account in the double of AWS that has let the vendor in, with the file
// of a data plane that is to be there.
type account struct {
	biplane string
	env     []string
	file    string
}

// openAccount starts a double with these flags, and takes it away with the benchmark.
func openAccount(b *testing.B, flags ...string) account {
	b.Helper()
	path, err := filepath.Abs(*program)
	if err != nil {
		b.Fatal(err)
	}
	dir := b.TempDir()
	file := filepath.Join(dir, "env")
	double := exec.Command(filepath.Join(filepath.Dir(path), "biplane-awsdouble"), append([]string{"--env-file", file, "--call-log", filepath.Join(dir, "calls")}, flags...)...)
	double.Stderr = os.Stderr
	if testing.Verbose() {
		double.Args = append(double.Args, "--log-level=info")
	} else {
		double.Args = append(double.Args, "--log-level=error")
	}
	ready, err := double.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := double.Start(); err != nil {
		b.Fatalf("%v: run 'make build' first, or name a biplane with -biplane", err)
	}
	b.Cleanup(func() {
		double.Process.Signal(os.Interrupt)
		io.Copy(io.Discard, ready)
		if err := double.Wait(); err != nil {
			b.Error(err)
		}
	})
	bufio.NewReader(ready).ReadString('\n') // the file is written by then
	text, err := os.ReadFile(file)
	if err != nil {
		b.Fatal(err)
	}
	a := account{biplane: path, env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "AWS_REGION=eu-central-1"}, file: filepath.Join(dir, "dataplane.yaml")}
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "export "), "=")
		a.env = append(a.env, name+"="+strings.Trim(value, "'"))
	}

	const externalID = "5Zq0v3l1x8mTfKcW2hYbNg"
	granted, _ := a.run(b, 0, "access", "grant", "--method", "iam", "--external-id", externalID, "--delete-permissions", "--yes")
	lines := strings.Fields(string(granted))
	if err := os.WriteFile(a.file, fmt.Appendf(nil, `apiVersion: biplane.dev/v1alpha1
kind: DataPlane
metadata: {name: bench}
spec:
  account: "123456789012"
  region: eu-central-1
  access: {roleArn: %q, externalId: %s, policy: strict}
  network: {create: {cidr: 10.0.0.0/16, zones: 3}}
  cluster: {version: "1.34", endpoint: public}
`, lines[len(lines)-1], externalID), 0o600); err != nil {
		b.Fatal(err)
	}
	return a
}

// run types one command of biplane, which must end with that status, and returns what it
// printed and how long it took.
func (a account) run(b *testing.B, status int, args ...string) ([]byte, time.Duration) {
	b.Helper()
	return a.typed(b, status, a.biplane, append(args, "--quiet")...)
}

// plane is run for a command about the data plane.
func (a account) plane(b *testing.B, status int, command string, args ...string) ([]byte, time.Duration) {
	b.Helper()
	return a.run(b, status, append([]string{"dataplane", command, a.file, "--profile", "vendor"}, args...)...)
}

func (a account) typed(b *testing.B, status int, program string, args ...string) ([]byte, time.Duration) {
	b.Helper()
	command := exec.CommandContext(b.Context(), program, args...)
	command.Env = a.env
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	began := time.Now()
	err := command.Run()
	took := time.Since(began)
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) || command.ProcessState.ExitCode() != status {
		b.Fatalf("%s %s: %v, want status %d: %s", filepath.Base(program), strings.Join(args, " "), err, status, &said)
	}
	return out.Bytes(), took
}

// calls are how many calls the double was asked for.
func (a account) calls(b *testing.B) int {
	b.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(a.file), "calls"))
	if err != nil {
		b.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

// network is the id of the data plane's.
func (a account) network(ctx context.Context, b *testing.B) string {
	b.Helper()
	out, _ := a.typed(b, 0, filepath.Join(filepath.Dir(a.biplane), "../.cache/venv/bin/aws"), "ec2", "describe-vpcs",
		"--filters", "Name=cidr,Values=10.0.0.0/16", "--query", "Vpcs[].VpcId", "--output", "text")
	return strings.TrimSpace(string(out))
}

// graph is the plan of a data plane, as a command printed it.
type graph struct {
	Steps []struct {
		Name, Action string
		Calls, Needs []string
	}
}

func readGraph(b *testing.B, text []byte) graph {
	b.Helper()
	var g graph
	if err := json.Unmarshal(text, &g); err != nil {
		b.Fatal(err)
	}
	return g
}

// criticalPath is the longest way through the graph, by AWS's typical times for the calls
// of its steps, and the steps on it that take time. What is removed goes before what it
// needs.
func (g graph) criticalPath() (time.Duration, []string) {
	after := map[string][]string{}
	took := map[string]time.Duration{}
	for _, s := range g.Steps {
		for _, call := range s.Calls {
			took[s.Name] += typical.Of(call)
		}
		for _, need := range s.Needs {
			if s.Action == "remove" {
				after[need] = append(after[need], s.Name)
			} else {
				after[s.Name] = append(after[s.Name], need)
			}
		}
	}
	type way struct {
		long  time.Duration
		steps []string
	}
	known := map[string]way{}
	var to func(name string) way
	to = func(name string) way {
		if w, ok := known[name]; ok {
			return w
		}
		var longest way
		for _, before := range after[name] {
			if w := to(before); w.long > longest.long {
				longest = w
			}
		}
		if took[name] > 0 {
			longest = way{longest.long + took[name], append(slices.Clip(longest.steps), fmt.Sprintf("%s %s", name, took[name]))}
		}
		known[name] = longest
		return longest
	}
	var longest way
	for _, s := range g.Steps {
		if w := to(s.Name); w.long > longest.long {
			longest = w
		}
	}
	return longest.long, longest.steps
}
