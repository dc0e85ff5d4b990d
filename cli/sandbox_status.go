package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/sandbox"
)

func (a *app) sandboxStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Say what of the sandbox runs, where it listens, and how it is",
		Long: `Say what of the sandbox runs, where it listens, and how it is: absent, stopped,
starting, ready, or degraded, when something that was ready no longer is.

A component is starting, ready, failing (it died and is started again after a
pause), held (by 'biplane sandbox stop') or stopped. Its memory is its share:
what several processes have in common counts once.

Exit status: 0 it is up; 1 it is absent or stopped; 2 could not tell.`,
		Example: `  biplane sandbox status

  # Where is S3?
  biplane sandbox status --output json | jq -r .s3.endpoint

  # In a script
  biplane sandbox status >/dev/null || biplane sandbox up`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folder, err := a.folder()
			if err != nil {
				return err
			}
			status, err := sandbox.Read(cmd.Context(), folder)
			if err != nil {
				return err
			}
			if err := a.print(status, statusText(status)); err != nil {
				return err
			}
			if status.State == sandbox.Absent || status.State == sandbox.Stopped {
				return errFound
			}
			return nil
		},
	}
}

// statusText prints a status for people.
func statusText(status sandbox.Status) func(io.Writer) {
	return func(w io.Writer) {
		fmt.Fprintf(w, "Sandbox %s is %s.\n", status.Name, status.State)
		if status.State == sandbox.Absent {
			return
		}
		fmt.Fprintf(w, "\nFOLDER\t%s\n", status.Dir)
		addresses(w, status)
		if len(status.Components) == 0 {
			return
		}
		fmt.Fprint(w, "\nCOMPONENT\tSTATE\tPID\tRESTARTS\tMEMORY\tADDRESS\n")
		for _, c := range status.Components {
			pid, memory, address := "-", "-", "-"
			if c.PID != 0 {
				pid = fmt.Sprint(c.PID)
			}
			if c.MemoryBytes != 0 {
				memory = fmt.Sprintf("%d MiB", (c.MemoryBytes+1<<19)>>20)
			}
			if c.Address != "" {
				address = c.Address
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\n", c.Name, c.State, pid, c.Restarts, memory, address)
		}
	}
}

// addresses prints where a sandbox is reached, and by which names.
func addresses(w io.Writer, status sandbox.Status) {
	if k := status.Kubernetes; k != nil {
		fmt.Fprintf(w, "KUBERNETES\t%s\t%s\n", k.Server, k.Version)
	}
	if s3 := status.S3; s3 != nil {
		fmt.Fprintf(w, "S3\t%s\t%s\n", s3.Endpoint, s3.Region)
	}
	if status.STS != nil {
		fmt.Fprintf(w, "STS\t%s\n", status.STS.Endpoint)
	}
	if status.IAM != nil {
		fmt.Fprintf(w, "IAM\t%s\n", status.IAM.Endpoint)
	}
	if b := status.Buckets; b != nil {
		fmt.Fprintf(w, "BUCKETS\t%s\tmetadata\n\t%s\tfast registration\n", b.Metadata, b.FastRegistration)
	}
	if n := status.Node; n != nil {
		fmt.Fprintf(w, "NODES\t%s\t%s\n", strings.Join(n.Names, ", "), n.Kind)
	}
	if c := status.ControlPlane; c != nil {
		fmt.Fprintf(w, "CONTROL PLANE\t%s\t%s\n", c.Endpoint, c.Database)
	}
	if d := status.DataPlane; d != nil {
		fmt.Fprintf(w, "DATA PLANE\t%s\t%s, in namespace %s\n", d.ProxyEndpoint, d.Cluster, d.Namespace)
	}
}
