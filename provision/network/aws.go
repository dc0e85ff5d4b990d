package network

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/step"
)

// code is the code of an AWS error, or the error itself.
func code(err error) string {
	var refused smithy.APIError
	if errors.As(err, &refused) {
		return refused.ErrorCode()
	}
	if err == nil {
		return ""
	}
	return err.Error()
}

// denied reports whether AWS says that the caller may not do it.
func denied(err error) bool {
	switch code(err) {
	case "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation":
		return true
	}
	return false
}

// gone reports whether AWS says that the thing isn't there. EC2 has a code for each kind
// of thing: InvalidVpcID.NotFound, NatGatewayNotFound, InvalidAssociationID.NotFound.
func gone(err error) bool {
	c := code(err)
	return strings.HasSuffix(c, "NotFound") || strings.HasSuffix(c, "NotFoundException") || c == "NoSuchEntity" || c == "Gateway.NotAttached"
}

// passing marks the errors that end by looking again: somebody was faster, or what was
// made a moment ago is not seen everywhere yet.
func passing(err error) error {
	c := code(err)
	switch {
	case err == nil:
		return nil
	case gone(err), strings.HasSuffix(c, "AlreadyExists"), strings.HasSuffix(c, "AlreadyExistsException"), strings.HasSuffix(c, ".Duplicate"),
		c == "Resource.AlreadyAssociated", c == "IncorrectState", c == "OperationAbortedException", c == "ConcurrentModification",
		c == "EntityTemporarilyUnmodifiable", c == "DeleteConflict", c == "EntityAlreadyExists":
		return fmt.Errorf("%w: %w", step.ErrConflict, err)
	}
	return err
}

// inUse is for removing: what is gone is as good as removed, and what something still
// hangs on is removed when that has gone.
func inUse(err error, what string) error {
	switch c := code(err); {
	case err == nil || gone(err):
		return nil
	case c == "DependencyViolation", strings.HasSuffix(c, ".InUse"), c == "IncorrectState", c == "OperationNotPermitted":
		return fmt.Errorf("%s is still in use: %w: %w", what, step.ErrNotYet, err)
	}
	return passing(err)
}

func tagMap(tags []types.Tag) map[string]string {
	m := make(map[string]string, len(tags))
	for _, t := range tags {
		m[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return m
}

func tagList(tags map[string]string) []types.Tag {
	var list []types.Tag
	for _, key := range ownership.Keys(tags) {
		list = append(list, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return list
}

// tagged is what a call that makes a thing says of its tags.
func tagged(kind types.ResourceType, tags map[string]string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: kind, Tags: tagList(tags)}}
}
