// Package kubernetes is the control plane of a sandbox as components: the
// command lines of etcd, kube-apiserver, kube-controller-manager and
// kube-scheduler, the files that they read, and how to see that each is ready.
// It runs nothing; package supervisor does.
//
// Start with Components.
package kubernetes

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/component-base/version"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/pki"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// Config is what the control plane is made of.
type Config struct {
	Folder sandbox.Folder
	PKI    *pki.PKI
	Ports  map[string]int // on 127.0.0.1, of the three that serve
	Issuer string         // of service-account tokens

	AuditLog bool
	// Advertise is the address by which pods call the API server: of a kubelet
	// node that of this machine as the node sees it. Without one they are told
	// the loopback by their environment, which Endpoints refuse.
	Advertise string
	// Services is the range of the Services' addresses.
	Services string
	// Tokens is the URL that is asked about tokens that the API server does not know,
	// as EKS asks about those of IAM; none when empty.
	Tokens string
}

// LoopbackServices is a range of Services' addresses in 127/8, where every
// address can be answered for without root. It is one of 64, by the cluster's id:
// two sandboxes of a machine would answer at the same addresses otherwise. A kubelet
// node has a range of its own.
func LoopbackServices(cluster string) string {
	sum := sha256.Sum256([]byte(cluster))
	return fmt.Sprintf("127.%d.0.0/16", 64+sum[0]%64)
}

// Version is Kubernetes' own.
func Version() string { return version.Get().GitVersion }

// Server is the API server's URL.
func (c Config) Server() string { return "https://" + c.address(sandbox.APIServer) }

// KeySet is the URL of the keys of service-account tokens.
func (c Config) KeySet() string { return c.Server() + "/openid/v1/jwks" }

func (c Config) address(component string) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(c.Ports[component]))
}

// Components writes the files of the control plane and returns its four
// components, in the order of their start, and a client that is its
// administrator.
func Components(c Config) ([]component.Spec, kubernetes.Interface, error) {
	files, err := c.write()
	if err != nil {
		return nil, nil, err
	}
	admin, err := c.client(files.admin)
	if err != nil {
		return nil, nil, err
	}
	ready := func(name, path string) func(context.Context) error {
		url := "https://" + c.address(name) + path
		ask, failed := component.Answers(c.PKI.CA(), url)
		err = errors.Join(err, failed)
		return ask
	}
	apiServer := ready(sandbox.APIServer, "/readyz")
	controllerManager := ready(sandbox.ControllerManager, "/healthz")
	scheduler := ready(sandbox.Scheduler, "/readyz")
	if err != nil {
		return nil, nil, err
	}
	return []component.Spec{
		c.etcd(),
		c.apiServer(files, both(apiServer, once(func(ctx context.Context) error { return grant(ctx, admin) }))),
		// It says that it is well before its controllers have done anything, and
		// a pod can be made only once its namespace has an account and a CA.
		c.controllerManager(files, both(controllerManager, once(func(ctx context.Context) error { return hasAccount(ctx, admin) }))),
		c.scheduler(files, scheduler),
	}, admin, nil
}

// both is ready when first and then second are.
func both(first, second func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := first(ctx); err != nil {
			return err
		}
		return second(ctx)
	}
}

// once asks until it was answered once.
func once(ask func(context.Context) error) func(context.Context) error {
	var answered atomic.Bool
	return func(ctx context.Context) error {
		if answered.Load() {
			return nil
		}
		err := ask(ctx)
		answered.Store(err == nil)
		return err
	}
}

// The sockets of etcd, in the components' working directory. It listens on no
// port: whoever may not enter the sandbox's folder cannot reach it. etcd wants
// host and port in every URL, hence the colon.
const (
	etcdSocket = "etcd:0"
	etcdPeer   = "etcd-peer:0"
)

// etcd keeps its data by fsync, as in production: what the API server has
// answered is still there after a power cut.
func (c Config) etcd() component.Spec {
	return component.Spec{
		Name: sandbox.Etcd,
		Args: []string{"etcd",
			"--name=sandbox", "--data-dir=" + c.Folder.Etcd(),
			"--listen-client-urls=unix://" + etcdSocket, "--advertise-client-urls=unix://" + etcdSocket,
			"--listen-peer-urls=unix://" + etcdPeer, "--initial-advertise-peer-urls=unix://" + etcdPeer,
			"--initial-cluster=sandbox=unix://" + etcdPeer,
			// A lone member still waits out an election before it serves. With
			// the defaults, which are for networks, that is a second.
			"--heartbeat-interval=20", "--election-timeout=200",
			"--auto-compaction-mode=periodic", "--auto-compaction-retention=30m", // beside the API server's own, each 5 minutes
			"--snapshot-count=10000", "--quota-backend-bytes=4294967296",
			"--logger=zap", "--log-level=warn",
		},
		Env:   component.Memory(64, 100),
		Ready: component.Get(unixClient(c.Folder.Run(), etcdSocket), "http://etcd/health"),
	}
}

