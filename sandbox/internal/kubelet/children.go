package kubelet

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// children are the programs that the node's first process keeps running. It is
// PID 1 of its namespace, so every orphan there becomes its child too, shims
// above all, and it has to reap them.
type children struct {
	log  *slog.Logger
	busy sync.WaitGroup

	mu      sync.Mutex
	running map[int]*exec.Cmd
}

// run starts a program, and starts it again whenever it ends, until ctx does;
// then it asks it to end. A kubelet that dies leaves its pods running and finds
// them again.
func (c *children) run(ctx context.Context, name string, command ...string) {
	c.busy.Go(func() {
		for pause := time.Second; ctx.Err() == nil; pause = min(2*pause, 30*time.Second) {
			err := c.once(ctx, command)
			if ctx.Err() != nil {
				return
			}
			c.log.Error("a program of the node ended", "program", name, "error", err, "again in", pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	})
}

func (c *children) once(ctx context.Context, command []string) error {
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 500 * time.Millisecond
	c.mu.Lock() // until it is in the map, or reap would take it for an orphan
	err := cmd.Start()
	if err == nil {
		c.running[cmd.Process.Pid] = cmd
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	err = cmd.Wait()
	c.mu.Lock()
	delete(c.running, cmd.Process.Pid)
	c.mu.Unlock()
	return err
}

// reap buries orphans for as long as the process lives. It looks before it takes,
// since the end of a child of ours is for its Wait. Nothing else may start
// processes once it runs.
func (c *children) reap() {
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_ALL, 0, &info, unix.WEXITED|unix.WNOWAIT, nil)
		if errors.Is(err, unix.ECHILD) { // none, until a program is started
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if err != nil {
			continue // interrupted
		}
		pid := exited(&info)
		c.mu.Lock()
		_, ours := c.running[pid]
		c.mu.Unlock()
		if ours {
			time.Sleep(time.Millisecond) // its Wait is about to
			continue
		}
		unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
}

// exited is the process that a Siginfo of waitid is about. The package of system
// calls has no name for that field, which lies behind three ints and a gap.
func exited(info *unix.Siginfo) int {
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), 16)))
}
