package iampolicy

import "strings"

// call is a Request with what every statement would otherwise work out again.
// It lives on the stack of Decide.
type call struct {
	*Request
	action   splitAction
	resource splitARN
}

// splitAction is an action, or a pattern of actions, cut at its colon.
type splitAction struct {
	text          string
	service, name string
	whole         bool // has a colon
}

func newSplitAction(text string) splitAction {
	service, name, found := strings.Cut(text, ":")
	return splitAction{text, service, name, found}
}

// match is MatchAction for a pattern that is already in lower case.
func (p *splitAction) match(action *splitAction) bool {
	switch {
	case p.text == "*":
		return true
	case p.whole && action.whole:
		return globMatch(p.service, action.service, true) && globMatch(p.name, action.name, true)
	}
	return MatchAction(p.text, action.text)
}

func newCall(r *Request) call {
	return call{Request: r, action: newSplitAction(r.Action), resource: splitARN{text: r.Resource}}
}

// grant is how far an Allow carries. Only resource policies tell more than
// grantNone and grantDirect apart.
type grant uint8

const (
	grantNone grant = iota
	// grantAccount names the caller's account: the account's own identity
	// policies decide on.
	grantAccount
	// grantRole names the caller's role: the session gets it as if the role's
	// identity policy said so, within boundary and session policy.
	grantRole
	// grantDirect names the caller itself, or everyone: what boundary and
	// session policy fail to allow does not matter, only what they deny.
	grantDirect
)

// verdict is what every part says; combine makes a Decision of it.
type verdict struct {
	denied   bool
	identity grant
	boundary grant
	session  grant
	scp      grant
	resource grant
}

// Decide answers a request: allowed, denied by a statement, or denied because
// nothing allows it.
func (e *Evaluator) Decide(r *Request) Decision {
	c := newCall(r)
	v := e.weigh(&c)
	decision, _ := e.combine(&v, &c)
	return decision
}

// weigh asks every part that has a say on this kind of caller.
func (e *Evaluator) weigh(c *call) verdict {
	v := verdict{identity: grantNone, boundary: grantDirect, session: grantDirect, scp: grantDirect}
	if e.resource != nil {
		v.resource = e.resource.weigh(c, &v.denied)
	}
	if !c.Principal.hasIdentity() {
		return v
	}
	v.identity = e.identity.weigh(c, &v.denied)
	if e.boundary != nil {
		v.boundary = e.boundary.weigh(c, &v.denied)
	}
	if e.session != nil {
		v.session = e.session.weigh(c, &v.denied)
	}
	for _, level := range e.scps {
		v.scp = min(v.scp, level.weigh(c, &v.denied))
	}
	return v
}

// combine is IAM's evaluation logic. Part is the one that does not allow.
//
// Within one account an identity policy or a resource policy is enough; across
// accounts both are needed. A service, a federated user who is about to become
// a role session, and an anonymous caller have no policies of their own: there
// the resource policy decides alone. Roles and KMS keys always decide for
// themselves, in their own account too.
func (e *Evaluator) combine(v *verdict, c *call) (Decision, Part) {
	switch {
	case v.denied:
		return ExplicitDeny, ""
	case !c.Principal.hasIdentity():
		if v.resource == grantNone {
			return ImplicitDeny, ResourcePart
		}
		return Allowed, ""
	}

	grantsAlone := e.resource != nil && c.sameAccount()
	switch {
	case e.mustGrant(c) && v.resource == grantNone:
		return ImplicitDeny, ResourcePart
	case v.scp == grantNone:
		return ImplicitDeny, SCPPart
	case grantsAlone && v.resource == grantDirect:
		return Allowed, ""
	case v.identity == grantNone && !(grantsAlone && v.resource == grantRole):
		return ImplicitDeny, IdentityPart
	case v.boundary == grantNone:
		return ImplicitDeny, BoundaryPart
	case v.session == grantNone:
		return ImplicitDeny, SessionPart
	}
	return Allowed, ""
}

// mustGrant reports whether the resource policy must allow: across accounts,
// and for roles and KMS keys.
func (e *Evaluator) mustGrant(c *call) bool {
	return e.resource != nil && (!c.sameAccount() || c.resourceRules())
}

// hasIdentity reports whether the caller can have identity policies at all. The
// zero type is AWS.
func (p *Principal) hasIdentity() bool {
	return p.Type == AWS || p.Type == ""
}

// account is the caller's, from its ARN where it is not given.
func (p *Principal) account() string {
	if p.Account != "" || !p.hasIdentity() {
		return p.Account
	}
	return accountOf(p.ARN)
}

func accountOf(arn string) string {
	fields, count := splitFields(arn, arnFields, false)
	if count < arnFields {
		return ""
	}
	return fields[4]
}

func (c *call) sameAccount() bool {
	own := c.Principal.account()
	if c.ResourceAccount != "" {
		return c.ResourceAccount == own
	}
	if c.resource.isARN() && c.resource.fields[4] != "" {
		return c.resource.fields[4] == own
	}
	return true
}

// resourceRules reports whether the resource's policy must allow even within
// one account: a role's trust policy and a key policy must.
func (c *call) resourceRules() bool {
	return strings.EqualFold(c.action.service, "sts") || strings.EqualFold(c.action.service, "kms")
}

