package jumper

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	dnsTimeout  = 2 * time.Second // of one question to one server
	dnsAttempts = 2               // through all servers
	dnsOther    = time.Second     // for addresses of the other kind, once there are some of one
	dnsServers  = 3               // more are not asked, as in resolv.conf(5)
	dnsPayload  = 1232            // of a UDP answer: what passes everywhere in one piece
	dnsAliases  = 8               // CNAMEs in a row
	fileLimit   = 1 << 20         // of /etc/hosts and /etc/resolv.conf
)

// errNoSuchName is a server's word that a name does not exist or has no address of
// the kind.
var errNoSuchName = errors.New("no such name")

// resolver finds addresses with the time for which they hold, which Go's own
// resolver does not tell. Names are absolute: the search list of resolv.conf is not
// for the name of an EKS endpoint.
type resolver struct {
	host              string
	servers           []netip.AddrPort // instead of those of resolvConf
	resolvConf, hosts string           // files
}

// lookup asks, in this order: the name itself, if it is an address; the hosts file;
// the DNS.
func (r *resolver) lookup(ctx context.Context) (answer, error) {
	if ip, err := netip.ParseAddr(r.host); err == nil {
		return answer{addresses: []netip.Addr{ip.Unmap()}, ttl: -1}, nil
	}
	if found := inHosts(r.hosts, r.host); len(found) > 0 {
		return answer{addresses: found, ttl: -1}, nil // the file may change, so it is read again after --refresh
	}
	name, err := dnsmessage.NewName(strings.TrimSuffix(r.host, ".") + ".")
	if err != nil {
		return answer{}, fmt.Errorf("looking up %q: %w", r.host, err)
	}
	servers := r.servers
	if len(servers) == 0 {
		servers = nameservers(r.resolvConf)
	}
	kinds := []dnsmessage.Type{dnsmessage.TypeA, dnsmessage.TypeAAAA}
	type result struct {
		kind dnsmessage.Type
		answer
		err error
	}
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result, len(kinds))
	var asking sync.WaitGroup
	for _, kind := range kinds {
		asking.Go(func() {
			found, err := resolve(ctx, servers, dnsmessage.Question{Name: name, Type: kind, Class: dnsmessage.ClassINET})
			results <- result{kind, found, err}
		})
	}
	go func() { asking.Wait(); close(results) }()
	both, late := answer{ttl: -1}, (*time.Timer)(nil)
	var errs []error
	for one := range results {
		switch {
		case one.err == nil:
			if both.ttl < 0 || one.ttl < both.ttl {
				both.ttl = one.ttl
			}
			both.addresses = append(both.addresses, one.addresses...)
			if late == nil { // the other kind has not for ever: many servers leave out one
				late = time.AfterFunc(dnsOther, cancel)
			}
		case !errors.Is(one.err, errNoSuchName) && one.kind == dnsmessage.TypeA:
			both.missing = netip.Addr.Is4
		case !errors.Is(one.err, errNoSuchName):
			both.missing = netip.Addr.Is6
		}
		errs = append(errs, one.err)
	}
	cancel()
	if late != nil {
		late.Stop()
	}
	if len(both.addresses) > 0 {
		return both, nil
	}
	return answer{}, fmt.Errorf("looking up %q: %w", r.host, joined(errs...))
}

// resolve asks one question of the servers, until one knows.
func resolve(ctx context.Context, servers []netip.AddrPort, question dnsmessage.Question) (answer, error) {
	var last error
	for range dnsAttempts {
		for _, server := range servers {
			response, err := exchange(ctx, server, question)
			if err == nil {
				switch response.RCode {
				case dnsmessage.RCodeSuccess:
					return addressesIn(response, question)
				case dnsmessage.RCodeNameError:
					return answer{}, errNoSuchName
				}
				err = fmt.Errorf("it says %v", response.RCode)
			}
			last = fmt.Errorf("asking %v for %v: %w", server, question.Type, err)
			if ctx.Err() != nil {
				return answer{}, last
			}
		}
	}
	return answer{}, last
}

