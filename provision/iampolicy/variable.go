package iampolicy

import (
	"strings"
)

// template is a Resource or Condition value made ready for matching: literal
// text, wildcards and policy variables in order. A variable's value is matched
// in place and literally; a * in a tag is a star.
type template struct {
	source  string
	pieces  []piece
	any     bool // the whole is *
	literal bool // the whole is source, nothing to expand
	hasVars bool
}

type piece struct {
	kind     glyphKind
	text     string // of a literal
	key      string // of a variable, lower-cased
	fallback string
	hasFall  bool
}

// cutVariable splits "${name}rest". An unclosed ${ is plain text.
func cutVariable(s string) (name, rest string, ok bool) {
	if !strings.HasPrefix(s, "${") {
		return "", s, false
	}
	end := strings.IndexByte(s, '}')
	if end < 0 {
		return "", s, false
	}
	return s[2:end], s[end+1:], true
}

// escapedChar is for ${*}, ${?} and ${$}, which stand for the character itself.
func escapedChar(name string) (string, bool) {
	switch name = strings.TrimSpace(name); name {
	case "*", "?", "$":
		return name, true
	}
	return "", false
}

// newTemplate reads s. Without variables "${" is plain text, as before Version
// 2012-10-17; without wildcards * and ? are, as for StringEquals.
func newTemplate(s string, variables, wildcards bool) template {
	t := template{source: s}
	text := func(c string) {
		if n := len(t.pieces); n > 0 && t.pieces[n-1].kind == literal {
			t.pieces[n-1].text += c
			return
		}
		t.pieces = append(t.pieces, piece{kind: literal, text: c})
	}
	for rest := s; rest != ""; {
		if name, after, ok := cutVariable(rest); ok && variables {
			rest = after
			if c, is := escapedChar(name); is {
				text(c)
				continue
			}
			t.pieces = append(t.pieces, newVariable(name))
			t.hasVars = true
			continue
		}
		switch c := rest[0]; {
		case wildcards && c == '*':
			if n := len(t.pieces); n == 0 || t.pieces[n-1].kind != anyRun {
				t.pieces = append(t.pieces, piece{kind: anyRun})
			}
		case wildcards && c == '?':
			t.pieces = append(t.pieces, piece{kind: anyOne})
		default:
			text(rest[:1])
		}
		rest = rest[1:]
	}
	switch {
	case len(t.pieces) == 0:
		t.literal = true
	case len(t.pieces) == 1 && t.pieces[0].kind == literal:
		t.literal, t.source = true, t.pieces[0].text
	case len(t.pieces) == 1 && t.pieces[0].kind == anyRun:
		t.any = true
	}
	return t
}

// newVariable reads "key" or "key, 'fallback'".
func newVariable(name string) piece {
	key, rest, found := strings.Cut(name, ",")
	p := piece{kind: variable, key: strings.ToLower(strings.TrimSpace(key))}
	rest = strings.TrimSpace(rest)
	if found && len(rest) >= 2 && rest[0] == '\'' && rest[len(rest)-1] == '\'' {
		p.fallback, p.hasFall = rest[1:len(rest)-1], true
	}
	return p
}

// value is what the variable stands for in this request. A key that is absent
// has its fallback or no value. A key of several values has none either: IAM
// does not say which of them would count.
func (p *piece) value(context Context) (string, bool) {
	if values := context[p.key]; len(values) == 1 {
		return values[0], true
	} else if len(values) > 1 {
		return "", false
	}
	return p.fallback, p.hasFall
}

// resolves reports whether every variable has a value.
func (t *template) resolves(context Context) bool {
	if !t.hasVars {
		return true
	}
	for i := range t.pieces {
		if p := &t.pieces[i]; p.kind == variable {
			if _, ok := p.value(context); !ok {
				return false
			}
		}
	}
	return true
}

// expand writes the template out, for explanations and for the operators that
// must parse a value before they can compare it.
func (t *template) expand(context Context) (string, bool) {
	if !t.hasVars {
		return t.source, true
	}
	var b strings.Builder
	for i := range t.pieces {
		switch p := &t.pieces[i]; p.kind {
		case variable:
			v, ok := p.value(context)
			if !ok {
				return t.source, false
			}
			b.WriteString(v)
		case anyRun:
			b.WriteByte('*')
		case anyOne:
			b.WriteByte('?')
		default:
			b.WriteString(p.text)
		}
	}
	return b.String(), true
}

