package ordered

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
)

// tricky are strings that a reader of YAML takes for something else where they
// are not quoted.
var tricky = []string{
	"012345670000", "123456789012", "2012-10-17", "yes", "No", "null", "~", "", "1e3", "12:30:45", ".inf", "0o17", "0x1F", "1_000",
	"*", "s3:*", "a: b", "a #b", "# x", "- x", "%a", "@a", "`a", "!x", "&x", "<<", "?", "-", "[x]", "{x}", "'q'", `"dq"`,
	" lead", "trail ", "a:", "x\ny", "multi\n\nline\n", "a\tb", "\a", "\u2028x", "é<>&", "${aws:username}", "arn:aws:s3:::a/*", "\\", "true",
}

func toYAML(text []byte) ([]byte, error) {
	value, err := Decode(text)
	if err != nil {
		return nil, err
	}
	return YAML(value)
}

func TestYAML(t *testing.T) {
	t.Parallel()
	object := map[string]any{"null": nil, "list": []any{}, "object": map[string]any{}, "whole": 5.0, "part": 1.5, "flag": true}
	for i, s := range tricky {
		object[fmt.Sprint("value", i)] = s
	}
	text, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	printed, err := toYAML(text)
	if err != nil {
		t.Fatal(err)
	}

	t.Run("is read back as the same values", func(t *testing.T) {
		var read, got map[string]any
		if err := yaml.Unmarshal(printed, &read); err != nil {
			t.Fatalf("reading %s: %v", printed, err)
		}
		back, err := json.Marshal(read) // for numbers of one type
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(back, &got); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, object) {
			for key := range object {
				if !reflect.DeepEqual(got[key], object[key]) {
					t.Errorf("%q: got %#v, want %#v", key, got[key], object[key])
				}
			}
		}
	})

	t.Run("keeps the order of the keys", func(t *testing.T) {
		got, err := toYAML([]byte(`{"z":1,"a":{"k":2,"b":3},"m":[{"x":4,"c":5}]}`))
		if err != nil {
			t.Fatal(err)
		}
		want := "z: 1\na:\n  k: 2\n  b: 3\nm:\n  - x: 4\n    c: 5\n"
		if string(got) != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("is read alike by a reader of YAML 1.1", func(t *testing.T) {
		python := pythonWithYAML(t)
		file := filepath.Join(t.TempDir(), "object.yaml")
		if err := os.WriteFile(file, printed, 0o600); err != nil {
			t.Fatal(err)
		}
		read, err := exec.CommandContext(t.Context(), python, "-c", "import json, sys, yaml; json.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)", file).Output()
		if err != nil {
			t.Fatal(err)
		}
		var got map[string]any
		if err := json.Unmarshal(read, &got); err != nil {
			t.Fatal(err)
		}
		for i, s := range tricky {
			if got := got[fmt.Sprint("value", i)]; got != s {
				t.Errorf("got %#v, want %q", got, s)
			}
		}
	})
}

// pythonWithYAML is the Python that `make setup` makes; the emulator needs PyYAML.
func pythonWithYAML(t *testing.T) string {
	t.Helper()
	python, err := filepath.Abs("../../.cache/venv/bin/python")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), python, "-c", "import yaml").CombinedOutput(); err != nil {
		t.Fatalf("no Python with PyYAML, run 'make setup' first: %s", strings.TrimSpace(string(out)))
	}
	return python
}
