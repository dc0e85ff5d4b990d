package clustersync

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	corev1 "k8s.io/api/core/v1"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/config"
)

// BenchmarkWorkspaces is from 200 projects with nothing in the cluster until each
// has its namespace, and then once more after a new CA, which is in all of them.
// The API server runs on the same machine.
func BenchmarkWorkspaces(b *testing.B) {
	const workspaces = 200
	for b.Loop() {
		cfg := &config.Config{Namespace: cluster.Namespace(b, "union")}
		cfg.Operator.Endpoint = "operator." + cfg.Namespace + ".svc.cluster.local:8443"
		from := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: cfg.Namespace, Name: caConfigMap}, Data: map[string]string{caKey: ca}}
		if err := cluster.Client.Create(b.Context(), from); err != nil {
			b.Fatal(err)
		}
		organization := "bench-" + rand.String(8)
		for i := range workspaces {
			w := &v1alpha1.Workspace{Spec: v1alpha1.WorkspaceSpec{Organization: organization, Project: fmt.Sprintf("b%d-%s", i, rand.String(6)), Domain: "development"}}
			w.Name = v1alpha1.NamespaceOf(w.Spec.Project, w.Spec.Domain)
			if err := cluster.Client.Create(b.Context(), w); err != nil {
				b.Fatal(err)
			}
		}
		s, err := newSyncer(cluster.Config, cfg, slog.New(slog.DiscardHandler), prometheus.NewRegistry())
		if err != nil {
			b.Fatal(err)
		}
		ctx, stop := context.WithCancel(b.Context())
		ended := make(chan error, 1)
		began := time.Now()
		go func() { ended <- s.manager.Start(ctx) }()
		for ready := 0; ready < workspaces; {
			var all v1alpha1.WorkspaceList
			if err := cluster.Client.List(b.Context(), &all); err != nil {
				b.Fatal(err)
			}
			ready = 0
			for _, w := range all.Items {
				if w.Spec.Organization == organization && meta.IsStatusConditionTrue(w.Status.Conditions, "Ready") {
					ready++
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/made")

		began = time.Now()
		from.Data[caKey] = ca + ca
		if err := cluster.Client.Update(b.Context(), from); err != nil {
			b.Fatal(err)
		}
		for renewed := 0; renewed < workspaces; {
			var all corev1.ConfigMapList
			if err := cluster.Client.List(b.Context(), &all); err != nil {
				b.Fatal(err)
			}
			renewed = 0
			for _, c := range all.Items {
				if c.Name == "biplane-client" && c.Data[caKey] == ca+ca {
					renewed++
				}
			}
			time.Sleep(50 * time.Millisecond)
		}
		b.ReportMetric(time.Since(began).Seconds(), "s/renewed")
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
	}
}
