// Package killtest proves that a program can be cut off at any of its AWS calls and is
// finished by running it again. It runs the real program as a process of its own behind
// a proxy that counts its calls, and for every call that may write, it
//
//   - kills the program once the call was performed (SIGKILL, so that nothing in the
//     program can soften it),
//   - and loses the response, while the program lives and has to cope with it.
//
// Then it runs the program once more, which must succeed, and compares the world with
// that of a run that nobody troubled. On request it also interrupts (SIGINT, as Ctrl-C
// does) after every call.
//
// A call that only reads is let pass: a kill after it leaves the world as a kill after
// the write before it, which is tried; and the program keeps nothing of its own between
// two runs, so that neither what it has read nor whether it still got a response makes a
// difference. Reads says which calls these are.
//
// By default it tries a sample, which the test names; every trial, with -every-kill. The
// sample is another one each time, and the report says by which -kill-seed to have it again:
//
//	go test ./cli -run '^TestKillDataPlane$' -v -args -every-kill
//	go test ./cli -run '^TestKillDataPlane$' -v -args -kill-seed 12
//
// It is for tests only, knows no command, and works for every program that finds AWS by
// AWS_ENDPOINT_URL. Start with Run.
package killtest

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

var (
	everyKill = flag.Bool("every-kill", false, "kill tests: try every call, and not a sample")
	killSeed  = flag.Uint64("kill-seed", 0, "kill tests: `N` of the sample to try; 0 is another one each time")
)

// Program is what is to be killed.
type Program struct {
	Path string
	Args []string

	// Sample is how many trials are made without -every-kill; 0 means all.
	Sample int

	// Interrupted is the exit status with which the program ends when it is
	// interrupted; 0 means that this is not tried.
	Interrupted int

	// World makes a fresh place for one trial: what was there before the
	// program is run for the first time. Up to Workers of them are in use at once.
	World func(ctx context.Context) (*World, error)
}

// Workers is how many trials are made at once.
func Workers() int { return runtime.GOMAXPROCS(0) }

