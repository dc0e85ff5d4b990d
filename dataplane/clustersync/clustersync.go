// Package clustersync makes the namespace of every workspace, and keeps in it what
// the templates say: a service account with a role, rights, a quota, limits, a
// network policy, and what Flyte's SDK in task pods reads.
//
// It never deletes. A workspace that is suspended gets no new pods; one that is
// gone, and an object that no template makes any more, is left as it is. What was
// there before, or is somebody else's, is not taken: see apply.
//
// It has no part in running tasks, and no rights on pods. Start with Run, then
// Reconcile.
package clustersync

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrlconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/authn"
	"biplane.dev/biplane/dataplane/internal/kube"
	"biplane.dev/biplane/dataplane/internal/serve"
)

// Names in the cluster.
const (
	// FieldManager owns the fields that templates give.
	FieldManager = "biplane-clustersync"
	// LabelWorkspace is on everything in a workspace that a template gives, with
	// the workspace's name. On a namespace that somebody else made, it hands it over.
	LabelWorkspace = "biplane.dev/workspace"
	// LabelManaged is FieldManager on what clustersync made.
	LabelManaged = "app.kubernetes.io/managed-by"

	caConfigMap = "biplane-ca" // of the operator, in the data plane's namespace
	caKey       = "ca.crt"

	// workers are few: a workspace is a dozen calls, and there are hundreds at most.
	workers = 4
	// resync finds what no watch tells: an object whose label somebody took away.
	resync = 10 * time.Minute
)

// Run syncs until ctx ends. There is no leader election: two at the same time, as
// in an update, apply the same.
func Run(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	rest, err := kube.Config("clustersync")
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	s, err := newSyncer(rest, cfg, log, registry)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() {
		err := s.manager.Start(ctx)
		cancel() // without it there is nothing to serve
		ended <- err
	}()
	err = serve.Serve(ctx, serve.Options{
		Listen: cfg.Clustersync.Listen, Ready: s.ready, Log: log,
		Metrics: prometheus.Gatherers{registry, ctrlmetrics.Registry}, Authenticator: authn.New(s.manager.GetClient()),
	})
	cancel()
	if syncing := <-ended; syncing != nil {
		err = errors.Join(err, fmt.Errorf("syncing workspaces: %w", syncing))
	}
	return err
}

// syncer is the reconciler with the manager that calls it.
type syncer struct {
	manager ctrl.Manager
	ready   func() error
}

// newSyncer makes everything and starts nothing. Templates that are wrong are no
// error: the workspaces say so, and ready does.
func newSyncer(config *rest.Config, cfg *config.Config, log *slog.Logger, registry prometheus.Registerer) (*syncer, error) {
	scheme, err := kube.Scheme()
	if err != nil {
		return nil, err
	}
	watched, err := labels.NewRequirement(LabelWorkspace, selection.Exists, nil)
	if err != nil {
		return nil, err
	}
	ours := labels.NewSelector().Add(*watched)
	// A selector that is not given is the default one, which is for what we made.
	every := labels.Everything()
	objects := map[client.Object]cache.ByObject{
		&v1alpha1.Workspace{}: {Label: every},
		metadataOf(configMapKind): {Namespaces: map[string]cache.Config{
			cfg.Namespace:       {LabelSelector: every, FieldSelector: fields.OneTermEqualSelector("metadata.name", caConfigMap)},
			cache.AllNamespaces: {LabelSelector: ours},
		}},
	}
	if name := cfg.Clustersync.PullSecret; name != "" { // the only one it may read
		objects[metadataOf(secretKind)] = cache.ByObject{Label: every, Field: fields.OneTermEqualSelector("metadata.name", name)}
	}
	unchecked := true // of the controller's name: in tests there are several in one process
	drain := 10 * time.Second
	manager, err := ctrl.NewManager(config, ctrl.Options{
		Scheme:  scheme,
		Cache:   cache.Options{DefaultLabelSelector: ours, ByObject: objects},
		Metrics: metricsserver.Options{BindAddress: "0"}, // serve has them
		Controller: ctrlconfig.Controller{
			MaxConcurrentReconciles: workers,
			SkipNameValidation:      &unchecked,
		},
		GracefulShutdownTimeout: &drain,
	})
	if err != nil {
		return nil, fmt.Errorf("preparing to watch the cluster: %w", err)
	}
	r := &reconciler{
		client: manager.GetClient(), live: manager.GetAPIReader(), events: manager.GetEventRecorderFor("clustersync"),
		mapper: manager.GetRESTMapper(), cfg: cfg, log: log, metrics: newMetrics(registry),
	}
	if r.templates, err = loadTemplates(cfg.Clustersync.Templates); err != nil {
		log.Error("cannot use the templates", "error", err)
		r.broken = err
	}
	build := ctrl.NewControllerManagedBy(manager).
		Named("workspace").
		For(&v1alpha1.Workspace{}, builder.WithPredicates(predicate.GenerationChangedPredicate{}))
	for _, kind := range r.kinds() {
		build = build.WatchesMetadata(metadataOf(kind), handler.EnqueueRequestsFromMapFunc(r.workspacesOf))
	}
	if err := build.Complete(r); err != nil {
		return nil, fmt.Errorf("preparing to watch the cluster: %w", err)
	}
	return &syncer{manager: manager, ready: func() error {
		if r.broken != nil {
			return fmt.Errorf("the templates cannot be used: %w", r.broken)
		}
		// The informers are up, or the manager would have ended.
		select {
		case <-manager.Elected():
			return nil
		default:
			return errors.New("it has not begun to watch the cluster yet")
		}
	}}, nil
}

var (
	secretKind    = schema.GroupVersionKind{Version: "v1", Kind: "Secret"}
	configMapKind = schema.GroupVersionKind{Version: "v1", Kind: "ConfigMap"}
)

func metadataOf(kind schema.GroupVersionKind) *metav1.PartialObjectMetadata {
	object := &metav1.PartialObjectMetadata{}
	object.SetGroupVersionKind(kind)
	return object
}

// kinds are those of the templates, and of what they are made of. A kind that the
// cluster does not know is left out: a workspace says that.
func (r *reconciler) kinds() []schema.GroupVersionKind {
	kinds := []schema.GroupVersionKind{configMapKind}
	if r.cfg.Clustersync.PullSecret != "" {
		kinds = append(kinds, secretKind)
	}
	example := r.values(&v1alpha1.Workspace{Spec: v1alpha1.WorkspaceSpec{Project: "project", Domain: "domain"}}, "")
	objects, err := r.templates.render(example)
	if err != nil {
		return kinds
	}
	for _, object := range objects {
		kind := object.GroupVersionKind()
		if _, err := r.mapper.RESTMapping(kind.GroupKind(), kind.Version); err == nil && !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// workspacesOf are those that an object is in, or is for all of.
func (r *reconciler) workspacesOf(ctx context.Context, object client.Object) []reconcile.Request {
	if name := object.GetLabels()[LabelWorkspace]; name != "" {
		return []reconcile.Request{{NamespacedName: client.ObjectKey{Name: name}}}
	}
	if object.GetNamespace() != r.cfg.Namespace {
		return nil
	}
	var all v1alpha1.WorkspaceList
	if err := r.client.List(ctx, &all); err != nil {
		r.log.Error("cannot list the workspaces", "error", err)
		return nil
	}
	var requests []reconcile.Request
	for _, one := range all.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Name: one.Name}})
	}
	return requests
}
