package container

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"biplane.dev/biplane/internal/sandbox"
)

// Runtime runs containers. When the program that opened it ends, however it
// ends, so do they.
type Runtime struct {
	dir    string
	mark   string // what the runtime's containers are known by: the source of their root mount
	lock   *os.File
	host   []lower // what a container of the machine's programs sees
	layers layers  // where what containers write is kept
	covers bool    // whether parts of /proc and /sys have to be covered

	forks chan func() // run on the threads that containers die with

	mu         sync.Mutex
	closed     bool
	containers map[string]*Container
}

// Open makes a runtime whose containers keep their folders in dir. What is
// there of an earlier runtime, that is gone, is removed. The error is Check's
// where namespaces cannot be had.
func Open(dir string) (*Runtime, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of containers: %w", err)
	}
	r := &Runtime{dir: dir, mark: fmt.Sprintf("biplane-%x", sha256.Sum256([]byte(dir)))[:20], forks: make(chan func()), containers: map[string]*Container{}}
	if r.lock, err = lockFile(filepath.Join(dir, "lock")); err != nil {
		return nil, err
	}
	for range forkThreads {
		go r.fork()
	}
	if err := r.prepare(); err != nil {
		close(r.forks)
		r.lock.Close()
		return nil, err
	}
	return r, nil
}

func lockFile(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another node uses %s: %w", filepath.Dir(name), err)
	}
	return f, nil
}

// forkThreads start containers at the same time. Much of a start is waiting
// for the kernel to let go of what it unmounts.
const forkThreads = 4

// fork is a thread that containers are forked from, and die with. It ends with
// the runtime, and at the latest with the process.
func (r *Runtime) fork() {
	runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
	for f := range r.forks {
		f()
	}
}

// play plays a script on one of those threads.
func (r *Runtime) play(s *script, namespaces uint64) (pid int, err error) {
	done := make(chan struct{})
	r.forks <- func() {
		pid, err = s.play(namespaces)
		close(done)
	}
	<-done
	return pid, err
}

// prepare makes the folders, and tries whether containers can be run.
func (r *Runtime) prepare() error {
	if err := r.killLeft(); err != nil {
		return fmt.Errorf("ending what an earlier node left: %w", err)
	}
	for _, name := range []string{"containers", "host"} {
		if err := sandbox.RemoveAll(filepath.Join(r.dir, name)); err != nil {
			return fmt.Errorf("removing what an earlier node left: %w", err)
		}
	}
	if err := os.Mkdir(filepath.Join(r.dir, "containers"), 0o700); err != nil {
		return err
	}
	var err error
	if r.host, err = hostRoot(filepath.Join(r.dir, "host")); err != nil {
		return fmt.Errorf("preparing the root of containers: %w", err)
	}
	if err := Check(); err != nil {
		return err
	}
	// Only who may write there is to be kept from it.
	r.covers = unix.Access("/proc/sys/kernel/core_pattern", unix.W_OK) == nil
	r.layers, err = r.chooseLayers()
	return err
}

// killLeft ends the containers of an earlier runtime of the same folder. There
// are none, but of programs that freed themselves of their parent's death
// signal, which every program may.
func (r *Runtime) killLeft() error {
	lists, err := filepath.Glob("/proc/[0-9]*/mountinfo")
	if err != nil {
		return err
	}
	for _, list := range lists {
		mounts, err := os.ReadFile(list)
		if err != nil || !bytes.Contains(mounts, []byte(" - overlay "+r.mark+" ")) {
			continue // gone meanwhile, somebody else's, or no container of ours
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(list)))
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue
		}
		unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 10000)
		unix.Close(fd)
		if n == 0 {
			return fmt.Errorf("process %d is killed and does not end: %w", pid, errors.Join(err, os.ErrDeadlineExceeded))
		}
	}
	return nil
}

// folder is a container's, for what it writes.
func (r *Runtime) folder(id string) string { return filepath.Join(r.dir, "containers", id) }

// Start runs a container and returns once its program was executed. The error
// is a *StartError when it could not be.
func (r *Runtime) Start(spec Spec) (*Container, error) {
	if err := spec.check(); err != nil {
		return nil, err
	}
	spec.complete()
	c := &Container{runtime: r, spec: &spec, done: make(chan struct{}), output: newOutput(spec.Log)}
	if err := r.add(c); err != nil {
		return nil, err
	}
	if err := c.start(); err != nil {
		r.forget(spec.ID)
		return nil, errors.Join(asStartError(err), sandbox.RemoveAll(r.folder(spec.ID)))
	}
	return c, nil
}

func asStartError(err error) error {
	if start := (*StartError)(nil); errors.As(err, &start) {
		return start.explain()
	}
	return &StartError{Doing: "set up the container", Err: err}
}

func (r *Runtime) add(c *Container) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return &StartError{Doing: "set up the container", Err: errors.New("the node is stopping")}
	}
	if _, there := r.containers[c.spec.ID]; there {
		return &StartError{Doing: "set up the container", Err: fmt.Errorf("there is one named %q", c.spec.ID)}
	}
	r.containers[c.spec.ID] = c
	return nil
}