// weigh returns the furthest grant of the part's Allow statements, and sets
// denied where a Deny matches.
func (p *part) weigh(c *call, denied *bool) grant {
	best := grantNone
	statements, known := p.lookup(c.action.text)
	for _, s := range statements {
		if !s.deny && best == grantDirect || !known && !s.matchesAction(&c.action) {
			continue
		}
		if !s.matchesResource(c) {
			continue
		}
		named := s.matchesPrincipal(&c.Principal)
		if named == grantNone || !s.matchesConditions(c.Request) {
			continue
		}
		if s.deny {
			*denied = true
			return grantNone
		}
		best = max(best, named)
	}
	return best
}

// lookup finds the statements to try. When known, they match the action.
func (p *part) lookup(action string) (statements []*statement, known bool) {
	if statements, known = p.exact[action]; known {
		return statements, true // spelt as the document spells it
	}
	var buffer [96]byte // the longest action of AWS has 81 characters
	if len(action) > len(buffer) {
		statements, known = p.exact[strings.ToLower(action)]
	} else {
		for i := range len(action) {
			buffer[i] = lower(action[i])
		}
		statements, known = p.exact[string(buffer[:len(action)])]
	}
	if known {
		return statements, true
	}
	return p.loose, false
}

func (s *statement) matchesAction(action *splitAction) bool {
	for i := range s.actions {
		if s.actions[i].match(action) {
			return !s.notAction
		}
	}
	return s.notAction
}

func (s *statement) matchesResource(c *call) bool {
	if s.anyResource {
		return true
	}
	for i := range s.resources {
		if s.resources[i].match(&c.resource, c.Context) {
			return !s.notResource
		}
	}
	if !s.notResource {
		return false
	}
	// NotResource with a variable that has no value says nothing about anything.
	for i := range s.resources {
		if !s.resources[i].resolves(c.Context) {
			return false
		}
	}
	return true
}

func (s *statement) matchesConditions(r *Request) bool {
	for i := range s.conditions {
		if !s.conditions[i].holds(r) {
			return false
		}
	}
	return true
}

// matchesPrincipal says how the statement names the caller. Statements of
// identity policies speak of whoever they are attached to.
func (s *statement) matchesPrincipal(p *Principal) grant {
	switch {
	case s.principals == nil:
		return grantDirect
	case s.notPrincipals:
		if s.principals.except(p) {
			return grantNone
		}
		return grantDirect
	}
	return s.principals.name(p)
}

// name says how far a Principal element names p.
func (ps *Principals) name(p *Principal) grant {
	best := grantNone
	if ps.Any {
		return grantDirect
	}
	for _, entry := range ps.AWS {
		if entry == "*" {
			return grantDirect // as the scalar *: anonymous callers too
		}
		if p.hasIdentity() {
			best = max(best, nameAWS(entry, p))
		}
	}
	if best == grantNone && ps.listsOther(p) {
		return grantDirect
	}
	return best
}

func nameAWS(entry string, p *Principal) grant {
	switch {
	case entry == p.ARN && p.ARN != "":
		if isRoleARN(p.ARN) {
			return grantRole
		}
		return grantDirect
	case isRoleOf(entry, p):
		return grantRole
	case namesAccount(entry, p.account()):
		return grantAccount
	}
	return grantNone
}

// except reports whether NotPrincipal leaves p out. IAM asks for every name of
// the caller to be listed: a session, its role and the account.
func (ps *Principals) except(p *Principal) bool {
	if ps.Any {
		return true
	}
	if !p.hasIdentity() {
		return ps.listsOther(p)
	}
	var self, role, account bool
	for _, entry := range ps.AWS {
		self = self || entry == "*" || entry == p.ARN
		role = role || entry == "*" || isRoleOf(entry, p)
		account = account || entry == "*" || namesAccount(entry, p.account())
	}
	return self && account && (role || !isSession(p))
}

// listsOther is for callers that are named literally under their own type.
func (ps *Principals) listsOther(p *Principal) bool {
	var entries []string
	switch p.Type {
	case Service:
		entries = ps.Service
	case Federated:
		entries = ps.Federated
	case CanonicalUser:
		entries = ps.CanonicalUser
	}
	for _, entry := range entries {
		if entry == p.ARN || entry == "*" {
			return true
		}
	}
	return false
}

func isSession(p *Principal) bool {
	return p.RoleARN != "" || strings.Contains(p.ARN, ":assumed-role/")
}

func isRoleARN(arn string) bool {
	fields, count := splitFields(arn, arnFields, false)
	return count == arnFields && fields[2] == "iam" && strings.HasPrefix(fields[5], "role/")
}

// isRoleOf reports whether entry is the role of the session p. Where the
// role's path is not known, account and name tell: names are unique in an
// account whatever their path.
func isRoleOf(entry string, p *Principal) bool {
	if p.RoleARN != "" {
		return entry == p.RoleARN
	}
	_, session, ok := strings.Cut(p.ARN, ":assumed-role/")
	if !ok || !isRoleARN(entry) || accountOf(entry) != p.account() {
		return false
	}
	name, _, _ := strings.Cut(session, "/")
	return strings.HasSuffix(entry, name) && entry[len(entry)-len(name)-1] == '/'
}

// namesAccount reports whether entry is account's number or its root ARN.
func namesAccount(entry, account string) bool {
	if account == "" {
		return false
	}
	if entry == account {
		return true
	}
	fields, count := splitFields(entry, arnFields, false)
	return count == arnFields && fields[2] == "iam" && fields[4] == account && fields[5] == "root"
}
