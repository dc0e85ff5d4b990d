package services

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	v1 "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes/fake"
)

// world is an API server's objects and the Services on them.
type world struct {
	*Services
	t      *testing.T
	client *fake.Clientset
	ctx    context.Context
	names  atomic.Int32
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, client: fake.NewClientset()}
	services, err := New(Config{Client: w.client, APIServer: "127.0.0.1:1", Listen: true,
		Lookup: func(context.Context, string) ([]string, error) { return []string{"192.0.2.7"}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	w.Services = services
	var stop context.CancelFunc
	w.ctx, stop = context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- services.Run(w.ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Errorf("Run: got %v, want nil", err)
		}
	})
	return w
}

// address is one of 127/8 that no other test has.
var nextAddress atomic.Int32

func freshAddress() string {
	n := nextAddress.Add(1)
	return fmt.Sprintf("127.97.%d.%d", os.Getpid()%250+1, n)
}

func (w *world) service(s v1.Service) *v1.Service {
	w.t.Helper()
	if s.Namespace == "" {
		s.Namespace = "shop"
	}
	created, err := w.client.CoreV1().Services(s.Namespace).Create(w.ctx, &s, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return created
}

func (w *world) pod(labels map[string]string, ready bool, change func(*v1.Pod)) *v1.Pod {
	w.t.Helper()
	p := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: fmt.Sprintf("pod-%d", w.names.Add(1)), Labels: labels}}
	p.Status = v1.PodStatus{Phase: v1.PodRunning, PodIP: "127.0.0.1", Conditions: []v1.PodCondition{{Type: v1.PodReady, Status: v1.ConditionFalse}}}
	if ready {
		p.Status.Conditions[0].Status = v1.ConditionTrue
	}
	if change != nil {
		change(p)
	}
	created, err := w.client.CoreV1().Pods(p.Namespace).Create(w.ctx, p, metav1.CreateOptions{})
	if err != nil {
		w.t.Fatal(err)
	}
	return created
}

// eventually waits for what a watch brings.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("got no %s within two minutes", what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// backend is a program that says its name to whoever connects, and echoes then.
func backend(t *testing.T, at, says string) int32 {
	t.Helper()
	socket, err := net.Listen("tcp4", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { socket.Close() })
	go func() {
		for {
			conn, err := socket.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				io.WriteString(conn, says+"\n")
				io.Copy(conn, conn)
			}()
		}
	}()
	return int32(socket.Addr().(*net.TCPAddr).Port)
}

// ask connects, and returns what is said before anything was asked and the echo
// of a word; "" when nobody answers.
func ask(at, word string) (says, echo string) {
	conn, err := net.DialTimeout("tcp", at, time.Second)
	if err != nil {
		return "", ""
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(5 * time.Second))
	io.WriteString(conn, word)
	conn.(*net.TCPConn).CloseWrite()
	all, _ := io.ReadAll(conn)
	says, echo, _ = strings.Cut(string(all), "\n")
	return says, echo
}

func ofService(name, ip string, port int32, target intstr.IntOrString) v1.Service {
	return v1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1.ServiceSpec{ClusterIP: ip, Selector: map[string]string{"app": name},
			Ports: []v1.ServicePort{{Protocol: v1.ProtocolTCP, Port: port, TargetPort: target}}},
	}
}

func app(name string) map[string]string { return map[string]string{"app": name} }

