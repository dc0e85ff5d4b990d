package cli

import (
	"context"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
)

func (a *app) accessCheck() *cobra.Command {
	var set setFlags
	var roleARN, otherProfile string
	cmd := &cobra.Command{
		Use:   "check --role-arn ARN --external-id ID",
		Short: "Prove that the granted access is what it should be",
		Long: `Prove that the granted access is what it should be: no less, no more, and for
nobody else. The vendor runs it, with the credentials of its control plane.

Every role is assumed with the right, with a wrong and with no external ID, and
by another principal (--other-profile). The documents are read and compared with
the wanted ones, and what they allow is simulated, call by call. With the
customer's credentials all documents can be read, but nothing can be assumed.

Each row says pass, fail, or cannot tell, and why. Nothing is changed, and the
credentials of the sessions, which last 15 minutes, are never shown.

Exit status: 0 nothing failed; 1 something did; 2 could not run.`,
		Example: `  biplane access check --role-arn arn:aws:iam::123456789012:role/union/union-ai-admin \
    --external-id 5Zq0v3l1x8mTfKcW2hYbNg --region eu-central-1 --profile vendor --other-profile vendor-other`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := required(cmd, "role-arn", roleARN, "arn:aws:iam::123456789012:role/…, which 'biplane access grant' prints"); err != nil {
				return err
			}
			role, err := parseRoleARN(roleARN)
			if err != nil {
				return err
			}
			if err := required(cmd, "external-id", set.externalID, "ID, which was given to 'biplane access grant'"); err != nil {
				return err
			}
			if err := access.CheckExternalID(set.externalID); err != nil {
				return err
			}
			return a.check(cmd.Context(), role, set, otherProfile)
		},
	}
	cmd.Flags().StringVar(&roleARN, "role-arn", "", "`ARN` of the provision role, which grant printed")
	set.addExternalID(cmd, "`ID` that the role asks for")
	set.add(cmd)
	cmd.Flags().StringVar(&otherProfile, "other-profile", "", "`NAME` of an AWS profile of another principal of the vendor's account, who must be refused")
	return cmd
}

// parseRoleARN refuses what is not the ARN of an IAM role.
func parseRoleARN(text string) (arn.ARN, error) {
	const example = "give the ARN that 'biplane access grant' prints, such as arn:aws:iam::123456789012:role/union/union-ai-admin"
	parsed, err := arn.Parse(text)
	if err != nil {
		return arn.ARN{}, usererr.New(usererr.Invalid, "--role-arn %q is not an ARN", text).WithHint(example)
	}
	kind, path, _ := strings.Cut(parsed.Resource, "/")
	switch {
	case parsed.Service != "iam":
		return arn.ARN{}, usererr.New(usererr.Invalid, "--role-arn %q is of the service %q, not of iam", text, parsed.Service).WithHint(example)
	case kind != "role":
		return arn.ARN{}, usererr.New(usererr.Invalid, "--role-arn %q is a %s, not a role", text, kind).WithHint(example)
	case path == "" || strings.HasSuffix(path, "/"):
		return arn.ARN{}, usererr.New(usererr.Invalid, "--role-arn %q has no role name", text).WithHint(example)
	case !accountForm.MatchString(parsed.AccountID):
		return arn.ARN{}, usererr.New(usererr.Invalid, "--role-arn %q has the account %q, which is not of twelve digits", text, parsed.AccountID).WithHint(example)
	case parsed.Region != "" || !roleForm.MatchString(path):
		return arn.ARN{}, usererr.New(usererr.Invalid, "--role-arn %q is not the ARN of a role as IAM writes it", text).WithHint(example)
	}
	return parsed, nil
}

// roleForm is a role's path, if any, and its name.
var roleForm = regexp.MustCompile(`^([!-.0-~]+/)*[\w+=,.@-]{1,64}$`)

func (a *app) check(ctx context.Context, role arn.ARN, set setFlags, otherProfile string) error {
	v, err := a.vendor()
	if err != nil {
		return err
	}
	cfg, err := a.awsConfig(ctx)
	if err != nil {
		return err
	}
	wanted, err := access.Generate(set.of(role.AccountID, cfg.Region, v))
	if err != nil {
		return err
	}
	if wanted.Partition != role.Partition {
		return usererr.New(usererr.Invalid, "--role-arn is of the partition %s, and region %s of %s", role.Partition, cfg.Region, wanted.Partition).
			WithHint("give the region that access was granted for with --region")
	}

	provision := wanted.RoleARN(wanted.Roles[0])
	for _, other := range access.RoleNames(v)[1:] {
		if name := role.Resource[strings.LastIndexByte(role.Resource, '/')+1:]; name == other {
			return usererr.New(usererr.Invalid, "--role-arn is that of the role %s, and check starts from the provision role", name).
				WithHint("give --role-arn %s; all other roles are found from it", provision)
		}
	}
	vendorAccount := v.Accounts[wanted.Partition]
	if role.AccountID == vendorAccount {
		return usererr.New(usererr.Invalid, "--role-arn is of account %s, which is the vendor's own", role.AccountID).
			WithHint("give the ARN that 'biplane access grant' printed in the customer's account")
	}

	p := a.progress("checking")
	defer p.stop()
	caller, err := principal(ctx, cfg)
	if err != nil {
		return err
	}
	if caller.Account != vendorAccount && caller.Account != role.AccountID {
		return usererr.New(usererr.Refused, "the credentials are of account %s, which is neither the vendor's, %s, nor the customer's, %s", caller.Account, vendorAccount, role.AccountID).
			WithHint("choose the credentials of the vendor's control plane, or the customer's, with --profile")
	}
	checker := access.Checker{
		Set: wanted, Vendor: v, RoleARN: role.String(), ExternalID: set.externalID, Caller: caller,
		NewIAM: func(session aws.CredentialsProvider) access.IAM {
			own := cfg.Copy()
			if session != nil {
				own.Credentials = session
			}
			return iam.NewFromConfig(own)
		},
	}
	if otherProfile != "" {
		otherCfg, err := a.loadConfig(ctx, otherProfile)
		if err != nil {
			return err
		}
		if otherCfg.Region == "" {
			otherCfg.Region = cfg.Region
		}
		other, err := principal(ctx, otherCfg)
		if err != nil {
			return fmt.Errorf("with --other-profile %s: %w", otherProfile, err)
		}
		checker.Other = &other
	}
	report, err := checker.Run(ctx)
	if err != nil {
		return err
	}
	p.stop()

	err = a.print(report, func(w io.Writer) {
		fmt.Fprintf(w, "RESULT\tCHECK\tTARGET\tWHY\n")
		for _, row := range report.Rows {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", resultWords(row.Result), row.Check, row.Target, oneLine(row.Why))
		}
		fmt.Fprintf(w, "\n%d pass, %d fail, %d cannot tell\n", report.Summary.Pass, report.Summary.Fail, report.Summary.CannotTell)
	})
	if err == nil && report.Summary.Fail > 0 {
		return errFound
	}
	return err
}

func resultWords(r access.Result) string {
	if r == access.CannotTell {
		return "cannot tell"
	}
	return string(r)
}

// principal finds out who the credentials of cfg are.
func principal(ctx context.Context, cfg aws.Config) (access.Principal, error) {
	client := sts.NewFromConfig(cfg)
	identity, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return access.Principal{}, err
	}
	return access.Principal{ARN: aws.ToString(identity.Arn), Account: aws.ToString(identity.Account), STS: client}, nil
}
