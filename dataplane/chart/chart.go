// Package chart installs the Helm chart of a data plane, by Helm's own packages:
// what it leaves in the cluster is a release like any other, which `helm ls` and
// `helm rollback` see. It is not for what runs in the cluster then.
//
// Everything can be interrupted, and done again. What a killed run left half-made,
// a pending release too, the next one takes up.
//
// Start with Install. Where things are:
//
//	chart.go        Install, Upgrade, Render
//	compose.go      what the values are made of
//	values.go       the chart, and what its values may be
//	cluster.go      the Kubernetes that is meant, and its errors as sentences
//	definitions.go  CustomResourceDefinitions
//	lock.go         one run at a time
//	drift.go        what a run puts back
//	status.go       what a data plane is, for who may read its Secrets
//	observe.go      and for who may not
//	uninstall.go    its end
package chart

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"helm.sh/helm/v3/pkg/action"
	helmchart "helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corev1 "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/rest"

	"biplane.dev/biplane/internal/usererr"
)

// Names that others know, too.
const (
	// ReleaseName is the release's, of which a namespace has one.
	ReleaseName = "biplane-dataplane"
	// DefaultNamespace is where data planes are, for the trust of their roles.
	DefaultNamespace = "union"
	// JoinSecret has the join token, in JoinKey, until the data plane has joined.
	JoinSecret = "biplane-join"
	JoinKey    = "token"
	// TunnelSecret has the operator's certificate, once the data plane has joined.
	TunnelSecret = "biplane-tunnel"
	// joinedWith is its annotation with the SHA-256 of the token that was spent.
	joinedWith = "biplane.dev/joined-with"

	fieldManager = "biplane"
	maxHistory   = 10 // revisions that Helm keeps
)

// Accounts are the service accounts of the chart.
func Accounts() []string {
	return []string{"operator-system", "clustersync-system", "executor", "proxy-system"}
}

// Target says which data plane is meant.
type Target struct {
	Kubeconfig string // file; empty: as kubectl finds it
	// Config is the cluster, in place of a kubeconfig, for who has no file with his
	// credentials; nil: Kubeconfig.
	Config    *rest.Config
	Namespace string // empty: DefaultNamespace
	// Progress is told, in a line for people, what has been done and what is
	// waited for. It may be nil.
	Progress func(line string)
	Log      *slog.Logger // of Helm, at level debug; may be nil
}

// Options are what to install.
type Options struct {
	Target

	// Cluster is the name that the token is for. It overrides nothing: values that
	// name another are refused.
	Cluster string
	// Token is what `biplane cluster add` printed. It is not needed once the data
	// plane has joined.
	Token []byte
	// Values are the chart's. Nil in an upgrade: those of the release.
	Values map[string]any
	// Timeout of the wait until everything is ready; zero: 5 minutes.
	Timeout time.Duration
	// DryRun renders, has the cluster check it, and changes nothing.
	DryRun bool
}

// Install makes the data plane be as the options say, and waits until its
// processes are ready and it has joined its control plane. It does what is
// missing: with a release that is there already it is an upgrade.
//
// Errors for people are *usererr.Error. When ctx ends while Helm writes, Install
// returns and a call of Helm's may still be under way: it cannot be broken off.
func Install(ctx context.Context, o Options) (Status, error) {
	return run(ctx, o, true)
}

// Upgrade is Install for a release that must be there.
func Upgrade(ctx context.Context, o Options) (Status, error) {
	return run(ctx, o, false)
}

// Render returns the objects of the release as YAML, as `helm template` does, without
// a cluster.
func Render(namespace string, values map[string]any) (string, error) {
	chart, err := load()
	if err != nil {
		return "", err
	}
	if err := check(chart, values); err != nil {
		return "", err
	}
	install := action.NewInstall(new(action.Configuration))
	install.ReleaseName, install.Namespace = ReleaseName, namespace
	install.ClientOnly, install.DryRun = true, true
	install.KubeVersion = &chartutil.KubeVersion{Version: "v1.34.0", Major: "1", Minor: "34"} // there is none to ask
	rendered, err := install.Run(chart, values)
	if err != nil {
		return "", fmt.Errorf("rendering the chart: %w", err)
	}
	return rendered.Manifest, nil
}

