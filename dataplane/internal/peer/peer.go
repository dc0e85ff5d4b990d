// Package peer is how a process of the data plane calls another: TLS by the
// data plane's own CA, and the caller's own service-account token. Both files
// are replaced while the process runs, and read again.
//
// It is not for the API server, nor for anything outside of the cluster. Start
// with NewTransport.
package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"biplane.dev/biplane/dataplane/config"
)

// Options of a transport.
type Options struct {
	// CAFile has the data plane's CA (PEM). Default: ca.crt in config.TLSFolder.
	CAFile string
	// CA is asked instead of CAFile, for the process that makes the CA.
	CA func() ([]byte, error)
	// TokenFile has the caller's token. Default: config.TokenFile.
	TokenFile string
	// HTTP1 keeps to HTTP/1.1, for requests with Upgrade.
	HTTP1 bool
}

const (
	dialTimeout = 10 * time.Second
	// A peer whose node is lost sends nothing more, not even an end: a stream is
	// asked by a ping whether it still stands.
	pingAfter   = 15 * time.Second
	pingTimeout = 10 * time.Second
	// idleTimeout is below the server's, so that it is the client who closes.
	idleTimeout = 90 * time.Second
	// maxHeader of an answer.
	maxHeader = 256 << 10
	// rereadToken is far below the time by which the kubelet replaces one early.
	rereadToken = 10 * time.Second
	maxFile     = 1 << 20
)

// NewTransport returns a RoundTripper that replaces the Authorization of every
// request by the caller's own token.
func NewTransport(options Options) http.RoundTripper {
	if options.CAFile == "" {
		options.CAFile = filepath.Join(config.TLSFolder, "ca.crt")
	}
	if options.TokenFile == "" {
		options.TokenFile = config.TokenFile
	}
	if options.CA == nil {
		options.CA = func() ([]byte, error) { return readFile(options.CAFile) }
	}
	protocols := &http.Protocols{}
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(!options.HTTP1)
	return &transport{
		token: &token{file: options.TokenFile},
		base: &http.Transport{
			// Proxy is not set: what stays in the cluster must not leave it by
			// somebody's HTTPS_PROXY.
			DialTLSContext:         dialTLS(options.CA, protocols),
			Protocols:              protocols,
			HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
			MaxIdleConnsPerHost:    32,
			IdleConnTimeout:        idleTimeout,
			MaxResponseHeaderBytes: maxHeader,
			// Bodies pass as they are: who forwards must not unpack.
			DisableCompression: true,
		},
	}
}

// dialTLS reads the CA anew for every connection, since a tls.Config cannot
// change its roots.
func dialTLS(ca func() ([]byte, error), protocols *http.Protocols) func(context.Context, string, string) (net.Conn, error) {
	next := []string{"http/1.1"}
	if protocols.HTTP2() {
		next = []string{"h2", "http/1.1"}
	}
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		bundle, err := ca()
		if err != nil {
			return nil, fmt.Errorf("reading the data plane's CA: %w", err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(bundle) {
			return nil, fmt.Errorf("reading the data plane's CA: there is no certificate in it")
		}
		dialer := &tls.Dialer{
			NetDialer: &net.Dialer{Timeout: dialTimeout, KeepAlive: pingAfter},
			Config:    &tls.Config{RootCAs: roots, NextProtos: next, MinVersion: tls.VersionTLS12},
		}
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return dialer.DialContext(ctx, network, address)
	}
}

type transport struct {
	token *token
	base  *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	token, err := t.token.read()
	if err != nil {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+token)
	return t.base.RoundTrip(r)
}

// CloseIdleConnections is what http.Client looks for.
func (t *transport) CloseIdleConnections() { t.base.CloseIdleConnections() }

// token is a file that the kubelet replaces long before what is in it expires.
type token struct {
	file string

	mu   sync.Mutex
	text string
	at   time.Time // when it was read
}

// read returns the text of the file as it was a moment ago. One that cannot be
// read is no matter while the last token may still be good: the peer says so.
func (t *token) read() (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.at) < rereadToken {
		return t.text, nil
	}
	content, err := readFile(t.file)
	if err == nil && len(content) == 0 {
		err = fmt.Errorf("%s is empty", t.file)
	}
	if err != nil {
		if t.text == "" {
			return "", fmt.Errorf("reading the service account's token: %w", err)
		}
		return t.text, nil
	}
	t.text, t.at = strings.TrimSpace(string(content)), time.Now()
	return t.text, nil
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}
