// Package controlplane is the program biplane-controlplane: the API that clients
// call, the store of names and states, and the gateway to which data planes dial.
//
// It runs no task and holds none of its data: data planes do. Start with Run, then
// commands, the table of contents of its command line, and serve, that of the
// server.
package controlplane

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/controlplane/internal/issuer"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/usererr"
)

// program is one run of the command line.
type program struct {
	out, err io.Writer
}

// commands returns every command, in the order of the help.
func (p *program) commands() []*cobra.Command {
	return []*cobra.Command{
		p.serve(),       // everything
		p.checkConfig(), // is this file right?
		p.migrate(),     // bring the database to this version's form
		p.ca(),          // by which data planes and this server know each other
		p.issuer(),      // the keys by which AWS verifies this server
		p.version(),
		p.completion(),
	}
}

// Run runs one command line and returns its exit status: 0 done; 1 refused or
// failed; 2 could not run, since what was typed or written cannot be used.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p := &program{out: stdout, err: stderr}
	root := &cobra.Command{
		Use:   "biplane-controlplane COMMAND",
		Short: "Keep the names and states of runs, and hand them to data planes",
		Long: `The control plane of Biplane: the API that Flyte's SDK and 'biplane' call, the
store of names and states, and the gateway to which data planes dial.

It holds no code, inputs, outputs, logs or secrets: those stay in the data planes.

Exit status: 0 done; 1 failed; 2 could not run.`,
		Example: `  # Is the configuration right?
  biplane-controlplane check-config controlplane.yaml

  # Serve, with the database in a file
  biplane-controlplane serve --config controlplane.yaml`,
		SilenceErrors: true, // said below
		SilenceUsage:  true,
		Args:          cobra.ArbitraryArgs,
		RunE:          group,

		DisableFlagsInUseLine: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true // ours has an example
	root.SuggestionsMinimumDistance = 2
	root.SetUsageTemplate(usage)
	root.SetOut(stdout)
	root.SetErr(stderr)
	root.SetArgs(append([]string{}, args...)) // of nil, cobra would take the process's own
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usererr.New(usererr.Invalid, "%v", err).WithHint("run '%s --help' for its flags", cmd.CommandPath()).Because(err)
	})
	root.AddCommand(p.commands()...)
	return p.say(root.ExecuteContext(ctx))
}

// usage is the same for every command: how to call it, an example that can be
// typed, what there is below, and its flags.
const usage = `Usage:
  {{.UseLine}}
{{if .HasExample}}
Examples:
{{.Example}}
{{end}}{{if .HasAvailableSubCommands}}
Commands:{{range .Commands}}{{if .IsAvailableCommand}}
  {{rpad .Name .NamePadding}} {{.Short}}{{end}}{{end}}

'{{.CommandPath}} COMMAND --help' tells more.
{{end}}{{if .HasAvailableLocalFlags}}
Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}
{{end}}`

// say tells the person why the program ends, and returns its exit status.
func (p *program) say(err error) int {
	if err == nil {
		return 0
	}
	status, hint := 1, ""
	var said *usererr.Error
	if errors.As(err, &said) {
		status, hint = said.Kind.ExitStatus(), said.Hint
	}
	fmt.Fprintf(p.err, "biplane-controlplane: %s\n", oneLine(err.Error()))
	if hint != "" {
		fmt.Fprintf(p.err, "hint: %s\n", oneLine(hint))
	}
	return status
}

// oneLine keeps a hostile file name or a library's long error from taking more
// than its line.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.TrimSpace(text))
}

func (p *program) serve() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Serve clients and data planes until told to stop",
		Long: `Serve clients and data planes until told to stop.

The database is made, or brought to this version's form, before anything is
served. SIGTERM and Ctrl-C end it: calls finish, streams end so that clients call
again; a second one ends it at once. The log goes to stderr; /metrics, /healthz and
/readyz are on the port of the clients.

docs/configuration.md has every key of the file. A data plane joins with the token
that 'biplane cluster add NAME' prints.`,
		Example: `  # All that a file must have: keys and database go into ./state
  printf '%s\n' 'apiVersion: biplane.dev/v1alpha1' 'kind: ControlPlaneConfig' 'folder: state' >controlplane.yaml

  biplane-controlplane serve --config controlplane.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := p.load(file)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, log)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func (p *program) checkConfig() *cobra.Command {
	return &cobra.Command{
		Use:   "check-config FILE",
		Short: "Say whether a configuration can be used",
		Long: `Say whether a configuration can be used, and the files that it names can be read,
without starting anything: the database is not asked.

docs/configuration.md has every key, with an example.`,
		Example: `  biplane-controlplane check-config controlplane.yaml`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return usererr.New(usererr.Invalid, "%q needs the name of one file", cmd.CommandPath()).WithHint("try '%s controlplane.yaml'", cmd.CommandPath())
			}
			return nil
		},
		ValidArgsFunction: yamlFiles,
		RunE: func(_ *cobra.Command, args []string) error {
			cfg, err := config.Load(args[0])
			if err != nil {
				return err
			}
			if _, err := serving(cfg); err != nil {
				return err
			}
			if _, err := cfg.DatabaseURL(); err != nil {
				return err
			}
			_, err = fmt.Fprintf(p.out, "%s can be used: clients at %s, data planes at %s, organizations %s\n",
				args[0], cfg.API.Listen, cfg.Gateway.Listen, strings.Join(cfg.Organizations, ", "))
			return err
		},
	}
}

func (p *program) migrate() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "migrate --config FILE",
		Short: "Bring the database to this version's form",
		Long: `Bring the database to this version's form, as 'serve' does at its start.

