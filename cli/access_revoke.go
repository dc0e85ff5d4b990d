package cli

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/step"
)

func (a *app) accessRevoke() *cobra.Command {
	var run runFlags
	cmd := &cobra.Command{
		Use:   "revoke",
		Short: "Take back what was granted",
		Long: `Take back what was granted: the roles, their policies and the boundary, in
whichever policy, region and with whichever switches they were granted. They are
found by name and tag. Nothing else is removed: a policy that you attached to
one of the roles yourself is detached and stays.

It is taken back as it was granted: where a stack holds the roles, the stack is
deleted.

What stays is listed: what bears a name of ours but was made by somebody else,
what the vendor made under the same path, and policies that are still in use.

Exit status: 0 nothing is left, or with --dry-run would be; 1 something is; 2 could not run.`,
		Example: `  # Look, and change nothing
  biplane access revoke --region eu-central-1 --dry-run

  biplane access revoke --region eu-central-1`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := run.check(cmd); err != nil {
				return err
			}
			return a.revoke(cmd.Context(), run)
		},
	}
	run.addMethod(cmd, "", "how the access was granted; revoke finds it out (default: as it was granted)")
	run.addCustomer(cmd)
	return cmd
}

// revokeResult is what revoke prints, as JSON.
type revokeResult struct {
	Account string    `json:"account"`
	Plan    step.Plan `json:"plan"`
	Applied bool      `json:"applied"`
	Removed []string  `json:"removed"`
	Left    []left    `json:"left"`
}

// left is a thing that stays, and why.
type left struct {
	Name string `json:"name"`
	Why  string `json:"why"`
}

func (a *app) revoke(ctx context.Context, run runFlags) error {
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
	p.now("looking at what is there")
	stacks, held, err := a.removals(ctx, customer, v)
	if err != nil {
		return err
	}
	steps, others, err := access.RevokeSteps(ctx, customer.iam, customer.partition, customer.account, v, held)
	if err != nil {
		return err
	}
	runner := step.Runner{Steps: append(stacks, steps...)}
	plan, err := runner.Plan(ctx, step.Absent)
	if err != nil {
		return err
	}
	p.stop()
	if err := run.checkMethod(plan, stacks); err != nil {
		return err
	}

	result := revokeResult{Account: customer.account, Plan: plan, Removed: []string{}, Left: []left{}}
	for _, s := range plan.With(step.Leave) {
		result.Left = append(result.Left, left{s.Name, s.Details[0]})
	}
	for _, name := range others {
		result.Left = append(result.Left, left{name, "it is not of the grant; the vendor made it, or you did"})
	}
	heading := fmt.Sprintf("Revoke in account %s:", customer.account)
	if run.dryRun {
		err := a.print(result, func(w io.Writer) {
			planText(heading, plan)(w)
			result.printLeft(w)
		})
		return result.found(err)
	}
	method := byIAM
	if len(stacks) > 0 {
		method = byStack
	}
	change := customer.change("revoke", method)
	change.Narrowed, change.PolicyVersion = changes(plan), ""
	if err := a.carryOut(ctx, runner, plan, heading, run.yes, change); err != nil {
		return err
	}
	result.Applied = plan.Writes()
	for _, s := range plan.With(step.Remove) {
		result.Removed = append(result.Removed, s.Name)
	}
	err = a.print(result, func(w io.Writer) {
		fmt.Fprintf(w, "removed: %d\n", len(result.Removed))
		result.printLeft(w)
	})
	return result.found(err)
}

// found ends the command with exit status 1 where something is left.
func (r revokeResult) found(err error) error {
	if err == nil && len(r.Left) > 0 {
		return errFound
	}
	return err
}

// printLeft lists what stays.
func (r revokeResult) printLeft(w io.Writer) {
	if len(r.Left) == 0 {
		fmt.Fprintln(w, "left: nothing")
		return
	}
	fmt.Fprintf(w, "left: %d\n", len(r.Left))
	for _, l := range r.Left {
		fmt.Fprintf(w, "  %s\t%s\n", l.Name, l.Why)
	}
}
