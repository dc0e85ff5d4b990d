// Package supervisor is the one process of a sandbox that `biplane sandbox up`
// starts, and that starts all others: it prepares the folder, starts the
// components in the order of their needs, answers on the socket in the folder,
// and takes everything down. How one component is kept running is package
// component; what Kubernetes' own are made of is package kubernetes.
//
// Start with Run, which is the whole life; components.go says what a sandbox
// consists of.
package supervisor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/pki"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// Options are the command line of the program supervise.
type Options struct {
	Folder     sandbox.Folder
	Asked      sandbox.Options
	Fresh      bool
	VirtualEnv string
	Foreground bool // ends when its parent does
	Program    string
	Env        []string    // of the components
	Answers    func(error) // is told once: nil as soon as the socket answers, or why it never will
	Now        func() time.Time
}

// Supervisor is a sandbox that is up.
type Supervisor struct {
	Options
	record sandbox.Record
	pki    *pki.PKI
	log    *slog.Logger
	events *events
	forker *component.Forker

	components []*component.Component // in the order of their start
	plan       plan                   // what they are made of, and what of it the status says

	mu        sync.Mutex
	ready     bool // the first up has ended well
	buckets   sandbox.Buckets
	dataPlane *sandbox.DataPlane // once it has joined
	keeping   bool               // tokens are kept from expiring
	closed    bool               // nothing is started any more

	ctx        context.Context // ends when it is to go down
	down       context.CancelFunc
	background sync.WaitGroup // what has to end before components are stopped
}

// Run is the supervisor's life. It returns when no process of the sandbox is
// left, and nil when it was told to end.
func Run(ctx context.Context, o Options) error {
	s, closing, err := open(ctx, o)
	if err != nil {
		o.Answers(err)
		return err
	}
	defer closing()
	o.Answers(nil)

	if err = s.bringUp(s.ctx); err == nil {
		s.watch(s.ctx)
	}
	s.down()
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.background.Wait()
	s.takeDown()
	if errors.Is(err, context.Canceled) {
		return nil // it was told to go down while it came up
	}
	return err
}

// begin does what starts something, unless the sandbox is going down: what is
// started then would never be stopped.
func (s *Supervisor) begin(start func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.ctx.Err() != nil {
		return usererr.New(usererr.Unavailable, "sandbox %s is going down", s.Folder.Name()).
			WithHint("run 'biplane sandbox up' in a moment")
	}
	start()
	return nil
}

// watch is what there is to do for a sandbox that is up, until ctx ends.
func (s *Supervisor) watch(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if killed := s.forker.KillOrphans(); killed > 0 {
				s.log.Warn("killed processes whose component had ended", "count", killed)
			}
		}
	}
}

// open prepares everything before the first component: the folder, what is
// written in it, the socket. Each step may find what an earlier start left half
// done.
func open(ctx context.Context, o Options) (s *Supervisor, closing func(), err error) {
	var opened []func()
	closeAll := func() {
		for i := len(opened) - 1; i >= 0; i-- {
			opened[i]()
		}
	}
	defer func() {
		if err != nil {
			closeAll() // not closing, which the return has set to nil
		}
	}()

	if err := makeFolder(o.Folder); err != nil {
		return nil, nil, err
	}
	lock, err := sandbox.LockFile(o.Folder)
	if err != nil {
		return nil, nil, err
	}
	// The lock is never given up but with the process: who gets it next may count
	// on there being none.
	if o.Fresh {
		if err := emptyFolder(o.Folder); err != nil {
			return nil, nil, err
		}
	}
	if err := makeFolders(o.Folder); err != nil {
		return nil, nil, err
	}
	s = &Supervisor{Options: o, events: newEvents(o.Now), forker: component.NewForker()}
	s.log = s.openLog()
	s.log.Info("starting", "dir", string(o.Folder), "pid", os.Getpid())
	if err := s.forker.Adopt(); err != nil {
		return nil, nil, err
	}
	if s.record, err = prepareRecord(o, s.events, s.log); err != nil {
		return nil, nil, err
	}
	if s.pki, err = pki.Open(o.Folder.PKI(), o.Now()); err != nil {
		return nil, nil, err
	}
	if s.plan, err = s.makePlan(); err != nil {
		return nil, nil, err
	}
	if s.pki.Changed() {
		s.log.Info("made or renewed certificates and keys")
	}
	host := component.Host{
		Program: o.Program, Dir: o.Folder.Run(), Env: o.Env, Logs: o.Folder.Log,
		Lock: lock, Forker: s.forker, Log: s.log, Changed: s.changed,
	}
	for _, spec := range s.plan.specs {
		s.components = append(s.components, component.New(spec, host))
	}

	s.ctx, s.down = signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	opened = append(opened, s.down)
	stop, err := s.listen()
	if err != nil {
		return nil, nil, err
	}
	opened = append(opened, stop)
	return s, closeAll, nil
}

