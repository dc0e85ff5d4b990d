// Package plane is one data plane at work: what was asked for, the account that it
// is in, the names and tags of its things, one client for each AWS service, and
// what the steps know of each other. It makes nothing itself; provision/network,
// cluster, storage, roles and endpoint do, each by steps that take a *Plane.
//
// Start with Plane. Where things are:
//
//	plane.go    Plane, and what steps tell each other
//	names.go    how its things are named and tagged
//	clients.go  the AWS services
//	open.go     a session of the vendor's role in the account
//	server.go   how the cluster's API server is reached
//	token.go    that session before it
package plane

import (
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/service/sts"

	"biplane.dev/biplane/internal/clock"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/ownership"
	"biplane.dev/biplane/provision/spec"
	"biplane.dev/biplane/provision/vendor"
)

// Plane is one data plane while somebody works on it.
type Plane struct {
	Spec   spec.Spec
	Name   string
	Vendor *vendor.Profile
	Place  operations.Place
	Owner  ownership.Owner
	Clock  clock.Clock
	AWS    Clients
	// Own is the vendor's own account; empty without a session.
	Own VendorClients
	// Through is HOST:PORT by which the cluster's API server is reached; "" is its own address.
	Through string
	// DeleteData lets buckets, repositories and the key that encrypts them be removed.
	DeleteData bool
	// FailedOnly lets nothing be removed but what has failed, so that it can be made anew.
	FailedOnly bool
	// LeaveContents lets the cluster be removed with what is in it, unlooked at.
	LeaveContents bool

	// signer signs tokens; what it signs is not sent, so the role's guard is not in front of it.
	signer *sts.Client

	mu    sync.Mutex
	known map[Fact][]string
}

// Fact is what one step knows and others need: the id of a thing, or several, in
// the order of the zones.
type Fact string

// The facts. Each names the step that knows it, in its Look when the thing is there
// and in its Make when it is made; a step that needs a fact has that step among its
// needs, so that it is known when the step is looked at, unless the thing is not there.
const (
	VPC                  Fact = "VPC"                    // vpc-…
	Zones                Fact = "zones"                  // zone ids, euc1-az1
	PublicSubnets        Fact = "public subnets"         // subnet-…
	PrivateSubnets       Fact = "private subnets"        // subnet-…
	PrivateCIDRs         Fact = "private ranges"         // of the private subnets
	VPCCIDRs             Fact = "network ranges"         // the first is the VPC's own
	EncryptionKey        Fact = "encryption key"         // ARN
	ClusterRole          Fact = "cluster role"           // ARN
	NodeRole             Fact = "node role"              // ARN
	ClusterSecurityGroup Fact = "cluster security group" // sg-…, made by EKS
	ClusterAddress       Fact = "cluster address"        // https://…
	ClusterCA            Fact = "cluster CA"             // PEM, base64
	ClusterIssuer        Fact = "cluster issuer"         // https://oidc.eks.…
	ClusterVersion       Fact = "cluster version"        // 1.34, as it is
	NodeTemplate         Fact = "node template"          // lt-…
	NodeGroups           Fact = "node groups"            // names of those that there are, before the steps were worked out
	PrivateEndpoint      Fact = "private endpoint"       // what of one was seen, before the steps were worked out
)

// Know tells the others; nothing after the fact means that it is no longer there.
func (p *Plane) Know(fact Fact, values ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known == nil {
		p.known = map[Fact][]string{}
	}
	p.known[fact] = slices.Clone(values)
}

// One is a fact with one value; "" when it is not known.
func (p *Plane) One(fact Fact) string {
	if all := p.All(fact); len(all) > 0 {
		return all[0]
	}
	return ""
}

// All are the values of a fact; nil when it is not known.
func (p *Plane) All(fact Fact) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.known[fact])
}