// match reports whether text fits. A variable without a value fits nothing.
func (t *template) match(text string, context Context) bool {
	switch {
	case t.any:
		return true
	case t.literal:
		return t.source == text
	}
	i, at, star, mark := 0, 0, -1, 0
	for {
		if i < len(t.pieces) && t.pieces[i].kind == anyRun {
			if i++; i == len(t.pieces) {
				return true
			}
			star, mark = i, at
			continue
		}
		if i == len(t.pieces) && at == len(text) {
			return true
		}
		if i < len(t.pieces) {
			switch p := &t.pieces[i]; p.kind {
			case anyOne:
				if at < len(text) {
					at += runeLen(text[at:])
					i++
					continue
				}
			default:
				want := p.text
				if p.kind == variable {
					v, ok := p.value(context)
					if !ok {
						return false
					}
					want = v
				}
				if strings.HasPrefix(text[at:], want) {
					at += len(want)
					i++
					continue
				}
			}
		}
		if star < 0 || mark == len(text) {
			return false
		}
		mark += runeLen(text[mark:])
		i, at = star, mark
	}
}

// arnTemplate is a template for each field of an ARN. Most patterns of real
// policies are plain text, perhaps with one * at the end; those are compared as
// a whole and the ARN need not be split.
type arnTemplate struct {
	source  string
	prefix  string // what every match begins with
	any     bool   // the whole is *
	literal bool   // the whole is prefix
	tail    bool   // the whole is prefix and one *, in the last field
	fields  [arnFields]template
	count   int
	open    bool // fewer than six fields, ending in *
	hasVars bool
}

func newARNTemplate(s string, variables bool) arnTemplate {
	t := arnTemplate{source: s, any: isAny(s)}
	fields, count := splitFields(s, arnFields, variables)
	t.count = count
	t.open = count < arnFields && strings.HasSuffix(s, "*")
	for i := range count {
		t.fields[i] = newTemplate(fields[i], variables, true)
		t.hasVars = t.hasVars || t.fields[i].hasVars
	}
	special := "*?"
	if variables {
		special = "*?$"
	}
	if end := strings.IndexAny(s, special); end >= 0 {
		t.prefix = s[:end]
		t.tail = count == arnFields && s[end:] == "*"
	} else {
		t.prefix, t.literal = s, true
	}
	return t
}

// splitARN is an ARN cut once for all the templates it is compared with, when
// the first of them needs it.
type splitARN struct {
	text   string
	cut    bool
	fields [arnFields]string
	count  int
}

func (a *splitARN) isARN() bool {
	if !a.cut {
		a.fields, a.count = splitFields(a.text, arnFields, false)
		a.cut = true
	}
	return a.count == arnFields
}

func (t *arnTemplate) match(arn *splitARN, context Context) bool {
	switch {
	case t.any:
		return true
	case t.literal:
		return t.source == arn.text
	case !strings.HasPrefix(arn.text, t.prefix):
		return false
	case t.tail:
		return true
	case !arn.isARN():
		return !t.hasVars && t.source == arn.text
	case t.count < arnFields && !t.open:
		return !t.hasVars && t.source == arn.text
	}
	for i := range t.count {
		if !t.fields[i].match(arn.fields[i], context) {
			return false
		}
	}
	return true
}

func (t *arnTemplate) resolves(context Context) bool {
	if !t.hasVars {
		return true
	}
	for i := range t.count {
		if !t.fields[i].resolves(context) {
			return false
		}
	}
	return true
}

func (t *arnTemplate) expand(context Context) (string, bool) {
	if !t.hasVars {
		return t.source, true
	}
	fields := make([]string, t.count)
	for i := range t.count {
		v, ok := t.fields[i].expand(context)
		if !ok {
			return t.source, false
		}
		fields[i] = v
	}
	return strings.Join(fields, ":"), true
}
