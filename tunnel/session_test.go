package tunnel_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

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
	for name, dialled := range map[string]bool{"carries from the dialling side": true, "carries from the accepting side": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			session, data := pair(t, tunnel.Handlers{RPC: echo}, tunnel.Handlers{RPC: echo})
			if dialled {
				session = data
			}
			for range 3 {
				answer, header, err := post(t.Context(), session, "http://executor/a", "hello")
				if err != nil {
					t.Fatal(err)
				}
				if answer != "hello" || header.Get("Host-Asked") != "executor" {
					t.Errorf("got %q asked of %q, want hello of executor", answer, header.Get("Host-Asked"))
				}
			}
			if got := session.Stats().Streams; got != 1 {
				t.Errorf("got %d streams for calls one after the other, want 1", got)
			}
			if session.RTT() <= 0 {
				t.Errorf("got a round trip of %s, want it measured", session.RTT())
			}
		})
	}

	t.Run("serves many at once, each on its own", func(t *testing.T) {
		t.Parallel()
		control, _ := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: echo})
		var calls sync.WaitGroup
		for i := range 200 {
			calls.Go(func() {
				want := fmt.Sprint("call ", i)
				if got, _, err := post(t.Context(), control, "http://executor/", want); err != nil || got != want {
					t.Errorf("got %q, %v, want %q", got, err, want)
				}
			})
		}
		calls.Wait()
		deadline := time.Now().Add(patience)
		for control.Stats().Streams > 32 {
			if time.Now().After(deadline) {
				t.Fatalf("got %d streams kept for calls to come, want at most 32", control.Stats().Streams)
			}
			time.Sleep(time.Millisecond)
		}
	})

	t.Run("hangs nowhere where the session ends among many", func(t *testing.T) {
		t.Parallel()
		for range 20 {
			control, data := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: echo})
			var callers sync.WaitGroup
			called := make(chan struct{}, 1<<16)
			for range 8 {
				callers.Go(func() {
					for err := error(nil); err == nil; {
						_, _, err = post(context.Background(), control, "http://executor/", "hello")
						called <- struct{}{}
					}
				})
			}
			wait(t, called, "a call")
			data.Close()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				callers.Wait()
			}()
			wait(t, ended, "every caller to hear of it")
		}
	})

	t.Run("tells the handler that the caller left", func(t *testing.T) {
		t.Parallel()
		began, left := make(chan struct{}), make(chan struct{})
		control, _ := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-r.Context().Done()
			close(left)
		})})
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-began
			cancel()
		}()
		if _, _, err := post(ctx, control, "http://executor/", ""); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want that the call was cancelled", err)
		}
		wait(t, left, "the handler's context to end")
	})

	t.Run("fails where the session ends in the middle of an answer", func(t *testing.T) {
		t.Parallel()
		control, data := pair(t, tunnel.Handlers{}, tunnel.Handlers{Raw: func(ctx context.Context, _ string, _ *tunnel.Stream) { <-ctx.Done() }, RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			io.WriteString(w, "half")
			http.NewResponseController(w).Flush()
			<-r.Context().Done()
		})})
		request, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://executor/", nil)
		response, err := control.RoundTripper().RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.ReadFull(response.Body, make([]byte, 4)); err != nil {
			t.Fatal(err)
		}
		raw, err := control.OpenRaw(t.Context(), "proxy")
		if err != nil {
			t.Fatal(err)
		}
		defer raw.Close()
		data.Close()
		if _, err := io.ReadAll(response.Body); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("got %v behind half an answer, want an error that is no cancellation", err)
		}
		if _, err := raw.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
			t.Errorf("got %v from a raw stream, want an error that is no end", err)
		}
		if !errors.Is(data.Err(), tunnel.ErrClosed) {
			t.Errorf("got %v as why the closing side's session ended, want ErrClosed", data.Err())
		}
		wait(t, control.Done(), "the other side's session to end")
		if err := control.Err(); err == nil || errors.Is(err, tunnel.ErrClosed) {
			t.Errorf("got %v as why the other side's session ended, want that it did not end it", err)
		}
	})
}

