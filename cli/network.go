package cli

import "github.com/spf13/cobra"

// network groups what is asked about a data plane's network before anything is made.
func (a *app) network() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "network",
		Short: "Plan a data plane's network, or check one that is there",
		Long: `Plan the addresses of a network that is to be made, or check a network that is
there. Nothing is changed by either.`,
		Example: `  # How would a /16 be shared out among three zones?
  biplane network plan --cidr 10.0.0.0/16 --zones 3

  # Can this network hold a data plane?
  biplane network check --vpc vpc-0a1b2c3d4e5f60718 --region eu-central-1`,
	}
	cmd.AddCommand(
		a.networkPlan(),  // the address plan
		a.networkCheck(), // 28 checks
	)
	return cmd
}
