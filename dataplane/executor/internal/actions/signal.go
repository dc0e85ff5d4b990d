package actions

import (
	"bytes"
	"context"
	"errors"

	"connectrpc.com/connect"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	flyteactions "biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/dataplane/api/v1alpha1"
	"biplane.dev/biplane/dataplane/executor/internal/condition"
)

// maxValue of a signal, in bytes. A person typed it.
const maxValue = 64 << 10

// Signal gives a condition the value that it waits for. Twice the same is once.
func (s *Server) Signal(ctx context.Context, request *flyteactions.SignalRequest) (*flyteactions.SignalResponse, error) {
	who, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if !who.operator() {
		return nil, refuse(connect.CodePermissionDenied, "a pod may not signal a condition: a person does, by the control plane")
	}
	r, err := resolve(request.GetActionId())
	if err != nil {
		return nil, err
	}
	value, err := encode(request.GetValue())
	if err != nil {
		return nil, err
	}
	if len(value) > maxValue {
		return nil, refuse(connect.CodeInvalidArgument, "value has %d bytes: give at most %d", len(value), maxValue)
	}
	action, err := s.find(ctx, r)
	if err == nil && request.GetParentActionName() != "" && action.Spec.Parent != request.GetParentActionName() {
		err = errUnknown
	}
	if err == nil {
		_, err = s.change(ctx, action, func(a *v1alpha1.TaskAction) error {
			return signal(a, request.GetValue(), value, identity(request.GetSignalledBy()))
		})
	}
	if errors.Is(err, errUnknown) {
		return nil, notFound(r)
	}
	if err != nil {
		return nil, err
	}
	return &flyteactions.SignalResponse{}, nil
}

func signal(a *v1alpha1.TaskAction, value *core.Literal, encoded []byte, by string) error {
	r := referenceTo(a)
	if a.Spec.Type != v1alpha1.TypeCondition {
		return refuse(connect.CodeInvalidArgument, "action %s is a %s: only a condition is signalled", r, a.Spec.Type)
	}
	if err := fits(a, value); err != nil {
		return err
	}
	switch {
	case a.Spec.Signal != nil && bytes.Equal(a.Spec.Signal.Value, encoded):
		return errUnchanged
	case a.Spec.Signal != nil:
		return refuse(connect.CodeFailedPrecondition, "condition %s has been signalled already, with another value", r)
	case a.Spec.Abort != nil || a.Status.Phase.Terminal():
		return refuse(connect.CodeFailedPrecondition, "condition %s has ended", r)
	case a.Status.Phase != v1alpha1.Paused:
		return refuse(connect.CodeFailedPrecondition, "condition %s does not wait yet; try again", r)
	}
	a.Spec.Signal = &v1alpha1.Signal{Value: encoded, By: by, At: metav1.Now()}
	return nil
}

// fits says why a value is not what a condition waits for. The value itself is
// customer data, and in no sentence.
func fits(a *v1alpha1.TaskAction, value *core.Literal) error {
	switch fits, want, err := condition.Fits(a.Spec.Condition, value); {
	case err != nil:
		return refuse(connect.CodeInternal, "the condition %s cannot be read", referenceTo(a))
	case !fits:
		return refuse(connect.CodeInvalidArgument, "the value is no %s, which condition %s waits for: give one", want, referenceTo(a))
	}
	return nil
}
