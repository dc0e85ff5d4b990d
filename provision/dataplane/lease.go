package dataplane

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/fault"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/step"
)

// How long a lease lasts without being renewed, and how long IAM may take to show a tag
// to everybody. A lease is renewed when a third of its time is over.
const (
	leaseLasts   = 90 * time.Second
	leaseSettles = 5 * time.Second
)

// lasts is by the machine's time and not by AWS's, because it is operators that a lease
// is between. By a clock that runs fast it is shorter, but not so short that a busy
// machine could miss a renewal.
func (l *Lease) lasts() time.Duration { return max(l.p.Clock.Machine(leaseLasts), 5*time.Second) }

// settles is the machine's time for the same reason: between reading that nobody has the
// lease and writing his name, nobody may be held up for so long.
func (l *Lease) settles() time.Duration {
	return max(l.p.Clock.Machine(leaseSettles), 500*time.Millisecond)
}

// ErrLeaseLost is the cause of a context that ended because somebody else took over.
var ErrLeaseLost = errors.New("somebody else took over the lease of the data plane")

// Lease keeps a second operator from working on a data plane at the same time: most of
// EC2 has no token that would keep two from making a thing each. It is two tags on the
// cluster's role, which is made first and whose name is there once: who holds it, and
// until when. IAM has no conditional write, so whoever wants it writes his name, waits
// until everybody sees it, and has it if his is the name that is there.
type Lease struct {
	p      *plane.Plane
	role   string
	holder string
	goes   bool // the role goes away while the run is at work

	stop    context.CancelFunc
	renewed sync.WaitGroup
}

// Take waits until nobody else has the lease, and takes it. make is called when the role
// that carries it is not there: it makes it, or is nil where there is nothing to
// protect without it. waiting is told who has it. The context that it returns ends, by
// ErrLeaseLost, when it is lost.
func Take(ctx context.Context, p *plane.Plane, makeRole func(context.Context) error, waiting func(string)) (context.Context, *Lease, error) {
	host, _ := os.Hostname()
	l := &Lease{p: p, role: cluster.RoleName(p), goes: makeRole == nil, holder: fmt.Sprintf("%.100s/%d/%s", host, os.Getpid(), rand.Text()[:8])}
	for {
		holder, until, err := l.read(ctx)
		switch {
		case fault.NoSuchEntity(err) || makeRole == nil && fault.Denied(err):
			if makeRole == nil {
				return ctx, l, nil
			}
			if err := makeRole(ctx); err != nil {
				return nil, nil, err
			}
			continue
		case fault.Denied(err):
			// Who may look under one path only is refused a name that nobody has, too.
			if err := makeRole(ctx); err != nil {
				return nil, nil, err
			}
			if _, _, err := l.read(ctx); err != nil {
				return nil, nil, err
			}
			continue
		case err != nil:
			return nil, nil, err
		}
		if left := time.Until(until); holder != "" && holder != l.holder && left > 0 {
			waiting(fmt.Sprintf("%s is at work on it; if that run was killed, its lease ends in %s", holder, left.Round(time.Second)))
			if err := (clock.Clock{}).Sleep(ctx, min(left, l.lasts()/10)); err != nil {
				return nil, nil, err
			}
			continue
		}
		if err := l.write(ctx, l.holder, time.Now().Add(l.lasts())); err != nil {
			return nil, nil, err
		}
		if err := (clock.Clock{}).Sleep(ctx, l.settles()); err != nil {
			return nil, nil, err
		}
		if holder, _, err = l.read(ctx); err != nil {
			return nil, nil, err
		}
		if holder == l.holder {
			break
		}
	}
	held, lost := context.WithCancelCause(ctx)
	renewing, stop := context.WithCancel(held)
	l.stop = stop
	l.renewed.Go(func() { l.renew(renewing, lost) })
	return held, l, nil
}

// renew writes a new end, until ctx ends, the role is gone, or somebody else has it.
func (l *Lease) renew(ctx context.Context, lost context.CancelCauseFunc) {
	until := time.Now().Add(l.lasts())
	for (clock.Clock{}).Sleep(ctx, l.lasts()/3) == nil {
		holder, _, err := l.read(ctx)
		switch {
		case fault.NoSuchEntity(err), l.goes && fault.Denied(err):
			// The data plane was removed, and its role with it: who may look under one path
			// only is refused a name that nobody has.
			return
		case err == nil && holder != l.holder:
			lost(ErrLeaseLost)
			return
		case err == nil:
			if next := time.Now().Add(l.lasts()); l.write(ctx, l.holder, next) == nil {
				until = next
			}
		}
		if ctx.Err() == nil && time.Now().After(until) {
			lost(ErrLeaseLost) // AWS could not be reached for so long that somebody else may have it
			return
		}
	}
}

// Release gives the lease back. It takes a context of its own, because the run's may
// have ended by Ctrl-C.
func (l *Lease) Release() {
	if l.stop == nil {
		return
	}
	l.stop()
	l.renewed.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if holder, _, err := l.read(ctx); err == nil && holder == l.holder {
		l.write(ctx, "", time.Unix(0, 0)) // it would end by itself
	}
}

func (l *Lease) keys() (holder, until string) {
	return l.p.Vendor.TagPrefix + "lease-holder", l.p.Vendor.TagPrefix + "lease-until"
}

func (l *Lease) read(ctx context.Context) (holder string, until time.Time, err error) {
	out, err := l.p.AWS.IAM.GetRole(ctx, &iam.GetRoleInput{RoleName: &l.role})
	if err != nil {
		return "", time.Time{}, err
	}
	holderKey, untilKey := l.keys()
	for _, t := range out.Role.Tags {
		switch aws.ToString(t.Key) {
		case holderKey:
			holder = aws.ToString(t.Value)
		case untilKey:
			if seconds, err := strconv.ParseInt(aws.ToString(t.Value), 10, 64); err == nil {
				until = time.Unix(seconds, 0)
			}
		}
	}
	return holder, until, nil
}

func (l *Lease) write(ctx context.Context, holder string, until time.Time) error {
	holderKey, untilKey := l.keys()
	_, err := l.p.AWS.IAM.TagRole(ctx, &iam.TagRoleInput{RoleName: &l.role, Tags: []types.Tag{
		{Key: &holderKey, Value: &holder}, {Key: &untilKey, Value: aws.String(strconv.FormatInt(until.Unix(), 10))}}})
	return err
}

// LeaseError turns the end of a context by ErrLeaseLost into a sentence.
func LeaseError(ctx context.Context, err error) error {
	if errors.Is(context.Cause(ctx), ErrLeaseLost) {
		return usererr.New(usererr.Refused, "somebody else took over the data plane while this run was at work").
			WithHint("run 'biplane dataplane plan' to see what is there").Because(err)
	}
	return err
}

// MakeRole makes the role that carries the lease, by its own step.
func MakeRole(steps []step.Step, runner step.Runner, p *plane.Plane) func(context.Context) error {
	title := "role " + cluster.RoleName(p)
	return func(ctx context.Context) error {
		for _, s := range steps {
			if s.Name() == title {
				runner.Steps = []step.Step{s}
				plan, err := runner.Plan(ctx, step.Present)
				if err != nil {
					return err
				}
				return runner.Apply(ctx, plan)
			}
		}
		return fmt.Errorf("no step makes %s", title)
	}
}
