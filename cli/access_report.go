package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/stack"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/vendor"
)

func (a *app) accessReport() *cobra.Command {
	var set setFlags
	var account string
	method := choice{value: byIAM, allowed: []string{byIAM, byStack}}
	cmd := &cobra.Command{
		Use:   "report",
		Short: "Say what a grant would make in the account, and what it would meet",
		Long: `Say what a grant would make in the account, and what it would meet, before any role
is there: roles, policies and their sizes; what is there already; the account's
quotas; the caller's permissions boundary; what the service control policies of the
organization would deny to grant, and to each of the vendor's roles; and AWS's own
service-linked roles.

It runs with the customer's credentials and only reads: AWS's ReadOnlyAccess is
enough. What it may not read is a row that says
"cannot tell" and names the call. The organization's own policies can be read by its
management account and those that it delegates to; elsewhere AWS is asked for a
simulation, which leaves out policies with conditions.

Whether the network and the quotas of a data plane do is 'biplane network check'.

Exit status: 0 nothing would fail; 1 something would; 2 could not run.`,
		Example: `  biplane access report --region eu-central-1 --profile read-only

  # Only what is in the way
  biplane access report --region eu-central-1 -o json | jq '.rows[] | select(.result == "fail")'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if account != "" {
				if err := checkAccount(account); err != nil {
					return err
				}
			}
			return a.report(cmd.Context(), set, account, method.value)
		},
	}
	set.add(cmd)
	cmd.Flags().Var(&method, "method", "how the roles would be made: by calling IAM, or by a CloudFormation stack")
	cmd.Flags().StringVar(&account, "account", "", "`ID` of the account that is meant; credentials of another one are refused")
	complete(cmd, "method", func() []string { return method.allowed })
	return cmd
}

func (a *app) report(ctx context.Context, set setFlags, account, method string) error {
	v, err := a.vendor()
	if err != nil {
		return err
	}
	now, err := clock.FromEnvironment()
	if err != nil {
		return err
	}
	p := a.progress("asking AWS whose credentials these are")
	defer p.stop()
	customer, err := a.customer(ctx, account, v)
	if err != nil {
		return err
	}
	options := set.of(customer.account, customer.region, v)
	// The trust of an earlier grant has an external ID, which says nothing about the grant.
	switch granted, err := access.ReadGranted(ctx, customer.iam, customer.partition, customer.account, v); {
	case err == nil && granted != nil:
		options.ExternalID, options.PreviousExternalID = granted.ExternalID, granted.PreviousExternalID
	case err != nil && !fault.Denied(err):
		return err
	}
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
	cfg, err := a.awsConfig(ctx)
	if err != nil {
		return err
	}
	prospect := access.Prospect{
		Set: wanted, Vendor: v, ExternalIDs: []string{options.ExternalID, options.PreviousExternalID}, Caller: customer.who, IAM: customer.iam, Organizations: organizations.NewFromConfig(cfg), Now: now.Now(), Progress: p.now,
	}
	if method == byStack {
		prospect.Stack = v.StackName
	}
	forecast, err := prospect.Run(ctx)
	if err != nil {
		return err
	}
	if method == byStack {
		if err := reportStack(ctx, forecast, options, cloudformation.NewFromConfig(cfg), v); err != nil {
			return err
		}
	}
	p.stop()

	err = a.print(forecast, func(w io.Writer) {
		fmt.Fprintf(w, "A grant of %s in account %s, region %s, by %s:\n\n", forecast.Profile, forecast.Account, forecast.Region, forecast.Method)
		fmt.Fprintf(w, "RESULT\tCHECK\tTARGET\tWHY\n")
		for _, row := range forecast.Rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", resultWords(row.Result), row.Check, row.Target, oneLine(row.Why))
		}
		s := forecast.Summary
		fmt.Fprintf(w, "\n%d pass, %d fail, %d cannot tell, %d to know\n", s.Pass, s.Fail, s.CannotTell, s.Info)
	})
	if err == nil && forecast.Summary.Fail > 0 {
		return errFound
	}
	return err
}

// reportStack adds the template and the stack of that name.
func reportStack(ctx context.Context, forecast *access.Forecast, options access.Options, api stack.API, v *vendor.Profile) error {
	t, err := template.New(options)
	if err != nil {
		return err
	}
	switch size := t.Size(template.JSON); {
	case size > template.BodyLimit:
		forecast.Add("template", v.StackName, access.Info, "%d bytes, above the %d that a call takes: it goes by S3, through a bucket that is made for the moment or --template-url", size, template.BodyLimit)
	default:
		forecast.Add("template", v.StackName, access.Pass, "%d bytes, of the %d that a call takes", size, template.BodyLimit)
	}
	there, err := stack.Read(ctx, api, v, v.StackName)
	switch {
	case fault.Denied(err):
		forecast.Add("stack", v.StackName, access.CannotTell, "cloudformation:DescribeStacks or cloudformation:GetTemplate is not allowed to these credentials")
	case err != nil:
		return err
	case there == nil:
		forecast.Add("stack", v.StackName, access.Pass, "no stack has the name")
	case !there.Ours:
		forecast.Add("stack", v.StackName, access.Fail, "somebody else made a stack of that name (%s); give the vendor profile another stackName", there.Status)
	default:
		forecast.Add("stack", v.StackName, access.Info, "it is there, made by Biplane's template, and is %s", there.Status)
	}
	return nil
}
