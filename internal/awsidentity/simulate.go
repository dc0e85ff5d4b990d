package awsidentity

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"biplane.dev/biplane/provision/iampolicy"
)

// simulation is what SimulatePrincipalPolicy and SimulateCustomPolicy ask.
type simulation struct {
	texts     Grants
	principal iampolicy.Principal
	keys      iampolicy.Context // of the principal and of ContextEntries
	resource  *iampolicy.Document
	resources map[string]string // of the resource policy: its name to its text
}

type xmlPosition struct{ Line, Column int }

type xmlStatement struct {
	SourcePolicyId   string
	SourcePolicyType string
	StartPosition    xmlPosition
	EndPosition      xmlPosition
}

type xmlEvaluation struct {
	EvalActionName                    string
	EvalResourceName                  string
	EvalDecision                      string
	MatchedStatements                 members[xmlStatement]
	MissingContextValues              members[string]
	PermissionsBoundaryDecisionDetail *xmlBoundaryDecision
	OrganizationsDecisionDetail       *xmlOrganizationsDecision
}

type xmlBoundaryDecision struct{ AllowedByPermissionsBoundary bool }

type xmlOrganizationsDecision struct{ AllowedByOrganizations bool }

func errInput(format string, args ...any) error {
	return refuse(http.StatusBadRequest, "InvalidInput", format, args...)
}

// simulatePrincipalPolicy answers for a user or role as it is, with the policies
// of PolicyInputList added and, where a boundary is given, that one in place of
// its own. Trust and session policies have no part, as with AWS.
func (c *call) simulatePrincipalPolicy() (any, error) {
	sim, err := c.simulationOfSource()
	if err != nil {
		return nil, err
	}
	return c.simulate(sim)
}

func (c *call) simulationOfSource() (*simulation, error) {
	arn, err := c.arn("PolicySourceArn")
	if err != nil {
		return nil, err
	}
	kindOf, p, err := c.principalByARN(arn)
	if err != nil {
		return nil, err
	}
	sim := &simulation{
		principal: iampolicy.Principal{Type: iampolicy.AWS, ARN: p.ARN, Account: c.account},
		keys:      iampolicy.Context{},
	}
	sim.keys.Set("aws:PrincipalArn", p.ARN)
	sim.keys.Set("aws:PrincipalAccount", c.account)
	tagKeys(sim.keys, "aws:PrincipalTag/", p.Tags)
	if kindOf == "user" {
		sim.keys.Set("aws:username", p.Name)
		sim.keys.Set("aws:userid", p.ID)
		sim.keys.Set("aws:PrincipalType", string(UserCaller))
	} else {
		sim.principal.RoleARN = p.ARN
		sim.keys.Set("aws:PrincipalType", string(RoleCaller))
	}
	if err := c.s.collect(c.view, c.account, p, &sim.texts); err != nil {
		return nil, err
	}
	// The names that the simulator gives to policies.
	for i, d := range sim.texts.Identity {
		if i < len(p.Inline) {
			sim.texts.Identity[i].Name = kindOf + "_" + p.Name + "_" + d.Name
		} else {
			sim.texts.Identity[i].Name = nameOf(d.Name)
		}
	}
	if sim.texts.Boundary != nil {
		sim.texts.Boundary.Name = nameOf(sim.texts.Boundary.Name)
	}
	return sim, c.simulationInput(sim)
}

func (c *call) principalByARN(arn string) (string, *principal, error) {
	fields := strings.SplitN(arn, ":", 6)
	if len(fields) == 6 && fields[2] == "iam" && fields[4] == c.account {
		kindOf, rest, _ := strings.Cut(fields[5], "/")
		switch kindOf {
		case "role":
			if r, err := get[role](c.view, c.account, roles, index(nameOf(rest))); err == nil && r.ARN == arn {
				return kindOf, &r.principal, nil
			} else if err != nil && !absent(err) {
				return "", nil, err
			}
		case "user":
			if u, err := get[user](c.view, c.account, users, index(nameOf(rest))); err == nil && u.ARN == arn {
				return kindOf, &u.principal, nil
			} else if err != nil && !absent(err) {
				return "", nil, err
			}
		default:
			return "", nil, errInput("Invalid Entity Arn: %s does not clearly define entity type and name.", arn)
		}
	}
	return "", nil, errNoSuch("The entity with ARN %s cannot be found.", arn)
}

