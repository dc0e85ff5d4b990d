package iampolicy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

const (
	currentVersion = "2012-10-17"
	// maxCells bounds how far a document is taken apart. The largest documents
	// that IAM stores have a few thousand cells; one that is made to have more
	// has its statements compared whole.
	maxCells = 1 << 13
)

// matrix is a document taken apart into cells, one for each scope × action ×
// resource. Canonical, Minify and Diff reason about cells and never about
// statements.
type matrix struct {
	scopes []*scope
	cells  []cell
	// The selectors that cells have, by key.
	actions, resources map[string]selector
	work               *budget // for comparing patterns; shared with the scopes
}

// scope is what a statement's cells have in common.
type scope struct {
	key                     string
	effect                  Effect
	principal, notPrincipal *Principals
	condition               []Condition // normalized
	shown                   []Condition // as in the document
	principalKey            string      // of both principals
	work                    *budget     // of the matrix
}

// cell is one action on one resource in one scope.
type cell struct {
	scope            *scope
	action, resource selector
}

// selector is an entry of Action or Resource, or a whole list where it cannot
// be divided: NotAction and NotResource, which leave out all their entries.
type selector struct {
	key    string
	kind   selectorKind
	values []string // as spelt in the document
}

type selectorKind uint8

const (
	only    selectorKind = iota // what the one value matches
	except                      // what none of the values match
	several                     // what any of the values match; only in documents over maxCells
	absent                      // no Resource element, as in a trust policy
)

// takeApart returns the cells of d. With principals, a statement that names
// several is taken apart by them too.
func takeApart(d *Document, principals bool) *matrix {
	m := &matrix{actions: map[string]selector{}, resources: map[string]selector{}, work: newBudget()}
	count := 0
	for i := range d.Statements {
		st := &d.Statements[i]
		count += max(1, len(st.Action)) * max(1, len(st.Resource)) * max(1, st.Principal.count())
	}
	divide := count <= maxCells
	scopes := map[string]*scope{}
	for i := range d.Statements {
		st := &d.Statements[i]
		actions := selectors(st.Action, st.NotAction, strings.ToLower, divide)
		if len(actions) == 0 { // matches nothing; Parse refuses it
			continue
		}
		resources := selectors(st.Resource, st.NotResource, strings.Clone, divide)
		if len(resources) == 0 {
			resources = []selector{{kind: absent}}
		}
		list := []*Principals{st.Principal}
		if principals && divide {
			list = st.Principal.each()
		}
		for _, p := range list {
			s := newScope(st, p)
			if known, ok := scopes[s.key]; ok {
				s = known
			} else {
				s.work = m.work
				scopes[s.key] = s
				m.scopes = append(m.scopes, s)
			}
			for _, a := range actions {
				m.actions[a.key] = a
				for _, r := range resources {
					m.resources[r.key] = r
					m.cells = append(m.cells, cell{s, a, r})
				}
			}
		}
	}
	m.dropRepeated()
	return m
}

func selectors(yes, no []string, fold func(string) string, divide bool) []selector {
	if len(no) > 0 {
		return []selector{listSelector(except, no, fold)}
	}
	if !divide && len(yes) > 1 {
		return []selector{listSelector(several, yes, fold)}
	}
	out := make([]selector, 0, len(yes))
	for _, v := range yes {
		out = append(out, selector{key: fold(v), values: []string{v}})
	}
	return out
}

func listSelector(kind selectorKind, values []string, fold func(string) string) selector {
	keys := make([]string, 0, len(values))
	for _, v := range values {
		keys = append(keys, fold(v))
	}
	keys = sortedSet(keys)
	return selector{key: fmt.Sprintf("%d\x01%s", kind, strings.Join(keys, "\x01")), kind: kind, values: keys}
}

// into puts the selector back into a statement's two lists.
func (s selector) into(yes, no *[]string) {
	switch s.kind {
	case only, several:
		*yes = append(*yes, s.values...)
	case except:
		*no = append(*no, s.values...)
	}
}

