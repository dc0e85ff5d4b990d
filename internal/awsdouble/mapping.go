package awsdouble

import (
	"context"
	_ "embed"
	"fmt"
	"path"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/iampolicy/sar"
)

//go:embed operations.txt
var operationsText string

// A mapping says what IAM is asked about a call. Its table is operations.txt,
// which also explains how a row is written.
type mapping struct {
	rows      map[string][]clause // by "service:Operation"
	reference *sar.Reference
}

// A clause is one action on some resources.
type clause struct {
	action string // "ec2:CreateVpc"; empty for a function that gives whole questions
	when   string // "tags", or what the parameters must be: "Name", "Name=x", "Name!=x,Other"; empty for always
	tokens []string

	pass       string // of iam:PassRole: the template of the roles
	slr        string // of iam:CreateServiceLinkedRole: the service
	slrRole    string
	base       string   // how ARNs of this section start
	conditions []string // KEY:=TEMPLATE
}

// A question is one request to decide, before the condition keys of tags.
type question struct {
	iampolicy.Request
	tags     map[string]string // of the request, where the action sees them
	fixed    iampolicy.Context // keys that are given whatever the reference says
	existing bool              // the resource has a name already, so that it may have tags
}

// facts are what a mapping must look up: about resources that exist already.
// What is not found is "" or nil.
type facts interface {
	tags(ctx context.Context, c *call, arn string) (map[string]string, error)
	kmsKey(ctx context.Context, c *call, id string) (string, error)
	secret(ctx context.Context, c *call, id string) (string, error)
	ec2(ctx context.Context, c *call, operation string, parameters ...string) (*node, error)
	eksARN(c *call, kind, cluster, name string) string
	stackARN(c *call, stack, changeSet string) string
	roleExists(account, name string) bool
	profileRoles(account, profile string) []string
}

// maxQuestions bounds a clause, above what any call of AWS may touch: S3 deletes
// 1,000 objects at once.
const maxQuestions = 2500

func readMapping(text string, reference *sar.Reference) (*mapping, error) {
	m := &mapping{rows: map[string][]clause{}, reference: reference}
	var service, base, row string
	for number, line := range strings.Split(text, "\n") {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("operations.txt:%d: %s", number+1, fmt.Sprintf(format, args...))
		}
		f := strings.Fields(line)
		switch {
		case len(f) == 0 || strings.HasPrefix(f[0], "#"):
		case strings.HasPrefix(line, "["):
			service = strings.Trim(f[0], "[]")
			base = "arn:{partition}:" + service + ":{region}:{account}:"
			if len(f) > 1 {
				base = strings.TrimSuffix(f[1], "]")
			}
		case f[0] == "&":
			if row == "" || len(f) < 2 {
				return nil, fail("a clause without its row")
			}
			c, err := readClause(service, base, f[1:])
			if err != nil {
				return nil, fail("%v", err)
			}
			m.rows[row] = append(m.rows[row], c)
		default:
			operation, action, renamed := strings.Cut(f[0], "=")
			if !renamed {
				action = operation
			}
			row = service + ":" + operation
			if m.rows[row] != nil {
				return nil, fail("%s has two rows", row)
			}
			c, err := readClause(service, base, append([]string{action}, f[1:]...))
			if err != nil {
				return nil, fail("%v", err)
			}
			m.rows[row] = []clause{c}
		}
	}
	return m, nil
}

func readClause(service, base string, f []string) (clause, error) {
	c := clause{base: base}
	if parameter, ok := strings.CutPrefix(f[0], "if="); ok {
		c.when, f = parameter, f[1:]
	} else if f[0] == "tags" {
		c.when, f = "tags", f[1:]
	}
	if len(f) == 0 {
		return c, fmt.Errorf("a clause without an action")
	}
	switch head := f[0]; {
	case strings.HasPrefix(head, "pass="):
		if len(f) != 2 {
			return c, fmt.Errorf("pass= needs one service")
		}
		c.action, c.pass = "iam:PassRole", strings.TrimPrefix(head, "pass=")
		c.conditions = []string{"iam:PassedToService:=" + f[1]}
		return c, nil
	case strings.HasPrefix(head, "slr="):
		if len(f) != 2 {
			return c, fmt.Errorf("slr= needs the name of one role")
		}
		c.action, c.slr, c.slrRole = "iam:CreateServiceLinkedRole", strings.TrimPrefix(head, "slr="), f[1]
		return c, nil
	case strings.HasPrefix(head, "@"):
		c.tokens = f
		return c, nil
	}
	c.action = f[0]
	if !strings.Contains(c.action, ":") {
		c.action = service + ":" + c.action
	} else if other, _, _ := strings.Cut(c.action, ":"); other != service {
		c.base = "arn:{partition}:" + other + ":{region}:{account}:"
	}
	for _, token := range f[1:] {
		if strings.Contains(token, ":=") {
			c.conditions = append(c.conditions, token)
		} else {
			c.tokens = append(c.tokens, token)
		}
	}
	if len(c.tokens) == 0 {
		return c, fmt.Errorf("%s has no resource", c.action)
	}
	return c, nil
}

