// Package step is how Biplane changes an account: a list of steps, each of
// which looks, plans, makes, checks and removes one thing, and a Runner that
// walks them in the order of their needs.
//
// There is no state file. A plan is computed from what is read now, and every
// step is looked at again right before it is made; so a run that was killed
// is finished by running again, a second operator sees the same as the first,
// and the same code serves create, adopt, resume and remove.
//
// The package knows nothing of AWS and prints nothing of its own accord.
// Start with Step and Found; then Runner in run.go, and Plan in plan.go. What a
// step can say of itself beside is in describe.go.
// killtest beside it proves that a program may be killed at any call.
package step

import (
	"context"
	"errors"
)

// Step is one thing that an account has or lacks: a role, a policy, a subnet.
// It may consist of several calls; then Look sees what is half-made, and Make
// finishes it.
type Step interface {
	// Name is unique in a run and reads well in a sentence: "role union-ai-admin".
	Name() string

	// Needs names the steps that must be made before this one, and removed
	// after it.
	Needs() []string

	// Look reads what must be known to plan for the goal. It changes nothing,
	// and it works when the steps that it needs are not made yet; they have been
	// looked at before it.
	Look(ctx context.Context, goal Goal) (Found, error)

	// Check reports whether what Make made is there for everybody to see. An
	// error that is ErrNotYet means: ask again in a while. The Runner asks.
	Check(ctx context.Context) error
}

// Found is what a step saw when it looked for a goal, with what can be done
// about it. Nothing can be made or removed that was not looked at first.
type Found interface {
	// Plan says what Make would do when the goal was Present, or Remove when it
	// was Absent. It reads nothing.
	Plan() Change

	// Make brings about what Plan said, call by call; ctx is looked at between
	// the calls. An error that is ErrConflict means that somebody else was
	// faster, and ErrUnclear that the answer was lost: the Runner looks again.
	Make(ctx context.Context) error

	// Remove does so in the same manner. An error that is ErrNotYet means that the
	// thing is on its way out: the Runner looks again, until nothing is to be done.
	Remove(ctx context.Context) error
}

// Goal is the end that a run works towards.
type Goal string

// The two goals.
const (
	Present Goal = "present"
	Absent  Goal = "absent"
)

// ErrNotYet is what a Check returns while the thing is on its way.
var ErrNotYet = errors.New("not there yet")

// ErrConflict is what Make or Remove returns when the thing changed after
// Look: it exists already, or something was hung on it.
var ErrConflict = errors.New("changed by somebody else meanwhile")

// ErrUnclear is what Make returns when nobody knows whether a call was performed that
// would make another thing when it is made again. The Runner looks again, once what was
// made can be seen.
var ErrUnclear = errors.New("it is not known whether it was done")

// Change is what a step would do.
type Change struct {
	Action Action `json:"action"`
	// Details are the lines under the step in a printed plan: what is set, what
	// is attached, or for Refuse and Leave, why. One sentence each.
	Details []string `json:"details,omitempty"`
	// Hint is the next thing to try when the action is Refuse.
	Hint string `json:"hint,omitempty"`
	// Waits is why it is not ready yet; "" when it is, or is not there.
	Waits string `json:"waits,omitempty"`
	// Unseen is why it could not be looked at; "" when it was.
	Unseen string `json:"unseen,omitempty"`
}

// Action is the kind of a Change.
type Action string

// The actions. The first six change the account, the others don't.
const (
	Create Action = "create" // nothing is there
	Finish Action = "finish" // a part of it is there, made by us
	Update Action = "update" // it is there, made by us, and not as it is wanted now
	// Replace: it is there, made by us, and cannot become what is wanted; it is removed and made again.
	Replace Action = "replace"
	Adopt   Action = "adopt" // it is there as wanted, made by somebody else; from now on ours
	Remove  Action = "remove"

	Keep   Action = "keep"   // it is there, and as wanted
	None   Action = "none"   // it is not there, and is not wanted
	Leave  Action = "leave"  // it stays where it is, because it is not ours
	Refuse Action = "refuse" // something of that name is there which differs
)

// Writes reports whether the action changes the account.
func (a Action) Writes() bool {
	return a == Create || a == Finish || a == Update || a == Replace || a == Adopt || a == Remove
}

// symbol stands in front of a step in a printed plan.
func (a Action) symbol() string {
	switch a {
	case Create:
		return "+"
	case Finish, Update:
		return "~"
	case Replace:
		return "±"
	case Adopt:
		return ">"
	case Remove:
		return "-"
	case Refuse:
		return "!"
	case Leave:
		return "="
	}
	return " "
}
