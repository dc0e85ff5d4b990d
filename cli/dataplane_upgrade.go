package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

func (a *app) dataplaneUpgrade() *cobra.Command {
	var f applyFlags
	var to string
	var force bool
	cmd := &cobra.Command{
		Use:   "upgrade FILE --kubernetes VERSION",
		Short: "Bring the cluster to the next version of Kubernetes",
		Long: `Bring the cluster to the next minor version of Kubernetes, in EKS's order: what EKS
itself has found against it (errors refuse, unless --force is given), the control
plane, the add-ons to the versions that go with it, the node groups of the file one
after the other. No version is skipped, and none is taken back.

It assumes the operate role. After a kill or Ctrl-C, the same command goes on from
what is there. In the end it says what to write into the file.

Exit status: 0 all have the version; 1 refused; 2 it could not run or failed.`,
		Example: `  biplane dataplane upgrade dataplane.yaml --kubernetes 1.35 --dry-run
  biplane dataplane upgrade dataplane.yaml --kubernetes 1.35`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := required(cmd, "kubernetes", to, "1.35"); err != nil {
				return err
			}
			return a.carryOutPlane(cmd.Context(), args[0], undertaking{as: operations.Operate, goal: step.Present, done: "at Kubernetes " + to,
				steps: func(ctx context.Context, o *opened) ([]step.Step, error) {
					return cluster.UpgradeSteps(ctx, o.Plane, to, force)
				},
				after: func(o *opened) {
					if o.Spec.Cluster.Version != to {
						fmt.Fprintf(a.Err, "Next: write version: %q under spec.cluster of %s, which has %q.\n", to, args[0], o.Spec.Cluster.Version)
					}
				}}, f)
		},
	}
	cmd.Flags().StringVar(&to, "kubernetes", "", "`VERSION` to go to, one minor version above what is there: 1.35")
	cmd.Flags().BoolVar(&force, "force", false, "go on although EKS has found errors")
	f.add(cmd)
	return cmd
}
