package clustersync

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/client"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/internal/clustertest"
	"biplane.dev/biplane/dataplane/internal/clustertest/rights"
)

var cluster *clustertest.Cluster

func TestMain(m *testing.M) {
	ctrllog.SetLogger(logr.Discard())
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { cluster = c; return m.Run() }))
}

const (
	role = "arn:aws:iam::123456789012:role/userflyterole"
	ca   = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
)

// plane is a data plane of a test's own, with its CA.
func plane(t *testing.T) *config.Config {
	t.Helper()
	cfg := &config.Config{Namespace: cluster.Namespace(t, "union")}
	cfg.Operator.Endpoint = "operator." + cfg.Namespace + ".svc.cluster.local:8443"
	cfg.Clustersync.TaskRoleARN = role
	create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: caConfigMap}, Data: map[string]string{caKey: ca}})
	return cfg
}

// once is a reconciler that nothing calls but the test.
func once(t *testing.T, cfg *config.Config) *reconciler {
	t.Helper()
	r := &reconciler{client: cluster.Client, live: cluster.Client, mapper: cluster.Client.RESTMapper(), events: record.NewFakeRecorder(100),
		cfg: cfg, log: slog.New(slog.DiscardHandler), metrics: newMetrics(prometheus.NewRegistry())}
	r.templates, r.broken = loadTemplates(cfg.Clustersync.Templates)
	return r
}

func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := cluster.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

// workspace makes one, of a project that no other test has.
func workspace(t *testing.T) *v1alpha1.Workspace {
	t.Helper()
	w := &v1alpha1.Workspace{Spec: v1alpha1.WorkspaceSpec{Organization: "acme", Project: "p" + rand.String(8), Domain: "development"}}
	w.Name = v1alpha1.NamespaceOf(w.Spec.Project, w.Spec.Domain)
	create(t, w)
	return w
}

// sync reconciles, and returns the condition Ready that came of it.
func (r *reconciler) sync(t *testing.T, w *v1alpha1.Workspace) metav1.Condition {
	t.Helper()
	if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: w.Name}}); err != nil {
		t.Fatal(err)
	}
	get(t, w, "", w.Name)
	condition := meta.FindStatusCondition(w.Status.Conditions, "Ready")
	if condition == nil {
		t.Fatal("got no condition Ready, want one")
	}
	if condition.ObservedGeneration != w.Generation || w.Status.ObservedGeneration != w.Generation {
		t.Errorf("got the condition of generation %d, want %d", condition.ObservedGeneration, w.Generation)
	}
	return *condition
}

