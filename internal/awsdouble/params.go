package awsdouble

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/smithy-go/encoding/cbor"
)

// A node is what a call was given, or what it answered, in one form for every
// protocol: a tree of names. A list's members are named 1, 2, 3 as in the Query
// protocol; XML's repeated elements are children of the same name.
type node struct {
	name     string
	value    string // of a leaf
	children []*node
}

// Bounds on what a stranger may send. AWS's own calls stay far below.
const (
	maxDepth  = 64
	maxValues = 10_000
)

var errTooDeep = errors.New("the request is nested too deeply or has too many values")

// child returns the first child of that name, making it if need be.
func (n *node) child(name string) *node {
	if c := n.get(name); c != nil {
		return c
	}
	c := &node{name: name}
	n.children = append(n.children, c)
	return c
}

func (n *node) get(name string) *node {
	if n == nil {
		return nil
	}
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

// at returns every node at a path such as "Tags.*.Key"; * stands for any name.
func (n *node) at(path string) []*node {
	if n == nil {
		return nil
	}
	found := []*node{n}
	for step := range strings.SplitSeq(path, ".") {
		var next []*node
		for _, f := range found {
			for _, c := range f.children {
				if step == "*" || c.name == step {
					next = append(next, c)
				}
			}
		}
		found = next
	}
	return found
}

// all returns the values at a path, without the empty ones.
func (n *node) all(path string) []string {
	var values []string
	for _, f := range n.at(path) {
		if f.value != "" {
			values = append(values, f.value)
		}
	}
	return values
}

// one returns the first value at a path, or "".
func (n *node) one(path string) string {
	if values := n.all(path); len(values) > 0 {
		return values[0]
	}
	return ""
}

// has says whether anything was given at a path: an empty list was not.
func (n *node) has(path string) bool {
	for _, f := range n.at(path) {
		if f.value != "" || len(f.children) > 0 {
			return true
		}
	}
	return false
}

// fromForm reads the Query protocols. Those of EC2 name a list's members
// Name.1; the others put a word between, Name.member.1, which is left out.
func fromForm(values url.Values, ec2 bool) (*node, error) {
	root, count := &node{}, 0
	found := map[*node]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		steps := strings.Split(key, ".")
		if count++; len(steps) > maxDepth || count > maxValues {
			return nil, errTooDeep
		}
		at := root
		for i, step := range steps {
			if !ec2 && i > 0 && i+1 < len(steps) && isNumber(steps[i+1]) && !isNumber(step) {
				continue
			}
			at = at.child(step)
		}
		if other, twice := found[at]; twice {
			return nil, fmt.Errorf("%w: %s and %s mean the same parameter", errNotACall, other, key)
		}
		at.value, found[at] = values.Get(key), key
	}
	return root, nil
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}

// fromJSON reads a JSON body; an empty one has no values.
func fromJSON(body []byte) (*node, error) {
	root := &node{}
	if len(bytes.TrimSpace(body)) == 0 {
		return root, nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("%w: the body is not JSON: %w", errNotACall, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: something follows the JSON of the body", errNotACall)
	}
	count := 0
	return root, root.fill(v, 0, &count)
}

func (n *node) fill(v any, depth int, count *int) error {
	if *count++; depth > maxDepth || *count > maxValues {
		return errTooDeep
	}
	add := func(name string, v any) error {
		c := &node{name: name}
		n.children = append(n.children, c)
		return c.fill(v, depth+1, count)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if err := add(name, v[name]); err != nil {
				return err
			}
		}
	case []any:
		for i, member := range v {
			if err := add(strconv.Itoa(i+1), member); err != nil {
				return err
			}
		}
	case string:
		n.value = v
	case json.Number:
		n.value = v.String()
	case bool:
		n.value = strconv.FormatBool(v)
	}
	return nil
}

// fromXML reads an XML body, leaving out the root element's own name.
func fromXML(body []byte) (*node, error) { return readXML(body, maxValues) }

// fromMoto is fromXML for an answer, which may be longer than a question.
func fromMoto(body []byte) (*node, error) { return readXML(body, 200*maxValues) }

func readXML(body []byte, most int) (*node, error) {
	root := &node{}
	if len(bytes.TrimSpace(body)) == 0 {
		return root, nil
	}
	d := xml.NewDecoder(bytes.NewReader(body))
	var open []*node
	for count := 0; ; count++ {
		token, err := d.Token()
		if err == io.EOF {
			return root, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%w: the body is not XML: %w", errNotACall, err)
		}
		if len(open) > maxDepth || count > most {
			return nil, errTooDeep
		}
		switch t := token.(type) {
		case xml.StartElement:
			if len(open) == 0 {
				open = append(open, root)
				continue
			}
			c := &node{name: t.Name.Local}
			parent := open[len(open)-1]
			parent.children = append(parent.children, c)
			open = append(open, c)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				at := open[len(open)-1]
				at.value = strings.TrimSpace(at.value + string(t))
			}
		}
	}
}

// fromCBOR reads the body of Smithy's RPC protocol.
func fromCBOR(body []byte) (*node, error) {
	root := &node{}
	if len(body) == 0 {
		return root, nil
	}
	v, err := cbor.Decode(body)
	if err != nil {
		return nil, fmt.Errorf("%w: the body is not CBOR: %w", errNotACall, err)
	}
	count := 0
	return root, root.fill(plain(v, 0), 0, &count)
}

// plain turns a CBOR value into what encoding/json would have made of it.
func plain(v cbor.Value, depth int) any {
	if depth > maxDepth {
		return nil
	}
	switch v := v.(type) {
	case cbor.Map:
		m := map[string]any{}
		for name, member := range v {
			m[name] = plain(member, depth+1)
		}
		return m
	case cbor.List:
		var l []any
		for _, member := range v {
			l = append(l, plain(member, depth+1))
		}
		return l
	case *cbor.Tag:
		return plain(v.Value, depth+1)
	case cbor.String:
		return string(v)
	case cbor.Bool:
		return bool(v)
	case cbor.Uint:
		return strconv.FormatUint(uint64(v), 10)
	case cbor.NegInt:
		return "-" + strconv.FormatUint(uint64(v), 10)
	case cbor.Float64:
		if f := float64(v); f == math.Trunc(f) {
			return strconv.FormatFloat(f, 'f', -1, 64)
		}
		return strconv.FormatFloat(float64(v), 'g', -1, 64)
	}
	return nil
}
