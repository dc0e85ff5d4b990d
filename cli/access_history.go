package cli

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/history"
	"biplane.dev/biplane/provision/step"
)

func (a *app) accessHistory() *cobra.Command {
	var account string
	var limit int
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show what the account has granted, and who changed it from here",
		Long: `Show what the account says of its access now, and the changes that were made from
this machine, the newest first.

What is granted is read from the account with the customer's credentials: which
version of the documents the roles have, whether an external ID is being rotated,
whether break-glass is open. Without credentials it is left out.

The changes come from a local file, access-history.jsonl in $XDG_STATE_HOME/biplane
(~/.local/state/biplane): each command writes a line of JSON before it changes
access and one after. Changes made elsewhere, in the console or on another machine,
are not in it. The account's own record of all of them is CloudTrail.

A change is unfinished when it was begun and has no end: it was killed, or is still
at work. The same command finishes it. No external ID is ever in the file.`,
		Example: `  biplane access history --region eu-central-1

  # What each change widened, for a program
  biplane access history --limit 0 -o json | jq '.changes[] | {time, who, command, widened}'`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if account != "" {
				if err := checkAccount(account); err != nil {
					return err
				}
			}
			if limit < 0 {
				return usererr.New(usererr.Invalid, "--limit cannot be %d", limit).WithHint("it takes a number of changes, and 0 is all of them")
			}
			return a.history(cmd.Context(), account, limit)
		},
	}
	cmd.Flags().StringVar(&account, "account", "", "`ID` of the account whose changes are shown; without, that of the credentials, or all")
	cmd.Flags().IntVar(&limit, "limit", 20, "show `N` changes at most; 0 is all")
	return cmd
}

// historyResult is what history prints, as JSON.
type historyResult struct {
	Account string           `json:"account"` // empty: all
	Now     *access.State    `json:"now"`     // null: nothing is granted, or Unread says why it is not known
	Unread  string           `json:"unread"`  // empty where it is known
	File    string           `json:"file"`
	Changes []history.Change `json:"changes"`
	Earlier int              `json:"earlier"` // changes that the limit leaves out
	Damaged int              `json:"damaged"` // lines of the file that cannot be read
}

func (a *app) history(ctx context.Context, account string, limit int) error {
	v, err := a.vendor()
	if err != nil {
		return err
	}
	result := historyResult{Account: account, File: history.File(os.Getenv)}
	now, err := clock.FromEnvironment()
	if err != nil {
		return err
	}
	p := a.progress("looking at what is granted")
	defer p.stop()
	customer, err := a.customer(ctx, account, v)
	if err == nil {
		result.Account = customer.account
		result.Now, err = access.ReadState(ctx, customer.iam, customer.partition, customer.account, v, now.Now())
	}
	p.stop()
	if err != nil {
		err = awsSentence(err)
		var said *usererr.Error
		typed := a.aws.region != "" || a.aws.profile != ""
		if ctx.Err() != nil || typed && errors.As(err, &said) && said.Kind == usererr.Invalid {
			return err
		}
		result.Unread = oneLine(err.Error())
	}

	all, err := history.Read(result.File)
	if err != nil {
		return usererr.New(usererr.Invalid, "the local history %s cannot be read: %v", result.File, last(err)).
			WithHint("make it a file that you can read, or move it away").Because(err)
	}
	result.Damaged = all.Damaged
	result.Changes = slices.DeleteFunc(all.Changes, func(c history.Change) bool { return result.Account != "" && c.Account != result.Account })
	if more := len(result.Changes) - limit; limit > 0 && more > 0 {
		result.Changes, result.Earlier = result.Changes[:limit], more
	}
	if result.Changes == nil {
		result.Changes = []history.Change{}
	}
	return a.print(result, result.write)
}

