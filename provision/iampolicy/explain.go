package iampolicy

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// maxNearMisses bounds what a person is shown; the nearest come first.
const maxNearMisses = 10

// Explain answers a request as Decide does, with the reasons. An allowed
// request has no near misses. For one that a Deny stops, the near misses begin
// with the statements that would have allowed it, whose Element is "Effect".
func (e *Evaluator) Explain(r *Request) Explanation {
	c := newCall(r)
	v := e.weigh(&c)
	decision, missing := e.combine(&v, &c)
	x := Explanation{Decision: decision, MissingPart: missing}
	switch decision {
	case ExplicitDeny:
		x.Statements = matching(&c, Deny, e.parts(&c)...)
		x.NearMisses = e.overruled(&c, x.Statements[0])
	case Allowed:
		x.Statements = matching(&c, Allow, e.deciding(&v, &c)...)
	case ImplicitDeny:
		x.NearMisses = nearMisses(&c, e.lacking(missing, &c)...)
	}
	return x
}

// parts are all that have a say on this kind of caller.
func (e *Evaluator) parts(c *call) []*part {
	var parts []*part
	if c.Principal.hasIdentity() {
		parts = append(parts, e.identity, e.boundary, e.session)
		parts = append(parts, e.scps...)
	}
	parts = append(parts, e.resource)
	return slices.DeleteFunc(parts, func(p *part) bool { return p == nil })
}

// deciding are the parts whose Allow was needed for an allowed request.
func (e *Evaluator) deciding(v *verdict, c *call) []*part {
	if !c.Principal.hasIdentity() {
		return []*part{e.resource}
	}
	alone := e.resource != nil && c.sameAccount()
	return slices.DeleteFunc(e.parts(c), func(p *part) bool {
		switch {
		case p.kind == SCPPart:
			return false
		case alone && v.resource == grantDirect:
			return p != e.resource
		case p == e.identity:
			return alone && v.resource == grantRole && v.identity == grantNone
		case p == e.resource:
			return !e.mustGrant(c) && v.identity != grantNone
		}
		return false
	})
}

// lacking are the parts where one more Allow could have changed an implicit deny.
func (e *Evaluator) lacking(missing Part, c *call) []*part {
	return slices.DeleteFunc(e.parts(c), func(p *part) bool {
		switch {
		case missing == SCPPart && p.kind == SCPPart:
			return len(matching(c, Allow, p)) > 0
		case missing == IdentityPart && p == e.resource:
			return !c.sameAccount()
		}
		return p.kind != missing
	})
}

// matching lists the statements of an effect that match the call.
func matching(c *call, effect Effect, parts ...*part) []StatementRef {
	var refs []StatementRef
	for _, p := range parts {
		for i := range p.statements {
			if s := &p.statements[i]; s.source.Effect == effect && s.matches(c) {
				refs = append(refs, s.ref)
			}
		}
	}
	return refs
}

func (s *statement) matches(c *call) bool {
	return s.matchesAction(&c.action) && s.matchesResource(c) &&
		s.matchesPrincipal(&c.Principal) != grantNone && s.matchesConditions(c.Request)
}

// overruled lists what would have allowed the call but for the Deny, or what
// came near to.
func (e *Evaluator) overruled(c *call, deny StatementRef) []NearMiss {
	granting := slices.DeleteFunc(e.parts(c), func(p *part) bool {
		return p.kind != IdentityPart && p.kind != ResourcePart
	})
	var misses []NearMiss
	for _, ref := range matching(c, Allow, granting...) {
		misses = append(misses, NearMiss{StatementRef: ref, Element: "Effect", Reason: fmt.Sprintf(
			"allows %s on %q, but %s denies it and a Deny always wins", c.Action, c.Resource, deny)})
	}
	if len(misses) == 0 {
		misses = nearMisses(c, granting...)
	}
	return misses[:min(len(misses), maxNearMisses)]
}

// String names the statement for a sentence.
func (r StatementRef) String() string {
	s := fmt.Sprintf("statement %d", r.Index)
	if r.Sid != "" {
		s += fmt.Sprintf(" (%s)", r.Sid)
	}
	if r.Document != "" {
		s += " of " + r.Document
	}
	return s
}

