package access

import (
	"fmt"
	"slices"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
)

// compat is what the published grants can ever match: no more, no less, in as few
// managed policies as fit, with the external ID that the published manual way
// leaves out. It is for accounts that have the published role already.
func (t *target) compat() (*Set, error) {
	sources := []string{publishedMain}
	if t.PrivateEndpoint {
		sources = append(sources, publishedEndpoint)
	}
	pairs, err := t.livePairs(sources)
	if err != nil {
		return nil, err
	}
	exact, err := iampolicy.Parse(t.Vendor.PolicyName, document(group(dropCovered(pairs))))
	if err != nil {
		return nil, fmt.Errorf("reading back the compat policy: %w", err)
	}
	packed, err := iampolicy.PackFewest(t.Vendor.PolicyName, exact, iampolicy.ManagedLimit)
	if err != nil {
		return nil, fmt.Errorf("packing the compat policy: %w", err)
	}
	admin := Role{
		Name:    t.Vendor.RoleName,
		Path:    "/", // the published role's, so that its ARN stays
		Purpose: "everything that the vendor does in the account, as far as the published grants can match",
		Trust:   t.trustCompat(),
	}
	for _, p := range packed {
		admin.Policies = append(admin.Policies, newPolicy(p.Name, "managed", p.Document.Text()))
	}
	set := &Set{Profile: Compat, Partition: t.region.Partition, Account: t.Account, Region: t.Region, Roles: []Role{admin}}
	if t.PrivateEndpoint {
		set.Roles = append(set.Roles, t.ecsRoles(false)...)
	}
	return set, nil
}

// livePairs lists the pairs of published documents that can match something: the
// action acts on a resource that the pattern fits, by AWS's reference or, for the
// two actions where it is known to differ, by what AWS really does.
func (t *target) livePairs(names []string) ([]pair, error) {
	reference := sar.Default()
	var live []pair
	for _, name := range names {
		d, err := iampolicy.Parse(name, t.publishedText(name))
		if err != nil {
			return nil, fmt.Errorf("reading the published policy: %w", err)
		}
		for _, s := range d.Statements {
			for _, pattern := range s.Action {
				for _, resource := range s.Resource {
					canMatch := func(action *sar.Action) bool { return reference.CanMatch(action, resource) != sar.Never }
					if slices.ContainsFunc(reference.Expand(pattern), canMatch) {
						live = append(live, pair{action: pattern, resource: resource})
					}
				}
			}
		}
	}
	return live, nil
}
