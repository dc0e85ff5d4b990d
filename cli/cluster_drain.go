package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
)

func (a *app) clusterDrain() *cobra.Command {
	var undo bool
	cmd := &cobra.Command{
		Use:   "drain NAME",
		Short: "Hand no new runs to a data plane; what runs there goes on",
		Example: `  biplane cluster drain production

  # Hand it new runs again
  biplane cluster drain production --undo`,
		Args:              oneCluster,
		ValidArgsFunction: a.clusterNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.drainCluster(cmd.Context(), args[0], undo)
		},
	}
	cmd.Flags().BoolVar(&undo, "undo", false, "hand it new runs again")
	return cmd
}

func (a *app) drainCluster(ctx context.Context, name string, undo bool) error {
	client, err := a.clusters(ctx)
	if err != nil {
		return err
	}
	p := a.progress("asking the control plane at " + client.url)
	defer p.stop()
	answer, err := client.DrainCluster(ctx, &clusterv1.DrainClusterRequest{Organization: client.organization, Name: name, Undrain: undo})
	p.stop()
	if err != nil {
		return client.said(err, noSuchCluster)
	}
	result := newClusterResult(answer.Cluster)
	return a.print(result, func(w io.Writer) {
		if result.Draining {
			fmt.Fprintf(w, "Cluster %s takes no new runs; what runs there goes on.\n", name)
			return
		}
		fmt.Fprintf(w, "Cluster %s takes new runs.\n", name)
	})
}
