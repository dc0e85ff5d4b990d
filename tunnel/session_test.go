package tunnel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"biplane.dev/biplane/tunnel"
)

func post(ctx context.Context, session *tunnel.Session, url, body string) (string, http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		return "", nil, err
	}
	response, err := session.RoundTripper().RoundTrip(request)
	if err != nil {
		return "", nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	return string(answer), response.Header, err
}

func TestCalls(t *testing.T) {
	t.Parallel()
	control, data := pair(t, tunnel.Handlers{RPC: echo}, tunnel.Handlers{RPC: echo})
	for name, session := range map[string]*tunnel.Session{"carries from the dialling side": data, "carries from the accepting side": control} {
		t.Run(name, func(t *testing.T) {
			before := session.Stats().Streams
			for range 3 {
				answer, header, err := post(t.Context(), session, "http://executor/a", "hello")
				if err != nil {
					t.Fatal(err)
				}
				if answer != "hello" || header.Get("Host-Asked") != "executor" {
					t.Errorf("got %q asked of %q, want hello of executor", answer, header.Get("Host-Asked"))
				}
			}
			if got := session.Stats().Streams - before; got != 1 {
				t.Errorf("got %d streams for calls one after the other, want 1", got)
			}
		})
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	const size = 100 << 20
	type received struct {
		sum  [sha256.Size]byte
		size int64
		name string
	}
	got := make(chan received, 1)
	control, _ := pair(t, tunnel.Handlers{}, tunnel.Handlers{Raw: func(_ context.Context, name string, stream *tunnel.Stream) {
		hash := sha256.New()
		n, _ := io.Copy(hash, stream)
		got <- received{[sha256.Size]byte(hash.Sum(nil)), n, name}
		// The other half is still open.
		stream.Write([]byte("thank you"))
	}})
	stream, err := control.OpenRaw(t.Context(), "proxy")
	if err != nil {
		t.Fatal(err)
	}
	want := sha256.New()
	if _, err := io.CopyN(io.MultiWriter(stream, want), rand.NewChaCha8([32]byte{}), size); err != nil {
		t.Fatal(err)
	}
	if err := stream.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(stream)
	if err != nil || string(answer) != "thank you" {
		t.Errorf("got %q, %v behind a half-close, want the other half", answer, err)
	}
	r := <-got
	if r.size != size || !bytes.Equal(r.sum[:], want.Sum(nil)) || r.name != "proxy" {
		t.Errorf("got %d bytes for %q, want %d for proxy, all as they were", r.size, r.name, size)
	}
	stream.Close()
}
