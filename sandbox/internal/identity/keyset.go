package identity

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	keysEvery   = 5 * time.Minute
	keysAtMost  = time.Second // between two fetches, whoever asks
	keysTimeout = 10 * time.Second
	maxKeySet   = 1 << 20
)

// keySet is the cluster's keys. They come from the API server's own address:
// the issuer's name is EKS's, and nobody answers there.
type keySet struct {
	issuer string
	url    string // empty where there is no cluster
	client *http.Client
	log    *slog.Logger
	found  func(issuer string, keys jose.JSONWebKeySet)

	lock  sync.Mutex
	tried time.Time // when the last fetch ended
	known bool
	last  error
}

func newKeySet(cfg Config) (*keySet, error) {
	k := &keySet{issuer: cfg.Issuer, url: cfg.JWKSURL, log: cfg.Log}
	if k.url == "" {
		return k, nil
	}
	pool, err := rootsFrom(cfg.CAFile)
	if err != nil {
		return nil, err
	}
	k.client = &http.Client{
		Timeout:   keysTimeout,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}},
	}
	return k, nil
}

func rootsFrom(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the CA: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("there is no certificate in %s", file)
	}
	return pool, nil
}

// missing says what there is to wait for, and nothing when there is nothing.
func (k *keySet) missing() string {
	k.lock.Lock()
	defer k.lock.Unlock()
	switch {
	case k.url == "" || k.known:
		return ""
	case k.last != nil:
		return "the cluster's keys: " + k.last.Error()
	}
	return "the cluster's keys are not fetched yet"
}

// follow fetches the keys until they are there, and then now and again: one
// that was taken out of use is forgotten.
func (k *keySet) follow(ctx context.Context) error {
	if k.url == "" {
		return nil
	}
	wait := 100 * time.Millisecond
	for {
		k.lock.Lock()
		err := k.fetch(ctx)
		k.lock.Unlock()
		next := keysEvery
		if err != nil {
			k.log.Warn("the cluster's keys were not fetched", "error", err)
			next, wait = wait, min(2*wait, 5*time.Second)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(next):
		}
	}
}

// fetchFor is called for a token whose key is not known. Those that come while
// one fetches wait for it, and find the keys there.
func (k *keySet) fetchFor(ctx context.Context, issuer string) {
	if k.url == "" || strings.TrimSuffix(issuer, "/") != strings.TrimSuffix(k.issuer, "/") {
		return
	}
	k.lock.Lock()
	defer k.lock.Unlock()
	if time.Since(k.tried) < keysAtMost {
		return
	}
	if err := k.fetch(ctx); err != nil {
		k.log.Warn("the cluster's keys were not fetched", "error", err)
	}
}

// fetch is called with the lock held.
func (k *keySet) fetch(ctx context.Context) error {
	keys, err := k.get(ctx)
	k.tried, k.last = time.Now(), err
	if err != nil {
		return err
	}
	k.known = true
	k.found(k.issuer, keys)
	return nil
}

func (k *keySet) get(ctx context.Context) (jose.JSONWebKeySet, error) {
	var keys jose.JSONWebKeySet
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, k.url, nil)
	if err != nil {
		return keys, err
	}
	answer, err := k.client.Do(request)
	if err != nil {
		return keys, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return keys, fmt.Errorf("%s answered %s", k.url, answer.Status)
	}
	if err := json.NewDecoder(io.LimitReader(answer.Body, maxKeySet)).Decode(&keys); err != nil {
		return keys, fmt.Errorf("reading the key set of %s: %w", k.url, err)
	}
	// A symmetric key in a public document would let anybody sign.
	keys.Keys = slices.DeleteFunc(keys.Keys, func(key jose.JSONWebKey) bool { return !key.IsPublic() || !key.Valid() })
	if len(keys.Keys) == 0 {
		return keys, fmt.Errorf("there is no public key in %s", k.url)
	}
	return keys, nil
}
