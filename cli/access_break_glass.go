package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/step"
)

func (a *app) accessBreakGlass() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "break-glass",
		Short: "Let the vendor's support in for an emergency, for a while",
		Long: `Let the vendor's support in for an emergency, for a while.

The policy strict makes a role that nobody can assume. 'open' switches it on for
the vendor's control plane until a moment, for people who are named, with a
reason; 'close' switches it off, and ends the sessions that began.`,
		Example: `  biplane access break-glass open --for 1h --reason 'TICKET-4711: nodes do not join' --source-identity ada@example.com
  biplane access break-glass status
  biplane access break-glass close`,
	}
	cmd.AddCommand(
		a.accessBreakGlassOpen(),
		a.accessBreakGlassStatus(),
		a.accessBreakGlassClose(),
	)
	return cmd
}

func (a *app) accessBreakGlassOpen() *cobra.Command {
	var f struct {
		length           time.Duration
		reason           string
		sourceIdentities []string
		run              runFlags
	}
	cmd := &cobra.Command{
		Use:   "open --for DURATION --reason TEXT",
		Short: "Switch the break-glass role on for a while",
		Long: `Switch the break-glass role on for a while, with the customer's own credentials.

Until the end the vendor's control plane may assume it, with the external ID and
with a source identity: one of those given, or with none given any. Sessions end
with the window, and those of earlier windows stay dead. The reason is kept in the
role's trust policy. From five minutes to twelve hours, by AWS's clock and not by
this machine's.

While it is open, 'open' again moves the end, gives another reason, or admits more
source identities; to take one away, close it first.`,
		Example: `  biplane access break-glass open --for 1h --reason 'TICKET-4711: nodes do not join'

  # Only for two people, whose names AWS's own log shows with each call
  biplane access break-glass open --for 90m --reason TICKET-4711 --source-identity ada@example.com --source-identity grace@example.com`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !cmd.Flags().Changed("for") {
				return required(cmd, "for", "", "1h, at most 12h")
			}
			if !cmd.Flags().Changed("reason") {
				return required(cmd, "reason", "", "TEXT, such as the number of a ticket")
			}
			slices.Sort(f.sourceIdentities)
			f.sourceIdentities = slices.Compact(f.sourceIdentities)
			if err := access.CheckWindow(f.length, f.reason, f.sourceIdentities); err != nil {
				return err
			}
			if err := f.run.checkAccount(); err != nil {
				return err
			}
			return a.breakGlass(cmd.Context(), f.run, "break-glass open", f.reason, func(g grantedAccount, is *access.BreakGlass) ([]step.Step, error) {
				w, err := access.NewWindow(g.set, is.Now, f.length, f.reason, f.sourceIdentities)
				if err != nil {
					return nil, err
				}
				return access.OpenSteps(g.iam, g.set, g.vendor, w)
			})
		},
	}
	cmd.Flags().DurationVar(&f.length, "for", 0, "how long: a `DURATION` such as 1h or 90m, from 5m to 12h")
	cmd.Flags().StringVar(&f.reason, "reason", "", "why, in one line of `TEXT`")
	cmd.Flags().StringArrayVar(&f.sourceIdentities, "source-identity", nil, "`NAME` of somebody who may come; can be given several times (default: everybody who gives one)")
	f.run.addCustomer(cmd)
	return cmd
}

func (a *app) accessBreakGlassClose() *cobra.Command {
	var run runFlags
	cmd := &cobra.Command{
		Use:   "close",
		Short: "Switch the break-glass role off, and end its sessions",
		Long: `Switch the break-glass role off: its trust is put back, so that nobody can come
in, and every session that began is refused everything from then on.

It puts a trust that somebody edited back as well. After a kill or Ctrl-C, the same
command finishes what was begun.`,
		Example: `  biplane access break-glass close`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := run.checkAccount(); err != nil {
				return err
			}
			return a.breakGlass(cmd.Context(), run, "break-glass close", "", func(g grantedAccount, _ *access.BreakGlass) ([]step.Step, error) {
				return access.CloseSteps(g.iam, g.set, g.vendor)
			})
		},
	}
	run.addCustomer(cmd)
	return cmd
}

func (a *app) accessBreakGlassStatus() *cobra.Command {
	var account string
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say whether the break-glass role is switched on",
		Long: `Say whether the break-glass role is switched on: until when, why and for whom,
and what is not as Biplane writes it. It changes nothing.

Exit status: 0 whatever it is; 2 could not run.`,
		Example: `  biplane access break-glass status --output json`,
		Args:    noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if account != "" {
				if err := checkAccount(account); err != nil {
					return err
				}
			}
			p := a.progress("reading the break-glass role")
			defer p.stop()
			g, is, err := a.readBreakGlass(cmd.Context(), account)
			if err != nil {
				return err
			}
			p.stop()
			a.warnOfClock(is.Skew)
			status := statusOf(g, is)
			return a.print(status, status.print)
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "`ID` of the account that is meant; credentials of another one are refused")
	return cmd
}

// breakGlassStatus is what break-glass prints, as JSON.
type breakGlassStatus struct {
	Account          string   `json:"account"`
	Role             string   `json:"role"`
	Open             bool     `json:"open"`
	Until            string   `json:"until"` // also when it is over; empty: closed
	Reason           string   `json:"reason"`
	SourceIdentities []string `json:"sourceIdentities"` // empty: everybody who gives one
	Principal        string   `json:"principal"`
	Left             string   `json:"left"`     // "58m"; empty when nobody can come
	Problems         []string `json:"problems"` // what is not as Biplane writes it
}

