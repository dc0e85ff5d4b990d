package roles

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/vendor"
)

// longestName is how long a role's name may be.
const longestName = 64

// nameOf is the name of an account's own role: the data plane is in it, because
// two of them may be in one account.
func (c *Config) nameOf(a ServiceAccount) string {
	start := c.Prefix + c.DataPlane + "-"
	if a.kind == tasks {
		return start + c.Vendor.UserRole
	}
	return start + c.Vendor.AdminRole + "-" + a.Name
}

var (
	accountForm = regexp.MustCompile(`^\d{12}$`)
	// labelForm is a Kubernetes name that may be a part of other names.
	labelForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	issuerForm = regexp.MustCompile(`^[a-z0-9.-]+(/[A-Za-z0-9._~-]+)*$`)
	bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
)

// complete fills in the defaults and refuses what cannot be used.
func (c *Config) complete() error {
	if c.Vendor == nil {
		c.Vendor = vendor.Default()
	}
	if c.Mode == "" {
		c.Mode = PerServiceAccount
	}
	if c.Path == "" {
		c.Path = c.Vendor.Path
	}
	if c.Prefix == "" {
		c.Prefix = c.Vendor.Prefix
	}
	if c.SignatureAge == 0 {
		c.SignatureAge = time.Hour
	}
	c.Issuer = trimScheme(c.Issuer)
	c.ControlPlaneIssuer = trimScheme(c.ControlPlaneIssuer)
	if c.ControlPlaneIssuer == "" {
		c.ControlPlaneIssuer = c.Issuer
	}

	invalid := func(hint, format string, args ...any) error {
		return usererr.New(usererr.Invalid, format, args...).WithHint("%s", hint)
	}
	switch {
	case c.Mode != PerServiceAccount && c.Mode != Shared:
		return invalid("use per-service-account or shared", "there is no mode %q of roles", c.Mode)
	case !labelForm.MatchString(c.DataPlane):
		return invalid("give lower-case letters, digits and hyphens", "the data plane cannot be named %q", c.DataPlane)
	case !accountForm.MatchString(c.Account):
		return invalid("give the twelve digits that 'aws sts get-caller-identity' shows", "account %q is not an AWS account", c.Account)
	case c.Partition != "aws" && c.Partition != "aws-us-gov" && c.Partition != "aws-cn":
		return invalid("use aws, aws-us-gov or aws-cn", "there is no partition %q", c.Partition)
	case !issuerForm.MatchString(c.Issuer):
		return invalid("give the issuer that 'aws eks describe-cluster' shows, without a port", "issuer %q cannot be an OIDC provider", c.Issuer)
	case !issuerForm.MatchString(c.ControlPlaneIssuer):
		return invalid("give the issuer of the control plane's cluster, without a port", "issuer %q cannot be an OIDC provider", c.ControlPlaneIssuer)
	case c.SignatureAge < time.Second || c.SignatureAge > 7*24*time.Hour:
		return invalid("give a second to seven days, which is the longest that AWS has", "the age of a signature cannot be %v", c.SignatureAge)
	}
	if c.KMSKey != "" && (!strings.HasPrefix(c.KMSKey, "arn:"+c.Partition+":kms:") || strings.Count(c.KMSKey, ":") < 5) {
		return invalid("give the ARN of a key", "key %q cannot encrypt the buckets", c.KMSKey)
	}
	for _, bucket := range []string{c.Metadata, c.FastRegistration} {
		if !bucketForm.MatchString(bucket) {
			return invalid("give 3 to 63 lower-case letters, digits and hyphens", "a bucket cannot be named %q", bucket)
		}
	}
	if err := c.checkWorkspaces(); err != nil {
		return err
	}
	return c.checkNames()
}

// checkWorkspaces refuses namespaces that tasks cannot have, and domains that
// would let a system's namespace in: every namespace has a default account.
func (c *Config) checkWorkspaces() error {
	invalid := func(hint, format string, args ...any) error {
		return usererr.New(usererr.Invalid, format, args...).WithHint("%s", hint)
	}
	for i, domain := range c.Domains {
		if !labelForm.MatchString(domain) {
			return invalid("give lower-case letters, digits and hyphens", "a domain cannot be named %q", domain)
		}
		if slices.Contains(c.Domains[:i], domain) {
			return invalid("name it once", "domain %s is named twice", domain)
		}
		for _, own := range []string{"kube-system", "kube-public", "kube-node-lease", "default", c.Vendor.Namespace} {
			if strings.HasSuffix(own, "-"+domain) {
				return invalid("give domains that only workspaces end with", "the domain %q would let pods of namespace %s be tasks", domain, own)
			}
		}
	}
	if len(c.Workspaces)+len(c.Domains) == 0 {
		return invalid("name at least one, such as flytesnacks-development", "there is no workspace namespace in which tasks run")
	}
	seen := map[string]bool{}
	for _, namespace := range c.Workspaces {
		if !labelForm.MatchString(namespace) || len(namespace) > 63 {
			return invalid("give at most 63 lower-case letters, digits and hyphens", "a namespace cannot be named %q", namespace)
		}
		if seen[namespace] {
			return invalid("name it once", "namespace %s is named twice", namespace)
		}
		seen[namespace] = true
	}
	return nil
}

// checkNames refuses a data plane whose roles could not be made: their names too
// long, or locked with the access roles.
func (c *Config) checkNames() error {
	if c.Mode == Shared {
		return nil // two names, of the vendor profile, which is checked there
	}
	longest := ""
	for _, a := range Table() {
		if name := c.nameOf(a); a.HasRights() && len(name) > len(longest) {
			longest = name
		}
	}
	if over := len(longest) - longestName; over > 0 {
		return usererr.New(usererr.Invalid, "role %s would have %d characters, and IAM takes %d", longest, len(longest), longestName).
			WithHint("%s", shorterBy(len(c.DataPlane)-over))
	}
	if strings.HasPrefix(longest, c.Vendor.RoleName) {
		return usererr.New(usererr.Invalid, "the data plane cannot be named %q, because role %s would start as the access roles do, which are locked", c.DataPlane, longest).
			WithHint("give it another name")
	}
	return nil
}

func shorterBy(room int) string {
	if room < 1 {
		return "give the vendor profile a shorter prefix or adminRole"
	}
	return fmt.Sprintf("give the data plane a name of at most %d characters", room)
}
