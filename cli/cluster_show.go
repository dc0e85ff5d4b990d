package cli

import (
	"cmp"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"time"

	"connectrpc.com/connect"
	"github.com/spf13/cobra"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/internal/usererr"
)

func (a *app) clusterShow() *cobra.Command {
	var caBundle bool
	cmd := &cobra.Command{
		Use:   "show NAME",
		Short: "Show how a data plane is, and each of its parts",
		Long: `Show how a data plane is, and each of its parts: version, heartbeat, what it has
not acknowledged yet, capacity.

With --ca-bundle it prints the CA that clients trust the data plane's proxy by,
and nothing else. The CA's key never left the data plane: not even the control
plane can read what a client and the proxy say to each other.`,
		Example: `  biplane cluster show production

  # A bundle for caCertFilePath: the control plane's CA, and the proxy's
  (cat ca.crt; biplane cluster show production --ca-bundle) > bundle.crt`,
		Args:              oneCluster,
		ValidArgsFunction: a.clusterNames,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showCluster(cmd.Context(), args[0], caBundle)
		},
	}
	cmd.Flags().BoolVar(&caBundle, "ca-bundle", false, "print the PEM of the proxy's CA alone")
	return cmd
}

func (a *app) showCluster(ctx context.Context, name string, caBundle bool) error {
	client, err := a.clusters(ctx)
	if err != nil {
		return err
	}
	p := a.progress("asking the control plane at " + client.url)
	defer p.stop()
	answer, err := client.GetCluster(ctx, &clusterv1.GetClusterRequest{Organization: client.organization, Name: name})
	p.stop()
	if err != nil {
		return client.said(err, noSuchCluster)
	}
	result := newClusterResult(answer.Cluster)
	if caBundle {
		if result.CABundle == "" {
			return usererr.New(usererr.NotFound, "cluster %s is %s, and has not told its CA yet", name, result.State).
				WithHint("it does so when it joins: see 'biplane cluster show %s'", name)
		}
		bundle, err := onlyCertificates(result.CABundle)
		if err != nil {
			return usererr.New(usererr.Invalid, "what cluster %s told as its CA is no certificate", name).
				WithHint("see whether it is the cluster that it should be, and its operator's log").Because(err)
		}
		_, err = a.Out.Write(bundle)
		return err
	}
	return a.print(result, clusterText(result))
}

// onlyCertificates is a bundle without what is none: it is the data plane's word,
// and goes into a file by which clients trust.
func onlyCertificates(bundle string) ([]byte, error) {
	var only []byte
	for rest := []byte(bundle); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, err
		}
		only = append(only, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: block.Bytes})...)
	}
	if len(only) == 0 {
		return nil, errors.New("no block of PEM")
	}
	return only, nil
}

// noSuchCluster is the hint of every command about one cluster.
var noSuchCluster = map[connect.Code]string{connect.CodeNotFound: "'biplane cluster list' shows those there are"}

// clusterText prints a cluster for people.
func clusterText(c clusterResult) func(io.Writer) {
	return func(w io.Writer) {
		fmt.Fprintf(w, "Cluster %s is %s.\n\n", c.Name, c.State)
		fmt.Fprintf(w, "VERSION\t%s\n", cmp.Or(oneLine(c.Version), "-"))
		fmt.Fprintf(w, "REGISTERED\t%s\n", ago(c.CreatedAt))
		fmt.Fprintf(w, "JOINED\t%s\n", ago(c.JoinedAt))
		fmt.Fprintf(w, "HEARTBEAT\t%s, round trip %s\n", ago(c.LastHeartbeat), rough(time.Duration(c.RoundTripSeconds*float64(time.Second))))
		fmt.Fprintf(w, "NOT ACKNOWLEDGED\t%d", c.PendingHandovers)
		if c.PendingHandovers > 0 {
			fmt.Fprintf(w, ", the oldest for %s", rough(time.Duration(c.LagSeconds*float64(time.Second))))
		}
		fmt.Fprintln(w)
		if capacity := c.Capacity; capacity != nil {
			fmt.Fprintf(w, "CAPACITY\t%d nodes, %.1f CPUs, %.1f GiB, %d pods\n",
				capacity.Nodes, float64(capacity.MilliCPU)/1000, float64(capacity.MemoryBytes)/(1<<30), capacity.Pods)
		}
		if c.ProxyEndpoint != "" {
			fmt.Fprintf(w, "PROXY\t%s\n", c.ProxyEndpoint)
		}
		if c.CertificateExpiresAt != nil {
			fmt.Fprintf(w, "CERTIFICATE\tuntil %s\n", c.CertificateExpiresAt.Format(time.RFC3339))
		}
		if len(c.Parts) == 0 {
			return
		}
		fmt.Fprint(w, "\nPART\tREADY\tVERSION\tMESSAGE\n")
		for _, part := range c.Parts {
			ready := "no"
			if part.Ready {
				ready = "yes"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", oneLine(part.Name), ready, cmp.Or(oneLine(part.Version), "-"), oneLine(part.Message))
		}
	}
}
