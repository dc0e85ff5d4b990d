package bootstrap

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"biplane.dev/biplane/provision/roles"
)

// roleAnnotation is how EKS is told which role a service account has.
const roleAnnotation = "eks.amazonaws.com/role-arn"

// account is a service account of the table as it is in the cluster.
type account struct {
	name      string // in the table
	namespace string
	kube      string // its name there
	role      string // ARN; "" where it has no right to give
}

// accounts are those of the table. The one that lives in the control plane is in
// the sandbox's cluster too, which is both planes at once.
func accounts(set *roles.Set) []account {
	var all []account
	for _, row := range roles.Table() {
		one := account{name: row.Name, namespace: profile().Namespace, kube: row.Kubernetes}
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
	for _, a := range accounts(set) {
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

// makeServiceAccount says what it did; "" for nothing. The cluster makes each
// namespace's default account at a time of its own, so either may be first.
func makeServiceAccount(ctx context.Context, client kubernetes.Interface, a account) (string, error) {
	api := client.CoreV1().ServiceAccounts(a.namespace)
	wanted := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: a.kube}}
	if a.role != "" {
		wanted.Annotations = map[string]string{roleAnnotation: a.role}
	}
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
	switch there := have.Annotations[roleAnnotation]; {
	case a.role == "" || there == a.role:
		return "", nil
	case there != "":
		return "left alone: it has the role " + there, nil
	}
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, roleAnnotation, a.role)
	_, err = api.Patch(ctx, a.kube, types.MergePatchType, patch, metav1.PatchOptions{})
	return "give it its role", err
}
