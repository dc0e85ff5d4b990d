// Package stack is the one CloudFormation stack that holds the access, as a step: it is
// looked at, made and changed by change sets that are shown before they are executed,
// protected, and removed. What is in the template is not its concern
// (provision/access/template), nor is what it may grant (provision/access).
//
// There is no state file: the stack's name, the names of its change sets, which derive
// from what is wanted, and the states that AWS gives them say how far an earlier run came.
//
// Start with NewStep. What is where:
//
//	stack.go      a stack as it is: API, Stack, Read
//	step.go       a stack as it is wanted: Wanted, NewStep, what it plans
//	changeset.go  how it gets there: a change set is made, read, executed
//	source.go     where the template is while AWS reads it: in the call, in a bucket for the moment, at a URL
//	protect.go    the stack policy and the termination protection
//	remove.go     how it is removed, with what was hung on its roles
//	grant.go      the steps of a grant, with what stands in its way
//	reasons.go    what AWS says of a failure, in a sentence
package stack

import (
	"bytes"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/goccy/go-yaml"

	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/access/template"
	"biplane.dev/biplane/provision/vendor"
)

// API is what is asked of CloudFormation, and nothing more. The operations table has a
// row for each. *cloudformation.Client is one.
type API interface {
	DescribeStacks(context.Context, *cloudformation.DescribeStacksInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStacksOutput, error)
	DescribeStackResources(context.Context, *cloudformation.DescribeStackResourcesInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStackResourcesOutput, error)
	DescribeStackEvents(context.Context, *cloudformation.DescribeStackEventsInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeStackEventsOutput, error)
	GetTemplate(context.Context, *cloudformation.GetTemplateInput, ...func(*cloudformation.Options)) (*cloudformation.GetTemplateOutput, error)

	ListChangeSets(context.Context, *cloudformation.ListChangeSetsInput, ...func(*cloudformation.Options)) (*cloudformation.ListChangeSetsOutput, error)
	CreateChangeSet(context.Context, *cloudformation.CreateChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.CreateChangeSetOutput, error)
	DescribeChangeSet(context.Context, *cloudformation.DescribeChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.DescribeChangeSetOutput, error)
	ExecuteChangeSet(context.Context, *cloudformation.ExecuteChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.ExecuteChangeSetOutput, error)
	DeleteChangeSet(context.Context, *cloudformation.DeleteChangeSetInput, ...func(*cloudformation.Options)) (*cloudformation.DeleteChangeSetOutput, error)

	GetStackPolicy(context.Context, *cloudformation.GetStackPolicyInput, ...func(*cloudformation.Options)) (*cloudformation.GetStackPolicyOutput, error)
	SetStackPolicy(context.Context, *cloudformation.SetStackPolicyInput, ...func(*cloudformation.Options)) (*cloudformation.SetStackPolicyOutput, error)
	UpdateTerminationProtection(context.Context, *cloudformation.UpdateTerminationProtectionInput, ...func(*cloudformation.Options)) (*cloudformation.UpdateTerminationProtectionOutput, error)
	ContinueUpdateRollback(context.Context, *cloudformation.ContinueUpdateRollbackInput, ...func(*cloudformation.Options)) (*cloudformation.ContinueUpdateRollbackOutput, error)
	DeleteStack(context.Context, *cloudformation.DeleteStackInput, ...func(*cloudformation.Options)) (*cloudformation.DeleteStackOutput, error)
}

// Place is a customer's account in one region, with who speaks to it.
type Place struct {
	CloudFormation API
	IAM            access.IAM
	S3             S3 // asked only for templates that do not fit into a call

	Partition, Account, Region string
	Vendor                     *vendor.Profile
}

// Stack is a stack as it is.
type Stack struct {
	Name, ID     string
	Status       types.StackStatus
	StatusReason string
	Updated      time.Time // zero: never
	Parameters   map[string]string
	Outputs      map[string]string
	Tags         map[string]string
	Protected    bool // from being deleted

	Body string // the template as it was given; "" while there is none, in REVIEW_IN_PROGRESS
	// About is what the template says of itself; nil where it says nothing, or there is none.
	// A stack that was launched by a link has no tags of ours, but it has this.
	About *template.Metadata
	Ours  bool // by its template, or by its tags
}

// Read returns the stack of that name; nil when there is none.
func Read(ctx context.Context, api API, v *vendor.Profile, name string) (*Stack, error) {
	out, err := api.DescribeStacks(ctx, &cloudformation.DescribeStacksInput{StackName: &name})
	if absent(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if len(out.Stacks) == 0 || out.Stacks[0].StackStatus == types.StackStatusDeleteComplete {
		return nil, nil
	}
	is := out.Stacks[0]
	s := &Stack{
		Name: aws.ToString(is.StackName), ID: aws.ToString(is.StackId), Status: is.StackStatus, StatusReason: aws.ToString(is.StackStatusReason),
		Updated:    aws.ToTime(is.LastUpdatedTime),
		Parameters: map[string]string{}, Outputs: map[string]string{}, Tags: map[string]string{},
		Protected: aws.ToBool(is.EnableTerminationProtection),
	}
	for _, p := range is.Parameters {
		s.Parameters[aws.ToString(p.ParameterKey)] = aws.ToString(p.ParameterValue)
	}
	for _, o := range is.Outputs {
		s.Outputs[aws.ToString(o.OutputKey)] = aws.ToString(o.OutputValue)
	}
	for _, t := range is.Tags {
		s.Tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	if s.Status != types.StackStatusReviewInProgress {
		given, err := api.GetTemplate(ctx, &cloudformation.GetTemplateInput{StackName: &s.ID, TemplateStage: types.TemplateStageOriginal})
		if absent(err) {
			return nil, nil // deleted between the two calls
		}
		if err != nil {
			return nil, err
		}
		s.Body = aws.ToString(given.TemplateBody)
		s.About = about(s.Body)
	}
	s.Ours = s.About != nil || s.Tags[v.ManagedByKey()] == vendor.ManagedByValue && s.Tags[v.TagPrefix+"component"] == component
	return s, nil
}

// component is the value of the tag of that name, as on everything that grant makes.
const component = "access"

// about reads what a template says of itself; nil where that is not what ours say.
func about(body string) *template.Metadata {
	var parts struct{ Metadata json.RawMessage }
	text, err := canonical([]byte(body))
	if err != nil || json.Unmarshal(text, &parts) != nil {
		return nil
	}
	if m, ours := template.ParseMetadata(string(parts.Metadata)); ours {
		return &m
	}
	return nil
}

// parametersOf are the names of the parameters that a template takes.
func parametersOf(body []byte) (map[string]any, error) {
	var parts struct{ Parameters map[string]any }
	text, err := canonical(body)
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(text, &parts)
	return parts.Parameters, err
}

// canonical is a template, which may be JSON or YAML, as JSON: the same text for the same
// template.
func canonical(body []byte) ([]byte, error) {
	var tree any
	if strings.HasPrefix(string(bytes.TrimSpace(body)), "{") {
		if err := json.Unmarshal(body, &tree); err != nil {
			return nil, err
		}
	} else if err := yaml.Unmarshal(body, &tree); err != nil {
		return nil, err
	}
	return json.Marshal(tree)
}

// sameTemplate reports whether two texts are the same template.
func sameTemplate(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	one, err := canonical(a)
	if err != nil {
		return false
	}
	other, err := canonical(b)
	return err == nil && bytes.Equal(one, other)
}
