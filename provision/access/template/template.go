// Package template is our CloudFormation template: what access.Generate makes, for
// every account, region and partition at once. Nobody writes a statement twice, so
// that a stack grants what IAM is given directly, and the two can be compared. It
// knows nothing of stacks; that is provision/access/stack.
//
// Start with New. What is where:
//
//	template.go    New, the template's parts in their order, its bytes
//	parameters.go  what a stack is told, and how its template says whose it is
//	resources.go   the policies and roles of a set
//	announce.go    what says the role to the vendor
//	standin.go     how a set of one place becomes one of every place
//	write.go       JSON that people read
//	resolve.go     the way back: what a template grants in one account
//	links.go       quick-create links
package template

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/goccy/go-yaml"

	"biplane.dev/biplane/internal/ordered"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/vendor"
)

// Limits of CloudFormation, in bytes: what a call may carry, and what may be in S3.
const (
	BodyLimit = 51_200
	URLLimit  = 1 << 20
)

// Format is a way to write a template. All mean the same.
type Format string

// The formats.
const (
	JSON Format = "json"
	YAML Format = "yaml"
)

// Formats are all of them, the default first.
var Formats = []Format{JSON, YAML}

// object and list are what a template consists of, beside text and numbers.
type (
	object = yaml.MapSlice
	member = yaml.MapItem
	list   = []any
)

// Template is one template: of a profile, with or without its switches.
type Template struct {
	Metadata Metadata
	bytes    map[Format][]byte
}

// New makes the template of o's profile, switches and vendor. Account, region and
// external IDs of o are left aside: a stack brings its own.
func New(o access.Options) (*Template, error) {
	if o.Profile == "" {
		o.Profile = access.Strict
	}
	if o.Vendor == nil {
		o.Vendor = vendor.Default()
	}
	if o.Profile == access.Seed {
		return nil, usererr.New(usererr.Refused, "there is no template of the published documents: they are for comparison only").
			WithHint("use --policy compat, which allows the same, or the default, --policy strict")
	}
	if err := o.Vendor.Validate(); err != nil {
		return nil, err
	}
	resources, roles, err := everywhere(o)
	if err != nil {
		return nil, err
	}
	resources = append(resources, announcer(resources, roles, o.Profile)...)
	t := &Template{Metadata: metadata(o), bytes: map[Format][]byte{}}
	tree := object{
		{Key: "AWSTemplateFormatVersion", Value: "2010-09-09"},
		{Key: "Description", Value: fmt.Sprintf("Opens this account to %s, for a data plane in the region of this stack: policy %s, version %s.", o.Vendor.Product, o.Profile, access.PolicyVersion)},
		{Key: "Metadata", Value: object{{Key: metadataKey, Value: t.Metadata.tree()}}},
		{Key: "Parameters", Value: parameters(o.Vendor)},
	}
	if mapping := vendorAccounts(o.Vendor); mapping != nil {
		tree = append(tree, member{Key: "Mappings", Value: mapping})
	}
	tree = append(tree,
		member{Key: "Conditions", Value: conditions(resources)},
		member{Key: "Resources", Value: resources},
		member{Key: "Outputs", Value: outputs(roles)},
	)
	t.bytes[JSON] = writeJSON(tree)
	if t.bytes[YAML], err = ordered.YAML(tree); err != nil {
		return nil, fmt.Errorf("writing the template as YAML: %w", err)
	}
	for _, f := range Formats {
		if n := t.Size(f); n > URLLimit {
			return nil, usererr.New(usererr.Refused, "the template has %d bytes with the names of this vendor profile, and CloudFormation takes %d", n, URLLimit).
				WithHint("give the vendor profile a shorter path, tagPrefix or prefix")
		}
	}
	return t, nil
}

// Bytes is the template, the same each time.
func (t *Template) Bytes(f Format) []byte { return slices.Clone(t.bytes[f]) }

// SHA256 is the digest of those bytes, in hex.
func (t *Template) SHA256(f Format) string {
	sum := sha256.Sum256(t.bytes[f])
	return hex.EncodeToString(sum[:])
}

// Size is how many bytes there are: with more than BodyLimit a template goes by S3.
func (t *Template) Size(f Format) int { return len(t.bytes[f]) }
