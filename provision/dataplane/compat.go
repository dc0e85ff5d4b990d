package dataplane

import (
	"context"
	"fmt"
	"strings"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// Lack is a call of a step that the published grants do not allow, and what is lost
// without it. The step is left out: it is neither made nor removed.
type Lack struct {
	Step    string   `json:"step"`
	Call    string   `json:"call"`
	Actions []string `json:"actions"` // that are not granted
	Lost    string   `json:"lost"`
}

// within wraps the steps of a data plane whose access is by the published grants, so
// that each does what they allow. Which calls they lack is decided by the documents
// themselves, before anything is made.
func within(p *plane.Plane, steps []step.Step) ([]step.Step, error) {
	if p.Spec.Access.Policy != spec.Compat {
		return steps, nil
	}
	missing, err := access.Missing(access.Options{Profile: access.Compat, Account: p.Place.Account, Region: p.Place.Region, Vendor: p.Vendor,
		ExternalID: p.Spec.Access.ExternalID, PrivateEndpoint: p.Spec.PrivateEndpoint.Enabled || p.One(plane.PrivateEndpoint) != ""})
	if err != nil {
		return nil, err
	}
	out := make([]step.Step, len(steps))
	for i, s := range steps {
		about := step.Describe(s)
		out[i] = &granted{Step: s, about: about, making: lacks(s.Name(), about.Creates, missing), removing: lacks(s.Name(), about.Removes, missing)}
	}
	return out, nil
}

// lacks are the calls among these that are missing. The table has several rows of some
// calls: an interface endpoint is not S3's gateway.
func lacks(name string, calls []string, missing []access.MissingCall) []Lack {
	var out []Lack
	for _, call := range calls {
		for _, m := range missing {
			if operations.Name(m.Call) != call || strings.Contains(m.Call, "(Interface") && !strings.HasPrefix(name, "endpoint ") || strings.Contains(m.Call, "(k8s)") {
				continue
			}
			out = append(out, Lack{Step: name, Call: m.Call, Actions: m.Actions, Lost: m.Purpose})
		}
	}
	return out
}

// granted is a step within the published grants.
type granted struct {
	step.Step
	about            step.Description
	making, removing []Lack
}

func (g *granted) Describe() step.Description { return g.about }

// lacks are those for a goal.
func (g *granted) lacks(goal step.Goal) []Lack {
	if goal == step.Absent {
		return g.removing
	}
	return g.making
}

func (g *granted) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found, err := g.Step.Look(ctx, goal)
	if fault.Denied(err) && len(g.about.Creates) == 0 {
		return step.Untouched{Action: step.None}, nil // nobody asks for it
	}
	if fault.Denied(err) {
		return left("it cannot be looked at: " + fault.Text(err)), nil
	}
	if err != nil || len(g.lacks(goal)) == 0 || !found.Plan().Action.Writes() {
		return found, err
	}
	var lines []string
	for _, l := range g.lacks(goal) {
		lines = append(lines, fmt.Sprintf("%s is not granted, which %s", strings.Join(l.Actions, ", "), l.Lost))
	}
	return left(lines...), nil
}

// left is a thing that is left as it is, with the reasons.
func left(why ...string) step.Found {
	return step.Untouched{Action: step.Leave, Details: append([]string{"left out"}, why...)}
}
