package operator

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/operator/internal/pki"
	"biplane.dev/biplane/internal/usererr"
)

const (
	// receivedName is the ConfigMap that keeps what was last received, for an operator
	// that starts while the control plane is away.
	receivedName = "biplane-received"
	receivedKey  = "config.json"
	// maxConfig is what fits into a ConfigMap, some ten thousand workspaces.
	maxConfig = 1 << 20

	watchRetry     = time.Second
	lastWatchRetry = 30 * time.Second
	applyRetry     = time.Second
	lastApplyRetry = 30 * time.Second
	// applyInterval is how long something stays as somebody else made it.
	applyInterval = 5 * time.Minute
)

// received is what the control plane says that this data plane shall be. Whatever
// came last holds: it is whole, and nothing is told apart by its revision.
type received struct {
	client    client.Client // not cached
	namespace string
	log       *slog.Logger

	offered chan struct{} // gets a value when there is a newer one to apply
	applied chan struct{} // gets a value when one was applied

	mu       sync.Mutex
	latest   *tunnelv1.Config
	inForce  *tunnelv1.Config
	revision uint64 // of inForce
}

func newReceived(api client.Client, namespace string, log *slog.Logger) *received {
	return &received{client: api, namespace: namespace, log: log, offered: make(chan struct{}, 1), applied: make(chan struct{}, 1)}
}

// Revision is that of the configuration in force; 0 before there is one.
func (r *received) Revision() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.revision
}

// proxyNames are those by which clients know the proxy.
func (r *received) proxyNames() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.inForce.GetProxyNames())
}

// Watch takes what the control plane sends through one session, until ctx ends.
func (r *received) Watch(ctx context.Context, link tunnelv1connect.LinkServiceClient) {
	retry := watchRetry
	for {
		err := func() error {
			stream, err := link.WatchConfig(ctx, &tunnelv1.WatchConfigRequest{})
			if err != nil {
				return err
			}
			defer stream.Close()
			for stream.Receive() {
				retry = watchRetry
				r.offer(stream.Msg())
			}
			return stream.Err()
		}()
		if ctx.Err() != nil {
			return
		}
		r.log.Warn("the watch of the configuration ended", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(retry):
		}
		retry = min(2*retry, lastWatchRetry)
	}
}

func (r *received) offer(config *tunnelv1.Config) {
	r.mu.Lock()
	r.latest = config
	r.mu.Unlock()
	select {
	case r.offered <- struct{}{}:
	default:
	}
}

// Run applies what was received last, and again whenever there is something newer
// or a while has gone, until ctx ends.
func (r *received) Run(ctx context.Context) {
	retry := applyRetry
	for ctx.Err() == nil {
		wait := applyInterval
		if err := r.step(ctx); err != nil && ctx.Err() == nil {
			r.log.Error("cannot apply the control plane's configuration", "error", usererr.Chain(err))
			wait, retry = retry, min(2*retry, lastApplyRetry)
		} else {
			retry = applyRetry
		}
		select {
		case <-ctx.Done():
		case <-r.offered:
		case <-time.After(wait):
		}
	}
}

func (r *received) step(ctx context.Context) error {
	r.mu.Lock()
	config := r.latest
	r.mu.Unlock()
	if config == nil {
		kept, err := r.load(ctx)
		if err != nil || kept == nil {
			return err
		}
		config = kept
	}
	if err := r.applyWorkspaces(ctx, config); err != nil {
		return err
	}
	if err := r.save(ctx, config); err != nil {
		return err
	}
	r.mu.Lock()
	news := r.revision != config.GetRevision()
	r.inForce, r.revision = config, config.GetRevision()
	r.mu.Unlock()
	select {
	case r.applied <- struct{}{}:
	default:
	}
	if news {
		r.log.Info("a configuration is in force", "revision", config.GetRevision(), "workspaces", len(config.GetWorkspaces()), "proxy_names", config.GetProxyNames())
	}
	return nil
}

