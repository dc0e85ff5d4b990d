package step

import (
	"context"
	"time"
)

// Described is a Step that says more of itself: for plans that people read, and
// for the Runner, which has to know whom it may ask how much at once.
type Described interface {
	Describe() Description
}

// Description is what is known of a step without looking. Every field may be zero.
type Description struct {
	// Service is whose writes it counts among: "ec2". Runner.PerService bounds them.
	Service string

	// The calls that change something, as provision/operations names them, by what is
	// done: ec2:CreateVpc. Reading is left out.
	Creates, Updates, Removes []string

	// Monthly is what the thing costs in USD for 730 hours when nothing goes through
	// it; Cost says the same in words, with what depends on use.
	Monthly float64
	Cost    string

	// ToMake, ToUpdate and ToRemove are how long AWS typically takes, with what is waited for.
	ToMake, ToUpdate, ToRemove time.Duration
	// Patience is how long it may take until the Runner gives up; when zero, three
	// times ToMake or ToRemove, and no less than the Runner's own.
	Patience time.Duration
}

// Describe is the Description of any step.
func Describe(s Step) Description {
	if d, ok := s.(Described); ok {
		return d.Describe()
	}
	return Description{}
}

// Calls are those for an action.
func (d Description) Calls(a Action) []string {
	switch a {
	case Create:
		return d.Creates
	case Finish:
		return append(append([]string{}, d.Creates...), d.Updates...)
	case Update, Adopt:
		return d.Updates
	case Replace:
		return append(append([]string{}, d.Removes...), d.Creates...)
	case Remove:
		return d.Removes
	}
	return nil
}

// Expected is how long an action typically takes.
func (d Description) Expected(a Action) time.Duration {
	switch a {
	case Create, Finish:
		return d.ToMake
	case Update:
		return d.ToUpdate
	case Replace:
		return d.ToRemove + d.ToMake
	case Remove:
		return d.ToRemove
	}
	return 0
}

// patience is how long the Runner waits for the goal.
func (d Description) patience(goal Goal, least time.Duration) time.Duration {
	if d.Patience > 0 {
		return d.Patience
	}
	typical := d.ToMake
	if goal == Absent {
		typical = d.ToRemove
	}
	return max(3*typical, least)
}

// Drifter is a Step that can say, field by field, how its thing differs from what is
// wanted.
type Drifter interface {
	Drift(ctx context.Context) ([]Drift, error)
}

// Drift is one difference.
type Drift struct {
	Resource string `json:"resource"` // what AWS calls it, or the step's name
	Field    string `json:"field"`
	Want     string `json:"want"`
	Got      string `json:"got"`
}
