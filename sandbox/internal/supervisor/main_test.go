package supervisor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"biplane.dev/biplane/internal/sandbox"
)

// patience is how long a test waits for what must happen, on a busy machine.
const patience = 2 * time.Minute

// program is the executable, which `make build` makes. The tests are on it as it
// is: they link none of Kubernetes' programs.
func program(t *testing.T) string {
	t.Helper()
	path := os.Getenv("BIPLANE_SANDBOX")
	if path == "" {
		path = "../../../bin/" + sandbox.Program
	}
	path, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("there is no %s to test (%v): run 'make build' first", sandbox.Program, err)
	}
	return path
}

// world is one sandbox of a test.
type world struct {
	*testing.T
	sandbox.Supervisor
	client *sandbox.Client
}

// newWorld names a sandbox that is taken down after the test. Its folder lies
// deeper than a socket's path can be long.
func newWorld(t *testing.T, only ...string) *world {
	t.Helper()
	parent := filepath.Join(t.TempDir(), strings.Repeat("deep-folder-", 8))
	f, err := sandbox.FolderOf(parent, "test")
	if err != nil {
		t.Fatal(err)
	}
	w := &world{T: t, client: sandbox.Dial(f), Supervisor: sandbox.Supervisor{
		Program: program(t), Folder: f, Options: sandbox.Options{Only: only}, Env: os.Environ(),
	}}
	t.Cleanup(func() {
		if t.Failed() {
			w.showLogs()
		}
		w.down()
	})
	return w
}

func (w *world) ctx() context.Context {
	ctx, done := context.WithTimeout(context.Background(), patience)
	w.Cleanup(done)
	return ctx
}

// up is an up that must succeed. It returns the events.
func (w *world) up() []sandbox.Event {
	w.Helper()
	events, err := w.tryUp()
	if err != nil {
		w.Fatalf("bringing the sandbox up: %v", err)
	}
	return events
}

func (w *world) tryUp() (events []sandbox.Event, err error) {
	running, err := w.Up(w.ctx(), func(e sandbox.Event) { events = append(events, e) })
	if running != nil {
		go running.Wait() // so that an ended supervisor is no zombie
	}
	return events, err
}

func (w *world) down() {
	w.Helper()
	if err := w.client.Down(w.ctx()); err != nil && !errors.Is(err, sandbox.ErrNotUp) {
		w.Errorf("taking the sandbox down: %v", err)
	}
}

func (w *world) status() sandbox.Status {
	w.Helper()
	status, err := sandbox.Read(w.ctx(), w.Folder)
	if err != nil {
		w.Fatalf("asking for the status: %v", err)
	}
	return status
}

func (w *world) component(name string) sandbox.Component {
	w.Helper()
	for _, c := range w.status().Components {
		if c.Name == name {
			return c
		}
	}
	w.Fatalf("got no component %s", name)
	return sandbox.Component{}
}

// until waits for a condition.
func (w *world) until(what string, is func() bool) {
	w.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

// kubernetes is the administrator's client.
func (w *world) kubernetes() *kubernetes.Clientset {
	w.Helper()
	config, err := clientcmd.BuildConfigFromFlags("", w.Folder.Kubeconfig())
	if err != nil {
		w.Fatal(err)
	}
	config.Timeout = time.Minute
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		w.Fatal(err)
	}
	return client
}

func (w *world) namespaces() map[string]bool {
	w.Helper()
	names := map[string]bool{}
	w.until("the API server lists namespaces", func() bool {
		list, err := w.kubernetes().CoreV1().Namespaces().List(w.ctx(), metav1.ListOptions{})
		if err != nil {
			return false
		}
		for _, n := range list.Items {
			names[n.Name] = true
		}
		return true
	})
	return names
}

func (w *world) showLogs() {
	logs, _ := filepath.Glob(filepath.Join(w.Folder.Logs(), "*.log"))
	for _, path := range logs {
		content, _ := os.ReadFile(path)
		lines := strings.Split(strings.TrimSpace(string(content)), "\n")
		w.Logf("%s ends:\n%s", filepath.Base(path), strings.Join(lines[max(0, len(lines)-8):], "\n"))
	}
}

// processes are those that run in the sandbox's folder or were started for it.
func (w *world) processes() []string {
	var found []string
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		arguments, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		dir, _ := os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
		if strings.Contains(string(arguments), string(w.Folder)) || strings.HasPrefix(dir, string(w.Folder)) {
			found = append(found, fmt.Sprintf("%d %s", pid, strings.ReplaceAll(string(arguments), "\x00", " ")))
		}
	}
	return found
}

func alive(pid int) bool {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(content), ") Z ")
}
