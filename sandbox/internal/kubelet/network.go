package kubelet

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"

	"biplane.dev/biplane/internal/usererr"
)

// networks is how many nodes a machine can have.
const networks = 64

// Network is the number of a node's network. Each has addresses of its own, so
// that several sandboxes live side by side.
type Network int

// networkFile keeps the number in a node's folder. It is there before the node is
// first started, and tells it from nodes of other kinds.
const networkFile = "network"

// ChooseNetwork is the network of the node whose folder is dir: the one that it
// had before, or the first, that nothing else on this machine uses. The node must
// not run.
func ChooseNetwork(dir string) (Network, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return 0, fmt.Errorf("listing this machine's addresses: %w", err)
	}
	free := func(n Network) bool {
		return !slices.ContainsFunc(addresses, func(a net.Addr) bool {
			prefix, err := netip.ParsePrefix(a.String())
			return err == nil && (prefix.Overlaps(n.prefix()) || prefix.Overlaps(n.Pods()))
		})
	}
	file := filepath.Join(dir, networkFile)
	if kept, err := os.ReadFile(file); err == nil {
		var n Network
		if n.Set(strings.TrimSpace(string(kept))) == nil && free(n) {
			return n, nil
		}
	}
	for n := range Network(networks) {
		if !free(n) {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return 0, fmt.Errorf("making the node's folder: %w", err)
		}
		if err := os.WriteFile(file, []byte(n.String()+"\n"), 0o600); err != nil {
			return 0, fmt.Errorf("keeping the node's network: %w", err)
		}
		return n, nil
	}
	return 0, usererr.New(usererr.Refused, "this machine uses all of the addresses 10.250.0.0 to 10.250.%d.3, which nodes of kind kubelet take", networks-1).
		WithHint("stop another sandbox, or take --node process")
}

// Host is this machine as pods see it: what the API server advertises, and what
// stands for 127.0.0.1 in addresses handed to pods.
func (n Network) Host() netip.Addr { return netip.AddrFrom4([4]byte{10, 250, byte(n), 1}) }

// Node is the node's address, which the kubelet's serving certificate names.
func (n Network) Node() netip.Addr { return netip.AddrFrom4([4]byte{10, 250, byte(n), 2}) }

// Pods is where pods get their addresses from.
func (n Network) Pods() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 244, byte(n), 0}), 24)
}

// Services is where Services get theirs from; it is the same in every sandbox,
// because it exists only inside the node.
func (n Network) Services() netip.Prefix { return netip.MustParsePrefix("10.96.0.0/16") }

func (n Network) prefix() netip.Prefix { return netip.PrefixFrom(n.Host(), 30).Masked() }

// String, Set and Type make a Network a flag's value.
func (n Network) String() string { return strconv.Itoa(int(n)) }

// Type is the word for it in a usage.
func (n *Network) Type() string { return "number" }

// Set reads what String wrote.
func (n *Network) Set(s string) error {
	i, err := strconv.Atoi(s)
	if err != nil || i < 0 || i >= networks {
		return fmt.Errorf("network %q is not a number from 0 to %d", s, networks-1)
	}
	*n = Network(i)
	return nil
}

// device is the name of the link at this machine's end; inside it is eth0.
func (n Network) device() string { return fmt.Sprintf("biplane%d", int(n)) }

const inside = "eth0"

