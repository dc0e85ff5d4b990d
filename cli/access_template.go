package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/template"
)

func (a *app) accessTemplate() *cobra.Command {
	var set setFlags
	format := choice{value: string(template.JSON), allowed: []string{string(template.JSON), string(template.YAML)}}
	cmd := &cobra.Command{
		Use:   "template",
		Short: "Print the CloudFormation template that grants the same by a stack",
		Long: `Print the CloudFormation template that grants the same by a stack: one for all
accounts, regions and partitions. A stack is told the external ID and, if it is to
have another, the name of the role; its region is that of the data plane.

On stdout are the template's bytes and nothing else, the same each time. Their
SHA-256 is on stderr, so that who gets the template can see that it is this one.
CloudFormation takes 51,200 bytes in a call; a larger one, as strict is, has to lie
in S3, and a line on stderr says so.`,
		Example: `  # What a stack would make
  biplane access template | less

  # Publish it, and give the customers the links
  biplane access template >access.json
  aws s3 cp access.json s3://BUCKET/access.json
  biplane access links --template-url https://BUCKET.s3.amazonaws.com/access.json

  # Small enough for a call: the published grants
  biplane access template --policy compat --format yaml >access.yaml
  aws cloudformation deploy --stack-name UnionCloudAccess --template-file access.yaml \
    --capabilities CAPABILITY_NAMED_IAM --parameter-overrides ExternalId="$ID"`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("output") {
				return usererr.New(usererr.Invalid, "--output is for results, and a template is printed as it is").
					WithHint("choose with --format json or yaml")
			}
			made, err := a.template(&set)
			if err != nil {
				return err
			}
			f := template.Format(format.value)
			if _, err := a.Out.Write(made.Bytes(f)); err != nil {
				return err
			}
			fmt.Fprintf(a.Err, "sha256 %s\n", made.SHA256(f))
			if size := made.Size(f); size > template.BodyLimit {
				fmt.Fprintf(a.Err, "warning: the template has %d bytes and a call of CloudFormation takes %d: put it into S3, and give its https address as --template-url\n", size, template.BodyLimit)
			}
			return nil
		},
	}
	set.add(cmd)
	cmd.Flags().Var(&format, "format", "how the template is written")
	complete(cmd, "format", func() []string { return format.allowed })
	return cmd
}

// template is the one that the flags choose.
func (a *app) template(f *setFlags) (*template.Template, error) {
	names, err := a.vendor()
	if err != nil {
		return nil, err
	}
	return template.New(access.Options{
		Profile: access.ProfileName(f.policy.value), Vendor: names,
		PrivateEndpoint: f.privateEndpoint, DeletePermissions: f.deletePermissions,
	})
}