func TestForwarding(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("it reaches a ready pod by the Service's address, both ways, and refuses when there is none", func(t *testing.T) {
		ip, port := freshAddress(), backend(t, "127.0.0.1:0", "web")
		w.service(ofService("web", ip, 18080, intstr.FromInt32(port)))
		p := w.pod(app("web"), true, nil)
		eventually(t, "answer", func() bool { says, _ := ask(ip+":18080", ""); return says == "web" })
		if says, echo := ask(ip+":18080", "hello"); says != "web" || echo != "hello" {
			t.Errorf("got %q and %q, want web and hello", says, echo)
		}
		p.Status.Conditions[0].Status = v1.ConditionFalse
		if _, err := w.client.CoreV1().Pods("shop").UpdateStatus(w.ctx, p, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		eventually(t, "refusal", func() bool {
			_, err := net.DialTimeout("tcp", ip+":18080", time.Second)
			return err != nil && strings.Contains(err.Error(), "refused")
		})
	})

	t.Run("it finds a named port in each pod, and takes turns", func(t *testing.T) {
		ip := freshAddress()
		s := ofService("turns", ip, 18080, intstr.FromString("http"))
		w.service(s)
		for _, says := range []string{"one", "two"} {
			port := backend(t, "127.0.0.1:0", says)
			w.pod(app("turns"), true, func(p *v1.Pod) {
				p.Spec.Containers = []v1.Container{{Name: "c", Ports: []v1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: v1.ProtocolTCP}}}}
			})
		}
		eventually(t, "both", func() bool {
			a, _ := ask(ip+":18080", "")
			b, _ := ask(ip+":18080", "")
			return a != b && a != "" && b != ""
		})
	})

	t.Run("it keeps a client with one backend when asked to", func(t *testing.T) {
		ip := freshAddress()
		s := ofService("sticky", ip, 18080, intstr.FromString("http"))
		s.Spec.SessionAffinity = v1.ServiceAffinityClientIP
		w.service(s)
		for _, says := range []string{"one", "two"} {
			port := backend(t, "127.0.0.1:0", says)
			w.pod(app("sticky"), true, func(p *v1.Pod) {
				p.Spec.Containers = []v1.Container{{Name: "c", Ports: []v1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: v1.ProtocolTCP}}}}
			})
		}
		eventually(t, "answer", func() bool { says, _ := ask(ip+":18080", ""); return says != "" })
		first, _ := ask(ip+":18080", "")
		for range 6 {
			if says, _ := ask(ip+":18080", ""); says != first {
				t.Errorf("got %q, want %q again", says, first)
			}
		}
	})

	t.Run("it publishes pods that are not ready when the Service says so", func(t *testing.T) {
		ip, port := freshAddress(), backend(t, "127.0.0.1:0", "early")
		s := ofService("early", ip, 18080, intstr.FromInt32(port))
		s.Spec.PublishNotReadyAddresses = true
		w.service(s)
		w.pod(app("early"), false, nil)
		eventually(t, "answer", func() bool { says, _ := ask(ip+":18080", ""); return says == "early" })
	})

	t.Run("it tries the next backend when one does not answer", func(t *testing.T) {
		ip := freshAddress()
		w.service(ofService("half", ip, 18080, intstr.FromString("http")))
		closed, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		dead := int32(closed.Addr().(*net.TCPAddr).Port)
		closed.Close()
		for _, port := range []int32{dead, backend(t, "127.0.0.1:0", "alive")} {
			w.pod(app("half"), true, func(p *v1.Pod) {
				p.Spec.Containers = []v1.Container{{Name: "c", Ports: []v1.ContainerPort{{Name: "http", ContainerPort: port, Protocol: v1.ProtocolTCP}}}}
			})
		}
		eventually(t, "answer", func() bool { says, _ := ask(ip+":18080", ""); return says == "alive" })
		for range 4 {
			if says, _ := ask(ip+":18080", ""); says != "alive" {
				t.Errorf("got %q, want alive", says)
			}
		}
	})

	t.Run("it answers on a NodePort", func(t *testing.T) {
		ip, port := freshAddress(), backend(t, "127.0.0.1:0", "node")
		node := unusedPort(t)
		s := ofService("node", ip, 18080, intstr.FromInt32(port))
		s.Spec.Type, s.Spec.Ports[0].NodePort = v1.ServiceTypeNodePort, node
		w.service(s)
		w.pod(app("node"), true, nil)
		eventually(t, "answer", func() bool { says, _ := ask(hostPort("127.0.0.1", node), ""); return says == "node" })
	})

	t.Run("it forwards to an EndpointSlice made by hand", func(t *testing.T) {
		ip, port := freshAddress(), backend(t, "127.0.0.1:0", "outside")
		s := ofService("outside", ip, 18080, intstr.FromInt32(port))
		s.Spec.Selector, s.Spec.Ports[0].Name = nil, "main"
		w.service(s)
		name, protocol, no := "main", v1.ProtocolTCP, false
		_, err := w.client.DiscoveryV1().EndpointSlices("shop").Create(w.ctx, &discovery.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Name: "outside-1", Labels: map[string]string{discovery.LabelServiceName: "outside"}},
			AddressType: discovery.AddressTypeIPv4,
			Ports:       []discovery.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
			Endpoints: []discovery.Endpoint{
				{Addresses: []string{"127.0.0.1"}},
				{Addresses: []string{"127.0.0.9"}, Conditions: discovery.EndpointConditions{Ready: &no}},
			},
		}, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "answer", func() bool { says, _ := ask(ip+":18080", ""); return says == "outside" })
		for range 3 {
			if says, _ := ask(ip+":18080", ""); says != "outside" {
				t.Errorf("got %q, want outside: an endpoint that is not ready takes part", says)
			}
		}
	})

	t.Run("it forwards datagrams and brings the answers back", func(t *testing.T) {
		ip := freshAddress()
		socket, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer socket.Close()
		go func() {
			buffer := make([]byte, 1500)
			for {
				n, from, err := socket.ReadFrom(buffer)
				if err != nil {
					return
				}
				socket.WriteTo([]byte("re: "+string(buffer[:n])), from)
			}
		}()
		s := ofService("dns", ip, 18053, intstr.FromInt32(int32(socket.LocalAddr().(*net.UDPAddr).Port)))
		s.Spec.Ports[0].Protocol = v1.ProtocolUDP
		w.service(s)
		w.pod(app("dns"), true, nil)
		eventually(t, "answer", func() bool {
			conn, err := net.Dial("udp", ip+":18053")
			if err != nil {
				return false
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(200 * time.Millisecond))
			conn.Write([]byte("question"))
			answer := make([]byte, 100)
			n, _ := conn.Read(answer)
			return string(answer[:n]) == "re: question"
		})
	})

	t.Run("it leaves the port to a pod that listens on all addresses at the Service's own", func(t *testing.T) {
		ip, port := freshAddress(), unusedPort(t)
		w.service(ofService("same", ip, port, intstr.FromInt32(port)))
		// The pod is ready, as one without probe, before it listens.
		w.pod(app("same"), true, nil)
		marker, other := freshAddress(), backend(t, "127.0.0.1:0", "marker")
		w.service(ofService("marker", marker, 18080, intstr.FromInt32(other)))
		w.pod(app("marker"), true, nil)
		eventually(t, "later Service", func() bool { says, _ := ask(marker+":18080", ""); return says == "marker" })
		backend(t, hostPort("0.0.0.0", port), "same") // fails when the port was taken
		if says, _ := ask(hostPort(ip, port), ""); says != "same" {
			t.Errorf("got %q, want same", says)
		}
	})

	t.Run("it forwards at the pod's own port when the pod listens on its own address", func(t *testing.T) {
		ip, port := freshAddress(), unusedPort(t)
		w.service(ofService("narrow", ip, port, intstr.FromInt32(port)))
		w.pod(app("narrow"), true, nil)
		backend(t, hostPort("127.0.0.1", port), "narrow")
		eventually(t, "answer", func() bool { says, _ := ask(hostPort(ip, port), ""); return says == "narrow" })
	})

	t.Run("it says what to do when the address cannot be had", func(t *testing.T) {
		ip, taken, port := freshAddress(), unusedPort(t), backend(t, "127.0.0.1:0", "blocked")
		backend(t, hostPort("0.0.0.0", taken), "somebody")
		w.service(ofService("blocked", ip, taken, intstr.FromInt32(port)))
		w.pod(app("blocked"), true, nil)
		eventually(t, "event", func() bool {
			events, err := w.client.CoreV1().Events("shop").List(w.ctx, metav1.ListOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(events.Items, func(e v1.Event) bool {
				return e.InvolvedObject.Name == "blocked" && e.Reason == "FailedToListen" && strings.Contains(e.Message, "give the Service another port")
			})
		})
	})
}

