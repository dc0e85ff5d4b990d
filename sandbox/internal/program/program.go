// Package program is the table of what biplane-sandbox can be: its first
// argument names one of these programs, and the rest is that program's own
// command line. It holds no program itself.
//
// Start with table.
package program

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"slices"

	"github.com/spf13/cobra"
	etcd "go.etcd.io/etcd/api/v3/version"
	"go.etcd.io/etcd/server/v3/etcdmain"
	"golang.org/x/sys/unix"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubeletapp "k8s.io/kubernetes/cmd/kubelet/app"

	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/sandbox/internal/identity"
	"biplane.dev/biplane/sandbox/internal/image"
	"biplane.dev/biplane/sandbox/internal/kubelet"
	"biplane.dev/biplane/sandbox/internal/kubernetes"
	"biplane.dev/biplane/sandbox/internal/kwok"
	"biplane.dev/biplane/sandbox/internal/node"
	"biplane.dev/biplane/sandbox/internal/s3"
	"biplane.dev/biplane/sandbox/internal/supervisor"
)

// program is one row: what it is called, what it does, and how it is run with
// the arguments behind its name. It returns the exit status.
type program struct {
	name string
	does string
	run  func(args []string) int
}

// table is every program, the supervisor first, then in the order that it starts them.
func table() []program {
	return []program{
		{"supervise", "starts and watches all of a sandbox", command(supervisor.Command)},
		{"etcd", "keeps what the API server knows", runEtcd},
		{"kube-apiserver", "serves the Kubernetes API", command(apiserver.NewAPIServerCommand)},
		{"kube-controller-manager", "runs Kubernetes' controllers", command(controllermanager.NewControllerManagerCommand)},
		{"kube-scheduler", "gives pods their nodes", command(func() *cobra.Command { return scheduler.NewSchedulerCommand() })},
		{"identity", "serves IAM and STS, and decides", command(identity.Command)},
		{"s3", "serves S3 out of a folder", command(s3.Command)},
		{"node", "is a node whose containers are processes of this machine", command(node.Command)},
		{"kwok", "is nodes on which pods live without being run", command(kwok.Command)},
		{"kubelet-node", "is a node with the programs below, in namespaces of its own", command(kubelet.Command)},
		{"kubelet", "runs pods by containerd", command(func() *cobra.Command { return kubeletapp.NewKubeletCommand(context.Background()) })},
		{"kube-proxy", "leads Services to pods by iptables", command(proxy.NewProxyCommand)},
		{"image", "lists, maps and imports the images that nodes run", func(args []string) int { return image.Run(args, kubelet.Import) }},
		{"version", "says which version of Kubernetes it is", version},
	}
}

// Run is the executable: args are its arguments without its own name.
func Run(args []string) int {
	programs := table()
	if len(args) == 0 || args[0] == "help" || args[0] == "--help" {
		usage(os.Stdout, programs)
		return 0
	}
	at := slices.IndexFunc(programs, func(p program) bool { return p.name == args[0] })
	if at < 0 {
		fmt.Fprintf(os.Stderr, "biplane-sandbox: no program named %q\n", args[0])
		usage(os.Stderr, programs)
		return 2
	}
	// What this process was handed (the lock of the sandbox's folder) is not for
	// its children.
	unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC)
	return programs[at].run(args[1:])
}

func usage(out io.Writer, programs []program) {
	fmt.Fprint(out, "biplane-sandbox PROGRAM [FLAGS]: the programs of a sandbox in one executable; 'biplane sandbox up' starts them.\n\n")
	for _, p := range programs {
		fmt.Fprintf(out, "  %-24s %s\n", p.name, p.does)
	}
}

// command runs a program that is a cobra command, the way Kubernetes runs its
// own: flags and logging set up, an error printed once, status 1.
func command(make func() *cobra.Command) func([]string) int {
	return func(args []string) int {
		c := make()
		c.SetArgs(args)
		return cli.Run(c)
	}
}

// runEtcd returns only when etcd failed to start: it ends the process itself.
func runEtcd(args []string) int {
	etcdmain.Main(append([]string{"etcd"}, args...))
	return 0
}

func version([]string) int {
	info := buildinfo.Read()
	fmt.Printf("biplane-sandbox %s (%s, %s)\nkubernetes %s\netcd %s\n", info.Version, info.Commit, info.Date, kubernetes.Version(), etcd.Version)
	return 0
}
