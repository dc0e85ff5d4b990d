package report

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	states  prometheus.Counter
	refused prometheus.Counter
	lists   prometheus.Counter
}

func newMetrics(registry prometheus.Registerer, r *Reporter) (*metrics, error) {
	m := &metrics{
		states: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_executor_report_states_total", Help: "States that the control plane has recorded.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_executor_report_refused_total", Help: "States that the control plane has refused for good, such as those of objects made by hand.",
		}),
		lists: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_executor_report_lists_total", Help: "Lists of all actions: one at the start, and one whenever something was in doubt.",
		}),
	}
	if registry == nil {
		return m, nil
	}
	for _, collector := range []prometheus.Collector{
		m.states, m.refused, m.lists,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "biplane_executor_report_pending", Help: "Actions whose last change is not recorded in the control plane.",
		}, func() float64 {
			if s := r.session.Load(); s != nil {
				return float64(s.pending.len())
			}
			return 0
		}),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "biplane_executor_report_lag_seconds", Help: "Age of the oldest change that is not recorded in the control plane.",
		}, func() float64 { return r.lag().Seconds() }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "biplane_executor_report_position", Help: "Revision up to which states are recorded in the control plane.",
		}, func() float64 { return float64(r.Acknowledged()) }),
	} {
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// lag is how long the oldest change waits. Where it is not known what has
// changed, since the control plane has not said where it is, it is the time since
// all was told.
func (r *Reporter) lag() time.Duration {
	s := r.session.Load()
	if s == nil {
		return time.Since(time.Unix(0, r.caughtUp.Load()))
	}
	if oldest := s.pending.oldest(); !oldest.IsZero() {
		return time.Since(oldest)
	}
	return 0
}
