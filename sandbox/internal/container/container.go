// Package container runs a container as local processes in user, mount and PID
// namespaces of its own, with no root: the program is PID 1 there, its volumes
// are at their real paths, and the rest of the machine cannot be seen. It knows
// nothing of pods; package node does.
//
// Start with Runtime.Start.
package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// Spec is a container to be run. Everything is resolved: no image name, no
// variable to expand, no volume to find.
type Spec struct {
	ID    string   // unique among those of the runtime; the name of its folder
	Root  Root     // what / holds
	Args  []string // Args[0] is looked up on the PATH of Env when it has no slash
	Env   []string // NAME=value; the whole environment, but for HOME and PATH, which are added when they are missing
	Dir   string   // working directory; "" is /. It is made when it is missing.
	UID   int      // as the program sees itself; it is the caller's own user outside
	GID   int
	Write bool // whether / can be written (what is written there goes with the container)

	NoNewPrivileges bool // allowPrivilegeEscalation: false
	Privileged      bool // every capability; they reach no further than the container's own namespaces
	Capabilities    Capabilities
	OOMScoreAdj     int // how readily the kernel ends it when the machine's memory is full; 0 to 1000

	Hostname string
	Mounts   []Mount
	TTY      bool
	Stdin    bool // keeps standard input open for Attach; else it is empty
	OnceIn   bool // closes standard input when the first that attached has gone

	Log    io.Writer // gets CRI log lines: TIMESTAMP STREAM TAG CONTENT; the caller bounds it; nil drops them
	Memory int64     // bytes; 0 is no limit. A container that is seen above it is killed and OOMKilled.
}

// Root is what a container's / is made of.
type Root struct {
	Dir    string // an unpacked image; "" means the machine's own programs (/usr, /bin, /lib…, /etc, /opt)
	Python string // a Python environment that is visible at its own path and first on PATH; "" for none
}

// Capabilities are what is added to, and taken from, those that every
// container has, by their names in a pod: NET_ADMIN, ALL.
type Capabilities struct{ Add, Drop []string }

// Mount puts a file or folder of the machine into the container.
type Mount struct {
	Source   string // absolute; "" with Tmpfs
	SubPath  string // of a folder Source: below it, made when missing, never outside of it whatever links say
	Target   string // absolute
	ReadOnly bool
	Tmpfs    bool  // an empty memory file system
	Size     int64 // of a Tmpfs, bytes; 0 is the kernel's default
}

// Exit is how a container ended.
type Exit struct {
	Code      int // 128+signal when a signal ended it
	Signal    int
	OOMKilled bool
	Started   time.Time
	Finished  time.Time
}

// Usage is what a container uses now, all of its processes together.
type Usage struct {
	CPU    time.Duration
	Memory int64 // bytes, proportional set size
}

// Streams are the three streams of an exec or an attach; nil ones are not wanted.
type Streams struct {
	In     io.Reader
	Out    io.Writer
	Err    io.Writer
	TTY    bool
	Resize <-chan Size
}

// Size is the size of a terminal.
type Size struct{ Columns, Rows uint16 }

// StartError says why a program did not start: the set-up failed, or the kernel
// would not execute it. In a pod it is the reason StartError with exit code 128.
// Its text is for the container's status. Unwrap gives the cause: fs.ErrNotExist
// and fs.ErrPermission match with errors.Is.
type StartError struct {
	Doing string // `exec: "serve"`, `mount "/data"`
	Err   error
}

func (e *StartError) Error() string { return e.Doing + ": " + e.Err.Error() }
func (e *StartError) Unwrap() error { return e.Err }

// ErrNotRunning is returned by what needs a running container.
var ErrNotRunning = errors.New("the container is not running")

// Runtime runs containers. When the program that opened it ends, however it
// ends, so do they.
type Runtime struct{}

// Open makes a runtime whose containers keep their folders in dir. What is
// there of an earlier runtime, that is gone, is removed. The error is Check's
// where namespaces cannot be had.
func Open(dir string) (*Runtime, error) { return nil, fmt.Errorf("container.Open: not there yet") }

// Close kills every container, waits until they are gone, and removes their
// folders.
func (r *Runtime) Close() error { return nil }

// Start runs a container and returns once its program was executed. The error
// is a *StartError when it could not be.
func (r *Runtime) Start(spec Spec) (*Container, error) { return nil, nil }

// Check says, in an error for people, what keeps this machine from running
// containers.
func Check() error { return nil }

// Container is a running or ended container. Its methods may be called from any
// goroutine.
type Container struct{}

// ID is the spec's.
func (c *Container) ID() string { return "" }

// PID is the program's outside of the container.
func (c *Container) PID() int { return 0 }

// Done is closed when every process of the container is gone and its output
// has been written to the log.
func (c *Container) Done() <-chan struct{} { return nil }

// Exit is how it ended; to be called after Done.
func (c *Container) Exit() Exit { return Exit{} }

// Signal sends a signal to the program. As PID 1 it does not get a signal that
// it does not handle, except os.Kill. ErrNotRunning when it is gone.
func (c *Container) Signal(s os.Signal) error { return nil }

// Kill ends every process at once.
func (c *Container) Kill() {}

// Exec runs a program beside the container's, with its user, capabilities and,
// when env is nil, environment, and returns its exit code. The error is a
// *StartError when it could not be started, ErrNotRunning, or ctx's, and then
// the program was killed.
func (c *Container) Exec(ctx context.Context, args, env []string, s Streams) (int, error) {
	return 0, nil
}

// Attach hands on the program's output from now on, and input to it, until the
// program ends, s.In fails, or ctx is done.
func (c *Container) Attach(ctx context.Context, s Streams) error { return nil }

// Usage is what the container uses. ErrNotRunning when it is gone.
func (c *Container) Usage() (Usage, error) { return Usage{}, nil }

// Remove removes its folder; to be called after Done.
func (c *Container) Remove() error { return nil }
