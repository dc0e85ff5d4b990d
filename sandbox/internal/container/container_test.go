package container

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shared is the runtime of all tests that do not need one of their own.
var shared *Runtime

func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		if program, ok := programs[os.Args[1]]; ok {
			program(os.Args[2:])
			os.Exit(0)
		}
	}
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "containers")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if shared, err = Open(filepath.Join(dir, "runtime")); err != nil {
			fmt.Println("NOT RUN: containers cannot be run here:", err)
			return 1
		}
		code := m.Run()
		if err := shared.Close(); err != nil {
			fmt.Println("closing the runtime:", err)
			return 1
		}
		return code
	}())
}

// programs are what this test executable is when it is started as one.
var programs = map[string]func(args []string){"node": nodeProgram, "check": checkProgram}

var ids atomic.Int64

func start(t testing.TB, spec Spec) (*Container, *record) {
	t.Helper()
	c, log, err := tryStart(t, spec)
	if err != nil {
		t.Fatal(err)
	}
	return c, log
}

func tryStart(t testing.TB, spec Spec) (*Container, *record, error) {
	t.Helper()
	log := &record{}
	spec.ID, spec.Log = fmt.Sprint("c", ids.Add(1)), log
	c, err := shared.Start(spec)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() {
		c.Kill()
		if err := c.Remove(); err != nil {
			t.Error(err)
		}
	})
	return c, log, nil
}

// run returns what a shell command wrote, and how it ended.
func run(t testing.TB, spec Spec, command string) (string, Exit) {
	t.Helper()
	spec.Args = []string{"sh", "-c", command}
	c, log := start(t, spec)
	end(t, c)
	return log.content(), c.Exit()
}

func end(t testing.TB, c *Container) {
	t.Helper()
	select {
	case <-c.Done():
	case <-time.After(time.Minute):
		t.Fatal("got a container that runs after a minute, want its end")
	}
}

// record is a log that can be read while it is written.
type record struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (r *record) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

func (r *record) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// content is the log as the program wrote it.
func (r *record) content() string {
	var out strings.Builder
	for line := range strings.Lines(r.String()) {
		f := strings.SplitN(line, " ", 4)
		if f[2] == "P" {
			f[3] = strings.TrimSuffix(f[3], "\n")
		}
		out.WriteString(f[3])
	}
	return out.String()
}

// waitFor waits until the log contains text.
func (r *record) waitFor(t testing.TB, text string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !strings.Contains(r.String(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got log %q, want %q in it", r, text)
		}
	}
}