For installations where the server's own role may not change tables. It can be
run at any time, and more than once.`,
		Example: `  biplane-controlplane migrate --config controlplane.yaml`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := p.load(file)
			if err != nil {
				return err
			}
			s, err := open(cmd.Context(), cfg, log)
			if err != nil {
				return err
			}
			defer s.Close()
			if err := s.Migrate(cmd.Context()); err != nil {
				return usererr.New(usererr.Unavailable, "the database cannot be brought to this version's form: %v", err).
					WithHint("nothing was half-made; see to the reason and run it again").Because(err)
			}
			_, err = fmt.Fprintln(p.out, "the database has this version's form")
			return err
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func (p *program) issuer() *cobra.Command {
	var file string
	keys := &cobra.Command{
		Use:   "keys --config FILE",
		Short: "Print the issuer's public keys, as JSON Web Keys",
		Long: `Print the issuer's public keys, as JSON Web Keys, and make them if there are none.

An OpenID Connect provider in the customer's account gets them, and the trust of
flyteadmin's role names it: with that, and nothing else, this server signs uploads.`,
		Example: `  biplane-controlplane issuer keys --config controlplane.yaml`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			if cfg.Issuer.URL == "" {
				return usererr.New(usererr.Refused, "issuer.url is not given, so this server has no issuer").WithHint("write issuer.url: https://HOST into %s", file)
			}
			signer, err := issuer.Open(cfg.Issuer.URL, cfg.Issuer.Subject, cfg.Issuer.KeyFile)
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(p.out)
			encoder.SetIndent("", "  ")
			return encoder.Encode(signer.Keys())
		},
	}
	configFlag(keys, &file)
	cmd := &cobra.Command{
		Use:     "issuer COMMAND",
		Short:   "Show the issuer by which this server signs uploads",
		Example: `  biplane-controlplane issuer keys --config controlplane.yaml`,
		Args:    cobra.ArbitraryArgs,
		RunE:    group,
	}
	cmd.AddCommand(keys)
	return cmd
}

func (p *program) version() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print which build this is",
		Example: `  biplane-controlplane version`,
		Args:    noArguments,
		RunE: func(*cobra.Command, []string) error {
			info := buildinfo.Read()
			_, err := fmt.Fprintf(p.out, "biplane-controlplane %s (commit %s of %s, %s, %s)\n", info.Version, info.Commit, info.Date, info.Go, info.Platform)
			return err
		},
	}
}

func (p *program) completion() *cobra.Command {
	return &cobra.Command{
		Use:       "completion bash|zsh|fish",
		Short:     "Print a script that lets your shell complete commands and flags",
		Example:   `  source <(biplane-controlplane completion bash)`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		RunE: func(cmd *cobra.Command, args []string) error {
			root := cmd.Root()
			switch strings.Join(args, " ") {
			case "bash":
				return root.GenBashCompletionV2(p.out, true)
			case "zsh":
				return root.GenZshCompletion(p.out)
			case "fish":
				return root.GenFishCompletion(p.out, true)
			}
			return usererr.New(usererr.Invalid, "%q needs the name of one shell", cmd.CommandPath()).WithHint("it knows bash, zsh and fish")
		},
	}
}

// load reads the configuration, and makes the log that it asks for.
func (p *program) load(file string) (*config.Config, *slog.Logger, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, nil, err
	}
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return nil, nil, fmt.Errorf("reading log.level: %w", err)
	}
	options := &slog.HandlerOptions{Level: level}
	if cfg.Log.Format == "json" {
		return cfg, slog.New(slog.NewJSONHandler(p.err, options)), nil
	}
	return cfg, slog.New(slog.NewTextHandler(p.err, options)), nil
}

// open opens the database that the configuration names, and makes the folder that
// it is in by default.
func open(ctx context.Context, cfg *config.Config, log *slog.Logger) (*store.Store, error) {
	if err := os.MkdirAll(cfg.Folder, 0o700); err != nil {
		return nil, usererr.New(usererr.Unavailable, "the folder %s cannot be made: %v", cfg.Folder, err).
			WithHint("name another folder in the configuration").Because(err)
	}
	url, err := cfg.DatabaseURL()
	if err != nil {
		return nil, err
	}
	s, err := store.Open(ctx, url, log)
	if err != nil {
		return nil, usererr.New(usererr.Unavailable, "the database cannot be opened: %v", err).
			WithHint("check database in the configuration, and that the database can be reached").Because(err)
	}
	return s, nil
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "", "the configuration `FILE`")
	cmd.DisableFlagsInUseLine = true
	// These fail only when there is no such flag.
	for _, err := range []error{cmd.MarkFlagFilename("config", "yaml", "yml"), cmd.RegisterFlagCompletionFunc("config", yamlFiles)} {
		if err != nil {
			panic(err)
		}
	}
	run := cmd.RunE
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *file == "" {
			return usererr.New(usererr.Invalid, "%q needs --config", cmd.CommandPath()).WithHint("give it as --config controlplane.yaml")
		}
		return run(cmd, args)
	}
}

func yamlFiles(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	return []cobra.Completion{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

// group prints its help, and names a wrong word back.
func group(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	err := usererr.New(usererr.Invalid, "unknown command %q for %q", args[0], cmd.CommandPath())
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return err.WithHint("did you mean '%s %s'?", cmd.CommandPath(), near[0])
	}
	return err.WithHint("run '%s --help' for what there is", cmd.CommandPath())
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return usererr.New(usererr.Invalid, "%q takes no argument, got %q", cmd.CommandPath(), args[0]).WithHint("run '%s --help' for its flags", cmd.CommandPath())
}
