package access

import (
	"bytes"
	"encoding/json"
	"slices"
	"unicode/utf8"
)

// statement is one statement as it is written: no white space, a list of one as
// a scalar, keys in the order in which people read them.
type statement struct {
	Sid         string
	Effect      string
	Principal   map[string]any
	Action      []string
	NotAction   []string
	Resource    []string
	NotResource []string
	Condition   conditions
}

// conditions is operator, key, values.
type conditions map[string]map[string][]string

// document writes statements as one policy, in the shortest form that means it.
func document(statements []statement) []byte {
	var b bytes.Buffer
	b.WriteString(`{"Version":"2012-10-17","Statement":[`)
	for i, s := range statements {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('{')
		if s.Sid != "" {
			b.WriteString(`"Sid":` + quote(s.Sid) + `,`)
		}
		b.WriteString(`"Effect":` + quote(s.Effect))
		if s.Principal != nil {
			b.WriteString(`,"Principal":` + string(marshal(s.Principal)))
		}
		writeList(&b, "Action", s.Action)
		writeList(&b, "NotAction", s.NotAction)
		writeList(&b, "Resource", s.Resource)
		writeList(&b, "NotResource", s.NotResource)
		if len(s.Condition) > 0 {
			b.WriteString(`,"Condition":{`)
			for i, operator := range sortedKeys(s.Condition) {
				if i > 0 {
					b.WriteByte(',')
				}
				b.WriteString(quote(operator) + `:{`)
				for j, key := range sortedKeys(s.Condition[operator]) {
					if j > 0 {
						b.WriteByte(',')
					}
					b.WriteString(quote(key) + ":" + list(s.Condition[operator][key]))
				}
				b.WriteByte('}')
			}
			b.WriteByte('}')
		}
		b.WriteByte('}')
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

func writeList(b *bytes.Buffer, key string, values []string) {
	if len(values) > 0 {
		b.WriteString(`,"` + key + `":` + list(values))
	}
}

// list writes one value as a scalar: two characters less.
func list(values []string) string {
	if len(values) == 1 {
		return quote(values[0])
	}
	return string(marshal(values))
}

func quote(s string) string { return string(marshal(s)) }

// marshal is json.Marshal without the escapes of HTML, which IAM would count.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // strings, lists and maps of them always encode
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}

// size counts as IAM does: characters of a document without white space.
func size(text []byte) int { return utf8.RuneCount(text) }