func (c *call) simulateCustomPolicy() (any, error) {
	if len(c.p.list("PolicyInputList")) == 0 {
		return nil, errInvalid("1 validation error detected: Value null at 'policyInputList' failed to satisfy constraint: Member must not be null")
	}
	sim := &simulation{
		principal: iampolicy.Principal{Type: iampolicy.AWS, ARN: c.arnOf("user/simulated"), Account: c.account},
		keys:      iampolicy.Context{},
	}
	if err := c.simulationInput(sim); err != nil {
		return nil, err
	}
	return c.simulate(sim)
}

// simulationInput reads what both operations take.
func (c *call) simulationInput(sim *simulation) error {
	for i, text := range c.p.list("PolicyInputList") {
		if _, err := checkDocument(text, false); err != nil {
			return errInput("Invalid policy in PolicyInputList.%d: %v", i+1, err)
		}
		sim.texts.Identity = append(sim.texts.Identity, PolicyText{"PolicyInputList." + strconv.Itoa(i+1), text})
	}
	boundaries := c.p.list("PermissionsBoundaryPolicyInputList")
	if len(boundaries) > 1 {
		return errInput("Only one permissions boundary policy may be given.")
	}
	for _, text := range boundaries {
		if _, err := checkDocument(text, false); err != nil {
			return errInput("Invalid policy in PermissionsBoundaryPolicyInputList.1: %v", err)
		}
		sim.texts.Boundary = &PolicyText{"PermissionsBoundaryPolicyInputList.1", text}
	}
	for i := 1; ; i++ {
		prefix := "ContextEntries.member." + strconv.Itoa(i)
		key, ok := c.p[prefix+".ContextKeyName"]
		if !ok {
			break
		}
		if len(key) < 5 || len(key) > 256 {
			return errConstraint(key, fmt.Sprintf("contextEntries.%d.member.contextKeyName", i), "Member must have length from 5 to 256")
		}
		sim.keys.Set(key, c.p.list(prefix+".ContextKeyValues")...)
	}
	if caller := c.p.get("CallerArn"); caller != "" {
		if !strings.Contains(caller, ":user/") {
			return errInput("CallerArn must be the ARN of an IAM user, not %s.", printable(caller))
		}
		sim.principal.ARN, sim.principal.RoleARN, sim.principal.Account = caller, "", ""
	}
	if text := c.p.get("ResourcePolicy"); text != "" {
		if sim.principal.RoleARN != "" {
			return errInput("ResourcePolicy is simulated for users only; give the user's ARN as CallerArn.")
		}
		d, err := iampolicy.Parse("ResourcePolicy", []byte(text))
		if err != nil {
			return errInput("Invalid policy in ResourcePolicy: %v", err)
		}
		if _, err := iampolicy.Compile(iampolicy.Policies{Resource: d}); err != nil {
			return errInput("Invalid policy in ResourcePolicy: %v", err)
		}
		sim.resource, sim.resources = d, map[string]string{"ResourcePolicy": text}
	}
	return nil
}

var actionClass = regexp.MustCompile(`^[A-Za-z0-9-]+:[A-Za-z0-9]+$`)

// maxPairs bounds one simulation. AWS's bound is not published.
const maxPairs = 100000

