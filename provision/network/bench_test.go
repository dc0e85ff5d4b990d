package network_test

import (
	"testing"
	"time"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/internal/provisiontest"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/step"
)

// BenchmarkAtFiftyMilliseconds measures, where every call takes 50 ms: a check of a
// network of three zones, and a plan of all its steps.
func BenchmarkAtFiftyMilliseconds(b *testing.B) {
	slow, err := provisiontest.Start(b.Context(), awsdouble.Options{Clock: clock.Scaled(2000), Latency: 50 * time.Millisecond}, spec.Strict)
	if err != nil {
		b.Fatal(err)
	}
	defer slow.Double.Stop()
	dp := slow.DataPlane()
	key := slow.Double.Accounts().Customer.Credentials
	p, r, err := ofAdmin(dp, slow.Double.URL(), key.AccessKeyID, key.SecretAccessKey, clock.Scaled(20))
	if err != nil {
		b.Fatal(err)
	}
	if err := reach(b.Context(), r, step.Present); err != nil {
		b.Fatal(err)
	}
	r.Parallel, r.PerService = 32, 5 // as the command line has them
	b.Run("check", func(b *testing.B) {
		for b.Loop() {
			if _, err := network.Check(b.Context(), p.AWS, network.Request{Region: dp.Spec.Region, VPC: p.One(plane.VPC)}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			if _, err := r.Plan(b.Context(), step.Present); err != nil {
				b.Fatal(err)
			}
		}
	})
}
