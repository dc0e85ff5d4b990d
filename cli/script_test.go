package cli_test

import (
	"context"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"biplane.dev/biplane/cli"
	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/sandbox"
)

var update = flag.Bool("update", false, "write what commands printed into the transcripts")

// TestMain lets the tests run this binary as both programs. It does as their
// mains do, which a test cannot import.
func TestMain(m *testing.M) {
	program := func(run func(context.Context) int) func() {
		return func() {
			ctx, stop := signal.NotifyContext(context.Background(), cli.Interrupts()...)
			context.AfterFunc(ctx, stop)
			os.Exit(run(ctx))
		}
	}
	testscript.Main(m, map[string]func(){
		"biplane": program(func(ctx context.Context) int {
			return cli.Run(ctx, os.Args[1:], cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr, ProgressAfter: time.Hour})
		}),
		"biplane-awsdouble": program(func(ctx context.Context) int {
			return awsdouble.Run(ctx, os.Args[1:], awsdouble.Streams{Out: os.Stdout, Err: os.Stderr})
		}),
	})
}

// TestScript runs every transcript. Each has its own folder and environment,
// with no AWS configuration and no way out of the machine.
func TestScript(t *testing.T) {
	t.Parallel()
	venv := made(t, "../.cache/venv/bin", "aws") // and cfn-lint
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", env.Getenv("PATH")+string(os.PathListSeparator)+venv)
			env.Setenv("AWS_PAGER", "")
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, ".state"))
			env.Values[accountKey] = &account{narrowed: map[string]string{}}
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"awsdouble":    startDouble,
			"controlplane": startControlPlane,
			"freeport":     freePort,
			"listensat":    listensAt,
			"makerole":     makeRole,
			"attach":       attach,
			"trust":        setTrust,
			"putpolicy":    putPolicy,
			"ahead":        setAhead,
			"assume":       assumeRole,
			"signin":       signIn,
			"makevpc":      makeVPC,
			"expire":       expire,
			"fault":        armFault,
			"upon":         upon,
			"damage":       damage,
			"foreign":      foreign,
			"snapshot":     snapshot,
		},
	})
}

// TestSandbox runs the transcripts that need a sandbox which is up: with
// bin/biplane-sandbox, as `make build` makes it. They start only what they are
// about, and take down what they leave.
func TestSandbox(t *testing.T) {
	t.Parallel()
	bin := made(t, "../bin", "biplane-sandbox")
	tools := made(t, "../.cache/bin", "kubectl")
	venv := made(t, "../.cache/venv/bin", "aws")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/sandbox",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", strings.Join([]string{env.Getenv("PATH"), bin, tools, venv}, string(os.PathListSeparator)))
			env.Setenv("HOME", filepath.Join(env.WorkDir, "home"))
			env.Setenv("AWS_PAGER", "")
			parent := filepath.Join(env.WorkDir, "sandboxes")
			env.Defer(func() { takeDown(t, parent) })
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"until": until,
		},
	})
}

// made is the folder, as an absolute path, in which make has put a program.
func made(t *testing.T, dir, program string) string {
	t.Helper()
	absolute, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(absolute, program)); err != nil {
		t.Fatalf("got no %s in %s, want it made by 'make build setup'", program, dir)
	}
	return absolute
}

// takeDown stops every sandbox of parent, whatever became of the transcript.
func takeDown(t *testing.T, parent string) {
	entries, err := os.ReadDir(parent)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for _, entry := range entries {
		folder := sandbox.Folder(filepath.Join(parent, entry.Name()))
		if err := sandbox.Dial(folder).Down(context.Background()); err != nil && !errors.Is(err, sandbox.ErrNotUp) {
			t.Error(err)
		}
		if err := folder.Purge(); err != nil {
			t.Error(err)
		}
	}
}

// until is the transcripts' command
//
//	until state NAME STATE
//	until says FILE TEXT
//
// which waits until a sandbox of the folder sandboxes is in a state, or until a
// file has a text in it.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 || args[0] != "state" && args[0] != "says" {
		ts.Fatalf("usage: until state NAME STATE, until says FILE TEXT")
	}
	got := ""
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if args[0] == "says" {
			text, err := os.ReadFile(ts.MkAbs(args[1]))
			if got = string(text); err == nil && strings.Contains(got, args[2]) {
				return
			}
			continue
		}
		status, err := sandbox.Read(context.Background(), sandbox.Folder(filepath.Join(ts.MkAbs("sandboxes"), args[1])))
		ts.Check(err)
		if got = string(status.State); got == args[2] {
			return
		}
	}
	ts.Fatalf("got %s %q after a minute, want %q", args[1], got, args[2])
}

// startDouble is the transcripts' command
//
//	awsdouble [moto] [functions] [delay=DURATION] [scp=FILE]... [scp-readable] [KIND:CALLS[,…]]...
//
// which starts an AWS double of the transcript's own, with the faults given,
// and sets the environment that its export lines would. It holds IAM and STS;
// with moto, which takes seconds to start, everything else as well. What is written to
// IAM is seen after the delay. With functions, those of Lambda run.
func startDouble(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! awsdouble")
	}
	var options awsdouble.Options
	for _, arg := range args {
		if arg == "moto" {
			moto, err := filepath.Abs("../.cache/venv/bin/moto_server")
			ts.Check(err)
			options.Moto, err = awsdouble.FindMoto(moto)
			ts.Check(err)
			continue
		}
		if file, ok := strings.CutPrefix(arg, "scp="); ok {
			name := strings.TrimSuffix(filepath.Base(file), ".json")
			options.SCP = append(options.SCP, awsidentity.PolicyText{Name: name, Text: ts.ReadFile(file)})
			continue
		}
		if arg == "scp-readable" {
			options.SCPReadable = true
			continue
		}
		if arg == "functions" {
			python, err := filepath.Abs("../.cache/venv/bin/python")
			ts.Check(err)
			options.LambdaPython = python
			continue
		}
		if text, ok := strings.CutPrefix(arg, "delay="); ok {
			delay, err := time.ParseDuration(text)
			ts.Check(err)
			options.ConsistencyDelay = delay
			continue
		}
		fault, err := awsdouble.ParseFault(arg)
		ts.Check(err)
		options.Faults = append(options.Faults, fault)
	}
	here := ts.Value(accountKey).(*account)
	options.Hook = here.hook
	options.Ahead = func() time.Duration { return time.Duration(here.ahead.Load()) }
	double, err := awsdouble.Start(context.Background(), options)
	ts.Check(err)
	here.double = double
	ts.Defer(func() { ts.Check(here.failed) })
	ts.Defer(func() { ts.Check(double.Stop()) })
	for _, variable := range double.Env() {
		name, value, _ := strings.Cut(variable, "=")
		ts.Setenv(name, value)
	}
}
