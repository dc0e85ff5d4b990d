package cli

import "github.com/spf13/cobra"

// dataplane groups what is done to a data plane: in the customer's account, by the
// roles that were granted, and in its cluster, with its owner's rights. What is asked
// of the control plane is `biplane cluster`.
func (a *app) dataplane() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dataplane",
		Short: "Build a data plane in an account, look after it, remove it",
		Long: `Build a data plane in a customer's account, look after it, and remove it.

A data plane is one file, dataplane.yaml. There is no state file beside it: what is
there is found again by its tags and names, so that every command can be interrupted
and run again, by anybody. docs/dataplane-file.md has every key.`,
		Example: `  biplane dataplane init
  biplane dataplane plan dataplane.yaml
  biplane dataplane apply dataplane.yaml
  biplane dataplane chart status`,
	}
	init := a.dataplaneInit() // a first file
	init.Flags().StringVar(&a.vendorProfile, "vendor-profile", "", "YAML `FILE` with the vendor's names (default: the built-in one)")
	cmd.AddCommand(init)
	for _, inAWS := range []*cobra.Command{
		a.dataplanePlan(),       // what is there, and what would be made
		a.dataplaneApply(),      // make it as its file says
		a.dataplaneCheck(),      // what differs from it, and what does not work
		a.dataplaneUpgrade(),    // the next version of Kubernetes
		a.dataplaneRemove(),     // take it away, from the inside out
		a.dataplaneKubeconfig(), // a way into its cluster
		a.dataplaneToken(),      // which kubectl runs
		a.dataplaneRoles(),      // the roles of its service accounts
		a.dataplaneExport(),     // for a pipeline of somebody's own
	} {
		a.aws.addProfile(inAWS)
		inAWS.Flags().StringVar(&a.vendorProfile, "vendor-profile", "", "YAML `FILE` with the vendor's names (default: the built-in one)")
		cmd.AddCommand(inAWS)
	}
	cmd.AddCommand(a.dataplaneChart())  // by Helm
	cmd.AddCommand(a.dataplaneSchema()) // of the file
	return cmd
}
