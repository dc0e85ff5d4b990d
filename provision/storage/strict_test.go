package storage_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"

	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/access"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/roles"
	"biplane.dev/biplane/provision/step"
	"biplane.dev/biplane/provision/storage"
	"biplane.dev/biplane/provision/vendor"
)

// TestUnderStrict makes, looks at and removes buckets and roles as the vendor does:
// with the access roles of the strict profile, behind the guard, and with nothing else.
func TestUnderStrict(t *testing.T) {
	t.Parallel()
	const externalID = "5Zq0v3l1x8mTfKcW2hYbNg"
	account := double.Accounts().Customer.ID
	admin := double.Accounts().Customer.Credentials
	granted, err := access.Generate(access.Options{Account: account, Region: region, ExternalID: externalID, DeletePermissions: true})
	if err != nil {
		t.Fatal(err)
	}
	url := double.URL()
	grant := step.Runner{Steps: access.GrantSteps(iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &url,
		Credentials: credentials.NewStaticCredentialsProvider(admin.AccessKeyID, admin.SecretAccessKey, "")}), granted, vendor.Default())}
	if err := grant.Apply(t.Context(), plan(t, grant, step.Present)); err != nil {
		t.Fatal(err)
	}

	// as are the clients of one of the vendor's roles.
	as := func(suffix string, who operations.Roles) (*iam.Client, *s3.Client) {
		t.Helper()
		v := double.Accounts().Vendor.Credentials
		out, err := sts.New(sts.Options{Region: region, BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider(v.AccessKeyID, v.SecretAccessKey, v.SessionToken)}).
			AssumeRole(t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String("arn:aws:iam::" + account + ":role/union/union-ai-admin" + suffix),
				RoleSessionName: aws.String("test"), ExternalId: aws.String(externalID)})
		if err != nil {
			t.Fatal(err)
		}
		key := credentials.NewStaticCredentialsProvider(*out.Credentials.AccessKeyId, *out.Credentials.SecretAccessKey, *out.Credentials.SessionToken)
		guard := []func(*middleware.Stack) error{operations.Guard(who)}
		return iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: key, APIOptions: guard}),
			s3.New(s3.Options{Region: region, BaseEndpoint: &url, Credentials: key, APIOptions: guard, UsePathStyle: true})
	}
	plane := newPlane()
	buckets := generate(t, plane, func(c *storage.Config) { c.TLSOnly, c.DeleteData = false, true })
	set, err := roles.Generate(roles.Config{
		DataPlane: plane, Partition: "aws", Account: account, Issuer: "https://oidc.eks." + region + ".amazonaws.com/id/AB12",
		Metadata: buckets.Metadata, FastRegistration: buckets.FastRegistration, Workspaces: []string{"flytesnacks-development"},
		Boundary: operations.BoundaryARN(operations.Place{Partition: "aws", Account: account}, vendor.Default()),
	})
	if err != nil {
		t.Fatal(err)
	}
	runner := func(suffix string, who operations.Roles) step.Runner {
		forIAM, forS3 := as(suffix, who)
		return step.Runner{Steps: append(roles.Steps(forIAM, set), storage.Steps(forS3, buckets)...), Patience: 5 * time.Second}
	}

	provision, observe, teardown := runner("", operations.Provision), runner("-observe", operations.Observe), runner("-teardown", operations.Teardown)
	if err := provision.Apply(t.Context(), plan(t, provision, step.Present)); err != nil {
		t.Fatalf("provision: got %v, want buckets and roles made", err)
	}
	for name, r := range map[string]step.Runner{"provision": provision, "observe": observe, "operate": runner("-operate", operations.Operate)} {
		if p := plan(t, r, step.Present); len(p.With(step.Keep)) != len(p.Steps) {
			t.Errorf("%s: got %s, want all unchanged", name, p.Summary())
		}
	}
	t.Run("it names a role that is in the way where it may not look", func(t *testing.T) {
		inTheWay, err := roles.Generate(roles.Config{
			DataPlane: newPlane(), Partition: "aws", Account: account, Issuer: "https://oidc.eks." + region + ".amazonaws.com/id/AB12",
			Metadata: buckets.Metadata, FastRegistration: buckets.FastRegistration, Workspaces: []string{"flytesnacks-development"}, Boundary: set.Roles[0].Boundary,
		})
		if err != nil {
			t.Fatal(err)
		}
		theirs := inTheWay.Roles[5]
		_, err = iam.New(iam.Options{Region: "us-east-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider(admin.AccessKeyID, admin.SecretAccessKey, "")}).
			CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: &theirs.Name, AssumeRolePolicyDocument: aws.String(string(theirs.Trust))}) // under /
		if err != nil {
			t.Fatal(err)
		}
		forIAM, _ := as("", operations.Provision)
		r := step.Runner{Steps: roles.Steps(forIAM, inTheWay), Patience: 5 * time.Second}
		err = r.Apply(t.Context(), plan(t, r, step.Present))
		var said *usererr.Error
		if !errors.As(err, &said) || said.Hint == "" || !strings.Contains(said.Error(), "there is a role "+theirs.Name+" that this caller may not look at") {
			t.Errorf("got %v, want the role named, and a hint", err)
		}
	})
	fill(t, customer(), buckets.Metadata)
	if err := teardown.Apply(t.Context(), plan(t, teardown, step.Absent)); err != nil {
		t.Fatalf("teardown: got %v, want buckets and roles removed", err)
	}
	if p := plan(t, teardown, step.Absent); len(p.With(step.None)) != len(p.Steps) {
		t.Errorf("got %s, want nothing left", p.Summary())
	}
}
