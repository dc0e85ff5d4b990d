package dataplane

import (
	"context"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/endpoint"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/resource"
	"biplane.dev/biplane/provision/step"
)

// PrivateEndpoint are the steps of a private endpoint for a data plane that is there:
// those of provision/endpoint, and with a network of our own the VPC endpoints that go
// with it. What they need of the network and the cluster is looked at and never changed.
// accept is as in endpoint.After. Its errors are *usererr.Error.
func PrivateEndpoint(p *plane.Plane, goal step.Goal, accept []string) ([]step.Step, error) {
	ways := network.Steps(p)
	subnets := names(ways, "subnet private")
	if len(subnets) == 0 {
		subnets = names(ways, "")
	}
	there := slices.Concat(ways, cluster.Steps(p, cluster.After{Subnets: subnets, Ways: subnets}))
	after := endpoint.After{Network: subnets, Cluster: cluster.StepName(p), Accept: accept}
	var mine []step.Step
	if goal == step.Present {
		// When the private endpoint goes these stay: the network has them, and nodes may use them.
		for _, s := range ways {
			if strings.HasPrefix(s.Name(), "endpoint ") || s.Name() == network.EndpointGroup {
				mine = append(mine, s)
				after.Ways = append(after.Ways, s.Name())
			}
		}
	}
	private, err := endpoint.Steps(p, after)
	if err != nil {
		return nil, err
	}
	mine = append(mine, private...)
	all := slices.Clone(mine)
	for i := 0; i < len(all); i++ {
		for _, need := range all[i].Needs() {
			if slices.ContainsFunc(all, func(s step.Step) bool { return s.Name() == need }) {
				continue
			}
			for _, s := range there {
				if s.Name() == need {
					all = append(all, looked{s})
				}
			}
		}
	}
	return within(p, all)
}

// noLonger are steps of what the file does not ask for. Who provisions may not remove
// anything: so what is there of it is shown until a command removes it.
func noLonger(steps []step.Step, command string) []step.Step {
	out := make([]step.Step, len(steps))
	for i, s := range steps {
		out[i] = surplus{resource.Unwanted{Step: s, Until: "it stays until '" + command + "' takes it away"}}
	}
	return out
}

// surplus is an unwanted step that may be about somebody else's thing, of which nothing is
// said in a removal.
type surplus struct{ resource.Unwanted }

func (s surplus) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found, err := s.Unwanted.Look(ctx, goal)
	if err == nil && goal == step.Absent && found.Plan().Action == step.Leave {
		return step.Untouched{Action: step.None}, nil
	}
	return found, err
}

// looked is a step of what must be there already: it tells what it finds, and changes
// nothing.
type looked struct{ step.Step }

func (l looked) Describe() step.Description {
	return step.Description{Service: step.Describe(l.Step).Service}
}

func (l looked) Look(ctx context.Context, goal step.Goal) (step.Found, error) {
	found, err := l.Step.Look(ctx, goal)
	if err != nil {
		return nil, err
	}
	change := step.Change{Action: step.None}
	if goal == step.Present {
		change.Action = step.Keep
		if plan := found.Plan(); plan.Action == step.Create {
			change = step.Change{Action: step.Refuse, Details: []string{"it is not there"}, Hint: "run 'biplane dataplane apply FILE' first: it makes the private endpoint too"}
		} else if plan.Action == step.Refuse {
			change = plan
		}
	}
	return step.Untouched(change), nil
}

// Check has nothing to wait for.
func (looked) Check(context.Context) error { return nil }