func TestWhatAProgramSees(t *testing.T) {
	t.Parallel()
	volume := t.TempDir()
	write(t, filepath.Join(volume, "file"), "in the volume\n")
	for _, test := range []struct {
		name, command, want string // want is a regular expression of all output
		spec                Spec
	}{
		{"it is PID 1", "echo $$", `1\n`, Spec{}},
		{"it sees its own processes alone", "echo /proc/[0-9]*", `/proc/1\n`, Spec{}},
		{"it is uid 0", "id -u; id -g; whoami", `0\n0\nroot\n`, Spec{}},
		{"it is the user that was asked for", "id -u; id -g; whoami; echo $HOME; touch $HOME/x", `1234\n77\nuser\n/home/user\n`, Spec{UID: 1234, GID: 77, Write: true}},
		{"it has its own host name", "hostname; cat /etc/hostname", `box\nbox\n`, Spec{Hostname: "box"}},
		{"it has only the environment that it was given", "env | grep -v ^PWD | sort", `HOME=/root\nNAME=value\nPATH=.*\n`, Spec{Env: []string{"NAME=value"}}},
		{"its home folder can be said", "echo $HOME", `/x\n`, Spec{Env: []string{"HOME=/x"}}},
		{"it starts where it was told, which is made", "pwd", `/a/b\n`, Spec{Dir: "/a/b"}},
		{"it has an empty standard input", "cat; echo end", `end\n`, Spec{}},
		{"it has the usual devices", "ls /dev; head -c4 /dev/zero | wc -c; echo x > /dev/null; head -c2 /dev/urandom | wc -c",
			`fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n4\n2\n`, Spec{}},
		{"it can write to /dev/stdout and /dev/stderr", "echo a > /dev/stdout; echo b > /dev/stderr", `(a\nb\n|b\na\n)`, Spec{}},
		{"it has a private /tmp that it can write", "ls -A /tmp; touch /tmp/x /var/x /run/x /root/x /usr/x /etc/x && ls /tmp", `x\n`, Spec{Write: true}},
		{"it cannot write to a read-only root", "for d in /tmp /var /run /root /usr /etc; do touch $d/x 2>/dev/null && echo $d; done; touch /dev/shm/x && echo ok", `ok\n`, Spec{}},
		{"it has its volume", "cat /v/w/file; touch /v/w/new && echo ok", `in the volume\nok\n`, Spec{Mounts: []Mount{{Source: volume, Target: "/v/w"}}}},
		{"it cannot write to a read-only volume", "cat /v/file; touch /v/x 2>/dev/null || echo refused", `in the volume\nrefused\n`, Spec{Mounts: []Mount{{Source: volume, Target: "/v", ReadOnly: true}}}},
		{"it has a file as a volume", "cat /etc/app/conf; ls /etc/app", `in the volume\nconf\n`, Spec{Mounts: []Mount{{Source: filepath.Join(volume, "file"), Target: "/etc/app/conf", ReadOnly: true}}}},
		{"it has a volume in another, read-only one", "cat /v/in/file; touch /v/in/x && echo written; touch /v/x 2>/dev/null || echo refused", `in the volume\nwritten\nrefused\n`,
			Spec{Mounts: []Mount{{Source: volume, Target: "/v/in"}, {Source: t.TempDir(), Target: "/v", ReadOnly: true}}}},
		{"it has a folder of a volume that is made", "touch /v/x && ls /v", `x\n`, Spec{Mounts: []Mount{{Source: volume, SubPath: "sub/path", Target: "/v"}}}},
		{"it has a volume where the machine has a link", "cat /var/run/secrets/token/file; ls /run/secrets", `in the volume\ntoken\n`, Spec{Mounts: []Mount{{Source: volume, Target: "/var/run/secrets/token", ReadOnly: true}}}},
		{"it has memory as a volume", "touch /m/x; stat -f -c %T /m; df --output=size /m | tail -1 | tr -d ' '", `tmpfs\n1024\n`, Spec{Mounts: []Mount{{Tmpfs: true, Size: 1 << 20, Target: "/m"}}}},
		{"it has the capabilities of a container", "grep CapEff /proc/self/status", `CapEff:\t00000000a80425fb\n`, Spec{}},
		{"it has fewer capabilities", "grep CapBnd /proc/self/status", `CapBnd:\t0000000000000400\n`, Spec{Capabilities: Capabilities{Drop: []string{"ALL"}, Add: []string{"NET_BIND_SERVICE"}}}},
		{"it has no capabilities as another user", "grep CapEff /proc/self/status", `CapEff:\t0000000000000000\n`, Spec{UID: 5, GID: 5}},
		{"it may gain privileges", "grep NoNewPrivs /proc/self/status", `NoNewPrivs:\t0\n`, Spec{}},
		{"it may not gain privileges", "grep NoNewPrivs /proc/self/status", `NoNewPrivs:\t1\n`, Spec{NoNewPrivileges: true}},
		{"it handles signals as by default", "grep -E 'Sig(Blk|Ign)' /proc/self/status", `SigBlk:\t0+\nSigIgn:\t0+\n`, Spec{}},
		{"it has no file open but its streams", "ls /proc/self/fd", `0\n1\n2\n3\n`, Spec{}},
		{"it is ended early when memory is short", "cat /proc/self/oom_score_adj", `500\n`, Spec{OOMScoreAdj: 500}},
		{"it has many variables", "env | grep -c ^VAR", `10000\n`, Spec{Env: many("VAR", 10000)}},
		{"it knows names as the machine does", "cat /etc/resolv.conf >/dev/null && getent hosts localhost >/dev/null && echo ok", `ok\n`, Spec{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _ := run(t, test.spec, test.command)
			if !regexp.MustCompile(`^(?:` + test.want + `)$`).MatchString(got) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestPython(t *testing.T) {
	t.Parallel()
	// An environment as virtualenv, uv and the like leave it: outside of /usr, with
	// a link to an interpreter that lies in a folder of its own, by a link too.
	home := t.TempDir()
	env, base := filepath.Join(home, "project/.venv"), filepath.Join(home, "pythons/3.11.2")
	write(t, filepath.Join(base, "bin/python3"), "#!/bin/sh\necho python of $0 $VIRTUAL_ENV $1\n")
	write(t, filepath.Join(base, "lib/module"), "library")
	write(t, filepath.Join(env, "pyvenv.cfg"), "home = "+home+"/pythons/3.11/bin\nversion = 3.11.2\n")
	write(t, filepath.Join(env, "bin/tool"), "#!"+env+"/bin/python\n")
	write(t, filepath.Join(env, "lib/old/file"), "")
	write(t, filepath.Join(home, "secret"), "not for containers")
	os.Symlink("3.11.2", filepath.Join(home, "pythons/3.11"))
	os.Symlink(home+"/pythons/3.11/bin/python3", filepath.Join(env, "bin/python"))
	spec := Spec{Root: Root{Python: env}, Write: true}
	for _, test := range []struct{ name, command, want string }{
		{"its programs run", "tool", "python of " + env + "/bin/python " + env + " " + env + "/bin/tool\n"},
		{"it is first on PATH", "echo ${PATH%%:*}; command -v python", env + "/bin\n" + env + "/bin/python\n"},
		{"it has its interpreter's library", "cat " + home + "/pythons/3.11/lib/module " + home + "/pythons/3.11.2/lib/module", "librarylibrary"},
		{"nothing else of the home folder is there", "ls " + home, "project\npythons\n"},
		{"it can be changed, in the container", "cd " + env + "/lib && rm -r old && mkdir old && touch new && ls . old && mv old older && ls", ".:\nnew\nold\n\nold:\nnew\nolder\n"},
		{"it was changed in the other container alone", "ls " + env + "/lib " + env + "/lib/old", env + "/lib:\nold\n\n" + env + "/lib/old:\nfile\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got, _ := run(t, spec, test.command)
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	for _, test := range []struct{ name, env, want string }{
		{"it refuses one that is not there", "/no/such", "no such file or directory"},
		{"it refuses one that is a file", filepath.Join(home, "secret"), "not a folder"},
		{"it refuses one that would show a home folder", "/home", "would show all of /home"},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := tryStart(t, Spec{Args: []string{"true"}, Root: Root{Python: test.env}})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}

func many(name string, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("%s%d=%d", name, i, i)
	}
	return list
}

func write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
}

func TestHowAProgramEnds(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, command string
		want          Exit
	}{
		{"it has an exit code", "exit 7", Exit{Code: 7}},
		{"it is ended by a signal that it cannot handle", "sleep 100 & kill -9 $!; wait $!", Exit{Code: 137}},
		{"it ends itself by a signal", "exec sh -c 'ulimit -t 1; ulimit -St 1; while :; do :; done'", Exit{Code: 137, Signal: 9}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, got := run(t, Spec{}, test.command)
			if got.Started.IsZero() || got.Finished.Before(got.Started) {
				t.Errorf("got times %v and %v, want one after the other", got.Started, got.Finished)
			}
			got.Started, got.Finished = time.Time{}, time.Time{}
			if got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}

func TestSignal(t *testing.T) {
	t.Parallel()
	c, log := start(t, Spec{Args: []string{"sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.01; done"}})
	log.waitFor(t, "ready")
	if err := c.Signal(unix.SIGTERM); err != nil {
		t.Fatal(err)
	}
	end(t, c)
	if got := c.Exit().Code; got != 3 || log.content() != "ready\ngot\n" {
		t.Errorf("got code %d and output %q, want 3 and that the signal was handled", got, log.content())
	}
	if err := c.Signal(unix.SIGTERM); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want %v", err, ErrNotRunning)
	}
}

func TestEveryProcessDies(t *testing.T) {
	t.Parallel()
	// A daemon by the book: two forks, a session of its own, no streams of ours.
	c, log := start(t, Spec{Args: []string{"sh", "-c",
		"(setsid sh -c 'sleep 1000 & sleep 1000' </dev/null >/dev/null 2>&1 &); trap '' TERM INT HUP; sleep 0.1; echo /proc/[0-9]*; echo ready; sleep 1000"}})
	log.waitFor(t, "ready")
	pids, err := c.processes()
	if err != nil || len(pids) < 4 {
		t.Fatalf("got processes %v, %v, want the daemon's too", pids, err)
	}
	cgroup := descendants(c.PID())
	c.Kill()
	end(t, c)
	for _, pid := range cgroup {
		if unix.Kill(pid, 0) == nil {
			t.Errorf("got process %d alive, want none of the container's", pid)
		}
	}
	if got := c.Exit(); got.Code != 137 || got.Signal != 9 || got.OOMKilled {
		t.Errorf("got %+v, want 137 by signal 9", got)
	}
}

// descendants are a process and those below it.
func descendants(pid int) []int {
	all := []int{pid}
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, list := range lists {
		children, _ := os.ReadFile(list)
		for _, f := range strings.Fields(string(children)) {
			var child int
			fmt.Sscan(f, &child)
			all = append(all, descendants(child)...)
		}
	}
	return all
}

func TestStartErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "text"), "no program")
	write(t, filepath.Join(dir, "lost"), "#!/no/such/interpreter\n")
	write(t, filepath.Join(dir, "closed"), "#!/bin/sh\n")
	os.Chmod(filepath.Join(dir, "closed"), 0o644)
	mounts := []Mount{{Source: dir, Target: "/v"}}
	link := t.TempDir()
	os.Symlink("/etc", filepath.Join(link, "out"))
	os.Symlink("../..", filepath.Join(link, "up"))
	for _, test := range []struct {
		name string
		spec Spec
		want string
		is   error
	}{
		{"it says that a program is not on PATH", Spec{Args: []string{"no-such"}}, `exec: "no-such": executable file not found in $PATH`, fs.ErrNotExist},
		{"it says that a file is not there", Spec{Args: []string{"/no/such"}}, `exec: "/no/such": no such file or directory`, fs.ErrNotExist},
		{"it says that an interpreter is not there", Spec{Args: []string{"/v/lost"}, Mounts: mounts}, `exec: "/v/lost": no such file or directory`, fs.ErrNotExist},
		{"it says that a file may not be executed", Spec{Args: []string{"/v/closed"}, Mounts: mounts}, `exec: "/v/closed": permission denied`, fs.ErrPermission},
		{"it says so of one found on PATH", Spec{Args: []string{"closed"}, Mounts: mounts, Env: []string{"PATH=/usr/bin:/v"}}, `exec: "closed": permission denied`, fs.ErrPermission},
		{"it says that a folder may not be executed", Spec{Args: []string{"/v"}, Mounts: mounts}, `exec: "/v": permission denied`, fs.ErrPermission},
		{"it says that a file is no program", Spec{Args: []string{"/v/text"}, Mounts: mounts}, `exec: "/v/text": exec format error`, unix.ENOEXEC},
		{"it says that there is too much", Spec{Args: []string{"/bin/true", strings.Repeat("x", 1<<18)}}, `exec: "/bin/true": arguments and environment are larger than the kernel takes (128 KiB for one, a quarter of the stack limit for all)`, unix.E2BIG},
		{"it refuses no command", Spec{}, `exec: no command specified`, nil},
		{"it refuses a zero byte", Spec{Args: []string{"/bin/true", "a\x00b"}}, `exec: "/bin/true": an argument, variable or path contains a zero byte`, nil},
		{"it says that a source is missing", Spec{Args: []string{"true"}, Mounts: []Mount{{Source: "/no/such", Target: "/v"}}}, `set up the container: mount "/v": stat /no/such: no such file or directory`, fs.ErrNotExist},
		{"it refuses a capability that is none", Spec{Args: []string{"true"}, Capabilities: Capabilities{Add: []string{"FLY"}}}, `set up the container: unknown capability "FLY"`, nil},
		{"it refuses a sub-path with dots", Spec{Args: []string{"true"}, Mounts: []Mount{{Source: link, SubPath: "../x", Target: "/v"}}}, `set up the container: mount "/v": sub-path "../x": it must be a path inside the volume`, nil},
		{"it refuses a sub-path that is a link out", Spec{Args: []string{"true"}, Mounts: []Mount{{Source: link, SubPath: "out", Target: "/v"}}}, `set up the container: mount "/v": sub-path "out": a link in it leads out of the volume`, nil},
		{"it refuses a sub-path through a link out", Spec{Args: []string{"true"}, Mounts: []Mount{{Source: link, SubPath: "up/etc/made", Target: "/v"}}}, `set up the container: mount "/v": sub-path "up/etc/made": a link in it leads out of the volume`, nil},
		{"it refuses a mount at /", Spec{Args: []string{"true"}, Mounts: []Mount{{Source: link, Target: "/"}}}, `set up the container: mount "/": it must be an absolute path below /`, nil},
		{"it says that an image is missing", Spec{Args: []string{"true"}, Root: Root{Dir: "/no/such"}}, `mount "/": no such file or directory`, fs.ErrNotExist},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, _, err := tryStart(t, test.spec)
			var start *StartError
			if !errors.As(err, &start) || err.Error() != test.want {
				t.Errorf("got %v, want a StartError %v", err, test.want)
			}
			if test.is != nil && !errors.Is(err, test.is) {
				t.Errorf("got %v, want one that is %v", err, test.is)
			}
		})
	}
	if left, _ := filepath.Glob(filepath.Join(shared.dir, "containers", "*", "*")); len(left) > 40 {
		t.Errorf("got %v left over, want only what running containers have", left)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	_, log := func() (*Container, *record) {
		c, log := start(t, Spec{Args: []string{"sh", "-c", "echo out; sleep 0.05; echo err >&2; sleep 0.05; printf 'no end'; head -c 20000 /dev/zero | tr '\\0' x"}})
		end(t, c)
		return c, log
	}()
	want := regexp.MustCompile(`^\S+Z stdout F out
\S+Z stderr F err
\S+Z stdout P no endx+
\S+Z stdout P x+
$`)
	if got := log.String(); !want.MatchString(got) {
		t.Errorf("got %q, want %v", got, want)
	}
	for _, line := range strings.SplitAfter(log.String(), "\n") {
		if f := strings.SplitN(line, " ", 4); len(f) == 4 && len(f[3]) > maxLine+1 {
			t.Errorf("got a line of %d bytes, want %d at most", len(f[3])-1, maxLine)
		}
	}
	stamp, _, _ := strings.Cut(log.String(), " ")
	if at, err := time.Parse(time.RFC3339Nano, stamp); err != nil || time.Since(at) > time.Minute {
		t.Errorf("got time %q (%v), want now", stamp, err)
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	const limit = 64 << 20
	hold := func(mib int) string {
		return fmt.Sprintf("head -c %dM /dev/zero | tail -c %dM | (sleep 1; wc -c)", mib, mib)
	}
	for _, test := range []struct {
		name, command string
		killed        bool
	}{
		{"it is killed above its limit", hold(200), true},
		{"it is left alone below", hold(20), false},
		{"it is killed when its processes together are above", "for i in 1 2 3 4; do head -c 30M /dev/zero | tail -c 30M | (sleep 2; wc -c) & done; wait", true},
		{"it is killed though it would have ended soon", "head -c 200M /dev/zero | tail -c 200M | wc -c", true},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, got := run(t, Spec{Memory: limit}, test.command)
			if got.OOMKilled != test.killed || test.killed && got.Code != 137 || !test.killed && got.Code != 0 {
				t.Errorf("got %+v, want OOMKilled %v", got, test.killed)
			}
		})
	}
	c, log := start(t, Spec{Args: []string{"sh", "-c", "head -c 50M /dev/zero | tail -c 50M | (echo ready; sleep 100)"}})
	log.waitFor(t, "ready")
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		usage, err := c.Usage()
		if err == nil && usage.Memory > 50<<20 && usage.Memory < 80<<20 && usage.CPU > 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("got %+v, %v, want some CPU and 50 MiB", usage, err)
		}
	}
	c.Kill()
	end(t, c)
	if _, err := c.Usage(); !errors.Is(err, ErrNotRunning) {
		t.Errorf("got %v, want %v", err, ErrNotRunning)
	}
}

