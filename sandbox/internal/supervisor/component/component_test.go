package component_test

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// patience is how long a test waits for what must happen.
const patience = 2 * time.Minute

// shell is a component that is a shell script; it is ready when the file called
// ready is there. The second result is the folder that it runs in.
func shell(t *testing.T, script string, change func(*component.Spec)) (*component.Component, string, *component.Forker) {
	t.Helper()
	dir := t.TempDir()
	forker := component.NewForker()
	spec := component.Spec{
		Name: "test", Args: []string{"-c", script}, Grace: 200 * time.Millisecond,
		Ready: func(context.Context) error {
			_, err := os.Stat(filepath.Join(dir, "ready"))
			return err
		},
	}
	if change != nil {
		change(&spec)
	}
	c := component.New(spec, component.Host{
		Program: "/bin/sh", Dir: dir, Env: []string{"PATH=" + os.Getenv("PATH")}, Forker: forker,
		Logs: func(name string) string { return filepath.Join(dir, name+".log") }, Log: slog.New(slog.DiscardHandler),
	})
	t.Cleanup(func() { c.Stop(sandbox.ComponentStopped) })
	return c, dir, forker
}

func await(t *testing.T, c *component.Component) {
	t.Helper()
	ctx, done := context.WithTimeout(context.Background(), patience)
	defer done()
	if err := c.Await(ctx); err != nil {
		t.Fatalf("waiting until it is ready: %v", err)
	}
}

// until waits for a condition.
func until(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain until %s", patience, what)
		}
	}
}

func alive(pid int) bool {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(content), ") Z ")
}