func TestRaw(t *testing.T) {
	t.Parallel()
	t.Run("carries 100 MiB as they are, and the other half behind a half-close", func(t *testing.T) {
		t.Parallel()
		const size = 100 << 20
		type received struct {
			sum  []byte
			size int64
			name string
		}
		got := make(chan received, 1)
		control, _ := pair(t, tunnel.Handlers{}, tunnel.Handlers{Raw: func(_ context.Context, name string, stream *tunnel.Stream) {
			hash := sha256.New()
			n, _ := io.Copy(hash, stream)
			got <- received{hash.Sum(nil), n, name}
			stream.Write([]byte("thank you"))
		}})
		stream, err := control.OpenRaw(t.Context(), "proxy")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
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
		if r := <-got; r.size != size || !bytes.Equal(r.sum, want.Sum(nil)) || r.name != "proxy" {
			t.Errorf("got %d bytes for %q, want %d for proxy, all as they were", r.size, r.name, size)
		}
	})

	t.Run("fails at the first read where the peer serves none", func(t *testing.T) {
		t.Parallel()
		control, _ := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: echo})
		stream, err := control.OpenRaw(t.Context(), "proxy")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if _, err := stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("got %v, want an error that is no end", err)
		}
	})

	t.Run("takes no name that would not fit its line", func(t *testing.T) {
		t.Parallel()
		control, _ := pair(t, tunnel.Handlers{}, tunnel.Handlers{})
		for _, name := range []string{"", "a b", "a\nb", strings.Repeat("a", 253)} {
			if stream, err := control.OpenRaw(t.Context(), name); err == nil {
				stream.Close()
				t.Errorf("got a stream to %q, want it refused", name)
			}
		}
	})
}

// A reader that stops fills its own window, and nothing else waits for it.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	flood := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/flood" {
			for block := make([]byte, 64<<10); r.Context().Err() == nil; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
			return
		}
		echo(w, r)
	})
	control, data := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: flood, Raw: func(ctx context.Context, _ string, stream *tunnel.Stream) {
		for block := make([]byte, 64<<10); ; {
			if _, err := stream.Write(block); err != nil {
				return
			}
		}
	}})
	for range 8 {
		stream, err := control.OpenRaw(t.Context(), "flood")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Reset()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://executor/flood", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := control.RoundTripper().RoundTrip(request)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
	}
	// All sixteen have filled their windows when nothing is sent any more.
	for before, quiet := uint64(0), 0; quiet < 20; {
		now := data.Stats().Sent
		if now-before < 4<<10 { // pings go on
			quiet++
		} else {
			quiet = 0
		}
		before = now
		time.Sleep(10 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	for range 100 {
		if _, _, err := post(ctx, control, "http://executor/", "hello"); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("100 calls beside 16 readers that stopped: %s", time.Since(began))
}

func TestDrain(t *testing.T) {
	t.Parallel()
	t.Run("lets a call end and takes no other", func(t *testing.T) {
		t.Parallel()
		began, finish := make(chan struct{}), make(chan struct{})
		control, data := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			close(began)
			<-finish
			io.WriteString(w, "done")
		})})
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			if got, _, err := post(context.Background(), control, "http://executor/", ""); err != nil || got != "done" {
				t.Errorf("got %q, %v from a call under way, want it to end as always", got, err)
			}
		}()
		wait(t, began, "the call to begin")
		drained := make(chan struct{})
		go func() {
			defer close(drained)
			data.Drain(context.Background())
		}()
		wait(t, control.Draining(), "the peer to hear of it")
		if _, err := control.OpenRaw(t.Context(), "proxy"); !errors.Is(err, tunnel.ErrDraining) {
			t.Errorf("got %v for a new stream, want ErrDraining", err)
		}
		if _, _, err := post(t.Context(), control, "http://executor/", ""); !errors.Is(err, tunnel.ErrDraining) {
			t.Errorf("got %v for a new call, want ErrDraining", err)
		}
		close(finish)
		wait(t, answered, "the answer")
		wait(t, drained, "draining to end")
		wait(t, control.Done(), "the session to end")
	})

	t.Run("loses no call", func(t *testing.T) {
		t.Parallel()
		for range 20 {
			control, data := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: echo})
			var callers sync.WaitGroup
			called := make(chan struct{}, 1<<16)
			for range 8 {
				callers.Go(func() {
					for {
						_, _, err := post(context.Background(), control, "http://executor/", "hello")
						if err != nil && strings.HasPrefix(err.Error(), "opening a stream") {
							return
						}
						if err != nil {
							t.Errorf("got %v, want every call answered or not begun", err)
							return
						}
						select {
						case called <- struct{}{}:
						default:
						}
					}
				})
			}
			wait(t, called, "a call")
			data.Drain(context.Background())
			callers.Wait()
		}
	})

	t.Run("ends with its context, whatever is open", func(t *testing.T) {
		t.Parallel()
		control, _ := pair(t, tunnel.Handlers{}, tunnel.Handlers{Raw: func(ctx context.Context, _ string, _ *tunnel.Stream) { <-ctx.Done() }})
		stream, err := control.OpenRaw(t.Context(), "proxy")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		control.Drain(ctx)
		if _, err := stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("got %v from a stream that was cut off, want an error that is no end", err)
		}
	})
}

