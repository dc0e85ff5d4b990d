package taskaction

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// abort ends an action that was told to end, and one that nobody waits for any
// more: its parent or its run has ended, or its object is being deleted. So an
// abort goes down the tree, one generation after the other. What a pod does from
// now on does not count.
func (w *work) abort(context.Context) error {
	why, ok := w.whyAbort()
	if !ok {
		return nil
	}
	if a := w.live(); a != nil {
		w.end(a, v1alpha1.Aborted)
	}
	w.say(corev1.EventTypeNormal, "Aborted", "%s", why)
	w.finish(v1alpha1.Aborted, "Aborted", why)
	return nil
}

func (w *work) whyAbort() (string, bool) {
	switch spec := &w.action.Spec; {
	case spec.Abort != nil:
		return spec.Abort.Reason, true
	case w.action.DeletionTimestamp != nil:
		return "its object was deleted", true
	case w.root == nil:
		return "its run is gone", true
	case w.root.Status.Phase == v1alpha1.Aborted && w.root != w.action:
		return w.root.Status.Message, true
	case w.root.Spec.Abort != nil:
		return w.root.Spec.Abort.Reason, true
	case w.root.Status.Phase.Terminal():
		return "its run has ended", true
	case w.root.DeletionTimestamp != nil:
		return "its run was deleted", true
	case spec.Parent == "":
		return "", false
	case w.parent == nil:
		return "its parent " + spec.Parent + " is gone", true
	case w.parent.Status.Phase == v1alpha1.Aborted:
		return w.parent.Status.Message, true
	case w.parent.Status.Phase.Terminal():
		return "its parent " + spec.Parent + " has ended", true
	}
	return "", false
}
