package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// upFlags are what up may be asked for. What isn't given stays as it was at the
// last up.
type upFlags struct {
	node       choice
	nodes      int
	python     string
	only       []string
	auditLog   bool
	fixedPorts bool
	foreground bool
	fresh      bool
}

func (a *app) sandboxUp() *cobra.Command {
	var f upFlags
	f.node = choice{value: string(sandbox.ProcessNode), allowed: []string{string(sandbox.ProcessNode), string(sandbox.KubeletNode), string(sandbox.KwokNode)}}
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Start the sandbox, or join one that runs",
		Long: `Start the sandbox and wait until all of it is ready: Kubernetes, S3, IAM and STS,
a node, a control plane, and a data plane that has joined it. The first time it
makes the two buckets of a data plane, the roles of its service accounts, and the
namespaces union and flytesnacks-development with those accounts. Later it finds
again what was there: ports, objects, keys, runs.

A node is
  process   a container is a process of this machine in namespaces of its own: no root
  kubelet   the real kubelet with containerd and runc, which must be there: root
  kwok      nothing runs; the states of pods go by, for thousands of them

Only on process nodes is there a data plane, and a control plane for it.

A sandbox that is up already is joined: a component that was stopped is started,
and other options than it has are refused. What is not given stays as it was at
the last up. After a kill or Ctrl-C, the same command goes on.`,
		Example: `  biplane sandbox up
  eval "$(biplane sandbox env)"
  flyte run hello.py main

  # Pods with Flyte's images run the Python of this environment
  biplane sandbox up --python .venv

  # Only the object store, with IAM and STS
  biplane sandbox up --name store --only s3

  # For a scale test, apart from the one that runs
  biplane sandbox up --name big --node kwok --nodes 10`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			options, err := f.options(cmd)
			if err != nil {
				return err
			}
			return a.up(cmd.Context(), options, f)
		},
	}
	flags := cmd.Flags()
	flags.Var(&f.node, "node", "what runs pods")
	flags.IntVar(&f.nodes, "nodes", 1, "how many nodes, `N`")
	flags.StringVar(&f.python, "python", "", "Python environment `DIR` of Flyte's images (default: the active one, else that of flyte on PATH)")
	flags.StringSliceVar(&f.only, "only", nil, "start these `PARTS`, comma-separated, and what they need: kubernetes, s3, identity, node, controlplane, dataplane (default: all)")
	flags.BoolVar(&f.auditLog, "audit-log", false, "the API server logs every request, see 'biplane sandbox logs audit'")
	flags.BoolVar(&f.fixedPorts, "fixed-ports", false, "refuse to start when a port of the last up is taken, instead of choosing another")
	flags.BoolVar(&f.foreground, "foreground", false, "stay until Ctrl-C, and then take the sandbox down")
	flags.BoolVar(&f.fresh, "fresh", false, "delete what the sandbox holds first")
	complete(cmd, "node", func() []string { return f.node.allowed })
	complete(cmd, "only", func() []string {
		return []string{sandbox.KubeGroup, sandbox.ObjectStore, sandbox.Identity, sandbox.Nodes, sandbox.FlyteAdmin, sandbox.FlyteDataPlane}
	})
	return cmd
}

// options are what was asked for, checked as far as it can be without a sandbox.
func (f *upFlags) options(cmd *cobra.Command) (sandbox.Options, error) {
	var options sandbox.Options
	given := cmd.Flags().Changed
	if given("node") {
		options.Node = sandbox.NodeKind(f.node.value)
		if options.Node == sandbox.KubeletNode && os.Geteuid() != 0 {
			return options, usererr.New(usererr.Denied, "--node kubelet needs root, and this is user %d", os.Geteuid()).
				WithHint("run it as root, or leave --node out: the process node needs no root")
		}
	}
	if given("nodes") {
		options.Nodes = f.nodes
		// Options.Check takes zero for what the last up had.
		if f.nodes < 1 || f.nodes > sandbox.MaxNodes {
			return options, usererr.New(usererr.Invalid, "--nodes cannot be %d", f.nodes).WithHint("give 1 to %d, and with --node kwok up to %d", sandbox.MaxProcessNodes, sandbox.MaxNodes)
		}
	}
	if given("only") {
		for _, part := range f.only {
			options.Only = append(options.Only, strings.TrimSpace(part))
		}
		if _, err := sandbox.Components(options.Only); err != nil {
			return options, err
		}
	}
	if given("python") {
		python, err := pythonEnvironment(f.python)
		if err != nil {
			return options, err
		}
		options.Python = python
	}
	if given("audit-log") {
		options.AuditLog = &f.auditLog
	}
	if given("fixed-ports") {
		options.FixedPorts = &f.fixedPorts
	}
	return options, options.Check()
}

