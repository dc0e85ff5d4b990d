package operator

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	clusterv1 "biplane.dev/biplane/api/gen/biplane/cluster/v1"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// view is what the operator sees of the cluster, in memory, by watches.
type view struct {
	cache  cache.Cache
	synced atomic.Bool
}

func newView(config *rest.Config, scheme *runtime.Scheme) (*view, error) {
	objects, err := cache.New(config, cache.Options{
		Scheme: scheme,
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Node{}: {Transform: func(object any) (any, error) {
				if node, ok := object.(*corev1.Node); ok {
					node.ManagedFields, node.Annotations = nil, nil
					node.Status.Images = nil // by far the most of a node
				}
				return object, nil
			}},
			&v1alpha1.Workspace{}: {},
		},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing to watch the cluster: %w", err)
	}
	return &view{cache: objects}, nil
}

// Run watches until ctx ends.
func (v *view) Run(ctx context.Context) error {
	for _, object := range []client.Object{&corev1.Node{}, &v1alpha1.Workspace{}} {
		if _, err := v.cache.GetInformer(ctx, object, cache.BlockUntilSynced(false)); err != nil {
			return err
		}
	}
	go func() { v.synced.Store(v.cache.WaitForCacheSync(ctx)) }()
	return v.cache.Start(ctx)
}

// Ready says that there has been no first look yet.
func (v *view) Ready() error {
	if !v.synced.Load() {
		return errors.New("waiting for the lists of nodes and workspaces")
	}
	return nil
}

// workspace is that of a namespace; nil for a namespace that is none's.
func (v *view) workspace(ctx context.Context, namespace string) (*v1alpha1.Workspace, error) {
	if err := v.Ready(); err != nil {
		return nil, err
	}
	workspace := &v1alpha1.Workspace{}
	err := v.cache.Get(ctx, client.ObjectKey{Name: namespace}, workspace)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return workspace, err
}

// capacity sums what nodes have for pods: those that are ready and take some. It is
// nil before the first look.
func (v *view) capacity(ctx context.Context) *clusterv1.Capacity {
	nodes := &corev1.NodeList{}
	if v.Ready() != nil || v.cache.List(ctx, nodes) != nil {
		return nil
	}
	sum := &clusterv1.Capacity{}
	for _, node := range nodes.Items {
		if node.Spec.Unschedulable || !ready(&node) {
			continue
		}
		sum.Nodes++
		sum.MilliCpu += node.Status.Allocatable.Cpu().MilliValue()
		sum.MemoryBytes += node.Status.Allocatable.Memory().Value()
		sum.Pods += node.Status.Allocatable.Pods().Value()
	}
	return sum
}

func ready(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}
