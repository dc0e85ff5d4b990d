package cli

import (
	"context"
	"regexp"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// setFlags choose one set of documents. Several commands have them.
type setFlags struct {
	policy            choice
	account           string
	privateEndpoint   bool
	deletePermissions bool
	externalID        string
}

// add gives cmd the flags that every such command has. --account and
// --external-id are added apart: who calls AWS is told the account by it.
func (f *setFlags) add(cmd *cobra.Command) {
	f.policy = choice{value: string(access.Strict), allowed: []string{string(access.Strict), string(access.Compat), string(access.Seed)}}
	cmd.Flags().Var(&f.policy, "policy", "which set of documents: strict is generated from the calls that are made, compat is what the published grants can match, seed is as published")
	cmd.Flags().BoolVar(&f.privateEndpoint, "private-endpoint", false, "also what a private cluster endpoint needs")
	cmd.Flags().BoolVar(&f.deletePermissions, "delete-permissions", false, "also the right to remove data planes (strict only)")
	complete(cmd, "policy", func() []string { return f.policy.allowed })
}

func (f *setFlags) addAccount(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.account, "account", "", "the customer's AWS account, twelve `DIGITS`")
}

func (f *setFlags) addExternalID(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&f.externalID, "external-id", "", usage)
}

// options reads the vendor profile and the region; --account and --region must
// be known by then.
func (f *setFlags) options(ctx context.Context, a *app, cmd *cobra.Command) (access.Options, error) {
	if err := required(cmd, "account", f.account, "123456789012"); err != nil {
		return access.Options{}, err
	}
	region, err := a.region(ctx)
	if err != nil {
		return access.Options{}, err
	}
	if err := required(cmd, "region", region, "eu-central-1"); err != nil {
		return access.Options{}, err
	}
	if err := checkRegion(region); err != nil {
		return access.Options{}, err
	}
	names, err := a.vendor()
	if err != nil {
		return access.Options{}, err
	}
	return f.of(f.account, region, names), nil
}

// of are the options of these flags for one account and region.
func (f *setFlags) of(account, region string, names *vendor.Profile) access.Options {
	return access.Options{
		Profile: access.ProfileName(f.policy.value), Account: account, Region: region, Vendor: names,
		ExternalID: f.externalID, PrivateEndpoint: f.privateEndpoint, DeletePermissions: f.deletePermissions,
	}
}

// checkAccount refuses what is not an account before a document is asked about it.
func checkAccount(account string) error {
	if accountForm.MatchString(account) {
		return nil
	}
	return usererr.New(usererr.Invalid, "--account %q is not an AWS account", account).
		WithHint("give the twelve digits that 'aws sts get-caller-identity' shows")
}

var accountForm = regexp.MustCompile(`^[0-9]{12}$`)

// vendor is the profile of --vendor-profile, or the one built in.
func (a *app) vendor() (*vendor.Profile, error) {
	if a.vendorProfile == "" {
		return vendor.Default(), nil
	}
	return vendor.Load(a.vendorProfile)
}

// roleNamed finds a role of set by its name, or by the part that follows the
// base name: "observe" is union-ai-admin-observe, "provision" is the base.
func roleNamed(set *access.Set, names *vendor.Profile, word string) (*access.Role, error) {
	full := word
	switch word {
	case "provision":
		full = names.RoleName
	case "operate", "observe", "teardown", "break-glass":
		full = names.RoleName + "-" + word
	case "ecs-execution", "ecs-task":
		full = names.EndpointPrefix + set.Region + "-" + word + "-role"
	}
	var there []string
	for i, role := range set.Roles {
		if role.Name == word || role.Name == full {
			return &set.Roles[i], nil
		}
		there = append(there, role.Name)
	}
	err := usererr.New(usererr.Invalid, "the policy %s has no role %q", set.Profile, word)
	switch {
	case set.Profile == access.Strict && full == names.RoleName+"-teardown":
		return nil, err.WithHint("give --delete-permissions too")
	case word == "ecs-execution" || word == "ecs-task":
		return nil, err.WithHint("give --private-endpoint too")
	}
	return nil, err.WithHint("it has %s", list(there))
}
