package supervisor_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// TestPorts is about ports that somebody else has at the next start.
func TestPorts(t *testing.T) {
	w := newWorld(t, sandbox.Etcd, sandbox.APIServer)
	w.up()
	server := w.status().Kubernetes.Server
	w.down()
	thief, err := net.Listen("tcp4", strings.TrimPrefix(server, "https://"))
	if err != nil {
		t.Fatal(err)
	}
	defer thief.Close()

	t.Run("are an error when they are to be fixed", func(t *testing.T) {
		yes := true
		fixed := *w
		fixed.Options.FixedPorts = &yes
		_, err := fixed.tryUp()
		var said *usererr.Error
		if _, port, _ := net.SplitHostPort(thief.Addr().String()); !errors.As(err, &said) || !strings.Contains(said.Error(), port) || !strings.Contains(said.Error(), sandbox.APIServer) || said.Hint == "" {
			t.Errorf("got %v, want an error that names port %s and the API server", err, port)
		}
	})
	t.Run("are replaced, and that is said", func(t *testing.T) {
		no := false
		w.Options.FixedPorts = &no
		events := w.up()
		if got := w.status().Kubernetes.Server; got == server {
			t.Errorf("got %s again, want another port", got)
		}
		if !slices.ContainsFunc(events, func(e sandbox.Event) bool {
			return e.Name == sandbox.APIServer && e.State == sandbox.Note && strings.Contains(e.Text, "taken")
		}) {
			t.Errorf("got events %+v, want a note that the port was taken", events)
		}
		if len(w.namespaces()) == 0 {
			t.Error("got no namespaces, want the kubeconfig to have the new port")
		}
	})
}

// TestSideBySide starts two sandboxes of one parent at once, and each of them
// twice at once.
func TestSideBySide(t *testing.T) {
	first := newWorld(t, sandbox.Etcd, sandbox.APIServer)
	second := newWorld(t, sandbox.Etcd, sandbox.APIServer)
	other, err := sandbox.FolderOf(filepath.Dir(string(first.Folder)), "other")
	if err != nil {
		t.Fatal(err)
	}
	second.Folder, second.client = other, sandbox.Dial(other)
	var all sync.WaitGroup
	for _, w := range []*world{first, second, first, second} {
		all.Go(func() {
			if _, err := w.tryUp(); err != nil {
				t.Errorf("bringing %s up: %v", w.Folder.Name(), err)
			}
		})
	}
	all.Wait()
	if t.Failed() {
		return
	}
	a, b := first.status(), second.status()
	if a.State != sandbox.Ready || b.State != sandbox.Ready || a.Kubernetes.Server == b.Kubernetes.Server {
		t.Errorf("got %s at %s and %s at %s, want two that are ready", a.State, a.Kubernetes.Server, b.State, b.Kubernetes.Server)
	}
	first.down()
	if got := second.status().State; got != sandbox.Ready {
		t.Errorf("got the second %s after the first went down, want ready", got)
	}
}

