package pki

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"

	apiserver "k8s.io/apiserver/pkg/apis/apiserver/v1"
	"sigs.k8s.io/yaml"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"biplane.dev/biplane/internal/usererr"
)

// ServiceAccountKey returns the files of the key that signs service-account
// tokens and of its public half. It is RSA: AWS's identity federation takes
// RS256 only.
func (p *PKI) ServiceAccountKey() (key, public string, err error) {
	key, public = p.Path("service-account.key"), p.Path("service-account.pub")
	signer, err := readKey(key)
	if errors.Is(err, fs.ErrNotExist) {
		signer, err = p.newKey(key, func() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) })
	}
	if err != nil {
		return "", "", err
	}
	der, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return "", "", fmt.Errorf("encoding the service-account key: %w", err)
	}
	encoded := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	if was, err := os.ReadFile(public); err == nil && bytes.Equal(was, encoded) {
		return key, public, nil
	}
	return key, public, p.write(public, encoded)
}

// EncryptionConfig returns the file that tells the API server to encrypt
// secrets in etcd, with the key.
func (p *PKI) EncryptionConfig() (string, error) {
	path := p.Path("encryption.yaml")
	content, err := readSecret(path)
	if err == nil {
		var config apiserver.EncryptionConfiguration
		if err := yaml.UnmarshalStrict(content, &config); err != nil || len(config.Resources) == 0 {
			return "", damaged(path).Because(err)
		}
		return path, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	key := make([]byte, 32)
	if _, err := io.ReadFull(rand.Reader, key); err != nil {
		return "", fmt.Errorf("making the key of secrets: %w", err)
	}
	content, err = yaml.Marshal(apiserver.EncryptionConfiguration{
		TypeMeta: metav1.TypeMeta{APIVersion: apiserver.SchemeGroupVersion.String(), Kind: "EncryptionConfiguration"},
		Resources: []apiserver.ResourceConfiguration{{
			Resources: []string{"secrets"},
			Providers: []apiserver.ProviderConfiguration{{
				Secretbox: &apiserver.SecretboxConfiguration{Keys: []apiserver.Key{{Name: "sandbox", Secret: base64.StdEncoding.EncodeToString(key)}}},
			}},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("encoding the key of secrets: %w", err)
	}
	return path, p.write(path, content)
}

// AccessKey is a key of an account of AWS.
type AccessKey struct {
	ID     string `json:"id"`
	Secret string `json:"secret"`
}

// AccessKey returns the access key called name and its file, in JSON. It is of
// the form of AWS's, and opens nothing but this sandbox.
func (p *PKI) AccessKey(name string) (path string, key AccessKey, err error) {
	path = p.Path(name + ".json")
	content, err := readSecret(path)
	if err == nil {
		if err := json.Unmarshal(content, &key); err != nil || key.ID == "" || key.Secret == "" {
			return "", AccessKey{}, damaged(path).Because(err)
		}
		return path, key, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", AccessKey{}, err
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
	raw := make([]byte, 16+30)
	if _, err := io.ReadFull(rand.Reader, raw); err != nil {
		return "", AccessKey{}, fmt.Errorf("making the access key %s: %w", name, err)
	}
	id := []byte("AKIA")
	for _, b := range raw[:16] {
		id = append(id, letters[b%32])
	}
	key = AccessKey{ID: string(id), Secret: base64.RawStdEncoding.EncodeToString(raw[16:])}
	content, err = json.Marshal(key)
	if err != nil {
		return "", AccessKey{}, fmt.Errorf("encoding the access key %s: %w", name, err)
	}
	return path, key, p.write(path, append(content, '\n'))
}

func (p *PKI) newKey(path string, make func() (crypto.Signer, error)) (crypto.Signer, error) {
	key, err := make()
	if err != nil {
		return nil, fmt.Errorf("making the key %s: %w", path, err)
	}
	return key, p.writeKey(path, key)
}

func (p *PKI) writeKey(path string, key crypto.Signer) error {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding the key %s: %w", path, err)
	}
	return p.write(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func readKey(path string) (crypto.Signer, error) {
	content, err := readSecret(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, damaged(path)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, damaged(path).Because(err)
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, damaged(path)
	}
	return signer, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(content)
	if block == nil {
		return nil, damaged(path)
	}
	return x509.ParseCertificate(block.Bytes)
}

func belongs(certificate *x509.Certificate, key crypto.Signer) bool {
	public, ok := certificate.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(key.Public())
}

// readSecret reads a file that nobody else may read or write. One that others
// can is refused, not mended: whoever could read it may have.
func readSecret(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err != nil {
		return nil, unusable("read", path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, unusable("read", path, err)
	}
	switch owner := info.Sys().(*syscall.Stat_t).Uid; {
	case !info.Mode().IsRegular():
		return nil, usererr.New(usererr.Refused, "%s is not a regular file, so its content is not trusted", path).
			WithHint("start anew with 'biplane sandbox up --fresh'")
	case info.Mode().Perm()&0o077 != 0:
		return nil, usererr.New(usererr.Refused, "%s can be read or changed by others: its mode is %04o, and should be 0600", path, info.Mode().Perm()).
			WithHint("run 'chmod 600 %s'; if somebody may have read it, start anew with 'biplane sandbox up --fresh'", path)
	case int(owner) != os.Geteuid():
		return nil, usererr.New(usererr.Refused, "%s belongs to user %d, not to you (%d)", path, owner, os.Geteuid()).
			WithHint("name a sandbox of yours with --name or --dir, or run as its owner")
	}
	content, err := io.ReadAll(io.LimitReader(file, 1<<20))
	if err != nil {
		return nil, unusable("read", path, err)
	}
	return content, nil
}

func damaged(path string) *usererr.Error {
	return usererr.New(usererr.Invalid, "%s is damaged", path).
		WithHint("put back a copy of it, or start anew with 'biplane sandbox up --fresh'")
}

func unusable(doing, path string, err error) error {
	var cause *fs.PathError
	what := err
	if errors.As(err, &cause) {
		what = cause.Err
	}
	return usererr.New(usererr.Unavailable, "cannot %s %s: %v", doing, path, what).Because(err)
}
