package access

import (
	"slices"
	"strings"

	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/vendor"
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

// RoleSuffix is what the name of one of the vendor's roles has behind that of the
// provision role; false when who is not exactly one of them.
func RoleSuffix(who operations.Roles) (string, bool) {
	for _, r := range strictRoles {
		if r.who == who {
			return r.suffix, true
		}
	}
	return "", false
}

// RoleNames are the names of all roles that the vendor may be granted, that of
// the provision role first. Not every grant makes all of them.
func RoleNames(v *vendor.Profile) []string {
	var names []string
	for _, r := range strictRoles {
		names = append(names, v.RoleName+r.suffix)
	}
	return names
}

// strict generates the documents from the operations table.
func (t *target) strict() (*Set, error) {
	boundary, table := t.boundary(), operations.Operations()
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
		granted := t.grantsOf(r.who, table)
		for _, d := range domains {
			if pairs := granted[d]; pairs != nil {
				text := document(group(dropCovered(mergeTagging(mergeValues(pairs)))))
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

// domain is a group of grants that make one policy. The groups are by what the
// grants are for, not by what fits, so that a change of the table changes one
// document and the same grants are in the same document in every region.
type domain string

var domains = []domain{"read", "network", "perimeter", "cluster", "iam", "data", "endpoint", "privatelink"}

// domainOf says where a pair is granted that a phase needs.
func domainOf(phase operations.Phase, p pair) domain {
	service, action, _ := strings.Cut(p.action, ":")
	if phase == operations.PrivateEndpoint {
		if service == "ec2" || service == "elasticloadbalancing" {
			return "privatelink" // its address and what it offers to the vendor's network
		}
		return "endpoint" // its tasks
	}
	if p.resource == "*" && len(p.when) == 0 {
		return "read" // lists and descriptions, which know no resource
	}
	has := func(words ...string) bool {
		return slices.ContainsFunc(words, func(word string) bool { return strings.Contains(action, word) })
	}
	switch {
	case service == "ec2" && has("SecurityGroup", "VpcEndpoint"), service == "route53":
		return "perimeter" // groups and endpoints: who reaches what
	case service == "ec2" && has("LaunchTemplate", "Instances", "NetworkInterface", "Volume"),
		service == "elasticloadbalancing", service == "eks", service == "autoscaling", service == "ssm":
		return "cluster" // and its nodes, with what they leave behind
	case service == "ec2":
		return "network"
	case service == "iam":
		return "iam"
	}
	return "data" // buckets, keys, images, logs, queue
}

// mergeValues makes one pair of those that differ in the values of their only
// condition: to be allowed for one list or for another is to be allowed for both.
func mergeValues(pairs []pair) []pair {
	var merged []pair
	at := map[string]int{}
	for _, p := range pairs {
		operator, key, ok := onlyCondition(p.when)
		if !ok {
			merged = append(merged, p)
			continue
		}
		id := p.action + " " + p.resource + " " + operator + " " + key
		if i, seen := at[id]; seen {
			values := slices.Concat(merged[i].when[operator][key], p.when[operator][key])
			slices.Sort(values)
			merged[i].when = conditions{operator: {key: slices.Compact(values)}}
			continue
		}
		at[id] = len(merged)
		merged = append(merged, p)
	}
	return merged
}

func onlyCondition(when conditions) (operator, key string, ok bool) {
	if len(when) != 1 {
		return "", "", false
	}
	for o, keys := range when {
		for k := range keys {
			operator, key = o, k
		}
		ok = len(keys) == 1 && o == "StringEquals"
	}
	return operator, key, ok
}

// mergeTagging writes the rights to tag what a call makes, one for each call, as
// one right for all of them. It is no wider: in a call of one of the names only
// what that call makes is tagged, so the other things of the list don't occur.
func mergeTagging(pairs []pair) []pair {
	const key = "ec2:CreateAction"
	var calls []string
	for _, p := range pairs {
		calls = append(calls, p.when["StringEquals"][key]...)
	}
	slices.Sort(calls)
	merged := conditions{"StringEquals": {key: slices.Compact(calls)}}
	pairs = slices.Clone(pairs)
	for i, p := range pairs {
		if p.when["StringEquals"][key] != nil {
			pairs[i].when = merged
		}
	}
	return pairs
}

// grantsOf gathers what the table allows a role, by domain. A pair that several
// phases need is in the domain of the first; one that the private endpoint shares
// with another phase is not repeated in its document.
func (t *target) grantsOf(who operations.Roles, table []operations.Operation) map[domain][]pair {
	names := operations.StrictNames(t.place(), t.Vendor)
	granted := map[domain][]pair{}
	seen := map[string]bool{}
	for _, private := range []bool{false, true} {
		for _, op := range table {
			if !op.Roles.Has(who) || (op.Phase == operations.PrivateEndpoint) != private || private && !t.PrivateEndpoint {
				continue
			}
			for _, g := range op.Grants {
				when := fill(names, g.When)
				for _, action := range g.Actions {
					for _, resource := range g.Resources {
						p := pair{action: action, resource: names.Pattern(resource), when: when}
						if key := p.key(); !seen[key] {
							seen[key] = true
							d := domainOf(op.Phase, p)
							granted[d] = append(granted[d], p)
						}
					}
				}
			}
		}
	}
	return granted
}

func fill(names operations.Names, when []operations.Condition) conditions {
	filled := conditions{}
	for _, c := range when {
		c = names.Condition(c)
		if filled[c.Operator] == nil {
			filled[c.Operator] = map[string][]string{}
		}
		filled[c.Operator][c.Key] = c.Values
	}
	return filled
}

func (t *target) place() operations.Place {
	return operations.Place{Partition: t.region.Partition, DNSSuffix: t.region.DNSSuffix, Region: t.Region, Account: t.Account}
}
