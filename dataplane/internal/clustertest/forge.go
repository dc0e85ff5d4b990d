package clustertest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/util/keyutil"
)

// Forgery is a token that the API server itself would not make, or not any more.
type Forgery struct{ Name, Token string }

// Forgeries are bad tokens of an account that has a good one: everything about each
// is right, but for one thing. The account needs a token of the audience.
func (c *Cluster) Forgeries(t testing.TB, namespace, account, audience string) []Forgery {
	t.Helper()
	good := c.Token(t, namespace, account, audience, nil)
	own := c.key(t)
	other, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	past := func(claims map[string]any) {
		for claim, ago := range map[string]time.Duration{"iat": 2 * time.Hour, "nbf": 2 * time.Hour, "exp": time.Minute} {
			claims[claim] = time.Now().Add(-ago).Unix()
		}
	}
	parts := strings.Split(good, ".")
	return []Forgery{
		{"one that has expired", forge(t, good, own, past)},
		{"one that is not good yet", forge(t, good, own, func(claims map[string]any) { claims["nbf"] = time.Now().Add(time.Hour).Unix() })},
		{"one of another cluster's issuer", forge(t, good, own, func(claims map[string]any) { claims["iss"] = "https://issuer.example.com" })},
		{"one of another cluster's key", forge(t, good, other, func(map[string]any) {})},
		{"one of an account that is gone", forge(t, good, own, func(claims map[string]any) {
			claims["kubernetes.io"].(map[string]any)["serviceaccount"].(map[string]any)["uid"] = "5d9a7a4c-0000-4000-8000-000000000000"
		})},
		{"one that nobody signed", strings.Join([]string{encode(t, map[string]any{"alg": "none"}), parts[1], ""}, ".")},
		{"one of another audience", c.Token(t, namespace, account, "sts.amazonaws.com", nil)},
		{"one that was tampered with", strings.Join([]string{parts[0], parts[1], strings.Repeat("A", len(parts[2]))}, ".")},
	}
}

// Resigned is a token as the API server made it, signed anew by the API server's key:
// a Forgery with nothing wrong.
func (c *Cluster) Resigned(t testing.TB, token string) string {
	t.Helper()
	return forge(t, token, c.key(t), func(map[string]any) {})
}

// key is that by which the API server signs tokens.
func (c *Cluster) key(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	read, err := keyutil.PrivateKeyFromFile(filepath.Join(filepath.Dir(c.Kubeconfig), "pki", "service-account.key"))
	if err != nil {
		t.Fatal(err)
	}
	key, ok := read.(*rsa.PrivateKey)
	if !ok {
		t.Fatalf("got a %T, want an RSA key", read)
	}
	return key
}

// forge changes the claims of a token.
func forge(t testing.TB, token string, by *rsa.PrivateKey, change func(claims map[string]any)) string {
	t.Helper()
	parts := strings.Split(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(text, &claims); err != nil {
		t.Fatal(err)
	}
	change(claims)
	signed := parts[0] + "." + encode(t, claims)
	digest := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, by, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encode(t testing.TB, part map[string]any) string {
	t.Helper()
	text, err := json.Marshal(part)
	if err != nil {
		t.Fatal(err)
	}
	return base64.RawURLEncoding.EncodeToString(text)
}
