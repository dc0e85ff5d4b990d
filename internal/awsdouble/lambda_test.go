package awsdouble

import (
	"archive/zip"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	cfn "github.com/aws/aws-sdk-go-v2/service/cloudformation"
	"github.com/aws/aws-sdk-go-v2/service/cloudformation/types"

	"biplane.dev/biplane/internal/awsidentity"
)

// customTemplate has a resource that a function makes; %s is the function's code, whose
// answer goes by put(event, Status=…).
const customTemplate = `
Parameters:
  Word: {Type: String, Default: one}
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: runs
      AssumeRolePolicyDocument: {Version: '2012-10-17', Statement: [{Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}]}
  Function:
    Type: AWS::Lambda::Function
    Properties:
      FunctionName: made
      Runtime: python3.13
      Handler: index.handler
      Role: !GetAtt Role.Arn
      Timeout: 20
      Environment: {Variables: {OWN: variable}}
      Code:
        ZipFile: |
          import json, os, time, urllib.request
          from botocore.session import get_session
          def put(event, **more):
              answer = {'Status': 'SUCCESS', 'PhysicalResourceId': 'a-thing', **{k: event[k] for k in ('StackId', 'RequestId', 'LogicalResourceId')}, **more}
              urllib.request.urlopen(urllib.request.Request(event['ResponseURL'], json.dumps(answer).encode(), method='PUT'))
          def handler(event, context):
              %s
  Thing:
    Type: Custom::Thing
    Properties: {ServiceToken: !GetAtt Function.Arn, Word: !Ref Word, Number: 7, Nested: {Yes: true}}
Outputs:
  Said: {Value: !GetAtt Thing.Said}
  Ref: {Value: !Ref Thing}
`

func customStack(code string) *string { return aws.String(fmt.Sprintf(customTemplate, code)) }

func withFunctions(t *testing.T) *stacks {
	return standing(t, Options{LambdaPython: filepath.Join(python(t), "python")})
}

func (s *stacks) createCustom(code string) {
	s.t.Helper()
	_, err := s.CreateStack(s.t.Context(), &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: customStack(code), Capabilities: named})
	s.must(err)
	s.settle("one")
}

func (s *stacks) output(key string) string {
	s.t.Helper()
	for _, one := range s.stack("one").Outputs {
		if *one.OutputKey == key {
			return *one.OutputValue
		}
	}
	return ""
}

func TestCustomResource(t *testing.T) {
	t.Parallel()
	t.Run("is made, changed and removed by its function, as the function's role", func(t *testing.T) {
		t.Parallel()
		s := withFunctions(t)
		// Whom STS knows the function as, what it was asked, and what it has of its maker's.
		code := `me = get_session().create_client('sts').get_caller_identity()['Arn'] if event['RequestType'] != 'Delete' else ''
              put(event, Data={'Said': json.dumps([me, event['RequestType'], event['ResourceType'], event['ResourceProperties'], event.get('OldResourceProperties', {}).get('Word'), os.environ['OWN'], context.function_name, sorted(k for k in os.environ if 'CONFIG' in k or 'FILE' in k)])})`
		s.createCustom(code)
		s.is("one", types.StackStatusCreateComplete)
		if got, want := s.output("Said"), `["arn:aws:sts::123456789012:assumed-role/runs/made", "Create", "Custom::Thing", {"Nested": {"Yes": "true"}, "Number": "7", "ServiceToken": "arn:aws:lambda:eu-central-1:123456789012:function:made", "Word": "one"}, null, "variable", "made", []]`; got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if got := s.output("Ref"); got != "a-thing" {
			t.Errorf("got %s by Ref, want a-thing", got)
		}
		_, err := s.UpdateStack(t.Context(), &cfn.UpdateStackInput{StackName: aws.String("one"), UsePreviousTemplate: aws.Bool(true), Capabilities: named,
			Parameters: []types.Parameter{parameter("Word", "two")}})
		s.must(err)
		s.settle("one")
		s.is("one", types.StackStatusUpdateComplete)
		if got := s.output("Said"); !strings.Contains(got, `"Update"`) || !strings.Contains(got, `"Word": "two"}, "one"`) {
			t.Errorf("got %s, want an update from one to two", got)
		}
		if got := strings.Join(s.events("one"), "\n"); strings.Contains(got, "Function UPDATE") || strings.Contains(got, "Thing DELETE") {
			t.Errorf("got %s, want nothing but the thing changed", got)
		}
		id := *s.stack("one").StackId
		_, err = s.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one")})
		s.must(err)
		s.settle(id)
		s.is(id, types.StackStatusDeleteComplete)
		if got := mustCLI(t, s.d, "lambda", "list-functions", "--query", "Functions"); got != "[]" {
			t.Errorf("got functions %s, want none", got)
		}
	})
	t.Run("fails the stack when its function says so, and is removed again", func(t *testing.T) {
		t.Parallel()
		s := withFunctions(t)
		s.createCustom("put(event, Status='SUCCESS' if event['RequestType'] == 'Delete' else 'FAILED', Reason='not today')")
		s.is("one", types.StackStatusRollbackComplete)
		s.happened("one", "Thing CREATE_FAILED Received response status [FAILED] from custom resource. Message returned: not today (RequestId: ", "Thing DELETE_COMPLETE")
	})
	for name, c := range map[string]struct{ code, want string }{
		"fails when its function does not answer":     {"raise ValueError('x')", "Thing CREATE_FAILED CloudFormation did not receive a response from your Custom Resource."},
		"fails when its function is not done in time": {"time.sleep(60)", "Thing CREATE_FAILED CloudFormation did not receive a response from your Custom Resource."},
		"fails when the answer is another one's":      {"put(event, StackId='another')", "Thing CREATE_FAILED Invalid response from custom resource"},
		"fails when the answer is too long":           {"put(event, Data={'Said': 'x' * 5000})", "Thing CREATE_FAILED Response object is too long."},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := withFunctions(t)
			template := customStack("if event['RequestType'] == 'Delete': return put(event)\n              " + c.code)
			*template = strings.Replace(*template, "Timeout: 20", "Timeout: 2", 1)
			_, err := s.CreateStack(t.Context(), &cfn.CreateStackInput{StackName: aws.String("one"), TemplateBody: template, Capabilities: named})
			s.must(err)
			s.settle("one")
			s.is("one", types.StackStatusRollbackComplete)
			s.happened("one", c.want)
		})
	}
	t.Run("is not made where no Python is named, and the event says how", func(t *testing.T) {
		t.Parallel()
		s := standing(t, Options{})
		s.createCustom("put(event)")
		s.is("one", types.StackStatusRollbackComplete)
		s.happened("one", "Thing CREATE_FAILED the AWS double runs no functions: start it with --lambda-python PATH")
	})
	t.Run("is made with the rights of whoever makes the stack", func(t *testing.T) {
		t.Parallel()
		s := withFunctions(t)
		for _, c := range []struct{ name, denied, want string }{
			{"nofunction", "lambda:CreateFunction", "Function CREATE_FAILED"},
			{"nopass", "iam:PassRole", "Function CREATE_FAILED"},
			{"noinvoke", "lambda:InvokeFunction", "Thing CREATE_FAILED"},
		} {
			key := roleSession(t, s.d, c.name, `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"`+c.denied+`","Resource":"*"}`)
			as := s.as(key)
			as.createCustom("put(event)")
			as.is("one", types.StackStatusRollbackComplete)
			found := false
			for _, event := range as.events("one") {
				found = found || strings.HasPrefix(event, c.want) && strings.Contains(event, c.denied)
			}
			if !found {
				t.Errorf("got %s, want %s for %s", strings.Join(as.events("one"), "\n"), c.want, c.denied)
			}
			_, err := as.DeleteStack(t.Context(), &cfn.DeleteStackInput{StackName: aws.String("one")})
			s.must(err)
		}
	})
	t.Run("is answered for by nobody who does not know the URL", func(t *testing.T) {
		t.Parallel()
		d := start(t, Options{})
		for _, method := range []string{http.MethodPut, http.MethodGet} {
			r, err := http.NewRequestWithContext(t.Context(), method, d.URL()+answerPath+"eu-central-1/x?X-Amz-Signature=guessed", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			answer, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			answer.Body.Close()
			if answer.StatusCode != http.StatusForbidden {
				t.Errorf("got %d for %s, want 403", answer.StatusCode, method)
			}
		}
	})
}

