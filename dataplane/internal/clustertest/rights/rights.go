// Package rights gives tests what the chart grants the processes of a data plane,
// and nothing else: a right that a process needs and the chart lacks fails there
// and not in a customer's cluster. It is for tests alone, and beside package
// clustertest since it links Helm. Start with Grant.
package rights

import (
	"context"
	"errors"
	"fmt"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/dataplane/internal/clustertest"
)

// Grant makes the roles and bindings of a data plane in a namespace, which must be
// there. values are further ones of the chart.
func Grant(ctx context.Context, cluster *clustertest.Cluster, namespace string, values map[string]any) error {
	all := map[string]any{
		"controlPlane": map[string]any{"gateway": "gateway.example.com:443", "cluster": "c"},
		"storage":      map[string]any{"region": "eu-central-1", "metadataBucket": "meta", "fastRegistrationBucket": "fast"},
	}
	for key, value := range values {
		all[key] = value
	}
	manifest, err := chart.Render(namespace, all)
	if err != nil {
		return err
	}
	made := 0
	for _, document := range strings.Split(manifest, "\n---\n") {
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal([]byte(document), &object.Object); err != nil {
			return fmt.Errorf("reading the chart's manifest: %w", err)
		}
		if object.GroupVersionKind().Group != rbacv1.GroupName {
			continue
		}
		// The roles are one for all data planes of a package's tests, and what binds
		// them is each one's own.
		if object.GetKind() == "ClusterRoleBinding" {
			object.SetName(object.GetName() + "-" + namespace)
		}
		if err := cluster.Client.Create(ctx, object); err != nil && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("creating %s %s: %w", object.GetKind(), object.GetName(), err)
		}
		made++
	}
	if made == 0 {
		return errors.New("the chart grants nothing")
	}
	return nil
}

// Of is the API server as one account of a data plane sees it.
func Of(cluster *clustertest.Cluster, namespace, account string) *rest.Config {
	config := rest.CopyConfig(cluster.Config)
	config.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + namespace + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
	}
	return config
}
