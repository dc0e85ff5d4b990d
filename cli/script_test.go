package cli_test

import (
	"context"
	"flag"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"biplane.dev/biplane/cli"
	"biplane.dev/biplane/internal/awsdouble"
)

var update = flag.Bool("update", false, "write what commands printed into the transcripts")

// TestMain lets the tests run this binary as both programs. It does as their
// mains do, which a test cannot import.
func TestMain(m *testing.M) {
	program := func(run func(context.Context) int) func() {
		return func() {
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
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
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("AWS_EC2_METADATA_DISABLED", "true")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"awsdouble": startDouble,
			"makerole":  makeRole,
			"attach":    attach,
			"expire":    expire,
		},
	})
}

// startDouble is the transcripts' command
//
//	awsdouble [moto] [KIND:CALLS[,…]]...
//
// which starts an AWS double of the transcript's own, with the faults given,
// and sets the environment that its export lines would. It holds IAM and STS;
// with moto, which takes seconds to start, everything else as well.
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
		fault, err := awsdouble.ParseFault(arg)
		ts.Check(err)
		options.Faults = append(options.Faults, fault)
	}
	double, err := awsdouble.Start(context.Background(), options)
	ts.Check(err)
	ts.Defer(func() { ts.Check(double.Stop()) })
	for _, variable := range double.Env() {
		name, value, _ := strings.Cut(variable, "=")
		ts.Setenv(name, value)
	}
}
