package cloudformation

import (
	"context"
	"errors"

	"github.com/aws/aws-sdk-go-v2/service/iam"
)

// Cloud is how resources are made: by calls of the other services on behalf of
// whoever runs the stack's operation.
type Cloud interface {
	// IAM is a client whose calls are made on behalf of who: they are decided by
	// who's policies, with aws:CalledVia and aws:ViaAWSService among the keys.
	IAM(who Caller) *iam.Client
}

// Caller is whoever runs an operation of a stack. It is kept with the operation.
type Caller struct {
	Account, ARN string
	AccessKeyID  string
}

// Tag is a tag of a stack or a resource.
type Tag struct{ Key, Value string }

// request is what a handler is asked to do.
type request struct {
	cloud  Cloud
	caller Caller
	env    Env
	token  string // the operation's, as in its events
	tags   []Tag  // of the stack

	logicalID  string
	typ        string         // AWS::IAM::Role
	properties map[string]any // as they should be; nil when it is deleted
	previous   map[string]any // for an update
	physical   Physical       // what is there, for all but create
}

// What read answers where there is nothing to compare.
var (
	errGone    = errors.New("the resource is not there")
	errNoDrift = errors.New("this type of resource does not support drift detection")
)

// A handler makes one type of resource. Its errors are ready for an event's
// ResourceStatusReason.
type handler interface {
	// create makes it. With an error and a Physical, something was made that a
	// rollback has to delete; with an error alone, nothing was.
	create(ctx context.Context, r *request) (Physical, error)
	// update changes it in place. Another ID in the answer means that there is
	// another resource now, and the old one has to be deleted.
	update(ctx context.Context, r *request) (Physical, error)
	// delete returns nil also when it is gone already.
	delete(ctx context.Context, r *request) error
	// read gives the properties as they are, for drift: those that the template
	// sets, in its form, and what somebody added. It returns errGone when there
	// is nothing, and errNoDrift where a type does not tell.
	read(ctx context.Context, r *request) (map[string]any, error)
}

// kind is what is known of a type of resource.
type kind struct {
	required   []string // properties
	optional   []string // nil with required nil: any properties
	replaced   []string // a change of these makes another resource
	named      string   // the property that names it, so that no second one can stand beside it
	attributes []string // of Fn::GetAtt; nil: any
	iam        bool     // needs a capability
	handler    handler
}

// kinds are the types of resources that templates may have.
var kinds = map[string]kind{}

// kindOf finds a type; Custom::Anything is AWS::CloudFormation::CustomResource.
func kindOf(typ string) (kind, bool) {
	k, ok := kinds[typ]
	return k, ok
}

// changed are the names of the properties that differ, and replacing those among
// them that make another resource.
func (k kind) changed(previous, next map[string]any) (changed, replacing []string) { return nil, nil }

// Difference is one of a resource's properties that is not as its template says.
type Difference struct {
	PropertyPath     string // /Policies/0/PolicyDocument
	Expected, Actual string
	Type             string // ADD, REMOVE or NOT_EQUAL
}

// drift compares properties as they should be with those that are there.
func drift(expected, actual map[string]any) []Difference { return nil }
