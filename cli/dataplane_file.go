package cli

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/aws/smithy-go"
	"github.com/spf13/cobra"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/vendor"
)

// oneFile refuses a command line that does not name the data plane's file.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	if len(args) > 1 {
		return usererr.New(usererr.Invalid, "%q takes one file, got %q too", cmd.CommandPath(), args[1]).
			WithHint("run it once for each data plane")
	}
	return usererr.New(usererr.Invalid, "%q needs the file of the data plane", cmd.CommandPath()).
		WithHint("run '%s dataplane.yaml'; 'biplane dataplane init' writes one", cmd.CommandPath())
}

// opened is a data plane in hand: its file, a session of one role, and its steps.
type opened struct {
	*plane.Plane
	as     operations.Roles
	steps  []step.Step
	runner step.Runner
}

// AWS counts the writes of an account by service; five at once is what it bears. All
// together there may be many, since most of them wait.
const (
	stepsAtOnce   = 32
	stepsPerAWS   = 5
	leastPatience = 2 * time.Minute
)

// planeFile is what a command reads before it asks AWS.
type planeFile struct {
	name   string
	file   *spec.DataPlane
	vendor *vendor.Profile
	clock  clock.Clock
}

// readPlane reads the file and what belongs to it.
func (a *app) readPlane(name string) (*planeFile, error) {
	f := &planeFile{name: name}
	var err error
	if f.file, err = spec.Load(name); err != nil {
		return nil, err
	}
	if f.vendor, err = a.vendor(); err != nil {
		return nil, err
	}
	f.clock, err = clock.FromEnvironment()
	return f, err
}

// open reads the file, assumes the role and works the steps out.
func (a *app) open(ctx context.Context, name string, as operations.Roles) (*opened, error) {
	f, err := a.readPlane(name)
	if err != nil {
		return nil, err
	}
	return a.openFile(ctx, f, as)
}

// openFile is open of a file that was read.
func (a *app) openFile(ctx context.Context, f *planeFile, as operations.Roles) (*opened, error) {
	o, err := a.assume(ctx, f, as)
	if err != nil {
		return nil, err
	}
	if _, err := dataplane.Steps(o.Plane); err != nil {
		return nil, err // what cannot be built, before anybody is asked
	}
	if err := dataplane.LookFirst(ctx, o.Plane); err != nil {
		return nil, o.sentence(err)
	}
	if o.steps, err = dataplane.Steps(o.Plane); err != nil {
		return nil, err
	}
	o.runner = step.Runner{Steps: o.steps, Parallel: stepsAtOnce, PerService: stepsPerAWS, Patience: leastPatience, Clock: f.clock}
	return o, nil
}

// assume is openFile without the steps: a session, which has asked for nothing yet.
func (a *app) assume(ctx context.Context, f *planeFile, as operations.Roles) (*opened, error) {
	through := ""
	if a.through != "" {
		var err error
		if through, err = plane.ParseThrough(a.through); err != nil {
			return nil, err
		}
	}
	a.aws.region, a.aws.patient = f.file.Spec.Region, &f.clock
	cfg, err := a.awsConfig(ctx)
	if err != nil {
		return nil, err
	}
	cfg.APIOptions = append(cfg.APIOptions, sayThrottled)
	p, err := plane.Open(ctx, plane.Options{DataPlane: f.file, Vendor: f.vendor, Vendors: cfg, As: as, Clock: f.clock})
	if err != nil {
		return nil, a.notAssumed(f.file, as, err)
	}
	p.Through = through
	return &opened{Plane: p, as: as}, nil
}

// throughFlag is for the commands that speak with the cluster's API server.
func (a *app) throughFlag(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.through, "through", "", "`ADDRESS` by which the cluster's API server is reached, HOST or HOST:PORT (default: its own)")
}

// notAssumed says why a role could not be assumed.
func (a *app) notAssumed(dp *spec.DataPlane, as operations.Roles, err error) error {
	if !fault.Denied(err) {
		return err
	}
	sentence := usererr.New(usererr.Denied, "the %s role of %s may not be assumed with these credentials", as, dp.Spec.Access.RoleARN).Because(err)
	if as == operations.Teardown {
		return sentence.WithHint("it is there only if the access was granted with --delete-permissions; ask the account's owner to grant it so")
	}
	return sentence.WithHint("check spec.access and the credentials (--profile) with 'biplane access check --role-arn %s --external-id ID --region %s'", dp.Spec.Access.RoleARN, dp.Spec.Region)
}

// missingRight finds the action in AWS's own sentence.
var missingRight = regexp.MustCompile(`not authorized to perform: ([a-z0-9-]+:[A-Za-z0-9]+)`)

