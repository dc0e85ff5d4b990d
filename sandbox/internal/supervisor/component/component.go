// Package component runs one program of a sandbox as a child process: starts it,
// asks whether it is ready, starts it again with back-off when it dies, keeps
// its log within bounds, and stops it. It knows nothing of what the program is,
// nor of other components; package supervisor does.
//
// Start with Spec, then Start.
package component

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"biplane.dev/biplane/internal/sandbox"
)

// Spec is what a component is made of.
type Spec struct {
	Name    string
	Program string   // the executable, where it is another than Host.Program
	Args    []string // the program's name, then its flags: no secrets, since everybody can see them
	Env     []string // NAME=value, besides Host.Env
	Needs   []string // components that must be ready before it is first started
	Address string   // host:port that it listens on, or ""
	// Ready asks the running program whether it is ready, and is nil when it is.
	// It is asked again until then, and now and then afterwards. It must give up
	// when ctx ends.
	Ready func(ctx context.Context) error
	// Grace is how long it may take to end by itself once it is told to.
	Grace time.Duration
	// Patience is how long it may take to be ready before it is killed and
	// started again; 0 is a minute.
	Patience time.Duration
}

// Host is what all components of a sandbox share.
type Host struct {
	Program string              // the executable
	Dir     string              // their working directory
	Env     []string            // their environment, besides Spec.Env
	Logs    func(string) string // the log file of a component
	Lock    *os.File            // stays open in each of them, so that its lock is held as long as one lives; may be nil
	Forker  *Forker
	Log     *slog.Logger
	Changed func(*Component) // is told of each new state; it must not wait for the component
}

// Times of a component. They are not options: nobody needs others.
const (
	askStarting = 20 * time.Millisecond  // between two questions while it is not ready
	askReady    = 2 * time.Second        // and once it is
	askLimit    = 3 * time.Second        // for one answer
	unwell      = 5                      // answers missing in a row, of one that was ready, before it counts as failing
	firstPause  = 50 * time.Millisecond  // before it is started again
	lastPause   = 10 * time.Second       // the pause doubles up to here
	lastWord    = 500 * time.Millisecond // for the log of one that has ended
	wellAfter   = 20 * time.Second       // of having run, before the pause is the first one again
)

// Component is a program that is kept running until it is stopped.
type Component struct {
	Spec Spec
	host Host
	log  *logFile

	mu       sync.Mutex
	state    sandbox.ComponentState
	process  *process // nil when there is none
	restarts int
	since    time.Time // of the state
	last     error     // why it is failing, or not yet ready
	died     bool      // since it was last ready; last says how
	changed  chan struct{}

	cancel context.CancelFunc // nil while it is not wanted
	gone   chan struct{}      // closed when the loop has ended
}

// New returns a component that is stopped.
func New(spec Spec, host Host) *Component {
	host.Log = host.Log.With("component", spec.Name)
	return &Component{Spec: spec, host: host, state: sandbox.ComponentStopped, changed: make(chan struct{}), log: openLog(host.Logs(spec.Name))}
}

// Start starts it, and returns at once; see Await. One that runs is left alone.
func (c *Component) Start() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.gone = cancel, make(chan struct{})
	c.restarts, c.died = 0, false
	c.set(sandbox.ComponentStarting, nil)
	go c.keep(ctx, c.gone)
}

// Stop stops it, and returns once the process is gone. as is the state that it
// is in then: held or stopped.
func (c *Component) Stop(as sandbox.ComponentState) {
	c.mu.Lock()
	cancel, gone := c.cancel, c.gone
	c.mu.Unlock()
	if cancel != nil {
		cancel()
		<-gone
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone != gone {
		return // stopped twice at once, and started again between
	}
	c.cancel = nil
	c.set(as, nil)
}

// Kill ends the process at once, for a Stop that takes too long.
func (c *Component) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.process != nil {
		c.process.Kill()
	}
}

// Await waits until the component is ready, held or stopped, and is nil in the
// first case. The error says why it is not, as far as is known.
func (c *Component) Await(ctx context.Context) error {
	for {
		c.mu.Lock()
		state, last, changed := c.state, c.last, c.changed
		c.mu.Unlock()
		switch state {
		case sandbox.ComponentReady:
			return nil
		case sandbox.ComponentHeld, sandbox.ComponentStopped:
			return fmt.Errorf("%s is %s", c.Spec.Name, state)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			if last == nil {
				last = ctx.Err()
			}
			return fmt.Errorf("%s is %s: %w", c.Spec.Name, state, last)
		}
	}
}

