package operations_test

import (
	"slices"
	"testing"

	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/vendor"
)

func TestSteps(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, action, resource string
		has, hasNot            string
	}{
		{"finds a call by its own right", "ec2:CreateVpc", "", "ec2:CreateVpc", "ec2:CreateSubnet"},
		{"finds a call by a right that it needs besides", "iam:PassRole", "", "ec2:CreateFlowLogs", "ec2:CreateVpc"},
		{"does not mind the case", "EC2:createvpc", "*", "ec2:CreateVpc", "ec2:CreateSubnet"},
		{"tells resources apart, under the strict names", "iam:PassRole", "arn:aws:iam::123456789012:role/union/union-acme-x", "eks:CreateCluster", "ecs:RegisterTaskDefinition"},
		{"and under the published ones", "eks:DescribeCluster", "arn:aws-cn:eks:cn-north-1:123456789012:cluster/opta-acme", "eks:DescribeCluster", "eks:CreateCluster"},
		{"finds a call that is left out", "s3:PutBucketPolicy", "arn:aws:s3:::union-acme-metadata", "s3:PutBucketPolicy", "s3:PutBucketCors"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			var calls []string
			for _, op := range operations.Steps(vendor.Default(), tc.action, tc.resource) {
				calls = append(calls, op.Call)
			}
			if !slices.Contains(calls, tc.has) || slices.Contains(calls, tc.hasNot) {
				t.Errorf("got %v, want %s and not %s", calls, tc.has, tc.hasNot)
			}
		})
	}
	for _, none := range [][2]string{{"ec2:Nothing", ""}, {"iam:CreateRole", "arn:aws:iam::123456789012:role/somebody"}} {
		if got := operations.Steps(vendor.Default(), none[0], none[1]); len(got) != 0 {
			t.Errorf("%v: got %d rows, want none", none, len(got))
		}
	}
}
