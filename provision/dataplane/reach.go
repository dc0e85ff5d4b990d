package dataplane

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sync/errgroup"

	"biplane.dev/biplane/provision/cluster"
	"biplane.dev/biplane/provision/endpoint"
	"biplane.dev/biplane/provision/network"
	"biplane.dev/biplane/provision/plane"
	"biplane.dev/biplane/provision/spec"
)

// Titles of what is asked besides the steps.
const (
	waysTitle   = "ways of the network"
	serverTitle = "API server"
)

// AddReach adds to a report's health whether what is there is reached: the ways through
// the network, the API server from this machine, and the chain of the private endpoint.
// What cannot be reached from here is unknown, and no failure. The steps have been
// looked at before, so that the plane knows their facts.
func (r *Report) AddReach(ctx context.Context, p *plane.Plane) error {
	var ways, server, private []Health
	asking, within := errgroup.WithContext(ctx)
	asking.Go(func() (err error) { ways, err = reachOfNetwork(within, p); return err })
	asking.Go(func() error { server = reachOfServer(within, p); return nil })
	if p.Spec.PrivateEndpoint.Enabled && p.One(plane.ClusterAddress) != "" {
		asking.Go(func() error {
			found, err := endpoint.Health(within, p, nil, "")
			for _, f := range found {
				private = append(private, Health{Step: f.Of, Status: f.Status, Message: f.Message})
			}
			return err
		})
	}
	if err := asking.Wait(); err != nil {
		return fmt.Errorf("trying what is reached: %w", err)
	}
	for _, more := range [][]Health{ways, server, private} {
		r.Health = append(r.Health, more...)
	}
	return nil
}

// reachOfNetwork makes the checks of a network that is given of one that was made: that
// a route, a gateway, an access list, an endpoint and its group still let through what they
// did is in none of the steps alone.
func reachOfNetwork(ctx context.Context, p *plane.Plane) ([]Health, error) {
	vpc := p.One(plane.VPC)
	if p.Spec.Network.Create == nil || vpc == "" {
		return nil, nil // the step of a given network makes them
	}
	report, err := network.Check(ctx, p.AWS, network.Request{Region: p.Place.Region, Account: p.Place.Account, VPC: vpc,
		PublicSubnets: p.All(plane.PublicSubnets), PrivateSubnets: p.All(plane.PrivateSubnets), PrivateEndpoint: p.Spec.PrivateEndpoint.Enabled})
	if err != nil {
		return nil, err
	}
	var found []Health
	for _, f := range report.With(network.Fail, network.Error) {
		found = append(found, Health{Step: waysTitle, Status: Failed, Message: fmt.Sprintf("%s: %s (check %d)", f.Resource, f.Message, f.ID)})
	}
	if len(found) > 0 {
		return found, nil
	}
	return []Health{{Step: waysTitle, Status: OK, Message: fmt.Sprintf("routes, NAT gateways, access lists and endpoints let through what is needed; 'biplane network check --vpc %s' says more", vpc)}}, nil
}

// reachOfServer tries the API server.
func reachOfServer(ctx context.Context, p *plane.Plane) []Health {
	if p.One(plane.ClusterAddress) == "" {
		return nil // the cluster's step says that it is missing, or not ready
	}
	h := Health{Step: serverTitle, Status: OK}
	answer, err := cluster.Answers(ctx, p)
	switch {
	case err == nil:
		h.Message = answer
	case errors.Is(err, cluster.ErrNotReached):
		h.Status, h.Message = Unknown, err.Error()
		if p.Spec.Cluster.Endpoint == spec.PrivateAddress {
			h.Message += "; it is private, and is reached from within its network, or by the private endpoint"
		} else if !slices.Contains(p.Spec.Cluster.PublicCIDRs, "0.0.0.0/0") {
			h.Message += "; spec.cluster.publicCidrs says who may reach it"
		}
	default:
		h.Status, h.Message = Failed, err.Error()
	}
	return []Health{h}
}
