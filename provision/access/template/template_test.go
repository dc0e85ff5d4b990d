package template

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/usererr"
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

func TestBothFormatsMeanTheSame(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		made := made(t, v.Options)
		asJSON, err := read(made.Bytes(JSON))
		if err != nil {
			t.Fatal(err)
		}
		asYAML, err := read(made.Bytes(YAML))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := string(compact(asYAML)), string(compact(asJSON)); got != want {
			t.Errorf("%s: got another template as YAML", v.name)
		}
	}
}

func TestATemplateSaysWhichItIs(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		tree, err := read(made(t, v.Options).Bytes(YAML))
		if err != nil {
			t.Fatal(err)
		}
		told, _ := get(tree, "Metadata")
		got, ours := ParseMetadata(string(compact(told)))
		want := Metadata{Component: "access", Profile: v.Profile, PolicyVersion: access.PolicyVersion, PrivateEndpoint: v.PrivateEndpoint, DeletePermissions: v.DeletePermissions}
		if !ours || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", v.name, got, ours, want)
		}
	}
	for _, text := range []string{"", "null", "{}", `{"Biplane": 7}`, `{"Biplane": {"Component": "network"}}`, `{"Other": {"Component": "access"}}`} {
		if got, ours := ParseMetadata(text); ours {
			t.Errorf("%s: got %+v, want it to be somebody else's", text, got)
		}
	}
}

// Who may describe a stack learns its outputs, and need not learn the external ID.
func TestNoOutputHasTheExternalID(t *testing.T) {
	t.Parallel()
	for _, v := range variants() {
		tree, err := read(made(t, v.Options).Bytes(JSON))
		if err != nil {
			t.Fatal(err)
		}
		outputs := child(tree, "Outputs")
		if text := string(compact(outputs)); strings.Contains(text, ExternalIDParameter) {
			t.Errorf("%s: got %s, want no external ID", v.name, text)
		}
		for _, output := range []string{RoleArnOutput, PolicyVersionOutput} {
			if _, ok := get(outputs, output); !ok {
				t.Errorf("%s: got no output %s", v.name, output)
			}
		}
	}
}

// The order of a template is that in which people read: what it is, what it asks, what it makes.
func TestATemplateIsInOrder(t *testing.T) {
	t.Parallel()
	tree, err := read(made(t, access.Options{}).Bytes(JSON))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range tree {
		got = append(got, m.Key.(string))
	}
	want := []string{"AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Conditions", "Resources", "Outputs"}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestThereIsNoTemplateOfThePublishedDocuments(t *testing.T) {
	t.Parallel()
	_, err := New(access.Options{Profile: access.Seed})
	var refused *usererr.Error
	if !errors.As(err, &refused) || refused.Kind != usererr.Refused {
		t.Errorf("got %v, want it refused", err)
	}
}
