package cli_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/awsdouble"
	"biplane.dev/biplane/provision/step/killtest"
)

// TestKillUpdate kills an update that does all that there is to do: rights move between
// policies, one of which has five versions and was edited by hand, a trust and an
// inline policy are put back, roles and a policy go.
func TestKillUpdate(t *testing.T) {
	t.Parallel()
	biplane := program(t)
	grant := []string{"access", "grant", "--external-id", externalID, "--policy", "compat", "--yes", "--quiet"}
	edited := grantedAccount(t, biplane, append(slices.Clone(grant), "--private-endpoint"))
	editAccount(t, edited)
	plain := grantedAccount(t, biplane, grant)
	stacked := grantedAccount(t, biplane, append(slices.Clone(grant), "--method", "cloudformation"))
	for _, update := range []struct {
		name    string
		granted string
		flags   []string
	}{
		{"it finishes taking away", edited, []string{"--private-endpoint=false", "--drift", "restore"}},
		{"it finishes putting back", edited, []string{"--drift", "restore"}},
		{"it finishes moving rights", plain, []string{"--private-endpoint"}},
		{"it finishes changing a stack", stacked, []string{"--private-endpoint"}},
	} {
		granted := update.granted
		t.Run(update.name, func(t *testing.T) {
			t.Parallel()
			killtest.Run(t, killtest.Program{
				Path: biplane, Args: append([]string{"access", "update", "--yes", "--quiet"}, update.flags...), Sample: 16, Interrupted: 2,
				World: func(ctx context.Context) (*killtest.World, error) {
					dir, err := os.MkdirTemp(filepath.Dir(granted), "trial")
					if err != nil {
						return nil, err
					}
					if err := os.CopyFS(dir, os.DirFS(granted)); err != nil {
						return nil, err
					}
					return newWorld(ctx, dir)
				},
			})
		})
	}
}

// editAccount is what a person does by hand to what was granted in the account of dir.
func editAccount(t *testing.T, dir string) {
	t.Helper()
	double, err := awsdouble.Start(t.Context(), awsdouble.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	defer double.Stop()
	customer := double.Accounts().Customer
	client := iam.New(iam.Options{
		Region: "us-east-1", BaseEndpoint: ptr(double.URL()),
		Credentials: credentials.NewStaticCredentialsProvider(customer.Credentials.AccessKeyID, customer.Credentials.SecretAccessKey, ""),
	})
	const document = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetBucketPolicy","Resource":"arn:aws:s3:::VERSION"}]}`
	policy, admin := ptr("arn:aws:iam::"+customer.ID+":policy/UnionIAMPolicy-1"), ptr("union-ai-admin")
	for _, version := range []string{"one", "two", "three", "four"} {
		_, err := client.CreatePolicyVersion(t.Context(), &iam.CreatePolicyVersionInput{PolicyArn: policy, SetAsDefault: true, PolicyDocument: ptr(strings.Replace(document, "VERSION", version, 1))})
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := client.PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: admin, PolicyName: ptr("mine"), PolicyDocument: ptr(document)}); err != nil {
		t.Fatal(err)
	}
	_, err = client.UpdateAssumeRolePolicy(t.Context(), &iam.UpdateAssumeRolePolicyInput{RoleName: admin, PolicyDocument: ptr(
		`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::` + customer.ID + `:root"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"` + externalID + `"}}}]}`)})
	if err != nil {
		t.Fatal(err)
	}
}
