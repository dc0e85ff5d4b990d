package pki_test

import (
	"bytes"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/pki"
)

var now = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func open(t *testing.T, dir string, now time.Time) *pki.PKI {
	t.Helper()
	p, err := pki.Open(dir, now)
	if err != nil {
		t.Fatalf("opening the PKI: %v", err)
	}
	return p
}

func server(t *testing.T, p *pki.PKI) (pki.Pair, *x509.Certificate) {
	t.Helper()
	pair, err := p.Pair("server", pki.Subject{User: "server", IPs: []string{"127.0.0.1"}, Names: []string{"localhost"}})
	if err != nil {
		t.Fatalf("making a certificate: %v", err)
	}
	loaded, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatalf("loading the certificate: %v", err)
	}
	return pair, loaded.Leaf
}

func roots(t *testing.T, p *pki.PKI) *x509.CertPool {
	t.Helper()
	content, err := os.ReadFile(p.CA())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		t.Fatalf("got no certificate in %s", p.CA())
	}
	return pool
}

func verify(t *testing.T, p *pki.PKI, leaf *x509.Certificate, at time.Time) {
	t.Helper()
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots(t, p), CurrentTime: at, DNSName: "127.0.0.1"}); err != nil {
		t.Errorf("got %v, want a certificate that is valid at %s", err, at)
	}
}

func TestPair(t *testing.T) {
	t.Parallel()
	t.Run("is found again at the next start", func(t *testing.T) {
		dir := t.TempDir()
		_, first := server(t, open(t, dir, now))
		p := open(t, dir, now.Add(30*24*time.Hour))
		_, second := server(t, p)
		if !first.Equal(second) || p.Changed() {
			t.Errorf("got another certificate (changed: %t), want the same", p.Changed())
		}
		verify(t, p, second, now)
	})
	t.Run("is renewed near its end, and the CA before its own", func(t *testing.T) {
		dir := t.TempDir()
		_, first := server(t, open(t, dir, now))
		for _, years := range []int{4, 10, 25} {
			at := now.AddDate(years, 0, -30)
			p := open(t, dir, at)
			_, next := server(t, p)
			if next.Equal(first) {
				t.Errorf("got the same certificate after %d years, want a new one", years)
			}
			verify(t, p, next, at.Add(80*24*time.Hour))
		}
	})
	t.Run("lasts while the clock is set a year back or on, and the sandbox stays up", func(t *testing.T) {
		dir := t.TempDir()
		server(t, open(t, dir, now))
		for _, years := range []int{0, 2, 8} {
			at := now.AddDate(years, 0, 0)
			p := open(t, dir, at)
			_, next := server(t, p)
			verify(t, p, next, at.AddDate(0, 0, -360))
			verify(t, p, next, at.AddDate(0, 0, 360))
		}
	})
	t.Run("is renewed when the clock was set back to before it", func(t *testing.T) {
		dir := t.TempDir()
		server(t, open(t, dir, now))
		back := now.AddDate(-3, 0, 0)
		p := open(t, dir, back)
		_, next := server(t, p)
		verify(t, p, next, back)
	})
	t.Run("is made again for other names", func(t *testing.T) {
		dir := t.TempDir()
		p := open(t, dir, now)
		server(t, p)
		pair, err := p.Pair("server", pki.Subject{User: "server", IPs: []string{"127.0.0.1", "10.250.0.1"}})
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := tls.LoadX509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		if err := loaded.Leaf.VerifyHostname("10.250.0.1"); err != nil {
			t.Errorf("got %v, want a certificate for the new address", err)
		}
	})
	for name, spoil := range map[string]func(pki.Pair) error{
		"is made again when its key is gone":    func(p pki.Pair) error { return os.Remove(p.Key) },
		"is made again when it is gone":         func(p pki.Pair) error { return os.Remove(p.Cert) },
		"is made again when it is half written": func(p pki.Pair) error { return os.Truncate(p.Cert, 100) },
		"is made again when its key is empty":   func(p pki.Pair) error { return os.Truncate(p.Key, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			pair, _ := server(t, open(t, dir, now))
			if err := spoil(pair); err != nil {
				t.Fatal(err)
			}
			p := open(t, dir, now)
			_, next := server(t, p)
			verify(t, p, next, now)
		})
	}
}

