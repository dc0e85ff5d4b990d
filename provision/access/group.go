package access

import (
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// pair is one action on one resource pattern, under conditions: the smallest
// thing that can be allowed.
type pair struct {
	action   string
	resource string
	when     conditions
}

func (p pair) key() string { return p.action + " " + p.resource + " " + p.conditionKey() }

// conditionKey is the same text for the same conditions.
func (p pair) conditionKey() string { return string(marshal(p.when)) }

// dropCovered drops a pair that another allows already: the same action or a
// pattern of it, the same resource or a wider one, and no further condition.
func dropCovered(pairs []pair) []pair {
	conditionKeys := make([]string, len(pairs))
	for i, p := range pairs {
		conditionKeys[i] = p.conditionKey()
	}
	covers := func(wide, narrow int) bool {
		w, n := pairs[wide], pairs[narrow]
		if w.action != n.action && !strings.Contains(w.action, "*") {
			return false // most pairs end here, and Covers takes its time
		}
		if len(w.when) > 0 && conditionKeys[wide] != conditionKeys[narrow] {
			return false
		}
		return iampolicy.CoversAction(w.action, n.action) && iampolicy.Covers(w.resource, n.resource)
	}
	var kept []pair
	for i, p := range pairs {
		covered := false
		for j := range pairs {
			// Of two that cover each other, the first stays.
			if i != j && covers(j, i) && (!covers(i, j) || j < i) {
				covered = true
				break
			}
		}
		if !covered {
			kept = append(kept, p)
		}
	}
	return kept
}

// group writes pairs as few statements that allow exactly these pairs: no
// statement's actions and resources cross to a pair that is not among them.
// Pairs under the same conditions are grouped twice, by action and by resource,
// and the shorter of the two is taken.
func group(pairs []pair) []statement {
	var order []string
	byCondition := map[string][]pair{}
	for _, p := range pairs {
		k := p.conditionKey()
		if byCondition[k] == nil {
			order = append(order, k)
		}
		byCondition[k] = append(byCondition[k], p)
	}
	slices.Sort(order) // "{}" sorts first: what has no conditions comes first
	var all []statement
	for _, k := range order {
		some := byCondition[k]
		byAction := cross(some, func(p pair) (string, string) { return p.action, p.resource })
		byResource := cross(some, func(p pair) (string, string) { return p.resource, p.action })
		left := make([]statement, 0, len(byAction))
		for _, c := range byAction {
			left = append(left, statement{Effect: "Allow", Action: c.keys, Resource: c.values, Condition: some[0].when})
		}
		right := make([]statement, 0, len(byResource))
		for _, c := range byResource {
			right = append(right, statement{Effect: "Allow", Action: c.values, Resource: c.keys, Condition: some[0].when})
		}
		if iampolicy.LongestSize(document(right)) < iampolicy.LongestSize(document(left)) { // the same everywhere
			left = right
		}
		all = append(all, left...)
	}
	return all
}

// product is keys that have the same values.
type product struct{ keys, values []string }

// cross gathers the values of each key, then the keys that have the same values.
func cross(pairs []pair, split func(pair) (key, value string)) []product {
	values := map[string][]string{}
	for _, p := range pairs {
		k, v := split(p)
		values[k] = append(values[k], v)
	}
	same := map[string]*product{}
	for k, list := range values {
		slices.Sort(list)
		list = slices.Compact(list)
		id := strings.Join(list, " ")
		if same[id] == nil {
			same[id] = &product{values: list}
		}
		same[id].keys = append(same[id].keys, k)
	}
	all := make([]product, 0, len(same))
	for _, p := range same {
		slices.Sort(p.keys)
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b product) int { return slices.Compare(a.keys, b.keys) })
	return all
}
