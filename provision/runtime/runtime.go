// Package runtime is what is in the cluster of a data plane: the release of the chart,
// installed and joined to its control plane, and at the end everything that would leave
// something behind in the account when the cluster goes. It is one step, the first to be
// removed and nearly the last to be made. What the chart is, is dataplane/chart.
//
// Start with New. Where things are:
//
//	runtime.go  the step
//	release.go  looking at the release, and installing it
//	empty.go    emptying the cluster
//	connect.go  a way to the API server, as the session's role
package runtime

import (
	"context"
	"errors"
	"fmt"
	"time"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// StepName is the name of the step.
const StepName = "release " + chart.ReleaseName

// After is what the release needs of the others.
type After struct {
	Steps []string // that are made before it: the cluster with its nodes, buckets, roles
	// Facts are what follows for the chart's values; the gateway, the cluster's name and
	// the image are filled in here.
	Facts func() (chart.Facts, error)
}

// New returns the step, for a data plane that joins a control plane.
func New(p *plane.Plane, after After) step.Step { return &release{p, after} }

type release struct {
	*plane.Plane
	after After
}

// Nothing of this is AWS's: the times are our own, by the machine's clock.
const (
	toInstall = time.Minute
	toRemove  = time.Minute
	// installPatience is for images that are pulled, empties for controllers that take
	// load balancers and volumes away.
	installPatience = 10 * time.Minute
	emptyPatience   = 15 * time.Minute
	// pause is between two looks, each of which asks for all objects of the chart.
	pause = time.Second
)

var machine clock.Clock

func (*release) Name() string      { return StepName }
func (r *release) Needs() []string { return r.after.Steps }

func (*release) Describe() step.Description {
	return step.Description{ToMake: toInstall, ToUpdate: toInstall, ToRemove: toRemove}
}

func (r *release) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	if goal == step.Absent {
		return r.lookInside(ctx)
	}
	return r.lookAtRelease(ctx)
}

// Check has nothing to wait for: Make waits by itself, by the machine's clock, since
// what happens in a cluster does not go by AWS's time.
func (r *release) Check(ctx context.Context) error { return nil }

// Drift implements step.Drifter.
func (r *release) Drift(ctx context.Context) ([]step.Drift, error) {
	look, err := r.look(ctx)
	if err != nil || look.cannotTell != "" {
		return nil, err
	}
	if !look.seen.Installed {
		return []step.Drift{{Resource: StepName, Field: "existence", Want: "there", Got: "missing"}}, nil
	}
	var drift []step.Drift
	for _, d := range look.seen.Differs {
		drift = append(drift, step.Drift{Resource: StepName, Field: d.Object, Want: d.Want, Got: d.Got})
	}
	return drift, nil
}

// sentence is a person's, of an error that may be one already.
func sentence(err error) string {
	var said *usererr.Error
	if errors.As(err, &said) {
		return said.Error()
	}
	return err.Error()
}

// cannotTell is a line of a plan on what could not be looked at.
func cannotTell(err error) string { return fmt.Sprintf("cannot tell: %s", sentence(err)) }
