package awsidentity

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"
)

func TestSCP(t *testing.T) {
	t.Parallel()
	w := newWorld(t, Options{SCP: map[string][]PolicyText{customer: {
		{"NoGroups", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:CreatePolicy","Resource":"*"}]}`},
		{"NoWest", `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"iam:CreateUser","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalAccount":"` + customer + `"}}}]}`},
	}}})
	admin := w.admins[customer]

	t.Run("it bounds an administrator", func(t *testing.T) {
		_, err := w.iam(admin).CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(allow("s3:*", "*"))})
		if code(t, err) != "AccessDenied" || !strings.Contains(err.Error(), "with an explicit deny in a service control policy") {
			t.Errorf("got %v, want it denied by a service control policy", err)
		}
	})
	t.Run("it leaves another account alone", func(t *testing.T) {
		if _, err := w.iam(w.admins[stranger]).CreatePolicy(background, &iam.CreatePolicyInput{PolicyName: aws.String("p"), PolicyDocument: aws.String(allow("s3:*", "*"))}); err != nil {
			t.Errorf("got %v, want it allowed", err)
		}
	})
	t.Run("it bounds no service-linked role", func(t *testing.T) {
		if got := w.scpOf(customer, &principal{Path: "/aws-service-role/eks.amazonaws.com/"}); got != nil {
			t.Errorf("got %v, want no policy", got)
		}
	})
	t.Run("it is simulated, but for policies with conditions", func(t *testing.T) {
		out, err := w.iam(admin).SimulatePrincipalPolicy(background, &iam.SimulatePrincipalPolicyInput{
			PolicySourceArn: &admin.ARN, ActionNames: []string{"iam:CreatePolicy", "iam:CreateUser"},
		})
		if err != nil {
			t.Fatal(err)
		}
		for i, want := range []struct {
			decision types.PolicyEvaluationDecisionType
			allowed  bool
		}{{types.PolicyEvaluationDecisionTypeExplicitDeny, false}, {types.PolicyEvaluationDecisionTypeAllowed, true}} {
			got := out.EvaluationResults[i]
			if got.EvalDecision != want.decision || got.OrganizationsDecisionDetail == nil || got.OrganizationsDecisionDetail.AllowedByOrganizations != want.allowed {
				t.Errorf("got %s and %+v for %s, want %+v", got.EvalDecision, got.OrganizationsDecisionDetail, *got.EvalActionName, want)
			}
			if !want.allowed && len(got.MatchedStatements) > 0 {
				t.Errorf("got statements %+v of the organization, want none shown", got.MatchedStatements)
			}
		}
		if _, err := w.iam(admin).CreateUser(background, &iam.CreateUserInput{UserName: aws.String("u")}); code(t, err) != "AccessDenied" {
			t.Errorf("got %v, want the policy with a condition to deny the call itself", err)
		}
	})
	t.Run("it refuses a policy that cannot be read", func(t *testing.T) {
		if _, err := Open(Options{SCP: map[string][]PolicyText{customer: {{"broken", "{"}}}}); err == nil || !strings.Contains(err.Error(), "service control policy broken") {
			t.Errorf("got %v, want the policy named", err)
		}
	})
	t.Run("it takes a list of what is allowed as all that is", func(t *testing.T) {
		only := newWorld(t, Options{SCP: map[string][]PolicyText{customer: {{"OnlyRead", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"iam:List*","Resource":"*"}]}`}}}})
		if _, err := only.iam(only.admins[customer]).ListRoles(background, &iam.ListRolesInput{}); err != nil {
			t.Errorf("got %v, want it allowed", err)
		}
		_, err := only.iam(only.admins[customer]).GetRole(background, &iam.GetRoleInput{RoleName: aws.String("r")})
		if code(t, err) != "AccessDenied" || !strings.Contains(err.Error(), "because no service control policy allows") {
			t.Errorf("got %v, want no service control policy to allow it", err)
		}
	})
}