// applyWorkspaces makes the Workspace objects what the configuration says. One that
// is not in it any more is suspended and never deleted: what a mistake upstream
// could delete is people's data.
func (r *received) applyWorkspaces(ctx context.Context, config *tunnelv1.Config) error {
	list := &v1alpha1.WorkspaceList{}
	if err := r.client.List(ctx, list); err != nil {
		return fmt.Errorf("listing the workspaces: %w", err)
	}
	have := map[string]*v1alpha1.Workspace{}
	for i := range list.Items {
		have[list.Items[i].Name] = &list.Items[i]
	}
	var failed []error
	for _, w := range config.GetWorkspaces() {
		name := v1alpha1.NamespaceOf(w.GetProject(), w.GetDomain())
		spec := v1alpha1.WorkspaceSpec{Organization: config.GetOrganization(), Project: w.GetProject(), Domain: w.GetDomain(), Suspended: w.GetSuspended()}
		err := r.applyWorkspace(ctx, have[name], name, spec)
		delete(have, name)
		if apierrors.IsInvalid(err) {
			// No later try would help, and the other workspaces must not wait for it.
			r.log.Error("a workspace cannot be made", "workspace", name, "error", err)
			continue
		}
		failed = append(failed, err)
	}
	for name, rest := range have {
		spec := rest.Spec
		spec.Suspended = true
		failed = append(failed, r.applyWorkspace(ctx, rest, name, spec))
	}
	return errors.Join(failed...)
}

func (r *received) applyWorkspace(ctx context.Context, have *v1alpha1.Workspace, name string, spec v1alpha1.WorkspaceSpec) error {
	if have == nil {
		made := &v1alpha1.Workspace{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
				pki.Label:                  pki.LabelValue,
				v1alpha1.LabelOrganization: spec.Organization,
				v1alpha1.LabelProject:      spec.Project,
				v1alpha1.LabelDomain:       spec.Domain,
			}},
			Spec: spec,
		}
		if err := r.client.Create(ctx, made); err != nil {
			return fmt.Errorf("creating the workspace %s: %w", name, err)
		}
		r.log.Info("made a workspace", "workspace", name)
		return nil
	}
	if have.Spec == spec {
		return nil
	}
	if have.Spec.Organization != spec.Organization || have.Spec.Project != spec.Project || have.Spec.Domain != spec.Domain {
		// Its namespace is full of somebody else's data. A project a-b with a domain c has
		// the namespace of a project a with a domain b-c.
		r.log.Error("a workspace belongs to another project or organization, and stays as it is",
			"workspace", name, "organization", have.Spec.Organization, "project", have.Spec.Project, "domain", have.Spec.Domain)
		return nil
	}
	have.Spec = spec
	if err := r.client.Update(ctx, have); err != nil {
		return fmt.Errorf("updating the workspace %s: %w", name, err)
	}
	r.log.Info("changed a workspace", "workspace", name, "suspended", spec.Suspended)
	return nil
}

func (r *received) load(ctx context.Context) (*tunnelv1.Config, error) {
	kept := &corev1.ConfigMap{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: receivedName}, kept)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the ConfigMap %s/%s: %w", r.namespace, receivedName, err)
	}
	config := &tunnelv1.Config{}
	if err := (protojson.UnmarshalOptions{DiscardUnknown: true}).Unmarshal([]byte(kept.Data[receivedKey]), config); err != nil {
		r.log.Warn("what was last received cannot be read; waiting for the control plane", "configmap", receivedName, "error", err)
		return nil, nil
	}
	return config, nil
}

func (r *received) save(ctx context.Context, config *tunnelv1.Config) error {
	text, err := protojson.Marshal(config)
	if err != nil {
		return fmt.Errorf("writing the configuration as JSON: %w", err)
	}
	kept := &corev1.ConfigMap{}
	err = r.client.Get(ctx, client.ObjectKey{Namespace: r.namespace, Name: receivedName}, kept)
	switch {
	case apierrors.IsNotFound(err):
		kept.ObjectMeta = metav1.ObjectMeta{Namespace: r.namespace, Name: receivedName, Labels: map[string]string{pki.Label: pki.LabelValue}}
		kept.Data = map[string]string{receivedKey: string(text)}
		err = r.client.Create(ctx, kept)
	case err == nil && !same(kept.Data[receivedKey], config):
		kept.Data = map[string]string{receivedKey: string(text)}
		err = r.client.Update(ctx, kept)
	}
	if err != nil {
		return fmt.Errorf("keeping the ConfigMap %s/%s: %w", r.namespace, receivedName, err)
	}
	return nil
}

// same compares with what was kept. Texts would not do: protojson varies its own.
func same(kept string, config *tunnelv1.Config) bool {
	was := &tunnelv1.Config{}
	return protojson.Unmarshal([]byte(kept), was) == nil && proto.Equal(was, config)
}
