package chart_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/dataplane/internal/clustertest"
	"biplane.dev/biplane/internal/usererr"
)

var cluster *clustertest.Cluster

const (
	namespace = "planes"
	token     = "join-token-of-the-test"
)

// These make the test's binary an install or an uninstall, which a test kills.
const (
	installing   = "TEST_INSTALL_KUBECONFIG"
	uninstalling = "TEST_UNINSTALL_KUBECONFIG"
)

func TestMain(m *testing.M) {
	for variable, do := range map[string]func(chart.Options) error{
		installing: func(o chart.Options) error { _, err := chart.Install(context.Background(), o); return err },
		uninstalling: func(o chart.Options) error {
			_, err := chart.Uninstall(context.Background(), o.Target, false)
			var said *usererr.Error
			if errors.As(err, &said) && said.Kind == usererr.NotFound {
				return nil // killed when nothing was left to do but to say so
			}
			return err
		},
	} {
		o := options()
		if o.Kubeconfig = os.Getenv(variable); o.Kubeconfig == "" {
			continue
		}
		if err := do(o); err != nil {
			fmt.Fprintln(os.Stderr, usererr.Chain(err))
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { cluster = c; return m.Run() }))
}

func options() chart.Options {
	return chart.Options{
		Target:  chart.Target{Namespace: namespace},
		Cluster: "production", Token: []byte(token + "\n"), Timeout: time.Minute,
		Values: map[string]any{
			"controlPlane": map[string]any{"gateway": "gateway.example.com:443"},
			"storage":      map[string]any{"region": "eu-central-1", "metadataBucket": "meta", "fastRegistrationBucket": "fast"},
		},
	}
}

