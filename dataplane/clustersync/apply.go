package clustersync

import (
	"context"
	"fmt"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// applyAll applies every object, and goes on where one is somebody else's: all
// conflicts are told at once.
func (r *reconciler) applyAll(ctx context.Context, workspace *v1alpha1.Workspace, objects []*unstructured.Unstructured) error {
	var conflicts []string
	ours := false // whether we made the namespace, which is the first
	for _, object := range objects {
		made, err := r.apply(ctx, workspace.Name, object, ours)
		switch {
		case apierrors.IsConflict(err):
			conflicts = append(conflicts, fmt.Sprintf("%s %s is not clustersync's, and is otherwise: %v", object.GetKind(), object.GetName(), err))
		case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsForbidden(err):
			return &notReady{reasonRefused, fmt.Sprintf("%s %s: %v", object.GetKind(), object.GetName(), err)}
		case err != nil:
			return err
		}
		if isNamespace(object) {
			ours = made
		}
	}
	if len(conflicts) > 0 {
		return &notReady{reasonConflict, strings.Join(conflicts, "; ")}
	}
	return nil
}

// apply makes an object be as wanted, and reports whether it is ours.
//
// What clustersync makes gets LabelManaged. Of that, every field that a template
// gives is put back, whoever changed it. What is there without the label was made
// by somebody else: it gets the fields that nobody else has, and where another has
// one and wants it otherwise, there is a conflict and nothing is written. To take
// an object away from clustersync is to take its label away.
//
// A namespace that somebody else made has to be handed over, by its label: the
// control plane says what projects are called, and one called cert with a domain
// called manager would otherwise let the executor, and so every author, run pods
// under whatever accounts there are.
//
// A namespace's default service account is made by Kubernetes, and is whose the
// namespace is.
func (r *reconciler) apply(ctx context.Context, workspace string, object *unstructured.Unstructured, namespaceIsOurs bool) (made bool, err error) {
	there := metadataOf(object.GroupVersionKind())
	err = r.live.Get(ctx, client.ObjectKeyFromObject(object), there)
	switch {
	case apierrors.IsNotFound(err):
		made = true
	case err != nil:
		return false, fmt.Errorf("looking at %s %s: %w", object.GetKind(), object.GetName(), err)
	case isNamespace(object) && there.Labels[LabelManaged] != FieldManager && there.Labels[LabelWorkspace] != workspace:
		return false, &notReady{reasonForeign, fmt.Sprintf("the namespace %s is there, and is not clustersync's: give the project another name, or hand the namespace over with 'kubectl label namespace %[1]s %s=%[1]s'", object.GetName(), LabelWorkspace)}
	case isNamespace(object) && there.DeletionTimestamp != nil:
		return false, &notReady{reasonTerminating, fmt.Sprintf("namespace %s is being deleted; it is made anew once it is gone", object.GetName())}
	default:
		made = there.Labels[LabelManaged] == FieldManager ||
			namespaceIsOurs && object.GetKind() == "ServiceAccount" && object.GetName() == "default"
	}
	labels := object.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	labels[LabelWorkspace] = workspace
	if made {
		labels[LabelManaged] = FieldManager
	}
	object.SetLabels(labels)
	options := []client.ApplyOption{client.FieldOwner(FieldManager)}
	if made {
		options = append(options, client.ForceOwnership)
	}
	if err := r.client.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), options...); err != nil {
		return made, fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
	}
	return made, nil
}
