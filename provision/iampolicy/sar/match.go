package sar

import (
	"cmp"
	"slices"
	"strings"
)

// Match says whether a Resource pattern can match a resource of an action.
type Match uint8

// From weakest to strongest.
const (
	Never Match = iota
	// LiveOnly: not by the reference, but the live authorizer is known to test
	// a resource that the pattern matches (exceptions.tsv).
	LiveOnly
	Can
)

// CanMatch says whether a pattern of a Resource element can match any resource
// that the action acts on. An action without a resource type needs "*". Policy
// variables and template placeholders, ${…}, count as wildcards.
func (r *Reference) CanMatch(action *Action, pattern string) Match {
	if allowsAll(pattern) {
		return Can
	}
	read := newARNPattern(pattern)
	for _, resource := range action.Resources {
		if r.typeCanMatch(action.Service, resource.Type, read) {
			return Can
		}
	}
	for _, arn := range r.exceptions[strings.ToLower(action.String())] {
		if read.overlaps(newARNFormat(arn)) {
			return LiveOnly
		}
	}
	return Never
}

// Unmatched returns those of the resource types that each call of the action
// touches together (together.tsv) that none of the patterns can match: the call
// is refused as long as there is one. It is empty for an action that is not
// known to touch several: the types that the reference calls required are each
// needed for some actions, and alternatives for others.
func (r *Reference) Unmatched(action *Action, patterns []string) []string {
	var read []arnPattern
	for _, pattern := range patterns {
		if allowsAll(pattern) {
			return nil
		}
		read = append(read, newARNPattern(pattern))
	}
	var unmatched []string
	for _, name := range r.together[strings.ToLower(action.String())] {
		if !slices.ContainsFunc(read, func(p arnPattern) bool { return r.typeCanMatch(action.Service, name, p) }) {
			unmatched = append(unmatched, name)
		}
	}
	return unmatched
}

// MatchingTypes returns the names of the action's resource types that the
// pattern can match.
func (r *Reference) MatchingTypes(action *Action, pattern string) []string {
	read := newARNPattern(pattern)
	var names []string
	for _, resource := range action.Resources {
		if allowsAll(pattern) || r.typeCanMatch(action.Service, resource.Type, read) {
			names = append(names, resource.Type)
		}
	}
	return names
}

// allowsAll is whether the pattern is "*", however often the sign is written.
func allowsAll(pattern string) bool { return pattern != "" && strings.Trim(pattern, "*") == "" }

func (r *Reference) typeCanMatch(service, name string, pattern arnPattern) bool {
	t, ok := r.ResourceType(service, name)
	return ok && pattern.overlaps(t.format)
}

// arnFormat is the ARN of a resource type, cut at its first five colons; its
// variables hold no colon.
type arnFormat struct {
	whole  []token
	fields [6][]token
}

func newARNFormat(arn string) arnFormat {
	f := arnFormat{whole: tokens(arn)}
	for i, field := range strings.SplitN(arn, ":", 6) {
		f.fields[i] = tokens(field)
	}
	return f
}

// arnPattern is an entry of a Resource element, cut in the same way. One that
// has fewer than six fields is compared as a whole.
type arnPattern struct {
	whole  []token
	fields [6][]token
	isARN  bool
}

func newARNPattern(pattern string) arnPattern {
	pattern = starVariables(pattern)
	p := arnPattern{whole: wildcards(pattern)}
	fields := strings.SplitN(pattern, ":", 6)
	p.isARN = len(fields) == 6
	for i, field := range fields {
		p.fields[i] = wildcards(field)
	}
	return p
}

// overlaps is whether some ARN of the format is matched by the pattern. The six
// fields are compared one by one, as IAM does. The second to the fifth rarely
// tell types of a service apart, so the resource comes first.
func (p arnPattern) overlaps(f arnFormat) bool {
	if !p.isARN {
		return overlap(f.whole, p.whole)
	}
	for i := len(p.fields) - 1; i >= 0; i-- {
		if !overlap(f.fields[i], p.fields[i]) {
			return false
		}
	}
	return true
}

