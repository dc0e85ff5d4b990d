package cli

import "github.com/spf13/cobra"

// awsFlags choose the AWS account and region that a command speaks to. What
// they leave out comes from the SDK's own chain: environment, shared files,
// single sign-on, instance roles.
type awsFlags struct {
	profile string
	region  string
}

func (f *awsFlags) add(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVar(&f.profile, "profile", "", "`NAME` of a profile in the AWS configuration files (default: AWS_PROFILE)")
	flags.StringVar(&f.region, "region", "", "AWS `REGION` (default: AWS_REGION, or the profile's)")
}
