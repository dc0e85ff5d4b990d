package actions

import (
	"context"
	"errors"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// Indexes of the cache.
const (
	byParent = "biplane.dev/parent" // "RUN/PARENT"
	byPod    = "biplane.dev/pod"    // the UID of each attempt's pod
)

// index is told once what to find actions by, so that no call ever lists.
func (s *Server) index(ctx context.Context) error {
	err := s.Cache.IndexField(ctx, &v1alpha1.TaskAction{}, byParent, func(object client.Object) []string {
		a := object.(*v1alpha1.TaskAction)
		if a.Spec.Parent == "" {
			return nil
		}
		return []string{parentKey(a.Spec.Run, a.Spec.Parent)}
	})
	if err != nil {
		return err
	}
	err = s.Cache.IndexField(ctx, &v1alpha1.TaskAction{}, byPod, func(object client.Object) []string {
		var uids []string
		for _, attempt := range object.(*v1alpha1.TaskAction).Status.Attempts {
			if attempt.PodUID != "" {
				uids = append(uids, attempt.PodUID)
			}
		}
		return uids
	})
	if err != nil {
		return err
	}
	// The cache has them from its start, so that the first call does not wait.
	for _, object := range []client.Object{&v1alpha1.Workspace{}, templateMetadata()} {
		if _, err := s.Cache.GetInformer(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

func parentKey(run, parent string) string { return run + "/" + parent }

// templateMetadata reads of a TaskTemplate what is small: a megabyte of each is
// not to be in memory only to know that it is there.
func templateMetadata() *metav1.PartialObjectMetadata {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind("TaskTemplate"))
	return object
}

// errUnknown is what find returns where there is no such action.
var errUnknown = errors.New("there is no such action")

// find reads an action from the cache or, where that does not know it, from the
// API server: a child may be enqueued before the cache has heard of its parent.
// The error is errUnknown or an answer for the caller.
func (s *Server) find(ctx context.Context, r reference) (*v1alpha1.TaskAction, error) {
	a := &v1alpha1.TaskAction{}
	err := s.Cache.Get(ctx, r.key(), a)
	if err != nil {
		return s.findLive(ctx, r)
	}
	return named(a, r)
}

// findLive reads it from the API server.
func (s *Server) findLive(ctx context.Context, r reference) (*v1alpha1.TaskAction, error) {
	a := &v1alpha1.TaskAction{}
	switch err := s.Client.Get(ctx, r.key(), a); {
	case apierrors.IsNotFound(err):
		return nil, errUnknown
	case err != nil:
		return nil, s.failed(ctx, "reading an action", err)
	}
	return named(a, r)
}

// named tells apart run "a-b" with action "c" and run "a" with action "b-c", which
// are one name of an object.
func named(a *v1alpha1.TaskAction, r reference) (*v1alpha1.TaskAction, error) {
	if referenceTo(a) != r {
		return nil, errUnknown
	}
	return a, nil
}

// maxDepth of a run's tree. It ends the walk where a hand has tied a loop.
const maxDepth = 500

// ancestors calls visit with an action, its parent, and so on to the root, until
// visit returns false. The error is errUnknown where one of them is gone.
func (s *Server) ancestors(ctx context.Context, a *v1alpha1.TaskAction, visit func(*v1alpha1.TaskAction) bool) error {
	for range maxDepth {
		if !visit(a) || a.Spec.Parent == "" {
			return nil
		}
		parent, err := s.find(ctx, referenceTo(a).sibling(a.Spec.Parent))
		if err != nil {
			return err
		}
		a = parent
	}
	return errUnknown
}
