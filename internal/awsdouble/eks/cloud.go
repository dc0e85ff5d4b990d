package eks

import "context"

// Cloud is the account around a cluster: what EKS sees and does there by its
// service-linked roles.
type Cloud interface {
	// Subnets returns those that exist, in the order of ids.
	Subnets(ctx context.Context, w Where, ids []string) ([]Subnet, error)
	// VPC returns nil for one that does not exist.
	VPC(ctx context.Context, w Where, id string) (*VPC, error)
	// Zones are the zones of the region, id by name.
	Zones(ctx context.Context, w Where) (map[string]string, error)
	// SecurityGroups returns the VPC of each that exists, by id.
	SecurityGroups(ctx context.Context, w Where, ids []string) (map[string]string, error)
	// Role returns nil for one that does not exist, or is not to be seen yet.
	Role(ctx context.Context, arn string) (*Role, error)
	// PrincipalExists says whether a role or user is there, and to be seen.
	PrincipalExists(ctx context.Context, arn string) (bool, error)
	// Key says whether a key is there, enabled and symmetric.
	Key(ctx context.Context, w Where, arn string) (bool, error)
	// LaunchTemplate finds a template by id or name, with the number of its
	// version, which may be given as $Latest or $Default; nil for none.
	LaunchTemplate(ctx context.Context, w Where, id, name, version string) (*LaunchTemplate, error)
	// InstanceTypes returns the architectures (x86_64, arm64) of each that exists.
	InstanceTypes(ctx context.Context, w Where, names []string) (map[string][]string, error)
	// WayOut says how nodes in a subnet reach AWS.
	WayOut(ctx context.Context, w Where, subnet string) (WayOut, error)

	// The rest makes and removes. What is there already is no error, nor what is
	// gone already; a group that something still refers to stays.
	CreateLogGroup(ctx context.Context, w Where, name string) error
	CreateSecurityGroup(ctx context.Context, w Where, vpc, name, description string, tags map[string]string) (id string, err error)
	DeleteSecurityGroup(ctx context.Context, w Where, id string) error
	CreateInterface(ctx context.Context, w Where, subnet, description string, groups []string) (id string, err error)
	DeleteInterface(ctx context.Context, w Where, id string) error
}

// Subnet is what EKS has to know of one.
type Subnet struct {
	ID, VPC, Zone, ZoneID string
	Free                  int  // addresses
	PublicAddresses       bool // are given to what starts there
}

// VPC is what EKS has to know of one.
type VPC struct {
	ID           string
	CIDRs        []string
	DNSSupport   bool
	DNSHostnames bool
	NameServers  []string // of its DHCP options; nil for those that are not known
}

// Role is what EKS has to know of one.
type Role struct {
	Trusts   []string // services, such as eks.amazonaws.com
	Attached []string // names of policies
}

// LaunchTemplate is one version of a template.
type LaunchTemplate struct {
	ID, Name, Version string
	Image             string // an AMI of one's own; "" for EKS's
	InstanceType      string
	Refused           string // a field that templates of node groups cannot have; "" for none
}

// WayOut is how a subnet's nodes reach AWS.
type WayOut struct {
	Route     string          // "nat", "internet", "other", "" for none that works
	Problem   string          // why there is none
	Addresses []string        // by which they are seen outside, of a NAT gateway
	Endpoints map[string]bool // services with an endpoint that is available: "ecr.api", "s3"
}
