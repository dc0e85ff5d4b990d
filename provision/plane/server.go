package plane

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"biplane.dev/biplane/internal/usererr"
)

// Server is how the cluster's API server is reached from this machine.
type Server struct {
	URL     string // for a kubeconfig
	Address string // HOST:PORT that is dialled
	Name    string // by which its certificate knows it
	CA      []byte // PEM, of the authority of its certificate
}

// Server reports how the API server is reached: at its own address, or where Through
// says; nil where the cluster has none yet.
func (p *Plane) Server() (*Server, error) {
	address, ca := p.One(ClusterAddress), p.One(ClusterCA)
	if address == "" || ca == "" {
		return nil, nil
	}
	host, port, err := HostPort(address)
	if err != nil {
		return nil, fmt.Errorf("the address of the cluster, %q, cannot be read: %w", address, err)
	}
	pem, err := base64.StdEncoding.DecodeString(ca)
	if err != nil {
		return nil, fmt.Errorf("the authority of the cluster cannot be read: %w", err)
	}
	if p.Through != "" {
		through := url.URL{Scheme: "https", Host: p.Through}
		return &Server{URL: through.String(), Address: p.Through, Name: CertificateName(host), CA: pem}, nil
	}
	return &Server{URL: address, Address: net.JoinHostPort(host, port), Name: host, CA: pem}, nil
}

// HostPort is where an https address leads.
func HostPort(address string) (host, port string, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return "", "", err
	}
	if u.Hostname() == "" {
		return "", "", errors.New("it has no host")
	}
	return u.Hostname(), orPort(u.Port()), nil
}

// CertificateName is a name of the API server at host, for who reaches it in another
// place: an address is nobody's server name, and "kubernetes" is in every API server's
// certificate.
func CertificateName(host string) string {
	if net.ParseIP(host) != nil {
		return "kubernetes"
	}
	return host
}

// ParseThrough reads where the API server is reached instead: HOST or HOST:PORT.
func ParseThrough(text string) (string, error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, ""
	}
	port = orPort(port)
	address := net.JoinHostPort(host, port)
	number, notPort := strconv.ParseUint(port, 10, 16)
	if parsed, err := url.Parse("https://" + address); err != nil || notPort != nil || number == 0 || host == "" || parsed.Hostname() != host {
		return "", usererr.New(usererr.Invalid, "--through cannot be %q", text).
			WithHint("give a name or an address, and a port where it is not 443: k8s.example.com:443")
	}
	return address, nil
}

func orPort(port string) string {
	if port == "" {
		return "443"
	}
	return port
}