// Reads reports whether a call changes nothing, by its name: that of the operation, or
// a REST API's method and path.
func Reads(call string) bool {
	name, path, rest := strings.Cut(call, " ")
	if rest && (name == http.MethodGet || name == http.MethodHead) {
		return true
	}
	if name == http.MethodPost && strings.HasPrefix(path, "/clusters/") && strings.HasSuffix(path, "/insights") {
		return true // EKS's ListInsights
	}
	// GetResources and the like are Get; nothing that writes begins so.
	return slices.ContainsFunc([]string{"Get", "List", "Describe", "Simulate", "AssumeRole"}, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
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
	Calls  int // that a run makes which nobody troubles: N
	Writes int // of them
	Of     int // trials that there are
	Runs   int // trials that were made
	GaveUp int // of them: a response was lost, and the program ended with an error
}

// mode is how the program is troubled.
type mode string

const (
	killed      mode = "killed"
	lost        mode = "its response lost"
	interrupted mode = "interrupted"
)

// trial is one way to trouble the program.
type trial struct {
	mode mode // "" for none
	n    int  // after which call: of those that may write; for interrupted, of all
}

// Run makes the trials, and logs the Report.
func Run(t *testing.T, p Program) Report {
	t.Helper()
	seed := *killSeed
	if seed == 0 {
		seed = uint64(time.Now().UnixNano()) % 1e6
	}
	began := time.Now()
	report, err := p.tryAll(t.Context(), *everyKill, seed, t.Logf)
	how := "all of them"
	if report.Runs < report.Of {
		how = fmt.Sprintf("with -kill-seed %d", seed)
	}
	if err != nil {
		t.Fatalf("%s: %v", how, err)
	}
	t.Logf("kill test of %s: N = %d calls, of which %d may write; %d of %d trials, %s, each with the same end state; it gave up after %d of the responses lost; %.0f s",
		p, report.Calls, report.Writes, report.Runs, report.Of, how, report.GaveUp, time.Since(began).Seconds())
	return report
}

// tryAll tells every 20 trials how far it is: all of them take long.
func (p Program) tryAll(ctx context.Context, every bool, seed uint64, tell func(format string, args ...any)) (Report, error) {
	whole, err := p.try(ctx, trial{})
	if err != nil {
		return Report{}, fmt.Errorf("a run that nobody troubles: %w", err)
	}
	if len(whole.names) == 0 {
		return Report{}, fmt.Errorf("%s made no call: does it read AWS_ENDPOINT_URL?", p)
	}
	report := Report{Calls: len(whole.names)}
	var all []trial
	for i, name := range whole.names {
		if !Reads(name) {
			report.Writes++
			all = append(all, trial{killed, report.Writes}, trial{lost, report.Writes})
		}
		if p.Interrupted != 0 {
			all = append(all, trial{interrupted, i + 1})
		}
	}
	report.Of = len(all)
	if !every && p.Sample > 0 && p.Sample < len(all) {
		which := fnv.New64a() // programs of one test have other samples
		which.Write([]byte(strings.Join(p.Args, " ")))
		rand.New(rand.NewPCG(seed, which.Sum64())).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		all = all[:p.Sample]
	}
	report.Runs = len(all)

	var passed, gaveUp atomic.Int64
	trials, ctx := errgroup.WithContext(ctx)
	trials.SetLimit(Workers())
	for _, one := range all {
		trials.Go(func() error {
			if ctx.Err() != nil {
				return nil // another trial failed; one report is enough
			}
			got, err := p.try(ctx, one)
			when := fmt.Sprintf("%s after call %d, %s", one.mode, one.n, got.last)
			if one.mode != interrupted {
				when = fmt.Sprintf("%s after write %d of %d, %s", one.mode, one.n, report.Writes, got.last)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", when, err)
			}
			if got.state != whole.state {
				return fmt.Errorf("%s, and run again: got another end state than untroubled:\n%s", when, difference(got.state, whole.state))
			}
			if got.gaveUp != "" {
				gaveUp.Add(1)
				tell("%s: it gave up: %s", when, got.gaveUp)
			}
			if n := passed.Add(1); n%20 == 0 {
				tell("%d of %d trials passed", n, report.Runs)
			}
			return nil
		})
	}
	err = trials.Wait()
	report.GaveUp = int(gaveUp.Load())
	return report, err
}

func (p Program) String() string {
	args := slices.Clone(p.Args)
	for i, arg := range args {
		if filepath.IsAbs(arg) {
			args[i] = filepath.Base(arg) // of a folder that is gone by then
		}
	}
	return strings.Join(append([]string{filepath.Base(p.Path)}, args...), " ")
}

// outcome is what a trial led to.
type outcome struct {
	names []string // of the calls of the first run, in the order in which they came
	last  string   // the call after which it was troubled
	state string
	// gaveUp is what the first run said that could not do without a response. That is no
	// fault, as long as the next run finishes it, but few programs should.
	gaveUp string
}

// try runs the program in a fresh world and troubles it, and runs it again; with no mode
// it runs it once and lets it be.
func (p Program) try(ctx context.Context, one trial) (outcome, error) {
	world, err := p.World(ctx)
	if err != nil {
		return outcome{}, fmt.Errorf("making a world: %w", err)
	}
	defer world.Close()

	out, err := p.run(ctx, world, one)
	if err != nil {
		return out, err
	}
	if one.mode != "" {
		if _, err := p.run(ctx, world, trial{}); err != nil {
			return out, fmt.Errorf("running it again: %w", err)
		}
	}
	out.state, err = world.State(ctx)
	if err != nil {
		return out, fmt.Errorf("reading the end state: %w", err)
	}
	return out, nil
}

// run runs the program once behind a gate. A program that was left alone must exit 0; one
// that lost a response may end as it likes.
func (p Program) run(ctx context.Context, world *World, one trial) (outcome, error) {
	backend, err := url.Parse(world.Endpoint)
	if err != nil {
		return outcome{}, err
	}
	g := newGate(backend, one)
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
		case <-g.end:
			if one.mode == interrupted {
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
	case one.mode == lost && out.last != "" && status > 0:
		out.gaveUp = strings.TrimSpace(said.String())
		return out, nil
	case g.ending() && one.mode == interrupted:
		want = p.Interrupted
	case g.ending():
		want = -1 // by a signal
	}
	if status != want {
		return out, fmt.Errorf("%s ended with status %d, want %d (%v), and it said:\n%s", p, status, want, err, &said)
	}
	return out, nil
}

// gate forwards calls until it is time for its trial.
type gate struct {
	backend http.Handler
	close   func()
	trial   trial

	end      chan struct{} // closed when the program is to be killed or interrupted
	endOnce  sync.Once
	inFlight sync.WaitGroup

	mu    sync.Mutex
	n     int // calls that counted
	names []string
	last  string
}

func newGate(backend *url.URL, one trial) *gate {
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
		trial: one, end: make(chan struct{}),
	}
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := readBody(w, r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	made, meant := g.begin(callName(r, body))
	switch {
	case !made:
		// It came after the one that is meant, and is not made. Those still in flight
		// beside that one are let finish.
		g.inFlight.Wait()
		g.endOnce.Do(func() { close(g.end) })
		<-r.Context().Done() // the program gives the call up, or is gone
		panic(http.ErrAbortHandler)
	case meant && g.trial.mode == killed:
		// The connection is cut only once the program is gone: it would else learn of the
		// cut, and on a busy machine end by itself before the signal comes.
		g.backend.ServeHTTP(httptest.NewRecorder(), r)
		g.inFlight.Done()
		g.inFlight.Wait()
		g.endOnce.Do(func() { close(g.end) })
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case meant && g.trial.mode == lost:
		defer g.inFlight.Done()
		g.backend.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		defer g.inFlight.Done()
		g.backend.ServeHTTP(w, r)
		http.NewResponseController(w).Flush()
	}
}

// begin counts a call, and says whether it is made and whether it is the one that is
// meant.
func (g *gate) begin(name string) (made, meant bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.last != "" && g.trial.mode != lost {
		return false, false
	}
	g.inFlight.Add(1)
	g.names = append(g.names, name)
	if g.trial.mode == interrupted || !Reads(name) {
		g.n++
		if meant = g.n == g.trial.n; meant {
			g.last = name
		}
	}
	return true, meant
}

// callName is the name of an operation, for IAM's with what it is done to; of a REST API
// the method and the path.
func callName(r *http.Request, body []byte) string {
	if target := r.Header.Get("X-Amz-Target"); target != "" {
		return target[strings.LastIndexByte(target, '.')+1:]
	}
	form, err := url.ParseQuery(string(body))
	if err != nil || form.Get("Action") == "" {
		return r.Method + " " + r.URL.Path
	}
	name := form.Get("Action")
	for _, key := range []string{"RoleName", "PolicyName", "PolicyArn"} {
		if form.Has(key) {
			name += " " + form.Get(key)
		}
	}
	return name
}

func (g *gate) ending() bool {
	select {
	case <-g.end:
		return true
	default:
		return false
	}
}

func (g *gate) outcome() outcome {
	g.mu.Lock()
	defer g.mu.Unlock()
	return outcome{names: slices.Clone(g.names), last: g.last}
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
