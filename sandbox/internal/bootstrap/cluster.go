package bootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/provision/roles"
)

// roleAnnotation is how EKS is told which role a service account has.
const roleAnnotation = "eks.amazonaws.com/role-arn"

// account is a service account of the table as it is in the cluster.
type account struct {
	name      string // in the table
	namespace string
	kube      string // its name there
	vendors   bool   // it lives in the control plane, and here because the sandbox is both
	role      string // ARN; "" where it has no right to give
}

// accounts are those of the table. The one that lives in the control plane is in
// the sandbox's cluster too, which is both planes at once.
func accounts(set *roles.Set) []account {
	var all []account
	for _, row := range roles.Table() {
		one := account{name: row.Name, namespace: profile().Namespace, kube: row.Kubernetes, vendors: row.Plane == roles.ControlPlane}
		if row.PerWorkspace() {
			one.namespace = workspace
		}
		if role, has := set.RoleOf(row.Name); has {
			one.role = role.ARN
		}
		all = append(all, one)
	}
	return all
}

// client is the cluster's administrator.
func (c Config) client() (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	config.QPS, config.Burst, config.Timeout = 100, 100, 10*time.Second // it is this machine's own
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig: %w", err)
	}
	return client, nil
}

// workspaceLabel hands a namespace over to the data plane's clustersync, which is
// otherwise to leave alone what it has not made.
const workspaceLabel = "biplane.dev/workspace"

// makeAccounts makes namespaces and service accounts, with the annotation of those
// that have a role.
func (c Config) makeAccounts(ctx context.Context, set *roles.Set, report func(Event)) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	for _, name := range []string{profile().Namespace, workspace} {
		if c.Empty && name == workspace {
			continue
		}
		namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if name == workspace {
			namespace.Labels = map[string]string{workspaceLabel: name}
		}
		_, err := client.CoreV1().Namespaces().Create(ctx, namespace, metav1.CreateOptions{})
		switch {
		case err == nil:
			report(Event{Thing: "namespace " + name, Did: "create"})
		case !apierrors.IsAlreadyExists(err):
			return err
		}
	}
	if err := c.writeValues(ctx, client, report); err != nil {
		return err
	}
	for _, a := range accounts(set) {
		if c.Empty && !a.vendors {
			continue
		}
		if c.IAM == "" {
			a.role = "" // without AWS a role would be a promise that nobody keeps
		}
		did, err := makeServiceAccount(ctx, client, a)
		if err != nil {
			return err
		}
		if did != "" {
			report(Event{Thing: "service account " + a.namespace + "/" + a.kube, Did: did})
		}
	}
	return nil
}

// writeValues says to who installs a data plane what is particular about this cluster.
func (c Config) writeValues(ctx context.Context, client kubernetes.Interface, report func(Event)) error {
	if c.Values == "" {
		return nil
	}
	api, name := client.CoreV1().ConfigMaps(profile().Namespace), chart.OwnValues
	wanted := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name}, Data: map[string]string{chart.OwnValuesKey: c.Values}}
	have, err := api.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		if _, err = api.Create(ctx, wanted, metav1.CreateOptions{}); err == nil {
			report(Event{Thing: "values of the cluster", Did: "create"})
		}
		return err
	case err != nil:
		return err
	case have.Data[chart.OwnValuesKey] == c.Values:
		return nil
	}
	// Ports may be others at each up; what somebody wants otherwise is for a file of values.
	have.Data = wanted.Data
	_, err = api.Update(ctx, have, metav1.UpdateOptions{})
	if err == nil {
		report(Event{Thing: "values of the cluster", Did: "update"})
	}
	return err
}

// ofRelease marks the accounts that the chart has, too, as Helm marks what is a
// release's. So a data plane takes them over that is installed later, with the roles
// that it has.
func ofRelease(a account, to *metav1.ObjectMeta) {
	if !slices.Contains(chart.Accounts(), a.kube) || a.namespace != profile().Namespace {
		return
	}
	to.Labels = map[string]string{"app.kubernetes.io/managed-by": "Helm"}
	if to.Annotations == nil {
		to.Annotations = map[string]string{}
	}
	to.Annotations["meta.helm.sh/release-name"] = chart.ReleaseName
	to.Annotations["meta.helm.sh/release-namespace"] = a.namespace
}

// makeServiceAccount says what it did; "" for nothing. The cluster makes each
// namespace's default account at a time of its own, so either may be first.
func makeServiceAccount(ctx context.Context, client kubernetes.Interface, a account) (string, error) {
	api := client.CoreV1().ServiceAccounts(a.namespace)
	wanted := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: a.kube}}
	if a.role != "" {
		wanted.Annotations = map[string]string{roleAnnotation: a.role}
	}
	ofRelease(a, &wanted.ObjectMeta)
	_, err := api.Create(ctx, wanted, metav1.CreateOptions{})
	if err == nil {
		return "create", nil
	}
	if !apierrors.IsAlreadyExists(err) {
		return "", err
	}
	have, err := api.Get(ctx, a.kube, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	did := ""
	switch there := have.Annotations[roleAnnotation]; {
	case a.role == "" || there == a.role:
	case there != "":
		return "left alone: it has the role " + there, nil
	default:
		did = "give it its role"
	}
	if did == "" && have.Labels["app.kubernetes.io/managed-by"] == wanted.Labels["app.kubernetes.io/managed-by"] {
		return "", nil
	}
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"labels": wanted.Labels, "annotations": wanted.Annotations}})
	if err != nil {
		return "", err
	}
	_, err = api.Patch(ctx, a.kube, types.MergePatchType, patch, metav1.PatchOptions{})
	return did, err
}
