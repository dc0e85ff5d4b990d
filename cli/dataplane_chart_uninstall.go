package cli

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/usererr"
)

func (a *app) dataplaneChartUninstall() *cobra.Command {
	var purge, yes bool
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Take the data plane's processes away, and keep what runs left",
		Long: `Take the data plane's processes away. What stays is said: the namespaces of
workspaces with all that is in them, the CustomResourceDefinitions with their
objects, and the data plane's identity, so that an install later goes on from
there. Pods of tasks that run go on, and nobody looks after them.

With --purge the objects, their CustomResourceDefinitions and the identity go
too; the namespaces of workspaces still stay.`,
		Example: `  biplane dataplane chart uninstall

  # For good
  biplane dataplane chart uninstall --purge
  biplane cluster remove production`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.uninstallChart(cmd.Context(), purge, yes)
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "delete every workspace, action and template of the cluster, too")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) uninstallChart(ctx context.Context, purge, yes bool) error {
	if purge && !yes {
		agreed, err := a.confirm(ctx, "Delete every workspace, action and template object of the cluster?")
		if err != nil {
			return err
		}
		if !agreed {
			return usererr.New(usererr.Refused, "not confirmed; nothing was changed").WithHint("answer 'y', or give --yes")
		}
	}
	p := a.progress("uninstalling")
	defer p.stop()
	removed, err := chart.Uninstall(ctx, a.target(p), purge)
	p.stop()
	if err != nil {
		return err
	}
	return a.print(removed, func(w io.Writer) {
		fmt.Fprintf(w, "Release %s is gone from namespace %s. Kept: %s.\n", removed.Release, removed.Namespace, strings.Join(removed.Kept, "; "))
	})
}