// link joins the network namespace of a process to this machine. The pair goes
// when the namespace goes.
func (n Network) link(pid int) error {
	pair := &netlink.Veth{LinkAttrs: netlink.NewLinkAttrs(), PeerName: inside, PeerNamespace: netlink.NsPid(pid)}
	pair.Name = n.device()
	if err := netlink.LinkAdd(pair); err != nil {
		if errors.Is(err, syscall.EEXIST) {
			return usererr.New(usererr.Refused, "the network link %s is there already, so another sandbox's node uses network %d", n.device(), n).
				WithHint("stop that sandbox first").Because(err)
		}
		return fmt.Errorf("making the link %s: %w", n.device(), err)
	}
	if err := configure(n.device(), netip.PrefixFrom(n.Host(), 30)); err != nil {
		return err
	}
	// The API server calls webhooks and proxies to Services and pods by their
	// addresses. A second sandbox does without for Services, whose addresses are
	// the first one's.
	for _, to := range []netip.Prefix{n.Pods(), n.Services()} {
		if err := route(n.device(), to, n.Node()); err != nil && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	return nil
}

// configureInside is link's other end, called in the node's network namespace.
func (n Network) configureInside() error {
	if err := configure("lo", netip.Prefix{}); err != nil {
		return err
	}
	if err := configure(inside, netip.PrefixFrom(n.Node(), 30)); err != nil {
		return err
	}
	if err := route(inside, netip.MustParsePrefix("0.0.0.0/0"), n.Host()); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0); err != nil {
		return fmt.Errorf("forwarding packets: %w", err)
	}
	// An address of a Service that kube-proxy has not programmed, and everything
	// outside this machine, is refused at once; else a gateway might answer for it.
	for _, rule := range [][]string{
		{"-A", "FORWARD", "-d", n.Services().String(), "-j", "REJECT"},
		{"-A", "OUTPUT", "-d", n.Services().String(), "-j", "REJECT"},
		{"-A", "FORWARD", "-s", n.Pods().String(), "-o", inside, "!", "-d", n.prefix().String(), "-j", "REJECT"},
	} {
		if out, err := exec.Command("iptables", append([]string{"-w"}, rule...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("iptables %s: %w: %s", strings.Join(rule, " "), err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}

// configure brings a link up, with an address unless it is the zero one.
func configure(name string, address netip.Prefix) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding the link %s: %w", name, err)
	}
	if address.IsValid() {
		a := &netlink.Addr{IPNet: ipNet(address)}
		if err := netlink.AddrAdd(link, a); err != nil {
			return fmt.Errorf("giving %s the address %s: %w", name, address, err)
		}
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bringing %s up: %w", name, err)
	}
	return nil
}

func route(name string, to netip.Prefix, via netip.Addr) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("finding the link %s: %w", name, err)
	}
	r := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(to), Gw: via.AsSlice()}
	if err := netlink.RouteAdd(r); err != nil {
		return fmt.Errorf("routing %s over %s: %w", to, name, err)
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// forwards are the listeners on Host, at which pods find what listens on this
// machine's loopback. So nothing else has to listen beyond loopback.
type forwards struct {
	listeners []net.Listener
	busy      sync.WaitGroup

	mu    sync.Mutex
	open  map[net.Conn]bool
	ended bool
}

func (n Network) forward(ports []int, log *slog.Logger) (*forwards, error) {
	f := &forwards{open: map[net.Conn]bool{}}
	for _, port := range ports {
		address := netip.AddrPortFrom(n.Host(), uint16(port)).String()
		listener, err := net.Listen("tcp", address)
		if err != nil {
			f.stop()
			return nil, fmt.Errorf("listening for pods: %w", err)
		}
		f.listeners = append(f.listeners, listener)
		f.busy.Go(func() { f.serve(listener, fmt.Sprintf("127.0.0.1:%d", port), log) })
	}
	return f, nil
}

func (f *forwards) serve(listener net.Listener, to string, log *slog.Logger) {
	slots := make(chan struct{}, 1000) // files are scarce: 20,000 on small machines
	for {
		in, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // out of file descriptors, most likely
			log.Warn("a pod's connection was not accepted", "to", to, "error", err)
			continue
		}
		slots <- struct{}{}
		f.busy.Go(func() {
			defer func() { <-slots }()
			defer f.close(in)
			out, err := net.Dial("tcp", to)
			if err != nil {
				log.Warn("a pod's connection was not forwarded", "to", to, "error", err)
				return
			}
			defer f.close(out)
			if !f.keep(in) || !f.keep(out) {
				return
			}
			copied := make(chan struct{})
			go func() { pipe(out, in); close(copied) }()
			pipe(in, out)
			<-copied
		})
	}
}

// pipe copies until from ends, and passes the end on.
func pipe(to, from net.Conn) {
	_, err := io.Copy(to, from)
	if err != nil { // nothing more will come: free the other direction too
		from.Close()
		to.Close()
		return
	}
	to.(*net.TCPConn).CloseWrite()
}

func (f *forwards) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.open[c] = true
	}
	return !f.ended
}

func (f *forwards) close(c net.Conn) {
	f.mu.Lock()
	delete(f.open, c)
	f.mu.Unlock()
	c.Close()
}

func (f *forwards) stop() {
	for _, l := range f.listeners {
		l.Close()
	}
	f.mu.Lock()
	f.ended = true
	for c := range f.open {
		c.Close()
	}
	f.mu.Unlock()
	f.busy.Wait()
}
