// Package services makes a cluster's Services work where pods share the
// machine's network and no kube-proxy or DNS server could run without root:
// it listens on each Service's own address (every address of 127/8 can be bound
// on Linux) and forwards to pods, and it writes the names of Services into the
// /etc/hosts of pods.
//
// The API server refuses EndpointSlices with loopback addresses, so it follows
// selectors and pods itself; EndpointSlices that somebody writes by hand for a
// Service without selector work.
//
// It is not a network: pods see each other without it, and a port below 1024 is
// as the machine allows it.
//
// Start with New, Services.Run and Services.Follow. view.go reads the cluster,
// listen.go answers on addresses, tcp.go and udp.go forward, hosts.go writes
// names.
package services

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedv1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
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
	// Lookup resolves the name behind an ExternalName; left out, the machine
	// does.
	Lookup func(ctx context.Context, name string) ([]string, error)
	Log    *slog.Logger
}

// Times of following.
const (
	settle    = 20 * time.Millisecond // so that a burst of changes is one
	retry     = 10 * time.Second      // of an address that could not be listened on
	glance    = time.Second           // at a port that a pod has still to listen on
	lookAgain = 30 * time.Second      // at the name behind an ExternalName
)

// Services follows the Services of a cluster.
type Services struct {
	cfg       Config
	factory   informers.SharedInformerFactory
	services  cache.SharedIndexInformer
	slices    cache.SharedIndexInformer
	pods      cache.SharedIndexInformer // runs from the first Service that asks for it
	podsOnce  sync.Once
	changed   chan struct{} // something did
	events    record.EventRecorder
	listeners listeners
	hosts     hosts
}

// New makes Services; nothing happens before Run.
func New(cfg Config) (*Services, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Lookup == nil {
		cfg.Lookup = net.DefaultResolver.LookupHost
	}
	if _, _, err := net.SplitHostPort(cfg.APIServer); err != nil {
		return nil, fmt.Errorf("the address of the API server %q: %w", cfg.APIServer, err)
	}
	s := &Services{cfg: cfg, changed: make(chan struct{}, 1)}
	s.factory = informers.NewSharedInformerFactory(cfg.Client, 0)
	s.services = s.factory.Core().V1().Services().Informer()
	s.slices = s.factory.Discovery().V1().EndpointSlices().Informer()
	s.pods = informers.NewSharedInformerFactory(cfg.Client, 0).Core().V1().Pods().Informer()
	s.hosts = hosts{lookup: cfg.Lookup, synced: make(chan struct{})}
	for _, informer := range []cache.SharedIndexInformer{s.services, s.slices, s.pods} {
		if err := informer.SetTransform(lean); err != nil {
			return nil, fmt.Errorf("setting up the watch: %w", err)
		}
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { s.change() },
			UpdateFunc: func(any, any) { s.change() },
			DeleteFunc: func(any) { s.change() },
		}); err != nil {
			return nil, fmt.Errorf("setting up the watch: %w", err)
		}
	}
	return s, nil
}

// lean keeps of what is watched what is read here: there can be thousands of pods.
func lean(object any) (any, error) {
	switch o := object.(type) {
	case *v1.Pod:
		p := &v1.Pod{}
		p.Namespace, p.Name, p.UID, p.ResourceVersion = o.Namespace, o.Name, o.UID, o.ResourceVersion
		p.Labels, p.DeletionTimestamp = o.Labels, o.DeletionTimestamp
		p.Spec.Hostname, p.Spec.Subdomain = o.Spec.Hostname, o.Spec.Subdomain
		for _, c := range append(o.Spec.InitContainers, o.Spec.Containers...) {
			if len(c.Ports) > 0 {
				p.Spec.Containers = append(p.Spec.Containers, v1.Container{Ports: c.Ports})
			}
		}
		p.Status.Phase, p.Status.PodIP, p.Status.PodIPs = o.Status.Phase, o.Status.PodIP, o.Status.PodIPs
		for _, c := range o.Status.Conditions {
			if c.Type == v1.PodReady {
				p.Status.Conditions = []v1.PodCondition{c}
			}
		}
		return p, nil
	case *v1.Service:
		o.ManagedFields, o.Annotations = nil, nil
	case *discovery.EndpointSlice:
		o.ManagedFields, o.Annotations = nil, nil
	}
	return object, nil
}

func (s *Services) change() {
	select {
	case s.changed <- struct{}{}:
	default: // one is noted already
	}
}

// Run follows the cluster until ctx ends, and returns when every listener and
// connection is gone.
func (s *Services) Run(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()

	broadcaster := record.NewBroadcaster()
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedv1.EventSinkImpl{Interface: s.cfg.Client.CoreV1().Events("")})
	s.events = broadcaster.NewRecorder(scheme.Scheme, v1.EventSource{Component: "services"})
	s.listeners = listeners{log: s.cfg.Log, open: map[address]*listener{}}
	defer s.listeners.close()

	running.Go(func() { s.services.RunWithContext(ctx) })
	running.Go(func() { s.slices.RunWithContext(ctx) })
	if !cache.WaitForCacheSync(ctx.Done(), s.services.HasSynced, s.slices.HasSynced) {
		return nil // ctx has ended
	}
	for {
		view := s.read()
		if view.wantsPods {
			s.podsOnce.Do(func() { running.Go(func() { s.pods.RunWithContext(ctx) }) })
			if !cache.WaitForCacheSync(ctx.Done(), s.pods.HasSynced) {
				return nil
			}
			view = s.read()
		}
		again := s.hosts.update(ctx, view, s.cfg.Log)
		if s.cfg.Listen {
			again = min(again, s.listeners.update(view, s.events))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(again):
		case <-s.changed:
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settle):
			}
		}
	}
}

// Follow writes the hosts file of a pod to path, and again whenever a Service
// changes, in place: it may be bind-mounted at /etc/hosts. stop ends that and
// leaves the file. It may be called before Run; it waits until Run has seen the
// Services there are, at most until ctx ends.
func (s *Services) Follow(ctx context.Context, path string, pod *v1.Pod) (stop func(), err error) {
	select {
	case <-s.hosts.synced:
	case <-ctx.Done():
		return nil, errors.Join(errors.New("the Services of the cluster are not known yet"), ctx.Err())
	}
	return s.hosts.follow(path, pod)
}
