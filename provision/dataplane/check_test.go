package dataplane_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"biplane.dev/biplane/provision/dataplane"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/spec"
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
		if err == nil {
			err = report.AddReach(t.Context(), p)
		}
		if err != nil {
			t.Fatal(err)
		}
		return report
	}
	health := func(report dataplane.Report, step string) dataplane.Health {
		t.Helper()
		i := slices.IndexFunc(report.Health, func(h dataplane.Health) bool { return h.Step == step })
		if i < 0 {
			t.Fatalf("got %+v, want the health of %s", report.Health, step)
		}
		return report.Health[i]
	}
	if report := check(); len(report.Drift) > 0 || !report.Healthy() {
		t.Fatalf("got %+v right after it was made", report)
	} else if h := health(report, "API server"); h.Status != dataplane.Unknown || !strings.Contains(h.Message, "has no address here") {
		t.Errorf("got %+v of an API server that the double does not have, want it to be unknown", h)
	} else if h := health(report, "ways of the network"); h.Status != dataplane.OK {
		t.Errorf("got %+v, want the network to let through what is needed", h)
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

	acls, err := ec2.NewFromConfig(customer).DescribeNetworkAcls(t.Context(), &ec2.DescribeNetworkAclsInput{Filters: []types.Filter{{Name: aws.String("vpc-id"), Values: []string{vpcOf(t, customer, dp.Metadata.Name)}}}})
	do(nil, err)
	acl, egress := acls.NetworkAcls[0].NetworkAclId, aws.Bool(true)
	do(ec2.NewFromConfig(customer).CreateNetworkAclEntry(t.Context(), &ec2.CreateNetworkAclEntryInput{NetworkAclId: acl, RuleNumber: aws.Int32(1), Egress: egress, Protocol: aws.String("6"),
		PortRange: &types.PortRange{From: aws.Int32(443), To: aws.Int32(443)}, CidrBlock: aws.String("0.0.0.0/0"), RuleAction: types.RuleActionDeny}))

	report := check()
	if h := health(report, "ways of the network"); h.Status != dataplane.Failed || !strings.Contains(h.Message, "HTTPS") {
		t.Errorf("got %+v, want the access list to be found that denies HTTPS", h)
	}
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
	if h := health(report, "access"); report.Healthy() || !strings.Contains(h.Message, "biplane access check") {
		t.Errorf("got %+v, want the access unhealthy", h)
	}

	// apply puts right what is ours; what the customer granted is not.
	account.Reach(t, as(t, dp, operations.Provision), step.Present)
	for _, d := range check().Drift {
		if d.Step != "access" {
			t.Errorf("after another apply: %+v", d)
		}
	}

	// What the file asked for once is shown; what would begin anew beside data is refused.
	dp.Spec.Cluster.NodeGroups[0].Name, dp.Spec.WorkspaceRoles = "other", spec.SharedRoles
	p = account.Open(t, dp, operations.Observe)
	do(nil, dataplane.LookFirst(t.Context(), p))
	steps, err := dataplane.Steps(p)
	do(nil, err)
	left := map[string]bool{}
	for _, s := range account.Plan(t, steps, step.Present).Steps {
		left[s.Name] = s.Action == step.Leave && strings.Contains(strings.Join(s.Details, ""), "no longer asks for it")
	}
	for _, name := range []string{"node group system", "role " + executor} {
		if !left[name] {
			t.Errorf("%s: got nothing, want it to be shown as no longer asked for", name)
		}
	}
	dp.Spec.Cluster.NodeGroups[0].Name, dp.Spec.WorkspaceRoles, dp.Spec.Buckets.Suffix = "system", spec.PerServiceAccount, "elsewhere"
	if err := dataplane.LookFirst(t.Context(), account.Open(t, dp, operations.Observe)); err == nil || !strings.Contains(err.Error(), "spec.buckets.suffix is elsewhere") {
		t.Errorf("got %v, want another suffix to be refused", err)
	}
	dp.Spec.Buckets.Suffix = dp.Spec.Account
}

// vpcOf is the network of a data plane, as its owner sees it.
func vpcOf(t *testing.T, customer aws.Config, name string) string {
	t.Helper()
	out, err := ec2.NewFromConfig(customer).DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{Filters: []types.Filter{{Name: aws.String("tag:union:data-plane-id"), Values: []string{name}}}})
	if err != nil || len(out.Vpcs) != 1 {
		t.Fatalf("got %v and error %v, want one network of %s", out, err, name)
	}
	return aws.ToString(out.Vpcs[0].VpcId)
}