// An unknownOperation cannot be decided, so it is refused.
type unknownOperation struct{ service, operation string }

func (u *unknownOperation) Error() string {
	return fmt.Sprintf("the AWS double does not know the operation %s of %s, so it cannot be decided", u.operation, u.service)
}

// questions returns all that must be allowed before the call may be performed.
// There is always at least one.
func (m *mapping) questions(ctx context.Context, c *call, f facts) ([]iampolicy.Request, error) {
	clauses, ok := m.rows[c.Service+":"+c.Operation]
	if !ok {
		return m.withoutRow(c)
	}
	x := &expansion{ctx: ctx, call: c, facts: f}
	var all []question
	for _, one := range clauses {
		all = append(all, x.clause(one)...)
	}
	if c.Service == "ec2" {
		all = append(all, x.ec2Tags()...)
	}
	if c.Service == "s3" {
		all = x.s3Variants(all)
	}
	if x.err != nil {
		return nil, x.err
	}
	var requests []iampolicy.Request
	for _, q := range all {
		request, err := m.finish(ctx, c, q, f)
		if err != nil {
			return nil, err
		}
		requests = append(requests, request)
	}
	return requests, nil
}

// withoutRow decides an operation that the table does not have, as the reference
// describes it: on *, which only a grant on * allows. An action that can be
// limited to resources is asked about them all as well, so that a denial of some
// counts.
func (m *mapping) withoutRow(c *call) ([]iampolicy.Request, error) {
	action, ok := m.reference.Action(c.Service + ":" + c.Operation)
	if !ok {
		return nil, &unknownOperation{c.Service, c.Operation}
	}
	keys := iampolicy.Context{}
	if c.Service == "s3" {
		keys = s3Keys(c)
	}
	if tags, tagged := requestTags(c.params); tagged {
		setTags(keys, "aws:RequestTag/", tags)
	}
	requests := []iampolicy.Request{{Action: action.String(), Resource: "*", Context: keys}}
	for _, r := range action.Resources {
		if t, ok := m.reference.ResourceType(action.Service, r.Type); ok {
			requests = append(requests, iampolicy.Request{Action: action.String(), Resource: c.fill(wild(t.ARN)), ResourceAccount: c.Account, Context: keys})
		}
	}
	return requests, nil
}

// wild makes of the reference's format of an ARN one with * where names go.
func wild(format string) string {
	format = strings.NewReplacer("${Partition}", "{partition}", "${Region}", "{region}", "${Account}", "{account}").Replace(format)
	for {
		before, after, ok := strings.Cut(format, "${")
		if !ok {
			return format
		}
		_, rest, _ := strings.Cut(after, "}")
		format = before + "*" + rest
	}
}

