package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/network"
)

func (a *app) networkPlan() *cobra.Command {
	var cidr string
	var zones int
	cmd := &cobra.Command{
		Use:   "plan --cidr CIDR",
		Short: "Share out a network's addresses among zones",
		Long: `Share out a network's addresses among zones: a private and a public subnet for
each. The plan follows from the range and the number of zones alone, and is what
'biplane dataplane apply' makes. It says whether private subnets of /18, which
are recommended, fit, and why. AWS is not asked.

Exit status: 0 it fits; 1 it does not; 2 what was given is no range.`,
		Example: `  biplane network plan --cidr 10.0.0.0/16 --zones 3
  biplane network plan --cidr 10.0.0.0/16 --zones 4 --output json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "cidr", cidr, "10.0.0.0/16"); err != nil {
				return err
			}
			plan, err := network.PlanAddresses(cidr, zones)
			if err != nil {
				return err
			}
			return a.print(plan, func(w io.Writer) {
				fmt.Fprintf(w, "SUBNET\tZONE\tCIDR\n")
				for _, part := range []struct {
					name   string
					blocks []network.Block
				}{{"private", plan.Private}, {"public", plan.Public}, {"control plane", plan.ControlPlane}} {
					for _, b := range part.blocks {
						fmt.Fprintf(w, "%s\t%d\t%s\n", part.name, b.Zone, b.CIDR)
					}
				}
				fmt.Fprintln(w)
				for _, note := range plan.Notes {
					fmt.Fprintf(w, "- %s\n", note)
				}
			})
		},
	}
	cmd.Flags().StringVar(&cidr, "cidr", "", "`CIDR` of the network, /16 to /20")
	cmd.Flags().IntVar(&zones, "zones", 3, "`NUMBER` of zones, 2 or more")
	return cmd
}
