package executor

import (
	"context"
	"reflect"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

func TestKinds(t *testing.T) {
	t.Parallel()
	clientset, err := kubernetes.NewForConfig(w.Config)
	if err != nil {
		t.Fatal(err)
	}
	newerKind := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
		"metadata": map[string]any{"name": "things.newer.biplane.test"},
		"spec": map[string]any{
			"group": "newer.biplane.test", "scope": "Namespaced", "names": map[string]any{"plural": "things", "kind": "Thing"},
			"versions": []any{map[string]any{"name": "v2", "served": true, "storage": true, "schema": map[string]any{
				"openAPIV3Schema": map[string]any{"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}},
		},
	}}
	if err := w.Client.Create(t.Context(), newerKind); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Client.Delete(context.Background(), newerKind) })

	t.Run("it works with the kinds that it knows", func(t *testing.T) {
		t.Parallel()
		if err := checkKinds(clientset.Discovery(), v1alpha1.GroupVersion); err != nil {
			t.Errorf("got %v, want it to work", err)
		}
	})
	t.Run("it says that there are none", func(t *testing.T) {
		t.Parallel()
		err := checkKinds(clientset.Discovery(), schema.GroupVersion{Group: "absent.biplane.test", Version: "v1"})
		if err == nil || err.Error() != "the cluster has no kinds of absent.biplane.test" {
			t.Errorf("got %v, want that there are none", err)
		}
	})
	t.Run("it refuses those of a newer version", func(t *testing.T) {
		t.Parallel()
		const want = "the cluster has the kinds of newer.biplane.test in version v2, and this executor knows v1alpha1 only"
		older := schema.GroupVersion{Group: "newer.biplane.test", Version: "v1alpha1"}
		err := checkKinds(clientset.Discovery(), older)
		for end := time.Now().Add(time.Minute); err != nil && strings.Contains(err.Error(), "has no kinds") && time.Now().Before(end); {
			err = checkKinds(clientset.Discovery(), older) // the API server has yet to serve it
		}
		if err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	})
	t.Run("it knows that the definition has every field", func(t *testing.T) {
		t.Parallel()
		if err := checkFields(clientset.Discovery(), v1alpha1.GroupVersion, "TaskAction", reflect.TypeFor[v1alpha1.TaskAction]()); err != nil {
			t.Errorf("got %v, want it to work", err)
		}
		paths, err := clientset.Discovery().OpenAPIV3().Paths()
		if _, published := paths["apis/"+v1alpha1.GroupVersion.String()]; err != nil || !published {
			t.Errorf("got %v, %v, want the definition looked at", published, err)
		}
	})
	t.Run("it names a field that an older definition does not have", func(t *testing.T) {
		t.Parallel()
		type newerSpec struct {
			Run string `json:"run"`
			New string `json:"new"`
		}
		type newerAction struct {
			Spec newerSpec `json:"spec"`
		}
		err := checkFields(clientset.Discovery(), v1alpha1.GroupVersion, "TaskAction", reflect.TypeFor[newerAction]())
		if want := "the cluster's definition of TaskAction is older than this executor, and has no field spec.new"; err == nil || err.Error() != want {
			t.Errorf("got %v, want %q", err, want)
		}
	})
	t.Run("it looks into what is below a field", func(t *testing.T) {
		t.Parallel()
		type inner struct {
			Old string `json:"old"`
			New string `json:"new"`
		}
		type outer struct {
			List []*inner `json:"list"`
		}
		defined := definition{Properties: map[string]definition{"list": {Items: &definition{Properties: map[string]definition{"old": {}}}}}}
		if got := defined.missing(reflect.TypeFor[outer]()); got != "list.new" {
			t.Errorf("got %q, want list.new", got)
		}
	})
}
