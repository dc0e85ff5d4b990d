package iampolicy

import (
	"strings"
	"unicode/utf8"
)

// An ARN has six fields, an action two. Wildcards stay inside their field; only
// the last field may hold further colons.
const (
	arnFields    = 6
	actionFields = 2
)

// MatchARN reports whether the Resource pattern matches arn. The six fields
// compare separately, so that * and ? never cross one of the first five colons;
// in the resource field they cross / and : alike. The pattern "*" matches
// everything, also the resource "*" of an action that has no resource type,
// which no other pattern matches. A pattern of fewer than six fields that ends
// in * leaves the fields it lacks open, as IAM does ("arn:aws:s3:*").
//
// Wildcards in arn are plain characters, and so are policy variables on both
// sides: whoever has a request to fill them in with compiles the document.
func MatchARN(pattern, arn string) bool {
	return matchFields(pattern, arn, arnFields, false)
}

// MatchAction reports whether the Action pattern matches action, without regard
// to case. Service and name compare separately; "*" matches everything.
func MatchAction(pattern, action string) bool {
	return matchFields(pattern, action, actionFields, true)
}

// Overlaps reports whether some resource is matched by both patterns. It is
// exact: it answers true only where such an ARN exists. A policy variable
// stands for any text.
func Overlaps(a, b string) bool {
	return overlapFields(a, b, arnFields)
}

// OverlapsAction reports whether some action could be matched by both patterns.
// It knows no list of actions: "ec2:*Vpc" and "ec2:Create*" overlap whatever
// EC2 offers.
func OverlapsAction(a, b string) bool {
	return overlapFields(strings.ToLower(a), strings.ToLower(b), actionFields)
}

// Covers reports whether wide matches every resource that narrow matches. It is
// exact for patterns without policy variables, of any size that real ones have;
// for a pair that takes more than maxPairWork to compare it says no. A variable
// is covered by a * and by the same variable.
func Covers(wide, narrow string) bool { return newBudget().covers(wide, narrow) }

// CoversAction reports whether wide matches every action that narrow matches.
func CoversAction(wide, narrow string) bool { return newBudget().coversAction(wide, narrow) }

// A text of n question marks and stars can lead globCovers through 2^n sets of
// places. Work is counted in bytes of such sets: a pair of patterns of 200
// characters, where wide has a ? and narrow a *, takes some tens of thousands.
const (
	maxPairWork = 1 << 20 // for one pair
	maxWork     = 1 << 26 // for all pairs of one document: a second or so
)

// budget is the work that is left for comparing the patterns of one document.
// When it is spent nothing covers anything but itself and by *, which is the
// safe answer: a grant is called needed, and a Deny is not relied on.
type budget struct{ left int }

func newBudget() *budget { return &budget{maxWork} }

func (b *budget) covers(wide, narrow string) bool {
	return b.coverFields(wide, narrow, arnFields)
}

func (b *budget) coversAction(wide, narrow string) bool {
	return b.coverFields(strings.ToLower(wide), strings.ToLower(narrow), actionFields)
}

func matchFields(pattern, text string, n int, fold bool) bool {
	if isAny(pattern) || pattern == text {
		return true
	}
	texts, count := splitFields(text, n, false)
	if count != n {
		return fold && strings.EqualFold(pattern, text)
	}
	patterns, count := splitFields(pattern, n, true)
	if count < n && !strings.HasSuffix(pattern, "*") {
		return false
	}
	for i, p := range patterns[:count] {
		if !globMatch(p, texts[i], fold) {
			return false
		}
	}
	return true
}

func overlapFields(a, b string, n int) bool {
	if isAny(a) || isAny(b) || a == b {
		return true
	}
	as, bs, ok := bothFields(a, b, n)
	if !ok {
		return false
	}
	for i := range n {
		if !globsOverlap(parseGlob(as[i]), parseGlob(bs[i])) {
			return false
		}
	}
	return true
}

