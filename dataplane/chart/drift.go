package chart

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/dynamic"
)

// lookers ask the API server at the same time: the chart is some forty objects.
const lookers = 8

// changed are the objects of a manifest that the cluster has not, or has otherwise,
// each as KIND NAME. Helm itself compares releases and looks at no object.
//
// The API server says so: it is asked what applying the object would make of it. Our
// own comparison would have to know every default and every way to write a quantity.
// What others added to an object is no change.
func (c *cluster) changed(ctx context.Context, manifest string) ([]string, error) {
	objects, err := c.helm.KubeClient.Build(strings.NewReader(manifest), false)
	if err != nil {
		return nil, c.refused(ctx, err)
	}
	var mu sync.Mutex
	var changed []string
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(lookers)
	for _, info := range objects {
		group.Go(func() error {
			same, err := c.asWritten(ctx, info)
			if err != nil {
				return c.cannot("compare "+nameOf(info), err)
			}
			if !same {
				mu.Lock()
				defer mu.Unlock()
				changed = append(changed, nameOf(info))
			}
			return nil
		})
	}
	err = group.Wait()
	slices.Sort(changed)
	return changed, err
}

func nameOf(info *resource.Info) string {
	return info.Mapping.GroupVersionKind.Kind + " " + info.Name
}

func (c *cluster) asWritten(ctx context.Context, info *resource.Info) (bool, error) {
	wanted, ok := info.Object.(*unstructured.Unstructured)
	if !ok {
		return false, fmt.Errorf("reading the manifest gave a %T, want an unstructured object", info.Object)
	}
	var at dynamic.ResourceInterface = c.dynamic.Resource(info.Mapping.Resource)
	if info.Mapping.Scope.Name() == meta.RESTScopeNameNamespace {
		at = c.dynamic.Resource(info.Mapping.Resource).Namespace(info.Namespace)
	}
	have, err := at.Get(ctx, info.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	would, err := at.Apply(ctx, info.Name, wanted, metav1.ApplyOptions{FieldManager: fieldManager, Force: true, DryRun: []string{metav1.DryRunAll}})
	if apierrors.IsInvalid(err) {
		return false, nil // another's of the same name, which the upgrade will tell of
	}
	if err != nil {
		return false, err
	}
	for _, one := range []*unstructured.Unstructured{have, would} {
		one.SetManagedFields(nil)
		one.SetResourceVersion("")
		one.SetGeneration(0)
		delete(one.Object, "status") // which goes on meanwhile
	}
	return equality.Semantic.DeepEqual(have.Object, would.Object), nil
}
