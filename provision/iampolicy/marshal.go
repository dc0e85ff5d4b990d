package iampolicy

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// Text is the document as IAM should be given it: no white space, elements in
// the order of IAM's reference, a list of one as a scalar, and no escape that
// JSON does not need.
func (d *Document) Text() []byte {
	var w textWriter
	w.document(d)
	return w.out
}

// Indented is Text laid out for reading, ending in a newline.
func (d *Document) Indented() []byte {
	var out bytes.Buffer
	if err := json.Indent(&out, d.Text(), "", "  "); err != nil {
		panic("iampolicy: Text is no JSON: " + err.Error()) // it is by construction
	}
	out.WriteByte('\n')
	return out.Bytes()
}

// MarshalJSON returns Text. json.Marshal then escapes <, > and & in it, which
// IAM reads as the same document; use Text, or an Encoder with
// SetEscapeHTML(false), for what people read.
func (d *Document) MarshalJSON() ([]byte, error) { return d.Text(), nil }

// UnmarshalJSON is Parse; it keeps d's Name.
func (d *Document) UnmarshalJSON(src []byte) error {
	parsed, err := Parse(d.Name, src)
	if err != nil {
		return err
	}
	*d = *parsed
	return nil
}

// textWriter writes JSON. Elements follow each other, so it knows by the last
// byte whether a comma is due.
type textWriter struct{ out []byte }

func (w *textWriter) raw(s string) { w.out = append(w.out, s...) }

func (w *textWriter) key(name string) {
	w.comma()
	w.str(name)
	w.raw(":")
}

func (w *textWriter) comma() {
	switch w.out[len(w.out)-1] {
	case '{', '[':
	default:
		w.raw(",")
	}
}

func (w *textWriter) document(d *Document) {
	w.raw("{")
	w.field("Version", d.Version)
	w.field("Id", d.ID)
	w.key("Statement")
	w.raw("[")
	for i := range d.Statements {
		if i > 0 {
			w.raw(",")
		}
		w.statement(&d.Statements[i])
	}
	w.raw("]}")
}

func (w *textWriter) statement(st *Statement) {
	w.raw("{")
	w.field("Sid", st.Sid)
	w.field("Effect", string(st.Effect))
	w.principals("Principal", st.Principal)
	w.principals("NotPrincipal", st.NotPrincipal)
	w.list("Action", st.Action)
	w.list("NotAction", st.NotAction)
	w.list("Resource", st.Resource)
	w.list("NotResource", st.NotResource)
	w.conditions(st.Condition)
	w.raw("}")
}

func (w *textWriter) principals(name string, p *Principals) {
	if p == nil {
		return
	}
	w.key(name)
	if p.Any {
		w.raw(`"*"`)
		return
	}
	w.raw("{")
	w.list("AWS", p.AWS)
	w.list("Service", p.Service)
	w.list("Federated", p.Federated)
	w.list("CanonicalUser", p.CanonicalUser)
	w.raw("}")
}

// conditions writes each operator once, with all its keys, in the order in
// which they first appear. A key that an operator has twice cannot be written
// as one object; the values are then joined only by whoever merged them.
func (w *textWriter) conditions(list []Condition) {
	if len(list) == 0 {
		return
	}
	w.key("Condition")
	w.raw("{")
	for i, c := range list {
		if operatorBefore(list[:i], c.Operator) {
			continue
		}
		w.key(c.Operator)
		w.raw("{")
		for _, other := range list[i:] {
			if other.Operator == c.Operator {
				w.key(other.Key)
				w.strings(other.Values)
			}
		}
		w.raw("}")
	}
	w.raw("}")
}

func operatorBefore(list []Condition, operator string) bool {
	for _, c := range list {
		if c.Operator == operator {
			return true
		}
	}
	return false
}

func (w *textWriter) field(name, value string) {
	if value != "" {
		w.key(name)
		w.str(value)
	}
}

func (w *textWriter) list(name string, values []string) {
	if values != nil {
		w.key(name)
		w.strings(values)
	}
}

func (w *textWriter) strings(values []string) {
	if len(values) == 1 {
		w.str(values[0])
		return
	}
	w.raw("[")
	for i, v := range values {
		if i > 0 {
			w.raw(",")
		}
		w.str(v)
	}
	w.raw("]")
}

// str writes a string with the escapes that JSON requires and no others;
// encoding/json has more of them.
func (w *textWriter) str(s string) {
	w.raw(`"`)
	if isPlain(s) {
		w.raw(s)
	} else {
		for _, r := range s { // an invalid byte becomes U+FFFD
			w.raw(escape(r))
		}
	}
	w.raw(`"`)
}

// isPlain reports whether s stands in JSON as it is, as nearly everything does.
func isPlain(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < 0x20 || c >= utf8.RuneSelf || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}

// escape is r as it stands in the shortest JSON string.
func escape(r rune) string {
	switch r {
	case '"':
		return `\"`
	case '\\':
		return `\\`
	case '\b':
		return `\b`
	case '\f':
		return `\f`
	case '\n':
		return `\n`
	case '\r':
		return `\r`
	case '\t':
		return `\t`
	}
	if r < 0x20 {
		const hex = "0123456789abcdef"
		return `\u00` + string(hex[r>>4]) + string(hex[r&15])
	}
	return string(utf8.AppendRune(nil, r))
}
