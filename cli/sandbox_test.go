package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

func TestPrintLog(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, file, text string) {
		t.Helper()
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := f.WriteString(text); err != nil {
			t.Fatal(err)
		}
	}

	t.Run("follows a log that is renamed and begun anew, and loses no line", func(t *testing.T) {
		t.Parallel()
		name := filepath.Join(t.TempDir(), "etcd.log")
		write(t, name+".1", "1\n")
		write(t, name, "2\n")
		synctest.Test(t, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			var out lines
			ended := make(chan error, 1)
			go func() { ended <- printLog(ctx, &out, name, true) }()
			want := "1\n2\n"
			check := func() {
				t.Helper()
				time.Sleep(time.Second) // of the bubble's clock: none
				synctest.Wait()
				if got := out.String(); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
			}
			check()
			for _, line := range []string{"3\n", "4\n", "5\n"} {
				// Written, renamed and written again between two looks.
				write(t, name, line)
				if err := os.Rename(name, name+".1"); err != nil {
					t.Fatal(err)
				}
				write(t, name+".1", "late "+line) // by who had it open
				want += line + "late " + line
				if line == "4\n" {
					check() // while there is no file of the name
				}
				write(t, name, "new "+line)
				want += "new " + line
				check()
			}
			if err := os.Truncate(name, 0); err != nil {
				t.Fatal(err)
			}
			write(t, name, "6\n")
			want += "6\n"
			check()
			interrupt()
			if err := <-ended; err != nil {
				t.Errorf("got %v when it was interrupted, want no error", err)
			}
		})
	})

	t.Run("ends at the end where it shall not follow", func(t *testing.T) {
		t.Parallel()
		name := filepath.Join(t.TempDir(), "etcd.log")
		write(t, name, "2\n3")
		var out lines
		if err := printLog(t.Context(), &out, name, false); err != nil || out.String() != "2\n3" {
			t.Errorf("got %q and %v, want all of it", out.String(), err)
		}
	})
}

// lines is a buffer that is read while it is written.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func TestSandboxEnv(t *testing.T) {
	t.Parallel()
	status := sandbox.Status{
		Kubernetes: &sandbox.Kubernetes{Kubeconfig: "/a b/it's/kubeconfig"},
		S3:         &sandbox.S3{Endpoint: "https://127.0.0.1:1", Region: "eu-central-1"},
		STS:        &sandbox.Endpoint{Endpoint: "https://127.0.0.1:2"},
		IAM:        &sandbox.Endpoint{Endpoint: "https://127.0.0.1:3"},
	}
	folder := sandbox.Folder("/a b/it's $HOME `x` \"y\"")
	want := map[string]string{
		"KUBECONFIG": "/a b/it's/kubeconfig", "AWS_CONFIG_FILE": folder.AWSConfig(), "AWS_SHARED_CREDENTIALS_FILE": folder.AWSCredentials(),
		"AWS_ENDPOINT_URL_S3": "https://127.0.0.1:1", "AWS_ENDPOINT_URL_STS": "https://127.0.0.1:2", "AWS_ENDPOINT_URL_IAM": "https://127.0.0.1:3",
		"AWS_CA_BUNDLE": folder.CABundle(), "SSL_CERT_FILE": folder.CABundle(), "AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true",
	}
	print := func(t *testing.T, form string) string {
		t.Helper()
		var out bytes.Buffer
		a := &app{Streams: Streams{Out: &out}, output: choice{value: form}}
		if err := a.print(environment(folder, status), environment(folder, status).exports); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}

	t.Run("is evaluated by a shell as the paths are, whatever is in them", func(t *testing.T) {
		t.Parallel()
		cmd := exec.CommandContext(t.Context(), "sh", "-c", print(t, "table")+"env -0")
		cmd.Env = []string{"PATH=" + os.Getenv("PATH")}
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, line := range strings.Split(string(out), "\x00") {
			name, value, _ := strings.Cut(line, "=")
			got[name] = value
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("got %s=%q, want %q", name, got[name], value)
			}
		}
	})

	t.Run("is an object in JSON", func(t *testing.T) {
		t.Parallel()
		var got map[string]string
		if err := json.Unmarshal([]byte(print(t, "json")), &got); err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("got %d variables, want %d", len(got), len(want))
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("got %s=%q, want %q", name, got[name], value)
			}
		}
	})

	t.Run("leaves out what the sandbox was started without", func(t *testing.T) {
		t.Parallel()
		for _, v := range environment(folder, sandbox.Status{S3: status.S3, STS: status.STS, IAM: status.IAM}) {
			if v.name == "KUBECONFIG" {
				t.Errorf("got %s, want none without Kubernetes", v.name)
			}
		}
		for _, v := range environment(folder, sandbox.Status{Kubernetes: status.Kubernetes}) {
			if v.name != "KUBECONFIG" {
				t.Errorf("got %s, want KUBECONFIG alone without S3", v.name)
			}
		}
	})
}

