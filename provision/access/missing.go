package access

import (
	"fmt"
	"slices"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
)

// MissingCall is a call of the operations table that a profile does not allow.
type MissingCall struct {
	Phase   string   `json:"phase"`
	Call    string   `json:"call"`
	Purpose string   `json:"purpose"`
	Actions []string `json:"actions"` // those that are not allowed
	Because string   `json:"because"` // why, in one sentence
}

// Missing lists the calls that the vendor cannot make with a profile, by phase:
// under compat and seed what the published grants lack, under strict what is left
// out on purpose. The private endpoint's calls count where it is asked for.
func Missing(o Options) ([]MissingCall, error) {
	set, err := Generate(o)
	if err != nil {
		return nil, err
	}
	t, err := o.resolve()
	if err != nil {
		return nil, err
	}
	if t.Profile == Strict {
		return omittedCalls(t.PrivateEndpoint), nil
	}
	granted, err := evaluator(set.Roles[0])
	if err != nil {
		return nil, err
	}
	names := operations.CompatNames(t.place(), t.Vendor)
	var missing []MissingCall
	for _, op := range operations.Operations() {
		if !byVendor(op) || op.Phase == operations.PrivateEndpoint && !t.PrivateEndpoint {
			continue
		}
		var lacks []string
		for _, g := range op.Grants {
			for _, action := range g.Actions {
				for _, resource := range g.Resources {
					request := &iampolicy.Request{
						Principal: t.session(set.Roles[0]),
						Action:    action, Resource: names.Example(resource), Context: iampolicy.Context{},
					}
					if granted.Decide(request) != iampolicy.Allowed && !slices.Contains(lacks, action) {
						lacks = append(lacks, action)
					}
				}
			}
		}
		if lacks != nil {
			missing = append(missing, MissingCall{string(op.Phase), op.Call, op.Purpose, lacks,
				"the published grants do not have it on the resources that the call touches"})
		}
	}
	return missing, nil
}

// byVendor reports whether the vendor makes the call in the customer's account the
// published way, or would make it but for the strict profile.
func byVendor(op operations.Operation) bool {
	return !op.StrictOnly && (op.Omitted != "" || op.Roles.Has(operations.Vendor))
}

func omittedCalls(privateEndpoint bool) []MissingCall {
	var missing []MissingCall
	for _, op := range operations.Operations() {
		if op.Omitted == "" || op.Phase == operations.PrivateEndpoint && !privateEndpoint {
			continue
		}
		var actions []string
		for _, g := range op.Grants {
			actions = append(actions, g.Actions...)
		}
		slices.Sort(actions)
		missing = append(missing, MissingCall{string(op.Phase), op.Call, op.Purpose, slices.Compact(actions), op.Omitted})
	}
	return missing
}

// evaluator decides by a role's own policies.
func evaluator(r Role) (*iampolicy.Evaluator, error) {
	var p iampolicy.Policies
	for _, policy := range r.Policies {
		d, err := iampolicy.Parse(policy.Name, policy.Document)
		if err != nil {
			return nil, fmt.Errorf("reading policy %s: %w", policy.Name, err)
		}
		p.Identity = append(p.Identity, d)
	}
	return iampolicy.Compile(p)
}

// session is the vendor in a role.
func (t *target) session(r Role) iampolicy.Principal {
	role := "arn:" + t.region.Partition + ":iam::" + t.Account + ":role" + r.Path + r.Name
	return iampolicy.Principal{
		Type: iampolicy.AWS, Account: t.Account, RoleARN: role,
		ARN: "arn:" + t.region.Partition + ":sts::" + t.Account + ":assumed-role/" + r.Name + "/biplane",
	}
}