func run(ctx context.Context, o Options, mayInstall bool) (Status, error) {
	c, err := connect(o.Target)
	if err != nil {
		return Status{}, err
	}
	chart, err := load()
	if err != nil {
		return Status{}, err
	}
	last, err := c.lastRelease()
	if err != nil {
		return Status{}, err
	}
	if last == nil && !mayInstall {
		return Status{}, c.notInstalled()
	}
	values := o.Values
	if values == nil && last != nil {
		values = last.Config
	}
	name := o.Cluster
	if name == "" && last != nil && clusterIn(values) == "" {
		name = clusterIn(last.Config)
	}
	values, err = withCluster(values, name)
	if err != nil {
		return Status{}, err
	}
	if err := check(chart, values); err != nil {
		return Status{}, err
	}
	joined, err := c.joined(ctx)
	if err != nil {
		return Status{}, err
	}
	token := bytes.TrimSpace(o.Token)
	if !joined && len(token) == 0 && !o.DryRun {
		if there, err := c.hasSecret(ctx, JoinSecret, JoinKey); err != nil {
			return Status{}, err
		} else if !there {
			return Status{}, usererr.New(usererr.Invalid, "the data plane in namespace %s has not joined yet, and there is no join token", c.namespace).
				WithHint("'biplane cluster add %s --token-file F' makes one; give it with --token-file F", cmp.Or(clusterIn(values), "NAME"))
		}
	}
	if o.DryRun {
		rendered, err := c.render(ctx, chart, values)
		if err != nil {
			return Status{}, err
		}
		status, err := c.statusOf(ctx, rendered)
		status.Manifest = rendered.Manifest
		return status, err
	}

	if err := c.makeNamespace(ctx); err != nil {
		return Status{}, err
	}
	unlock, err := c.lock(ctx)
	if err != nil {
		return Status{}, err
	}
	defer unlock()
	// Whoever had the lock before may have changed it.
	if last, err = c.lastRelease(); err != nil {
		return Status{}, err
	}
	if err := c.applyDefinitions(ctx); err != nil {
		return Status{}, err
	}
	// Also for one that has joined: it may have been removed there, and joins anew.
	if len(token) > 0 {
		if err := c.writeToken(ctx, token); err != nil {
			return Status{}, err
		}
	}
	if err := c.apply(ctx, chart, values, last); err != nil {
		return Status{}, err
	}
	return c.wait(ctx, cmp.Or(o.Timeout, 5*time.Minute))
}

// makeNamespace makes what is missing, since the token must be there before the
// operator is.
func (c *cluster) makeNamespace(ctx context.Context) error {
	_, err := c.kube.CoreV1().Namespaces().Get(ctx, c.namespace, metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return c.cannot("look for namespace "+c.namespace, err)
	}
	_, err = c.kube.CoreV1().Namespaces().Apply(ctx, corev1.Namespace(c.namespace), metav1.ApplyOptions{FieldManager: fieldManager})
	return c.cannot("make namespace "+c.namespace, err)
}

// writeToken hands the token to the operator, by a Secret that is no part of the
// release: Helm would keep it in the release's record. A token that the operator
// has spent already is not shown to it again.
func (c *cluster) writeToken(ctx context.Context, token []byte) error {
	tunnel, err := c.kube.CoreV1().Secrets(c.namespace).Get(ctx, TunnelSecret, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return c.cannot("look for Secret "+TunnelSecret, err)
	}
	if digest := sha256.Sum256(token); err == nil && tunnel.Annotations[joinedWith] == hex.EncodeToString(digest[:]) {
		c.progress("the data plane has joined with this token already")
		return nil
	}
	secret := corev1.Secret(JoinSecret, c.namespace).
		WithLabels(map[string]string{"app.kubernetes.io/part-of": "biplane"}).
		WithData(map[string][]byte{JoinKey: token})
	_, err = c.kube.CoreV1().Secrets(c.namespace).Apply(ctx, secret, metav1.ApplyOptions{FieldManager: fieldManager, Force: true})
	return c.cannot("write the join token to Secret "+JoinSecret, err)
}

// joined reports whether the operator has its certificate, and no token that it
// has yet to spend.
func (c *cluster) joined(ctx context.Context) (bool, error) {
	has, err := c.hasSecret(ctx, TunnelSecret, "tls.crt")
	if err != nil || !has {
		return false, err
	}
	waits, err := c.hasSecret(ctx, JoinSecret, JoinKey)
	return !waits, err
}

func (c *cluster) hasSecret(ctx context.Context, name, key string) (bool, error) {
	secret, err := c.kube.CoreV1().Secrets(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, c.cannot("look for Secret "+name, err)
	}
	return len(secret.Data[key]) > 0, nil
}

// lastRelease is the newest revision, whatever became of it, or nil.
func (c *cluster) lastRelease() (*release.Release, error) {
	last, err := c.helm.Releases.Last(ReleaseName)
	if errors.Is(err, driver.ErrReleaseNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, c.cannot("read Helm's record of release "+ReleaseName, err)
	}
	return last, nil
}

