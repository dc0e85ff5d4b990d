package iampolicy

import (
	"math/bits"
	"regexp"
	"slices"
)

// Minify returns a document of the same meaning in fewer characters: without
// Id and Sids, without what is repeated or within a wider grant of the same
// document, and with statements joined, or their common parts set apart, where
// that is shorter. Actions are never abbreviated by wildcards, because that
// would grant what AWS adds tomorrow.
//
// Lengths are compared as if every region's name had the same, so the outcome
// for one region is that for another with the names exchanged.
func Minify(d *Document) *Document {
	out := &Document{Name: d.Name, Version: d.Version, Statements: []Statement{}}
	p := newPuzzle(d)
	p.prune()
	if len(p.actions)*len(p.resources)*len(p.scopes) <= maxCells*4 {
		for p.improve() {
		}
	}
	for _, b := range p.blocks {
		out.Statements = append(out.Statements, p.statement(b))
	}
	return out
}

// puzzle is a document as rectangles to be laid over its cells: every cell must
// be covered and nothing else may be. Actions, resources and scopes are
// numbered in the order of the document.
type puzzle struct {
	scopes             []*scope
	sources            []*Statement // of a scope: the first statement, for its spelling
	actions, resources []selector
	blocks             []block

	actionWider, resourceWider, scopeWider []set // for each number: those that cover it, itself among them
	actionCost, resourceCost               []int
	scopeCost                              []int

	matrix  *matrix
	granted map[[3]int]bool // whether the document grants scope, action, resource
	granter func(cell) bool
}

// block is one statement to be: every action on every resource.
type block struct {
	scope              int
	actions, resources set
}

func newPuzzle(d *Document) *puzzle {
	p := &puzzle{matrix: takeApart(d, false), granted: map[[3]int]bool{}}
	p.granter = p.matrix.granter()
	p.scopes = p.matrix.scopes
	scopes, actions, resources := map[string]int{}, map[string]int{}, map[string]int{}
	for i, s := range p.scopes {
		scopes[s.key] = i
	}
	p.sources = make([]*Statement, len(p.scopes))
	number := func(known map[string]int, all *[]selector, s selector) int {
		n, ok := known[s.key]
		if !ok {
			n = len(*all)
			known[s.key] = n
			*all = append(*all, s)
		}
		return n
	}
	for _, c := range p.matrix.cells {
		number(actions, &p.actions, c.action)
		number(resources, &p.resources, c.resource)
	}
	for i := range d.Statements {
		st := &d.Statements[i]
		cells := takeApart(&Document{Statements: d.Statements[i : i+1]}, false).cells
		if len(cells) == 0 {
			continue
		}
		b := block{scopes[newScope(st, st.Principal).key], newSet(len(p.actions)), newSet(len(p.resources))}
		if p.sources[b.scope] == nil {
			p.sources[b.scope] = st
		}
		for _, c := range cells {
			b.actions.add(actions[c.action.key])
			b.resources.add(resources[c.resource.key])
		}
		p.blocks = append(p.blocks, b)
	}
	work := p.matrix.work
	p.actionWider = wider(p.actions, func(w, n selector) bool { return w.coversAction(n, work) })
	p.resourceWider = wider(p.resources, func(w, n selector) bool { return w.coversResource(n, work) })
	p.scopeWider = wider(p.scopes, (*scope).covers)
	for _, a := range p.actions {
		p.actionCost = append(p.actionCost, a.cost())
	}
	for _, r := range p.resources {
		p.resourceCost = append(p.resourceCost, r.cost())
	}
	for i := range p.scopes {
		st := p.sources[i]
		p.scopeCost = append(p.scopeCost, len(`,"Action":,"Resource":`)+len(statementText(&Statement{
			Effect: st.Effect, Principal: st.Principal, NotPrincipal: st.NotPrincipal, Condition: st.Condition,
		})))
	}
	return p
}

// wider lists for each of all the numbers of those that cover it.
func wider[T any](all []T, covers func(wide, narrow T) bool) []set {
	out := make([]set, len(all))
	for n := range all {
		out[n] = newSet(len(all))
		for w := range all {
			if w == n || covers(all[w], all[n]) {
				out[n].add(w)
			}
		}
	}
	return out
}

// regionField is the region of an ARN, the only part of it whose length depends
// on where the document is for.
var regionField = regexp.MustCompile(`^(arn:[^:]*:[^:]*):([a-z]+-[a-z-]+-[0-9]+):`)