func (r *Runtime) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.containers, id)
}

// Close kills every container, waits until they are gone, and removes their
// folders.
func (r *Runtime) Close() error {
	r.mu.Lock()
	r.closed = true
	var all []*Container
	for _, c := range r.containers {
		all = append(all, c)
	}
	r.mu.Unlock()
	var errs []error
	for _, c := range all {
		c.Kill()
	}
	for _, c := range all {
		<-c.Done()
		errs = append(errs, c.Remove())
	}
	close(r.forks)
	errs = append(errs, sandbox.RemoveAll(filepath.Join(r.dir, "host")), r.lock.Close())
	return errors.Join(errs...)
}

// check refuses what cannot be written as system calls.
func (s *Spec) check() error {
	refuse := func(doing, format string, args ...any) error {
		return &StartError{Doing: doing, Err: fmt.Errorf(format, args...)}
	}
	if s.ID == "" || s.ID != filepath.Base(s.ID) || s.ID[0] == '.' {
		return refuse("set up the container", "%q cannot name a folder", s.ID)
	}
	if len(s.Args) == 0 || s.Args[0] == "" {
		return refuse("exec", "no command specified")
	}
	if len(s.Hostname) > 64 {
		return refuse("set the host name", "%q is longer than 64 characters", s.Hostname)
	}
	words := append([]string{s.Dir}, s.Args...)
	for _, m := range s.Mounts {
		words = append(words, m.Source, m.SubPath, m.Target)
	}
	for _, w := range append(words, s.Env...) {
		if strings.ContainsRune(w, 0) {
			return refuse(fmt.Sprintf("exec: %q", s.Args[0]), "an argument, variable or path contains a zero byte")
		}
	}
	return nil
}

// defaultPath is what container engines set.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// complete adds the variables that every program has.
func (s *Spec) complete() {
	env := append([]string(nil), s.Env...)
	search := lookup(env, "PATH")
	if search == "" {
		search = defaultPath
		env = append(env, "PATH="+search)
	}
	if s.Root.Python != "" {
		env = append(env, "VIRTUAL_ENV="+s.Root.Python)
		for i, e := range env {
			if strings.HasPrefix(e, "PATH=") {
				env[i] = "PATH=" + s.Root.Python + "/bin:" + search
			}
		}
	}
	if lookup(env, "HOME") == "" {
		env = append(env, "HOME="+s.home())
	}
	s.Env = withTerminal(env, s.TTY)
	s.Mounts = append([]Mount(nil), s.Mounts...)
}

// withTerminal says what a terminal is, as other runtimes do: without TERM no
// editor starts.
func withTerminal(env []string, tty bool) []string {
	if !tty || lookup(env, "TERM") != "" {
		return env
	}
	return append(env[:len(env):len(env)], "TERM=xterm")
}

func (s *Spec) dir() string {
	if s.Dir == "" {
		return "/"
	}
	return filepath.Clean("/" + s.Dir)
}

// explain puts the reasons that a program cannot be executed in the words that
// people know them by.
func (e *StartError) explain() *StartError {
	name, isExec := strings.CutSuffix(e.Doing, lookedUp)
	switch {
	case !strings.HasPrefix(e.Doing, "exec: "):
		return e
	case isExec && errors.Is(e.Err, fs.ErrNotExist):
		return &StartError{name, because{"executable file not found in $PATH", e.Err}}
	case errors.Is(e.Err, fs.ErrNotExist):
		return &StartError{name, because{"no such file or directory", e.Err}}
	case errors.Is(e.Err, unix.E2BIG):
		return &StartError{name, because{"arguments and environment are larger than the kernel takes (128 KiB for one, a quarter of the stack limit for all)", e.Err}}
	}
	return &StartError{name, e.Err}
}

// because is a reason in other words than the kernel's.
type because struct {
	text  string
	cause error
}

func (b because) Error() string { return b.text }
func (b because) Unwrap() error { return b.cause }

// A process is a child of the runtime's thread.
type process struct {
	pid int
	fd  *os.File // its pidfd
}

func openProcess(pid int) (process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		unix.Kill(pid, unix.SIGKILL)
		reap(pid)
		return process{}, fmt.Errorf("pidfd_open: %w", err)
	}
	return process{pid, os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait returns how the process ended. No thread waits meanwhile.
func (p process) wait() (status syscall.WaitStatus) {
	conn, err := p.fd.SyscallConn()
	if err == nil {
		err = conn.Read(func(uintptr) bool {
			got, err := syscall.Wait4(p.pid, &status, syscall.WNOHANG, nil)
			return err == nil && got == p.pid || err == syscall.ECHILD
		})
	}
	if err != nil {
		syscall.Wait4(p.pid, &status, 0, nil)
	}
	return status
}

// exitOf is an Exit without times.
func exitOf(status syscall.WaitStatus) Exit {
	if status.Signaled() {
		return Exit{Code: 128 + int(status.Signal()), Signal: int(status.Signal())}
	}
	return Exit{Code: status.ExitStatus()}
}

// drainTime is how long output may still come after the last process has gone:
// only who was sent the descriptor, outside, could still hold it.
const drainTime = 2 * time.Second
