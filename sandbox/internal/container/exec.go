package container

import (
	"context"
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Exec runs a program beside the container's, with its user, capabilities and,
// when env is nil, environment, and returns its exit code. The error is a
// *StartError when it could not be started, ErrNotRunning, or ctx's, and then
// the program was killed.
func (c *Container) Exec(ctx context.Context, args, env []string, s Streams) (int, error) {
	spec := *c.spec
	spec.Args = args
	if env != nil {
		spec.Env = env
		spec.complete()
	}
	spec.Env = withTerminal(spec.Env, s.TTY)
	if err := spec.check(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	streams, err := newChildStreams(s.TTY, s.In != nil, s.Out != nil, s.Err != nil)
	if err != nil {
		return 0, err
	}
	defer streams.closeOurs()
	program, err := c.join(&spec, streams)
	if err == nil {
		err = streams.receiveConsole()
	}
	streams.closeChild()
	if err != nil {
		return 0, err
	}
	defer program.fd.Close()

	if s.In != nil {
		in := streams.stdin()
		go func() {
			io.Copy(in, s.In) // until the program ends, when in is closed, at the latest
			in.Close()
		}()
	}
	stopped := make(chan struct{})
	defer close(stopped)
	if streams.console != nil {
		go resize(streams.console, s.Resize, stopped)
	}
	stop := context.AfterFunc(ctx, func() {
		unix.Kill(-program.pid, unix.SIGKILL) // it leads a session, and so a process group, of its own
	})
	defer stop()
	pumps := streams.pump(s.Out, s.Err)
	ended := exitOf(program.wait())
	for _, p := range pumps {
		p.finish()
	}
	if err := ctx.Err(); err != nil {
		return ended.Code, err
	}
	return ended.Code, nil
}

// join starts the program of an exec.
func (c *Container) join(spec *Spec, streams *childStreams) (program process, err error) {
	conn, err := c.process.fd.SyscallConn()
	if err != nil {
		return process{}, err
	}
	var pid int
	controlled := conn.Control(func(pidfd uintptr) {
		var s *script
		if s, err = join(pidfd, spec, streams); err == nil {
			pid, err = c.runtime.play(s, 0)
		}
	})
	if start := (*StartError)(nil); errors.Is(controlled, os.ErrClosed) || errors.As(err, &start) && start.Doing == doingJoin {
		// The namespaces of a program that has ended cannot be joined (ESRCH), nor
		// can a process be made in a PID namespace without PID 1 (ENOMEM).
		return process{}, errors.Join(ErrNotRunning, err)
	}
	if err != nil {
		return process{}, asStartError(err)
	}
	return openProcess(pid)
}

// resize sets the size of a terminal as its viewer's changes.
func resize(console *os.File, sizes <-chan Size, stopped <-chan struct{}) {
	conn, err := console.SyscallConn()
	if err != nil {
		return
	}
	for {
		select {
		case size, ok := <-sizes:
			if !ok {
				return
			}
			conn.Control(func(fd uintptr) {
				unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: size.Rows, Col: size.Columns})
			})
		case <-stopped:
			return
		}
	}
}

// A pump hands on the output of an exec.
type pump struct {
	from *os.File
	done chan struct{}
	// at counts what was read, and is odd while it is being written.
	at atomic.Int64
}

func startPump(from *os.File, to io.Writer) *pump {
	p := &pump{from: from, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		buffer := make([]byte, 32<<10)
		for {
			n, err := from.Read(buffer)
			if n > 0 {
				p.at.Add(1)
				if _, werr := to.Write(buffer[:n]); werr != nil {
					to = io.Discard // the program's output is not its reader's matter
				}
				p.at.Add(1)
			}
			if err != nil {
				return
			}
		}
	}()
	return p
}

// finish waits for the rest of the output after the program's end. A process
// that it left behind may keep the stream open for ever: who is silent for a
// moment is not waited for.
func (p *pump) finish() {
	const moment = 300 * time.Millisecond
	for {
		at := p.at.Load()
		select {
		case <-p.done:
			return
		case <-time.After(moment):
			if at%2 == 0 && at == p.at.Load() {
				p.from.Close()
			}
		}
	}
}
