package cloudformation

import (
	"context"
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// stillClock stands still until it is moved.
type stillClock struct{ now time.Time }

func (c *stillClock) Now() time.Time { return c.now }

func TestARestartChangesNoNumber(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	clock := &stillClock{now: time.Now()}
	file := filepath.Join(t.TempDir(), "stacks.json")
	const template = "Resources: {R: {Type: AWS::IAM::Role, Properties: {MaxSessionDuration: 7200, AssumeRolePolicyDocument: " + trust + "}}}"
	call := func(operation string, parameters ...string) string {
		t.Helper()
		s, err := New(Options{Clock: clock, World: onlyIAM{a.cloud}, File: file})
		if err != nil {
			t.Fatal(err)
		}
		in := url.Values{"StackName": {"Stack"}}
		for i := 0; i < len(parameters); i += 2 {
			in.Set(parameters[i], parameters[i+1])
		}
		answer, err := s.Serve(context.Background(), Call{Operation: operation, Where: Where{"aws", env.Account, env.Region}, Who: a.admin, Input: in})
		clock.now = clock.now.Add(time.Hour)
		if err != nil {
			return err.Error()
		}
		return string(answer)
	}
	call("CreateStack", "TemplateBody", template, "Capabilities.member.1", "CAPABILITY_IAM")
	if got := call("DescribeStacks"); !strings.Contains(got, "<StackStatus>CREATE_COMPLETE<") {
		t.Fatalf("got %s, want CREATE_COMPLETE", got)
	}
	if got := call("UpdateStack", "TemplateBody", template, "Capabilities.member.1", "CAPABILITY_IAM"); !strings.Contains(got, "No updates are to be performed.") {
		t.Errorf("got %s, want no updates", got)
	}
	call("UpdateStack", "TemplateBody", strings.Replace(template, "7200", "7201", 1), "Capabilities.member.1", "CAPABILITY_IAM")
	if got := call("DescribeStacks"); !strings.Contains(got, "<StackStatus>UPDATE_COMPLETE<") {
		t.Errorf("got %s, want UPDATE_COMPLETE", got)
	}
}

// onlyIAM is a world in which there is nothing else: what else is asked for is gone.
type onlyIAM struct{ Identity }

func (onlyIAM) Object(context.Context, Caller, Where, string, string, string) ([]byte, error) {
	return nil, errGone
}
func (onlyIAM) Assume(context.Context, string) (Caller, error) { return Caller{}, errGone }
func (onlyIAM) Endpoint(string) bool                           { return false }
