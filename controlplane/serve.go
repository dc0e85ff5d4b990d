package controlplane

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"

	"biplane.dev/biplane/api/gen/biplane/cluster/v1/clusterv1connect"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/auth/authconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/cluster/clusterconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/dataproxy/dataproxyconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/project/projectconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/task/taskconnect"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow/workflowconnect"
	"biplane.dev/biplane/controlplane/config"
	"biplane.dev/biplane/controlplane/internal/actions"
	"biplane.dev/biplane/controlplane/internal/clusters"
	"biplane.dev/biplane/controlplane/internal/dataproxy"
	"biplane.dev/biplane/controlplane/internal/gateway"
	"biplane.dev/biplane/controlplane/internal/identity"
	"biplane.dev/biplane/controlplane/internal/issuer"
	"biplane.dev/biplane/controlplane/internal/planes"
	"biplane.dev/biplane/controlplane/internal/projects"
	"biplane.dev/biplane/controlplane/internal/runs"
	"biplane.dev/biplane/controlplane/internal/scope"
	"biplane.dev/biplane/controlplane/internal/server"
	"biplane.dev/biplane/controlplane/internal/store"
	"biplane.dev/biplane/controlplane/internal/tasks"
	"biplane.dev/biplane/controlplane/internal/uploads"
	"biplane.dev/biplane/internal/buildinfo"
	"biplane.dev/biplane/internal/usererr"
)

// serve is the whole server: the store, the gateway, the services, until ctx ends.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	log.Info("starting", "version", buildinfo.Read().Version)
	s, err := openAndSeed(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer s.Close()
	signer, err := newSigner(cfg)
	if err != nil {
		return err
	}
	certificates, err := serving(cfg)
	if err != nil {
		return err
	}
	metrics := prometheus.NewRegistry()
	metrics.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	api := server.New(server.Options{Log: log, Metrics: metrics, Hosts: hosts(cfg), Origins: cfg.API.Origins, Ready: s.Ready})
	tunnels, err := gateway.New(ctx, gateway.Options{
		Config: cfg, Store: s, API: api, Uploads: signer, Log: log, Now: time.Now, Metrics: metrics,
	})
	if err != nil {
		return err
	}
	mount(api, cfg, s, tunnels, signer, log)

	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", cfg.API.Listen)
	if err != nil {
		return usererr.New(usererr.Unavailable, "clients cannot be listened for at %s: %v", cfg.API.Listen, err).
			WithHint("choose another api.listen, or stop what listens there").Because(err)
	}
	log.Info("listening for clients", "address", listener.Addr().String(), "tls", certificates != nil)

	// Whoever fails first takes the others down.
	parts, ctx := errgroup.WithContext(ctx)
	parts.Go(func() error { return api.Serve(ctx, listener, certificates) })
	parts.Go(func() error { return tunnels.Run(ctx) })
	parts.Go(func() error { return prune(ctx, cfg, s, log) })
	err = parts.Wait()
	log.Info("ended")
	return err
}

// mount serves every service there is. For Flyte's others package server has a
// sentence each.
func mount(api *server.Server, cfg *config.Config, s *store.Store, tunnels *gateway.Gateway, signer *uploads.Signer, log *slog.Logger) {
	scopes := scope.New(cfg.Organizations)
	reach := planes.New(tunnels.Transport)
	with := api.HandlerOptions()

	api.Mount(projectconnect.NewProjectServiceHandler(projects.New(s, scopes), with...))
	api.Mount(taskconnect.NewTaskServiceHandler(tasks.New(s, scopes), with...))
	api.Mount(workflowconnect.NewRunServiceHandler(runs.New(s, scopes, reach, time.Now, log), with...))
	api.Mount(clusterconnect.NewClusterServiceHandler(clusters.NewSelector(s, scopes, tunnels, cfg.Relay.Host, cfg.API.DataPlane == config.Direct), with...))
	api.Mount(clusterv1connect.NewClusterServiceHandler(clusters.New(s, scopes, clusters.Options{
		Gateway: tunnels, TokenLife: cfg.Gateway.TokenLife, RelayHost: cfg.Relay.Host, Now: time.Now,
	}), with...))
	api.Mount(dataproxyconnect.NewDataProxyServiceHandler(dataproxy.New(s, scopes, reach, signer), with...))
	api.Mount(actionsconnect.NewActionsServiceHandler(actions.New(s, scopes, reach), with...))
	api.Mount(authconnect.NewIdentityServiceHandler(identity.Service{}, with...))
	api.Mount(authconnect.NewAuthMetadataServiceHandler(identity.Service{}, with...))
}

