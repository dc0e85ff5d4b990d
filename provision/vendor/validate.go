package vendor

import (
	"fmt"
	"regexp"
	"sort"
	"strings"

	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/internal/usererr"
)

// partitions of AWS that have accounts of their own.
var partitions = []string{"aws", "aws-us-gov", "aws-cn"}

// longestRoleSuffix is the longest that an access role's name adds to RoleName; it
// sets how long a base name may be.
const longestRoleSuffix = "-break-glass"

// The forms of names, as AWS states them. Length is checked apart, so that the
// sentence can say what is wrong.
var (
	roleForm       = regexp.MustCompile(`^[\w+=,.@-]+$`)
	rolePathForm   = regexp.MustCompile(`^([\w+=,.@-]+/)*[\w+=,.@-]+$`)
	pathForm       = regexp.MustCompile(`^/([\w+=,.@-]+/)+$`)
	accountForm    = regexp.MustCompile(`^\d{12}$`)
	stackForm      = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`)
	tagForm        = regexp.MustCompile(`^[\w.:/=+@-]+$`)
	prefixForm     = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*-$`)
	logGroupForm   = regexp.MustCompile(`^/[\w./#-]+[-/]$`)
	repositoryForm = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*(/[a-z0-9]+([._-][a-z0-9]+)*)*/$`)
	queueForm      = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	folderForm     = regexp.MustCompile(`^https://[a-z0-9.-]+/([\w.~-]+/)*$`)
	namespaceForm  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	productForm    = regexp.MustCompile(`^[\pL\pN][\pL\pN .,&'()+-]*$`)
)

// Validate says what is wrong with the first field that cannot be used: the
// field and its value in the sentence, what to put there in the hint. Its errors
// are *usererr.Error.
func (p *Profile) Validate() error {
	for _, check := range []struct {
		field, value, want string
		ok                 bool
	}{
		{"apiVersion", p.APIVersion, "it must be " + APIVersion, p.APIVersion == APIVersion},
		{"kind", p.Kind, "it must be " + Kind, p.Kind == Kind},
		{"product", p.Product, "give a name for people, of letters, digits and spaces, of at most 32 characters",
			productForm.MatchString(p.Product) && len(p.Product) <= 32},
		{"controlPlaneRole", p.ControlPlaneRole, "give a role of the vendor's account, with its path if it has one: team/controlplane",
			rolePathForm.MatchString(p.ControlPlaneRole) && len(lastOf(p.ControlPlaneRole)) <= 64 && len(p.ControlPlaneRole) <= 256},
		{"roleName", p.RoleName, fmt.Sprintf("give a role name of at most %d characters, so that %s fits behind it", 64-len(longestRoleSuffix), longestRoleSuffix),
			roleForm.MatchString(p.RoleName) && len(p.RoleName) <= 64-len(longestRoleSuffix)},
		{"path", p.Path, "give an IAM path of its own with a slash at both ends, of at most 64 characters: /union/",
			pathForm.MatchString(p.Path) && len(p.Path) <= 64 && p.Path != "/aws-service-role/"},
		{"policyName", p.PolicyName, "give a policy name of at most 80 characters",
			roleForm.MatchString(p.PolicyName) && len(p.PolicyName) <= 80},
		{"stackName", p.StackName, "give a name that starts with a letter and goes on with letters, digits and hyphens, of at most 128 characters",
			stackForm.MatchString(p.StackName) && len(p.StackName) <= 128},
		{"templateUrl", p.TemplateURL, "give the https address of a folder in S3, of at most 512 characters and with a slash at its end: https://BUCKET.s3.amazonaws.com/templates/",
			folderForm.MatchString(p.TemplateURL) && len(p.TemplateURL) <= 512},
		{"tagPrefix", p.TagPrefix, "give the start of a tag's key, of at most 64 characters and not aws:, such as union:",
			tagForm.MatchString(p.TagPrefix) && len(p.TagPrefix) <= 64 && !strings.HasPrefix(strings.ToLower(p.TagPrefix), "aws:")},
		{"prefix", p.Prefix, "give lower-case letters and digits that end with a hyphen, of at most 24 characters: union-",
			prefixForm.MatchString(p.Prefix) && len(p.Prefix) <= 24},
		{"compatPrefix", p.CompatPrefix, "give lower-case letters and digits that end with a hyphen, of at most 24 characters: opta-",
			prefixForm.MatchString(p.CompatPrefix) && len(p.CompatPrefix) <= 24},
		{"endpointPrefix", p.EndpointPrefix, "give lower-case letters and digits that end with a hyphen, of at most 24 characters: unionai-access-",
			prefixForm.MatchString(p.EndpointPrefix) && len(p.EndpointPrefix) <= 24},
		{"proxyLogGroup", p.ProxyLogGroup, "give the start of a log group's name, with a slash before it and a hyphen or slash behind, of at most 64 characters: /ecs/unionai/proxy-",
			logGroupForm.MatchString(p.ProxyLogGroup) && len(p.ProxyLogGroup) <= 64},
		{"repository", p.Repository, "give the start of a repository's name in lower case with a slash behind it, of at most 64 characters: union/",
			repositoryForm.MatchString(p.Repository) && len(p.Repository) <= 64},
		{"queuePrefix", p.QueuePrefix, "give letters, digits, hyphens and underscores, of at most 32 characters: Karpenter",
			queueForm.MatchString(p.QueuePrefix) && len(p.QueuePrefix) <= 32},
		{"adminRole", p.AdminRole, "give a role name of at most 64 characters", roleForm.MatchString(p.AdminRole) && len(p.AdminRole) <= 64},
		{"userRole", p.UserRole, "give a role name of at most 64 characters", roleForm.MatchString(p.UserRole) && len(p.UserRole) <= 64},
		{"namespace", p.Namespace, "give a Kubernetes namespace: lower-case letters, digits and hyphens, of at most 63 characters",
			namespaceForm.MatchString(p.Namespace) && len(p.Namespace) <= 63},
	} {
		if !check.ok {
			return usererr.New(usererr.Invalid, "%s cannot be %q", check.field, shorten(check.value)).WithHint("%s", check.want)
		}
	}
	if err := p.validateApart(); err != nil {
		return err
	}
	return p.validateAccounts()
}

