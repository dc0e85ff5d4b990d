package cli

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"
)

// What a data plane says of itself goes to the terminal of who owns the control
// plane, and its CA into a file by which clients trust.
func TestWhatADataPlaneSays(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	block := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))

	t.Run("is its certificates and nothing beside them", func(t *testing.T) {
		t.Parallel()
		got, err := onlyCertificates("\x1b[2J before\n" + block + "between\n" + block + "behind\x00")
		if err != nil || string(got) != block+block {
			t.Errorf("got %q, %v, want the two certificates", got, err)
		}
	})
	for name, bundle := range map[string]string{
		"is refused without a certificate":        "\x1b[2J",
		"is refused with one that cannot be read": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
		"is refused with what is something else":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("x")})),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got, err := onlyCertificates(bundle); err == nil {
				t.Errorf("got %q, want it refused", got)
			}
		})
	}
	t.Run("does nothing to a terminal", func(t *testing.T) {
		t.Parallel()
		const hostile = "v1\x1b]0;owned\x07\nready\tyes"
		c := clusterResult{Name: "c1", State: "ready", Version: hostile, Parts: []clusterPart{{Name: hostile, Version: hostile, Message: hostile}}}
		var out bytes.Buffer
		clusterText(c)(&out)
		clusterRow(&out, c)
		if strings.ContainsAny(out.String(), "\x1b\x07") || strings.Contains(out.String(), "\nready") {
			t.Errorf("got %q, want each text in its place, without what a terminal obeys", out.String())
		}
	})
}