func TestExec(t *testing.T) {
	t.Parallel()
	c, log := start(t, Spec{Args: []string{"sh", "-c", "touch /tmp/here; echo ready; sleep 1000"}, Write: true, UID: 12, GID: 34, Dir: "/srv/app",
		Env: []string{"NAME=value"}, NoNewPrivileges: true, Mounts: []Mount{{Source: t.TempDir(), Target: "/v"}}})
	log.waitFor(t, "ready")
	for _, test := range []struct {
		name, command, in, want string
		code                    int
	}{
		{"it runs in the container", "ls /tmp; ls -d /v; id -u; id -g; pwd; echo $NAME; cat /proc/1/cmdline | tr '\\0' ' '", "", "here\n/v\n12\n34\n/srv/app\nvalue\nsh -c touch /tmp/here; echo ready; sleep 1000 ", 0},
		{"it has an exit code", "exit 42", "", "", 42},
		{"it is ended by a signal", "kill -TERM $$", "", "", 143},
		{"it reads its input", "wc -c", strings.Repeat("x", 1<<20), "1048576\n", 0},
		{"it writes much", "head -c 3000000 /dev/zero", "", strings.Repeat("\x00", 3000000), 0},
		{"it has no more privileges", "grep -E 'NoNewPrivs|CapEff' /proc/self/status", "", "CapEff:\t0000000000000000\nNoNewPrivs:\t1\n", 0},
		{"it leaves a process behind", "sleep 1000 & echo left", "", "left\n", 0},
		{"it is in a session of its own", "[ $(ps -o sid= $$) = $$ ] && echo ok", "", "ok\n", 0},
	} {
		t.Run(test.name, func(t *testing.T) {
			var out bytes.Buffer
			streams := Streams{Out: &out, Err: &out}
			if test.in != "" {
				streams.In = strings.NewReader(test.in)
			}
			code, err := c.Exec(t.Context(), []string{"sh", "-c", test.command}, nil, streams)
			if err != nil || code != test.code || out.String() != test.want {
				t.Errorf("got code %d, %v, output %.200q, want %d and %.200q", code, err, out.String(), test.code, test.want)
			}
		})
	}
	t.Run("it says what cannot be started", func(t *testing.T) {
		_, err := c.Exec(t.Context(), []string{"no-such"}, nil, Streams{})
		if want := `exec: "no-such": executable file not found in $PATH`; err == nil || err.Error() != want {
			t.Errorf("got %v, want %v", err, want)
		}
	})
	t.Run("it is killed when nobody waits any more", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := c.Exec(ctx, []string{"sh", "-c", "sleep 997 & sleep 997"}, nil, Streams{Out: io.Discard})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
		}
		var out bytes.Buffer
		c.Exec(t.Context(), []string{"sh", "-c", "ps ax | grep -c '[s]leep 997'"}, nil, Streams{Out: &out})
		if out.String() != "0\n" {
			t.Errorf("got %q processes of it left, want 0", out.String())
		}
	})
	t.Run("it dies with the container", func(t *testing.T) {
		time.AfterFunc(100*time.Millisecond, c.Kill)
		code, err := c.Exec(t.Context(), []string{"sleep", "1000"}, nil, Streams{Out: io.Discard})
		if err != nil || code != 137 {
			t.Errorf("got %d, %v, want 137", code, err)
		}
		end(t, c)
		if _, err := c.Exec(t.Context(), []string{"true"}, nil, Streams{}); !errors.Is(err, ErrNotRunning) {
			t.Errorf("got %v, want %v", err, ErrNotRunning)
		}
	})
}

