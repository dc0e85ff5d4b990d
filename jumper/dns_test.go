package jumper

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer is a DNS server on loopback, by UDP and TCP, that says what a test
// wants.
type dnsServer struct {
	at netip.AddrPort

	mu      sync.Mutex
	answers func(question dnsmessage.Question) dnsmessage.Message // of the message, what it wants to say
	asked   []dnsmessage.Question
}

// serveDNS starts one that knows no name.
func serveDNS(t testing.TB) *dnsServer {
	t.Helper()
	d := &dnsServer{}
	d.says(dnsmessage.RCodeNameError)
	var tcp net.Listener
	var udp net.PacketConn
	for { // one port for both
		var err error
		if tcp, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		if udp, err = net.ListenPacket("udp", tcp.Addr().String()); err == nil {
			break
		}
		tcp.Close()
	}
	d.at = netip.MustParseAddrPort(tcp.Addr().String())
	var serving sync.WaitGroup
	serving.Go(func() {
		buffer := make([]byte, 4096)
		for {
			n, from, err := udp.ReadFrom(buffer)
			if err != nil {
				return
			}
			for _, packet := range d.respond(buffer[:n], true) {
				_, _ = udp.WriteTo(packet, from)
			}
		}
	})
	serving.Go(func() {
		for {
			conn, err := tcp.Accept()
			if err != nil {
				return
			}
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err == nil {
				query := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(conn, query); err == nil {
					for _, packet := range d.respond(query, false) {
						_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(packet))), packet...))
					}
				}
			}
			conn.Close()
		}
	})
	t.Cleanup(func() { tcp.Close(); udp.Close(); serving.Wait() })
	return d
}

func (d *dnsServer) respond(packet []byte, udp bool) [][]byte {
	var query dnsmessage.Message
	if err := query.Unpack(packet); err != nil || len(query.Questions) != 1 {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked = append(d.asked, query.Questions[0])
	response := d.answers(query.Questions[0])
	if response.RCode == silent.RCode {
		return nil
	}
	response.ID, response.Response, response.RecursionAvailable = query.ID, true, true
	response.Questions = query.Questions
	if udp && response.Truncated {
		response.Answers = nil
	}
	response.Truncated = udp && response.Truncated
	good, err := response.Pack()
	if err != nil {
		panic(err)
	}
	// Before it, what a liar might send: no message, another's ID, another question.
	response.ID++
	id, _ := response.Pack()
	response.ID--
	response.Questions = []dnsmessage.Question{{Name: dnsmessage.MustNewName("other.test."), Type: query.Questions[0].Type, Class: query.Questions[0].Class}}
	question, _ := response.Pack()
	return [][]byte{[]byte("no DNS"), id, question, good}
}

// silent is the answer that is not given.
var silent = dnsmessage.Message{Header: dnsmessage.Header{RCode: 0xfff}}

// says lets it answer everything with a code.
func (d *dnsServer) says(code dnsmessage.RCode) {
	d.set(func(dnsmessage.Question) dnsmessage.Message {
		return dnsmessage.Message{Header: dnsmessage.Header{RCode: code}}
	})
}

// has lets it have one name.
func (d *dnsServer) has(name string, ttl time.Duration, addresses ...string) {
	d.set(func(q dnsmessage.Question) dnsmessage.Message {
		if lower(q.Name.String()) != name+"." {
			return dnsmessage.Message{Header: dnsmessage.Header{RCode: dnsmessage.RCodeNameError}}
		}
		return dnsmessage.Message{Answers: records(q, name, ttl, addresses...)}
	})
}

func (d *dnsServer) set(answers func(dnsmessage.Question) dnsmessage.Message) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answers = answers
}

// records are those of addresses that fit a question.
func records(q dnsmessage.Question, name string, ttl time.Duration, addresses ...string) []dnsmessage.Resource {
	var all []dnsmessage.Resource
	for _, address := range ips(addresses...) {
		header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET, TTL: uint32(ttl / time.Second)}
		switch {
		case address.Is4() && q.Type == dnsmessage.TypeA:
			all = append(all, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: address.As4()}})
		case address.Is6() && q.Type == dnsmessage.TypeAAAA:
			all = append(all, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}})
		}
	}
	return all
}

