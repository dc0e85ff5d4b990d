package chart

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/charts"
	"biplane.dev/biplane/internal/usererr"
)

var definitionResource = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

func (c *cluster) definitions() dynamic.ResourceInterface {
	return c.dynamic.Resource(definitionResource)
}

// definitions are the chart's CustomResourceDefinitions.
func definitions() ([]*unstructured.Unstructured, error) {
	root := charts.DataPlane()
	files, err := fs.Glob(root, "crds/*.yaml")
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			return nil, err
		}
		var object map[string]any
		if err := yaml.Unmarshal(text, &object); err != nil {
			return nil, fmt.Errorf("reading %s of the chart: %w", file, err)
		}
		all = append(all, &unstructured.Unstructured{Object: object})
	}
	return all, nil
}

// applyDefinitions brings the CustomResourceDefinitions up to the chart's. Helm
// installs those that are missing, and never renews one.
func (c *cluster) applyDefinitions(ctx context.Context) error {
	all, err := definitions()
	if err != nil {
		return err
	}
	for _, wanted := range all {
		if err := c.checkVersions(ctx, wanted); err != nil {
			return err
		}
	}
	for _, wanted := range all {
		if _, err := c.definitions().Apply(ctx, wanted.GetName(), wanted, metav1.ApplyOptions{FieldManager: fieldManager, Force: true}); err != nil {
			return c.cannot("apply CustomResourceDefinition "+wanted.GetName(), err)
		}
	}
	for _, wanted := range all {
		if err := c.established(ctx, wanted.GetName()); err != nil {
			return err
		}
	}
	return nil
}

// checkVersions refuses to take away a version that a newer chart brought, in
// which objects may be stored.
func (c *cluster) checkVersions(ctx context.Context, wanted *unstructured.Unstructured) error {
	have, err := c.definitions().Get(ctx, wanted.GetName(), metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return c.cannot("look at CustomResourceDefinition "+wanted.GetName(), err)
	}
	known := versions(wanted)
	for _, version := range versions(have) {
		if !slices.Contains(known, version) {
			return usererr.New(usererr.Refused, "the cluster has %s of version %s, which this biplane does not know", wanted.GetName(), version).
				WithHint("use the biplane that installed it, or a newer one")
		}
	}
	return nil
}

func versions(definition *unstructured.Unstructured) []string {
	list, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
	var names []string
	for _, one := range list {
		if version, ok := one.(map[string]any); ok {
			name, _ := version["name"].(string)
			names = append(names, name)
		}
	}
	return names
}

// established waits until the API server serves the kind.
func (c *cluster) established(ctx context.Context, name string) error {
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		have, err := c.definitions().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, c.cannot("look at CustomResourceDefinition "+name, err)
		}
		conditions, _, _ := unstructured.NestedSlice(have.Object, "status", "conditions")
		return slices.ContainsFunc(conditions, func(one any) bool {
			condition, ok := one.(map[string]any)
			return ok && condition["type"] == "Established" && condition["status"] == "True"
		}), nil
	})
}
