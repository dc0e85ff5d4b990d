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

// From returns what get returns at the time of a handshake.
//
// While get has none, because the operator has not made the Secret, the listener
// shows one that nobody trusts: the kubelet, which verifies none, is told that the
// process lives and is not ready, and does not kill it.
func From(get func() (*tls.Certificate, error)) (Certificates, error) {
	placeholder, err := selfSigned()
	if err != nil {
		return nil, fmt.Errorf("making a certificate: %w", err)
	}
	return &certificates{get: get, placeholder: placeholder}, nil
}

// Folder is From tls.crt and tls.key of a folder.
func Folder(folder string) (Certificates, error) {
	return From((&folderReader{folder: folder}).get)
}

type certificates struct {
	get         func() (*tls.Certificate, error)
	placeholder *tls.Certificate
}

// GetCertificate implements Certificates.
func (c *certificates) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if certificate, err := c.get(); err == nil {
		return certificate, nil
	}
	return c.placeholder, nil
}

// Ready implements Certificates.
func (c *certificates) Ready() error {
	certificate, err := c.get()
	if err != nil {
		return fmt.Errorf("waiting for the certificate that the operator makes: %w", err)
	}
	if expired := certificate.Leaf.NotAfter; time.Now().After(expired) {
		return fmt.Errorf("the certificate expired at %s", expired.Format(time.RFC3339))
	}
	return nil
}

type folderReader struct {
	folder string

	mu      sync.Mutex
	at      time.Time        // when the files were read
	files   [2][]byte        // as they were when current was made of them
	current *tls.Certificate // nil: there was none yet
	err     error            // why the files could not be read the last time
}

// get returns the last pair that was good. A Secret's folder is swapped as a whole,
// but not between two reads: what does not match is read again the next time.
func (f *folderReader) get() (*tls.Certificate, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.at) >= rereadAfter {
		f.at = time.Now()
		f.err = f.read()
	}
	if f.current == nil {
		return nil, f.err
	}
	return f.current, nil
}

func (f *folderReader) read() error {
	var files [2][]byte
	for i, name := range []string{"tls.crt", "tls.key"} {
		content, err := os.ReadFile(filepath.Join(f.folder, name))
		if err != nil {
			return err
		}
		files[i] = content
	}
	if bytes.Equal(files[0], f.files[0]) && bytes.Equal(files[1], f.files[1]) {
		return nil
	}
	pair, err := tls.X509KeyPair(files[0], files[1])
	if err != nil {
		return err
	}
	f.files, f.current = files, &pair
	return nil
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
