package vendor

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"

	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/internal/usererr"
	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

//go:embed default.yaml
var defaultYAML []byte

// DefaultYAML returns the text of the default profile, to start one's own from.
func DefaultYAML() []byte { return bytes.Clone(defaultYAML) }

// maxFile bounds what is read: a profile is a page of text.
const maxFile = 64 << 10

// Default returns the profile of the published documents. The caller owns it.
func Default() *Profile {
	p, err := parse("default.yaml", defaultYAML, &Profile{})
	if err != nil {
		panic(err) // the embedded file is part of the program; a test loads it
	}
	return p
}

// Load reads a profile from a file. A field that the file leaves out has the
// default's value; a key that does not exist is an error.
func Load(file string) (*Profile, error) {
	f, err := os.Open(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return nil, unreadable(file, err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, unreadable(file, err)
	}
	if len(text) > maxFile {
		return nil, invalid("the vendor profile %s is larger than %d bytes", file, maxFile)
	}
	return Parse(file, text)
}

func unreadable(file string, cause error) error {
	return usererr.New(usererr.Invalid, "cannot read the vendor profile %s: %v", file, cause).
		WithHint("name a file that you can read").Because(cause)
}

// invalid is an error about the file as a whole.
func invalid(format string, args ...any) error {
	return usererr.New(usererr.Invalid, format, args...).
		WithHint("start from a copy of the default profile")
}

// Parse is Load for text that the caller has; name is what errors call it.
func Parse(name string, text []byte) (*Profile, error) {
	return parse(name, text, Default())
}

// parse reads text over base.
func parse(name string, text []byte, base *Profile) (*Profile, error) {
	file, err := parser.ParseBytes(text, 0)
	if err != nil {
		return nil, invalid("the vendor profile %s is not YAML: %s", name, oneLine(err))
	}
	if len(file.Docs) != 1 || file.Docs[0].Body == nil {
		return nil, invalid("the vendor profile %s must hold one YAML document", name)
	}
	body := file.Docs[0].Body
	if err := checkKeys(name, body); err != nil {
		return nil, err
	}
	given := &Profile{}
	if err := yaml.NodeToValue(body, given, yaml.DisallowUnknownField()); err != nil {
		return nil, undecodable(name, body, err)
	}
	overlay(base, given, present(body))
	if err := base.Validate(); err != nil {
		wrong := usererr.New(usererr.Invalid, "the vendor profile %s cannot be used: %v", name, err).Because(err)
		var field *usererr.Error
		if errors.As(err, &field) {
			wrong = wrong.WithHint("%s", field.Hint)
		}
		return nil, wrong
	}
	return base, nil
}

// undecodable says which field has a value of a kind that it cannot have.
func undecodable(name string, body ast.Node, err error) error {
	var kind *yaml.TypeError
	if !errors.As(err, &kind) || kind.Token == nil {
		return invalid("the vendor profile %s cannot be used: %s", name, oneLine(err))
	}
	field, line := "a field", kind.Token.Position.Line
	pairs, _ := entries(body)
	for _, pair := range pairs {
		if lineOf(pair) <= line {
			field = keyOf(pair) // the last that starts before the value
		}
	}
	return usererr.New(usererr.Invalid, "%s:%d: %s must be one piece of text, not a list or a mapping", name, line, field).
		WithHint("write the value behind the field, in quotes")
}

// fields returns the keys of the file, in order.
func fields() []string {
	var keys []string
	t := reflect.TypeFor[Profile]()
	for i := range t.NumField() {
		keys = append(keys, t.Field(i).Tag.Get("json"))
	}
	return keys
}

// entries returns the pairs of a mapping; a mapping of one pair has a node type
// of its own.
func entries(node ast.Node) ([]*ast.MappingValueNode, bool) {
	switch n := node.(type) {
	case *ast.MappingNode:
		return n.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{n}, true
	}
	return nil, false
}

// checkKeys refuses a key that does not exist or is there twice, naming its line.
func checkKeys(name string, body ast.Node) error {
	pairs, ok := entries(body)
	if !ok {
		return invalid("the vendor profile %s must be a mapping of fields to values", name)
	}
	if err := checkMapping(name, "key", pairs, fields()); err != nil {
		return err
	}
	for _, pair := range pairs {
		if keyOf(pair) != "accounts" {
			continue
		}
		inner, ok := entries(pair.Value)
		if !ok {
			return usererr.New(usererr.Invalid, "%s:%d: accounts must map partitions to accounts", name, lineOf(pair)).
				WithHint("write aws: \"123456789012\" in a line below it")
		}
		if err := checkMapping(name, "partition", inner, partitions); err != nil {
			return err
		}
		if err := checkAccounts(name, inner); err != nil {
			return err
		}
	}
	return nil
}

// checkAccounts refuses a number that YAML does not read as it is written, as it
// does one that starts with a zero.
func checkAccounts(name string, pairs []*ast.MappingValueNode) error {
	for _, pair := range pairs {
		number, ok := pair.Value.(ast.ScalarNode)
		if written := pair.Value.GetToken().Value; ok && pair.Value.Type() == ast.IntegerType && fmt.Sprint(number.GetValue()) != written {
			return usererr.New(usererr.Invalid, "%s:%d: accounts.%s cannot be %s, which YAML reads as another number", name, lineOf(pair), keyOf(pair), shorten(written)).
				WithHint("put the account in quotes")
		}
	}
	return nil
}

func checkMapping(name, what string, pairs []*ast.MappingValueNode, known []string) error {
	seen := map[string]int{}
	for _, pair := range pairs {
		key, line := keyOf(pair), lineOf(pair)
		if !contains(known, key) {
			return usererr.New(usererr.Invalid, "%s:%d: there is no %s %q", name, line, what, shorten(key)).
				WithHint("did you mean %q?", nearest.Of(key, known))
		}
		if first, twice := seen[key]; twice {
			return usererr.New(usererr.Invalid, "%s:%d: %s %q is there already in line %d", name, line, what, key, first).
				WithHint("keep one of them")
		}
		seen[key] = line
	}
	return nil
}

func keyOf(pair *ast.MappingValueNode) string { return pair.Key.GetToken().Value }
func lineOf(pair *ast.MappingValueNode) int   { return pair.Key.GetToken().Position.Line }

// present is the set of keys that the file gives.
func present(body ast.Node) map[string]bool {
	given := map[string]bool{}
	pairs, _ := entries(body)
	for _, pair := range pairs {
		given[keyOf(pair)] = true
	}
	return given
}

// overlay copies into base the fields that the file gives, empty ones too, so
// that Validate can refuse them. Accounts are replaced as a whole: to leave a
// partition out is to have no account there.
func overlay(base, given *Profile, keys map[string]bool) {
	to, from := reflect.ValueOf(base).Elem(), reflect.ValueOf(given).Elem()
	for i, key := range fields() {
		if keys[key] {
			to.Field(i).Set(from.Field(i))
		}
	}
}

func contains(list []string, s string) bool {
	for _, have := range list {
		if have == s {
			return true
		}
	}
	return false
}

// oneLine cuts the source excerpt that the YAML package adds.
func oneLine(err error) string {
	line, _, _ := strings.Cut(yaml.FormatError(err, false, false), "\n")
	return line
}