// fault is one element of a statement that does not fit the call.
type fault struct{ element, reason string }

// nearMisses lists the Allow statements that fail by the fewest elements. Those
// about another action are left out where one is about the action of the call;
// where none is, one of the same service that fails by its action alone is near.
func nearMisses(c *call, parts ...*part) []NearMiss {
	type miss struct {
		NearMiss
		faults  int
		isOther bool // about another action
	}
	var misses []miss
	for _, p := range parts {
		for i := range p.statements {
			s := &p.statements[i]
			isOther := !s.matchesAction(&c.action)
			if s.deny || isOther && !s.isOfService(c.action.service) {
				continue
			}
			faults := s.faults(c)
			if len(faults) == 0 || isOther && len(faults) > 1 {
				continue
			}
			reasons := make([]string, len(faults))
			for i, f := range faults {
				reasons[i] = f.reason
			}
			misses = append(misses, miss{
				NearMiss{s.ref, faults[0].element, strings.Join(reasons, "; it also ")},
				len(faults), isOther,
			})
		}
	}
	slices.SortStableFunc(misses, func(a, b miss) int {
		if a.isOther != b.isOther {
			if a.isOther {
				return 1
			}
			return -1
		}
		return cmp.Compare(a.faults, b.faults)
	})
	if n := slices.IndexFunc(misses, func(m miss) bool { return m.isOther }); n > 0 {
		misses = misses[:n]
	}
	var near []NearMiss
	for _, m := range misses[:min(len(misses), maxNearMisses)] {
		near = append(near, m.NearMiss)
	}
	return near
}

func (s *statement) isOfService(service string) bool {
	for _, a := range s.actions {
		if globMatch(a.service, service, true) {
			return true
		}
	}
	return false
}

// faults lists every element that does not fit, the action first.
func (s *statement) faults(c *call) []fault {
	var faults []fault
	if !s.matchesAction(&c.action) {
		faults = append(faults, s.actionFault(c))
	}
	if !s.matchesResource(c) {
		faults = append(faults, s.resourceFault(c))
	}
	if s.matchesPrincipal(&c.Principal) == grantNone {
		faults = append(faults, s.principalFault(c))
	}
	for i := range s.conditions {
		if cond := &s.conditions[i]; !cond.holds(c.Request) {
			faults = append(faults, fault{
				"Condition." + cond.source.Operator + "." + cond.source.Key, cond.reason(c.Request),
			})
		}
	}
	return faults
}

func (s *statement) actionFault(c *call) fault {
	if s.notAction {
		return fault{"Action", fmt.Sprintf("leaves out %s; the request is for %s",
			listed(s.source.NotAction, "and"), c.Action)}
	}
	nearest := slices.MaxFunc(s.source.Action, func(a, b string) int {
		return cmp.Compare(commonPrefix(strings.ToLower(a), strings.ToLower(c.Action)),
			commonPrefix(strings.ToLower(b), strings.ToLower(c.Action)))
	})
	return fault{"Action", fmt.Sprintf("needs the action %s%s; the request is for %s",
		nearest, orOthers(len(s.source.Action)), c.Action)}
}

func (s *statement) resourceFault(c *call) fault {
	request := fmt.Sprintf("the request has %q", c.Resource)
	if c.Resource == "*" {
		request = `the request is for "*", no resource in particular, which only "*" matches`
	}
	if s.notResource {
		for i := range s.resources {
			if t := &s.resources[i]; !t.resolves(c.Context) {
				return fault{"Resource", fmt.Sprintf("leaves out %q; the request has no value for the variable", t.source)}
			}
		}
		return fault{"Resource", fmt.Sprintf("leaves out %s; %s", listed(s.source.NotResource, "and"), request)}
	}
	nearest := 0
	for i := range s.resources {
		if s.resources[i].nearness(c) > s.resources[nearest].nearness(c) {
			nearest = i
		}
	}
	t := &s.resources[nearest]
	want := strconv.Quote(t.source)
	if t.hasVars {
		filled, ok := t.expand(c.Context)
		if !ok {
			request = "the request has no value for the variable"
		} else {
			want += fmt.Sprintf(", here %q", filled)
		}
	}
	return fault{"Resource", fmt.Sprintf("needs a resource like %s%s; %s", want, orOthers(len(s.resources)), request)}
}