// breakGlassChange is what open and close print.
type breakGlassChange struct {
	breakGlassStatus
	Plan    step.Plan `json:"plan"`
	Applied bool      `json:"applied"`
}

func statusOf(g grantedAccount, is *access.BreakGlass) breakGlassStatus {
	s := breakGlassStatus{
		Account: g.account, Role: is.Role, Open: is.Open(), Principal: is.Principal,
		SourceIdentities: []string{}, Problems: append([]string{}, is.Problems...),
	}
	if w := is.Window; w != nil {
		s.Until, s.Reason = w.Until.UTC().Format(time.RFC3339), w.Reason
		s.SourceIdentities = append(s.SourceIdentities, w.SourceIdentities...)
		if s.Open {
			s.Left = shortly(w.Until.Sub(is.Now))
		}
	}
	return s
}

// shortly is a time that is left, in minutes, and in its last one in seconds.
func shortly(d time.Duration) string {
	if d < time.Minute {
		return d.Truncate(time.Second).String()
	}
	return strings.TrimSuffix(d.Truncate(time.Minute).String(), "0s")
}

func (s breakGlassStatus) print(w io.Writer) {
	fmt.Fprintf(w, "role\t%s\n", s.Role)
	switch {
	case s.Open:
		fmt.Fprintf(w, "state\topen until %s, %s left\n", s.Until, s.Left)
	case s.Until != "":
		fmt.Fprintf(w, "state\tover since %s; 'biplane access break-glass close' puts the trust back\n", s.Until)
	case len(s.Problems) > 0:
		fmt.Fprintf(w, "state\tnot as Biplane writes it\n")
	default:
		fmt.Fprintf(w, "state\tclosed\n")
	}
	if s.Until != "" {
		whom := "everybody who gives a source identity"
		if len(s.SourceIdentities) > 0 {
			whom = strings.Join(s.SourceIdentities, ", ")
		}
		fmt.Fprintf(w, "reason\t%s\nfor\t%s\nthrough\t%s\n", s.Reason, whom, s.Principal)
	}
	for _, problem := range s.Problems {
		fmt.Fprintf(w, "problem\t%s\n", oneLine(problem))
	}
}

func (a *app) readBreakGlass(ctx context.Context, account string) (grantedAccount, *access.BreakGlass, error) {
	g, err := a.grantedSet(ctx, account)
	if err != nil {
		return g, nil, err
	}
	is, err := access.ReadBreakGlass(ctx, g.iam, g.set, g.vendor)
	return g, is, err
}

// warnOfClock says that this machine's clock is off. Nothing goes by it.
func (a *app) warnOfClock(skew time.Duration) {
	if skew.Abs() > time.Minute {
		fmt.Fprintf(a.Err, "warning: the clock of this machine is %s; times here are AWS's\n", off(skew))
	}
}

// off says how far a clock is from AWS's.
func off(skew time.Duration) string {
	if skew < 0 {
		return skew.Abs().Round(time.Second).String() + " behind AWS's"
	}
	return skew.Round(time.Second).String() + " ahead of AWS's"
}

// breakGlass opens or closes the role.
func (a *app) breakGlass(ctx context.Context, run runFlags, command, reason string, steps func(grantedAccount, *access.BreakGlass) ([]step.Step, error)) error {
	p := a.progress("reading the break-glass role")
	defer p.stop()
	g, is, err := a.readBreakGlass(ctx, run.account)
	if err != nil {
		return err
	}
	var runner step.Runner
	if runner.Steps, err = steps(g, is); err != nil {
		return err
	}
	plan, err := runner.Plan(ctx, step.Present)
	if err != nil {
		return err
	}
	p.stop()
	a.warnOfClock(is.Skew)

	_, verb, _ := strings.Cut(command, " ")
	heading := fmt.Sprintf("Break-glass, %s, in account %s:", verb, g.account)
	if run.dryRun {
		if err := a.print(breakGlassChange{breakGlassStatus: statusOf(g, is), Plan: plan}, planText(heading, plan)); err != nil {
			return err
		}
		return notAsPlanned(plan)
	}
	if err := notAsPlanned(plan); err != nil {
		planText(heading, plan)(a.Err)
		return err
	}
	change := g.change(command, "iam")
	change.Reason, change.Hidden = reason, []string{g.granted.ExternalID, g.granted.PreviousExternalID}
	if verb == "open" {
		change.Widened = changes(plan)
	} else {
		change.Narrowed = changes(plan)
	}
	if err := a.carryOut(ctx, runner, plan, heading, run.yes, change); err != nil {
		return err
	}
	if is, err = access.ReadBreakGlass(ctx, g.iam, g.set, g.vendor); err != nil {
		return err
	}
	result := breakGlassChange{statusOf(g, is), plan, plan.Writes()}
	if err := a.print(result, result.print); err != nil {
		return err
	}
	if len(is.Problems) > 0 {
		return usererr.New(usererr.Refused, "%s is not as it was written: %s", is.Role, is.Problems[0]).WithHint("run 'biplane access break-glass close'")
	}
	return nil
}
