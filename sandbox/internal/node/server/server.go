// Package server is the HTTPS API of a process node, the one that a kubelet has:
// the API server comes here for logs, exec, attach and port-forward, and whoever
// may for /pods, /stats/summary and /metrics. Callers are authenticated and
// authorized as a kubelet does it. It runs no pod; it asks the pod agent by the
// interface Pods.
//
// Start with New.
package server

import (
	"context"
	"errors"
	"net"

	"k8s.io/client-go/kubernetes"
)

// Config is what a server is made of.
type Config struct {
	Node     string               // the Node's name
	Pods     Pods                 // the pod agent
	Client   kubernetes.Interface // asked for TokenReviews and SubjectAccessReviews
	ClientCA string               // file: the CA whose client certificates are believed
	Cert     string               // file: the serving certificate
	Key      string               // file: its key
}

// Server is the API of one node.
type Server struct{}

// New makes a server; Serve serves it.
func New(cfg Config) (*Server, error) { return nil, errors.New("server: not written yet") }

// Serve answers on listener until ctx ends, and returns when every connection
// is gone.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error { return nil }