// cost is what the selector adds to a list, with all regions of one length.
func (s selector) cost() int {
	total := 0
	for _, v := range s.values {
		v = regionField.ReplaceAllString(v, "$1:us-east-1:")
		total += stringSize(v) + len(",")
	}
	return total
}

// prune drops whatever other blocks cover: whole blocks, then actions, then
// resources.
func (p *puzzle) prune() { p.blocks = p.pruned(p.blocks) }

func (p *puzzle) pruned(blocks []block) []block {
	blocks = slices.Clone(blocks)
	for i := 0; i < len(blocks); i++ {
		without := slices.Delete(slices.Clone(blocks), i, i+1)
		if p.covers(without, blocks[i]) {
			blocks = without
			i--
		}
	}
	for i := range blocks {
		for a := range blocks[i].actions.all {
			b := blocks[i]
			row := block{b.scope, p.oneAction(a), b.resources}
			b.actions = b.actions.minus(row.actions)
			if !b.actions.isEmpty() && p.coversWith(blocks, i, b, row) {
				blocks[i] = b
			}
		}
		for r := range blocks[i].resources.all {
			b := blocks[i]
			column := block{b.scope, b.actions, p.oneResource(r)}
			b.resources = b.resources.minus(column.resources)
			if !b.resources.isEmpty() && p.coversWith(blocks, i, b, column) {
				blocks[i] = b
			}
		}
	}
	return blocks
}

func (p *puzzle) oneAction(n int) set   { return newSet(len(p.actions)).with(n) }
func (p *puzzle) oneResource(n int) set { return newSet(len(p.resources)).with(n) }

// coversWith reports whether blocks cover c after the i-th is replaced by b.
func (p *puzzle) coversWith(blocks []block, i int, b, c block) bool {
	old := blocks[i]
	blocks[i] = b
	defer func() { blocks[i] = old }()
	return p.covers(blocks, c)
}

// covers reports whether blocks cover every cell of c.
func (p *puzzle) covers(blocks []block, c block) bool {
	for a := range c.actions.all {
		for r := range c.resources.all {
			if !slices.ContainsFunc(blocks, func(b block) bool {
				return p.scopeWider[c.scope].has(b.scope) && p.actionWider[a].meets(b.actions) && p.resourceWider[r].meets(b.resources)
			}) {
				return false
			}
		}
	}
	return true
}

// grants reports whether the document grants every cell of b, so that b may be
// among its statements.
func (p *puzzle) grants(b block) bool {
	if !fits(p.actions, b.actions) || !fits(p.resources, b.resources) {
		return false
	}
	for a := range b.actions.all {
		for r := range b.resources.all {
			key := [3]int{b.scope, a, r}
			yes, known := p.granted[key]
			if !known {
				yes = p.granter(cell{p.scopes[b.scope], p.actions[a], p.resources[r]})
				p.granted[key] = yes
			}
			if !yes {
				return false
			}
		}
	}
	return true
}

// fits reports whether one statement can list these: a NotAction, a NotResource
// or an absent Resource stands alone.
func fits(all []selector, list set) bool {
	if list.size() == 1 {
		return true
	}
	for n := range list.all {
		if all[n].kind == except || all[n].kind == absent {
			return false
		}
	}
	return true
}

func (p *puzzle) cost(blocks []block) int {
	total := 0
	list := func(costs []int, numbers set) {
		for n := range numbers.all {
			total += costs[n]
		}
		if numbers.size() > 1 {
			total += len("[]")
		}
	}
	for _, b := range blocks {
		total += p.scopeCost[b.scope]
		list(p.actionCost, b.actions)
		list(p.resourceCost, b.resources)
	}
	return total
}

// improve makes the one change that saves most, and reports whether there was one.
func (p *puzzle) improve() bool {
	now := p.cost(p.blocks)
	best, bestCost := []block(nil), now
	try := func(blocks []block) {
		blocks = p.pruned(blocks)
		if cost := p.cost(blocks); cost < bestCost {
			best, bestCost = blocks, cost
		}
	}
	for i := range p.blocks {
		for j := range p.blocks[:i] {
			a, b := p.blocks[j], p.blocks[i]
			if a.scope != b.scope {
				continue
			}
			for _, change := range p.changes(a, b) {
				blocks := slices.Clone(p.blocks)
				blocks[j], blocks[i] = change[0], change[1]
				blocks = slices.Insert(blocks, j, change[2:]...)
				try(slices.DeleteFunc(blocks, func(b block) bool { return b.actions.isEmpty() || b.resources.isEmpty() }))
			}
		}
	}
	if best == nil {
		p.moveEach(try)
	}
	if best == nil {
		return false
	}
	p.blocks = best
	return true
}