func get[T client.Object](t *testing.T, into T, namespace, name string) T {
	t.Helper()
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func wantReason(t *testing.T, got metav1.Condition, reason, message string) {
	t.Helper()
	ready := reason == reasonReady || reason == reasonSuspended
	if got.Reason != reason || (got.Status == metav1.ConditionTrue) != ready || !strings.Contains(got.Message, message) {
		t.Errorf("got Ready=%s %s: %s, want %s: …%s…", got.Status, got.Reason, got.Message, reason, message)
	}
}

func TestWorkspace(t *testing.T) {
	t.Parallel()

	t.Run("it makes the namespace and what belongs in it", func(t *testing.T) {
		t.Parallel()
		cfg, w := plane(t), workspace(t)
		wantReason(t, once(t, cfg).sync(t, w), reasonReady, "")

		namespace := get(t, &corev1.Namespace{}, "", w.Name)
		for label, want := range map[string]string{
			LabelWorkspace: w.Name, LabelManaged: FieldManager,
			"biplane.dev/organization": "acme", "biplane.dev/project": w.Spec.Project, "biplane.dev/domain": "development",
		} {
			if got := namespace.Labels[label]; got != want {
				t.Errorf("got %s=%q of the namespace, want %q", label, got, want)
			}
		}
		if got := get(t, &corev1.ServiceAccount{}, w.Name, "default").Annotations["eks.amazonaws.com/role-arn"]; got != role {
			t.Errorf("got role %q of the account, want %q", got, role)
		}
		for name, account := range map[string]string{"biplane-executor": "executor", "biplane-proxy": "proxy-system"} {
			binding := get(t, &rbacv1.RoleBinding{}, w.Name, name)
			if len(binding.Subjects) != 1 || binding.Subjects[0].Name != account || binding.Subjects[0].Namespace != cfg.Namespace {
				t.Errorf("got %s for %v, want it for %s/%s", name, binding.Subjects, cfg.Namespace, account)
			}
		}
		if got := get(t, &corev1.ResourceQuota{}, w.Name, "biplane").Spec.Hard; len(got) != 0 {
			t.Errorf("got the quota %v, want none", got)
		}
		get(t, &corev1.LimitRange{}, w.Name, "biplane")
		get(t, &networkingv1.NetworkPolicy{}, w.Name, "biplane")

		client := get(t, &corev1.ConfigMap{}, w.Name, "biplane-client")
		if got := client.Data["ca.crt"]; got != ca {
			t.Errorf("got CA %q, want %q", got, ca)
		}
		var flyte struct {
			Admin struct {
				Endpoint, CACertFilePath, AuthType string
				Command                            []string
			}
			Task struct{ Org, Project, Domain string }
		}
		if err := yaml.Unmarshal([]byte(client.Data["config.yaml"]), &flyte); err != nil {
			t.Fatal(err)
		}
		if got, want := flyte.Admin.Endpoint, "dns:///"+cfg.Operator.Endpoint; got != want {
			t.Errorf("got endpoint %q, want %q", got, want)
		}
		if got, want := fmt.Sprint(flyte.Admin.AuthType, flyte.Admin.Command, flyte.Admin.CACertFilePath), fmt.Sprint("ExternalCommand", []string{"cat", config.TokenFile}, "/etc/biplane/client/ca.crt"); got != want {
			t.Errorf("got credentials %s, want %s", got, want)
		}
		if got, want := fmt.Sprint(flyte.Task), fmt.Sprint(struct{ a, b, c string }{"acme", w.Spec.Project, "development"}); got != want {
			t.Errorf("got task %s, want %s", got, want)
		}
	})

	t.Run("it writes nothing where nothing is to be changed", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		r.sync(t, w)
		before := get(t, &corev1.ConfigMap{}, w.Name, "biplane-client").ResourceVersion
		version := w.ResourceVersion
		r.sync(t, w)
		if got := get(t, &corev1.ConfigMap{}, w.Name, "biplane-client").ResourceVersion; got != before {
			t.Errorf("got version %s of the ConfigMap, want %s as before", got, before)
		}
		if w.ResourceVersion != version {
			t.Errorf("got version %s of the workspace, want %s as before", w.ResourceVersion, version)
		}
	})

	t.Run("it gives no new pod a place while the workspace is suspended, and keeps the rest", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		r.sync(t, w)
		w.Spec.Suspended = true
		if err := cluster.Client.Update(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		wantReason(t, r.sync(t, w), reasonSuspended, "no new pod")
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.Name, Name: "late"}, Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}}
		if got := get(t, &corev1.ResourceQuota{}, w.Name, "biplane").Spec.Hard.Pods().String(); got != "0" {
			t.Errorf("got a quota of %s pods, want 0", got)
		}
		get(t, &corev1.ConfigMap{}, w.Name, "biplane-client")

		w.Spec.Suspended = false
		if err := cluster.Client.Update(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		wantReason(t, r.sync(t, w), reasonReady, "")
		if got := get(t, &corev1.ResourceQuota{}, w.Name, "biplane").Spec.Hard; len(got) != 0 {
			t.Errorf("got the quota %v, want none again", got)
		}
		if annotation, there := get(t, &corev1.Namespace{}, "", w.Name).Annotations["biplane.dev/suspended"]; there {
			t.Errorf("got the annotation suspended=%s, want it gone", annotation)
		}
		create(t, pod)
	})

	t.Run("it leaves the namespace of a workspace that is gone", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		r.sync(t, w)
		if err := cluster.Client.Delete(t.Context(), w); err != nil {
			t.Fatal(err)
		}
		if _, err := r.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKey{Name: w.Name}}); err != nil {
			t.Fatal(err)
		}
		if got := get(t, &corev1.Namespace{}, "", w.Name); got.DeletionTimestamp != nil {
			t.Error("got the namespace deleted, want it kept")
		}
		get(t, &corev1.ConfigMap{}, w.Name, "biplane-client")
	})

	t.Run("it waits for the CA", func(t *testing.T) {
		t.Parallel()
		cfg, w := plane(t), workspace(t)
		if err := cluster.Client.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: caConfigMap}}); err != nil {
			t.Fatal(err)
		}
		wantReason(t, once(t, cfg).sync(t, w), reasonCA, "the operator has not made ConfigMap biplane-ca")
	})

	t.Run("it copies the pull secret, and names one that is missing", func(t *testing.T) {
		t.Parallel()
		cfg, w := plane(t), workspace(t)
		cfg.Clustersync.PullSecret = "registry"
		r := once(t, cfg)
		wantReason(t, r.sync(t, w), reasonPullSecret, "no Secret registry in namespace "+cfg.Namespace)
		create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: "registry"},
			Type: corev1.SecretTypeDockerConfigJson, Data: map[string][]byte{corev1.DockerConfigJsonKey: []byte(`{"auths":{}}`)}})
		wantReason(t, r.sync(t, w), reasonReady, "")
		copied := get(t, &corev1.Secret{}, w.Name, "registry")
		if got := string(copied.Data[corev1.DockerConfigJsonKey]); copied.Type != corev1.SecretTypeDockerConfigJson || got != `{"auths":{}}` {
			t.Errorf("got a secret of type %s with %s, want the copy", copied.Type, got)
		}
		if got := get(t, &corev1.ServiceAccount{}, w.Name, "default").ImagePullSecrets; len(got) != 1 || got[0].Name != "registry" {
			t.Errorf("got pull secrets %v of the account, want registry", got)
		}
	})

	t.Run("it takes no name for more than a name", func(t *testing.T) {
		t.Parallel()
		r := once(t, plane(t))
		for _, organization := range []string{
			"a\"}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: planted}\n", "{{ .ca }}", "a: b", "*", strings.Repeat("a", 64), "\x00", "&x",
		} {
			w := &v1alpha1.Workspace{Spec: v1alpha1.WorkspaceSpec{Organization: organization, Project: "p" + rand.String(8), Domain: "development"}}
			w.Name = v1alpha1.NamespaceOf(w.Spec.Project, w.Spec.Domain)
			create(t, w)
			wantReason(t, r.sync(t, w), reasonRefused, "Namespace "+w.Name)
			err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: w.Name}, &corev1.Namespace{})
			if !apierrors.IsNotFound(err) {
				t.Errorf("got %v for the namespace of organization %q, want none", err, organization)
			}
		}
		for _, project := range []string{"a/b", "..", "A", "a b", "a\nb", strings.Repeat("a", 60), "-a", "a_b"} {
			w := &v1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: "x" + rand.String(8)}, Spec: v1alpha1.WorkspaceSpec{Organization: "acme", Project: project, Domain: "development"}}
			create(t, w)
			wantReason(t, r.sync(t, w), reasonName, "")
			w.Name = v1alpha1.NamespaceOf(project, "development")
			if err := r.checkName(w); err == nil {
				t.Errorf("got the project %q taken, want no namespace called so", project)
			}
		}
	})

	t.Run("it refuses a workspace whose namespace is another's", func(t *testing.T) {
		t.Parallel()
		cfg := plane(t)
		r := once(t, cfg)
		for _, one := range []struct{ name, project, domain, want string }{
			{"kube-system", "kube", "system", "not for workspaces"},
			{cfg.Namespace, strings.TrimSuffix(cfg.Namespace, cfg.Namespace[strings.LastIndex(cfg.Namespace, "-"):]), cfg.Namespace[strings.LastIndex(cfg.Namespace, "-")+1:], "not for workspaces"},
			{"x" + rand.String(8) + "-y", "other", "y", "must be called other-y"},
		} {
			w := &v1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: one.name}, Spec: v1alpha1.WorkspaceSpec{Organization: "acme", Project: one.project, Domain: one.domain}}
			create(t, w)
			wantReason(t, r.sync(t, w), reasonName, one.want)
		}
		if got := get(t, &corev1.Namespace{}, "", "kube-system").Labels[LabelWorkspace]; got != "" {
			t.Errorf("got kube-system labelled as workspace %s, want it left alone", got)
		}
	})
}

