package clustersync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
)

// Reasons of the condition Ready.
const (
	reasonReady       = "Ready"
	reasonSuspended   = "Suspended" // ready, and no new pod starts
	reasonName        = v1alpha1.ReasonInvalidName
	reasonTemplate    = "TemplateError"     // the templates give nothing that can be applied
	reasonCA          = "WaitingForCA"      // the operator has not made it
	reasonPullSecret  = "PullSecretMissing" // the configuration names one that is not there
	reasonForeign     = v1alpha1.ReasonForeignNamespace
	reasonTerminating = "Terminating" // somebody deletes the namespace
	reasonConflict    = "Conflict"    // an object that is not ours wants to be otherwise
	reasonRefused     = "Refused"     // by the API server
)

// reconciler brings one workspace's namespace to what the templates say.
type reconciler struct {
	client    client.Client
	live      client.Reader // not cached: what is written next is decided by what is there now
	mapper    meta.RESTMapper
	events    record.EventRecorder
	cfg       *config.Config
	templates templates
	broken    error // why there are none
	log       *slog.Logger
	metrics   *metrics
}

// notReady ends a reconcile without an error to be retried at once: a person, or
// somebody else's write, has to come first.
type notReady struct{ reason, message string }

func (e *notReady) Error() string { return e.message }

// Reconcile implements reconcile.Reconciler. What came of it is written at its
// end, and nowhere else.
func (r *reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	began := time.Now()
	workspace := &v1alpha1.Workspace{}
	if err := r.client.Get(ctx, request.NamespacedName, workspace); err != nil {
		return reconcile.Result{}, client.IgnoreNotFound(err) // gone: what is there stays
	}
	objects, err := r.wanted(ctx, workspace)
	if err == nil {
		err = r.applyAll(ctx, workspace, objects)
	}

	condition := metav1.Condition{Type: "Ready", Status: metav1.ConditionTrue, Reason: reasonReady,
		Message: fmt.Sprintf("the namespace has its %d objects", len(objects)), ObservedGeneration: workspace.Generation}
	if workspace.Spec.Suspended {
		condition.Reason, condition.Message = reasonSuspended, "everything is kept, and no new pod starts"
	}
	var waits *notReady
	switch {
	case errors.As(err, &waits):
		condition.Status, condition.Reason, condition.Message = metav1.ConditionFalse, waits.reason, waits.message
		err = nil
	case err != nil:
		return reconcile.Result{}, err // and the condition stays, until we know better
	}
	r.metrics.reconciled.WithLabelValues(condition.Reason).Inc()
	r.metrics.duration.Observe(time.Since(began).Seconds())
	if err := r.record(ctx, workspace, condition); err != nil {
		return reconcile.Result{}, err
	}
	if waits != nil {
		// What is waited for is watched, but for what others have.
		return reconcile.Result{RequeueAfter: time.Minute}, nil
	}
	return reconcile.Result{RequeueAfter: resync}, nil
}

// record writes the condition and tells of it, if it says something new.
func (r *reconciler) record(ctx context.Context, workspace *v1alpha1.Workspace, condition metav1.Condition) error {
	condition.Message = shorten(condition.Message)
	before := workspace.DeepCopy()
	workspace.Status.ObservedGeneration = workspace.Generation
	if !meta.SetStatusCondition(&workspace.Status.Conditions, condition) && before.Status.ObservedGeneration == workspace.Generation {
		return nil
	}
	if err := r.client.Status().Patch(ctx, workspace, client.MergeFrom(before)); err != nil {
		return client.IgnoreNotFound(err)
	}
	kind := corev1.EventTypeNormal
	if condition.Status != metav1.ConditionTrue {
		kind = corev1.EventTypeWarning
	}
	r.events.Event(workspace, kind, condition.Reason, condition.Message)
	r.log.Info("workspace", "name", workspace.Name, "ready", condition.Status, "reason", condition.Reason, "message", condition.Message)
	return nil
}

// maxMessage of a condition; an event takes 1,024.
const maxMessage = 1000

func shorten(message string) string {
	if len(message) <= maxMessage {
		return message
	}
	return strings.ToValidUTF8(message[:maxMessage], "") + "…"
}

// wanted is what the workspace should have.
func (r *reconciler) wanted(ctx context.Context, workspace *v1alpha1.Workspace) ([]*unstructured.Unstructured, error) {
	if err := r.checkName(workspace); err != nil {
		return nil, err
	}
	if r.broken != nil {
		return nil, &notReady{reasonTemplate, r.broken.Error()}
	}
	ca, err := r.ca(ctx)
	if err != nil {
		return nil, err
	}
	objects, err := r.templates.render(r.values(workspace, ca))
	if err != nil {
		return nil, &notReady{reasonTemplate, err.Error()}
	}
	for _, object := range objects {
		if err := r.checkKind(object); err != nil {
			return nil, err
		}
	}
	secret, err := r.pullSecret(ctx, workspace.Name)
	if err != nil {
		return nil, err
	}
	if secret != nil {
		objects = append(objects, secret)
	}
	return objects, nil
}

