package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

func (a *app) sandboxDown() *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Stop the sandbox; with --purge delete it too",
		Long: `Stop the sandbox: every component, every pod. What it holds stays, and the next
up finds it again; pods that ran are then as after a restart of the machine.
With --purge its folder is deleted, too. A sandbox that is down already, or was
never there, is no error.`,
		Example: `  biplane sandbox down

  # And delete all it holds
  biplane sandbox down --purge`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.down(cmd.Context(), purge) },
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "delete what the sandbox holds: objects, Kubernetes' state, keys, logs")
	return cmd
}

// downResult is what down prints, as JSON.
type downResult struct {
	Name  string        `json:"name"`
	State sandbox.State `json:"state"` // stopped or absent
	Dir   string        `json:"dir"`
}

func (a *app) down(ctx context.Context, purge bool) error {
	folder, err := a.folder()
	if err != nil {
		return err
	}
	p := a.progress("stopping")
	defer p.stop()
	if err := stopAll(ctx, folder); err != nil {
		return err
	}
	if purge {
		p.now("deleting " + string(folder))
		if err := folder.Purge(); err != nil {
			return err
		}
	}
	status, err := sandbox.Read(ctx, folder)
	if err != nil {
		return err
	}
	p.stop()
	return a.print(downResult{status.Name, status.State, status.Dir}, func(w io.Writer) {
		fmt.Fprintf(w, "Sandbox %s is %s.\n", status.Name, status.State)
		if status.State == sandbox.Stopped {
			fmt.Fprintf(w, "What it holds is in %s; '%s' deletes it.\n", folder, a.command("down --purge"))
		}
	})
}

// stopAll takes a sandbox down. A supervisor that has only just been started
// has the lock and does not answer yet.
func stopAll(ctx context.Context, folder sandbox.Folder) error {
	for wait := time.After(10 * time.Second); ; {
		err := sandbox.Dial(folder).Down(ctx)
		if !errors.Is(err, sandbox.ErrNotUp) {
			return err
		}
		if _, err := os.Lstat(folder.LockFile()); err != nil {
			return nil // no supervisor was ever here
		}
		unlock, err := sandbox.Lock(folder)
		if err == nil {
			unlock()
			return nil
		}
		if !errors.Is(err, sandbox.ErrLocked) {
			return err
		}
		select {
		case <-wait:
			return usererr.New(usererr.Unavailable, "the supervisor of sandbox %s does not answer", folder.Name()).
				WithHint("look for a process called '%s supervise' and end it", sandbox.Program)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}