// write is the table.
func (r historyResult) write(w io.Writer) {
	switch {
	case r.Unread != "":
		fmt.Fprintf(w, "What is granted now is not known: %s.\n", r.Unread)
	case r.Now == nil:
		fmt.Fprintf(w, "Account %s has granted nothing.\n", r.Account)
	default:
		fmt.Fprintf(w, "Account %s has granted %s.\n", r.Account, stateWords(r.Now))
	}
	if len(r.Changes) == 0 {
		fmt.Fprintln(w, "No change was made from this machine.")
	} else {
		fmt.Fprintln(w, "\nWHEN\tWHO\tCOMMAND\tMETHOD\tOUTCOME\tVERSION\tWIDENS\tNARROWS")
	}
	for _, c := range r.Changes {
		outcome := string(c.Outcome)
		if c.Error != "" {
			outcome += ": " + c.Error
		}
		if c.Reason != "" {
			outcome += " (" + c.Reason + ")"
		}
		cells := []string{c.Began.Format(time.RFC3339), c.Who, c.Command, c.Method, outcome, c.PolicyVersion, inBrief(c.Widened), inBrief(c.Narrowed)}
		for i := range cells { // the file may hold anything
			if cells[i] = oneLine(cells[i]); cells[i] == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	if r.Earlier > 0 {
		fmt.Fprintf(w, "\n%s earlier; --limit 0 shows all.\n", count(r.Earlier, "change"))
	}
	if r.Damaged > 0 {
		fmt.Fprintf(w, "\n%s of %s cannot be read.\n", count(r.Damaged, "line"), r.File)
	}
}

// stateWords is what is granted, in one sentence.
func stateWords(s *access.State) string {
	words := fmt.Sprintf("%s in %s, version %s, by %s", s.Profile, s.Region, s.PolicyVersion, s.Method)
	if s.PolicyVersion == "" {
		words = fmt.Sprintf("%s in %s, from before there were versions, by %s", s.Profile, s.Region, s.Method)
	}
	if s.Stack != "" {
		words += " (stack " + s.Stack + ")"
	}
	switch s.ExternalIDs {
	case 0:
		words += "; no external ID is asked for"
	case 2:
		words += "; a rotation is under way, two external IDs are valid"
	}
	switch b := s.BreakGlass; b.State {
	case "open":
		words += fmt.Sprintf("; break-glass is open until %s: %s", b.Until.UTC().Format(time.RFC3339), b.Reason)
	case "unknown":
		words += "; the break-glass role has a trust that is not Biplane's"
	case "closed":
		words += "; break-glass is closed"
	}
	return words
}

// inBrief is the first of a list, and how many more there are.
func inBrief(list []string) string {
	if len(list) > 1 {
		return fmt.Sprintf("%s, %d more", list[0], len(list)-1)
	}
	return strings.Join(list, "")
}

// change is the line of the history that c's credentials begin: what is changed by which
// command, and by which method.
func (c customer) change(command, method string) history.Entry {
	return history.Entry{
		Account: c.account, Region: c.region, Who: c.who, Command: command, Method: method, PolicyVersion: access.PolicyVersion,
	}
}

// recorded makes a change of access between two lines of the local history. Call it
// only where there is something to change. Where the lines cannot be written, the change
// is made all the same, with a warning.
func (a *app) recorded(ctx context.Context, change history.Entry, do func() error) error {
	file := history.File(os.Getenv)
	change.Change = rand.Text()
	record := func(outcome history.Outcome) error {
		change.Time, change.Outcome = time.Now(), outcome
		return history.Append(file, change)
	}
	unwritten := record(history.Began)
	if unwritten != nil {
		fmt.Fprintf(a.Err, "warning: this change is not in the local history: %s\n", oneLine(last(unwritten).Error()))
	}
	err := do()
	outcome := history.Done
	switch {
	case ctx.Err() != nil && err != nil:
		outcome, change.Error = history.Failed, "interrupted"
	case err != nil:
		outcome, change.Error = history.Failed, awsSentence(err).Error()
	}
	if unwritten == nil { // one warning is enough
		if lost := record(outcome); lost != nil {
			fmt.Fprintf(a.Err, "warning: the end of this change is not in the local history: %s\n", oneLine(last(lost).Error()))
		}
	}
	return err
}

// changes says in a few words what a plan writes.
func changes(plan step.Plan) []string {
	var all []string
	for _, s := range plan.Steps {
		if s.Action.Writes() {
			all = append(all, fmt.Sprintf("%s %s", s.Action, s.Name))
		}
	}
	return all
}
