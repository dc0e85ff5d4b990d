package component

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// Answers is a Spec.Ready that asks a URL, whose certificate is of the CA in a
// file.
func Answers(ca, url string) (func(context.Context) error, error) {
	client, err := Client(ca)
	if err != nil {
		return nil, err
	}
	return Get(client, url), nil
}

// Client calls components whose certificates are of the CA in a file.
func Client(ca string) (*http.Client, error) {
	content, err := os.ReadFile(ca)
	if err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(content)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, IdleConnTimeout: time.Minute, ForceAttemptHTTP2: true,
	}}, nil
}

// Get is a Spec.Ready that is ready when the URL answers with 200.
func Get(client *http.Client, url string) func(context.Context) error {
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return fmt.Errorf("asking %s: %w", url, err)
		}
		answer, err := client.Do(request)
		if err != nil {
			return err // names the URL
		}
		defer answer.Body.Close()
		why, _ := io.ReadAll(io.LimitReader(answer.Body, 500))
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s: %s", url, answer.Status, why)
		}
		return nil
	}
}

// Memory is the environment that says how a Go program uses it: collect when the
// heap has grown by percent, and more eagerly above mebibytes, which is a wish
// and not a limit.
func Memory(mebibytes, percent int) []string {
	return []string{fmt.Sprintf("GOGC=%d", percent), fmt.Sprintf("GOMEMLIMIT=%dMiB", mebibytes)}
}
