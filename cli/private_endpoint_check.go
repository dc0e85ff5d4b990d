package cli

import (
	"io"
	"net"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/endpoint"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

func (a *app) privateEndpointCheck() *cobra.Command {
	var dial string
	var accept []string
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Find what differs, who is connected, and whether the API server answers",
		Long: `Look at everything of the private endpoint again: what differs from the file, which
jumpers answer, who is connected, and whether the Kubernetes API server answers through
all of it: a TLS handshake with its own name and CA, and /readyz.

That is tried at the vendor's endpoint, which only a machine in the vendor's network
reaches; from elsewhere it is unknown, unless --dial names an address that leads there,
such as a forwarded port.

It assumes the observe role, and changes nothing.

Exit status: 0 all is as the file says and works; 1 something is not; 2 it could not run.`,
		Example: `  biplane private-endpoint check dataplane.yaml
  biplane private-endpoint check dataplane.yaml --dial 127.0.0.1:8443 --output json`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkAccept(accept); err != nil {
				return err
			}
			if dial != "" {
				if host, port, err := net.SplitHostPort(dial); err != nil || host == "" || port == "" {
					return usererr.New(usererr.Invalid, "--dial: %q is not HOST:PORT", dial).WithHint("write it as 127.0.0.1:8443")
				}
			}
			p := a.progress("looking at everything")
			defer p.stop()
			o, err := a.openPrivate(cmd.Context(), args[0], operations.Observe, accept)
			if err != nil {
				return err
			}
			plan, err := o.runner.Plan(cmd.Context(), step.Present)
			if err != nil {
				return o.sentence(err)
			}
			report, err := dataplane.Check(cmd.Context(), o.Plane, o.steps, plan)
			if err != nil {
				return o.sentence(err)
			}
			findings, err := endpoint.Health(cmd.Context(), o.Plane, accept, dial)
			p.stop()
			if err != nil {
				return o.sentence(err)
			}
			for _, f := range findings {
				report.Health = append(report.Health, dataplane.Health{Step: f.Of, Status: f.Status, Message: f.Message})
			}
			if err := a.print(report, func(w io.Writer) { checkText(w, report) }); err != nil {
				return err
			}
			if len(report.Drift) > 0 || !report.Healthy() {
				return errFound
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&dial, "dial", "", "`HOST:PORT` where the API server is tried, instead of the vendor's endpoint")
	cmd.Flags().StringSliceVar(&accept, "accept", nil, "endpoint `ID`s of the vendor's account that somebody else made and that are let in")
	return cmd
}
