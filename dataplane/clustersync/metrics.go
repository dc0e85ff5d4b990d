package clustersync

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	reconciled *prometheus.CounterVec
	duration   prometheus.Histogram
}

func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		reconciled: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_clustersync_reconciled_total",
			Help: "Workspaces that were looked at, by the reason of their condition Ready.",
		}, []string{"reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "biplane_clustersync_reconcile_seconds",
			Help:    "How long a workspace took.",
			Buckets: prometheus.ExponentialBuckets(0.01, 2, 12),
		}),
	}
	registry.MustRegister(m.reconciled, m.duration)
	return m
}
