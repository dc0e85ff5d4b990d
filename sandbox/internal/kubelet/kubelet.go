// Package kubelet is the node that production has: the real kubelet and
// kube-proxy with containerd and runc, for comparing the process node with it.
// It needs root and four Debian packages; package node is the node for everybody.
//
// The node is a machine of its own inside this one: its programs run in PID,
// mount, network, UTS and IPC namespaces of their own, joined to this machine by
// one pair of links. So the kernel itself takes everything away when the node
// ends, however it ends: processes, shims, mounts, links, addresses, firewall
// rules; and the kernel settings that a kubelet changes are never this machine's.
// Nothing but the cgroups has to be removed by hand.
//
// Rejected: running them beside the machine's other programs and cleaning up
// afterwards, which leaves everything behind when the cleaner is killed.
//
// Start with Run, which is the node's whole life.
package kubelet

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"biplane.dev/biplane/internal/usererr"
)

// Options say what the node is called and what it finds where. All files are
// read, none is changed.
type Options struct {
	Name    string // of the node
	Dir     string // the node's own folder, kept between starts
	Network Network

	// Kubeconfig is that of system:node:NAME, ProxyKubeconfig that of
	// system:kube-proxy. Their server is on this machine's loopback; the node
	// reaches it at the same port of Network.Host.
	Kubeconfig      string
	ProxyKubeconfig string

	ClientCA string // who may call the kubelet
	Cert     string // the kubelet's serving certificate, for Network.Node
	Key      string

	// Forward are ports of 127.0.0.1 that pods reach at Network.Host: the API
	// server's (always), those of S3, STS and IAM.
	Forward Ports

	// Programs is the executable that is kubelet and kube-proxy by its first
	// argument; "" is this one.
	Programs string
}

// Args are the arguments that make ParseArgs return o again.
func (o Options) Args() []string {
	args := []string{
		"--name", o.Name, "--dir", o.Dir, "--network", o.Network.String(),
		"--kubeconfig", o.Kubeconfig, "--proxy-kubeconfig", o.ProxyKubeconfig,
		"--client-ca", o.ClientCA, "--tls-cert", o.Cert, "--tls-key", o.Key,
	}
	if len(o.Forward) > 0 {
		args = append(args, "--forward", o.Forward.String())
	}
	if o.Programs != "" {
		args = append(args, "--programs", o.Programs)
	}
	return args
}

// ParseArgs reads the command line of the program kubelet-node. inside says that
// it is the second of its two processes, the first in the node's namespaces.
func ParseArgs(args []string) (o Options, inside bool, err error) {
	flags := flag.NewFlagSet("kubelet-node", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&o.Name, "name", "", "name of the node")
	flags.StringVar(&o.Dir, "dir", "", "the node's folder")
	flags.Var(&o.Network, "network", "number of the node's network, 0 to 63")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig of the node")
	flags.StringVar(&o.ProxyKubeconfig, "proxy-kubeconfig", "", "kubeconfig of kube-proxy")
	flags.StringVar(&o.ClientCA, "client-ca", "", "CA of those who may call the kubelet")
	flags.StringVar(&o.Cert, "tls-cert", "", "serving certificate of the kubelet")
	flags.StringVar(&o.Key, "tls-key", "", "its key")
	flags.Var(&o.Forward, "forward", "ports of 127.0.0.1 that pods reach, joined by commas")
	flags.StringVar(&o.Programs, "programs", "", "executable that is kubelet and kube-proxy")
	flags.BoolVar(&inside, "inside", false, "be the first process inside")
	if err := flags.Parse(args); err != nil {
		return o, false, fmt.Errorf("kubelet-node: %w", err)
	}
	for name, value := range map[string]string{"name": o.Name, "dir": o.Dir, "kubeconfig": o.Kubeconfig,
		"proxy-kubeconfig": o.ProxyKubeconfig, "client-ca": o.ClientCA, "tls-cert": o.Cert, "tls-key": o.Key} {
		if value == "" {
			return o, false, fmt.Errorf("kubelet-node: --%s is needed", name)
		}
	}
	// The processes do not share a working directory, so paths are absolute.
	for _, path := range []*string{&o.Dir, &o.Kubeconfig, &o.ProxyKubeconfig, &o.ClientCA, &o.Cert, &o.Key} {
		if *path, err = filepath.Abs(*path); err != nil {
			return o, false, fmt.Errorf("kubelet-node: %w", err)
		}
	}
	return o, inside, nil
}

// Main is the program kubelet-node. It returns when the node is gone.
func Main(ctx context.Context, args []string, log *slog.Logger) error {
	o, inside, err := ParseArgs(args)
	if err != nil {
		return err
	}
	if inside {
		return runInside(ctx, o, log)
	}
	return Run(ctx, o, log)
}

// Run is the node's life as this machine sees it.
func Run(ctx context.Context, o Options, log *slog.Logger) error {
	if err := Check(); err != nil {
		return err
	}
	if err := removeCgroups(o, time.Now()); err != nil { // of one that was killed
		return err
	}
	mountpoint, err := makeMountpoint() // the kubelet has one path that cannot be configured
	if err != nil {
		return err
	}
	defer mountpoint.remove()
	if err := makeCgroups(o); err != nil {
		return err
	}
	inner, err := startInside(o) // its namespaces, in which it waits
	if err != nil {
		return err
	}
	defer inner.stop() // and with its first process every other
	if err := o.Network.link(inner.pid()); err != nil {
		return err
	}
	forwards, err := o.Network.forward(o.Forward, log)
	if err != nil {
		return err
	}
	defer forwards.stop()
	inner.release() // now it may start containerd, the kubelet and kube-proxy
	err = inner.wait(ctx)
	inner.stop()
	if removed := removeCgroups(o, time.Now().Add(2*time.Second)); err == nil {
		err = removed
	}
	return err
}

// programs are what has to be found, and the Debian package that has each.
var programs = [...]struct{ name, pkg string }{
	{"containerd", "containerd"},
	{"containerd-shim-runc-v2", "containerd"},
	{"ctr", "containerd"},
	{"runc", "runc"},
	{"iptables", "iptables"},
}

// cniFolders are where distributions put the CNI plugins: Debian, everybody else.
var cniFolders = [...]string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"}

// Check says whether this machine can be such a node: nil, or a sentence with
// the remedy.
func Check() error {
	if os.Geteuid() != 0 {
		return usererr.New(usererr.Refused, "a node of kind kubelet needs root, and this is user %d", os.Geteuid()).
			WithHint("run it as root, or take --node process")
	}
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p.name); err != nil {
			missing = append(missing, p.name)
		}
	}
	if _, err := cniFolder(); err != nil {
		missing = append(missing, "the CNI plugins bridge and host-local")
	}
	if len(missing) > 0 {
		return usererr.New(usererr.Refused, "a node of kind kubelet needs %s, which this machine has not", strings.Join(missing, ", ")).
			WithHint("apt-get install containerd runc containernetworking-plugins iptables, or take --node process")
	}
	return canNamespace()
}

func cniFolder() (string, error) {
	for _, dir := range cniFolders {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "host-local")); err == nil {
			return dir, nil
		}
	}
	return "", fmt.Errorf("no CNI plugins in %s", strings.Join(cniFolders[:], ", "))
}
