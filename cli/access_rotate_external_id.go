package cli

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/stack"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/step"
)

func (a *app) accessRotate() *cobra.Command {
	var rotation access.Rotation
	var run runFlags
	cmd := &cobra.Command{
		Use:   "rotate-external-id --external-id NEW",
		Short: "Change the external ID without shutting the vendor out",
		Long: `Change the external ID that the vendor must say, without a moment at which it
is shut out. It takes two runs, with the customer's own credentials:

  1. --external-id NEW: every role's trust takes both values. The vendor then
     changes over, and proves it with 'biplane access check'.
  2. --finish: every trust takes the newer value alone.

To go back instead of finishing, give the old value: --finish --external-id OLD.

A trust is changed in its external ID and in nothing else; one that was edited by
hand is refused, with the difference. One rotation can be under way; another
value is refused until it is finished or taken back. After a kill or Ctrl-C,
the same command finishes what was begun; the plan shows each role's state.`,
		Example: `  # The vendor makes a new value
  biplane access new-external-id

  # The customer lets it in beside the old one, and after the change-over alone
  biplane access rotate-external-id --external-id 8Rk2mQ0sZ4vJtYpLxW9cAe --region eu-central-1
  biplane access rotate-external-id --finish --region eu-central-1`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !rotation.Finish {
				if err := required(cmd, "external-id", rotation.To, "NEW, which the vendor makes with 'biplane access new-external-id', or give --finish"); err != nil {
					return err
				}
			}
			if rotation.To != "" || cmd.Flags().Changed("external-id") {
				if err := access.CheckExternalID(rotation.To); err != nil {
					return err
				}
			}
			if err := run.checkAccount(); err != nil {
				return err
			}
			return a.rotate(cmd.Context(), rotation, run)
		},
	}
	cmd.Flags().StringVar(&rotation.To, "external-id", "", "`ID` that the vendor will say; with --finish, the one of the two that stays (default: the newer one)")
	cmd.Flags().BoolVar(&rotation.Finish, "finish", false, "end the rotation: one value stays")
	run.addCustomer(cmd)
	return cmd
}

// rotateResult is what rotate-external-id prints, as JSON.
type rotateResult struct {
	Account string `json:"account"`
	// ExternalID is the one that is valid from now on, and PreviousExternalID the one that
	// is valid beside it until the rotation is finished.
	ExternalID         string    `json:"externalId"`
	PreviousExternalID string    `json:"previousExternalId"`
	Finished           bool      `json:"finished"`
	Plan               step.Plan `json:"plan"`
	Applied            bool      `json:"applied"`
}

func (a *app) rotate(ctx context.Context, rotation access.Rotation, run runFlags) error {
	p := a.progress("reading what is granted")
	defer p.stop()
	g, err := a.grantedSet(ctx, run.account)
	if err != nil {
		return err
	}
	result := rotateResult{Account: g.account, Finished: true, Plan: step.Plan{Goal: step.Present, Steps: []step.Planned{}}}
	if rotation.Finish && rotation.To == "" {
		if rotation.To, err = access.RotatingTo(ctx, g.iam, g.set); err != nil {
			return err
		}
		if rotation.To == "" {
			result.ExternalID = g.granted.ExternalID
			return a.print(result, func(w io.Writer) {
				fmt.Fprintf(w, "no rotation is under way: %s is the only external ID\n", result.ExternalID)
			})
		}
	}

	p.now("looking at every role's trust")
	steps, err := rotateSteps(ctx, g, rotation)
	if err != nil {
		return err
	}
	runner := step.Runner{Steps: steps, Progress: a.stepProgress(p)}
	plan, err := runner.Plan(ctx, step.Present)
	if err != nil {
		return err
	}
	p.stop()

	result.Plan, result.ExternalID = plan, rotation.To
	result.Finished, result.PreviousExternalID = rotation.Finish, g.previous(rotation)
	heading := fmt.Sprintf("Let the external ID %s in beside the present one, in account %s:", rotation.To, g.account)
	if rotation.Finish {
		heading = fmt.Sprintf("Leave the external ID %s alone, in account %s:", rotation.To, g.account)
	}
	if run.dryRun {
		if err := a.print(result, planText(heading, plan)); err != nil {
			return err
		}
		return notAsPlanned(plan)
	}
	if err := notAsPlanned(plan); err != nil {
		planText(heading, plan)(a.Err)
		return err
	}
	method := byIAM
	if g.granted.Stack != "" {
		method = byStack
	}
	change := g.change("rotate-external-id", method)
	change.Hidden = []string{g.granted.ExternalID, rotation.To}
	if rotation.Finish {
		change.Narrowed = changes(plan)
	} else {
		change.Widened = changes(plan)
	}
	if err := a.carryOut(ctx, runner, plan, heading, run.yes, change); err != nil {
		return err
	}
	result.Applied = plan.Writes()
	return a.print(result, func(w io.Writer) {
		if result.PreviousExternalID == "" {
			fmt.Fprintf(w, "%s is the only external ID\n", result.ExternalID)
			return
		}
		fmt.Fprintf(w, "%s and %s are both valid; once the vendor uses the new one, run 'biplane access rotate-external-id --finish'\n", result.PreviousExternalID, result.ExternalID)
	})
}