func TestTerminal(t *testing.T) {
	t.Parallel()
	c, log := start(t, Spec{Args: []string{"sh", "-c", "tty; stty size; echo ready; read line; echo got $line; stty size; exit 5"}, TTY: true, Stdin: true})
	log.waitFor(t, "ready")
	in, typed := io.Pipe()
	sizes := make(chan Size)
	attached := make(chan error, 1)
	var out record
	go func() {
		attached <- c.Attach(t.Context(), Streams{In: in, Out: &out, TTY: true, Resize: sizes})
	}()
	sizes <- Size{Columns: 100, Rows: 30}
	sizes <- Size{Columns: 101, Rows: 31}
	sizes <- Size{Columns: 101, Rows: 31} // taken once the one before was set
	fmt.Fprintln(typed, "hello")
	end(t, c)
	if err := <-attached; err != nil {
		t.Error(err)
	}
	want := "/dev/pts/0\r\n0 0\r\nready\r\nhello\r\ngot hello\r\n31 101\r\n"
	if got, want := log.content(), strings.ReplaceAll(want, "\r", ""); got != want || c.Exit().Code != 5 {
		t.Errorf("got code %d and %q, want 5 and %q", c.Exit().Code, got, want)
	}
	if got := out.String(); !strings.HasSuffix(want, got) || !strings.Contains(got, "got hello") {
		t.Errorf("got %q at who attached, want the end of the log", got)
	}

	c, _ = start(t, Spec{Args: []string{"sleep", "1000"}})
	var exec bytes.Buffer
	code, err := c.Exec(t.Context(), []string{"sh", "-c", "tty; read line; echo $line"}, nil, Streams{In: strings.NewReader("hi\n"), Out: &exec, TTY: true})
	if want := regexp.MustCompile(`^/dev/pts/0\r\n(hi\r\n){2}$|^hi\r\n/dev/pts/0\r\nhi\r\n$`); err != nil || code != 0 || !want.MatchString(exec.String()) {
		t.Errorf("got %d, %v, %q, want %v", code, err, exec.String(), want)
	}
}

