package gateway

import (
	"maps"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	refused         prometheus.Counter
	states          prometheus.Counter
	handovers       *prometheus.CounterVec
	handoverSeconds prometheus.Histogram
	relayed         prometheus.Gauge
	relayRefused    prometheus.Counter
	relayBytes      *prometheus.CounterVec
	forwarded       *prometheus.CounterVec
}

// newMetrics registers, if there is where.
func newMetrics(registry prometheus.Registerer) *metrics {
	m := &metrics{
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
		forwarded: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_controlplane_forwarded_total", Help: "What other processes forwarded to this one, which holds the tunnel: call, client.",
		}, []string{"kind"}),
	}
	if registry != nil {
		registry.MustRegister(m.refused, m.states, m.handovers, m.handoverSeconds, m.relayed, m.relayRefused, m.relayBytes, m.forwarded)
	}
	return m
}

// tunnels tells of each data plane what its newest session is like when asked.
// One that is not connected here has no figures.
type tunnels struct {
	gateway                      *Gateway
	roundTrip, streams, sessions *prometheus.Desc
}

func newTunnels(g *Gateway) *tunnels {
	of := []string{"organization", "cluster"}
	return &tunnels{
		gateway:   g,
		roundTrip: prometheus.NewDesc("biplane_controlplane_tunnel_round_trip_seconds", "Of the newest tunnel of a data plane, smoothed.", of, nil),
		streams:   prometheus.NewDesc("biplane_controlplane_tunnel_streams", "Open in all tunnels of a data plane.", of, nil),
		sessions:  prometheus.NewDesc("biplane_controlplane_tunnel_sessions", "Tunnels that a data plane holds to this process.", of, nil),
	}
}

// Describe is part of prometheus.Collector.
func (t *tunnels) Describe(to chan<- *prometheus.Desc) {
	to <- t.roundTrip
	to <- t.streams
	to <- t.sessions
}

// Collect is part of prometheus.Collector.
func (t *tunnels) Collect(to chan<- prometheus.Metric) {
	t.gateway.mu.Lock()
	clusters := slices.Collect(maps.Values(t.gateway.clusters))
	t.gateway.mu.Unlock()
	for _, c := range clusters {
		gauge := func(of *prometheus.Desc, value float64) {
			to <- prometheus.MustNewConstMetric(of, prometheus.GaugeValue, value, c.identity.Organization, c.identity.Cluster)
		}
		sessions := c.all()
		streams := 0
		for _, session := range sessions {
			streams += session.Stats().Streams
		}
		gauge(t.sessions, float64(len(sessions)))
		gauge(t.streams, float64(streams))
		if newest := c.newest(); newest != nil {
			gauge(t.roundTrip, newest.RTT().Seconds())
		}
	}
}
