package actions_test

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"biplane.dev/biplane/dataplane/api/v1alpha1"
)

// Lives of tokens that signed makes.
var (
	valid   = [2]time.Duration{-time.Minute, time.Hour}
	expired = [2]time.Duration{-2 * time.Hour, -time.Hour}
)

// signed is a token of the operator, whom everything is allowed, as the API server
// makes them but for its life: by the cluster's own key, or by another of the same
// name. The API server itself makes none that lives for less than ten minutes.
func (w *world) signed(life [2]time.Duration, own bool) string {
	w.t.Helper()
	genuine, err := jose.ParseSignedCompact(cluster.Token(w.t, w.home, "operator-system", v1alpha1.TokenAudience, nil),
		[]jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		w.t.Fatal(err)
	}
	claims := map[string]any{}
	if err := json.Unmarshal(genuine.UnsafePayloadWithoutVerification(), &claims); err != nil {
		w.t.Fatal(err)
	}
	now := time.Now()
	claims["iat"], claims["nbf"], claims["exp"] = now.Add(life[0]).Unix(), now.Add(life[0]).Unix(), now.Add(life[1]).Unix()
	payload, err := json.Marshal(claims)
	if err != nil {
		w.t.Fatal(err)
	}
	header := genuine.Signatures[0].Protected
	key := w.clusterKey()
	if !own {
		if key, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			w.t.Fatal(err)
		}
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.SignatureAlgorithm(header.Algorithm), Key: key},
		(&jose.SignerOptions{}).WithHeader("kid", header.KeyID))
	if err != nil {
		w.t.Fatal(err)
	}
	made, err := signer.Sign(payload)
	if err != nil {
		w.t.Fatal(err)
	}
	token, err := made.CompactSerialize()
	if err != nil {
		w.t.Fatal(err)
	}
	return token
}

// clusterKey is what the API server signs service accounts' tokens with.
func (w *world) clusterKey() crypto.PrivateKey {
	w.t.Helper()
	text, err := os.ReadFile(filepath.Join(filepath.Dir(cluster.Kubeconfig), "pki", "service-account.key"))
	if err != nil {
		w.t.Fatal(err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		w.t.Fatal("got no PEM in the cluster's key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// changed is a good token of the operator whose payload says something else.
func (w *world) changed(from, to string) string {
	w.t.Helper()
	parts := strings.Split(cluster.Token(w.t, w.home, "operator-system", v1alpha1.TokenAudience, nil), ".")
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		w.t.Fatal(err)
	}
	parts[1] = base64.RawURLEncoding.EncodeToString([]byte(strings.ReplaceAll(string(payload), from, to)))
	return strings.Join(parts, ".")
}
