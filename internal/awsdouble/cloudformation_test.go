package awsdouble

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	cfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"
	"github.com/aws/smithy-go"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/clock"
)

// accessTemplate has a policy and a role that has it; each %s is what a test changes:
// an action of the policy.
const accessTemplate = `
AWSTemplateFormatVersion: '2010-09-09'
Description: What a test grants
Parameters:
  Name: {Type: String, Default: granted, AllowedPattern: '[a-z]+', ConstraintDescription: small letters}
  Key: {Type: String, MinLength: 8}
  Secret: {Type: String, NoEcho: true, Default: hushhush}
Resources:
  Policy:
    Type: AWS::IAM::ManagedPolicy
    Properties:
      ManagedPolicyName: !Sub '${Name}-policy'
      PolicyDocument:
        Version: '2012-10-17'
        Statement: [{Effect: Allow, Action: '%s', Resource: '*'}]
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Ref Name
      AssumeRolePolicyDocument:
        Version: '2012-10-17'
        Statement:
          - Effect: Allow
            Principal: {AWS: !Sub 'arn:${AWS::Partition}:iam::${AWS::AccountId}:root'}
            Action: sts:AssumeRole
            Condition: {StringEquals: {'sts:ExternalId': !Ref Key}}
      ManagedPolicyArns: [!Ref Policy]
Outputs:
  RoleArn: {Value: !GetAtt Role.Arn, Description: who may}
`

func access(action string) *string { return aws.String(fmt.Sprintf(accessTemplate, action)) }

// stacks is CloudFormation in a double, by the SDK, as one of its accounts.
type stacks struct {
	*cfn.Client
	t     *testing.T
	d     *Double
	clock *testClock // stands still; nil where the double's own runs
}

// whole sends requests whose bodies nobody closes. The SDK closes its own as soon as it
// has the head of an answer, and the transport may then give up a connection that it is
// still reading from: it happens with a server that is as near as this one.
type whole struct{}

func (whole) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	other := r.Clone(r.Context())
	other.Body = io.NopCloser(bytes.NewReader(body))
	return http.DefaultTransport.RoundTrip(other)
}

// stacksOf has a client as somebody.
func stacksOf(t *testing.T, d *Double, key awsidentity.Credentials) *stacks {
	return &stacks{cfn.New(cfn.Options{Region: d.region, BaseEndpoint: aws.String(d.URL()), RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: whole{}},
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, key.SessionToken)}), t, d, nil}
}

// standing is a double whose time stands still.
func standing(t *testing.T, o Options) *stacks {
	t.Helper()
	s := stacksOf(t, start(t, o), awsidentity.Credentials{})
	s.clock = &testClock{now: time.Now()}
	if err := s.d.openStacks(s.clock); err != nil {
		t.Fatal(err)
	}
	s.Client = stacksOf(t, s.d, s.d.Accounts().Customer.Credentials).Client
	return s
}

func (s *stacks) as(key awsidentity.Credentials) *stacks {
	other := *s
	other.Client = stacksOf(s.t, s.d, key).Client
	return &other
}

func (s *stacks) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// refused checks a refusal's code and words.
func (s *stacks) refused(err error, code, words string) {
	s.t.Helper()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code || !strings.Contains(api.ErrorMessage(), words) {
		s.t.Errorf("got %v, want %s with %q", err, code, words)
	}
}

func (s *stacks) stack(name string) types.Stack {
	s.t.Helper()
	out, err := s.DescribeStacks(s.t.Context(), &cfn.DescribeStacksInput{StackName: &name})
	s.must(err)
	return out.Stacks[0]
}

// is checks the state of a stack.
func (s *stacks) is(name string, want types.StackStatus) {
	s.t.Helper()
	if got := s.stack(name); got.StackStatus != want {
		s.t.Fatalf("%s: got %s (%s), want %s\n%s", name, got.StackStatus, aws.ToString(got.StackStatusReason), want, strings.Join(s.events(name), "\n"))
	}
}

// settle lets time pass until a stack is at rest.
func (s *stacks) settle(name string) {
	s.t.Helper()
	for range 100 {
		if !strings.HasSuffix(string(s.stack(name).StackStatus), "_IN_PROGRESS") {
			return
		}
		s.clock.pass(20 * time.Second)
	}
	s.t.Fatalf("%s: got %s for ever", name, s.stack(name).StackStatus)
}

// events are what happened, the oldest first: RESOURCE STATUS REASON.
func (s *stacks) events(name string) []string {
	s.t.Helper()
	var all []string
	for page := cfn.NewDescribeStackEventsPaginator(s.Client, &cfn.DescribeStackEventsInput{StackName: &name}); page.HasMorePages(); {
		out, err := page.NextPage(s.t.Context())
		s.must(err)
		for _, e := range out.StackEvents {
			all = append(all, strings.TrimSpace(fmt.Sprintf("%s %s %s", *e.LogicalResourceId, e.ResourceStatus, aws.ToString(e.ResourceStatusReason))))
		}
	}
	slices.Reverse(all)
	return all
}

// happened checks that one of the events contains each text.
func (s *stacks) happened(name string, texts ...string) {
	s.t.Helper()
	events := s.events(name)
	for _, text := range texts {
		if !slices.ContainsFunc(events, func(e string) bool { return strings.Contains(e, text) }) {
			s.t.Errorf("got\n%s\nwant %q among them", strings.Join(events, "\n"), text)
		}
	}
}

var named = []types.Capability{types.CapabilityCapabilityNamedIam}

func parameter(name, value string) types.Parameter {
	return types.Parameter{ParameterKey: &name, ParameterValue: &value}
}

func previous(name string) types.Parameter {
	return types.Parameter{ParameterKey: &name, UsePreviousValue: aws.Bool(true)}
}

// create makes a stack of the access template, to its end.
func (s *stacks) create(name, action string) {
	s.t.Helper()
	_, err := s.CreateStack(s.t.Context(), &cfn.CreateStackInput{StackName: &name, TemplateBody: access(action), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "external-id")}})
	s.must(err)
	s.settle(name)
	s.is(name, types.StackStatusCreateComplete)
}

// iam is IAM as the customer's administrator.
func (s *stacks) iam() *iam.Client {
	key := s.d.Accounts().Customer.Credentials
	return iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: aws.String(s.d.URL()), RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: whole{}},
		Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")})
}

// allows says whether the policy that a stack has made allows an action.
func (s *stacks) allows(action string) bool {
	s.t.Helper()
	arn := "arn:aws:iam::123456789012:policy/granted-policy"
	p, err := s.iam().GetPolicy(s.t.Context(), &iam.GetPolicyInput{PolicyArn: &arn})
	s.must(err)
	v, err := s.iam().GetPolicyVersion(s.t.Context(), &iam.GetPolicyVersionInput{PolicyArn: &arn, VersionId: p.Policy.DefaultVersionId})
	s.must(err)
	return strings.Contains(*v.PolicyVersion.Document, url.QueryEscape(action))
}

