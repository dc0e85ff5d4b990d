package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"unicode"

	"github.com/goccy/go-yaml"
)

// print writes a command's result to stdout as --output says. value is what
// JSON and YAML show, with the same keys in the same order; table writes it for
// people, into columns when it separates cells by tabs.
func (a *app) print(value any, table func(w io.Writer)) error {
	if a.output.value == "table" {
		w := tabwriter.NewWriter(a.Out, 0, 8, 2, ' ', tabwriter.DiscardEmptyColumns)
		table(w)
		return w.Flush()
	}
	text, err := marshalJSON(value)
	if err != nil {
		return fmt.Errorf("writing the result as JSON: %w", err)
	}
	if a.output.value == "yaml" {
		if text, err = jsonToYAML(text); err != nil {
			return fmt.Errorf("writing the result as YAML: %w", err)
		}
	}
	_, err = a.Out.Write(text)
	return err
}

// marshalJSON is JSON for people who read it too: indented, and < > & as they are.
func marshalJSON(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// jsonToYAML keeps the order of keys, which a map would lose.
func jsonToYAML(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	value, err := ordered(decoder)
	if err != nil {
		return nil, err
	}
	return yaml.MarshalWithOptions(value, yaml.IndentSequence(true))
}

func ordered(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := yaml.MapSlice{}
		for decoder.More() {
			key, err := decoder.Token() // the library quotes keys by itself; ours are words
			if err != nil {
				return nil, err
			}
			value, err := ordered(decoder)
			if err != nil {
				return nil, err
			}
			object = append(object, yaml.MapItem{Key: key, Value: value})
		}
		_, err = decoder.Token()
		return object, err
	case json.Delim('['):
		array := []any{}
		for decoder.More() {
			value, err := ordered(decoder)
			if err != nil {
				return nil, err
			}
			array = append(array, value)
		}
		_, err = decoder.Token()
		return array, err
	}
	if number, ok := token.(json.Number); ok {
		if whole, err := number.Int64(); err == nil {
			return whole, nil
		}
		return number.Float64()
	}
	if text, ok := token.(string); ok && !plain(text) {
		return quoted(text), nil
	}
	return token, nil
}

// plain reports whether text can be left to the YAML library. It leaves
// 012345670000, an account, without quotes, which a reader of YAML 1.1 takes for
// an octal number; so what does not start as a word does is quoted here.
func plain(text string) bool {
	if text == "" || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return false
	}
	first := rune(text[0])
	return 'a' <= first && first <= 'z' || 'A' <= first && first <= 'Z' || first == '/'
}

// quoted is a string between double quotes, with JSON's escapes, which are YAML's.
type quoted string

// MarshalYAML is what the library calls.
func (q quoted) MarshalYAML() ([]byte, error) {
	text, err := marshalJSON(string(q))
	return bytes.TrimSpace(text), err
}
