package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/plane"
)

func (a *app) networkCheck() *cobra.Command {
	var request network.Request
	cmd := &cobra.Command{
		Use:   "check --vpc ID",
		Short: "Check whether a network can hold a data plane",
		Long: `Check whether a network that is there can hold a data plane: 28 checks in one
pass, each of every subnet, gateway, route table and endpoint that it is about.

Each row says pass, fail, cannot tell (and which permission is missing) or not
applicable; what failed comes with a remedy. Nothing is changed. Subnets that are
not given are sorted by their tags for load balancers, or else by their routes.

Exit status: 0 no error failed, though warnings may have; 1 one did; 2 could not run.`,
		Example: `  biplane network check --vpc vpc-8580ec61d96caf837 --region eu-central-1
  biplane network check --vpc vpc-8580ec61d96caf837 \
    --public-subnets subnet-d7d3ce57d1a546401,subnet-0c1d2e3f40516273a \
    --private-subnets subnet-bc2eafd5c11180be0,subnet-0f1e2d3c4b5a69788 --private-endpoint --output json`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "vpc", request.VPC, "vpc-8580ec61d96caf837"); err != nil {
				return err
			}
			if err := request.Valid(); err != nil {
				return err
			}
			return a.checkNetwork(cmd.Context(), request)
		},
	}
	a.aws.add(cmd)
	flags := cmd.Flags()
	flags.StringVar(&request.VPC, "vpc", "", "`ID` of the network")
	flags.StringSliceVar(&request.PublicSubnets, "public-subnets", nil, "`IDS` of its public subnets, separated by commas")
	flags.StringSliceVar(&request.PrivateSubnets, "private-subnets", nil, "`IDS` of its private subnets, separated by commas")
	flags.BoolVar(&request.PrivateEndpoint, "private-endpoint", false, "also what a private cluster endpoint needs")
	return cmd
}

func (a *app) checkNetwork(ctx context.Context, request network.Request) error {
	cfg, err := a.awsConfig(ctx)
	if err != nil {
		return err
	}
	request.Region = cfg.Region
	p := a.progress("looking at " + request.VPC)
	defer p.stop()
	report, err := network.Check(ctx, plane.NewClients(cfg), request)
	if err != nil {
		return err
	}
	p.stop()

	err = a.print(report, func(w io.Writer) {
		counts := map[network.Status]int{}
		fmt.Fprintf(w, "#\tRESULT\tSEVERITY\tRESOURCE\tZONE\tWHY\n")
		for _, f := range report.Checks {
			counts[f.Status]++
			fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%s\t%s\n", f.ID, strings.ReplaceAll(string(f.Status), "-", " "), f.Severity, f.Resource, cmp.Or(f.Zone, "-"), oneLine(f.Name+": "+f.Message))
		}
		fmt.Fprintf(w, "\n%d pass, %d fail, %d cannot tell, %d not applicable\n", counts[network.Pass], counts[network.Fail], counts[network.CannotTell], counts[network.NotApplicable])
		for _, severity := range []network.Severity{network.Error, network.Warning} {
			for _, f := range report.With(network.Fail, severity) {
				fmt.Fprintf(w, "\n%s %d, %s: %s\n  %s\n", severity, f.ID, f.Resource, oneLine(f.Message), oneLine(f.Remedy))
			}
		}
	})
	if err == nil && len(report.With(network.Fail, network.Error)) > 0 {
		return errFound
	}
	return err
}
