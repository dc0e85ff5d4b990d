package awsdouble

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/organizations"
	"github.com/aws/aws-sdk-go-v2/service/organizations/types"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/fault"
)

func TestOrganizations(t *testing.T) {
	t.Parallel()
	const text = `{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"eks:*","Resource":"*"}]}`
	start := func(t *testing.T, o Options) (*Double, *organizations.Client) {
		d, err := Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { d.Stop() })
		key := d.Accounts().Customer.Credentials
		return d, organizations.New(organizations.Options{Region: "us-east-1", BaseEndpoint: aws.String(d.URL()),
			Credentials: credentials.NewStaticCredentialsProvider(key.AccessKeyID, key.SecretAccessKey, "")})
	}
	scp := []awsidentity.PolicyText{{Name: "NoEKS", Text: text}}

	t.Run("it has none unless there are policies", func(t *testing.T) {
		_, api := start(t, Options{})
		if _, err := api.DescribeOrganization(t.Context(), &organizations.DescribeOrganizationInput{}); fault.Code(err) != "AWSOrganizationsNotInUseException" {
			t.Errorf("got %v, want no organization in use", err)
		}
	})
	t.Run("it shows a member the organization, and no policies", func(t *testing.T) {
		d, api := start(t, Options{SCP: scp})
		out, err := api.DescribeOrganization(t.Context(), &organizations.DescribeOrganizationInput{})
		if err != nil || aws.ToString(out.Organization.MasterAccountId) == d.Accounts().Customer.ID {
			t.Errorf("got %+v and %v, want another account to manage it", out, err)
		}
		_, err = api.ListPoliciesForTarget(t.Context(), &organizations.ListPoliciesForTargetInput{TargetId: aws.String(d.Accounts().Customer.ID), Filter: types.PolicyTypeServiceControlPolicy})
		if !fault.Denied(err) {
			t.Errorf("got %v, want it denied", err)
		}
	})
	t.Run("it shows a delegated administrator the policies", func(t *testing.T) {
		d, api := start(t, Options{SCP: scp, SCPReadable: true})
		account := d.Accounts().Customer.ID
		listed, err := api.ListPoliciesForTarget(t.Context(), &organizations.ListPoliciesForTargetInput{TargetId: &account, Filter: types.PolicyTypeServiceControlPolicy})
		if err != nil || len(listed.Policies) != 2 {
			t.Fatalf("got %+v and %v, want NoEKS beside FullAWSAccess", listed, err)
		}
		read, err := api.DescribePolicy(t.Context(), &organizations.DescribePolicyInput{PolicyId: listed.Policies[1].Id})
		if err != nil || aws.ToString(read.Policy.Content) != text {
			t.Errorf("got %+v and %v, want the policy's text", read, err)
		}
		parents, err := api.ListParents(t.Context(), &organizations.ListParentsInput{ChildId: &account})
		if err != nil || len(parents.Parents) != 1 || parents.Parents[0].Type != types.ParentTypeRoot {
			t.Errorf("got %+v and %v, want the root", parents, err)
		}
	})
	t.Run("it names a policy that cannot be read", func(t *testing.T) {
		if d, err := Start(t.Context(), Options{SCP: []awsidentity.PolicyText{{Name: "broken", Text: "{"}}}); err == nil {
			d.Stop()
			t.Error("got a double, want an error")
		}
	})
}
