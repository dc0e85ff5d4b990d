package template

import (
	"bytes"
	"encoding/json"
)

// width is how long a line becomes before it is broken, where it can be.
const width = 160

// writeJSON writes a template for people, and yet in few bytes: what fits into a line
// is one, and a list of words fills lines.
func writeJSON(tree any) []byte {
	w := writer{}
	w.value(tree, 0, 0)
	w.WriteByte('\n')
	return w.Bytes()
}

type writer struct{ bytes.Buffer }

func (w *writer) newline(depth int) {
	w.WriteByte('\n')
	for range depth {
		w.WriteByte(' ')
	}
}

// value writes at the end of a line that has used characters.
func (w *writer) value(value any, depth, used int) {
	short := compact(value)
	if used+len(short) <= width {
		w.Write(short)
		return
	}
	switch v := value.(type) {
	case object:
		w.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				w.WriteByte(',')
			}
			w.newline(depth + 1)
			key := append(compact(m.Key), ':', ' ')
			w.Write(key)
			w.value(m.Value, depth+1, depth+1+len(key))
		}
		w.newline(depth)
		w.WriteByte('}')
	case list:
		w.WriteByte('[')
		at := width
		for i, item := range v {
			if i > 0 {
				w.WriteByte(',')
			}
			if short := compact(item); !word(item) || at+len(" ,")+len(short) > width {
				w.newline(depth + 1)
				at = depth + 1
			} else {
				w.WriteByte(' ')
				at++
			}
			before := w.Len()
			w.value(item, depth+1, at)
			at += w.Len() - before + len(",")
		}
		w.newline(depth)
		w.WriteByte(']')
	default:
		w.Write(short)
	}
}

// word reports whether a value is one in a list of words: a text, or a function that
// makes one.
func word(value any) bool {
	o, ok := value.(object)
	return !ok && value != nil || len(o) == 1
}

// compact writes on one line.
func compact(value any) []byte {
	var b bytes.Buffer
	switch v := value.(type) {
	case object:
		b.WriteByte('{')
		for i, m := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			b.Write(compact(m.Key))
			b.WriteString(": ")
			b.Write(compact(m.Value))
		}
		b.WriteByte('}')
	case list:
		b.WriteByte('[')
		for i, item := range v {
			if i > 0 {
				b.WriteString(", ")
			}
			b.Write(compact(item))
		}
		b.WriteByte(']')
	default:
		encoder := json.NewEncoder(&b)
		encoder.SetEscapeHTML(false)
		if err := encoder.Encode(value); err != nil {
			panic(err) // texts, numbers and booleans always encode
		}
		b.Truncate(b.Len() - len("\n"))
	}
	return b.Bytes()
}
