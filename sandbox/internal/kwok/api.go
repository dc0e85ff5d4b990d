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
	things := map[string]string{
		"containerLogs": "no logs", "exec": "nothing to run a command in", "run": "nothing to run a command in",
		"attach": "nothing to attach to", "portForward": "no port to forward to",
	}
	thing := things[what]
	if thing == "" {
		thing = "nothing to tell"
	}
	http.Error(w, "this node is a fake one of KWOK, on which pods are not run, so there is "+thing+
		": start the sandbox with --node process for pods that run", http.StatusNotImplemented)
}
