package cli

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/buildinfo"
)

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print which build this is",
		Example: `  biplane version

  # Only the version, for a script
  biplane version --output json | jq -r .version`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			info := buildinfo.Read()
			return a.print(info, func(w io.Writer) {
				fmt.Fprintf(w, "biplane %s (commit %s of %s, %s, %s)\n", info.Version, info.Commit, info.Date, info.Go, info.Platform)
			})
		},
	}
}
