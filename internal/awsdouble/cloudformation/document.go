package cloudformation

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxNesting bounds how deep a template goes, so that what walks it may recurse.
const maxNesting = 100

// readDocument reads JSON or YAML into maps, lists, texts, booleans and
// json.Number. The short forms of functions come out as the long ones.
func readDocument(body string) (map[string]any, error) {
	read := readYAML
	if strings.HasPrefix(strings.TrimSpace(body), "{") {
		read = readJSON
	}
	value, err := read(body)
	if err != nil {
		return nil, err
	}
	document, ok := value.(map[string]any)
	if !ok {
		return nil, invalid("Template format error: unsupported structure.")
	}
	return document, checkDocument(document, "", 0)
}

// checkDocument refuses what no part of a template may have.
func checkDocument(value any, path string, depth int) error {
	if depth > maxNesting {
		return invalid("Template format error: the template is nested deeper than %d levels.", maxNesting)
	}
	switch v := value.(type) {
	case nil:
		return invalid("Template format error: [%s] 'null' values are not allowed in templates", path)
	case map[string]any:
		for _, key := range sortedKeys(v) {
			if err := checkDocument(v[key], path+"/"+key, depth+1); err != nil {
				return err
			}
		}
	case []any:
		for _, one := range v {
			if err := checkDocument(one, path, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func readJSON(body string) (any, error) {
	d := json.NewDecoder(strings.NewReader(body))
	d.UseNumber()
	var value any
	err := d.Decode(&value)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return value, nil
		}
	}
	before := body // where it ends too early
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		before = body[:min(int(syntax.Offset), len(body))]
	} else if err == nil {
		before = body[:d.InputOffset()]
	}
	return nil, invalid("Template format error: JSON not well-formed. (line %d, column %d)", 1+strings.Count(before, "\n"), max(1, len(before)-1-strings.LastIndexByte(before, '\n')))
}

var (
	yamlLine   = regexp.MustCompile(`line (\d+)`)
	jsonNumber = regexp.MustCompile(`^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$`)
)

func readYAML(body string) (any, error) {
	d := yaml.NewDecoder(strings.NewReader(body))
	var document yaml.Node
	err := d.Decode(&document)
	if err == nil {
		if err = d.Decode(&yaml.Node{}); err == nil {
			return nil, invalid("Template format error: YAML not well-formed. (more than one document)")
		}
	}
	switch {
	case errors.Is(err, io.EOF) && len(document.Content) == 1:
		return fromYAML(document.Content[0], 0)
	case errors.Is(err, io.EOF):
		return nil, invalid("Template format error: unsupported structure.")
	}
	where := ""
	if line := yamlLine.FindStringSubmatch(err.Error()); line != nil {
		where = " (line " + line[1] + ")"
	}
	return nil, invalid("Template format error: YAML not well-formed.%s", where)
}

func fromYAML(n *yaml.Node, depth int) (any, error) {
	if depth > maxNesting {
		return nil, invalid("Template format error: the template is nested deeper than %d levels.", maxNesting)
	}
	var value any
	switch n.Kind {
	case yaml.AliasNode:
		return nil, invalid("Template error: YAML aliases are not allowed in CloudFormation templates")
	case yaml.MappingNode:
		object := make(map[string]any, len(n.Content)/2)
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if key.Kind == yaml.AliasNode {
				return nil, invalid("Template error: YAML aliases are not allowed in CloudFormation templates")
			}
			if _, twice := object[key.Value]; key.Kind != yaml.ScalarNode || twice {
				return nil, invalid("Template format error: YAML not well-formed. (line %d, column %d)", key.Line, key.Column)
			}
			one, err := fromYAML(n.Content[i+1], depth+1)
			if err != nil {
				return nil, err
			}
			object[key.Value] = one
		}
		value = object
	case yaml.SequenceNode:
		list := make([]any, 0, len(n.Content))
		for _, child := range n.Content {
			one, err := fromYAML(child, depth+1)
			if err != nil {
				return nil, err
			}
			list = append(list, one)
		}
		value = list
	default:
		value = fromScalar(n)
	}
	name, short := strings.CutPrefix(n.Tag, "!")
	if !short || name == "" || strings.HasPrefix(name, "!") {
		return value, nil
	}
	return longForm(name, value), nil
}

// fromScalar keeps what is written: a date or a number with a leading zero is a
// text, as it is to CloudFormation.
func fromScalar(n *yaml.Node) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return strings.EqualFold(n.Value, "true")
	case "!!int", "!!float":
		if jsonNumber.MatchString(n.Value) {
			return json.Number(n.Value)
		}
	}
	return n.Value
}

// longForm is the function that a tag such as !GetAtt stands for.
func longForm(name string, value any) any {
	switch name {
	case "Ref", "Condition":
		return map[string]any{name: value}
	case "GetAtt":
		if text, ok := value.(string); ok {
			resource, attribute, _ := strings.Cut(text, ".")
			value = []any{resource, attribute}
		}
	}
	return map[string]any{"Fn::" + name: value}
}

// asJSON is a value as one line of JSON with its keys in order.
func asJSON(value any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		panic("a template's value that is not JSON: " + err.Error()) // readDocument makes none
	}
	return strings.TrimSuffix(b.String(), "\n")
}
