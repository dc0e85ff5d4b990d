package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"biplane.dev/biplane/internal/sandbox"
)

// Container is a running or ended container. Its methods may be called from any
// goroutine.
type Container struct {
	runtime *Runtime
	spec    *Spec
	process process
	output  *output
	console *os.File // the master of its terminal; nil without
	proc    *os.File // its /proc; nil without a limit of memory, until Usage wants it
	procMu  sync.Mutex
	oom     atomic.Bool

	stdinMu sync.Mutex
	stdin   io.WriteCloser // nil without, and when it was closed

	done chan struct{}
	exit Exit
}

// Folder is where what the container writes lies, as far as it is on a disk.
func (c *Container) Folder() string { return c.runtime.folder(c.spec.ID) }

// start forks and sees to it that the end is noticed.
func (c *Container) start() error {
	if err := os.Mkdir(c.runtime.folder(c.spec.ID), 0o700); err != nil {
		return err
	}
	streams, err := newChildStreams(c.spec.TTY, c.spec.Stdin, true, true)
	if err != nil {
		return err
	}
	defer streams.closeChild()
	var procs fdSocket
	if c.spec.Memory > 0 {
		if procs, err = newFDSocket(); err != nil {
			return errors.Join(err, streams.closeOurs())
		}
		defer procs.close()
		streams.proc = procs.theirs
	}
	s, err := c.runtime.setup(c.spec, streams)
	if err != nil {
		return errors.Join(err, streams.closeOurs())
	}
	pid, err := c.runtime.play(s, namespaces)
	if err == nil {
		c.process, err = openProcess(pid)
	}
	if err == nil {
		err = streams.receiveConsole()
	}
	if err == nil && c.spec.Memory > 0 {
		c.proc, err = procs.receive("proc")
	}
	if err != nil {
		if c.process.fd != nil {
			c.Kill()
			c.process.wait()
			c.process.fd.Close()
		}
		return errors.Join(err, streams.closeOurs())
	}
	c.exit.Started = time.Now()
	c.console = streams.console
	if c.spec.Stdin {
		c.stdin = streams.stdin()
	}
	readers := streams.read(c.output)
	go c.watchEnd(streams, readers)
	if c.spec.Memory > 0 {
		go c.watchMemory()
	}
	return nil
}

// watchEnd waits for the end of the program, with which the kernel ends every
// other process of the PID namespace before it says so.
func (c *Container) watchEnd(streams *childStreams, readers *sync.WaitGroup) {
	ended := exitOf(c.process.wait())
	finished := time.Now()

	drained := make(chan struct{})
	go func() {
		readers.Wait()
		close(drained)
	}()
	select {
	case <-drained:
	case <-time.After(drainTime):
		c.output.dropWatchers() // one that does not read may hold up the log
		select {
		case <-drained:
		case <-time.After(drainTime):
		}
	}
	c.closeStdin()
	streams.closeOurs()
	<-drained
	c.output.end()
	c.procMu.Lock()
	if c.proc != nil {
		c.proc.Close()
	}
	c.procMu.Unlock()

	ended.Started, ended.Finished = c.exit.Started, finished
	ended.OOMKilled = c.oom.Load() && ended.Signal == int(unix.SIGKILL)
	c.exit = ended
	close(c.done)
}

// ID is the spec's.
func (c *Container) ID() string { return c.spec.ID }

// PID is the program's outside of the container.
func (c *Container) PID() int { return c.process.pid }

// Done is closed when every process of the container is gone and its output
// has been written to the log.
func (c *Container) Done() <-chan struct{} { return c.done }

// Exit is how it ended; to be called after Done.
func (c *Container) Exit() Exit { return c.exit }

// Signal sends a signal to the program. As PID 1 it does not get a signal that
// it does not handle, except os.Kill. ErrNotRunning when it is gone.
func (c *Container) Signal(s os.Signal) error {
	number, ok := s.(syscall.Signal)
	if !ok {
		return fmt.Errorf("signal %v has no number", s)
	}
	err := c.process.signal(number)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, os.ErrClosed) {
		return ErrNotRunning
	}
	return err
}

func (p process) signal(number syscall.Signal) error {
	conn, err := p.fd.SyscallConn()
	if err != nil {
		return err
	}
	return errors.Join(conn.Control(func(fd uintptr) {
		err = unix.PidfdSendSignal(int(fd), number, nil, 0)
	}), err)
}

// Kill ends every process at once.
func (c *Container) Kill() { c.Signal(unix.SIGKILL) }

// Remove removes its folder; to be called after Done.
func (c *Container) Remove() error {
	<-c.done
	c.process.fd.Close()
	c.runtime.forget(c.spec.ID)
	return sandbox.RemoveAll(c.runtime.folder(c.spec.ID))
}