// simulate decides every action on every resource.
func (c *call) simulate(sim *simulation) (any, error) {
	actions := c.p.list("ActionNames")
	if len(actions) == 0 {
		return nil, errInvalid("1 validation error detected: Value null at 'actionNames' failed to satisfy constraint: Member must not be null")
	}
	for _, action := range actions {
		if !actionClass.MatchString(action) {
			return nil, errInput("Invalid action name %s: it must be service:Name without wildcards.", printable(action))
		}
	}
	resources := c.p.list("ResourceArns")
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	for _, arn := range resources {
		if arn != "*" && !arnClass.MatchString(arn) {
			return nil, errInput("Invalid resource ARN: %s", printable(arn))
		}
	}
	if n := len(actions) * len(resources); n > maxPairs {
		return nil, errInput("%d actions on %d resources are %d decisions; ask for %d at most.", len(actions), len(resources), n, maxPairs)
	}
	owner := ""
	if arn := c.p.get("ResourceOwner"); arn != "" {
		fields := strings.Split(arn, ":")
		if owner = fields[min(4, len(fields)-1)]; !accountClass.MatchString(owner) {
			return nil, errInput("ResourceOwner must be the ARN of an account, not %s.", printable(arn))
		}
	}
	member := len(sim.texts.SCP) > 0
	sim.texts.SCP = unconditional(sim.texts.SCP)
	organization, err := c.s.evaluated.get(Grants{Identity: []PolicyText{fullAWSAccess}, SCP: sim.texts.SCP}, nil)
	if err != nil {
		return nil, err
	}
	e, err := c.s.evaluated.get(sim.texts, sim.resource)
	if err != nil {
		return nil, err
	}
	var boundary *iampolicy.Evaluator
	if sim.texts.Boundary != nil {
		if boundary, err = c.s.evaluated.get(Grants{Identity: []PolicyText{*sim.texts.Boundary}}, nil); err != nil {
			return nil, err
		}
	}
	given := iampolicy.Context{}
	for key, values := range sim.keys {
		given[key] = values
	}
	timeKeys(sim.keys, c.view.now)

	type pair struct {
		number           string
		action, resource string
	}
	var pairs []pair
	for _, action := range actions {
		for _, arn := range resources {
			pairs = append(pairs, pair{fmt.Sprintf("%08d", len(pairs)), action, arn})
		}
	}
	pairs, end, err := cut(c, pairs, func(p pair) string { return p.number })
	if err != nil {
		return nil, err
	}
	var out members[xmlEvaluation]
	for _, p := range pairs {
		req := request(p.action, p.resource, sim.keys)
		req.Principal, req.ResourceAccount = sim.principal, owner
		why := e.Explain(&req)
		one := xmlEvaluation{EvalActionName: p.action, EvalResourceName: p.resource, EvalDecision: why.Decision.String()}
		for _, ref := range why.Statements {
			if ref.Part == iampolicy.SCPPart {
				continue // the organization's policies are not shown to its members
			}
			one.MatchedStatements.Member = append(one.MatchedStatements.Member, sim.place(ref))
		}
		one.MissingContextValues.Member = sim.missing(p.action, given)
		if boundary != nil {
			one.PermissionsBoundaryDecisionDetail = &xmlBoundaryDecision{boundary.Decide(&req) == iampolicy.Allowed}
		}
		if member {
			one.OrganizationsDecisionDetail = &xmlOrganizationsDecision{organization.Decide(&req) == iampolicy.Allowed}
		}
		out.Member = append(out.Member, one)
	}
	return struct {
		EvaluationResults members[xmlEvaluation]
		page
	}{out, end}, nil
}

func timeKeys(keys iampolicy.Context, now time.Time) {
	keys.Set("aws:CurrentTime", stamp(now))
	keys.Set("aws:EpochTime", strconv.FormatInt(now.Unix(), 10))
}

// all is every document of a simulation.
func (sim *simulation) all() []PolicyText {
	out := slices.Clone(sim.texts.Identity)
	if sim.texts.Boundary != nil {
		out = append(out, *sim.texts.Boundary)
	}
	for name, text := range sim.resources {
		out = append(out, PolicyText{name, text})
	}
	return out
}

// place says where in its document a statement begins and ends.
func (sim *simulation) place(ref iampolicy.StatementRef) xmlStatement {
	out := xmlStatement{SourcePolicyId: ref.Document, SourcePolicyType: "IAM Policy"}
	if ref.Part == iampolicy.ResourcePart {
		out.SourcePolicyType = "Resource Policy"
	}
	for _, d := range sim.all() {
		if d.Name != ref.Document {
			continue
		}
		parsed, err := iampolicy.Parse(d.Name, []byte(d.Text))
		if err != nil || ref.Index >= len(parsed.Statements) {
			continue
		}
		start := parsed.Statements[ref.Index].Position
		out.StartPosition = xmlPosition{start.Line, start.Column}
		out.EndPosition = endOf(d.Text, start)
	}
	return out
}