// covers reports whether s selects everything that narrow selects. It never
// says so wrongly; it may miss that two patterns together do.
func (s selector) covers(narrow selector, cover, overlap func(a, b string) bool) bool {
	if s.key == narrow.key {
		return true
	}
	switch {
	case s.kind == absent || narrow.kind == absent:
		return false
	case s.kind == except && hasVariable(s.values): // matches nothing where the variable has no value
		return false
	case s.kind == only && narrow.kind == only && !mayCover(s.key, narrow.key):
		return false
	case s.kind != except && narrow.kind != except:
		return within(narrow.values, s.values, cover)
	case s.kind == except && narrow.kind != except:
		return !slices.ContainsFunc(narrow.values, func(v string) bool {
			return slices.ContainsFunc(s.values, func(w string) bool { return overlap(w, v) })
		})
	case s.kind == except: // leaves out no more than narrow does
		return within(s.values, narrow.values, cover)
	}
	return slices.Contains(s.values, "*")
}

func hasVariable(values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool { return strings.Contains(v, "${") })
}

// mayCover spares most of the work of comparing patterns. Where narrow has a
// wildcard any text can stand, so every plain part of wide must be in narrow as
// it is, the first at the beginning; and without a wildcard there is nothing
// but itself that wide matches.
func mayCover(wide, narrow string) bool {
	loose := strings.IndexAny(wide, "*?$")
	if loose < 0 || !strings.HasPrefix(narrow, wide[:loose]) {
		return false
	}
	plain, _, _ := strings.Cut(wide, "$") // what comes after may be a variable
	for part := range strings.FieldsFuncSeq(plain, func(r rune) bool { return r == '*' || r == '?' }) {
		if !strings.Contains(narrow, part) {
			return false
		}
	}
	return true
}

func (s selector) coversAction(narrow selector, work *budget) bool {
	return s.covers(narrow, work.coversAction, OverlapsAction)
}

func (s selector) coversResource(narrow selector, work *budget) bool {
	return s.covers(narrow, work.covers, Overlaps)
}

// covers reports whether every request that narrow's cells are about is one of
// s's: the same effect and principals, and no condition that does not follow
// from one of narrow's.
func (s *scope) covers(narrow *scope) bool {
	if s == narrow {
		return true
	}
	return s.effect == narrow.effect && s.principalKey == narrow.principalKey &&
		!slices.ContainsFunc(s.condition, func(wide Condition) bool {
			return !slices.ContainsFunc(narrow.condition, func(n Condition) bool { return follows(wide, n, s.work) })
		})
}

// follows reports whether wide holds whenever narrow does. Both are normalized.
// It knows sameness, lists of which one has more values, patterns within
// patterns, and IfExists.
func follows(wide, narrow Condition, work *budget) bool {
	if wide.Key != narrow.Key || wide.Operator != narrow.Operator && wide.Operator != narrow.Operator+ifExistsSuffix {
		return false
	}
	_, bare, _ := operatorSpelling(narrow.Operator)
	same := func(w, n string) bool { return w == n }
	matches := same
	switch bare {
	case "StringLike":
		matches = func(w, n string) bool { return w == n || mayCover(w, n) && work.globCovers(parseGlob(w), parseGlob(n)) }
	case "ArnLike":
		matches = func(w, n string) bool { return w == n || mayCover(w, n) && work.covers(w, n) }
	}
	if strings.Contains(bare, "Not") { // none of the values: more of them is narrower
		return within(wide.Values, narrow.Values, same)
	}
	return within(narrow.Values, wide.Values, matches)
}

// within reports whether each of few is matched by one of many.
func within(few, many []string, matches func(wide, narrow string) bool) bool {
	return !slices.ContainsFunc(few, func(f string) bool {
		return !slices.ContainsFunc(many, func(m string) bool { return matches(m, f) })
	})
}

func (c cell) covers(narrow cell) bool {
	return c.action.coversAction(narrow.action, c.scope.work) && c.coversRest(narrow)
}