// TestInstall is the life of one data plane, of which a cluster has one: each part
// begins where the one before ended. The API server is real; who makes pods of
// Deployments, and the operator in one of them, are played here.
func TestInstall(t *testing.T) {
	t.Run("it changes nothing in a dry run, and shows what it would", func(t *testing.T) {
		o := to(options())
		o.DryRun, o.Token = true, nil
		status, err := chart.Install(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(status.Manifest, "kind: Deployment") || strings.Contains(status.Manifest, token) {
			t.Errorf("got the manifest %q, want the Deployments and no token", status.Manifest)
		}
		wantNone(t, &appsv1.Deployment{}, "operator")
		wantNone(t, &corev1.Secret{}, chart.JoinSecret)
	})

	t.Run("it asks for a token before it makes anything", func(t *testing.T) {
		o := to(options())
		o.Token = nil
		wantSaid(t, o, chart.Install, "has not joined yet, and there is no join token", "biplane cluster add production --token-file")
		wantNone(t, &appsv1.Deployment{}, "operator")
	})

	t.Run("it has no release to upgrade", func(t *testing.T) {
		wantSaid(t, to(options()), chart.Upgrade, "namespace planes has no release biplane-dataplane", "install --help")
	})

	t.Run("it says what is not ready when the time is over", func(t *testing.T) {
		o := to(options())
		o.Timeout = time.Second
		wantSaid(t, o, chart.Install, "operator is not ready after 1s: its pod has not been made yet", "logs deployment/operator")
		var secret corev1.Secret
		get(t, &secret, namespace, chart.JoinSecret)
		if got := string(secret.Data[chart.JoinKey]); got != token {
			t.Errorf("got token %q, want %q", got, token)
		}
	})

	t.Run("it goes on from there, and waits until all is ready and has joined", func(t *testing.T) {
		play(t)
		o := to(options())
		var mu sync.Mutex
		var told []string
		o.Progress = func(line string) { mu.Lock(); defer mu.Unlock(); told = append(told, line) }
		status, err := chart.Install(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if !status.Ready() || !status.Joined || status.Cluster != "production" || status.State != "deployed" || status.Revision != 1 {
			t.Errorf("got %+v, want it deployed once, and joined", status)
		}
		for _, want := range []string{"the chart is installed already", "operator: ready", "proxy: ready", "data plane: joined gateway.example.com:443"} {
			if !strings.Contains(strings.Join(told, "\n"), want) {
				t.Errorf("got told %q, want %q among it", told, want)
			}
		}
	})

	t.Run("it keeps the token out of Helm's records", func(t *testing.T) {
		var secrets corev1.SecretList
		if err := cluster.Client.List(t.Context(), &secrets, client.InNamespace(namespace)); err != nil {
			t.Fatal(err)
		}
		for _, secret := range secrets.Items {
			for key, value := range secret.Data {
				if strings.Contains(string(value), token) {
					t.Errorf("got the token in %s of Secret %s, want it nowhere once it is spent", key, secret.Name)
				}
			}
		}
	})

	t.Run("it changes nothing where all is as it should be", func(t *testing.T) {
		play(t)
		status, err := chart.Install(t.Context(), to(options()))
		if err != nil {
			t.Fatal(err)
		}
		if status.Revision != 1 {
			t.Errorf("got revision %d, want 1 still", status.Revision)
		}
		wantNone(t, &corev1.Secret{}, chart.JoinSecret)
	})

	t.Run("it gives each account its rights, and no more", func(t *testing.T) { rights(t) })

	t.Run("it upgrades to other values, and keeps them when none are given", func(t *testing.T) {
		play(t)
		o := to(options())
		o.Values["log"] = map[string]any{"level": "debug"}
		o.Cluster = "" // the release's stays
		status, err := chart.Upgrade(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if status.Revision != 2 {
			t.Errorf("got revision %d, want 2", status.Revision)
		}
		o.Values, o.Token = nil, nil
		if status, err = chart.Upgrade(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		var configuration corev1.ConfigMap
		get(t, &configuration, namespace, "biplane-dataplane")
		if !strings.Contains(configuration.Data["config.yaml"], "level: debug") || status.Revision != 2 {
			t.Errorf("got revision %d with\n%s\nwant revision 2 and level debug", status.Revision, configuration.Data["config.yaml"])
		}
	})

	t.Run("it hands over a new token to one that had joined, and waits until it is spent", func(t *testing.T) {
		play(t)
		o := to(options())
		o.Token = []byte("another-token")
		if _, err := chart.Install(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		var tunnel corev1.Secret
		get(t, &tunnel, namespace, chart.TunnelSecret)
		if got, want := tunnel.Annotations["biplane.dev/joined-with"], digest("another-token"); got != want {
			t.Errorf("got it joined with %s, want %s", got, want)
		}
	})

	t.Run("it puts back what somebody changed or deleted, and leaves what they added", func(t *testing.T) {
		play(t)
		before, err := chart.Read(t.Context(), to(options()).Target)
		if err != nil {
			t.Fatal(err)
		}
		if err := cluster.Client.Delete(t.Context(), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "proxy"}}); err != nil {
			t.Fatal(err)
		}
		edit(t, &corev1.ConfigMap{}, "biplane-dataplane", func(c *corev1.ConfigMap) {
			c.Data["config.yaml"] = "broken"
			c.Annotations["example.com/theirs"] = "kept"
		})
		// Who may read no Secrets is told the same.
		wanted := chart.Merge(options().Values, map[string]any{"controlPlane": map[string]any{"cluster": "production"}})
		seen, err := chart.Observe(t.Context(), to(options()).Target, wanted)
		if err != nil {
			t.Fatal(err)
		}
		var differ []string
		for _, d := range seen.Differs {
			differ = append(differ, d.Object+": "+d.Got)
		}
		if got, want := strings.Join(differ, "; "), "ConfigMap biplane-dataplane: another in data.config.yaml; Service proxy: missing"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		o := to(options())
		o.Values = nil // those of the release
		var told []string
		o.Progress = func(line string) { told = append(told, line) }
		status, err := chart.Upgrade(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		if status.Revision != before.Revision+1 {
			t.Errorf("got revision %d, want %d", status.Revision, before.Revision+1)
		}
		for _, want := range []string{"ConfigMap biplane-dataplane is not as the chart has it", "Service proxy is not as the chart has it"} {
			if !strings.Contains(strings.Join(told, "\n"), want) {
				t.Errorf("got told %q, want %q among it", told, want)
			}
		}
		get(t, &corev1.Service{}, namespace, "proxy")
		var configuration corev1.ConfigMap
		get(t, &configuration, namespace, "biplane-dataplane")
		if configuration.Data["config.yaml"] == "broken" || configuration.Annotations["example.com/theirs"] != "kept" {
			t.Errorf("got %v with annotations %v, want it put back, and what others added kept", configuration.Data, configuration.Annotations)
		}

		// What is no change: a restart, and what admission or a person adds.
		edit(t, &appsv1.Deployment{}, "executor", func(d *appsv1.Deployment) {
			d.Spec.Template.Annotations["kubectl.kubernetes.io/restartedAt"] = "now"
		})
		if status, err = chart.Upgrade(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		if status.Revision != before.Revision+1 {
			t.Errorf("got revision %d where nothing was to be put back, want %d still", status.Revision, before.Revision+1)
		}
	})

	t.Run("it is a release like any other to Helm's own command line", func(t *testing.T) { helmSees(t) })

	t.Run("it names accounts that are somebody else's, and the value to use them", func(t *testing.T) {
		o := to(options())
		o.Namespace = "theirs"
		create(t, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: o.Namespace}})
		create(t, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "executor", Namespace: o.Namespace}})
		wantSaid(t, o, chart.Install, "ServiceAccount", "serviceAccounts.create: false")
	})

	t.Run("it refuses a second data plane, naming what is there", func(t *testing.T) {
		o := to(options())
		o.Namespace = "second"
		wantSaid(t, o, chart.Install, `ClusterRole biplane-`, "helm ls --all-namespaces")
	})

	t.Run("it does not take away a version of a kind that a newer one brought", func(t *testing.T) {
		definition := &unstructured.Unstructured{}
		definition.SetAPIVersion("apiextensions.k8s.io/v1")
		definition.SetKind("CustomResourceDefinition")
		get(t, definition, "", "workspaces.biplane.dev")
		versions, _, _ := unstructured.NestedSlice(definition.Object, "spec", "versions")
		newer := (&unstructured.Unstructured{Object: versions[0].(map[string]any)}).DeepCopy().Object
		newer["name"], newer["storage"] = "v9", false
		set := func(versions []any) {
			t.Helper()
			get(t, definition, "", "workspaces.biplane.dev")
			if err := unstructured.SetNestedSlice(definition.Object, versions, "spec", "versions"); err != nil {
				t.Fatal(err)
			}
			if err := cluster.Client.Update(t.Context(), definition); err != nil {
				t.Fatal(err)
			}
		}
		set(append(append([]any{}, versions...), newer))
		wantSaid(t, to(options()), chart.Install, "workspaces.biplane.dev of version v9, which this biplane does not know", "a newer one")
		set(versions)
	})

	t.Run("it says what is installed without a look into Secrets", func(t *testing.T) {
		wanted := chart.Merge(options().Values, map[string]any{"controlPlane": map[string]any{"cluster": "production"}})
		// Handed in as it is, without a kubeconfig.
		handed := chart.Target{Namespace: namespace, Config: cluster.Config}
		seen, err := chart.Observe(t.Context(), handed, wanted)
		if err != nil {
			t.Fatal(err)
		}
		if len(seen.Differs) > 0 || len(seen.Unseen) > 0 || !seen.Installed || !seen.Ready() || seen.Cluster != "production" || seen.Gateway != "gateway.example.com:443" {
			t.Errorf("got %+v, want it as it was installed", seen)
		}
		wanted["log"] = map[string]any{"level": "debug"}
		if seen, err = chart.Observe(t.Context(), handed, wanted); err != nil {
			t.Fatal(err)
		}
		if len(seen.Differs) == 0 {
			t.Error("got no difference, want another value seen")
		}
		left, err := chart.FindLeft(t.Context(), handed)
		if err != nil || !left.Any || left.Cluster != "production" || left.Running != 0 {
			t.Errorf("got %+v and %v, want what an uninstall would take away", left, err)
		}
	})

	t.Run("it reads the status of what is installed", func(t *testing.T) {
		status, err := chart.Read(t.Context(), to(options()).Target)
		if err != nil {
			t.Fatal(err)
		}
		if !status.Ready() || len(status.Processes) != 4 || status.Processes[0].Image == "" {
			t.Errorf("got %+v, want four that are ready", status)
		}
	})

	t.Run("it takes the release away, and keeps what runs left", func(t *testing.T) {
		create(t, &v1alpha1.Workspace{ObjectMeta: metav1.ObjectMeta{Name: "p-development"}, Spec: v1alpha1.WorkspaceSpec{Organization: "o", Project: "p", Domain: "development"}})
		create(t, &v1alpha1.TaskAction{ObjectMeta: metav1.ObjectMeta{Name: "run-a0", Namespace: "default", Finalizers: []string{v1alpha1.FinalizerRecorded}},
			Spec: v1alpha1.TaskActionSpec{Organization: "o", Project: "p", Domain: "development", Run: "run", Action: "a0", Type: "Task"}})
		removed, err := chart.Uninstall(t.Context(), to(options()).Target, false)
		if err != nil {
			t.Fatal(err)
		}
		if len(removed.Kept) != 3 {
			t.Errorf("got kept %q, want what is said to stay", removed.Kept)
		}
		wantNone(t, &appsv1.Deployment{}, "operator")
		wantNone(t, &rbacv1.Role{}, "biplane-operator")
		get(t, &v1alpha1.Workspace{}, "", "p-development")
		get(t, &corev1.Secret{}, namespace, chart.TunnelSecret)
		_, err = chart.Uninstall(t.Context(), to(options()).Target, false)
		var said *usererr.Error
		if !errors.As(err, &said) || said.Kind != usererr.NotFound {
			t.Errorf("got %v of a second time, want that there is none", err)
		}
	})

	t.Run("it finishes an install that was killed at any point", func(t *testing.T) {
		play(t)
		killUntilDone(t, installing)
		status, err := chart.Install(t.Context(), to(options()))
		if err != nil {
			t.Fatal(err)
		}
		if !status.Ready() {
			t.Errorf("got %+v, want it ready", status)
		}
	})

	t.Run("it finishes an uninstall that was killed at any point", func(t *testing.T) {
		killUntilDone(t, uninstalling)
		wantNone(t, &appsv1.Deployment{}, "operator")
		_, err := chart.Read(t.Context(), to(options()).Target)
		var said *usererr.Error
		if !errors.As(err, &said) || said.Kind != usererr.NotFound {
			t.Errorf("got %v, want no release", err)
		}
	})

	t.Run("it lets one run at a time work on the release", func(t *testing.T) {
		play(t)
		var all sync.WaitGroup
		for i := range 2 {
			all.Go(func() {
				o := to(options())
				o.Values["log"] = map[string]any{"level": []string{"debug", "info"}[i]}
				if _, err := chart.Install(t.Context(), o); err != nil {
					t.Errorf("got %v, want each to wait for the others", err)
				}
			})
		}
		all.Wait()
	})

	t.Run("it deletes the objects, too, when asked to", func(t *testing.T) { purged(t) })

	t.Run("it takes over what Helm's own command line installed", func(t *testing.T) { helmInstalls(t) })
}

func purged(t *testing.T) {
	if _, err := chart.Uninstall(t.Context(), to(options()).Target, true); err != nil {
		t.Fatal(err)
	}
	wantNone(t, &corev1.Secret{}, chart.TunnelSecret)
	definition := &unstructured.Unstructured{}
	definition.SetAPIVersion("apiextensions.k8s.io/v1")
	definition.SetKind("CustomResourceDefinition")
	for _, kind := range []string{"workspaces", "taskactions", "tasktemplates"} {
		for deadline := time.Now().Add(2 * time.Minute); ; time.Sleep(20 * time.Millisecond) {
			err := cluster.Client.Get(t.Context(), client.ObjectKey{Name: kind + ".biplane.dev"}, definition)
			if apierrors.IsNotFound(err) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("got %s defined still, want it gone", kind)
			}
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	file := t.TempDir() + "/kubeconfig"
	text := `{apiVersion: v1, kind: Config, current-context: a, contexts: [{name: a, context: {cluster: a}}], clusters: [{name: a, cluster: {server: "https://127.0.0.1:1"}}]}`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o := options()
	o.Kubeconfig = file
	wantSaid(t, o, chart.Install, "the cluster at https://127.0.0.1:1 does not answer", "kubectl version")
	o.Kubeconfig = file + ".none"
	wantSaid(t, o, chart.Install, "no Kubernetes to install into", "--kubeconfig")
}

// killUntilDone kills a run, later each time, until one is done before.
func killUntilDone(t *testing.T, what string) {
	t.Helper()
	kills := 0
	for after := 40 * time.Millisecond; ; after += 60 * time.Millisecond {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), what+"="+cluster.Kubeconfig)
		var stderr strings.Builder
		cmd.Stderr = &stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(after, func() { cmd.Process.Kill() })
		err := cmd.Wait()
		kill.Stop()
		if err == nil {
			break
		}
		if cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("got %v: %s, want it killed or done", err, &stderr)
		}
		// As after lockLife.
		lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "biplane-chart"}}
		if err := cluster.Client.Delete(t.Context(), lease); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		if kills++; kills > 100 {
			t.Fatal("got nothing done after 100 kills, want it done once")
		}
	}
	t.Logf("killed %d times", kills)
}

