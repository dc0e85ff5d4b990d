package iampolicy

import (
	"cmp"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// Class says which way a Difference goes.
type Class string

// The classes. A Deny that comes narrows, one that goes widens.
const (
	Widening  Class = "widening"
	Narrowing Class = "narrowing"
)

// Difference is one action on one resource under one condition that one
// document speaks of and the other does not.
type Difference struct {
	Class  Class  `json:"class"`
	Effect Effect `json:"effect"`

	// AccessLevel is that of the service authorization reference: List, Read,
	// Write, Tagging or Permissions management; empty for unknown actions.
	AccessLevel string `json:"accessLevel"`

	// Action is one action, or a pattern all of whose actions are different or
	// that spans services. There is then a Difference for each access level, with
	// the different actions of that level in Actions. After NotAction come the
	// actions left out.
	Action  string   `json:"action"`
	Actions []string `json:"actions,omitempty"`

	Resource  string `json:"resource"`            // as in the document; after NotResource those left out; empty in a trust policy
	Principal string `json:"principal,omitempty"` // "AWS 123456789012", "*", "NotPrincipal …"
	Condition string `json:"condition,omitempty"` // the Condition element, as JSON

	// Future says that the documents agree on every action of the reference and
	// differ on those alone that AWS adds later and the pattern will match.
	Future bool `json:"future,omitempty"`

	// Dead says that by the reference the action never acts on such a resource,
	// so the entry can be shown last: it changes the text and no decision.
	Dead bool `json:"dead,omitempty"`
}

// Diff returns what changes from old to current, widenings first, the weightiest
// access level first. A grant within a wider one of the other document is no
// difference, however either document is written: what is compared is each
// action × resource × condition, and principal. Patterns of actions are
// expanded by facts where only some of their actions differ; without facts
// (nil) they are compared as patterns and access levels stay empty.
//
// Allow and Deny are compared each with its like. What an Allow loses to a Deny
// of the same document is for an Evaluator to say.
func Diff(old, current *Document, facts *sar.Reference) []Difference {
	before, after := takeApart(asCurrent(old), true), takeApart(asCurrent(current), true)
	before.dropCovered()
	after.dropCovered()
	out := slices.Concat(missing(after, before, facts, Widening), missing(before, after, facts, Narrowing))
	slices.SortStableFunc(out, func(a, b Difference) int {
		return cmp.Or(
			cmp.Compare(b.Class, a.Class), // "widening" after "narrowing"
			compareBool(a.Dead, b.Dead), compareBool(a.Future, b.Future),
			cmp.Compare(levelRank(a.AccessLevel), levelRank(b.AccessLevel)),
			cmp.Compare(a.Effect, b.Effect), cmp.Compare(a.Action, b.Action), cmp.Compare(a.Resource, b.Resource),
			cmp.Compare(a.Principal, b.Principal), cmp.Compare(a.Condition, b.Condition),
		)
	})
	return out
}

// missing returns the cells of has that lacks does not cover. Class is that of
// an Allow.
func missing(has, lacks *matrix, facts *sar.Reference, class Class) []Difference {
	covered := lacks.granter()
	var out []Difference
	for _, c := range has.cells {
		if covered(c) {
			continue
		}
		d := Difference{Class: class, Effect: c.scope.effect, Resource: c.resource.label("NotResource "), Principal: c.scope.principalLabel()}
		if c.scope.effect == Deny {
			d.Class = opposite(class)
		}
		if len(c.scope.shown) > 0 {
			d.Condition = conditionText(c.scope.shown)
		}
		actions := expand(c.action, facts)
		var different []*sar.Action
		for _, a := range actions {
			one := cell{c.scope, selector{key: strings.ToLower(a.String()), values: []string{a.String()}}, c.resource}
			if !covered(one) {
				different = append(different, a)
			}
		}
		switch {
		case len(different) == 0: // unknown to the reference, or yet to come
			d.Action, d.Future = c.action.label("NotAction "), len(actions) > 0
			out = append(out, d)
		case c.action.isOne() || len(different) < len(actions) && c.action.isOfOneService():
			for _, a := range different {
				d.Action, d.AccessLevel, d.Dead = a.String(), a.AccessLevel, isDead(a, c.resource, facts)
				out = append(out, d)
			}
		default:
			d.Action = c.action.label("NotAction ")
			out = append(out, byLevel(d, different, c.resource, facts)...)
		}
	}
	return out
}

// byLevel returns d once for each access level of actions; it is dead where
// all of them are.
func byLevel(d Difference, actions []*sar.Action, resource selector, facts *sar.Reference) []Difference {
	levels := map[string]*Difference{}
	for _, a := range actions {
		l := levels[a.AccessLevel]
		if l == nil {
			l = new(Difference)
			*l = d
			l.AccessLevel, l.Dead = a.AccessLevel, true
			levels[a.AccessLevel] = l
		}
		l.Actions = append(l.Actions, a.String())
		l.Dead = l.Dead && isDead(a, resource, facts)
	}
	out := make([]Difference, 0, len(levels))
	for _, name := range sortedKeys(levels) {
		out = append(out, *levels[name])
	}
	return out
}

// expand returns the actions of the reference that a selector selects.
func expand(s selector, facts *sar.Reference) []*sar.Action {
	if facts == nil {
		return nil
	}
	var out []*sar.Action
	if s.kind == except {
		for _, a := range facts.Expand("*") {
			if !slices.ContainsFunc(s.values, func(pattern string) bool { return MatchAction(pattern, a.String()) }) {
				out = append(out, a)
			}
		}
		return out
	}
	for _, pattern := range s.values {
		out = append(out, facts.Expand(pattern)...)
	}
	return out
}

// isDead reports whether the action acts on no resource that s selects. What
// leaves resources out is never taken for dead.
func isDead(a *sar.Action, s selector, facts *sar.Reference) bool {
	return s.kind == only && facts.CanMatch(a, s.values[0]) == sar.Never
}

// isOne reports whether s is one action spelt out.
func (s selector) isOne() bool { return s.kind == only && !strings.ContainsAny(s.key, "*?") }

// isOfOneService reports whether s is a pattern of one service's actions. The
// reference need not know all services, so what spans them is shown whole.
func (s selector) isOfOneService() bool {
	service, _, found := strings.Cut(s.key, ":")
	return s.kind == only && found && !strings.ContainsAny(service, "*?")
}

// label is s for a reader, with not before a list of what is left out.
func (s selector) label(not string) string {
	if s.kind == except {
		return not + strings.Join(s.values, ", ")
	}
	return strings.Join(s.values, ", ")
}

func (s *scope) principalLabel() string {
	p, not := s.principal, ""
	if s.notPrincipal != nil {
		p, not = s.notPrincipal, "NotPrincipal "
	}
	switch {
	case p == nil:
		return ""
	case p.Any:
		return not + "*"
	}
	var names []string
	for _, one := range p.each() {
		for kind, list := range map[string][]string{
			"AWS": one.AWS, "Service": one.Service, "Federated": one.Federated, "CanonicalUser": one.CanonicalUser,
		} {
			for _, v := range list {
				names = append(names, kind+" "+v)
			}
		}
	}
	return not + strings.Join(names, ", ")
}

func opposite(c Class) Class {
	if c == Widening {
		return Narrowing
	}
	return Widening
}

// levelRank orders access levels by what they can do to an account.
func levelRank(level string) int {
	order := []string{sar.PermissionsManagement, sar.Write, sar.Tagging, sar.Read, sar.List}
	if i := slices.Index(order, level); i >= 0 {
		return i
	}
	return len(order)
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