// validateApart keeps the access roles and policies from having the start of a
// name in common with what the vendor makes: whatever starts as theirs do is
// locked, so the vendor could make nothing.
func (p *Profile) validateApart() error {
	for _, lock := range []struct{ field, value string }{{"roleName", p.RoleName}, {"policyName", p.PolicyName}} {
		for _, made := range []struct{ field, value string }{{"prefix", p.Prefix}, {"adminRole", p.AdminRole}, {"userRole", p.UserRole}} {
			if strings.HasPrefix(made.value, lock.value) {
				return usererr.New(usererr.Invalid, "%s cannot be %q, because %s, %q, starts with it and would be locked with the access roles",
					lock.field, shorten(lock.value), made.field, shorten(made.value)).
					WithHint("give a longer %s, such as %q", lock.field, shorten(made.value)+"access")
			}
		}
	}
	return nil
}

func (p *Profile) validateAccounts() error {
	if len(p.Accounts) == 0 {
		return usererr.New(usererr.Invalid, "accounts is empty").
			WithHint("give the vendor's account in at least one partition, such as aws: \"123456789012\"")
	}
	var given []string
	for partition := range p.Accounts {
		given = append(given, partition)
	}
	sort.Strings(given) // so that the same file gives the same sentence
	for _, partition := range given {
		if !contains(partitions, partition) {
			return usererr.New(usererr.Invalid, "accounts has no partition %q", shorten(partition)).
				WithHint("did you mean %q?", nearest.Of(partition, partitions))
		}
		if account := p.Accounts[partition]; !accountForm.MatchString(account) {
			return usererr.New(usererr.Invalid, "accounts.%s cannot be %q", partition, shorten(account)).
				WithHint("give the twelve digits of an account, in quotes")
		}
	}
	return nil
}

// Account returns the vendor's account in a partition.
func (p *Profile) Account(partition string) (string, error) {
	if account, ok := p.Accounts[partition]; ok {
		return account, nil
	}
	return "", usererr.New(usererr.Invalid, "the vendor profile has no account in the partition %s", partition).
		WithHint("add accounts.%s to the file given with --vendor-profile", partition)
}

func lastOf(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// shorten keeps a long value from filling the screen.
func shorten(s string) string {
	if len(s) > 80 {
		return s[:77] + "..."
	}
	return s
}