func TestStack(t *testing.T) {
	t.Parallel()
	t.Run("it is made a resource after the other, as the clock goes", func(t *testing.T) {
		s := standing(t, Options{})
		made, err := s.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:ListBucket"), Capabilities: named,
			Parameters: []types.Parameter{parameter("Key", "external-id")}, Tags: []types.Tag{{Key: aws.String("team"), Value: aws.String("data")}},
			ClientRequestToken: aws.String("token-1"), EnableTerminationProtection: aws.Bool(true)})
		s.must(err)
		s.is("one", types.StackStatusCreateInProgress)
		if _, err := s.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("granted")}); err == nil {
			t.Error("got a role, want none before its time")
		}
		s.clock.pass(20 * time.Second)
		s.is("one", types.StackStatusCreateInProgress)
		s.clock.pass(20 * time.Second)
		// IAM shows what was due although nobody asked CloudFormation.
		role, err := s.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("granted")})
		s.must(err)
		if !slices.ContainsFunc(role.Role.Tags, func(tag iamtypes.Tag) bool { return *tag.Key == "team" && *tag.Value == "data" }) {
			t.Errorf("got tags %v, want the stack's", role.Role.Tags)
		}
		s.is("one", types.StackStatusCreateComplete)
		st := s.stack(*made.StackId)
		if got := *st.Outputs[0].OutputValue; got != "arn:aws:iam::123456789012:role/granted" {
			t.Errorf("got output %s, want the role's ARN", got)
		}
		for _, p := range st.Parameters {
			if want := map[string]string{"Name": "granted", "Key": "external-id", "Secret": "****"}[*p.ParameterKey]; *p.ParameterValue != want {
				t.Errorf("%s: got %s, want %s", *p.ParameterKey, *p.ParameterValue, want)
			}
		}
		want := []string{
			"one CREATE_IN_PROGRESS User Initiated",
			"Policy CREATE_IN_PROGRESS", "Policy CREATE_IN_PROGRESS Resource creation Initiated", "Policy CREATE_COMPLETE",
			"Role CREATE_IN_PROGRESS", "Role CREATE_IN_PROGRESS Resource creation Initiated", "Role CREATE_COMPLETE",
			"one CREATE_COMPLETE",
		}
		if got := s.events("one"); !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		// Once more with the same token is the same stack; with another one it is one too many.
		again, err := s.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:ListBucket"), ClientRequestToken: aws.String("token-1")})
		s.must(err)
		if *again.StackId != *made.StackId {
			t.Errorf("got %s, want %s", *again.StackId, *made.StackId)
		}
		_, err = s.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:ListBucket")})
		s.refused(err, "AlreadyExistsException", "Stack [one] already exists")

		_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one")})
		s.refused(err, "ValidationError", "Stack [one] cannot be deleted while TerminationProtection is enabled")
		_, err = s.UpdateTerminationProtection(t.Context(), &cfn.UpdateTerminationProtectionInput{StackName: aws.String("one"), EnableTerminationProtection: aws.Bool(false)})
		s.must(err)
		_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one"), RetainResources: []string{"Role"}})
		s.refused(err, "ValidationError", "DELETE_FAILED")
		_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one")})
		s.must(err)
		s.settle(*made.StackId)
		s.is(*made.StackId, types.StackStatusDeleteComplete)
		_, err = s.DescribeStacks(t.Context(), &cfn.DescribeStacksInput{StackName: aws.String("one")})
		s.refused(err, "ValidationError", "Stack with id one does not exist")
		_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one")})
		s.must(err)
		if _, err := s.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("granted")}); err == nil {
			t.Error("got a role, want none after the deletion")
		}
		list, err := s.ListStacks(t.Context(), &cfn.ListStacksInput{StackStatusFilter: []types.StackStatus{types.StackStatusDeleteComplete}})
		s.must(err)
		if len(list.StackSummaries) != 1 {
			t.Errorf("got %d deleted stacks, want 1", len(list.StackSummaries))
		}
	})
	t.Run("it is refused before anything is made", func(t *testing.T) {
		s := standing(t, Options{})
		key := parameter("Key", "external-id")
		for name, one := range map[string]struct {
			in          cfn.CreateStackInput
			code, words string
		}{
			"without capabilities":      {cfn.CreateStackInput{StackName: aws.String("a"), TemplateBody: access("s3:*"), Parameters: []types.Parameter{key}}, "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_NAMED_IAM]"},
			"with a smaller capability": {cfn.CreateStackInput{StackName: aws.String("a"), TemplateBody: access("s3:*"), Parameters: []types.Parameter{key}, Capabilities: []types.Capability{types.CapabilityCapabilityIam}}, "InsufficientCapabilitiesException", "Requires capabilities : [CAPABILITY_NAMED_IAM]"},
			"without a parameter":       {cfn.CreateStackInput{StackName: aws.String("a"), TemplateBody: access("s3:*"), Capabilities: named}, "ValidationError", "Parameters: [Key] must have values"},
			"with one too many":         {cfn.CreateStackInput{StackName: aws.String("a"), TemplateBody: access("s3:*"), Capabilities: named, Parameters: []types.Parameter{key, parameter("Other", "x")}}, "ValidationError", "Parameters: [Other] do not exist in the template"},
			"with a bad value":          {cfn.CreateStackInput{StackName: aws.String("a"), TemplateBody: access("s3:*"), Capabilities: named, Parameters: []types.Parameter{key, parameter("Name", "UPPER")}}, "ValidationError", "small letters"},
			"with a previous value":     {cfn.CreateStackInput{StackName: aws.String("a"), TemplateBody: access("s3:*"), Capabilities: named, Parameters: []types.Parameter{previous("Key")}}, "ValidationError", "Cannot specify usePreviousValue as true"},
			"with a bad name":           {cfn.CreateStackInput{StackName: aws.String("a_b"), TemplateBody: access("s3:*")}, "ValidationError", "1 validation error detected: Value 'a_b' at 'stackName' failed to satisfy constraint: Member must satisfy regular expression pattern: [a-zA-Z][-a-zA-Z0-9]*"},
			"with a long name":          {cfn.CreateStackInput{StackName: aws.String(strings.Repeat("a", 129)), TemplateBody: access("s3:*")}, "ValidationError", "Member must have length less than or equal to 128"},
			"without a template":        {cfn.CreateStackInput{StackName: aws.String("a")}, "ValidationError", "Either Template URL or Template Body must be specified."},
			"with a large template":     {cfn.CreateStackInput{StackName: aws.String("a"), TemplateBody: aws.String(*access("s3:*") + strings.Repeat("#\n", 26000))}, "ValidationError", "at 'templateBody' failed to satisfy constraint: Member must have length less than or equal to 51200"},
			"with a URL of elsewhere":   {cfn.CreateStackInput{StackName: aws.String("a"), TemplateURL: aws.String("https://example.com/bucket/key")}, "ValidationError", "TemplateURL must be a supported URL."},
		} {
			_, err := s.CreateStack(t.Context(), &one.in)
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != one.code || !strings.Contains(api.ErrorMessage(), one.words) {
				t.Errorf("%s: got %.300v, want %s with %q", name, err, one.code, one.words)
			}
		}
		list, err := s.DescribeStacks(t.Context(), &cfn.DescribeStacksInput{})
		s.must(err)
		if len(list.Stacks) > 0 {
			t.Errorf("got %d stacks, want none", len(list.Stacks))
		}
	})
	t.Run("it works with the rights of its caller and no more", func(t *testing.T) {
		s := standing(t, Options{})
		narrow := s.as(roleSession(t, s.d, "narrow", `{"Effect":"Allow","Action":["cloudformation:*","iam:CreatePolicy","iam:DeletePolicy","iam:GetPolicy","iam:ListPolicyVersions"],"Resource":"*"}`))
		_, err := narrow.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:*"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "external-id")}})
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusRollbackComplete)
		s.happened("one", "Role CREATE_FAILED Resource handler returned message: \"User: arn:aws:sts::123456789012:assumed-role/narrow/test is not authorized to perform: iam:CreateRole",
			"one ROLLBACK_IN_PROGRESS The following resource(s) failed to create: [Role]. Rollback requested by user.", "Policy DELETE_COMPLETE", "one ROLLBACK_COMPLETE")
		for _, call := range []error{
			second(s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), UsePreviousTemplate: aws.Bool(true)})),
			second(s.CreateChangeSet(t.Context(), &cfn.CreateChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("set"), UsePreviousTemplate: aws.Bool(true)})),
		} {
			s.refused(call, "ValidationError", "is in ROLLBACK_COMPLETE state and can not be updated.")
		}
		nobody := s.as(roleSession(t, s.d, "nobody", `{"Effect":"Allow","Action":"cloudformation:*","Resource":"arn:aws:cloudformation:*:*:stack/mine/*"}`))
		_, err = nobody.DescribeStacks(t.Context(), &cfn.DescribeStacksInput{StackName: aws.String("one")})
		s.refused(err, "AccessDenied", "cloudformation:DescribeStacks on resource: "+*s.stack("one").StackId)
	})
	t.Run("it sees that CloudFormation calls", func(t *testing.T) {
		s := standing(t, Options{})
		by := s.as(roleSession(t, s.d, "byproxy", `{"Effect":"Allow","Action":"cloudformation:*","Resource":"*"},{"Effect":"Allow","Action":"iam:*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:CalledVia":"cloudformation.amazonaws.com"}}}`))
		by.create("one", "s3:*")
	})
	t.Run("it fails as it is told to", func(t *testing.T) {
		s := standing(t, Options{Faults: []Fault{{Kind: SCP, Service: "iam", Operation: "CreateRole"}}})
		in := func(name string, change func(*cfn.CreateStackInput)) string {
			in := &cfn.CreateStackInput{StackName: &name, TemplateBody: access("s3:*"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "external-id")}}
			change(in)
			made, err := s.CreateStack(t.Context(), in)
			s.must(err)
			s.settle(*made.StackId)
			return *made.StackId
		}
		id := in("gone", func(in *cfn.CreateStackInput) { in.OnFailure = types.OnFailureDelete })
		s.is(id, types.StackStatusDeleteComplete)
		s.happened(id, "explicit deny in a service control policy", "AccessDenied")
		id = in("kept", func(in *cfn.CreateStackInput) { in.OnFailure = types.OnFailureDoNothing })
		s.is(id, types.StackStatusCreateFailed)
		if !s.allows("s3:*") {
			t.Error("got no policy, want it left")
		}
	})
}

