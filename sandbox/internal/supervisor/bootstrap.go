package supervisor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/goccy/go-yaml"

	"biplane.dev/biplane/internal/sandbox"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/sandbox/internal/bootstrap"
)

// prepareNeeds are the components that preparing calls, of those there are.
var prepareNeeds = []string{sandbox.APIServer, sandbox.Identity, sandbox.ObjectStore}

// prepare makes what there is in the components of a sandbox from the first up
// on: buckets, roles, namespaces, service accounts, profiles. At a later up it
// finds them.
func (s *Supervisor) prepare(ctx context.Context) (bootstrap.Result, error) {
	cfg, err := s.bootstrapConfig()
	if err != nil {
		return bootstrap.Result{}, err
	}
	if cfg.IAM == "" && cfg.Kubeconfig == "" {
		return bootstrap.Result{}, nil
	}
	began := time.Now()
	made := 0
	result, err := bootstrap.Run(ctx, cfg, func(e bootstrap.Event) {
		made++
		s.log.Info("prepared", "thing", e.Thing, "did", e.Did)
		s.events.add(sandbox.Event{Name: e.Thing, State: sandbox.Done, Text: e.Did})
	})
	if err != nil {
		if ctx.Err() != nil {
			return result, context.Cause(ctx)
		}
		var said *usererr.Error
		if errors.As(err, &said) {
			return result, err
		}
		return result, usererr.New(usererr.Unavailable, "cannot prepare the sandbox: %v", err).
			WithHint("see %s, and run the same command again", s.Folder.Log("supervisor")).Because(err)
	}
	s.log.Info("everything is there", "made", made, "took", time.Since(began).Round(time.Millisecond))
	s.mu.Lock()
	s.buckets = result.Buckets
	first := !s.keeping
	s.keeping = true
	s.mu.Unlock()
	if first && cfg.IAM != "" && cfg.Kubeconfig != "" {
		s.background.Go(func() {
			if err := bootstrap.KeepTokens(s.ctx, cfg, s.log); err != nil && s.ctx.Err() == nil {
				s.log.Error("the tokens of AWS profiles are renewed no more", "error", err)
			}
		})
	}
	return result, nil
}

func (s *Supervisor) bootstrapConfig() (bootstrap.Config, error) {
	values, err := yaml.Marshal(s.ownValues())
	if err != nil {
		return bootstrap.Config{}, fmt.Errorf("encoding the values of the cluster: %w", err)
	}
	cfg := bootstrap.Config{
		Empty: s.empty(), Values: string(values),
		Dir: string(s.Folder), CABundle: s.Folder.CABundle(),
		Region: s.record.Region, Account: s.record.Account, Issuer: s.record.Issuer(),
	}
	if s.plan.has[sandbox.APIServer] {
		cfg.Kubeconfig = s.Folder.Kubeconfig()
	}
	if s.plan.has[sandbox.Identity] {
		cfg.IAM, cfg.STS = s.endpoint(portIAM), s.endpoint(portSTS)
		cfg.Admin = bootstrap.Key{ID: s.plan.key.ID, Secret: s.plan.key.Secret}
	}
	if s.plan.has[sandbox.ObjectStore] {
		cfg.S3 = s.endpoint(sandbox.ObjectStore)
	}
	return cfg, nil
}

// prepareWhenReady prepares once all that it calls is ready.
func (s *Supervisor) prepareWhenReady(ctx context.Context, ready map[string]chan struct{}) (bootstrap.Result, error) {
	if err := awaitAll(ctx, ready, prepareNeeds); err != nil {
		return bootstrap.Result{}, err
	}
	return s.prepare(ctx)
}

// joinWhenReady joins the data plane once the control plane is there, and a node
// for its pods.
func (s *Supervisor) joinWhenReady(ctx context.Context, ready map[string]chan struct{}, made bootstrap.Result) error {
	needs := []string{sandbox.FlyteAdmin, sandbox.ControllerManager, sandbox.Scheduler}
	for _, node := range nodeNames(s.record.Options) {
		needs = append(needs, componentOf(node))
	}
	if err := awaitAll(ctx, ready, needs); err != nil {
		return err
	}
	return s.joinDataPlane(ctx, made)
}

// awaitAll waits until components are ready; those that the sandbox is without are
// not waited for.
func awaitAll(ctx context.Context, ready map[string]chan struct{}, names []string) error {
	for _, name := range names {
		if ready[name] == nil {
			continue
		}
		select {
		case <-ready[name]:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}
