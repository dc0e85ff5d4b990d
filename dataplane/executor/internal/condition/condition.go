// Package condition knows which values a condition may wait for.
package condition

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"biplane.dev/biplane/api/gen/flyteidl2/core"
	"biplane.dev/biplane/api/gen/flyteidl2/workflow"
)

// kinds of values.
var kinds = map[core.SimpleType]func(*core.Primitive) bool{
	core.SimpleType_INTEGER: func(p *core.Primitive) bool { _, ok := p.GetValue().(*core.Primitive_Integer); return ok },
	core.SimpleType_FLOAT:   func(p *core.Primitive) bool { _, ok := p.GetValue().(*core.Primitive_FloatValue); return ok },
	core.SimpleType_STRING:  func(p *core.Primitive) bool { _, ok := p.GetValue().(*core.Primitive_StringValue); return ok },
	core.SimpleType_BOOLEAN: func(p *core.Primitive) bool { _, ok := p.GetValue().(*core.Primitive_Boolean); return ok },
}

// Possible says whether a condition may wait for a value of a type: INTEGER, FLOAT,
// STRING or BOOLEAN.
func Possible(of *core.LiteralType) bool { return kinds[of.GetSimple()] != nil }

// Fits says whether a value is what a condition, as it is kept in an action, waits
// for, and what that is.
func Fits(kept []byte, value *core.Literal) (fits bool, want core.SimpleType, err error) {
	condition := &workflow.ConditionAction{}
	if err := proto.Unmarshal(kept, condition); err != nil {
		return false, want, fmt.Errorf("the condition cannot be decoded: %w", err)
	}
	want = condition.GetType().GetSimple()
	is, ok := kinds[want]
	return ok && is(value.GetScalar().GetPrimitive()), want, nil
}