func second[T any](_ T, err error) error { return err }

func TestStackUpdate(t *testing.T) {
	t.Parallel()
	update := func(action string) *cfn.UpdateStackInput {
		return &cfn.UpdateStackInput{StackName: aws.String("one"), TemplateBody: access(action), Capabilities: named, Parameters: []types.Parameter{previous("Key")}}
	}
	t.Run("it changes what is different", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		_, err := s.UpdateStack(t.Context(), update("s3:ListBucket"))
		s.refused(err, "ValidationError", "No updates are to be performed.")
		_, err = s.UpdateStack(t.Context(), update("s3:GetObject"))
		s.must(err)
		s.is("one", types.StackStatusUpdateInProgress)
		_, err = s.UpdateStack(t.Context(), update("s3:GetObject"))
		s.refused(err, "ValidationError", "is in UPDATE_IN_PROGRESS state and can not be updated.")
		_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one")})
		s.refused(err, "ValidationError", "cannot be deleted while in status UPDATE_IN_PROGRESS")
		s.settle("one")
		s.is("one", types.StackStatusUpdateComplete)
		if !s.allows("s3:GetObject") {
			t.Error("got the old policy, want the new one")
		}
		events := s.events("one")
		want := []string{"one UPDATE_IN_PROGRESS User Initiated", "Policy UPDATE_IN_PROGRESS", "Policy UPDATE_COMPLETE", "one UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "one UPDATE_COMPLETE"}
		if got := events[len(events)-5:]; !slices.Equal(got, want) {
			t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	})
	t.Run("it goes back when a resource fails", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		s.d.Arm(Fault{Kind: SCP, Service: "iam", Operation: "UpdateAssumeRolePolicy"})
		in := update("s3:GetObject")
		in.Parameters = []types.Parameter{parameter("Key", "another-id")}
		_, err := s.UpdateStack(t.Context(), in)
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateRollbackComplete)
		s.happened("one", "Role UPDATE_FAILED", "one UPDATE_ROLLBACK_IN_PROGRESS The following resource(s) failed to update: [Role].", "one UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS")
		if !s.allows("s3:ListBucket") {
			t.Error("got the new policy, want the old one back")
		}
		if got := *s.stack("one").Parameters[0].ParameterValue; got != "external-id" {
			t.Errorf("got key %s, want external-id back", got)
		}
	})
	t.Run("it gets stuck when it cannot go back, and goes on", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		s.d.Arm(Fault{Kind: SCP, Service: "iam", Operation: "UpdateAssumeRolePolicy", Count: 1}, Fault{Kind: SCP, Service: "iam", Operation: "CreatePolicyVersion", After: 1, Count: 1})
		in := update("s3:GetObject")
		in.Parameters = []types.Parameter{parameter("Key", "another-id")}
		_, err := s.UpdateStack(t.Context(), in)
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateRollbackFailed)
		_, err = s.UpdateStack(t.Context(), update("s3:GetObject"))
		s.refused(err, "ValidationError", "is in UPDATE_ROLLBACK_FAILED state and can not be updated.")
		_, err = s.ContinueUpdateRollback(t.Context(), &cfn.ContinueUpdateRollbackInput{StackName: aws.String("one")})
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateRollbackComplete)
		if !s.allows("s3:ListBucket") {
			t.Error("got the new policy, want the old one back")
		}
		_, err = s.ContinueUpdateRollback(t.Context(), &cfn.ContinueUpdateRollbackInput{StackName: aws.String("one")})
		s.refused(err, "ValidationError", "UPDATE_ROLLBACK_COMPLETE")
	})
	t.Run("it is cancelled", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		_, err := s.CancelUpdateStack(t.Context(), &cfn.CancelUpdateStackInput{StackName: aws.String("one")})
		s.refused(err, "ValidationError", "CancelUpdateStack cannot be called from current stack status")
		in := update("s3:GetObject")
		in.Parameters = []types.Parameter{parameter("Key", "another-id")}
		_, err = s.UpdateStack(t.Context(), in)
		s.must(err)
		s.clock.pass(15 * time.Second) // the policy is changed, the role is not
		s.is("one", types.StackStatusUpdateInProgress)
		_, err = s.CancelUpdateStack(t.Context(), &cfn.CancelUpdateStackInput{StackName: aws.String("one")})
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateRollbackComplete)
		if !s.allows("s3:ListBucket") {
			t.Error("got the new policy, want the old one back")
		}
	})
	t.Run("it stays half-way without a rollback", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		s.d.Arm(Fault{Kind: SCP, Service: "iam", Operation: "UpdateAssumeRolePolicy", Count: 1})
		in := update("s3:GetObject")
		in.Parameters, in.DisableRollback = []types.Parameter{parameter("Key", "another-id")}, aws.Bool(true)
		_, err := s.UpdateStack(t.Context(), in)
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateFailed)
		if !s.allows("s3:GetObject") {
			t.Error("got the old policy, want the new one left")
		}
		_, err = s.UpdateStack(t.Context(), update("s3:GetObject"))
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateComplete)
	})
	t.Run("it replaces what cannot be changed, and removes the old one last", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		in := update("s3:ListBucket")
		in.Parameters = append(in.Parameters, parameter("Name", "other"))
		_, err := s.UpdateStack(t.Context(), in)
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateComplete)
		s.happened("one", "Role UPDATE_IN_PROGRESS Requested update requires the creation of a new physical resource; hence creating one.", "Role DELETE_COMPLETE")
		for name, there := range map[string]bool{"granted": false, "other": true} {
			if _, err := s.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: &name}); (err == nil) != there {
				t.Errorf("role %s: got %v, want there %v", name, err, there)
			}
		}
	})
	t.Run("it is held by a stack policy", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		_, err := s.SetStackPolicy(t.Context(), &cfn.SetStackPolicyInput{StackName: aws.String("one"), StackPolicyBody: aws.String(`{"Statement":[{"Effect":"Maybe"}]}`)})
		s.refused(err, "ValidationError", "Invalid Effect")
		policy := `{"Statement":[{"Effect":"Allow","Action":"Update:*","Principal":"*","Resource":"*"},
			{"Effect":"Deny","Action":["Update:Replace","Update:Delete"],"Principal":"*","Resource":"LogicalResourceId/Role"},
			{"Effect":"Deny","Action":"Update:*","Principal":"*","Resource":"*","Condition":{"StringEquals":{"ResourceType":["AWS::IAM::ManagedPolicy"]}}}]}`
		_, err = s.SetStackPolicy(t.Context(), &cfn.SetStackPolicyInput{StackName: aws.String("one"), StackPolicyBody: &policy})
		s.must(err)
		got, err := s.GetStackPolicy(t.Context(), &cfn.GetStackPolicyInput{StackName: aws.String("one")})
		s.must(err)
		if aws.ToString(got.StackPolicyBody) != policy {
			t.Errorf("got %s, want what was set", aws.ToString(got.StackPolicyBody))
		}
		_, err = s.UpdateStack(t.Context(), update("s3:GetObject"))
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateRollbackComplete)
		s.happened("one", "Policy UPDATE_FAILED Action denied by stack policy: Statement [#3] does not allow [Update:Modify] for resource [LogicalResourceId/Policy];")
		// The role may be changed, and not be removed.
		in := update("s3:ListBucket")
		in.Parameters = []types.Parameter{parameter("Key", "another-id")}
		_, err = s.UpdateStack(t.Context(), in)
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateComplete)
		without, _, _ := strings.Cut(*access("s3:ListBucket"), "  Role:\n")
		_, err = s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), TemplateBody: &without, Capabilities: named, Parameters: []types.Parameter{previous("Key")}})
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateRollbackComplete)
		s.happened("one", "does not allow [Update:Delete] for resource [LogicalResourceId/Role]")
		// But with another policy for the moment.
		_, err = s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), TemplateBody: &without, Capabilities: named, Parameters: []types.Parameter{previous("Key")},
			StackPolicyDuringUpdateBody: aws.String(`{"Statement":[{"Effect":"Allow","Action":"Update:*","Principal":"*","Resource":"*"}]}`)})
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateComplete)
		if _, err := s.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("granted")}); err == nil {
			t.Error("got the role, want it removed")
		}
	})
}

