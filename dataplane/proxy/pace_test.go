package proxy

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/semaphore"

	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
)

// held is a server whose calls hold the whole budget, and end when the caller is
// hurried for a moment in vain.
func held(t *testing.T, handler http.HandlerFunc, slowest slowest) (budget, *httptest.Server) {
	t.Helper()
	b := budget{semaphore.NewWeighted(maxPayload), slowest}
	server := httptest.NewUnstartedServer(b.wrap(handler))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return b, server
}

// hurry is soon over for who does nothing, however much lies in the buffers between.
var hurry = slowest{50 * time.Millisecond, 64 << 20}

// wantFree waits until nobody holds anything of the budget.
func wantFree(t *testing.T, b budget) {
	t.Helper()
	if err := b.Acquire(t.Context(), maxPayload); err != nil {
		t.Errorf("got %v, want the budget given back", err)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()

	t.Run("it does not wait for who does not send what was announced, by HTTP/1.1", func(t *testing.T) {
		t.Parallel()
		failed := make(chan error, 1)
		b, server := held(t, func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			failed <- err
		}, hurry)
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		secured := tls.Client(conn, &tls.Config{RootCAs: roots, ServerName: "example.com"})
		fmt.Fprintf(secured, "POST %s HTTP/1.1\r\nHost: proxy\r\nContent-Type: application/proto\r\nContent-Length: %d\r\n\r\nabc",
			dataproxyconnect.DataProxyServiceUploadInputsProcedure, maxRequest)
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "more slowly than") {
			t.Errorf("got %v, want a sentence", err)
		}
		wantFree(t, b)
	})

	t.Run("it does not wait for who does not send what was announced, by HTTP/2", func(t *testing.T) {
		t.Parallel()
		failed := make(chan error, 1)
		b, server := held(t, func(_ http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			failed <- err
		}, hurry)
		body, _ := io.Pipe() // which gives nothing
		defer body.Close()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+dataproxyconnect.DataProxyServiceUploadInputsProcedure, body)
		if err != nil {
			t.Fatal(err)
		}
		if response, err := server.Client().Do(request); err == nil {
			response.Body.Close()
		}
		if err := <-failed; err == nil || !strings.Contains(err.Error(), "more slowly than") {
			t.Errorf("got %v, want a sentence", err)
		}
		wantFree(t, b)
	})

	t.Run("it does not wait for who does not read its answer", func(t *testing.T) {
		t.Parallel()
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			failed := make(chan error, 1)
			b, server := held(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Proto != protocol {
					t.Errorf("got %s, want %s", r.Proto, protocol)
				}
				if err := takePayload(r.Context(), maxPayload); err != nil {
					t.Error(err)
				}
				_, err := w.Write(make([]byte, maxPayload))
				failed <- err
			}, hurry)
			client := server.Client()
			if protocol == "HTTP/1.1" {
				client.Transport.(*http.Transport).Protocols = new(http.Protocols)
				client.Transport.(*http.Transport).Protocols.SetHTTP1(true)
			}
			request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+dataproxyconnect.DataProxyServiceGetActionDataProcedure, nil)
			if err != nil {
				t.Fatal(err)
			}
			response, err := client.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			if err := <-failed; err == nil {
				t.Error("got all of it written, want the end of a deadline")
			}
			wantFree(t, b)
			response.Body.Close()
		}
	})

	t.Run("it lets who moves take as long as it takes", func(t *testing.T) {
		t.Parallel()
		// Each piece is within the grace that what came before has earned.
		b, server := held(t, func(w http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if err != nil {
				t.Errorf("got %v after %d bytes, want all of them", err, n)
			}
			w.Write(make([]byte, 3*step))
		}, slowest{grace, leastRate})
		response, err := server.Client().Post(server.URL+dataproxyconnect.DataProxyServiceUploadInputsProcedure, "application/proto", strings.NewReader(strings.Repeat("x", 5*step)))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if n, err := io.Copy(io.Discard, bufio.NewReader(response.Body)); n != 3*step || err != nil {
			t.Errorf("got %d bytes, %v, want %d", n, err, 3*step)
		}
		wantFree(t, b)
	})

	t.Run("it gives more time to who has sent more", func(t *testing.T) {
		t.Parallel()
		var ends []time.Time
		p := pace{slowest: slowest{grace, leastRate}, extend: func(end time.Time) error { ends = append(ends, end); return nil }}
		for range 10 {
			p.next()
			p.moved += step
		}
		if len(ends) != 10 {
			t.Fatalf("got %d ends, want 10", len(ends))
		}
		for i, end := range ends {
			if got, want := end.Sub(p.began), grace+time.Duration(i)*step*time.Second/leastRate; got != want {
				t.Errorf("got %s after %d steps, want %s", got, i, want)
			}
		}
	})
}