// rotateSteps are the steps of a rotation. What a stack made is changed through the stack,
// by its parameters, once each trust is as the stack knows it; the break-glass role, while
// it is open, is not as the stack knows it, and is changed beside.
func rotateSteps(ctx context.Context, g grantedAccount, rotation access.Rotation) ([]step.Step, error) {
	trusts := access.RotateSteps(g.iam, g.set, g.vendor, rotation)
	if g.granted.Stack == "" {
		return trusts, nil
	}
	plan, err := step.Runner{Steps: trusts}.Plan(ctx, step.Present)
	if err != nil || len(plan.With(step.Refuse)) > 0 {
		return trusts, err
	}
	place := g.stackPlace(g.granted.Region, g.vendor)
	there, err := stack.Read(ctx, place.CloudFormation, g.vendor, g.granted.Stack)
	switch {
	case err != nil:
		return nil, err
	case there == nil:
		return nil, usererr.New(usererr.NotFound, "the stack %s, which made the roles, is not there in %s", g.granted.Stack, g.granted.Region).
			WithHint("run 'biplane access revoke', which removes what it left, and grant again")
	}
	wanted := map[string]string{template.ExternalIDParameter: rotation.To, template.PreviousExternalIDParameter: g.previous(rotation)}
	if _, takes := there.Parameters[template.PreviousExternalIDParameter]; !takes {
		return nil, usererr.New(usererr.Refused, "the template of stack %s has no parameter %s, so it can let in one external ID only", there.Name, template.PreviousExternalIDParameter).
			WithHint("run 'biplane access update' first, which gives the stack the template of this version")
	}
	steps := slices.DeleteFunc(trusts, func(s step.Step) bool { return s.Name() != access.TrustStepName(access.BreakGlassRole(g.vendor)) })
	return append(steps, stack.NewStep(place, stack.Wanted{Name: there.Name, Parameters: wanted, MayChange: true})), nil
}

// previous is the value that stays valid beside that of a rotation; "" when none does.
func (g grantedAccount) previous(rotation access.Rotation) string {
	switch {
	case rotation.Finish:
		return ""
	case g.granted.ExternalID == rotation.To:
		return g.granted.PreviousExternalID
	}
	return g.granted.ExternalID
}

// notAsPlanned makes a sentence of the first step of a change that is refused.
func notAsPlanned(plan step.Plan) error {
	steps := plan.With(step.Refuse)
	if len(steps) == 0 {
		return nil
	}
	first := steps[0]
	return usererr.New(usererr.Refused, "the %s stays as it is: %s; nothing was changed", first.Name, first.Details[0]).
		WithHint("%s", first.Hint).Because(&step.RefusedError{Plan: plan})
}
