package tunnel

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// Identity is who a client certificate stands for.
type Identity struct{ Organization, Cluster string }

// URI is the identity in a certificate's subject alternative names:
// biplane://org/ORGANIZATION/cluster/NAME.
func (i Identity) URI() *url.URL {
	return &url.URL{Scheme: "biplane", Host: "org", Path: "/" + i.Organization + "/cluster/" + i.Cluster}
}

// IdentityOf reads it. Who has verified the certificate may believe it.
func IdentityOf(certificate *x509.Certificate) (Identity, error) {
	if len(certificate.URIs) != 1 {
		return Identity{}, fmt.Errorf("certificate has %d URIs, want 1", len(certificate.URIs))
	}
	uri := certificate.URIs[0]
	parts := strings.Split(uri.Path, "/")
	if len(parts) == 4 && parts[2] == "cluster" && parts[1] != "" && parts[3] != "" {
		if identity := (Identity{Organization: parts[1], Cluster: parts[3]}); identity.URI().String() == uri.String() {
			return identity, nil
		}
	}
	return Identity{}, fmt.Errorf("certificate's URI %q names no cluster", uri)
}

// NewKey makes a key for a certificate: P-256, which every FIPS list has.
func NewKey() (*ecdsa.PrivateKey, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) }

// CertificateRequest asks for a certificate of key, for Join and Renew: PKCS
// #10, DER. It has no subject, since the gateway knows who asks.
func CertificateRequest(key crypto.Signer) ([]byte, error) {
	return x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
}

// RenewAt is when a certificate is to be renewed: after two thirds of its life,
// so that a third is left for the gateway to be back.
func RenewAt(certificate *x509.Certificate) time.Time {
	life := certificate.NotAfter.Sub(certificate.NotBefore)
	return certificate.NotBefore.Add(life * 2 / 3)
}

// ClientTLS is what a data plane dials its gateway with: its certificate, and
// the control plane's CA (PEM) as the only one that it believes.
func ClientTLS(certificate tls.Certificate, caBundle []byte) (*tls.Config, error) {
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(caBundle) {
		return nil, errors.New("the gateway's CA bundle has no certificate in PEM")
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{certificate},
		RootCAs:      roots,
	}, nil
}

const tokenVersion = "bpj1"

// Token is what a data plane joins with. It names the control plane's CA, so
// that who joins knows the gateway by it and needs no file.
type Token struct {
	Fingerprint string // Fingerprint of the CA's certificate
	Secret      string
}

// String is the token as people carry it: bpj1.FINGERPRINT.SECRET.
func (t Token) String() string { return tokenVersion + "." + t.Fingerprint + "." + t.Secret }

// ParseToken refuses what String did not write. The error holds none of it.
func ParseToken(text string) (Token, error) {
	parts := strings.SplitN(strings.TrimSpace(text), ".", 3)
	if len(parts) != 3 || parts[0] != tokenVersion {
		return Token{}, errors.New("not a join token: want bpj1.FINGERPRINT.SECRET")
	}
	if sum, err := hex.DecodeString(parts[1]); err != nil || len(sum) != sha256.Size || strings.ToLower(parts[1]) != parts[1] {
		return Token{}, errors.New("not a join token: its second part is no fingerprint of a CA")
	}
	if parts[2] == "" || len(parts[2]) > 128 {
		return Token{}, errors.New("not a join token: its third part has not the length of a secret")
	}
	return Token{Fingerprint: parts[1], Secret: parts[2]}, nil
}

// Fingerprint of a certificate: the SHA-256 of its DER in hexadecimal digits.
func Fingerprint(certificate *x509.Certificate) string {
	sum := sha256.Sum256(certificate.Raw)
	return hex.EncodeToString(sum[:])
}