func TestStackDeletion(t *testing.T) {
	t.Parallel()
	s := standing(t, Options{})
	s.create("one", "s3:ListBucket")
	// Somebody else's policy on the role keeps it.
	_, err := s.iam().PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: aws.String("granted"), PolicyName: aws.String("by-hand"), PolicyDocument: aws.String(narrowPolicy)})
	s.must(err)
	_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one")})
	s.must(err)
	s.settle("one")
	s.is("one", types.StackStatusDeleteFailed)
	s.happened("one", "Role DELETE_FAILED", "one DELETE_FAILED The following resource(s) failed to delete: [Role")
	id := *s.stack("one").StackId
	_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one"), RetainResources: []string{"Role"}})
	s.must(err)
	s.settle(id)
	if _, err := s.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("granted")}); err != nil {
		t.Errorf("got %v, want the role that was to be retained", err)
	}
	s.happened(id, "Role DELETE_SKIPPED")

	t.Run("it stops a creation", func(t *testing.T) {
		s := standing(t, Options{})
		made, err := s.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("two"), TemplateBody: access("s3:*"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "external-id")}})
		s.must(err)
		s.clock.pass(17 * time.Second)
		s.is("two", types.StackStatusCreateInProgress)
		_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("two")})
		s.must(err)
		s.settle(*made.StackId)
		s.is(*made.StackId, types.StackStatusDeleteComplete)
		s.happened(*made.StackId, "Policy DELETE_COMPLETE")
	})
}

