package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"connectrpc.com/connect"

	dataplanev1 "biplane.dev/biplane/api/gen/biplane/dataplane/v1"
	"biplane.dev/biplane/api/gen/biplane/dataplane/v1/dataplanev1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/internal/peer"
)

func TestWhoMayCall(t *testing.T) {
	t.Parallel()
	p := start(t)
	other := workspace(t)
	bound := func(w v1alpha1.Workspace) string {
		inside := &plane{workspace: w}
		return sandbox.Token(t, w.Name, "tasks", v1alpha1.TokenAudience, inside.pod(t, "caller", "sleep 600"))
	}
	sandbox.Account(t, p.workspace.Name, "nobody")
	for _, test := range []struct {
		name, token string
		code        connect.Code // 0: it may
		want        string
	}{
		{"lets the control plane", sandbox.Token(t, namespace, operatorAccount, v1alpha1.TokenAudience, nil), 0, ""},
		{"lets a task of the workspace", bound(p.workspace), 0, ""},
		{"refuses a task of another", bound(other), connect.CodePermissionDenied, "a task has what is of its own"},
		{"refuses an account of the workspace that is in no pod", sandbox.Token(t, p.workspace.Name, "nobody", v1alpha1.TokenAudience, nil), connect.CodePermissionDenied, "may not use the project"},
		{"refuses the other processes", sandbox.Token(t, namespace, "executor", v1alpha1.TokenAudience, nil), connect.CodePermissionDenied, "union/executor may not use"},
		{"refuses what is no token", "a.b.c", connect.CodeUnauthenticated, ""},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			proxy := p.proxy(p.as(t, test.token))
			_, err := proxy.UploadInputs(t.Context(), p.upload(greet(), named("who", text("x"))))
			if test.code == 0 {
				if err != nil {
					t.Errorf("got %v, want it done", err)
				}
				return
			}
			refused(t, err, test.code, test.want)
			stream, err := proxy.TailLogs(t.Context(), &dataproxy.TailLogsRequest{ActionId: p.action("r1", "a0"), Attempt: 1})
			if err == nil {
				for stream.Receive() {
				}
				err = stream.Err()
				stream.Close()
			}
			refused(t, err, test.code, test.want)
		})
	}
	t.Run("it refuses texts to all but the control plane", func(t *testing.T) {
		t.Parallel()
		texts := dataplanev1connect.NewActionTextServiceClient(p.as(t, bound(workspace(t))), "https://"+p.address)
		_, err := texts.GetActionTexts(t.Context(), &dataplanev1.GetActionTextsRequest{ActionId: p.action("r1", "a0")})
		refused(t, err, connect.CodePermissionDenied, "may not call")
	})
}

