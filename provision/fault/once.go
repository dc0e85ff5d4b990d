package fault

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"biplane.dev/biplane/provision/step"
)

// another are the calls that make another thing when they are sent again: they take
// neither a client token nor a name that is there once. Of a subnet, AWS would refuse the
// second for its range; of a policy's versions, it keeps five.
var another = []string{"CreatePolicyVersion", "CreateVpc", "CreateSubnet", "CreateInternetGateway", "AllocateAddress", "CreateKey", "RegisterTaskDefinition"}

// Once is for aws.Config.APIOptions. The SDK sends a call again whose answer it did not
// get, and AWS may have performed it. For the calls above, that ends in a
// step.ErrUnclear instead: the Runner looks before it makes the thing again.
func Once(stack *middleware.Stack) error {
	return stack.Finalize.Insert(middleware.FinalizeMiddlewareFunc("BiplaneOnce", func(
		ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler,
	) (middleware.FinalizeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleFinalize(ctx, in)
		if operation := awsmiddleware.GetOperationName(ctx); err != nil && ctx.Err() == nil && slices.Contains(another, operation) && maybePerformed(err) {
			err = &unclear{operation, err}
		}
		return out, metadata, err
	}), "Retry", middleware.After)
}

// maybePerformed reports whether AWS may have done what ended in an error.
func maybePerformed(err error) bool {
	var response *smithyhttp.ResponseError
	if errors.As(err, &response) && response.HTTPStatusCode() != 0 {
		throttled := retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) == aws.TrueTernary
		return response.HTTPStatusCode() >= 500 && !throttled || response.HTTPStatusCode() < 300
	}
	var sent *smithyhttp.RequestSendError
	var unread *smithy.DeserializationError
	if dial, ok := errors.AsType[*net.OpError](err); ok && dial.Op == "dial" {
		return false
	}
	return errors.As(err, &sent) || errors.As(err, &unread)
}

// unclear tells the SDK and the Runner what to do after an error.
type unclear struct {
	operation string
	err       error
}

func (u *unclear) Error() string {
	return fmt.Sprintf("AWS's answer to %s was lost, so it may have been done: %v", u.operation, u.err)
}
func (u *unclear) Unwrap() []error      { return []error{step.ErrUnclear, u.err} }
func (u *unclear) RetryableError() bool { return false }
