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
	Address string // HOST:PORT that is dialled
	Name    string // by which its certificate knows it
	CA      []byte // PEM, of the authority of its certificate
}

// URL is what a kubeconfig calls the server.
func (s Server) URL() string { return (&url.URL{Scheme: "https", Host: s.Address}).String() }

// Server reports how the API server is reached: at its own address, or where Through
// says; nil where the cluster has none yet.
func (p *Plane) Server() (*Server, error) {
	address, ca := p.One(ClusterAddress), p.One(ClusterCA)
	if address == "" || ca == "" {
		return nil, nil
	}
	real, err := url.Parse(address)
	if err == nil && real.Hostname() == "" {
		err = errors.New("it has no host")
	}
	if err != nil {
		return nil, fmt.Errorf("the address of the cluster, %q, cannot be read: %w", address, err)
	}
	pem, err := base64.StdEncoding.DecodeString(ca)
	if err != nil {
		return nil, fmt.Errorf("the authority of the cluster cannot be read: %w", err)
	}
	s := &Server{Address: p.Through, Name: real.Hostname(), CA: pem}
	if s.Address == "" {
		s.Address = net.JoinHostPort(real.Hostname(), orPort(real.Port()))
	} else if net.ParseIP(s.Name) != nil {
		s.Name = "kubernetes" // an address is nobody's server name, and this is in every API server's certificate
	}
	return s, nil
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
