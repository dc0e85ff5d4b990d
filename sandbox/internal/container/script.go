package container

import (
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A script is the set-up of a new process as a list of system calls. The caller
// writes the list; the new process plays it between its fork and its execve,
// where no Go code may run that allocates, grows its stack or takes a lock.
//
// The usual way is to execute oneself again and to run ordinary Go code in the
// new process. Measured with the executable that has all of Kubernetes in it,
// that costs 6 ms of CPU before the first line of ours, even where that line is
// the first package's initialisation; a script that sets up a whole container
// takes less than a third of that. A second, small executable would have to be
// built before the first and be carried inside.
type script struct {
	calls []call
	slots int
	keep  []any // what calls point to
}

// A call is one system call. An argument made by slot(n) stands for the result
// of an earlier call.
type call struct {
	nr    uintptr
	args  [6]uintptr
	save  uintptr // slot that gets the result, plus one
	allow uint64  // errors that do not matter, as bits: 1<<errno
	doing string  // `mount "/data"`, for people
}

// forkCall stands for a fork: who played so far waits until its child has
// executed and ends, and the child, which is a child of the caller, plays on.
// A process must fork to enter a PID namespace that exists.
const forkCall = ^uintptr(0)

// slotTag marks an argument that is a slot: no address of a program is so
// high, and a small negative number is higher.
const slotTag uintptr = 0x7fee_0000_0000_0000

func slot(n int) uintptr { return slotTag | uintptr(n) }

// do adds a call.
func (s *script) do(doing string, nr uintptr, args ...uintptr) *call {
	c := call{nr: nr, doing: doing}
	copy(c.args[:], args)
	s.calls = append(s.calls, c)
	return &s.calls[len(s.calls)-1]
}

// allowing lets the call fail with one of these errors.
func (c *call) allowing(errnos ...syscall.Errno) *call {
	for _, e := range errnos {
		c.allow |= 1 << e
	}
	return c
}

// result keeps the call's result and returns the argument that stands for it.
func (s *script) result(c *call) uintptr {
	s.slots++
	c.save = uintptr(s.slots)
	return slot(s.slots - 1)
}

// str is a C string that lives as long as the script. What holds a zero byte
// ends there, so callers refuse such words.
func (s *script) str(v string) uintptr {
	b := make([]byte, len(v)+1)
	copy(b, v)
	s.keep = append(s.keep, b)
	return uintptr(unsafe.Pointer(&b[0]))
}

// strs is a list of C strings, as execve takes it.
func (s *script) strs(list []string) uintptr {
	p := make([]uintptr, len(list)+1)
	for i, v := range list {
		p[i] = s.str(v)
	}
	s.keep = append(s.keep, p)
	return uintptr(unsafe.Pointer(&p[0]))
}

// pointer is the address of a value that must be on the heap, and stays there
// as long as the script.
func pointer[T any](s *script, v *T) uintptr {
	s.keep = append(s.keep, v)
	return uintptr(unsafe.Pointer(v))
}

// A performance is a script being played. The new process writes it, in the
// memory that it shares with the caller until it executes.
type performance struct {
	calls  []call
	slots  []uintptr
	denied uintptr // 1 when some program on PATH could not be executed for lack of permission
	at     uintptr // index of the call being played
	errno  uintptr // of the call at, which was the last one
	again  cloneArgs
}

// cloneArgs is struct clone_args of clone3(2).
type cloneArgs struct {
	flags, pidfd, childTID, parentTID, exitSignal, stack, stackSize, tls uint64
	setTID, setTIDSize, cgroup                                           uint64
}

// play forks and lets the child play the script. It returns once the child has
// executed a program, with its process id, or the *StartError that says which
// call failed. It must be called on the thread that the child is to die with.
func (s *script) play(namespaces uint64) (pid int, err error) {
	var child, second int32
	p := &performance{calls: s.calls, slots: make([]uintptr, s.slots)}
	args := &cloneArgs{
		// The child runs in the caller's memory while the caller waits: nothing
		// has to be copied, however big the caller is.
		flags:      namespaces | unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PARENT_SETTID,
		parentTID:  uint64(pointer(s, &child)),
		exitSignal: uint64(unix.SIGCHLD),
	}
	p.again = cloneArgs{
		// A child of the caller's, like the first one. Its exit signal is the first one's.
		flags:     unix.CLONE_VM | unix.CLONE_VFORK | unix.CLONE_PARENT | unix.CLONE_PARENT_SETTID,
		parentTID: uint64(pointer(s, &second)),
	}

	// No signal may be handled in the child: the handler would be the Go
	// runtime's, in memory that is not the child's.
	all, before := ^uint64(0), uint64(0)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&before)), 8, 0, 0)
	errno := forkAndWait(args, p)
	unix.RawSyscall6(unix.SYS_RT_SIGPROCMASK, unix.SIG_SETMASK, uintptr(unsafe.Pointer(&before)), 0, 8, 0, 0)
	runtime.KeepAlive(s)
	runtime.KeepAlive(args)
	runtime.KeepAlive(p)

	if errno != 0 {
		return 0, &StartError{Doing: "make namespaces", Err: errno}
	}
	if second != 0 {
		reap(int(child))
		child = second
	}
	if p.errno == 0 {
		return int(child), nil
	}
	reap(int(child))
	if p.denied != 0 {
		p.errno = uintptr(unix.EACCES)
	}
	return 0, &StartError{Doing: s.calls[p.at].doing, Err: syscall.Errno(p.errno)}
}

