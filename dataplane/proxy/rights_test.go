package proxy

import (
	"testing"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// grantWorkspace does what clustersync does. Every test runs with the rights that
// the chart gives the proxy's account, and no others.
func grantWorkspace(t *testing.T, name string) {
	t.Helper()
	const role = "biplane-proxy-workspace"
	binding := &rbacv1.RoleBinding{
		ObjectMeta: metav1.ObjectMeta{Namespace: name, Name: role},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: proxyAccount}},
	}
	if err := sandbox.Client.Create(t.Context(), binding); err != nil {
		t.Fatal(err)
	}
}
