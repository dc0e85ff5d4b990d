package cli

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/plane"
)

func (a *app) dataplaneExport() *cobra.Command {
	format := choice{value: "cloudformation", allowed: []string{"cloudformation"}}
	cmd := &cobra.Command{
		Use:   "export FILE",
		Short: "Print the data plane as a CloudFormation template",
		Long: `Print a data plane as a CloudFormation template, for those who must deploy by a
pipeline of their own. It is made of the same steps as apply, with their names and
tags. What CloudFormation does not do is said on stderr. Nothing is asked of AWS.

It is JSON, or YAML with --output yaml. Where the file names no zones, the stack is
given them as its parameter Zones.`,
		Example: `  biplane dataplane export dataplane.yaml >template.json
  aws cloudformation deploy --template-file template.json --stack-name demo --capabilities CAPABILITY_NAMED_IAM \
    --parameter-overrides Zones=eu-central-1a,eu-central-1b,eu-central-1c`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := a.readPlane(args[0])
			if err != nil {
				return err
			}
			p, err := plane.New(f.file, f.vendor, f.clock)
			if err != nil {
				return err
			}
			exported, err := dataplane.Export(p)
			if err != nil {
				return err
			}
			for _, name := range slices.Sorted(maps.Keys(exported.Left)) {
				fmt.Fprintf(a.Err, "note: %s is not in the template: %s\n", name, exported.Left[name])
			}
			text, err := marshalJSON(exported.Template)
			if err != nil {
				return err
			}
			if a.output.value == "yaml" {
				if text, err = jsonToYAML(text); err != nil {
					return err
				}
			}
			_, err = a.Out.Write(text)
			return err
		},
	}
	cmd.Flags().Var(&format, "format", "what it is printed as")
	complete(cmd, "format", func() []string { return format.allowed })
	return cmd
}
