package access

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
	"biplane.dev/biplane/provision/step"
)

// maxDifferences is how many lines of one document's difference are shown: a
// document of another region differs in hundreds.
const maxDifferences = 6

// Differences says in what a set grants something else than the one wanted, or
// nothing: two ways to make the same can be compared by it.
func Differences(have, want *Set) []string {
	lines := policyDifferences("the boundary", have.Boundary, want.Boundary)
	roleIn := func(set *Set, name string) *Role {
		i := slices.IndexFunc(set.Roles, func(r Role) bool { return r.Name == name })
		if i < 0 {
			return nil
		}
		return &set.Roles[i]
	}
	for _, r := range have.Roles {
		if roleIn(want, r.Name) == nil {
			lines = append(lines, "role "+r.Name+" is there, and should not be")
		}
	}
	for _, w := range want.Roles {
		h := roleIn(have, w.Name)
		if h == nil {
			lines = append(lines, "role "+w.Name+" is missing")
			continue
		}
		what := "role " + w.Name + ": "
		if h.Path != w.Path {
			lines = append(lines, fmt.Sprintf("%sits path is %s, wanted %s", what, h.Path, w.Path))
		}
		if got, wanted := nameOf(h.Boundary), nameOf(w.Boundary); got != wanted {
			lines = append(lines, fmt.Sprintf("%sits permissions boundary is %s, wanted %s", what, got, wanted))
		}
		lines = append(lines, documentDifferences(what+"the trust policy", h.Trust.Document, w.Trust.Document)...)
		if !slices.Equal(h.Attached, w.Attached) {
			lines = append(lines, fmt.Sprintf("%sit carries %v, wanted %v", what, h.Attached, w.Attached))
		}
		names := map[string]bool{}
		for _, policies := range [][]Policy{w.Policies, h.Policies} {
			for _, p := range policies {
				if !names[p.Name] {
					names[p.Name] = true
					lines = append(lines, policyDifferences(what+"the policy "+p.Name, policyIn(h, p.Name), policyIn(&w, p.Name))...)
				}
			}
		}
	}
	return lines
}

func nameOf(boundary *string) string {
	if boundary == nil {
		return "none"
	}
	return *boundary
}

func policyIn(r *Role, name string) *Policy {
	i := slices.IndexFunc(r.Policies, func(p Policy) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &r.Policies[i]
}

func policyDifferences(what string, have, want *Policy) []string {
	switch {
	case have == nil && want == nil:
		return nil
	case have == nil:
		return []string{what + " is missing"}
	case want == nil:
		return []string{what + " is there, and should not be"}
	case have.Name != want.Name:
		return []string{fmt.Sprintf("%s is called %s, wanted %s", what, have.Name, want.Name)}
	case have.Kind != want.Kind:
		return []string{fmt.Sprintf("%s is %s, wanted %s", what, have.Kind, want.Kind)}
	}
	return documentDifferences(what, have.Document, want.Document)
}

// documentDifferences says in what a document means something else than the
// one wanted, or nothing. White space, order, letter case of actions and Sids
// are no differences.
func documentDifferences(what string, have, want []byte) []string {
	if bytes.Equal(have, want) {
		return nil // as it nearly always is; comparing by meaning takes a while
	}
	wanted, err := iampolicy.Parse("wanted", want)
	if err != nil {
		return []string{fmt.Sprintf("%s that is wanted cannot be read: %v", what, err)}
	}
	there, err := iampolicy.Parse("there", have)
	if err != nil {
		return []string{fmt.Sprintf("%s cannot be read: %v", what, err)}
	}
	if iampolicy.Equal(there, wanted) {
		return nil
	}
	lines := []string{what + " is another one"}
	for _, d := range iampolicy.Diff(wanted, there, sar.Default()) {
		line := "  " + differenceText(d)
		switch { // one statement may differ from several, and is named once
		case slices.Contains(lines, line):
			continue
		case len(lines) > maxDifferences:
			return append(lines, "  and more")
		}
		lines = append(lines, line)
	}
	return lines
}

// differenceText says what one document has and the wanted one has not, or the
// other way round.
func differenceText(d iampolicy.Difference) string {
	words := "it has, and should not: "
	if (d.Class == iampolicy.Widening) != (d.Effect == iampolicy.Allow) {
		words = "it lacks: "
	}
	text := fmt.Sprintf("%s%s %s", words, d.Effect, d.Action)
	if d.Resource != "" {
		text += " on " + d.Resource
	}
	if d.Condition != "" {
		text += " if " + d.Condition
	}
	return text
}

// trustLines says who may assume a role and under which conditions, a line for
// each statement.
func trustLines(document []byte) []string {
	doc, err := iampolicy.Parse("trust", document)
	if err != nil {
		return []string{fmt.Sprintf("its trust policy cannot be read: %v", err)}
	}
	var lines []string
	for _, s := range doc.Statements {
		line := "trusts "
		if s.Effect == iampolicy.Deny {
			line = "refuses "
		}
		line += strings.Join(principalNames(s.Principal), ", ")
		if s.NotPrincipal != nil {
			line += "everybody but " + strings.Join(principalNames(s.NotPrincipal), ", ")
		}
		for i, c := range s.Condition {
			word := " if "
			if i > 0 {
				word = " and "
			}
			line += fmt.Sprintf("%s%s %s %s", word, c.Key, c.Operator, strings.Join(c.Values, " or "))
		}
		lines = append(lines, line)
	}
	return lines
}

func principalNames(p *iampolicy.Principals) []string {
	if p == nil {
		return nil
	}
	var names []string
	if p.Any {
		names = append(names, "everybody")
	}
	for _, values := range [][]string{p.AWS, p.Service, p.Federated, p.CanonicalUser} {
		for _, v := range values {
			if v == "*" {
				v = "everybody"
			}
			names = append(names, v)
		}
	}
	return names
}

// refusal says that something else is there, with the difference.
func (p place) refusal(have, want []types.Tag, differences []string) step.Change {
	if p.ours(have) {
		before := "it was granted before, for something else than is wanted now"
		for _, flag := range []struct{ name, tag string }{{"--region", regionTag}, {"--policy", profileTag}} {
			was, is := tagValue(have, p.vendor.TagPrefix+flag.tag), tagValue(want, p.vendor.TagPrefix+flag.tag)
			if was != "" && was != is {
				before = fmt.Sprintf("it was granted before with %s %s, and %s is wanted now", flag.name, was, is)
			}
		}
		return step.Change{
			Action:  step.Refuse,
			Details: append([]string{before}, differences...),
			Hint:    "to change what was granted, run 'biplane access update'; or give the flags that it was granted with",
		}
	}
	return step.Change{
		Action:  step.Refuse,
		Details: append([]string{"it was made by somebody else, and differs"}, differences...),
		Hint:    "rename or delete it if it is yours, or choose another roleName and policyName in a file for --vendor-profile",
	}
}

// notOurs says why something stays.
func notOurs(managedByKey string) string {
	return "it has no tag " + managedByKey + " of ours, so somebody else made it"
}

// listed names at most n things.
func listed(things []string, n int) string {
	if len(things) <= n {
		return strings.Join(things, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(things[:n], ", "), len(things)-n)
}

// thousands writes 10395 as 10,395.
func thousands(n int) string {
	text := strconv.Itoa(n)
	var groups []string
	for len(text) > 3 {
		groups = append(groups, text[len(text)-3:])
		text = text[:len(text)-3]
	}
	groups = append(groups, text)
	slices.Reverse(groups)
	return strings.Join(groups, ",")
}

func or(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
