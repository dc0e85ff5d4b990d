package gateway_test

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/tunnel"
)

func TestTunnel(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	for name, spoil := range map[string]func(*tls.Config){
		"is opened by nobody without a certificate": func(c *tls.Config) { c.Certificates = nil },
		"is not opened by TLS 1.2":                  func(c *tls.Config) { c.MinVersion, c.MaxVersion = 0, tls.VersionTLS12 },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			config := w.join(t, strings.ReplaceAll(strings.ToLower(name[len(name)-7:]), ".", "-")+"x").tls(t)
			spoil(config)
			if session, err := tunnel.Dial(t.Context(), w.address, config, tunnel.Options{}); err == nil {
				session.Close()
				t.Error("got a tunnel, want none")
			}
		})
	}

	t.Run("is not opened with a certificate of another gateway", func(t *testing.T) {
		t.Parallel()
		config := newWorld(t).join(t, clusterName).tls(t)
		config.InsecureSkipVerify = true // it is the gateway's to refuse
		if session, err := tunnel.Dial(t.Context(), w.address, config, tunnel.Options{}); err == nil {
			session.Close()
			t.Error("got a tunnel, want none")
		}
	})

	t.Run("is refused in a sentence once the cluster was removed", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "gone")
		if err := w.store.RemoveCluster(t.Context(), organization, "gone", false); err != nil {
			t.Fatal(err)
		}
		_, err := tunnel.Dial(t.Context(), w.address, p.tls(t), tunnel.Options{})
		var refused *tunnel.RefusedError
		if !errors.As(err, &refused) || !strings.Contains(refused.Reason, "removed") {
			t.Errorf("got %v, want that it was removed", err)
		}
	})

	t.Run("ends with the cluster's removal", func(t *testing.T) {
		t.Parallel()
		session := w.join(t, "ends").dial(t, tunnel.Handlers{})
		if err := w.store.RemoveCluster(t.Context(), organization, "ends", false); err != nil {
			t.Fatal(err)
		}
		removed := time.Now()
		wait(t, session.Done(), "the tunnel to end")
		t.Logf("it ended %s after the removal", time.Since(removed).Round(time.Millisecond)) // within a second on a machine that is not busy
		eventually(t, "the cluster to be unreachable", func() bool { return !w.Connected(organization, "ends") })
	})

	t.Run("of a replica takes over when the newest ends", func(t *testing.T) {
		t.Parallel()
		p := w.join(t, "replicas")
		says := func(text string) tunnel.Handlers {
			return tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, text) })}
		}
		asked := func() string {
			answer, err := get(t.Context(), w.Transport(organization, "replicas"), "http://executor/")
			if err != nil {
				return err.Error()
			}
			return answer
		}
		p.dial(t, says("first"))
		eventually(t, "the first to answer", func() bool { return asked() == "200 first" })
		second := p.dial(t, says("second"))
		eventually(t, "the newest to answer", func() bool { return asked() == "200 second" })
		second.Close()
		eventually(t, "the first to answer again", func() bool { return asked() == "200 first" })
	})
}

func TestCertificateEnds(t *testing.T) {
	t.Parallel()
	w := newWorld(t, short)
	p := w.join(t, clusterName)
	session := p.dial(t, tunnel.Handlers{RPC: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })})
	// A call that does not end holds the drained session up, to the certificate's end.
	ended := make(chan error, 1)
	go func() {
		_, err := get(context.Background(), w.Transport(organization, clusterName), "http://executor/")
		ended <- err
	}()
	wait(t, session.Draining(), "the gateway to ask for another session")
	select {
	case <-session.Done():
		t.Error("got the session's end, want it to last while a call does")
	default:
	}
	wait(t, session.Done(), "the session to end with its certificate")
	wantCode(t, <-ended, connect.CodeUnavailable)
	if _, err := tunnel.Dial(t.Context(), w.address, p.tls(t), tunnel.Options{}); err == nil {
		t.Error("got a tunnel with a certificate that has expired, want none")
	}
	// It was away for too long, and is not lost for that.
	w.join(t, clusterName).dial(t, tunnel.Handlers{})
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.join(t, clusterName).dial(t, newExecutor(nil).handlers())
	w.run(t, clusterName, "counted")
	eventually(t, "the run to be handed over", func() bool { return w.pending(t, clusterName) == 0 })
	families, err := w.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		if !strings.HasPrefix(family.GetName(), "biplane_controlplane_") {
			t.Errorf("got the metric %s, want it to be of the control plane", family.GetName())
		}
		for _, metric := range family.GetMetric() {
			got[family.GetName()] += metric.GetGauge().GetValue() + metric.GetCounter().GetValue()
		}
	}
	if got["biplane_controlplane_tunnel_sessions"] != 1 || got["biplane_controlplane_tunnel_round_trip_seconds"] <= 0 ||
		got["biplane_controlplane_handovers_total"] != 1 {
		t.Errorf("got %v, want one session, its round trip, and one hand-over", got)
	}
}

func TestTransport(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("says that a data plane without a tunnel cannot be reached", func(t *testing.T) {
		t.Parallel()
		_, err := get(t.Context(), w.Transport(organization, "nowhere"), "http://executor/")
		wantCode(t, err, connect.CodeUnavailable)
		if !strings.Contains(err.Error(), `the data plane "nowhere" cannot be reached now`) {
			t.Errorf("got %q, want a sentence that names it", err)
		}
	})

	t.Run("says so where the tunnel ends in the middle of an answer", func(t *testing.T) {
		t.Parallel()
		session := w.join(t, "half").dial(t, tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})})
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://executor/", nil)
		response, err := w.Transport(organization, "half").RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.ReadFull(response.Body, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		session.Close()
		_, err = io.ReadAll(response.Body)
		wantCode(t, err, connect.CodeUnavailable)
	})

	t.Run("carries no header by which an operator says who calls", func(t *testing.T) {
		t.Parallel()
		headers := make(chan http.Header, 1)
		w.join(t, "headers").dial(t, tunnel.Handlers{RPC: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { headers <- r.Header })})
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://executor/", nil)
		request.Header.Set("Biplane-Service-Account", "union/executor")
		request.Header.Set("Other", "kept")
		response, err := w.Transport(organization, "headers").RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if got := <-headers; got.Get("Biplane-Service-Account") != "" || got.Get("Other") != "kept" {
			t.Errorf("got %v, want the one header without the other", got)
		}
		if request.Header.Get("Biplane-Service-Account") == "" {
			t.Error("got the caller's own request changed, want it left alone")
		}
	})
}