// rights asks the API server what each account may do.
func rights(t *testing.T) {
	for _, one := range []struct {
		account, namespace, verb, group, resource, name string
		may                                             bool
	}{
		{"executor", "kube-system", "create", "", "pods", "", false},
		{"executor", "p-development", "create", "", "pods", "", false}, // until clustersync binds it
		{"executor", "p-development", "list", "", "pods", "", true},
		{"executor", "p-development", "watch", "biplane.dev", "taskactions", "", true},
		{"executor", "p-development", "get", "", "secrets", "", false},
		{"executor", namespace, "get", "", "secrets", "biplane-ca", false},
		{"executor", namespace, "update", "coordination.k8s.io", "leases", "biplane-executor", true},
		{"executor", namespace, "update", "coordination.k8s.io", "leases", "biplane-operator", false},
		{"proxy-system", "kube-system", "get", "", "pods/log", "", false},
		{"proxy-system", "p-development", "create", "", "pods", "", false},
		{"proxy-system", "", "list", "biplane.dev", "workspaces", "", true},
		{"operator-system", namespace, "update", "", "secrets", "proxy-tls", true},
		{"operator-system", namespace, "get", "", "secrets", "sh.helm.release.v1.biplane-dataplane.v1", false},
		{"operator-system", "kube-system", "get", "", "secrets", "biplane-ca", false},
		{"operator-system", "", "list", "", "nodes", "", true},
		{"operator-system", "", "update", "", "nodes", "", false},
		{"operator-system", "", "update", "biplane.dev", "workspaces", "", true},
		{"operator-system", "", "delete", "biplane.dev", "workspaces", "", false},
		{"operator-system", namespace, "delete", "", "secrets", "biplane-join", true},
		{"operator-system", namespace, "delete", "", "secrets", "biplane-ca", false},
		{"operator-system", namespace, "list", "", "secrets", "", false},
		{"proxy-system", namespace, "create", "coordination.k8s.io", "leases", "", false},
		{"clustersync-system", "", "create", "", "namespaces", "", true},
		{"clustersync-system", "", "delete", "", "namespaces", "", false},
		{"clustersync-system", "p-development", "delete", "", "configmaps", "", false},
		{"clustersync-system", "p-development", "create", "", "secrets", "", false}, // without a pull secret
		{"clustersync-system", "", "bind", "rbac.authorization.k8s.io", "clusterroles", "biplane-executor-workspace", true},
		{"clustersync-system", "", "bind", "rbac.authorization.k8s.io", "clusterroles", "cluster-admin", false},
		{"clustersync-system", "", "create", "authentication.k8s.io", "tokenreviews", "", true},
	} {
		resource, sub, _ := strings.Cut(one.resource, "/")
		review := &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   "system:serviceaccount:" + namespace + ":" + one.account,
			Groups: []string{"system:serviceaccounts", "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{Namespace: one.namespace, Verb: one.verb, Group: one.group,
				Resource: resource, Subresource: sub, Name: one.name},
		}}
		create(t, review)
		if got := review.Status.Allowed; got != one.may {
			t.Errorf("got %s may %s %s %s in %q: %v, want %v", one.account, one.verb, one.resource, one.name, one.namespace, got, one.may)
		}
	}
}

