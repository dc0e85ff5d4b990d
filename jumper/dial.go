package jumper

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"
)

const (
	connectTimeout = 3 * time.Second        // of one address
	connectStagger = 250 * time.Millisecond // after which the next address is tried as well
	connectLimit   = 15 * time.Second       // of all, with what the DNS takes
)

var errNoAddress = errors.New("the upstream has no known address")

// connector opens TCP connections that notice when the other side is gone.
var connector = net.Dialer{Timeout: connectTimeout, KeepAliveConfig: keepAliveConfig}

// keepAliveConfig finds a peer that is gone in a minute.
var keepAliveConfig = net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 3, Count: 3}

// dial connects to the upstream where it is now. If none of its known addresses
// takes the connection, it may have moved a moment ago: the DNS is asked once more,
// and what is new is tried, as long as there is something new.
func (j *Jumper) dial(ctx context.Context) (*net.TCPConn, netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, connectLimit)
	defer cancel()
	for known := j.addresses.known(); ; {
		conn, address, err := dialAny(ctx, known, j.connect)
		if err == nil {
			return conn, address, nil
		}
		after, asked := j.addresses.ask(ctx)
		tried := known
		known = slices.DeleteFunc(slices.Clone(after), func(a netip.Addr) bool { return slices.Contains(tried, a) })
		if asked != nil || len(known) == 0 {
			if len(tried) == 0 {
				err = j.addresses.none()
			}
			return nil, netip.AddrPort{}, joined(err, asked)
		}
	}
}

// look waits for one more answer of the DNS, but not for long.
func (j *Jumper) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	_, _ = j.addresses.ask(ctx) // without one, what is known is tried again
}

func (j *Jumper) connect(ctx context.Context, to netip.Addr) (*net.TCPConn, netip.AddrPort, error) {
	address := netip.AddrPortFrom(to, j.options.UpstreamPort)
	conn, err := connector.DialTCP(ctx, "tcp", netip.AddrPort{}, address)
	if err != nil {
		j.counters.dialFailed()
		return nil, address, err
	}
	return conn, address, nil
}

// dialAny tries addresses in any order, one after the other: the next when one
// fails, or is not there after connectStagger. The first connection wins.
func dialAny[Conn interface{ Close() error }](ctx context.Context, addresses []netip.Addr,
	connect func(context.Context, netip.Addr) (Conn, netip.AddrPort, error)) (conn Conn, at netip.AddrPort, err error) {
	if len(addresses) == 1 { // there is nothing to do meanwhile
		return connect(ctx, addresses[0])
	}
	type result struct {
		conn Conn
		at   netip.AddrPort
		err  error
	}
	ctx, cancel := context.WithCancel(ctx)
	results, pending := make(chan result), 0
	defer func() {
		cancel()
		for ; pending > 0; pending-- {
			if late := <-results; late.err == nil {
				late.conn.Close()
			}
		}
	}()

	var failures []error
	order := rand.Perm(len(addresses))
	for len(order) > 0 || pending > 0 {
		var stagger <-chan time.Time
		if len(order) > 0 {
			to := addresses[order[0]]
			order = order[1:]
			pending++
			go func() {
				conn, at, err := connect(ctx, to)
				results <- result{conn, at, err}
			}()
		}
		if len(order) > 0 {
			stagger = time.After(connectStagger)
		}
		select {
		case r := <-results:
			pending--
			if r.err == nil {
				return r.conn, r.at, nil
			}
			failures = append(failures, r.err)
		case <-stagger:
		}
	}
	if len(failures) == 0 {
		failures = []error{errNoAddress}
	}
	return conn, at, joined(failures...)
}

// errorsSaid is how many of several errors are said.
const errorsSaid = 8

// joined says what several errors say, in one line.
func joined(errs ...error) error {
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	var said []string
	for _, err := range errs[:min(len(errs), errorsSaid)] {
		said = append(said, err.Error())
	}
	if more := len(errs) - errorsSaid; more > 0 {
		said = append(said, fmt.Sprintf("and %d more", more))
	}
	return errors.New(strings.Join(said, "; "))
}
