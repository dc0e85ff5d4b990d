package operator

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"biplane.dev/biplane/dataplane/config"
	"biplane.dev/biplane/dataplane/operator/internal/pki"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/tunnel"
)

const (
	// tunnelSecret has the key that was made in this cluster and, once it has joined,
	// the certificate of it.
	tunnelSecret = "biplane-tunnel"
	// joinSecret has the join token, until it is spent.
	joinSecret = "biplane-join"

	keyOrganization = "organization"
	keyCluster      = "cluster"
	// joinedWith is the digest of the token that was spent, so that a new one is
	// known for new.
	joinedWith = "biplane.dev/joined-with"
)

// How often we look for a join token, and what is waited between tries that failed.
const (
	lookInterval   = time.Second
	recallInterval = 15 * time.Second // once joined
	joinRetry      = time.Second
	lastJoinRetry  = 30 * time.Second

	maxToken = 4 << 10
)

// membership is this data plane's place in a control plane: a key, and the
// control plane's certificate of it.
//
// What is done is decided by what the Secret says now, so that an operator that was
// killed between any two steps goes on: the key is in the Secret before it is shown
// to anybody. A join whose answer was lost is asked again with the same token and
// the same key, to which the gateway gives the same answer. A token that was not
// spent yet is spent, whatever certificate there is: it is how a cluster that was
// removed, or whose certificate expired, joins again.
type membership struct {
	client    client.Client // not cached
	namespace string
	gateway   string
	cluster   string // the name that the configuration has; may be empty
	ca        string // the gateway's CA by the configuration; may be empty
	tokenFile string
	log       *slog.Logger
	now       func() time.Time

	joined  chan struct{} // closed once there is a certificate
	changed chan struct{} // gets a value with every new certificate

	mu      sync.Mutex
	current *certificate
	reason  error // why there is none
}

// certificate is a membership in force.
type certificate struct {
	tunnel.Identity
	tls      tls.Certificate
	caBundle []byte
}

func newMembership(api client.Client, cfg *config.Config, tokenFile string, log *slog.Logger, now func() time.Time) *membership {
	return &membership{
		client: api, namespace: cfg.Namespace, gateway: cfg.ControlPlane.Gateway, cluster: cfg.ControlPlane.Cluster, ca: cfg.ControlPlane.CA,
		tokenFile: tokenFile, log: log, now: now,
		joined: make(chan struct{}), changed: make(chan struct{}, 1),
		reason: errors.New("it has not looked for a join token yet"),
	}
}

// TLS is what the gateway is dialled with.
func (m *membership) TLS(context.Context) (*tls.Config, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current == nil {
		return nil, m.reason
	}
	return tunnel.ClientTLS(m.current.tls, m.current.caBundle)
}

// Ready says why this data plane has not joined.
func (m *membership) Ready() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current == nil {
		return m.reason
	}
	return nil
}

// Expires is when the certificate does; zero when there is none.
func (m *membership) Expires() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current == nil {
		return time.Time{}
	}
	return m.current.tls.Leaf.NotAfter
}