func TestForeign(t *testing.T) {
	t.Parallel()

	t.Run("it leaves a namespace alone that somebody else made, and everything in it", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Name}})
		before := get(t, &corev1.Namespace{}, "", w.Name).ResourceVersion
		wantReason(t, r.sync(t, w), reasonForeign, "kubectl label namespace "+w.Name+" biplane.dev/workspace="+w.Name)
		if got := get(t, &corev1.Namespace{}, "", w.Name).ResourceVersion; got != before {
			t.Errorf("got version %s of the namespace, want %s as before", got, before)
		}
		for _, list := range []client.ObjectList{&rbacv1.RoleBindingList{}, &corev1.ResourceQuotaList{}, &networkingv1.NetworkPolicyList{}} {
			if err := cluster.Client.List(t.Context(), list, client.InNamespace(w.Name)); err != nil {
				t.Fatal(err)
			}
			if got := meta.LenList(list); got != 0 {
				t.Errorf("got %d in a %T, want none", got, list)
			}
		}
		// Nor is it handed over to another workspace.
		namespace := get(t, &corev1.Namespace{}, "", w.Name)
		namespace.Labels[LabelWorkspace] = "other-development"
		if err := cluster.Client.Update(t.Context(), namespace); err != nil {
			t.Fatal(err)
		}
		wantReason(t, r.sync(t, w), reasonForeign, "is not clustersync's")
	})

	t.Run("it adopts a namespace that was handed over, without calling it its own", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Name, Labels: map[string]string{"team": "a", LabelWorkspace: w.Name}}})
		wantReason(t, r.sync(t, w), reasonReady, "")
		namespace := get(t, &corev1.Namespace{}, "", w.Name)
		if namespace.Labels["team"] != "a" || namespace.Labels[LabelWorkspace] != w.Name {
			t.Errorf("got labels %v, want team=a and the workspace", namespace.Labels)
		}
		if got, there := namespace.Labels[LabelManaged]; there {
			t.Errorf("got the namespace managed by %s, want no claim to it", got)
		}
	})

	t.Run("it names what another wants otherwise, writes nothing to it, and goes on", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: w.Name, Labels: map[string]string{LabelWorkspace: w.Name}}})
		create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.Name, Name: "default", Annotations: map[string]string{"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/theirs"}}})
		create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.Name, Name: "theirs"}, Data: map[string]string{"a": "b"}})
		wantReason(t, r.sync(t, w), reasonConflict, "ServiceAccount default is not clustersync's, and is otherwise")
		account := get(t, &corev1.ServiceAccount{}, w.Name, "default")
		if got := account.Annotations["eks.amazonaws.com/role-arn"]; got != "arn:aws:iam::1:role/theirs" || account.Labels[LabelWorkspace] != "" {
			t.Errorf("got role %s and labels %v, want it as it was", got, account.Labels)
		}
		if got := get(t, &corev1.ConfigMap{}, w.Name, "theirs"); len(got.Labels) != 0 {
			t.Errorf("got labels %v of an object that no template makes, want none", got.Labels)
		}
		get(t, &corev1.ConfigMap{}, w.Name, "biplane-client")

		// They give it up.
		delete(account.Annotations, "eks.amazonaws.com/role-arn")
		if err := cluster.Client.Update(t.Context(), account); err != nil {
			t.Fatal(err)
		}
		wantReason(t, r.sync(t, w), reasonReady, "")
	})

	t.Run("it puts back what somebody changed of its own, and keeps what they added", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		r.sync(t, w)
		client := get(t, &corev1.ConfigMap{}, w.Name, "biplane-client")
		client.Data["ca.crt"], client.Data["more"] = "other", "theirs"
		if err := cluster.Client.Update(t.Context(), client); err != nil {
			t.Fatal(err)
		}
		wantReason(t, r.sync(t, w), reasonReady, "")
		client = get(t, &corev1.ConfigMap{}, w.Name, "biplane-client")
		if client.Data["ca.crt"] != ca || client.Data["more"] != "theirs" {
			t.Errorf("got %v, want the CA put back and the rest kept", client.Data)
		}
	})

	t.Run("it lets go of an object whose label was taken away", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		r.sync(t, w)
		quota := get(t, &corev1.LimitRange{}, w.Name, "biplane")
		delete(quota.Labels, LabelManaged)
		quota.Spec.Limits[0].DefaultRequest = corev1.ResourceList{"cpu": *quota.Spec.Limits[0].DefaultRequest.Memory()}
		if err := cluster.Client.Update(t.Context(), quota); err != nil {
			t.Fatal(err)
		}
		wantReason(t, r.sync(t, w), reasonConflict, "LimitRange biplane is not clustersync's")
	})

	t.Run("it says that the namespace is being deleted, and makes it anew", func(t *testing.T) {
		t.Parallel()
		r, w := once(t, plane(t)), workspace(t)
		r.sync(t, w)
		if err := cluster.Client.Delete(t.Context(), get(t, &corev1.Namespace{}, "", w.Name)); err != nil {
			t.Fatal(err)
		}
		// There is no controller manager that would end it.
		wantReason(t, r.sync(t, w), reasonTerminating, "is being deleted")
		namespace := get(t, &corev1.Namespace{}, "", w.Name)
		namespace.Spec.Finalizers = nil
		if err := cluster.Client.SubResource("finalize").Update(t.Context(), namespace); err != nil && !apierrors.IsNotFound(err) {
			t.Fatal(err)
		}
		wantReason(t, r.sync(t, w), reasonReady, "")
	})
}

