package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/usererr"
)

func (a *app) dataplaneChartInstall() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "install --cluster NAME --token-file FILE --values FILE",
		Short: "Install a data plane, and wait until it has joined its control plane",
		Long: `Install a data plane, and wait until its processes are ready and it has joined
its control plane.

The token goes into the Secret biplane-join, for the operator, who uses it once:
it is no value of the chart, and not in Helm's record. Where everything is as it
should be, nothing is changed. After a kill or Ctrl-C, the same command goes on.`,
		Example: `  # What would be installed?
  biplane dataplane chart install --cluster production --values values.yaml --dry-run

  biplane cluster add production --token-file token
  biplane dataplane chart install --cluster production --token-file token --values values.yaml`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "cluster", f.cluster, "NAME, as in 'biplane cluster add NAME'"); err != nil {
				return err
			}
			if err := required(cmd, "values", f.values, "FILE; docs/cluster.md has an example"); err != nil {
				return err
			}
			return a.installChart(cmd.Context(), f, chart.Install)
		},
	}
	f.add(cmd)
	return cmd
}

// installFlags are those of install and of upgrade.
type installFlags struct {
	cluster   string
	tokenFile string
	values    string
	timeout   time.Duration
	dryRun    bool
}

func (f *installFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.cluster, "cluster", "", "`NAME` of the cluster, for which the token is")
	flags.StringVar(&f.tokenFile, "token-file", "", "`FILE` with the join token, or - for stdin; not needed once it has joined")
	flags.StringVarP(&f.values, "values", "f", "", "YAML `FILE` with the chart's values")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "`TIME` to wait until everything is ready")
	flags.BoolVar(&f.dryRun, "dry-run", false, "print what would be applied, and change nothing")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	// It fails only when there is no such flag.
	if err := cmd.MarkFlagFilename("values", "yaml", "yml", "json"); err != nil {
		panic(err)
	}
}

// Bounds of what is read: a token is a line, and Helm keeps the values in a Secret.
const (
	maxToken  = 8 << 10
	maxValues = 1 << 20
)

func (a *app) installChart(ctx context.Context, f installFlags, do func(context.Context, chart.Options) (chart.Status, error)) error {
	options := chart.Options{Cluster: f.cluster, Timeout: f.timeout, DryRun: f.dryRun}
	if f.cluster != "" {
		if err := checkClusterName(f.cluster); err != nil {
			return err
		}
	}
	if f.timeout <= 0 {
		return usererr.New(usererr.Invalid, "--timeout cannot be %s", f.timeout).WithHint("give it as --timeout 5m")
	}
	if f.values != "" {
		text, err := a.readAtMost(ctx, f.values, maxValues, "file of values")
		if err != nil {
			return err
		}
		if options.Values, err = chart.ReadValues(called(f.values), text); err != nil {
			return err
		}
	}
	if f.tokenFile != "" {
		token, err := a.readAtMost(ctx, f.tokenFile, maxToken, "join token")
		if err != nil {
			return err
		}
		options.Token = token
		if info, err := os.Stat(f.tokenFile); f.tokenFile != "-" && err == nil && info.Mode().Perm()&0o077 != 0 && !a.quiet {
			fmt.Fprintf(a.Err, "%s can be read by other users of this machine: 'chmod 600 %s', until the token is used\n", called(f.tokenFile), shellQuoted(f.tokenFile))
		}
	}
	p := a.progress("installing")
	defer p.stop()
	options.Target = a.target(p)
	status, err := do(ctx, options)
	p.stop()
	if err != nil {
		return err
	}
	return a.print(status, func(w io.Writer) {
		if f.dryRun {
			fmt.Fprint(w, status.Manifest)
			return
		}
		chartText(status)(w)
	})
}
