// Package resource is the usual step: one thing in AWS that is found by its name or
// its tags, is ours when its tags say so, is made in a call or two, has settings that
// can be changed and others that cannot, and takes a while to come and to go. What is
// particular to a kind of thing is functions; what is the same for all is here, so
// that every thing is planned, resumed, found drifted and removed alike.
//
// Start with Resource and State. role.go is IAM's roles and
// loggroup.go CloudWatch's log groups, which several packages make.
package resource

import (
	"context"
	"fmt"
	"strings"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// Resource is a step that keeps one thing. Find, Create and Title must be set.
type Resource struct {
	Plane *plane.Plane

	Title    string   // the step's name: "cluster union-demo"
	Requires []string // steps that it needs
	// Component and LogicalID are in its tags, and say which of our things it is.
	Component, LogicalID string

	About   step.Description
	Purpose []string // the lines of a plan that makes it

	// Find looks; nil when it is not there, or cannot be because what it belongs to is
	// not. It reads all that a goal needs: a remover may have fewer rights.
	Find func(ctx context.Context, goal step.Goal) (*State, error)
	// Create makes it, tagged in the call.
	Create func(ctx context.Context, tags map[string]string) error
	// Tag writes tags, those that are there already too; nil where they cannot be written later.
	Tag func(ctx context.Context, tags map[string]string) error
	// Delete begins its end; nil: it ends with what it belongs to.
	Delete func(ctx context.Context, s *State) error
	// Stays says why it is not removed though it could be; nil or "": it is.
	Stays func() string
	// ByHand is the command by which the account's owner removes one that has failed; "" for none.
	ByHand string
	// Wait is a waiter of the SDK, used until the thing is ready; nil: it is looked at.
	Wait func(ctx context.Context) error
	// Tell passes on what others need to know of it; nil State: it is not there.
	Tell func(*State)
	// Templates are its form for CloudFormation; nil where it has none.
	Templates func() []Template
	// Reuse takes what somebody else made and is as wanted, as it is: it is never
	// changed or removed.
	Reuse bool

	refused bool // to delete it, once
}

// State is a thing as it is.
type State struct {
	Tags map[string]string
	// Ours is for what cannot carry tags: whose it is follows from what it belongs to.
	Ours bool

	Busy    string // why it is not ready yet: "it is CREATING"
	Leaving string // why it is still there, though it has been deleted
	Broken  string // why it never will be ready
	Remedy  string // what to do about the cause, where it is known

	Differ []Difference
	// Value is for the functions of the Resource.
	Value any
}

// Difference is a setting that is not as it is wanted.
type Difference struct {
	Field, Want, Have string
	// Put sets it; nil: it cannot be changed.
	Put func(ctx context.Context) error
	// Hint is what to do where it cannot.
	Hint string
}

func (d Difference) String() string {
	if d.Have == "" {
		return fmt.Sprintf("set %s: %s", d.Field, d.Want)
	}
	return fmt.Sprintf("set %s: %s (it is %s)", d.Field, d.Want, d.Have)
}

// Differ returns the Difference of a setting, or none when it is as wanted.
func Differ(field, want, have string, put func(ctx context.Context) error) []Difference {
	if want == have {
		return nil
	}
	return []Difference{{Field: field, Want: want, Have: have, Put: put}}
}

// Name, Needs and Describe are the step's.
func (r *Resource) Name() string               { return r.Title }
func (r *Resource) Needs() []string            { return r.Requires }
func (r *Resource) Describe() step.Description { return r.About }

func (r *Resource) tags() map[string]string { return r.Plane.Tags(r.Component, r.LogicalID) }

// found is what one look saw.
type found struct {
	*Resource
	goal  step.Goal
	state *State
}

// Look implements step.Step.
func (r *Resource) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	state, err := r.Find(ctx, goal)
	if err != nil {
		return nil, err
	}
	f := &found{r, goal, state}
	if r.Tell != nil {
		if state != nil && !r.Reuse && f.relation() != ownership.Ours {
			state = nil // nothing of ours is in somebody else's thing
		}
		r.Tell(state)
	}
	return f, nil
}

func (f *found) relation() ownership.Relation {
	if f.state.Ours {
		return ownership.Ours
	}
	return f.Plane.Owner.Of(f.state.Tags, f.Component)
}

