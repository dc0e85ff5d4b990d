package iampolicy

// Document is one policy as IAM reads it. Every list keeps the order of the
// source; a scalar in the source is a list of one.
type Document struct {
	// Name says where the document came from, a file or a policy's name. It
	// appears in explanations and findings and is never part of the document.
	Name string

	// Version is "2012-10-17", "2008-10-17" or "" when the element is absent,
	// which IAM reads as 2008-10-17: policy variables are then plain text.
	Version string

	ID         string
	Statements []Statement
}

// Effect is what a statement does when it matches.
type Effect string

// The two effects that IAM knows.
const (
	Allow Effect = "Allow"
	Deny  Effect = "Deny"
)

// Statement is one statement. Of each pair Action/NotAction and
// Resource/NotResource a valid statement has one; Principal and NotPrincipal
// appear only in trust and resource policies, which may leave Resource out
// (trust policies always do).
type Statement struct {
	Sid          string
	Effect       Effect
	Principal    *Principals
	NotPrincipal *Principals
	Action       []string
	NotAction    []string
	Resource     []string
	NotResource  []string
	Condition    []Condition
	Position     Position
}

// Principals is the value of Principal or NotPrincipal. Any is the scalar "*";
// the others are the values under the key of their name.
type Principals struct {
	Any           bool
	AWS           []string
	Service       []string
	Federated     []string
	CanonicalUser []string
}

// Condition is one operator and one key with its values: StringEquals,
// aws:RequestTag/team, ["data"]. Operator is spelt as in IAM's reference,
// with its ForAllValues:/ForAnyValue: prefix and IfExists suffix; Key keeps
// the case of the source. Values are strings whatever JSON type they had.
type Condition struct {
	Operator string
	Key      string
	Values   []string
}

// Position is a place in the source, both counted from 1, Column in bytes.
// The zero Position means that there is no source.
type Position struct {
	Line   int `json:"line"`
	Column int `json:"column"`
}

// Problem is one thing that is wrong with a document's form. Lint reports the
// same things as findings.
type Problem struct {
	Code      string   // kebab-case and stable: "duplicate-key", "unknown-element", "bad-operator"
	Statement int      // from 0; -1 when it concerns the whole document
	Path      string   // "Statement[3].Condition.StringEquals"
	Position  Position // where
	Message   string   // one sentence that names the value
	Remedy    string   // the next thing to try
}
