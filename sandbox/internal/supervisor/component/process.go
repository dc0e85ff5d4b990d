package component

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Forker starts processes that die when this one does. Linux ties that to the
// thread which forked, so all of them are forked by one, which lives as long as
// this process.
type Forker struct {
	requests chan func()

	mu   sync.Mutex
	ours map[int]bool // processes that were started and not yet waited for
}

// NewForker starts the thread. There is no end to it but the process's.
func NewForker() *Forker {
	f := &Forker{requests: make(chan func()), ours: map[int]bool{}}
	go func() {
		runtime.LockOSThread() // and never unlock: the thread would end with the goroutine
		for request := range f.requests {
			request()
		}
	}()
	return f
}

// start starts the command.
func (f *Forker) start(command *exec.Cmd) error {
	result := make(chan error)
	f.requests <- func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		err := command.Start()
		if err == nil {
			f.ours[command.Process.Pid] = true
		}
		result <- err
	}
	return <-result
}

func (f *Forker) wait(command *exec.Cmd) error {
	err := command.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.ours, command.Process.Pid)
	return err
}

// Adopt makes this process the parent of what components leave behind, which
// would be the machine's first process otherwise. See KillOrphans.
func (f *Forker) Adopt() error {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("becoming the parent of orphans: %w", err)
	}
	return nil
}

// KillOrphans kills the processes that components left behind, and theirs in
// turn. It returns how many there were.
func (f *Forker) KillOrphans() (killed int) {
	for {
		found := f.killOnce()
		killed += found
		if found == 0 {
			return killed
		}
	}
}

func (f *Forker) killOnce() (found int) {
	f.mu.Lock() // no start may come between: its child is not known yet
	defer f.mu.Unlock()
	for _, pid := range children() {
		if f.ours[pid] {
			continue
		}
		unix.Kill(pid, unix.SIGKILL)
		if reaped, err := unix.Wait4(pid, nil, 0, nil); err == nil && reaped == pid {
			found++
		}
	}
	return found
}

// children are the processes whose parent this one is.
func children() []int {
	var pids []int
	lists, _ := filepath.Glob("/proc/self/task/*/children")
	for _, list := range lists {
		content, err := os.ReadFile(list)
		if err != nil {
			continue // of a thread that has ended
		}
		for _, field := range strings.Fields(string(content)) {
			if pid, err := strconv.Atoi(field); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// process is one that runs.
type process struct {
	*os.Process
	done   chan struct{} // closed when it is gone
	ended  error         // how, after done
	logged chan struct{} // closed when all that it said is in the log
}

func (c *Component) start() (*process, error) {
	c.log.begin()
	reader, writer, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making the pipe of the log: %w", err)
	}
	program := cmp.Or(c.Spec.Program, c.host.Program)
	command := exec.Command(program, c.Spec.Args...)
	command.Dir = c.host.Dir
	command.Env = append(append([]string{}, c.host.Env...), c.Spec.Env...)
	command.Stdout, command.Stderr = writer, writer
	if c.host.Lock != nil {
		command.ExtraFiles = []*os.File{c.host.Lock}
	}
	command.SysProcAttr = &syscall.SysProcAttr{
		Pdeathsig: syscall.SIGKILL,
		Setpgid:   true, // a terminal's Ctrl-C is for the supervisor
	}
	err = c.host.Forker.start(command)
	writer.Close()
	if err != nil {
		reader.Close()
		return nil, fmt.Errorf("running %s %s: %w", program, c.Spec.Args[0], err)
	}
	p := &process{Process: command.Process, done: make(chan struct{}), logged: make(chan struct{})}
	go func() {
		defer close(p.logged)
		defer reader.Close()
		io.Copy(c.log, reader) // until everybody who has the other end is gone
	}()
	go func() {
		defer close(p.done)
		p.ended = c.host.Forker.wait(command)
		if p.ended == nil {
			p.ended = errors.New("it ended by itself")
		}
	}()
	return p, nil
}

// stop asks the process to end, and after grace makes it. It returns when it is
// gone.
func (p *process) stop(grace time.Duration) {
	p.Signal(syscall.SIGTERM) // an error is for one that is gone
	select {
	case <-p.done:
		return
	case <-time.After(grace):
	}
	p.Kill()
	<-p.done
}

// memory is the proportional set size of a process: what it alone has, and its
// share of what it has together with others.
func memory(pid int) int64 {
	content, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/smaps_rollup")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(content)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "Pss:" {
			kilobytes, _ := strconv.ParseInt(fields[1], 10, 64)
			return kilobytes << 10
		}
	}
	return 0
}
