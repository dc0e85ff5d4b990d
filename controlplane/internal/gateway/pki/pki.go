// Package pki is the control plane's own certificate authority. It signs what
// data planes dial with and what the gateway serves with, and nothing else: the
// certificates of a data plane's processes come from a CA of its own, whose key
// never leaves it, so that a control plane cannot read its clients' sessions.
//
// It keeps no list of what it has signed: the store does, and it knows what was
// revoked. Start with Open; rotate.go replaces a CA by another, peer.go is for
// control-plane processes among each other.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
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
	"strings"
	"time"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/tunnel"
)

const (
	// File is the CA in the server's folder: its key and its certificate in one, so
	// that no crash can leave one without the other, and while it is rotated the
	// other CA too. Processes that share a database share it.
	File = "gateway-ca.pem"

	caLife      = 20 * 365 * 24 * time.Hour
	servingLife = 30 * 24 * time.Hour
	maxFile     = 64 << 10
	maxRequest  = 8 << 10
)

// CA is what its file said when it was read. It signs with one key; certificates
// may be believed that another signed, see Stage.
type CA struct {
	pair
	next *pair             // signs from the next step of a rotation on
	old  *x509.Certificate // is believed to the end of a rotation
}

type pair struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

// Read reads the CA of a folder. fs.ErrNotExist.
func Read(folder string) (*CA, error) { return read(filepath.Join(folder, File)) }

// Open reads the CA of a folder, or makes it.
func Open(folder string, now time.Time) (*CA, error) {
	file := filepath.Join(folder, File)
	ca, err := read(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return ca, err
	}
	if err := create(file, now); err != nil {
		return nil, fmt.Errorf("making the gateway's CA: %w", err)
	}
	return read(file)
}

func read(file string) (*CA, error) {
	info, err := os.Stat(file)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, usererr.New(usererr.Refused, "%s holds a key, and others than its owner may read or write it", file).
			WithHint("run 'chmod 600 %s', and think of who may have read it", file)
	}
	if info.Size() > maxFile {
		return nil, broken(file, errors.New("too long"))
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	ca, err := parse(text)
	if err != nil {
		return nil, broken(file, err)
	}
	return ca, nil
}

// parse reads the certificates, whose order says what each is for, and finds the
// key of each.
func parse(text []byte) (*CA, error) {
	var certificates []*x509.Certificate
	keys := map[int]crypto.Signer{}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		if !certificate.IsCA {
			return nil, errors.New("not a CA")
		}
		certificates = append(certificates, certificate)
	}
	for rest := text; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		for i, certificate := range certificates {
			// It knows every form of a key, and whose it is.
			matched, err := tls.X509KeyPair(encode(certificate.Raw), pem.EncodeToMemory(block))
			if err != nil {
				continue
			}
			if key, ok := matched.PrivateKey.(crypto.Signer); ok {
				keys[i] = key
			}
		}
	}
	if keys[0] == nil {
		return nil, errors.New("no certificate with its key")
	}
	ca := &CA{pair: pair{certificates[0], keys[0]}}
	switch {
	case len(certificates) == 1:
	case len(certificates) == 2 && keys[1] != nil:
		ca.next = &pair{certificates[1], keys[1]}
	case len(certificates) == 2:
		ca.old = certificates[1]
	default:
		return nil, fmt.Errorf("%d certificates", len(certificates))
	}
	return ca, nil
}

func broken(file string, cause error) error {
	return usererr.New(usererr.Invalid, "%s is not the key and the certificate of a CA", file).
		WithHint("restore it: without it every data plane has to join again").Because(cause)
}

// newPair makes a CA's key and certificate.
func newPair(now time.Time) (*pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Biplane gateway CA"},
		NotBefore:             now.Add(-time.Minute),
		NotAfter:              now.Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &pair{certificate, key}, nil
}

// create makes the file whole or not at all; if another process was faster, its
// CA is ours.
func create(file string, now time.Time) error {
	made, err := newPair(now)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	temporary, err := written(file, ".new-*", &CA{pair: *made})
	if err != nil {
		return err
	}
	defer os.Remove(temporary)
	if err := os.Link(temporary, file); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return nil
}

