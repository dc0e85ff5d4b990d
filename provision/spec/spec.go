// Package spec is dataplane.yaml: a data plane as its operator wants it, in one
// versioned, strict file. It holds what was asked for and nothing of what is there;
// it asks nobody. What follows from it for AWS is provision/plane and the packages
// of steps.
//
// Start with DataPlane, then Load in load.go. schema.go is the JSON schema.
package spec

// APIVersion and Kind are what the file's first two keys say.
const (
	APIVersion = "biplane.dev/v1alpha1"
	Kind       = "DataPlane"
)

// DataPlane is the file.
type DataPlane struct {
	APIVersion string   `yaml:"apiVersion"`
	Kind       string   `yaml:"kind"`
	Metadata   Metadata `yaml:"metadata"`
	Spec       Spec     `yaml:"spec"`
}

// Metadata names it.
type Metadata struct {
	// Name is unique in an account and region: 1 to 21 lower-case letters, digits and
	// hyphens. It is in the name of everything that is made.
	Name string `yaml:"name"`
}

// Spec is what is wanted.
type Spec struct {
	Account string `yaml:"account"` // twelve digits
	Region  string `yaml:"region"`  // eu-central-1
	// Org is the customer's organisation with the vendor, for a tag; may be empty.
	Org string `yaml:"org,omitempty"`

	Access       Access        `yaml:"access"`
	ControlPlane *ControlPlane `yaml:"controlPlane,omitempty"` // nil: nothing is installed in the cluster
	Network      Network       `yaml:"network"`
	Cluster      Cluster       `yaml:"cluster"`
	Buckets      Buckets       `yaml:"buckets,omitempty"`
	Registry     Registry      `yaml:"registry,omitempty"`
	// WorkspaceRoles is per-service-account (default) or shared.
	WorkspaceRoles  WorkspaceRoles  `yaml:"workspaceRoles,omitempty"`
	PrivateEndpoint PrivateEndpoint `yaml:"privateEndpoint,omitempty"`
	// Tags are put on everything beside the tags of ownership, whose prefix they may not have.
	Tags map[string]string `yaml:"tags,omitempty"`
}

// Access is how the vendor comes into the account.
type Access struct {
	RoleARN    string `yaml:"roleArn"` // of the provision role; the others derive from it
	ExternalID string `yaml:"externalId"`
	Policy     Policy `yaml:"policy,omitempty"` // strict (default) or compat
}

// Policy is the profile that the access was granted with.
type Policy string

// The policies.
const (
	Strict Policy = "strict"
	Compat Policy = "compat"
)

// ControlPlane is what the data plane joins.
type ControlPlane struct {
	Endpoint  string `yaml:"endpoint"`  // of the tunnel's gateway: https://HOST:PORT
	Cluster   string `yaml:"cluster"`   // its name there, as 'biplane cluster add' was told
	TokenFile string `yaml:"tokenFile"` // the file with the join token
	// Issuer signs the tokens of the control plane's own account, which signs URLs of the
	// buckets; the cluster's own where it is left out.
	Issuer string `yaml:"issuer,omitempty"`
	// ValuesFile has values of the chart, which win over those that follow from this file; may be empty.
	ValuesFile string `yaml:"valuesFile,omitempty"`
}

// Network is made or given, never both.
type Network struct {
	Create   *NetworkToMake `yaml:"create,omitempty"`
	Existing *NetworkThatIs `yaml:"existing,omitempty"`
	// OnPremises are ranges that the network may not overlap, such as those behind a VPN.
	OnPremises []string `yaml:"onPremises,omitempty"`
}

// NetworkToMake is a network of our own.
type NetworkToMake struct {
	CIDR  string `yaml:"cidr"`  // /16 to /20
	Zones int    `yaml:"zones"` // 2 to 6; 3 by default
	// ZoneIDs choose the zones (euc1-az1) instead of the first that EKS takes.
	ZoneIDs []string `yaml:"zoneIds,omitempty"`
	// SecondaryCIDRs are further ranges of the network.
	SecondaryCIDRs []string `yaml:"secondaryCidrs,omitempty"`
	// NAT is per-zone (default), single or none.
	NAT NAT `yaml:"nat,omitempty"`
	// Endpoints is recommended (default: S3, logs, ecr.dkr, ecr.api, ec2), all (also what a
	// network without NAT needs) or gateway-only.
	Endpoints Endpoints `yaml:"endpoints,omitempty"`
	// FlowLogDays is how long the record of traffic is kept; 30 by default, 0 means no record.
	FlowLogDays *int `yaml:"flowLogDays,omitempty"`
}

// NAT is how private subnets reach the internet.
type NAT string

// The ways.
const (
	NATPerZone NAT = "per-zone"
	NATSingle  NAT = "single"
	NATNone    NAT = "none"
)

// Endpoints is which services are reached without leaving AWS's network.
type Endpoints string

