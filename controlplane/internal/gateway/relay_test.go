package gateway_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/tunnel"
)

// upper answers bytes with themselves, and with a word behind the client's end.
var upper = tunnel.Handlers{Raw: func(_ context.Context, name string, stream *tunnel.Stream) {
	io.Copy(stream, stream)
	fmt.Fprintf(stream, "end of %s", name)
	stream.CloseWrite()
}}

func (w *world) relayPort(t testing.TB, cluster string) uint16 {
	t.Helper()
	var port uint16
	eventually(t, "the cluster to have a port", func() bool {
		known, err := w.store.GetCluster(t.Context(), organization, cluster)
		if err != nil {
			t.Fatal(err)
		}
		port = known.RelayPort
		return port != 0
	})
	return port
}

func relayed(port uint16) (*net.TCPConn, error) {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))), patience)
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

func TestRelay(t *testing.T) {
	t.Parallel()
	w := newWorld(t)

	t.Run("passes bytes both ways, and each end by itself", func(t *testing.T) {
		t.Parallel()
		w.join(t, "both").dial(t, upper)
		conn, err := relayed(w.relayPort(t, "both"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		sent := make([]byte, 8<<20)
		rand.NewChaCha8([32]byte{}).Read(sent)
		go func() {
			conn.Write(sent)
			conn.CloseWrite()
		}()
		got, err := io.ReadAll(conn)
		if want := append(sent, "end of proxy"...); err != nil || !bytes.Equal(got, want) {
			t.Errorf("got %d bytes, %v, want %d as they were sent, and the answer to their end", len(got), err, len(want))
		}
	})

	t.Run("fails a client where there is no tunnel, and has its port all the same", func(t *testing.T) {
		t.Parallel()
		session := w.join(t, "unconnected").dial(t, upper)
		w.relayPort(t, "unconnected")
		session.Close()
		eventually(t, "the tunnel to end", func() bool { return !w.Connected(organization, "unconnected") })
		conn, err := relayed(w.relayPort(t, "unconnected"))
		if errors.Is(err, syscall.ECONNRESET) { // as soon as that
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if n, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("got %d bytes, %v, want an error that is no end", n, err)
		}
	})

	t.Run("gives the port up with the cluster", func(t *testing.T) {
		t.Parallel()
		w.join(t, "removed").dial(t, upper)
		port := w.relayPort(t, "removed")
		if err := w.store.RemoveCluster(t.Context(), organization, "removed", false); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the port to be closed", func() bool {
			conn, err := relayed(port)
			if err == nil {
				conn.Close()
			}
			return err != nil
		})
	})

	t.Run("ends a client with its tunnel", func(t *testing.T) {
		t.Parallel()
		session := w.join(t, "ends").dial(t, upper)
		conn, err := relayed(w.relayPort(t, "ends"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := conn.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		session.Close()
		conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := conn.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("got %v, want an error that is no end", err)
		}
	})
}

func TestRelayPorts(t *testing.T) {
	t.Parallel()
	t.Run("are kept over a restart", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		p := w.join(t, clusterName)
		p.dial(t, upper)
		port := w.relayPort(t, clusterName)
		w.stop()
		w.start(t)
		eventually(t, "the port to be listened on before the data plane is back", func() bool {
			conn, err := relayed(port)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
		p.dial(t, upper)
		if again := w.relayPort(t, clusterName); again != port {
			t.Errorf("got port %d after a restart, want %d as before", again, port)
		}
	})

	t.Run("follow the tunnel from one process to another and back", func(t *testing.T) {
		t.Parallel()
		first := newWorld(t)
		second := first.beside(t)
		p := first.join(t, clusterName)
		works := func() {
			t.Helper()
			eventually(t, "the port in the store to lead to the tunnel", func() bool {
				conn, err := relayed(first.relayPort(t, clusterName))
				if err != nil {
					return false
				}
				defer conn.Close()
				conn.CloseWrite()
				got, err := io.ReadAll(conn)
				return err == nil && string(got) == "end of proxy"
			})
		}
		for _, process := range []*world{first, second, first} {
			p.world = process
			session := p.dial(t, upper)
			works()
			session.Close()
			eventually(t, "the tunnel to end", func() bool { return !process.Connected(organization, clusterName) })
		}
	})

	t.Run("come from the range", func(t *testing.T) {
		t.Parallel()
		first := freeRange(t, 2)
		w := newWorld(t, func(c *config.Config) { c.Relay.Ports = fmt.Sprintf("%d-%d", first, first+1) })
		w.join(t, "c1").dial(t, upper)
		w.join(t, "c2").dial(t, upper)
		got := map[uint16]bool{w.relayPort(t, "c1"): true, w.relayPort(t, "c2"): true}
		if len(got) != 2 || !got[first] || !got[first+1] {
			t.Errorf("got the ports %v, want the two from %d", got, first)
		}
	})
}

// freeRange finds ports beside each other that nobody listens on.
func freeRange(t *testing.T, n uint16) uint16 {
	t.Helper()
	for first := uint16(20000 + rand.IntN(8000)); first < 32000; first += n {
		free := true
		for port := first; port < first+n; port++ {
			listener, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(port))))
			if err != nil {
				free = false
				break
			}
			listener.Close()
		}
		if free {
			return first
		}
	}
	t.Fatal("got no free ports, want some")
	return 0
}
