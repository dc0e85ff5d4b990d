package cli

import "github.com/spf13/cobra"

// access groups what the owner of an account, and the vendor who proves it,
// need. In the order in which they are used.
func (a *app) access() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "access",
		Short: "Open an account to the vendor, prove that it fits, take it back",
		Long: `Open an AWS account to the vendor with exactly the rights that are needed,
prove that they fit, and take them back.`,
		Example: `  # The vendor makes an external ID for this customer
  biplane access new-external-id

  # The customer reads what would be granted
  biplane access policy --account 123456789012 --region eu-central-1`,
	}
	flags := cmd.PersistentFlags()
	flags.SortFlags = false
	a.aws.add(cmd)
	flags.StringVar(&a.vendorProfile, "vendor-profile", "", "YAML `FILE` with the vendor's names (default: the built-in one)")
	cmd.AddCommand(
		a.accessNewExternalID(), // the vendor makes the customer's external ID
		a.accessPolicy(),        // what would be granted
		a.accessLint(),          // what a reviewer would object to
		a.accessExplain(),       // why one call is allowed or denied
		a.accessTemplate(),      // the same, for a stack
		a.accessLinks(),         // where a person launches it
		a.accessReport(),        // what a grant would make, and what it would meet
		a.accessGrant(),         // the customer lets the vendor in
		a.accessReceive(),       // the vendor is told by the customer's stack
		a.accessCheck(),         // the vendor proves what came of it
		a.accessUpdate(),        // the customer changes it
		a.accessRotate(),        // both change the external ID
		a.accessBreakGlass(),    // support comes in for an emergency
		a.accessRevoke(),        // the customer takes it back
		a.accessHistory(),       // what was changed, and by whom
	)
	return cmd
}