func (b *budget) coverFields(wide, narrow string, n int) bool {
	if isAny(wide) || wide == narrow {
		return true
	}
	if isAny(narrow) {
		return false // "*" also matches the resource "*", which no ARN pattern does
	}
	ws, ns, ok := bothFields(wide, narrow, n)
	if !ok {
		return false
	}
	for i := range n {
		// Field by field is exact because no field of narrow is unmatchable.
		if ws[i] != ns[i] && !b.globCovers(parseGlob(ws[i]), parseGlob(ns[i])) {
			return false
		}
	}
	return true
}

// bothFields splits two patterns, opening the fields that a trailing * leaves
// out. It is false where one of them can match no n-field text at all.
func bothFields(a, b string, n int) (as, bs [arnFields]string, ok bool) {
	as, okA := openFields(a, n)
	bs, okB := openFields(b, n)
	return as, bs, okA && okB
}

func openFields(pattern string, n int) ([arnFields]string, bool) {
	fields, count := splitFields(pattern, n, true)
	if count < n && !strings.HasSuffix(pattern, "*") {
		return fields, false
	}
	for i := count; i < n; i++ {
		fields[i] = "*"
	}
	return fields, true
}

// splitFields cuts s at its first n-1 colons and says how many fields it has.
// In a pattern the colons inside ${aws:username} do not count.
func splitFields(s string, n int, pattern bool) (fields [arnFields]string, count int) {
	start := 0
	for i := 0; i < len(s) && count < n-1; i++ {
		switch {
		case s[i] == ':':
			fields[count] = s[start:i]
			count++
			start = i + 1
		case pattern && s[i] == '$' && strings.HasPrefix(s[i:], "${"):
			if end := strings.IndexByte(s[i:], '}'); end > 0 {
				i += end
			}
		}
	}
	fields[count] = s[start:]
	return fields, count + 1
}

func isAny(pattern string) bool {
	return pattern == "*" || pattern != "" && strings.Trim(pattern, "*") == ""
}

// globMatch matches one field. On a mismatch it goes back to the last * only,
// which keeps it within len(pattern) × len(text) steps.
func globMatch(pattern, text string, fold bool) bool {
	p, t, star, mark := 0, 0, -1, 0
	for {
		if p < len(pattern) && pattern[p] == '*' {
			if p++; p == len(pattern) {
				return true
			}
			star, mark = p, t
			continue
		}
		if p == len(pattern) && t == len(text) {
			return true
		}
		if p < len(pattern) && t < len(text) {
			if pattern[p] == '?' {
				p++
				t += runeLen(text[t:])
				continue
			}
			if pattern[p] == text[t] || fold && lower(pattern[p]) == lower(text[t]) {
				p++
				t++
				continue
			}
		}
		if star < 0 || mark == len(text) {
			return false
		}
		mark += runeLen(text[mark:])
		p, t = star, mark
	}
}

func runeLen(s string) int {
	if s[0] < utf8.RuneSelf {
		return 1
	}
	_, n := utf8.DecodeRuneInString(s)
	return n
}

func lower(b byte) byte {
	if 'A' <= b && b <= 'Z' {
		return b + 'a' - 'A'
	}
	return b
}

// glyph is one symbol of a pattern that is compared with another pattern.
type glyph struct {
	kind glyphKind
	char rune   // of a literal
	name string // of a variable, lower-cased
}

type glyphKind uint8

const (
	literal glyphKind = iota
	anyOne            // ?
	anyRun            // *
	variable
)

