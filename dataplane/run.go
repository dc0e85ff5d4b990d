// Package dataplane is the program biplane-dataplane: the processes that run in a
// customer's cluster. It starts one of them and is none itself.
//
// Start with Processes, which is the table of contents.
package dataplane

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"biplane.dev/biplane/dataplane/clustersync"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/executor"
	"biplane.dev/biplane/dataplane/operator"
	"biplane.dev/biplane/dataplane/proxy"
	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/internal/usererr"
)

// Process is one Deployment and one service account.
type Process struct {
	Name string
	Does string                                                    // in one line, of the help
	Run  func(context.Context, *config.Config, *slog.Logger) error // until its context ends
}

// Processes are the data plane's.
func Processes() []Process {
	return []Process{
		{"operator", "join the control plane, hold the tunnel, make certificates, pass calls on", operator.Run},
		{"clustersync", "make and keep the namespaces of workspaces", clustersync.Run},
		{"executor", "make pods of actions, and say what becomes of them", executor.Run},
		{"proxy", "give inputs, outputs, logs and texts of errors to who may read them", proxy.Run},
	}
}

// Run is the program: biplane-dataplane PROCESS --config FILE. It returns the exit
// status: 0 done, or told to stop; 1 failed; 2 could not run, since what was typed
// or written cannot be used.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := run(ctx, args, stdout, stderr)
	if err == nil {
		return 0
	}
	fmt.Fprintf(stderr, "biplane-dataplane: %v\n", err)
	var said *usererr.Error
	if errors.As(err, &said) {
		if said.Hint != "" {
			fmt.Fprintf(stderr, "hint: %s\n", said.Hint)
		}
		return said.Kind.ExitStatus()
	}
	return 1
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	const hint = "run 'biplane-dataplane --help' for what there is"
	if len(args) == 0 {
		return usererr.New(usererr.Invalid, "no process is named").WithHint(hint)
	}
	name, args := args[0], args[1:]
	switch name {
	case "help", "--help", "-h":
		_, err := io.WriteString(stdout, help())
		return err
	case "version", "--version":
		if len(args) > 0 {
			return usererr.New(usererr.Invalid, "version takes no argument, got %q", args[0]).WithHint(hint)
		}
		build := buildinfo.Read()
		_, err := fmt.Fprintf(stdout, "biplane-dataplane %s (commit %s of %s, %s, %s)\n", build.Version, build.Commit, build.Date, build.Go, build.Platform)
		return err
	}
	processes := Processes()
	at := slices.IndexFunc(processes, func(p Process) bool { return p.Name == name })
	if at < 0 {
		unknown := usererr.New(usererr.Invalid, "there is no process called %q", name)
		if near := nearest.Within(name, names(processes), 2); near != "" {
			return unknown.WithHint("did you mean 'biplane-dataplane %s'?", near)
		}
		return unknown.WithHint(hint)
	}
	process := processes[at]
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", config.File, "")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		_, err := io.WriteString(stdout, process.help())
		return err
	case err != nil:
		return usererr.New(usererr.Invalid, "%v", err).WithHint("run 'biplane-dataplane %s --help' for its flags", name)
	case flags.NArg() > 0:
		return usererr.New(usererr.Invalid, "%q is not understood", flags.Arg(0)).WithHint("run 'biplane-dataplane %s --help' for its flags", name)
	}
	cfg, err := config.Load(*file)
	if err != nil {
		return err
	}
	log, err := newLog(cfg.Log, stderr)
	if err != nil {
		return err
	}
	log = log.With("process", name)
	// Kubernetes' libraries have one logger for the whole process, and no other way.
	klog.SetSlogLogger(log)
	ctrllog.SetLogger(logr.FromSlogHandler(log.Handler()))

	log.Info("starting", "version", buildinfo.Read().Version)
	if err := process.Run(ctx, cfg, log); err != nil {
		log.Error("ended", "error", usererr.Chain(err))
		return err
	}
	log.Info("ended")
	return nil
}

func names(processes []Process) []string {
	var all []string
	for _, p := range processes {
		all = append(all, p.Name)
	}
	return all
}

func help() string {
	var b strings.Builder
	b.WriteString(`The processes of a Biplane data plane, which run in the customer's cluster. The
chart biplane-dataplane runs each of them as a Deployment; 'biplane dataplane chart
install' installs it.

Usage:
  biplane-dataplane PROCESS [--config FILE]

Examples:
  # As the chart runs it
  biplane-dataplane executor

  # Outside of a pod, with a kubeconfig for its service account
  KUBECONFIG=FILE biplane-dataplane clustersync --config config.yaml

Processes:
`)
	for _, p := range Processes() {
		fmt.Fprintf(&b, "  %-11s  %s\n", p.Name, p.Does)
	}
	b.WriteString(`
Other commands:
  help         print this
  version      print which build this is

'biplane-dataplane PROCESS --help' tells more.

Exit status: 0 told to stop, and everything was finished; 1 failed; 2 could not run.
`)
	return b.String()
}

func (p Process) help() string {
	return fmt.Sprintf(`%s.

It serves by TLS: /livez and /readyz for everybody, /metrics for who may get them.
SIGTERM and Ctrl-C end it: calls finish, streams end so that clients call again; a
second one ends it at once. The log goes to stderr.

Usage:
  biplane-dataplane %s [--config FILE]

Examples:
  biplane-dataplane %[2]s --config config.yaml

Flags:
      --config FILE  the configuration, of which docs/configuration.md has every
                     key (default %s)
`, strings.ToUpper(p.Does[:1])+p.Does[1:], p.Name, config.File)
}

func newLog(cfg config.Log, w io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, usererr.New(usererr.Invalid, "log.level is %q", cfg.Level).WithHint("write debug, info, warn or error")
	}
	options := &slog.HandlerOptions{Level: level}
	switch cfg.Format {
	case "json":
		return slog.New(slog.NewJSONHandler(w, options)), nil
	case "text":
		return slog.New(slog.NewTextHandler(w, options)), nil
	}
	return nil, usererr.New(usererr.Invalid, "log.format is %q", cfg.Format).WithHint("write json or text")
}