func TestChangeSet(t *testing.T) {
	t.Parallel()
	change := func(set, action string) *cfn.CreateChangeSetInput {
		return &cfn.CreateChangeSetInput{StackName: aws.String("one"), ChangeSetName: &set, TemplateBody: access(action), Capabilities: named, Parameters: []types.Parameter{previous("Key")}}
	}
	describe := func(s *stacks, set string) *cfn.DescribeChangeSetOutput {
		s.t.Helper()
		out, err := s.DescribeChangeSet(s.t.Context(), &cfn.DescribeChangeSetInput{StackName: aws.String("one"), ChangeSetName: &set, IncludePropertyValues: aws.Bool(true)})
		s.must(err)
		return out
	}
	execute := func(s *stacks, set, token string) error {
		in := &cfn.ExecuteChangeSetInput{StackName: aws.String("one"), ChangeSetName: &set}
		if token != "" {
			in.ClientRequestToken = &token
		}
		return second(s.ExecuteChangeSet(s.t.Context(), in))
	}
	t.Run("it makes a stack", func(t *testing.T) {
		s := standing(t, Options{})
		in := change("first", "s3:ListBucket")
		_, err := s.CreateChangeSet(t.Context(), in)
		s.refused(err, "ValidationError", "Stack [one] does not exist")
		in.ChangeSetType = types.ChangeSetTypeCreate
		_, err = s.CreateChangeSet(t.Context(), in)
		s.refused(err, "ValidationError", "Cannot specify UsePreviousValue on Parameters when ChangeSetType is CREATE")
		in.Parameters = []types.Parameter{parameter("Key", "external-id")}
		made, err := s.CreateChangeSet(t.Context(), in)
		s.must(err)
		s.is("one", types.StackStatusReviewInProgress)
		if got := describe(s, "first"); got.Status != types.ChangeSetStatusCreateInProgress || len(got.Changes) > 0 {
			t.Errorf("got %s with %d changes, want it to take its time", got.Status, len(got.Changes))
		}
		s.refused(execute(s, "first", ""), "InvalidChangeSetStatus", "cannot be executed in its current status of [CREATE_IN_PROGRESS]")
		s.clock.pass(time.Minute)
		// The same once more is the same; another of the name is refused.
		again, err := s.CreateChangeSet(t.Context(), in)
		s.must(err)
		if *again.Id != *made.Id {
			t.Errorf("got %s, want %s", *again.Id, *made.Id)
		}
		in.TemplateBody = access("s3:GetObject")
		_, err = s.CreateChangeSet(t.Context(), in)
		s.refused(err, "AlreadyExistsException", "ChangeSet first cannot be created due to a mismatch with existing attribute Template")
		got := describe(s, "first")
		if got.Status != types.ChangeSetStatusCreateComplete || got.ExecutionStatus != types.ExecutionStatusAvailable || len(got.Changes) != 2 || got.Changes[0].ResourceChange.Action != types.ChangeActionAdd {
			t.Errorf("got %+v, want two resources to add", got)
		}
		for _, p := range got.Parameters {
			if *p.ParameterKey == "Secret" && *p.ParameterValue != "****" {
				t.Errorf("got %s, want a secret hidden", *p.ParameterValue)
			}
		}
		s.must(execute(s, "first", "token-1"))
		s.must(execute(s, "first", "token-1"))
		s.refused(execute(s, "first", "token-2"), "InvalidChangeSetStatus", "cannot be executed in its current execution status of [EXECUTE_IN_PROGRESS]")
		s.settle("one")
		s.is("one", types.StackStatusCreateComplete)
		s.refused(execute(s, *made.Id, ""), "InvalidChangeSetStatus", "cannot be executed in its current execution status of [EXECUTE_COMPLETE]")
		if got := *s.stack("one").ChangeSetId; got != *made.Id {
			t.Errorf("got change set %s, want %s", got, *made.Id)
		}
		in.ChangeSetName = aws.String("second")
		_, err = s.CreateChangeSet(t.Context(), in)
		s.refused(err, "ValidationError", "Stack [one] already exists and cannot be created again with the changeSet [second].")
	})
	t.Run("it says what would change and why", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		in := change("set", "s3:GetObject")
		in.Parameters = []types.Parameter{parameter("Key", "another-id")}
		_, err := s.CreateChangeSet(t.Context(), in)
		s.must(err)
		s.clock.pass(time.Minute)
		got := describe(s, "set")
		if len(got.Changes) != 2 {
			t.Fatalf("got %d changes, want 2", len(got.Changes))
		}
		policy, role := got.Changes[0].ResourceChange, got.Changes[1].ResourceChange
		if policy.Action != types.ChangeActionModify || policy.Replacement != types.ReplacementFalse || *policy.PhysicalResourceId != "arn:aws:iam::123456789012:policy/granted-policy" {
			t.Errorf("got %+v, want the policy modified", policy)
		}
		if d := policy.Details[0]; d.ChangeSource != types.ChangeSourceDirectModification || *d.Target.Name != "PolicyDocument" || !strings.Contains(*d.Target.BeforeValue, "s3:ListBucket") || !strings.Contains(*d.Target.AfterValue, "s3:GetObject") {
			t.Errorf("got %+v, want the document as it was and will be", d)
		}
		if d := role.Details[0]; d.ChangeSource != types.ChangeSourceParameterReference || aws.ToString(d.CausingEntity) != "Key" || *d.Target.Name != "AssumeRolePolicyDocument" {
			t.Errorf("got %+v, want the parameter named", d)
		}
		in = change("renamed", "s3:ListBucket")
		in.Parameters = append(in.Parameters, parameter("Name", "other"))
		_, err = s.CreateChangeSet(t.Context(), in)
		s.must(err)
		s.clock.pass(time.Minute)
		for _, c := range describe(s, "renamed").Changes {
			if c.ResourceChange.Replacement != types.ReplacementTrue {
				t.Errorf("%s: got replacement %s, want True", *c.ResourceChange.LogicalResourceId, c.ResourceChange.Replacement)
			}
		}
	})
	t.Run("it fails where nothing would change", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		_, err := s.CreateChangeSet(t.Context(), change("same", "s3:ListBucket"))
		s.must(err)
		s.clock.pass(time.Minute)
		if got := describe(s, "same"); got.Status != types.ChangeSetStatusFailed || aws.ToString(got.StatusReason) != "The submitted information didn't contain changes. Submit different information to create a change set." {
			t.Errorf("got %s (%s), want it failed for want of changes", got.Status, aws.ToString(got.StatusReason))
		}
		s.refused(execute(s, "same", ""), "InvalidChangeSetStatus", "cannot be executed in its current status of [FAILED]")
		in := change("bad", "s3:ListBucket")
		in.Parameters = append(in.Parameters, previous("Other"))
		_, err = s.CreateChangeSet(t.Context(), in)
		s.refused(err, "ValidationError", "Invalid input for parameter key Other. Cannot specify usePreviousValue as true for a parameter key not in the previous template")
		in = change("import", "s3:ListBucket")
		in.ChangeSetType = types.ChangeSetTypeImport
		_, err = s.CreateChangeSet(t.Context(), in)
		s.refused(err, "NotImplemented", "does not import")
	})
	t.Run("it is executed once, and takes the others with it", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		for _, set := range []string{"a", "b"} {
			_, err := s.CreateChangeSet(t.Context(), change(set, "s3:Get"+set))
			s.must(err)
		}
		s.clock.pass(time.Minute)
		s.must(execute(s, "a", ""))
		s.refused(execute(s, "b", ""), "ChangeSetNotFound", "ChangeSet [b] does not exist")
		_, err := s.CreateChangeSet(t.Context(), change("c", "s3:Getc"))
		s.refused(err, "ValidationError", "is in UPDATE_IN_PROGRESS state and can not be updated.")
		s.settle("one")
		list, err := s.ListChangeSets(t.Context(), &cfn.ListChangeSetsInput{StackName: aws.String("one")})
		s.must(err)
		if len(list.Summaries) > 0 {
			t.Errorf("got %d change sets, want none", len(list.Summaries))
		}
		if !s.allows("s3:Geta") {
			t.Error("got another policy, want that of the change set")
		}
		_, err = s.CreateChangeSet(t.Context(), change("d", "s3:Getd"))
		s.must(err)
		s.clock.pass(time.Minute)
		_, err = s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:Gete"), Capabilities: named, Parameters: []types.Parameter{previous("Key")}})
		s.must(err)
		s.settle("one")
		s.refused(execute(s, "d", ""), "InvalidChangeSetStatus", "cannot be executed in its current execution status of [OBSOLETE]")
		for range 2 { // gone is gone
			_, err = s.DeleteChangeSet(t.Context(), &cfn.DeleteChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("d")})
			s.must(err)
		}
	})
	t.Run("it fails half-way on request, and is taken back", func(t *testing.T) {
		s := standing(t, Options{})
		s.create("one", "s3:ListBucket")
		fault, err := ParseFault("fail:cloudformation:ExecuteChangeSet,count=1")
		s.must(err)
		s.d.Arm(fault)
		in := change("set", "s3:GetObject")
		in.Parameters = []types.Parameter{parameter("Key", "another-id")}
		_, err = s.CreateChangeSet(t.Context(), in)
		s.must(err)
		s.clock.pass(time.Minute)
		s.must(execute(s, "set", ""))
		s.settle("one")
		s.is("one", types.StackStatusUpdateRollbackComplete)
		s.happened("one", "Policy UPDATE_COMPLETE", "Role UPDATE_FAILED Resource handler returned message: \"Internal Failure\"")
		if !s.allows("s3:ListBucket") {
			t.Error("got the new policy, want the old one back")
		}
		if got := describe(s, "set"); got.ExecutionStatus != types.ExecutionStatusExecuteFailed {
			t.Errorf("got %s, want EXECUTE_FAILED", got.ExecutionStatus)
		}
	})
}

func TestStackDrift(t *testing.T) {
	t.Parallel()
	s := standing(t, Options{})
	s.create("one", "s3:ListBucket")
	look := func() *cfn.DescribeStackDriftDetectionStatusOutput {
		t.Helper()
		began, err := s.DetectStackDrift(t.Context(), &cfn.DetectStackDriftInput{StackName: aws.String("one")})
		s.must(err)
		_, err = s.DetectStackDrift(t.Context(), &cfn.DetectStackDriftInput{StackName: aws.String("one")})
		s.refused(err, "ValidationError", "already in progress")
		s.clock.pass(time.Minute)
		out, err := s.DescribeStackDriftDetectionStatus(t.Context(), &cfn.DescribeStackDriftDetectionStatusInput{StackDriftDetectionId: began.StackDriftDetectionId})
		s.must(err)
		if out.DetectionStatus != types.StackDriftDetectionStatusDetectionComplete {
			t.Fatalf("got %s (%s), want it complete", out.DetectionStatus, aws.ToString(out.DetectionStatusReason))
		}
		return out
	}
	if got := look(); got.StackDriftStatus != types.StackDriftStatusInSync {
		t.Errorf("got %s, want IN_SYNC", got.StackDriftStatus)
	}
	_, err := s.iam().UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: aws.String("granted"), PolicyDocument: aws.String(trustOfEverybody)})
	s.must(err)
	if got := look(); got.StackDriftStatus != types.StackDriftStatusDrifted || *got.DriftedStackResourceCount != 1 {
		t.Errorf("got %s, want DRIFTED", got.StackDriftStatus)
	}
	drifts, err := s.DescribeStackResourceDrifts(t.Context(), &cfn.DescribeStackResourceDriftsInput{StackName: aws.String("one"),
		StackResourceDriftStatusFilters: []types.StackResourceDriftStatus{types.StackResourceDriftStatusModified}})
	s.must(err)
	if len(drifts.StackResourceDrifts) != 1 || *drifts.StackResourceDrifts[0].LogicalResourceId != "Role" || len(drifts.StackResourceDrifts[0].PropertyDifferences) == 0 {
		t.Errorf("got %+v, want the role's trust", drifts.StackResourceDrifts)
	}
	one, err := s.DetectStackResourceDrift(t.Context(), &cfn.DetectStackResourceDriftInput{StackName: aws.String("one"), LogicalResourceId: aws.String("Policy")})
	s.must(err)
	if got := one.StackResourceDrift.StackResourceDriftStatus; got != types.StackResourceDriftStatusInSync {
		t.Errorf("got %s, want the policy IN_SYNC", got)
	}
	if got := s.stack("one").DriftInformation.StackDriftStatus; got != types.StackDriftStatusDrifted {
		t.Errorf("got %s, want the stack DRIFTED", got)
	}
}

