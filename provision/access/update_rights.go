package access

import (
	"fmt"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
)

// Right is one right that comes or goes.
type Right struct {
	Role string `json:"role,omitempty"` // empty for the boundary
	In   string `json:"in"`             // the policy, or "trust policy"
	iampolicy.Difference
}

// String says it as a line of a plan does.
func (r Right) String() string {
	text := r.word() + ": "
	switch {
	case r.Effect == iampolicy.Deny && r.Class == iampolicy.Narrowing:
		text += "denies "
	case r.Effect == iampolicy.Deny:
		text += "no longer denies "
	}
	text += r.Action
	if r.Principal != "" {
		text += " by " + r.Principal
	}
	if r.Resource != "" {
		text += " on " + r.Resource
	}
	if r.Condition != "" {
		text += " if " + r.Condition
	}
	if r.AccessLevel != "" {
		text += " (" + r.AccessLevel + ")"
	}
	return text
}

// compare finds the rights that come and go. What only moves from one policy of a role to
// another is neither.
func (u *Update) compare() error {
	for _, r := range u.Set.Roles {
		before, after, err := u.bothOf(r)
		if err != nil {
			return err
		}
		live := u.roles[r.Name]
		for _, p := range r.Policies {
			var have []byte
			if p.Kind == managed {
				have = u.policies[u.policyARN(r.Path, p.Name)].document
			} else if live != nil {
				have = live.inline[p.Name]
			}
			there := have != nil && (p.Kind == inline || live != nil && slices.Contains(live.attached, u.policyARN(r.Path, p.Name)))
			if err := u.compareDocument(r.Name, p.Name, have, p.Document, there, before, after); err != nil {
				return err
			}
		}
		if live == nil {
			u.add(r.Name, trustPolicy, gained(&iampolicy.Document{}, mustParse(r.Trust.Document)))
			continue
		}
		if len((&foundRole{roleStep: u.newRoleStep(r), live: live}).trustDifferences()) > 0 {
			there, err := iampolicy.Parse(trustPolicy, live.trust)
			if err != nil {
				return fmt.Errorf("reading the trust of role %s: %w", r.Name, err)
			}
			u.add(r.Name, trustPolicy, iampolicy.Diff(there, mustParse(r.Trust.Document), sar.Default()))
		}
		if err := u.compareRest(r.Name, live, after); err != nil {
			return err
		}
	}
	for _, name := range sortedKeys(u.roles) {
		if u.wantedRole(name) != nil {
			continue
		}
		trust, err := iampolicy.Parse(trustPolicy, u.roles[name].trust)
		if err != nil {
			return fmt.Errorf("reading the trust of role %s: %w", name, err)
		}
		u.add(name, trustPolicy, lost(trust, &iampolicy.Document{}))
		if err := u.compareRest(name, u.roles[name], &iampolicy.Document{}); err != nil {
			return err
		}
	}
	if b := u.Set.Boundary; b != nil {
		have := u.policies[u.policyARN(u.Set.path(), b.Name)].document
		if have == nil || len(documentDifferences("", have, b.Document)) == 0 {
			return nil
		}
		there, err := iampolicy.Parse(b.Name, have)
		if err != nil {
			return fmt.Errorf("reading policy %s: %w", b.Name, err)
		}
		u.add("", b.Name, iampolicy.Diff(there, mustParse(b.Document), sar.Default()))
	}
	return nil
}

// bothOf is all that a role may do, before and after, by the policies that are ours.
func (u *Update) bothOf(r Role) (before, after *iampolicy.Document, err error) {
	var have, want []*iampolicy.Document
	for _, p := range r.Policies {
		want = append(want, mustParse(p.Document))
	}
	if live := u.roles[r.Name]; live != nil {
		if have, err = u.documentsOf(live); err != nil {
			return nil, nil, err
		}
	}
	return iampolicy.Merge(have...), iampolicy.Merge(want...), nil
}

