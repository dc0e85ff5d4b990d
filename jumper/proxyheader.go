package jumper

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
)

// A PROXY protocol header of version 2 is 16 bytes and as many as those say. An NLB
// sends fewer than a hundred.
const proxyLimit = 1 << 10

var proxySignature = []byte("\r\n\r\n\x00\r\nQUIT\n")

// proxyHeader is what one says of the connection behind a load balancer.
type proxyHeader struct {
	from     netip.AddrPort // the client; not valid if the load balancer itself connects
	endpoint string         // the VPC endpoint that it came through, "" if none
}

var errNoProxyHeader = errors.New("does not begin with a PROXY protocol header of version 2")

// readProxyHeader takes a header off the front of r, and no byte more.
func readProxyHeader(r io.Reader) (proxyHeader, error) {
	var fixed [16]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return proxyHeader{}, err
	}
	version, command, family := fixed[12]>>4, fixed[12]&0xf, fixed[13]
	length := int(binary.BigEndian.Uint16(fixed[14:]))
	if !bytes.HasPrefix(fixed[:], proxySignature) || version != 2 || command > 1 {
		return proxyHeader{}, errNoProxyHeader
	}
	if length > proxyLimit {
		return proxyHeader{}, fmt.Errorf("the PROXY protocol header has %d bytes, more than %d", length, proxyLimit)
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(r, body); err != nil {
		return proxyHeader{}, err
	}
	rest := reader{rest: body}
	var header proxyHeader
	switch {
	case family == 0x11: // TCP over IPv4: both addresses, both ports
		from := rest.bytes(4)
		rest.bytes(4)
		port := rest.uint(2)
		rest.bytes(2)
		if ip, ok := netip.AddrFromSlice(from); ok {
			header.from = netip.AddrPortFrom(ip, uint16(port))
		}
	case family == 0x21: // the same over IPv6
		from := rest.bytes(16)
		rest.bytes(16)
		port := rest.uint(2)
		rest.bytes(2)
		if ip, ok := netip.AddrFromSlice(from); ok {
			header.from = netip.AddrPortFrom(ip, uint16(port))
		}
	case command == 1:
		return proxyHeader{}, fmt.Errorf("the PROXY protocol header is of address family %#x, want TCP", family)
	}
	if command == 0 { // the load balancer's own connection, whatever addresses are there
		return proxyHeader{}, nil
	}
	for len(rest.rest) > 0 && !rest.failed {
		kind, value := rest.uint(1), rest.bytes(rest.uint(2))
		// AWS's own type, and in it the subtype for the ID of a VPC endpoint.
		if kind == 0xea && len(value) > 1 && value[0] == 1 {
			header.endpoint = string(value[1:])
		}
	}
	if rest.failed {
		return proxyHeader{}, errors.New("the PROXY protocol header is cut short")
	}
	return header, nil
}

// proxied reads the header that has to be there, and sees whether the VPC endpoint
// in it may connect.
func (s *stream) proxied() bool {
	header, err := readProxyHeader(s.client)
	if err != nil {
		return s.failed(reasonProxy, err)
	}
	if header.from.IsValid() {
		s.from = header.from
	}
	s.endpoint = header.endpoint
	if may := s.jumper.options.VPCEndpoints; len(may) > 0 && !slices.Contains(may, header.endpoint) {
		return s.failed(reasonEndpoint, nil)
	}
	return true
}