// reap waits for a child that has ended, or is about to.
func reap(pid int) {
	for {
		if _, err := unix.Wait4(pid, nil, 0, nil); err != unix.EINTR {
			return
		}
	}
}

// forkAndWait tells the scheduler, as every call of the kernel that may take
// long does, that this thread is not to be waited for. Package syscall has no
// such call for a fork, whose child must not come back to Go's scheduler.
//
//go:norace
//go:nosplit
func forkAndWait(args *cloneArgs, p *performance) syscall.Errno {
	entersyscall()
	_, errno := forkAndPlay(args, p)
	exitsyscall()
	return errno
}

//go:linkname entersyscall runtime.entersyscall
func entersyscall()

//go:linkname exitsyscall runtime.exitsyscall
func exitsyscall()

// forkAndPlay forks. In the caller it returns at once when the child is done
// with the caller's memory; in the child it never returns. The child must not
// touch the caller's stack frames, which is why all that it does is here.
//
//go:noinline
//go:norace
//go:nosplit
func forkAndPlay(args *cloneArgs, p *performance) (pid uintptr, errno syscall.Errno) {
	pid, errno = rawVfork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(args)), unsafe.Sizeof(*args))
	if errno != 0 || pid != 0 {
		return pid, errno
	}
	for i := range p.calls {
		c := &p.calls[i]
		p.at = uintptr(i)
		if c.nr == forkCall {
			pid, errno = rawVfork(unix.SYS_CLONE3, uintptr(unsafe.Pointer(&p.again)), unsafe.Sizeof(p.again))
			if errno == 0 && pid != 0 {
				for {
					syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
				}
			}
		} else {
			pid, _, errno = syscall.RawSyscall6(c.nr,
				p.value(c.args[0]), p.value(c.args[1]), p.value(c.args[2]), p.value(c.args[3]), p.value(c.args[4]), p.value(c.args[5]))
		}
		if c.nr == unix.SYS_EXECVE && errno == unix.EACCES {
			p.denied = 1
		}
		if errno != 0 && (errno >= 64 || c.allow&(1<<errno) == 0) {
			break
		}
		if c.save != 0 {
			p.slots[c.save-1] = pid
		}
	}
	// Whatever the last call was, it was not an execve that went well.
	p.errno = uintptr(errno)
	for {
		syscall.RawSyscall(unix.SYS_EXIT_GROUP, 0, 0, 0)
	}
}

//go:norace
//go:nosplit
func (p *performance) value(arg uintptr) uintptr {
	if arg&^0xffff == slotTag {
		return p.slots[arg&0xffff]
	}
	return arg
}

// rawVfork makes a system call that forks with CLONE_VM. The child comes back
// first, on the same stack, and overwrites the return address that lies there:
// so it is kept in a register meanwhile.
func rawVfork(nr, a1, a2 uintptr) (r1 uintptr, errno syscall.Errno)
