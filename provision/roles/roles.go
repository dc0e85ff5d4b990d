// Package roles makes the IAM roles by which the service accounts of a data plane
// reach its two buckets, each with exactly the rights that the published table
// gives it: the table as data, the trust and permission documents that follow
// from it, and the steps that make them, with the cluster's OIDC provider.
//
// The access roles, by which the vendor comes into the account, are provision/access;
// the buckets are provision/storage. It knows nothing of Kubernetes but the form of a
// service account's name.
//
// Start with Table in table.go, then Generate. Where things are, in the order in
// which a run meets them:
//
//	table.go         who may do what in which bucket
//	documents.go     trust and permissions of a role
//	overgrant.go     what is wrong with the two literal names
//	names.go         how a role is named, and what cannot be
//	step_provider.go the OIDC provider
//	step_role.go     a role
//	iam.go           the calls that are made
package roles

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// Steps returns what makes the roles, or removes them: the provider first, which
// the trust of each names, then one step for each role.
func Steps(api IAM, set *Set) []step.Step {
	steps := make([]step.Step, 0, 1+len(set.Roles))
	for _, issuer := range set.Providers {
		steps = append(steps, &providerStep{iam: api, set: set, issuer: issuer})
	}
	for _, r := range set.Roles {
		steps = append(steps, &roleStep{iam: api, set: set, role: r})
	}
	return steps
}

// Config is what the roles of one data plane follow from.
type Config struct {
	Vendor    *vendor.Profile // vendor.Default() when nil
	DataPlane string
	Org       string // may be empty
	Mode      Mode   // PerServiceAccount when empty

	Partition string // aws, aws-us-gov, aws-cn
	Account   string // twelve digits
	// Issuer is the cluster's, https://oidc.eks.REGION.amazonaws.com/id/ID.
	// ControlPlaneIssuer is that of the account which lives in the control plane;
	// empty where that is in the same cluster.
	Issuer             string
	ControlPlaneIssuer string

	Metadata         string // bucket
	FastRegistration string // bucket
	// KMSKey is the ARN of the key that encrypts the buckets; empty where S3's own keys do.
	KMSKey string

	// Workspaces are the namespaces in which tasks run. Domains stand for all that
	// there will ever be, which are named PROJECT-DOMAIN: a list would overflow a trust
	// document at the thirtieth.
	Workspaces []string
	Domains    []string

	// Path, Prefix and Boundary are as the operations table wants them for whoever
	// makes the roles. "" is the vendor's path, the vendor's prefix, and no boundary.
	Path     string
	Prefix   string
	Boundary string // ARN of a managed policy

	// SignatureAge is how old a presigned URL may be; an hour when 0, which is also
	// the most that the boundary lets through.
	SignatureAge time.Duration

	// Adopt takes over a role that is as wanted though somebody else made it.
	// Without it such a role is refused.
	Adopt bool
}

// Mode is how many roles there are.
type Mode string

// The modes. Shared keeps the two literal role names of the published table, and so
// gives everybody the rights of all; see OverGrant.
const (
	PerServiceAccount Mode = "per-service-account"
	Shared            Mode = "shared"
)

// Set is the roles of a data plane, as they are to be.
type Set struct {
	Mode      Mode     `json:"mode"`
	Providers []string `json:"providers"` // issuers of the tokens, without https://
	Roles     []Role   `json:"roles"`
	// Without are the accounts that get no role, because they have no right to give.
	Without     []string    `json:"without"`
	OverGranted []OverGrant `json:"overGranted"` // empty, not null, unless the mode is Shared

	config Config // completed
}

// Role is one role.
type Role struct {
	Name     string          `json:"name"`
	Path     string          `json:"path"`
	ARN      string          `json:"arn"`
	Purpose  string          `json:"purpose"`
	Accounts []string        `json:"serviceAccounts"` // by their names in the table
	Subjects []string        `json:"subjects"`        // as tokens name them; with a * where a prefix stands for many
	Boundary string          `json:"boundary,omitempty"`
	Trust    json.RawMessage `json:"trust"`
	Policy   json.RawMessage `json:"policy"` // inline, named PolicyName

	logicalID string
}

// PolicyName is the name of the inline policy of each role.
const PolicyName = "buckets"

// TrustSize and PolicySize count as IAM does.
func (r Role) TrustSize() int { return size(r.Trust) }

// PolicySize is the size of the inline policy.
func (r Role) PolicySize() int { return size(r.Policy) }

func size(text []byte) int {
	n, err := iampolicy.Size(text)
	if err != nil {
		panic("roles: a document of our own cannot be read: " + err.Error())
	}
	return n
}

// RoleOf is the role of an account of the table, if it has one.
func (s *Set) RoleOf(account string) (Role, bool) {
	i := slices.IndexFunc(s.Roles, func(r Role) bool { return slices.Contains(r.Accounts, account) })
	if i < 0 {
		return Role{}, false
	}
	return s.Roles[i], true
}

