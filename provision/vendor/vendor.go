// Package vendor holds the vendor profile: the names that a vendor chooses, in
// one strict YAML file. The default, embedded here, is that of the seed
// documents. Everything that names a role, a policy, an account or a prefix
// reads it from a Profile; nothing else in the tree spells such a name out.
package vendor

// APIVersion is the only version of the file that there is.
const APIVersion = "biplane.dev/v1"

// Profile is one vendor's names. See default.yaml for each field's meaning.
type Profile struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"` // VendorProfile

	Product string `json:"product"` // as it is written for people: "Union"

	// Accounts is the vendor's account by partition: aws, aws-us-gov, aws-cn.
	Accounts         map[string]string `json:"accounts"`
	ControlPlaneRole string            `json:"controlPlaneRole"` // the only role of that account that may assume the roles

	// RoleName is the base of the access roles' names: the provision role has
	// it as it is, the others with -operate, -observe, -teardown, -break-glass.
	RoleName   string `json:"roleName"`   // union-ai-admin
	Path       string `json:"path"`       // /union/ , of every role and policy under strict
	PolicyName string `json:"policyName"` // UnionIAMPolicy, the base of managed policies' names
	StackName  string `json:"stackName"`  // UnionCloudAccess

	TagPrefix string `json:"tagPrefix"` // union: , of union:managed-by and the other tags

	// Prefix starts the names of what strict lets the vendor make (union-).
	// CompatPrefix is the seed's (opta-), which its grants are written for.
	Prefix         string `json:"prefix"`
	CompatPrefix   string `json:"compatPrefix"`
	EndpointPrefix string `json:"endpointPrefix"` // unionai-access- , of the private endpoint's things
	ProxyLogGroup  string `json:"proxyLogGroup"`  // /ecs/unionai/proxy-
	Repository     string `json:"repository"`     // union/ , of the image registry
	QueuePrefix    string `json:"queuePrefix"`    // Karpenter

	AdminRole string `json:"adminRole"` // adminflyterole
	UserRole  string `json:"userRole"`  // userflyterole
	Namespace string `json:"namespace"` // union
}