// nearness prefers the pattern that agrees in most fields, then the one that
// begins most alike.
func (t *arnTemplate) nearness(c *call) int {
	n := commonPrefix(t.source, c.Resource)
	for i := range t.count {
		if c.resource.isARN() && t.fields[i].match(c.resource.fields[i], c.Context) {
			n += 1000
		}
	}
	return n
}

func (s *statement) principalFault(c *call) fault {
	caller := c.Principal.ARN
	switch {
	case c.Principal.Type == Anonymous:
		caller = "anonymous"
	case caller == "":
		caller = "not known"
	case c.Principal.RoleARN == caller && caller != "":
		caller = "a session of " + caller
	case c.Principal.RoleARN != "":
		caller += ", a session of " + c.Principal.RoleARN
	}
	verb := "names"
	if s.notPrincipals {
		verb = "is for everyone but"
	}
	return fault{"Principal", fmt.Sprintf("%s %s; the caller is %s", verb, s.principals, caller)}
}

// String lists everyone who is named.
func (ps *Principals) String() string {
	if ps.Any {
		return `"*"`
	}
	return listed(slices.Concat(ps.AWS, ps.Service, ps.Federated, ps.CanonicalUser), "and")
}

// reason says what the condition needs and what the request has.
func (c *condition) reason(r *Request) string {
	values, present := r.Context[c.key]
	has := "the request has none"
	switch {
	case present && strings.Join(values, "") == "" && len(values) < 2:
		has = "the request has an empty one"
	case present:
		has = "the request has " + listed(values, "and")
	}
	if c.compare == null {
		want := "needs " + c.source.Key + " to be present"
		if present {
			want = "needs " + c.source.Key + " to be absent"
		}
		return want + "; " + has
	}

	key := c.source.Key
	switch c.set {
	case everyValue:
		key = "every value of " + key
	case someValue:
		key = "some value of " + key
	}
	wanted := make([]string, len(c.values))
	unresolved := ""
	for i := range c.values {
		text, ok := c.values[i].text.expand(r.Context)
		if wanted[i] = text; !ok {
			unresolved = ", whose variable has no value in the request"
		} else if !c.values[i].text.hasVars {
			wanted[i] = c.source.Values[i]
		}
	}
	join := "or"
	if c.negated {
		join = "and"
	}
	return fmt.Sprintf("needs %s %s %s%s; %s", key, c.relation(), listed(wanted, join), unresolved, has)
}

// relation is the operator in words.
func (c *condition) relation() string {
	relations := map[comparison]string{
		stringEquals: "=", stringEqualsIgnoreCase: "= (whatever its case)", stringLike: "like",
		numericEquals: "=", numericLess: "<", numericLessEquals: "<=", numericGreater: ">", numericGreaterEquals: ">=",
		dateEquals: "at", dateLess: "before", dateLessEquals: "not after", dateGreater: "after", dateGreaterEquals: "not before",
		boolean: "=", binaryEquals: "=", ipAddress: "within", arnLike: "like",
	}
	if c.negated {
		return "other than " + strings.TrimSpace(strings.TrimPrefix(relations[c.compare], "="))
	}
	return relations[c.compare]
}

// listed quotes up to four of the words.
func listed(words []string, join string) string {
	const most = 4
	quoted := make([]string, 0, most)
	for _, w := range words[:min(len(words), most)] {
		quoted = append(quoted, strconv.Quote(w))
	}
	switch more := len(words) - most; {
	case len(words) == 0:
		return "nobody and nothing"
	case more > 0:
		return fmt.Sprintf("%s %s %d more", strings.Join(quoted, ", "), join, more)
	case len(quoted) == 1:
		return quoted[0]
	}
	last := len(quoted) - 1
	return strings.Join(quoted[:last], ", ") + " " + join + " " + quoted[last]
}

func orOthers(n int) string {
	switch n {
	case 1:
		return ""
	case 2:
		return " (or one other)"
	}
	return fmt.Sprintf(" (or one of %d others)", n-1)
}

func commonPrefix(a, b string) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}