// coversRest is for a cell whose action is known to cover narrow's.
func (c cell) coversRest(narrow cell) bool {
	return c.scope.covers(narrow.scope) && c.resource.coversResource(narrow.resource, c.scope.work)
}

func (c cell) key() string {
	return c.scope.key + "\x00" + c.action.key + "\x00" + c.resource.key
}

func (m *matrix) dropRepeated() {
	seen := map[string]bool{}
	m.cells = slices.DeleteFunc(m.cells, func(c cell) bool {
		k := c.key()
		was := seen[k]
		seen[k] = true
		return was
	})
}

// dropCovered removes the cells that another one covers.
func (m *matrix) dropCovered() {
	wider := m.wider()
	m.cells = slices.DeleteFunc(slices.Clone(m.cells), func(c cell) bool {
		return slices.ContainsFunc(wider(c), func(w cell) bool {
			if w.key() == c.key() || !w.coversRest(c) {
				return false
			}
			// Two that cover each other are two spellings; the first stays.
			return !c.covers(w) || cmp.Compare(w.key(), c.key()) < 0
		})
	})
}

// wider returns a function that lists the cells whose action covers a cell's
// action, so that not every cell is compared with every other.
func (m *matrix) wider() func(cell) []cell {
	byAction := map[string][]cell{}
	for _, c := range m.cells {
		byAction[c.action.key] = append(byAction[c.action.key], c)
	}
	var loose []selector // the actions that can cover another
	for _, key := range sortedKeys(m.actions) {
		if a := m.actions[key]; a.kind != only || strings.ContainsAny(key, "*?") {
			loose = append(loose, a)
		}
	}
	found := map[string][]cell{}
	return func(c cell) []cell {
		list, ok := found[c.action.key]
		if !ok {
			list = slices.Clone(byAction[c.action.key])
			for _, a := range loose {
				if a.key != c.action.key && a.coversAction(c.action, m.work) {
					list = append(list, byAction[a.key]...)
				}
			}
			found[c.action.key] = list
		}
		return list
	}
}

// granter returns a function that reports whether some cell covers c.
func (m *matrix) granter() func(cell) bool {
	wider := m.wider()
	return func(c cell) bool {
		return slices.ContainsFunc(wider(c), func(w cell) bool { return w.coversRest(c) })
	}
}

func newScope(st *Statement, p *Principals) *scope {
	s := &scope{
		effect: st.Effect, principal: p, notPrincipal: st.NotPrincipal,
		condition: normalConditions(st.Condition), shown: st.Condition,
	}
	s.principalKey = principalsKey(p) + "\x00" + principalsKey(s.notPrincipal)
	s.key = strings.Join([]string{string(s.effect), s.principalKey, conditionText(s.condition)}, "\x00")
	return s
}

// normalConditions gives conditions of one meaning one form: keys in lower
// case, lists sorted without repetition, one spelling where IAM has two.
func normalConditions(list []Condition) []Condition {
	out := make([]Condition, 0, len(list))
	for _, c := range list {
		n := Condition{Operator: c.Operator, Key: strings.ToLower(c.Key)}
		_, bare, _ := operatorSpelling(c.Operator)
		switch bare {
		case "ArnEquals", "ArnNotEquals": // IAM matches both as Like
			n.Operator = strings.Replace(n.Operator, "Equals", "Like", 1)
		}
		for _, v := range c.Values {
			switch bare {
			case "Bool", "Null":
				v = strings.ToLower(v)
			case "IpAddress", "NotIpAddress":
				if p, ok := parsePrefix(v); ok && !strings.Contains(v, "${") {
					v = p.String()
				}
			}
			n.Values = append(n.Values, v)
		}
		n.Values = sortedSet(n.Values)
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b Condition) int {
		return cmp.Or(cmp.Compare(a.Operator, b.Operator), cmp.Compare(a.Key, b.Key), slices.Compare(a.Values, b.Values))
	})
	return slices.CompactFunc(out, func(a, b Condition) bool {
		return a.Operator == b.Operator && a.Key == b.Key && slices.Equal(a.Values, b.Values)
	})
}

