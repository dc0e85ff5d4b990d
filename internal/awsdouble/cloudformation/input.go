package cloudformation

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// input are a call's parameters, as the Query protocol has them.
type input struct{ url.Values }

func (in input) one(name string) string { return in.Get(name) }

func (in input) yes(name string) bool { return strings.EqualFold(in.Get(name), "true") }

// has says whether a list was given, be it an empty one.
func (in input) has(list string) bool {
	return in.Has(list) || in.Has(list+".member.1") || in.Has(list+".member.1.Key") || in.Has(list+".member.1.ParameterKey")
}

func (in input) list(name string) []string {
	var all []string
	for i := 1; in.Has(name + ".member." + strconv.Itoa(i)); i++ {
		all = append(all, in.Get(name+".member."+strconv.Itoa(i)))
	}
	return all
}

func (in input) tags() []Tag {
	var all []Tag
	for i := 1; ; i++ {
		member := "Tags.member." + strconv.Itoa(i)
		if !in.Has(member + ".Key") {
			return all
		}
		all = append(all, Tag{in.Get(member + ".Key"), in.Get(member + ".Value")})
	}
}

// given is a parameter of the template as a call gives it.
type given struct {
	key, value string
	previous   bool
}

func (in input) parameters() []given {
	var all []given
	for i := 1; ; i++ {
		member := "Parameters.member." + strconv.Itoa(i)
		if !in.Has(member + ".ParameterKey") {
			return all
		}
		all = append(all, given{in.Get(member + ".ParameterKey"), in.Get(member + ".ParameterValue"), in.yes(member + ".UsePreviousValue")})
	}
}

// checks gathers what is wrong with a request, as AWS says it.
type checks []string

func (c *checks) add(format string, args ...any) { *c = append(*c, fmt.Sprintf(format, args...)) }

func (c checks) err() error {
	switch len(c) {
	case 0:
		return nil
	case 1:
		return invalid("1 validation error detected: %s", c[0])
	}
	return invalid("%d validation errors detected: %s", len(c), strings.Join(c, "; "))
}

func (c *checks) present(name, value string) {
	if value == "" {
		c.add("Value null at '%s' failed to satisfy constraint: Member must not be null", name)
	}
}

// form checks a value that was given: its pattern, and its length unless that is 0.
func (c *checks) form(name, value string, form *regexp.Regexp, longest int) {
	if value == "" {
		return
	}
	if longest > 0 && len(value) > longest {
		c.add("Value '%s' at '%s' failed to satisfy constraint: Member must have length less than or equal to %d", value, name, longest)
	}
	if !form.MatchString(value) {
		pattern := strings.TrimSuffix(strings.TrimPrefix(form.String(), "^(?:"), ")$")
		c.add("Value '%s' at '%s' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", value, name, pattern)
	}
}

func (c *checks) oneOf(name, value string, all ...string) {
	if value != "" && !slices.Contains(all, value) {
		c.add("Value '%s' at '%s' failed to satisfy constraint: Member must satisfy enum value set: [%s]", value, name, strings.Join(all, ", "))
	}
}

// The forms of the API Reference. What stands in ^(?:…)$ is told as the pattern.
var (
	nameForm     = regexp.MustCompile(`^(?:[a-zA-Z][-a-zA-Z0-9]*)$`)
	nameOrIDForm = regexp.MustCompile(`^(?:([a-zA-Z][-a-zA-Z0-9]*)|(arn:\b(aws|aws-us-gov|aws-cn)\b:[-a-zA-Z0-9:/._+]*))$`)
	tokenForm    = regexp.MustCompile(`^(?:[a-zA-Z0-9][-a-zA-Z0-9]*)$`)
)

// The bounds on a template (User Guide, Understand CloudFormation quotas; the second as
// CloudFormation itself words it, and cfn-lint has it).
const (
	maxBody   = 51_200
	maxObject = 1_000_000
)

var capabilities = []string{"CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"}