func TestTemplates(t *testing.T) {
	t.Parallel()
	folder := func(t *testing.T, files map[string]string) string {
		t.Helper()
		dir := t.TempDir()
		for name, text := range files {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}

	t.Run("it lays a folder over the program's, by name", func(t *testing.T) {
		t.Parallel()
		cfg, w := plane(t), workspace(t)
		cfg.Clustersync.Values = map[string]string{"maxPods": "7", "greeting": `a "b": c`}
		cfg.Clustersync.Templates = folder(t, map[string]string{
			"50-network.yaml": "",
			"70-more.yaml":    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: more}\ndata: {greeting: {{ quote .values.greeting }}}\n",
			"README.md":       "{{ no template }}",
		})
		wantReason(t, once(t, cfg).sync(t, w), reasonReady, "")
		if got := get(t, &corev1.ConfigMap{}, w.Name, "more").Data["greeting"]; got != `a "b": c` {
			t.Errorf("got greeting %q, want the value as it is", got)
		}
		if got := get(t, &corev1.ResourceQuota{}, w.Name, "biplane").Spec.Hard.Pods().String(); got != "7" {
			t.Errorf("got a quota of %s pods, want 7", got)
		}
		err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: w.Name, Name: "biplane"}, &networkingv1.NetworkPolicy{})
		if !apierrors.IsNotFound(err) {
			t.Errorf("got %v for a template that was taken away, want no such object", err)
		}
	})

	for name, one := range map[string]struct{ text, reason, want string }{
		"it names the line of a template that cannot be read":    {"a: 1\nb: {{ .project", reasonTemplate, "70-more.yaml:2"},
		"it names a value that there is not":                     {"a: {{ .values.sise }}", reasonTemplate, `no entry for key "sise"`},
		"it names a key that there is not":                       {"a: {{ .projekt }}", reasonTemplate, `no entry for key "projekt"`},
		"it refuses what is no YAML":                             {"a: [", reasonTemplate, "70-more.yaml: document 1"},
		"it refuses an object without kind":                      {"apiVersion: v1\nmetadata: {name: x}", reasonTemplate, "no apiVersion or no kind"},
		"it refuses an object without name":                      {"apiVersion: v1\nkind: ConfigMap", reasonTemplate, "has no metadata.name"},
		"it refuses an object of another namespace":              {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: kube-system}", reasonTemplate, "is in namespace kube-system"},
		"it refuses another Namespace":                           {"apiVersion: v1\nkind: Namespace\nmetadata: {name: other}", reasonTemplate, "is not the workspace's"},
		"it refuses what is in no namespace":                     {"apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: x}", reasonTemplate, "is in no namespace"},
		"it names a kind that the cluster has not":               {"apiVersion: example.com/v1\nkind: Gadget\nmetadata: {name: x}", reasonTemplate, "no Gadget of example.com/v1"},
		"it refuses more than a workspace can need":              {"{{ range $i, $c := .ca }}{{ $.ca }}{{ end }}", reasonTemplate, ""},
		"it says what the API server refuses":                    {"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: 'A B'}", reasonRefused, "ConfigMap A B"},
		"it refuses a template in a loop that would never end":   {"{{ define \"x\" }}a{{ template \"x\" . }}{{ end }}{{ template \"x\" . }}", reasonTemplate, ""},
		"it refuses a Namespace taken away with nothing instead": {"", reasonTemplate, "no template makes the Namespace"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg, w := plane(t), workspace(t)
			files := map[string]string{"70-more.yaml": one.text}
			if one.text == "" {
				files = map[string]string{"10-namespace.yaml": ""}
			}
			cfg.Clustersync.Templates = folder(t, files)
			if strings.Contains(one.text, "range $i") {
				files["70-more.yaml"] = strings.Repeat("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n", maxObjects+1)
				cfg.Clustersync.Templates = folder(t, files)
			}
			wantReason(t, once(t, cfg).sync(t, w), one.reason, one.want)
		})
	}
}