// whose is a sentence on somebody else's thing.
func (f *found) whose() string {
	if f.relation() == ownership.Other {
		return "it belongs to data plane " + f.Plane.Owner.DataPlaneOf(f.state.Tags)
	}
	return "somebody else made it: it does not carry the tag " + f.Plane.Vendor.ManagedByKey() + " of this data plane"
}

func (f *found) Plan() step.Change {
	if f.goal == step.Absent {
		return f.planRemoval()
	}
	s := f.state
	if s == nil {
		return step.Change{Action: step.Create, Details: f.Purpose}
	}
	if s.Leaving != "" {
		return step.Change{Action: step.Create, Details: append([]string{"again, once it is gone: " + s.Leaving}, f.Purpose...)}
	}
	if f.relation() != ownership.Ours {
		if f.Reuse && len(s.Differ) == 0 {
			return step.Change{Action: step.Keep, Details: []string{"somebody else made it; it is as wanted, and is left to them"}}
		}
		return step.Change{Action: step.Refuse, Details: append([]string{f.whose()}, lines(s.Differ)...),
			Hint: "rename or delete it, or give this data plane another name"}
	}
	if s.Broken != "" {
		return step.Change{Action: step.Refuse, Details: []string{s.Broken}, Hint: f.wayOut(s)}
	}
	for _, d := range s.Differ {
		if d.Put == nil {
			hint := d.Hint
			if hint == "" {
				hint = "put " + d.Field + " back to " + d.Have + " in the file, or build another data plane"
			}
			return step.Change{Action: step.Refuse, Details: []string{fmt.Sprintf("its %s is %s, wanted %s, and cannot be changed", d.Field, OrNone(d.Have), OrNone(d.Want))}, Hint: hint}
		}
	}
	action, details := step.Keep, lines(s.Differ)
	for _, d := range s.Differ {
		action = step.Finish
		if d.Have != "" {
			action = step.Update
			break
		}
	}
	if tags := f.missingTags(); len(tags) > 0 {
		details = append(details, fmt.Sprintf("set tags %v", ownership.Keys(tags)))
		if action == step.Keep {
			action = step.Finish
		}
	}
	if s.Busy != "" {
		details = append(details, "wait until it is ready: "+s.Busy)
		if action == step.Keep {
			action = step.Finish
		}
	}
	return step.Change{Action: action, Details: details, Waits: s.Busy}
}

// wayOut is what to do about a thing that has failed. Who provisions may not remove, so
// it takes another role, or the owner.
func (r *Resource) wayOut(s *State) string {
	if r.Stays != nil && r.Stays() != "" {
		return strings.TrimPrefix(s.Remedy+"; then run the same command again", "; then ")
	}
	hint := "'biplane dataplane remove FILE --failed' removes what has failed and nothing else"
	if r.ByHand != "" {
		hint += ", or the account's owner does by '" + r.ByHand + "'"
	}
	hint += "; then the same command makes it anew"
	if s.Remedy != "" {
		hint = s.Remedy + "; then " + hint
	}
	return hint
}

func (f *found) planRemoval() step.Change {
	switch {
	case f.state == nil:
		return step.Change{Action: step.None}
	case f.Plane.FailedOnly && f.state.Broken == "" && f.state.Leaving == "":
		return step.Change{Action: step.None}
	case f.relation() != ownership.Ours:
		return step.Change{Action: step.Leave, Details: []string{f.whose()}}
	case f.Delete == nil:
		return step.Change{Action: step.None}
	}
	if f.Stays != nil {
		if why := f.Stays(); why != "" {
			return step.Change{Action: step.Leave, Details: []string{why}}
		}
	}
	var details []string
	if f.state.Leaving != "" {
		details = append(details, f.state.Leaving)
	}
	return step.Change{Action: step.Remove, Details: details}
}

// missingTags are those that could be written and are not there.
func (f *found) missingTags() map[string]string {
	if f.state.Ours || f.Tag == nil {
		return nil
	}
	return ownership.Missing(f.state.Tags, f.tags())
}