func TestSecrets(t *testing.T) {
	t.Parallel()
	make := func(t *testing.T, dir string) (files []string) {
		t.Helper()
		p := open(t, dir, now)
		pair, _ := server(t, p)
		key, _, err := p.ServiceAccountKey()
		if err != nil {
			t.Fatal(err)
		}
		encryption, err := p.EncryptionConfig()
		if err != nil {
			t.Fatal(err)
		}
		access, _, err := p.AccessKey("admin")
		if err != nil {
			t.Fatal(err)
		}
		return []string{p.CAKey(), pair.Key, key, encryption, access}
	}
	again := func(dir string) error {
		p, err := pki.Open(dir, now)
		if err != nil {
			return err
		}
		_, err = p.Pair("server", pki.Subject{User: "server", IPs: []string{"127.0.0.1"}, Names: []string{"localhost"}})
		_, _, err2 := p.ServiceAccountKey()
		_, err3 := p.EncryptionConfig()
		_, _, err4 := p.AccessKey("admin")
		return errors.Join(err, err2, err3, err4)
	}
	t.Run("are for their owner alone, and the same at the next start", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "pki")
		was := map[string][]byte{}
		for _, file := range make(t, dir) {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if got := info.Mode().Perm(); got != 0o600 {
				t.Errorf("%s: got mode %04o, want 0600", file, got)
			}
			was[file], _ = os.ReadFile(file)
		}
		for _, file := range make(t, dir) {
			if is, _ := os.ReadFile(file); !bytes.Equal(is, was[file]) {
				t.Errorf("%s: got another content, want the same", file)
			}
		}
	})
	for i, what := range []string{"the CA's key", "a component's key", "the service-account key", "the key of secrets", "an access key"} {
		t.Run("are refused when others can read "+what, func(t *testing.T) {
			dir := t.TempDir()
			file := make(t, dir)[i]
			if err := os.Chmod(file, 0o640); err != nil {
				t.Fatal(err)
			}
			err := again(dir)
			var said *usererr.Error
			if !errors.As(err, &said) || said.Kind != usererr.Refused || !strings.Contains(said.Error(), file) || !strings.Contains(said.Error(), "0640") || !strings.Contains(said.Hint, "chmod 600") {
				t.Errorf("got %v, want a refusal that names %s, its mode and the remedy", err, file)
			}
		})
		t.Run("are refused when a link stands for "+what, func(t *testing.T) {
			dir := t.TempDir()
			file := make(t, dir)[i]
			if err := errors.Join(os.Rename(file, file+".moved"), os.Symlink(file+".moved", file)); err != nil {
				t.Fatal(err)
			}
			if err := again(dir); err == nil && what != "a component's key" {
				t.Errorf("got no error, want one about %s", file)
			}
		})
	}
	for i, what := range map[int]string{0: "the CA's key", 2: "the service-account key", 3: "the key of secrets", 4: "an access key"} {
		t.Run("are not replaced when damaged: "+what, func(t *testing.T) {
			dir := t.TempDir()
			file := make(t, dir)[i]
			if err := os.Truncate(file, 10); err != nil {
				t.Fatal(err)
			}
			err := again(dir)
			var said *usererr.Error
			if !errors.As(err, &said) || !strings.Contains(err.Error(), file) {
				t.Errorf("got %v, want one sentence about %s", err, file)
			}
			if content, _ := os.ReadFile(file); len(content) != 10 {
				t.Errorf("got %d bytes in the damaged file, want its 10", len(content))
			}
		})
	}
	t.Run("are not made anew under a CA whose key is gone", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Remove(make(t, dir)[0]); err != nil {
			t.Fatal(err)
		}
		if _, err := pki.Open(dir, now); err == nil || !strings.Contains(err.Error(), "is gone") {
			t.Errorf("got %v, want a refusal", err)
		}
	})
	t.Run("have an RSA key for service accounts, whose public half is beside it", func(t *testing.T) {
		p := open(t, t.TempDir(), now)
		_, public, err := p.ServiceAccountKey()
		if err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(public)
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(content)
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		if rsa, ok := key.(*rsa.PublicKey); !ok || rsa.N.BitLen() < 2048 {
			t.Errorf("got %T, want RSA of 2048 bits or more", key)
		}
	})
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := open(t, dir, now)
	t.Run("of a kubeconfig hold all that is needed", func(t *testing.T) {
		pair, err := p.Pair("admin", pki.Subject{User: "admin", Groups: []string{"system:masters"}})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "kubeconfig")
		if err := p.Kubeconfig(path, "sandbox", "https://127.0.0.1:1", pair); err != nil {
			t.Fatal(err)
		}
		config, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		if config.Host != "https://127.0.0.1:1" || len(config.CAData) == 0 || len(config.CertData) == 0 || len(config.KeyData) == 0 {
			t.Errorf("got server %s, CA %d, certificate %d, key %d bytes, want all of them", config.Host, len(config.CAData), len(config.CertData), len(config.KeyData))
		}
		if info, _ := os.Stat(path); info.Mode().Perm() != 0o600 {
			t.Errorf("got mode %04o, want 0600", info.Mode().Perm())
		}
	})
	t.Run("of the bundle hold the sandbox's CA and the system's roots", func(t *testing.T) {
		path := filepath.Join(dir, "bundle.crt")
		if err := p.Bundle(path); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(content)
		_, leaf := server(t, p)
		if _, err := leaf.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: now}); err != nil {
			t.Errorf("got %v, want the bundle to trust the sandbox", err)
		}
		count := strings.Count(string(content), "BEGIN CERTIFICATE")
		if _, err := os.Stat("/etc/ssl/certs/ca-certificates.crt"); err == nil && count < 50 {
			t.Errorf("got %d certificates, want the system's too", count)
		}
	})
}
