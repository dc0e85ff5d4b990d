package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"

	"biplane.dev/biplane/provision/step"
)

// progress says on stderr what a command is waiting for, once it has waited for
// a second. On a terminal it is one line that counts the seconds and goes away;
// elsewhere a plain line for each thing. Use:
//
//	p := a.progress("creating the roles")
//	defer p.stop()
//	p.now("creating role union-ai-admin") // replaces what it says
type progress struct {
	out      io.Writer
	terminal bool
	after    time.Duration

	mu      sync.Mutex
	what    string
	since   time.Time
	said    bool // of what, on a plain stream
	drawn   bool // a line is on the terminal
	cancel  context.CancelFunc
	stopped chan struct{}
}

// progress starts to watch. The caller must stop it before it prints results.
func (a *app) progress(what string) *progress {
	after := a.ProgressAfter
	if after == 0 {
		after = time.Second
	}
	return newProgress(a.Err, after, a.quiet, what)
}

func newProgress(out io.Writer, after time.Duration, quiet bool, what string) *progress {
	if quiet {
		out = io.Discard
	}
	file, ok := out.(*os.File)
	ctx, cancel := context.WithCancel(context.Background())
	p := &progress{
		out: out, terminal: ok && term.IsTerminal(int(file.Fd())), after: after,
		what: what, since: time.Now(), cancel: cancel, stopped: make(chan struct{}),
	}
	go p.watch(ctx)
	return p
}

// now says that the command has gone on to something else.
func (p *progress) now(what string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.what, p.since, p.said = what, time.Now(), false
	if p.drawn {
		p.draw()
	}
}

// waits returns a context in which what is waited for is said, too.
func (p *progress) waits(ctx context.Context) context.Context {
	p.mu.Lock()
	what, said := p.what, ""
	p.mu.Unlock()
	var mu sync.Mutex
	return step.OnWaiting(ctx, func(reason string) {
		mu.Lock()
		defer mu.Unlock()
		if reason != said {
			said = reason
			p.now(what + ": " + reason)
		}
	})
}

// say writes a line that stays, above the one that changes.
func (p *progress) say(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.out, "\r\x1b[K")
	}
	fmt.Fprintln(p.out, line)
	if p.drawn {
		p.draw()
	}
}

// stop takes the line away and returns once nothing more will be written. It
// may be called twice.
func (p *progress) stop() {
	p.cancel()
	<-p.stopped
}

func (p *progress) watch(ctx context.Context) {
	defer close(p.stopped)
	tick := time.NewTicker(p.after / 4)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			p.mu.Lock()
			defer p.mu.Unlock()
			if p.drawn {
				fmt.Fprint(p.out, "\r\x1b[K")
			}
			return
		case <-tick.C:
			p.mu.Lock()
			switch waited := time.Since(p.since); {
			case waited < p.after && !p.drawn:
			case p.terminal:
				p.draw()
			case !p.said:
				fmt.Fprintf(p.out, "%s ...\n", p.what)
				p.said = true
			}
			p.mu.Unlock()
		}
	}
}

// draw rewrites the terminal's line. The lock is held.
func (p *progress) draw() {
	fmt.Fprintf(p.out, "\r\x1b[K%s ... %ds", p.what, int(time.Since(p.since).Seconds()))
	p.drawn = true
}
