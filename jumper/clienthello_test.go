package jumper

import (
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// captured is a net.Conn that gives data to its reader, keeps what is written and
// then ends.
type captured struct {
	net.Conn // nil: nothing else is called
	in       io.Reader
	out      bytes.Buffer
}

func (c *captured) Read(p []byte) (int, error)       { return c.in.Read(p) }
func (c *captured) Write(p []byte) (int, error)      { return c.out.Write(p) }
func (c *captured) Close() error                     { return nil }
func (c *captured) SetDeadline(time.Time) error      { return nil }
func (c *captured) SetReadDeadline(time.Time) error  { return nil }
func (c *captured) SetWriteDeadline(time.Time) error { return nil }
func (c *captured) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *captured) LocalAddr() net.Addr              { return &net.TCPAddr{} }

// hello is what crypto/tls says first.
func hello(config *tls.Config) []byte {
	config.InsecureSkipVerify = true
	c := &captured{in: strings.NewReader("")}
	_ = tls.Client(c, config).Handshake() // ends after the hello, as the other side says nothing
	return c.out.Bytes()
}

// cut is a hello in records of n bytes each.
func cut(hello []byte, n int) []byte {
	var out []byte
	for body := hello[recordHeader:]; len(body) > 0; {
		part := body[:min(n, len(body))]
		body = body[len(part):]
		out = append(out, typeHandshake, 3, 1)
		out = binary.BigEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	return out
}

func TestServerName(t *testing.T) {
	t.Parallel()
	plain := hello(&tls.Config{ServerName: "eks.example.test"})
	named := func(list ...byte) []byte { // a hello whose server_name extension has this list in it
		extension := append(binary.BigEndian.AppendUint16(nil, uint16(len(list))), list...)
		extension = append(append([]byte{0, 0}, binary.BigEndian.AppendUint16(nil, uint16(len(extension)))...), extension...)
		return withExtensions(extension)
	}
	for _, c := range []struct {
		name string
		data []byte
		want string
		err  error
	}{
		{"finds the name", plain, "eks.example.test", nil},
		{"finds the name of TLS 1.2", hello(&tls.Config{ServerName: "old.example.test", MaxVersion: tls.VersionTLS12}), "old.example.test", nil},
		{"finds the name behind others' protocols", hello(&tls.Config{ServerName: "h2.example.test", NextProtos: []string{"h2", "http/1.1"}}), "h2.example.test", nil},
		{"finds the name in records of 7 bytes", cut(plain, 7), "eks.example.test", nil},
		{"finds the name in records of a byte", cut(plain, 1), "eks.example.test", nil},
		{"reads nothing behind the hello", append(bytes.Clone(plain), "anything"...), "eks.example.test", nil},
		{"keeps the case", hello(&tls.Config{ServerName: "EKS.example.test"}), "EKS.example.test", nil},
		{"finds none in a hello for an address", hello(&tls.Config{ServerName: "127.0.0.1"}), "", nil},
		{"finds none in a hello without extensions", bare(), "", nil},
		{"passes over names of other types", named(1, 0, 1, 'x', 0, 0, 1, 'y'), "y", nil},
		{"refuses two names", named(0, 0, 1, 'x', 0, 0, 1, 'y'), "", errMalformed},
		{"refuses an empty name", named(0, 0, 0), "", errMalformed},
		{"refuses an empty list", named(), "", errMalformed},
		{"refuses a name that is longer than its list", named(0, 0, 9, 'x'), "", errMalformed},
		{"refuses a second list", withExtensions([]byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 'x', 0, 0, 0, 6, 0, 4, 0, 0, 1, 'y'}), "", errMalformed},
		{"refuses an extension that is longer than the hello", withExtensions([]byte{0, 5, 0, 9}), "", errMalformed},
		{"refuses HTTP at its first byte", []byte("G"), "", errNotTLS},
		{"refuses an old SSL hello", []byte{0x80, 0x2e, 1}, "", errNotTLS},
		{"refuses application data", []byte{23, 3, 3}, "", errNotTLS},
		{"refuses another handshake message", []byte{22, 3, 1, 0, 5, 2}, "", errMalformed},
		{"refuses an empty record", []byte{22, 3, 1, 0, 0}, "", errMalformed},
		{"refuses a hello that says it is long", []byte{22, 3, 1, 1, 0, 1, 1, 0, 0}, "", errHelloTooLong},
		{"refuses a hello that is long by its records", cut(hello(&tls.Config{ServerName: "x.test", NextProtos: many()}), 2), "", errHelloTooLong},
	} {
		t.Run("it "+c.name, func(t *testing.T) {
			t.Parallel()
			got, need, err := serverName(c.data)
			if got != c.want || !errors.Is(err, c.err) || need != 0 {
				t.Errorf("got %q, need %d, %v, want %q, %v", got, need, err, c.want, c.err)
			}
		})
	}

	t.Run("it wants more of every beginning, and not more than there is", func(t *testing.T) {
		t.Parallel()
		for _, whole := range [][]byte{plain, cut(plain, 5), cut(plain, 100)} {
			for n := range len(whole) {
				if name, need, err := serverName(whole[:n]); err != nil || need <= n || need > len(whole) {
					t.Fatalf("got %q, need %d, %v of %d bytes, want more than %d and not more than %d", name, need, err, n, n, len(whole))
				}
			}
		}
	})
}

