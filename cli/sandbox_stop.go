package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
)

func (a *app) sandboxStop() *cobra.Command {
	return &cobra.Command{
		Use:   "stop COMPONENT",
		Short: "Stop a component and keep it stopped, to see what happens without it",
		Long: `Stop a component and keep it stopped, to see what happens without it. It is not
started again until 'biplane sandbox start', or 'up', says so. What it keeps
stays: stopping etcd or s3 loses nothing. Pods of a stopped node end.`,
		Example: `  # How do programs take it when S3 is away?
  biplane sandbox stop s3
  biplane sandbox start s3`,
		Args: oneComponent,
		ValidArgsFunction: a.completeComponents(func(c sandbox.Component) bool {
			return c.State != sandbox.ComponentHeld
		}),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.hold(cmd.Context(), args[0], "stopping", (*sandbox.Client).StopComponent)
		},
	}
}

// hold stops or starts one component, waits until it is, and prints it.
func (a *app) hold(ctx context.Context, name, doing string, do func(*sandbox.Client, context.Context, string) error) error {
	folder, err := a.folder()
	if err != nil {
		return err
	}
	status, err := a.running(ctx, folder)
	if err != nil {
		return err
	}
	if _, err := component(status, name); err != nil {
		return err
	}
	p := a.progress(doing + " " + name)
	defer p.stop()
	client := sandbox.Dial(folder)
	if err := do(client, ctx, name); err != nil {
		return err
	}
	if status, err = client.Status(ctx); err != nil {
		return err
	}
	c, err := component(status, name)
	if err != nil {
		return err
	}
	p.stop()
	return a.print(c, func(w io.Writer) { fmt.Fprintf(w, "%s is %s\n", c.Name, c.State) })
}