// Run joins and renews until ctx ends.
func (m *membership) Run(ctx context.Context) {
	retry := joinRetry
	for {
		wait, err := m.step(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			m.log.Error("cannot join the control plane", "gateway", m.gateway, "error", usererr.Chain(err))
			m.set(nil, err)
			wait = retry
			retry = min(2*retry, lastJoinRetry)
		} else {
			retry = joinRetry
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
	}
}

// step does the next thing there is to do, and says when to look again.
func (m *membership) step(ctx context.Context) (time.Duration, error) {
	secret, err := m.secret(ctx)
	if err != nil {
		return 0, err
	}
	token, err := m.token(ctx)
	if err != nil {
		return 0, err
	}
	current, err := parseCertificate(secret.Data)
	if err != nil {
		current = nil // a key without certificate is that of a join that was not finished
	}
	if token.text != "" && secret.Annotations[joinedWith] != token.digest() {
		joined, err := m.join(ctx, secret, token)
		if err != nil && current == nil {
			return 0, err
		}
		if err != nil {
			m.log.Warn("cannot join anew; the old certificate stays", "error", usererr.Chain(err))
		} else {
			current = joined
		}
	}
	if current == nil {
		m.set(nil, errors.New("waiting for a join token in the Secret "+m.namespace+"/"+joinSecret))
		return lookInterval, nil
	}
	if leaf := current.tls.Leaf; !m.now().Before(tunnel.RenewAt(leaf)) {
		renewed, err := m.renew(ctx, secret, current)
		switch {
		case err == nil:
			current = renewed
		case m.now().After(leaf.NotAfter):
			return 0, usererr.New(usererr.Denied, "the certificate of this data plane expired at %s", leaf.NotAfter.Format(time.RFC3339)).
				WithHint("run 'biplane cluster add' for a new join token").Because(err)
		default:
			m.log.Warn("cannot renew the certificate yet", "until", leaf.NotAfter, "error", usererr.Chain(err))
		}
	}
	m.set(current, nil)
	if secret.Annotations[joinedWith] == token.digest() {
		m.forget(ctx, token)
	}
	return m.recall(current.tls.Leaf), nil
}

// recall is when to look again at a certificate: in time to renew it, and, where
// that failed, several times before it ends.
func (m *membership) recall(leaf *x509.Certificate) time.Duration {
	now := m.now()
	wait := tunnel.RenewAt(leaf).Sub(now)
	if wait <= 0 {
		wait = leaf.NotAfter.Sub(now) / 10
	}
	return min(max(wait, lookInterval), recallInterval)
}

// set makes what is in force known. A certificate that is in force stays so until
// there is another: the gateway, not we, says that it is no good.
func (m *membership) set(current *certificate, reason error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reason = reason
	if current == nil {
		return
	}
	first := m.current == nil
	if !first && bytes.Equal(m.current.tls.Certificate[0], current.tls.Certificate[0]) {
		return
	}
	m.current = current
	if first {
		m.log.Info("member of a control plane", "organization", current.Organization, "cluster", current.Cluster, "until", current.tls.Leaf.NotAfter)
		close(m.joined)
		return
	}
	m.log.Info("the certificate of the tunnel is a new one", "until", current.tls.Leaf.NotAfter)
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

// secret returns the Secret with our key, which it makes when there is none.
func (m *membership) secret(ctx context.Context) (*corev1.Secret, error) {
	at := client.ObjectKey{Namespace: m.namespace, Name: tunnelSecret}
	secret := &corev1.Secret{}
	err := m.client.Get(ctx, at, secret)
	if apierrors.IsNotFound(err) {
		_, text, keyErr := newKey()
		if keyErr != nil {
			return nil, keyErr
		}
		secret = &corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: at.Namespace, Name: at.Name, Labels: map[string]string{pki.Label: pki.LabelValue}},
			Data:       map[string][]byte{corev1.TLSPrivateKeyKey: text},
		}
		if err = m.client.Create(ctx, secret); apierrors.IsAlreadyExists(err) {
			err = m.client.Get(ctx, at, secret)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("keeping the Secret %s: %w", at, err)
	}
	return secret, nil
}

// joinToken is a token and the Secret that it is from, if it is from one.
type joinToken struct {
	text   string
	secret *corev1.Secret
}

func (t joinToken) digest() string {
	if t.text == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(t.text))
	return hex.EncodeToString(sum[:])
}

// token reads the Secret, or where we may not, the file that is mounted of it.
func (m *membership) token(ctx context.Context) (joinToken, error) {
	secret := &corev1.Secret{}
	err := m.client.Get(ctx, client.ObjectKey{Namespace: m.namespace, Name: joinSecret}, secret)
	text := secret.Data["token"]
	if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) {
		secret = nil
		text, err = os.ReadFile(m.tokenFile)
		if errors.Is(err, fs.ErrNotExist) {
			return joinToken{}, nil
		}
	}
	if err != nil {
		return joinToken{}, fmt.Errorf("reading the join token: %w", err)
	}
	if len(text) > maxToken {
		return joinToken{}, usererr.New(usererr.Invalid, "the join token has %d bytes, which none has", len(text)).
			WithHint("run 'biplane cluster add' for another one")
	}
	return joinToken{text: strings.TrimSpace(string(text)), secret: secret}, nil
}

// join spends a token.
func (m *membership) join(ctx context.Context, secret *corev1.Secret, token joinToken) (*certificate, error) {
	if err := m.check(token.text); err != nil {
		return nil, err
	}
	key, err := parseKey(secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("the Secret %s/%s is damaged (delete it to join anew): %w", m.namespace, tunnelSecret, err)
	}
	request, err := tunnel.CertificateRequest(key)
	if err != nil {
		return nil, err
	}
	member, err := tunnel.Join(ctx, m.gateway, token.text, request)
	if connect.CodeOf(err) == connect.CodeUnauthenticated {
		return nil, usererr.New(usererr.Denied, "the control plane does not accept the join token").
			WithHint("run 'biplane cluster add' for another one; each is good once, and for a while").Because(err)
	}
	if err != nil {
		return nil, err
	}
	if m.cluster != "" && m.cluster != member.Cluster {
		return nil, usererr.New(usererr.Refused, "the join token is for the cluster %q, and controlPlane.cluster is %q", member.Cluster, m.cluster).
			WithHint("correct the configuration, or run 'biplane cluster add %s' for a token of that name", m.cluster)
	}
	content := map[string][]byte{
		corev1.TLSPrivateKeyKey: secret.Data[corev1.TLSPrivateKeyKey],
		corev1.TLSCertKey:       member.Certificate,
		"ca.crt":                member.CABundle,
		keyOrganization:         []byte(member.Organization),
		keyCluster:              []byte(member.Cluster),
	}
	return m.write(ctx, secret, content, map[string]string{joinedWith: token.digest()})
}

