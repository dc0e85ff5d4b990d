package kubelet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	proxyconfig "k8s.io/kube-proxy/config/v1alpha1"
	kubeletconfig "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

func options(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	kubeconfig := clientcmdapi.NewConfig()
	kubeconfig.Clusters["c"] = &clientcmdapi.Cluster{Server: "https://127.0.0.1:6443"}
	kubeconfig.AuthInfos["u"] = &clientcmdapi.AuthInfo{Token: "t0ken"}
	kubeconfig.Contexts["x"] = &clientcmdapi.Context{Cluster: "c", AuthInfo: "u"}
	kubeconfig.CurrentContext = "x"
	file := filepath.Join(dir, "kubeconfig")
	if err := clientcmd.WriteToFile(*kubeconfig, file); err != nil {
		t.Fatal(err)
	}
	return Options{
		Name: "worker-1", Dir: filepath.Join(dir, `a "folder"`), Network: 3, Kubeconfig: file, ProxyKubeconfig: file,
		ClientCA: "/pki/ca.crt", Cert: "/pki/kubelet.crt", Key: "/pki/kubelet.key", Forward: []int{6443, 7070}, Programs: "/bin/programs",
	}
}

func TestOptions(t *testing.T) {
	t.Run("come back from their arguments", func(t *testing.T) {
		want := options(t)
		cmd := Command()
		if err := cmd.ParseFlags(want.Args()[1:]); err != nil {
			t.Fatal(err)
		}
		for flag, value := range map[string]string{"name": want.Name, "dir": want.Dir, "network": "3", "kubeconfig": want.Kubeconfig,
			"tls-cert-file": want.Cert, "tls-private-key-file": want.Key, "forward": "[6443,7070]", "programs": "/bin/programs", "inside": "false"} {
			if got := cmd.Flag(flag).Value.String(); got != value {
				t.Errorf("got --%s %q, want %q", flag, got, value)
			}
		}
	})
	t.Run("name the flag that is missing", func(t *testing.T) {
		o := options(t)
		o.ClientCA = ""
		if err := o.complete(); err == nil || !strings.Contains(err.Error(), "--client-ca") {
			t.Errorf("got %v, want an error that names --client-ca", err)
		}
	})
	t.Run("have no secret among their arguments", func(t *testing.T) {
		if line := strings.Join(options(t).Args(), " "); strings.Contains(line, "t0ken") {
			t.Errorf("got %s", line)
		}
	})
}

