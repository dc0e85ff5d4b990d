package serve

import (
	"context"
	"errors"

	"connectrpc.com/connect"
)

// ErrDraining is what a stream ends with when the process is being shut down,
// and the cause of the contexts of calls that did not finish in time.
func ErrDraining() error {
	return connect.NewError(connect.CodeUnavailable, errors.New("this server is being shut down; call again"))
}

type drainingKey struct{}

// Draining is closed when the handlers of streams are to end them, with
// ErrDraining. It is nil, and never closes, for a context that is not a request's.
func Draining(ctx context.Context) <-chan struct{} {
	draining, _ := ctx.Value(drainingKey{}).(<-chan struct{})
	return draining
}

// Interceptor of every Connect handler: what ended because this server is being
// shut down is UNAVAILABLE, and never CANCELED.
func Interceptor() connect.Interceptor { return interceptor{} }

type interceptor struct{}

func (interceptor) WrapUnary(next connect.UnaryFunc) connect.UnaryFunc {
	return func(ctx context.Context, request connect.AnyRequest) (connect.AnyResponse, error) {
		response, err := next(ctx, request)
		return response, translate(ctx, err)
	}
}

func (interceptor) WrapStreamingClient(next connect.StreamingClientFunc) connect.StreamingClientFunc {
	return next
}

func (interceptor) WrapStreamingHandler(next connect.StreamingHandlerFunc) connect.StreamingHandlerFunc {
	return func(ctx context.Context, stream connect.StreamingHandlerConn) error {
		return translate(ctx, next(ctx, stream))
	}
}

func translate(ctx context.Context, err error) error {
	if err == nil || !errors.Is(err, context.Canceled) && connect.CodeOf(err) != connect.CodeCanceled {
		return err
	}
	select {
	case <-Draining(ctx):
		return ErrDraining()
	default:
		return err
	}
}
