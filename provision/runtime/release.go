package runtime

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
	"time"

	"biplane.dev/biplane/dataplane/chart"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// looked is what one look saw.
type looked struct {
	*release
	target     chart.Target
	cannotTell string         // why nothing else here is known
	values     map[string]any // that are wanted
	seen       chart.Seen
	there      bool // the cluster has an API server
}

// look reads what is installed, by what every role may read.
func (r *release) look(ctx context.Context) (*looked, error) {
	l := &looked{release: r}
	target, client, err := r.target(ctx)
	if err != nil || client == nil {
		return l, err
	}
	l.target, l.there = target, true
	if err := r.reach(ctx, client); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		l.cannotTell = cannotTell(err)
		return l, nil
	}
	if l.values, err = r.valuesFor(ctx, target); err != nil {
		return nil, err
	}
	l.seen, err = chart.Observe(ctx, target, l.values)
	if isDenied(err) {
		l.cannotTell = cannotTell(err)
		return l, nil
	}
	return l, err
}

func (r *release) lookAtRelease(ctx context.Context) (step.Found, error) {
	// What is wrong with the file is told before a cluster is made for it.
	if _, err := r.fileValues(); err != nil {
		return nil, err
	}
	return r.look(ctx)
}

// valuesFor are the chart's values: those that follow from the data plane's file, over
// them what the owner of the cluster says is particular about it, and over both the
// file of values.
func (r *release) valuesFor(ctx context.Context, target chart.Target) (map[string]any, error) {
	facts, err := r.facts()
	if err != nil {
		return nil, err
	}
	own, err := chart.ReadOwnValues(ctx, target)
	if err != nil {
		return nil, err
	}
	file, err := r.fileValues()
	if err != nil {
		return nil, err
	}
	return chart.Merge(chart.ValuesOf(facts), own, file), nil
}

func (r *release) facts() (chart.Facts, error) {
	facts, err := r.after.Facts()
	if err != nil {
		return facts, err
	}
	host, port, err := plane.HostPort(r.Spec.ControlPlane.Endpoint)
	if err != nil {
		return facts, usererr.New(usererr.Invalid, "spec.controlPlane.endpoint %q names no host", r.Spec.ControlPlane.Endpoint).
			WithHint("write it as https://HOST:PORT")
	}
	facts.Gateway, facts.Cluster = net.JoinHostPort(host, port), r.Spec.ControlPlane.Cluster
	facts.Region = r.Place.Region
	// In a repository of the account itself, as the private endpoint's image is.
	facts.ImageRepository = fmt.Sprintf("%s.dkr.ecr.%s.%s/%s%s", r.Place.Account, r.Place.Region, r.Place.DNSSuffix, r.Vendor.Repository, chart.ReleaseName)
	return facts, nil
}

func (r *release) fileValues() (map[string]any, error) {
	name := r.Spec.ControlPlane.ValuesFile
	if name == "" {
		return nil, nil
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "spec.controlPlane.valuesFile: cannot read %s: %v", name, cause(err)).
			WithHint("correct the path, which is relative to the file of the data plane, or leave the key out").Because(err)
	}
	return chart.ReadValues(name, text)
}

// token is what the file has; nil where there is none.
func (r *release) token() ([]byte, error) {
	name := r.Spec.ControlPlane.TokenFile
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, usererr.New(usererr.Invalid, "spec.controlPlane.tokenFile: cannot read %s: %v", name, cause(err)).
			WithHint("let yourself read it, or make another with 'biplane cluster add %s --token-file %s'", r.Spec.ControlPlane.Cluster, name).Because(err)
	}
	return text, nil
}

