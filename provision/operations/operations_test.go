package operations_test

import (
	"bufio"
	"os"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy/sar"
	"biplane.dev/biplane/provision/operations"
	"biplane.dev/biplane/provision/vendor"
)

// row is one line of testdata/required-actions.tsv: the calls that are known to
// be needed, with the rights and the things that they touch, named as the
// published grants name them.
type row struct {
	call      string
	actions   []string
	resources []string
	statement string // of the published grants, or MISSING, or N/A
	phase     string
}

func required(t *testing.T) []row {
	t.Helper()
	f, err := os.Open("testdata/required-actions.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var rows []row
	lines := bufio.NewScanner(f)
	lines.Scan() // the head
	for lines.Scan() {
		c := strings.Split(lines.Text(), "\t")
		rows = append(rows, row{c[0], strings.Split(c[1], ", "), strings.Split(c[2], " , "), c[3], c[6]})
	}
	if len(rows) != 355 {
		t.Fatalf("got %d rows, want 355", len(rows))
	}
	return rows
}

// ours are the rows that the table has beyond the required ones: what grant and
// revoke do themselves; what emptying a bucket and EKS's own checks in the
// caller's name need besides; and what must be looked at, tagged or removed with
// the things that the required rows make.
var ours = []string{
	"iam:GetRole(access)", "iam:ListRolePolicies(access)", "iam:GetRolePolicy(access)", "iam:ListAttachedRolePolicies(access)",
	"iam:GetPolicy(access)", "iam:GetPolicyVersion(access)", "iam:ListPolicyVersions(access)",
	"iam:TagPolicy(access)", "iam:ListEntitiesForPolicy(access)",
	"iam:ListRoles(access)", "iam:ListPolicies(access)", "iam:DeleteRolePolicy(access)", "iam:DeleteRole(access)", "iam:DeletePolicy(access)", "iam:SimulatePrincipalPolicy(access)",
	"iam:UntagRole(access)", "iam:UntagPolicy(access)", "iam:DeleteRolePermissionsBoundary(access)", "resourcegroupstaggingapi:GetResources(access)",
	"iam:ListRolePolicies(made roles)", "iam:GetRolePolicy(made roles)", "iam:ListAttachedRolePolicies(made roles)",
	"iam:TagRole(made roles)",
	"iam:GetPolicy", "eks:CreateNodegroup(launch template)",
	"s3:CreateBucket(tags)", "s3:GetPublicAccessBlock", "s3:GetBucketOwnershipControls", "s3:GetBucketEncryption", "s3:GetBucketVersioning", "s3:GetBucketLifecycleConfiguration", "s3:GetBucketCors",
	"s3:ListMultipartUploads", "s3:AbortMultipartUpload", "s3:DeleteObjects(versions)",
	"iam:GetRole(service-linked)",
	"ec2:AuthorizeSecurityGroupEgress(tags)", "eks:CreateNodegroup(tags)", "eks:CreatePodIdentityAssociation(tags)", "ecs:RegisterTaskDefinition(tags)", "ecs:CreateService(tags)",
	"logs:PutRetentionPolicy(flow)", "logs:AssociateKmsKey(flow)", "logs:ListTagsForResource(flow)", "logs:TagResource(flow)", "logs:DeleteLogGroup(flow)",
	"logs:ListTagsForResource(jumper)", "logs:DeleteLogGroup(jumper)",
	"elbv2:DescribeLoadBalancerAttributes", "elbv2:DescribeListeners", "elbv2:DescribeTargetGroups", "elbv2:DescribeTargetGroupAttributes", "elbv2:DescribeTags",
	"iam:ListAttachedRolePolicies(ecs roles)", "iam:ListRolePolicies(ecs roles)", "iam:GetRolePolicy(ecs roles)", "ecs:ListTaskDefinitions", "elbv2:ModifyTargetGroup",
	"ec2:CreateTags(vendor side)", "ec2:DescribeVpcs(vendor side)", "ec2:DescribeSubnets(vendor side)", "ec2:DescribeVpcEndpointServices(vendor side)", "ec2:DescribeVpcEndpoints(vendor side)", "ec2:ModifyVpcEndpoint(vendor side)", "ec2:DeleteVpcEndpoints(vendor side)",
	"ec2:DescribeSecurityGroups(vendor side)", "ec2:CreateSecurityGroup(vendor side)", "ec2:AuthorizeSecurityGroupIngress(vendor side)", "ec2:RevokeSecurityGroupIngress(vendor side)",
	"ec2:DeleteSecurityGroup(vendor side)", "route53:ListResourceRecordSets(vendor zone)",
	"ec2:DeleteSecurityGroup(k8s)",
	"ecr:ListTagsForResource", "ecr:GetLifecyclePolicy", "ec2:DescribeLaunchTemplateVersions", "eks:TagResource",
	"iam:TagRole(lease)",
	"ec2:CreateTags(parts)",
	"iam:GetUser(report)", "iam:GetRole(report)", "iam:SimulatePrincipalPolicy(report)",
	"organizations:DescribeOrganization(report)", "organizations:ListParents", "organizations:ListPoliciesForTarget", "organizations:DescribePolicy",
	"cloudformation:ListChangeSets", "cloudformation:GetStackPolicy",
	"s3:GetBucketTagging(template)", "s3:CreateBucket(template)", "s3:PutPublicAccessBlock(template)", "s3:PutObject(template)", "s3:GetObject(template)",
	"s3:ListObjectsV2(template)", "s3:DeleteObject(template)", "s3:DeleteBucket(template)",
}

func TestTheTableCoversExactlyTheRequiredCalls(t *testing.T) {
	t.Parallel()
	names := operations.CompatNames(operations.Place{Partition: "aws", DNSSuffix: "amazonaws.com", Region: "REGION", Account: "ACCOUNT"}, vendor.Default())
	table := map[string]operations.Operation{}
	for _, op := range operations.Operations() {
		key := string(op.Phase) + " " + op.Call
		if _, twice := table[key]; twice {
			t.Errorf("got %s twice, want it once", key)
		}
		table[key] = op
	}
	for _, r := range required(t) {
		op, ok := table[r.phase+" "+r.call]
		if !ok {
			t.Errorf("%s %s: got no row, want one", r.phase, r.call)
			continue
		}
		delete(table, r.phase+" "+r.call)
		var actions, resources []string
		for _, g := range op.Grants {
			actions = append(actions, g.Actions...)
			for _, resource := range g.Resources {
				resources = append(resources, names.Example(resource))
			}
		}
		if got, want := set(actions), set(r.actions); !slices.Equal(got, want) {
			t.Errorf("%s %s: got actions %v, want %v", r.phase, r.call, got, want)
		}
		if got, want := set(resources), set(r.resources); !slices.Equal(got, want) {
			t.Errorf("%s %s: got resources %v, want %v", r.phase, r.call, got, want)
		}
	}
	for _, op := range table {
		if !slices.Contains(ours, op.Call) {
			t.Errorf("%s %s: got a row that is not required, want it explained in this test", op.Phase, op.Call)
		}
	}
	if len(table) != len(ours) {
		t.Errorf("got %d rows beyond the required ones, want %d", len(table), len(ours))
	}
}

func TestEveryRowSaysWhoAndWhy(t *testing.T) {
	t.Parallel()
	for _, op := range operations.Operations() {
		if op.Purpose == "" || strings.HasSuffix(op.Purpose, ".") {
			t.Errorf("%s: got purpose %q, want one sentence without its full stop", op.Call, op.Purpose)
		}
		if (op.Roles == 0) != (op.Omitted != "") {
			t.Errorf("%s: got roles %q and omitted because %q, want one of them", op.Call, op.Roles, op.Omitted)
		}
		if len(op.Grants) == 0 {
			t.Errorf("%s: got no grants, want at least one", op.Call)
		}
	}
}

// Only teardown removes things. What others remove, they must in order to build
// again or to upgrade; each such call is named here.
func TestOnlyTeardownRemovesThings(t *testing.T) {
	t.Parallel()
	allowed := []string{
		"iam:DeletePolicyVersion",          // the sixth version of a policy needs room
		"ec2:DeleteRoute",                  // a way out is replaced
		"eks:DeleteAccessEntry",            // the role was made anew
		"eks:DeletePodIdentityAssociation", // the same
		"ecs:DeregisterTaskDefinition",     // a former description
		"ec2:DeleteTags",                   // never the ownership tag
		"ec2:TerminateInstances",           // break-glass: a node that hangs
	}
	for _, op := range operations.Operations() {
		_, name, _ := strings.Cut(op.Call, ":")
		removes := false
		for _, word := range []string{"Delete", "Terminate", "Release", "Detach", "Deregister", "BatchDelete", "Abort", "ScheduleKeyDeletion"} {
			removes = removes || strings.HasPrefix(name, word)
		}
		if removes && op.Roles.Has(operations.Provision|operations.Operate|operations.Observe) && !slices.Contains(allowed, operations.Name(op.Call)) {
			t.Errorf("%s: got %s, want teardown alone", op.Call, op.Roles)
		}
	}
}

func TestEveryActionExistsAndEveryResourceFitsIt(t *testing.T) {
	t.Parallel()
	reference := sar.Default()
	place := operations.Place{Partition: "aws", DNSSuffix: "amazonaws.com", Region: "eu-central-1", Account: "123456789012"}
	for _, names := range []operations.Names{operations.StrictNames(place, vendor.Default()), operations.CompatNames(place, vendor.Default())} {
		for _, op := range operations.Operations() {
			for _, g := range op.Grants {
				for _, name := range g.Actions {
					action, ok := reference.Action(name)
					if !ok {
						t.Errorf("%s: got action %s, want one that exists", op.Call, name)
						continue
					}
					for _, resource := range g.Resources {
						pattern := names.Pattern(resource)
						if pattern != "*" && op.Omitted == "" && op.Phase != operations.AccessManual &&
							len(action.Resources) > 0 && reference.CanMatch(action, pattern) == sar.Never {
							t.Errorf("%s: got %s on %s, which no resource of the action matches", op.Call, name, pattern)
						}
					}
				}
			}
		}
	}
}

// A condition on a key that IAM does not fill in denies without a word.
func TestEveryConditionKeyIsSupported(t *testing.T) {
	t.Parallel()
	reference := sar.Default()
	place := operations.Place{Partition: "aws", DNSSuffix: "amazonaws.com", Region: "eu-central-1", Account: "123456789012"}
	names := operations.StrictNames(place, vendor.Default())
	checked := 0
	for _, op := range operations.Operations() {
		for _, g := range op.Grants {
			for _, name := range g.Actions {
				action, _ := reference.Action(name)
				for _, resource := range g.Resources {
					for _, c := range g.When {
						key := names.Condition(c).Key
						checked++
						if !supported(reference, action, names.Pattern(resource), key) {
							t.Errorf("%s: got condition %s for %s on %s, which IAM does not fill in there", op.Call, key, name, names.Pattern(resource))
						}
					}
				}
			}
		}
	}
	t.Logf("%d conditions", checked)
}

// supported looks the key up where the reference lists it: for the action, for
// the action on this type of resource, or, where the action lists no keys of its
// own for that type, for the type.
func supported(reference *sar.Reference, action *sar.Action, pattern, key string) bool {
	listed := func(keys []string) bool {
		for _, k := range keys {
			if before, _, tagged := strings.Cut(k, "${"); strings.EqualFold(k, key) || tagged && len(key) > len(before) && strings.EqualFold(key[:len(before)], before) {
				return true
			}
		}
		return false
	}
	if listed(action.ConditionKeys) {
		return true
	}
	matching := reference.MatchingTypes(action, pattern)
	for _, r := range action.Resources {
		if !slices.Contains(matching, r.Type) {
			continue
		}
		if len(r.ConditionKeys) > 0 {
			return listed(r.ConditionKeys)
		}
		kind, ok := reference.ResourceType(action.Service, r.Type)
		// A request's tags are the request's: a type lists them for other actions.
		return ok && !strings.HasPrefix(key, "aws:RequestTag/") && listed(kind.ConditionKeys)
	}
	return false
}

func set(list []string) []string {
	list = slices.Clone(list)
	slices.Sort(list)
	return slices.Compact(list)
}
