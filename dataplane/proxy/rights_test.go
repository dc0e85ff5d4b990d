package proxy

import (
	"context"
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/internal/clustertest"
)

// What the chart grants the proxy: in the cluster, and in the namespace of each
// workspace. Every test runs with these rights and no others.
const (
	clusterRole   = "biplane-proxy"
	workspaceRole = "biplane-proxy-workspace"
	processUser   = "system:serviceaccount:" + namespace + ":proxy-system"
)

func grant(ctx context.Context, c client.Client) error {
	read := []string{"get", "list", "watch"}
	for _, object := range []client.Object{
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: clusterRole}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{"biplane.dev"}, Resources: []string{"taskactions", "workspaces"}, Verbs: read},
			{APIGroups: []string{"authentication.k8s.io"}, Resources: []string{"tokenreviews"}, Verbs: []string{"create"}},
			{APIGroups: []string{"authorization.k8s.io"}, Resources: []string{"subjectaccessreviews"}, Verbs: []string{"create"}},
		}},
		&rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: workspaceRole}, Rules: []rbacv1.PolicyRule{
			{APIGroups: []string{""}, Resources: []string{"pods", "events"}, Verbs: read},
			{APIGroups: []string{""}, Resources: []string{"pods/log"}, Verbs: []string{"get"}},
		}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: metav1.ObjectMeta{Name: clusterRole}, RoleRef: roleRef(clusterRole), Subjects: subjects()},
	} {
		if err := c.Create(ctx, object); err != nil {
			return err
		}
	}
	return nil
}

// grantWorkspace does what clustersync does.
func grantWorkspace(t *testing.T, name string) {
	t.Helper()
	binding := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: workspaceRole}, RoleRef: roleRef(workspaceRole), Subjects: subjects()}
	if err := sandbox.Client.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}

func roleRef(name string) rbacv1.RoleRef {
	return rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name}
}

func subjects() []rbacv1.Subject {
	return []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: processUser}}
}

// limited is the cluster as the proxy's account sees it.
func limited(c *clustertest.Cluster) *rest.Config {
	config := rest.CopyConfig(c.Config)
	config.Impersonate.UserName = processUser
	return config
}
