package iampolicy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"
)

// Bounds on what is read. IAM's largest document is a few tens of kilobytes,
// and a policy's elements are nested six deep; more than this is an attack or
// the wrong file.
const (
	maxBytes = 256 << 10
	maxDepth = 32
)

// SyntaxError says that a text is no policy document at all: no JSON, or a
// JSON value that is not an object. A document with a wrong form is a FormError.
type SyntaxError struct {
	Name     string // of the document, as given to Parse; may be empty
	Position Position
	Message  string // one sentence with the next thing to try
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("%s: %s", place(e.Name, e.Position), e.Message)
}

// place writes where something is, as compilers do: "policy.json:3:7".
func place(name string, p Position) string {
	if name == "" {
		name = "policy document"
	}
	if p == (Position{}) {
		return name
	}
	return fmt.Sprintf("%s:%d:%d", name, p.Line, p.Column)
}

// kind is the JSON type of a node, as a reader of the document would call it.
type kind string

const (
	objectKind kind = "an object"
	arrayKind  kind = "a list"
	stringKind kind = "a string"
	numberKind kind = "a number"
	boolKind   kind = "a boolean"
	nullKind   kind = "null"
)

// node is one JSON value with its place. encoding/json keeps neither the place
// nor duplicate keys, and both are what people need to be told.
type node struct {
	kind    kind
	offset  int
	text    string // a string's value; a number's or boolean's literal
	members []member
	items   []node
}

type member struct {
	name   string
	offset int // of the name
	value  node
}

var byteOrderMark = []byte("\uFEFF")

// readJSON reads one JSON value and nothing after it. Offsets count from the
// start of src, byte order mark included.
func readJSON(name string, src []byte) (node, error) {
	fail := func(offset int, format string, args ...any) (node, error) {
		return node{}, &SyntaxError{Name: name, Position: positionOf(src, offset), Message: fmt.Sprintf(format, args...)}
	}
	if len(src) > maxBytes {
		return fail(0, "the document has %d bytes and the largest that is read has %d; check that this is the right file", len(src), maxBytes)
	}
	if at := invalidUTF8(src); at >= 0 {
		return fail(at, "byte 0x%02x is not UTF-8, which JSON is written in; save the file as UTF-8", src[at])
	}
	start := 0
	if bytes.HasPrefix(src, byteOrderMark) {
		start = len(byteOrderMark)
	}
	// encoding/json says what is wrong; the reader below can then trust the text.
	var raw json.RawMessage
	if err := json.Unmarshal(src[start:], &raw); err != nil {
		offset := len(src)
		var syntax *json.SyntaxError
		if errors.As(err, &syntax) {
			offset = start + max(0, int(syntax.Offset)-1)
			if syntax.Offset == int64(len(src)-start) && syntax.Error() == "unexpected end of JSON input" {
				offset = len(src)
			}
		}
		return fail(offset, "this is no JSON document: %s; correct it here", err)
	}
	r := jsonReader{src: src, at: start}
	v, ok := r.value(0)
	if !ok {
		return fail(r.at, "values are nested more than %d deep, and a policy needs six; check that this is the right file", maxDepth)
	}
	return v, nil
}

func invalidUTF8(src []byte) int {
	if utf8.Valid(src) {
		return -1
	}
	for i := 0; i < len(src); {
		r, size := utf8.DecodeRune(src[i:])
		if r == utf8.RuneError && size == 1 {
			return i
		}
		i += size
	}
	return -1
}

// jsonReader reads text that is known to be valid JSON.
type jsonReader struct {
	src []byte
	at  int
}

func (r *jsonReader) space() {
	for r.at < len(r.src) && isSpace(r.src[r.at]) {
		r.at++
	}
}

func isSpace(b byte) bool { return b == ' ' || b == '\t' || b == '\n' || b == '\r' }

// value reads the next value; false means nested too deep.
func (r *jsonReader) value(depth int) (node, bool) {
	r.space()
	n := node{offset: r.at}
	if depth > maxDepth {
		return n, false
	}
	switch c := r.src[r.at]; c {
	case '{':
		n.kind = objectKind
		for r.at++; !r.closed('}'); {
			m := member{offset: r.at, name: r.str()}
			r.space()
			r.at++ // the colon
			var ok bool
			if m.value, ok = r.value(depth + 1); !ok {
				return n, false
			}
			n.members = append(n.members, m)
		}
	case '[':
		n.kind = arrayKind
		for r.at++; !r.closed(']'); {
			item, ok := r.value(depth + 1)
			if !ok {
				return n, false
			}
			n.items = append(n.items, item)
		}
	case '"':
		n.kind, n.text = stringKind, r.str()
	default:
		end := r.at
		for end < len(r.src) && !isSpace(r.src[end]) && !bytes.ContainsRune([]byte(",]}"), rune(r.src[end])) {
			end++
		}
		n.text = string(r.src[r.at:end])
		r.at = end
		switch c {
		case 't', 'f':
			n.kind = boolKind
		case 'n':
			n.kind = nullKind
		default:
			n.kind = numberKind
		}
	}
	return n, true
}

// closed steps over a comma, or over the closing bracket and reports true.
func (r *jsonReader) closed(bracket byte) bool {
	r.space()
	if r.src[r.at] == ',' {
		r.at++
		r.space()
	}
	if r.src[r.at] == bracket {
		r.at++
		return true
	}
	return false
}

func (r *jsonReader) str() string {
	start := r.at
	plain := true
	for r.at++; r.src[r.at] != '"'; r.at++ {
		if r.src[r.at] == '\\' {
			plain = false
			r.at++
		}
	}
	r.at++
	if plain {
		return string(r.src[start+1 : r.at-1])
	}
	var s string
	if err := json.Unmarshal(r.src[start:r.at], &s); err != nil {
		panic("iampolicy: valid JSON holds an invalid string: " + err.Error()) // readJSON checked it
	}
	return s
}

// lineStarts are the offsets at which the lines of a text begin. With them a
// position takes no walk over the text, which may have thousands of problems.
type lineStarts []int

func newLineStarts(src []byte) lineStarts {
	starts := lineStarts{0}
	for i, c := range src {
		if c == '\n' {
			starts = append(starts, i+1)
		}
	}
	return starts
}

// position turns an offset into a line and a column.
func (l lineStarts) position(offset int) Position {
	line, found := slices.BinarySearch(l, offset)
	if !found {
		line-- // the line that begins before
	}
	return Position{Line: line + 1, Column: offset - l[line] + 1}
}

// positionOf is for a single one.
func positionOf(src []byte, offset int) Position {
	return newLineStarts(src).position(min(offset, len(src)))
}
