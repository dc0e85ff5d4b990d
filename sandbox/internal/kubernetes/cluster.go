package kubernetes

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbac "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// grant gives rights that a cluster of Kubernetes has not by itself: everybody
// may read the documents that verify service-account tokens, as on EKS; and a
// process node, which answers for Services as kube-proxy does elsewhere, may see
// what they lead to.
func grant(ctx context.Context, admin kubernetes.Interface) error {
	roles, bindings := admin.RbacV1().ClusterRoles(), admin.RbacV1().ClusterRoleBindings()
	role := &rbac.ClusterRole{
		ObjectMeta: metav1.ObjectMeta{Name: "biplane:node-services"},
		Rules: []rbac.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"services", "endpoints", "pods", "nodes"}, Verbs: []string{"get", "list", "watch"}},
			{APIGroups: []string{"discovery.k8s.io"}, Resources: []string{"endpointslices"}, Verbs: []string{"get", "list", "watch"}},
		},
	}
	if _, err := roles.Create(ctx, role, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("making the role %s: %w", role.Name, err)
	}
	for name, group := range map[string]string{
		"system:service-account-issuer-discovery": "system:unauthenticated",
		role.Name: "system:nodes",
	} {
		binding := &rbac.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name + ":" + group},
			RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: name},
			Subjects:   []rbac.Subject{{APIGroup: rbac.GroupName, Kind: rbac.GroupKind, Name: group}},
		}
		if _, err := bindings.Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("giving the role %s to %s: %w", name, group, err)
		}
	}
	return nil
}

// hasAccount says whether a pod could be made in the default namespace.
func hasAccount(ctx context.Context, client kubernetes.Interface) error {
	if _, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{}); err != nil {
		return fmt.Errorf("looking for the default service account: %w", err)
	}
	if _, err := client.CoreV1().ConfigMaps(metav1.NamespaceDefault).Get(ctx, "kube-root-ca.crt", metav1.GetOptions{}); err != nil {
		return fmt.Errorf("looking for the cluster's CA in a namespace: %w", err)
	}
	return nil
}

// NodesReady is ready when all the Nodes say that they are, and have said so
// since the time given: what a Node said in its last life stands there for a
// while.
func NodesReady(client kubernetes.Interface, names []string, since time.Time) func(context.Context) error {
	since = since.Truncate(time.Second) // the API's times have no fractions
	return func(ctx context.Context) error {
		for _, name := range names {
			node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
			if err != nil {
				return fmt.Errorf("looking for the node: %w", err)
			}
			if err := saysReady(node, since); err != nil {
				return err
			}
		}
		return nil
	}
}

func saysReady(node *corev1.Node, since time.Time) error {
	for _, c := range node.Status.Conditions {
		if c.Type != corev1.NodeReady {
			continue
		}
		if c.Status != corev1.ConditionTrue {
			return fmt.Errorf("node %s is not ready: %s", node.Name, c.Message)
		}
		if c.LastHeartbeatTime.Time.Before(since) {
			return fmt.Errorf("node %s has not said yet that it is ready", node.Name)
		}
		return nil
	}
	return fmt.Errorf("node %s has not said how it is", node.Name)
}
