package clusters

import (
	"context"
	"errors"

	"connectrpc.com/connect"

	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
)

// Choose says to which data plane a new run of a project goes, and so do its
// uploads, which are made before the run is: hence nothing counts here that may
// change in between, such as which data planes can be reached at the moment.
//
// It is the one that queue names, if queue is the name of one; that of the task
// which asks; that of the project's name; or else the first by name.
func Choose(ctx context.Context, s *store.Store, organization, project, queue string) (store.Cluster, error) {
	if queue != "" {
		named, found, err := find(ctx, s, organization, queue)
		switch {
		case err != nil:
			return store.Cluster{}, err
		case found && named.Draining:
			return store.Cluster{}, refusal.New(connect.CodeFailedPrecondition,
				"the cluster %q is draining and takes no new runs; name another queue, or run: biplane cluster drain --undo %s", queue, queue)
		case found && named.JoinedAt.IsZero():
			return store.Cluster{}, refusal.New(connect.CodeFailedPrecondition,
				"the cluster %q has not joined yet; install its data plane with: biplane dataplane chart install --cluster %s", queue, queue)
		case found:
			return named, nil
		}
	}
	prefer := project
	if from, ok := caller.From(ctx); ok {
		prefer = from.Cluster
	}
	own, found, err := find(ctx, s, organization, prefer)
	if err != nil {
		return store.Cluster{}, err
	}
	if found && takesRuns(own) {
		return own, nil
	}
	all, _, err := s.ListClusters(ctx, organization, store.Query{Limit: 1000})
	if err != nil {
		return store.Cluster{}, err
	}
	joined := false
	for _, c := range all {
		if takesRuns(c) {
			return c, nil
		}
		joined = joined || !c.JoinedAt.IsZero()
	}
	if joined {
		return store.Cluster{}, refusal.New(connect.CodeFailedPrecondition, "no cluster takes new runs: all are draining; undo it with: biplane cluster drain --undo NAME")
	}
	return store.Cluster{}, refusal.New(connect.CodeFailedPrecondition, "no cluster is joined; register one with: biplane cluster add NAME")
}

func takesRuns(c store.Cluster) bool { return !c.JoinedAt.IsZero() && !c.Draining }

func find(ctx context.Context, s *store.Store, organization, name string) (store.Cluster, bool, error) {
	c, err := s.GetCluster(ctx, organization, name)
	var missing *store.NotFoundError
	if errors.As(err, &missing) {
		return store.Cluster{}, false, nil
	}
	return c, err == nil, err
}
