package operator

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"time"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/operator/internal/pki"
	"biplane.dev/biplane/internal/usererr"
)

const (
	// ensureInterval is how long a Secret that somebody deleted is missing.
	ensureInterval = time.Minute
	ensureRetry    = 2 * time.Second

	proxyClientSecret = "proxy-client-tls"
)

// certificates keeps the CA and the serving certificates.
type certificates struct {
	keeper *pki.Keeper
	config *config.Config
	names  func() []string // of the proxy, as clients call it
	wake   <-chan struct{} // they may be others now
	log    *slog.Logger
}

// Run makes and renews until ctx ends.
func (c *certificates) Run(ctx context.Context) {
	for ctx.Err() == nil {
		wait := ensureInterval
		if err := c.keeper.Ensure(ctx, c.wanted()); err != nil && ctx.Err() == nil {
			c.log.Error("cannot keep the certificates", "error", usererr.Chain(err))
			wait = ensureRetry
		}
		select {
		case <-ctx.Done():
		case <-c.wake:
		case <-time.After(wait):
		}
	}
}

// wanted is a certificate for each process, and one more for the proxy, which
// clients outside see.
func (c *certificates) wanted() []pki.Serving {
	of := func(name string, process config.Process) pki.Serving {
		names := []string{
			name,
			name + "." + c.config.Namespace,
			name + "." + c.config.Namespace + ".svc",
			name + "." + c.config.Namespace + ".svc.cluster.local",
		}
		if host, _, err := net.SplitHostPort(process.Endpoint); err == nil {
			names = append(names, host)
		}
		return pki.Serving{Secret: secretOf(name), Names: names}
	}
	clients := c.names()
	if len(clients) == 0 {
		// Until the control plane says what the proxy is called: its own default, so
		// that the proxy need not wait for the Secret to be mounted anew.
		clients = []string{"localhost", "127.0.0.1"}
	}
	return []pki.Serving{
		of("operator", c.config.Operator),
		of("executor", c.config.Executor.Process),
		of("proxy", c.config.Proxy.Process),
		of("clustersync", c.config.Clustersync.Process),
		{Secret: proxyClientSecret, Names: clients},
	}
}

func secretOf(process string) string { return process + "-tls" }

// own is the operator's certificate, from memory: it need not wait for the kubelet.
func (c *certificates) own() (*tls.Certificate, error) {
	if certificate := c.keeper.Certificate(secretOf("operator")); certificate != nil {
		return certificate, nil
	}
	return nil, errors.New("the CA is not made yet")
}

// bundle is the CA, for calling our own processes.
func (c *certificates) bundle() ([]byte, error) {
	if bundle := c.keeper.Bundle(); bundle != nil {
		return bundle, nil
	}
	return nil, errors.New("the CA is not made yet")
}

// expiries are those of the serving certificates, by Secret.
func (c *certificates) expiries() map[string]time.Time {
	times := map[string]time.Time{}
	for _, serving := range c.wanted() {
		if certificate := c.keeper.Certificate(serving.Secret); certificate != nil {
			times[serving.Secret] = certificate.Leaf.NotAfter
		}
	}
	return times
}
