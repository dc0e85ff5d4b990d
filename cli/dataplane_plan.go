package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

func (a *app) dataplanePlan() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "plan FILE",
		Short: "Show what is there and what would be made, changed or removed",
		Long: `Show what of a data plane is there, and what apply would make, change or remove,
step by step: the AWS calls of each, the grants they use, what the thing will cost
while it stands there, and how long AWS takes.

It assumes the observe role, and changes nothing.

Exit status: 0 nothing to do; 1 there are changes; 2 it could not run.`,
		Example: `  biplane dataplane plan dataplane.yaml
  biplane dataplane plan dataplane.yaml --output json`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.showPlan(cmd.Context(), func(ctx context.Context) (*opened, error) { return a.open(ctx, args[0], operations.Observe) })
		},
	}
	a.throughFlag(cmd)
	return cmd
}

// showPlan looks at what is there and prints what would be made, by the exit statuses of a
// plan: nothing to do, changes, could not run.
func (a *app) showPlan(ctx context.Context, open func(context.Context) (*opened, error)) error {
	p := a.progress("looking at what is there")
	defer p.stop()
	looking := p.waits(ctx)
	o, err := open(looking)
	if err != nil {
		p.stop()
		return a.couldNot(err)
	}
	plan, err := o.runner.Plan(looking, step.Present)
	p.stop()
	if err != nil {
		return a.couldNot(o.sentence(err))
	}
	shown := dataplane.NewPlan(o.steps, plan)
	if err := a.print(shown, func(w io.Writer) { shown.WriteText(w) }); err != nil {
		return err
	}
	if refused := refusedPlan(plan); refused != nil {
		return a.couldNot(refused)
	}
	if plan.Writes() {
		return errFound
	}
	return nil
}

// couldNot has a refusal end with the status of what could not run, where 1 would mean
// that something was found.
func (a *app) couldNot(err error) error {
	var said *usererr.Error
	if !errors.As(err, &said) || said.Kind.ExitStatus() != 1 {
		return err
	}
	a.say(err)
	return errCouldNot
}

func (a *app) dataplaneApply() *cobra.Command {
	var f applyFlags
	cmd := &cobra.Command{
		Use:   "apply FILE",
		Short: "Make the data plane be as its file says",
		Long: `Make the data plane be as its file says: look, show the plan, ask, and do it. Steps
that do not need each other run at once; each says how long it has taken and how
long AWS usually takes.

It assumes the provision role. After a kill or Ctrl-C, the same command goes on
from what is there. With --output json it prints one event a line.

Exit status: 0 it is as the file says; 1 refused; 2 it could not run or failed.`,
		Example: `  biplane dataplane apply dataplane.yaml
  biplane dataplane apply dataplane.yaml --yes --output json`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.carryOutPlane(cmd.Context(), args[0], undertaking{as: operations.Provision, goal: step.Present, done: "ready"}, f)
		},
	}
	f.add(cmd)
	a.throughFlag(cmd)
	return cmd
}

func (a *app) dataplaneRemove() *cobra.Command {
	var f applyFlags
	var deleteData, leaveContents, failed bool
	cmd := &cobra.Command{
		Use:   "remove FILE",
		Short: "Remove the data plane, from the inside out",
		Long: `Remove what apply made, from the inside out: the cluster's contents, nodes and
add-ons, the cluster, the roles, the network. What somebody else made is left
alone. The buckets, the registry and the key that encrypts them stay, with what is
in them, unless --delete-data is given, which asks for the data plane's name.

With --failed only what AWS could not make is removed (a cluster or a node group that
has failed), so that apply makes it anew.

It assumes the teardown role, which is there only where the access was granted
with --delete-permissions.

A cluster in which the runtime is installed is emptied first: what its controllers
made in the account, load balancers, volumes, nodes, nobody would take away later.
Where its API server cannot be reached from here, name another way with --through,
such as the private endpoint; --leave-contents goes on without, and says how to
find what stays.

Exit status: 0 nothing is left to remove; 1 refused; 2 it could not run or failed.`,
		Example: `  biplane dataplane remove dataplane.yaml
  biplane dataplane remove dataplane.yaml --delete-data
  biplane dataplane remove dataplane.yaml --failed && biplane dataplane apply dataplane.yaml`,
		Args: oneFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if deleteData && f.yes {
				return usererr.New(usererr.Invalid, "--delete-data cannot be agreed to with --yes").
					WithHint("run it without --yes and type the data plane's name, from a terminal or by stdin")
			}
			if failed && deleteData {
				return usererr.New(usererr.Invalid, "--failed and --delete-data exclude each other").
					WithHint("give --failed to make anew what has failed, --delete-data to keep nothing")
			}
			if failed {
				return a.carryOutPlane(cmd.Context(), args[0], undertaking{as: operations.Teardown, goal: step.Absent, done: "without what had failed",
					steps: func(_ context.Context, o *opened) ([]step.Step, error) { return dataplane.FailedSteps(o.Plane) }}, f)
			}
			return a.carryOutPlane(cmd.Context(), args[0], undertaking{as: operations.Teardown, goal: step.Absent, done: "removed",
				steps: func(_ context.Context, o *opened) ([]step.Step, error) {
					o.DeleteData, o.LeaveContents = deleteData, leaveContents
					return dataplane.Steps(o.Plane)
				},
				after: func(o *opened) {
					if c := o.Spec.ControlPlane; c != nil && !a.quiet {
						fmt.Fprintf(a.Err, "Next: the control plane still knows it; 'biplane cluster remove %s' there forgets it.\n", c.Cluster)
					}
				}}, f)
		},
	}
	f.add(cmd)
	a.throughFlag(cmd)
	cmd.Flags().BoolVar(&leaveContents, "leave-contents", false, "do not empty the cluster before it goes")
	cmd.Flags().BoolVar(&failed, "failed", false, "only what has failed and cannot become ready")
	cmd.Flags().BoolVar(&deleteData, "delete-data", false, "also the buckets and the registry with all that is in them, and their key")
	return cmd
}