// documentsOf are the documents of a role, but for those of policies that are not ours.
func (u *Update) documentsOf(live *liveRole) ([]*iampolicy.Document, error) {
	var all []*iampolicy.Document
	add := func(name string, text []byte) error {
		d, err := iampolicy.Parse(name, text)
		if err != nil {
			return fmt.Errorf("reading policy %s: %w", name, err)
		}
		all = append(all, d)
		return nil
	}
	for _, arn := range live.attached {
		if p, ok := u.policies[arn]; ok {
			if err := add(arn, p.document); err != nil {
				return nil, err
			}
		}
	}
	for _, name := range sortedKeys(live.inline) {
		if err := add(name, live.inline[name]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// compareDocument adds what comes and goes in one policy of a role.
func (u *Update) compareDocument(role, name string, have, want []byte, there bool, before, after *iampolicy.Document) error {
	if there && len(documentDifferences("", have, want)) == 0 {
		return nil
	}
	u.add(role, name, gained(before, mustParse(want)))
	if !there {
		return nil
	}
	d, err := iampolicy.Parse(name, have)
	if err != nil {
		return fmt.Errorf("reading policy %s: %w", name, err)
	}
	u.add(role, name, lost(d, after))
	return nil
}

// compareRest adds what goes with the policies of a role that are no longer wanted, or
// that somebody added.
func (u *Update) compareRest(role string, live *liveRole, after *iampolicy.Document) error {
	for _, arn := range live.attached {
		p, known := u.policies[arn]
		if !known || u.isWanted(role, arn) {
			continue
		}
		_, name := u.splitPolicyARN(arn)
		d, err := iampolicy.Parse(name, p.document)
		if err != nil {
			return fmt.Errorf("reading policy %s: %w", name, err)
		}
		u.add(role, name, lost(d, after))
	}
	return nil
}

// isWanted reports whether a role shall carry a policy.
func (u *Update) isWanted(role, arn string) bool {
	for _, r := range u.Set.Roles {
		if r.Name == role {
			return slices.Contains(u.newRoleStep(r).attachments(), arn)
		}
	}
	return false
}

// add adds differences. What a role is denied that is not there, before or after, is none.
func (u *Update) add(role, in string, differences []iampolicy.Difference) {
	comes, goes := role != "" && u.roles[role] == nil, role != "" && u.wantedRole(role) == nil
	for _, d := range differences {
		if d.Effect == iampolicy.Deny && (comes || goes) {
			continue
		}
		if d.Class == iampolicy.Widening {
			u.Widens = append(u.Widens, Right{role, in, d})
		} else {
			u.Narrows = append(u.Narrows, Right{role, in, d})
		}
	}
}

// gained are the differences that one document has over another; what it lacks is left out.
func gained(before, document *iampolicy.Document) []iampolicy.Difference {
	return slices.DeleteFunc(iampolicy.Diff(before, document, sar.Default()), func(d iampolicy.Difference) bool {
		return (d.Class == iampolicy.Widening) != (d.Effect == iampolicy.Allow)
	})
}

// lost are those that a document has and what comes after it has not.
func lost(document, after *iampolicy.Document) []iampolicy.Difference {
	return slices.DeleteFunc(iampolicy.Diff(document, after, sar.Default()), func(d iampolicy.Difference) bool {
		return (d.Class == iampolicy.Narrowing) != (d.Effect == iampolicy.Allow)
	})
}

// mustParse reads one of our own documents.
func mustParse(text []byte) *iampolicy.Document {
	d, err := iampolicy.Parse("wanted", text)
	if err != nil {
		panic(err) // Generate made it, or it was read before
	}
	return d
}

// maxRights is how many rights of one policy are shown in each direction.
const maxRights = 12

// rightLines says what comes and goes in a policy of a role, the weightiest first.
func (u *Update) rightLines(role, in string) []string {
	var lines []string
	for _, rights := range [][]Right{u.Widens, u.Narrows} {
		var these []Right
		for _, r := range rights {
			if r.Role == role && r.In == in {
				these = append(these, r)
			}
		}
		for _, r := range these[:min(len(these), maxRights)] {
			lines = append(lines, r.String())
		}
		if more := len(these) - maxRights; more > 0 {
			lines = append(lines, fmt.Sprintf("%s by %d more, which --output json lists", these[0].word(), more))
		}
	}
	return lines
}

// RightLines says what comes and goes, policy by policy.
func (u *Update) RightLines() []string {
	var lines []string
	seen := map[[2]string]bool{}
	for _, r := range slices.Concat(u.Widens, u.Narrows) {
		if at := [2]string{r.Role, r.In}; !seen[at] {
			seen[at] = true
			where := r.In + " of role " + r.Role
			if r.Role == "" {
				where = r.In
			}
			lines = append(lines, "in "+where+":")
			for _, line := range u.rightLines(r.Role, r.In) {
				lines = append(lines, "  "+line)
			}
		}
	}
	return lines
}

func (r Right) word() string {
	if r.Class == iampolicy.Narrowing {
		return "narrows"
	}
	return "widens"
}

// countLine counts rights that come with what is new, or go with what is removed, by
// access level; "" for none.
func countLine(word string, rights []Right, match func(Right) bool) string {
	levels := map[string]int{}
	n := 0
	for _, r := range rights {
		if match(r) {
			n++
			levels[or(r.AccessLevel, "other")]++
		}
	}
	if n == 0 {
		return ""
	}
	var parts []string
	for _, level := range []string{sar.PermissionsManagement, sar.Write, sar.Tagging, sar.Read, sar.List, "other"} {
		if levels[level] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", levels[level], level))
		}
	}
	return fmt.Sprintf("%s by %d: %s", word, n, strings.Join(parts, ", "))
}
