// Package fault says what IAM's errors mean to a step: a thing that is not
// there, a right that is missing, a moment that passes. It is not for texts: those
// who branch on an error find the kinds here, and people get the error itself.
package fault

import (
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/step"
)

// NoSuchEntity reports whether IAM says that the thing isn't there.
func NoSuchEntity(err error) bool {
	var none *types.NoSuchEntityException
	return errors.As(err, &none)
}

// Denied reports whether AWS says that the caller may not do it.
func Denied(err error) bool {
	var refused smithy.APIError
	return errors.As(err, &refused) && (refused.ErrorCode() == "AccessDenied" || refused.ErrorCode() == "AccessDeniedException")
}

// Passing marks with step.ErrConflict the errors that end by looking again:
// somebody was faster, or what was written a moment ago is not everywhere yet.
func Passing(err error) error {
	if err == nil {
		return nil
	}
	var (
		exists       *types.EntityAlreadyExistsException
		concurrent   *types.ConcurrentModificationException
		inUse        *types.DeleteConflictException
		unmodifiable *types.EntityTemporarilyUnmodifiableException
	)
	if errors.As(err, &exists) || errors.As(err, &concurrent) || errors.As(err, &inUse) || errors.As(err, &unmodifiable) || NoSuchEntity(err) {
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
