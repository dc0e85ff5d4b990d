package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	"biplane.dev/biplane/controlplane/internal/gateway/pki"
	"biplane.dev/biplane/tunnel"
)

func open(t *testing.T) *pki.CA {
	t.Helper()
	ca, err := pki.Open(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func request(t *testing.T, key crypto.Signer) []byte {
	t.Helper()
	// What it asks for is none of its business.
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "admin"}, DNSNames: []string{"gateway.example"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestSignClient(t *testing.T) {
	t.Parallel()
	ca := open(t)
	identity := tunnel.Identity{Organization: "acme", Cluster: "c1"}

	t.Run("takes the key of a request and nothing else", func(t *testing.T) {
		t.Parallel()
		key, err := tunnel.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		now, life := time.Now(), 6*time.Second
		leaf, chain, err := ca.SignClient(request(t, key), identity, now, life)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tunnel.IdentityOf(leaf); err != nil || got != identity {
			t.Errorf("got %v, %v, want %v", got, err, identity)
		}
		if len(leaf.DNSNames)+len(leaf.IPAddresses) > 0 || leaf.IsCA || leaf.Subject.CommonName != "c1" {
			t.Errorf("got a certificate for %q, %q, CA %t, want one for its cluster alone", leaf.DNSNames, leaf.Subject, leaf.IsCA)
		}
		if !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}) {
			t.Errorf("got the usages %v, want a client's alone", leaf.ExtKeyUsage)
		}
		if !key.PublicKey.Equal(leaf.PublicKey) {
			t.Error("got another key, want that of the request")
		}
		if at := tunnel.RenewAt(leaf); at.Before(now.Add(life/2)) || at.After(now.Add(life*2/3)) {
			t.Errorf("got its renewal %s after it was signed, want it at about two thirds of %s", at.Sub(now), life)
		}
		first, rest := pem.Decode(chain)
		if !bytes.Equal(first.Bytes, leaf.Raw) || !bytes.Equal(rest, ca.Bundle()) {
			t.Error("got another chain, want the leaf and the CA")
		}
	})

	good := func(key crypto.Signer, err error) crypto.Signer {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return key
	}
	weak := func(key *rsa.PrivateKey, err error) crypto.Signer { return good(key, err) }
	curve := func(key *ecdsa.PrivateKey, err error) crypto.Signer { return good(key, err) }
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	for name, c := range map[string]struct {
		key  crypto.Signer
		want error
	}{
		"signs for P-384":          {curve(ecdsa.GenerateKey(elliptic.P384(), rand.Reader)), nil},
		"signs for Ed25519":        {good(edwards, err), nil},
		"signs for RSA of 2048":    {weak(rsa.GenerateKey(rand.Reader, 2048)), nil},
		"refuses P-224":            {curve(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), pki.ErrRequest},
		"refuses P-521":            {curve(ecdsa.GenerateKey(elliptic.P521(), rand.Reader)), pki.ErrRequest},
		"refuses RSA of 1024 bits": {weak(rsa.GenerateKey(rand.Reader, 1024)), pki.ErrRequest},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if _, _, err := ca.SignClient(request(t, c.key), identity, time.Now(), time.Hour); !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}

	t.Run("refuses a request that its key did not sign", func(t *testing.T) {
		t.Parallel()
		der := request(t, curve(ecdsa.GenerateKey(elliptic.P256(), rand.Reader)))
		der[len(der)-1] ^= 1
		if _, _, err := ca.SignClient(der, identity, time.Now(), time.Hour); !errors.Is(err, pki.ErrRequest) {
			t.Errorf("got %v, want ErrRequest", err)
		}
	})

	t.Run("refuses what is too long to be one", func(t *testing.T) {
		t.Parallel()
		if _, _, err := ca.SignClient(make([]byte, 9<<10), identity, time.Now(), time.Hour); !errors.Is(err, pki.ErrRequest) {
			t.Errorf("got %v, want ErrRequest", err)
		}
	})
}

func TestSignServer(t *testing.T) {
	t.Parallel()
	ca := open(t)
	signed, err := ca.SignServer([]string{"gateway.example", "192.0.2.1"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"gateway.example", "192.0.2.1"} {
		if _, err := signed.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			t.Errorf("got %v, want it to be good for %s", err, name)
		}
	}
	if _, err := signed.Leaf.Verify(x509.VerifyOptions{Roots: ca.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("got a certificate that is a client's too, want a server's alone")
	}
	if len(signed.Certificate) != 2 || !bytes.Equal(signed.Certificate[1], ca.Certificate().Raw) {
		t.Error("got a chain without the CA, which who joins must see")
	}
}
