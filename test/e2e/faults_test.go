package e2e_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// latest is the version of the SDK with which things go wrong.
const latest = "2.12.1"

// children of the runs in which something dies; the sum of their results.
const children, sum = 20, "190"

func TestFaults(t *testing.T) {
	p := newPerson(t, latest)
	for _, process := range []string{"operator", "clustersync", "executor", "proxy"} {
		t.Run("it goes on after kill -9 of "+process, func(t *testing.T) {
			p.survives(t, func() {
				for _, pid := range p.pods(t, process) {
					if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
						t.Errorf("killing %s: %v", process, err)
					}
				}
			})
		})
	}
	t.Run("it goes on after kill -9 of controlplane", func(t *testing.T) {
		p.survives(t, func() {
			for _, component := range p.status.Components {
				if component.Name == "controlplane" {
					if err := syscall.Kill(component.PID, syscall.SIGKILL); err != nil {
						t.Error(err)
					}
					return
				}
			}
			t.Error("got no component controlplane in the status")
		})
	})
	t.Run("it finishes children while the control plane is away, and tells it later", func(t *testing.T) {
		run := p.start(t, 5)
		p.ok(t, "biplane", "sandbox", "stop", "controlplane", "--dir", p.dir)
		p.await(t, "all actions of the run to succeed", func() bool { return p.phases(t, run)["SUCCEEDED"] == children+1 })
		p.ok(t, "biplane", "sandbox", "start", "controlplane", "--dir", p.dir)
		p.ends(t, run)
	})
	t.Run("it refuses a direct put by the proxy's role, through which inputs are written all the same", func(t *testing.T) {
		r := p.run(t, filepath.Join(p.top, ".cache", "venv", "bin", "aws"), "--profile", "proxy-system", "s3api", "put-object",
			"--bucket", p.status.Buckets.Metadata, "--key", "uploads/mine", "--body", "hello.py")
		if r.exit == 0 || !strings.Contains(r.stderr, "AccessDenied") {
			t.Errorf("got exit status %d and %q, want AccessDenied", r.exit, r.stderr)
		}
		if out := p.ok(t, "python", "check.py", "defaults"); !strings.HasSuffix(out, "defaults ok\n") {
			t.Errorf("got %q, want a run with inputs to succeed", out)
		}
	})
}

// survives starts a run, does something to the sandbox once its children run, and
// wants the run to end as if nothing had been.
func (p *person) survives(t *testing.T, happens func()) {
	t.Helper()
	run := p.start(t, 3)
	happens()
	p.ends(t, run)
}

// start starts a run, and returns its name once a child of it runs.
func (p *person) start(t *testing.T, seconds int) string {
	t.Helper()
	run := strings.TrimSpace(p.ok(t, "python", "drive.py", "start", strconv.Itoa(children), strconv.Itoa(seconds)))
	p.await(t, "a child to run", func() bool { return p.phases(t, run)["RUNNING"] > 1 }) // the root is one
	return run
}

func (p *person) ends(t *testing.T, run string) {
	t.Helper()
	if got, want := strings.TrimSpace(p.ok(t, "python", "drive.py", "wait", run)), "succeeded "+sum; got != want {
		t.Errorf("got %q of run %s, want %q", got, run, want)
	}
	if got := strings.Count(p.ok(t, "python", "drive.py", "phases", run), "succeeded"); got != children {
		t.Errorf("got %d children that succeeded, want %d", got, children)
	}
}

func (p *person) await(t *testing.T, what string, happened func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !happened(); {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// pods are the process ids of a part of the data plane: those of the program that
// the sandbox's node has below itself.
func (p *person) pods(t *testing.T, process string) []int {
	t.Helper()
	node := 0
	for _, component := range p.status.Components {
		if strings.HasPrefix(component.Name, "node-") {
			node = component.PID
		}
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	var found []int
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid)) // it may be gone
		words := strings.Split(string(line), "\x00")
		if len(words) > 1 && filepath.Base(words[0]) == "biplane-dataplane" && words[1] == process && below(pid, node) {
			found = append(found, pid)
		}
	}
	if len(found) == 0 {
		t.Fatalf("got no process %s below node %d", process, node)
	}
	return found
}

// below says whether a process descends from another.
func below(pid, ancestor int) bool {
	for pid > 1 {
		if pid == ancestor {
			return true
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return false
		}
		// Behind the name, which may have anything in it: state, then the parent.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		if len(fields) < 2 {
			return false
		}
		pid, _ = strconv.Atoi(fields[1])
	}
	return false
}
