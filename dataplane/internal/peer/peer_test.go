package peer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"biplane.dev/biplane/dataplane/internal/peer"
)

// files writes ca.crt (of the server) and the token.
func files(t *testing.T, server *httptest.Server, token string) peer.Options {
	t.Helper()
	folder := t.TempDir()
	options := peer.Options{CAFile: filepath.Join(folder, "ca.crt"), TokenFile: filepath.Join(folder, "token")}
	bundle := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	for file, content := range map[string]string{options.CAFile: string(bundle), options.TokenFile: token} {
		if content == "" {
			continue
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return options
}

func echo(t *testing.T) *httptest.Server {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto+" "+r.Header.Get("Authorization"))
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func TestTransport(t *testing.T) {
	t.Parallel()
	server := echo(t)

	t.Run("sends its own token over HTTP/2, whatever the request has", func(t *testing.T) {
		t.Parallel()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer somebody's")
		response, err := peer.NewTransport(files(t, server, "mine\n")).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		if got, want := string(body), "HTTP/2.0 Bearer mine"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		if got := request.Header.Get("Authorization"); got != "Bearer somebody's" {
			t.Errorf("got the request changed to %q, want it left alone", got)
		}
	})

	t.Run("passes on the token of somebody else when told to", func(t *testing.T) {
		t.Parallel()
		options := files(t, server, "mine")
		options.KeepAuthorization = true
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer somebody's")
		response, err := peer.NewTransport(options).RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		if got, want := string(body), "HTTP/2.0 Bearer somebody's"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})

	t.Run("refuses a server of another CA", func(t *testing.T) {
		t.Parallel()
		options := files(t, server, "mine")
		options.CA = func() ([]byte, error) { return stranger(t), nil }
		_, err := (&http.Client{Transport: peer.NewTransport(options)}).Get(server.URL)
		var unknown x509.UnknownAuthorityError
		if !errors.As(err, &unknown) {
			t.Errorf("got %v, want it refused", err)
		}
	})

	t.Run("sees a CA that came later", func(t *testing.T) {
		t.Parallel()
		options := files(t, server, "mine")
		bundle, err := os.ReadFile(options.CAFile)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(options.CAFile); err != nil {
			t.Fatal(err)
		}
		c := &http.Client{Transport: peer.NewTransport(options)}
		if _, err := c.Get(server.URL); err == nil {
			t.Fatal("got an answer without CA, want an error")
		}
		if err := os.WriteFile(options.CAFile, bundle, 0o600); err != nil {
			t.Fatal(err)
		}
		response, err := c.Get(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
	})

	t.Run("says that there is no token", func(t *testing.T) {
		t.Parallel()
		_, err := (&http.Client{Transport: peer.NewTransport(files(t, server, ""))}).Get(server.URL)
		if err == nil || !strings.Contains(err.Error(), "reading the service account's token") {
			t.Errorf("got %v, want what is missing", err)
		}
	})
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer mine" {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		conn, buffered, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		// The first bytes come with the answer, in one packet.
		io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: "+r.Header.Get("Upgrade")+"\r\n\r\nhello ")
		io.Copy(conn, buffered)
	}))
	server.StartTLS()
	t.Cleanup(server.Close)

	t.Run("gives the bytes behind the answer, both ways, each with its end", func(t *testing.T) {
		t.Parallel()
		conn, err := peer.Upgrade(t.Context(), files(t, server, "mine"), server.Listener.Addr().String(), "/bytes", "biplane-raw")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "echo"); err != nil {
			t.Fatal(err)
		}
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		all, err := io.ReadAll(conn)
		if got, want := string(all), "hello echo"; got != want || err != nil {
			t.Errorf("got %q %v, want %q", got, err, want)
		}
	})

	t.Run("says what was answered instead", func(t *testing.T) {
		t.Parallel()
		_, err := peer.Upgrade(t.Context(), files(t, server, "not mine"), server.Listener.Addr().String(), "/bytes", "biplane-raw")
		if err == nil || !strings.Contains(err.Error(), "401") || !strings.Contains(err.Error(), "who are you?") {
			t.Errorf("got %v, want the status and the sentence", err)
		}
	})
}

// stranger is a CA that no server here has a certificate of.
func stranger(t *testing.T) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