func TestNetwork(t *testing.T) {
	t.Run("has addresses of its own", func(t *testing.T) {
		n := Network(3)
		got := fmt.Sprint(n.Host(), " ", n.Node(), " ", n.Pods(), " ", n.Services(), " ", n.prefix(), " ", n.device())
		if want := "10.250.3.1 10.250.3.2 10.244.3.0/24 10.96.0.0/16 10.250.3.0/30 biplane3"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("is kept in the node's folder", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "node")
		first, err := ChooseNetwork(dir)
		if err != nil {
			t.Fatal(err)
		}
		kept := first + 7
		if err := os.WriteFile(filepath.Join(dir, "network"), []byte(kept.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		if again, err := ChooseNetwork(dir); err != nil || again != kept {
			t.Errorf("got %d, %v, want %d", again, err, kept)
		}
	})
	for _, word := range []string{"", "-1", "64", "x", "1.5"} {
		t.Run("refuses the number "+word, func(t *testing.T) {
			var n Network
			if err := n.Set(word); err == nil {
				t.Errorf("got %d, want an error", n)
			}
		})
	}
}

func TestForward(t *testing.T) {
	loopback, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer loopback.Close()
	go func() {
		for {
			c, err := loopback.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				text, _ := io.ReadAll(c) // until the other end closes its half
				fmt.Fprintf(c, "got %s", text)
			}()
		}
	}()
	f := &forwards{open: map[net.Conn]bool{}}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.listeners = append(f.listeners, front)
	f.busy.Go(func() { f.serve(front, loopback.Addr().String(), slog.New(slog.DiscardHandler)) })

	t.Run("carries both directions and their ends", func(t *testing.T) {
		c, err := net.Dial("tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "hello")
		c.(*net.TCPConn).CloseWrite()
		answer, err := io.ReadAll(c)
		if err != nil || string(answer) != "got hello" {
			t.Errorf("got %q, %v, want %q", answer, err, "got hello")
		}
	})
	t.Run("ends what is open when it is stopped", func(t *testing.T) {
		c, err := net.Dial("tcp", front.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		fmt.Fprint(c, "hello")
		stopped := make(chan struct{})
		go func() { f.stop(); close(stopped) }()
		c.SetReadDeadline(time.Now().Add(time.Minute))
		if _, err := io.ReadAll(c); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error("the connection was still open after a minute")
		}
		<-stopped
		if _, err := net.Dial("tcp", front.Addr().String()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("got %v, want a refused connection", err)
		}
	})
}

func TestConfig(t *testing.T) {
	o := options(t)
	if _, err := cniFolder(); err != nil {
		t.Skipf("NOT RUN: %v", err)
	}
	if err := writeConfig(o); err != nil {
		t.Fatal(err)
	}
	read := func(name string) []byte {
		text, err := os.ReadFile(filepath.Join(o.Dir, "etc", name))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	t.Run("is what the kubelet knows", func(t *testing.T) {
		var c kubeletconfig.KubeletConfiguration
		if err := yaml.UnmarshalStrict(read("kubelet.yaml"), &c); err != nil {
			t.Fatal(err)
		}
		if c.Address != "10.250.3.2" || c.TLSCertFile != o.Cert || c.CgroupRoot != "/"+cgroup(o) || *c.ResolverConfig != filepath.Join(o.Dir, "etc/resolv.conf") {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("is what kube-proxy knows", func(t *testing.T) {
		var c proxyconfig.KubeProxyConfiguration
		if err := yaml.UnmarshalStrict(read("kube-proxy.yaml"), &c); err != nil {
			t.Fatal(err)
		}
		if c.HostnameOverride != o.Name || c.ClusterCIDR != "10.244.3.0/24" {
			t.Errorf("got %+v", c)
		}
	})
	t.Run("calls the API server where the node finds it", func(t *testing.T) {
		c, err := clientcmd.Load(read("kubelet.kubeconfig"))
		if err != nil {
			t.Fatal(err)
		}
		if got, want := c.Clusters["c"].Server, "https://10.250.3.1:6443"; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	})
	t.Run("is for nobody else's eyes", func(t *testing.T) {
		filepath.WalkDir(o.Dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				t.Fatal(err)
			}
			info, err := d.Info()
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode().Perm()&0o077 != 0 {
				t.Errorf("got %s with mode %v", path, info.Mode())
			}
			return nil
		})
	})
}

func TestNames(t *testing.T) {
	service := func(name string, spec corev1.ServiceSpec) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "ns"}, Spec: spec}
	}
	yes, no, one := true, false, "one"
	client := fake.NewSimpleClientset(
		service("web", corev1.ServiceSpec{ClusterIP: "10.96.1.2", Ports: []corev1.ServicePort{{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP}}}),
		service("all", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}),
		service("many", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone}),
		service("out", corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}),
		&discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "all-1", Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: "all"}}, Endpoints: []discoveryv1.Endpoint{
			{Addresses: []string{"10.244.0.5"}, Hostname: &one, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{Addresses: []string{"10.244.0.6"}, Conditions: discoveryv1.EndpointConditions{Ready: &yes}},
			{Addresses: []string{"10.244.0.7"}, Conditions: discoveryv1.EndpointConditions{Ready: &no}},
		}},
		manyEndpoints(),
	)
	watches := informers.NewSharedInformerFactory(client, 0)
	n := &names{services: watches.Core().V1().Services().Lister(), endpoints: watches.Discovery().V1().EndpointSlices().Lister(), log: slog.New(slog.DiscardHandler)}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	watches.Start(ctx.Done())
	watches.WaitForCacheSync(ctx.Done())

	ask := func(name string, kind dnsmessage.Type, limit int) dnsmessage.Message {
		t.Helper()
		question := dnsmessage.Message{Header: dnsmessage.Header{ID: 77, RecursionDesired: true}, Questions: []dnsmessage.Question{{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}}}
		packed, err := question.Pack()
		if err != nil {
			t.Fatal(err)
		}
		var answer dnsmessage.Message
		if err := answer.Unpack(n.reply(packed, limit)); err != nil {
			t.Fatal(err)
		}
		if answer.ID != 77 || !answer.Response {
			t.Errorf("got header %v", answer.Header)
		}
		return answer
	}
	for _, c := range []struct {
		does, name string
		kind       dnsmessage.Type
		want       []string // nil: there is no such name
	}{
		{"knows a Service", "web.ns.svc.cluster.local.", dnsmessage.TypeA, []string{"10.96.1.2"}},
		{"knows it in any case", "WEB.ns.SVC.cluster.local.", dnsmessage.TypeA, []string{"10.96.1.2"}},
		{"knows that a Service has no IPv6 address", "web.ns.svc.cluster.local.", dnsmessage.TypeAAAA, []string{}},
		{"knows the port of a Service", "_http._tcp.web.ns.svc.cluster.local.", dnsmessage.TypeSRV, []string{"web.ns.svc.cluster.local.:80"}},
		{"knows the ready pods of a headless Service", "all.ns.svc.cluster.local.", dnsmessage.TypeA, []string{"10.244.0.5", "10.244.0.6"}},
		{"knows a pod by its hostname", "one.all.ns.svc.cluster.local.", dnsmessage.TypeA, []string{"10.244.0.5"}},
		{"knows where an external name leads", "out.ns.svc.cluster.local.", dnsmessage.TypeA, []string{"example.com."}},
		{"knows a pod by its address", "10-244-0-5.ns.pod.cluster.local.", dnsmessage.TypeA, []string{"10.244.0.5"}},
		{"knows no other Service", "absent.ns.svc.cluster.local.", dnsmessage.TypeA, nil},
		{"knows no Service of another namespace", "web.other.svc.cluster.local.", dnsmessage.TypeA, nil},
		{"knows no other port", "_ftp._tcp.web.ns.svc.cluster.local.", dnsmessage.TypeSRV, nil},
		{"knows no other hostname", "two.all.ns.svc.cluster.local.", dnsmessage.TypeA, nil},
		{"knows nothing outside", "example.com.", dnsmessage.TypeA, nil},
		{"knows nothing beside", "web.ns.svc.cluster.local.ns.svc.cluster.local.", dnsmessage.TypeA, nil},
		{"knows no name for the whole zone", "cluster.local.", dnsmessage.TypeA, nil},
	} {
		t.Run(c.does, func(t *testing.T) {
			answer := ask(c.name, c.kind, 512)
			if c.want == nil {
				if answer.RCode != dnsmessage.RCodeNameError {
					t.Errorf("got %v with %v, want that there is no such name", answer.RCode, answer.Answers)
				}
				return
			}
			got := []string{}
			for _, r := range answer.Answers {
				switch body := r.Body.(type) {
				case *dnsmessage.AResource:
					got = append(got, net.IP(body.A[:]).String())
				case *dnsmessage.SRVResource:
					got = append(got, fmt.Sprintf("%s:%d", body.Target, body.Port))
				case *dnsmessage.CNAMEResource:
					got = append(got, body.CNAME.String())
				}
			}
			if answer.RCode != dnsmessage.RCodeSuccess || !slices.Equal(got, c.want) {
				t.Errorf("got %v %v, want %v", answer.RCode, got, c.want)
			}
		})
	}
	t.Run("says that an answer is too long, and gives it over TCP", func(t *testing.T) {
		if short := ask("many.ns.svc.cluster.local.", dnsmessage.TypeA, 512); !short.Truncated || len(short.Answers) != 0 {
			t.Errorf("got %v with %d answers, want a truncated one", short.Header, len(short.Answers))
		}
		if long := ask("many.ns.svc.cluster.local.", dnsmessage.TypeA, 0xffff); long.Truncated || len(long.Answers) != 100 {
			t.Errorf("got %v with %d answers, want 100", long.Header, len(long.Answers))
		}
	})
	for _, garbage := range [][]byte{nil, {1}, bytes.Repeat([]byte{0xff}, 40), make([]byte, 12)} {
		t.Run(fmt.Sprintf("says nothing to %d bytes that are no question", len(garbage)), func(t *testing.T) {
			if got := n.reply(garbage, 512); got != nil {
				t.Errorf("got %v", got)
			}
		})
	}
}