// starVariables replaces each ${…} by *. A default, ${key, 'value'}, goes with it.
func starVariables(pattern string) string {
	for {
		start := strings.Index(pattern, "${")
		if start < 0 {
			return pattern
		}
		end := strings.IndexByte(pattern[start:], '}')
		if end < 0 {
			return pattern
		}
		pattern = pattern[:start] + "*" + pattern[start+end+1:]
	}
}

// token is one unit of a pattern: a character, any one character, or any run.
type token struct {
	char byte
	kind kind
}

type kind uint8

const (
	char     kind = iota
	any1          // exactly one character
	any0          // none or more
	anyName       // none or more, but no slash: what an S3 bucket's name can be
	anyName1      // exactly one, but no slash
)

// tokens reads a format of the reference: ${…} is one character or more.
func tokens(format string) []token {
	var all []token
	for i := 0; i < len(format); i++ {
		if strings.HasPrefix(format[i:], "${") {
			if end := strings.IndexByte(format[i:], '}'); end > 0 {
				one, more := any1, any0
				if format[i:i+end+1] == "${BucketName}" {
					one, more = anyName1, anyName
				}
				all = append(all, token{kind: one}, token{kind: more})
				i += end
				continue
			}
		}
		if format[i] == '*' { // as in arn:…:certificate/*
			all = append(all, token{kind: any0})
			continue
		}
		all = append(all, token{char: format[i]})
	}
	return all
}

// wildcards reads a pattern of a policy: * and ?.
func wildcards(pattern string) []token {
	all := make([]token, 0, len(pattern))
	for i := range len(pattern) {
		switch pattern[i] {
		case '*':
			all = append(all, token{kind: any0})
		case '?':
			all = append(all, token{kind: any1})
		default:
			all = append(all, token{char: pattern[i]})
		}
	}
	return all
}

func literal(text string) []token {
	all := make([]token, len(text))
	for i := range len(text) {
		all[i] = token{char: text[i]}
	}
	return all
}

func (t token) repeats() bool { return t.kind == any0 || t.kind == anyName }

// shares is whether some one character is in both tokens.
func (t token) shares(u token) bool {
	if t.kind == char && u.kind == char {
		return t.char == u.char
	}
	if t.kind == char {
		t, u = u, t
	}
	noSlash := t.kind == anyName || t.kind == anyName1
	return u.kind != char || !noSlash || u.char != '/'
}

// overlap is whether some text is matched by both patterns. reach[j] says that
// what is left of a from i, and of b from j, have such a text; it is filled from
// the ends, so the work is len(a) × len(b) whatever the patterns are.
func overlap(a, b []token) bool {
	for len(a) > 0 && len(b) > 0 && a[0].kind == char && b[0].kind == char { // the plain beginning
		if a[0].char != b[0].char {
			return false
		}
		a, b = a[1:], b[1:]
	}
	next := make([]bool, len(b)+1) // for i+1
	reach := make([]bool, len(b)+1)
	for i := len(a); i >= 0; i-- {
		for j := len(b); j >= 0; j-- {
			switch {
			case i == len(a) && j == len(b):
				reach[j] = true
			case i == len(a):
				reach[j] = b[j].repeats() && reach[j+1]
			case j == len(b):
				reach[j] = a[i].repeats() && next[j]
			default:
				both := a[i].shares(b[j])
				reach[j] = a[i].repeats() && next[j] ||
					b[j].repeats() && reach[j+1] ||
					both && a[i].repeats() && !b[j].repeats() && reach[j+1] ||
					both && !a[i].repeats() && b[j].repeats() && next[j] ||
					both && !a[i].repeats() && !b[j].repeats() && next[j+1]
			}
		}
		next, reach = reach, next
	}
	return next[0]
}

// matches is whether the pattern, with * and ?, matches the text.
func matches(pattern, text string) bool { return overlap(wildcards(pattern), literal(text)) }

func sortByName[T any](all []T, name func(T) string) {
	slices.SortFunc(all, func(x, y T) int { return cmp.Compare(name(x), name(y)) })
}
