package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"biplane.dev/biplane/internal/ordered"
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

// jsonToYAML keeps the order of keys.
func jsonToYAML(text []byte) ([]byte, error) {
	value, err := ordered.Decode(text)
	if err != nil {
		return nil, err
	}
	return ordered.YAML(value)
}