// relayed returns a client whose TLS session is handed over as the operator does it.
func (p *plane) relayed(t *testing.T, http2 bool) *http.Client {
	t.Helper()
	ca, err := os.ReadFile(filepath.Join(p.folder, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: roots, ServerName: "localhost"},
		ForceAttemptHTTP2: http2,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return peer.Upgrade(ctx, peer.Options{CAFile: filepath.Join(p.folder, "ca.crt"), TokenFile: filepath.Join(p.folder, "operator-token")},
				p.address, rawPath, rawProtocol)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// handOver sends what may not be taken for it, and returns the status.
func (p *plane) handOver(ctx context.Context, roots *x509.CertPool, tokenFile, method, headers string) (int, error) {
	token, err := os.ReadFile(filepath.Join(p.folder, tokenFile))
	if err != nil {
		return 0, err
	}
	conn, err := (&tls.Dialer{Config: &tls.Config{RootCAs: roots, NextProtos: []string{"http/1.1"}}}).DialContext(ctx, "tcp", p.address)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: proxy\r\nAuthorization: Bearer %s\r\n%s\r\n", method, rawPath, token, headers)
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0, err
	}
	return response.StatusCode, response.Body.Close()
}

func TestClientDoor(t *testing.T) {
	t.Parallel()
	p := start(t)
	for name, http2 := range map[string]bool{"HTTP/2.0": true, "HTTP/1.1": false} {
		t.Run("it serves clients that the operator hands over, by "+name, func(t *testing.T) {
			t.Parallel()
			client := p.relayed(t, http2)
			if _, err := p.proxy(client).UploadInputs(t.Context(), p.upload(greet(), named("who", text(name)))); err != nil {
				t.Fatal(err)
			}
			response, err := client.Get("https://proxy/absent")
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if response.Proto != name {
				t.Errorf("got %s, want %s", response.Proto, name)
			}
		})
	}
	t.Run("it sends clients logs", func(t *testing.T) {
		t.Parallel()
		p.taskAction(t, "logs", "a0", attempt(p.pod(t, "logs", "seq 1 100")))
		stream, err := p.proxy(p.relayed(t, true)).TailLogs(t.Context(), &dataproxy.TailLogsRequest{ActionId: p.action("logs", "a0"), Attempt: 1})
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if got, err := (&tailing{stream: stream}).text(); err != nil || got != numbers(100) {
			t.Errorf("got %q, %v, want a hundred lines", got, err)
		}
	})
	t.Run("it waits for no client who does not begin its session", func(t *testing.T) {
		t.Parallel()
		conn, err := peer.Upgrade(t.Context(), peer.Options{CAFile: filepath.Join(p.folder, "ca.crt"), TokenFile: filepath.Join(p.folder, "operator-token")},
			p.address, rawPath, rawProtocol)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.ReadAll(conn); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("got %v, want the end of the stream", err)
		}
	})
	t.Run("it does not serve clients what is for the control plane", func(t *testing.T) {
		t.Parallel()
		texts := dataplanev1connect.NewActionTextServiceClient(p.relayed(t, true), "https://"+p.address)
		_, err := texts.GetActionTexts(t.Context(), &dataplanev1.GetActionTextsRequest{ActionId: p.action("r1", "a0")})
		refused(t, err, connect.CodeUnimplemented, "")
	})
	t.Run("it refuses clients another organisation", func(t *testing.T) {
		t.Parallel()
		id := p.action("r1", "a0")
		id.Run.Org = "other"
		_, err := p.proxy(p.relayed(t, true)).GetActionData(t.Context(), &dataproxy.GetActionDataRequest{ActionId: id})
		refused(t, err, connect.CodePermissionDenied, `"other" has nothing in this data plane`)
	})

	ca, err := os.ReadFile(filepath.Join(p.folder, "ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	for _, test := range []struct {
		name, token, method, headers string
		status                       int
	}{
		{"takes clients from nobody but the operator", "proxy-token", "POST", "Upgrade: biplane-raw\r\nConnection: Upgrade\r\n", http.StatusForbidden},
		{"takes no GET for one", "operator-token", "GET", "Upgrade: biplane-raw\r\nConnection: Upgrade\r\n", http.StatusUpgradeRequired},
		{"takes no other upgrade for one", "operator-token", "POST", "Upgrade: websocket\r\nConnection: Upgrade\r\n", http.StatusUpgradeRequired},
		{"takes no body with one", "operator-token", "POST", "Upgrade: biplane-raw\r\nConnection: Upgrade\r\nContent-Length: 3\r\n\r\nabc", http.StatusUpgradeRequired},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			status, err := p.handOver(t.Context(), roots, test.token, test.method, test.headers)
			if err != nil {
				t.Fatal(err)
			}
			if status != test.status {
				t.Errorf("got %d, want %d", status, test.status)
			}
		})
	}
	t.Run("it takes none by HTTP/2, which has no connection to give", func(t *testing.T) {
		t.Parallel()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+p.address+rawPath, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("X-Upgrade", rawProtocol) // HTTP/2 has no Upgrade
		response, err := p.operator().Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUpgradeRequired {
			t.Errorf("got %s, want %d", response.Status, http.StatusUpgradeRequired)
		}
	})
}

func TestPagesOfBrowsers(t *testing.T) {
	t.Parallel()
	p := start(t)
	client := p.relayed(t, true)
	for _, test := range []struct {
		name, origin string
		allowed      bool
	}{
		{"lets a page that is named call", "https://console.example", true},
		{"lets no other page call", "https://elsewhere.example", false},
	} {
		t.Run("it "+test.name, func(t *testing.T) {
			t.Parallel()
			for _, method := range []string{http.MethodOptions, http.MethodPost} {
				request, err := http.NewRequestWithContext(t.Context(), method, "https://proxy/flyteidl2.dataproxy.DataProxyService/GetActionData", strings.NewReader("{}"))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Origin", test.origin)
				request.Header.Set("Content-Type", "application/json")
				if method == http.MethodOptions {
					request.Header.Set("Access-Control-Request-Method", http.MethodPost)
				}
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				response.Body.Close()
				if got := response.Header.Get("Access-Control-Allow-Origin"); (got == test.origin) != test.allowed || response.StatusCode == http.StatusOK {
					t.Errorf("got %s and %q by %s, want it allowed: %v", response.Status, got, method, test.allowed)
				}
			}
		})
	}
}
