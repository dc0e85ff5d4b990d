package iampolicy

import (
	"bytes"
	"slices"
	"strings"
)

// Equal reports whether a and b mean the same. Order, scalars and lists, Sids,
// names, duplicates, the case of actions, how grants are spread over
// statements, and grants that a wider one includes make no difference. True is
// certain; false may also mean that the sameness is not of these kinds (two
// patterns that only together are as wide as a third).
func Equal(a, b *Document) bool {
	return bytes.Equal(Canonical(a).Text(), Canonical(b).Text())
}

// Canonical returns the document in the one form that all documents Equal to
// it have: Version 2012-10-17 without Id and Sids; every grant taken apart to
// one principal × action × resource, those within a wider one dropped, and the
// rest put together again by sameness and sorted. It is for comparing, not for
// shipping: it is often longer than d.
func Canonical(d *Document) *Document {
	m := takeApart(asCurrent(d), true)
	m.dropCovered()
	return &Document{Name: d.Name, Version: currentVersion, Statements: m.putTogether()}
}

// putTogether makes statements of cells: first all resources of an action, then
// all actions of the same resources, then all principals of the same both. The
// outcome depends on the set of cells alone.
func (m *matrix) putTogether() []Statement {
	// A list cannot be joined with anything, so it is a row of its own.
	alone := func(s selector) string {
		if s.kind == only {
			return ""
		}
		return s.key
	}
	type row struct {
		scope     *scope
		action    selector
		resources []string
	}
	rows := map[string]*row{}
	for _, c := range m.cells {
		key := strings.Join([]string{c.scope.key, c.action.key, alone(c.resource)}, "\x00")
		if rows[key] == nil {
			rows[key] = &row{scope: c.scope, action: c.action}
		}
		rows[key].resources = append(rows[key].resources, c.resource.key)
	}

	blocks := map[string]*Statement{}
	for _, key := range sortedKeys(rows) {
		r := rows[key]
		slices.Sort(r.resources)
		key := strings.Join([]string{r.scope.key, strings.Join(r.resources, "\x01"), alone(r.action)}, "\x00")
		st := blocks[key]
		if st == nil {
			st = &Statement{
				Effect: r.scope.effect, Principal: r.scope.principal, NotPrincipal: r.scope.notPrincipal,
				Condition: r.scope.condition,
			}
			for _, resource := range r.resources {
				m.resources[resource].into(&st.Resource, &st.NotResource)
			}
			blocks[key] = st
		}
		folded := r.action
		folded.values = slices.Clone(folded.values)
		for i, v := range folded.values {
			folded.values[i] = strings.ToLower(v)
		}
		folded.into(&st.Action, &st.NotAction)
	}

	joined := map[string]*Statement{}
	for _, key := range sortedKeys(blocks) {
		st := blocks[key]
		slices.Sort(st.Action)
		bare := *st
		bare.Principal = nil
		key := statementText(&bare)
		if st.Principal == nil || st.Principal.Any {
			key += "\x00" + principalsKey(st.Principal)
		}
		if before := joined[key]; before != nil {
			before.Principal = joinPrincipals(before.Principal, st.Principal)
			continue
		}
		joined[key] = st
	}

	byText := make(map[string]*Statement, len(joined)) // Effect comes first in it
	for _, st := range joined {
		st.NotPrincipal = sortedPrincipals(st.NotPrincipal)
		st.Principal = sortedPrincipals(st.Principal)
		byText[statementText(st)] = st
	}
	out := make([]Statement, 0, len(joined))
	for _, text := range sortedKeys(byText) {
		out = append(out, *byText[text])
	}
	return out
}

func sortedPrincipals(p *Principals) *Principals {
	if p == nil {
		return nil
	}
	out := joinPrincipals(p, nil)
	for i, v := range out.AWS {
		out.AWS[i] = principalName(v)
	}
	out.sort()
	return out
}