// unusedPort is a port that was free a moment ago on every address.
func unusedPort(t *testing.T) int32 {
	t.Helper()
	socket, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	return int32(socket.Addr().(*net.TCPAddr).Port)
}

func TestRunEndsConnections(t *testing.T) {
	t.Parallel()
	client := fake.NewClientset()
	port := backend(t, "127.0.0.1:0", "long")
	services, err := New(Config{Client: client, APIServer: hostPort("127.0.0.1", port), Listen: true})
	if err != nil {
		t.Fatal(err)
	}
	ip := freshAddress()
	// The Service "kubernetes" goes to the API server without selector or endpoints.
	kubernetes := v1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "kubernetes"},
		Spec: v1.ServiceSpec{ClusterIP: ip, Ports: []v1.ServicePort{{Protocol: v1.ProtocolTCP, Port: 18443, TargetPort: intstr.FromInt32(6443)}}}}
	if _, err := client.CoreV1().Services("default").Create(t.Context(), &kubernetes, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- services.Run(ctx) }()
	eventually(t, "answer", func() bool { says, _ := ask(ip+":18443", ""); return says == "long" })
	conn, err := net.Dial("tcp", ip+":18443")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len("long\n"))); err != nil {
		t.Fatal(err)
	}
	stop()
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	conn.SetReadDeadline(time.Now().Add(time.Minute))
	if _, err := conn.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("got %v, want an ended connection", err)
	}
	if _, err := net.DialTimeout("tcp", ip+":18443", time.Second); err == nil {
		t.Error("got a connection after Run has returned, want none")
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	web := ofService("web", "127.96.0.10", 80, intstr.FromInt32(8080))
	w.service(web)
	path := filepath.Join(t.TempDir(), "hosts")
	pod := &v1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "client"}, Status: v1.PodStatus{PodIP: "127.0.0.1"}}
	pod.Spec.HostAliases = []v1.HostAlias{{IP: "192.0.2.1", Hostnames: []string{"foo.local", "bar.local"}}}
	stop, err := w.Follow(t.Context(), path, pod)
	if err != nil {
		t.Fatal(err)
	}
	addressesOf := func(name string) []string {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for line := range strings.Lines(string(content)) {
			line, _, _ = strings.Cut(line, "#")
			if fields := strings.Fields(line); len(fields) > 1 && slices.Contains(fields[1:], name) {
				all = append(all, fields[0])
			}
		}
		return all
	}
	is := func(name string, want ...string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s at %v in the hosts file", name, want), func() bool { return slices.Equal(addressesOf(name), want) })
	}

	for _, name := range []string{"web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local"} {
		is(name, "127.96.0.10")
	}
	is("client", "127.0.0.1")
	is("bar.local", "192.0.2.1")
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}

	other := ofService("api", "127.96.0.11", 80, intstr.FromInt32(8080))
	other.Namespace = "office"
	w.service(other)
	is("api.office.svc", "127.96.0.11")
	is("api") // not of this namespace

	headless := ofService("db", v1.ClusterIPNone, 5432, intstr.FromInt32(5432))
	w.service(headless)
	w.pod(app("db"), true, func(p *v1.Pod) {
		p.Spec.Hostname, p.Spec.Subdomain, p.Status.PodIP = "db-0", "db", "127.0.0.21"
	})
	w.pod(app("db"), true, func(p *v1.Pod) {
		p.Spec.Hostname, p.Spec.Subdomain, p.Status.PodIP = "db-1", "db", "127.0.0.22"
	})
	w.pod(app("db"), false, func(p *v1.Pod) {
		p.Spec.Hostname, p.Spec.Subdomain, p.Status.PodIP = "db-2", "db", "127.0.0.23"
	})
	is("db", "127.0.0.21", "127.0.0.22")
	is("db-1.db.shop.svc.cluster.local", "127.0.0.22")
	is("db-2.db")

	for name, target := range map[string]string{"alias": "web.shop.svc.cluster.local.", "away": "example.com"} {
		w.service(v1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1.ServiceSpec{Type: v1.ServiceTypeExternalName, ExternalName: target}})
	}
	is("alias", "127.96.0.10")
	is("away.shop", "192.0.2.7")

	if err := w.client.CoreV1().Services("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	is("web")
	after, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if !os.SameFile(before, after) {
		t.Error("got another file in its place, want the same rewritten: it is mounted in a pod")
	}

	// After stop the file stays as it is.
	stop()
	late := ofService("late", "127.96.0.12", 80, intstr.FromInt32(8080))
	w.service(late)
	second := filepath.Join(t.TempDir(), "hosts")
	if _, err := w.Follow(t.Context(), second, pod); err != nil {
		t.Fatal(err)
	}
	eventually(t, "late Service elsewhere", func() bool {
		content, err := os.ReadFile(second)
		return err == nil && strings.Contains(string(content), "\tlate\n")
	})
	is("late")
}

