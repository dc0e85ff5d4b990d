package access

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
)

// policyChange is what becomes of one managed policy.
type policyChange struct {
	policy        Policy
	path, purpose string
	arn           string
	role          string // "" for the boundary
	tags          []types.Tag
	from          []byte   // the document that was there when the plan was made; nil: none
	lines         []string // what widens and narrows
	interim       bool     // it is there only while others change
}

// changes reports whether there is one to change, which has its place in the order.
func (c *policyChange) changes() bool {
	return c.from != nil && len(documentDifferences("", c.from, c.policy.Document)) > 0
}

// inOrder lists the changes of policies so that no role has at any time less than what it
// has both before and after: what a policy loses that another one gets, it loses
// after. Where two policies swap rights, no order does that; then the old document of one
// of them is attached under another name in the meantime.
func (u *Update) inOrder() error {
	wanted := u.wantedPolicies()
	byRole := map[string][]*policyChange{}
	var order []*policyChange
	for _, w := range wanted {
		c := &policyChange{
			policy: *w.policy, path: w.path, purpose: w.purpose, arn: w.arn, role: w.role, from: u.policies[w.arn].document,
		}
		if u.stack == nil {
			c.tags = u.policyTags(u.wanted, u.wantedPolicyNamed(w))
		}
		if c.changes() {
			c.lines = u.rightLines(c.role, c.policy.Name)
			if c.lines == nil {
				c.lines = []string{"what it allows moves to, or comes from, other policies of the role"}
			}
			byRole[c.role] = append(byRole[c.role], c)
		} else {
			u.changes = append(u.changes, c)
			if c.from == nil {
				if line := countLine("widens", u.Widens, func(r Right) bool { return r.Role == c.role && r.In == c.policy.Name }); line != "" {
					c.lines = []string{line}
				}
			}
		}
	}
	for _, role := range sortedKeys(byRole) {
		some, interims, err := u.orderOf(role, byRole[role])
		if err != nil {
			return err
		}
		order = append(order, some...)
		u.changes = append(u.changes, interims...)
	}
	// Those that lose nothing come first, whichever role they are of.
	slices.SortStableFunc(order, func(a, b *policyChange) int { return rank(a) - rank(b) })
	u.changes = append(u.changes, order...)
	return nil
}

// wantedPolicyNamed is the policy as it is wanted, before an edit is kept in it.
func (u *Update) wantedPolicyNamed(w wantedPolicy) Policy {
	if w.role == "" {
		return *u.wanted.Boundary
	}
	for _, p := range u.wantedRole(w.role).Policies {
		if p.Name == w.policy.Name && p.Kind == managed {
			return p
		}
	}
	return *w.policy
}

// rank is 0 for a policy that loses no right.
func rank(c *policyChange) int {
	if len(covered(mustParse(c.from), mustParse(c.policy.Document), iampolicy.Allow)) > 0 {
		return 1
	}
	return 0
}

// covered are the grants of a document that others lack, as text.
func covered(document, others *iampolicy.Document, effect iampolicy.Effect) map[string]bool {
	keys := map[string]bool{}
	for _, d := range iampolicy.Diff(document, others, nil) {
		if d.Effect == effect && (d.Class == iampolicy.Narrowing) == (effect == iampolicy.Allow) {
			keys[strings.Join([]string{d.Action, d.Resource, d.Condition}, "\x00")] = true
		}
	}
	return keys
}

// orderOf orders the changes of one role.
func (u *Update) orderOf(role string, changes []*policyChange) (order, interims []*policyChange, err error) {
	r := slices.IndexFunc(u.Set.Roles, func(r Role) bool { return r.Name == role })
	live := u.roles[role]
	if r < 0 || live == nil {
		return changes, nil, nil // the boundary, of which nobody's rights depend in between; or a new role
	}
	after := iampolicy.Merge(documentsIn(u.Set.Roles[r])...)
	// What the role has at any time, by policy: first all that it has, and what is new.
	now := map[string]*iampolicy.Document{}
	for _, arn := range live.attached {
		if p, ok := u.policies[arn]; ok {
			now[arn] = mustParse(p.document)
		}
	}
	for _, p := range u.Set.Roles[r].Policies {
		arn := u.policyARN(u.Set.Roles[r].Path, p.Name)
		if p.Kind == managed && now[arn] == nil {
			now[arn] = mustParse(p.Document)
			if old := u.policies[arn].document; old != nil {
				now[arn] = mustParse(old)
			}
		}
	}
	all := func() *iampolicy.Document {
		var documents []*iampolicy.Document
		for _, arn := range sortedKeys(now) {
			documents = append(documents, now[arn])
		}
		return iampolicy.Merge(documents...)
	}
	// loses reports whether something that the role keeps is missing right after a change.
	loses := func(c *policyChange) bool {
		was := now[c.arn]
		now[c.arn] = mustParse(c.policy.Document)
		missing, gone := covered(was, all(), iampolicy.Allow), covered(was, after, iampolicy.Allow)
		now[c.arn] = was
		for key := range missing {
			if !gone[key] {
				return true
			}
		}
		return false
	}
	left := slices.Clone(changes)
	slices.SortStableFunc(left, func(a, b *policyChange) int { return rank(a) - rank(b) })
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(c *policyChange) bool { return !loses(c) })
		if i < 0 {
			i = 0
			old := u.interimOf(left[0])
			interims = append(interims, old)
			now[old.arn] = mustParse(old.policy.Document)
		}
		now[left[i].arn] = mustParse(left[i].policy.Document)
		order = append(order, left[i])
		left = slices.Delete(left, i, i+1)
	}
	most := publishedQuotas["AttachedPoliciesPerRoleQuota"]
	if n := len(live.attached) + len(interims); len(interims) > 0 && n > most {
		return nil, nil, usererr.New(usererr.Refused, "role %s needs %d managed policies while rights move between them, and the account allows %d on a role (AttachedPoliciesPerRoleQuota)", role, n, most).
			WithHint("detach what you attached to it yourself, or ask AWS to raise the quota")
	}
	return order, interims, nil
}

// interimOf is a policy with the old document of another.
func (u *Update) interimOf(c *policyChange) *policyChange {
	name := c.policy.Name + "-before"
	return &policyChange{
		policy: Policy{Name: name, Kind: managed, Size: size(c.from), Document: c.from}, path: c.path, arn: u.policyARN(c.path, name), role: c.role,
		from:    u.policies[u.policyARN(c.path, name)].document, // of a run that was killed
		purpose: "what " + c.policy.Name + " has allowed so far, while rights move between policies",
		tags:    append(u.tags(u.wanted), u.digestTag(digest(c.from))), interim: true,
	}
}

// interims are the ARNs of all policies that are there only in the meantime.
func (u *Update) interims() []string { return u.interimsOf(func(*policyChange) bool { return true }) }

func (u *Update) interimsOf(match func(*policyChange) bool) []string {
	var arns []string
	for _, c := range u.changes {
		if c.interim && match(c) {
			arns = append(arns, c.arn)
		}
	}
	return arns
}

func documentsIn(r Role) []*iampolicy.Document {
	var all []*iampolicy.Document
	for _, p := range r.Policies {
		all = append(all, mustParse(p.Document))
	}
	return all
}

// sameText reports whether IAM would give back the same document.
func sameText(a, b []byte) bool { return bytes.Equal(bytes.TrimSpace(a), bytes.TrimSpace(b)) }

func versionsLine(oldest string) string {
	return fmt.Sprintf("it has five versions, the most that IAM keeps: %s, the oldest that is not in force, is deleted", oldest)
}
