package operator

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// metrics are those of one operator, all biplane_operator_*.
type metrics struct {
	registry *prometheus.Registry

	dials      *prometheus.CounterVec
	dialTime   prometheus.Histogram
	heartbeats *prometheus.CounterVec
	roundTrip  prometheus.Gauge
	calls      *prometheus.CounterVec
	active     *prometheus.GaugeVec
	raws       prometheus.Gauge
	refused    prometheus.Counter
}

func newMetrics(o *Operator) *metrics {
	const namespace, part = "biplane", "operator"
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: namespace, Subsystem: part, Name: name, Help: help}
	}
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		dials:      prometheus.NewCounterVec(prometheus.CounterOpts(opts("tunnel_dials_total", "Tries to open the tunnel.")), []string{"result"}),
		dialTime:   prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: part, Name: "tunnel_dial_seconds", Help: "Time until the gateway had accepted the tunnel."}),
		heartbeats: prometheus.NewCounterVec(prometheus.CounterOpts(opts("heartbeats_total", "Heartbeats sent.")), []string{"result"}),
		roundTrip:  prometheus.NewGauge(prometheus.GaugeOpts(opts("heartbeat_round_trip_seconds", "Round trip of the last heartbeat."))),
		calls:      prometheus.NewCounterVec(prometheus.CounterOpts(opts("calls_total", "Calls passed on, by where to.")), []string{"to"}),
		active:     prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("calls_active", "Calls and streams that are being passed on, by where to.")), []string{"to"}),
		raws:       prometheus.NewGauge(prometheus.GaugeOpts(opts("client_sessions_active", "Clients' own TLS sessions that are being passed on to the proxy."))),
		refused:    prometheus.NewCounter(prometheus.CounterOpts(opts("calls_refused_total", "Calls that their caller may not make."))),
	}
	gauge := func(name, help string, value func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help)), value)
	}
	flag := func(yes bool) float64 {
		if yes {
			return 1
		}
		return 0
	}
	m.registry.MustRegister(
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.dials, m.dialTime, m.heartbeats, m.roundTrip, m.calls, m.active, m.raws, m.refused,
		gauge("leading", "Whether this operator is the one that works.", func() float64 { return flag(o.leading.Load()) }),
		gauge("tunnel_up", "Whether the tunnel stands.", func() float64 { return flag(o.link.Up()) }),
		gauge("tunnel_round_trip_seconds", "Round trip in the tunnel, smoothed.", func() float64 { return o.link.RTT().Seconds() }),
		gauge("config_revision", "Revision of the control plane's configuration that is in force.", func() float64 { return float64(o.received.Revision()) }),
		certificateTimes{o, prometheus.NewDesc("biplane_operator_certificate_expires_seconds", "When a certificate expires, in seconds since 1970.", []string{"certificate"}, nil)},
		peerReadiness{o, prometheus.NewDesc("biplane_operator_peer_ready", "Whether another process of the data plane is ready.", []string{"peer"}, nil)},
	)
	return m
}

func (m *metrics) dialled(took time.Duration, err error) {
	m.dials.WithLabelValues(result(err)).Inc()
	if err == nil {
		m.dialTime.Observe(took.Seconds())
	}
}

func (m *metrics) heartbeat(roundTrip time.Duration, err error) {
	m.heartbeats.WithLabelValues(result(err)).Inc()
	m.roundTrip.Set(roundTrip.Seconds())
}

// forwarded counts a call, and returns what is to be called at its end.
func (m *metrics) forwarded(to string) func() {
	m.calls.WithLabelValues(to).Inc()
	active := m.active.WithLabelValues(to)
	active.Inc()
	return active.Dec
}

func (m *metrics) raw() func() {
	m.raws.Inc()
	return m.raws.Dec
}

func result(err error) string {
	if err != nil {
		return "error"
	}
	return "ok"
}

// certificateTimes is read when it is asked for.
type certificateTimes struct {
	o    *Operator
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (c certificateTimes) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect implements prometheus.Collector.
func (c certificateTimes) Collect(to chan<- prometheus.Metric) {
	times := c.o.certificates.expiries()
	if at := c.o.membership.Expires(); !at.IsZero() {
		times[tunnelSecret] = at
	}
	for name, at := range times {
		to <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, float64(at.Unix()), name)
	}
}

// peerReadiness is read when it is asked for.
type peerReadiness struct {
	o    *Operator
	desc *prometheus.Desc
}

// Describe implements prometheus.Collector.
func (p peerReadiness) Describe(to chan<- *prometheus.Desc) { to <- p.desc }

// Collect implements prometheus.Collector.
func (p peerReadiness) Collect(to chan<- prometheus.Metric) {
	for _, peer := range p.o.health.Peers() {
		ready := 0.0
		if peer.GetReady() {
			ready = 1
		}
		to <- prometheus.MustNewConstMetric(p.desc, prometheus.GaugeValue, ready, peer.GetName())
	}
}