func (c *cluster) notInstalled() error {
	return usererr.New(usererr.NotFound, "namespace %s has no release %s", c.namespace, ReleaseName).
		WithHint("'biplane dataplane chart install --help' tells how to make one; --namespace names another place")
}

// apply brings the release up to the chart and the values.
func (c *cluster) apply(ctx context.Context, chart *helmchart.Chart, values map[string]any, last *release.Release) error {
	last, err := c.recoverRelease(ctx, last)
	if err != nil {
		return err
	}
	if last == nil {
		install := c.install()
		if _, err := install.RunWithContext(ctx, chart, values); err != nil {
			return c.refused(ctx, err)
		}
		c.progress("installed the chart")
		return nil
	}
	if last.Info.Status == release.StatusDeployed {
		same, err := c.unchanged(ctx, chart, values, last)
		if err != nil {
			return err
		}
		if same {
			c.progress("the chart is installed already, with these values")
			return nil
		}
	}
	upgrade := action.NewUpgrade(c.helm)
	upgrade.Namespace, upgrade.MaxHistory, upgrade.ResetValues = c.namespace, maxHistory, true
	upgrade.DisableOpenAPIValidation = true
	if _, err := upgrade.RunWithContext(ctx, ReleaseName, chart, values); err != nil {
		return c.refused(ctx, err)
	}
	c.progress("upgraded the chart")
	return nil
}

// recoverRelease makes of a release that a killed run left pending one that Helm
// upgrades from. It returns nil where there is none to upgrade. By the lock, no
// other run of ours is at work on it. One of Helm's own command line could be, which
// Helm cannot tell from a killed one either.
func (c *cluster) recoverRelease(ctx context.Context, last *release.Release) (*release.Release, error) {
	switch {
	case last == nil:
		return nil, nil
	case last.Info.Status == release.StatusUninstalling, last.Info.Status == release.StatusUninstalled:
		c.progress("finishing an uninstall that was broken off")
		uninstall := action.NewUninstall(c.helm)
		uninstall.IgnoreNotFound = true
		if _, err := uninstall.Run(ReleaseName); err != nil {
			return nil, c.refused(ctx, err)
		}
		return nil, nil
	case last.Info.Status.IsPending():
		c.progress(fmt.Sprintf("taking up revision %d, which was broken off", last.Version))
		last.SetStatus(release.StatusFailed, "broken off")
		if err := c.helm.Releases.Update(last); err != nil {
			return nil, c.cannot("write Helm's record of release "+ReleaseName, err)
		}
	}
	return last, nil
}

// unchanged reports whether an upgrade would change nothing, in the release or in
// the cluster.
func (c *cluster) unchanged(ctx context.Context, chart *helmchart.Chart, values map[string]any, last *release.Release) (bool, error) {
	next, err := c.render(ctx, chart, values)
	if err != nil {
		return false, err
	}
	if next.Manifest != last.Manifest || last.Chart.Metadata.Version != chart.Metadata.Version || !sameValues(values, last.Config) {
		return false, nil
	}
	changed, err := c.changed(ctx, last.Manifest)
	if err != nil {
		return false, err
	}
	for _, object := range changed {
		c.progress(object + " is not as the chart has it, and is put back")
	}
	return len(changed) == 0, nil
}

// sameValues compares as JSON, which is how Helm keeps them: a number has another
// type by then.
func sameValues(a, b map[string]any) bool {
	if len(a) == 0 && len(b) == 0 {
		return true
	}
	one, err := json.Marshal(a)
	if err != nil {
		return false
	}
	other, err := json.Marshal(b)
	return err == nil && bytes.Equal(one, other)
}

// render has Helm and the cluster say what the release would be. A dry run of an
// install does so whatever state the release is in.
func (c *cluster) render(ctx context.Context, chart *helmchart.Chart, values map[string]any) (*release.Release, error) {
	install := c.install()
	install.DryRunOption = "server"
	rendered, err := install.RunWithContext(ctx, chart, values)
	if err != nil {
		return nil, c.refused(ctx, err)
	}
	return rendered, nil
}

// install is Helm's. The kinds are applied, newer ones too, before it; and the chart
// is checked against Kubernetes' types by our own tests, not by a download of
// their descriptions for each run.
func (c *cluster) install() *action.Install {
	install := action.NewInstall(c.helm)
	install.ReleaseName, install.Namespace = ReleaseName, c.namespace
	install.SkipCRDs, install.DisableOpenAPIValidation = true, true
	return install
}
