package awsidentity

import (
	"fmt"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// An account may be a member of an organization, whose service control policies bound
// everybody in it, its root too, except AWS's service-linked roles. All of them are one
// level here: one must allow, none may deny.

// fullAWSAccess is attached to everything in an organization until somebody detaches it.
var fullAWSAccess = PolicyText{"FullAWSAccess", allowAllText}

// readSCP checks the policies, and puts FullAWSAccess beside those that only deny.
func readSCP(given map[string][]PolicyText) (map[string][]PolicyText, error) {
	out := map[string][]PolicyText{}
	for account, policies := range given {
		allows := false
		for _, p := range policies {
			doc, err := iampolicy.Parse(p.Name, []byte(p.Text))
			if err != nil {
				return nil, fmt.Errorf("service control policy %s: %w", p.Name, err)
			}
			allows = allows || slices.ContainsFunc(doc.Statements, func(s iampolicy.Statement) bool { return s.Effect == iampolicy.Allow })
		}
		if len(policies) > 0 && !allows {
			policies = append([]PolicyText{fullAWSAccess}, policies...)
		}
		out[account] = policies
	}
	return out, nil
}

// SCP are the service control policies of an account; none where it is in no organization.
func (s *Service) SCP(account string) []PolicyText { return s.scp[account] }

// scpOf are those that bound a role or user.
func (s *Service) scpOf(account string, p *principal) []PolicyText {
	if strings.HasPrefix(p.Path, "/aws-service-role/") {
		return nil
	}
	return s.scp[account]
}

// unconditional leaves out policies with a condition, which AWS's simulator does not
// evaluate (IAM User Guide, Testing IAM policies with the IAM policy simulator).
func unconditional(policies []PolicyText) []PolicyText {
	return slices.DeleteFunc(slices.Clone(policies), func(p PolicyText) bool {
		doc, err := iampolicy.Parse(p.Name, []byte(p.Text))
		return err != nil || slices.ContainsFunc(doc.Statements, func(s iampolicy.Statement) bool { return len(s.Condition) > 0 })
	})
}
