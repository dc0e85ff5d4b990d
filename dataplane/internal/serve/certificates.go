package serve

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Certificates are what a listener shows.
type Certificates interface {
	// GetCertificate is tls.Config's.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Ready says why there is no certificate that a client would trust.
	Ready() error
}

// rereadAfter is how long a renewed certificate may wait; it was renewed days
// before the old one expires.
const rereadAfter = time.Second

// Folder returns the certificate in tls.crt and tls.key of a folder, whatever it
// is at the time of a handshake.
//
// Where there is none yet, because the operator has not made the Secret, the
// listener shows one that nobody trusts: the kubelet, which verifies none, is
// told that the process lives and is not ready, and does not kill it.
func Folder(folder string) (Certificates, error) {
	placeholder, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	return &folderCertificates{folder: folder, current: placeholder}, nil
}

type folderCertificates struct {
	folder string

	mu       sync.Mutex
	at       time.Time // when the files were read
	files    [2][]byte // as they were when current was made of them
	current  *tls.Certificate
	err      error // why the files could not be read the last time
	fromFile bool
}

// GetCertificate implements Certificates.
func (c *folderCertificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reread()
	return c.current, nil
}

// Ready implements Certificates.
func (c *folderCertificates) Ready() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reread()
	if !c.fromFile {
		return fmt.Errorf("waiting for the certificate that the operator makes: %w", c.err)
	}
	if expired := c.current.Leaf.NotAfter; time.Now().After(expired) {
		return fmt.Errorf("the certificate expired at %s", expired.Format(time.RFC3339))
	}
	return nil
}

// reread is called with the lock held. A Secret's folder is swapped as a whole,
// but not between two reads: what does not match is read again the next time,
// and until then the last pair stays.
func (c *folderCertificates) reread() {
	if time.Since(c.at) < rereadAfter {
		return
	}
	c.at = time.Now()
	var files [2][]byte
	for i, name := range []string{"tls.crt", "tls.key"} {
		if files[i], c.err = os.ReadFile(filepath.Join(c.folder, name)); c.err != nil {
			return
		}
	}
	if bytes.Equal(files[0], c.files[0]) && bytes.Equal(files[1], c.files[1]) {
		return
	}
	var pair tls.Certificate
	if pair, c.err = tls.X509KeyPair(files[0], files[1]); c.err != nil {
		return
	}
	c.files, c.current, c.fromFile = files, &pair, true
}

func selfSigned() (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
