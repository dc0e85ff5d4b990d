package node_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/sandbox/internal/container"
	controlplane "biplane.dev/biplane/sandbox/internal/kubernetes"
	"biplane.dev/biplane/sandbox/internal/pki"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// cluster is the control plane that every test of this package shares, and the
// node that most of them do. It is made of bin/biplane-sandbox, which `make test`
// builds first; the node itself runs in the test.
type cluster struct {
	folder  sandbox.Folder
	config  controlplane.Config
	client  kubernetes.Interface
	program string
	parts   []*component.Component
	host    component.Host
}

var shared *cluster

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	if err := container.Check(); err != nil {
		fmt.Printf("NOT RUN: tests of the process node: %v\n", err)
		return 0
	}
	c, err := startCluster()
	defer c.stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "the control plane did not start:", err)
		return 1
	}
	shared = c
	return m.Run()
}

func startCluster() (*cluster, error) {
	c := &cluster{}
	dir, err := os.MkdirTemp("", "biplane-node-*")
	if err != nil {
		return c, err
	}
	c.folder = sandbox.Folder(filepath.Join(dir, "s"))
	for _, sub := range []string{c.folder.Run(), c.folder.Logs(), c.folder.Etcd()} {
		if err := os.MkdirAll(sub, 0o700); err != nil {
			return c, err
		}
	}
	if c.program, err = program(); err != nil {
		return c, err
	}
	keys, err := pki.Open(c.folder.PKI(), time.Now())
	if err != nil {
		return c, err
	}
	ports := map[string]int{}
	for _, name := range []string{sandbox.APIServer, sandbox.ControllerManager, sandbox.Scheduler} {
		if ports[name], err = freePort(); err != nil {
			return c, err
		}
	}
	c.config = controlplane.Config{
		Folder: c.folder, PKI: keys, Ports: ports, Issuer: "https://oidc.eks.eu-central-1.amazonaws.com/id/ABCDEF",
		Services: controlplane.LoopbackServices("node"),
	}
	specs, _, err := controlplane.Components(c.config)
	if err != nil {
		return c, err
	}
	c.host = component.Host{
		Program: c.program, Dir: c.folder.Run(), Env: os.Environ(), Logs: c.folder.Log, Forker: component.NewForker(),
		Log: slog.New(slog.NewTextHandler(io.Discard, nil)), Changed: func(*component.Component) {},
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, spec := range specs {
		part := component.New(spec, c.host)
		c.parts = append(c.parts, part)
		part.Start()
		if spec.Name == sandbox.Etcd || spec.Name == sandbox.APIServer {
			if err := part.Await(ctx); err != nil {
				return c, fmt.Errorf("%s: %w", spec.Name, err)
			}
		}
	}
	for _, part := range c.parts {
		if err := part.Await(ctx); err != nil {
			return c, err
		}
	}
	rest, err := clientcmd.BuildConfigFromFlags("", c.folder.Kubeconfig())
	if err != nil {
		return c, err
	}
	rest.QPS = -1
	c.client, err = kubernetes.NewForConfig(rest)
	return c, err
}

func (c *cluster) stop() {
	for i := len(c.parts) - 1; i >= 0; i-- {
		c.parts[i].Stop(sandbox.ComponentStopped)
	}
	os.RemoveAll(filepath.Dir(string(c.folder)))
}

// nodeSpec is the node as the supervisor starts it, with the same rights.
func (c *cluster) nodeSpec(name string) (component.Spec, error) {
	port, err := freePort()
	if err != nil {
		return component.Spec{}, err
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	keys := c.config.PKI
	user := pki.Subject{User: "system:node:" + name, Groups: []string{"system:nodes"}}
	identity, err := keys.Pair("node-"+name, user)
	if err != nil {
		return component.Spec{}, err
	}
	kubeconfig := keys.Path("node-" + name + ".kubeconfig")
	if err := keys.Kubeconfig(kubeconfig, "node-"+name, c.config.Server(), identity); err != nil {
		return component.Spec{}, err
	}
	user.IPs, user.Names = []string{"127.0.0.1"}, []string{name}
	serving, err := keys.Pair("node-"+name+"-serving", user)
	if err != nil {
		return component.Spec{}, err
	}
	return component.Spec{
		Name: "node-" + name, Address: address,
		Args: []string{"node", "--name=" + name, "--dir=" + c.folder.Node(name), "--sandbox-dir=" + string(c.folder),
			"--kubeconfig=" + kubeconfig, "--address=" + address,
			"--tls-cert-file=" + serving.Cert, "--tls-private-key-file=" + serving.Key, "--client-ca-file=" + keys.CA(), "--services=true"},
		Ready: controlplane.NodesReady(c.client, []string{name}, time.Now()),
		Grace: 2 * time.Second,
	}, nil
}

// program finds the executable that make builds.
func program() (string, error) {
	for _, path := range []string{os.Getenv("BIPLANE_SANDBOX"), "../../../bin/biplane-sandbox"} {
		if path == "" {
			continue
		}
		if _, err := os.Stat(path); err == nil {
			return filepath.Abs(path)
		}
	}
	return "", errors.New("no bin/biplane-sandbox: run make build first")
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
