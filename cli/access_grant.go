package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/resourcegroupstaggingapi"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/history"
	"biplane.dev/biplane/provision/access/stack"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

func (a *app) accessGrant() *cobra.Command {
	var f struct {
		set setFlags
		run runFlags
	}
	cmd := &cobra.Command{
		Use:   "grant --method iam|cloudformation --external-id ID",
		Short: "Create the roles that let the vendor in",
		Long: `Create the roles that let the vendor in, with the customer's own credentials.

It looks first, shows what it would do, and asks. What is there already and is
as wanted is adopted; what differs is refused with the difference, and nothing
is changed. After a kill or Ctrl-C, the same command finishes what was begun.

With --method cloudformation a stack makes the same roles: by a change set, whose
changes are read before they are made. Its roles are kept from being replaced, and
it from being deleted. A template that is too large for a call goes through a
private bucket that is made for the moment, or is read at --template-url.

The ARN of the provision role is printed last, alone on stdout; the names of
the other roles derive from it. That ARN, the account number in it, is what the
vendor needs to know. With --announce-url the stack tells it to the vendor by
itself; whether that worked is on stderr, and the grant stands either way.`,
		Example: `  # Look, and change nothing
  biplane access grant --method iam --external-id 5Zq0v3l1x8mTfKcW2hYbNg --region eu-central-1 --dry-run

  biplane access grant --method iam --external-id 5Zq0v3l1x8mTfKcW2hYbNg --region eu-central-1

  # The same by a CloudFormation stack
  biplane access grant --method cloudformation --external-id 5Zq0v3l1x8mTfKcW2hYbNg --region eu-central-1`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.run.check(cmd); err != nil {
				return err
			}
			if err := required(cmd, "external-id", f.set.externalID, "ID, which the vendor makes with 'biplane access new-external-id'"); err != nil {
				return err
			}
			if err := access.CheckExternalID(f.set.externalID); err != nil {
				return err
			}
			return a.grant(cmd.Context(), f.set, f.run)
		},
	}
	f.set.addExternalID(cmd, "`ID` that the vendor must say, 8 to 24 characters")
	f.set.add(cmd)
	f.run.addMethod(cmd, byIAM, "how the roles are made: iam calls IAM, cloudformation makes a stack")
	cmd.Flags().StringVar(&f.run.templateURL, "template-url", "", "https `URL` in S3 where the template is published (cloudformation only)")
	addAnnounceURL(cmd, &f.run.announceURL)
	f.run.addCustomer(cmd)
	return cmd
}

// runFlags say how a plan is carried out.
type runFlags struct {
	method      choice
	templateURL string
	announceURL string
	account     string
	yes         bool
	dryRun      bool
}

// addCustomer adds those that every command has which changes a customer's account.
func (f *runFlags) addCustomer(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.account, "account", "", "`ID` of the account that is meant; credentials of another one are refused")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show the plan and change nothing")
}

func (f *runFlags) check(cmd *cobra.Command) error {
	if f.templateURL != "" && f.method.value != byStack {
		return usererr.New(usererr.Invalid, "--template-url is for --method %s, and --method is %s", byStack, f.method.value).
			WithHint("give --method %s too, or leave --template-url out", byStack)
	}
	if f.announceURL != "" && f.method.value != byStack {
		return usererr.New(usererr.Invalid, "--announce-url is for --method %s, and --method is %s: a stack can say its role, and roles cannot", byStack, f.method.value).
			WithHint("give --method %s too; or give the vendor the ARN that is printed", byStack)
	}
	if err := checkAnnounceURL(f.announceURL); err != nil {
		return err
	}
	return f.checkAccount()
}

func (f *runFlags) checkAccount() error {
	if f.account != "" {
		return checkAccount(f.account)
	}
	return nil
}

// grantResult is what grant prints, as JSON.
type grantResult struct {
	Account string             `json:"account"`
	Region  string             `json:"region"`
	Profile access.ProfileName `json:"profile"`
	Plan    step.Plan          `json:"plan"`
	Applied bool               `json:"applied"`
	RoleARN string             `json:"roleArn"`
	Roles   []grantedRole      `json:"roles"`
	// Announced is what came of --announce-url: "200 received", or why not.
	Announced string `json:"announced,omitempty"`
}

