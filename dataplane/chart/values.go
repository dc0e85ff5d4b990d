package chart

import (
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
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

// ReadValues reads a file of values, as YAML or JSON.
func ReadValues(name string, text []byte) (map[string]any, error) {
	values, err := chartutil.ReadValues(text)
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "%s is not YAML: %s", name, strings.TrimPrefix(err.Error(), "error converting YAML to JSON: yaml: ")).
			WithHint("docs/cluster.md has an example").Because(err)
	}
	return values, nil
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
	all, err := chartutil.CoalesceValues(chart, values)
	if err != nil {
		return usererr.New(usererr.Invalid, "the values cannot be used: %v", err).Because(err)
	}
	if err := chartutil.ValidateAgainstSchema(chart, all); err != nil {
		return wrongValue(chart, err)
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
	unknownKey = regexp.MustCompile(`^additional properties '([^']+)'`)
)

// wrongValue makes a sentence of the last and most exact line of a schema's error,
// which Helm hands on as text.
func wrongValue(chart *helmchart.Chart, err error) error {
	lines := schemaLine.FindAllStringSubmatch(err.Error(), -1)
	if len(lines) == 0 {
		return usererr.New(usererr.Invalid, "the values cannot be used: %v", err).Because(err)
	}
	last := lines[len(lines)-1]
	path := strings.ReplaceAll(strings.TrimPrefix(last[1], "/"), "/", ".")
	if key := unknownKey.FindStringSubmatch(last[2]); key != nil {
		sentence := usererr.New(usererr.Invalid, "the values have a key %q, which the chart does not know", join(path, key[1])).Because(err)
		if known := keysOf(chart.Values, path); len(known) > 0 {
			return sentence.WithHint("did you mean %q?", join(path, nearest.Of(key[1], known)))
		}
		return sentence.WithHint("'helm show values' of the chart lists every key")
	}
	return usererr.New(usererr.Invalid, "the value %s cannot be used: %s", path, last[2]).
		WithHint("docs/cluster.md says what it takes").Because(err)
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
