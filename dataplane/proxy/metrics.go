package proxy

import "github.com/prometheus/client_golang/prometheus"

type metrics struct {
	calls       *prometheus.CounterVec
	uploaded    prometheus.Counter
	tails       prometheus.Gauge
	logBytes    prometheus.Counter
	connections prometheus.Gauge
}

func newMetrics(register prometheus.Registerer) *metrics {
	m := &metrics{
		calls: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "biplane_proxy_calls_total", Help: "Calls that ended, by what they ended with.",
		}, []string{"call", "code"}),
		uploaded: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_proxy_uploaded_bytes_total", Help: "Bytes of inputs that were written into the bucket.",
		}),
		tails: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "biplane_proxy_log_streams", Help: "Streams of logs that are open.",
		}),
		logBytes: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "biplane_proxy_log_bytes_total", Help: "Bytes of logs that were sent to clients.",
		}),
		connections: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "biplane_proxy_client_connections", Help: "Connections of clients that came through the relay.",
		}),
	}
	register.MustRegister(m.calls, m.uploaded, m.tails, m.logBytes, m.connections)
	return m
}
