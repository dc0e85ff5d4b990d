package services

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	v1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/record"
)

// address is what is listened on.
type address struct {
	protocol string // "tcp" or "udp"
	at       string // host:port
}

// listeners are the addresses that are answered now.
type listeners struct {
	log    *slog.Logger
	open   map[address]*listener
	failed map[address]failure // those that cannot be
}

// failure is an address that could not be listened on.
type failure struct {
	said string
	at   time.Time
}

// listener answers on one address of one Service.
type listener struct {
	io.Closer                    // stops answering
	to        atomic.Pointer[to] // where to forward now
	ending    chan struct{}      // closed when its connections are to end
	done      sync.WaitGroup     // its goroutines
}

// to is where a port is forwarded to. It is not changed, but replaced.
type to struct {
	backends []string
	affinity time.Duration
	turn     *atomic.Uint32 // counts connections, so that backends take turns
	clients  *clients       // those with affinity
}

// update opens and closes so that exactly what the view has is answered, and
// returns when to look again although nothing changed.
//
// A port is listened on only while there is a backend: connections are refused
// otherwise, as in any cluster. And not at all where a pod listens on all
// addresses at the Service's own port: it answers on the Service's address
// already, and the two would be in each other's way. A pod is ready before it
// listens when nobody probes it, so whether it does is looked at.
func (l *listeners) update(v view, events record.EventRecorder) (again time.Duration) {
	again = retry
	wanted := map[address]bool{}
	failed := map[address]failure{}
	for _, s := range v.services {
		for _, p := range s.ports {
			if len(p.backends) == 0 {
				continue
			}
			var at []address
			if isLoopback(s.ip) {
				at = append(at, address{p.protocol, hostPort(s.ip, p.number)})
			}
			if p.node != 0 {
				at = append(at, address{p.protocol, hostPort("127.0.0.1", p.node)})
			}
			for _, a := range at {
				switch occupied(a, p.backends) {
				case answered:
					continue
				case unknown:
					again = min(again, glance)
					continue
				}
				wanted[a] = true
				if open := l.open[a]; open != nil {
					open.forward(p.backends, s.affinity)
					continue
				}
				// To find out why costs a look at every connection of the machine, and
				// each change of a pod comes by here.
				before, known := l.failed[a]
				if known && time.Since(before.at) < glance {
					failed[a] = before
					again = min(again, glance)
					continue
				}
				opened, err := listen(a, p.backends, s.affinity, l.log)
				if err == nil {
					l.open[a] = opened
					l.log.Info("answering for a Service", "service", s.object.Namespace+"/"+s.object.Name, "protocol", a.protocol, "address", a.at)
					continue
				}
				failed[a] = failure{sentence(a, err), time.Now()}
				if before.said == failed[a].said {
					continue // it was said
				}
				l.log.Warn("cannot answer for a Service", "service", s.object.Namespace+"/"+s.object.Name, "error", err)
				if !s.apiServer { // which pods are told the real address of
					events.Event(s.object, v1.EventTypeWarning, "FailedToListen", failed[a].said)
				}
			}
		}
	}
	l.failed = failed
	for a, open := range l.open {
		if !wanted[a] {
			open.stop()
			delete(l.open, a)
		}
	}
	return again
}

func (l *listeners) close() {
	for a, open := range l.open {
		open.stop()
		delete(l.open, a)
	}
}

func listen(a address, backends []string, affinity time.Duration, log *slog.Logger) (*listener, error) {
	l := &listener{ending: make(chan struct{})}
	l.forward(backends, affinity)
	if a.protocol == "udp" {
		return l, l.listenUDP(a.at, log)
	}
	return l, l.listenTCP(a.at, log)
}

// forward says where to, from the next connection on.
func (l *listener) forward(backends []string, affinity time.Duration) {
	was := l.to.Load()
	if was != nil && was.affinity == affinity && slices.Equal(was.backends, backends) {
		return
	}
	now := &to{backends: backends, affinity: affinity, turn: new(atomic.Uint32), clients: &clients{}}
	if was != nil {
		now.turn, now.clients = was.turn, was.clients
	}
	l.to.Store(now)
}

// stop ends the listener and its connections, and waits for them.
func (l *listener) stop() {
	close(l.ending)
	l.Close()
	l.done.Wait()
}

// order is the backends for a client, the one to try first in front. Which is a
// client is known by its address, as everywhere.
func (t *to) order(client netip.Addr, now time.Time) []string {
	first := int(t.turn.Add(1)-1) % len(t.backends)
	if t.affinity > 0 {
		if i := slices.Index(t.backends, t.clients.backend(client, now, t.affinity)); i >= 0 {
			first = i
		}
	}
	return slices.Concat(t.backends[first:], t.backends[:first])
}