func TestLambda(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := start(t, Options{Dir: dir})
	role, err := d.Identity().SeedRole(d.customer, awsidentity.Role{Name: "runs", Trust: `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"lambda.amazonaws.com"},"Action":"sts:AssumeRole"}]}`})
	if err != nil {
		t.Fatal(err)
	}
	other, err := d.Identity().SeedRole(d.customer, awsidentity.Role{Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	code := func(name string) string {
		file, err := os.Create(filepath.Join(t.TempDir(), "code.zip"))
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		archive := zip.NewWriter(file)
		if _, err := archive.Create(name); err != nil {
			t.Fatal(err)
		}
		if err := archive.Close(); err != nil {
			t.Fatal(err)
		}
		return "fileb://" + file.Name()
	}
	good := code("index.py")
	create := func(name, role, zip string) error {
		_, err := cli(t, d, "lambda", "create-function", "--function-name", name, "--runtime", "python3.13", "--handler", "index.handler", "--role", role, "--zip-file", zip, "--tags", "who=me")
		return err
	}
	if err := create("made", role, good); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		err  error
		want string
	}{
		{"of the same name", create("made", role, good), "ResourceConflictException"},
		{"with a role that does not trust Lambda", create("two", other, good), "cannot be assumed by Lambda"},
		{"with a file outside of itself", create("two", role, code("../../index.py")), "Could not unzip"},
	} {
		if c.err == nil || !strings.Contains(c.err.Error(), c.want) {
			t.Errorf("got %v for one %s, want %s", c.err, c.name, c.want)
		}
	}
	for _, name := range []string{"made", "arn:aws:lambda:eu-central-1:123456789012:function:made"} {
		if got := mustCLI(t, d, "lambda", "get-function-configuration", "--function-name", name, "--query", "[Runtime,Handler,Timeout,State]", "--output", "text"); got != "python3.13\tindex.handler\t3\tActive" {
			t.Errorf("got %q for %s, want the function", got, name)
		}
	}
	mustCLI(t, d, "lambda", "update-function-configuration", "--function-name", "made", "--timeout", "9")
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	d = start(t, Options{Dir: dir})
	if got := mustCLI(t, d, "lambda", "get-function", "--function-name", "made", "--query", "[Configuration.Timeout,Tags.who]", "--output", "text"); got != "9\tme" {
		t.Errorf("got %q after a restart, want 9 and me", got)
	}
	mustCLI(t, d, "lambda", "delete-function", "--function-name", "made")
	if _, err := cli(t, d, "lambda", "get-function", "--function-name", "made"); err == nil || !strings.Contains(err.Error(), "ResourceNotFoundException") {
		t.Errorf("got %v, want that it is gone", err)
	}
}
