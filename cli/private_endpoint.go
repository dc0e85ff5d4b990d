package cli

import (
	"context"
	"regexp"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// privateEndpoint groups what is done to the private endpoint of a data plane that is
// there: the way of the vendor's network to an API server without a public address.
func (a *app) privateEndpoint() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "private-endpoint",
		Short: "Lead the vendor's network to a private cluster, and nobody else",
		Long: `Make the private endpoint of a data plane, look after it, and remove it: the way on
which the vendor's network reaches a Kubernetes API server without a public address,
by PrivateLink, a network load balancer and tasks that pass TLS through
(biplane-jumper). docs/private-endpoint.md says what is made and who may connect.

It is what the file has under spec.privateEndpoint, which 'biplane dataplane apply'
and 'remove' make and remove too; these commands change nothing else of a data plane.`,
		Example: `  biplane private-endpoint plan dataplane.yaml
  biplane private-endpoint apply dataplane.yaml
  biplane private-endpoint check dataplane.yaml --dial 127.0.0.1:8443`,
	}
	for _, inAWS := range []*cobra.Command{
		a.privateEndpointPlan(),   // what is there, and what would be made
		a.privateEndpointApply(),  // make it, and let the vendor's endpoint in
		a.privateEndpointCheck(),  // what differs, who is connected, whether the API server answers
		a.privateEndpointRemove(), // take it away
	} {
		a.aws.addProfile(inAWS)
		inAWS.Flags().StringVar(&a.vendorProfile, "vendor-profile", "", "YAML `FILE` with the vendor's names (default: the built-in one)")
		cmd.AddCommand(inAWS)
	}
	return cmd
}

func (a *app) privateEndpointPlan() *cobra.Command {
	return &cobra.Command{
		Use:   "plan FILE",
		Short: "Show what of it is there and what would be made or changed",
		Long: `Show what of the private endpoint is there, and what apply would make or change,
step by step, with calls, grants, cost and time, as 'biplane dataplane plan' does.

It assumes the observe role, looks at the vendor's side with the vendor's own
credentials, and changes nothing.

Exit status: 0 nothing to do; 1 there are changes; 2 it could not run.`,
		Example: `  biplane private-endpoint plan dataplane.yaml
  biplane private-endpoint plan dataplane.yaml --output json`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showPlan(cmd.Context(), func(ctx context.Context) (*opened, error) {
				return a.openPrivate(ctx, args[0], operations.Observe, nil)
			})
		},
	}
}

func (a *app) privateEndpointApply() *cobra.Command {
	var f applyFlags
	var accept []string
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make the private endpoint be as the file says",
		Long: `Make the private endpoint be as the file says: look, show the plan, ask, and do it.
The data plane's network and cluster must be there.

The customer's side is made by the provision role, the vendor's with the vendor's own
credentials, where the file has spec.privateEndpoint.vendor. Only that endpoint is let
in, by its id and its account, and those that --accept names; every other one is
turned away. After a kill or Ctrl-C, the same command goes on from what is there.

Exit status: 0 it is as the file says; 1 refused; 2 it could not run or failed.`,
		Example: `  biplane private-endpoint apply dataplane.yaml
  biplane private-endpoint apply dataplane.yaml --accept vpce-0123456789abcdef0`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkAccept(accept); err != nil {
				return err
			}
			return a.carryOutPlane(cmd.Context(), args[0], undertaking{as: operations.Provision, goal: step.Present, done: "reachable by its private endpoint",
				steps: func(_ context.Context, o *opened) ([]step.Step, error) {
					return privateSteps(o, step.Present, accept)
				}}, f)
		},
	}
	f.add(cmd)
	cmd.Flags().StringSliceVar(&accept, "accept", nil, "endpoint `ID`s of the vendor's account that somebody else made, to be let in")
	return cmd
}

func (a *app) privateEndpointRemove() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "remove FILE",
		Short: "Remove the private endpoint, the vendor's side first",
		Long: `Remove the private endpoint: the vendor's side, who is connected, the endpoint
service, the listener and the tasks, the load balancer, the groups. The VPC endpoints
of the network stay, and the two roles, which the customer made.

It assumes the teardown role, which is there only where the access was granted
with --delete-permissions.

Exit status: 0 nothing is left to remove; 1 refused; 2 it could not run or failed.`,
		Example: `  biplane private-endpoint remove dataplane.yaml`,
		Args:    oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.carryOutPlane(cmd.Context(), args[0], undertaking{as: operations.Teardown, goal: step.Absent, done: "without a private endpoint",
				steps: func(_ context.Context, o *opened) ([]step.Step, error) {
					return privateSteps(o, step.Absent, nil)
				}}, f)
		},
	}
	f.add(cmd)
	return cmd
}

// endpointID is the id of a VPC endpoint.
var endpointID = regexp.MustCompile(`^vpce-[0-9a-f]{8,17}$`)

func checkAccept(ids []string) error {
	for _, id := range ids {
		if !endpointID.MatchString(id) {
			return usererr.New(usererr.Invalid, "--accept: %q is not the id of a VPC endpoint", id).WithHint("write ids as vpce-0123456789abcdef0, which 'biplane private-endpoint check FILE' lists")
		}
	}
	return nil
}

// privateSteps are the steps of the private endpoint. One that the file no longer asks for
// can still be removed.
func privateSteps(o *opened, goal step.Goal, accept []string) ([]step.Step, error) {
	if goal == step.Present {
		if err := wantsPrivate(o.Spec, o.Name); err != nil {
			return nil, err
		}
	}
	o.Spec.PrivateEndpoint.Enabled = true
	return dataplane.PrivateEndpoint(o.Plane, goal, accept)
}

// wantsPrivate refuses a file that asks for no private endpoint.
func wantsPrivate(s spec.Spec, name string) error {
	if s.PrivateEndpoint.Enabled {
		return nil
	}
	return usererr.New(usererr.Invalid, "spec.privateEndpoint.enabled is false: data plane %s has no private endpoint", name).
		WithHint("write privateEndpoint: {enabled: true} into the file")
}

// openPrivate is open with the steps of a private endpoint that is wanted.
func (a *app) openPrivate(ctx context.Context, file string, as operations.Roles, accept []string) (*opened, error) {
	f, err := a.readPlane(file)
	if err != nil {
		return nil, err
	}
	if err := wantsPrivate(f.file.Spec, f.file.Metadata.Name); err != nil {
		return nil, err
	}
	o, err := a.openFile(ctx, f, as)
	if err != nil {
		return nil, err
	}
	if o.steps, err = privateSteps(o, step.Present, accept); err != nil {
		return nil, err
	}
	o.runner.Steps = o.steps
	return o, nil
}
