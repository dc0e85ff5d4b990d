// Package killtest proves that a program can be killed at any of its AWS calls
// and is finished by running it again. It runs the real program as a process
// of its own, counts its calls in a proxy between it and a double, and kills it
// (SIGKILL, so nothing in the program can soften it) after the n-th call, for
// every n, in two modes: with the n-th response delivered, and with it lost.
// Then it runs the program once more, which must succeed, and compares the
// world with that of a run that nobody killed. A third mode interrupts (SIGINT),
// as Ctrl-C does.
//
// It is for tests only, knows no command and no service, and works for every
// program that finds AWS by AWS_ENDPOINT_URL. Start with Run.
package killtest

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sync/errgroup"
)

// Program is what is to be killed.
type Program struct {
	Path string
	Args []string

	// Reads says of a call's name, as an error names it, that it changes nothing.
	// Whether the answer to such a call is lost with the program makes no
	// difference to the world, so they are not tried with it lost as well. nil
	// means that every call may change something.
	Reads func(call string) bool

	// Pick says after which of the calls the program is killed, from 1 to N; nil means
	// after every one.
	Pick func(n int) bool

	// Interrupted is the exit status with which the program ends when it is
	// interrupted; 0 means that this is not tried.
	Interrupted int

	// World makes a fresh place for one trial: what was there before the
	// program is run for the first time.
	World func(ctx context.Context) (*World, error)
}

// World is a place that the program changes.
type World struct {
	// Endpoint is the double's URL. The program gets the proxy's URL in its
	// stead, so whatever of Env has Endpoint in it is rewritten.
	Endpoint string
	Env      []string
	// State describes the world as text, free of everything that differs
	// between two runs anyway: ids, times.
	State func(ctx context.Context) (string, error)
	Close func()
}

// Report says what was tried.
type Report struct {
	Calls int // that a run makes which nobody kills: N
	Runs  int // that were killed
}

// mode is what the program gets to know of its last call.
type mode string

const (
	delivered   mode = "response delivered"
	lost        mode = "response lost"
	interrupted mode = "interrupted"
)

// Run tries every n in both modes, and logs the Report.
func Run(t *testing.T, p Program) Report {
	t.Helper()
	report, err := p.tryAll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("kill test of %s: N = %d calls, killed %d times, same end state each time", p, report.Calls, report.Runs)
	return report
}

func (p Program) tryAll(ctx context.Context) (Report, error) {
	whole, err := p.trial(ctx, 0, delivered)
	if err != nil {
		return Report{}, fmt.Errorf("a run that nobody kills: %w", err)
	}
	if whole.calls == 0 {
		return Report{}, fmt.Errorf("%s made no call: does it read AWS_ENDPOINT_URL?", p)
	}

	modes := []mode{delivered, lost}
	if p.Interrupted != 0 {
		modes = append(modes, interrupted)
	}
	report := Report{Calls: whole.calls}
	trials, ctx := errgroup.WithContext(ctx)
	trials.SetLimit(runtime.GOMAXPROCS(0))
	for n := 1; n <= whole.calls; n++ {
		if p.Pick != nil && !p.Pick(n) {
			continue
		}
		for _, m := range modes {
			if m == lost && p.Reads != nil && p.Reads(whole.names[n-1]) {
				continue
			}
			report.Runs++
			trials.Go(func() error {
				if ctx.Err() != nil {
					return nil // another trial failed; one report is enough
				}
				got, err := p.trial(ctx, n, m)
				when := fmt.Sprintf("killed after call %d of %d, %s, %s", n, whole.calls, got.last(), m)
				if err != nil {
					return fmt.Errorf("%s: %w", when, err)
				}
				if got.state != whole.state {
					return fmt.Errorf("%s, and run again: got another end state than unkilled:\n%s", when, difference(got.state, whole.state))
				}
				return nil
			})
		}
	}
	return report, trials.Wait()
}

func (p Program) String() string {
	return strings.Join(append([]string{p.Path[strings.LastIndexByte(p.Path, '/')+1:]}, p.Args...), " ")
}

// outcome is what a trial led to.
type outcome struct {
	calls int      // of the first run
	names []string // of the calls of the first run
	state string
}

// last is the call after which the first run was killed.
func (o outcome) last() string {
	if len(o.names) == 0 {
		return "none"
	}
	return o.names[len(o.names)-1]
}

// trial runs the program in a fresh world, kills it after call n, and runs it
// again; with n = 0 it runs it once and lets it live.
func (p Program) trial(ctx context.Context, n int, m mode) (outcome, error) {
	world, err := p.World(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("making a world: %w", err)
	}
	defer world.Close()

	out, err := p.run(ctx, world, n, m)
	if err != nil {
		return out, err
	}
	if n > 0 {
		if _, err := p.run(ctx, world, 0, delivered); err != nil {
			return out, fmt.Errorf("running it again: %w", err)
		}
	}
	out.state, err = world.State(ctx)
	if err != nil {
		return out, fmt.Errorf("reading the end state: %w", err)
	}
	return out, nil
}

