package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

func (a *app) accessUpdate() *cobra.Command {
	f := updateFlags{
		policy: choice{allowed: []string{string(access.Strict), string(access.Compat)}},
		drift:  choice{allowed: []string{string(access.Keep), string(access.Restore)}},
	}
	cmd := &cobra.Command{
		Use:   "update",
		Short: "Change what was granted, after showing what widens and what narrows",
		Long: `Change what was granted to what this version of Biplane grants, with the
customer's own credentials. A flag that is not given keeps what was granted:
policy, private endpoint, delete permissions. --private-endpoint=false takes
away what the endpoint needs, --delete-permissions=false the teardown role.

It reads every document, shows which rights come (widens) and which go
(narrows), and asks. What comes is made before what goes is taken. Afterwards
everything is read again; when something failed, all that this run changed is
put back. After a kill or Ctrl-C, the same command finishes what was begun.

What was changed by hand since is refused until --drift says what becomes of
it: keep leaves it, restore puts it back. What a data plane in the account needs
is not taken unless --allow-narrowing is given.

Exit status: 0 it is as wanted; 1 it was refused, or failed and was put back; 2 could not run.`,
		Example: `  # See what another version of Biplane would change
  biplane access update --region eu-central-1 --dry-run

  # Take the right to remove data planes away, once it was used
  biplane access update --region eu-central-1 --delete-permissions=false`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkAnnounceURL(f.announceURL); err != nil {
				return err
			}
			f.announceGiven = cmd.Flags().Changed("announce-url")
			f.endpointGiven, f.deletionGiven = cmd.Flags().Changed("private-endpoint"), cmd.Flags().Changed("delete-permissions")
			if f.account != "" {
				if err := checkAccount(f.account); err != nil {
					return err
				}
			}
			if f.externalID != "" {
				if err := access.CheckExternalID(f.externalID); err != nil {
					return err
				}
			}
			return a.update(cmd.Context(), f)
		},
	}
	flags := cmd.Flags()
	flags.Var(&f.policy, "policy", "which set of documents; without it, the one that was granted")
	flags.BoolVar(&f.privateEndpoint, "private-endpoint", false, "also what a private cluster endpoint needs (default: as it was granted)")
	flags.BoolVar(&f.deletePermissions, "delete-permissions", false, "also the right to remove data planes, strict only; without it, as it was granted")
	flags.BoolVar(&f.allowNarrowing, "allow-narrowing", false, "take rights even where a data plane needs them")
	flags.Var(&f.drift, "drift", "what becomes of what was changed by hand: it stays, or is put back")
	flags.StringVar(&f.externalID, "external-id", "", "`ID` that the vendor must say, where the role asks for none yet")
	flags.StringVar(&f.announceURL, "announce-url", "", "`URL` to which the stack says its role from now on, or nothing for nobody (default: as it was granted)")
	flags.StringVar(&f.account, "account", "", "`ID` of the account that is meant; credentials of another one are refused")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	flags.BoolVar(&f.dryRun, "dry-run", false, "show the plan and change nothing")
	complete(cmd, "policy", func() []string { return f.policy.allowed })
	complete(cmd, "drift", func() []string { return f.drift.allowed })
	return cmd
}

type updateFlags struct {
	policy, drift                    choice
	privateEndpoint, endpointGiven   bool
	deletePermissions, deletionGiven bool
	allowNarrowing                   bool
	externalID                       string
	announceURL                      string
	announceGiven                    bool
	account                          string
	yes, dryRun                      bool
}

// options are those of the grant with what the flags change.
func (f updateFlags) options(granted *access.Granted, account string, v *vendor.Profile) (access.Options, error) {
	o := granted.Options(account, v)
	if f.policy.value != "" {
		o.Profile = access.ProfileName(f.policy.value)
	}
	if f.endpointGiven {
		o.PrivateEndpoint = f.privateEndpoint
	}
	if f.deletionGiven {
		o.DeletePermissions = f.deletePermissions
	}
	switch {
	case o.ExternalID == "" && f.externalID == "":
		return o, usererr.New(usererr.Invalid, "role %s asks for no external ID, and none was given", v.RoleName).
			WithHint("give the one that the vendor made as --external-id ID")
	case o.ExternalID == "":
		o.ExternalID = f.externalID
	case f.externalID != "" && f.externalID != o.ExternalID:
		return o, usererr.New(usererr.Refused, "role %s asks for another external ID than --external-id %s", v.RoleName, f.externalID).
			WithHint("leave --external-id out; 'biplane access rotate-external-id' changes it")
	}
	return o, nil
}