// finish gives a question the condition keys that its action knows on its kind
// of resource, and no others: a policy that asks for a key where AWS has none
// must fail here too.
func (m *mapping) finish(ctx context.Context, c *call, q question, f facts) (iampolicy.Request, error) {
	known, ok := m.reference.Action(q.Action)
	if !ok {
		return q.Request, fmt.Errorf("operations.txt asks about %s, which does not exist", q.Action)
	}
	keys := slices.Clone(known.ConditionKeys)
	var ofResource []string
	for _, name := range m.typesOf(known, q.Resource) {
		for _, r := range known.Resources {
			if r.Type == name {
				keys = append(keys, r.ConditionKeys...)
			}
		}
		if t, ok := m.reference.ResourceType(known.Service, name); ok {
			ofResource = append(ofResource, t.ConditionKeys...)
		}
	}
	asked := q.Context
	q.Context = iampolicy.Context{}
	for key, values := range asked {
		if knows(keys, key) {
			q.Context.Set(key, values...)
		}
	}
	for key, values := range q.fixed {
		q.Context.Set(key, values...)
	}
	if len(q.tags) > 0 && knows(keys, "aws:RequestTag/x") {
		setTags(q.Context, "aws:RequestTag/", q.tags)
	}
	service, _, _ := strings.Cut(q.Action, ":")
	if removed := removedTags(c.params); len(removed) > 0 && service == c.Service && knows(keys, "aws:TagKeys") {
		q.Context.Set("aws:TagKeys", removed...)
	}
	prefixed := service + ":ResourceTag/"
	if q.existing && (knows(ofResource, "aws:ResourceTag/x") || knows(keys, "aws:ResourceTag/x") || knows(keys, prefixed+"x")) {
		tags, err := f.tags(ctx, c, q.Resource)
		if err != nil {
			return q.Request, err
		}
		for key, value := range tags {
			q.Context.Set("aws:ResourceTag/"+key, value)
			q.Context.Set(prefixed+key, value)
		}
	}
	return q.Request, nil
}

// typesOf returns the reference's types of a resource; of the service where the
// action itself has none.
func (m *mapping) typesOf(action *sar.Action, resource string) []string {
	if names := m.reference.MatchingTypes(action, resource); len(names) > 0 {
		return names
	}
	service, ok := m.reference.Service(action.Service)
	if !ok || len(action.Resources) > 0 || resource == "*" {
		return nil
	}
	var names []string
	for _, t := range service.ResourceTypes {
		if matchARN(wild(t.ARN), resource) {
			names = append(names, t.Name)
		}
	}
	return names
}

// matchARN compares the service and the last field, where the pattern may have *.
func matchARN(pattern, arn string) bool {
	p, a := strings.SplitN(pattern, ":", 6), strings.SplitN(arn, ":", 6)
	if len(p) != 6 || len(a) != 6 || p[2] != a[2] {
		return false
	}
	matched, err := path.Match(strings.ReplaceAll(p[5], "/", ":"), strings.ReplaceAll(a[5], "/", ":"))
	return err == nil && matched
}

// knows says whether a key is one of the reference's, whose variable parts are
// written ${TagKey} or <key>.
func knows(keys []string, key string) bool {
	for _, known := range keys {
		if at := strings.IndexAny(known, "$<"); at > 0 {
			if len(key) > at && strings.EqualFold(known[:at], key[:at]) {
				return true
			}
		} else if strings.EqualFold(known, key) {
			return true
		}
	}
	return false
}

// An expansion is the work on one call. The first error stays.
type expansion struct {
	ctx   context.Context
	call  *call
	facts facts
	err   error
}

func (x *expansion) fail(err error) {
	if x.err == nil {
		x.err = err
	}
}

// clause gives the questions of one clause.
func (x *expansion) clause(c clause) []question {
	tags, tagged := requestTags(x.call.params)
	switch {
	case c.when == "tags" && !tagged:
		return nil
	case c.when != "" && c.when != "tags" && !given(x.call.params, c.when):
		return nil
	case c.slr != "":
		return x.serviceLinkedRole(c)
	case c.action == "":
		switch c.tokens[0] {
		case "@copySource":
			return x.copySource()
		case "@passInstanceProfile":
			return x.passInstanceProfile()
		}
		x.fail(fmt.Errorf("operations.txt: no function %s", c.tokens[0]))
		return nil
	}

	fixed := iampolicy.Context{}
	for _, condition := range c.conditions {
		key, template, _ := strings.Cut(condition, ":=")
		if values := x.values(template); len(values) > 0 {
			if strings.HasSuffix(key, ":cluster") { // the only key here that is an ARN
				for i, value := range values {
					if !strings.HasPrefix(value, "arn:") {
						values[i] = x.call.fill(c.base) + value
					}
				}
			}
			fixed.Set(key, values...)
		}
	}
	var resources []string
	if c.pass != "" {
		for _, role := range x.values(c.pass) {
			if !strings.HasPrefix(role, "arn:") {
				role = x.call.fill("arn:{partition}:iam::{account}:role/") + role
			}
			resources = append(resources, role)
		}
	} else {
		for _, token := range c.tokens {
			resources = append(resources, x.resources(c.base, token)...)
		}
		if len(resources) == 0 {
			resources = []string{"*"}
		}
	}
	if resources = unique(resources); len(resources) > maxQuestions {
		x.fail(fmt.Errorf("%w: it touches more than %d resources", errNotACall, maxQuestions))
		return nil
	}
	service, _, _ := strings.Cut(c.action, ":")
	var all []question
	for _, resource := range resources {
		q := question{Request: iampolicy.Request{Action: c.action, Resource: resource, Context: iampolicy.Context{}}, fixed: fixed}
		q.existing = !strings.Contains(base(resource), "*")
		if service == x.call.Service {
			q.tags = tags
			if service == "ec2" && x.call.Operation != "CreateTags" && x.call.Operation != "DeleteTags" {
				q.tags = x.tagsFor(ec2Type(resource))
			}
		}
		if service == "s3" {
			q.Context = s3Keys(x.call)
		}
		if service == "ec2" {
			q.Context.Set("ec2:Region", x.call.Region)
			x.ec2Keys(&q)
		}
		all = append(all, q)
	}
	return all
}