// asChart is the API server as clustersync sees it with what the chart grants, and
// nothing else.
func asChart(t *testing.T, cfg *config.Config) *rest.Config {
	t.Helper()
	if err := rights.Grant(t.Context(), cluster, cfg.Namespace, map[string]any{"clustersync": map[string]any{"pullSecret": cfg.Clustersync.PullSecret}}); err != nil {
		t.Fatal(err)
	}
	return rights.Of(cluster, cfg.Namespace, "clustersync-system")
}

// TestRun is about watches, and the rights that they need. It is alone, since a manager syncs every workspace of
// the cluster.
func TestRun(t *testing.T) {
	cfg := plane(t)
	if err := cluster.Client.Delete(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: caConfigMap}}); err != nil {
		t.Fatal(err)
	}
	cfg.Clustersync.PullSecret = "registry"
	pull := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: "registry"}, Data: map[string][]byte{"a": []byte("1")}}
	create(t, pull)
	s, err := newSyncer(asChart(t, cfg), cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.ready(); err == nil {
		t.Error("got it ready before it was started, want why not")
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.manager.Start(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	eventually(t, "ready", func() bool { return s.ready() == nil })

	w := workspace(t)
	reason := func() string {
		get(t, w, "", w.Name)
		if condition := meta.FindStatusCondition(w.Status.Conditions, "Ready"); condition != nil {
			return condition.Reason
		}
		return ""
	}
	eventually(t, "waiting for the CA", func() bool { return reason() == reasonCA })
	create(t, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: caConfigMap}, Data: map[string]string{caKey: ca}})
	eventually(t, "ready once the CA is there", func() bool { return reason() == reasonReady })

	// Each kind of change is seen by a watch.
	for what, change := range map[string]func(*corev1.ConfigMap) error{
		"changed": func(c *corev1.ConfigMap) error { c.Data[caKey] = "x"; return cluster.Client.Update(t.Context(), c) },
		"without label": func(c *corev1.ConfigMap) error {
			delete(c.Labels, LabelWorkspace)
			return cluster.Client.Update(t.Context(), c)
		},
		"deleted": func(c *corev1.ConfigMap) error { return cluster.Client.Delete(t.Context(), c) },
		"of an older text": func(c *corev1.ConfigMap) error {
			c.Data["config.yaml"] = ""
			return cluster.Client.Update(t.Context(), c)
		},
	} {
		if err := change(get(t, &corev1.ConfigMap{}, w.Name, "biplane-client")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the ConfigMap put back that was "+what, func() bool {
			var c corev1.ConfigMap
			err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: w.Name, Name: "biplane-client"}, &c)
			return err == nil && c.Data[caKey] == ca && strings.Contains(c.Data["config.yaml"], "ExternalCommand") && c.Labels[LabelWorkspace] == w.Name
		})
	}

	// A new pull secret reaches every workspace.
	pull.Data["a"] = []byte("2")
	if err := cluster.Client.Update(t.Context(), pull); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new pull secret in the workspace", func() bool {
		return string(get(t, &corev1.Secret{}, w.Name, "registry").Data["a"]) == "2"
	})

	// So does a new CA.
	from := get(t, &corev1.ConfigMap{}, cfg.Namespace, caConfigMap)
	from.Data[caKey] = ca + ca
	if err := cluster.Client.Update(t.Context(), from); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new CA in the workspace", func() bool {
		return get(t, &corev1.ConfigMap{}, w.Name, "biplane-client").Data[caKey] == ca+ca
	})
}

// eventually waits for what a watch brings about.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !is(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("got not %s after two minutes, want it", what)
		}
	}
}
