package cli

import "github.com/spf13/cobra"

// dataplane groups what is done in the cluster of a data plane, with its owner's
// rights. What is asked of the control plane is `biplane cluster`.
func (a *app) dataplane() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "dataplane",
		Short: "Install a data plane into a Kubernetes cluster",
		Example: `  biplane dataplane chart install --cluster production --token-file token --values values.yaml
  biplane dataplane chart status`,
	}
	cmd.AddCommand(
		a.dataplaneChart(), // by Helm
	)
	return cmd
}