func alias(name, to string, ttl time.Duration) dnsmessage.Resource {
	header := dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(name + "."), Class: dnsmessage.ClassINET, TTL: uint32(ttl / time.Second)}
	return dnsmessage.Resource{Header: header, Body: &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(to + ".")}}
}

func TestLookup(t *testing.T) {
	t.Parallel()
	const name = "eks.example.test"
	hosts := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(hosts, []byte("# names\n127.0.0.1 localhost\n10.9.0.1 other FILE.example.test # here\n10.9.0.2\tfile.example.test\nnonsense file.example.test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		host    string
		answers func(q dnsmessage.Question) dnsmessage.Message
		want    []string
		ttl     time.Duration
		err     string
	}{
		{"takes addresses of both families, for the shorter time", name, func(q dnsmessage.Question) dnsmessage.Message {
			ttl := map[dnsmessage.Type]time.Duration{dnsmessage.TypeA: time.Minute, dnsmessage.TypeAAAA: 40 * time.Second}[q.Type]
			return dnsmessage.Message{Answers: records(q, name, ttl, "10.0.0.1", "10.0.0.2", "fd00::1")}
		}, []string{"10.0.0.1", "10.0.0.2", "fd00::1"}, 40 * time.Second, ""},
		{"follows aliases, for the time of the shortest of all", name, func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{Answers: append([]dnsmessage.Resource{alias("b.test", "C.test", 7*time.Second), alias(name, "b.test", time.Hour)}, records(q, "c.test", time.Minute, "10.0.0.1")...)}
		}, []string{"10.0.0.1"}, 7 * time.Second, ""},
		{"knows a name in capitals", "EKS.example.test", func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{Answers: records(q, name, time.Minute, "10.0.0.1")}
		}, []string{"10.0.0.1"}, time.Minute, ""},
		{"takes no address of another name", name, func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{Answers: records(q, "other.test", time.Minute, "10.0.0.1")}
		}, nil, 0, "no such name"},
		{"gives up where aliases go round", name, func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{Answers: []dnsmessage.Resource{alias(name, name, time.Hour)}}
		}, nil, 0, "more than 8 aliases"},
		{"asks again by TCP for what is too long", name, func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{Header: dnsmessage.Header{Truncated: true}, Answers: records(q, name, time.Minute, "10.0.0.1")}
		}, []string{"10.0.0.1"}, time.Minute, ""},
		{"takes one family where the server is silent on the other", name, func(q dnsmessage.Question) dnsmessage.Message {
			if q.Type == dnsmessage.TypeAAAA {
				return silent
			}
			return dnsmessage.Message{Answers: records(q, name, time.Minute, "10.0.0.1")}
		}, []string{"10.0.0.1"}, time.Minute, ""},
		{"takes more addresses than fit in a packet", name, func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{Header: dnsmessage.Header{Truncated: true}, Answers: records(q, name, time.Minute, hundreds()...)}
		}, hundreds(), time.Minute, ""},
		{"says that the name has no address", name, func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{}
		}, nil, 0, "no such name"},
		{"takes one family where the server has no word on the other", name, func(q dnsmessage.Question) dnsmessage.Message {
			if q.Type == dnsmessage.TypeAAAA {
				return dnsmessage.Message{Header: dnsmessage.Header{RCode: dnsmessage.RCodeServerFailure}}
			}
			return dnsmessage.Message{Answers: records(q, name, time.Minute, "10.0.0.1")}
		}, []string{"10.0.0.1"}, time.Minute, ""},
		{"says that the server has failed", name, func(q dnsmessage.Question) dnsmessage.Message {
			return dnsmessage.Message{Header: dnsmessage.Header{RCode: dnsmessage.RCodeServerFailure}}
		}, nil, 0, "ServerFailure"},
		{"takes an address for what it is", "10.0.0.7", nil, []string{"10.0.0.7"}, -1, ""},
		{"takes the hosts file's word first", "file.Example.test.", nil, []string{"10.9.0.1", "10.9.0.2"}, -1, ""},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			d := serveDNS(t)
			if c.answers != nil {
				d.set(c.answers)
			}
			r := &resolver{host: c.host, servers: []netip.AddrPort{d.at}, hosts: hosts}
			got, err := r.lookup(t.Context())
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, %v, want an error with %q", got, err, c.err)
				}
				return
			}
			slices.SortFunc(got.addresses, netip.Addr.Compare)
			if err != nil || !slices.Equal(got.addresses, ips(c.want...)) || got.ttl != c.ttl {
				t.Errorf("got %v, %v, want %v for %v", got, err, c.want, c.ttl)
			}
		})
	}

	t.Run("it asks the next server when one fails or is not there, and none after one that says there is no such name", func(t *testing.T) {
		t.Parallel()
		gone, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		absent := netip.MustParseAddrPort(gone.LocalAddr().String())
		gone.Close()
		bad, good, last := serveDNS(t), serveDNS(t), serveDNS(t)
		bad.says(dnsmessage.RCodeRefused)
		good.has(name, time.Minute, "10.0.0.1")
		r := &resolver{host: name, servers: []netip.AddrPort{absent, bad.at, good.at, last.at}}
		if got, err := r.lookup(t.Context()); err != nil || !slices.Equal(got.addresses, ips("10.0.0.1")) {
			t.Errorf("got %v, %v, want what the third says", got, err)
		}
		r.host = "none.example.test"
		if got, err := r.lookup(t.Context()); err == nil || !strings.Contains(err.Error(), "no such name") {
			t.Errorf("got %v, %v, want no such name", got, err)
		}
		if len(last.asked) != 0 {
			t.Errorf("got %v of the last server, want nothing asked", last.asked)
		}
	})
}

