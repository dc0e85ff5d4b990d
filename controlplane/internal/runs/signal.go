package runs

import (
	"context"
	"strings"

	"connectrpc.com/connect"

	"biplane.dev/biplane/api/gen/flyteidl2/actions"
	"biplane.dev/biplane/api/gen/flyteidl2/common"
	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
	"biplane.dev/biplane/controlplane/internal/identity"
	"biplane.dev/biplane/controlplane/internal/refusal"
)

// SignalEvent gives a condition the value that it waits for. The value is the
// customer's: it goes straight to the data plane, and is never kept here.
func (s *Service) SignalEvent(ctx context.Context, r *workflow.SignalEventRequest) (*workflow.SignalEventResponse, error) {
	key, err := s.actionKey(ctx, r.GetActionId())
	if err != nil {
		return nil, err
	}
	found, err := s.store.GetAction(ctx, key)
	if err != nil {
		return nil, unknownAction(key, err)
	}
	condition := found.Action
	if condition.Type != workflow.ActionType_ACTION_TYPE_CONDITION {
		return nil, refusal.New(connect.CodeFailedPrecondition, "the action %q is not a condition; list those with: flyte get action %s", key.Name, key.Run.Name)
	}
	// Whether the value of one that was signalled is the same, the executor knows.
	if condition.Ended() && condition.Phase != common.ActionPhase_ACTION_PHASE_SUCCEEDED {
		return nil, refusal.New(connect.CodeFailedPrecondition, "the condition %q has ended as %s, and takes no value any more", condition.Title, phaseName(condition.Phase))
	}
	parent := r.GetParentActionName()
	if parent != "" && parent != condition.Parent {
		return nil, refusal.Invalid("the condition %q is below the action %q, not below %.30q", condition.Title, condition.Parent, parent)
	}
	value, err := literal(condition.Title, condition.Condition.GetType(), r.GetPayload())
	if err != nil {
		return nil, err
	}
	_, err = s.planes.Executor(key.Run.Organization, found.Run.Cluster).Signal(ctx, &actions.SignalRequest{
		ActionId: key.Proto(), ParentActionName: condition.Parent, Value: value, SignalledBy: identity.Principal(ctx),
	})
	if err != nil {
		return nil, err
	}
	return &workflow.SignalEventResponse{}, nil
}

const maxText = 64 << 10

// literal is the payload as a value of the condition's type.
func literal(title string, want *core.LiteralType, payload *workflow.EventPayload) (*core.Literal, error) {
	var (
		value *core.Primitive
		is    core.SimpleType
	)
	switch given := payload.GetValue().(type) {
	case *workflow.EventPayload_BoolValue:
		value, is = &core.Primitive{Value: &core.Primitive_Boolean{Boolean: given.BoolValue}}, core.SimpleType_BOOLEAN
	case *workflow.EventPayload_IntValue:
		value, is = &core.Primitive{Value: &core.Primitive_Integer{Integer: given.IntValue}}, core.SimpleType_INTEGER
		if want.GetSimple() == core.SimpleType_FLOAT { // 3 is a float that somebody wrote short
			value, is = &core.Primitive{Value: &core.Primitive_FloatValue{FloatValue: float64(given.IntValue)}}, core.SimpleType_FLOAT
		}
	case *workflow.EventPayload_FloatValue:
		value, is = &core.Primitive{Value: &core.Primitive_FloatValue{FloatValue: given.FloatValue}}, core.SimpleType_FLOAT
	case *workflow.EventPayload_StringValue:
		if len(given.StringValue) > maxText {
			return nil, refusal.Invalid("the value for the condition %q has %d bytes, and may have %d", title, len(given.StringValue), maxText)
		}
		value, is = &core.Primitive{Value: &core.Primitive_StringValue{StringValue: given.StringValue}}, core.SimpleType_STRING
	default:
		return nil, refusal.Invalid("the request has no value for the condition %q", title)
	}
	if want != nil && want.GetSimple() != is {
		return nil, refusal.Invalid("the condition %q takes a value of type %v, and the request has one of type %v", title, want.GetSimple(), is)
	}
	return &core.Literal{Value: &core.Literal_Scalar{Scalar: &core.Scalar{Value: &core.Scalar_Primitive{Primitive: value}}}}, nil
}

// phaseName is a phase as people write it.
func phaseName(phase common.ActionPhase) string {
	return strings.TrimPrefix(phase.String(), "ACTION_PHASE_")
}
