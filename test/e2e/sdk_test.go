package e2e_test

import (
	"strings"
	"testing"
	"time"
)

// checks are words of workflows/check.py; a version is named where the SDK before
// it does not have what is checked.
var checks = []struct{ name, since string }{
	{"scalars", ""}, {"containers", ""}, {"structured", ""}, {"either", ""}, {"files", ""}, {"frames", ""}, {"defaults", ""},
	{"big_input", ""}, {"user_error", ""}, {"retries", ""}, {"non_recoverable", ""}, {"timeout", ""}, {"oom", ""},
	{"missing_module", ""}, {"recovers", ""}, {"cancels", ""}, {"groups", ""}, {"traces", ""}, {"caching", ""},
	{"condition", ""}, {"remote", ""}, {"rerun", ""}, {"from_inside", ""},
}

func TestSDK(t *testing.T) {
	for version := range strings.SplitSeq(*versions, ",") {
		t.Run(version, func(t *testing.T) {
			p := newPerson(t, version)
			t.Run("runs", func(t *testing.T) { // so that the sandbox outlives those in parallel
				for _, check := range checks {
					t.Run(check.name, func(t *testing.T) {
						t.Parallel()
						began := time.Now()
						out := p.ok(t, "python", "check.py", check.name)
						if !strings.HasSuffix(out, check.name+" ok\n") {
							t.Errorf("got %q, want it to end with ok", out)
						}
						t.Logf("%s: %.1f s", check.name, time.Since(began).Seconds())
					})
				}
				for name, test := range commandLine {
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

// commandLine are cases of the command flyte.
var commandLine = map[string]func(*testing.T, *person){
	"flyte run hello.py main": func(t *testing.T, p *person) {
		began := time.Now()
		out := p.ok(t, "flyte", "run", "--follow", "hello.py", "main", "--name", "Biplane")
		t.Logf("hello with --follow: %.1f s", time.Since(began).Seconds())
		if !strings.Contains(out, "greeting Biplane") {
			t.Errorf("got %s, want the line that the task printed", out)
		}
	},
}
