// Package vendor holds the vendor profile: the names that a vendor chooses, in
// one strict YAML file. The default, embedded here, is that of the published
// set-up documents. Everything that names a role, a policy, an account or a
// prefix reads it from a Profile; nothing else in the tree spells such a name
// out. It knows nothing of AWS but the form that a name must have.
//
// Start with Default or Load. default.yaml explains each field.
package vendor

// APIVersion and Kind are what the file's first two fields say.
const (
	APIVersion = "biplane.dev/v1"
	Kind       = "VendorProfile"
)

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
	// TemplateURL is where the vendor publishes the templates: a folder in S3, to
	// which the version and the name of a file are added.
	TemplateURL string `json:"templateUrl"`

	TagPrefix string `json:"tagPrefix"` // union: , of union:managed-by and the other tags

	// Prefix starts the names of what strict lets the vendor make (union-).
	// CompatPrefix is the published grants' (opta-).
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

// ManagedByValue is the value of the ownership tag, which says that Biplane made
// a thing and may manage it. It is Biplane's, not the vendor's: two vendors in
// one account are told apart by the tag's key.
const ManagedByValue = "biplane"

// ManagedByKey is the key of the ownership tag.
func (p *Profile) ManagedByKey() string { return p.TagPrefix + "managed-by" }
