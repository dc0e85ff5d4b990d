package operator

import (
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"biplane.dev/biplane/dataplane/internal/peer"
)

// replaced is a listener behind which nobody serves at first.
type replaced struct {
	net.Listener
	refused atomic.Int32
}

func (r *replaced) Accept() (net.Conn, error) {
	conn, err := r.Listener.Accept()
	for err == nil && r.refused.Add(1) <= 2 {
		conn.Close()
		conn, err = r.Listener.Accept()
	}
	return conn, err
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	t.Run("waits for a proxy that is being replaced", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewUnstartedServer(http.HandlerFunc(raw))
		server.Listener = &replaced{Listener: server.Listener}
		server.StartTLS()
		defer server.Close()
		folder := t.TempDir()
		for file, content := range map[string][]byte{
			"ca": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), "token": []byte("a.b.c"),
		} {
			if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		in := &inbound{proxy: server.Listener.Addr().String(), peer: peer.Options{CAFile: filepath.Join(folder, "ca"), TokenFile: filepath.Join(folder, "token")}}
		conn, err := in.upgrade(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
	})
}
