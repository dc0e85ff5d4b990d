package operations

import (
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/vendor"
)

// Steps lists the rows that need an action on a resource, in the table's order:
// the answer to "what is this right for". A resource is an ARN of any account and
// region, named the strict or the published way; "" or "*" is any resource.
func Steps(v *vendor.Profile, action, resource string) []Operation {
	anywhere := Place{Partition: "*", DNSSuffix: "*", Region: "*", Account: "*"}
	namings := []Names{StrictNames(anywhere, v), CompatNames(anywhere, v)}
	touches := func(t Template) bool {
		return resource == "" || resource == "*" || t == everything || slices.ContainsFunc(namings, func(n Names) bool {
			return iampolicy.MatchARN(n.Pattern(t), resource)
		})
	}
	var found []Operation
	for _, op := range Operations() {
		if slices.ContainsFunc(op.Grants, func(g Grant) bool {
			return slices.ContainsFunc(g.Actions, func(a string) bool { return strings.EqualFold(a, action) }) &&
				slices.ContainsFunc(g.Resources, touches)
		}) {
			found = append(found, op)
		}
	}
	return found
}
