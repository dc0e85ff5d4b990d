// Package bootstrap makes out of running components what an account gives in
// production: the OIDC provider of the cluster, the two buckets and the roles of
// the table, by the code that makes them on AWS (provision/storage,
// provision/roles), the namespaces and service accounts that use them, and the
// AWS configuration by which a person on this machine is any of them.
//
// It starts nothing and waits for nobody: the supervisor calls Run once the API
// server, the S3 server and the identity service are ready, and KeepTokens from
// then on. Run may be killed anywhere and be run again; it finishes what is
// missing, and leaves alone what somebody changed or made for themselves.
//
// Start with Run. Where things are:
//
//	bootstrap.go  Config, Result, Run
//	account.go    buckets, OIDC provider, roles
//	cluster.go    namespaces and service accounts
//	profiles.go   the AWS configuration
//	tokens.go     the tokens in it, and KeepTokens
package bootstrap

import (
	"context"
	"fmt"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/storage"
	"biplane.dev/biplane/provision/vendor"
)

// Config says where the components are. All of it is the supervisor's choice.
// What the sandbox is without is left empty: S3, or Kubeconfig.
type Config struct {
	Dir        string // the sandbox's folder; its aws/ is written here
	Kubeconfig string // file of the cluster's administrator

	Region  string // eu-central-1
	Account string // twelve digits
	Issuer  string // of service-account tokens: https://oidc.eks.REGION.amazonaws.com/id/ID

	S3, IAM, STS string // endpoints: https://127.0.0.1:PORT
	CABundle     string // file of the roots that S3, IAM and STS are trusted by
	Admin        Key    // of the account's administrator

	// Empty makes no buckets, roles and accounts of a data plane: somebody is going to
	// make one, in an account that has none.
	Empty bool
	// Values are what is particular about the cluster for who installs a data plane there,
	// as YAML; none when empty.
	Values string
}

// Key is an access key of the account.
type Key struct {
	ID     string
	Secret string
}

// String keeps a key out of logs.
func (k Key) String() string { return "access key " + k.ID }

// GoString does so for %#v.
func (k Key) GoString() string { return k.String() }

// Result is what there is after Run.
type Result struct {
	Buckets  sandbox.Buckets
	Roles    map[string]string // ARN by the account's name in the table; those without S3 rights have none
	Profiles []string          // of the AWS configuration
}

// Event is one piece of progress, for a person.
type Event struct {
	Thing string // "bucket union-sandbox-metadata-123456789012"
	Did   string // "create"; "left alone: …" for what somebody else changed
}

// The data plane that a sandbox is. Names in it are the same in every sandbox,
// because each has an account of its own.
const (
	dataPlane = "sandbox"
	partition = "aws"
	workspace = "flytesnacks-development"
)

// profile is the vendor of the published documents.
func profile() *vendor.Profile { return vendor.Default() }

// Run makes whatever is missing, and tells report what it does; report may be
// nil.
func Run(ctx context.Context, cfg Config, report func(Event)) (Result, error) {
	if report == nil {
		report = func(Event) {}
	}
	buckets, set, err := cfg.sets()
	if err != nil {
		return Result{}, err
	}
	result := Result{Roles: map[string]string{}}
	if cfg.IAM != "" {
		if cfg.Empty {
			set.Roles = nil // the provider stays: who the cluster's tokens are from
		}
		if err := cfg.makeAccount(ctx, buckets, set, report); err != nil {
			return Result{}, fmt.Errorf("making buckets and roles: %w", err)
		}
		for _, a := range roles.Table() {
			if role, has := set.RoleOf(a.Name); has {
				result.Roles[a.Name] = role.ARN
			}
		}
	}
	if cfg.S3 != "" && !cfg.Empty {
		result.Buckets = sandbox.Buckets{Metadata: buckets.Metadata, FastRegistration: buckets.FastRegistration}
	}
	if cfg.Kubeconfig != "" {
		if err := cfg.makeAccounts(ctx, set, report); err != nil {
			return Result{}, fmt.Errorf("making service accounts: %w", err)
		}
	}
	if cfg.IAM != "" {
		if result.Profiles, err = cfg.writeProfiles(set); err != nil {
			return Result{}, err
		}
	}
	if cfg.IAM != "" && cfg.Kubeconfig != "" {
		if err := cfg.renewTokens(ctx); err != nil {
			return Result{}, err
		}
	}
	return result, nil
}

// sets are the buckets and roles of the sandbox's data plane.
func (c Config) sets() (*storage.Set, *roles.Set, error) {
	buckets, err := storage.Generate(storage.Config{
		Vendor: profile(), DataPlane: dataPlane, Partition: partition, Account: c.Account, Region: c.Region,
		TLSOnly: true, Adopt: true, // the whole account is the sandbox's
	})
	if err != nil {
		return nil, nil, err
	}
	set, err := roles.Generate(roles.Config{
		Vendor: profile(), DataPlane: dataPlane, Partition: partition, Account: c.Account, Issuer: c.Issuer,
		Metadata: buckets.Metadata, FastRegistration: buckets.FastRegistration,
		Domains: []string{"development", "staging", "production"}, Adopt: true,
	})
	return buckets, set, err
}
