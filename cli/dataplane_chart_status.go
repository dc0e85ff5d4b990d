package cli

import (
	"github.com/spf13/cobra"

	"biplane.dev/biplane/dataplane/chart"
)

func (a *app) dataplaneChartStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say which release is installed, and how its processes are",
		Long: `Say which release is installed, and how its processes are, as the cluster sees
it. How the control plane sees it, tells 'biplane cluster show'.

Exit status: 0 all of it is ready and has joined; 1 something is not; 2 there is
none, or it could not tell.`,
		Example: `  biplane dataplane chart status

  # Which images run?
  biplane dataplane chart status --output json | jq -r '.processes[].image'`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := a.progress("asking the cluster")
			defer p.stop()
			status, err := chart.Read(cmd.Context(), a.target(p))
			p.stop()
			if err != nil {
				return err
			}
			if err := a.print(status, chartText(status)); err != nil {
				return err
			}
			if !status.Ready() {
				return errFound
			}
			return nil
		},
	}
}
