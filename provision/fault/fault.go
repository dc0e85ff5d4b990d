// Package fault says what AWS's errors mean to a step: a thing that is not
// there, a right that is missing, a quota that is used up (quota.go), a moment that
// passes. It is not for texts: those
// who branch on an error find the kinds here, and people get the error itself.
package fault

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/step"
)

// NoSuchEntity reports whether IAM says that the thing isn't there.
func NoSuchEntity(err error) bool {
	var none *types.NoSuchEntityException
	return errors.As(err, &none)
}

// Code is AWS's code of an error; "" for one that AWS did not give.
func Code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

// Denied reports whether AWS says that the caller may not do it.
func Denied(err error) bool {
	return slices.Contains([]string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}, Code(err))
}

// Gone reports whether AWS says that the thing isn't there. Every service has its
// own code for it.
func Gone(err error) bool {
	code := Code(err)
	return slices.Contains([]string{
		"NoSuchEntity", "ResourceNotFoundException", "NotFoundException", "RepositoryNotFoundException",
		"LifecyclePolicyNotFoundException", "QueueDoesNotExist", "AWS.SimpleQueueService.NonExistentQueue",
		"ClusterNotFoundException", "ServiceNotFoundException", "NoSuchHostedZone",
		"LoadBalancerNotFound", "TargetGroupNotFound", "ListenerNotFound",
	}, code) || strings.HasPrefix(code, "Invalid") && strings.HasSuffix(code, ".NotFound") ||
		code == "NatGatewayNotFound" || code == "InvalidAllocationID.NotFound"
}

// settling are codes of a moment that passes: the thing is at work on something else,
// or something still hangs on it, or somebody was faster.
var settling = []string{
	"ResourceInUseException", "ResourceInUse", "DependencyViolation", "OperationAbortedException", "OperationNotPermitted",
	"ConcurrentModificationException", "ConcurrentModification", "EntityAlreadyExists", "DeleteConflict", "EntityTemporarilyUnmodifiable",
	"AlreadyExistsException", "ResourceAlreadyExistsException", "RepositoryAlreadyExistsException", "InvalidKeyPair.Duplicate",
	"InvalidLaunchTemplateName.AlreadyExistsException", "DuplicateTargetGroupName", "QueueDeletedRecently", "AWS.SimpleQueueService.QueueDeletedRecently",
	"InvalidIPAddress.InUse", "InvalidNetworkInterface.InUse", "Resource.AlreadyAssociated", "KMSInvalidStateException",
}

// propagating are pieces of what services answer while IAM does not show a new role
// to them yet; it takes seconds, and up to a minute.
var propagating = []string{
	"cannot be assumed", "could not be assumed", "unable to assume", "is not authorized to perform: iam:PassRole",
	"Invalid IAM Instance Profile", "Invalid iamInstanceProfile", "not a valid role", "does not exist or is not authorized",
	"Invalid principal in policy", "one or more invalid principals", "Role doesn't exist", "is invalid or cannot be assumed",
}

// propagates reports whether an error is of that kind.
func propagates(err error) bool {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return false
	}
	return slices.ContainsFunc(propagating, func(text string) bool {
		return strings.Contains(strings.ToLower(api.ErrorMessage()), strings.ToLower(text))
	})
}

// Passing marks with step.ErrConflict the errors that end by looking again:
// somebody was faster, or what was written a moment ago is not everywhere yet.
func Passing(err error) error {
	if err == nil || errors.Is(err, step.ErrConflict) {
		return err
	}
	if slices.Contains(settling, Code(err)) || NoSuchEntity(err) || Gone(err) || propagates(err) {
		return fmt.Errorf("%w: %w", step.ErrConflict, err)
	}
	return err
}

// UnlessGone is for removing: what is not there any more is as good as removed.
func UnlessGone(err error) error {
	if NoSuchEntity(err) {
		return nil
	}
	return Passing(err)
}

// Text is what AWS says in an error, without the SDK's own words around it.
func Text(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return strings.TrimSuffix(fmt.Sprintf("%s (%s)", strings.TrimSuffix(api.ErrorMessage(), "."), api.ErrorCode()), " ()")
	}
	return err.Error()
}