// template reads the template that a call gives, in its body, by its URL or, where
// there is a previous one, as that.
func (c *call) template(ctx context.Context, previous *makeup) (string, *Template, error) {
	body, where := c.in.one("TemplateBody"), c.in.one("TemplateURL")
	switch {
	case c.in.yes("UsePreviousTemplate"):
		if body != "" || where != "" {
			return "", nil, invalid("You cannot specify both usePreviousTemplate and Template Body/Template URL.")
		}
		if previous == nil || previous.Template == "" {
			return "", nil, invalid("Previous template does not exist; specify Template URL or Template Body.")
		}
		body = previous.Template
	case body != "" && where != "":
		return "", nil, invalid("Only one of Template URL and Template Body may be specified.")
	case where != "":
		var err error
		if body, err = c.object(ctx, "TemplateURL", where, maxObject); err != nil {
			return "", nil, err
		}
	case body == "":
		return "", nil, invalid("Either Template URL or Template Body must be specified.")
	case len(body) > maxBody:
		return "", nil, invalid("1 validation error detected: Value '%s' at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to %d", body, maxBody)
	}
	t, err := Parse(body)
	return body, t, err
}

// document reads what a call gives in its body, or by a URL: a stack policy.
func (c *call) document(ctx context.Context, name string) (string, error) {
	body, where := c.in.one(name+"Body"), c.in.one(name+"URL")
	if body != "" && where != "" {
		return "", invalid("You cannot specify both %sURL and %sBody", name, name)
	}
	if where != "" {
		return c.object(ctx, name+"URL", where, maxPolicy)
	}
	return body, nil
}

// object reads what a URL of S3 names, with the caller's rights. Nothing is fetched from
// anywhere else: of a host of the double's own the path counts, and of S3's the name.
func (c *call) object(ctx context.Context, name, text string, most int) (string, error) {
	bucket, key, version, ok := c.place(text)
	if !ok {
		return "", invalid("%s must be a supported URL.", name)
	}
	if bucket == "" || key == "" {
		return "", invalid("%s must reference a valid S3 object to which you have access.", name)
	}
	content, err := c.world.Object(ctx, c.Who, c.Where, bucket, key, version)
	var refused *Error
	if errors.As(err, &refused) {
		return "", invalid("S3 error: %s\nFor more information check http://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html", refused.Message)
	}
	if err != nil {
		return "", err
	}
	if len(content) > most {
		return "", invalid("Template may not exceed %d bytes in size.", most)
	}
	return string(content), nil
}

// hosts of S3, the bucket in front where it is in the name.
var s3Host = regexp.MustCompile(`^(?:(.+)\.)?s3(?:[.-](?:dualstack\.)?[a-z]{2}(?:-[a-z]+)+-\d+)?\.amazonaws\.com(?:\.cn)?$`)

