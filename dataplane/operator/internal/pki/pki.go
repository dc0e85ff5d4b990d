// Package pki is the data plane's own certificate authority: a CA in a Secret that
// only the operator can read, the serving certificates that it signs, and the
// ConfigMap by which everybody knows it. The CA's key never leaves the cluster, so
// nobody outside can play a process of the data plane towards its clients.
//
// It is not for the certificate of the tunnel, which the control plane signs.
// Start with Keeper.Ensure, which makes and renews whatever is due.
package pki

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Name is that of the CA's Secret and of the ConfigMap with its certificate.
const Name = "biplane-ca"

// ServingLife is short, so that a key that leaked is soon worth nothing, and long
// enough for an operator that is away for a week.
const (
	ServingLife = 30 * 24 * time.Hour
	CALife      = 10 * 365 * 24 * time.Hour
	// Clocks of nodes differ.
	backdate = time.Hour
)

// Label marks the Secrets that are ours to renew. One without it, under the name of
// a serving certificate, is somebody's own and stays as it is.
const (
	Label      = "app.kubernetes.io/managed-by"
	LabelValue = "biplane-operator"
)

// Serving is one serving certificate.
type Serving struct {
	Secret string   // name
	Names  []string // DNS names and IP addresses
}

// Keeper keeps the certificates of one namespace.
type Keeper struct {
	Client    client.Client // not cached
	Namespace string
	Log       *slog.Logger
	Now       func() time.Time

	mu      sync.Mutex
	bundle  []byte
	serving map[string]*tls.Certificate
}

// Bundle is the CA's certificate in PEM; nil before the first Ensure.
func (k *Keeper) Bundle() []byte {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.bundle
}

// Certificate is what a Secret had at the last Ensure; nil when there was none.
func (k *Keeper) Certificate(secret string) *tls.Certificate {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.serving[secret]
}

// Ensure makes what is missing and renews what has lived two thirds of its life, or
// does not fit any more: it says what is so, whatever was before. Of two operators
// that do it at the same time one succeeds, and the other reads what it made.
func (k *Keeper) Ensure(ctx context.Context, wanted []Serving) error {
	ca, err := k.ensureCA(ctx)
	if err != nil {
		return err
	}
	if err := k.ensureBundle(ctx, ca.pem); err != nil {
		return err
	}
	serving := map[string]*tls.Certificate{}
	var failed []error
	for _, want := range wanted {
		certificate, err := k.ensureServing(ctx, ca, want)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		serving[want.Secret] = certificate
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.bundle, k.serving = ca.pem, serving
	return errors.Join(failed...)
}

// authority is the CA, able to sign.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
	pem         []byte
}

func (k *Keeper) ensureCA(ctx context.Context) (*authority, error) {
	secret, err := k.get(ctx, Name)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return nil, err
		}
		content, err := k.signCA(key)
		if err != nil {
			return nil, err
		}
		if secret, err = k.create(ctx, Name, content); err != nil {
			return nil, err
		}
	}
	ca, err := parseCA(secret.Data)
	if err != nil {
		// It is not replaced: whatever was signed by the key that was in it would fail.
		return nil, fmt.Errorf("the Secret %s/%s is damaged (delete it to have a new CA made): %w", k.Namespace, Name, err)
	}
	if k.Now().Before(renewAt(ca.certificate)) {
		return ca, nil
	}
	// With the same key: what it has signed stays good, and who has the old
	// certificate believes what it will sign.
	content, err := k.signCA(ca.key)
	if err != nil {
		return nil, err
	}
	if err := k.update(ctx, secret, content); err != nil {
		return nil, err
	}
	return parseCA(content)
}

func (k *Keeper) signCA(key crypto.Signer) (map[string][]byte, error) {
	template := &x509.Certificate{
		Subject:               pkix.Name{Organization: []string{"Biplane"}, CommonName: "data plane " + k.Namespace},
		NotBefore:             k.Now().Add(-backdate),
		NotAfter:              k.Now().Add(CALife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
	}
	return sign(template, template, key, key, nil)
}

func parseCA(content map[string][]byte) (*authority, error) {
	pair, err := tls.X509KeyPair(content[corev1.TLSCertKey], content[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	signer, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, errors.New("it holds no CA")
	}
	return &authority{certificate: pair.Leaf, key: signer, pem: content[corev1.TLSCertKey]}, nil
}

func (k *Keeper) ensureBundle(ctx context.Context, bundle []byte) error {
	want := map[string]string{"ca.crt": string(bundle)}
	object := &corev1.ConfigMap{}
	err := k.Client.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: Name}, object)
	switch {
	case apierrors.IsNotFound(err):
		object = &corev1.ConfigMap{ObjectMeta: k.meta(Name), Data: want}
		err = k.Client.Create(ctx, object)
	case err == nil && object.Data["ca.crt"] != want["ca.crt"]:
		object.Data = want
		err = k.Client.Update(ctx, object)
	}
	if err != nil {
		return fmt.Errorf("keeping the ConfigMap %s/%s: %w", k.Namespace, Name, err)
	}
	return nil
}

