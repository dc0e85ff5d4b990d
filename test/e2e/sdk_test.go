package e2e_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// checks are words of workflows/check.py.
var checks = []string{
	"scalars", "containers", "structured", "either", "files", "frames", "defaults", "big_input", "user_error", "retries", "non_recoverable", "timeout",
	"oom", "missing_module", "recovers", "cancels", "groups", "traces", "traces_again", "caching", "condition", "remote", "rerun", "recovery", "from_inside",
}

// further are words of workflows/further.py, which only the latest SDK can do.
var further = []string{
	"package", "endings", "bytes_in_logs", "run_context", "overrides", "second_attempt", "report", "not_served", "listings", "remote_tasks", "signals",
	"ten_at_once", "sentences",
}

func TestSDK(t *testing.T) {
	for version := range strings.SplitSeq(*versions, ",") {
		t.Run(version, func(t *testing.T) {
			p := newPerson(t, version)
			t.Run("runs", func(t *testing.T) { // so that the sandbox outlives those in parallel
				for _, check := range checks {
					p.check(t, "check.py", check)
				}
				tests := maps.Clone(commandLine)
				if version == latest {
					for _, check := range further {
						p.check(t, "further.py", check)
					}
					maps.Copy(tests, furtherCommandLine)
				}
				for name, test := range tests {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						test(t, p)
					})
				}
			})
			t.Run("leaves the SDK as it came", func(t *testing.T) {
				t.Log(p.ok(t, "python", "check.py", "unmodified"))
			})
		})
	}
}

// check runs one check of a file, beside the others.
func (p *person) check(t *testing.T, file, name string) {
	t.Run(name, func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		out := p.ok(t, "python", file, name)
		if !strings.HasSuffix(out, name+" ok\n") {
			t.Errorf("got %q, want it to end with ok", out)
		}
		t.Logf("%s: %.1f s", name, time.Since(began).Seconds())
	})
}