// took notes which backend a client got.
func (t *to) took(client netip.Addr, backend string, now time.Time) {
	if t.affinity > 0 {
		t.clients.set(client, backend, now)
	}
}

// clients remembers which backend each client had, for Services with affinity.
// Every client is on this machine, so there are few.
type clients struct {
	mu   sync.Mutex
	last map[netip.Addr]visit
}

type visit struct {
	backend string
	at      time.Time
}

func (c *clients) backend(client netip.Addr, now time.Time, within time.Duration) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v, known := c.last[client]; known && now.Sub(v.at) < within {
		return v.backend
	}
	return ""
}

func (c *clients) set(client netip.Addr, backend string, now time.Time) {
	const most = 4096
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last == nil || len(c.last) >= most {
		c.last = map[netip.Addr]visit{}
	}
	c.last[client] = visit{backend, now}
}

// sentence says to a person why an address is not answered, and what to do.
func sentence(a address, err error) string {
	_, port, _ := strings.Cut(a.at, ":")
	switch {
	case errors.Is(err, syscall.EACCES):
		return fmt.Sprintf("cannot listen on %s: ports below 1024 are for root on this machine; "+
			"run 'sudo sysctl net.ipv4.ip_unprivileged_port_start=%s', or give the Service a port from 1024", a.at, port)
	case errors.Is(err, syscall.EADDRINUSE) && !anywhere(a):
		return fmt.Sprintf("cannot listen on %s: another program does, perhaps for another sandbox; make the Service again, and it gets another address", a.at)
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Sprintf("cannot listen on %s: a program listens on port %s of all addresses of this machine, which pods share; "+
			"give the Service another port, or let the program listen on 127.0.0.1 alone", a.at, port)
	}
	return fmt.Sprintf("cannot listen on %s: %v", a.at, err)
}

// anywhere says whether somebody listens on all addresses at the port of a.
func anywhere(a address) bool {
	own, err := netip.ParseAddrPort(a.at)
	if err != nil {
		return false
	}
	bound, err := boundTo(a.protocol, own.Port())
	return err != nil || slices.ContainsFunc(bound, netip.Addr.IsUnspecified)
}

// occupation says who has the port of an address that is to be answered.
type occupation int

const (
	free     occupation = iota // nobody: it is to be listened on
	answered                   // a pod of the Service, on all addresses
	unknown                    // a pod of the Service may be about to
)

// occupied looks whether a backend listens at the very port of the address.
func occupied(a address, backends []string) occupation {
	own, err := netip.ParseAddrPort(a.at)
	if err != nil {
		return free
	}
	var same []netip.AddrPort
	for _, b := range backends {
		if backend, err := netip.ParseAddrPort(b); err == nil && backend.Port() == own.Port() && backend.Addr().IsLoopback() {
			same = append(same, backend)
		}
	}
	if same == nil {
		return free
	}
	bound, err := boundTo(a.protocol, own.Port())
	switch {
	case err != nil:
		return unknown
	case slices.ContainsFunc(bound, netip.Addr.IsUnspecified):
		return answered
	case slices.ContainsFunc(same, func(b netip.AddrPort) bool { return slices.Contains(bound, b.Addr()) }):
		return free // on its own address only, so the Service's can be ours
	}
	return unknown
}

// boundTo returns the addresses that somebody listens on at a port.
func boundTo(protocol string, port uint16) ([]netip.Addr, error) {
	var all []netip.Addr
	for _, table := range []string{protocol, protocol + "6"} {
		file, err := os.Open("/proc/net/" + table)
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return nil, err
		}
		all = append(all, parseBound(file, port)...)
		file.Close()
	}
	return all, nil
}

// parseBound reads a table of /proc/net: the local address is four bytes in the
// machine's order (or four times that) and the port, in hexadecimal; the remote
// port of who listens, or has a socket of UDP that is not connected, is 0.
func parseBound(table io.Reader, port uint16) []netip.Addr {
	var all []netip.Addr
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || !strings.HasSuffix(fields[2], ":0000") {
			continue
		}
		address, number, _ := strings.Cut(fields[1], ":")
		if n, err := strconv.ParseUint(number, 16, 16); err != nil || uint16(n) != port {
			continue
		}
		var bytes []byte
		for i := 0; i+8 <= len(address); i += 8 {
			word, err := strconv.ParseUint(address[i:i+8], 16, 32)
			if err != nil {
				break
			}
			bytes = append(bytes, byte(word), byte(word>>8), byte(word>>16), byte(word>>24))
		}
		if ip, ok := netip.AddrFromSlice(bytes); ok {
			all = append(all, ip.Unmap())
		}
	}
	return all
}