// play is the cluster's controllers and the operator, until the test ends: it says
// that Deployments are ready, and spends the token.
func play(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var playing sync.WaitGroup
	playing.Go(func() {
		for ctx.Err() == nil {
			var all appsv1.DeploymentList
			if err := cluster.Client.List(ctx, &all, client.InNamespace(namespace)); err == nil {
				for _, one := range all.Items {
					one.Status = appsv1.DeploymentStatus{ObservedGeneration: one.Generation, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1, ReadyReplicas: 1}
					_ = cluster.Client.Status().Update(ctx, &one) // another look follows
				}
			}
			var join corev1.Secret
			if err := cluster.Client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: chart.JoinSecret}, &join); err == nil {
				tunnel := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: chart.TunnelSecret,
					Annotations: map[string]string{"biplane.dev/joined-with": digest(string(join.Data[chart.JoinKey]))}}, Data: map[string][]byte{"tls.crt": []byte("x")}}
				err := cluster.Client.Create(ctx, tunnel)
				if apierrors.IsAlreadyExists(err) {
					err = cluster.Client.Update(ctx, tunnel)
				}
				if err == nil {
					_ = cluster.Client.Delete(ctx, &join)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond):
			}
		}
	})
	t.Cleanup(func() { stop(); playing.Wait() })
}