// applyFlags say how a plan is carried out.
type applyFlags struct {
	yes    bool
	dryRun bool
}

func (f *applyFlags) add(cmd *cobra.Command) {
	cmd.Flags().BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&f.dryRun, "dry-run", false, "show the plan and change nothing")
}

// undertaking is what is done to a data plane.
type undertaking struct {
	as    operations.Roles
	goal  step.Goal
	done  string                                              // what it is afterwards
	steps func(context.Context, *opened) ([]step.Step, error) // nil: those of the data plane
	after func(*opened)                                       // says what is left to do; may be nil
}

// carryOutPlane looks, shows, asks and does.
func (a *app) carryOutPlane(ctx context.Context, file string, u undertaking, f applyFlags) error {
	p := a.progress("looking at what is there")
	defer p.stop()
	looking := p.waits(ctx)
	o, err := a.open(looking, file, u.as)
	if err != nil {
		return err
	}
	if u.steps != nil {
		if o.steps, err = u.steps(looking, o); err != nil {
			return err
		}
		o.runner.Steps = o.steps
	}
	plan, err := o.runner.Plan(looking, u.goal)
	p.stop()
	if err != nil {
		return o.sentence(err)
	}
	shown := dataplane.NewPlan(o.steps, plan)
	if f.dryRun {
		if err := a.print(shown, func(w io.Writer) { shown.WriteText(w) }); err != nil {
			return err
		}
		return refusedPlan(plan)
	}
	if !a.quiet || !f.yes {
		shown.WriteText(a.Err)
	}
	if err := refusedPlan(plan); err != nil {
		return err
	}
	events := a.events(o, shown, u.done)
	if !plan.Writes() {
		return u.end(o, events.end(nil))
	}
	if o.DeleteData {
		if err := a.confirmName(ctx, o.Name); err != nil {
			return err
		}
	} else if !f.yes {
		agreed, err := a.confirm(ctx, "Do it?")
		if err != nil {
			return err
		}
		if !agreed {
			return usererr.New(usererr.Refused, "not confirmed; nothing was changed").WithHint("answer 'y', or give --yes")
		}
	}
	o.runner.Progress = events.event
	return u.end(o, events.end(o.sentence(o.apply(ctx, plan, events))))
}

// end says what is left to do when all went well.
func (u undertaking) end(o *opened, err error) error {
	if err == nil && u.after != nil {
		u.after(o)
	}
	return err
}

// apply carries a plan out with the lease of the data plane. Nobody else was at work
// since the plan was made, or it is made again.
func (o *opened) apply(ctx context.Context, plan step.Plan, events *events) error {
	var makeRole func(context.Context) error
	if o.as == operations.Provision {
		makeRole = dataplane.MakeRole(o.steps, o.runner, o.Plane)
	}
	held, lease, err := dataplane.Take(ctx, o.Plane, makeRole, events.leaseWaits)
	if err != nil {
		return err
	}
	defer lease.Release()
	return dataplane.LeaseError(held, o.runner.Apply(held, plan))
}