// PID is the process, or 0 when there is none.
func (c *Component) PID() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid()
}

func (c *Component) pid() int {
	if c.process == nil {
		return 0
	}
	return c.process.Pid
}

// State is its state, since when, and why it is not ready.
func (c *Component) State() (state sandbox.ComponentState, since time.Time, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state, c.since, c.last
}

// Restarts is how often it was started again because it had died.
func (c *Component) Restarts() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.restarts
}

// Status is all of it.
func (c *Component) Status() sandbox.Component {
	c.mu.Lock()
	status := sandbox.Component{Name: c.Spec.Name, PID: c.pid(), State: c.state, Restarts: c.restarts, Address: c.Spec.Address}
	c.mu.Unlock()
	if status.PID != 0 {
		status.MemoryBytes = memory(status.PID)
	}
	return status
}

// Logger returns where its log goes, for a supervisor that has something to say
// there.
func (c *Component) Logger() io.Writer { return c.log }

// set changes the state; the lock is held.
func (c *Component) set(state sandbox.ComponentState, why error) {
	c.last = why
	c.died = c.died && state != sandbox.ComponentReady
	if c.state == state {
		return
	}
	c.state, c.since = state, time.Now()
	close(c.changed)
	c.changed = make(chan struct{})
	if c.host.Changed != nil {
		go c.host.Changed(c)
	}
}

func (c *Component) become(state sandbox.ComponentState, why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.set(state, why)
}

// keep is the component's life: a process after the other, until ctx ends.
func (c *Component) keep(ctx context.Context, gone chan struct{}) {
	defer close(gone)
	pause := firstPause
	for {
		started := time.Now()
		err := c.once(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(started) > wellAfter {
			pause = firstPause
		}
		c.host.Log.Warn("ended and will be started again", "after", time.Since(started).Round(time.Millisecond), "pause", pause, "error", err)
		c.mu.Lock()
		c.died = true
		c.set(sandbox.ComponentFailing, err)
		c.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, lastPause)
		c.mu.Lock()
		c.restarts++
		c.mu.Unlock()
	}
}

// once is the life of one process. It returns when the process is gone.
func (c *Component) once(ctx context.Context) error {
	process, err := c.start()
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.process = process
	c.mu.Unlock()
	c.host.Log.Info("started", "pid", process.Pid)
	defer func() {
		c.mu.Lock()
		c.process = nil
		c.mu.Unlock()
	}()

	watching, stopWatching := context.WithCancel(ctx)
	defer stopWatching()
	sick := make(chan error, 1)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		c.watch(watching, sick)
	}()
	defer func() { stopWatching(); <-watched }()

	select {
	case <-process.done:
		select {
		case <-process.logged:
		case <-time.After(lastWord): // what it left behind may hold its log open
		}
		if said := c.log.lastWords(); said != "" {
			return fmt.Errorf("%w, and said: %s", process.ended, shorten(said, 400))
		}
		return process.ended
	case err := <-sick:
		process.stop(time.Second)
		return fmt.Errorf("did not answer: %w", err)
	case <-ctx.Done():
		grace := c.Spec.Grace
		if grace == 0 {
			grace = 2 * time.Second
		}
		process.stop(grace)
		c.host.Log.Info("stopped", "pid", process.Pid)
		return ctx.Err()
	}
}

func shorten(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// watch asks a running process for its health and says what it hears, until ctx
// ends. It gives up on one that does not get ready, or stays silent.
func (c *Component) watch(ctx context.Context, sick chan<- error) {
	patience := c.Spec.Patience
	if patience == 0 {
		patience = time.Minute
	}
	var (
		ready   bool
		missing int
		until   = time.Now().Add(patience)
	)
	for {
		asking, done := context.WithTimeout(ctx, askLimit)
		err := c.Spec.Ready(asking)
		done()
		if ctx.Err() != nil {
			return
		}
		pause := askStarting
		switch {
		case err == nil:
			if !ready {
				c.host.Log.Info("ready")
			}
			ready, missing, pause = true, 0, askReady
			c.become(sandbox.ComponentReady, nil)
		case !ready:
			c.mu.Lock()
			if !c.died {
				c.last = err
			}
			c.mu.Unlock()
			if time.Now().After(until) {
				sick <- err
				return
			}
		default:
			if missing++; missing == unwell {
				c.host.Log.Warn("does not answer", "error", err)
				c.become(sandbox.ComponentFailing, err)
				ready, until = false, time.Now().Add(patience)
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}
