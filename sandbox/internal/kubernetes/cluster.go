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

// Users of the API server that are no part of Kubernetes.
const (
	IdentityUser = "biplane:identity"
	KwokUser     = "biplane:kwok"
)

const seeAll = "biplane:see-all"

// right is a role and who has it. A role without rules is one of Kubernetes' own.
type right struct {
	role  string
	rules []rbac.PolicyRule
	to    rbac.Subject
}

// accessPolicies are the ClusterRoles that stand for the access policies of EKS, which
// decides about them beside RBAC; who has one is in the group eks:POLICY. Those of
// Kubernetes are what they were made after (Amazon EKS User Guide, Review access policy
// permissions); the last sees Secrets too.
var accessPolicies = map[string]string{
	"AmazonEKSClusterAdminPolicy": "cluster-admin",
	"AmazonEKSAdminPolicy":        "admin",
	"AmazonEKSEditPolicy":         "edit",
	"AmazonEKSViewPolicy":         "view",
	"AmazonEKSAdminViewPolicy":    seeAll,
}

// rights are those that a cluster of Kubernetes has not by itself.
func rights() []right {
	see := []string{"get", "list", "watch"}
	rule := func(group string, verbs []string, resources ...string) rbac.PolicyRule {
		return rbac.PolicyRule{APIGroups: []string{group}, Resources: resources, Verbs: verbs}
	}
	user := func(name string) rbac.Subject {
		return rbac.Subject{APIGroup: rbac.GroupName, Kind: rbac.UserKind, Name: name}
	}
	group := func(name string) rbac.Subject {
		return rbac.Subject{APIGroup: rbac.GroupName, Kind: rbac.GroupKind, Name: name}
	}
	all := []right{
		// Everybody may read the documents that verify service-account tokens, as on EKS.
		{"system:service-account-issuer-discovery", nil, group("system:unauthenticated")},
		// A process node answers for Services, as kube-proxy does elsewhere.
		{"biplane:node-services", []rbac.PolicyRule{
			rule("", see, "services", "endpoints", "pods", "nodes"),
			rule("discovery.k8s.io", see, "endpointslices"),
		}, group("system:nodes")},
		// The identity service gives pods the role of their account, and namespaces
		// the roots by which they trust S3.
		{IdentityUser, []rbac.PolicyRule{
			rule("", see, "serviceaccounts"),
			rule("", append([]string{"create", "update"}, see...), "configmaps"),
			rule("admissionregistration.k8s.io", append([]string{"create", "update"}, see...), "mutatingwebhookconfigurations"),
		}, user(IdentityUser)},
		// Kwok plays nodes and all that happens on them.
		{KwokUser, []rbac.PolicyRule{
			rule("", append([]string{"create", "update", "patch", "delete"}, see...), "nodes", "pods", "events"),
			rule("", []string{"update", "patch"}, "nodes/status", "pods/status"),
			rule("coordination.k8s.io", append([]string{"create", "update", "patch"}, see...), "leases"),
		}, user(KwokUser)},
	}
	for policy, role := range accessPolicies {
		one := right{role: role, to: group("eks:" + policy)}
		if role == seeAll {
			one.rules = []rbac.PolicyRule{rule(rbac.APIGroupAll, see, rbac.ResourceAll)}
		}
		all = append(all, one)
	}
	return all
}

// grant gives the rights, also to a cluster that an earlier version made.
func grant(ctx context.Context, admin kubernetes.Interface) error {
	roles, bindings := admin.RbacV1().ClusterRoles(), admin.RbacV1().ClusterRoleBindings()
	for _, r := range rights() {
		if r.rules != nil {
			role := &rbac.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: r.role}, Rules: r.rules}
			_, err := roles.Create(ctx, role, metav1.CreateOptions{})
			if apierrors.IsAlreadyExists(err) {
				_, err = roles.Update(ctx, role, metav1.UpdateOptions{})
			}
			if err != nil {
				return fmt.Errorf("making the role %s: %w", r.role, err)
			}
		}
		binding := &rbac.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: r.role + ":" + r.to.Name},
			RoleRef:    rbac.RoleRef{APIGroup: rbac.GroupName, Kind: "ClusterRole", Name: r.role},
			Subjects:   []rbac.Subject{r.to},
		}
		if _, err := bindings.Create(ctx, binding, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("giving the role %s to %s: %w", r.role, r.to.Name, err)
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
