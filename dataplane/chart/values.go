package chart

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"biplane.dev/biplane/charts"
	"biplane.dev/biplane/internal/nearest"
	"biplane.dev/biplane/internal/usererr"
)

// load reads the chart that is in the program.
func load() (*helmchart.Chart, error) {
	var files []*loader.BufferedFile
	root := charts.DataPlane()
	err := fs.WalkDir(root, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		data, err := fs.ReadFile(root, path)
		files = append(files, &loader.BufferedFile{Name: path, Data: data})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	chart, err := loader.LoadFiles(files)
	if err != nil {
		return nil, fmt.Errorf("reading the chart: %w", err)
	}
	return chart, nil
}

// ReadValues reads a file of values, as YAML or JSON. A key with nothing behind it,
// a section whose lines are all comments for instance, is left out: Helm would take
// the chart's own section away, and the templates would fail.
func ReadValues(name string, text []byte) (map[string]any, error) {
	values, err := chartutil.ReadValues(text)
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "%s is not YAML: %s", name, strings.TrimPrefix(err.Error(), "error converting YAML to JSON: yaml: ")).
			WithHint("docs/cluster.md has an example").Because(err)
	}
	return withoutNulls(values), nil
}

func withoutNulls(values map[string]any) map[string]any {
	kept := map[string]any{}
	for key, value := range values {
		if section, ok := value.(map[string]any); ok {
			value = withoutNulls(section)
		}
		if value != nil {
			kept[key] = value
		}
	}
	return kept
}

// withCluster returns values with the cluster's name in them.
func withCluster(values map[string]any, name string) (map[string]any, error) {
	if name == "" {
		return values, nil
	}
	values = maps.Clone(values)
	if values == nil {
		values = map[string]any{}
	}
	section, ok := values["controlPlane"].(map[string]any)
	if !ok && values["controlPlane"] != nil {
		return nil, usererr.New(usererr.Invalid, "the value controlPlane is no mapping of keys to values").WithHint("write 'controlPlane:' and below it 'gateway: host:port'")
	}
	section = maps.Clone(section)
	if section == nil {
		section = map[string]any{}
	}
	if other, given := section["cluster"]; given && other != "" && other != name {
		return nil, usererr.New(usererr.Invalid, "the values are for cluster %v, and --cluster is %s", other, name).
			WithHint("correct one of them, or leave controlPlane.cluster out of the values")
	}
	section["cluster"] = name
	values["controlPlane"] = section
	return values, nil
}

// clusterIn is the name in the values, or "".
func clusterIn(values map[string]any) string {
	section, _ := values["controlPlane"].(map[string]any)
	name, _ := section["cluster"].(string)
	return name
}

// needed are the values that have no default, with what they are.
var needed = []struct{ section, key, what string }{
	{"controlPlane", "gateway", "host:port of the control plane's tunnel gateway"},
	{"controlPlane", "cluster", "the name that 'biplane cluster add' was given"},
	{"storage", "region", "the region of the buckets"},
	{"storage", "metadataBucket", "the bucket where runs keep their inputs and outputs"},
	{"storage", "fastRegistrationBucket", "the bucket where clients put their code"},
}

// check refuses values, in a sentence, before anything is touched.
func check(chart *helmchart.Chart, values map[string]any) error {
	// As they were given: of what does not fit to the chart's own, Helm prints lines
	// of its own when it lays them over those.
	if err := chartutil.ValidateAgainstSchema(chart, values); err != nil {
		return wrongValue(chart, values, err)
	}
	all, err := chartutil.CoalesceValues(chart, values)
	if err != nil {
		return usererr.New(usererr.Invalid, "the values cannot be used: %v", err).Because(err)
	}
	for _, one := range needed {
		section, _ := all[one.section].(map[string]any)
		if value, _ := section[one.key].(string); value == "" {
			return usererr.New(usererr.Invalid, "the values lack %s.%s: %s", one.section, one.key, one.what).
				WithHint("give them in a file with --values; docs/cluster.md has an example")
		}
	}
	return nil
}

var (
	// The lines of a schema's error: - at '/a/b': what is wrong.
	schemaLine = regexp.MustCompile(`(?m)^\s*- at '([^']*)': (.*)$`)
	badName    = regexp.MustCompile(`invalid propertyName '([^']+)'`) // templates alone have a rule for names
	unknownKey = regexp.MustCompile(`^additional properties '([^']+)'`)
)

// wrongValue makes a sentence of the last and most exact line of a schema's error,
// which Helm hands on as text.
func wrongValue(chart *helmchart.Chart, values map[string]any, err error) error {
	lines := schemaLine.FindAllStringSubmatch(err.Error(), -1)
	if len(lines) == 0 {
		return usererr.New(usererr.Invalid, "the values cannot be used: %v", err).Because(err)
	}
	last := lines[len(lines)-1]
	if name := badName.FindStringSubmatch(err.Error()); name != nil && last[1] == "" { // of names it says no path
		return usererr.New(usererr.Invalid, "the values have a template called %q", name[1]).
			WithHint("a key of clustersync.templates is a file name that ends with .yaml").Because(err)
	}
	path := strings.ReplaceAll(strings.TrimPrefix(last[1], "/"), "/", ".")
	if key := unknownKey.FindStringSubmatch(last[2]); key != nil {
		sentence := usererr.New(usererr.Invalid, "the values have a key %q, which the chart does not know", join(path, key[1])).Because(err)
		if known := keysOf(chart.Values, path); len(known) > 0 {
			return sentence.WithHint("did you mean %q?", join(path, nearest.Of(key[1], known)))
		}
		return sentence.WithHint("'helm show values' of the chart lists every key")
	}
	keys := strings.Split(path, ".")
	what := describe(chart.Schema, keys)
	if what == "" {
		return usererr.New(usererr.Invalid, "the value %s cannot be used: %s", path, last[2]).
			WithHint("docs/cluster.md says what it takes").Because(err)
	}
	return usererr.New(usererr.Invalid, "the value %s cannot be %s", path, shown(at(values, keys))).
		WithHint("give %s", what).Because(err)
}

// describe is what the schema says of the value at a path, or "".
func describe(schema []byte, path []string) string {
	var root map[string]any
	if json.Unmarshal(schema, &root) != nil {
		return ""
	}
	resolve := func(node map[string]any) map[string]any {
		reference, _ := node["$ref"].(string)
		name, refers := strings.CutPrefix(reference, "#/definitions/")
		if !refers {
			return node
		}
		definitions, _ := root["definitions"].(map[string]any)
		definition, _ := definitions[name].(map[string]any)
		return definition
	}
	node := root
	for _, key := range path {
		properties, _ := node["properties"].(map[string]any)
		next, known := properties[key].(map[string]any)
		for _, of := range []string{"additionalProperties", "items"} {
			if !known {
				next, known = node[of].(map[string]any)
			}
		}
		if !known {
			return ""
		}
		node = resolve(next)
	}
	description, _ := node["description"].(string)
	return description
}

// at is the value at a path, or nil.
func at(values any, path []string) any {
	for _, key := range path {
		switch of := values.(type) {
		case map[string]any:
			values = of[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(of) {
				return nil
			}
			values = of[i]
		default:
			return nil
		}
	}
	return values
}

// shown is a value in a sentence.
func shown(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprintf("a %T", value)
	}
	const most = 80
	if len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// keysOf are the keys below a path of the chart's own values.
func keysOf(values map[string]any, path string) []string {
	if path != "" {
		for key := range strings.SplitSeq(path, ".") {
			values, _ = values[key].(map[string]any)
		}
	}
	return slices.Sorted(maps.Keys(values))
}