func digest(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

func to(o chart.Options) chart.Options {
	o.Kubeconfig = cluster.Kubeconfig
	return o
}

func create(t *testing.T, object client.Object) {
	t.Helper()
	if err := cluster.Client.Create(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, into client.Object, namespace, name string) {
	t.Helper()
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, into); err != nil {
		t.Fatal(err)
	}
}

func edit[T client.Object](t *testing.T, object T, name string, change func(T)) {
	t.Helper()
	get(t, object, namespace, name)
	change(object)
	if err := cluster.Client.Update(t.Context(), object); err != nil {
		t.Fatal(err)
	}
}

func wantNone(t *testing.T, like client.Object, name string) {
	t.Helper()
	if err := cluster.Client.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: name}, like); !apierrors.IsNotFound(err) {
		t.Errorf("got %v for %T %s, want that there is none", err, like, name)
	}
}

func wantSaid(t *testing.T, o chart.Options, do func(context.Context, chart.Options) (chart.Status, error), want, hint string) {
	t.Helper()
	_, err := do(t.Context(), o)
	var said *usererr.Error
	if !errors.As(err, &said) {
		t.Fatalf("got %v, want a sentence", err)
	}
	if !strings.Contains(said.Error(), want) || !strings.Contains(said.Hint, hint) {
		t.Errorf("got %q, hint %q, want %q, hint %q", said, said.Hint, want, hint)
	}
}
