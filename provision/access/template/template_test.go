package template

import (
	"bytes"
	"testing"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

const (
	account    = "123456789012"
	externalID = "a-good-external-id"
)

// variant is a template with its name for messages.
type variant struct {
	name string
	access.Options
}

// variants are all templates of the default vendor.
func variants() []variant {
	var all []variant
	for _, private := range []bool{false, true} {
		all = append(all, variant{name: "compat", Options: access.Options{Profile: access.Compat, PrivateEndpoint: private}})
		for _, deletes := range []bool{false, true} {
			all = append(all, variant{name: "strict", Options: access.Options{Profile: access.Strict, PrivateEndpoint: private, DeletePermissions: deletes}})
		}
	}
	for i := range all {
		v := &all[i]
		if v.Vendor = vendor.Default(); v.PrivateEndpoint {
			v.name += " with the private endpoint"
		}
		if v.DeletePermissions {
			v.name += " with delete permissions"
		}
	}
	return all
}

func made(t *testing.T, o access.Options) *Template {
	t.Helper()
	made, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

func TestNewMakesTheSameBytesEachTime(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		first, second := made(t, v.Options), made(t, v.Options)
		for _, f := range Formats {
			if !bytes.Equal(first.Bytes(f), second.Bytes(f)) || first.SHA256(f) != second.SHA256(f) {
				t.Errorf("%s as %s: got other bytes the second time", v.name, f)
			}
		}
	}
}
