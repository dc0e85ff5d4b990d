package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
)

func (a *app) accessLint() *cobra.Command {
	var options iampolicy.LintOptions
	cmd := &cobra.Command{
		Use:   "lint FILE...",
		Short: "Say what a careful reader would object to in policy documents",
		Long: `Say what a careful reader would object to in policy documents: grants that can
never match, actions that don't exist, ways to more rights, writes on everything,
an account let in without an external ID, and all that IAM would refuse.

A document with a Principal is read as a trust or resource policy, any other as
an identity policy. '-' is stdin. Statements are counted from 0.

Exit status: 0 nothing found; 1 something found; 2 a file is no JSON document.`,
		Example: `  biplane access lint policy.json trust.json

  # What is in force in an account
  aws iam get-role --role-name union-ai-admin --query Role.AssumeRolePolicyDocument |
    biplane access lint --account 123456789012 -

  # How often each thing was found
  biplane access lint documents/*/*.json -o json | jq -r '.findings[].code' | sort | uniq -c`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return nil
			}
			return usererr.New(usererr.Invalid, "%q needs at least one file", cmd.CommandPath()).
				WithHint("name a policy document, or '-' for stdin")
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if options.Account != "" {
				if err := checkAccount(options.Account); err != nil {
					return err
				}
			}
			return a.lint(cmd.Context(), args, options)
		},
	}
	cmd.Flags().StringVar(&options.Account, "account", "", "the account that the documents are for, twelve `DIGITS`: a trust may name it without an external ID")
	cmd.Flags().BoolVar(&options.Session, "session-policy", false, "they are session policies, whose size limit is lower")
	return cmd
}

// lint reads every file before it gives up on one.
func (a *app) lint(ctx context.Context, files []string, options iampolicy.LintOptions) error {
	result := struct {
		Findings []iampolicy.Finding `json:"findings"`
	}{[]iampolicy.Finding{}}
	unusable := 0
	for _, name := range files {
		findings, err := a.lintFile(ctx, name, options)
		if ctx.Err() != nil {
			return err
		}
		if err != nil {
			a.say(err)
			unusable++
		}
		result.Findings = append(result.Findings, findings...)
	}
	err := a.print(result, func(w io.Writer) {
		for _, f := range result.Findings {
			fmt.Fprintf(w, "%s:%d:%d: %s: %s\n", f.File, f.Line, f.Column, f.Severity, f.Code)
			if f.Path != "" {
				fmt.Fprintf(w, "    at %s\n", f.Path)
			}
			fmt.Fprintf(w, "    %s\n    remedy: %s\n", f.Message, f.Remedy)
		}
	})
	if err != nil {
		return err
	}
	if read := len(files) - unusable; a.output.value == "table" && read > 0 {
		fmt.Fprintf(a.Err, "%s in %s\n", count(len(result.Findings), "finding"), count(read, "document"))
	}
	switch {
	case unusable > 0:
		return errCouldNot
	case len(result.Findings) > 0:
		return errFound
	}
	return nil
}

func (a *app) lintFile(ctx context.Context, name string, options iampolicy.LintOptions) ([]iampolicy.Finding, error) {
	text, err := a.readInput(ctx, name)
	if err != nil {
		return nil, err
	}
	findings, err := iampolicy.Lint(name, text, options)
	if err != nil {
		return nil, notJSON(err)
	}
	return findings, nil
}

// notJSON is what IAM's own editor would not open either.
func notJSON(err error) error {
	return usererr.New(usererr.Invalid, "%v", err).
		WithHint("name a file with one JSON policy document").Because(err)
}

// count is "no findings", "1 finding", "2 findings".
func count(n int, noun string) string {
	switch n {
	case 0:
		return "no " + noun + "s"
	case 1:
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