// many are more protocols than a hello may name here, in records of two bytes.
func many() []string {
	all := make([]string, 40)
	for i := range all {
		all[i] = strings.Repeat("x", 200)
	}
	return all
}

// bare is a hello of before there were extensions.
func bare() []byte {
	body := append([]byte{3, 1}, make([]byte, 32)...)
	body = append(body, 0, 0, 2, 0, 0x2f, 1, 0)
	return framed(body)
}

// withExtensions is a hello with these.
func withExtensions(extensions []byte) []byte {
	body := bare()[recordHeader+handshakeHeader:]
	body = binary.BigEndian.AppendUint16(body, uint16(len(extensions)))
	return framed(append(body, extensions...))
}

func framed(body []byte) []byte {
	out := []byte{typeHandshake, 3, 1}
	out = binary.BigEndian.AppendUint16(out, uint16(len(body)+handshakeHeader))
	out = append(out, typeClientHello, 0)
	out = binary.BigEndian.AppendUint16(out, uint16(len(body)))
	return append(out, body...)
}

// FuzzServerName compares with crypto/tls: what that takes for a hello with a name,
// is one, with the same name, unless it is longer than ours may be, or has alerts in
// front or between.
func FuzzServerName(f *testing.F) {
	plain := hello(&tls.Config{ServerName: "eks.example.test"})
	for _, seed := range [][]byte{
		plain, cut(plain, 1), cut(plain, 100), bare(), withExtensions([]byte{0, 0, 0, 6, 0, 4, 0, 0, 1, 'x'}),
		hello(&tls.Config{ServerName: "10.0.0.1"}), hello(&tls.Config{ServerName: "a.test", MaxVersion: tls.VersionTLS12, NextProtos: []string{"h2"}}),
		[]byte("GET / HTTP/1.1\r\n\r\n"), {}, {22, 3, 1, 0, 1, 1},
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		name, need, err := serverName(data)
		if err == nil && need > 0 && need <= len(data) {
			t.Fatalf("got a need of %d bytes, of which there are %d", need, len(data))
		}
		if err != nil && (name != "" || need != 0) {
			t.Fatalf("got %q and a need of %d with %v", name, need, err)
		}
		theirs, seen := "", false
		conn := &captured{in: bytes.NewReader(data)}
		_ = tls.Server(conn, &tls.Config{GetConfigForClient: func(info *tls.ClientHelloInfo) (*tls.Config, error) {
			theirs, seen = info.ServerName, true
			return nil, io.EOF // that is all there is to see
		}}).Handshake()
		if !seen || errors.Is(err, errHelloTooLong) || errors.Is(err, errNotTLS) {
			return
		}
		if err != nil || need != 0 || name != theirs {
			t.Fatalf("got %q, need %d, %v, want %q as crypto/tls", name, need, err, theirs)
		}
	})
}