// conditionText is a Condition element's value.
func conditionText(list []Condition) string {
	w := textWriter{out: []byte("{")}
	w.conditions(list)
	return strings.TrimPrefix(string(w.out), `{"Condition":`)
}

func (p *Principals) count() int {
	if p == nil {
		return 0
	}
	return len(p.AWS) + len(p.Service) + len(p.Federated) + len(p.CanonicalUser)
}

// each divides p into principals of one name each.
func (p *Principals) each() []*Principals {
	if p == nil || p.Any || p.count() == 0 {
		return []*Principals{p}
	}
	var out []*Principals
	for _, v := range p.AWS {
		out = append(out, &Principals{AWS: []string{principalName(v)}})
	}
	for _, v := range p.Service {
		out = append(out, &Principals{Service: []string{v}})
	}
	for _, v := range p.Federated {
		out = append(out, &Principals{Federated: []string{v}})
	}
	for _, v := range p.CanonicalUser {
		out = append(out, &Principals{CanonicalUser: []string{v}})
	}
	return out
}

// principalName writes an account's root as the account's number, which means
// the same; IAM stores the one for the other.
func principalName(aws string) string {
	if arn, ok := ParseARN(aws); ok && arn.Service == "iam" && arn.Resource == "root" && isAccount(arn.Account) {
		return arn.Account
	}
	return aws
}

// principalsKey is a text that two Principals of the same names have in common.
func principalsKey(p *Principals) string {
	if p == nil {
		return ""
	}
	if p.Any {
		return "*"
	}
	n := joinPrincipals(p, nil)
	for i, v := range n.AWS {
		n.AWS[i] = principalName(v)
	}
	n.sort()
	w := textWriter{out: []byte("{")}
	w.principals("P", n)
	return string(w.out)
}

// joinPrincipals returns the names of both, in new lists.
func joinPrincipals(a, b *Principals) *Principals {
	out := &Principals{}
	for _, p := range []*Principals{a, b} {
		if p == nil {
			continue
		}
		out.Any = out.Any || p.Any
		out.AWS = append(out.AWS, p.AWS...)
		out.Service = append(out.Service, p.Service...)
		out.Federated = append(out.Federated, p.Federated...)
		out.CanonicalUser = append(out.CanonicalUser, p.CanonicalUser...)
	}
	return out
}

func (p *Principals) sort() {
	if p == nil {
		return
	}
	for _, list := range []*[]string{&p.AWS, &p.Service, &p.Federated, &p.CanonicalUser} {
		*list = sortedSet(*list)
	}
}

func statementText(st *Statement) string {
	var w textWriter
	w.statement(st)
	return string(w.out)
}

// asCurrent returns d in the current language version. In the older one, which
// is also that of a document without Version, ${ is plain text; the current one
// writes that ${$}{.
func asCurrent(d *Document) *Document {
	out := *d
	out.Version, out.ID = currentVersion, ""
	if d.Version == currentVersion {
		return &out
	}
	plain := func(list []string) []string {
		if !slices.ContainsFunc(list, func(v string) bool { return strings.Contains(v, "${") }) {
			return list
		}
		copied := make([]string, 0, len(list))
		for _, v := range list {
			copied = append(copied, strings.ReplaceAll(v, "${", "${$}{"))
		}
		return copied
	}
	out.Statements = slices.Clone(d.Statements)
	for i := range out.Statements {
		st := &out.Statements[i]
		st.Resource, st.NotResource = plain(st.Resource), plain(st.NotResource)
		st.Condition = slices.Clone(st.Condition)
		for j := range st.Condition {
			st.Condition[j].Values = plain(st.Condition[j].Values)
		}
	}
	return &out
}

func sortedSet(list []string) []string {
	if list == nil {
		return nil
	}
	out := slices.Clone(list)
	slices.Sort(out)
	return slices.Compact(out)
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