func TestStacksSurvive(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d, err := Start(t.Context(), Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	s := stacksOf(t, d, d.Accounts().Customer.Credentials)
	s.clock = &testClock{now: time.Now().Add(100 * time.Hour)} // far ahead of the next one's
	s.must(d.openStacks(s.clock))
	made, err := s.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:ListBucket"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "external-id")}})
	s.must(err)
	s.clock.pass(17 * time.Second)
	s.is("one", types.StackStatusCreateInProgress)
	s.must(d.Stop())
	if info, err := os.Stat(filepath.Join(dir, "stacks.json")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("got %v, %v, want a file for its owner alone", info.Mode(), err)
	}

	s = standing(t, Options{Dir: dir})
	s.is("one", types.StackStatusCreateInProgress)
	s.settle("one")
	s.is(*made.StackId, types.StackStatusCreateComplete)
	_, err = s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), UsePreviousTemplate: aws.Bool(true), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "another-id")}})
	s.must(err)
	s.settle("one")
	s.is("one", types.StackStatusUpdateComplete)
}

func TestCloudFormationCLI(t *testing.T) {
	t.Parallel()
	d := startWithMoto(t, Options{Clock: clock.Scaled(1e6)})
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	template := file("template.yaml", *access("s3:ListBucket"))
	changed := file("changed.yaml", *access("s3:GetObject"))
	mustCLI(t, d, "cloudformation", "validate-template", "--template-body", "file://"+template)
	if got := mustCLI(t, d, "cloudformation", "get-template-summary", "--template-body", "file://"+template, "--query", "Capabilities[0]", "--output", "text"); got != "CAPABILITY_NAMED_IAM" {
		t.Errorf("got %s, want the capability", got)
	}
	mustCLI(t, d, "cloudformation", "deploy", "--stack-name", "one", "--template-file", template, "--capabilities", "CAPABILITY_NAMED_IAM", "--parameter-overrides", "Key=external-id")
	if _, err := cli(t, d, "cloudformation", "deploy", "--stack-name", "one", "--template-file", template, "--capabilities", "CAPABILITY_NAMED_IAM"); err == nil || !strings.Contains(err.Error(), "No changes to deploy") {
		t.Errorf("got %v, want it to say that nothing changes", err)
	}
	set := []string{"--stack-name", "one", "--change-set-name", "set"}
	in := func(args ...string) []string {
		return append(append([]string{"cloudformation", args[0]}, set...), args[1:]...)
	}
	mustCLI(t, d, in("create-change-set", "--template-body", "file://"+changed, "--capabilities", "CAPABILITY_NAMED_IAM", "--parameters", "ParameterKey=Key,UsePreviousValue=true")...)
	mustCLI(t, d, append([]string{"cloudformation", "wait", "change-set-create-complete"}, set...)...)
	if got := mustCLI(t, d, in("describe-change-set", "--query", "Changes[].ResourceChange.[Action,LogicalResourceId,Replacement]", "--output", "text")...); got != "Modify\tPolicy\tFalse" {
		t.Errorf("got %q, want the policy modified", got)
	}
	mustCLI(t, d, in("execute-change-set")...)
	mustCLI(t, d, "cloudformation", "wait", "stack-update-complete", "--stack-name", "one")
	mustCLI(t, d, "cloudformation", "update-termination-protection", "--stack-name", "one", "--enable-termination-protection")
	if _, err := cli(t, d, "cloudformation", "delete-stack", "--stack-name", "one"); err == nil || !strings.Contains(err.Error(), "TerminationProtection is enabled") {
		t.Errorf("got %v, want the deletion refused", err)
	}
	mustCLI(t, d, "cloudformation", "update-termination-protection", "--stack-name", "one", "--no-enable-termination-protection")
	id := mustCLI(t, d, "cloudformation", "detect-stack-drift", "--stack-name", "one", "--query", "StackDriftDetectionId", "--output", "text")
	if got := mustCLI(t, d, "cloudformation", "describe-stack-drift-detection-status", "--stack-drift-detection-id", id, "--query", "StackDriftStatus", "--output", "text"); got != "IN_SYNC" {
		t.Errorf("got %s, want IN_SYNC", got)
	}
	var resources struct {
		StackResources []struct{ LogicalResourceId, ResourceStatus string }
	}
	if err := json.Unmarshal([]byte(mustCLI(t, d, "cloudformation", "describe-stack-resources", "--physical-resource-id", "granted")), &resources); err != nil || len(resources.StackResources) != 2 {
		t.Errorf("got %+v, %v, want both resources", resources, err)
	}
	mustCLI(t, d, "cloudformation", "delete-stack", "--stack-name", "one")
	mustCLI(t, d, "cloudformation", "wait", "stack-delete-complete", "--stack-name", "one")

	// What is too large for a request comes from a bucket, with the caller's rights.
	mustCLI(t, d, "s3", "mb", "s3://templates")
	large := file("large.yaml", *access("s3:ListBucket")+strings.Repeat("# filled up\n", 5000))
	mustCLI(t, d, "cloudformation", "deploy", "--stack-name", "two", "--template-file", large, "--s3-bucket", "templates", "--capabilities", "CAPABILITY_NAMED_IAM", "--parameter-overrides", "Key=external-id")
	mustCLI(t, d, "s3", "cp", large, "s3://templates/large.yaml")
	for _, where := range []string{d.URL() + "/templates/large.yaml", "https://templates.s3.eu-central-1.amazonaws.com/large.yaml", "https://s3.eu-central-1.amazonaws.com/templates/large.yaml", "https://templates.s3.amazonaws.com/large.yaml"} {
		mustCLI(t, d, "cloudformation", "validate-template", "--template-url", where)
	}
	if _, err := cli(t, d, "cloudformation", "validate-template", "--template-url", d.URL()+"/templates/none.yaml"); err == nil || !strings.Contains(err.Error(), "S3 error: The specified key does not exist.") {
		t.Errorf("got %v, want it to say that there is none", err)
	}
	narrow := stacksOf(t, d, roleSession(t, d, "narrow", `{"Effect":"Allow","Action":"cloudformation:*","Resource":"*"}`))
	_, err := narrow.ValidateTemplate(t.Context(), &cfn.ValidateTemplateInput{TemplateURL: aws.String(d.URL() + "/templates/large.yaml")})
	narrow.refused(err, "ValidationError", "S3 error: Access Denied")
	mustCLI(t, d, "s3", "cp", file("huge.yaml", strings.Repeat("#\n", 500_001)), "s3://templates/huge.yaml")
	if _, err := cli(t, d, "cloudformation", "validate-template", "--template-url", d.URL()+"/templates/huge.yaml"); err == nil || !strings.Contains(err.Error(), "Template may not exceed") {
		t.Errorf("got %v, want it refused for its size", err)
	}
	mustCLI(t, d, "cloudformation", "create-stack", "--stack-name", "three", "--template-url", d.URL()+"/templates/large.yaml", "--capabilities", "CAPABILITY_NAMED_IAM",
		"--parameters", "ParameterKey=Key,ParameterValue=external-id", "ParameterKey=Name,ParameterValue=other")
	mustCLI(t, d, "cloudformation", "wait", "stack-create-complete", "--stack-name", "three")
}

