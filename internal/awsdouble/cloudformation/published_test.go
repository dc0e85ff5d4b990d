package cloudformation

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/iampolicy"
)

// published has the shape of the template that is published for the same purpose, as
// it is described: an external ID that must not be echoed and is, a trust without a
// version, a date without quotes, and one inline policy, whose size goes by the
// region's name: 10,226 characters where that has nine, and 46 for each one more.
func published(t *testing.T) string {
	t.Helper()
	statements := func(filler string) string {
		var b strings.Builder
		for i := range 23 {
			fmt.Fprintf(&b, "          - {Effect: Allow, Action: ['eks:DescribeCluster'], Resource: [!Sub 'arn:aws:eks:${AWS::Region}:${AWS::AccountId}:cluster/opta-%d', !Sub 'arn:aws:logs:${AWS::Region}:${AWS::AccountId}:log-group:opta-%d']}\n", i, i)
		}
		return b.String() + "          - {Effect: Allow, Action: 's3:GetObject', Resource: 'arn:aws:s3:::" + filler + "'}\n"
	}
	template := func(filler string) string {
		return `AWSTemplateFormatVersion: 2010-09-09
Parameters:
  CrossAccountRoleName: {Type: String, Default: union-ai-admin}
  ExternalId: {Type: String, NoEcho: true, MinLength: 8, MaxLength: 24, AllowedPattern: '[\w+=,.@:\/-]*'}
Resources:
  AWSTrustedAdvisorRole:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Ref CrossAccountRoleName
      AssumeRolePolicyDocument:
        Statement:
          - {Effect: Allow, Principal: {AWS: 'arn:aws:iam::479331373192:root'}, Action: 'sts:AssumeRole', Condition: {StringEquals: {'sts:ExternalId': !Ref ExternalId}}}
  AWSTrustedAdvisorPolicy:
    Type: AWS::IAM::Policy
    Properties:
      PolicyName: UnionIAMPolicy
      Roles: [!Ref AWSTrustedAdvisorRole]
      PolicyDocument:
        Version: 2012-10-17
        Statement:
` + statements(filler) + `Outputs:
  RoleId: {Value: !GetAtt AWSTrustedAdvisorRole.RoleId}
  RoleArn: {Value: !GetAtt AWSTrustedAdvisorRole.Arn}
  PolicyId: {Value: !Ref AWSTrustedAdvisorPolicy}
  ExternalId: {Value: !Ref ExternalId}
`
	}
	return template(strings.Repeat("x", 10_226-publishedSize(t, template(""), "us-east-1")))
}

func bindPublished(t *testing.T, body, region string) *Bound {
	t.Helper()
	template, err := Parse(body)
	if err != nil {
		t.Fatal(err)
	}
	there := env
	there.Region = region
	b, err := template.Bind(map[string]string{"ExternalId": "the-vendors-choice"}, there)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// publishedSize is what IAM counts of the policy.
func publishedSize(t *testing.T, body, region string) int {
	t.Helper()
	properties, err := bindPublished(t, body, region).Properties("AWSTrustedAdvisorPolicy", nil)
	if err != nil {
		t.Fatal(err)
	}
	n, err := iampolicy.Size([]byte(asJSON(properties["PolicyDocument"])))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestThePublishedTemplateFailsWhereARegionsNameIsLong(t *testing.T) {
	t.Parallel()
	body := published(t)
	for region, size := range map[string]int{
		"us-east-1": 10_226, "us-east-2": 10_226, "us-west-2": 10_226, "eu-west-1": 10_226, "eu-west-2": 10_226, "eu-central-1": 10_364,
	} {
		t.Run(region, func(t *testing.T) {
			t.Parallel()
			if got := publishedSize(t, body, region); got != size {
				t.Fatalf("got %d characters, want %d", got, size)
			}
			a := newAccount(t)
			if _, err := a.identity.CreateAccount("479331373192", awsidentity.AccountOptions{}); err != nil {
				t.Fatal(err)
			}
			a.bound = bindPublished(t, body, region)
			made, err := create(context.Background(), a.request("AWSTrustedAdvisorRole"))
			if err != nil {
				t.Fatal(err)
			}
			a.made["AWSTrustedAdvisorRole"] = made
			made, err = create(context.Background(), a.request("AWSTrustedAdvisorPolicy"))
			if size > iampolicy.InlineLimit {
				want := "Maximum policy size of 10240 bytes exceeded for role union-ai-admin (Service: AmazonIdentityManagement; Status Code: 409; Error Code: LimitExceeded; "
				if err == nil || !strings.HasPrefix(err.Error(), want) {
					t.Errorf("got %v, want %s", err, want)
				}
				if err := a.remove("AWSTrustedAdvisorRole"); err != nil {
					t.Errorf("rolling back: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			a.made["AWSTrustedAdvisorPolicy"] = made
			outputs, err := a.bound.Outputs(a.made)
			if err != nil {
				t.Fatal(err)
			}
			if outputs[0].Key != "ExternalId" || outputs[0].Value != "the-vendors-choice" {
				t.Errorf("got %v, want the external ID in clear, though it has NoEcho", outputs)
			}
		})
	}
}