// place finds the object that a URL means.
func (c *call) place(text string) (bucket, key, version string, ok bool) {
	u, err := url.Parse(text)
	if err != nil || u.User != nil || u.Fragment != "" {
		return "", "", "", false
	}
	path := strings.TrimPrefix(u.Path, "/")
	version = u.Query().Get("versionId")
	switch m := s3Host.FindStringSubmatch(u.Hostname()); {
	case m != nil && u.Scheme == "https" && u.Port() == "":
		if m[1] != "" {
			return m[1], path, version, true
		}
	case (u.Scheme == "http" || u.Scheme == "https") && c.world.Endpoint(u.Hostname()):
		if own, ok := strings.CutSuffix(u.Hostname(), ".localhost"); ok {
			return strings.TrimSuffix(own, ".s3"), path, version, true
		}
	default:
		return "", "", "", false
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key, version, true
}

// values are what a call gives for the parameters of a template, with those of before
// where it says so.
func (c *call) values(previous *makeup) (map[string]string, error) {
	before := map[string]string{}
	if previous != nil {
		for _, p := range previous.Parameters {
			before[p.Key] = p.Value
		}
	}
	all := map[string]string{}
	for _, p := range c.in.parameters() {
		if _, twice := all[p.key]; twice {
			return nil, invalid("Duplicate parameter key: %s", p.key)
		}
		if p.previous {
			value, there := before[p.key]
			switch {
			case p.value != "":
				return nil, invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true and non empty value for a parameter", p.key)
			case previous == nil && c.Operation == "CreateChangeSet":
				return nil, invalid("Cannot specify UsePreviousValue on Parameters when ChangeSetType is CREATE")
			case !there:
				return nil, invalid("Invalid input for parameter key %s. Cannot specify usePreviousValue as true for a parameter key not in the previous template", p.key)
			}
			p.value = value
		}
		all[p.key] = p.value
	}
	return all, nil
}

// aim reads what a stack shall be: the template, the values, tags and the rest. What a
// call leaves out stays as it was before; previous is nil for a new stack.
func (c *call) aim(ctx context.Context, st *stack, previous *makeup) (*makeup, *Bound, error) {
	for _, given := range c.in.list("Capabilities") {
		var bad checks
		bad.oneOf("capabilities", given, capabilities...)
		if err := bad.err(); err != nil {
			return nil, nil, err
		}
	}
	body, t, err := c.template(ctx, previous)
	if err != nil {
		return nil, nil, err
	}
	values, err := c.values(previous)
	if err != nil {
		return nil, nil, err
	}
	summary := t.Summary()
	to := &makeup{Template: body, Description: summary.Description, Capabilities: c.in.list("Capabilities"), RoleARN: c.in.one("RoleARN")}
	to.Tags, to.NotificationARNs = c.in.tags(), c.in.list("NotificationARNs")
	if previous != nil {
		if !c.in.has("Tags") {
			to.Tags = previous.Tags
		}
		if !c.in.has("NotificationARNs") {
			to.NotificationARNs = previous.NotificationARNs
		}
		if to.RoleARN == "" {
			to.RoleARN = previous.RoleARN
		}
	}
	if err := checkTags(to.Tags); err != nil {
		return nil, nil, err
	}
	bound, err := t.Bind(values, st.env(to))
	if err != nil {
		return nil, nil, err
	}
	for _, needed := range summary.Capabilities {
		if !slices.Contains(to.Capabilities, needed) && !(needed == "CAPABILITY_IAM" && slices.Contains(to.Capabilities, "CAPABILITY_NAMED_IAM")) {
			return nil, nil, &Error{"InsufficientCapabilitiesException", "Requires capabilities : [" + needed + "]", http.StatusBadRequest}
		}
	}
	used := bound.Values()
	for _, p := range t.Parameters {
		to.Parameters = append(to.Parameters, parameterValue{p.Name, used[p.Name], p.NoEcho})
	}
	return to, bound, c.act(ctx, to.RoleARN)
}

// act finds who makes the resources: the stack's role, or the caller.
func (c *call) act(ctx context.Context, role string) error {
	if role == "" {
		return nil
	}
	actor, err := c.world.Assume(ctx, role)
	var refused *Error
	if errors.As(err, &refused) {
		return invalid("Role %s is invalid or cannot be assumed", role)
	}
	c.actor = actor
	return err
}

func checkTags(tags []Tag) error {
	seen := map[string]bool{}
	for _, tag := range tags {
		switch {
		case seen[strings.ToLower(tag.Key)]:
			return invalid("Duplicate tag keys found. Please note that Tag keys are case insensitive.")
		case strings.HasPrefix(strings.ToLower(tag.Key), "aws:"):
			return invalid("aws: prefixed tag key names are not allowed for external use.")
		case tag.Key == "" || len(tag.Key) > 128 || len(tag.Value) > 256:
			return invalid("1 validation error detected: Value '%s' at 'tags' failed to satisfy constraint: Member must have a key of 1 to 128 and a value of up to 256 characters", tag.Key)
		}
		seen[strings.ToLower(tag.Key)] = true
	}
	if len(tags) > 50 {
		return invalid("1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50")
	}
	return nil
}
