// Package configfile reads the versioned YAML files that people write for our
// programs: strictly, so that a misspelt key is an error and not a default.
//
// It is not for files that only programs write. Start with Load.
package configfile

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/internal/usererr"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// maxFile bounds what is read: a configuration is a few pages of text.
const maxFile = 1 << 20

// Header is what every file begins with.
type Header struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
}

// Load reads file into config, which holds the defaults: a key that the file
// leaves out keeps its default. The file must say apiVersion and kind as want
// does. Every error is a *usererr.Error of one sentence that names the file, the
// line and the key.
func Load(file string, want Header, config any) error {
	f, err := os.Open(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return usererr.New(usererr.Invalid, "cannot read the configuration %s: %v", file, err).
			WithHint("name a file that you can read").Because(err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return usererr.New(usererr.Invalid, "cannot read the configuration %s: %v", file, err).Because(err)
	}
	if len(text) > maxFile {
		return invalid("the configuration %s is larger than %d bytes", file, maxFile)
	}
	return Parse(file, text, want, config)
}

// Parse is Load for text that the caller has; name is what errors call it.
func Parse(name string, text []byte, want Header, config any) error {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return invalid("the configuration %s is not YAML: %s", name, firstLine(err))
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return invalid("the configuration %s must hold one YAML document", name)
	}
	body := file.Docs[0].Body
	var got Header
	if err := yaml.NodeToValue(body, &got); err != nil {
		return invalid("the configuration %s must be a mapping of keys to values", name)
	}
	if got.APIVersion != want.APIVersion {
		return usererr.New(usererr.Invalid, "%s: apiVersion is %q, and this program reads %q", name, got.APIVersion, want.APIVersion).
			WithHint("write apiVersion: %s, or use the program of that version", want.APIVersion)
	}
	if got.Kind != want.Kind {
		return usererr.New(usererr.Invalid, "%s: kind is %q, not %q", name, got.Kind, want.Kind).
			WithHint("write kind: %s", want.Kind)
	}
	if err := checkKeys(name, "", body, reflect.TypeOf(config)); err != nil {
		return err
	}
	if err := yaml.NodeToValue(body, config); err != nil {
		var kind *yaml.TypeError
		if errors.As(err, &kind) && kind.Token != nil {
			return invalid("%s:%d: %q cannot be read as %s", name, kind.Token.Position.Line, shorten(kind.Token.Value), kind.DstType)
		}
		return invalid("the configuration %s cannot be used: %s", name, firstLine(err))
	}
	return nil
}

func invalid(format string, args ...any) error {
	return usererr.New(usererr.Invalid, format, args...).
		WithHint("docs/configuration.md has every key, with an example")
}

// checkKeys refuses a key that the type has no field for, at any depth.
func checkKeys(name, path string, node ast.Node, t reflect.Type) error {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Slice:
		if list, ok := node.(*ast.SequenceNode); ok {
			for i, item := range list.Values {
				if err := checkKeys(name, fmt.Sprintf("%s[%d]", path, i), item, t.Elem()); err != nil {
					return err
				}
			}
		}
	case reflect.Map:
		for _, pair := range pairs(node) {
			if err := checkKeys(name, join(path, key(pair)), pair.Value, t.Elem()); err != nil {
				return err
			}
		}
	case reflect.Struct:
		fields := fieldsOf(t)
		known := slices.Sorted(maps.Keys(fields))
		for _, pair := range pairs(node) {
			field, ok := fields[key(pair)]
			if !ok {
				return usererr.New(usererr.Invalid, "%s:%d: there is no key %q", name, pair.Key.GetToken().Position.Line, shorten(join(path, key(pair)))).
					WithHint("did you mean %q?", join(path, nearest.Of(key(pair), known)))
			}
			if err := checkKeys(name, join(path, key(pair)), pair.Value, field); err != nil {
				return err
			}
		}
	}
	return nil
}

// fieldsOf maps the keys of a struct to their types; embedded structs that are
// inlined give theirs.
func fieldsOf(t reflect.Type) map[string]reflect.Type {
	fields := map[string]reflect.Type{}
	for i := range t.NumField() {
		field := t.Field(i)
		tag, options, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case options == "inline":
			for name, inner := range fieldsOf(field.Type) {
				fields[name] = inner
			}
		case tag != "" && tag != "-":
			fields[tag] = field.Type
		}
	}
	return fields
}

// pairs returns those of a mapping; a mapping of one has a node type of its own.
func pairs(node ast.Node) []*ast.MappingValueNode {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}
	}
	return nil
}

func key(pair *ast.MappingValueNode) string { return pair.Key.GetToken().Value }

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

func shorten(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
