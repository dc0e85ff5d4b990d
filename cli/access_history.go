package cli

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"time"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/history"
	"biplane.dev/biplane/provision/step"
)

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