// openLog makes the supervisor's own log, and points at it everything that
// would go nowhere: standard error, where a panic is written, and the log lines
// of Kubernetes' libraries.
func (s *Supervisor) openLog() *slog.Logger {
	path := s.Folder.Log("supervisor")
	if file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600); err == nil {
		unix.Dup3(int(file.Fd()), 2, 0)
		file.Close()
	}
	log := slog.New(slog.NewTextHandler(component.OpenLog(path), nil))
	klog.SetSlogLogger(log)
	return log
}

// makeFolder makes the sandbox's folder and those above it, for this user alone.
func makeFolder(f sandbox.Folder) error {
	cannot := func(err error) error {
		return usererr.New(usererr.Unavailable, "cannot make the folder %s: %v", f, cause(err)).
			WithHint("name a place that you may write to with --dir").Because(err)
	}
	if err := os.MkdirAll(string(f), 0o700); err != nil {
		return cannot(err)
	}
	info, err := os.Stat(string(f))
	if err != nil {
		return cannot(err)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return usererr.New(usererr.Refused, "the folder %s belongs to user %d, not to you (%d)", f, owner, os.Geteuid()).
			WithHint("name a place of yours with --dir")
	}
	if info.Mode().Perm() != 0o700 {
		if err := os.Chmod(string(f), 0o700); err != nil {
			return cannot(err)
		}
	}
	return nil
}

func makeFolders(f sandbox.Folder) error {
	for _, path := range []string{f.Run(), f.PKI(), f.Logs(), f.Etcd(), f.S3(), f.Identity(), f.AWS(), f.AWSTokens(), f.Images(), f.ControlPlane(), f.DataPlane()} {
		if err := os.MkdirAll(path, 0o700); err != nil {
			return usererr.New(usererr.Unavailable, "cannot make the folder %s: %v", path, cause(err)).Because(err)
		}
	}
	return nil
}

// emptyFolder deletes all but the lock, which this process has.
func emptyFolder(f sandbox.Folder) error {
	entries, err := os.ReadDir(string(f))
	if err != nil {
		return usererr.New(usererr.Unavailable, "cannot read the folder %s: %v", f, cause(err)).Because(err)
	}
	for _, entry := range entries {
		path := filepath.Join(string(f), entry.Name())
		if path == f.LockFile() {
			continue
		}
		if err := sandbox.RemoveAll(path); err != nil {
			return usererr.New(usererr.Unavailable, "cannot delete %s: %v", path, cause(err)).Because(err)
		}
	}
	return nil
}

// cause is the last word of an error of a file.
func cause(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}

// bringUp starts the components, each as soon as those it needs are ready, then
// prepares what is in them. Its events end with one for all of it.
func (s *Supervisor) bringUp(ctx context.Context) error {
	began := time.Now()
	err := s.startAll(ctx)
	if err != nil && ctx.Err() != nil { // whatever failed, failed by that
		err = usererr.New(usererr.Unavailable, "sandbox %s was taken down while it was being started", s.Folder.Name()).
			WithHint("run 'biplane sandbox up' again").Because(err)
	}
	s.mu.Lock()
	s.ready = s.ready || err == nil
	s.mu.Unlock()
	if err != nil {
		s.log.Error("the sandbox did not come up", "error", usererr.Chain(err))
	} else {
		s.log.Info("the sandbox is ready", "took", time.Since(began).Round(time.Millisecond))
	}
	s.events.end(err, time.Since(began))
	return err
}

