package resource

import (
	"context"

	"biplane.dev/biplane/provision/step"
)

// Unwanted is a step of what the file does not ask for. Who provisions may not remove
// anything: so where it is there, because the file asked for it once, it is shown until the
// data plane is removed.
type Unwanted struct {
	step.Step
	Until string // "it stays until …": how long that is, and who ends it
}

// NotWanted is the step of a thing that the file does not ask for.
func NotWanted(r *Resource) Unwanted {
	how := "'biplane dataplane remove'"
	if r.ByHand != "" {
		how = "'" + r.ByHand + "', or " + how
	}
	if r.About.Monthly > 0 {
		return Unwanted{r, "it stays, and costs, until somebody removes it, by " + how}
	}
	return Unwanted{r, "it stays until somebody removes it, by " + how}
}

// Check has nothing to wait for.
func (Unwanted) Check(context.Context) error { return nil }

// Describe has nothing of what it would take to make it, which nobody wants.
func (u Unwanted) Describe() step.Description {
	about := step.Describe(u.Step)
	return step.Description{Service: about.Service, Removes: about.Removes, ToRemove: about.ToRemove, Patience: about.Patience}
}

// Drift is none: that it is not there is as it should be.
func (Unwanted) Drift(context.Context) ([]step.Drift, error) { return nil, nil }

// Look implements step.Step. What would be removed is what is there, and ours.
func (u Unwanted) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found, err := u.Step.Look(ctx, step.Absent)
	if err != nil || goal == step.Absent {
		return found, err
	}
	return noLonger(found, u.Until), nil
}

// noLonger leaves what was found where it is, and says what becomes of it.
func noLonger(found step.Found, until string) step.Found {
	if found.Plan().Action != step.Remove {
		return step.Untouched{Action: step.None}
	}
	return step.Untouched{Action: step.Leave, Details: []string{"the file no longer asks for it; " + until}}
}