func (k *Keeper) ensureServing(ctx context.Context, ca *authority, want Serving) (*tls.Certificate, error) {
	secret, err := k.get(ctx, want.Secret)
	if err != nil {
		return nil, err
	}
	why := "there is none"
	if secret != nil {
		pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
		if secret.Labels[Label] != LabelValue {
			if err != nil {
				return nil, fmt.Errorf("the Secret %s/%s, which is not ours, holds no certificate (delete it to have one made): %w", k.Namespace, want.Secret, err)
			}
			return &pair, nil
		}
		switch {
		case err != nil:
			why = "it cannot be read"
		case !bytes.Equal(secret.Data["ca.crt"], ca.pem):
			why = "the CA is another"
		case pair.Leaf.CheckSignatureFrom(ca.certificate) != nil:
			why = "the CA did not sign it"
		case !slices.Equal(namesOf(pair.Leaf), normalised(want.Names)):
			why = "it is for other names"
		case !k.Now().Before(renewAt(pair.Leaf)):
			why = "it is due"
		default:
			return &pair, nil
		}
	}
	content, err := k.signServing(ca, want)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		if secret, err = k.create(ctx, want.Secret, content); err != nil {
			return nil, err
		}
		content = secret.Data // of another operator, where that was quicker
	} else if err := k.update(ctx, secret, content); err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(content[corev1.TLSCertKey], content[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("reading the Secret %s/%s back: %w", k.Namespace, want.Secret, err)
	}
	k.Log.Info("made a certificate", "secret", want.Secret, "because", why, "names", want.Names, "until", pair.Leaf.NotAfter)
	return &pair, nil
}

func (k *Keeper) signServing(ca *authority, want Serving) (map[string][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{Organization: []string{"Biplane"}, CommonName: want.Secret},
		NotBefore:   k.Now().Add(-backdate),
		NotAfter:    k.Now().Add(ServingLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range normalised(want.Names) {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	content, err := sign(template, ca.certificate, key, ca.key, ca.pem)
	if err != nil {
		return nil, fmt.Errorf("signing the certificate for %s: %w", want.Secret, err)
	}
	content["ca.crt"] = ca.pem
	return content, nil
}

// sign returns the contents of a Secret of the type kubernetes.io/tls.
func sign(template, parent *x509.Certificate, key, signer crypto.Signer, chain []byte) (map[string][]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		corev1.TLSCertKey:       append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), chain...),
		corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}),
	}, nil
}

func renewAt(certificate *x509.Certificate) time.Time {
	return certificate.NotBefore.Add(certificate.NotAfter.Sub(certificate.NotBefore) * 2 / 3)
}

// namesOf are those that a certificate is for, as normalised orders them.
func namesOf(certificate *x509.Certificate) []string {
	names := slices.Clone(certificate.DNSNames)
	for _, ip := range certificate.IPAddresses {
		names = append(names, ip.String())
	}
	return normalised(names)
}

// normalised has each name once, in order, and IP addresses in the form that
// net.IP prints.
func normalised(names []string) []string {
	var all []string
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			name = ip.String()
		}
		if name != "" {
			all = append(all, name)
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

func (k *Keeper) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: k.Namespace, Name: name, Labels: map[string]string{Label: LabelValue}}
}

// get returns nil for a Secret that is not there.
func (k *Keeper) get(ctx context.Context, name string) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := k.Client.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: name}, secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("reading the Secret %s/%s: %w", k.Namespace, name, err)
	}
	return secret, nil
}

// create makes a Secret, or returns the one that was made meanwhile.
func (k *Keeper) create(ctx context.Context, name string, content map[string][]byte) (*corev1.Secret, error) {
	secret := &corev1.Secret{ObjectMeta: k.meta(name), Type: corev1.SecretTypeTLS, Data: content}
	err := k.Client.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		err = k.Client.Get(ctx, client.ObjectKey{Namespace: k.Namespace, Name: name}, secret)
	}
	if err != nil {
		return nil, fmt.Errorf("creating the Secret %s/%s: %w", k.Namespace, name, err)
	}
	return secret, nil
}

// update replaces what was read; a conflict is an error, and seen to the next time.
func (k *Keeper) update(ctx context.Context, secret *corev1.Secret, content map[string][]byte) error {
	secret.Data = content
	if err := k.Client.Update(ctx, secret); err != nil {
		return fmt.Errorf("renewing the Secret %s/%s: %w", k.Namespace, secret.Name, err)
	}
	return nil
}