type grantedRole struct {
	Name string `json:"name"`
	ARN  string `json:"arn"`
}

func (a *app) grant(ctx context.Context, set setFlags, run runFlags) error {
	v, err := a.vendor()
	if err != nil {
		return err
	}
	p := a.progress("asking AWS whose credentials these are")
	defer p.stop()
	customer, err := a.customer(ctx, run.account, v)
	if err != nil {
		return err
	}
	options := set.of(customer.account, customer.region, v)
	wanted, err := access.Generate(options)
	if err != nil {
		return err
	}
	if err := customer.holds(wanted); err != nil {
		return err
	}
	if err := access.CheckGrantable(wanted); err != nil {
		return err
	}

	p.now("looking at what is there")
	steps, err := a.grantSteps(ctx, customer, options, wanted, run)
	if err != nil {
		return err
	}
	runner := step.Runner{Steps: steps, Progress: a.stepProgress(p)}
	plan, err := runner.Plan(ctx, step.Present)
	if err != nil {
		return err
	}
	preflight := access.Preflight(ctx, customer.iam, wanted, plan)
	p.stop()

	result := grantResult{Account: customer.account, Region: customer.region, Profile: wanted.Profile, Plan: plan, RoleARN: wanted.RoleARN(wanted.Roles[0])}
	for _, r := range wanted.Roles {
		result.Roles = append(result.Roles, grantedRole{r.Name, wanted.RoleARN(r)})
	}
	heading := fmt.Sprintf("Grant in account %s, region %s, policy %s:", customer.account, customer.region, wanted.Profile)
	if run.dryRun {
		if err := a.print(result, planText(heading, plan)); err != nil {
			return err
		}
		if err := refused(plan); err != nil {
			return err
		}
		return preflightError(preflight)
	}
	if err := refused(plan); err != nil {
		// A script takes stdout for the ARN, so it stays empty.
		planText(heading, plan)(a.Err)
		return err
	}
	if err := preflightError(preflight); err != nil {
		return err
	}
	if errors.Is(preflight, access.ErrQuotasUnknown) {
		fmt.Fprintln(a.Err, "The account's own limits cannot be read (iam:GetAccountSummary); those that AWS publishes were counted with.")
	}
	change := customer.change("grant", run.method.value)
	change.Widened, change.Hidden = changes(plan), []string{set.externalID}
	if err := a.carryOut(ctx, runner, plan, heading, run.yes, change); err != nil {
		return err
	}
	result.Applied = plan.Writes()
	if run.announceURL != "" {
		if result.Announced, err = a.announced(ctx, customer, v); err != nil {
			return err
		}
	}
	return a.print(result, func(w io.Writer) { fmt.Fprintln(w, result.RoleARN) })
}

// preflightError is what a preflight found, but for limits that it was not
// allowed to read.
func preflightError(err error) error {
	if errors.Is(err, access.ErrQuotasUnknown) {
		return nil
	}
	return err
}

// customer is the account of the credentials, which must be a customer's.
type customer struct {
	config    aws.Config
	iam       *iam.Client
	tags      *resourcegroupstaggingapi.Client
	partition string
	account   string
	region    string
	who       string // the ARN of the caller
}

// customer finds out whose credentials these are, and refuses those of another
// account than was named, and the vendor's own.
func (a *app) customer(ctx context.Context, account string, v *vendor.Profile) (customer, error) {
	cfg, err := a.awsConfig(ctx)
	if err != nil {
		return customer{}, err
	}
	identity, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return customer{}, err
	}
	own := aws.ToString(identity.Account)
	if account != "" && account != own {
		return customer{}, usererr.New(usererr.Refused, "the credentials are of account %s, and --account is %s", own, account).
			WithHint("choose the credentials of %s with --profile, or correct --account", account)
	}
	partition := "aws"
	if parts := strings.SplitN(aws.ToString(identity.Arn), ":", 3); len(parts) == 3 {
		partition = parts[1]
	}
	if own == v.Accounts[partition] {
		return customer{}, usererr.New(usererr.Refused, "the credentials are of account %s, which is the vendor's own", own).
			WithHint("run it with credentials of the customer's account")
	}
	cfg.APIOptions = append(cfg.APIOptions, fault.Once)
	return customer{config: cfg, iam: iam.NewFromConfig(cfg), tags: resourcegroupstaggingapi.NewFromConfig(cfg), partition: partition, account: own, region: cfg.Region, who: aws.ToString(identity.Arn)}, nil
}

