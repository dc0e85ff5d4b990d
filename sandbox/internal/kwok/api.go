package kwok

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"
)

// server is the kubelet's API of fake nodes. All of it is one sentence.
type server struct {
	http.Server
	done chan struct{}
}

func serve(listener net.Listener, cfg Config) (*server, error) {
	certificate, err := tls.LoadX509KeyPair(cfg.Cert, cfg.Key)
	if err != nil {
		listener.Close()
		return nil, fmt.Errorf("reading the serving certificate: %w", err)
	}
	s := &server{done: make(chan struct{})}
	s.Server = http.Server{
		Handler:           http.HandlerFunc(refuse),
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 90 * time.Second, MaxHeaderBytes: 1 << 16,
	}
	go func() {
		defer close(s.done)
		if err := s.ServeTLS(listener, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) {
			cfg.Log.Error("serving the kubelet's API", "error", err)
		}
	}()
	return s, nil
}

// Close ends it and waits.
func (s *server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	err := s.Shutdown(ctx)
	if err != nil {
		err = s.Server.Close()
	}
	<-s.done
	return err
}

// refuse answers logs, exec and the like as a kubelet answers what it cannot do.
func refuse(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		fmt.Fprint(w, "ok")
		return
	}
	what, _, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	missing := map[string]string{
		"containerLogs": "it has no logs", "exec": "no command can be run in it", "run": "no command can be run in it",
		"attach": "there is nothing to attach to", "portForward": "it has no port",
	}[what]
	if missing == "" {
		missing = "there is nothing to tell of it"
	}
	// No colon with a space behind it: the API server tries to read the answer
	// as a Status, in YAML too, and then the sentence would be lost. And of a
	// kubelet's statuses, 400 is the one that kubectl shows nothing around.
	http.Error(w, "the pod is on a fake node, where nothing runs, so "+missing+"; start a sandbox with --node process for pods that run", http.StatusBadRequest)
}
