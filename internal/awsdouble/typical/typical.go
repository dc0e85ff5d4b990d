// Package typical is one table: how long AWS typically takes for what it does not
// do at once. The double's states go by it, on its clock. AWS promises none of
// these times; each is what its documentation says where that says anything, else
// what people see and write down, rounded.
package typical

import "time"

// Amazon EKS.
const (
	// "Cluster provisioning takes several minutes" (Amazon EKS User Guide, Create
	// an Amazon EKS cluster); eksctl and Terraform users see eight to ten.
	CreateCluster = 9 * time.Minute
	DeleteCluster = 4 * time.Minute

	// "Updating the version takes several minutes" (Update existing cluster to new
	// Kubernetes version); the new servers come one after the other.
	UpdateClusterVersion = 9 * time.Minute
	// Endpoint access, logging and subnets (Control network access to cluster API
	// server endpoint: "It takes several minutes to update the cluster").
	UpdateClusterConfig = 3 * time.Minute
	// Access mode, upgrade policy and deletion protection touch no server.
	UpdateClusterPolicy = 20 * time.Second
	// Every secret is written anew (Encrypt Kubernetes secrets with KMS on
	// existing clusters).
	AssociateEncryption = 8 * time.Minute

	CreateNodegroup = 150 * time.Second // launch, boot, join
	DeleteNodegroup = 3 * time.Minute   // drain, then terminate
	// Nodes that do not join are waited for (Troubleshoot problems with Amazon EKS
	// clusters and nodes, NodeCreationFailure).
	FailNodegroup = 25 * time.Minute
	// One node is started, one drained, for each of a small group
	// (Understand each phase of node updates).
	UpdateNodegroupVersion = 6 * time.Minute
	UpdateNodegroupConfig  = 30 * time.Second

	CreateAddon = 30 * time.Second
	UpdateAddon = 40 * time.Second
	DeleteAddon = 10 * time.Second

	RefreshInsights = 2 * time.Minute // StartInsightsRefresh says no time
)

// Amazon VPC and PrivateLink.
const (
	// CreateNatGateway: pending for "a few minutes" at the most (NAT gateway
	// basics); deleting takes less, and the deleted one "remains visible in the
	// console for a short while (usually an hour)" (Work with NAT gateways).
	CreateNATGateway = 105 * time.Second
	DeleteNATGateway = 50 * time.Second
	ShowDeletedNAT   = time.Hour

	CreateInterfaceEndpoint = 60 * time.Second // an interface in every zone
	DeleteInterfaceEndpoint = 45 * time.Second

	// Private DNS names: "can take up to 10 minutes" (Manage DNS names for VPC
	// endpoint services).
	VerifyPrivateDNS = 2 * time.Minute
	// A connection that was accepted is pending first.
	ConnectEndpoint = 40 * time.Second
	// An endpoint service is Pending first.
	CreateEndpointService = 30 * time.Second
)

// RecreateQueue is for how long the name of a queue that was deleted cannot be used
// (Amazon SQS API Reference, DeleteQueue: "you must wait at least 60 seconds").
const RecreateQueue = time.Minute

// ChangeZone is how long Route 53 takes to tell its servers: "generally … within 60
// seconds" (Route 53 API Reference, ChangeResourceRecordSets).
const ChangeZone = 30 * time.Second

// KeepTokens is for how long a client token means what it was first used for. AWS
// says no number for most services; a day is what Amazon EC2 has long kept them.
const KeepTokens = 24 * time.Hour

// Elastic Load Balancing and Amazon ECS.
const (
	// "provisioning … It takes a few minutes" (Create a Network Load Balancer).
	CreateNetworkLoadBalancer = 150 * time.Second
	// Its interfaces stay for a while (Network Load Balancer: Delete).
	DeleteNetworkLoadBalancer = 30 * time.Second
	StartTask                 = 40 * time.Second // an interface, the image, the process
	StopTask                  = 15 * time.Second
)

// AWS CloudFormation. It says no times; these are what events of stacks with roles and
// policies show, which wait until IAM shows everywhere what was written.
const (
	CreateChangeSet = 5 * time.Second
	MakeResource    = 16 * time.Second
	ChangeResource  = 14 * time.Second
	RemoveResource  = 2 * time.Second
	DetectDrift     = 2 * time.Second // of each resource
)
