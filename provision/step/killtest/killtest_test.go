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

	t.Run("it passes a program that looks before it writes, and lets what only looks pass", func(t *testing.T) {
		t.Parallel()
		got, err := program("careful").tryAll(t.Context(), true, 0, t.Logf)
		if want := (Report{Calls: 6, Writes: 3, Of: 6, Runs: 6, GaveUp: 3}); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
	})

	t.Run("it fails a program that writes twice, and says after which call", func(t *testing.T) {
		t.Parallel()
		_, err := program("careless").tryAll(t.Context(), true, 0, t.Logf)
		if err == nil || !strings.Contains(err.Error(), "of 3, PUT /") || !strings.Contains(err.Error(), "got  a") {
			t.Errorf("got %v, want the call and the surplus thing", err)
		}
	})

	t.Run("it interrupts a program after every call, and takes no other status than it said", func(t *testing.T) {
		t.Parallel()
		p := program("careful")
		p.Interrupted = 2
		got, err := p.tryAll(t.Context(), true, 0, t.Logf)
		if want := (Report{Calls: 6, Writes: 3, Of: 12, Runs: 12, GaveUp: 3}); err != nil || got != want {
			t.Errorf("got %+v, %v, want %+v", got, err, want)
		}
		p.Interrupted = 3
		if _, err := p.tryAll(t.Context(), true, 0, t.Logf); err == nil || !strings.Contains(err.Error(), "status 2, want 3") {
			t.Errorf("got %v, want both statuses", err)
		}
	})

	t.Run("it takes a sample, the same for the same seed", func(t *testing.T) {
		t.Parallel()
		p := program("careless") // of which some trials fail
		p.Sample = 1
		said := map[string]bool{}
		for seed := range uint64(20) {
			report, err := p.tryAll(t.Context(), false, seed, t.Logf)
			if want := (Report{Calls: 3, Writes: 3, Of: 6, Runs: 1}); report != want {
				t.Fatalf("got %+v, want %+v", report, want)
			}
			if _, again := p.tryAll(t.Context(), false, seed, t.Logf); again == nil || err == nil || err.Error() != again.Error() {
				t.Fatalf("seed %d: got %v and then %v, want the same", seed, err, again)
			}
			said[err.Error()] = true
		}
		if len(said) < 3 {
			t.Errorf("got the same %d trials for 20 seeds, want others", len(said))
		}
	})

	t.Run("it fails a program that makes no call", func(t *testing.T) {
		t.Parallel()
		if _, err := program("idle").tryAll(t.Context(), true, 0, t.Logf); err == nil {
			t.Error("got no error, want one")
		}
	})

	t.Run("it lets n writes be performed, and no more before a kill", func(t *testing.T) {
		t.Parallel()
		for n := 1; n <= 3; n++ {
			for _, m := range []mode{killed, lost} {
				world, err := program("careful").World(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				out, err := program("careful").run(t.Context(), world, trial{m, n})
				if err != nil {
					t.Fatal(err)
				}
				state, _ := world.State(t.Context())
				world.Close()
				// It gives up when a response is lost, and looks once more before each thing.
				if len(out.names) != 2*n || out.last != "PUT /"+string("abc"[n-1]) || len(strings.Fields(state)) != n {
					t.Errorf("%d, %s: got %v, the last %s, and %q, want %d things", n, m, out.names, out.last, state, n)
				}
			}
		}
	})
}

func TestReads(t *testing.T) {
	t.Parallel()
	for call, want := range map[string]bool{
		"DescribeVpcs": true, "GetRole union-ai-admin": true, "ListKeys": true, "AssumeRole": true, "GET /clusters/demo": true, "HEAD /bucket": true,
		"SimulatePrincipalPolicy": true, "POST /clusters/demo/insights": true,
		"CreateVpc": false, "TagRole union-demo": false, "POST /clusters": false, "PUT /bucket": false, "DELETE /bucket": false, "GenerateDataKey": false,
		"POST /bucket/insights": false,
	} {
		if got := Reads(call); got != want {
			t.Errorf("%s: got %v, want %v", call, got, want)
		}
	}
}

func TestCallName(t *testing.T) {
	t.Parallel()
	for _, one := range []struct{ path, target, body, want string }{
		{"/", "", "Action=CreateRole&RoleName=a&Version=2010-05-08", "CreateRole a"},
		{"/", "TrentService.CreateKey", `{"Description":"Action=DescribeKey"}`, "CreateKey"},
		{"/", "AmazonEC2ContainerRegistry_V20150921.PutLifecyclePolicy", "{}", "PutLifecyclePolicy"},
		{"/clusters/a/node-groups", "", "{}", "POST /clusters/a/node-groups"},
	} {
		r := httptest.NewRequest(http.MethodPost, one.path, strings.NewReader(one.body))
		r.Header.Set("X-Amz-Target", one.target)
		if got := callName(r, []byte(one.body)); got != one.want {
			t.Errorf("got %q, want %q", got, one.want)
		}
	}
}
