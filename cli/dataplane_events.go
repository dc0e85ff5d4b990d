package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/step"
)

// stepEvent is one line of `--output json`. Its keys are a contract.
type stepEvent struct {
	Time    time.Time `json:"time"`
	Step    string    `json:"step"`
	Event   string    `json:"event"` // started, waiting, done, failed; end, of the run, whose step is ""
	Message string    `json:"message"`
}

// events shows what a run does: one JSON object a line on stdout, or for people, on
// stderr, a live tree of the steps in hand on a terminal, and a line for each change
// elsewhere.
type events struct {
	app      *app
	plane    *opened
	word     string // what the data plane is in the end
	plan     dataplane.Plan
	expected map[string]time.Duration
	terminal bool
	width    int

	mu      sync.Mutex
	began   time.Time
	open    []*openStep // in the order in which they began
	said    map[string]string
	done    int
	total   int
	drawn   int // lines on the terminal
	stopped chan struct{}
	ticking sync.WaitGroup
}

// openStep is a step in hand.
type openStep struct {
	name   string
	since  time.Time
	reason string
}

func (a *app) events(o *opened, plan dataplane.Plan, word string) *events {
	e := &events{app: a, plane: o, word: word, plan: plan, expected: map[string]time.Duration{}, said: map[string]string{}, began: o.Clock.Now(), stopped: make(chan struct{})}
	for _, s := range plan.Steps {
		e.expected[s.Name] = time.Duration(s.ExpectedSeconds) * time.Second
		if s.Action != "none" {
			e.total++
		}
	}
	if file, ok := a.Err.(*os.File); ok && !a.quiet && a.output.value == "table" && term.IsTerminal(int(file.Fd())) {
		e.terminal = true
		e.width, _, _ = term.GetSize(int(file.Fd()))
		e.ticking.Go(e.tick)
	}
	return e
}

// event is the Runner's Progress.
func (e *events) event(ev step.Event) {
	e.app.log.Debug("step", "name", ev.Step, "stage", ev.Stage, "action", ev.Action, "took", ev.Took, "error", ev.Err)
	message := string(ev.Action)
	switch ev.Stage {
	case step.Started:
		if expected := e.expected[ev.Step]; expected > 0 {
			message += ", usually " + expected.String()
		}
	case step.Waiting:
		message = strings.TrimSuffix(oneLine(ev.Err.Error()), ": "+step.ErrNotYet.Error())
	case step.Done:
		message += ", took " + round(ev.Took)
	case step.Failed:
		message = oneLine(ev.Err.Error())
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	repeated := ev.Stage == step.Waiting && e.said[ev.Step] == message
	e.said[ev.Step] = message
	if e.app.output.value == "json" {
		if !repeated {
			e.line(ev.Step, string(ev.Stage), message)
		}
		return
	}
	switch ev.Stage {
	case step.Started:
		e.open = append(e.open, &openStep{name: ev.Step, since: e.plane.Clock.Now()})
	case step.Waiting:
		for _, s := range e.open {
			if s.name == ev.Step {
				s.reason = message
			}
		}
	case step.Done, step.Failed:
		for i, s := range e.open {
			if s.name == ev.Step {
				e.open = append(e.open[:i], e.open[i+1:]...)
				break
			}
		}
		if ev.Stage == step.Done {
			e.done++
		}
	}
	if e.app.quiet || repeated {
		return
	}
	marks := map[step.Stage]string{step.Started: "…", step.Waiting: "…", step.Done: "✓", step.Failed: "✗"}
	if !e.terminal {
		fmt.Fprintf(e.app.Err, "%s %s: %s\n", marks[ev.Stage], ev.Step, message)
		return
	}
	e.clear()
	if ev.Stage == step.Done || ev.Stage == step.Failed {
		fmt.Fprintf(e.app.Err, "%s %s: %s\n", marks[ev.Stage], ev.Step, message)
	}
	e.draw()
}

// leaseWaits says who else is at work on the data plane.
func (e *events) leaseWaits(who string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	const name = "lease"
	if e.said[name] != "" {
		return // once is enough: the seconds that are left change
	}
	e.said[name] = who
	if e.app.output.value == "json" {
		e.line(name, string(step.Waiting), who)
	} else if !e.app.quiet {
		e.clear()
		fmt.Fprintf(e.app.Err, "… %s\n", who)
		e.draw()
	}
}

func (e *events) line(name, event, message string) {
	text, err := json.Marshal(stepEvent{Time: e.plane.Clock.Now().UTC(), Step: name, Event: event, Message: message})
	if err == nil {
		e.app.Out.Write(append(text, '\n'))
	}
}

// tick redraws what counts seconds.
func (e *events) tick() {
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-e.stopped:
			return
		case <-ticker.C:
			e.mu.Lock()
			e.clear()
			e.draw()
			e.mu.Unlock()
		}
	}
}

// clear takes the tree away, and draw puts it there. The lock is held.
func (e *events) clear() {
	if e.drawn > 0 {
		fmt.Fprintf(e.app.Err, "\x1b[%dA\x1b[J", e.drawn)
		e.drawn = 0
	}
}

func (e *events) draw() {
	if len(e.open) == 0 {
		return
	}
	now := e.plane.Clock.Now()
	lines := []string{fmt.Sprintf("%d of %d steps done, %s of about %s", e.done, e.total, round(now.Sub(e.began)), round(e.plan.Expected()))}
	for i, s := range e.open {
		branch := "├─"
		if i == len(e.open)-1 {
			branch = "└─"
		}
		line := fmt.Sprintf("%s %s  %s", branch, s.name, round(now.Sub(s.since)))
		if expected := e.expected[s.name]; expected > 0 {
			line += " of about " + round(expected)
		}
		if s.reason != "" {
			line += "  " + s.reason
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		if runes := []rune(line); e.width > 1 && len(runes) >= e.width {
			line = string(runes[:e.width-1])
		}
		fmt.Fprintln(e.app.Err, line)
	}
	e.drawn = len(lines)
}

// end says how it ended.
func (e *events) end(err error) error {
	close(e.stopped)
	e.ticking.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	e.clear()
	if err == nil {
		took := round(e.plane.Clock.Now().Sub(e.began))
		switch e.app.output.value {
		case "json":
			e.line("", "end", e.word)
		default:
			fmt.Fprintf(e.app.Out, "Data plane %s is %s, after %s.\n", e.plane.Name, e.word, took)
		}
		return nil
	}
	if e.app.output.value == "json" {
		e.line("", "end", "failed: "+oneLine(err.Error()))
	}
	return err
}

func round(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

// confirmName asks for the data plane's name, which nobody types by accident.
func (a *app) confirmName(ctx context.Context, name string) error {
	fmt.Fprintf(a.Err, "This deletes all data of the data plane. Type its name, %s, to go on: ", name)
	line, err := interruptible(ctx, func() (string, error) {
		line, err := bufio.NewReader(io.LimitReader(a.In, 1<<10)).ReadString('\n')
		if err == io.EOF {
			return line, nil
		}
		return line, err
	})
	if err != nil {
		return fmt.Errorf("reading the name: %w", err)
	}
	if strings.TrimSpace(line) != name {
		return usererr.New(usererr.Refused, "the name %q is not %q; nothing was changed", strings.TrimSpace(line), name).
			WithHint("run the same command again and type the data plane's name")
	}
	return nil
}
