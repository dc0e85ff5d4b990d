package server

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"connectrpc.com/connect"

	"biplane.dev/biplane/controlplane/internal/caller"
	"biplane.dev/biplane/controlplane/internal/names"
	"biplane.dev/biplane/controlplane/internal/refusal"
	"biplane.dev/biplane/controlplane/internal/store"
)

const requestID = "X-Request-Id"

// errDraining is why a stream ends that would have gone on.
var errDraining = errors.New("the server is shutting down; call again")

// interceptor is what every call has in common: who may call, what is answered
// when it fails, the log and the metrics.
type interceptor struct{ server *Server }

var _ connect.Interceptor = (*interceptor)(nil)

// WrapUnary is around every unary call.
func (i *interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		call := i.begin(ctx, request.Spec().Procedure, request.Header())
		var response connect.AnyResponse
		err := call.allowed
		if err == nil {
			response, err = next(ctx, request)
		}
		if err = call.end(ctx, ctx, err); err != nil {
			return nil, err
		}
		response.Header().Set(requestID, call.id)
		return response, nil
	}
}

// WrapStreamingClient is not ours.
func (i *interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler is around every stream, which it ends when the server
// stops.
func (i *interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(outer context.Context, conn connect.StreamingHandlerConn) error {
		call := i.begin(outer, conn.Spec().Procedure, conn.RequestHeader())
		conn.ResponseHeader().Set(requestID, call.id)
		ctx, cancel := context.WithCancelCause(outer)
		defer cancel(nil)
		stop := context.AfterFunc(i.server.draining, func() { cancel(errDraining) })
		defer stop()
		streams := i.server.metrics.streams.WithLabelValues(call.procedure)
		streams.Inc()
		defer streams.Dec()
		err := call.allowed
		if err == nil {
			err = next(ctx, conn)
		}
		return call.end(outer, ctx, err)
	}
}

// call is one call under way.
type call struct {
	server    *Server
	procedure string
	id        string
	began     time.Time
	allowed   error
	log       *slog.Logger
}

func (i *interceptor) begin(ctx context.Context, procedure string, header http.Header) *call {
	id := header.Get(requestID)
	if id == "" || len(id) > 128 || strings.ContainsFunc(id, func(r rune) bool { return r <= ' ' || r > '~' }) {
		id = rand.Text()
	}
	log := i.server.options.Log.With("method", strings.TrimPrefix(procedure, "/"), "request", id)
	if from, ok := caller.From(ctx); ok {
		log = log.With("cluster", from.Cluster, "account", from.ServiceAccount)
	}
	return &call{server: i.server, procedure: procedure, id: id, began: time.Now(), allowed: allow(ctx, procedure), log: log}
}

// end says how the call ended: to the log, to the metrics, and in the words that
// the client gets. The client left where outer is done; where ctx alone is, we
// ended the call.
func (c *call) end(outer, ctx context.Context, err error) error {
	answer := c.answer(outer, ctx, err)
	took := time.Since(c.began)
	code := "ok"
	if answer != nil {
		code = answer.Code().String()
	}
	c.server.metrics.calls.WithLabelValues(c.procedure, code).Inc()
	c.server.metrics.seconds.WithLabelValues(c.procedure).Observe(took.Seconds())
	switch {
	case answer == nil:
		c.log.Debug("served", "code", code, "took", took)
		return nil // not a *connect.Error that is nil
	case answer.Code() == connect.CodeInternal:
		c.log.Error("failed", "code", code, "took", took, "error", refusal.Chain(err))
	case answer.Code() == connect.CodeCanceled:
		c.log.Debug("left by its client", "code", code, "took", took)
	default:
		c.log.Info("refused", "code", code, "took", took, "error", refusal.Chain(err))
	}
	return answer
}

// answer translates what a service returned. It is never UNKNOWN, which the SDK
// takes for a missing login, and CANCELED only for a client that left: one that
// is there stops watching for ever.
func (c *call) answer(outer, ctx context.Context, err error) *connect.Error {
	var (
		said    *connect.Error
		name    *names.Error
		missing *store.NotFoundError
		exists  *store.ExistsError
		refused *store.RefusedError
		query   *store.QueryError
	)
	switch {
	case err == nil:
		return nil
	case outer.Err() == nil && context.Cause(ctx) == errDraining:
		return refusal.New(connect.CodeUnavailable, "%s", errDraining.Error())
	case errors.As(err, &said):
		switch {
		case said.Code() == connect.CodeUnknown:
		case said.Code() == connect.CodeCanceled && outer.Err() == nil:
			return refusal.Because(err, connect.CodeUnavailable, "the call was ended behind this server; call again")
		case connect.IsWireError(said):
			return passedOn(said)
		default:
			return said
		}
	case errors.As(err, &name):
		return refusal.Because(err, connect.CodeInvalidArgument, "%s", name.Error())
	case errors.As(err, &query):
		return refusal.Because(err, connect.CodeInvalidArgument, "%s", query.Error())
	case errors.As(err, &missing):
		return refusal.Because(err, connect.CodeNotFound, "%s", missing.Error())
	case errors.As(err, &exists):
		return refusal.Because(err, connect.CodeAlreadyExists, "%s", exists.Error())
	case errors.As(err, &refused):
		return refusal.Because(err, connect.CodeFailedPrecondition, "%s", refused.Error())
	case errors.Is(err, context.DeadlineExceeded):
		return refusal.Because(err, connect.CodeDeadlineExceeded, "the call took longer than it may")
	case errors.Is(err, context.Canceled) && outer.Err() != nil:
		return refusal.Because(err, connect.CodeCanceled, "the client left")
	case store.Unreachable(err):
		// Unlike INTERNAL, a client that watches takes it for a reason to go on.
		return refusal.Because(err, connect.CodeUnavailable, "the server's database cannot be reached now; try again")
	}
	return refusal.Because(err, connect.CodeInternal, "the server failed; its log says why, at request %s", c.id)
}

// passedOn is an error of a data plane without the headers that came with it.
func passedOn(from *connect.Error) *connect.Error {
	fresh := refusal.Because(from, from.Code(), "%s", from.Message())
	for _, detail := range from.Details() {
		fresh.AddDetail(detail)
	}
	return fresh
}

// recover answers for a service that panicked.
func (s *Server) recover(_ context.Context, spec connect.Spec, _ http.Header, value any) error {
	s.metrics.panics.Inc()
	s.options.Log.Error("panicked", "method", strings.TrimPrefix(spec.Procedure, "/"), "panic", value, "stack", string(debug.Stack()))
	return refusal.New(connect.CodeInternal, "the server failed; its log says why")
}