func TestLookupMissing(t *testing.T) {
	t.Parallel()
	const name = "eks.example.test"
	for _, c := range []struct {
		says string // of the other kind
		of   dnsmessage.Type
		then dnsmessage.Message
		want []string // that are missing
	}{
		{"nothing of IPv6", dnsmessage.TypeAAAA, dnsmessage.Message{Header: dnsmessage.Header{RCode: dnsmessage.RCodeServerFailure}}, []string{"fd00::1"}},
		{"nothing of IPv4", dnsmessage.TypeA, dnsmessage.Message{Header: dnsmessage.Header{RCode: dnsmessage.RCodeServerFailure}}, []string{"10.0.0.1"}},
		{"that there is none of IPv6", dnsmessage.TypeAAAA, dnsmessage.Message{}, nil},
	} {
		t.Run("it knows what is missing where the server says "+c.says, func(t *testing.T) {
			t.Parallel()
			d := serveDNS(t)
			d.set(func(q dnsmessage.Question) dnsmessage.Message {
				if q.Type == c.of {
					return c.then
				}
				return dnsmessage.Message{Answers: records(q, name, time.Minute, "10.0.0.1", "fd00::1")}
			})
			r := &resolver{host: name, servers: []netip.AddrPort{d.at}}
			got, err := r.lookup(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			var missing []netip.Addr
			for _, address := range ips("10.0.0.1", "fd00::1") {
				if got.missing != nil && got.missing(address) {
					missing = append(missing, address)
				}
			}
			if !slices.Equal(missing, ips(c.want...)) {
				t.Errorf("got %v missing, want %v", missing, c.want)
			}
		})
	}
}

// hundreds are more addresses than a DNS packet has room for.
func hundreds() []string {
	var all []string
	for i := range 500 {
		all = append(all, fmt.Sprintf("10.0.%d.%d", i/100, i%100))
	}
	return all
}

func TestNameservers(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "resolv.conf")
	if err := os.WriteFile(file, []byte("; by hand\nsearch example.test\nnameserver 10.0.0.2 # first\nnameserver nonsense\nnameserver fd00::2\nnameserver 10.0.0.3\nnameserver 10.0.0.4\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, file, want string }{
		{"takes the first three", file, "10.0.0.2:53 [fd00::2]:53 10.0.0.3:53"},
		{"takes this machine's without a file", file + ".none", "127.0.0.1:53 [::1]:53"},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, server := range nameservers(c.file) {
				got = append(got, server.String())
			}
			if strings.Join(got, " ") != c.want {
				t.Errorf("got %v, want %s", got, c.want)
			}
		})
	}
}