func TestUpProgress(t *testing.T) {
	t.Parallel()
	events := []sandbox.Event{
		{Name: "certificates", State: sandbox.Done, Took: 200 * time.Millisecond},
		{Name: "etcd", State: sandbox.EventState(sandbox.ComponentStarting)},
		{Name: "identity", State: sandbox.EventState(sandbox.ComponentStarting)},
		{Name: "etcd", State: sandbox.EventState(sandbox.ComponentReady), Text: "listens on 127.0.0.1:1", Took: 600 * time.Millisecond},
		{Name: "identity", State: sandbox.EventState(sandbox.ComponentFailing), Text: "exit status 1"},
		{Name: "role executor", State: sandbox.Done, Text: "create"},
		{State: sandbox.EventState(sandbox.ComponentReady), Took: 3 * time.Second},
	}
	for _, c := range []struct {
		name  string
		quiet bool
		want  string
	}{
		{name: "writes a line for each thing that is ready or is not",
			want: "certificates: done (0.2 s)\nstarting etcd and identity ...\netcd: ready, listens on 127.0.0.1:1 (0.6 s)\nidentity: failing, exit status 1\nrole executor: create\n"},
		{name: "writes nothing when it shall be quiet", quiet: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var out bytes.Buffer
				p := newProgress(&out, time.Second, c.quiet, "starting the supervisor")
				progress := upProgress{p: p}
				for i, e := range events {
					progress.tell(e)
					if i == 2 {
						time.Sleep(2 * time.Second)
					}
				}
				p.stop()
				if got := out.String(); got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestHints(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, hint, want string }{
		{"name the sandbox that was meant", "run 'biplane sandbox down', then start anew with 'biplane sandbox up --fresh'",
			"run 'biplane sandbox down --name other --dir /tmp/s', then start anew with 'biplane sandbox up --fresh --name other --dir /tmp/s'"},
		{"are left alone where they name one", "start it with 'biplane sandbox up --name other --dir /tmp/s'", "start it with 'biplane sandbox up --name other --dir /tmp/s'"},
		{"are left alone where they lead to help", "see 'biplane sandbox image --help'", "see 'biplane sandbox image --help'"},
		{"are left alone where they name no command", "run 'chmod 600 key'", "run 'chmod 600 key'"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a := &app{where: sandboxFlags{name: "other", dir: "/tmp/s", dirGiven: func() bool { return true }}}
			parent, sub := &cobra.Command{}, &cobra.Command{Use: "sub"}
			sub.RunE = func(*cobra.Command, []string) error {
				return fmt.Errorf("asking: %w", usererr.New(usererr.Refused, "no").WithHint("%s", c.hint))
			}
			parent.AddCommand(sub)
			a.hintHere(parent)
			var said *usererr.Error
			if err := sub.RunE(sub, nil); !errors.As(err, &said) || said.Hint != c.want {
				t.Errorf("got %+v, want the hint %q", said, c.want)
			}
		})
	}
}
