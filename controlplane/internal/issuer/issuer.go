// Package issuer is the OpenID Connect issuer that the trust of flyteadmin's role
// names: it signs the web identity tokens with which the control plane asks STS
// for a session in each customer's account.
//
// It serves nothing: the key set is registered where the provider is made
// (`biplane-controlplane issuer keys`). Nor does it authenticate clients. Start
// with Open, or with File where the tokens are somebody else's.
package issuer

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

const (
	audience = "sts.amazonaws.com"
	// life of a token: it is used once, at once.
	life = 5 * time.Minute
	// skew that a clock of AWS may be behind ours.
	skew = time.Minute
)

// Issuer signs tokens with one key.
type Issuer struct {
	url     string
	subject string
	key     *rsa.PrivateKey
	id      string
}

// Open reads the key from file, or makes one there, readable by its owner alone.
func Open(url, subject, file string) (*Issuer, error) {
	key, err := readKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(file)
	}
	if err != nil {
		return nil, err
	}
	public := jose.JSONWebKey{Key: key.Public()}
	thumb, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("naming the issuer's key: %w", err)
	}
	return &Issuer{url: url, subject: subject, key: key, id: base64.RawURLEncoding.EncodeToString(thumb)}, nil
}

// Keys is the set by which others verify the tokens.
func (i *Issuer) Keys() jose.JSONWebKeySet {
	return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{
		Key: i.key.Public(), KeyID: i.id, Algorithm: string(jose.RS256), Use: "sig",
	}}}
}

// Token returns a web identity token for STS.
func (i *Issuer) Token(now time.Time) (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: i.key, KeyID: i.id}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("preparing to sign as the issuer: %w", err)
	}
	token, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer:    i.url,
		Subject:   i.subject,
		Audience:  jwt.Audience{audience},
		IssuedAt:  jwt.NewNumericDate(now),
		NotBefore: jwt.NewNumericDate(now.Add(-skew)),
		Expiry:    jwt.NewNumericDate(now.Add(life)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("signing a web identity token: %w", err)
	}
	return token, nil
}

func readKey(file string) (*rsa.PrivateKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("reading the issuer's key: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("the issuer's key %s is not PEM", file)
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("parsing the issuer's key %s: %w", file, err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("the issuer's key %s is not an RSA key", file)
	}
	return key, nil
}

// makeKey writes a new key under its name at once or not at all. Where two start
// at the same time the first one's stays, and the second reads it.
func makeKey(file string) (*rsa.PrivateKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("making the issuer's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the issuer's key: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of the issuer's key: %w", err)
	}
	draft, err := os.CreateTemp(filepath.Dir(file), ".issuer-*") // 0600
	if err != nil {
		return nil, fmt.Errorf("writing the issuer's key: %w", err)
	}
	defer os.Remove(draft.Name())
	err = errors.Join(
		pem.Encode(draft, &pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		draft.Sync(),
		draft.Close())
	if err != nil {
		return nil, fmt.Errorf("writing the issuer's key: %w", err)
	}
	if err := os.Link(draft.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("writing the issuer's key: %w", err)
	}
	return readKey(file)
}

// File is a web identity token that somebody else keeps current, such as the
// projected one of a pod of EKS.
type File string

// Token reads it.
func (f File) Token(time.Time) (string, error) {
	token, err := os.ReadFile(string(f))
	if err != nil {
		return "", fmt.Errorf("reading the web identity token: %w", err)
	}
	return strings.TrimSpace(string(token)), nil
}
