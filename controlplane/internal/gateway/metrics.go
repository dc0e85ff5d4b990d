package gateway

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	sessions        prometheus.Gauge
	refused         prometheus.Counter
	states          prometheus.Counter
	handovers       *prometheus.CounterVec
	handoverSeconds prometheus.Histogram
	relayed         prometheus.Gauge
	relayRefused    prometheus.Counter
	relayBytes      *prometheus.CounterVec
}

// newMetrics registers, if there is where.
func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
		sessions: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "biplane_controlplane_tunnel_sessions", Help: "Tunnels that data planes hold to this process.",
		}),
		refused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_controlplane_tunnels_refused_total", Help: "Tunnels refused for their certificate.",
		}),
		states: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_controlplane_states_received_total", Help: "States that data planes reported, repeated ones included.",
		}),
		handovers: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_controlplane_handovers_total", Help: "Tries to hand something over to a data plane, by outcome: delivered, retried, rejected.",
		}, []string{"outcome"}),
		handoverSeconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "biplane_controlplane_handover_seconds", Help: "From the transaction that made a hand-over to the data plane's acknowledgement.",
			Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 5, 30, 300, 3600},
		}),
		relayed: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "biplane_controlplane_relay_connections", Help: "Clients' own TLS sessions that are relayed now.",
		}),
		relayRefused: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_controlplane_relay_refused_total", Help: "Clients turned away: no tunnel, or no room.",
		}),
		relayBytes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_controlplane_relay_bytes_total", Help: "Ciphertext relayed in sessions that have ended, by direction.",
		}, []string{"direction"}),
	}
	if registry != nil {
		registry.MustRegister(m.sessions, m.refused, m.states, m.handovers, m.handoverSeconds, m.relayed, m.relayRefused, m.relayBytes)
	}
	return m
}
