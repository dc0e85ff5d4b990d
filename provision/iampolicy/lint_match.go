package iampolicy

import (
	"fmt"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// lintMatching finds entries that can never match: an action and the ARNs of
// its statement are of different kinds.
func (l *linter) lintMatching() {
	for i := range l.doc.Statements {
		s := &l.doc.Statements[i]
		if len(s.Resource) == 0 || slices.ContainsFunc(s.Resource, func(r string) bool { return !isAny(r) && arnFault(r) != "" }) {
			continue // a bad ARN is a Problem already
		}
		var known []*sar.Action
		live := false
		for n, pattern := range s.Action {
			actions := l.expand(pattern)
			if len(actions) == 0 {
				continue
			}
			known = append(known, actions...)
			if best := l.bestMatch(actions, s.Resource); best == sar.Can {
				live = true
			} else {
				l.reportDead(i, s, l.entry(i, "Action", n), pattern, actions, best)
			}
		}
		if live && !slices.ContainsFunc(s.Action, isEveryAction) {
			l.lintDeadResources(i, s, known)
		}
	}
	if l.kind == identityKind {
		l.lintIncomplete()
	}
}

func (l *linter) bestMatch(actions []*sar.Action, patterns []string) sar.Match {
	best := sar.Never
	for _, action := range actions {
		for _, pattern := range patterns {
			if best = max(best, l.canMatch(action, pattern)); best == sar.Can {
				return best
			}
		}
	}
	return best
}

func (l *linter) reportDead(i int, s *Statement, path, pattern string, actions []*sar.Action, best sar.Match) {
	if best == sar.LiveOnly && slices.ContainsFunc(actions, func(a *sar.Action) bool { return len(a.Resources) > 0 }) {
		return // the reference gives one format of an ARN that has two
	}
	needs, remedy := l.needs(actions)
	listed := "it lists " + some(s.Resource)
	switch {
	case s.Effect == Deny:
		l.report("dead-deny", i, path, pattern+" "+needs+", and the statement denies nothing of it: "+listed, remedy)
	case best == sar.LiveOnly:
		l.report("dead-grant-live", i, path, pattern+" "+needs+" by AWS's reference; the ARN listed works all the same, because the live authorizer tests it", remedy)
	case l.grantedElsewhere(i, actions):
		l.report("dead-grant-covered", i, path, pattern+" "+needs+", so this entry grants nothing; another statement grants it", "remove the entry")
	default:
		l.report("dead-grant", i, path, pattern+" "+needs+", so it is not granted at all: "+listed, remedy)
	}
}

// needs says what the actions act on, and what to list for it.
func (l *linter) needs(actions []*sar.Action) (needs, remedy string) {
	var types, arns []string
	for _, action := range actions {
		for _, resource := range action.Resources {
			if slices.Contains(types, resource.Type) {
				continue
			}
			types = append(types, resource.Type)
			if t, ok := l.reference.ResourceType(action.Service, resource.Type); ok {
				arns = append(arns, t.ARN)
			}
		}
	}
	if len(types) == 0 {
		return "acts on no resource type and needs \"*\"", `move it to a statement with "Resource": "*"`
	}
	return "acts on " + some(types), "list " + some(arns)
}

// grantedElsewhere is whether another Allow statement grants all the actions.
func (l *linter) grantedElsewhere(here int, actions []*sar.Action) bool {
	for _, action := range actions {
		found := false
		l.each(Allow, func(i int, s *Statement) {
			found = found || i != here && s.allowsAction(action) && l.bestMatch([]*sar.Action{action}, s.Resource) == sar.Can
		})
		if !found {
			return false
		}
	}
	return true
}

// allowsAction is whether the statement's Action names the action.
func (s *Statement) allowsAction(action *sar.Action) bool {
	return slices.ContainsFunc(s.Action, func(pattern string) bool { return MatchAction(pattern, action.String()) })
}

func (l *linter) lintDeadResources(i int, s *Statement, known []*sar.Action) {
	for n, pattern := range s.Resource {
		if isAny(pattern) {
			continue
		}
		if !slices.ContainsFunc(known, func(a *sar.Action) bool { return l.canMatch(a, pattern) != sar.Never }) {
			l.report("dead-resource", i, l.entry(i, "Resource", n), "no action of the statement acts on "+pattern,
				"remove it, or add the actions that it was listed for")
		}
	}
}

// lintIncomplete finds actions that touch several resource types at once, of
// which the document grants some only: the call is refused.
func (l *linter) lintIncomplete() {
	type grant struct {
		statement int
		path      string
		patterns  []string
	}
	grants := map[*sar.Action]*grant{}
	var order []*sar.Action
	l.each(Allow, func(i int, s *Statement) {
		for n, pattern := range s.Action {
			if strings.ContainsAny(pattern, "*?") {
				continue
			}
			for _, action := range l.expand(pattern) {
				if grants[action] == nil {
					grants[action] = &grant{statement: i, path: l.entry(i, "Action", n)}
					order = append(order, action)
				}
			}
		}
	})
	l.each(Allow, func(_ int, s *Statement) {
		patterns := make([]string, len(s.Resource))
		for n, pattern := range s.Resource {
			patterns[n] = starPlaceholders(pattern)
		}
		if s.NotResource != nil {
			patterns = []string{"*"} // near enough: it allows nearly everything
		}
		for action, g := range grants {
			if s.allowsAction(action) {
				g.patterns = append(g.patterns, patterns...)
			}
		}
	})
	for _, action := range order {
		g := grants[action]
		if l.bestMatch([]*sar.Action{action}, g.patterns) != sar.Can {
			continue // dead, and reported
		}
		if missing := l.reference.Unmatched(action, g.patterns); len(missing) > 0 {
			l.report("incomplete-grant", g.statement, g.path,
				fmt.Sprintf("a call of %s needs %s as well, which the document does not grant it on", action, some(missing)),
				"list an ARN of each type, unless another policy of the role does")
		}
	}
}

// mostEntries is how many actions and resources redundancy is looked for among.
// A role's largest policy has room for fewer than a thousand.
const mostEntries = 1500

// lintRedundant finds what another entry of the document allows already.
func (l *linter) lintRedundant() {
	entries := 0
	for i := range l.doc.Statements {
		entries += len(l.doc.Statements[i].Action) + len(l.doc.Statements[i].Resource)
	}
	if entries > mostEntries {
		return
	}
	seen := map[string]int{}
	for i := range l.doc.Statements {
		s := &l.doc.Statements[i]
		l.lintRedundantResources(i, s)
		if l.kind != identityKind || s.NotAction != nil || s.NotResource != nil || len(s.Resource) == 0 {
			l.lintTwin(i, s, seen)
			continue
		}
		verb := "allowed"
		if s.Effect == Deny {
			verb = "denied"
		}
		type redundant struct {
			entry int
			by    int
		}
		var found []redundant
		for n, pattern := range s.Action {
			if by, ok := l.coveredBy(i, n, pattern, s); ok {
				found = append(found, redundant{n, by})
			}
		}
		if len(found) == len(s.Action) && len(found) > 1 && !slices.ContainsFunc(found, func(r redundant) bool { return r.by == i }) {
			l.report("redundant-statement", i, fmt.Sprintf("Statement[%d]", i), "all that is "+verb+" by the statement is "+verb+" by other statements", "remove it")
			continue
		}
		for _, r := range found {
			where := fmt.Sprintf("statement %d", r.by)
			if r.by == i {
				where = "another entry of the statement"
			}
			l.report("redundant-grant", i, l.entry(i, "Action", r.entry), s.Action[r.entry]+" is "+verb+" on the same or more by "+where, "remove the entry")
		}
	}
}

// lintTwin looks at statements that coveredBy does not judge: of two that say
// the same, the later is one too many; so is an action that another entry of its
// list matches.
func (l *linter) lintTwin(i int, s *Statement, seen map[string]int) {
	words := statementWords(s)
	if first, ok := seen[words]; ok {
		l.report("redundant-statement", i, fmt.Sprintf("Statement[%d]", i), fmt.Sprintf("the statement says what statement %d says", first), "remove it")
		return
	}
	seen[words] = i
	for element, patterns := range map[string][]string{"Action": s.Action, "NotAction": s.NotAction} {
		for n, narrow := range patterns {
			for m, wide := range patterns {
				if m == n || !l.coversAction(wide, narrow) || l.coversAction(narrow, wide) && m > n {
					continue
				}
				l.report("redundant-grant", i, l.entry(i, element, n), narrow+" is matched by "+wide+" of the same list", "remove the entry")
				break
			}
		}
	}
}

// statementWords is all that a statement says, whatever the order of its lists.
func statementWords(s *Statement) string {
	sorted := func(words []string) []string { return slices.Sorted(slices.Values(words)) }
	who := func(p *Principals) string {
		if p == nil {
			return "nobody"
		}
		return fmt.Sprintf("%t %q %q %q %q", p.Any, sorted(p.AWS), sorted(p.Service), sorted(p.Federated), sorted(p.CanonicalUser))
	}
	var conditions []string
	for _, c := range s.Condition {
		conditions = append(conditions, fmt.Sprintf("%s %q %q", c.Operator, strings.ToLower(c.Key), sorted(c.Values)))
	}
	return fmt.Sprintf("%s %s %s %q %q %q %q %q", s.Effect, who(s.Principal), who(s.NotPrincipal),
		strings.ToLower(fmt.Sprint(sorted(s.Action))), strings.ToLower(fmt.Sprint(sorted(s.NotAction))), sorted(s.Resource), sorted(s.NotResource), sorted(conditions))
}

func (l *linter) lintRedundantResources(i int, s *Statement) {
	for n, narrow := range s.Resource {
		for m, wide := range s.Resource {
			if m == n || !l.work.covers(wide, narrow) || l.work.covers(narrow, wide) && m > n {
				continue
			}
			l.report("redundant-resource", i, l.entry(i, "Resource", n), narrow+" is matched by "+wide+" of the same statement", "remove it")
			break
		}
	}
}

// coveredBy finds the statement of the same effect that has an entry's action on
// all of its resources, under no further condition.
func (l *linter) coveredBy(here, entry int, pattern string, s *Statement) (by int, ok bool) {
	actions := l.expand(pattern)
	live := slices.DeleteFunc(slices.Clone(s.Resource), func(r string) bool { return l.bestMatch(actions, []string{r}) != sar.Can })
	if len(actions) == 0 || len(live) == 0 {
		return 0, false
	}
	for j := range l.doc.Statements {
		other := &l.doc.Statements[j]
		if other.Effect != s.Effect || len(other.Resource) == 0 || !noMoreConditions(other, s) {
			continue
		}
		for m, wide := range other.Action {
			if j == here && m == entry || !l.coversAction(wide, pattern) || !l.allCovered(other.Resource, live) {
				continue
			}
			// Of two that cover each other the later is the one too many.
			later := j > here || j == here && m > entry
			if later && l.coversAction(pattern, wide) && noMoreConditions(s, other) && l.allCovered(live, l.liveOn(actions, other.Resource)) {
				continue
			}
			return j, true
		}
	}
	return 0, false
}

// coversAction is CoversAction within the work of the document, quick for the names without a wildcard that most
// entries are.
func (l *linter) coversAction(wide, narrow string) bool {
	if strings.ContainsAny(wide, "*?") {
		return l.work.coversAction(wide, narrow)
	}
	return strings.EqualFold(wide, narrow)
}

func (l *linter) liveOn(actions []*sar.Action, patterns []string) []string {
	return slices.DeleteFunc(slices.Clone(patterns), func(r string) bool { return l.bestMatch(actions, []string{r}) != sar.Can })
}

func (l *linter) allCovered(wide, narrow []string) bool {
	return !slices.ContainsFunc(narrow, func(n string) bool {
		return !slices.ContainsFunc(wide, func(w string) bool { return l.work.covers(w, n) })
	})
}

// noMoreConditions is whether every condition of a is one of b's too.
func noMoreConditions(a, b *Statement) bool {
	for _, c := range a.Condition {
		if !slices.ContainsFunc(b.Condition, func(d Condition) bool {
			return c.Operator == d.Operator && strings.EqualFold(c.Key, d.Key) && slices.Equal(c.Values, d.Values)
		}) {
			return false
		}
	}
	return true
}

// denied is whether a Deny of the document takes back what is allowed for the
// action on everything that the pattern matches. A Deny counts without
// conditions, and also when it only spares requests that name one of the keys
// in the way that is wanted: "deny unless the boundary is X".
func (l *linter) denied(action *sar.Action, pattern string, keys ...pathKey) bool {
	found := false
	l.each(Deny, func(_ int, s *Statement) {
		if found || s.Principal != nil || s.NotPrincipal != nil {
			return
		}
		acts := s.allowsAction(action)
		if s.NotAction != nil {
			acts = !slices.ContainsFunc(s.NotAction, func(not string) bool { return MatchAction(not, action.String()) })
		}
		reaches := slices.ContainsFunc(s.Resource, func(wide string) bool { return l.work.covers(wide, pattern) })
		if s.NotResource != nil {
			reaches = !slices.ContainsFunc(s.NotResource, func(not string) bool { return Overlaps(not, pattern) })
		}
		unless := !slices.ContainsFunc(s.Condition, func(c Condition) bool {
			return !slices.ContainsFunc(keys, func(k pathKey) bool { return k.limitsDeny(&c) })
		})
		found = acts && reaches && unless
	})
	return found
}