func TestAttach(t *testing.T) {
	t.Parallel()
	t.Run("it serves several at once", func(t *testing.T) {
		c, log := start(t, Spec{Args: []string{"sh", "-c", "echo ready; while read line; do echo got $line; done; echo end >&2"}, Stdin: true, OnceIn: true})
		log.waitFor(t, "ready")
		var outs, errs [3]record
		var all sync.WaitGroup
		for i := range outs {
			all.Go(func() {
				if err := c.Attach(t.Context(), Streams{Out: &outs[i], Err: &errs[i]}); err != nil {
					t.Error(err)
				}
			})
		}
		for c.output.attached() < len(outs) {
			time.Sleep(time.Millisecond)
		}
		if err := c.Attach(t.Context(), Streams{In: strings.NewReader("a\nb\n"), Out: io.Discard}); err != nil {
			t.Error(err)
		}
		all.Wait()
		for i := range outs {
			if outs[i].String() != "got a\ngot b\n" || errs[i].String() != "end\n" {
				t.Errorf("got %q and %q, want all that was written since", &outs[i], &errs[i])
			}
		}
	})
	t.Run("it keeps standard input open for the next", func(t *testing.T) {
		c, log := start(t, Spec{Args: []string{"sh", "-c", "while read line; do echo got $line; [ $line = b ] && exit 9; done; exit 1"}, Stdin: true})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Minute, cancel)
		go c.Attach(ctx, Streams{In: strings.NewReader("a\n")})
		log.waitFor(t, "got a")
		cancel()
		if err := c.Attach(t.Context(), Streams{In: strings.NewReader("b\n")}); err != nil {
			t.Error(err)
		}
		if got := c.Exit().Code; got != 9 {
			t.Errorf("got code %d, want 9", got)
		}
	})
	t.Run("it ends with who reads no more", func(t *testing.T) {
		c, log := start(t, Spec{Args: []string{"sh", "-c", "head -c 10000000 /dev/zero; echo; echo end"}})
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		stuck, _ := io.Pipe()
		defer stuck.Close()
		go c.Attach(ctx, Streams{Out: blocked{ctx}})
		end(t, c)
		if !strings.HasSuffix(log.String(), " F end\n") {
			t.Error("got a log without its end, want all of it")
		}
	})
}

