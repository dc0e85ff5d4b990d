package cli

import (
	"context"
	"fmt"
	"io"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
)

func (a *app) clusterRemove() *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "remove NAME",
		Short: "Forget a data plane and revoke its certificates",
		Long: `Forget a data plane and revoke its certificates. It is refused while runs on it
have not ended. In its own cluster nothing changes: what is installed there is
taken away by 'biplane dataplane chart uninstall'.`,
		Example: `  biplane cluster drain production
  biplane cluster remove production

  # Its cluster is gone for good: record its runs as aborted
  biplane cluster remove production --force`,
		Args:              oneCluster,
		ValidArgsFunction: a.clusterNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.removeCluster(cmd.Context(), args[0], force)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "record runs that have not ended as aborted")
	return cmd
}

// removeResult is what remove prints, as JSON.
type removeResult struct {
	Removed string `json:"removed"`
}

func (a *app) removeCluster(ctx context.Context, name string, force bool) error {
	client, err := a.clusters(ctx)
	if err != nil {
		return err
	}
	p := a.progress("asking the control plane at " + client.url)
	defer p.stop()
	_, err = client.RemoveCluster(ctx, &clusterv1.RemoveClusterRequest{Organization: client.organization, Name: name, Force: force})
	p.stop()
	if err != nil {
		return client.said(err, map[connect.Code]string{
			connect.CodeNotFound:           noSuchCluster[connect.CodeNotFound],
			connect.CodeFailedPrecondition: "wait until they end, abort them, or give --force, which records them as aborted",
		})
	}
	return a.print(removeResult{name}, func(w io.Writer) {
		fmt.Fprintf(w, "Cluster %s is removed; its certificates are revoked.\n", name)
	})
}
