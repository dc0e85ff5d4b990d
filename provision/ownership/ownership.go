// Package ownership marks what Biplane makes in an account, so that it is found
// again without a state file, and so that nothing of anybody else's is changed
// or removed: tags that are written in the call that makes the thing, with the
// name of the data plane that it belongs to.
//
// The access roles and their policies are marked by provision/access, since they
// belong to no data plane. Start with Owner.
package ownership

import (
	"maps"
	"slices"

	"biplane.dev/biplane/provision/vendor"
)

// Owner is one data plane.
type Owner struct {
	Vendor    *vendor.Profile
	DataPlane string // its name, unique in an account and region
	Org       string // the customer's organization with the vendor; may be empty
}

// specVersion is the version of these marks.
const specVersion = "1"

// Tags are the marks on a thing: component is the part of Biplane that made it,
// logicalID says which of the data plane's things it is, whatever its name.
func (o Owner) Tags(component, logicalID string) map[string]string {
	prefix := o.Vendor.TagPrefix
	tags := map[string]string{
		o.Vendor.ManagedByKey():  vendor.ManagedByValue,
		prefix + "data-plane-id": o.DataPlane,
		prefix + "component":     component,
		prefix + "logical-id":    logicalID,
		prefix + "spec-version":  specVersion,
	}
	if o.Org != "" {
		tags[prefix+"org"] = o.Org
	}
	return tags
}

// Relation is whose a thing is.
type Relation int

// The relations. Only what is Ours is ever changed or removed.
const (
	Foreign Relation = iota // made by somebody else, or by another part of Biplane
	Other                   // made by Biplane for another data plane
	Ours
)

// Of says whose a thing is that carries these tags.
func (o Owner) Of(tags map[string]string, component string) Relation {
	prefix := o.Vendor.TagPrefix
	switch {
	case tags[o.Vendor.ManagedByKey()] != vendor.ManagedByValue, tags[prefix+"component"] != component:
		return Foreign
	case tags[prefix+"data-plane-id"] != o.DataPlane:
		return Other
	}
	return Ours
}

// DataPlaneOf is the data plane that the tags name, for a sentence.
func (o Owner) DataPlaneOf(tags map[string]string) string {
	return tags[o.Vendor.TagPrefix+"data-plane-id"]
}

// Missing returns those of want that have lacks, or has with another value.
func Missing(have, want map[string]string) map[string]string {
	missing := map[string]string{}
	for key, value := range want {
		if got, ok := have[key]; !ok || got != value {
			missing[key] = value
		}
	}
	return missing
}

// Keys are the keys in a fixed order, so that equal tags make equal requests.
func Keys(tags map[string]string) []string { return slices.Sorted(maps.Keys(tags)) }
