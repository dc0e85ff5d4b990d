package proxy

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"connectrpc.com/connect"
)

// refuse returns what a client reads: one sentence, and the next thing to try.
func refuse(code connect.Code, format string, args ...any) error {
	return connect.NewError(code, fmt.Errorf(format, args...))
}

// because is a refusal with a cause, which the log gets and the client does not.
func because(cause error, code connect.Code, format string, args ...any) error {
	return connect.NewError(code, &caused{sentence: fmt.Sprintf(format, args...), cause: cause})
}

type caused struct {
	sentence string
	cause    error
}

func (c *caused) Error() string { return c.sentence }
func (c *caused) Unwrap() error { return c.cause }

// upstream is what a client reads when the control plane did not do what we asked
// it for. What it says of the thing that was asked for is for the client. What it
// says of us is not: the client would take an UNAUTHENTICATED for its own.
func upstream(err error, format string, args ...any) error {
	switch code := connect.CodeOf(err); code {
	case connect.CodeNotFound, connect.CodeInvalidArgument, connect.CodePermissionDenied, connect.CodeFailedPrecondition, connect.CodeUnimplemented:
		answer := (*connect.Error)(nil)
		if errors.As(err, &answer) {
			return because(err, code, "%s", answer.Message())
		}
	}
	return because(err, connect.CodeUnavailable, "%s; try again in a moment", fmt.Sprintf(format, args...))
}

// unreadable is for what should have been read in the bucket and could not be.
func unreadable(cause error, what string) error {
	return because(cause, connect.CodeUnavailable, "%s cannot be read in the bucket now; try again in a moment", what)
}

// translator gives every error a code that the SDK does not misread, and the
// causes of those that are ours to the log.
type translator struct {
	log     *slog.Logger
	metrics *metrics
}

// WrapUnary implements connect.Interceptor.
func (t translator) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		return response, t.translate(ctx, request.Spec().Procedure, err)
	}
}

// WrapStreamingClient implements connect.Interceptor.
func (t translator) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

// WrapStreamingHandler implements connect.Interceptor.
func (t translator) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, stream connect.StreamingHandlerConn) error {
		return t.translate(ctx, stream.Spec().Procedure, next(ctx, stream))
	}
}

func (t translator) translate(ctx context.Context, procedure string, err error) error {
	call := procedure[strings.LastIndexByte(procedure, '/')+1:]
	if err == nil {
		t.metrics.calls.WithLabelValues(call, "ok").Inc()
		return nil
	}
	if answer := (*connect.Error)(nil); !errors.As(err, &answer) {
		switch {
		case ctx.Err() != nil: // the caller is gone, or we are: serve.Interceptor tells the two
		case errors.Is(err, context.DeadlineExceeded):
			err = because(err, connect.CodeUnavailable, "this took too long; try again in a moment")
		default:
			err = because(err, connect.CodeInternal, "this failed for a reason that only the proxy's log has; try again, and look there")
		}
	}
	t.metrics.calls.WithLabelValues(call, connect.CodeOf(err).String()).Inc()
	if cause := (*caused)(nil); errors.As(err, &cause) {
		t.log.Warn("refusing a call", "call", call, "code", connect.CodeOf(err).String(), "answer", cause.sentence, "error", cause.cause)
	}
	return err
}
