package access

import "biplane.dev/biplane/provision/operations"

// boundary is the most that a role made by the vendor can do.
func (t *target) boundary() Policy {
	return newPolicy(operations.BoundaryName(t.Vendor), "", document([]statement{t.denyOwn()}))
}
