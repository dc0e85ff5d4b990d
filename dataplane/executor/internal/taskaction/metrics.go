package taskaction

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// Metrics of a Reconciler.
type Metrics struct {
	ended    *prometheus.CounterVec
	attempts prometheus.Counter
	failures *prometheus.CounterVec
	queued   prometheus.Histogram
	cache    *prometheus.CounterVec
}

// NewMetrics registers them.
func NewMetrics(registry prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		ended: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_executor_actions_ended_total", Help: "Actions that have ended, by type and phase."}, []string{"type", "phase"}),
		attempts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_executor_pods_created_total", Help: "Pods that were created."}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_executor_attempts_failed_total", Help: "Attempts that failed, by the budget that another one is taken from."}, []string{"budget"}),
		queued: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "biplane_executor_queued_seconds", Help: "From an action's creation until its first attempt runs.",
			Buckets: []float64{.1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300, 1800}}),
		cache: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_executor_cache_total", Help: "Cached actions that have ended, by what the cache gave."}, []string{"status"}),
	}
	for _, c := range []prometheus.Collector{m.ended, m.attempts, m.failures, m.queued, m.cache} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *Metrics) started() { m.attempts.Inc() }

// wrote counts what a written status tells that the one before did not.
func (m *Metrics) wrote(before, now *v1alpha1.TaskActionStatus, action *v1alpha1.TaskAction) {
	if now.Phase.Terminal() && !before.Phase.Terminal() {
		m.ended.WithLabelValues(string(action.Spec.Type), string(now.Phase)).Inc()
		if now.CacheStatus != "" {
			m.cache.WithLabelValues(now.CacheStatus).Inc()
		}
	}
	m.failures.WithLabelValues("user").Add(float64(now.UserFailures - before.UserFailures))
	m.failures.WithLabelValues("system").Add(float64(now.SystemFailures - before.SystemFailures))
	if now.Phase == v1alpha1.Running && before.Phase != v1alpha1.Running && len(now.Attempts) == 1 {
		m.queued.Observe(time.Since(action.CreationTimestamp.Time).Seconds())
	}
}