func (r *reconciler) values(workspace *v1alpha1.Workspace, ca string) values {
	return values{
		organization: workspace.Spec.Organization, project: workspace.Spec.Project, domain: workspace.Spec.Domain,
		namespace: v1alpha1.NamespaceOf(workspace.Spec.Project, workspace.Spec.Domain), suspended: workspace.Spec.Suspended,
		ca: ca, operatorEndpoint: r.cfg.Operator.Endpoint, tokenFile: config.TokenFile, dataplaneNamespace: r.cfg.Namespace,
		taskRoleARN: r.cfg.Clustersync.TaskRoleARN, pullSecret: r.cfg.Clustersync.PullSecret, values: r.cfg.Clustersync.Values,
	}
}

// checkName refuses a workspace whose namespace is another's: a project called
// kube with a domain called system would be Kubernetes' own.
func (r *reconciler) checkName(workspace *v1alpha1.Workspace) error {
	name := v1alpha1.NamespaceOf(workspace.Spec.Project, workspace.Spec.Domain)
	switch {
	case workspace.Name != name:
		return &notReady{reasonName, fmt.Sprintf("the workspace of project %q and domain %q must be called %s", workspace.Spec.Project, workspace.Spec.Domain, name)}
	case len(validation.IsDNS1123Label(name)) > 0:
		return &notReady{reasonName, fmt.Sprintf("no namespace can be called %s: %s", name, validation.IsDNS1123Label(name)[0])}
	case strings.HasPrefix(name, "kube-"), name == r.cfg.Namespace, name == metav1.NamespaceDefault:
		return &notReady{reasonName, fmt.Sprintf("the namespace %s is not for workspaces; give the project another name", name)}
	}
	return nil
}

// ca is the data plane's, for task pods.
func (r *reconciler) ca(ctx context.Context) (string, error) {
	var from corev1.ConfigMap
	err := r.live.Get(ctx, client.ObjectKey{Namespace: r.cfg.Namespace, Name: caConfigMap}, &from)
	if err != nil && !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("reading ConfigMap %s: %w", caConfigMap, err)
	}
	if from.Data[caKey] == "" {
		return "", &notReady{reasonCA, fmt.Sprintf("the operator has not made ConfigMap %s in namespace %s yet", caConfigMap, r.cfg.Namespace)}
	}
	return from.Data[caKey], nil
}

// checkKind refuses a kind that the cluster does not have, or has outside of
// namespaces.
func (r *reconciler) checkKind(object *unstructured.Unstructured) error {
	kind := object.GroupVersionKind()
	mapping, err := r.mapper.RESTMapping(kind.GroupKind(), kind.Version)
	if meta.IsNoMatchError(err) {
		return &notReady{reasonTemplate, fmt.Sprintf("the cluster has no %s of %s, which a template makes", kind.Kind, object.GetAPIVersion())}
	}
	if err != nil {
		return fmt.Errorf("looking for kind %s: %w", kind, err)
	}
	if mapping.Scope.Name() == meta.RESTScopeNameRoot && !isNamespace(object) {
		return &notReady{reasonTemplate, fmt.Sprintf("%s %s is in no namespace, and templates are for what is in the workspace's", kind.Kind, object.GetName())}
	}
	return nil
}

// pullSecret is the copy of the one that the configuration names, or nil.
func (r *reconciler) pullSecret(ctx context.Context, namespace string) (*unstructured.Unstructured, error) {
	name := r.cfg.Clustersync.PullSecret
	if name == "" {
		return nil, nil
	}
	var from unstructured.Unstructured
	from.SetGroupVersionKind(secretKind)
	err := r.live.Get(ctx, client.ObjectKey{Namespace: r.cfg.Namespace, Name: name}, &from)
	if apierrors.IsNotFound(err) {
		return nil, &notReady{reasonPullSecret, fmt.Sprintf("there is no Secret %s in namespace %s to pull images with", name, r.cfg.Namespace)}
	}
	if err != nil {
		return nil, fmt.Errorf("reading Secret %s: %w", name, err)
	}
	to := &unstructured.Unstructured{Object: map[string]any{"type": from.Object["type"], "data": from.Object["data"]}}
	to.SetGroupVersionKind(secretKind)
	to.SetNamespace(namespace)
	to.SetName(name)
	return to, nil
}
