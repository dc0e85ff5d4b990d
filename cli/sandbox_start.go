package cli

import (
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
)

func (a *app) sandboxStart() *cobra.Command {
	return &cobra.Command{
		Use:   "start COMPONENT",
		Short: "Start a component that was stopped, and wait until it is ready",
		Long: `Start a component that 'biplane sandbox stop' stopped, and wait until it is
ready. One that runs is left alone.`,
		Example: `  biplane sandbox start s3`,
		Args:    oneComponent,
		ValidArgsFunction: a.completeComponents(func(c sandbox.Component) bool {
			return c.State == sandbox.ComponentHeld
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.hold(cmd.Context(), args[0], "starting", (*sandbox.Client).StartComponent)
		},
	}
}
