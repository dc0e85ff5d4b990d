package server_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"

	"biplane.dev/biplane/api/gen/flyteidl2/project"
	"biplane.dev/biplane/api/gen/flyteidl2/project/projectconnect"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/server"
	"biplane.dev/biplane/controlplane/internal/store"
)

// service answers GetProject as a test tells it.
type service struct {
	projectconnect.UnimplementedProjectServiceHandler
	get func(context.Context) error
}

func (s *service) GetProject(ctx context.Context, _ *project.GetProjectRequest) (*project.GetProjectResponse, error) {
	if err := s.get(ctx); err != nil {
		return nil, err
	}
	return &project.GetProjectResponse{}, nil
}

// text is a log that tests may read while it is written.
type text struct {
	mu sync.Mutex
	b  strings.Builder
}

func (t *text) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.Write(p)
}

func (t *text) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}

// serve serves one service until the test ends, and returns its URL and its log.
func serve(t *testing.T, get func(context.Context) error) (string, *text) {
	t.Helper()
	log := &text{}
	s := server.New(server.Options{
		Log:     slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: prometheus.NewRegistry(),
		Ready:   func(context.Context) error { return nil },
	})
	s.Mount(projectconnect.NewProjectServiceHandler(&service{get: get}, s.HandlerOptions()...))
	listener, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener, nil) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return "http://" + listener.Addr().String(), log
}

func TestErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err    error
		code   connect.Code
		says   string
		hides  string // from the client
		logged string
	}{
		"keeps a refusal's words":                 {refusal.NotFound("there is none"), connect.CodeNotFound, "there is none", "", "there is none"},
		"keeps a refusal's cause for the log":     {refusal.Because(errors.New("the secret cause"), connect.CodeUnavailable, "try again"), connect.CodeUnavailable, "try again", "secret", "the secret cause"},
		"translates a name":                       {names.Run("1"), connect.CodeInvalidArgument, "lower-case letter", "", ""},
		"translates what is missing":              {&store.NotFoundError{Kind: "run", Name: "x"}, connect.CodeNotFound, `"x"`, "", ""},
		"translates what exists":                  {&store.ExistsError{Kind: "run", Name: "x"}, connect.CodeAlreadyExists, `"x"`, "", ""},
		"translates what is refused":              {&store.RefusedError{Sentence: "it is archived"}, connect.CodeFailedPrecondition, "archived", "", ""},
		"translates a query":                      {&store.QueryError{Sentence: "no such field"}, connect.CodeInvalidArgument, "no such field", "", ""},
		"hides whatever else went wrong":          {errors.New("password=hunter2"), connect.CodeInternal, "its log says why", "hunter2", "hunter2"},
		"never says UNKNOWN":                      {connect.NewError(connect.CodeUnknown, errors.New("what?")), connect.CodeInternal, "its log says why", "", "what?"},
		"never says CANCELED to one who is there": {connect.NewError(connect.CodeCanceled, errors.New("gone")), connect.CodeUnavailable, "call again", "", "gone"},
		"says that a call took too long":          {context.DeadlineExceeded, connect.CodeDeadlineExceeded, "longer", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url, log := serve(t, func(context.Context) error { return c.err })
			_, err := projectconnect.NewProjectServiceClient(http.DefaultClient, url).GetProject(t.Context(), &project.GetProjectRequest{})
			if got := connect.CodeOf(err); got != c.code || !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %v with %q", err, c.code, c.says)
			}
			if c.hides != "" && strings.Contains(err.Error(), c.hides) {
				t.Errorf("got %v, want it without %q", err, c.hides)
			}
			if !strings.Contains(log.String(), c.logged) {
				t.Errorf("got log %s, want %q in it", log, c.logged)
			}
		})
	}
	t.Run("survives a panic", func(t *testing.T) {
		t.Parallel()
		url, log := serve(t, func(context.Context) error { panic("oh no") })
		client := projectconnect.NewProjectServiceClient(http.DefaultClient, url)
		for range 2 {
			_, err := client.GetProject(t.Context(), &project.GetProjectRequest{})
			if got, want := connect.CodeOf(err), connect.CodeInternal; got != want || strings.Contains(err.Error(), "oh no") {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		if !strings.Contains(log.String(), "oh no") {
			t.Errorf("got log %s, want the panic in it", log)
		}
	})
	t.Run("keeps the request's id, if it is one", func(t *testing.T) {
		t.Parallel()
		url, log := serve(t, func(context.Context) error { return nil })
		client := projectconnect.NewProjectServiceClient(http.DefaultClient, url)
		for sent, kept := range map[string]bool{"mine-1": true, strings.Repeat("x", 200): false} {
			ctx, call := connect.NewClientContext(t.Context())
			call.RequestHeader().Set("X-Request-Id", sent)
			if _, err := client.GetProject(ctx, &project.GetProjectRequest{}); err != nil {
				t.Fatal(err)
			}
			got := call.ResponseHeader().Get("X-Request-Id")
			if (got == sent) != kept || !strings.Contains(log.String(), got) {
				t.Errorf("got %q for %q, want it kept: %v, and in the log", got, sent, kept)
			}
		}
	})
}
