package executor

import (
	"os"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// TestSpecPage holds the page of the kind against the kind.
func TestSpecPage(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile("../../docs/spec/taskaction.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(content)
	t.Run("its example is taken by the API server", func(t *testing.T) {
		t.Parallel()
		_, example, _ := strings.Cut(page, "```yaml\n")
		example, _, _ = strings.Cut(example, "```")
		a := &v1alpha1.TaskAction{}
		if err := yaml.UnmarshalStrict([]byte(example), a); err != nil {
			t.Fatal(err)
		}
		if err := w.Client.Create(t.Context(), a, client.DryRunAll); err != nil {
			t.Error(err)
		}
	})
	t.Run("it names every field", func(t *testing.T) {
		t.Parallel()
		seen := map[reflect.Type]bool{}
		var check func(reflect.Type)
		check = func(kind reflect.Type) {
			for kind.Kind() == reflect.Pointer || kind.Kind() == reflect.Slice {
				kind = kind.Elem()
			}
			if kind.Kind() != reflect.Struct || !strings.Contains(kind.PkgPath(), "v1alpha1") || seen[kind] {
				return
			}
			seen[kind] = true
			for field := range kind.Fields() {
				name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
				if !strings.Contains(page, "`"+name+"`") {
					t.Errorf("got no word about %s.%s, want it on the page", kind.Name(), name)
				}
				check(field.Type)
			}
		}
		check(reflect.TypeFor[v1alpha1.TaskActionSpec]())
		check(reflect.TypeFor[v1alpha1.TaskActionStatus]())
	})
}
