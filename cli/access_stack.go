package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/stack"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// The ways in which access is granted.
const (
	byIAM   = "iam"            // the roles are made one by one
	byStack = "cloudformation" // a stack holds them
)

// addMethod gives cmd the flag --method.
func (f *runFlags) addMethod(cmd *cobra.Command, otherwise, usage string) {
	f.method = choice{value: otherwise, allowed: []string{byIAM, byStack}}
	cmd.Flags().Var(&f.method, "method", usage)
	complete(cmd, "method", func() []string { return f.method.allowed })
}

// stackPlace is the customer's account with what a stack in region is made by.
func (c customer) stackPlace(region string, v *vendor.Profile) stack.Place {
	cfg := c.config.Copy()
	cfg.Region = region
	return stack.Place{
		CloudFormation: cloudformation.NewFromConfig(cfg), IAM: c.iam, S3: s3Client(cfg),
		Partition: c.partition, Account: c.account, Region: region, Vendor: v,
	}
}

// s3Client reaches a double, which has no names of hosts for buckets, too.
func s3Client(cfg aws.Config) *s3.Client {
	return s3.NewFromConfig(cfg, func(o *s3.Options) { o.UsePathStyle = cfg.BaseEndpoint != nil })
}

// grantSteps are the steps that grant set in the way that is asked for.
func (a *app) grantSteps(ctx context.Context, c customer, o access.Options, set *access.Set, run runFlags) ([]step.Step, error) {
	if run.method.value == byIAM {
		if err := refuseStacks(ctx, c, o.Vendor); err != nil {
			return nil, err
		}
		return access.GrantSteps(c.iam, set, o.Vendor), nil
	}
	made, err := template.New(o)
	if err != nil {
		return nil, err
	}
	wanted := stack.Wanted{
		Name: o.Vendor.StackName, Set: set, Template: made.Bytes(template.JSON), TemplateURL: run.templateURL, Parameters: template.Parameters(o),
	}
	if run.announceURL != "" { // without, a stack that has one keeps it
		wanted.Parameters[template.AnnounceURLParameter] = run.announceURL
	}
	if run.templateURL != "" {
		client := func(region string) stack.S3 {
			cfg := c.config.Copy()
			cfg.Region = region
			return s3Client(cfg)
		}
		if wanted.Template, err = stack.Fetch(ctx, client, run.templateURL, wanted.Template, made.Bytes(template.YAML)); err != nil {
			return nil, err
		}
	}
	return stack.GrantSteps(ctx, c.stackPlace(c.region, o.Vendor), wanted)
}

// announced says what came of the stack's announcement. One that failed is no error: the
// role is as good without.
func (a *app) announced(ctx context.Context, c customer, v *vendor.Profile) (string, error) {
	there, err := stack.Read(ctx, c.stackPlace(c.region, v).CloudFormation, v, v.StackName)
	if err != nil || there == nil {
		return "", err
	}
	said := there.Outputs[template.AnnouncedOutput]
	switch {
	case !strings.HasPrefix(said, "200 "):
		fmt.Fprintf(a.Err, "note: the stack could not tell the vendor its role (%s): give the vendor the ARN yourself\n", oneLine(said))
	case !a.quiet:
		fmt.Fprintf(a.Err, "The stack has told the vendor its role (%s).\n", oneLine(said))
	}
	return said, nil
}

// refuseStacks refuses to grant by IAM what a stack holds: whatever was changed beside it,
// the stack would not know.
func refuseStacks(ctx context.Context, c customer, v *vendor.Profile) error {
	made, err := access.MadeBy(ctx, c.iam, v)
	if err != nil || len(made) == 0 {
		return err
	}
	return usererr.New(usererr.Refused, "the access was granted by the stack %s in %s, and --method is %s; nothing was changed", made[0].Name, made[0].Region, byIAM).
		WithHint("give --method %s; or run 'biplane access revoke', then grant again", byStack)
}

// removals are the steps that remove the stacks of a grant, and what these hold.
func (a *app) removals(ctx context.Context, c customer, v *vendor.Profile) (steps []step.Step, held []string, err error) {
	refs, err := access.MadeBy(ctx, c.iam, v)
	if err != nil {
		return nil, nil, err
	}
	// One that has no role, yet or any more, is where it would be made.
	guess := access.StackRef{Name: v.StackName, Region: c.region}
	guessed := !slices.Contains(refs, guess)
	if guessed {
		refs = append(refs, guess)
	}
	for _, ref := range refs {
		place := c.stackPlace(ref.Region, v)
		there, err := stack.Read(ctx, place.CloudFormation, v, ref.Name)
		if guessed && ref == guess && fault.Denied(err) {
			continue // nothing says that there is a stack, and who grants by IAM need not know of any
		}
		if err != nil {
			return nil, nil, err
		}
		if there == nil {
			continue // its roles outlived it
		}
		steps = append(steps, stack.Removal(place, ref.Name))
		if !there.Ours {
			continue
		}
		holds, err := stack.ReadHolds(ctx, place.CloudFormation, there)
		if err != nil {
			return nil, nil, err
		}
		held = append(held, holds.Names()...)
	}
	return steps, held, nil
}

// checkMethod refuses to revoke in another way than was granted.
func (f *runFlags) checkMethod(plan step.Plan, stacks []step.Step) error {
	byStacks := map[string]bool{}
	for _, s := range stacks {
		byStacks[s.Name()] = true
	}
	for _, s := range plan.With(step.Remove) {
		switch {
		case byStacks[s.Name] && f.method.value == byIAM:
			return usererr.New(usererr.Refused, "the access was granted by the %s, and --method is %s; nothing was changed", s.Name, byIAM).
				WithHint("leave --method out: it is revoked as it was granted")
		case !byStacks[s.Name] && f.method.value == byStack && len(stacks) == 0:
			return usererr.New(usererr.Refused, "%s was granted by --method %s, and --method is %s; nothing was changed", s.Name, byIAM, byStack).
				WithHint("leave --method out: it is revoked as it was granted")
		}
	}
	return nil
}