func (s *Supervisor) startAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	ready := map[string]chan struct{}{}
	for _, c := range s.components {
		ready[c.Spec.Name] = make(chan struct{})
	}
	var all sync.WaitGroup
	for _, c := range s.components {
		all.Go(func() {
			for _, need := range c.Spec.Needs {
				select {
				case <-ready[need]:
				case <-ctx.Done():
					return
				}
			}
			if err := s.startOne(ctx, c); err != nil {
				cancel(err) // the first one is told; the others end by it
				return
			}
			close(ready[c.Spec.Name])
		})
	}
	all.Go(func() {
		made, err := s.prepareWhenReady(ctx, ready)
		if err == nil && s.plan.has[sandbox.FlyteDataPlane] {
			err = s.joinWhenReady(ctx, ready, made)
		}
		if err != nil {
			cancel(err)
		}
	})
	all.Wait()
	return context.Cause(ctx)
}

// How often a component may die before it was ever ready, and how long it may
// take, until an up is given up.
const (
	mostDeaths  = 3
	upPatience  = 2 * time.Minute
	lookAtDeath = 100 * time.Millisecond
)

// startOne starts a component and waits until it is ready.
func (s *Supervisor) startOne(ctx context.Context, c *component.Component) error {
	began := time.Now()
	s.events.add(sandbox.Event{Name: c.Spec.Name, State: sandbox.EventState(sandbox.ComponentStarting)})
	c.Start()
	ctx, done := context.WithTimeout(ctx, upPatience)
	defer done()
	for {
		waiting, done := context.WithTimeout(ctx, lookAtDeath)
		err := c.Await(waiting)
		done()
		switch {
		case err == nil:
			event := sandbox.Event{Name: c.Spec.Name, State: sandbox.EventState(sandbox.ComponentReady), Took: time.Since(began)}
			if c.Spec.Address != "" {
				event.Text = "listens on " + c.Spec.Address
			}
			s.events.add(event)
			return nil
		case isHeld(c):
			return usererr.New(usererr.Unavailable, "%s was stopped while the sandbox was being started", c.Spec.Name).
				WithHint("run 'biplane sandbox up' again").Because(err)
		case ctx.Err() == nil && c.Restarts() < mostDeaths:
			continue
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return context.Cause(ctx)
		}
		return doesNotStart(c, s.Folder, err)
	}
}

func isHeld(c *component.Component) bool {
	state, _, _ := c.State()
	return state == sandbox.ComponentHeld
}

func doesNotStart(c *component.Component, f sandbox.Folder, err error) error {
	if _, _, why := c.State(); why != nil {
		err = why
	}
	return usererr.New(usererr.Unavailable, "%s does not start: %v", c.Spec.Name, err).
		WithHint("see %s", f.Log(c.Spec.Name)).Because(err)
}

// takeDown stops every component: first those that nobody needs, all at once,
// etcd last. It has two and a half seconds, of three that are promised; what
// takes longer is killed.
func (s *Supervisor) takeDown() {
	began := time.Now()
	killer := time.AfterFunc(2200*time.Millisecond, func() {
		for _, c := range s.components {
			if c.PID() != 0 {
				s.log.Warn("killed, since it did not end", "component", c.Spec.Name)
			}
			c.Kill()
		}
	})
	defer killer.Stop()
	gone := map[string]chan struct{}{}
	for _, c := range s.components {
		gone[c.Spec.Name] = make(chan struct{})
	}
	var all sync.WaitGroup
	for _, c := range s.components {
		all.Go(func() {
			defer close(gone[c.Spec.Name])
			for _, other := range s.components {
				for _, need := range other.Spec.Needs {
					if need == c.Spec.Name {
						<-gone[other.Spec.Name]
					}
				}
			}
			c.Stop(sandbox.ComponentStopped)
		})
	}
	all.Wait()
	s.forker.KillOrphans()
	s.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
}

// changed is told of a component's new state.
func (s *Supervisor) changed(c *component.Component) {
	state, _, why := c.State()
	if state == sandbox.ComponentFailing {
		s.events.add(sandbox.Event{Name: c.Spec.Name, State: sandbox.EventState(state), Text: fmt.Sprint(why)})
	}
}

// find returns the component of that name, or an error for a person.
func (s *Supervisor) find(name string) (*component.Component, error) {
	var names []string
	for _, c := range s.components {
		if c.Spec.Name == name {
			return c, nil
		}
		names = append(names, c.Spec.Name)
	}
	return nil, usererr.New(usererr.NotFound, "there is no component %q in sandbox %s", name, s.Folder.Name()).
		WithHint("name one of %s", join(names))
}
