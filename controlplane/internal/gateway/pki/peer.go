package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"
)

// A control-plane process is biplane://peer/PROCESS in its certificate's only URI.
// It has no other name, so it cannot be taken for the gateway, whose certificate
// names hosts; nor for a data plane, whose URI has another form; nor these for it.
func peerURI(process string) *url.URL {
	return &url.URL{Scheme: "biplane", Host: "peer", Path: "/" + process}
}

// SignPeer makes a key and a certificate for a process among its peers, as client
// and as server.
func (ca *CA) SignPeer(process string, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := template(now, servingLife)
	template.Subject = pkix.Name{CommonName: "Biplane control plane"}
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth}
	template.URIs = []*url.URL{peerURI(process)}
	leaf, err := ca.sign(template, key.Public())
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// PeerOf is the process that a certificate stands for, which has been verified.
func PeerOf(leaf *x509.Certificate) (string, error) {
	if len(leaf.URIs) != 1 {
		return "", fmt.Errorf("certificate has %d URIs, want 1", len(leaf.URIs))
	}
	process := strings.TrimPrefix(leaf.URIs[0].Path, "/")
	if process == "" || strings.Contains(process, "/") || leaf.URIs[0].String() != peerURI(process).String() {
		return "", fmt.Errorf("certificate's URI %q names no control-plane process", leaf.URIs[0])
	}
	return process, nil
}

// VerifyPeer believes the certificate of one process, as a server's. It looks at
// no name of a host: where a process is reached, the store says.
func (ca *CA) VerifyPeer(state tls.ConnectionState, process string) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("no certificate was shown")
	}
	leaf := state.PeerCertificates[0]
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		return err
	}
	switch shown, err := PeerOf(leaf); {
	case err != nil:
		return err
	case shown != process:
		return fmt.Errorf("the process is %q, not %q", shown, process)
	}
	return nil
}
