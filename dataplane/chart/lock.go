package chart

import (
	"context"
	"fmt"
	"os"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"
)

const (
	lockName = "biplane-chart"
	// A killed run holds the others up for so long.
	lockLife = 10 * time.Second
)

// lock lets one run at a time work on the release. It is a Lease, which is renewed
// while its holder lives: Helm's own lock, a pending release, outlives who set it.
//
// What unlock cannot give back runs out by itself.
func (c *cluster) lock(ctx context.Context) (unlock func(), err error) {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	me := fmt.Sprintf("%s-%d-%s", host, os.Getpid(), rand.String(5))
	told := false
	// Another holder's clock is not ours: its lease has run out when it was not
	// renewed while we looked on.
	var seen metav1.MicroTime
	var since time.Time
	for {
		lease, err := c.take(ctx, me, func(renewed metav1.MicroTime) bool {
			if !renewed.Equal(&seen) {
				seen, since = renewed, time.Now()
			}
			return time.Since(since) > lockLife
		})
		if err != nil {
			return nil, err
		}
		if lease != nil {
			return c.keep(ctx, lease), nil
		}
		if !told {
			c.progress("waiting for another install to end")
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(250 * time.Millisecond):
		}
	}
}

// take returns the lease if it is ours now, and nil if another has it.
func (c *cluster) take(ctx context.Context, me string, over func(renewed metav1.MicroTime) bool) (*coordinationv1.Lease, error) {
	leases := c.kube.CoordinationV1().Leases(c.namespace)
	now, seconds := metav1.NowMicro(), int32(lockLife/time.Second)
	wanted := coordinationv1.LeaseSpec{HolderIdentity: &me, RenewTime: &now, AcquireTime: &now, LeaseDurationSeconds: &seconds}
	lease, err := leases.Get(ctx, lockName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		lease, err = leases.Create(ctx, &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Name: lockName}, Spec: wanted}, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil, nil
		}
		return lease, c.cannot("take the lease "+lockName, err)
	}
	if err != nil {
		return nil, c.cannot("look at the lease "+lockName, err)
	}
	if held := lease.Spec.HolderIdentity; held != nil && *held != "" && lease.Spec.RenewTime != nil && !over(*lease.Spec.RenewTime) {
		return nil, nil
	}
	lease.Spec = wanted
	lease, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
	if apierrors.IsConflict(err) {
		return nil, nil
	}
	if err != nil {
		return nil, c.cannot("take the lease "+lockName, err)
	}
	return lease, nil
}

// keep renews the lease until unlock is called.
func (c *cluster) keep(ctx context.Context, lease *coordinationv1.Lease) (unlock func()) {
	leases := c.kube.CoordinationV1().Leases(c.namespace)
	ctx, stop := context.WithCancel(context.WithoutCancel(ctx))
	var renewing sync.WaitGroup
	renewing.Go(func() {
		tick := time.NewTicker(lockLife / 4)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			now := metav1.NowMicro()
			lease.Spec.RenewTime = &now
			// A miss is made good by the next tick; who lost the lease for good has
			// the API server away, and so nothing to do either.
			if renewed, err := leases.Update(ctx, lease, metav1.UpdateOptions{}); err == nil {
				lease = renewed
			}
		}
	})
	return func() {
		stop()
		renewing.Wait()
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer done()
		_ = leases.Delete(ctx, lockName, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{ResourceVersion: &lease.ResourceVersion}})
	}
}
