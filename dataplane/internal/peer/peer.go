// Package peer is how a process of the data plane calls another: TLS by the
// data plane's own CA, and the caller's own service-account token. Both files
// are replaced while the process runs, and read again.
//
// It is not for the API server, nor for anything outside of the cluster. Start
// with NewTransport; Upgrade is for what is no call but bytes.
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
	// KeepAuthorization leaves the token of a request as it is, for who passes on
	// the request of somebody else: the peer is to see that one.
	KeepAuthorization bool
}

func (o Options) withDefaults() Options {
	if o.CAFile == "" {
		o.CAFile = filepath.Join(config.TLSFolder, "ca.crt")
	}
	if o.TokenFile == "" {
		o.TokenFile = config.TokenFile
	}
	if o.CA == nil {
		file := o.CAFile
		o.CA = func() ([]byte, error) { return readFile(file) }
	}
	return o
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
	options = options.withDefaults()
	t := &transport{base: &http.Transport{
		// Proxy is not set: what stays in the cluster must not leave it by
		// somebody's HTTPS_PROXY.
		DialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			return dial(ctx, options, network, address, "h2", "http/1.1")
		},
		ForceAttemptHTTP2:      true,
		HTTP2:                  &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
		MaxIdleConnsPerHost:    32,
		IdleConnTimeout:        idleTimeout,
		MaxResponseHeaderBytes: maxHeader,
		// Bodies pass as they are: who forwards must not unpack.
		DisableCompression: true,
	}}
	if !options.KeepAuthorization {
		t.token = &token{file: options.TokenFile}
	}
	return t
}

// dial reads the CA anew for every connection, since a tls.Config cannot change
// its roots.
func dial(ctx context.Context, options Options, network, address string, protocols ...string) (*tls.Conn, error) {
	bundle, err := options.CA()
	if err != nil {
		return nil, fmt.Errorf("reading the data plane's CA: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(bundle) {
		return nil, fmt.Errorf("reading the data plane's CA: there is no certificate in it")
	}
	dialer := &tls.Dialer{
		NetDialer: &net.Dialer{KeepAlive: pingAfter},
		Config:    &tls.Config{RootCAs: roots, NextProtos: protocols, MinVersion: tls.VersionTLS12},
	}
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return conn.(*tls.Conn), nil
}

type transport struct {
	token *token // nil: requests keep theirs
	base  *http.Transport
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(r *http.Request) (*http.Response, error) {
	if t.token == nil {
		return t.base.RoundTrip(r)
	}
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