// LogicalID says which of a data plane's roles one is, as its tags do.
func (s *Set) LogicalID(r Role) string { return r.logicalID }

// Generate works the roles out. It asks nobody; its errors are *usererr.Error.
func Generate(cfg Config) (*Set, error) {
	if err := cfg.complete(); err != nil {
		return nil, err
	}
	set := &Set{Mode: cfg.Mode, Roles: []Role{}, Without: []string{}, OverGranted: []OverGrant{}, config: cfg}
	if cfg.Mode == Shared {
		set.Roles = append(set.Roles, cfg.sharedRole(cfg.Vendor.AdminRole, platform), cfg.sharedRole(cfg.Vendor.UserRole, tasks))
		set.OverGranted = overGranted()
	} else {
		for _, account := range Table() {
			if !account.HasRights() {
				set.Without = append(set.Without, account.Name)
				continue
			}
			set.Roles = append(set.Roles, cfg.ownRole(account))
		}
	}
	set.Providers = cfg.providers()
	return set, set.fits()
}

// ownRole is the role of one account alone.
func (c *Config) ownRole(a ServiceAccount) Role {
	return c.role(c.nameOf(a), a.Name, a.Purpose, []ServiceAccount{a}, []Right{{Metadata, a.Metadata}, {FastRegistration, a.FastRegistration}})
}

// sharedRole is one role for all accounts that the table has under one name, with
// the most that any of them may do.
func (c *Config) sharedRole(name string, of kind) Role {
	var accounts []ServiceAccount
	for _, a := range Table() {
		if a.kind == of {
			accounts = append(accounts, a)
		}
	}
	purpose := "all services of the data plane, each with the rights of all"
	if of == tasks {
		purpose = accounts[0].Purpose
	}
	return c.role(name, "shared-"+string(of), purpose, accounts, unionOf(accounts))
}

func (c *Config) role(name, logicalID, purpose string, accounts []ServiceAccount, rights []Right) Role {
	r := Role{
		Name: name, Path: c.Path, Purpose: purpose, Boundary: c.Boundary, logicalID: logicalID,
		ARN:    "arn:" + c.Partition + ":iam::" + c.Account + ":role" + c.Path + name,
		Trust:  c.trust(accounts).Text(),
		Policy: c.permissions(rights).Text(),
	}
	for _, a := range accounts {
		r.Accounts = append(r.Accounts, a.Name)
		r.Subjects = append(r.Subjects, c.subjects(a)...)
	}
	return r
}

// fits refuses what IAM would refuse half-way.
func (s *Set) fits() error {
	for _, r := range s.Roles {
		if n := r.TrustSize(); n > iampolicy.TrustLimit {
			return usererr.New(usererr.Invalid, "the trust of role %s has %d characters with its %d subjects, and IAM takes %d", r.Name, n, len(r.Subjects), iampolicy.TrustLimit).
				WithHint("give the workspace namespaces a prefix in common and name that instead of listing them, or use several data planes")
		}
		if n := r.PolicySize(); n > iampolicy.InlineLimit {
			return usererr.New(usererr.Invalid, "the policy of role %s has %d characters, and IAM takes %d", r.Name, n, iampolicy.InlineLimit).
				WithHint("give the buckets shorter names")
		}
	}
	return nil
}

func (s *Set) owner() ownership.Owner {
	return ownership.Owner{Vendor: s.config.Vendor, DataPlane: s.config.DataPlane, Org: s.config.Org}
}

// component is what the tags call this package.
const component = "roles"

func (s *Set) providerARN(issuer string) string { return s.config.providerARN(issuer) }

func (c *Config) providerARN(issuer string) string {
	return "arn:" + c.Partition + ":iam::" + c.Account + ":oidc-provider/" + issuer
}

// providers are the issuers, each once.
func (c *Config) providers() []string {
	issuers := []string{c.Issuer}
	if c.ControlPlaneIssuer != c.Issuer {
		issuers = append(issuers, c.ControlPlaneIssuer)
	}
	return issuers
}

// issuerOf is where the tokens of an account come from.
func (c *Config) issuerOf(a ServiceAccount) string {
	if a.Plane == ControlPlane {
		return c.ControlPlaneIssuer
	}
	return c.Issuer
}

// subjects are an account as its tokens name it: one, or one for each workspace.
func (c *Config) subjects(a ServiceAccount) []string {
	subject := func(namespace string) string {
		return fmt.Sprintf("system:serviceaccount:%s:%s", namespace, a.Kubernetes)
	}
	switch {
	case a.kind != tasks:
		return []string{subject(c.Vendor.Namespace)}
	}
	var all []string
	for _, domain := range c.Domains {
		all = append(all, subject("*-"+domain))
	}
	for _, namespace := range c.Workspaces {
		all = append(all, subject(namespace))
	}
	return all
}

// trimScheme is an issuer as IAM writes it.
func trimScheme(issuer string) string {
	return strings.TrimSuffix(strings.TrimPrefix(issuer, "https://"), "/")
}