// written writes a CA into a file beside the one that it is to be, which only its
// owner may read.
func written(file, pattern string, ca *CA) (temporary string, err error) {
	f, err := os.CreateTemp(filepath.Dir(file), File+pattern) // 0600
	if err != nil {
		return "", err
	}
	defer f.Close()
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	blocks := []*pem.Block{}
	for _, p := range []*pair{&ca.pair, ca.next} {
		if p == nil {
			continue
		}
		secret, err := x509.MarshalPKCS8PrivateKey(p.key)
		if err != nil {
			return "", err
		}
		blocks = append(blocks, &pem.Block{Type: "PRIVATE KEY", Bytes: secret}, &pem.Block{Type: "CERTIFICATE", Bytes: p.certificate.Raw})
	}
	if ca.old != nil {
		blocks = append(blocks, &pem.Block{Type: "CERTIFICATE", Bytes: ca.old.Raw})
	}
	for _, block := range blocks {
		if err := pem.Encode(f, block); err != nil {
			return "", err
		}
	}
	return f.Name(), f.Sync()
}

// Certificate is that of the key which signs.
func (ca *CA) Certificate() *x509.Certificate { return ca.certificate }

// trusted are all that are believed.
func (ca *CA) trusted() []*x509.Certificate {
	all := []*x509.Certificate{ca.certificate}
	if ca.next != nil {
		all = append(all, ca.next.certificate)
	}
	if ca.old != nil {
		all = append(all, ca.old)
	}
	return all
}

// Bundle is what is believed, in PEM.
func (ca *CA) Bundle() (bundle []byte) {
	for _, certificate := range ca.trusted() {
		bundle = append(bundle, encode(certificate.Raw)...)
	}
	return bundle
}

// Fingerprints are those of the bundle, in its order.
func (ca *CA) Fingerprints() (prints []string) {
	for _, certificate := range ca.trusted() {
		prints = append(prints, tunnel.Fingerprint(certificate))
	}
	return prints
}

// Pool believes the bundle and nothing else.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, certificate := range ca.trusted() {
		pool.AddCert(certificate)
	}
	return pool
}

// Trusts says whether a certificate, which may have been verified at another time,
// comes from one of the bundle.
func (ca *CA) Trusts(leaf *x509.Certificate) bool {
	return slices.ContainsFunc(ca.trusted(), func(root *x509.Certificate) bool { return leaf.CheckSignatureFrom(root) == nil })
}

// ErrRequest is returned for a certificate request that is not one, or whose key
// is of a kind that is not signed for.
var ErrRequest = errors.New("not a certificate request with a key of ECDSA, Ed25519 or RSA of 2048 to 4096 bits")

// SignClient signs a request (PKCS #10, DER) for a data plane. Of the request
// the key alone is used. The chain is PEM, the leaf first. ErrRequest.
func (ca *CA) SignClient(request []byte, identity tunnel.Identity, now time.Time, life time.Duration) (leaf *x509.Certificate, chain []byte, err error) {
	if len(request) > maxRequest {
		return nil, nil, ErrRequest
	}
	asked, err := x509.ParseCertificateRequest(request)
	if err != nil || asked.CheckSignature() != nil || !signable(asked.PublicKey) {
		return nil, nil, ErrRequest
	}
	template := template(now, life)
	template.Subject = pkix.Name{Organization: []string{identity.Organization}, CommonName: identity.Cluster}
	template.URIs = append(template.URIs, identity.URI())
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	leaf, err = ca.sign(template, asked.PublicKey)
	if err != nil {
		return nil, nil, err
	}
	return leaf, append(encode(leaf.Raw), encode(ca.certificate.Raw)...), nil
}

func signable(key crypto.PublicKey) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return key.Curve == elliptic.P256() || key.Curve == elliptic.P384()
	case ed25519.PublicKey:
		return true
	case *rsa.PublicKey:
		return key.N.BitLen() >= 2048 && key.N.BitLen() <= 4096
	}
	return false
}

// SignServer makes a key and a certificate for the gateway's names. The CA's
// own is in its chain, so that who joins can compare it with the token.
func (ca *CA) SignServer(names []string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := template(now, servingLife)
	template.Subject = pkix.Name{CommonName: "Biplane gateway"}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	leaf, err := ca.sign(template, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw, ca.certificate.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// template backdates for clocks that are not ours, and by no more than a tenth:
// the moment of renewal is counted from there.
func template(now time.Time, life time.Duration) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber:          serial(),
		NotBefore:             now.Add(-min(time.Minute, life/10)),
		NotAfter:              now.Add(life),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true,
	}
}

func (ca *CA) sign(template *x509.Certificate, key crypto.PublicKey) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, ca.certificate, key, ca.key)
	if err != nil {
		return nil, fmt.Errorf("signing a certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// Serial is how a certificate is named in the store.
func Serial(certificate *x509.Certificate) string { return certificate.SerialNumber.Text(16) }

func serial() *big.Int {
	random := make([]byte, 16)
	rand.Read(random) // never fails
	random[0] &= 0x7f // positive in 16 bytes
	return new(big.Int).SetBytes(random)
}

func encode(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
