package ownership_test

import (
	"testing"

	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/vendor"
)

func TestOwner(t *testing.T) {
	t.Parallel()
	o := ownership.Owner{Vendor: vendor.Default(), DataPlane: "demo"}
	other := ownership.Owner{Vendor: vendor.Default(), DataPlane: "demo-2"}
	tags := o.Tags("roles", "executor")
	for _, c := range []struct {
		name string
		tags map[string]string
		want ownership.Relation
	}{
		{"it knows its own again", tags, ownership.Ours},
		{"it knows another data plane's", other.Tags("roles", "executor"), ownership.Other},
		{"it takes another part's for foreign", o.Tags("storage", "executor"), ownership.Foreign},
		{"it takes what carries no tag for foreign", nil, ownership.Foreign},
		{"it takes what only looks like ours for foreign", map[string]string{"union:data-plane-id": "demo", "union:component": "roles"}, ownership.Foreign},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if got := o.Of(c.tags, "roles"); got != c.want {
				t.Errorf("got %d, want %d", got, c.want)
			}
		})
	}
	t.Run("it writes the organization only where there is one", func(t *testing.T) {
		t.Parallel()
		if got := len(tags); got != 5 {
			t.Errorf("got %d tags without an organization, want 5", got)
		}
		withOrg := ownership.Owner{Vendor: vendor.Default(), DataPlane: "demo", Org: "acme"}
		if got := withOrg.Tags("roles", "x")["union:org"]; got != "acme" {
			t.Errorf("got organization %q, want acme", got)
		}
	})
}
