package tunnel_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-yamux/v5"

	"biplane.dev/biplane/tunnel"
)

// hostile has a good certificate, and from there on does what it likes.
func hostile(t *testing.T, handlers tunnel.Handlers) (*tls.Conn, *tunnel.Session) {
	t.Helper()
	a := newAuthority(t)
	g := newGateway(t, a)
	config := a.clientTLS(t)
	config.NextProtos = []string{tunnel.ALPN}
	conn, err := tls.Dial("tcp", g.address, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	session := g.next(t)
	serve(t, session, handlers)
	greeting := make([]byte, len("ok\n"))
	if _, err := io.ReadFull(conn, greeting); err != nil || string(greeting) != "ok\n" {
		t.Fatalf("got %q, %v, want to be let in", greeting, err)
	}
	return conn, session
}

// frame is one of yamux's: version, type, flags, stream, length.
func frame(version, kind byte, flags uint16, stream, length uint32) []byte {
	header := append([]byte{version, kind}, binary.BigEndian.AppendUint16(nil, flags)...)
	header = binary.BigEndian.AppendUint32(header, stream)
	return binary.BigEndian.AppendUint32(header, length)
}

const (
	data, windowUpdate = 0, 1
	syn                = 1
)

func TestHostileFrames(t *testing.T) {
	t.Parallel()
	for name, send := range map[string][][]byte{
		"that say to be larger than any window": {frame(0, data, syn, 1, 1<<31)},
		"that are more than the window":         {frame(0, data, syn, 1, 200<<10), make([]byte, 200<<10), frame(0, data, 0, 1, 200<<10), make([]byte, 200<<10)},
		"of another version":                    {frame(7, data, syn, 1, 0)},
		"of a kind that there is not":           {frame(0, 99, 0, 1, 0)},
		"that open a stream of ours":            {frame(0, windowUpdate, syn, 2, 0)},
		"that open a stream twice":              {frame(0, windowUpdate, syn, 1, 0), frame(0, windowUpdate, syn, 1, 0)},
		"that are no frames":                    {bytes.Repeat([]byte("GET / HTTP/1.1\r\n\r\n"), 10)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, session := hostile(t, tunnel.Handlers{Raw: func(ctx context.Context, _ string, _ *tunnel.Stream) { <-ctx.Done() }})
			go io.Copy(io.Discard, conn)
			for _, part := range send {
				if _, err := conn.Write(part); err != nil {
					break // it has been thrown out already
				}
			}
			wait(t, session.Done(), "the session to end")
			if session.Err() == nil {
				t.Error("got no reason, want one")
			}
		})
	}

	t.Run("take no memory for what they say to be", func(t *testing.T) {
		// Not beside others: it looks at the heap.
		conn, session := hostile(t, tunnel.Handlers{})
		go io.Copy(io.Discard, conn)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		conn.Write(frame(0, data, syn, 1, 1<<31))
		wait(t, session.Done(), "the session to end")
		runtime.ReadMemStats(&after)
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20 {
			t.Errorf("got %d MiB for a frame that says to have 2 GiB, want next to nothing", grown>>20)
		}
	})
}

// What is wrong with one stream ends that stream; the session and its other
// streams go on.
func TestHostileStreams(t *testing.T) {
	t.Parallel()
	conn, session := hostile(t, tunnel.Handlers{RPC: echo})
	mux, err := yamux.Client(conn, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer mux.Close()
	open := func(t *testing.T, text string) *yamux.Stream {
		t.Helper()
		stream, err := mux.OpenStream(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(stream, text); err != nil && !errors.Is(err, yamux.ErrStreamReset) {
			t.Fatal(err)
		}
		stream.SetDeadline(time.Now().Add(patience))
		return stream
	}
	const preface = "rpc\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	headers := strings.Repeat("\x00\x02ab\x03cde", 16<<10/8) // literals of a name and a value
	works := func(t *testing.T) {
		t.Helper()
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		transport := &http.Transport{Protocols: protocols, DialContext: dialTo(open(t, "rpc\n"))}
		defer transport.CloseIdleConnections()
		response, err := (&http.Client{Transport: transport, Timeout: patience}).Post("http://executor/", "", strings.NewReader("hello"))
		if err != nil {
			t.Fatalf("got %v, want calls answered still", err)
		}
		defer response.Body.Close()
		if got, err := io.ReadAll(response.Body); err != nil || string(got) != "hello" {
			t.Errorf("got %q, %v, want an answer", got, err)
		}
	}

	for name, text := range map[string]string{
		"of a kind that there is not":    "shell\n",
		"with a line that does not end":  strings.Repeat("a", 64<<10),
		"of bytes, where there are none": "raw proxy\n",
		"of bytes to nobody":             "raw \n",
		"of binary":                      "\x00\xff\n",
	} {
		t.Run(name, func(t *testing.T) {
			stream := open(t, text)
			if _, err := stream.Read(make([]byte, 1)); !errors.Is(err, yamux.ErrStreamReset) {
				t.Errorf("got %v, want the stream reset", err)
			}
			works(t)
		})
	}

	for name, text := range map[string]string{
		"whose call is no HTTP/2":                     "rpc\nGET / HTTP/1.1\r\nHost: executor\r\n\r\n",
		"whose call has a frame larger than it may":   preface + "\xff\xff\xff\x00\x00\x00\x00\x00\x01" + strings.Repeat("x", 32<<10),
		"whose call has headers without end":          preface + "\x00\x40\x00\x01\x00\x00\x00\x00\x01" + headers + strings.Repeat("\x00\x40\x00\x09\x00\x00\x00\x00\x01"+headers, 10),
		"whose call begins in the middle of the data": preface + "\x00\x00\x04\x00\x00\x00\x00\x00\x01abcd",
	} {
		t.Run(name, func(t *testing.T) {
			stream := open(t, text)
			said, _ := io.ReadAll(bufio.NewReader(stream)) // a GOAWAY, and the end
			if len(said) > 64<<10 {
				t.Errorf("got %d bytes, want the connection ended", len(said))
			}
			works(t)
		})
	}

	t.Run("more than there may be", func(t *testing.T) {
		refused := 0
		var streams []*yamux.Stream
		for range 1200 { // none of which says its line
			stream, err := mux.OpenStream(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			streams = append(streams, stream)
		}
		for _, stream := range streams[1024:] {
			stream.SetReadDeadline(time.Now().Add(patience))
			if _, err := stream.Read(make([]byte, 1)); errors.Is(err, yamux.ErrStreamReset) {
				refused++
			}
		}
		if refused != len(streams)-1024 {
			t.Errorf("got %d of %d streams refused, want all beyond 1024", refused, len(streams)-1024)
		}
		for _, stream := range streams {
			stream.Reset()
		}
		if err := session.Err(); err != nil {
			t.Errorf("got %v, want the session to live", err)
		}
	})
}

// dialTo gives a client the one connection that there is.
func dialTo(stream *yamux.Stream) func(context.Context, string, string) (net.Conn, error) {
	return func(context.Context, string, string) (net.Conn, error) { return stream, nil }
}