func (f *found) Make(ctx context.Context) error {
	if f.state != nil && f.state.Leaving != "" {
		return fmt.Errorf("%s: %w", f.state.Leaving, step.ErrNotYet)
	}
	if f.state == nil {
		if err := f.Create(ctx, f.tags()); err != nil {
			return fault.Passing(err)
		}
		// What a new thing has is for AWS to say. One that is not to be seen yet is made
		// by now; Check waits for it, and its settings are looked at again.
		state, err := f.Find(ctx, step.Present)
		if err != nil {
			return fault.Passing(err)
		}
		if f.Tell != nil {
			f.Tell(state)
		}
		if state == nil || len(state.Differ) == 0 {
			return nil
		}
		f.state = state
	}
	if len(f.missingTags()) > 0 {
		// All of them: a right to tag demands the ownership tag in the request.
		if err := f.Tag(ctx, f.tags()); err != nil {
			return fault.Passing(err)
		}
	}
	for _, d := range f.state.Differ {
		if d.Put == nil {
			continue // only of a thing that was made a moment ago: Check says so
		}
		if f.state.Busy != "" {
			return fmt.Errorf("%s, before its %s can be set: %w", f.state.Busy, d.Field, step.ErrNotYet)
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := d.Put(ctx); err != nil {
			return fault.Passing(fmt.Errorf("setting its %s: %w", d.Field, err))
		}
	}
	return nil
}

func (f *found) Remove(ctx context.Context) error {
	if f.state.Leaving == "" {
		err := f.Delete(ctx, f.state)
		if fault.Denied(err) && !f.refused {
			// The right to delete what carries our tag is none to delete what is gone, as it
			// is when the SDK asks again because the answer was lost. So look again, once.
			f.refused = true
			return fmt.Errorf("%w: %w", step.ErrConflict, err)
		}
		if fault.Gone(err) {
			return nil
		}
		if err != nil {
			return fault.Passing(err)
		}
	}
	return fmt.Errorf("it is being removed: %w", step.ErrNotYet)
}

// Check waits until the thing is ready and as wanted.
func (r *Resource) Check(ctx context.Context) error {
	state, err := r.Find(ctx, step.Present)
	if err != nil {
		return err
	}
	if state != nil && state.Busy != "" && r.Wait != nil {
		step.WaitingFor(ctx, state.Busy)
		if err := r.Wait(ctx); err != nil {
			// What is wrong is in the thing, and not in the waiter's error.
			if looked, findErr := r.Find(ctx, step.Present); findErr == nil && looked != nil && looked.Broken != "" {
				return r.broken(looked)
			}
			return err
		}
		if state, err = r.Find(ctx, step.Present); err != nil {
			return err
		}
	}
	if r.Tell != nil {
		r.Tell(state)
	}
	switch {
	case state == nil:
		return fmt.Errorf("%s is not to be seen: %w", r.Title, step.ErrNotYet)
	case state.Broken != "":
		return r.broken(state)
	case state.Busy != "":
		return fmt.Errorf("%s: %w", state.Busy, step.ErrNotYet)
	case len(state.Differ) > 0:
		return fmt.Errorf("its %s is still %s: %w", state.Differ[0].Field, OrNone(state.Differ[0].Have), step.ErrNotYet)
	}
	return nil
}

func (r *Resource) broken(s *State) error {
	return usererr.New(usererr.Refused, "%s", s.Broken).WithHint("%s", r.wayOut(s))
}

// Drift implements step.Drifter.
func (r *Resource) Drift(ctx context.Context) ([]step.Drift, error) {
	state, err := r.Find(ctx, step.Present)
	if err != nil {
		return nil, err
	}
	if r.Tell != nil {
		r.Tell(state)
	}
	if state == nil {
		return []step.Drift{{Resource: r.Title, Field: "existence", Want: "there", Got: "missing"}}, nil
	}
	var drift []step.Drift
	for _, d := range state.Differ {
		drift = append(drift, step.Drift{Resource: r.Title, Field: d.Field, Want: d.Want, Got: d.Have})
	}
	if state.Broken != "" {
		drift = append(drift, step.Drift{Resource: r.Title, Field: "state", Want: "ready", Got: state.Broken})
	}
	if !state.Ours && r.Tag != nil && !r.Reuse {
		missing := ownership.Missing(state.Tags, r.tags())
		for _, key := range ownership.Keys(missing) {
			drift = append(drift, step.Drift{Resource: r.Title, Field: "tag " + key, Want: missing[key], Got: state.Tags[key]})
		}
	}
	return drift, nil
}

func lines(differ []Difference) []string {
	var out []string
	for _, d := range differ {
		out = append(out, d.String())
	}
	return out
}
