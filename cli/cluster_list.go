package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
)

func (a *app) clusterList() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the data planes that a control plane knows",
		Long: `List the data planes that a control plane knows, by name. A data plane is
  pending      registered, and has not joined
  ready        connected, and all its parts are well
  degraded     connected, and a part of it is not well
  unreachable  joined, and not connected
  draining     connected, and takes no new runs

LAG is how many messages it has not acknowledged yet, and since when.`,
		Example: `  biplane cluster list

  # Those that cannot be reached
  biplane cluster list --output json | jq -r '.clusters[] | select(.state == "unreachable").name'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.listClusters(cmd.Context())
		},
	}
}

// listResult is what list prints, as JSON.
type listResult struct {
	Clusters []clusterResult `json:"clusters"`
}

func (a *app) listClusters(ctx context.Context) error {
	client, err := a.clusters(ctx)
	if err != nil {
		return err
	}
	p := a.progress("asking the control plane at " + client.url)
	defer p.stop()
	result := listResult{Clusters: []clusterResult{}}
	for request := (&clusterv1.ListClustersRequest{Organization: client.organization}); ; {
		page, err := client.ListClusters(ctx, request)
		if err != nil {
			return client.said(err, nil)
		}
		for _, one := range page.Clusters {
			result.Clusters = append(result.Clusters, newClusterResult(one))
		}
		if request.Token = page.Token; page.Token == "" || len(page.Clusters) == 0 {
			break
		}
	}
	p.stop()
	return a.print(result, func(w io.Writer) {
		if len(result.Clusters) == 0 {
			fmt.Fprintln(w, "There are no clusters. 'biplane cluster add NAME' registers one.")
			return
		}
		fmt.Fprintln(w, "NAME\tSTATE\tVERSION\tHEARTBEAT\tLAG")
		for _, one := range result.Clusters {
			clusterRow(w, one)
		}
	})
}