// The lists.
const (
	RecommendedEndpoints Endpoints = "recommended"
	AllEndpoints         Endpoints = "all"
	GatewayOnly          Endpoints = "gateway-only"
)

// NetworkThatIs is the customer's.
type NetworkThatIs struct {
	VPC            string   `yaml:"vpc"`
	PublicSubnets  []string `yaml:"publicSubnets"`
	PrivateSubnets []string `yaml:"privateSubnets"`
}

// Cluster is the EKS cluster.
type Cluster struct {
	Version  string         `yaml:"version"`            // "1.34"
	Endpoint ClusterAddress `yaml:"endpoint,omitempty"` // public (default) or private
	// PublicCIDRs may reach a public endpoint; 0.0.0.0/0 by default.
	PublicCIDRs []string `yaml:"publicCidrs,omitempty"`
	// ServiceCIDR is EKS's choice when empty.
	ServiceCIDR string `yaml:"serviceCidr,omitempty"`
	// LogDays is how long the control plane's logs are kept; 30 by default.
	LogDays int `yaml:"logDays,omitempty"`
	// NodeGroups: one, named system, by default.
	NodeGroups []NodeGroup `yaml:"nodeGroups,omitempty"`
	// Karpenter makes the node autoscaler's side in AWS: queue, rules, roles.
	Karpenter bool `yaml:"karpenter,omitempty"`
	// KeyDeletionDays is how long a removed key can be brought back: 7 to 30, 30 by default.
	KeyDeletionDays int `yaml:"keyDeletionDays,omitempty"`
}

// ClusterAddress is where the API server is reached.
type ClusterAddress string

// The addresses. The private one is open within the network in both cases.
const (
	PublicAddress  ClusterAddress = "public"
	PrivateAddress ClusterAddress = "private"
)

// NodeGroup is a managed node group.
type NodeGroup struct {
	Name          string            `yaml:"name"`
	InstanceTypes []string          `yaml:"instanceTypes,omitempty"` // m6i.xlarge by default
	Spot          bool              `yaml:"spot,omitempty"`
	Min           int               `yaml:"min,omitempty"`     // 2 by default
	Max           int               `yaml:"max,omitempty"`     // 4 by default
	DiskGiB       int               `yaml:"diskGiB,omitempty"` // 80 by default
	Labels        map[string]string `yaml:"labels,omitempty"`
	Taints        []Taint           `yaml:"taints,omitempty"`
}

// Taint keeps pods off a node.
type Taint struct {
	Key    string `yaml:"key"`
	Value  string `yaml:"value,omitempty"`
	Effect string `yaml:"effect"` // NoSchedule, PreferNoSchedule, NoExecute
}

// Buckets is the two buckets.
type Buckets struct {
	// Suffix ends their names and makes them unique among all accounts; the account when empty.
	Suffix string `yaml:"suffix,omitempty"`
	// Origins are web pages that may use signed URLs; all by default.
	Origins []string `yaml:"origins,omitempty"`
	// Adopt takes over buckets of these names that somebody else made in the account.
	Adopt bool `yaml:"adopt,omitempty"`
}

// Registry is the repositories of images that the data plane builds.
type Registry struct {
	// Repositories are their names behind the vendor's prefix; the data plane's name by default.
	Repositories []string `yaml:"repositories,omitempty"`
	// UntaggedDays is when an image without a tag is dropped; 14 by default.
	UntaggedDays int `yaml:"untaggedDays,omitempty"`
}

// WorkspaceRoles is whether each service account has a role.
type WorkspaceRoles string

// The modes.
const (
	PerServiceAccount WorkspaceRoles = "per-service-account"
	SharedRoles       WorkspaceRoles = "shared"
)

// PrivateEndpoint is how the vendor reaches a private cluster.
type PrivateEndpoint struct {
	Enabled bool `yaml:"enabled"`
	// VendorRoleARN is the one principal that may connect; the vendor profile's control-plane role by default.
	VendorRoleARN string `yaml:"vendorRoleArn,omitempty"`
	// PrivateDNSName is the name under which the vendor's network finds the endpoint;
	// may be empty, then none is verified.
	PrivateDNSName string `yaml:"privateDnsName,omitempty"`
	// Image is that of the jumper.
	Image string `yaml:"image,omitempty"`
	// Tasks is how many jumpers run; 2 by default.
	Tasks int `yaml:"tasks,omitempty"`
	// Vendor is the vendor's side; nil where somebody else makes it.
	Vendor *VendorSide `yaml:"vendor,omitempty"`
}

// VendorSide is the consumer endpoint in the vendor's own account, made with the
// vendor's own credentials.
type VendorSide struct {
	Region  string   `yaml:"region,omitempty"` // the data plane's by default
	VPC     string   `yaml:"vpc"`
	Subnets []string `yaml:"subnets"`
	// PublicZone is the hosted zone that proves the name, PrivateZone the one that leads it to the endpoint.
	PublicZone  string `yaml:"publicZone,omitempty"`
	PrivateZone string `yaml:"privateZone,omitempty"`
}
