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
// Start with Run, which is the node's whole life; Component is how a sandbox has one.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

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
	Forward []int

	// Programs is the executable that is kubelet and kube-proxy by its first
	// argument; "" is this one.
	Programs string
}

// Args are the arguments that make Command take o.
func (o Options) Args() []string {
	args := []string{"kubelet-node",
		"--name", o.Name, "--dir", o.Dir, "--network", o.Network.String(),
		"--kubeconfig", o.Kubeconfig, "--proxy-kubeconfig", o.ProxyKubeconfig,
		"--client-ca", o.ClientCA, "--tls-cert-file", o.Cert, "--tls-private-key-file", o.Key,
	}
	for _, port := range o.Forward {
		args = append(args, "--forward", strconv.Itoa(port))
	}
	if o.Programs != "" {
		args = append(args, "--programs", o.Programs)
	}
	return args
}

// Command is the program kubelet-node.
func Command() *cobra.Command {
	var o Options
	var inside bool
	cmd := &cobra.Command{
		Use:           "kubelet-node",
		Short:         "a node with the real kubelet, containerd and kube-proxy in namespaces of their own; root",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := slog.New(slog.NewTextHandler(os.Stderr, nil))
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			if err := o.complete(); err != nil {
				return err
			}
			if inside {
				return runInside(ctx, o, log)
			}
			return Run(ctx, o, log)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Name, "name", "", "name of the node")
	flags.StringVar(&o.Dir, "dir", "", "the node's folder")
	flags.Var(&o.Network, "network", "number of the node's network, 0 to 63")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig of system:node:NAME")
	flags.StringVar(&o.ProxyKubeconfig, "proxy-kubeconfig", "", "kubeconfig of system:kube-proxy")
	flags.StringVar(&o.ClientCA, "client-ca", "", "CA of those who may call the kubelet")
	flags.StringVar(&o.Cert, "tls-cert-file", "", "serving certificate of the kubelet")
	flags.StringVar(&o.Key, "tls-private-key-file", "", "its key")
	flags.IntSliceVar(&o.Forward, "forward", nil, "ports of 127.0.0.1 that pods reach at this machine's address")
	flags.StringVar(&o.Programs, "programs", "", "executable that is kubelet and kube-proxy; default this one")
	flags.BoolVar(&inside, "inside", false, "be the first process in the node's namespaces")
	flags.MarkHidden("inside")
	return cmd
}

// complete makes paths absolute, since the processes of the node do not share a
// working directory, and sees that nothing is missing.
func (o *Options) complete() error {
	if o.Name == "" {
		return errors.New("flag --name is missing")
	}
	for flag, path := range map[string]*string{"dir": &o.Dir, "kubeconfig": &o.Kubeconfig, "proxy-kubeconfig": &o.ProxyKubeconfig,
		"client-ca": &o.ClientCA, "tls-cert-file": &o.Cert, "tls-private-key-file": &o.Key} {
		if *path == "" {
			return fmt.Errorf("flag --%s is missing", flag)
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return fmt.Errorf("reading --%s: %w", flag, err)
		}
		*path = absolute
	}
	return nil
}

// Run is the node's life as this machine sees it.
func Run(ctx context.Context, o Options, log *slog.Logger) error {
	if err := Check(); err != nil {
		return err
	}
	if err := removeCgroups(o, time.Now()); err != nil { // of one that was killed
		return err
	}
	mountpoint, err := makeMountpoint(o) // the kubelet has one path that cannot be configured
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
