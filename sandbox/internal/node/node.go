// Package node is the process node: a Node of the cluster that runs each
// container as a local process in namespaces of its own, without root and
// without a container engine. To the API server it is a kubelet: it registers a
// Node, runs the pods that are bound to it, writes their status and serves the
// kubelet's API (package server); Services are answered by package services.
// What decides details is the kubelet's own code, used as a library; the loop is
// ours, because the kubelet's costs five times as much for a short pod.
// docs/sandbox-node.md says what is the same as on a kubelet and what is not.
//
// It knows no namespaces and no images: packages container and image do.
//
// The supervisor starts it as `biplane-sandbox node` with these flags:
//
//	--name NAME                 of the Node
//	--dir DIR                   the node's own folder (made, 0700): DIR/NAME/node/NODE of a sandbox
//	--kubeconfig FILE           who the node is to the API server; see below
//	--address HOST:PORT         where the kubelet's API listens; HOST is the node's and its pods' IP
//	--tls-cert-file FILE, --tls-private-key-file FILE
//	                            serving certificate of that API, for HOST
//	--client-ca-file FILE       whose client certificates are believed there
//	--sandbox-dir DIR           the sandbox's folder, with images.yaml; no pod may reach it by hostPath;
//	                            default: the folder two above --dir
//	--python DIR, --virtual-env DIR
//	                            see image.Python; both may be empty
//	--services                  also answer on the addresses of Services: of several nodes exactly one
//	--host-path DIR[:ro]        (repeated) what hostPath volumes may name; default /tmp, and read-only /usr,
//	                            which containers of this machine's programs see anyway
//
// It is ready when the Node says Ready. SIGTERM ends it within two seconds, and
// every container with it: pods are afterwards as after a machine's restart. The
// kubeconfig's user is system:node:NAME of the group system:nodes, which must
// also be granted what package services reads: Services, pods and EndpointSlices
// of every namespace.
//
// Start with Run. A pod's life is in worker.go.
package node

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/util/flowcontrol"
	"k8s.io/kubernetes/pkg/kubelet/token"

	"biplane.dev/biplane/sandbox/internal/container"
	"biplane.dev/biplane/sandbox/internal/image"
	"biplane.dev/biplane/sandbox/internal/node/server"
	"biplane.dev/biplane/sandbox/internal/node/services"
)

// Config is what the flags say.
type Config struct {
	Name       string
	Dir        string
	Kubeconfig string
	Address    string
	Cert, Key  string
	ClientCA   string
	SandboxDir string
	Python     image.Python
	Services   bool
	HostPaths  []string
	Log        *slog.Logger
}

// node is what the pods of one Node share.
type node struct {
	cfg  Config
	log  *slog.Logger
	ip   string
	port int32
	api  string // host:port of the API server

	client     kubernetes.Interface
	containers *container.Runtime
	images     *image.Images
	services   *services.Services
	secrets    secrets
	configMaps configMaps
	tokens     *token.Manager
	volumes    *volumes
	links      *serviceLinks
	events     *events
	restarts   *flowcontrol.Backoff // of containers that ended
	pulls      *flowcontrol.Backoff // of images that are not there
	starting   chan struct{}        // one slot for each container that may be started at a time

	allocatable v1.ResourceList
	probers     probers
	memoryDir   string // of emptyDir volumes of medium Memory; "" when the machine has none

	admitting sync.Mutex // held before mu

	mu      sync.Mutex
	workers map[types.UID]*worker
	hosts   map[types.UID]func() // stop following the names of Services for a pod
}

// Run is the program: it returns when ctx has ended and every container is gone,
// or when it cannot begin.
func Run(ctx context.Context, cfg Config) error {
	n, listener, err := newNode(cfg)
	if err != nil {
		return err
	}
	api, err := server.New(server.Config{Node: cfg.Name, Pods: n, Client: n.client, ClientCA: cfg.ClientCA, Cert: cfg.Cert, Key: cfg.Key})
	if err != nil {
		listener.Close()
		return fmt.Errorf("setting up the node's API: %w", err)
	}

	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	defer n.events.start()()
	var parts sync.WaitGroup
	run := func(name string, part func(context.Context) error) {
		parts.Go(func() {
			if err := part(ctx); err != nil && ctx.Err() == nil {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	run("serving the node's API", func(ctx context.Context) error { return api.Serve(ctx, listener) })
	run("answering for Services", n.services.Run)
	run("reading Services", n.links.run)
	run("keeping the Node", n.keepNode) // registers, then heartbeats and the lease
	run("running pods", n.runPods)      // returns when every container is gone
	parts.Wait()
	if cause := context.Cause(ctx); cause != nil && cause != context.Canceled {
		return cause
	}
	return nil
}

// newNode opens everything that can fail before anything runs.
func newNode(cfg Config) (*node, net.Listener, error) {
	for _, dir := range []string{cfg.Dir, filepath.Join(cfg.Dir, "pods")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, nil, fmt.Errorf("making the node's folder: %w", err)
		}
	}
	rest, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
	if err != nil {
		return nil, nil, fmt.Errorf("reading the kubeconfig %s: %w", cfg.Kubeconfig, err)
	}
	apiserver, err := apiServerAddress(rest.Host)
	if err != nil {
		return nil, nil, err
	}
	// Nothing throttles itself: the server's own priorities do, and a burst of
	// pods is what this node is for.
	rest.QPS = -1
	rest.ContentType = "application/vnd.kubernetes.protobuf"
	rest.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	rest.UserAgent = "biplane-node"
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return nil, nil, fmt.Errorf("making a client: %w", err)
	}

	n := &node{
		cfg: cfg, log: cfg.Log, api: apiserver, client: client,
		secrets:    newSecrets(client),
		configMaps: newConfigMaps(client),
		tokens:     token.NewManager(client),
		links:      newServiceLinks(client),
		events:     newEvents(client, cfg.Name),
		restarts:   flowcontrol.NewBackOff(10*time.Second, 5*time.Minute),
		pulls:      flowcontrol.NewBackOff(10*time.Second, 5*time.Minute),
		starting:   make(chan struct{}, 8),
		workers:    map[types.UID]*worker{},
		hosts:      map[types.UID]func(){},
	}
	n.volumes = newVolumes(n)
	if err := n.openRuntime(); err != nil {
		return nil, nil, err
	}
	n.services, err = services.New(services.Config{Client: client, APIServer: apiserver, Listen: cfg.Services, Log: cfg.Log})
	if err != nil {
		return nil, nil, fmt.Errorf("setting up Services: %w", err)
	}
	listener, err := net.Listen("tcp", cfg.Address)
	if err != nil {
		return nil, nil, fmt.Errorf("listening for the node's API on %s: %w", cfg.Address, err)
	}
	bound := listener.Addr().(*net.TCPAddr)
	n.ip, n.port = bound.IP.String(), int32(bound.Port)
	return n, listener, nil
}
