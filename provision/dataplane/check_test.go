package dataplane_test

import (
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/step"
)

// What somebody changed is found by field, of every kind of step, and of what the
// customer granted.
func TestCheckFindsWhatChanged(t *testing.T) {
	t.Parallel()
	dp := account.DataPlane()
	account.Reach(t, as(t, dp, operations.Provision), step.Present)
	defer func() { account.Reach(t, as(t, dp, operations.Teardown), step.Absent) }()
	check := func() dataplane.Report {
		t.Helper()
		p := account.Open(t, dp, operations.Observe)
		steps, err := dataplane.Steps(p)
		if err != nil {
			t.Fatal(err)
		}
		report, err := dataplane.Check(t.Context(), p, steps, account.Plan(t, steps, step.Present))
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	if report := check(); len(report.Drift) > 0 || !report.Healthy() {
		t.Fatalf("got %+v right after it was made", report)
	}

	p := account.Open(t, dp, operations.Observe)
	buckets, err := dataplane.Buckets(p)
	if err != nil {
		t.Fatal(err)
	}
	do := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	customer := account.Customer()
	all := aws.String(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:ListAllMyBuckets","Resource":"*"}]}`)
	executor := p.Prefix() + "-adminflyterole-executor"
	do(s3.NewFromConfig(customer, func(o *s3.Options) { o.UsePathStyle = true }).DeleteBucketLifecycle(t.Context(), &s3.DeleteBucketLifecycleInput{Bucket: &buckets.Metadata}))
	do(iam.NewFromConfig(customer).PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: &executor, PolicyName: aws.String("buckets"), PolicyDocument: all}))
	do(iam.NewFromConfig(customer).DetachRolePolicy(t.Context(), &iam.DetachRolePolicyInput{RoleName: aws.String(p.Prefix() + "-node"), PolicyArn: aws.String("arn:aws:iam::aws:policy/AmazonEKS_CNI_Policy")}))
	do(eks.NewFromConfig(customer).DeleteAddon(t.Context(), &eks.DeleteAddonInput{ClusterName: aws.String(p.ClusterName()), AddonName: aws.String("coredns")}))
	breakGlass := aws.String("union-ai-admin-break-glass")
	do(iam.NewFromConfig(customer).PutRolePolicy(t.Context(), &iam.PutRolePolicyInput{RoleName: breakGlass, PolicyName: aws.String("more"), PolicyDocument: all}))
	defer iam.NewFromConfig(customer).DeleteRolePolicy(t.Context(), &iam.DeleteRolePolicyInput{RoleName: breakGlass, PolicyName: aws.String("more")})

	report := check()
	for _, want := range []struct{ step, field string }{
		{"bucket " + buckets.Metadata, "lifecycle"},
		{"role " + executor, "inline policy buckets"},
		{"role " + p.Prefix() + "-node", "policy AmazonEKS_CNI_Policy"},
		{"add-on coredns", ""},
		{"access", "nothing else attached"},
	} {
		found := false
		for _, d := range report.Drift {
			found = found || d.Step == want.step && (want.field == "" || d.Field == want.field)
		}
		// An add-on that is on its way out is not missing yet.
		for _, h := range report.Health {
			found = found || want.field == "" && h.Step == want.step && h.Status != dataplane.OK
		}
		if !found {
			t.Errorf("got no drift of %s in %s", want.field, want.step)
		}
	}
	if len(report.Drift) > 6 {
		t.Errorf("got more drift than there is: %+v", report.Drift)
	}
	if report.Healthy() || !strings.Contains(report.Health[len(report.Health)-1].Message, "biplane access check") {
		t.Errorf("got %+v, want the access unhealthy at the end", report.Health[len(report.Health)-1])
	}

	// apply puts right what is ours; what the customer granted is not.
	account.Reach(t, as(t, dp, operations.Provision), step.Present)
	for _, d := range check().Drift {
		if d.Step != "access" {
			t.Errorf("after another apply: %+v", d)
		}
	}
}
