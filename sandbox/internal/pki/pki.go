// Package pki makes a sandbox's certificates and keys and finds them again at
// the next start: a CA, a certificate for each component, the key that signs
// service-account tokens, the key that secrets are encrypted with at rest, the
// administrator's access key of AWS. It knows no component by name, except that
// those of Kubernetes want kubeconfigs.
//
// What other things depend on (the CA, the keys) is never replaced: where one is
// damaged or readable by others, Open says so. What can be made again (the
// certificates signed by the CA) is, when it is missing, damaged, near its end,
// or not what is asked for.
//
// Start with Open.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
)

// How long certificates live, and how long before its end one is replaced. Only
// an up replaces them. A sandbox that is up has to live with those it has, also
// when the clock is set while it is: hence a year and more to either side.
const (
	year     = 365 * 24 * time.Hour
	caLife   = 10 * year
	leafLife = 4 * year
	margin   = year
	backdate = year
)

// PKI is an open folder of certificates and keys.
type PKI struct {
	dir    string
	now    time.Time
	ca     *x509.Certificate
	caKey  crypto.Signer
	change bool
}

// Open opens the folder, which it makes if need be, and its CA. now is what the
// ends of certificates are measured by. The error is for a person.
func Open(dir string, now time.Time) (*PKI, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, unusable("make the folder", dir, err)
	}
	p := &PKI{dir: dir, now: now}
	if err := p.openCA(); err != nil {
		return nil, err
	}
	return p, nil
}

// Changed says whether anything was made or replaced since Open.
func (p *PKI) Changed() bool { return p.change }

// Path names a file of the folder.
func (p *PKI) Path(name string) string { return filepath.Join(p.dir, name) }

// CA is the file of the CA's certificate.
func (p *PKI) CA() string { return p.Path("ca.crt") }

// CAKey is the file of the CA's key.
func (p *PKI) CAKey() string { return p.Path("ca.key") }

// Pair is a certificate and its key, as files.
type Pair struct{ Cert, Key string }

// Subject is who a certificate is for.
type Subject struct {
	User   string   // common name: the user that Kubernetes sees
	Groups []string // organizations: the user's groups
	IPs    []string // addresses it may serve on; with none and no Names it is a client only
	Names  []string // DNS names
}

// Pair returns the certificate and key called name for the subject, made anew
// where those that are there will not do.
func (p *PKI) Pair(name string, subject Subject) (Pair, error) {
	pair := Pair{Cert: p.Path(name + ".crt"), Key: p.Path(name + ".key")}
	template := p.template(subject)
	if fits, err := p.fits(pair, template); err != nil || fits {
		return pair, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("making the key of %s: %w", name, err)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.ca, key.Public(), p.caKey)
	if err != nil {
		return Pair{}, fmt.Errorf("signing the certificate of %s: %w", name, err)
	}
	if err := p.writeKey(pair.Key, key); err != nil {
		return Pair{}, err
	}
	return pair, p.write(pair.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func (p *PKI) template(subject Subject) *x509.Certificate {
	end := p.now.Add(leafLife)
	if end.After(p.ca.NotAfter) {
		end = p.ca.NotAfter
	}
	t := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: subject.User, Organization: subject.Groups},
		NotBefore:    p.now.Add(-backdate), NotAfter: end,
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:    subject.Names,
	}
	for _, ip := range subject.IPs {
		t.IPAddresses = append(t.IPAddresses, net.ParseIP(ip))
	}
	if len(t.IPAddresses)+len(t.DNSNames) > 0 {
		t.ExtKeyUsage = append(t.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	return t
}

// fits says whether the pair that is there is what the template asks for. A key
// that others can read is an error, everything else is a pair to make again.
func (p *PKI) fits(pair Pair, want *x509.Certificate) (bool, error) {
	key, err := readKey(pair.Key)
	if err != nil {
		var said *usererr.Error
		if errors.As(err, &said) && said.Kind == usererr.Refused {
			return false, err
		}
		return false, nil
	}
	got, err := readCertificate(pair.Cert)
	if err != nil {
		return false, nil
	}
	sameNames := got.Subject.String() == want.Subject.String() && slices.Equal(got.DNSNames, want.DNSNames) &&
		slices.EqualFunc(got.IPAddresses, want.IPAddresses, net.IP.Equal) && slices.Equal(got.ExtKeyUsage, want.ExtKeyUsage)
	return sameNames && belongs(got, key) && p.lasts(got) && got.CheckSignatureFrom(p.ca) == nil, nil
}

// lasts says whether a certificate is valid now and for a while. Of one that is
// not yet valid, the clock has been set back since.
func (p *PKI) lasts(certificate *x509.Certificate) bool {
	return !p.now.Before(certificate.NotBefore) && p.now.Add(margin).Before(certificate.NotAfter)
}

// openCA finds or makes the CA. Its key is for ever; its certificate is made
// again with the same key when its time comes, and what was signed stays valid.
func (p *PKI) openCA() error {
	key, err := readKey(p.CAKey())
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(p.CA()); err == nil {
			return usererr.New(usererr.Refused, "the key of the sandbox's CA, %s, is gone", p.CAKey()).
				WithHint("put it back, or start anew with 'biplane sandbox up --fresh'")
		}
		key, err = p.newKey(p.CAKey(), func() (crypto.Signer, error) { return ecdsa.GenerateKey(elliptic.P256(), rand.Reader) })
	}
	if err != nil {
		return err
	}
	p.caKey = key
	ca, err := readCertificate(p.CA())
	if err == nil && ca.IsCA && belongs(ca, key) && p.lasts(ca) {
		p.ca = ca
		return nil
	}
	// The name holds the key's fingerprint: who trusts the CAs of two sandboxes
	// must be able to tell which of them signed.
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return fmt.Errorf("encoding the public key of the CA: %w", err)
	}
	fingerprint := sha256.Sum256(public)
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: fmt.Sprintf("biplane sandbox %x", fingerprint[:6])},
		SubjectKeyId: fingerprint[:20],
		NotBefore:    p.now.Add(-backdate), NotAfter: p.now.Add(caLife),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature,
		IsCA:     true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return fmt.Errorf("signing the certificate of the CA: %w", err)
	}
	if p.ca, err = x509.ParseCertificate(der); err != nil {
		return fmt.Errorf("reading back the certificate of the CA: %w", err)
	}
	return p.write(p.CA(), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func serial() *big.Int {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		panic(err) // crypto/rand says that it never returns one
	}
	return n.Add(n, big.NewInt(1))
}

func (p *PKI) write(path string, content []byte) error {
	p.change = true
	if err := sandbox.WriteFile(path, content, 0o600); err != nil {
		return unusable("write", path, err)
	}
	return nil
}
