// Package cli is the `biplane` command line: one file per command, so that
// access_grant.go is `biplane access grant`. Commands are thin: they read flags
// and files, call a package of provision, and print. It is not for anything
// that another program may want to call.
//
// Start with Run, then commands below, which is the table of contents.
package cli

import (
	"context"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"biplane.dev/biplane/internal/usererr"
)

// commands returns every group of commands, in the order of the help.
func (a *app) commands() []*cobra.Command {
	return []*cobra.Command{
		a.access(),          // open an account to the vendor, prove it, take it back
		a.network(),         // the network of a data plane, before anything is made
		a.sandbox(),         // Kubernetes, S3 and the roles between them on this machine
		a.cluster(),         // the data planes that a control plane knows
		a.dataplane(),       // what of a data plane is in its own cluster
		a.privateEndpoint(), // the vendor's way to a private cluster
		a.version(),         // which build this is
		a.completion(),
	}
}

// Streams are where a command reads and writes: results to Out, everything
// else to Err.
type Streams struct {
	In  io.Reader
	Out io.Writer
	Err io.Writer

	// ProgressAfter is how long something may take before Err says what it is;
	// zero means a second. Transcripts give more, so that a slow machine writes
	// the same as a fast one.
	ProgressAfter time.Duration
}

// Run runs one command line and returns its exit status: 0 done, 1 found
// something or refused, 2 could not run. When ctx ends early, the command stops
// at the next point where it can be run again.
func Run(ctx context.Context, args []string, streams Streams) int {
	out := &results{to: streams.Out}
	streams.Out = out
	a := &app{Streams: streams}
	root := a.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		err = out.failed // whoever printed it may not have looked
	}
	return a.exit(ctx, err)
}

// Interrupts are the signals after which a command stops where it can go on: Ctrl-C, a
// service manager's, and a terminal that is closed, unless nohup has it ignored.
func Interrupts() []os.Signal {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	return signals
}

// results is stdout, which may be a full disk.
type results struct {
	to     io.Writer
	failed error // of the first write that failed
}

// Write writes, or says in a sentence why not.
func (r *results) Write(p []byte) (int, error) {
	n, err := r.to.Write(p)
	if err != nil {
		err = usererr.New(usererr.Unavailable, "the results cannot be written: %v", last(err)).
			WithHint("make room, or send them elsewhere, and run the same command again").Because(err)
		if r.failed == nil {
			r.failed = err
		}
	}
	return n, err
}

// app is one run of the command line: the streams and what the flags of the
// root say. Commands are its methods.
type app struct {
	Streams
	output   choice
	quiet    bool
	logLevel choice
	log      *slog.Logger // never nil in a command's RunE

	aws           awsFlags
	vendorProfile string
	through       string // of the cluster's API server; "" is its own address
	where         sandboxFlags
	server        serverFlags
	chart         chartFlags
}

func (a *app) root() *cobra.Command {
	a.output = choice{value: "table", allowed: []string{"table", "json", "yaml"}}
	a.logLevel = choice{value: "warn", allowed: []string{"debug", "info", "warn", "error"}}
	a.log = slog.New(slog.DiscardHandler)

	root := &cobra.Command{
		Use:   "biplane",
		Short: "Run data and ML workflows inside a customer's own AWS account",
		Long: `Biplane runs data and ML workflows inside a customer's own AWS account.

Results go to stdout, everything else to stderr.
Exit status: 0 done; 1 found something or refused; 2 could not run.`,
		Example: `  # What would the vendor be allowed to do in my account?
  biplane access policy --account 123456789012 --region eu-central-1

  # What is wrong with this policy?
  biplane access lint policy.json

  # A Kubernetes, and an S3 that enforces roles, on this machine
  biplane sandbox up`,
		SilenceErrors: true, // exit prints them
		SilenceUsage:  true,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			var level slog.Level
			if err := level.UnmarshalText([]byte(a.logLevel.value)); err != nil {
				return err
			}
			a.log = slog.New(slog.NewTextHandler(a.Err, &slog.HandlerOptions{Level: level}))
			return nil
		},
	}
	root.SetIn(a.In)
	root.SetOut(a.Out)
	root.SetErr(a.Err)
	root.SetFlagErrorFunc(flagError)
	root.CompletionOptions.DisableDefaultCmd = true // ours names the three shells and has an example
	root.SetHelpCommand(a.help())
	root.SetUsageTemplate(usage)

	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.VarP(&a.output, "output", "o", "how results are printed")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress on stderr")
	flags.Var(&a.logLevel, "log-level", "what is logged on stderr")
	complete(root, "output", func() []string { return a.output.allowed })
	complete(root, "log-level", func() []string { return a.logLevel.allowed })

	root.AddCommand(a.commands()...)
	finish(root)
	return root
}

// finish gives every command what all have in common. Groups without a RunE of
// their own print their help, and name a wrong word back.
func finish(cmd *cobra.Command) {
	cmd.Flags().SortFlags = false
	cmd.DisableFlagsInUseLine = true
	if cmd.HasSubCommands() && cmd.RunE == nil {
		cmd.Use += " COMMAND"
		cmd.Args = cobra.ArbitraryArgs
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			return unknownCommand(cmd, args[0])
		}
	}
	for _, sub := range cmd.Commands() {
		finish(sub)
	}
}

// choice is a flag that takes one of a few words.
type choice struct {
	value   string
	allowed []string
}

var _ pflag.Value = (*choice)(nil)

func (c *choice) String() string { return c.value }
func (c *choice) Type() string   { return strings.Join(c.allowed, "|") }

// Set takes one of the allowed words.
func (c *choice) Set(word string) error {
	for _, allowed := range c.allowed {
		if word == allowed {
			c.value = word
			return nil
		}
	}
	return &notAllowed{word: word, allowed: c.allowed}
}

// notAllowed is a value that a choice does not know.
type notAllowed struct {
	word    string
	allowed []string
}

func (e *notAllowed) Error() string {
	return "must be one of " + strings.Join(e.allowed, ", ")
}

// complete offers words after the flag.
func complete(cmd *cobra.Command, flag string, words func() []string) {
	offer := func(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
		return words(), cobra.ShellCompDirectiveNoFileComp
	}
	// It fails only when the flag does not exist or is completed twice: a
	// mistake in this package, found by the first run of any test.
	if err := cmd.RegisterFlagCompletionFunc(flag, offer); err != nil {
		panic(err)
	}
}

// unknownCommand names the word back.
func unknownCommand(cmd *cobra.Command, word string) error {
	err := usererr.New(usererr.Invalid, "unknown command %q for %q", word, cmd.CommandPath())
	var names []string
	for _, sub := range cmd.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	if near := meant(word, names); near != "" {
		return err.WithHint("did you mean '%s %s'?", cmd.CommandPath(), near)
	}
	return err.WithHint("run '%s --help' for what there is", cmd.CommandPath())
}