// commandLine are cases of the command flyte.
var commandLine = map[string]func(*testing.T, *person){
	"flyte run shows the log it follows": func(t *testing.T, p *person) {
		began := time.Now()
		out := p.ok(t, "flyte", "run", "--follow", "hello.py", "main", "--name", "Biplane")
		t.Logf("hello with --follow: %.1f s", time.Since(began).Seconds())
		if !strings.Contains(out, "greeting Biplane") {
			t.Errorf("got %s, want the line that the task printed", out)
		}
	},
	"flyte run runs tasks that call tasks": func(t *testing.T, p *person) {
		p.succeeds(t, p.flyteRun(t, "nested.py", "chain", "--x", "3", "--y", "4"), "25")
	},
	"flyte run fans out to a hundred by asyncio": func(t *testing.T, p *person) {
		began := time.Now()
		p.succeeds(t, p.flyteRun(t, "nested.py", "fanout"), "328350")
		t.Logf("a hundred children: %.1f s", time.Since(began).Seconds())
	},
	"flyte run fans out to a hundred by map": func(t *testing.T, p *person) {
		p.succeeds(t, p.flyteRun(t, "nested.py", "mapped"), "328350")
	},
	"flyte get logs shows a thousand lines in order": func(t *testing.T, p *person) {
		run := p.flyteRun(t, "waiting.py", "chatty")
		p.succeeds(t, run, "1000")
		out := p.ok(t, "flyte", "get", "logs", run)
		last := -1
		for line := range strings.SplitSeq(out, "\n") {
			_, number, found := strings.Cut(line, "line ")
			if n, err := strconv.Atoi(number[:min(5, len(number))]); found && err == nil {
				if n != last+1 {
					t.Fatalf("got line %d behind line %d, want each once and in order", n, last)
				}
				last = n
			}
		}
		if last != 999 {
			t.Errorf("got %d lines, want 1000", last+1)
		}
	},
	"flyte get logs reads those of a run that has ended": func(t *testing.T, p *person) {
		run := p.flyteRun(t, "hello.py", "main", "--name", "later")
		p.succeeds(t, run, "hello, later")
		p.podsGone(t, run)
		if out := p.ok(t, "flyte", "get", "logs", run); !strings.Contains(out, "greeting later") {
			t.Errorf("got %s, want the line that the task printed", out)
		}
	},
	"flyte get logs shows the traceback of a user's error": func(t *testing.T, p *person) {
		run := p.flyteRun(t, "failing.py", "user_error")
		if out := p.ok(t, "python", "drive.py", "wait", run); !strings.HasPrefix(out, "failed") {
			t.Errorf("got %s, want the run failed", out)
		}
		out := p.ok(t, "flyte", "get", "logs", run)
		for _, want := range []string{"Traceback", "failing.py", "raise ValueError", "the number is wrong"} {
			if !strings.Contains(out, want) {
				t.Errorf("got %s, want %s in it", out, want)
			}
		}
	},
	"the second attempt sees what was traced in the first": func(t *testing.T, p *person) {
		run := p.flyteRun(t, "waiting.py", "traced")
		if out := p.ok(t, "python", "drive.py", "wait", run); !strings.HasPrefix(out, "succeeded") {
			t.Errorf("got %s, want the run to succeed", out)
		}
		drawn := func(attempt, word string) string {
			for line := range strings.SplitSeq(p.ok(t, "flyte", "get", "logs", "--attempt", attempt, run), "\n") {
				if _, after, found := strings.Cut(line, word+" "); found {
					return after
				}
			}
			t.Fatalf("got no line with %s in the log of attempt %s", word, attempt)
			return ""
		}
		if first, second := drawn("1", "FIRST"), drawn("2", "SECOND"); first != second {
			t.Errorf("got %s, want %s again", second, first)
		}
	},
	"flyte run refuses a name that there is": func(t *testing.T, p *person) {
		name := fmt.Sprintf("twice-%d", time.Now().Unix())
		p.ok(t, "flyte", "run", "--name", name, "hello.py", "main")
		r := p.run(t, "flyte", "run", "--name", name, "hello.py", "main")
		if r.exit == 0 || !strings.Contains(r.stdout+r.stderr, "exists") {
			t.Errorf("got exit status %d and %s%s, want it to say that the run exists", r.exit, r.stdout, r.stderr)
		}
	},
	"flyte deploy makes a task that runs by name and version": func(t *testing.T, p *person) {
		p.ok(t, "flyte", "deploy", "--version", "v1", "hello.py", "env")
		p.ok(t, "flyte", "deploy", "--version", "v1", "hello.py", "env") // again is fine
		p.succeeds(t, runName(t, p.ok(t, "flyte", "run", "deployed-task", "hello.main", "--name", "deployed")), "hello, deployed")
		p.succeeds(t, runName(t, p.ok(t, "flyte", "run", "deployed-task", "hello.main:v1", "--name", "version")), "hello, version")
		if out := p.ok(t, "flyte", "get", "task"); !strings.Contains(out, "hello.main") {
			t.Errorf("got %s, want the task listed", out)
		}
	},
	"flyte abort run ends fifty children": func(t *testing.T, p *person) {
		run := p.flyteRun(t, "waiting.py", "many")
		p.await(t, "children to run", func() bool {
			return p.phases(t, run)["RUNNING"] > 10 // the root is one
		})
		p.ok(t, "flyte", "abort", "run", run)
		p.podsGone(t, run)
		if out := p.ok(t, "python", "drive.py", "wait", run); !strings.HasPrefix(out, "aborted") {
			t.Errorf("got %s, want the run aborted", out)
		}
		if out := p.ok(t, "python", "drive.py", "phases", run); strings.Contains(out, "running") || strings.Contains(out, "queued") {
			t.Errorf("got %s, want every child aborted", out)
		}
	},
	"flyte create project makes one that runs tasks": func(t *testing.T, p *person) {
		r := p.run(t, "flyte", "run", "--project", "garden", "hello.py", "main")
		if r.exit == 0 || !strings.Contains(r.stdout+r.stderr, "garden") {
			t.Errorf("got exit status %d and %s%s, want the unknown project named", r.exit, r.stdout, r.stderr)
		}
		p.ok(t, "flyte", "create", "project", "--id", "garden", "--name", "Garden")
		if out := p.ok(t, "flyte", "get", "project"); !strings.Contains(out, "garden") {
			t.Errorf("got %s, want the project listed", out)
		}
		out := p.ok(t, "flyte", "run", "--project", "garden", "--follow", "hello.py", "main", "--name", "gardener")
		if !strings.Contains(out, "greeting gardener") {
			t.Errorf("got %s, want the line that the task printed", out)
		}
	},
}

