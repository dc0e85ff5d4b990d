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
	"maps"
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
	"biplane.dev/biplane/internal/usererr"
)

// Process runs until its context ends.
type Process func(context.Context, *config.Config, *slog.Logger) error

// Processes are the data plane's: one Deployment and one service account each.
func Processes() map[string]Process {
	return map[string]Process{
		"operator":    operator.Run,    // the tunnel, certificates, configuration, and the API in the cluster
		"clustersync": clustersync.Run, // the namespaces of workspaces
		"executor":    executor.Run,    // actions: their pods, and what becomes of them
		"proxy":       proxy.Run,       // inputs, outputs, logs and texts, for who may read them
	}
}

// Run is the program: biplane-dataplane PROCESS --config FILE. It returns the exit
// status.
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
	names := slices.Sorted(maps.Keys(Processes()))
	hint := "try 'biplane-dataplane " + strings.Join(names, "|") + " [--config FILE]' or 'biplane-dataplane version'"
	if len(args) == 0 {
		return usererr.New(usererr.Invalid, "no process is named").WithHint("%s", hint)
	}
	name, args := args[0], args[1:]
	if name == "version" {
		build := buildinfo.Read()
		_, err := fmt.Fprintf(stdout, "biplane-dataplane %s (%s, %s, %s)\n", build.Version, build.Commit, build.Go, build.Platform)
		return err
	}
	process, ok := Processes()[name]
	if !ok {
		return usererr.New(usererr.Invalid, "there is no process called %q", name).WithHint("%s", hint)
	}
	flags := flag.NewFlagSet(name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	file := flags.String("config", config.File, "")
	if err := flags.Parse(args); err != nil {
		return usererr.New(usererr.Invalid, "%v", err).WithHint("%s", hint)
	}
	if flags.NArg() > 0 {
		return usererr.New(usererr.Invalid, "%q is not understood", flags.Arg(0)).WithHint("%s", hint)
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
	if err := process(ctx, cfg, log); err != nil {
		log.Error("ended", "error", usererr.Chain(err))
		return err
	}
	log.Info("ended")
	return nil
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
