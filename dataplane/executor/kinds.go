package executor

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"biplane.dev/biplane/internal/usererr"
)

// checkKinds says in a sentence why the cluster's objects cannot be worked with: it
// has our kinds in other versions only, since a newer chart was there, or not at all. A
// cache would look for them again and again, and say nothing. Where the API server
// does not answer, the caches wait for it, so that is no error here.
func checkKinds(cluster discovery.DiscoveryInterface, known schema.GroupVersion) error {
	groups, err := cluster.ServerGroups()
	if err != nil {
		return nil
	}
	at := slices.IndexFunc(groups.Groups, func(g metav1.APIGroup) bool { return g.Name == known.Group })
	if at < 0 {
		return usererr.New(usererr.Refused, "the cluster has no kinds of %s", known.Group).
			WithHint("install the chart with 'biplane dataplane chart install', or apply its folder crds")
	}
	var there []string
	for _, version := range groups.Groups[at].Versions {
		if version.Version == known.Version {
			return nil
		}
		there = append(there, version.Version)
	}
	return usererr.New(usererr.Refused, "the cluster has the kinds of %s in version %s, and this executor knows %s only",
		known.Group, strings.Join(there, ", "), known.Version).
		WithHint("run the executor of the chart that brought them, or a newer one")
}

// checkFields says which field of an object the cluster's definition of its kind does
// not have: the API server drops such a field without a word, and what was written into it
// is lost. Helm never renews a definition, so an upgrade by its own command line leaves an
// older one.
func checkFields(cluster discovery.DiscoveryInterface, known schema.GroupVersion, kind string, object reflect.Type) error {
	paths, err := cluster.OpenAPIV3().Paths()
	if err != nil {
		return nil
	}
	path, ok := paths["apis/"+known.String()]
	if !ok {
		return nil // it is not published yet
	}
	text, err := path.Schema("application/json")
	if err != nil {
		return nil
	}
	var document struct {
		Components struct {
			Schemas map[string]definition `json:"schemas"`
		} `json:"components"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return fmt.Errorf("reading the cluster's definition of %s: %w", kind, err)
	}
	for name, defined := range document.Components.Schemas {
		if !strings.HasSuffix(name, "."+kind) {
			continue
		}
		if missing := defined.missing(object); missing != "" {
			return usererr.New(usererr.Refused, "the cluster's definition of %s is older than this executor, and has no field %s", kind, missing).
				WithHint("renew it with 'biplane dataplane chart upgrade', or apply the chart's folder crds; Helm itself renews none")
		}
	}
	return nil
}

// definition is what OpenAPI says of a field.
type definition struct {
	Properties map[string]definition `json:"properties"`
	Items      *definition           `json:"items"`
}

// missing names the first field of a type, and of those of its package in it, that
// is not defined.
func (d definition) missing(object reflect.Type) string {
	for field := range object.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name == "" || field.Anonymous {
			continue
		}
		defined, ok := d.Properties[name]
		if !ok {
			return name
		}
		of := field.Type
		for of.Kind() == reflect.Pointer || of.Kind() == reflect.Slice {
			if of.Kind() == reflect.Slice && defined.Items != nil {
				defined = *defined.Items
			}
			of = of.Elem()
		}
		if of.Kind() != reflect.Struct || of.PkgPath() != object.PkgPath() || len(defined.Properties) == 0 {
			continue
		}
		if inner := defined.missing(of); inner != "" {
			return name + "." + inner
		}
	}
	return ""
}
