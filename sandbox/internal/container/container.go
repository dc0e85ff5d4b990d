// Package container runs a container as local processes in user, mount and PID
// namespaces of its own, with no root: the program is PID 1 there, its volumes
// are at their real paths, and the rest of the machine cannot be seen. It knows
// nothing of pods; package node does.
//
// Start with Runtime.Start.
package container

import (
	"io"
	"os"
	"time"
)

// Spec is a container to be run. Everything is resolved: no image name, no
// variable to expand, no volume to find.
type Spec struct {
	ID    string // unique among those of the runtime; the name of its folder
	Root  Root   // what / holds
	Args  []string
	Env   []string // NAME=value; the whole environment
	Dir   string   // working directory; "" is /. It is made when it is missing.
	UID   int      // as the program sees itself; it is the caller's own user outside
	GID   int
	Write bool // whether / can be written (what is written there goes with the container)

	Hostname string
	Mounts   []Mount
	TTY      bool
	Stdin    bool // keeps standard input open for Attach; else it is empty
	OnceIn   bool // closes standard input when the first that attached has gone

	Log    io.Writer // gets CRI log lines: TIMESTAMP STREAM TAG CONTENT; the caller bounds it
	Memory int64     // bytes; 0 is no limit. A container that is seen above it is killed and OOMKilled.
}

// Root is what a container's / is made of.
type Root struct {
	Dir    string // an unpacked image; "" means the machine's own programs, read-only (/usr, /bin, /lib…, /etc)
	Python string // a Python environment that is visible at its own path and first on PATH; "" for none
}

// Mount puts a file or folder of the machine into the container.
type Mount struct {
	Source   string // "" with Tmpfs
	Target   string // absolute
	ReadOnly bool
	Tmpfs    bool // an empty memory file system
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

// A Container is a running or ended one. Its methods may be called from any
// goroutine:
//
//	PID() int                                              // outside
//	Done() <-chan struct{}                                 // closed when every process of it is gone
//	Exit() Exit                                            // after Done
//	Signal(os.Signal) error                                // to the program
//	Kill()                                                 // every process, at once
//	Exec(ctx, args []string, env, Streams) (int, error)    // exit code; joins the namespaces
//	Attach(ctx, Streams) error
//	Usage() (Usage, error)
//	Remove() error                                         // its folder; after Done
var _ os.Signal
