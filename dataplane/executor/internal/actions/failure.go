package actions

import (
	"context"
	"errors"
	"fmt"

	"connectrpc.com/connect"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// refuse is one sentence for a caller.
func refuse(code connect.Code, format string, args ...any) error {
	return connect.NewError(code, fmt.Errorf(format, args...))
}

// failed answers for a call to the API server that did not go well, and logs it:
// the caller can do nothing about it but try again, which changes nothing that is
// done already.
func (s *Server) failed(ctx context.Context, doing string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return connect.NewError(connect.CodeUnavailable, errors.New("the call was given up before the cluster had answered; call again"))
	case apierrors.IsInvalid(err), apierrors.IsBadRequest(err), apierrors.IsRequestEntityTooLargeError(err):
		s.Log.ErrorContext(ctx, "the API server refuses an object", "doing", doing, "error", err)
		return refuse(connect.CodeInvalidArgument, "the cluster does not take this action: %w", err)
	}
	s.Log.WarnContext(ctx, "the API server did not do it", "doing", doing, "error", err)
	return connect.NewError(connect.CodeUnavailable, errors.New("the cluster's API server does not do this now; call again"))
}
