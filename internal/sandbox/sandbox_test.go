package sandbox_test

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// folder is that of a sandbox, in a place that goes with the test.
func folder(t *testing.T, parent string) sandbox.Folder {
	t.Helper()
	f, err := sandbox.FolderOf(parent, "test")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(f.Run(), 0o700); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFolderOf(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"default", "a", "a-1", strings.Repeat("x", 32)} {
		if f, err := sandbox.FolderOf("/p", name); err != nil || string(f) != "/p/"+name || f.Name() != name {
			t.Errorf("%q: got %q, %v, want /p/%s", name, f, err, name)
		}
	}
	for _, name := range []string{"", "..", "a/b", "-a", "a-", "A", "a.b", "a b", strings.Repeat("x", 33), "ä"} {
		if _, err := sandbox.FolderOf("/p", name); err == nil {
			t.Errorf("%q: got no error, want a refusal", name)
		}
	}
}

func TestDefaultDir(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, state, home, want string }{
		{"takes the XDG folder", "/s", "/h", "/s/biplane/sandbox"},
		{"takes the one below home without it", "", "/h", "/h/.local/state/biplane/sandbox"},
		{"ignores a relative XDG folder, as the specification says", "s", "/h", "/h/.local/state/biplane/sandbox"},
		{"refuses to guess", "", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := sandbox.DefaultDir(func(name string) string {
				return map[string]string{"XDG_STATE_HOME": c.state, "HOME": c.home}[name]
			})
			if got != c.want || (err == nil) != (c.want != "") {
				t.Errorf("got %q, %v, want %q", got, err, c.want)
			}
		})
	}
}

func TestComponents(t *testing.T) {
	t.Parallel()
	control := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
	for _, c := range []struct {
		name string
		only []string
		want []string
	}{
		{"are all of them", []string{"all"}, append(slices.Clone(control), "identity", "s3", "node", "controlplane", "dataplane")},
		{"are the control plane's four", []string{"kubernetes"}, control},
		{"include what they need", []string{"s3"}, []string{"identity", "s3"}},
		{"include what a node needs", []string{"node"}, append(slices.Clone(control), "node")},
		{"are in the order of their start, each once", []string{"s3", "kube-apiserver", "etcd", "s3"}, []string{"etcd", "kube-apiserver", "identity", "s3"}},
		{"refuse an unknown one", []string{"s3", "redis"}, nil},
		{"refuse an empty one", []string{""}, nil},
		{"refuse none", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := sandbox.Components(c.only)
			if !reflect.DeepEqual(got, c.want) || (err == nil) != (c.want != nil) {
				t.Errorf("got %v, %v, want %v", got, err, c.want)
			}
		})
	}
}

func TestRecord(t *testing.T) {
	t.Parallel()
	yes := true
	record := sandbox.Record{
		Version: 1, Account: "111122223333", Region: "us-east-2", Cluster: "0123456789ABCDEF0123456789ABCDEF",
		Options: sandbox.Options{Node: sandbox.KwokNode, Nodes: 3, Python: "/p: #1", Only: []string{"s3", "node"}, AuditLog: &yes},
		Ports:   map[string]int{"s3": 20001},
	}
	t.Run("is read as it was written, by its owner alone", func(t *testing.T) {
		f := folder(t, t.TempDir())
		if err := sandbox.WriteRecord(f, record); err != nil {
			t.Fatal(err)
		}
		got, err := sandbox.ReadRecord(f)
		if err != nil || !reflect.DeepEqual(got, record) {
			t.Errorf("got %+v, %v, want %+v", got, err, record)
		}
		if info, _ := os.Stat(f.RecordFile()); info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %04o, want 0600", info.Mode().Perm())
		}
	})
	t.Run("is told apart from none", func(t *testing.T) {
		if _, err := sandbox.ReadRecord(folder(t, t.TempDir())); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want fs.ErrNotExist", err)
		}
	})
	for name, content := range map[string]string{
		"refuses a key it does not know":    "version: 1\noptions: {nodez: 2}\n",
		"refuses a key that is there twice": "version: 1\nversion: 1\n",
		"refuses another version":           "version: 2\n",
		"refuses one of no version":         "region: us-east-2\n",
		"refuses an empty file":             "",
		"refuses half a file":               "version: 1\noptions:\n  node: proc",
		"refuses what is no YAML":           "\x00\x01{{{",
		"refuses a port that is none":       "version: 1\nports: {s3: 70000}\n",
		"refuses a list for a number":       "version: 1\noptions: {nodes: [1]}\n",
		"refuses a kind that there is not":  "version: 1\noptions: {node: docker}\n",
		"refuses too many nodes":            "version: 1\noptions: {nodes: 100000}\n",
	} {
		t.Run(name, func(t *testing.T) {
			f := folder(t, t.TempDir())
			if err := os.WriteFile(f.RecordFile(), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := sandbox.ReadRecord(f)
			var said *usererr.Error
			if !errors.As(err, &said) || !strings.Contains(said.Error(), f.RecordFile()) || said.Hint == "" || strings.Contains(said.Error(), "\n") {
				t.Errorf("got %v, want one sentence that names %s, and a hint", err, f.RecordFile())
			}
		})
	}
}

