package jumper

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"io"
	"strings"
	"testing"
)

// proxied is a PROXY protocol header.
func proxied(command, family byte, body ...byte) []byte {
	out := append(bytes.Clone(proxySignature), 0x20|command, family)
	return append(binary.BigEndian.AppendUint16(out, uint16(len(body))), body...)
}

// over4 is the body of one for TCP over IPv4, with what follows the addresses.
func over4(more ...byte) []byte {
	return append([]byte{10, 1, 2, 3, 10, 0, 0, 1, 0x30, 0x39, 0x01, 0xbb}, more...)
}

// endpoint is AWS's record with the ID of a VPC endpoint.
func endpoint(id string) []byte {
	return append(append([]byte{0xea}, binary.BigEndian.AppendUint16(nil, uint16(len(id)+1))...), append([]byte{1}, id...)...)
}

func TestReadProxyHeader(t *testing.T) {
	t.Parallel()
	const after = "\x16and what follows"
	over6 := append(append(make([]byte, 15), 1), append(make([]byte, 16), 0, 7, 0, 8)...)
	for _, c := range []struct {
		name           string
		data           []byte
		from, endpoint string
		err            string
	}{
		{"reads the client over IPv4", proxied(1, 0x11, over4()...), "10.1.2.3:12345", "", ""},
		{"reads the client over IPv6", proxied(1, 0x21, over6...), "[::1]:7", "", ""},
		{"reads the VPC endpoint behind other records", proxied(1, 0x11, over4(append([]byte{4, 0, 1, 0}, endpoint("vpce-0123456789abcdef0")...)...)...), "10.1.2.3:12345", "vpce-0123456789abcdef0", ""},
		{"takes the load balancer's own connection for nobody's", proxied(0, 0), "invalid AddrPort", "", ""},
		{"refuses a ClientHello", hello(&tls.Config{ServerName: upstreamName}), "", "", errNoProxyHeader.Error()},
		{"refuses version 1", []byte("PROXY TCP4 10.1.2.3 10.0.0.1 12345 443\r\n"), "", "", errNoProxyHeader.Error()},
		{"refuses another command", proxied(2, 0x11, over4()...), "", "", errNoProxyHeader.Error()},
		{"refuses UDP", proxied(1, 0x12, over4()...), "", "", "want TCP"},
		{"refuses a header that is long", proxied(1, 0x11, make([]byte, proxyLimit+1)...), "", "", "more than 1024"},
		{"refuses addresses that are cut short", proxied(1, 0x11, 10, 1), "", "", "cut short"},
		{"refuses a record that is cut short", proxied(1, 0x11, over4(0xea, 0, 9, 1)...), "", "", "cut short"},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			r := strings.NewReader(string(c.data) + after)
			got, err := readProxyHeader(r)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("got %+v, %v, want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil || got.from.String() != c.from || got.endpoint != c.endpoint {
				t.Errorf("got %+v, %v, want %s by %q", got, err, c.from, c.endpoint)
			}
			if rest, _ := io.ReadAll(r); string(rest) != after {
				t.Errorf("got %q left, want what follows", rest)
			}
		})
	}
}

func TestProxied(t *testing.T) {
	t.Parallel()
	a := newAuthority(t, upstreamName)
	for _, c := range []struct {
		name, want string
		header     []byte
	}{
		{"passes on what came by an endpoint that may", reasonClosed, proxied(1, 0x11, over4(endpoint("vpce-2")...)...)},
		{"closes on another endpoint", reasonEndpoint, proxied(1, 0x11, over4(endpoint("vpce-3")...)...)},
		{"closes on none", reasonEndpoint, proxied(1, 0x11, over4()...)},
		{"closes on a connection without a header", reasonProxy, nil},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			r, _ := front(t, a.answers, "--proxy-protocol", "--vpc-endpoint", "vpce-1,vpce-2")
			raw := r.dial(t)
			if _, err := raw.Write(c.header); err != nil {
				t.Fatal(err)
			}
			conn := tls.Client(raw, &tls.Config{ServerName: upstreamName, RootCAs: a.pool})
			err := conn.HandshakeContext(t.Context())
			if err == nil {
				err = echoed(conn, "hello")
			}
			if (err == nil) != (c.want == reasonClosed) {
				t.Errorf("got %v, want %s", err, c.want)
			}
			raw.Close()
			l := r.line(t)
			if l.Reason != c.want || len(c.header) > 0 && l.Client != "10.1.2.3:12345" {
				t.Errorf("got %+v, want %s of 10.1.2.3:12345", l, c.want)
			}
		})
	}
}

func FuzzReadProxyHeader(f *testing.F) {
	f.Add(proxied(1, 0x11, over4(endpoint("vpce-1")...)...))
	f.Add(proxied(0, 0))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		header, err := readProxyHeader(r)
		if took := len(data) - r.Len(); took > 16+proxyLimit || err == nil && took != 16+int(binary.BigEndian.Uint16(data[14:])) {
			t.Fatalf("got %d bytes taken of %q for %+v, %v", took, data, header, err)
		}
	})
}
