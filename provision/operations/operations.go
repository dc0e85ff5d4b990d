// Package operations is the table of every AWS call that Biplane makes: in which
// phase, for what, by whom, and which rights on which resources it needs. The
// access documents are generated from it, explain looks calls up in it, and the
// guard refuses a call that is not in it before it is signed. It holds no
// document and makes no call itself.
//
// Start with Operations, whose parts are one file for each part of the work.
// The words that a row is written with are in words.go, the ARNs in arns.go.
//
// A row reads: this call, made by these roles, does this, and needs these rights.
//
//	op("ec2:CreateSubnet", Provision, "makes a public and a private subnet in each zone",
//		on(subnet).created(), // the call's own right, on subnets that it tags as ours
//		on(vpc).owned(),      // and on a network that is ours
//		allow("ec2:CreateTags").on(subnet).tagging("CreateSubnet"))
package operations

import (
	"slices"
	"strings"
)

// Operations returns the table, in the order in which a data plane lives. The
// caller owns it.
func Operations() []Operation {
	return slices.Concat(
		access(),   // how the access is granted, proven and first used
		network(),  // the customer's network: checked, or made
		data(),     // key, logs, buckets and image registry
		roles(),    // the roles of the cluster and its workloads
		cluster(),  // the cluster, its nodes and its node autoscaler
		endpoint(), // the private endpoint, where the customer asks for it
		deletion(), // how a data plane is taken away
		workload(), // what runs in the data plane, and what former tools made
	)
}

// Operation is one call in one phase.
type Operation struct {
	Phase Phase
	// Call is the SDK's service and operation, with what tells it from another
	// row of the same call in brackets: ec2:CreateVpcEndpoint(Gateway).
	Call string
	// Roles make the call. None does where Omitted says why not.
	Roles   Roles
	Purpose string // one sentence without its subject: "makes the network"
	Grants  []Grant
	// Omitted says why no role has the right, in the strict profile. The
	// published grants may have it; the guard refuses the call nevertheless.
	Omitted string
	// StrictOnly says that the published way does without the call, so that nobody
	// misses it there: it looks at, tags or removes what that way leaves alone.
	StrictOnly bool
}

// Phase is a part of a data plane's life.
type Phase string

// The phases.
const (
	AccessStack     Phase = "A access (CFN)"
	AccessManual    Phase = "A access (manual)"
	Preflight       Phase = "B preflight"
	NetworkCheck    Phase = "C VPC validate"
	Network         Phase = "D VPC create"
	Keys            Phase = "E KMS"
	Logs            Phase = "F logs"
	IAMRoles        Phase = "G IAM"
	Cluster         Phase = "H EKS"
	Compute         Phase = "I compute"
	Autoscaler      Phase = "J Karpenter"
	Buckets         Phase = "K S3"
	Registry        Phase = "L ECR"
	Legacy          Phase = "M legacy"
	PrivateEndpoint Phase = "N private"
	Deletion        Phase = "O delete"
	WorkloadRuns    Phase = "P workload"
)

// Roles is a set of those who make a call.
type Roles uint16

// Who makes calls. Provision to BreakGlass are roles in the customer's account
// that the vendor assumes.
const (
	CustomerAdministrator Roles = 1 << iota // grants and revokes the access
	Provision                               // makes a data plane
	Operate                                 // keeps it running: versions, nodes, add-ons
	Observe                                 // looks
	Teardown                                // removes it
	BreakGlass                              // support, off until the customer switches it on
	VendorAccount                           // the vendor, in its own account
	Workload                                // what runs in the data plane

	// Vendor is every role that the vendor has in the customer's account.
	Vendor = Provision | Operate | Observe | Teardown | BreakGlass
)

// Sets of roles that many calls share.
const (
	reading  = Provision | Operate | Observe | Teardown // to find a thing before doing anything to it
	looking  = Provision | Operate | Observe
	keeping  = Provision | Operate
	watching = Operate | Observe
)

// Has reports whether any of others is in r.
func (r Roles) Has(others Roles) bool { return r&others != 0 }

// String names the roles, in the order above.
func (r Roles) String() string { return strings.Join(r.Names(), ", ") }

// Names are the names of the roles, in the order above; never nil.
func (r Roles) Names() []string {
	names := []string{}
	for i, name := range []string{"customer administrator", "provision", "operate", "observe", "teardown", "break-glass", "vendor account", "workload"} {
		if r.Has(1 << i) {
			names = append(names, name)
		}
	}
	return names
}
