// Package actions is the ActionsService of a data plane: how actions come to be
// (Enqueue), and how a parent follows, aborts and signals them.
//
// Whatever it is told it writes into the spec of a TaskAction, and answers once
// the API server has it; what becomes of the action is the reconciler's, who
// alone writes the status. Nothing is kept in memory that a restart would lose.
//
// It does not find out who calls, which is package authn around the handler, and
// it tells the control plane nothing, which is package report.
//
// Start with New; each call has a file of its own.
package actions

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"

	"connectrpc.com/connect"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/actions/actionsconnect"
	"biplane.dev/biplane/dataplane/internal/serve"
)

// Options of New.
type Options struct {
	// Client reads and writes at the API server itself, not through a cache.
	Client client.Client
	// Cache answers all reads that it can. New adds indexes to it, so it is not
	// started yet.
	Cache cache.Cache
	// Namespace of the data plane's own processes. Default: union.
	Namespace string
	Metrics   prometheus.Registerer
	Log       *slog.Logger
}

// Server implements actionsconnect.ActionsServiceHandler.
type Server struct {
	Options

	watchers *watchers
	metrics  *metrics
	writing  *semaphore.Weighted
}

var _ actionsconnect.ActionsServiceHandler = (*Server)(nil)

// New returns a server, which may be called once the cache is started.
func New(ctx context.Context, options Options) (*Server, error) {
	if options.Namespace == "" {
		options.Namespace = "union"
	}
	s := &Server{Options: options, watchers: newWatchers(), writing: semaphore.NewWeighted(maxWriting)}
	var err error
	if s.metrics, err = newMetrics(options.Metrics, s.watchers.count); err != nil {
		return nil, err
	}
	if err := s.index(ctx); err != nil {
		return nil, fmt.Errorf("indexing the cache: %w", err)
	}
	if err := s.watchers.follow(ctx, options.Cache); err != nil {
		return nil, fmt.Errorf("following the cache: %w", err)
	}
	return s, nil
}

// maxWriting is how many calls enqueue at the same time. The others wait in line,
// so that with a hundred parents at once the first is served well before its
// client gives up, instead of all of them just after.
const maxWriting = 64

// Handler returns the path to mount, and what answers there: Connect, gRPC and
// gRPC-Web. It goes inside of authn's Wrap.
func (s *Server) Handler() (string, http.Handler) {
	return actionsconnect.NewActionsServiceHandler(s,
		connect.WithInterceptors(serve.Interceptor(), s.metrics), connect.WithReadMaxBytes(maxMessage))
}

// maxMessage is well over limits.TaskSpecBytes, so that who sends a larger template is told
// which limit it is that matters.
const maxMessage = 8 << 20

// Update is for executors that are apart from this service. Ours writes the
// status of its TaskActions.
func (s *Server) Update(context.Context, *flyteactions.UpdateRequest) (*flyteactions.UpdateResponse, error) {
	return nil, connect.NewError(connect.CodeUnimplemented,
		errors.New("Update is not served here: the executor alone says what becomes of an action"))
}