// refusal is a sentence on what AWS would not let the role do, during what; nil where it
// refused nothing.
func (o *opened) refusal(during string, err error) error {
	switch fault.Code(err) {
	case "ExpiredToken", "ExpiredTokenException", "RequestExpired":
		return usererr.New(usererr.Denied, "%s: the session of the %s role has expired", during, o.as).
			WithHint("get new credentials ('aws sso login', or assume the role again) and run the same command; what was made stays, and it goes on from there").Because(err)
	}
	if !fault.Denied(err) {
		return nil
	}
	action, message := "a call", ""
	var api smithy.APIError
	if errors.As(err, &api) {
		message = api.ErrorMessage()
		if m := missingRight.FindStringSubmatch(message); m != nil {
			action = m[1]
		}
	}
	var operation *smithy.OperationError
	if action == "a call" && errors.As(err, &operation) {
		action = operation.ServiceID + " " + operation.OperationName
	}
	if strings.Contains(message, "service control policy") {
		return usererr.New(usererr.Denied, "%s: %s is denied by a service control policy of the customer's organization", during, action).
			WithHint("ask who keeps the organization's policies to let the %s role do it; what was made stays, and the same command goes on", o.as).Because(err)
	}
	return usererr.New(usererr.Denied, "%s: %s is not granted to the %s role in %s", during, action, o.as, o.Place.Region).
		WithHint("'biplane access policy --account %s --region %s --policy %s' prints what the role is to have; an access is for one region; what was made stays, and the same command goes on",
			o.Place.Account, o.Place.Region, o.Spec.Access.Policy).Because(err)
}

// sentence says of a run's error what it was doing, and which grant is missing, where
// that is the reason.
func (o *opened) sentence(err error) error {
	if err == nil {
		return nil
	}
	var failed *step.StepError
	if !errors.As(err, &failed) {
		during, _, _ := strings.Cut(err.Error(), ": operation error")
		if refused := o.refusal(during, err); refused != nil {
			return refused
		}
		return err
	}
	var said *usererr.Error
	if errors.As(err, &said) {
		return usererr.New(said.Kind, "%s %s: %s", failed.Action, failed.Step, said.Error()).WithHint("%s", said.Hint).Because(err)
	}
	var refused *step.RefusedError
	if errors.As(err, &refused) {
		return refusedPlan(refused.Plan)
	}
	var unlisted *operations.UnlistedCallError
	if errors.As(err, &unlisted) {
		return usererr.New(usererr.Denied, "%s %s: %v", failed.Action, failed.Step, unlisted).Because(err)
	}
	if refused := o.refusal(fmt.Sprintf("%s %s", failed.Action, failed.Step), err); refused != nil {
		return refused
	}
	if said := usedUp(err, o.Place.Region); said != nil {
		return usererr.New(said.Kind, "%s %s: %s", failed.Action, failed.Step, said.Error()).WithHint("%s", said.Hint).Because(err)
	}
	// AWS that cannot be reached, is busy, or fails on its side.
	var busy *usererr.Error
	if errors.As(awsSentence(failed.Err), &busy) && busy.Kind == usererr.Unavailable {
		return usererr.New(busy.Kind, "%s %s: %s", failed.Action, failed.Step, busy.Error()).
			WithHint("%s; what was made stays, and the same command goes on", strings.TrimSuffix(busy.Hint, " and run the same command again")).Because(err)
	}
	if errors.Is(err, step.ErrPlanChanged) {
		return usererr.New(usererr.Refused, "%s: somebody else changed the account after the plan was shown", failed.Step).
			WithHint("run the same command again to see the new plan").Because(err)
	}
	if role, ok := strings.CutPrefix(failed.Step, "role "); ok && fault.Code(err) == "EntityAlreadyExists" {
		return usererr.New(usererr.Refused, "%s: the account has a role of that name already, which the %s role may not see", failed.Step, o.as).
			WithHint("its owner sees it by 'aws iam get-role --role-name %s', and renames or deletes it; or give this data plane another name", role).Because(err)
	}
	if errors.Is(err, step.ErrNotYet) || errors.Is(err, step.ErrConflict) {
		return usererr.New(usererr.Unavailable, "%s %s: %s", failed.Action, failed.Step, oneLine(failed.Err.Error())).
			WithHint("what was made stays, and the same command goes on").Because(err)
	}
	return usererr.New(usererr.Refused, "%s %s: %s", failed.Action, failed.Step, strings.TrimPrefix(oneLine(fault.Text(failed.Err)), failed.Step+": ")).
		WithHint("what was made stays, and the same command goes on once the reason is gone").Because(err)
}

// refusedPlan makes a sentence of the first step of a plan that is refused.
func refusedPlan(plan step.Plan) error {
	steps := plan.With(step.Refuse)
	if len(steps) == 0 {
		return nil
	}
	first, more := steps[0], ""
	if len(steps) > 1 {
		more = fmt.Sprintf(" (and %d more)", len(steps)-1)
	}
	why := "it is not as it can be used"
	if len(first.Details) > 0 {
		why = first.Details[0]
	}
	return usererr.New(usererr.Refused, "%s: %s%s; nothing was changed", first.Name, why, more).WithHint("%s", first.Hint).
		Because(&step.RefusedError{Plan: plan})
}
