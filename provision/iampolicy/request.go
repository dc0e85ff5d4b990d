package iampolicy

import "strings"

// Request is one call as IAM sees it: who, what, on which resource, with what
// around it. A call that touches several resources is several Requests, all of
// which must be allowed.
type Request struct {
	Principal Principal
	Action    string // "ec2:CreateVpc"; compared without regard to case
	Resource  string // an ARN, or "*" for an action without a resource type

	// ResourceAccount is the account that owns the resource. Empty means: the
	// account field of Resource, or where that is empty too (S3) the
	// principal's own account.
	ResourceAccount string

	Context Context
}

// Principal is the caller.
type Principal struct {
	Type    PrincipalType
	ARN     string // arn:aws:sts::1:assumed-role/r/s, arn:aws:iam::1:user/u, …; service name or provider ARN for the other types
	RoleARN string // of a role session: the role with its path; else empty
	Account string // twelve digits; empty for a service or anonymous caller
}

// PrincipalType is the key under which a Principal element would name the caller.
type PrincipalType string

// The principal types of the policy grammar, and Anonymous for an unsigned request.
const (
	AWS           PrincipalType = "AWS"
	Service       PrincipalType = "Service"
	Federated     PrincipalType = "Federated"
	CanonicalUser PrincipalType = "CanonicalUser"
	Anonymous     PrincipalType = "Anonymous"
)

// Context holds condition keys and their values. Keys are kept in lower case,
// because IAM compares them so; use Set and Get. A key with an empty slice or a
// single empty string is present and empty, which is not the same as absent.
type Context map[string][]string

// Set gives key its values, replacing those it had.
func (c Context) Set(key string, values ...string) { c[strings.ToLower(key)] = values }

// Get returns the values of key and whether the key is present.
func (c Context) Get(key string) ([]string, bool) {
	v, ok := c[strings.ToLower(key)]
	return v, ok
}

// Policies is everything that has a say in a decision. An absent part does not
// restrict: nil Boundary, Session, SCP and Resource mean that there are none.
type Policies struct {
	Identity []*Document
	Boundary *Document
	Session  []*Document // of a role session: all that were passed to AssumeRole, as one
	// SCP lists the levels from the organization's root down; at each level one
	// document must allow and none may deny.
	SCP [][]*Document
	// Resource is the policy on the resource: a bucket policy, a key policy, a
	// role's trust policy.
	Resource *Document
}

// Decision is the answer to a Request.
type Decision uint8

// The three answers, in the words of SimulatePrincipalPolicy.
const (
	ImplicitDeny Decision = iota
	ExplicitDeny
	Allowed
)

func (d Decision) String() string {
	switch d {
	case Allowed:
		return "allowed"
	case ExplicitDeny:
		return "explicitDeny"
	}
	return "implicitDeny"
}

// Part says which kind of policy a statement belongs to.
type Part string

// The parts of Policies.
const (
	IdentityPart Part = "identity"
	BoundaryPart Part = "boundary"
	SessionPart  Part = "session"
	SCPPart      Part = "scp"
	ResourcePart Part = "resource"
)

// Explanation is a Decision with its reasons.
type Explanation struct {
	Decision Decision
	// Statements decided: the denying ones, or the allowing ones of every part
	// that had to allow. Empty for an implicit deny.
	Statements []StatementRef
	// NearMisses would have decided the other way but for one or more elements,
	// nearest first.
	NearMisses []NearMiss
	// MissingPart is the part that does not allow, for an implicit deny.
	MissingPart Part
}

// StatementRef names a statement.
type StatementRef struct {
	Document string `json:"document"`
	Part     Part   `json:"part"`
	Index    int    `json:"index"` // from 0
	Sid      string `json:"sid"`
}

// NearMiss is a statement that nearly applied, and why it did not.
type NearMiss struct {
	StatementRef
	// Element is what failed: Action, Resource, Principal, or the condition as
	// "Condition.StringEquals.sts:ExternalId".
	Element string `json:"element"`
	Reason  string `json:"reason"` // one sentence with both values
}
