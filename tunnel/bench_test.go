package tunnel_test

import (
	"context"
	"crypto/tls"
	"io"
	"net"
	"testing"
	"time"

	"biplane.dev/biplane/tunnel"
)

// The figures in docs/tunnel.md come from here:
//
//	go test -run '^$' -bench . ./tunnel

// BenchmarkThroughput is of one raw stream, beside a TLS connection of its own.
func BenchmarkThroughput(b *testing.B) {
	for name, delay := range map[string]time.Duration{"loopback": 0, "50ms": 25 * time.Millisecond} {
		b.Run("raw/"+name, func(b *testing.B) {
			a := newAuthority(b)
			g := newGateway(b, a)
			control, _ := g.pair(b, a, throughWire(b, g.address, delay), tunnel.Handlers{}, tunnel.Handlers{Raw: func(_ context.Context, _ string, stream *tunnel.Stream) {
				io.Copy(io.Discard, stream)
			}})
			stream, err := control.OpenRaw(b.Context(), "sink")
			if err != nil {
				b.Fatal(err)
			}
			defer stream.Close()
			pour(b, stream, stream)
		})
		b.Run("tls/"+name, func(b *testing.B) {
			a := newAuthority(b)
			listener, err := tls.Listen("tcp", "127.0.0.1:0", a.serverTLS())
			if err != nil {
				b.Fatal(err)
			}
			defer listener.Close()
			go func() {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				defer conn.Close()
				io.Copy(io.Discard, conn)
			}()
			config := a.clientTLS(b)
			config.NextProtos = []string{tunnel.ALPN}
			conn, err := tls.Dial("tcp", throughWire(b, listener.Addr().String(), delay), config)
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			pour(b, conn, conn)
		})
	}
}

// pour writes a block for each round, and waits until the reader has seen all.
func pour(b *testing.B, conn net.Conn, half interface{ CloseWrite() error }) {
	block := make([]byte, 1<<20)
	// Windows are grown first: the figure is of what they have become.
	for range 64 {
		if _, err := conn.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(block)))
	for b.Loop() {
		if _, err := conn.Write(block); err != nil {
			b.Fatal(err)
		}
	}
	if err := half.CloseWrite(); err != nil {
		b.Fatal(err)
	}
	io.Copy(io.Discard, conn)
}

// BenchmarkCall is of one small call, alone and among others.
func BenchmarkCall(b *testing.B) {
	for name, delay := range map[string]time.Duration{"loopback": 0, "50ms": 25 * time.Millisecond} {
		for _, alike := range []string{"one", "many"} {
			b.Run(alike+"/"+name, func(b *testing.B) {
				a := newAuthority(b)
				g := newGateway(b, a)
				control, _ := g.pair(b, a, throughWire(b, g.address, delay), tunnel.Handlers{}, tunnel.Handlers{RPC: echo})
				call := func() {
					if _, _, err := post(b.Context(), control, "http://executor/", "hello"); err != nil {
						b.Error(err)
					}
				}
				call()
				if alike == "one" {
					for b.Loop() {
						call()
					}
					return
				}
				b.SetParallelism(16)
				b.RunParallel(func(calls *testing.PB) {
					for calls.Next() {
						call()
					}
				})
			})
		}
	}
}

func throughWire(b *testing.B, target string, delay time.Duration) string {
	if delay == 0 {
		return target
	}
	return newWire(b, target, delay).address
}