type blocked struct{ ctx context.Context }

func (b blocked) Write(p []byte) (int, error) {
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

func (o *output) attached() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.watchers)
}

func TestImage(t *testing.T) {
	t.Parallel()
	// The smallest image: a shell with its libraries, and links that would lead
	// out if they were followed outside.
	bare := t.TempDir()
	busyAlone := staticShell(t, bare)
	c, log := start(t, Spec{Root: Root{Dir: bare}, Hostname: "box", Args: busyAlone("read name < /etc/hostname; echo $name")})
	if end(t, c); log.content() != "box\n" {
		t.Errorf("got %q of an image without /etc, want its host name", log.content())
	}
	image, victim := t.TempDir(), t.TempDir()
	write(t, filepath.Join(victim, "hostname"), "untouched")
	busy := staticShell(t, image)
	write(t, filepath.Join(image, "etc-real/passwd"), "app:x:1000:1000::/home/app:/bin/sh\n")
	for _, link := range [][2]string{{"/etc-real", "etc"}, {victim, "dev"}, {victim, "sys"}, {"/nowhere", "run"}} {
		if link[1] == "etc" || link[1] == "dev" || link[1] == "sys" {
			os.Symlink(link[0], filepath.Join(image, link[1]))
		}
	}
	_, _, err := tryStart(t, Spec{Root: Root{Dir: image}, Args: busy("echo no"), Write: true})
	if err == nil {
		t.Fatal("got a container whose /dev is a link to nowhere, want an error")
	}
	os.Remove(filepath.Join(image, "dev"))
	os.Remove(filepath.Join(image, "sys"))
	c, log = start(t, Spec{Root: Root{Dir: image}, UID: 1000, GID: 1000, Hostname: "box", Write: true,
		Args: busy("echo $HOME; read name < /etc/hostname; echo $name; echo x > /file; echo /*; cd /proc; echo [0-9]*")})
	end(t, c)
	if want := "/home/app\nbox\n"; !strings.HasPrefix(log.content(), want) || !strings.HasSuffix(log.content(), "\n1\n") {
		t.Errorf("got %q, want %q first and 1 last", log.content(), want)
	}
	if _, err := os.Lstat(filepath.Join(image, "file")); err == nil {
		t.Error("got a file in the image, want it in the container alone")
	}
	if entries, _ := os.ReadDir(victim); len(entries) != 1 {
		t.Errorf("got %v in the folder that links lead to, want it untouched", entries)
	}
}