// run runs the program once behind a gate. A program that was not killed must
// exit 0.
func (p Program) run(ctx context.Context, world *World, n int, m mode) (outcome, error) {
	backend, err := url.Parse(world.Endpoint)
	if err != nil {
		return outcome{}, err
	}
	g := newGate(backend, n, m)
	server := httptest.NewServer(g)
	defer g.close()
	defer server.Close()

	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	for _, entry := range world.Env {
		cmd.Env = append(cmd.Env, strings.ReplaceAll(entry, world.Endpoint, server.URL))
	}
	cmd.Env = append(cmd.Env, "AWS_ENDPOINT_URL="+server.URL,
		"GORACE=atexit_sleep_ms=0") // a program built with -race would else linger for a second
	if err := cmd.Start(); err != nil {
		return outcome{}, err
	}
	ended := make(chan struct{})
	go func() {
		select {
		case <-g.kill:
			if m == interrupted {
				cmd.Process.Signal(os.Interrupt)
				return
			}
			cmd.Process.Kill()
		case <-ended:
		}
	}()
	err = cmd.Wait()
	close(ended)

	out := g.outcome()
	status := cmd.ProcessState.ExitCode()
	want := 0
	switch {
	case g.killed() && m == interrupted:
		want = p.Interrupted
	case g.killed():
		want = -1 // ended by a signal
	}
	if status != want {
		return out, fmt.Errorf("%s ended with status %d, want %d (%v), and it said:\n%s", p, status, want, err, &said)
	}
	return out, nil
}

// gate forwards n calls and no more.
type gate struct {
	backend http.Handler
	close   func()
	n       int // 0 means all
	mode    mode

	kill     chan struct{} // closed when the program is to be killed
	killOnce sync.Once
	inFlight sync.WaitGroup

	mu    sync.Mutex
	calls int
	names []string
}

func newGate(backend *url.URL, n int, m mode) *gate {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	return &gate{
		close: transport.CloseIdleConnections,
		backend: &httputil.ReverseProxy{
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(backend)
				r.Out.Host = r.In.Host // it is signed
			},
			// The default transport keeps two connections, and keeps them beyond the trial.
			Transport:    transport,
			ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // the program was killed
		},
		n: n, mode: m, kill: make(chan struct{}),
	}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	nth := g.begin(body, r)
	switch {
	case g.n > 0 && nth > g.n:
		// The n-th response was read, or there would be no further call. This
		// one is not made; those still in flight beside the n-th are let finish.
		g.inFlight.Wait()
		if g.mode == interrupted {
			g.killOnce.Do(func() { close(g.kill) })
			<-r.Context().Done() // the program gives the call up
			return
		}
		g.die(r)
	case g.n > 0 && nth == g.n && g.mode == lost:
		defer g.inFlight.Done()
		g.backend.ServeHTTP(httptest.NewRecorder(), r)
		g.die(r)
	default:
		defer g.inFlight.Done()
		g.backend.ServeHTTP(w, r)
		http.NewResponseController(w).Flush()
	}
}

// begin counts a call that is going to be made, and returns its number.
func (g *gate) begin(body []byte, r *http.Request) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n > 0 && g.calls >= g.n {
		return g.n + 1
	}
	g.inFlight.Add(1)
	g.calls++
	name := r.Method + " " + r.URL.Path
	if form, err := url.ParseQuery(string(body)); err == nil && form.Get("Action") != "" {
		name = form.Get("Action")
		for _, key := range []string{"RoleName", "PolicyName", "PolicyArn"} {
			if form.Has(key) {
				name += " " + form.Get(key)
			}
		}
	}
	g.names = append(g.names, name)
	return g.calls
}

// die has the program killed, and gives no response. The connection is cut only
// once the program is gone: it would else learn of the cut, and on a busy
// machine end by itself before the signal comes.
func (g *gate) die(r *http.Request) {
	g.killOnce.Do(func() { close(g.kill) })
	<-r.Context().Done()
	panic(http.ErrAbortHandler)
}

func (g *gate) killed() bool {
	select {
	case <-g.kill:
		return true
	default:
		return false
	}
}

func (g *gate) outcome() outcome {
	g.mu.Lock()
	defer g.mu.Unlock()
	return outcome{calls: g.calls, names: g.names}
}

// readBody reads the body, which may be 1 MiB, and puts it back.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 1<<20))
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, err
}

// difference lists the lines that only one of two texts has.
func difference(got, want string) string {
	in := func(text string) map[string]int {
		lines := map[string]int{}
		for line := range strings.Lines(text) {
			lines[line]++
		}
		return lines
	}
	gotLines, wantLines := in(got), in(want)
	var b strings.Builder
	for line := range strings.Lines(got) {
		if wantLines[line] < gotLines[line] {
			fmt.Fprintf(&b, "got  %s", line)
		}
	}
	for line := range strings.Lines(want) {
		if gotLines[line] < wantLines[line] {
			fmt.Fprintf(&b, "want %s", line)
		}
	}
	return b.String()
}