// pythonEnvironment is a folder that has bin/python in it, as an absolute path.
func pythonEnvironment(dir string) (string, error) {
	refuse := func(why string) *usererr.Error {
		return usererr.New(usererr.Invalid, "--python %q is no Python environment: %s", dir, why).
			WithHint("name the folder of one; 'python3 -m venv %s' makes one", shellQuoted(cmp.Or(dir, ".venv")))
	}
	if dir == "" {
		return "", refuse("it is empty")
	}
	absolute, err := filepath.Abs(dir)
	if err != nil {
		return "", refuse("there is no current folder").Because(err)
	}
	if info, err := os.Stat(absolute); err != nil {
		return "", refuse("there is no such folder")
	} else if !info.IsDir() {
		return "", refuse("it is a file")
	}
	python := filepath.Join(absolute, "bin", "python")
	if info, err := os.Stat(python); errors.Is(err, fs.ErrPermission) {
		return "", refuse("this user may not use its bin/python, or what that leads to").Because(err)
	} else if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
		return "", refuse("it has no program bin/python")
	}
	return absolute, nil
}

func (a *app) up(ctx context.Context, options sandbox.Options, f upFlags) error {
	folder, err := a.folder()
	if err != nil {
		return err
	}
	program, err := sandbox.FindProgram()
	if err != nil {
		return err
	}
	supervisor := sandbox.Supervisor{
		Program: program, Folder: folder, Options: options, Fresh: f.fresh,
		VirtualEnv: os.Getenv("VIRTUAL_ENV"), Foreground: f.foreground, Env: os.Environ(),
	}
	began := time.Now()
	p := a.progress("starting the supervisor")
	defer p.stop()
	if f.fresh {
		if status, err := sandbox.Read(ctx, folder); err == nil && status.State == sandbox.Stopped { // one that is up refuses
			p.say("deleting what sandbox " + folder.Name() + " holds")
		}
	}
	progress := upProgress{p: p}
	running, err := supervisor.Up(ctx, progress.tell)
	if err != nil {
		if running != nil && ctx.Err() != nil {
			// What this command began, it ends; the next up goes on from there.
			p.now("stopping what was started")
			running.Stop()
			err = errors.Join(err, running.Wait())
		}
		return err
	}
	if running == nil && f.foreground {
		return usererr.New(usererr.Refused, "sandbox %s is up already, and not in this foreground", a.where.name).
			WithHint("leave --foreground out, or run '%s' first", a.command("down"))
	}
	// It is up: Ctrl-C from now on is for stay.
	status, err := sandbox.Read(context.WithoutCancel(ctx), folder)
	if err != nil {
		return err
	}
	p.stop()
	a.log.Debug("up", "took", time.Since(began), "joined", running == nil)
	if err := a.print(status, a.upText(status, running != nil, f.foreground, time.Since(began))); err != nil {
		return err
	}
	if f.foreground {
		return a.stay(ctx, running)
	}
	return nil
}

// stay keeps a sandbox up until Ctrl-C.
func (a *app) stay(ctx context.Context, running *sandbox.Running) error {
	ended := make(chan error, 1)
	go func() { ended <- running.Wait() }()
	select {
	case err := <-ended: // somebody took it down
		return err
	case <-ctx.Done():
	}
	p := a.progress("stopping")
	defer p.stop()
	running.Stop()
	return <-ended
}

// upText is the result for people: where everything is, and what to type next.
func (a *app) upText(status sandbox.Status, started, foreground bool, took time.Duration) func(io.Writer) {
	return func(w io.Writer) {
		if started {
			fmt.Fprintf(w, "Sandbox %s is %s, after %.1f s.\n\n", status.Name, status.State, took.Seconds())
		} else {
			fmt.Fprintf(w, "Sandbox %s was up, and is %s.\n\n", status.Name, status.State)
		}
		addresses(w, status)
		if foreground {
			fmt.Fprintf(w, "\nCtrl-C takes it down. Next, in another terminal: eval \"$(%s)\"\n", a.command("env"))
			return
		}
		fmt.Fprintf(w, "\nNext: eval \"$(%s)\"\n", a.command("env"))
	}
}

// upProgress writes a line for each thing that is ready, and says what is waited
// for.
type upProgress struct {
	p       *progress
	pending []string
}

func (u *upProgress) tell(e sandbox.Event) {
	u.pending = slices.DeleteFunc(u.pending, func(name string) bool { return name == e.Name })
	switch state := sandbox.ComponentState(e.State); {
	case e.Name == "": // the end of the up: said by who asked for it
		return
	case state == sandbox.ComponentStarting:
		u.pending = append(u.pending, e.Name)
	default:
		line := fmt.Sprintf("%s: %s", e.Name, e.State)
		switch {
		case e.Text != "" && e.State == sandbox.Done:
			line = fmt.Sprintf("%s: %s", e.Name, e.Text) // role union-…: create
		case e.Text != "":
			line += ", " + e.Text
		}
		if e.Took >= 50*time.Millisecond { // what was there when it joined took none
			line += fmt.Sprintf(" (%.1f s)", e.Took.Seconds())
		}
		u.p.say(line)
	}
	if len(u.pending) > 0 {
		u.p.now("starting " + and(u.pending))
	} else {
		u.p.now("making what it has from the start")
	}
}
