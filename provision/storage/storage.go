// Package storage makes the two buckets of a data plane as they have to be: closed
// to the public, owned by the account that has them, encrypted, keeping former
// versions for a while, dropping unfinished uploads, open to a browser by signed
// URL. Who may do what in them is provision/roles; what lies in them is nobody's
// here, and a bucket is only removed, with all that is in it, where that was asked for.
//
// It works against everything that speaks S3. What an endpoint does not implement
// is said in the plan and in the result, and is no failure.
//
// Start with Config and Steps. Where things are:
//
//	storage.go  Config, names, Steps
//	step.go     a bucket: look, plan, make, remove
//	settings.go what a bucket has, in the order in which it is set
//	empty.go    how a bucket is emptied
//	s3.go       the calls that are made
package storage

import (
	"regexp"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// Steps returns what makes the buckets, or removes them.
func Steps(api S3, set *Set) []step.Step {
	return []step.Step{
		&bucketStep{s3: api, set: set, bucket: set.Metadata, logicalID: "metadata", purpose: "inputs, outputs and state of runs"},
		&bucketStep{s3: api, set: set, bucket: set.FastRegistration, logicalID: "fast-registration", purpose: "code of workflows, as it is uploaded"},
	}
}

// Config is what the buckets of one data plane follow from.
type Config struct {
	Vendor    *vendor.Profile // vendor.Default() when nil
	DataPlane string
	Org       string // may be empty
	Partition string // aws, aws-us-gov, aws-cn
	Account   string // twelve digits
	Region    string

	// Prefix starts the buckets' names; the vendor's when empty. Suffix ends them and
	// makes them unique among all accounts; the account when empty.
	Prefix string
	Suffix string

	// KMSKey is the ARN of the key that encrypts objects; AES256 by keys of S3 when empty.
	KMSKey string
	// Origins are the web pages that may fetch and upload by signed URL; all when nil,
	// since it is the signature that gives access and not the page.
	Origins []string
	// TLSOnly writes a bucket policy that refuses what does not come by TLS. Under strict
	// nobody of the vendor may write one, because it could also open the data to others:
	// there, AWS's own refusal of old TLS and the roles' documents have to do.
	TLSOnly bool
	// Adopt takes over a bucket of that name which somebody else made in the account.
	// Without it such a bucket is refused.
	Adopt bool
	// DeleteData lets the buckets be removed, with all that is in them.
	DeleteData bool
}

// Set is the buckets of a data plane, as they are to be.
type Set struct {
	Metadata         string `json:"metadata"`
	FastRegistration string `json:"fastRegistration"`

	config Config // completed
}

var (
	labelForm   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	accountForm = regexp.MustCompile(`^\d{12}$`)
	regionForm  = regexp.MustCompile(`^[a-z]{2}(-[a-z]+)+-\d$`)
)

// longestName is how long a bucket's name may be.
const longestName = 63

// Generate works the names out. It asks nobody; its errors are *usererr.Error.
func Generate(cfg Config) (*Set, error) {
	if cfg.Vendor == nil {
		cfg.Vendor = vendor.Default()
	}
	if cfg.Prefix == "" {
		cfg.Prefix = cfg.Vendor.Prefix
	}
	if cfg.Suffix == "" {
		cfg.Suffix = cfg.Account
	}
	if cfg.Origins == nil {
		cfg.Origins = []string{"*"}
	}
	invalid := func(hint, format string, args ...any) error {
		return usererr.New(usererr.Invalid, format, args...).WithHint("%s", hint)
	}
	switch {
	case !labelForm.MatchString(cfg.DataPlane):
		return nil, invalid("give lower-case letters, digits and hyphens", "the data plane cannot be named %q", cfg.DataPlane)
	case !accountForm.MatchString(cfg.Account):
		return nil, invalid("give the twelve digits that 'aws sts get-caller-identity' shows", "account %q is not an AWS account", cfg.Account)
	case cfg.Partition != "aws" && cfg.Partition != "aws-us-gov" && cfg.Partition != "aws-cn":
		return nil, invalid("use aws, aws-us-gov or aws-cn", "there is no partition %q", cfg.Partition)
	case !regionForm.MatchString(cfg.Region):
		return nil, invalid("give a region such as eu-central-1", "there is no AWS region %q", cfg.Region)
	case !labelForm.MatchString(cfg.Suffix):
		return nil, invalid("give lower-case letters, digits and hyphens", "the buckets' names cannot end in %q", cfg.Suffix)
	case cfg.KMSKey != "" && !strings.HasPrefix(cfg.KMSKey, "arn:"+cfg.Partition+":kms:"+cfg.Region+":"):
		return nil, invalid("give the ARN of a key in "+cfg.Region, "key %q cannot encrypt the buckets", cfg.KMSKey)
	case len(cfg.Origins) == 0:
		return nil, invalid("name a page such as https://example.com, or leave the origins out", "there is no origin that may fetch by signed URL")
	}
	for _, origin := range cfg.Origins {
		if origin != "*" && !strings.HasPrefix(origin, "https://") && !strings.HasPrefix(origin, "http://") || strings.Count(origin, "*") > 1 {
			return nil, invalid("give the page's scheme and host: https://example.com", "origin %q is none", origin)
		}
	}
	start := cfg.Prefix + cfg.DataPlane
	set := &Set{Metadata: start + "-metadata-" + cfg.Suffix, FastRegistration: start + "-fast-registration-" + cfg.Suffix, config: cfg}
	if over := len(set.FastRegistration) - longestName; over > 0 {
		return nil, usererr.New(usererr.Invalid, "bucket %s would have %d characters, and S3 takes %d", set.FastRegistration, len(set.FastRegistration), longestName).
			WithHint("give the data plane a name that is %d characters shorter", over)
	}
	return set, nil
}

func (s *Set) owner() ownership.Owner {
	return ownership.Owner{Vendor: s.config.Vendor, DataPlane: s.config.DataPlane, Org: s.config.Org}
}

// component is what the tags call this package.
const component = "storage"