// A link whose far end has vanished says nothing: no reset, no end.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	g := newGateway(t, a)
	w := newWire(t, g.address, 0)
	control, data := g.pair(t, a, w.address, tunnel.Handlers{}, tunnel.Handlers{})
	w.freeze()
	began := time.Now()
	for name, session := range map[string]*tunnel.Session{"the dialling side": data, "the accepting side": control} {
		// What waits on a stream must not wait longer.
		stream, err := session.OpenRaw(t.Context(), "proxy")
		if err == nil {
			defer stream.Reset()
			if _, err := stream.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("got %v from a stream of %s, want an error that is no end", err, name)
			}
		}
		wait(t, session.Done(), "the session of "+name+" to end")
		t.Logf("%s ended after %s", name, time.Since(began).Round(time.Millisecond)) // in at most 5 s on a machine that is not busy
		if !errors.Is(session.Err(), tunnel.ErrSilent) {
			t.Errorf("got %v as why %s ended, want ErrSilent", session.Err(), name)
		}
	}
}

// On a slow link that is full, the answer to a ping waits behind megabytes for
// longer than any patience. What comes the other way says that all is well.
func TestFullLinkLives(t *testing.T) {
	t.Parallel()
	a := newAuthority(t)
	g := newGateway(t, a)
	w := newSlowWire(t, g.address, 0, 128<<10) // 1 Mbit/s upwards
	control, data := g.pair(t, a, w.address, tunnel.Handlers{Raw: func(_ context.Context, _ string, stream *tunnel.Stream) {
		io.Copy(io.Discard, stream)
	}}, tunnel.Handlers{})
	for range 8 { // fill the windows of as many
		stream, err := data.OpenRaw(t.Context(), "sink")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Reset()
		go func() {
			for block := make([]byte, 64<<10); ; {
				if _, err := stream.Write(block); err != nil {
					return
				}
			}
		}()
	}
	select {
	case <-control.Done():
		t.Errorf("got the session's end above: %v", control.Err())
	case <-data.Done():
		t.Errorf("got the session's end below: %v", data.Err())
	case <-time.After(9 * time.Second): // twice the silence that is death
	}
}

func TestQuietLinkLives(t *testing.T) {
	t.Parallel()
	control, data := pair(t, tunnel.Handlers{}, tunnel.Handlers{RPC: echo})
	select {
	case <-control.Done():
		t.Errorf("got the end of a session over which nothing was said: %v", control.Err())
	case <-data.Done():
		t.Errorf("got the end of a session over which nothing was said: %v", data.Err())
	case <-time.After(6 * time.Second): // longer than the silence that is death: pings are what it lives by
	}
	if _, _, err := post(t.Context(), control, "http://executor/", "hello"); err != nil {
		t.Errorf("got %v, want an answer as before", err)
	}
}