// staticShell puts a shell into a folder, with the libraries that it says it
// needs.
func staticShell(t testing.TB, dir string) func(command string) []string {
	t.Helper()
	list, err := exec.Command("ldd", "/bin/sh").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := append(regexp.MustCompile(`/\S+`).FindAllString(string(list), -1), "/bin/sh")
	for _, name := range files {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(content))
	}
	return func(command string) []string { return []string{"/bin/sh", "-c", command} }
}

// BenchmarkStart starts containers of /bin/true and waits for their ends. It
// reports the processor time of all that takes part.
func BenchmarkStart(b *testing.B) {
	before := processorTime()
	for b.Loop() {
		c, err := shared.Start(Spec{ID: fmt.Sprint("c", ids.Add(1)), Args: []string{"/bin/true"}, Write: true})
		if err != nil {
			b.Fatal(err)
		}
		<-c.Done()
		if err := c.Remove(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e6, "cpu-ms/op")
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "starts/s")
}

// BenchmarkExec runs /bin/true beside a container's program, as a probe does.
func BenchmarkExec(b *testing.B) {
	c, _ := start(b, Spec{Args: []string{"sleep", "1000"}})
	before := processorTime()
	for b.Loop() {
		if code, err := c.Exec(b.Context(), []string{"/bin/true"}, nil, Streams{}); code != 0 || err != nil {
			b.Fatal(code, err)
		}
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e6, "cpu-ms/op")
}

// BenchmarkProcess is what a process costs without a container, to compare.
func BenchmarkProcess(b *testing.B) {
	before := processorTime()
	for b.Loop() {
		if err := exec.Command("/bin/true").Run(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(processorTime()-before)/float64(b.N)/1e6, "cpu-ms/op")
}

func processorTime() time.Duration {
	var sum int64
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		unix.Getrusage(who, &u)
		sum += u.Utime.Nano() + u.Stime.Nano()
	}
	return time.Duration(sum)
}