func manyEndpoints() *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Name: "many-1", Namespace: "ns", Labels: map[string]string{discoveryv1.LabelServiceName: "many"}}}
	for i := range 100 {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{fmt.Sprintf("10.244.0.%d", i+1)}})
	}
	return slice
}

func TestPause(t *testing.T) {
	for arch := range pause {
		t.Run("is an ELF file for "+arch, func(t *testing.T) {
			program, err := pauseProgram(arch)
			if err != nil || !bytes.HasPrefix(program, []byte("\x7fELF")) || len(program) > 1024 {
				t.Errorf("got %d bytes, %v", len(program), err)
			}
		})
	}
	t.Run("waits, buries its children by ignoring them, and ends at SIGTERM", func(t *testing.T) {
		program, err := pauseProgram(runtime.GOARCH)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "pause")
		if err := os.WriteFile(file, program, 0o700); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(file)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Process.Kill()
		status := filepath.Join("/proc", fmt.Sprint(cmd.Process.Pid), "status")
		set := func(text, field string, signal syscall.Signal) bool {
			_, rest, _ := strings.Cut(text, field+":\t")
			mask, _ := strconv.ParseUint(rest[:min(16, len(rest))], 16, 64)
			return mask&(1<<(signal-1)) != 0
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			raw, err := os.ReadFile(status)
			text := string(raw)
			if err != nil || strings.Contains(text, "State:\tZ") || time.Now().After(deadline) {
				t.Fatalf("got %v and this status, want one that ignores SIGCHLD and sleeps:\n%s", err, text)
			}
			// While it waits for them, the kernel shows the signals as not blocked.
			if set(text, "SigIgn", syscall.SIGCHLD) && strings.Contains(text, "State:\tS") {
				break
			}
		}
		cmd.Process.Signal(syscall.SIGTERM)
		if err := cmd.Wait(); err != nil {
			t.Errorf("got %v, want exit code 0", err)
		}
	})
}

func TestRemoveTree(t *testing.T) {
	root := filepath.Join(t.TempDir(), "group")
	if err := os.MkdirAll(filepath.Join(root, "a/b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(root, "a-b/c"), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Run("removes folders, deepest first", func(t *testing.T) {
		if err := removeTree(root); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(root); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("got %v, want that it is gone", err)
		}
	})
	t.Run("is content with one that is not there", func(t *testing.T) {
		if err := removeTree(root); err != nil {
			t.Error(err)
		}
	})
}

func TestCheck(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Setenv("PATH", t.TempDir())
		t.Run("names the packages that are missing", func(t *testing.T) {
			if err := Check(); err == nil || !strings.Contains(err.Error(), "containerd") {
				t.Errorf("got %v, want an error that names containerd", err)
			}
		})
		return
	}
	t.Run("says that it needs root", func(t *testing.T) {
		if err := Check(); err == nil || !strings.Contains(err.Error(), "needs root") {
			t.Errorf("got %v, want that it needs root", err)
		}
	})
}