func cause(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

func (l *looked) Plan() step.Change {
	c := l.Spec.ControlPlane
	switch {
	case !l.there:
		return step.Change{Action: step.Create, Details: l.purpose()}
	case l.cannotTell != "":
		return step.Change{Action: step.Finish, Details: []string{l.cannotTell}, Unseen: l.cannotTell}
	case !l.seen.Installed:
		return step.Change{Action: step.Create, Details: l.purpose()}
	case l.seen.Cluster != "" && l.seen.Cluster != c.Cluster:
		return step.Change{Action: step.Refuse, Details: []string{fmt.Sprintf("the cluster has a data plane already, which its control plane knows as %s", l.seen.Cluster)},
			Hint: fmt.Sprintf("correct spec.controlPlane.cluster, or take the other away with 'biplane dataplane chart uninstall --purge'; "+
				"a sandbox has none after 'biplane sandbox up --only kubernetes,s3,identity,node,controlplane' (it is %s)", l.One(plane.ClusterAddress))}
	}
	var details []string
	for _, d := range l.seen.Differs {
		details = append(details, fmt.Sprintf("set %s: %s (it is %s)", d.Object, d.Want, d.Got))
	}
	if len(details) > 0 {
		return step.Change{Action: step.Update, Details: details}
	}
	var waits []string
	for _, process := range l.seen.Processes {
		if !process.Ready {
			waits = append(waits, process.Name+": "+process.Message)
		}
	}
	if !l.seen.Joined {
		waits = append(waits, "it has not joined "+l.seen.Gateway)
	}
	if len(waits) > 0 {
		for _, why := range waits {
			details = append(details, "wait until it is ready: "+why)
		}
		return step.Change{Action: step.Finish, Details: details, Waits: strings.Join(waits, "; ")}
	}
	return step.Change{Action: step.Keep}
}

// purpose are the lines of a plan that installs it.
func (l *looked) purpose() []string {
	c := l.Spec.ControlPlane
	lines := []string{fmt.Sprintf("the runtime of the data plane, which joins %s as %s", c.Endpoint, c.Cluster)}
	if _, err := os.Stat(c.TokenFile); err != nil {
		lines = append(lines, fmt.Sprintf("it needs a join token, and there is no file %s: 'biplane cluster add %s --token-file %s' makes one", c.TokenFile, c.Cluster, c.TokenFile))
	}
	return lines
}

// Make installs the chart, or brings it to the values, and waits until the data plane
// has joined.
func (l *looked) Make(ctx context.Context) error {
	target, client, err := l.release.target(ctx)
	if err != nil {
		return err
	}
	if client == nil {
		return fmt.Errorf("cluster %s has no address: %w", l.ClusterName(), step.ErrNotYet)
	}
	step.WaitingFor(ctx, "the API server")
	if err := l.awaitReach(ctx, client); err != nil {
		return err
	}
	values, err := l.valuesFor(ctx, target)
	if err != nil {
		return err
	}
	o := chart.Options{Target: target, Values: values, Timeout: installPatience}
	// A token is for who has not joined, or whose certificate is no good any more: then
	// not even the operator is ready. What is in the file afterwards is of no interest.
	if !l.seen.Joined || !l.seen.Ready() {
		if o.Token, err = l.token(); err != nil {
			return err
		}
	}
	if _, err := chart.Install(ctx, o); err != nil {
		return err
	}
	return l.settle(ctx)
}

// settle waits until a look says that all is as it should be: the control plane speaks a
// moment after the data plane has joined.
func (l *looked) settle(ctx context.Context) error {
	const patience = 2 * time.Minute
	for end := time.Now().Add(patience); ; {
		look, err := l.look(ctx)
		if err != nil {
			return err
		}
		change := look.Plan()
		if change.Action == step.Keep {
			return nil
		}
		reason := "it is not as it was made"
		if len(change.Details) > 0 {
			reason = change.Details[0]
		}
		if time.Now().After(end) {
			return usererr.New(usererr.Unavailable, "the data plane is installed, and %s after %s", reason, patience).
				WithHint("see 'kubectl --namespace %s get pods' and 'biplane cluster show %s'", l.Vendor.Namespace, l.Spec.ControlPlane.Cluster)
		}
		step.WaitingFor(ctx, reason)
		if err := machine.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}

// Remove is for the other goal.
func (l *looked) Remove(context.Context) error { return nil }

// isDenied reports whether a cluster did not let somebody do something.
func isDenied(err error) bool {
	var said *usererr.Error
	return errors.As(err, &said) && said.Kind == usererr.Denied
}
