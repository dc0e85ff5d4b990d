// Package services makes a cluster's Services work where pods share the
// machine's network and no kube-proxy or DNS server could run without root:
// it listens on each Service's own address (every address of 127/8 can be bound
// on Linux) and forwards to pods, and it writes the names of Services into the
// /etc/hosts of pods.
//
// The API server refuses EndpointSlices with loopback addresses, so it follows
// selectors and pods itself; EndpointSlices that somebody writes by hand work.
//
// Start with New, Services.Run and Services.Follow.
package services

import (
	"context"
	"errors"
	"log/slog"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// Config is what Services are made of.
type Config struct {
	// Client may list and watch Services, Pods and EndpointSlices of every
	// namespace, and create and patch Events.
	Client kubernetes.Interface
	// APIServer is the host:port that the Service "kubernetes" is forwarded to.
	APIServer string
	// Listen says to answer on the Services' addresses. Of several nodes on one
	// machine one does, and outside of any user namespace, so that the ports
	// below 1024 are as the machine allows them.
	Listen bool
	Log    *slog.Logger
}

// Services follows the Services of a cluster.
type Services struct{}

// New makes Services; nothing happens before Run.
func New(cfg Config) (*Services, error) { return nil, errors.New("services: not written yet") }

// Run follows the cluster until ctx ends, and returns when every listener and
// connection is gone.
func (s *Services) Run(ctx context.Context) error { return nil }

// Follow writes the hosts file of a pod to path, and again whenever a Service
// changes, in place: it may be bind-mounted at /etc/hosts. stop ends that and
// leaves the file. It may be called before Run; it waits until Run has seen the
// Services there are, at most until ctx ends.
func (s *Services) Follow(ctx context.Context, path string, pod *v1.Pod) (stop func(), err error) {
	return func() {}, nil
}
