package stack

import (
	"context"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/step"
)

// GrantSteps are the steps of a grant by a stack: the stack's own, and a refusal for each
// role and policy that stands in its way.
func GrantSteps(ctx context.Context, p Place, w Wanted) ([]step.Step, error) {
	there, err := Read(ctx, p.CloudFormation, p.Vendor, w.Name)
	if err != nil {
		return nil, err
	}
	steps := []step.Step{NewStep(p, w)}
	var held []string
	if there != nil {
		if !there.Ours {
			return steps, nil // which is refused, or has nothing yet
		}
		holds, err := ReadHolds(ctx, p.CloudFormation, there)
		if err != nil {
			return nil, err
		}
		held = holds.Names()
	}
	obstacles, err := access.InTheWay(ctx, p.IAM, w.Set, p.Vendor, held)
	if err != nil {
		return nil, err
	}
	for _, o := range obstacles {
		steps = append(steps, obstacle{o})
	}
	return steps, nil
}

// obstacle is a step that refuses.
type obstacle struct{ planned step.Planned }

func (o obstacle) Name() string                { return o.planned.Name }
func (o obstacle) Needs() []string             { return nil }
func (o obstacle) Check(context.Context) error { return nil }

func (o obstacle) Look(context.Context, step.Goal) (step.Found, error) {
	return step.Untouched(o.planned.Change), nil
}
