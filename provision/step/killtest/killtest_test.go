package killtest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"testing"
)

// shelf is a world: things put on it are there as often as they were put.
type shelf struct {
	mu     sync.Mutex
	things []string
}

func (s *shelf) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	thing := strings.TrimPrefix(r.URL.Path, "/")
	switch {
	case r.Method == http.MethodPut:
		s.things = append(s.things, thing)
	case !slices.Contains(s.things, thing):
		http.NotFound(w, r)
	}
}

// TestMain makes of this test the program that is killed, when it is told so.
func TestMain(m *testing.M) {
	switch os.Getenv("SHELF_PROGRAM") {
	case "careful":
		interrupted := make(chan os.Signal, 1)
		signal.Notify(interrupted, os.Interrupt)
		go func() {
			<-interrupted
			os.Exit(2)
		}()
		fill(func(thing string) bool { return call(http.MethodGet, thing) == http.StatusOK })
	case "careless":
		fill(func(string) bool { return false })
	case "idle":
	default:
		os.Exit(m.Run())
	}
}

// fill puts three things on the shelf, but for those that are there.
func fill(there func(string) bool) {
	for _, thing := range []string{"a", "b", "c"} {
		if !there(thing) {
			call(http.MethodPut, thing)
		}
	}
}

func call(method, thing string) int {
	request, err := http.NewRequest(method, os.Getenv("AWS_ENDPOINT_URL")+"/"+thing, nil)
	if err != nil {
		panic(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		panic(err)
	}
	defer response.Body.Close()
	io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

func program(kind string) Program {
	return Program{Path: os.Args[0], World: func(context.Context) (*World, error) {
		s := &shelf{}
		server := httptest.NewServer(s)
		return &World{
			Endpoint: server.URL,
			Env:      []string{"SHELF_PROGRAM=" + kind},
			State: func(context.Context) (string, error) {
				s.mu.Lock()
				defer s.mu.Unlock()
				return strings.Join(s.things, "\n") + "\n", nil
			},
			Close: server.Close,
		}, nil
	}}
}

func TestRun(t *testing.T) {
	t.Parallel()

	t.Run("it passes a program that looks before it writes", func(t *testing.T) {
		t.Parallel()
		got := Run(t, program("careful"))
		if want := (Report{Calls: 6, Runs: 12}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})

	t.Run("it fails a program that writes twice, and says after which call", func(t *testing.T) {
		t.Parallel()
		_, err := program("careless").tryAll(t.Context())
		if err == nil || !strings.Contains(err.Error(), "killed after call") || !strings.Contains(err.Error(), "got  a") {
			t.Errorf("got %v, want the call and the surplus thing", err)
		}
	})

	t.Run("it interrupts a program that says so, and takes no other status", func(t *testing.T) {
		t.Parallel()
		p := program("careful")
		p.Interrupted = 2
		if got, want := Run(t, p), (Report{Calls: 6, Runs: 18}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		p.Interrupted = 3
		if _, err := p.tryAll(t.Context()); err == nil || !strings.Contains(err.Error(), "status 2, want 3") {
			t.Errorf("got %v, want both statuses", err)
		}
	})

	t.Run("it loses no response of a call that only reads", func(t *testing.T) {
		t.Parallel()
		p := program("careful")
		p.Reads = func(call string) bool { return strings.HasPrefix(call, "GET") }
		if got, want := Run(t, p), (Report{Calls: 6, Runs: 9}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})

	t.Run("it kills only after the calls that are picked", func(t *testing.T) {
		t.Parallel()
		p := program("careful")
		p.Pick = func(n int) bool { return n%3 == 0 }
		if got, want := Run(t, p), (Report{Calls: 6, Runs: 4}); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})

	t.Run("it fails a program that makes no call", func(t *testing.T) {
		t.Parallel()
		if _, err := program("idle").tryAll(t.Context()); err == nil {
			t.Error("got no error, want one")
		}
	})

	t.Run("it performs exactly n calls, and the program gets n or n-1 responses", func(t *testing.T) {
		t.Parallel()
		for n := 1; n <= 6; n++ {
			for _, m := range []mode{delivered, lost} {
				world, err := program("careful").World(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				out, err := program("careful").run(t.Context(), world, n, m)
				if err != nil {
					t.Fatal(err)
				}
				state, _ := world.State(t.Context())
				world.Close()
				if want := n / 2; out.calls != n || len(strings.Fields(state)) != want {
					t.Errorf("%d, %s: got %d calls and %q, want %d calls and %d things", n, m, out.calls, state, n, want)
				}
			}
		}
	})
}
