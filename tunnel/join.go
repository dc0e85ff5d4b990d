package tunnel

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"connectrpc.com/connect"

	tunnelv1 "biplane.dev/biplane/api/gen/biplane/tunnel/v1"
	"biplane.dev/biplane/api/gen/biplane/tunnel/v1/tunnelv1connect"
)

// Membership is what Join gives.
type Membership struct {
	Identity
	Certificate []byte // PEM, the leaf first
	CABundle    []byte // PEM, of the control plane
}

// enrolmentLimit of one call, dialling included.
const enrolmentLimit = 30 * time.Second

// Join trades a join token, once, for a certificate of the key that signed
// request. The gateway at address proves by its chain that it is the one that
// made the token; the secret is sent to no other.
func Join(ctx context.Context, address, token string, request []byte) (*Membership, error) {
	parsed, err := ParseToken(token)
	if err != nil {
		return nil, err
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("joining at %q: %w", address, err)
	}
	// The token stands in for the roots, which is why verifying is ours to do.
	config := &tls.Config{
		MinVersion:         tls.VersionTLS13,
		ServerName:         host,
		InsecureSkipVerify: true,
		VerifyConnection: func(state tls.ConnectionState) error {
			return verifyPinned(state.PeerCertificates, host, parsed.Fingerprint)
		},
	}
	var answer *tunnelv1.JoinResponse
	err = enrol(ctx, address, config, func(ctx context.Context, client tunnelv1connect.EnrolmentServiceClient) (err error) {
		answer, err = client.Join(ctx, &tunnelv1.JoinRequest{Token: token, CertificateRequest: request})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("joining at %s: %w", address, err)
	}
	return &Membership{
		Identity:    Identity{Organization: answer.GetOrganization(), Cluster: answer.GetCluster()},
		Certificate: []byte(answer.GetCertificateChain()),
		CABundle:    []byte(answer.GetCaBundle()),
	}, nil
}

// verifyPinned believes a chain that ends in the CA with this fingerprint, and
// whose leaf is a server's, of this name: certificates of data planes come from
// the same CA, and none of them may play the gateway.
func verifyPinned(chain []*x509.Certificate, host, fingerprint string) error {
	for _, certificate := range chain[1:] {
		if Fingerprint(certificate) != fingerprint {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(certificate)
		_, err := chain[0].Verify(x509.VerifyOptions{
			DNSName:   host,
			Roots:     roots,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		})
		return err
	}
	return errors.New("the gateway's certificate does not come from the CA that the join token names: is it the token of another control plane, or from before the CA was rotated? 'biplane cluster add' makes another")
}

// Renew trades the certificate in force, which config has, for one of the key
// that signed request. It returns the certificate and the CA bundle, both PEM.
func Renew(ctx context.Context, address string, config *tls.Config, request []byte) (certificate, caBundle []byte, err error) {
	var answer *tunnelv1.RenewResponse
	err = enrol(ctx, address, config.Clone(), func(ctx context.Context, client tunnelv1connect.EnrolmentServiceClient) (err error) {
		answer, err = client.Renew(ctx, &tunnelv1.RenewRequest{CertificateRequest: request})
		return err
	})
	if err != nil {
		return nil, nil, fmt.Errorf("renewing at %s: %w", address, err)
	}
	return []byte(answer.GetCertificateChain()), []byte(answer.GetCaBundle()), nil
}

// enrol makes one call on a connection of its own.
func enrol(ctx context.Context, address string, config *tls.Config,
	call func(context.Context, tunnelv1connect.EnrolmentServiceClient) error) error {
	ctx, cancel := context.WithTimeout(ctx, enrolmentLimit)
	defer cancel()
	config.NextProtos = nil // HTTP's own: the transport adds them
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	transport := &http.Transport{
		TLSClientConfig:     config,
		Protocols:           protocols,
		TLSHandshakeTimeout: handshakeLimit,
	}
	defer transport.CloseIdleConnections()
	return call(ctx, tunnelv1connect.NewEnrolmentServiceClient(&http.Client{Transport: transport}, "https://"+address, connect.WithReadMaxBytes(1<<20)))
}
