package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

func (a *app) dataplaneCheck() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check FILE",
		Short: "Find what differs from the file, and what does not work",
		Long: `Look at everything of a data plane again: what differs from its file, field by
field, what does not work or is not ready, and what is reached: the ways through its
network, the API server from this machine, the chain of the private endpoint. What
differs of the access roles from what this version needs is drift of the step access.

It assumes the observe role, and changes nothing. 'biplane dataplane apply' puts
right what can be.

Exit status: 0 all is as the file says and works; 1 something is not; 2 it could not run.`,
		Example: `  biplane dataplane check dataplane.yaml
  biplane dataplane check dataplane.yaml --output json`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			p := a.progress("looking at everything")
			defer p.stop()
			o, err := a.open(cmd.Context(), args[0], operations.Observe)
			if err != nil {
				p.stop()
				return a.couldNot(err)
			}
			plan, err := o.runner.Plan(cmd.Context(), step.Present)
			if err != nil {
				p.stop()
				return a.couldNot(o.sentence(err))
			}
			report, err := dataplane.Check(cmd.Context(), o.Plane, o.steps, plan)
			if err == nil {
				err = report.AddReach(cmd.Context(), o.Plane)
			}
			p.stop()
			if err != nil {
				return a.couldNot(o.sentence(err))
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
	a.throughFlag(cmd)
	return cmd
}

func checkText(w io.Writer, report dataplane.Report) {
	if len(report.Drift) > 0 {
		fmt.Fprintln(w, "STEP\tFIELD\tWANTED\tIS")
		for _, d := range report.Drift {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", d.Step, d.Field, d.Want, d.Got)
		}
		fmt.Fprintln(w)
	}
	bad := 0
	for _, h := range report.Health {
		if h.Status != dataplane.OK {
			bad++
			fmt.Fprintf(w, "%s\t%s\t%s\n", h.Status, h.Step, h.Message)
		}
	}
	fmt.Fprintf(w, "%d drifted, %d of %d not ok\n", len(report.Drift), bad, len(report.Health))
}