// TestRefusals is what keeps a sandbox from starting, each in one sentence.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(sandbox.Folder) error
		want  func(sandbox.Folder) string
	}{
		{"names a file where the folder should be",
			func(f sandbox.Folder) error { return os.WriteFile(filepath.Dir(string(f)), nil, 0o600) },
			func(f sandbox.Folder) string { return string(f) }},
		{"names a key that others can read",
			func(f sandbox.Folder) error {
				return errors.Join(os.MkdirAll(f.PKI(), 0o700), os.WriteFile(filepath.Join(f.PKI(), "ca.key"), []byte("key"), 0o644), os.Chmod(filepath.Join(f.PKI(), "ca.key"), 0o644))
			},
			func(f sandbox.Folder) string { return filepath.Join(f.PKI(), "ca.key") + " can be read" }},
		{"names a record that is no YAML",
			func(f sandbox.Folder) error {
				return errors.Join(os.MkdirAll(string(f), 0o700), os.WriteFile(f.RecordFile(), []byte("{"), 0o600))
			},
			func(f sandbox.Folder) string { return f.RecordFile() }},
		{"names a record with a key that it does not know",
			func(f sandbox.Folder) error {
				return errors.Join(os.MkdirAll(string(f), 0o700), os.WriteFile(f.RecordFile(), []byte("version: 1\nnoodles: 2\n"), 0o600))
			},
			func(sandbox.Folder) string { return "noodles" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, sandbox.Etcd)
			if err := os.MkdirAll(filepath.Dir(filepath.Dir(string(w.Folder))), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := c.spoil(w.Folder); err != nil {
				t.Fatal(err)
			}
			_, err := w.tryUp()
			var said *usererr.Error
			if !errors.As(err, &said) || !strings.Contains(said.Error(), c.want(w.Folder)) || said.Hint == "" || strings.Contains(said.Error(), "\n") {
				t.Errorf("got %v, want one sentence with %q, and a hint", err, c.want(w.Folder))
			}
			if left := w.processes(); len(left) > 0 {
				t.Errorf("got processes left: %q", left)
			}
		})
	}
	t.Run("names a folder that cannot be written to", func(t *testing.T) {
		w := newWorld(t, sandbox.Etcd)
		if os.Geteuid() == 0 {
			// Root may write anywhere, except where there is nothing to write to.
			w.Folder, w.client = "/proc/1/biplane/test", sandbox.Dial("/proc/1/biplane/test")
		} else {
			parent := filepath.Dir(string(w.Folder))
			if err := errors.Join(os.MkdirAll(parent, 0o700), os.Chmod(parent, 0o500)); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.Chmod(parent, 0o700) })
		}
		_, err := w.tryUp()
		var said *usererr.Error
		if !errors.As(err, &said) || !strings.Contains(said.Error(), string(w.Folder)) || !strings.Contains(said.Hint, "--dir") {
			t.Errorf("got %v, want a sentence that names the folder, and --dir in its hint", err)
		}
	})
}

// TestFullDisk starts a sandbox whose etcd lies on a file system that is too
// small for it, in a mount namespace of its own.
func TestFullDisk(t *testing.T) {
	if err := exec.Command("unshare", "-rm", "true").Run(); err != nil {
		fmt.Fprintf(os.Stderr, "NOT RUN: %s: this machine lets nobody mount a small file system in namespaces: %v\n", t.Name(), err)
		t.Skip("no user namespaces")
	}
	w := newWorld(t, sandbox.Etcd, sandbox.APIServer)
	if err := os.MkdirAll(w.Folder.Etcd(), 0o700); err != nil {
		t.Fatal(err)
	}
	script := filepath.Join(t.TempDir(), "in-a-small-file-system")
	lines := "#!/bin/sh\nexec unshare -rm /bin/sh -c 'mount -t tmpfs -o size=2m,mode=700 none \"$DISK\" && exec \"$@\"' sh \"$PROGRAM\" \"$@\"\n"
	lines = strings.NewReplacer("$DISK", w.Folder.Etcd(), "$PROGRAM", w.Program).Replace(lines)
	if err := os.WriteFile(script, []byte(lines), 0o700); err != nil {
		t.Fatal(err)
	}
	full := *w
	full.Program = script
	_, err := full.tryUp()
	var said *usererr.Error
	if !errors.As(err, &said) || !strings.Contains(said.Error(), "etcd does not start") || !strings.Contains(said.Error(), "no space left on device") || !strings.Contains(said.Hint, "etcd.log") {
		t.Errorf("got %v, want a sentence that etcd does not start for lack of space, and where its log is", err)
	}
	w.until("the supervisor and all else is gone", func() bool { return len(w.processes()) == 0 })
	w.up() // once there is space
}

// TestForeground ends with the program that started it.
func TestForeground(t *testing.T) {
	w := newWorld(t, sandbox.Etcd)
	w.Foreground = true
	running, err := w.Up(w.ctx(), func(sandbox.Event) {})
	if err != nil {
		t.Fatalf("bringing it up: %v", err)
	}
	pid := w.component(sandbox.Etcd).PID
	running.Stop()
	if err := running.Wait(); err != nil {
		t.Errorf("got %v, want a clean end", err)
	}
	if alive(pid) || w.status().State != sandbox.Stopped {
		t.Errorf("got process %s alive: %t, and %s, want it stopped", strconv.Itoa(pid), alive(pid), w.status().State)
	}
}