// holds refuses a set of another partition.
func (c customer) holds(set *access.Set) error {
	if set.Partition == c.partition {
		return nil
	}
	return usererr.New(usererr.Invalid, "the credentials are of the partition %s, and region %s is of %s", c.partition, c.region, set.Partition).
		WithHint("give a region of %s with --region", c.partition)
}

// refused makes a sentence of the first step of a plan that is refused.
func refused(plan step.Plan) error {
	steps := plan.With(step.Refuse)
	if len(steps) == 0 {
		return nil
	}
	first := steps[0]
	sentence := usererr.New(usererr.Refused, "%s is there already: %s; nothing was changed", first.Name, strings.Join(first.Details[:min(2, len(first.Details))], ": "))
	return sentence.WithHint("%s", first.Hint).Because(&step.RefusedError{Plan: plan})
}

// planText prints a plan for people.
func planText(heading string, plan step.Plan) func(io.Writer) {
	return func(w io.Writer) {
		fmt.Fprintf(w, "%s\n\n", heading)
		plan.WriteText(w) // a writer that fails is noticed by who made it
	}
}

// carryOut shows a plan on stderr, asks, and applies it; change is what the history says
// of it.
func (a *app) carryOut(ctx context.Context, runner step.Runner, plan step.Plan, heading string, yes bool, change history.Entry) error {
	if err := a.agree(ctx, plan, heading, yes); err != nil || !plan.Writes() {
		return err
	}
	return a.recorded(ctx, change, func() error { return a.apply(ctx, runner, plan) })
}

// agree shows a plan on stderr and, where it writes, asks. No error is a yes.
func (a *app) agree(ctx context.Context, plan step.Plan, heading string, yes bool) error {
	if !a.quiet || !yes {
		planText(heading, plan)(a.Err)
	}
	if !plan.Writes() {
		return nil
	}
	return a.agreed(ctx, yes)
}

// agreed asks whether a plan that was shown is to be carried out. No error is a yes.
func (a *app) agreed(ctx context.Context, yes bool) error {
	if yes {
		return nil
	}
	agreed, err := a.confirm(ctx, "Do it?")
	if err != nil {
		return err
	}
	if !agreed {
		return usererr.New(usererr.Refused, "not confirmed; nothing was changed").WithHint("answer 'y', or give --yes")
	}
	return nil
}

// apply carries out a plan that was agreed to.
func (a *app) apply(ctx context.Context, runner step.Runner, plan step.Plan) error {
	p := a.progress("starting")
	defer p.stop()
	runner.Progress = a.stepProgress(p)
	err := runner.Apply(ctx, plan)
	var changed *step.RefusedError
	if errors.As(err, &changed) {
		return refused(changed.Plan)
	}
	if errors.Is(err, step.ErrPlanChanged) {
		return usererr.New(usererr.Refused, "somebody else changed the account after the plan was shown").
			WithHint("run the same command again to see the new plan").Because(err)
	}
	return err
}

// stepProgress says which step is in hand.
func (a *app) stepProgress(p *progress) func(step.Event) {
	return func(e step.Event) {
		switch e.Stage {
		case step.Started:
			p.now(fmt.Sprintf("%s %s", e.Action, e.Step))
		case step.Waiting:
			if reason, ok := strings.CutSuffix(e.Err.Error(), ": "+step.ErrNotYet.Error()); ok && strings.HasPrefix(e.Step, stack.StepName("")) {
				p.now(fmt.Sprintf("%s %s: %s", e.Action, e.Step, reason)) // it says what CloudFormation is at
				break
			}
			p.now(fmt.Sprintf("waiting for AWS to show %s", e.Step))
		}
		a.log.Debug("step", "name", e.Step, "stage", e.Stage, "action", e.Action, "took", e.Took, "error", e.Err)
	}
}