func parseGlob(s string) []glyph {
	var glyphs []glyph
	for i := 0; i < len(s); {
		if name, rest, ok := cutVariable(s[i:]); ok {
			if escaped, is := escapedChar(name); is {
				glyphs = append(glyphs, glyph{kind: literal, char: rune(escaped[0])})
			} else {
				glyphs = append(glyphs, glyph{kind: variable, name: strings.ToLower(name)})
			}
			i = len(s) - len(rest)
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		switch r {
		case '*':
			if len(glyphs) == 0 || glyphs[len(glyphs)-1].kind != anyRun {
				glyphs = append(glyphs, glyph{kind: anyRun})
			}
		case '?':
			glyphs = append(glyphs, glyph{kind: anyOne})
		default:
			glyphs = append(glyphs, glyph{kind: literal, char: r})
		}
		i += n
	}
	return glyphs
}

// globsOverlap walks both patterns at once over every text that both could
// still be reading; reach[j] says whether (i, j) can be reached.
func globsOverlap(a, b []glyph) bool {
	isRun := func(g glyph) bool { return g.kind == anyRun || g.kind == variable }
	meet := func(x, y glyph) bool {
		return x.kind == anyOne || y.kind == anyOne || x.char == y.char
	}
	reach, next := make([]bool, len(b)+1), make([]bool, len(b)+1)
	reach[0] = true
	for i := 0; i <= len(a); i++ {
		clear(next)
		for j := 0; j <= len(b); j++ {
			if !reach[j] {
				continue
			}
			aRun, bRun := i < len(a) && isRun(a[i]), j < len(b) && isRun(b[j])
			// A run may end here, or swallow the other side's next symbol.
			if aRun {
				next[j] = true
			}
			if bRun {
				reach[j+1] = true
			}
			if aRun && j < len(b) && !bRun {
				reach[j+1] = true
			}
			if bRun && i < len(a) && !aRun {
				next[j] = true
			}
			if i < len(a) && j < len(b) && !aRun && !bRun && meet(a[i], b[j]) {
				next[j+1] = true
			}
		}
		if i == len(a) {
			return reach[len(b)]
		}
		reach, next = next, reach
	}
	return false
}

// globCovers decides inclusion. Every text of narrow is read by wide as a set
// of places where wide may stand. Where narrow has a wildcard, the hardest text
// is one that wide names nowhere; for a * that is any number of such characters,
// and the search tries each number until the set of places repeats. It gives up,
// and says no, when the work is too much.
func (b *budget) globCovers(wide, narrow []glyph) bool {
	pair := min(b.left, maxPairWork)
	b.left -= pair
	defer func() { b.left += max(0, pair) }() // what was not needed

	type state struct {
		at     int    // place in narrow
		places string // one byte for each place in wide
	}
	start := make([]byte, len(wide)+1)
	start[0] = 1
	todo := []state{{0, settle(wide, start)}}
	seen := map[state]bool{todo[0]: true}
	for len(todo) > 0 {
		s := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if pair -= len(s.places); pair < 0 {
			return false
		}
		if s.at == len(narrow) {
			if s.places[len(wide)] == 0 {
				return false
			}
			continue
		}
		var further []state
		if g := narrow[s.at]; g.kind == anyRun {
			further = []state{{s.at + 1, s.places}, {s.at, advance(wide, s.places, glyph{kind: anyOne})}}
		} else {
			further = []state{{s.at + 1, advance(wide, s.places, g)}}
		}
		for _, f := range further {
			if !seen[f] {
				seen[f] = true
				todo = append(todo, f)
			}
		}
	}
	return true
}

// advance reads one symbol of narrow from every place of wide.
func advance(wide []glyph, places string, read glyph) string {
	next := make([]byte, len(places))
	for i, g := range wide {
		if places[i] == 0 {
			continue
		}
		switch {
		case g.kind == anyRun:
			next[i] = 1
		case g.kind == anyOne && read.kind != variable,
			g.kind == read.kind && g.kind != anyOne && g.char == read.char && g.name == read.name:
			next[i+1] = 1
		}
	}
	return settle(wide, next)
}

// settle steps over each * that may be empty, and forgets the places before the
// furthest *: what they could still match, it matches too. That keeps the sets
// few.
func settle(wide []glyph, places []byte) string {
	furthest := 0
	for i, g := range wide {
		if places[i] != 0 && g.kind == anyRun {
			places[i+1] = 1
			furthest = i
		}
	}
	clear(places[:furthest])
	return string(places)
}
