package stack

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/step"
)

// validation is CloudFormation's code for nearly everything; what it means is in the
// message alone.
const validation = "ValidationError"

// absent reports whether CloudFormation says that there is no such stack or change set.
func absent(err error) bool {
	code := fault.Code(err)
	return code == validation && strings.Contains(fault.Text(err), "does not exist") ||
		slices.Contains([]string{"ChangeSetNotFound", "ChangeSetNotFoundException", "StackNotFoundException"}, code)
}

// changesNothing reports whether a change set failed for want of a change, as the AWS CLI's
// deploy finds out.
func changesNothing(set *cloudformation.DescribeChangeSetOutput) bool {
	reason := aws.ToString(set.StatusReason)
	return set.Status == types.ChangeSetStatusFailed &&
		(strings.Contains(reason, "didn't contain changes") || strings.Contains(reason, "No updates are to be performed"))
}

// passing marks the errors that end by looking again: somebody was faster, or is at work.
func passing(err error) error {
	if err == nil || errors.Is(err, step.ErrConflict) {
		return err
	}
	code := fault.Code(err)
	if absent(err) || code == validation && strings.Contains(fault.Text(err), "_IN_PROGRESS") ||
		slices.Contains([]string{"AlreadyExistsException", "InvalidChangeSetStatus", "InvalidChangeSetStatusException", "TokenAlreadyExistsException",
			"OperationInProgressException", "BucketAlreadyOwnedByYou", "NoSuchBucket", "BucketNotEmpty", "OperationAborted"}, code) {
		return fmt.Errorf("%w: %w", step.ErrConflict, err)
	}
	return fault.Passing(err)
}

// failure is what became of a change set that this run executed.
func (s *stackStep) failure(ctx context.Context, stack *Stack) error {
	if stack == nil {
		return usererr.New(usererr.Refused, "somebody deleted stack %s while it was made", s.wanted.Name).WithHint("run the same command again")
	}
	why := s.reasons(ctx, stack)
	if dead(stack.Status) {
		return usererr.New(usererr.Refused, "stack %s could not be made: %s", stack.Name, why).
			WithHint("correct that and run the same command again: it deletes what is left of the stack (%s) and makes it anew", stack.Status)
	}
	return usererr.New(usererr.Refused, "stack %s could not be changed: %s; it is as it was (%s)", stack.Name, why, stack.Status).
		WithHint("correct that and run the same command again")
}

// reasons are the first failures of the last operation, in one line; what was cancelled for
// their sake is no reason.
func (p Place) reasons(ctx context.Context, stack *Stack) string {
	var why []string
	pages := cloudformation.NewDescribeStackEventsPaginator(p.CloudFormation, &cloudformation.DescribeStackEventsInput{StackName: &stack.ID})
events:
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		if err != nil {
			break // the state says something, too
		}
		for _, e := range page.StackEvents { // the newest first
			reason := aws.ToString(e.ResourceStatusReason)
			if strings.HasSuffix(string(e.ResourceStatus), "_FAILED") && reason != "" && !strings.Contains(reason, "cancelled") && aws.ToString(e.LogicalResourceId) != stack.Name {
				why = append(why, fmt.Sprintf("%s %s: %s", aws.ToString(e.ResourceType), aws.ToString(e.LogicalResourceId), strings.TrimSuffix(reason, ".")))
			}
			if aws.ToString(e.PhysicalResourceId) == stack.ID && begins(e.ResourceStatus) {
				break events
			}
		}
	}
	if len(why) == 0 {
		return strings.TrimSuffix(fmt.Sprintf("it is in %s: %s", stack.Status, stack.StatusReason), ": ")
	}
	slices.Reverse(why)
	if len(why) > 2 {
		why = append(why[:2], fmt.Sprintf("and %d more", len(why)-2))
	}
	return strings.Join(why, "; ")
}

// begins is the state with which an operation on a stack begins.
func begins(s types.ResourceStatus) bool {
	return slices.Contains([]types.ResourceStatus{types.ResourceStatusCreateInProgress, types.ResourceStatusUpdateInProgress, types.ResourceStatusDeleteInProgress}, s)
}

// howFar says what a stack is at: "role union-ai-admin is being made, 12 of 19 are".
func (p Place) howFar(ctx context.Context, stack *Stack) string {
	out, err := p.CloudFormation.DescribeStackResources(ctx, &cloudformation.DescribeStackResourcesInput{StackName: &stack.ID})
	if err != nil {
		return "it is in " + string(stack.Status)
	}
	done, at := 0, ""
	for _, r := range out.StackResources {
		if strings.HasSuffix(string(r.ResourceStatus), "_COMPLETE") {
			done++
		} else {
			at = aws.ToString(r.LogicalResourceId)
		}
	}
	text := fmt.Sprintf("%s, %d resources done", stack.Status, done)
	if at != "" {
		text += ", now " + at
	}
	return text
}

func thousands(n int) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