// snapshots copies a directory after each call that a stack makes.
type snapshots struct {
	t    *testing.T
	dir  string
	want types.StackStatus // of the stack, once it has gone on from there
	all  []snapshot
}

type snapshot struct {
	dir, after string
	want       types.StackStatus
}

func (s *snapshots) Write(line []byte) (int, error) {
	var call struct{ Via, Action string }
	if err := json.Unmarshal(line, &call); err != nil {
		s.t.Error(err)
	}
	if call.Via != "" {
		one := snapshot{filepath.Join(s.t.TempDir(), "copy"), call.Action, s.want}
		if err := os.CopyFS(one.dir, os.DirFS(s.dir)); err != nil {
			s.t.Error(err)
		}
		s.all = append(s.all, one)
	}
	return len(line), nil
}

func TestStackGoesOnAfterAStop(t *testing.T) {
	t.Parallel()
	taken := &snapshots{t: t, dir: t.TempDir(), want: types.StackStatusCreateComplete}
	s := standing(t, Options{Dir: taken.dir, CallLog: taken})
	s.create("one", "s3:ListBucket")
	id := *s.stack("one").StackId
	taken.want = types.StackStatusUpdateComplete
	_, err := s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: &id, TemplateBody: access("s3:GetObject"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "another-id")}})
	s.must(err)
	s.settle(id)
	taken.want = types.StackStatusUpdateRollbackComplete
	s.d.Arm(Fault{Kind: SCP, Service: "iam", Operation: "UpdateAssumeRolePolicy", Count: 1})
	_, err = s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: &id, TemplateBody: access("s3:ListBucket"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "external-id")}})
	s.must(err)
	s.settle(id)
	rolledBack := len(taken.all)
	taken.want = types.StackStatusDeleteComplete
	_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: &id})
	s.must(err)
	s.settle(id)
	s.is(id, types.StackStatusDeleteComplete)
	for i, one := range taken.all {
		s := standing(t, Options{Dir: one.dir})
		s.settle(id)
		if got := s.stack(id).StackStatus; got != one.want && !(one.want == types.StackStatusUpdateRollbackComplete && got == types.StackStatusUpdateComplete && i < rolledBack) {
			t.Errorf("stopped after %s: got %s, want %s\n%s", one.after, got, one.want, strings.Join(s.events(id), "\n"))
		}
		if one.want == types.StackStatusCreateComplete {
			s.must(second(s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: &id})))
			s.settle(id)
			s.is(id, types.StackStatusDeleteComplete)
		}
	}
	if len(taken.all) < 10 {
		t.Errorf("got %d calls, want at least ten", len(taken.all))
	}
}

func TestTwoAtOneStack(t *testing.T) {
	t.Parallel()
	s := standing(t, Options{})
	s.create("one", "s3:ListBucket")
	for _, set := range []string{"a", "b"} {
		_, err := s.CreateChangeSet(t.Context(), &cfn.CreateChangeSetInput{StackName: aws.String("one"), ChangeSetName: &set, TemplateBody: access("s3:Get" + set), Capabilities: named, Parameters: []types.Parameter{previous("Key")}})
		s.must(err)
	}
	s.clock.pass(time.Minute)
	results := make(chan error)
	for _, set := range []string{"a", "a", "b", "b"} {
		go func() {
			_, err := s.ExecuteChangeSet(t.Context(), &cfn.ExecuteChangeSetInput{StackName: aws.String("one"), ChangeSetName: &set})
			results <- err
		}()
	}
	worked := 0
	for range 4 {
		var api smithy.APIError
		if err := <-results; err == nil {
			worked++
		} else if !errors.As(err, &api) || api.ErrorCode() != "ChangeSetNotFound" && api.ErrorCode() != "InvalidChangeSetStatus" {
			t.Errorf("got %v, want a refusal for the other one", err)
		}
	}
	if worked != 1 {
		t.Errorf("got %d executions, want 1", worked)
	}
	s.settle("one")
	s.is("one", types.StackStatusUpdateComplete)
	if s.allows("s3:Geta") == s.allows("s3:Getb") {
		t.Error("got neither or both, want one of the two policies")
	}
}

func TestStackAnswers(t *testing.T) {
	t.Parallel()
	s := standing(t, Options{})
	var many strings.Builder
	many.WriteString("Resources:\n")
	for i := range 60 {
		fmt.Fprintf(&many, "  H%d: {Type: 'AWS::CloudFormation::WaitConditionHandle', Metadata: {n: %d}}\n", i, i)
	}
	_, err := s.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("many"), TemplateBody: aws.String(many.String())})
	s.must(err)
	s.settle("many")
	if got := len(s.events("many")); got != 60*3+2 {
		t.Errorf("got %d events, want all of them, by pages", got)
	}
	first, err := s.DescribeStackEvents(t.Context(), &cfn.DescribeStackEventsInput{StackName: aws.String("many")})
	s.must(err)
	if len(first.StackEvents) != 100 || first.StackEvents[0].ResourceStatus != types.ResourceStatusCreateComplete || *first.StackEvents[0].LogicalResourceId != "many" {
		t.Errorf("got %d events from %+v on, want a page of a hundred, the newest first", len(first.StackEvents), first.StackEvents[0])
	}
	_, err = s.DescribeStackEvents(t.Context(), &cfn.DescribeStackEventsInput{StackName: aws.String("many"), NextToken: aws.String("rest-900")})
	s.refused(err, "ValidationError", "NextToken")
	list, err := s.ListStackResources(t.Context(), &cfn.ListStackResourcesInput{StackName: aws.String("many")})
	s.must(err)
	if len(list.StackResourceSummaries) != 60 {
		t.Errorf("got %d resources, want 60", len(list.StackResourceSummaries))
	}
	one, err := s.DescribeStackResource(t.Context(), &cfn.DescribeStackResourceInput{StackName: aws.String("many"), LogicalResourceId: aws.String("H7")})
	s.must(err)
	if got := aws.ToString(one.StackResourceDetail.Metadata); got != `{"n":7}` {
		t.Errorf("got metadata %s, want that of the template", got)
	}
	_, err = s.DescribeStackResource(t.Context(), &cfn.DescribeStackResourceInput{StackName: aws.String("many"), LogicalResourceId: aws.String("None")})
	s.refused(err, "ValidationError", "Resource None does not exist for stack many")
	body, err := s.GetTemplate(t.Context(), &cfn.GetTemplateInput{StackName: aws.String("many")})
	s.must(err)
	if *body.TemplateBody != many.String() {
		t.Errorf("got %.80s…, want the template as it was given", *body.TemplateBody)
	}
	for name, call := range map[string]error{
		"Stack with id none does not exist": second(s.DescribeStacks(t.Context(), &cfn.DescribeStacksInput{StackName: aws.String("none")})),
		"Stack [none] does not exist":       second(s.DescribeStackEvents(t.Context(), &cfn.DescribeStackEventsInput{StackName: aws.String("none")})),
		"Stack 'none' does not exist":       second(s.DescribeStackResource(t.Context(), &cfn.DescribeStackResourceInput{StackName: aws.String("none"), LogicalResourceId: aws.String("x")})),
		"Stack for none does not exist":     second(s.DescribeStackResources(t.Context(), &cfn.DescribeStackResourcesInput{PhysicalResourceId: aws.String("none")})),
	} {
		s.refused(call, "ValidationError", name)
	}
	_, err = s.RollbackStack(t.Context(), &cfn.RollbackStackInput{StackName: aws.String("many")})
	s.refused(err, "NotImplemented", "RollbackStack")

	// What others have is not to be seen: not the stranger's, nor those of another region.
	stranger := s.as(s.d.Accounts().Stranger.Credentials)
	for name, other := range map[string]*cfn.Client{
		"the stranger": stranger.Client,
		"another region": cfn.New(cfn.Options{Region: "eu-west-1", BaseEndpoint: aws.String(s.d.URL()), RetryMaxAttempts: 1, HTTPClient: &http.Client{Transport: whole{}},
			Credentials: credentials.NewStaticCredentialsProvider(s.d.Accounts().Customer.Credentials.AccessKeyID, s.d.Accounts().Customer.Credentials.SecretAccessKey, "")}),
	} {
		all, err := other.DescribeStacks(t.Context(), &cfn.DescribeStacksInput{})
		s.must(err)
		if len(all.Stacks) > 0 {
			t.Errorf("%s: got %d stacks, want none", name, len(all.Stacks))
		}
		if _, err := other.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: first.StackEvents[0].StackId}); err != nil {
			var api smithy.APIError
			if !errors.As(err, &api) || api.ErrorCode() != "AccessDenied" {
				t.Errorf("%s: got %v, want a refusal or nothing", name, err)
			}
		}
	}
	s.is("many", types.StackStatusCreateComplete)

	// NoEcho's values are nowhere.
	s.create("one", "s3:ListBucket")
	text := strings.ReplaceAll(*access("s3:ListBucket"), "Effect: Allow, Action", "Sid: !Ref Secret, Effect: Allow, Action")
	_, err = s.CreateChangeSet(t.Context(), &cfn.CreateChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("set"), TemplateBody: &text, Capabilities: named,
		Parameters: []types.Parameter{previous("Key"), parameter("Secret", "verysecret")}})
	s.must(err)
	s.clock.pass(time.Minute)
	set, err := s.DescribeChangeSet(t.Context(), &cfn.DescribeChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("set"), IncludePropertyValues: aws.Bool(true)})
	s.must(err)
	_, err = s.ExecuteChangeSet(t.Context(), &cfn.ExecuteChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("set")})
	s.must(err)
	s.settle("one")
	s.is("one", types.StackStatusUpdateComplete)
	events, err := s.DescribeStackEvents(t.Context(), &cfn.DescribeStackEventsInput{StackName: aws.String("one")})
	s.must(err)
	for what, v := range map[string]any{"change set": set, "events": events, "stack": s.stack("one")} {
		shown, err := json.Marshal(v)
		s.must(err)
		if strings.Contains(string(shown), "verysecret") || !strings.Contains(string(shown), "****") {
			t.Errorf("%s: got %s, want the secret hidden", what, shown)
		}
	}
}

