package access

import (
	"context"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

// patienceToVerify is how long what was written may take to be read by everybody.
const patienceToVerify = 20 * time.Second

// Verify reads everything again, compares it with what there should be, and computes what
// it allows to every call of the table. It asks again until the patience is over.
func (u *Update) Verify(ctx context.Context) error {
	patience := u.patience
	if patience == 0 {
		patience = patienceToVerify
	}
	for pause, until := 100*time.Millisecond, time.Now().Add(patience); ; pause *= 2 {
		wrong, err := u.verify(ctx)
		if err != nil || len(wrong) == 0 {
			return err
		}
		if !time.Now().Add(pause).Before(until) {
			return usererr.New(usererr.Refused, "what is there after the update is not what there should be: %s", listed(wrong, 3)).
				WithHint("see whether somebody else, or the organization, changes the same roles, and run the same command again")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
}

// verify says what is wrong.
func (u *Update) verify(ctx context.Context) ([]string, error) {
	c := &Checker{Set: u.Set, Vendor: u.vendor, RoleARN: u.Set.RoleARN(u.Set.Roles[0])}
	report := &Report{}
	if err := c.compare(ctx, report, &liveReader{iam: u.journal.IAM, policies: map[string]livePolicy{}, simulates: true, alone: true}); err != nil {
		return nil, err
	}
	var wrong []string
	for _, row := range report.Rows {
		switch {
		case row.Result == Pass:
		case row.Check == simulation && slices.ContainsFunc(u.Edits, func(e Edit) bool { return e.Role == row.Target }):
			// What was changed by hand and is kept may allow more, or less.
		default:
			wrong = append(wrong, strings.Join([]string{row.Check, row.Target + ":", row.Why}, " "))
		}
	}
	return wrong, nil
}