// updateResult is what update prints, as JSON.
type updateResult struct {
	Account    string             `json:"account"`
	Region     string             `json:"region"`
	Profile    access.ProfileName `json:"profile"`
	Method     string             `json:"method"` // iam or cloudformation
	From       string             `json:"from"`   // empty: granted before there were versions
	To         string             `json:"to"`
	Widens     []access.Right     `json:"widens"`
	Narrows    []access.Right     `json:"narrows"`
	Needed     []access.Need      `json:"needed"` // what narrows and a data plane needs
	Drift      []access.Edit      `json:"drift"`
	Plan       step.Plan          `json:"plan"`
	Applied    bool               `json:"applied"`
	RolledBack bool               `json:"rolledBack"`
}

// heading is the first line of the plan.
func (r updateResult) heading() string {
	from := r.From
	if from == "" {
		from = "before there were versions"
	}
	return fmt.Sprintf("Update in account %s, region %s, policy %s, documents of version %s to %s:", r.Account, r.Region, r.Profile, from, r.To)
}

func (r updateResult) summary() string {
	return fmt.Sprintf("widens: %d, narrows: %d", len(r.Widens), len(r.Narrows))
}

// text is the plan for people. What stays as it is, is only counted.
func (r updateResult) text(w io.Writer) {
	changed := r.Plan
	changed.Steps = slices.DeleteFunc(slices.Clone(r.Plan.Steps), func(s step.Planned) bool { return s.Action == step.Keep && s.Details == nil })
	planText(r.heading(), changed)(w)
	fmt.Fprintf(w, "%s, unchanged: %d\n", r.summary(), len(r.Plan.With(step.Keep)))
	for _, n := range r.Needed {
		fmt.Fprintf(w, "  %s\n", n)
	}
}

func (a *app) update(ctx context.Context, f updateFlags) error {
	v, err := a.vendor()
	if err != nil {
		return err
	}
	p := a.progress("asking AWS whose credentials these are")
	defer p.stop()
	customer, err := a.customer(ctx, f.account, v)
	if err != nil {
		return err
	}
	p.now("reading what was granted")
	granted, err := grantedHere(ctx, customer, v)
	if err != nil {
		return err
	}
	o, err := f.options(granted, customer.account, v)
	if err != nil {
		return err
	}
	wanted, err := access.Generate(o)
	if err != nil {
		return err
	}
	if err := access.CheckGrantable(wanted); err != nil {
		return err
	}
	if f.announceGiven && granted.Stack == "" {
		return usererr.New(usererr.Refused, "--announce-url is for access that a stack granted, and role %s was made by IAM directly", v.RoleName).
			WithHint("tell the vendor the role's ARN, which 'biplane access grant' prints")
	}
	parameters := map[string]string{}
	if f.announceGiven {
		parameters[template.AnnounceURLParameter] = f.announceURL
	}
	way, err := a.wayToUpdate(ctx, customer, granted, o, wanted, parameters, access.Choice(f.drift.value))
	if err != nil {
		return err
	}
	u, runner := way.update, step.Runner{Steps: way.steps, Progress: a.stepProgress(p)}
	plan, err := runner.Plan(ctx, step.Present)
	if err != nil {
		return err
	}
	needed, err := u.Needed(ctx, customer.tags)
	if err != nil {
		return err
	}
	preflight := preflightError(access.Preflight(ctx, customer.iam, wanted, plan))
	p.stop()

	result := updateResult{
		Account: customer.account, Region: customer.region, Profile: wanted.Profile, Method: way.method, From: granted.PolicyVersion, To: access.PolicyVersion,
		Widens: u.Widens, Narrows: u.Narrows, Needed: needed, Drift: u.Edits, Plan: plan,
	}
	refusal := preflight
	if len(needed) > 0 && !f.allowNarrowing {
		refusal = narrowed(needed)
	}
	if unable := updateRefused(plan); unable != nil {
		refusal = unable
	}
	switch {
	case f.dryRun:
		if err := a.print(result, result.text); err != nil {
			return err
		}
		return refusal
	case refusal != nil:
		result.text(a.Err)
		return refusal
	}
	if !a.quiet || !f.yes {
		result.text(a.Err)
	}
	if !plan.Writes() {
		return a.print(result, result.done)
	}
	if err := a.agreed(ctx, f.yes); err != nil {
		return err
	}
	change := customer.change("update", result.Method)
	change.Widened, change.Narrowed, change.Hidden = rightLines(u.Widens), rightLines(u.Narrows), []string{o.ExternalID, o.PreviousExternalID}
	failure := a.recorded(ctx, change, func() error {
		if err := a.apply(ctx, runner, plan); err != nil {
			return a.takeBack(ctx, way, err)
		}
		p := a.progress("reading everything again")
		defer p.stop()
		if err := u.Verify(ctx); err != nil {
			way.done = true
			return a.takeBack(ctx, way, err)
		}
		return nil
	})
	result.Applied = failure == nil
	var back *takenBack
	if errors.As(failure, &back) {
		result.RolledBack = back.whole
	} else if failure != nil {
		return failure
	}
	if err := a.print(result, result.done); err != nil {
		return err
	}
	return failure
}

