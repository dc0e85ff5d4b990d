// Package container runs a container as local processes in user, mount and PID
// namespaces of its own, with no root: the program is PID 1 there, its volumes
// are at their real paths, and the rest of the machine cannot be seen. It knows
// nothing of pods; package node does.
//
//	container.go     what a container is: Spec, Exit, the errors
//	runtime.go       Open, Start, Close; the thread that all containers are children of
//	running.go       a container that was started: signals, its end
//	exec.go          a program beside it
//	output.go        its output: the log, and who is attached
//	memory.go        what it uses, and its limit
//	setup.go         the set-up of one, as system calls; root.go says what is in its /
//	capabilities.go  what it may do there
//	script.go        how a list of system calls is played in a new process
//	namespaced.go    for the node itself: mounts that its containers share and that go with it
//	check.go         whether this machine lets us
//
// Start with Runtime.Start.
package container

import (
	"errors"
	"io"
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
	Nice            int // 0 to 19: how far what else this machine does comes before it

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
