// Package clustertest gives the tests of the data plane a real API server: that
// of bin/biplane-sandbox, with our CustomResourceDefinitions, and nothing else
// unless asked for. It is for tests alone. Start with Run.
package clustertest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/internal/sandbox"
)

// Cluster is the one of all tests of a package. Each test takes namespaces of
// its own.
type Cluster struct {
	Kubeconfig string // of the administrator
	Config     *rest.Config
	Client     client.Client // not cached, with our kinds and Kubernetes' own
	Sandbox    sandbox.Status
}

// Run starts a cluster, calls run with it, takes it down, and returns what run
// returned, or 1. The components are as in 'biplane sandbox up --only'; without
// any there is the API server alone, to which nobody says that pods run.
//
//	func TestMain(m *testing.M) {
//		os.Exit(clustertest.Run(func(c *clustertest.Cluster) int { cluster = c; return m.Run() }))
//	}
func Run(run func(*Cluster) int, components ...string) int {
	code, err := withCluster(run, components)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func withCluster(run func(*Cluster) int, components []string) (code int, err error) {
	root, err := moduleRoot()
	if err != nil {
		return 0, err
	}
	program := filepath.Join(root, "bin", "biplane")
	for _, file := range []string{program, filepath.Join(root, "bin", sandbox.Program)} {
		if _, err := os.Stat(file); err != nil {
			return 0, fmt.Errorf("got no %s, want it made by 'make build'", file)
		}
	}
	dir, err := os.MkdirTemp("", "clustertest")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	command := func(args ...string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, program, append(append([]string{"sandbox"}, args...), "--dir", dir, "--name", "clustertest")...)
		var said bytes.Buffer
		cmd.Stderr = &said
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("biplane sandbox %s: %w: %s", args[0], err, &said)
		}
		return out, nil
	}
	defer func() {
		if _, down := command("down", "--purge"); down != nil && err == nil {
			err = down
		}
	}()
	if components == nil {
		components = []string{sandbox.APIServer}
	}
	if _, err := command("up", "--only", strings.Join(components, ",")); err != nil {
		return 0, err
	}
	out, err := command("status", "--output", "json")
	if err != nil {
		return 0, err
	}
	var status sandbox.Status
	if err := json.Unmarshal(out, &status); err != nil {
		return 0, err
	}
	cluster, err := connect(status.Kubernetes.Kubeconfig)
	if err != nil {
		return 0, err
	}
	cluster.Sandbox = status
	if err := cluster.define(filepath.Join(root, "charts", "biplane-dataplane", "crds")); err != nil {
		return 0, err
	}
	return run(cluster), nil
}

func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("got no go.mod in any folder above, want the test run in its package's")
		}
		dir = filepath.Dir(dir)
	}
}

func connect(kubeconfig string) (*Cluster, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	config.QPS, config.Burst = 500, 1000
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return nil, err
	}
	return &Cluster{Kubeconfig: kubeconfig, Config: config, Client: c}, nil
}

// define makes our kinds, and returns once the API server serves them.
func (c *Cluster) define(folder string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(text, object); err != nil {
			return fmt.Errorf("reading %s: %w", file, err)
		}
		// A sandbox with a data plane has them from the chart.
		if err := c.Client.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating %s: %w", object.GetName(), err)
		}
	}
	for _, list := range []client.ObjectList{&v1alpha1.TaskActionList{}, &v1alpha1.TaskTemplateList{}, &v1alpha1.WorkspaceList{}} {
		// For some milliseconds the API server does not know what it has just been told.
		for err := c.Client.List(ctx, list); err != nil; err = c.Client.List(ctx, list) {
			select {
			case <-ctx.Done():
				return fmt.Errorf("waiting for %T: %w", list, err)
			case <-time.After(20 * time.Millisecond):
			}
		}
	}
	return nil
}

// Namespace makes one, of a name that begins with prefix and is no other test's.
// It is left to the end of the cluster.
func (c *Cluster) Namespace(t testing.TB, prefix string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: prefix + "-"}}
	if err := c.Client.Create(t.Context(), namespace); err != nil {
		t.Fatal(err)
	}
	return namespace.Name
}

// Account makes a service account.
func (c *Cluster) Account(t testing.TB, namespace, name string) {
	t.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	if err := c.Client.Create(t.Context(), account); err != nil {
		t.Fatal(err)
	}
}

// Token makes a token of a service account, for one audience ("" is the API
// server's). With a pod it is bound to it, as the kubelet's are.
func (c *Cluster) Token(t testing.TB, namespace, account, audience string, pod *corev1.Pod) string {
	t.Helper()
	seconds := int64(3600)
	request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{ExpirationSeconds: &seconds}}
	if audience != "" {
		request.Spec.Audiences = []string{audience}
	}
	if pod != nil {
		request.Spec.BoundObjectRef = &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: pod.Name, UID: pod.UID}
	}
	of := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: account}}
	if err := c.Client.SubResource("token").Create(t.Context(), of, request); err != nil {
		t.Fatal(err)
	}
	return request.Status.Token
}
