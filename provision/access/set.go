package access

import "encoding/json"

// ProfileName chooses between the three sets of documents.
type ProfileName string

// The profiles. Strict is the default.
const (
	Strict ProfileName = "strict" // generated from the operations table, split by phase
	Compat ProfileName = "compat" // what the seed's grants can ever match
	Seed   ProfileName = "seed"   // the seed as published, to compare with
)

// Set is everything that one customer account needs so that the vendor can
// work in one region. Its JSON is read by other programs.
type Set struct {
	Profile   ProfileName `json:"profile"`
	Partition string      `json:"partition"`
	Account   string      `json:"account"`
	Region    string      `json:"region"`
	// Boundary is the managed policy that every role made by the vendor must
	// carry; nil where the profile has none.
	Boundary *Policy `json:"boundary"`
	Roles    []Role  `json:"roles"`
}

// Role is one role with its trust and permissions.
type Role struct {
	Name    string `json:"name"`
	Path    string `json:"path"`
	Purpose string `json:"purpose"`
	Trust   Trust  `json:"trust"`
	// Boundary is the name of the permissions boundary attached to the role
	// itself; nil where there is none.
	Boundary *string  `json:"boundary"`
	Policies []Policy `json:"policies"`
	// Attached are ARNs of AWS's own policies that the role carries beside them.
	Attached []string `json:"attached,omitempty"`

	// What the customer changed by hand and an update leaves so; zero: nothing.
	keptBoundary string // ARN
	keptSession  int32
}

// Trust is a role's trust policy. Document is the text that IAM is given.
type Trust struct {
	Size     int             `json:"size"`
	Document json.RawMessage `json:"document"`
}

// Policy is one permission policy. Size is IAM's count in characters.
type Policy struct {
	Name     string          `json:"name"`
	Kind     string          `json:"kind,omitempty"` // managed or inline; empty for the Set's boundary
	Size     int             `json:"size"`
	Document json.RawMessage `json:"document"`
}