// furtherCommandLine are those that only the latest SDK can do.
var furtherCommandLine = map[string]func(*testing.T, *person){
	"flyte run takes a value of each type from the command line": func(t *testing.T, p *person) {
		if out := p.ok(t, "flyte", "run", "typed.py", "told", "--help"); !strings.Contains(out, "--took") {
			t.Errorf("got %s, want the inputs listed", out)
		}
		folder := filepath.Join(t.TempDir(), "folder")
		write(t, filepath.Join(folder, "sub", "two"), "2")
		write(t, filepath.Join(folder, "one"), "1")
		run := p.flyteRun(t, "--label", "team=garden", "-e", "COLOR=blue", "--max-action-concurrency", "2", "typed.py", "told", "--i", "-3", "--f", "2.5", "--s", "süß",
			"--b", "--when", "2026-01-02T03:04:05", "--took", "PT90S", "--color", "GREEN", "--xs", "[1, 2]", "--point", `{"x": 1}`, "--either", "two",
			"--file", filepath.Join(folder, "one"), "--folder", folder)
		p.succeeds(t, run, "-3 2.5 süß True 2026-01-02 03:04:05+00:00 90.0 GREEN [1, 2] 1 0.5 two None 1 ['one', 'two'] blue")
		if out := p.ok(t, "flyte", "get", "run", "--with-label", "team=garden"); !strings.Contains(out, run) {
			t.Errorf("got %s, want the run of that label", out)
		}
		if out := p.ok(t, "flyte", "get", "io", run); !strings.Contains(out, "süß") {
			t.Errorf("got %s, want inputs and outputs", out)
		}
	},
	"flyte run takes a package, with the files beside its modules if told so": func(t *testing.T, p *person) {
		loaded := p.flyteRun(t, filepath.Join("shop", "main.py"), "main", "--n", "1")
		all := p.flyteRun(t, "--copy-style", "all", filepath.Join("shop", "main.py"), "main", "--n", "1")
		p.succeeds(t, loaded, "['a', 'bb'] [0]")
		p.succeeds(t, all, "['a!', 'bb!'] [0]")
	},
	"flyte run runs in each domain": func(t *testing.T, p *person) {
		for _, domain := range []string{"staging", "production"} {
			out := p.ok(t, "flyte", "run", "--domain", domain, "--follow", "hello.py", "main", "--name", domain)
			if !strings.Contains(out, "greeting "+domain) {
				t.Errorf("got %s, want the line that the task printed", out)
			}
		}
	},
	"flyte update project archives one, and brings it back": func(t *testing.T, p *person) {
		p.ok(t, "flyte", "create", "project", "--id", "orchard", "--name", "Orchard")
		p.ok(t, "flyte", "update", "project", "orchard", "--name", "Old orchard", "--description", "apples", "--label", "of=trees", "--archive")
		if out := p.ok(t, "flyte", "get", "project", "--archived"); !strings.Contains(out, "Old orchard") || !strings.Contains(out, "of: trees") {
			t.Errorf("got %s, want the archived project", out)
		}
		if r := p.run(t, "flyte", "run", "--project", "orchard", "hello.py", "main"); r.exit == 0 || !strings.Contains(r.stdout+r.stderr, "archived") {
			t.Errorf("got exit status %d and %s%s, want nothing started", r.exit, r.stdout, r.stderr)
		}
		p.ok(t, "flyte", "update", "project", "orchard", "--unarchive")
		if out := p.ok(t, "flyte", "run", "--project", "orchard", "--follow", "hello.py", "main", "--name", "again"); !strings.Contains(out, "greeting again") {
			t.Errorf("got %s, want the line that the task printed", out)
		}
	},
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// flyteRun starts a run from the command line, and returns its name.
func (p *person) flyteRun(t *testing.T, args ...string) string {
	t.Helper()
	return runName(t, p.ok(t, "flyte", append([]string{"run"}, args...)...))
}

// runName finds the name in what flyte run prints: the last element of the link.
func runName(t *testing.T, out string) string {
	t.Helper()
	found := regexp.MustCompile(`/runs/([a-z0-9-]+)`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("got %s, want the link to the run", out)
	}
	return found[1]
}

// succeeds waits for a run, whose output is to be as wanted.
func (p *person) succeeds(t *testing.T, run, output string) {
	t.Helper()
	if got, want := strings.TrimSpace(p.ok(t, "python", "drive.py", "wait", run)), "succeeded "+output; got != want {
		t.Errorf("got %q of run %s, want %q", got, run, want)
	}
}

// phases counts the actions of a run, in the cluster.
func (p *person) phases(t *testing.T, run string) map[string]int {
	t.Helper()
	counted := map[string]int{}
	for phase := range strings.FieldsSeq(p.ok(t, "kubectl", "-n", "flytesnacks-development", "get", "taskactions", "-l", "flyte.org/run="+run, "-o", "jsonpath={.items[*].status.phase}")) {
		counted[phase]++
	}
	return counted
}

// podsGone waits until a run has none left.
func (p *person) podsGone(t *testing.T, run string) {
	t.Helper()
	p.ok(t, "kubectl", "-n", "flytesnacks-development", "wait", "--for", "delete", "pods", "-l", "flyte.org/run="+run, "--timeout", patience.String())
}