func TestHostsOfHostNetwork(t *testing.T) {
	t.Parallel()
	pod := &v1.Pod{Spec: v1.PodSpec{HostNetwork: true}}
	got, err := head(pod)
	if err != nil {
		t.Fatal(err)
	}
	own, _ := os.ReadFile("/etc/hosts")
	if !strings.HasPrefix(got, "# Kubernetes-managed hosts file (host network).\n") || !strings.Contains(got, strings.TrimSpace(string(own))) {
		t.Errorf("got %q, want the kubelet's first line and the machine's own", got)
	}
}

func TestParseBound(t *testing.T) {
	t.Parallel()
	const table = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1
   1: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1
   2: 0200007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 3 1
   3: 0300007F:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4 1
   4: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A
`
	got := fmt.Sprint(parseBound(strings.NewReader(table), 8080))
	if want := "[127.0.0.1 0.0.0.0 ::]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAffinityEnds(t *testing.T) {
	t.Parallel()
	c := &clients{}
	at := time.Unix(1000, 0)
	client := netip.MustParseAddr("127.0.0.1")
	c.set(client, "b", at)
	if got := c.backend(client, at.Add(9*time.Second), 10*time.Second); got != "b" {
		t.Errorf("within the time: got %q, want b", got)
	}
	if got := c.backend(client, at.Add(10*time.Second), 10*time.Second); got != "" {
		t.Errorf("after it: got %q, want none", got)
	}
}

func TestSentence(t *testing.T) {
	t.Parallel()
	port := unusedPort(t)
	for _, c := range []struct {
		name string
		at   address
		err  error
		want string
	}{
		{"says what lets a port below 1024 be listened on", address{"tcp", "127.96.0.7:80"}, syscall.EACCES, "'sudo sysctl net.ipv4.ip_unprivileged_port_start=80', or give the Service a port from 1024"},
		{"says that the address itself is taken", address{"tcp", hostPort("127.96.0.7", port)}, syscall.EADDRINUSE, "perhaps for another sandbox"},
		{"says what it does not know", address{"tcp", "127.96.0.7:8080"}, syscall.EMFILE, "too many open files"},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			if got := sentence(c.at, &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", c.err)}); !strings.Contains(got, c.want) {
				t.Errorf("got %q, want %q in it", got, c.want)
			}
		})
	}
}