// done is what is on stdout in the end.
func (r updateResult) done(w io.Writer) {
	switch {
	case r.Applied:
		fmt.Fprintf(w, "updated to version %s of policy %s; %s\n", r.To, r.Profile, r.summary())
	case !r.Plan.Writes():
		fmt.Fprintf(w, "nothing to update: version %s of policy %s\n", r.To, r.Profile)
	}
}

// grantedHere reads what the account has granted in the region of the customer.
func grantedHere(ctx context.Context, c customer, v *vendor.Profile) (*access.Granted, error) {
	there, err := granted(ctx, c, v)
	switch {
	case err != nil:
		return nil, err
	case there.Region != c.region:
		return nil, usererr.New(usererr.Refused, "account %s has granted access in region %s, and the region here is %s", c.account, there.Region, c.region).
			WithHint("give --region %s; access in another region is another grant", there.Region)
	}
	return there, nil
}

// narrowed refuses to take what data planes need.
func narrowed(needed []access.Need) error {
	first, more := needed[0], ""
	if n := len(needed) - 1; n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	return usererr.New(usererr.Refused, "it narrows what data plane %s needs: %s on %s, with which role %s %s%s; nothing was changed",
		first.DataPlane, first.Action, first.Resource, first.Role, first.Purpose, more).
		WithHint("change the data plane first, so that it needs it no longer; or give --allow-narrowing to take it all the same")
}

// updateRefused makes a sentence of the first step that is refused.
func updateRefused(plan step.Plan) error {
	steps := plan.With(step.Refuse)
	if len(steps) == 0 {
		return nil
	}
	first := steps[0]
	more := ""
	if n := len(steps) - 1; n > 0 {
		more = fmt.Sprintf(", and %d more", n)
	}
	return usererr.New(usererr.Refused, "%s is not changed: %s%s; nothing was changed", first.Name, strings.TrimSpace(strings.Join(first.Details[:min(2, len(first.Details))], ": ")), more).
		WithHint("%s", first.Hint).Because(&step.RefusedError{Plan: plan})
}

// takenBack is a failure after which what was changed was put back.
type takenBack struct {
	error
	whole bool // all of it
}

func (t *takenBack) Unwrap() error { return t.error }

// takeBack puts back what a run changed before it failed. A run that was told to stop leaves
// it as it is, for the next one to finish.
func (a *app) takeBack(ctx context.Context, way *updateWay, failure error) error {
	if ctx.Err() != nil || !way.wrote() {
		return failure
	}
	p := a.progress("putting back what was changed")
	defer p.stop()
	said := awsSentence(failure)
	if left := way.undo(ctx); left != nil {
		return &takenBack{usererr.New(usererr.Refused, "%v; not everything that was changed could be put back: %v", said, left).
			WithHint("run the same command again, which goes on from what is there").Because(failure), false}
	}
	return &takenBack{usererr.New(usererr.Refused, "%v; everything that was changed was put back", said).
		WithHint("%s", hintOf(said, "remove the cause and run the same command again")).Because(failure), true}
}

// hintOf is the hint of a sentence, or another one.
func hintOf(err error, otherwise string) string {
	var said *usererr.Error
	if errors.As(err, &said) && said.Hint != "" {
		return said.Hint
	}
	return otherwise
}

// rightLines are rights as the history has them.
func rightLines(rights []access.Right) []string {
	var all []string
	for _, r := range rights {
		_, text, _ := strings.Cut(r.String(), ": ")
		all = append(all, strings.TrimSpace(r.Role+" "+text))
	}
	return slices.Compact(all)
}