func (c Config) apiServer(f files, ready func(context.Context) error) component.Spec {
	args := []string{"kube-apiserver",
		"--etcd-servers=unix://" + etcdSocket,
		"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.Ports[sandbox.APIServer]),
		"--tls-cert-file=" + f.apiServer.Cert, "--tls-private-key-file=" + f.apiServer.Key,
		"--client-ca-file=" + c.PKI.CA(),
		"--authentication-config=" + f.authentication,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--encryption-provider-config=" + f.encryption,
		"--kubelet-client-certificate=" + f.kubeletClient.Cert, "--kubelet-client-key=" + f.kubeletClient.Key,
		"--kubelet-certificate-authority=" + c.PKI.CA(), "--kubelet-preferred-address-types=InternalIP,Hostname",
		"--service-account-issuer=" + c.Issuer, "--service-account-jwks-uri=" + c.KeySet(),
		"--service-account-key-file=" + f.serviceAccountPublic, "--service-account-signing-key-file=" + f.serviceAccountKey,
		"--service-account-extend-token-expiration=false", // a token lives as long as was asked for
		"--requestheader-client-ca-file=" + c.PKI.CA(), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + f.frontProxy.Cert, "--proxy-client-key-file=" + f.frontProxy.Key,
		"--service-cluster-ip-range=" + c.Services,
		"--allow-privileged=true", "--profiling=false",
		"--shutdown-delay-duration=0s",
	}
	if c.Advertise != "" {
		args = append(args, "--advertise-address="+c.Advertise)
	} else {
		args = append(args, "--advertise-address=127.0.0.1", "--endpoint-reconciler-type=none")
	}
	if c.Tokens != "" {
		args = append(args, "--authentication-token-webhook-config-file="+f.tokens, "--authentication-token-webhook-version=v1",
			"--authentication-token-webhook-cache-ttl=10s") // an entry that was taken away is seen soon
	}
	if c.AuditLog {
		args = append(args, "--audit-policy-file="+f.audit, "--audit-log-path="+c.Folder.Log("audit"),
			"--audit-log-maxsize=16", "--audit-log-maxbackup=1")
	}
	return component.Spec{
		Name: sandbox.APIServer, Needs: []string{sandbox.Etcd}, Address: c.address(sandbox.APIServer),
		Args: args, Env: component.Memory(400, 100),
		Ready: ready,
	}
}

func (c Config) controllerManager(f files, ready func(context.Context) error) component.Spec {
	controllers := "--controllers=*"
	if strings.HasPrefix(c.Services, "127.") {
		// Pods have addresses of the loopback, which the API server refuses in
		// Endpoints: these two could only fail, with an event for each try. The
		// node follows Services and pods itself.
		controllers += ",-endpoints-controller,-endpointslice-controller"
	}
	return component.Spec{
		Name: sandbox.ControllerManager, Needs: []string{sandbox.APIServer}, Address: c.address(sandbox.ControllerManager),
		Args: []string{"kube-controller-manager",
			"--kubeconfig=" + f.controllerManagerConfig, "--authentication-kubeconfig=" + f.controllerManagerConfig, "--authorization-kubeconfig=" + f.controllerManagerConfig,
			"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.Ports[sandbox.ControllerManager]),
			"--tls-cert-file=" + f.controllerManager.Cert, "--tls-private-key-file=" + f.controllerManager.Key,
			"--leader-elect=false", "--use-service-account-credentials=true",
			"--kube-api-qps=500", "--kube-api-burst=1000", // with the default of 20 it is six seconds later
			"--root-ca-file=" + c.PKI.CA(), "--service-account-private-key-file=" + f.serviceAccountKey,
			"--cluster-signing-cert-file=" + c.PKI.CA(), "--cluster-signing-key-file=" + c.PKI.CAKey(),
			"--service-cluster-ip-range=" + c.Services,
			controllers, "--profiling=false",
		},
		Env:   component.Memory(128, 100),
		Ready: ready,
	}
}

func (c Config) scheduler(f files, ready func(context.Context) error) component.Spec {
	return component.Spec{
		Name: sandbox.Scheduler, Needs: []string{sandbox.APIServer}, Address: c.address(sandbox.Scheduler),
		Args: []string{"kube-scheduler",
			"--kubeconfig=" + f.schedulerConfig, "--authentication-kubeconfig=" + f.schedulerConfig, "--authorization-kubeconfig=" + f.schedulerConfig,
			"--bind-address=127.0.0.1", "--secure-port=" + strconv.Itoa(c.Ports[sandbox.Scheduler]),
			"--tls-cert-file=" + f.scheduler.Cert, "--tls-private-key-file=" + f.scheduler.Key,
			"--leader-elect=false", "--kube-api-qps=500", "--kube-api-burst=1000",
			"--profiling=false",
		},
		Env:   component.Memory(96, 100),
		Ready: ready,
	}
}

// client is the administrator's, for asking.
func (c Config) client(kubeconfig string) (*kubernetes.Clientset, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig %s: %w", kubeconfig, err)
	}
	config.QPS, config.Burst = -1, 0
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client of the API server: %w", err)
	}
	return client, nil
}

func unixClient(dir, socket string) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return sandbox.DialSocket(ctx, dir, socket)
		},
		IdleConnTimeout: time.Minute,
	}}
}
