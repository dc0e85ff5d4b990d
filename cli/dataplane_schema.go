package cli

import (
	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/spec"
)

func (a *app) dataplaneSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of a data plane's file",
		Long: `Print the JSON schema (draft 2020-12) of a data plane's file, for editors and for
programs that write one. What depends on several keys at once, such as ranges that
overlap, is refused by the commands and not by the schema.`,
		Example: `  biplane dataplane schema >dataplane.schema.json
  # and as the first line of dataplane.yaml, for editors:
  # yaml-language-server: $schema=dataplane.schema.json`,
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			_, err := a.Out.Write(spec.Schema())
			return err
		},
	}
}
