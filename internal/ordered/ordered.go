// Package ordered holds JSON whose keys stay in their order, which a map would lose,
// and writes it as YAML that every reader takes alike. An object is a
// yaml.MapSlice, a list a []any, a number an int64 or a float64.
//
// Start with Decode.
package ordered

import (
	"bytes"
	"encoding/json"
	"strings"
	"unicode"

	"github.com/goccy/go-yaml"
)

// Decode reads one JSON value.
func Decode(text []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	return decode(decoder)
}

func decode(decoder *json.Decoder) (any, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	switch token {
	case json.Delim('{'):
		object := yaml.MapSlice{}
		for decoder.More() {
			key, err := decoder.Token()
			if err != nil {
				return nil, err
			}
			value, err := decode(decoder)
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
			value, err := decode(decoder)
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
	return token, nil
}

// YAML writes a value.
func YAML(value any) ([]byte, error) {
	return yaml.MarshalWithOptions(safe(value), yaml.IndentSequence(true))
}

// safe is value with quotes where the YAML library would leave them out and should
// not. It quotes keys by itself; ours are words.
func safe(value any) any {
	switch v := value.(type) {
	case yaml.MapSlice:
		object := make(yaml.MapSlice, len(v))
		for i, item := range v {
			object[i] = yaml.MapItem{Key: item.Key, Value: safe(item.Value)}
		}
		return object
	case []any:
		array := make([]any, len(v))
		for i, item := range v {
			array[i] = safe(item)
		}
		return array
	case string:
		if !plain(v) {
			return quoted(v)
		}
	}
	return value
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
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(string(q))
	return bytes.TrimSpace(text.Bytes()), err
}
