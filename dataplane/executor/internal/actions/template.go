package actions

import (
	"context"
	"encoding/json"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// annotationUsed is when a template was last enqueued with, give or take
// markUsedAfter: see UsedLately.
const (
	annotationUsed = "biplane.dev/used"
	markUsedAfter  = time.Hour
)

// UsedLately says of a template that an action of it may be about to be created,
// so that it must not be removed although none is there.
func UsedLately(template client.Object, now time.Time) bool {
	used, err := time.Parse(time.RFC3339, template.GetAnnotations()[annotationUsed])
	if err != nil {
		used = template.GetCreationTimestamp().Time // by somebody else than Enqueue
	}
	return now.Sub(used) < 2*markUsedAfter
}

// keepTemplate makes a template unless it is there.
func (s *Server) keepTemplate(ctx context.Context, template *v1alpha1.TaskTemplate) error {
	key := client.ObjectKeyFromObject(template)
	there := templateMetadata()
	if err := s.Cache.Get(ctx, key, there); err == nil {
		used, err := time.Parse(time.RFC3339, there.Annotations[annotationUsed])
		if err == nil && time.Since(used) < markUsedAfter {
			return nil
		}
		return s.markUsed(ctx, template, key)
	}
	template.Annotations = map[string]string{annotationUsed: time.Now().UTC().Format(time.RFC3339)}
	switch err := s.Client.Create(ctx, template); {
	case err == nil, apierrors.IsAlreadyExists(err):
		return nil
	case apierrors.IsNotFound(err):
		return noNamespace(template.Namespace)
	default:
		return s.failed(ctx, "creating a template", err)
	}
}

func (s *Server) markUsed(ctx context.Context, template *v1alpha1.TaskTemplate, key types.NamespacedName) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{annotationUsed: time.Now().UTC().Format(time.RFC3339)}}})
	if err != nil {
		return err
	}
	object := templateMetadata()
	object.Namespace, object.Name = key.Namespace, key.Name
	switch err := s.Client.Patch(ctx, object, client.RawPatch(types.MergePatchType, patch)); {
	case apierrors.IsNotFound(err): // it was removed, and the cache has not heard of it
		template.ResourceVersion = ""
		if err := s.Client.Create(ctx, template); err != nil && !apierrors.IsAlreadyExists(err) {
			return s.failed(ctx, "creating a template", err)
		}
	case err != nil:
		return s.failed(ctx, "marking a template as used", err)
	}
	return nil
}
