package resource

import (
	"context"

	"biplane.dev/biplane/provision/step"
)

// Unwanted is a thing that the file does not ask for. Who provisions may not remove
// anything: so where it is there, because the file asked for it once, it is shown until the
// data plane is removed.
type Unwanted struct{ *Resource }

// Check has nothing to wait for.
func (Unwanted) Check(context.Context) error { return nil }

// Describe has nothing of what it would take to make it, which nobody wants.
func (u Unwanted) Describe() step.Description {
	return step.Description{Service: u.About.Service, Removes: u.About.Removes, ToRemove: u.About.ToRemove, Patience: u.About.Patience}
}

// Drift is none: that it is not there is as it should be.
func (Unwanted) Drift(context.Context) ([]step.Drift, error) { return nil, nil }

// Look implements step.Step. What would be removed is what is there, and ours.
func (u Unwanted) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found, err := u.Resource.Look(ctx, step.Absent)
	if err != nil || goal == step.Absent {
		return found, err
	}
	how := "'biplane dataplane remove'"
	if u.ByHand != "" {
		how = "'" + u.ByHand + "', or " + how
	}
	if u.About.Monthly > 0 {
		return NoLonger(found, "it stays, and costs, until somebody removes it, by "+how), nil
	}
	return NoLonger(found, "it stays until somebody removes it, by "+how), nil
}

// NoLonger is a thing that the file does not ask for, from a look with the goal Absent: it
// is left where it is, with what becomes of it.
func NoLonger(found step.Found, until string) step.Found {
	if found.Plan().Action != step.Remove {
		return noLonger{found, step.Change{Action: step.None}}
	}
	return noLonger{found, step.Change{Action: step.Leave, Details: []string{"the file no longer asks for it; " + until}}}
}

type noLonger struct {
	step.Found
	change step.Change
}

func (n noLonger) Plan() step.Change { return n.change }