// addressesIn takes the addresses out of a response, behind its aliases.
func addressesIn(response *dnsmessage.Message, question dnsmessage.Question) (answer, error) {
	name, ttl := lower(question.Name.String()), uint32(1<<31)
	for range dnsAliases {
		found := answer{}
		alias := ""
		for _, r := range response.Answers {
			if lower(r.Header.Name.String()) != name {
				continue
			}
			switch body := r.Body.(type) {
			case *dnsmessage.AResource:
				found.addresses = append(found.addresses, netip.AddrFrom4(body.A))
			case *dnsmessage.AAAAResource:
				found.addresses = append(found.addresses, netip.AddrFrom16(body.AAAA).Unmap())
			case *dnsmessage.CNAMEResource:
				alias = lower(body.CNAME.String())
			default:
				continue
			}
			ttl = min(ttl, r.Header.TTL)
		}
		if len(found.addresses) > 0 {
			found.ttl = time.Duration(ttl) * time.Second
			return found, nil
		}
		if alias == "" {
			return answer{}, errNoSuchName
		}
		name = alias
	}
	return answer{}, fmt.Errorf("more than %d aliases in a row", dnsAliases)
}

// exchange asks one server, by UDP and, where the answer is too long for that, by
// TCP. An answer to something else is not listened to.
func exchange(ctx context.Context, server netip.AddrPort, question dnsmessage.Question) (*dnsmessage.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, dnsTimeout)
	defer cancel()
	id := uint16(rand.Uint32())
	query, err := newQuery(id, question)
	if err != nil {
		return nil, err
	}
	response, err := exchangeOver(ctx, "udp", server, id, question, query)
	if err == nil && response.Truncated {
		response, err = exchangeOver(ctx, "tcp", server, id, question, query)
	}
	return response, err
}

func exchangeOver(ctx context.Context, network string, server netip.AddrPort, id uint16, question dnsmessage.Question, query []byte) (*dnsmessage.Message, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, server.String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if network == "tcp" {
		query = append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)
	}
	if _, err := conn.Write(query); err != nil {
		return nil, err
	}
	buffer := make([]byte, 1<<16)
	for {
		n := 0
		if network == "tcp" {
			var length [2]byte
			if _, err := io.ReadFull(conn, length[:]); err != nil {
				return nil, err
			}
			n, err = io.ReadFull(conn, buffer[:binary.BigEndian.Uint16(length[:])])
		} else {
			n, err = conn.Read(buffer)
		}
		if ctx.Err() != nil {
			return nil, errors.New("no answer")
		}
		if err != nil {
			return nil, err
		}
		var response dnsmessage.Message
		if err := response.Unpack(buffer[:n]); err == nil && response.ID == id && response.Response && len(response.Questions) == 1 && sameQuestion(response.Questions[0], question) {
			return &response, nil
		}
	}
}

func sameQuestion(a, b dnsmessage.Question) bool {
	return lower(a.Name.String()) == lower(b.Name.String()) && a.Type == b.Type && a.Class == b.Class
}

func newQuery(id uint16, question dnsmessage.Question) ([]byte, error) {
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: id, RecursionDesired: true})
	var edns dnsmessage.ResourceHeader
	if err := errors.Join(b.StartQuestions(), b.Question(question), b.StartAdditionals(), edns.SetEDNS0(dnsPayload, dnsmessage.RCodeSuccess, false),
		b.OPTResource(edns, dnsmessage.OPTResource{})); err != nil {
		return nil, err
	}
	return b.Finish()
}

// nameservers reads resolv.conf(5); without a word there, one is on this machine.
func nameservers(file string) []netip.AddrPort {
	var servers []netip.AddrPort
	for fields := range fieldsOf(file) {
		if len(fields) < 2 || fields[0] != "nameserver" || len(servers) == dnsServers {
			continue
		}
		if ip, err := netip.ParseAddr(fields[1]); err == nil {
			servers = append(servers, netip.AddrPortFrom(ip, 53))
		}
	}
	if len(servers) == 0 {
		servers = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("[::1]:53")}
	}
	return servers
}

// inHosts reads hosts(5).
func inHosts(file, host string) []netip.Addr {
	var found []netip.Addr
	host = lower(strings.TrimSuffix(host, "."))
	for fields := range fieldsOf(file) {
		for i, name := range fields {
			if i == 0 || lower(name) != host {
				continue
			}
			if ip, err := netip.ParseAddr(fields[0]); err == nil {
				found = append(found, ip.Unmap())
			}
			break
		}
	}
	return found
}

// fieldsOf gives the words of each line of a file, without comments. A file that
// cannot be read has none.
func fieldsOf(file string) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		f, err := os.Open(file)
		if err != nil {
			return
		}
		defer f.Close()
		for scanner := bufio.NewScanner(io.LimitReader(f, fileLimit)); scanner.Scan(); {
			text, _, _ := strings.Cut(scanner.Text(), "#")
			text, _, _ = strings.Cut(text, ";")
			if !yield(strings.Fields(text)) {
				return
			}
		}
	}
}
