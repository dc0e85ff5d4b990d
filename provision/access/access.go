// Package access makes the documents that open one customer account to the
// vendor, in one region: roles, trust, permission policies and the boundary of
// every role that the vendor makes. It also grants, checks and revokes them.
// It knows nothing of how a step is run, nor of command lines; which calls the
// documents must allow is written in provision/operations and nowhere else.
//
// Start with Generate. What is where:
//
//	access.go             Options, Generate: the table of contents
//	set.go                Set, the result, whose JSON other programs read
//	regions.go            every region with its partition
//	trust.go              who may assume a role
//	profile_seed.go       the published documents, substituted
//	profile_compat.go     what the published documents can ever match
//	profile_strict.go     generated from the operations table, split by phase
//	boundary.go           the most that a role made by the vendor can do
//	rails.go              what no access role may do, whatever it is allowed
//	missing.go            the calls that a profile does not allow
//	version.go            which version of the documents these are
//	granted.go            what an account has granted
//	state.go              the same in few words, without a secret
//	rotate.go             the external ID, while it is changed for another
//	report.go             what a grant would make, and what it would meet (report_*.go)
//	stacks.go             what a stack has to know of IAM
//	breakglass.go         the role for emergencies, while it is switched on
//	breakglass_steps.go   how it is switched on and off
//	digest.go             the marks of the documents that we wrote
//	update.go             what was granted, changed: Update
package access

import (
	"regexp"
	"unicode/utf8"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/vendor"
)

// Options says for whom the documents are.
type Options struct {
	Profile ProfileName     // empty means Strict
	Account string          // the customer's account, twelve digits
	Region  string          // where the data plane will be
	Vendor  *vendor.Profile // nil means vendor.Default()

	// ExternalID is what the vendor must say when it assumes a role. Empty
	// leaves the literal PlaceholderExternalID in the trust, to be read but
	// never granted.
	ExternalID string
	// PreviousExternalID is valid beside it while it is rotated; usually empty.
	PreviousExternalID string

	PrivateEndpoint   bool // also what the private endpoint of the cluster needs
	DeletePermissions bool // also the teardown role (Strict only)
}

// PlaceholderExternalID stands in a trust policy until an external ID is given.
const PlaceholderExternalID = "EXTERNAL-ID"

// Generate makes the documents. Its errors are *usererr.Error: one sentence and
// the next thing to try.
func Generate(o Options) (*Set, error) {
	t, err := o.resolve()
	if err != nil {
		return nil, err
	}
	switch t.Profile {
	case Seed:
		return t.seed()
	case Compat:
		return t.compat()
	}
	set, err := t.strict()
	if err != nil {
		return nil, err
	}
	if err := fits(set); err != nil {
		return nil, err
	}
	return set, nil
}

// fits refuses a set that IAM would refuse half-way. The default names leave a
// tenth to spare everywhere; long names of a vendor profile may not.
func fits(set *Set) error {
	tooLong := func(what string, size, limit int) error {
		return usererr.New(usererr.Invalid, "%s has %d characters with the names of this vendor profile, and IAM takes %d", what, size, limit).
			WithHint("give the vendor profile a shorter path, tagPrefix or prefix")
	}
	if b := set.Boundary; b.Size > iampolicy.ManagedLimit {
		return tooLong("the boundary "+b.Name, b.Size, iampolicy.ManagedLimit)
	}
	for _, r := range set.Roles {
		if r.Trust.Size > iampolicy.TrustLimit {
			return tooLong("the trust of "+r.Name, r.Trust.Size, iampolicy.TrustLimit)
		}
		for _, p := range r.Policies {
			if p.Size > iampolicy.ManagedLimit {
				return tooLong("the policy "+p.Name, p.Size, iampolicy.ManagedLimit)
			}
		}
	}
	return nil
}

// target is Options that have been checked, with what follows from them.
type target struct {
	Options
	region        Region
	vendorAccount string
}

var (
	accountForm    = regexp.MustCompile(`^\d{12}$`)
	externalIDForm = regexp.MustCompile(`^[\w+=,.@:/-]{8,24}$`)
)

// resolve checks every field and fills in the defaults.
func (o Options) resolve() (*target, error) {
	if o.Profile == "" {
		o.Profile = Strict
	}
	if o.Vendor == nil {
		o.Vendor = vendor.Default()
	}
	switch o.Profile {
	case Strict, Compat, Seed:
	default:
		return nil, usererr.New(usererr.Invalid, "there is no policy %q", o.Profile).
			WithHint("use strict, compat or seed")
	}
	if !accountForm.MatchString(o.Account) {
		return nil, usererr.New(usererr.Invalid, "account %q is not an AWS account", o.Account).
			WithHint("give the twelve digits that 'aws sts get-caller-identity' shows")
	}
	region, ok := LookUpRegion(o.Region)
	if !ok {
		return nil, usererr.New(usererr.Invalid, "there is no AWS region %q", o.Region).
			WithHint("did you mean %s?", nearestRegion(o.Region))
	}
	if o.DeletePermissions && o.Profile != Strict {
		return nil, usererr.New(usererr.Invalid, "delete permissions cannot be chosen with the policy %s, which always has them", o.Profile).
			WithHint("leave --delete-permissions out, or use --policy strict")
	}
	if o.ExternalID != "" {
		if err := CheckExternalID(o.ExternalID); err != nil {
			return nil, err
		}
	}
	if o.PreviousExternalID != "" {
		if err := CheckExternalID(o.PreviousExternalID); err != nil {
			return nil, err
		}
	}
	if err := o.Vendor.Validate(); err != nil {
		return nil, err
	}
	account, err := o.Vendor.Account(region.Partition)
	if err != nil {
		return nil, err
	}
	return &target{Options: o, region: region, vendorAccount: account}, nil
}

// CheckExternalID refuses an external ID that cannot be used: STS would take
// 2 to 1,224 characters, the published template takes 8 to 24, and what is
// granted by hand must also be grantable by the template.
func CheckExternalID(id string) error {
	switch {
	case id == PlaceholderExternalID:
		return usererr.New(usererr.Invalid, "external ID %q cannot be used: it is what documents show until there is one", id).
			WithHint("run 'biplane access new-external-id' to make one")
	case externalIDForm.MatchString(id):
		return nil
	}
	return usererr.New(usererr.Invalid, "external ID %q of %d characters cannot be used: it must have 8 to 24 of A-Z a-z 0-9 _ + = , . @ : / -", id, utf8.RuneCountInString(id)).
		WithHint("run 'biplane access new-external-id' to make one")
}
