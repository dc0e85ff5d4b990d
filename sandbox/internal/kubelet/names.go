package kubelet

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/netutil"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// names answers for the names of Services, as Kubernetes' DNS specification says:
// addresses of Services, of headless ones their pods', CNAME of external ones,
// SRV of named ports. Every other name does not exist, since pods reach nothing
// beyond this machine. It is small, so that the executable need not hold CoreDNS.
type names struct {
	services  corelisters.ServiceLister
	endpoints discoverylisters.EndpointSliceLister
	log       *slog.Logger

	udp  net.PacketConn
	tcp  net.Listener
	busy sync.WaitGroup
}

const zone = "cluster.local."

// ttl is short: a Service deleted and made again has another address.
const ttl = 5

func serveNames(ctx context.Context, o Options, log *slog.Logger) (*names, error) {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(o.Dir, "etc/kube-proxy.kubeconfig"))
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig for names: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for names: %w", err)
	}
	watches := informers.NewSharedInformerFactory(client, 0)
	n := &names{services: watches.Core().V1().Services().Lister(), endpoints: watches.Discovery().V1().EndpointSlices().Lister(), log: log}
	watches.Start(ctx.Done())
	address := netip.AddrPortFrom(o.Network.Node(), 53).String()
	if n.udp, err = net.ListenPacket("udp", address); err != nil {
		return nil, fmt.Errorf("listening for questions: %w", err)
	}
	tcp, err := net.Listen("tcp", address)
	if err != nil {
		n.udp.Close()
		return nil, fmt.Errorf("listening for questions: %w", err)
	}
	n.tcp = netutil.LimitListener(tcp, 64)
	n.busy.Go(n.serveUDP)
	n.busy.Go(n.serveTCP)
	return n, nil
}

func (n *names) stop() {
	n.udp.Close()
	n.tcp.Close()
	n.busy.Wait()
}

func (n *names) serveUDP() {
	buffer := make([]byte, 4096)
	for {
		size, from, err := n.udp.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // somebody's ICMP error
		}
		if reply := n.reply(buffer[:size], 512); reply != nil {
			n.udp.WriteTo(reply, from)
		}
	}
}

func (n *names) serveTCP() {
	for {
		conn, err := n.tcp.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			n.log.Warn("a question was not accepted", "error", err)
			continue
		}
		n.busy.Go(func() {
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(5 * time.Second))
			var size [2]byte
			if _, err := io.ReadFull(conn, size[:]); err != nil {
				return
			}
			question := make([]byte, binary.BigEndian.Uint16(size[:]))
			if _, err := io.ReadFull(conn, question); err != nil {
				return
			}
			if reply := n.reply(question, 0xffff); reply != nil {
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(reply))), reply...))
			}
		})
	}
}

// reply answers one message; nil is no answer. An answer above limit is marked
// as truncated, and the client asks again over TCP.
func (n *names) reply(message []byte, limit int) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(message)
	if err != nil || header.Response {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	answer := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true},
		Questions: []dnsmessage.Question{question},
	}
	records, found := n.lookup(strings.ToLower(question.Name.String()))
	if !found {
		answer.RCode = dnsmessage.RCodeNameError
	}
	for _, r := range records {
		if r.Header.Type == question.Type || r.Header.Type == dnsmessage.TypeCNAME {
			r.Header.Name, r.Header.Class, r.Header.TTL = question.Name, dnsmessage.ClassINET, ttl
			answer.Answers = append(answer.Answers, r)
		}
	}
	packed, err := answer.Pack()
	if err == nil && len(packed) > limit {
		answer.Truncated, answer.Answers = true, nil
		packed, err = answer.Pack()
	}
	if err != nil {
		n.log.Warn("a name was not answered", "name", question.Name, "error", err)
		return nil
	}
	return packed
}

// lookup is every record of a name, and whether there is such a name.
func (n *names) lookup(name string) ([]dnsmessage.Resource, bool) {
	path, ok := strings.CutSuffix(name, "."+zone)
	if !ok {
		return nil, false
	}
	labels := strings.Split(path, ".")
	if len(labels) < 3 {
		return nil, false
	}
	kind, namespace, service := labels[len(labels)-1], labels[len(labels)-2], labels[len(labels)-3]
	rest := labels[:len(labels)-3]
	switch {
	case kind == "pod" && len(rest) == 0:
		address, err := netip.ParseAddr(strings.ReplaceAll(service, "-", "."))
		if err != nil || !address.Is4() {
			return nil, false
		}
		return []dnsmessage.Resource{a(address)}, true
	case kind != "svc":
		return nil, false
	}
	s, err := n.services.Services(namespace).Get(service)
	if err != nil {
		return nil, false
	}
	switch {
	case s.Spec.Type == corev1.ServiceTypeExternalName:
		target, err := dnsmessage.NewName(strings.TrimSuffix(s.Spec.ExternalName, ".") + ".")
		if err != nil || len(rest) > 0 {
			return nil, false
		}
		return []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Type: dnsmessage.TypeCNAME}, Body: &dnsmessage.CNAMEResource{CNAME: target}}}, true
	case len(rest) == 0:
		return n.addresses(s, ""), true
	case len(rest) == 1: // a pod of a headless Service
		records := n.addresses(s, rest[0])
		return records, len(records) > 0
	case len(rest) == 2 && strings.HasPrefix(rest[0], "_") && strings.HasPrefix(rest[1], "_"):
		return srv(s, rest[0][1:], rest[1][1:])
	}
	return nil, false
}

// addresses are those of a Service, or of its pods with that hostname.
func (n *names) addresses(s *corev1.Service, hostname string) []dnsmessage.Resource {
	if s.Spec.ClusterIP != corev1.ClusterIPNone {
		address, err := netip.ParseAddr(s.Spec.ClusterIP)
		if err != nil || hostname != "" {
			return nil
		}
		return []dnsmessage.Resource{a(address)}
	}
	slices, err := n.endpoints.EndpointSlices(s.Namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: s.Name}))
	if err != nil {
		return nil
	}
	var records []dnsmessage.Resource
	for _, slice := range slices {
		for _, endpoint := range slice.Endpoints {
			ready := endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready
			if !ready || hostname != "" && (endpoint.Hostname == nil || *endpoint.Hostname != hostname) {
				continue
			}
			for _, text := range endpoint.Addresses {
				if address, err := netip.ParseAddr(text); err == nil && address.Is4() {
					records = append(records, a(address))
				}
			}
		}
	}
	return records
}

func srv(s *corev1.Service, port, protocol string) ([]dnsmessage.Resource, bool) {
	target, err := dnsmessage.NewName(s.Name + "." + s.Namespace + ".svc." + zone)
	if err != nil {
		return nil, false
	}
	for _, p := range s.Spec.Ports {
		if p.Name == port && strings.EqualFold(string(p.Protocol), protocol) {
			return []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Type: dnsmessage.TypeSRV},
				Body: &dnsmessage.SRVResource{Weight: 100, Port: uint16(p.Port), Target: target}}}, true
		}
	}
	return nil, false
}

func a(address netip.Addr) dnsmessage.Resource {
	return dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Type: dnsmessage.TypeA}, Body: &dnsmessage.AResource{A: address.As4()}}
}
