package access

import (
	"slices"
	"strings"

	"biplane.dev/biplane/provision/operations"
)

// The access roles under strict: what their names add to the base name, who they
// are in the operations table, and what they are for.
var strictRoles = []struct {
	suffix, purpose string
	who             operations.Roles
}{
	{"", "makes the data plane, and removes nothing", operations.Provision},
	{"-operate", "keeps the data plane running: versions, nodes, add-ons, settings", operations.Operate},
	{"-observe", "looks, and changes nothing", operations.Observe},
	{"-teardown", "removes the data plane, with what is in its buckets", operations.Teardown},
	{"-break-glass", "support in an emergency; nobody can assume it until the customer switches it on", operations.BreakGlass},
}

// strict generates the documents from the operations table.
func (t *target) strict() (*Set, error) {
	boundary := t.boundary()
	set := &Set{Profile: Strict, Partition: t.region.Partition, Account: t.Account, Region: t.Region, Boundary: &boundary}
	for _, r := range strictRoles {
		if r.who == operations.Teardown && !t.DeletePermissions {
			continue // no role at all: there is nothing that somebody could assume
		}
		role := Role{Name: t.Vendor.RoleName + r.suffix, Path: t.Vendor.Path, Purpose: r.purpose, Trust: t.trustStrict()}
		if r.who == operations.BreakGlass {
			role.Trust = t.trustNobody()
		}
		base := t.Vendor.PolicyName + "-" + r.who.String()
		for _, d := range domains {
			if text := t.granted(r.who, d); text != nil {
				role.Policies = append(role.Policies, newPolicy(base+"-"+string(d), "managed", text))
			}
		}
		role.Policies = append(role.Policies, newPolicy(base+"-limits", "managed", t.rails(r.who)))
		set.Roles = append(set.Roles, role)
	}
	if t.PrivateEndpoint {
		set.Roles = append(set.Roles, t.ecsRoles(true)...)
	}
	return set, nil
}

// domain is a group of grants that make one policy. The groups are by service,
// not by what fits, so that a change of the table changes one document and the
// same grants are in the same document in every region.
type domain string

var domains = []domain{"network", "cluster", "iam", "data", "logs", "endpoint"}

// domainOf says where an action is granted, in a phase.
func domainOf(phase operations.Phase, action string) domain {
	if phase == operations.PrivateEndpoint {
		return "endpoint"
	}
	switch service, _, _ := strings.Cut(action, ":"); service {
	case "ec2", "route53", "elasticloadbalancing":
		return "network"
	case "iam":
		return "iam"
	case "s3", "ecr", "kms":
		return "data"
	case "eks", "autoscaling", "ssm":
		return "cluster"
	}
	return "logs" // logs, queue, rules, quotas
}

// granted is the text of what a role is allowed in a domain, or nil.
func (t *target) granted(who operations.Roles, d domain) []byte {
	var pairs []pair
	for _, g := range t.grantsOf(who) {
		if g.domain == d {
			pairs = append(pairs, g.pair)
		}
	}
	if len(pairs) == 0 {
		return nil
	}
	return document(group(pairs))
}

// grant is one pair with the domain that it is in.
type grantedPair struct {
	pair
	domain domain
}

// grantsOf lists what the table allows a role. A pair that two phases need is in
// the domain of the first; one that the private endpoint shares with another
// phase is not repeated in its document.
func (t *target) grantsOf(who operations.Roles) []grantedPair {
	names := operations.StrictNames(t.place(), t.Vendor)
	var list []grantedPair
	seen := map[string]bool{}
	for _, private := range []bool{false, true} {
		for _, op := range operations.Operations() {
			if !op.Roles.Has(who) || (op.Phase == operations.PrivateEndpoint) != private || private && !t.PrivateEndpoint {
				continue
			}
			for _, g := range op.Grants {
				when := conditions{}
				for _, c := range g.When {
					c = names.Condition(c)
					if when[c.Operator] == nil {
						when[c.Operator] = map[string][]string{}
					}
					when[c.Operator][c.Key] = c.Values
				}
				for _, action := range g.Actions {
					for _, resource := range g.Resources {
						p := pair{action: action, resource: names.Pattern(resource), when: when}
						if !seen[p.key()] {
							seen[p.key()] = true
							list = append(list, grantedPair{p, domainOf(op.Phase, action)})
						}
					}
				}
			}
		}
	}
	return slices.Clip(list)
}

func (t *target) place() operations.Place {
	return operations.Place{Partition: t.region.Partition, DNSSuffix: t.region.DNSSuffix, Region: t.Region, Account: t.Account}
}