// check refuses what need not be sent to be refused, or must not be.
func (m *membership) check(text string) error {
	token, err := tunnel.ParseToken(text)
	if err != nil {
		return usererr.New(usererr.Invalid, "the join token is no token: it is damaged, or a part of it is missing").
			WithHint("copy it once more, whole, from what 'biplane cluster add' printed").Because(err)
	}
	if m.ca == "" {
		return nil
	}
	for rest := []byte(m.ca); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return usererr.New(usererr.Refused, "the join token is of another control plane than controlPlane.ca").
				WithHint("take token and CA from the same control plane; the CA may also be left out")
		}
		if ca, err := x509.ParseCertificate(block.Bytes); err == nil && tunnel.Fingerprint(ca) == token.Fingerprint {
			return nil
		}
	}
}

// renew trades the certificate in force for one of a new key. Should the answer be
// lost, the old pair is still there.
func (m *membership) renew(ctx context.Context, secret *corev1.Secret, current *certificate) (*certificate, error) {
	config, err := tunnel.ClientTLS(current.tls, current.caBundle)
	if err != nil {
		return nil, err
	}
	key, text, err := newKey()
	if err != nil {
		return nil, err
	}
	request, err := tunnel.CertificateRequest(key)
	if err != nil {
		return nil, err
	}
	chain, bundle, err := tunnel.Renew(ctx, m.gateway, config, request)
	if err != nil {
		return nil, err
	}
	return m.write(ctx, secret, map[string][]byte{
		corev1.TLSPrivateKeyKey: text,
		corev1.TLSCertKey:       chain,
		"ca.crt":                bundle,
		keyOrganization:         secret.Data[keyOrganization],
		keyCluster:              secret.Data[keyCluster],
	}, secret.Annotations)
}

// write replaces the Secret as it was read, all of it at once.
func (m *membership) write(ctx context.Context, secret *corev1.Secret, content map[string][]byte, annotations map[string]string) (*certificate, error) {
	written, err := parseCertificate(content)
	if err != nil {
		return nil, fmt.Errorf("reading the control plane's answer: %w", err)
	}
	secret.Data, secret.Annotations = content, annotations
	if err := m.client.Update(ctx, secret); err != nil {
		return nil, fmt.Errorf("writing the Secret %s/%s: %w", m.namespace, tunnelSecret, err)
	}
	return written, nil
}

// forget deletes a token that was spent: it is worth nothing, and looks as if it
// were. That we may not is no matter.
func (m *membership) forget(ctx context.Context, token joinToken) {
	if token.secret == nil {
		return
	}
	unchanged := client.Preconditions{UID: &token.secret.UID, ResourceVersion: &token.secret.ResourceVersion}
	if err := m.client.Delete(ctx, token.secret, unchanged); err == nil {
		m.log.Info("deleted the join token, which is spent", "secret", joinSecret)
	} else if !apierrors.IsNotFound(err) {
		m.log.Debug("the join token, which is spent, stays", "secret", joinSecret, "error", err)
	}
}

func parseCertificate(content map[string][]byte) (*certificate, error) {
	pair, err := tls.X509KeyPair(content[corev1.TLSCertKey], content[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, err
	}
	bundle := content["ca.crt"]
	if _, err := tunnel.ClientTLS(pair, bundle); err != nil {
		return nil, err
	}
	return &certificate{
		Identity: tunnel.Identity{Organization: string(content[keyOrganization]), Cluster: string(content[keyCluster])},
		tls:      pair,
		caBundle: bundle,
	}, nil
}

// newKey returns a key, and its text in PEM.
func newKey() (*ecdsa.PrivateKey, []byte, error) {
	key, err := tunnel.NewKey()
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, nil, err
	}
	return key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseKey(text []byte) (crypto.Signer, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("it holds no key")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("it holds a %T, which cannot sign", key)
	}
	return signer, nil
}
