package supervisor

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/supervisor/component"
)

// listen makes the socket and answers on it, until stop is called, which
// returns when the last answer is written.
func (s *Supervisor) listen() (stop func(), err error) {
	listener, err := sandbox.ListenSocket(s.Folder.Run(), sandbox.ControlSocket)
	if err != nil {
		return nil, usererr.New(usererr.Unavailable, "cannot make the socket %s in %s: %v", sandbox.ControlSocket, s.Folder.Run(), cause(err)).Because(err)
	}
	mux := http.NewServeMux()
	handle := func(pattern string, do func(*http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			answer, err := do(r)
			w.Header().Set("Content-Type", "application/json")
			if err != nil {
				w.WriteHeader(http.StatusUnprocessableEntity)
				answer = sandbox.RefusalOf(err)
			}
			json.NewEncoder(w).Encode(answer)
		})
	}
	handle("GET "+sandbox.PathStatus, func(*http.Request) (any, error) { return s.status(), nil })
	handle("POST "+sandbox.PathUp, func(r *http.Request) (any, error) {
		var asked sandbox.Options
		if err := json.NewDecoder(io.LimitReader(r.Body, 1<<20)).Decode(&asked); err != nil {
			return nil, fmt.Errorf("reading what an up asks for: %w", err)
		}
		return nil, s.join(asked)
	})
	handle("POST "+sandbox.PathStop+"{name}", func(r *http.Request) (any, error) { return nil, s.stopOne(r.PathValue("name")) })
	handle("POST "+sandbox.PathStart+"{name}", func(r *http.Request) (any, error) { return nil, s.startAgain(r.Context(), r.PathValue("name")) })
	handle("POST "+sandbox.PathTrust, func(r *http.Request) (any, error) { return nil, s.trustAll(r.Context()) })
	mux.HandleFunc("GET "+sandbox.PathEvents, s.tellEvents)
	// The answer to a down is the end of the body, which comes with the server's
	// own end: after the last component.
	mux.HandleFunc("POST "+sandbox.PathDown, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		s.log.Info("told to go down")
		s.down()
	})

	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(listener) // returns by the Shutdown below
	}()
	return func() {
		os.Remove(filepath.Join(s.Folder.Run(), sandbox.ControlSocket))
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		defer cancel()
		server.Shutdown(ctx)
		server.Close()
		<-done
	}, nil
}

func (s *Supervisor) tellEvents(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/jsonl")
	lines := json.NewEncoder(w)
	for told := 0; ; {
		events, ended, more := s.events.from(told)
		for _, event := range events {
			if lines.Encode(event) != nil {
				return
			}
		}
		told += len(events)
		if ended {
			return
		}
		http.NewResponseController(w).Flush()
		select {
		case <-more:
		case <-r.Context().Done():
			return
		}
	}
}

// status is everything that `biplane sandbox status` says.
func (s *Supervisor) status() sandbox.Status {
	s.mu.Lock()
	status := s.plan.status
	state, buckets := sandbox.Starting, s.buckets
	status.DataPlane = s.dataPlane
	if s.ready {
		state = sandbox.Ready
	}
	s.mu.Unlock()
	status.Name, status.Dir = s.Folder.Name(), string(s.Folder)
	if buckets.Metadata != "" {
		status.Buckets = &buckets
	}
	status.Components = []sandbox.Component{}
	for _, c := range s.components {
		one := c.Status()
		if state == sandbox.Ready && one.State != sandbox.ComponentReady {
			state = sandbox.Degraded
		}
		status.Components = append(status.Components, one)
	}
	status.State = state
	return status
}

// join is another up of a sandbox that is up: it starts what is held, and
// refuses what would need another start.
func (s *Supervisor) join(asked sandbox.Options) error {
	if err := asked.Check(); err != nil {
		return err
	}
	now := s.record.Options
	var differs []string
	if asked.Node != "" && asked.Node != now.Node {
		differs = append(differs, fmt.Sprintf("--node %s, not %s", now.Node, asked.Node))
	}
	if asked.Nodes != 0 && asked.Nodes != now.Nodes {
		differs = append(differs, fmt.Sprintf("--nodes %d, not %d", now.Nodes, asked.Nodes))
	}
	if asked.Python != "" && asked.Python != now.Python {
		differs = append(differs, fmt.Sprintf("--python %q, not %q", now.Python, asked.Python))
	}
	if asked.AuditLog != nil && *asked.AuditLog != *now.AuditLog {
		differs = append(differs, fmt.Sprintf("--audit-log=%t, not %t", *now.AuditLog, *asked.AuditLog))
	}
	if asked.Only != nil && !sameComponents(asked.Only, now.Only) {
		differs = append(differs, fmt.Sprintf("--only %s, not %s", strings.Join(now.Only, ","), strings.Join(asked.Only, ",")))
	}
	if differs != nil {
		return usererr.New(usererr.Refused, "sandbox %s is up with %s", s.Folder.Name(), strings.Join(differs, ", and ")).
			WithHint("run 'biplane sandbox down', then the same command again")
	}
	return s.begin(func() {
		if s.events.begin() { // else the up that is under way is what to wait for
			s.log.Info("joined by another up")
			s.background.Go(func() { s.bringUp(s.ctx) }) // tells its end by events
		}
	})
}

func (s *Supervisor) stopOne(name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	s.log.Info("told to stop", "component", name)
	c.Stop(sandbox.ComponentHeld)
	return nil
}

// startAgain starts a component and waits for it, for as long as the caller
// does.
func (s *Supervisor) startAgain(ctx context.Context, name string) error {
	c, err := s.find(name)
	if err != nil {
		return err
	}
	s.log.Info("told to start", "component", name)
	if err := s.begin(c.Start); err != nil {
		return err
	}
	return s.await(ctx, c)
}

func (s *Supervisor) await(ctx context.Context, c *component.Component) error {
	ctx, done := context.WithTimeout(ctx, time.Minute)
	defer done()
	if err := c.Await(ctx); err != nil {
		if down := s.begin(func() {}); down != nil {
			return down // which is why it is not ready
		}
		return usererr.New(usererr.Unavailable, "%v", err).WithHint("see %s", s.Folder.Log(c.Spec.Name)).Because(err)
	}
	return nil
}

func join(names []string) string { return strings.Join(names, ", ") }
