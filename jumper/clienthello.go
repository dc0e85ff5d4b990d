package jumper

import (
	"encoding/binary"
	"errors"
	"net"
	"time"
)

// A ClientHello has this long to arrive, from the connection on, and this many
// bytes, with the headers of its records. The largest in use are some 2 KiB.
const (
	helloTime  = 5 * time.Second
	helloLimit = 16 << 10
)

// Why there is no server name to be read.
var (
	errNotTLS       = errors.New("does not begin with a TLS handshake")
	errMalformed    = errors.New("the ClientHello is malformed")
	errHelloTooLong = errors.New("the ClientHello is longer than 16 KiB")
)

const (
	recordHeader    = 5 // type, version (of which RFC 8446 says not to look at it), length
	recordLimit     = 16 << 10
	handshakeHeader = 4 // type, length
	typeHandshake   = 22
	typeClientHello = 1
)

// peek reads a ClientHello into buf and returns the name in it, "" if there is
// none, and how many bytes it read. Those are the upstream's to read again.
func peek(client net.Conn, buf []byte) (name string, n int, err error) {
	for need := 1; ; {
		for n < need {
			m, err := client.Read(buf[n:])
			n += m
			if err != nil {
				return "", n, err
			}
		}
		if name, need, err = serverName(buf[:n]); need == 0 {
			return name, n, err
		}
	}
}

// serverName finds the name in the first bytes of a TLS connection. Its handshake
// may be cut into records anyhow (RFC 8446, 5.1). While the bytes are the
// beginning of a ClientHello, need is how many there must be before it makes sense
// to call again; it is 0 with a result or an error.
func serverName(data []byte) (name string, need int, err error) {
	var handshake []byte
	for at := 0; ; {
		switch record := data[at:]; {
		case len(record) > 0 && record[0] != typeHandshake:
			return "", 0, errNotTLS
		case len(record) < recordHeader:
			need = at + recordHeader
		default:
			length := int(binary.BigEndian.Uint16(record[3:]))
			if length == 0 || length > recordLimit {
				return "", 0, errMalformed
			}
			need = at + recordHeader + length
			body := record[recordHeader:]
			handshake = append(handshake, body[:min(len(body), length)]...)
		}
		if len(handshake) > 0 && handshake[0] != typeClientHello {
			return "", 0, errMalformed
		}
		length := 0 // of the whole handshake message, once it is known
		if len(handshake) >= handshakeHeader {
			length = handshakeHeader + int(handshake[1])<<16 + int(handshake[2])<<8 + int(handshake[3])
		}
		if length > helloLimit || need > helloLimit {
			return "", 0, errHelloTooLong
		}
		if need > len(data) {
			return "", need, nil
		}
		if length > 0 && len(handshake) >= length {
			name, err = nameInHello(handshake[handshakeHeader:length])
			return name, 0, err
		}
		at = need
	}
}

// nameInHello finds the host name in the body of a ClientHello (RFC 8446, 4.1.2;
// RFC 6066, 3). It is as strict as a server has to be, so that both see one name.
func nameInHello(hello []byte) (name string, err error) {
	r := reader{rest: hello}
	r.bytes(2 + 32)    // version, random
	r.bytes(r.uint(1)) // session
	r.bytes(r.uint(2)) // cipher suites
	r.bytes(r.uint(1)) // compression methods
	if !r.failed && len(r.rest) == 0 {
		return "", nil // no extensions, as in old TLS
	}
	extensions := reader{rest: r.bytes(r.uint(2))}
	if r.failed || len(r.rest) > 0 {
		return "", errMalformed
	}
	seen := false
	for len(extensions.rest) > 0 && !extensions.failed {
		kind := extensions.uint(2)
		body := reader{rest: extensions.bytes(extensions.uint(2))}
		if kind != 0 { // server_name
			continue
		}
		names := reader{rest: body.bytes(body.uint(2))}
		if seen || body.failed || len(body.rest) > 0 || len(names.rest) == 0 {
			return "", errMalformed
		}
		seen = true
		for len(names.rest) > 0 && !names.failed {
			kind, value := names.uint(1), names.bytes(names.uint(2))
			if kind != 0 { // host_name
				continue
			}
			if name != "" || len(value) == 0 {
				return "", errMalformed
			}
			name = string(value)
		}
		if names.failed {
			return "", errMalformed
		}
	}
	if extensions.failed {
		return "", errMalformed
	}
	return name, nil
}

// reader takes numbers and bytes off the front of rest. Once too few are left it
// has failed, and takes nothing more.
type reader struct {
	rest   []byte
	failed bool
}

func (r *reader) bytes(n int) []byte {
	if r.failed || n > len(r.rest) {
		r.failed = true
		return nil
	}
	taken := r.rest[:n]
	r.rest = r.rest[n:]
	return taken
}

// uint takes a number of n bytes, the highest first.
func (r *reader) uint(n int) int {
	v := 0
	for _, b := range r.bytes(n) {
		v = v<<8 | int(b)
	}
	return v
}