// endOf finds the end of the JSON value that begins at a position.
func endOf(text string, start iampolicy.Position) xmlPosition {
	offset := 0
	for line := 1; line < start.Line; line++ {
		i := strings.IndexByte(text[offset:], '\n')
		if i < 0 {
			return xmlPosition{start.Line, start.Column}
		}
		offset += i + 1
	}
	offset += start.Column - 1
	if offset < 0 || offset > len(text) {
		return xmlPosition{start.Line, start.Column}
	}
	var value json.RawMessage
	if json.NewDecoder(strings.NewReader(text[offset:])).Decode(&value) != nil {
		return xmlPosition{start.Line, start.Column}
	}
	inside := []byte(value)
	lines := bytes.Count(inside, []byte("\n"))
	if lines == 0 {
		return xmlPosition{start.Line, start.Column + len(inside)}
	}
	return xmlPosition{start.Line + lines, len(inside) - bytes.LastIndexByte(inside, '\n')}
}

// missing lists the context keys of statements about an action that were not
// given, in order of their names. The time is always known.
func (sim *simulation) missing(action string, given iampolicy.Context) []string {
	var out []string
	for _, d := range sim.all() {
		parsed, err := iampolicy.Parse(d.Name, []byte(d.Text))
		if err != nil {
			continue
		}
		for _, one := range parsed.Statements {
			about := slices.ContainsFunc(one.Action, func(p string) bool { return iampolicy.MatchAction(p, action) }) ||
				len(one.NotAction) > 0 && !slices.ContainsFunc(one.NotAction, func(p string) bool { return iampolicy.MatchAction(p, action) })
			if !about {
				continue
			}
			for _, key := range contextKeys(parsed.Version, one) {
				lower := strings.ToLower(key)
				if _, ok := given.Get(key); !ok && lower != "aws:currenttime" && lower != "aws:epochtime" && !containsFold(out, key) {
					out = append(out, key)
				}
			}
		}
	}
	slices.Sort(out)
	return out
}

func containsFold(list []string, key string) bool {
	return slices.ContainsFunc(list, func(one string) bool { return strings.EqualFold(one, key) })
}

var variableClass = regexp.MustCompile(`\$\{([A-Za-z][^},]*)`)

// contextKeys lists the keys of a statement's conditions and variables.
func contextKeys(version string, one iampolicy.Statement) []string {
	var out []string
	add := func(key string) {
		if key = strings.TrimSpace(key); !containsFold(out, key) {
			out = append(out, key)
		}
	}
	texts := slices.Concat(one.Resource, one.NotResource)
	for _, condition := range one.Condition {
		add(condition.Key)
		texts = append(texts, condition.Values...)
	}
	if version == "2012-10-17" {
		for _, text := range texts {
			for _, found := range variableClass.FindAllStringSubmatch(text, -1) {
				add(found[1])
			}
		}
	}
	return out
}

func (c *call) getContextKeysForPrincipalPolicy() (any, error) {
	sim, err := c.simulationOfSource()
	if err != nil {
		return nil, err
	}
	return sim.contextKeys()
}

func (c *call) getContextKeysForCustomPolicy() (any, error) {
	sim := &simulation{keys: iampolicy.Context{}}
	if err := c.simulationInput(sim); err != nil {
		return nil, err
	}
	return sim.contextKeys()
}

func (sim *simulation) contextKeys() (any, error) {
	var out members[string]
	for _, d := range sim.all() {
		parsed, err := iampolicy.Parse(d.Name, []byte(d.Text))
		if err != nil {
			return nil, fmt.Errorf("reading a stored policy: %w", err)
		}
		for _, one := range parsed.Statements {
			for _, key := range contextKeys(parsed.Version, one) {
				if !containsFold(out.Member, key) {
					out.Member = append(out.Member, key)
				}
			}
		}
	}
	slices.Sort(out.Member)
	return struct{ ContextKeyNames members[string] }{out}, nil
}
