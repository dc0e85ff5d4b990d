package dataplane

import (
	"context"

	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// FailedSteps are the steps that remove nothing but what has failed.
func FailedSteps(p *plane.Plane) ([]step.Step, error) {
	p.FailedOnly = true
	steps, err := Steps(p)
	for i, s := range steps {
		inner := s
		if g, ok := s.(*granted); ok {
			inner = g.Step
		}
		if _, ok := inner.(*resource.Resource); !ok {
			steps[i] = untouched{s} // it has no state in which it failed
		}
	}
	return steps, err
}

// untouched is a step that is not even looked at.
type untouched struct{ step.Step }

func (untouched) Look(context.Context, step.Goal) (step.Found, error) {
	return step.Untouched{Action: step.None}, nil
}
