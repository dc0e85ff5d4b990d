package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"biplane.dev/biplane/internal/awsdouble"
)

// TestGrantInterrupted presses Ctrl-C while grant waits for the answer to a call.
// TestKill does so at each call, and looks at what comes of it; this is about
// what the person reads.
func TestGrantInterrupted(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"GetCallerIdentity", "GetPolicy", "GetAccountSummary", "CreatePolicy", "CreateRole", "AttachRolePolicy"} {
		t.Run("it says at "+at+" that the same command finishes", func(t *testing.T) {
			t.Parallel()
			reached, ended := make(chan struct{}), make(chan struct{})
			var once sync.Once
			double, err := awsdouble.Start(t.Context(), awsdouble.Options{Hook: func(c awsdouble.Call) awsdouble.Verdict {
				if c.Operation == at {
					once.Do(func() { close(reached) })
					<-ended
				}
				return awsdouble.Proceed()
			}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { double.Stop() })

			command := func() (*exec.Cmd, *bytes.Buffer) {
				cmd := exec.CommandContext(t.Context(), program(t), "access", "grant", "--method", "iam",
					"--external-id", externalID, "--policy", "compat", "--yes", "--quiet")
				var said bytes.Buffer
				cmd.Env, cmd.Stderr = append(double.Env(), "XDG_STATE_HOME="+t.TempDir()), &said
				return cmd, &said
			}
			first, said := command()
			if err := first.Start(); err != nil {
				t.Fatal(err)
			}
			<-reached
			if err := first.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			first.Wait()
			close(ended)
			want := "biplane: interrupted"
			if got := said.String(); first.ProcessState.ExitCode() != 2 || !strings.HasPrefix(got, want) || strings.Count(got, "\n") > 2 {
				t.Errorf("got status %d and %q, want 2 and one sentence that starts %q", first.ProcessState.ExitCode(), got, want)
			}
			second, said := command()
			if err := second.Run(); err != nil {
				t.Errorf("got %v and %q the second time, want it to finish", err, said)
			}
		})
	}
}