func TestOver(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	last := sandbox.Options{Node: sandbox.KwokNode, Nodes: 5, Python: "/old", Only: []string{"node"}, AuditLog: &yes}
	got := sandbox.Options{Nodes: 2, AuditLog: &no}.Over(last).Over(sandbox.Defaults())
	want := sandbox.Options{Node: sandbox.KwokNode, Nodes: 2, Python: "/old", Only: []string{"node"}, AuditLog: &no, FixedPorts: &no}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestSocket reaches a socket whose path is far longer than a socket's can be.
func TestSocket(t *testing.T) {
	t.Parallel()
	deep := filepath.Join(t.TempDir(), strings.Repeat("deep/", 40))
	f := folder(t, deep)
	ctx := context.Background()

	t.Run("is told apart from none", func(t *testing.T) {
		if _, err := sandbox.Dial(f).Status(ctx); !errors.Is(err, sandbox.ErrNotUp) {
			t.Errorf("got %v, want ErrNotUp", err)
		}
		if status, err := sandbox.Read(ctx, f); err != nil || status.State != sandbox.Stopped || status.Components == nil {
			t.Errorf("got %+v, %v, want stopped, with a list of components", status, err)
		}
		none, err := sandbox.FolderOf(deep, "none")
		if err != nil {
			t.Fatal(err)
		}
		if status, err := sandbox.Read(ctx, none); err != nil || status.State != sandbox.Absent {
			t.Errorf("got %+v, %v, want absent", status, err)
		}
	})

	listener, err := sandbox.ListenSocket(f.Run(), sandbox.ControlSocket)
	if err != nil {
		t.Fatalf("listening: %v", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+sandbox.PathStatus, func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(sandbox.Status{Name: "test", State: sandbox.Ready})
	})
	mux.HandleFunc("POST "+sandbox.PathStop+"{name}", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusUnprocessableEntity)
		json.NewEncoder(w).Encode(sandbox.RefusalOf(usererr.New(usererr.NotFound, "no %s", r.PathValue("name")).WithHint("try another")))
	})
	mux.HandleFunc("GET "+sandbox.PathEvents, func(w http.ResponseWriter, _ *http.Request) {
		lines := json.NewEncoder(w)
		lines.Encode(sandbox.Event{Name: "etcd", State: sandbox.EventState(sandbox.ComponentReady)})
		refusal := sandbox.RefusalOf(usererr.New(usererr.Unavailable, "disk full").WithHint("delete something"))
		lines.Encode(sandbox.Event{State: sandbox.Failed, Refusal: &refusal})
	})
	mux.HandleFunc("POST "+sandbox.PathStart+"{name}", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "what?", 500) })
	server := &http.Server{Handler: mux}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })

	t.Run("answers", func(t *testing.T) {
		if status, err := sandbox.Read(ctx, f); err != nil || status.State != sandbox.Ready {
			t.Errorf("got %+v, %v, want ready", status, err)
		}
	})
	t.Run("is for its owner alone", func(t *testing.T) {
		info, err := os.Stat(filepath.Join(f.Run(), sandbox.ControlSocket))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("got %v, %v, want mode 0600", info.Mode(), err)
		}
	})
	t.Run("hands on sentence, hint and kind of an error", func(t *testing.T) {
		err := sandbox.Dial(f).StopComponent(ctx, "a/b c")
		var said *usererr.Error
		if !errors.As(err, &said) || said.Error() != "no a/b c" || said.Hint != "try another" || said.Kind != usererr.NotFound {
			t.Errorf("got %v, want the error that was sent", err)
		}
	})
	t.Run("tells events until the up has failed", func(t *testing.T) {
		var names []string
		err := sandbox.Dial(f).Events(ctx, func(e sandbox.Event) { names = append(names, e.Name) })
		if err == nil || err.Error() != "disk full" || !slices.Equal(names, []string{"etcd", ""}) {
			t.Errorf("got %v after %q, want the failure after two events", err, names)
		}
	})
	t.Run("does not pass on an answer that it does not understand", func(t *testing.T) {
		if err := sandbox.Dial(f).StartComponent(ctx, "etcd"); err == nil || !strings.Contains(err.Error(), "500") {
			t.Errorf("got %v, want an error with the status", err)
		}
	})
}