func TestComponent(t *testing.T) {
	t.Run("is ready when it says so, and stopped when it is gone", func(t *testing.T) {
		c, _, _ := shell(t, "echo up; touch ready; exec sleep 1000", nil)
		if got := c.Status().State; got != sandbox.ComponentStopped {
			t.Errorf("got %s before the start, want stopped", got)
		}
		c.Start()
		await(t, c)
		status := c.Status()
		if status.PID == 0 || !alive(status.PID) || status.MemoryBytes == 0 || status.Restarts != 0 {
			t.Errorf("got %+v, want a process that uses memory", status)
		}
		c.Stop(sandbox.ComponentHeld)
		if after := c.Status(); after.PID != 0 || after.State != sandbox.ComponentHeld || alive(status.PID) {
			t.Errorf("got %+v, want it held, and no process", after)
		}
		c.Start()
		await(t, c)
	})
	t.Run("may be stopped by many at once, and started meanwhile", func(t *testing.T) {
		c, _, _ := shell(t, "touch ready; exec sleep 1000", nil)
		for range 30 {
			var all sync.WaitGroup
			for range 4 {
				all.Go(func() { c.Stop(sandbox.ComponentHeld) })
				all.Go(c.Start)
			}
			all.Wait()
		}
		c.Start()
		await(t, c)
		pid := c.PID()
		c.Stop(sandbox.ComponentStopped)
		if status := c.Status(); status.PID != 0 || status.State != sandbox.ComponentStopped || alive(pid) {
			t.Errorf("got %+v, want it stopped, and no process", status)
		}
	})
	t.Run("comes back when it is killed", func(t *testing.T) {
		c, _, _ := shell(t, "touch ready; exec sleep 1000", nil)
		c.Start()
		await(t, c)
		for restarts := 1; restarts <= 3; restarts++ {
			syscall.Kill(c.PID(), syscall.SIGKILL)
			until(t, "it is back", func() bool { return c.Restarts() == restarts && c.PID() != 0 })
			await(t, c)
		}
	})
	t.Run("says why it does not start, and pauses longer each time", func(t *testing.T) {
		c, dir, _ := shell(t, "date +%s%N >>starts; echo no disk; exit 7", nil)
		c.Start()
		until(t, "it was started five times", func() bool { return c.Restarts() == 4 })
		_, _, why := c.State()
		if why == nil || !strings.Contains(why.Error(), "status 7") || !strings.Contains(why.Error(), "no disk") {
			t.Errorf("got %v, want its exit status and its last line", why)
		}
		content, err := os.ReadFile(filepath.Join(dir, "starts"))
		if err != nil {
			t.Fatal(err)
		}
		var at []int64
		for _, line := range strings.Fields(string(content)) {
			n, _ := strconv.ParseInt(line, 10, 64)
			at = append(at, n)
		}
		if third := time.Duration(at[3] - at[2]); third < 200*time.Millisecond { // the first is 50 ms at least
			t.Errorf("got a third pause of %s, want it twice as long as the second, and that twice as long as the first", third)
		}
	})
	t.Run("is killed when it does not end by itself", func(t *testing.T) {
		c, _, _ := shell(t, `trap "" TERM; touch ready; while true; do sleep 0.01; done`, nil)
		c.Start()
		await(t, c)
		pid := c.PID()
		began := time.Now()
		c.Stop(sandbox.ComponentStopped)
		if took := time.Since(began); alive(pid) || took < 150*time.Millisecond {
			t.Errorf("got a process that lives (%t) after %s, want it killed after its grace", alive(pid), took)
		}
	})
	t.Run("is started again when it never gets ready", func(t *testing.T) {
		c, _, _ := shell(t, "exec sleep 1000", func(s *component.Spec) { s.Patience = 50 * time.Millisecond })
		c.Start()
		until(t, "it was started again", func() bool { return c.Restarts() > 0 })
		if _, _, why := c.State(); !errors.Is(why, fs.ErrNotExist) {
			t.Errorf("got %v, want what Ready said", why)
		}
	})
	t.Run("keeps its log within bounds, and its end", func(t *testing.T) {
		c, dir, _ := shell(t, `i=0; while [ $i -lt 400 ]; do head -c 100000 /dev/zero | tr '\0' x; echo; i=$((i+1)); done; echo the end; touch ready; exec sleep 1000`, nil)
		c.Start()
		await(t, c)
		var total int64
		files, _ := filepath.Glob(filepath.Join(dir, "test.log*"))
		for _, file := range files {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm() != 0o600 {
				t.Errorf("got mode %04o of %s, want 0600", info.Mode().Perm(), file)
			}
			total += info.Size()
		}
		if total > 20<<20 || total < 1<<20 {
			t.Errorf("got %d bytes in %q of 40,000,000 that were written, want at most 20 MiB", total, files)
		}
		until(t, "the last line is in the log", func() bool {
			content, err := os.ReadFile(filepath.Join(dir, "test.log"))
			return err == nil && strings.HasSuffix(string(content), "the end\n")
		})
	})
	t.Run("runs on when its log cannot be written", func(t *testing.T) {
		c, dir, _ := shell(t, "seq 100000; touch ready; exec sleep 1000", nil)
		if err := os.Mkdir(filepath.Join(dir, "test.log"), 0o700); err != nil {
			t.Fatal(err)
		}
		c.Start()
		await(t, c)
	})
	t.Run("has its leftovers killed", func(t *testing.T) {
		c, dir, forker := shell(t, "(setsid sh -c 'echo $$ >orphan; exec sleep 1000' &) ; while [ ! -s orphan ]; do sleep 0.01; done; touch ready; exec sleep 1000", nil)
		if err := forker.Adopt(); err != nil {
			t.Fatal(err)
		}
		c.Start()
		await(t, c)
		content, err := os.ReadFile(filepath.Join(dir, "orphan"))
		if err != nil {
			t.Fatal(err)
		}
		orphan, err := strconv.Atoi(strings.TrimSpace(string(content)))
		if err != nil || !alive(orphan) {
			t.Fatalf("got no orphan %d (%v), want one that lives", orphan, err)
		}
		c.Stop(sandbox.ComponentStopped)
		forker.KillOrphans()
		if alive(orphan) {
			t.Error("got an orphan that lives, want it killed")
		}
	})
}