func TestStackRole(t *testing.T) {
	t.Parallel()
	s := standing(t, Options{})
	trust := func(service string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + service + `"},"Action":"sts:AssumeRole"}]}`
	}
	for name, service := range map[string]string{"maker": "cloudformation.amazonaws.com", "other": "ec2.amazonaws.com"} {
		_, err := s.iam().CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &name, AssumeRolePolicyDocument: aws.String(trust(service))})
		s.must(err)
		_, err = s.iam().PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &name, PolicyName: aws.String("p"), PolicyDocument: aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:*","Resource":"*"}]}`)})
		s.must(err)
	}
	// Who may make stacks with the role needs no rights of IAM but to pass it.
	passing := s.as(roleSession(t, s.d, "passing", `{"Effect":"Allow","Action":"cloudformation:*","Resource":"*"},{"Effect":"Allow","Action":"iam:PassRole","Resource":"arn:aws:iam::123456789012:role/maker","Condition":{"StringEquals":{"iam:PassedToService":"cloudformation.amazonaws.com"}}}`))
	in := &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:ListBucket"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "external-id")}, RoleARN: aws.String("arn:aws:iam::123456789012:role/other")}
	_, err := passing.CreateStack(t.Context(), in)
	s.refused(err, "AccessDenied", "iam:PassRole")
	_, err = s.CreateStack(t.Context(), in)
	s.refused(err, "ValidationError", "Role arn:aws:iam::123456789012:role/other is invalid or cannot be assumed")
	in.RoleARN = aws.String("arn:aws:iam::123456789012:role/maker")
	_, err = passing.CreateStack(t.Context(), in)
	s.must(err)
	s.settle("one")
	s.is("one", types.StackStatusCreateComplete)
	id := *s.stack("one").StackId
	_, err = passing.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: &id})
	s.must(err)
	s.settle(id)
	s.is(id, types.StackStatusDeleteComplete)
}

func TestStackTags(t *testing.T) {
	t.Parallel()
	s := standing(t, Options{})
	s.create("one", "s3:ListBucket")
	tags := []types.Tag{{Key: aws.String("team"), Value: aws.String("data")}}
	_, err := s.CreateChangeSet(t.Context(), &cfn.CreateChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("set"), UsePreviousTemplate: aws.Bool(true), Capabilities: named,
		Parameters: []types.Parameter{previous("Key"), previous("Name")}, Tags: tags})
	s.must(err)
	s.clock.pass(time.Minute)
	set, err := s.DescribeChangeSet(t.Context(), &cfn.DescribeChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("set")})
	s.must(err)
	if len(set.Changes) != 1 || *set.Changes[0].ResourceChange.LogicalResourceId != "Role" || !slices.Equal(set.Changes[0].ResourceChange.Scope, []types.ResourceAttribute{types.ResourceAttributeTags}) {
		t.Errorf("got %+v, want the tags of what can have some", set.Changes)
	}
	_, err = s.ExecuteChangeSet(t.Context(), &cfn.ExecuteChangeSetInput{StackName: aws.String("one"), ChangeSetName: aws.String("set")})
	s.must(err)
	s.settle("one")
	s.is("one", types.StackStatusUpdateComplete)
	role, err := s.iam().GetRole(t.Context(), &iam.GetRoleInput{RoleName: aws.String("granted")})
	s.must(err)
	if len(role.Role.Tags) != 1 || *role.Role.Tags[0].Key != "team" {
		t.Errorf("got %v, want the stack's tag", role.Role.Tags)
	}
	// Who may touch only what has that tag may touch the stack.
	tagged := s.as(roleSession(t, s.d, "tagged", `{"Effect":"Allow","Action":"cloudformation:DescribeStacks","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"data"}}}`))
	_, err = tagged.DescribeStacks(t.Context(), &cfn.DescribeStacksInput{StackName: aws.String("one")})
	s.must(err)
	_, err = s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), UsePreviousTemplate: aws.Bool(true), Capabilities: named, Parameters: []types.Parameter{previous("Key")},
		Tags: []types.Tag{{Key: aws.String("aws:mine"), Value: aws.String("x")}}})
	s.refused(err, "ValidationError", "aws: prefixed tag key names are not allowed for external use.")
}

func TestStackSkips(t *testing.T) {
	t.Parallel()
	s := standing(t, Options{})
	s.create("one", "s3:ListBucket")
	s.d.Arm(Fault{Kind: SCP, Service: "iam", Operation: "UpdateAssumeRolePolicy", Count: 1}, Fault{Kind: SCP, Service: "iam", Operation: "CreatePolicyVersion", After: 1})
	_, err := s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), TemplateBody: access("s3:GetObject"), Capabilities: named, Parameters: []types.Parameter{parameter("Key", "another-id")}})
	s.must(err)
	s.settle("one")
	s.is("one", types.StackStatusUpdateRollbackFailed)
	_, err = s.ContinueUpdateRollback(t.Context(), &cfn.ContinueUpdateRollbackInput{StackName: aws.String("one"), ResourcesToSkip: []string{"Role"}})
	s.refused(err, "ValidationError", "Role")
	_, err = s.ContinueUpdateRollback(t.Context(), &cfn.ContinueUpdateRollbackInput{StackName: aws.String("one"), ResourcesToSkip: []string{"Policy"}})
	s.must(err)
	s.settle("one")
	s.is("one", types.StackStatusUpdateRollbackComplete)
	if !s.allows("s3:GetObject") {
		t.Error("got the old policy, want what was skipped left as it is")
	}
}
