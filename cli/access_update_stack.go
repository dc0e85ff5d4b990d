package cli

import (
	"context"
	"errors"
	"slices"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/stack"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// updateWay is how an update is carried out: as it was granted.
type updateWay struct {
	method string
	update *access.Update
	steps  []step.Step

	former step.Step // the stack as it was; nil by IAM
	done   bool      // the stack is changed
}

// wayToUpdate finds out how the access was granted, and compares what is there with what
// is wanted. parameters are those of a stack that get another value.
func (a *app) wayToUpdate(ctx context.Context, c customer, granted *access.Granted, o access.Options, wanted *access.Set, parameters map[string]string, choice access.Choice) (*updateWay, error) {
	options := access.UpdateOptions{Granted: granted, Wanted: wanted, Vendor: o.Vendor, Edits: choice}
	if granted.Stack == "" {
		u, err := access.NewUpdate(ctx, c.iam, options)
		if err != nil {
			return nil, err
		}
		return &updateWay{method: byIAM, update: u, steps: u.Steps()}, nil
	}

	place := c.stackPlace(granted.Region, o.Vendor)
	there, err := stack.Read(ctx, place.CloudFormation, o.Vendor, granted.Stack)
	switch {
	case err != nil:
		return nil, err
	case there == nil:
		return nil, usererr.New(usererr.Refused, "the roles were made by the stack %s in %s, which is gone", granted.Stack, granted.Region).
			WithHint("run 'biplane access revoke', which removes what it left, then grant again")
	case there.About == nil:
		return nil, usererr.New(usererr.Refused, "the stack %s in %s has another template now than Biplane's", granted.Stack, granted.Region).
			WithHint("put its former template back, or run 'biplane access revoke' and grant again")
	}
	written, err := template.Resolve([]byte(there.Body), there.Parameters, c.account, granted.Region)
	if err != nil {
		return nil, err
	}
	holds, err := stack.ReadHolds(ctx, place.CloudFormation, there)
	if err != nil {
		return nil, err
	}
	options.Stack = &access.InStack{Held: holds.Names(), Written: written}
	u, err := access.NewUpdate(ctx, c.iam, options)
	if err != nil {
		return nil, err
	}
	made, err := template.New(o)
	if err != nil {
		return nil, err
	}
	change := stack.Wanted{Name: granted.Stack, Set: wanted, Template: made.Bytes(template.JSON), Parameters: parameters, MayChange: true}
	if there.Parameters[template.ExternalIDParameter] == "" {
		change.Parameters[template.ExternalIDParameter] = o.ExternalID // it has no previous value
	}
	restore, err := u.RestoreSteps(ctx)
	if err != nil {
		return nil, err
	}
	way := &updateWay{method: byStack, update: u, steps: restore}
	way.steps = append(way.steps, afterwards{stack.NewStep(place, change), restore, u.RightLines()})
	way.former = stack.NewStep(place, stack.Wanted{Name: granted.Stack, Template: []byte(there.Body), Parameters: there.Parameters, MayChange: true})
	return way, nil
}

// wrote reports whether there is anything to put back.
func (w *updateWay) wrote() bool { return w.done && w.former != nil || w.update.Wrote() }

// undo puts everything back: a stack whose change failed has done so itself.
func (w *updateWay) undo(ctx context.Context) error {
	var left error
	if w.done && w.former != nil {
		runner := step.Runner{Steps: []step.Step{w.former}}
		plan, err := runner.Plan(ctx, step.Present)
		if err == nil {
			err = runner.Apply(ctx, plan)
		}
		left = err
	}
	return errors.Join(left, w.update.Undo(ctx))
}

// afterwards is a step that is made after others; lines say what comes of it.
type afterwards struct {
	step.Step
	others []step.Step
	lines  []string
}

func (s afterwards) Needs() []string {
	var names []string
	for _, other := range s.others {
		names = append(names, other.Name())
	}
	return names
}

func (s afterwards) Describe() step.Description { return step.Describe(s.Step) }

func (s afterwards) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found, err := s.Step.Look(ctx, goal)
	return described{found, s.lines}, err
}

type described struct {
	step.Found
	lines []string
}

func (d described) Plan() step.Change {
	change := d.Found.Plan()
	if change.Action.Writes() {
		change.Details = slices.Concat(change.Details, d.lines)
	}
	return change
}

// nothingGranted says what there is instead of a grant.
func nothingGranted(ctx context.Context, c customer, v *vendor.Profile) error {
	there, err := stack.Read(ctx, c.stackPlace(c.region, v).CloudFormation, v, v.StackName)
	if err == nil && there != nil {
		if _, asks := there.Parameters[template.ExternalIDParameter]; there.Parameters[template.RoleNameParameter] != "" && !there.Ours {
			without := ""
			if !asks {
				without = ", and it has no parameter " + template.ExternalIDParameter
			}
			return usererr.New(usererr.Refused, "the stack %s in %s was made from the published template, not by Biplane%s", there.Name, c.region, without).
				WithHint("delete it once the data plane can do without, then run 'biplane access grant --method cloudformation --external-id ID'")
		}
		switch {
		case there.Status == "REVIEW_IN_PROGRESS":
			return usererr.New(usererr.Refused, "the stack %s in %s was proposed and never made: it is in %s", there.Name, c.region, there.Status).
				WithHint("run 'biplane access grant --method cloudformation', which goes on from there")
		case there.Ours:
			return usererr.New(usererr.Refused, "the stack %s in %s has no role: it is in %s", there.Name, c.region, there.Status).
				WithHint("run 'biplane access grant --method cloudformation', which makes it again")
		}
	}
	return usererr.New(usererr.NotFound, "account %s has granted nothing: there is no role %s that Biplane made", c.account, v.RoleName).
		WithHint("run 'biplane access grant'; or give the --vendor-profile that it was granted with")
}