// given says whether parameters are as a clause's if= has them.
func given(params *node, conditions string) bool {
	for condition := range strings.SplitSeq(conditions, ",") {
		if name, value, ok := strings.Cut(condition, "!="); ok {
			if strings.EqualFold(params.one(name), value) {
				return false
			}
		} else if name, value, ok := strings.Cut(condition, "="); ok {
			if !strings.EqualFold(params.one(name), value) {
				return false
			}
		} else if !params.has(condition) {
			return false
		}
	}
	return true
}

func (x *expansion) serviceLinkedRole(c clause) []question {
	if x.facts.roleExists(x.call.Account, c.slrRole) {
		return nil
	}
	q := question{fixed: iampolicy.Context{}}
	q.Action = c.action
	q.Resource = x.call.fill("arn:{partition}:iam::{account}:role/aws-service-role/") + c.slr + "/" + c.slrRole
	q.fixed.Set("iam:AWSServiceName", c.slr)
	return []question{q}
}

// resources expands one token to ARNs.
func (x *expansion) resources(base, token string) []string {
	for alternative := range strings.SplitSeq(token, "||") {
		var found []string
		if name, ok := strings.CutPrefix(alternative, "@"); ok {
			found = x.function(base, name)
		} else {
			for _, value := range x.values(alternative) {
				if value != "*" && !strings.HasPrefix(value, "arn:") {
					value = x.call.fill(base) + value
				}
				found = append(found, value)
			}
		}
		if len(found) > 0 {
			return found
		}
	}
	return nil
}

// values expands a template to every combination of its parameters' values. A
// value that is an ARN takes the whole template's place when it comes last, and
// gives its name when something follows.
func (x *expansion) values(template string) []string {
	template = x.call.fill(template)
	out := []string{""}
	for {
		text, rest, more := strings.Cut(template, "{")
		for i := range out {
			out[i] += text
		}
		if !more {
			return out
		}
		var reference string
		reference, template, _ = strings.Cut(rest, "}")
		replacements := x.parameter(reference)
		last := template == ""
		var next []string
		for _, before := range out {
			for _, value := range replacements {
				switch {
				case !strings.HasPrefix(value, "arn:"):
					value = before + value
				case !last:
					value = before + base(value)
				}
				next = append(next, value)
			}
		}
		out = next
	}
}

// parameter gives the values of "Name", "Name=default" or "Name|filter".
func (x *expansion) parameter(reference string) []string {
	reference, filter, _ := strings.Cut(reference, "|")
	name, otherwise, optional := strings.Cut(reference, "=")
	values := x.call.params.all(name)
	if len(values) == 0 && optional {
		values = []string{otherwise}
	}
	if filter == "sources" { // of the events that a pattern is for: one pattern, several values
		return sourcesOf(values)
	}
	for i, value := range values {
		switch filter {
		case "":
		case "base":
			values[i] = base(value)
		case "lb": // a load balancer's type as its ARN has it
			values[i] = map[string]string{"application": "app", "network": "net", "gateway": "gwy"}[value]
		case "listener": // a new listener of a load balancer
			values[i] = strings.Replace(value, ":loadbalancer/", ":listener/", 1) + "/*"
		default:
			x.fail(fmt.Errorf("operations.txt: no filter %q", filter))
		}
	}
	return values
}

// base is what follows the last slash.
func base(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

func unique(list []string) []string {
	var out []string
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}