// openAndSeed opens the store, brings it to this version's form, and makes what
// the configuration names and is not there yet.
func openAndSeed(ctx context.Context, cfg *config.Config, log *slog.Logger) (*store.Store, error) {
	s, err := open(ctx, cfg, log)
	if err != nil {
		return nil, err
	}
	seed := func() error {
		if err := s.Migrate(ctx); err != nil {
			return fmt.Errorf("bringing the database to this version's form: %w", err)
		}
		if err := s.EnsureOrganizations(ctx, cfg.Organizations...); err != nil {
			return fmt.Errorf("making the organizations: %w", err)
		}
		for _, organization := range cfg.Organizations {
			if err := projects.Seed(ctx, s, organization, cfg.Projects); err != nil {
				return err
			}
		}
		return nil
	}
	if err := seed(); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// newSigner signs with tokens of our issuer, or of somebody else's, or not at all.
func newSigner(cfg *config.Config) (*uploads.Signer, error) {
	var tokens uploads.Tokens
	switch {
	case cfg.Issuer.TokenFile != "":
		tokens = issuer.File(cfg.Issuer.TokenFile)
	case cfg.Issuer.URL != "":
		ours, err := issuer.Open(cfg.Issuer.URL, cfg.Issuer.Subject, cfg.Issuer.KeyFile)
		if err != nil {
			return nil, err
		}
		tokens = ours
	}
	return uploads.New(tokens, time.Now, &http.Client{Timeout: time.Minute}, cfg.Issuer.STSEndpoints), nil
}

// hosts are the names by which clients call, besides loopback's.
func hosts(cfg *config.Config) []string {
	u, err := url.Parse(cfg.API.URL)
	if err != nil || u.Hostname() == "" {
		return nil
	}
	return []string{u.Hostname()}
}

// serving is the certificate of the API, read anew when its file changes, nil
// without one.
func serving(cfg *config.Config) (*tls.Config, error) {
	if cfg.API.CertFile == "" {
		return nil, nil
	}
	var (
		mu      sync.Mutex
		read    time.Time
		current *tls.Certificate
	)
	get := func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		mu.Lock()
		defer mu.Unlock()
		info, err := os.Stat(cfg.API.CertFile)
		if err == nil && current != nil && info.ModTime().Equal(read) {
			return current, nil
		}
		pair, pairErr := tls.LoadX509KeyPair(cfg.API.CertFile, cfg.API.KeyFile)
		if err == nil {
			err = pairErr
		}
		if err == nil {
			current, read = &pair, info.ModTime()
		} else if current != nil {
			err = nil // half-written: the one before is good until the files are
		}
		return current, err
	}
	if _, err := get(nil); err != nil {
		return nil, usererr.New(usererr.Invalid, "api.certFile and api.keyFile cannot be used: %v", err).
			WithHint("give a certificate and its key, both PEM").Because(err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: get}, nil
}

const (
	pruneEvery = 10 * time.Minute
	pruneBatch = 500
)

// prune deletes what has ended long enough ago, until ctx ends. Where runs are kept
// for ever, these are the certificates that have expired.
func prune(ctx context.Context, cfg *config.Config, s *store.Store, log *slog.Logger) error {
	ticker := time.NewTicker(pruneEvery)
	defer ticker.Stop()
	for {
		var before time.Time
		if cfg.Retention.Runs > 0 {
			before = time.Now().Add(-cfg.Retention.Runs)
		}
		for _, organization := range cfg.Organizations {
			for more := true; more && ctx.Err() == nil; {
				pruned, err := s.Prune(ctx, organization, before, pruneBatch)
				if err != nil {
					if ctx.Err() == nil {
						log.Error("cannot prune", "organization", organization, "error", err)
					}
					break
				}
				if pruned.Runs > 0 {
					log.Info("pruned", "organization", organization, "runs", pruned.Runs, "actions", pruned.Actions, "task_specs", pruned.TaskSpecs)
				}
				more = pruned.More
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
	}
}
