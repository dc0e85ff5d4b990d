package cli

import (
	"github.com/spf13/cobra"

	"biplane.dev/biplane/dataplane/chart"
)

func (a *app) dataplaneChartUpgrade() *cobra.Command {
	var f installFlags
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Bring an installed data plane to this program's chart, or to other values",
		Long: `Bring an installed data plane to this program's chart, or to other values, and
wait until it is ready. Without --values those of the release stay; with it they
are replaced by what is in the file. The CustomResourceDefinitions are renewed,
too. Runs go on meanwhile.`,
		Example: `  biplane dataplane chart upgrade

  # With other values; what would change?
  biplane dataplane chart upgrade --values values.yaml --dry-run | kubectl diff --filename -`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.installChart(cmd.Context(), f, chart.Upgrade)
		},
	}
	f.add(cmd)
	return cmd
}
