package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"biplane.dev/biplane/internal/sandbox"
)

// Command is the program supervise. `biplane sandbox up` writes its command
// line, see Supervisor.Args in biplane.dev/biplane/internal/sandbox.
func Command() *cobra.Command {
	var (
		dir, node            string
		auditLog, fixedPorts bool
		report               int
		o                    = Options{Now: time.Now}
	)
	cmd := &cobra.Command{
		Use:           "supervise",
		Short:         "starts and watches the components of a sandbox",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			absolute, err := filepath.Abs(dir)
			if err != nil || dir == "" {
				return fmt.Errorf("--dir %q names no folder: %w", dir, err)
			}
			o.Folder = sandbox.Folder(absolute)
			o.Asked.Node = sandbox.NodeKind(node)
			if cmd.Flags().Changed("audit-log") {
				o.Asked.AuditLog = &auditLog
			}
			if cmd.Flags().Changed("fixed-ports") {
				o.Asked.FixedPorts = &fixedPorts
			}
			// The path by which this process was started may hold another version
			// by the time a component is started again.
			o.Program = "/proc/self/exe"
			o.Env = os.Environ()
			o.Answers = reporter(report)
			if o.Foreground {
				if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
					return fmt.Errorf("asking to end with the parent: %w", err)
				}
			}
			return Run(context.Background(), o)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&dir, "dir", "", "the sandbox's folder")
	flags.StringVar(&node, "node", "", "kind of node: process, kubelet or kwok")
	flags.IntVar(&o.Asked.Nodes, "nodes", 0, "how many nodes")
	flags.StringVar(&o.Asked.Python, "python", "", "Python environment of Flyte's images")
	flags.StringSliceVar(&o.Asked.Only, "only", nil, "what to start")
	flags.BoolVar(&auditLog, "audit-log", false, "log every request to the API server")
	flags.BoolVar(&fixedPorts, "fixed-ports", false, "refuse to start when a kept port is taken")
	flags.StringVar(&o.VirtualEnv, "virtual-env", "", "Python environment that is active")
	flags.BoolVar(&o.Fresh, "fresh", false, "delete what the sandbox holds")
	flags.BoolVar(&o.Foreground, "foreground", false, "end when the parent does")
	flags.IntVar(&report, "report-fd", 2, "file descriptor to say on that the socket answers, or why not, as a Refusal")
	return cmd
}

// reporter tells who started the supervisor, once, and closes the line.
func reporter(fd int) func(error) {
	file := os.NewFile(uintptr(fd), "report")
	if fd > 2 {
		syscall.CloseOnExec(fd) // a component would keep it open
	}
	return func(err error) {
		var refusal sandbox.Refusal
		if err != nil {
			refusal = sandbox.RefusalOf(err)
		}
		json.NewEncoder(file).Encode(refusal)
		if fd > 2 {
			file.Close()
		}
	}
}
