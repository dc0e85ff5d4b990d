package actions

import (
	"context"
	"path"
	"time"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are also an interceptor, which measures the calls. Streams are counted
// by how many are open.
type metrics struct {
	calls *prometheus.HistogramVec
}

func newMetrics(registry prometheus.Registerer, watchers func() int) (*metrics, error) {
	m := &metrics{calls: prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "biplane_executor_actions_call_seconds", Help: "Calls of ActionsService, by what was called and the code of the answer.",
		Buckets: []float64{.002, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5},
	}, []string{"call", "code"})}
	if registry == nil {
		return m, nil
	}
	open := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "biplane_executor_actions_watches", Help: "Parents that watch their children now.",
	}, func() float64 { return float64(watchers()) })
	for _, collector := range []prometheus.Collector{m.calls, open} {
		if err := registry.Register(collector); err != nil {
			return nil, err
		}
	}
	return m, nil
}

func (m *metrics) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		begin := time.Now()
		response, err := next(ctx, request)
		code := "ok"
		if err != nil {
			code = connect.CodeOf(err).String()
		}
		m.calls.WithLabelValues(path.Base(request.Spec().Procedure), code).Observe(time.Since(begin).Seconds())
		return response, err
	}
}

func (m *metrics) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (m *metrics) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return next
}
