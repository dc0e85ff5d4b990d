package cluster

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"biplane.dev/biplane/provision/plane"
)

// answerTimeout is how long an API server has to answer.
const answerTimeout = 10 * time.Second

// ErrNotReached is what Answers returns where the API server is not reached from this
// machine, which says nothing of whether it works for others.
var ErrNotReached = errors.New("it is not reached from this machine")

// Answers tries the API server from here, by its name and authority, and says in a
// sentence how it answered. Its error is ErrNotReached with the reason, or what is wrong
// with the answer. The plane knows the facts of the cluster.
func Answers(ctx context.Context, p *plane.Plane) (string, error) {
	server, err := p.Server()
	if server == nil || err != nil {
		return "", cmp.Or(err, errors.New("the cluster has no address yet"))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(server.CA) {
		return "", errors.New("the cluster's authority cannot be read")
	}
	host, _, err := net.SplitHostPort(server.Address)
	if err != nil {
		return "", err
	}
	took, status, err := Readyz(ctx, server.Address, server.Name, roots)
	var name *net.DNSError
	var verification *tls.CertificateVerificationError
	var dialling *net.OpError
	switch {
	case err == nil && status < http.StatusInternalServerError:
		// Who has no token may be refused: it is the API server that does it.
		return fmt.Sprintf("/readyz answers %d, in %s", status, took.Round(time.Millisecond)), nil
	case err == nil:
		return "", fmt.Errorf("/readyz answers %d", status)
	case errors.As(err, &name):
		return "", fmt.Errorf("%w: %s has no address here", ErrNotReached, host)
	case errors.As(err, &verification):
		return "", fmt.Errorf("what answers at %s is not the cluster: %w", host, verification)
	case errors.As(err, &dialling) && dialling.Op == "dial":
		return "", fmt.Errorf("%w: %s", ErrNotReached, dialling)
	case errors.Is(err, context.DeadlineExceeded):
		return "", fmt.Errorf("%w: %s said nothing for %s", ErrNotReached, host, answerTimeout)
	}
	return "", err
}

// Readyz asks an API server whether it is ready, at an address and by its name: how long
// that took, and its status.
func Readyz(ctx context.Context, address, name string, roots *x509.CertPool) (time.Duration, int, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, address)
		},
		TLSClientConfig: &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+net.JoinHostPort(name, "443")+"/readyz", nil)
	if err != nil {
		return 0, 0, err
	}
	began := time.Now()
	answer, err := client.Do(request)
	if err != nil {
		return 0, 0, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, io.LimitReader(answer.Body, 64<<10))
	return time.Since(began), answer.StatusCode, err
}