// changes lists what can be done with two blocks of one scope: what takes the
// place of a and of b (empty for none), and what comes beside them.
func (p *puzzle) changes(a, b block) [][]block {
	var out [][]block
	actions, resources := a.actions.union(b.actions), a.resources.union(b.resources)
	if all := (block{a.scope, actions, resources}); p.grants(all) {
		out = append(out, []block{all, {a.scope, newSet(len(p.actions)), resources}})
	}
	if common := a.actions.common(b.actions); !common.isEmpty() {
		if shared := (block{a.scope, common, resources}); p.grants(shared) {
			out = append(out, []block{
				{a.scope, a.actions.minus(common), a.resources}, {b.scope, b.actions.minus(common), b.resources}, shared,
			})
		}
	}
	if common := a.resources.common(b.resources); !common.isEmpty() {
		if shared := (block{a.scope, actions, common}); p.grants(shared) {
			out = append(out, []block{
				{a.scope, a.actions, a.resources.minus(common)}, {b.scope, b.actions, b.resources.minus(common)}, shared,
			})
		}
	}
	return out
}

// moveEach tries every block with one action or one resource more, where that
// may free another block of it.
func (p *puzzle) moveEach(try func([]block)) {
	consider := func(i int, wide block, elsewhere func(block) bool) {
		for j, other := range p.blocks {
			if j != i && p.scopeWider[other.scope].has(wide.scope) && elsewhere(other) && p.grants(wide) {
				blocks := slices.Clone(p.blocks)
				blocks[i] = wide
				try(blocks)
				return
			}
		}
	}
	for i, b := range p.blocks {
		for a := range p.actions {
			if !b.actions.has(a) {
				consider(i, block{b.scope, b.actions.with(a), b.resources}, func(other block) bool {
					return other.actions.has(a) && anyWider(p.resourceWider, other.resources, b.resources)
				})
			}
		}
		for r := range p.resources {
			if !b.resources.has(r) {
				consider(i, block{b.scope, b.actions, b.resources.with(r)}, func(other block) bool {
					return other.resources.has(r) && anyWider(p.actionWider, other.actions, b.actions)
				})
			}
		}
	}
}

// anyWider reports whether some of narrow is covered by some of wide.
func anyWider(wider []set, narrow, wide set) bool {
	for n := range narrow.all {
		if wider[n].meets(wide) {
			return true
		}
	}
	return false
}

func (p *puzzle) statement(b block) Statement {
	source := p.sources[b.scope]
	st := Statement{
		Effect: source.Effect, Principal: source.Principal, NotPrincipal: source.NotPrincipal,
		Condition: slices.Clone(source.Condition),
	}
	for a := range b.actions.all {
		p.actions[a].into(&st.Action, &st.NotAction)
	}
	for r := range b.resources.all {
		p.resources[r].into(&st.Resource, &st.NotResource)
	}
	return st
}

// set is a set of small numbers. Blocks share sets, so none is changed once made.
type set []uint64

func newSet(size int) set { return make(set, (size+63)/64) }

func (s set) has(n int) bool { return s[n/64]&(1<<(n%64)) != 0 }

func (s set) add(n int) { s[n/64] |= 1 << (n % 64) }

func (s set) with(n int) set {
	out := slices.Clone(s)
	out.add(n)
	return out
}

func (s set) meets(t set) bool {
	for i := range s {
		if s[i]&t[i] != 0 {
			return true
		}
	}
	return false
}

func (s set) combine(t set, f func(a, b uint64) uint64) set {
	out := make(set, len(s))
	for i := range s {
		out[i] = f(s[i], t[i])
	}
	return out
}

func (s set) union(t set) set  { return s.combine(t, func(a, b uint64) uint64 { return a | b }) }
func (s set) common(t set) set { return s.combine(t, func(a, b uint64) uint64 { return a & b }) }
func (s set) minus(t set) set  { return s.combine(t, func(a, b uint64) uint64 { return a &^ b }) }
func (s set) isEmpty() bool    { return s.size() == 0 }

func (s set) size() int {
	n := 0
	for _, w := range s {
		n += bits.OnesCount64(w)
	}
	return n
}

// all yields the numbers in order.
func (s set) all(yield func(int) bool) {
	for i, w := range s {
		for ; w != 0; w &= w - 1 {
			if !yield(i*64 + bits.TrailingZeros64(w)) {
				return
			}
		}
	}
}
