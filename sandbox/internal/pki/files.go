package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"
)

// Kubeconfig writes a kubeconfig that holds everything it needs: who has the
// file is the pair's user at the server. name is of the cluster, the user and
// the context.
func (p *PKI) Kubeconfig(path, name, server string, pair Pair) error {
	var missing error
	read := func(path string) []byte {
		content, err := os.ReadFile(path)
		missing = errors.Join(missing, err)
		return content
	}
	config := api.NewConfig()
	config.Clusters[name] = &api.Cluster{Server: server, CertificateAuthorityData: read(p.CA())}
	config.AuthInfos[name] = &api.AuthInfo{ClientCertificateData: read(pair.Cert), ClientKeyData: read(pair.Key)}
	config.Contexts[name] = &api.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	if missing != nil {
		return unusable("read", p.dir, missing)
	}
	content, err := clientcmd.Write(*config)
	if err != nil {
		return fmt.Errorf("encoding the kubeconfig %s: %w", path, err)
	}
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, content) {
		return nil
	}
	return p.write(path, content)
}

// rootFiles are where systems keep the roots they trust: the places that Go
// looks at, since it tells nobody what it found there.
var rootFiles = []string{
	"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Arch, Alpine
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // Fedora, RHEL
	"/etc/pki/tls/certs/ca-bundle.crt",
	"/etc/ssl/ca-bundle.pem", // openSUSE
	"/etc/ssl/cert.pem",
}

// Bundle writes the system's roots and the sandbox's CA into one file, for
// programs that take one file in place of the system's. more are files of further
// CAs; one that is not there is left out.
func (p *PKI) Bundle(path string, more ...string) error {
	bundle := []byte("# The sandbox's own CAs, then the system's.\n")
	ours, err := os.ReadFile(p.CA())
	if err != nil {
		return unusable("read", p.CA(), err)
	}
	bundle = append(bundle, ours...)
	for _, file := range more {
		roots, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return unusable("read", file, err)
		}
		bundle = append(bundle, certificates(roots)...)
	}
	for _, place := range rootFiles {
		roots, err := os.ReadFile(place)
		if err != nil {
			continue
		}
		bundle = append(bundle, certificates(roots)...)
		break
	}
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, bundle) {
		return nil
	}
	return p.write(path, bundle)
}

// certificates is what in a file of PEM is a certificate: comments in it may be
// of any encoding, and some readers stop at them.
func certificates(content []byte) []byte {
	var kept bytes.Buffer
	for {
		var block *pem.Block
		if block, content = pem.Decode(content); block == nil {
			return kept.Bytes()
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if _, err := x509.ParseCertificate(block.Bytes); err == nil {
			pem.Encode(&kept, &pem.Block{Type: block.Type, Bytes: block.Bytes})
		}
	}
}
