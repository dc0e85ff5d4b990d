package awsidentity

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"biplane.dev/biplane/provision/iampolicy"
)

// The default quotas of an account, as GetAccountSummary reports them. Policies
// are counted without white space.
const (
	maxInlineRole     = iampolicy.InlineLimit // of a role, all inline policies together
	maxInlineUser     = 2048
	maxManaged        = iampolicy.ManagedLimit
	maxTrust          = iampolicy.TrustLimit
	maxSessionPolicy  = iampolicy.SessionLimit
	maxAttachedRole   = 10
	maxAttachedUser   = 10
	maxVersions       = 5
	maxRoles          = 1000
	maxPolicies       = 1500
	maxProfiles       = 1000
	maxUsers          = 5000
	maxProviders      = 100
	maxKeysPerUser    = 2
	maxClientIDs      = 100
	maxThumbprints    = 5
	maxTags           = 50
	maxDocumentLength = 131072 // of a document as sent, white space included
)

// Character classes, in the words of AWS's API models.
var (
	nameClass        = regexp.MustCompile(`^[\w+=,.@-]+$`)
	pathClass        = regexp.MustCompile(`^(/|/[!-\x7f]+/)$`)
	descriptionClass = regexp.MustCompile(`^[\t\n\r\x20-\x7e\xa1-\xff]*$`)
	tagKeyClass      = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]+$`)
	tagValueClass    = regexp.MustCompile(`^[\p{L}\p{Z}\p{N}_.:/=+\-@]*$`)
	externalIDClass  = regexp.MustCompile(`^[\w+=,.@:/-]*$`)
	arnClass         = regexp.MustCompile(`^arn:[a-z-]+:[a-z0-9-]*:[a-z0-9-]*:[^:]*:.+$`)
	accountClass     = regexp.MustCompile(`^\d{12}$`)
)

// errConstraint is the error of a parameter that the API's model refuses.
func errConstraint(value, field, constraint string) error {
	return errInvalid("1 validation error detected: Value '%s' at '%s' failed to satisfy constraint: %s", printable(value), field, constraint)
}

// printable keeps what a stranger sent from filling an answer.
func printable(s string) string {
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return strings.ToValidUTF8(strings.Map(func(r rune) rune {
		if r < ' ' {
			return -1
		}
		return r
	}, s), "")
}

// field is a parameter's name as validation messages spell it.
func field(parameter string) string { return strings.ToLower(parameter[:1]) + parameter[1:] }

// name reads a name parameter that has to be there.
func (c *call) name(parameter string, max int) (string, error) {
	value, ok := c.p[parameter]
	switch {
	case !ok:
		return "", errInvalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", field(parameter))
	case value == "":
		return "", errConstraint(value, field(parameter), "Member must have length greater than or equal to 1")
	case utf8.RuneCountInString(value) > max:
		return "", errConstraint(value, field(parameter), fmt.Sprintf("Member must have length less than or equal to %d", max))
	case !nameClass.MatchString(value):
		return "", errInvalid("The specified value for %s is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-", field(parameter))
	}
	return value, nil
}

func (c *call) roleName() (string, error)   { return c.name("RoleName", 64) }
func (c *call) policyName() (string, error) { return c.name("PolicyName", 128) }
func (c *call) userName() (string, error)   { return c.name("UserName", 64) }

// path reads the path of something to be made.
func (c *call) path() (string, error) {
	value, ok := c.p["Path"]
	if !ok {
		return "/", nil
	}
	if len(value) > 512 {
		return "", errConstraint(value, "path", "Member must have length less than or equal to 512")
	}
	if !pathClass.MatchString(value) || strings.Contains(value, "//") {
		return "", errInvalid("The specified value for path is invalid. It must begin and end with / and contain only alphanumeric characters and/or / characters.")
	}
	return value, nil
}

// pathPrefix reads the filter of a list.
func (c *call) pathPrefix() (string, error) {
	value, ok := c.p["PathPrefix"]
	if !ok {
		return "/", nil
	}
	if len(value) > 512 || !strings.HasPrefix(value, "/") {
		return "", errInvalid("The specified value for pathPrefix is invalid. It must begin with / and have 512 characters at most.")
	}
	return value, nil
}

func (c *call) description(max int) (string, error) {
	value := c.p.get("Description")
	if utf8.RuneCountInString(value) > max {
		return "", errConstraint(value, "description", fmt.Sprintf("Member must have length less than or equal to %d", max))
	}
	if !descriptionClass.MatchString(value) {
		return "", errConstraint(value, "description", `Member must satisfy regular expression pattern: [\u0009\u000A\u000D\u0020-\u007E\u00A1-\u00FF]*`)
	}
	return value, nil
}

// arn reads the parameter of a policy's ARN.
func (c *call) arn(parameter string) (string, error) {
	value, ok := c.p[parameter]
	switch {
	case !ok:
		return "", errInvalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", field(parameter))
	case len(value) < 20:
		return "", errConstraint(value, field(parameter), "Member must have length greater than or equal to 20")
	case len(value) > 2048:
		return "", errConstraint(value, field(parameter), "Member must have length less than or equal to 2048")
	case !arnClass.MatchString(value):
		return "", refuse(http.StatusBadRequest, "InvalidInput", "ARN %s is not valid.", printable(value))
	}
	return value, nil
}

// checkTags checks the tags that would be there in the end.
func checkTags(tags []Tag, quota int) error {
	for i, tag := range tags {
		where := fmt.Sprintf("tags.%d.member", i+1)
		switch {
		case tag.Key == "":
			return errConstraint(tag.Key, where+".key", "Member must have length greater than or equal to 1")
		case utf8.RuneCountInString(tag.Key) > 128:
			return errConstraint(tag.Key, where+".key", "Member must have length less than or equal to 128")
		case utf8.RuneCountInString(tag.Value) > 256:
			return errConstraint(tag.Value, where+".value", "Member must have length less than or equal to 256")
		case !tagKeyClass.MatchString(tag.Key):
			return errConstraint(tag.Key, where+".key", `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]+`)
		case !tagValueClass.MatchString(tag.Value):
			return errConstraint(tag.Value, where+".value", `Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*`)
		case strings.HasPrefix(strings.ToLower(tag.Key), "aws:"):
			return refuse(http.StatusBadRequest, "InvalidInput", "Tag keys that start with aws: are reserved: %s", printable(tag.Key))
		}
		if slices.ContainsFunc(tags[:i], func(t Tag) bool { return strings.EqualFold(t.Key, tag.Key) }) {
			return refuse(http.StatusBadRequest, "InvalidInput", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		}
	}
	if len(tags) > quota {
		return errLimit("The number of tags has reached the maximum limit of %d.", quota)
	}
	return nil
}

// newTags reads the tags of something to be made.
func (c *call) newTags() ([]Tag, error) {
	tags := c.p.tags("Tags")
	return tags, checkTags(tags, maxTags)
}

// document reads a policy document and checks its form. trust says that it has
// to name principals, and may not name resources.
func (c *call) document(parameter string, trust bool) (string, *iampolicy.Document, error) {
	text, ok := c.p[parameter]
	switch {
	case !ok:
		return "", nil, errInvalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", field(parameter))
	case text == "":
		return "", nil, errConstraint(text, field(parameter), "Member must have length greater than or equal to 1")
	case len(text) > maxDocumentLength:
		return "", nil, errConstraint(text, field(parameter), fmt.Sprintf("Member must have length less than or equal to %d", maxDocumentLength))
	}
	d, err := checkDocument(text, trust)
	return text, d, err
}

func checkDocument(text string, trust bool) (*iampolicy.Document, error) {
	d, err := iampolicy.Parse("", []byte(text))
	if err != nil {
		var form *iampolicy.FormError
		if errors.As(err, &form) && len(form.Problems) > 0 {
			first := form.Problems[0]
			if first.Code == "bad-principal" {
				return nil, errMalformed("Invalid principal in policy: %s", first.Message)
			}
			return nil, errMalformed("Syntax errors in policy: %s (%s, line %d, column %d).", first.Message, first.Path, first.Position.Line, first.Position.Column)
		}
		return nil, errMalformed("This policy contains invalid Json: %v", err)
	}
	for _, one := range d.Statements {
		named := one.Principal != nil || one.NotPrincipal != nil
		located := len(one.Resource)+len(one.NotResource) > 0
		switch {
		case !trust && named:
			return nil, errMalformed("Policy document should not specify a principal.")
		case !trust && !located:
			return nil, errMalformed("Policy statement must contain resources.")
		case trust && !named:
			return nil, errMalformed("AssumeRole policy must contain a principal in every statement.")
		case trust && located:
			return nil, errMalformed("Has prohibited field Resource")
		case trust && one.NotPrincipal != nil && one.Effect == iampolicy.Allow:
			return nil, errMalformed("Has prohibited field NotPrincipal")
		}
		if trust {
			for _, action := range slices.Concat(one.Action, one.NotAction) {
				if service, _, _ := strings.Cut(strings.ToLower(action), ":"); service != "sts" && action != "*" {
					return nil, errMalformed("AssumeRole policy may only specify STS AssumeRole actions.")
				}
			}
		}
	}
	return d, nil
}

// size counts a document as IAM does.
func size(text string) (int, error) {
	n, err := iampolicy.Size([]byte(text))
	if err != nil {
		return 0, errMalformed("This policy contains invalid Json: %v", err)
	}
	return n, nil
}