func TestLock(t *testing.T) {
	t.Parallel()
	f := folder(t, t.TempDir())
	unlock, err := sandbox.Lock(f)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sandbox.Lock(f); !errors.Is(err, sandbox.ErrLocked) {
		t.Errorf("got %v, want ErrLocked while it is held", err)
	}
	unlock()
	unlock, err = sandbox.Lock(f)
	if err != nil {
		t.Fatalf("got %v, want the lock once it was given up", err)
	}
	unlock()
}

func TestPurge(t *testing.T) {
	t.Parallel()
	t.Run("deletes folders that nobody may write to, too", func(t *testing.T) {
		f := folder(t, t.TempDir())
		unlock, err := sandbox.Lock(f)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		sealed := filepath.Join(f.Images(), "root", "usr")
		if err := errors.Join(os.MkdirAll(sealed, 0o700), os.WriteFile(filepath.Join(sealed, "file"), nil, 0o400), os.Chmod(sealed, 0o500), os.Chmod(filepath.Dir(sealed), 0)); err != nil {
			t.Fatal(err)
		}
		if err := f.Purge(); err != nil {
			t.Fatalf("got %v, want all of it deleted", err)
		}
		if exists, err := f.Exists(); exists || err != nil {
			t.Errorf("got a folder, %v, want none", err)
		}
	})
	t.Run("deletes what a killed node left in memory", func(t *testing.T) {
		f := folder(t, t.TempDir())
		unlock, err := sandbox.Lock(f)
		if err != nil {
			t.Fatal(err)
		}
		unlock()
		memory := sandbox.NodeMemory(f.Node("worker-1"))
		t.Cleanup(func() { os.RemoveAll(memory) })
		if err := os.MkdirAll(filepath.Join(memory, "pod"), 0o700); err != nil {
			t.Skipf("NOT RUN: this machine has no memory file system for everybody: %v", err)
		}
		if err := os.MkdirAll(f.Node("worker-1"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := f.Purge(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Lstat(memory); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v looking for %s, want it deleted", err, memory)
		}
	})
	t.Run("leaves a folder that is no sandbox's alone", func(t *testing.T) {
		f := folder(t, t.TempDir())
		if err := f.Purge(); err == nil {
			t.Error("got no error, want a refusal")
		}
		if exists, _ := f.Exists(); !exists {
			t.Error("got no folder any more, want it left alone")
		}
	})
	t.Run("is content with nothing", func(t *testing.T) {
		f, _ := sandbox.FolderOf(t.TempDir(), "none")
		if err := f.Purge(); err != nil {
			t.Errorf("got %v, want no error", err)
		}
	})
}

func TestArgs(t *testing.T) {
	t.Parallel()
	no := false
	got := sandbox.Supervisor{Folder: "/s/x", Options: sandbox.Options{Node: sandbox.KwokNode, Nodes: 2, Only: []string{"node", "s3"}, AuditLog: &no}, Fresh: true}.Args()
	want := []string{"supervise", "--dir", "/s/x", "--node=kwok", "--nodes=2", "--only=node,s3", "--audit-log=false", "--fresh"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
