package access

import (
	"fmt"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy"
	"biplane.dev/biplane/provision/operations"
)

// Each test tries one known way from the published grants to more, as the calls
// that somebody who holds the role would make, one after the other. It ends where
// the first call is refused, and that is the call that the test names.

// attempt is one call, with the context that IAM would fill in.
type attempt struct {
	action, resource string
	context          []string
}

// refuses tries the calls in order as each of the roles; the last must be refused
// and all before it allowed, so that the test shows where the way is closed.
func (s *strictSet) refuses(t *testing.T, who operations.Roles, calls ...attempt) {
	t.Helper()
	for i, c := range calls {
		got := s.may(who, c.action, c.resource, c.context...)
		switch last := i == len(calls)-1; {
		case last && got == iampolicy.Allowed:
			t.Errorf("%s as %s: %s on %s: got allowed, want refused", s.Region, who, c.action, c.resource)
		case !last && got != iampolicy.Allowed:
			t.Errorf("%s as %s: %s on %s: got %v, want allowed, so that the next step is what stops it", s.Region, who, c.action, c.resource, got)
		}
	}
}

// everywhere runs a test in one region of each partition, and as every role.
func everywhere(t *testing.T, test func(t *testing.T, s *strictSet, who operations.Roles)) {
	t.Helper()
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		for _, who := range vendorRoles {
			t.Run(region+" "+who.String(), func(t *testing.T) { test(t, s, who) })
		}
	}
}

func (s *strictSet) role(name string) string   { return s.arn("iam", "", "role"+name) }
func (s *strictSet) policy(name string) string { return s.arn("iam", "", "policy"+name) }
func (s *strictSet) awsPolicy(name string) string {
	return "arn:" + s.region.Partition + ":iam::aws:policy/" + name
}
func (s *strictSet) ec2(resource string) string { return s.arn("ec2", s.Region, resource) }
func (s *strictSet) boundaryARN() string {
	return operations.BoundaryARN(s.place(), s.Vendor)
}

// bounded is the context of a call on a role with the boundary.
func (s *strictSet) bounded(more ...string) []string {
	return append([]string{"iam:PermissionsBoundary", s.boundaryARN()}, more...)
}

// G1: give AdministratorAccess to one's own role.
func TestG1OwnRoleCannotBeGivenMore(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, r := range vendorRoles {
			own := s.session(s.roles[r]).RoleARN
			for _, a := range []attempt{
				{"iam:AttachRolePolicy", own, []string{"iam:PolicyARN", s.awsPolicy("AdministratorAccess")}},
				{"iam:AttachRolePolicy", own, s.bounded("iam:PolicyARN", s.awsPolicy("AmazonEKSClusterPolicy"))},
				{"iam:AttachRolePolicy", own, s.bounded("iam:PolicyARN", s.policy("/union/union-acme-x"))},
				{"iam:PutRolePolicy", own, nil}, {"iam:PutRolePolicy", own, s.bounded()},
				{"iam:UpdateAssumeRolePolicy", own, s.bounded()}, {"iam:UpdateRole", own, s.bounded()},
				{"iam:PutRolePermissionsBoundary", own, s.bounded()}, {"iam:DeleteRolePermissionsBoundary", own, s.bounded()},
				{"iam:DetachRolePolicy", own, s.bounded("iam:PolicyARN", s.policy("/union/UnionIAMPolicy-"+r.String()+"-limits"))},
				{"iam:DeleteRole", own, s.bounded()}, {"iam:TagRole", own, nil}, {"iam:CreateRole", own, s.bounded()},
			} {
				s.refuses(t, who, a)
			}
		}
	})
}

// G2: make a role that trusts anybody, and give it AdministratorAccess.
func TestG2NewRolesAreCapped(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		made := s.role("/union/union-acme-x")
		for _, a := range []attempt{
			{"iam:CreateRole", made, nil},
			{"iam:CreateRole", made, []string{"iam:PermissionsBoundary", s.awsPolicy("AdministratorAccess")}},
			{"iam:CreateRole", made, []string{"iam:PermissionsBoundary", s.policy("/union/union-acme-boundary")}},
			{"iam:CreateRole", s.role("/union-acme-x"), s.bounded()},
			{"iam:CreateRole", s.role("/other/union-acme-x"), s.bounded()},
			{"iam:AttachRolePolicy", made, s.bounded("iam:PolicyARN", s.awsPolicy("AdministratorAccess"))},
			{"iam:AttachRolePolicy", made, []string{"iam:PolicyARN", s.awsPolicy("AmazonEKSClusterPolicy")}},
			{"iam:AttachRolePolicy", s.role("/somebody"), []string{"iam:PolicyARN", s.awsPolicy("AdministratorAccess")}},
			{"iam:PutRolePolicy", made, nil},
			{"iam:PutRolePolicy", s.role("/somebody"), nil},
			{"iam:UpdateAssumeRolePolicy", made, nil},
			{"iam:UpdateAssumeRolePolicy", s.role("/somebody"), nil},
			{"iam:PutRolePermissionsBoundary", made, []string{"iam:PermissionsBoundary", s.awsPolicy("AdministratorAccess")}},
			{"iam:DeleteRolePermissionsBoundary", made, s.bounded()},
			{"iam:CreateUser", s.arn("iam", "", "user/x"), nil},
			{"iam:CreateAccessKey", s.arn("iam", "", "user/x"), nil},
			{"sts:AssumeRole", made, nil},
			{"sts:AssumeRole", s.role("/somebody"), nil},
		} {
			s.refuses(t, who, a)
		}
	})
}

// capped decides calls of a role made by the vendor that has been given
// everything, so that the boundary alone decides.
func (s *strictSet) capped(t *testing.T) func(attempt) iampolicy.Decision {
	t.Helper()
	admin, err := iampolicy.Parse("AdministratorAccess", []byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}`))
	if err != nil {
		t.Fatal(err)
	}
	e, err := iampolicy.Compile(iampolicy.Policies{Identity: []*iampolicy.Document{admin}, Boundary: s.boundary})
	if err != nil {
		t.Fatal(err)
	}
	return func(a attempt) iampolicy.Decision {
		context := iampolicy.Context{}
		for i := 0; i < len(a.context); i += 2 {
			context.Set(a.context[i], a.context[i+1])
		}
		return e.Decide(&iampolicy.Request{
			Principal: iampolicy.Principal{Type: iampolicy.AWS, Account: account, RoleARN: s.role("/union/union-acme-x"),
				ARN: "arn:" + s.region.Partition + ":sts::" + account + ":assumed-role/union-acme-x/s"},
			Action: a.action, Resource: a.resource, Context: context,
		})
	}
}

// G2, gone through with: whatever a role made by the vendor is given, these stay
// shut, because the boundary does not have them.
func TestG2AnAdministratorWithTheBoundaryCannotEscape(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		decide := s.capped(t)
		objects := "arn:" + s.region.Partition + ":s3:::union-acme-metadata/run/output.pb"
		provider := s.arn("iam", "", "oidc-provider/oidc.eks."+region+"."+s.region.DNSSuffix+"/id/ABC")
		for _, a := range []attempt{
			{"iam:CreateRole", s.role("/union/union-acme-y"), s.bounded()},
			{"iam:CreateRole", s.role("/y"), nil},
			{"iam:PutRolePolicy", s.role("/union/union-acme-x"), s.bounded()},
			{"iam:AttachRolePolicy", s.role("/union/union-acme-x"), s.bounded("iam:PolicyARN", s.awsPolicy("AdministratorAccess"))},
			{"iam:DeleteRolePermissionsBoundary", s.role("/union/union-acme-x"), s.bounded()},
			{"iam:CreatePolicyVersion", s.boundaryARN(), nil},
			{"iam:SetDefaultPolicyVersion", s.boundaryARN(), nil},
			{"iam:CreateUser", s.arn("iam", "", "user/x"), nil},
			{"iam:PassRole", s.session(s.roles[operations.Provision]).RoleARN, []string{"iam:PassedToService", "ec2.amazonaws.com"}},
			{"iam:PassRole", s.role("/union/union-acme-x"), []string{"iam:PassedToService", "lambda.amazonaws.com"}},
			{"sts:AssumeRole", s.session(s.roles[operations.Provision]).RoleARN, nil},
			{"sts:AssumeRole", s.role("/somebody"), nil},
			{"ec2:CreateTags", s.ec2("vpc/vpc-0c1"), []string{"aws:TagKeys", "union:managed-by"}},
			{"ec2:CreateTags", s.ec2("instance/i-1"), []string{"ec2:CreateAction", "RunInstances", "aws:TagKeys", "union:managed-by"}},
			{"ec2:TerminateInstances", s.ec2("instance/i-0c1"), nil},
			{"ec2:DeleteVpc", s.ec2("vpc/vpc-0c1"), nil},
			{"s3:GetObject", objects, nil},
			{"s3:GetObject", objects, []string{"s3:authType", "REST-HEADER"}},
			{"s3:GetObject", objects, []string{"s3:authType", "REST-QUERY-STRING", "s3:signatureAge", "3600001"}},
			{"s3:DeleteObject", objects, []string{"s3:authType", "REST-QUERY-STRING", "s3:signatureAge", "600000"}},
			{"s3:GetObject", objects, []string{"aws:FederatedProvider", s.arn("iam", "", "oidc-provider/login.example.com")}},
			{"s3:GetObject", strings.Replace(objects, "union-acme", "customer", 1), []string{"aws:FederatedProvider", provider}},
			{"s3:PutBucketPolicy", strings.TrimSuffix(objects, "/run/output.pb"), nil},
			{"kms:Decrypt", s.arn("kms", region, "key/1-2"), nil},
			{"secretsmanager:GetSecretValue", s.arn("secretsmanager", region, "secret:customer-x"), nil},
			{"organizations:LeaveOrganization", "*", nil},
		} {
			if got := decide(a); got == iampolicy.Allowed {
				t.Errorf("%s: %s on %s with %v: got allowed, want refused", region, a.action, a.resource, a.context)
			}
		}
		for _, a := range []attempt{ // and it is not so tight that nothing works
			{"s3:GetObject", objects, []string{"aws:FederatedProvider", provider}},
			{"s3:PutObject", objects, []string{"s3:authType", "REST-QUERY-STRING", "s3:signatureAge", "600000"}},
			{"ec2:RunInstances", s.ec2("instance/i-1"), nil},
			{"ec2:TerminateInstances", s.ec2("instance/i-1"), []string{"aws:ResourceTag/eks:eks-cluster-name", "union-acme"}},
			{"iam:PassRole", s.role("/union/union-acme-node"), []string{"iam:PassedToService", "ec2.amazonaws.com"}},
			{"ecr:BatchGetImage", "arn:" + s.region.Partition + ":ecr:" + region + ":602401143452:repository/eks/pause", nil},
			{"eks:DescribeCluster", s.arn("eks", region, "cluster/union-acme"), nil},
			{"sqs:ReceiveMessage", s.arn("sqs", region, "Karpenter-union-acme"), nil},
			{"elasticloadbalancing:RegisterTargets", s.arn("elasticloadbalancing", region, "targetgroup/k8s-union-proxy/73e2"), nil},
			{"elasticloadbalancing:CreateListener", s.arn("elasticloadbalancing", region, "loadbalancer/net/k8s-union-proxy/50dc"), nil},
			{"elasticloadbalancing:DeleteListener", s.arn("elasticloadbalancing", region, "listener/net/k8s-union-proxy/50dc/0467"), nil},
			{"ssm:GetParameter", "arn:" + s.region.Partition + ":ssm:" + region + "::parameter/aws/service/eks/optimized-ami/1.33/x", nil},
			{"logs:PutLogEvents", s.arn("logs", region, "log-group:union-acme-vpc-flow-1:log-stream:x"), nil},
			{"kms:Decrypt", s.arn("kms", region, "key/1-2"), []string{"aws:ResourceTag/union:managed-by", "biplane", "kms:ViaService", "s3." + region + "." + s.region.DNSSuffix}},
		} {
			if got := decide(a); got != iampolicy.Allowed {
				t.Errorf("%s: %s on %s with %v: got %v, want allowed", region, a.action, a.resource, a.context, got)
			}
		}
	}
}

// G3: write a new version of a policy that others have.
func TestG3OnlyPoliciesOfTheDataPlaneCanBeRewritten(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, action := range []string{"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion", "iam:CreatePolicy", "iam:DeletePolicy", "iam:DeletePolicyVersion"} {
			for _, name := range []string{"/customer", "/union/UnionIAMPolicy-provision-iam", "/union/UnionIAMPolicy-" + who.String() + "-limits", "/union/UnionIAMPolicy-boundary"} {
				s.refuses(t, who, attempt{action, s.policy(name), nil})
			}
		}
	})
}

// G4: hand a strong role to a machine or a task, and use it there.
func TestG4OnlyMadeRolesAreHandedOverAndOnlyToTheServicesThatNeedThem(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		made := s.role("/union/union-acme-x")
		for _, a := range []attempt{
			{"iam:PassRole", s.role("/somebody"), []string{"iam:PassedToService", "ec2.amazonaws.com"}},
			{"iam:PassRole", s.session(s.roles[operations.Provision]).RoleARN, []string{"iam:PassedToService", "ec2.amazonaws.com"}},
			{"iam:PassRole", made, []string{"iam:PassedToService", "lambda.amazonaws.com"}},
			{"iam:PassRole", made, []string{"iam:PassedToService", "ecs-tasks.amazonaws.com"}},
			{"iam:PassRole", made, []string{"iam:PassedToService", "cloudformation.amazonaws.com"}},
			{"iam:PassRole", made, nil},
			{"iam:PassRole", s.role("/unionai-access-" + s.Region + "-ecs-task-role"), []string{"iam:PassedToService", "ec2.amazonaws.com"}},
			{"ec2:RunInstances", s.ec2("instance/i-1"), nil},
			{"ec2:RunInstances", s.ec2("launch-template/lt-0c1"), []string{"ec2:LaunchTemplate", s.ec2("launch-template/lt-0c1")}},
			{"autoscaling:CreateAutoScalingGroup", s.arn("autoscaling", s.Region, "autoScalingGroup:1:autoScalingGroupName/x"), nil},
			{"iam:CreateServiceLinkedRole", s.role("/aws-service-role/x.amazonaws.com/X"), []string{"iam:AWSServiceName", "x.amazonaws.com"}},
		} {
			s.refuses(t, who, a)
		}
	})
}

// G5: have IAM trust an identity provider of one's own.
func TestG5OnlyEKSCanBeAnIdentityProvider(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, provider := range []string{"login.example.com", "oidc.eks.example.com/id/ABC", "oidc.eks." + s.Region + ".example.com/id/ABC"} {
			s.refuses(t, who, attempt{"iam:CreateOpenIDConnectProvider", s.arn("iam", "", "oidc-provider/"+provider), nil})
			s.refuses(t, who, attempt{"iam:UpdateOpenIDConnectProviderThumbprint", s.arn("iam", "", "oidc-provider/"+provider), nil})
		}
		s.refuses(t, who, attempt{"iam:CreateSAMLProvider", s.arn("iam", "", "saml-provider/x"), nil})
	})
}

// G6: take over a key of the customer's, or end it.
func TestG6KeysOfTheCustomerCannotBeTouched(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		key := s.arn("kms", s.Region, "key/of-the-customer")
		for _, action := range []string{"kms:PutKeyPolicy", "kms:CreateGrant", "kms:ScheduleKeyDeletion", "kms:CreateAlias", "kms:UpdateAlias", "kms:DeleteAlias", "kms:EnableKeyRotation", "kms:Decrypt", "kms:DisableKey"} {
			s.refuses(t, who, attempt{action, key, nil})
			s.refuses(t, who, attempt{action, key, []string{"aws:ResourceTag/team", "data", "kms:GrantIsForAWSResource", "true"}})
		}
		// A key in use has an alias, and cannot be tagged as ours first.
		s.refuses(t, who, attempt{"kms:TagResource", key, []string{"aws:RequestTag/union:managed-by", "biplane", "aws:TagKeys", "union:managed-by", "kms:ResourceAliases", "alias/customer"}})
		// Nor may anybody but AWS's services use what the vendor grants.
		s.refuses(t, who, attempt{"kms:CreateGrant", key, []string{"aws:ResourceTag/union:managed-by", "biplane"}})
	})
}

// G7: read, write and delete what is in a bucket, or open it to another account.
func TestG7ObjectsAreTheCustomers(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, name := range []string{"union-acme-metadata", "union-of-workers", "opta-acme", "customer"} {
			bucket := "arn:" + s.region.Partition + ":s3:::" + name
			actions := []string{"s3:GetObject", "s3:GetObjectVersion", "s3:GetObjectAttributes", "s3:GetObjectTagging", "s3:PutObject", "s3:PutObjectAcl", "s3:RestoreObject", "s3:ReplicateObject"}
			if who != operations.Teardown {
				actions = append(actions, "s3:DeleteObject", "s3:DeleteObjectVersion", "s3:AbortMultipartUpload", "s3:BypassGovernanceRetention")
			}
			for _, action := range actions {
				s.refuses(t, who, attempt{action, bucket + "/a", nil})
				if got := s.may(who, action, bucket+"/a"); got != iampolicy.ExplicitDeny {
					t.Errorf("%s as %s: got %v, want explicitDeny, which no other policy can lift", action, who, got)
				}
			}
			for _, action := range []string{"s3:PutBucketPolicy", "s3:PutBucketAcl", "s3:PutReplicationConfiguration", "s3:CreateAccessPoint"} {
				s.refuses(t, who, attempt{action, bucket, nil})
			}
		}
		if who == operations.Teardown {
			for _, name := range []string{"customer", "opta-acme"} {
				s.refuses(t, who, attempt{"s3:DeleteObject", "arn:" + s.region.Partition + ":s3:::" + name + "/a", nil})
			}
		}
	})
}

// G8: change a cluster of the customer's.
func TestG8OtherClustersCannotBeChanged(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, action := range []string{"eks:UpdateClusterConfig", "eks:UpdateClusterVersion", "eks:DeleteCluster", "eks:CreateAccessEntry", "eks:CreateNodegroup", "eks:TagResource"} {
			s.refuses(t, who, attempt{action, s.arn("eks", s.Region, "cluster/customer"),
				[]string{"aws:RequestTag/union:managed-by", "biplane", "aws:ResourceTag/union:managed-by", "biplane", "eks:principalArn", s.role("/union/x")}})
		}
		s.refuses(t, who, attempt{"eks:UpdateClusterConfig", s.arn("eks", s.Region, "cluster/union-not-ours"), nil})
		s.refuses(t, who, attempt{"eks:DeleteNodegroup", s.arn("eks", s.Region, "nodegroup/customer/x/1"), []string{"aws:ResourceTag/union:managed-by", "biplane"}})
		// Nor can somebody else be let into ours.
		s.refuses(t, who, attempt{"eks:CreateAccessEntry", s.arn("eks", s.Region, "cluster/union-acme"),
			[]string{"aws:RequestTag/union:managed-by", "biplane", "eks:principalArn", "arn:aws:iam::" + stranger + ":role/x"}})
	})
}

// G9: delete or re-route a network of the customer's.
func TestG9NetworksOfTheCustomerCannotBeChanged(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for action, resource := range map[string]string{
			"ec2:DeleteVpc": "vpc/vpc-0c1", "ec2:DeleteSubnet": "subnet/subnet-0c1", "ec2:CreateRoute": "route-table/rtb-0c1", "ec2:ReplaceRoute": "route-table/rtb-0c1",
			"ec2:DeleteRoute": "route-table/rtb-0c1", "ec2:DeleteSecurityGroup": "security-group/sg-0c1", "ec2:AuthorizeSecurityGroupIngress": "security-group/sg-0c1",
			"ec2:DeleteFlowLogs": "vpc-flow-log/fl-0c1", "ec2:DeleteVpcEndpoints": "vpc-endpoint/vpce-0c1", "ec2:ModifyVpcAttribute": "vpc/vpc-0c1",
			"ec2:DeleteNatGateway": "natgateway/nat-0c1", "ec2:ReleaseAddress": "elastic-ip/eipalloc-0c1", "ec2:CreateSubnet": "vpc/vpc-0c1",
			"ec2:TerminateInstances": "instance/i-0c1", "ec2:DeleteVolume": "volume/vol-0c1", "ec2:DeleteNetworkInterface": "network-interface/eni-0c1",
		} {
			s.refuses(t, who, attempt{action, s.ec2(resource), nil})
			s.refuses(t, who, attempt{action, s.ec2(resource), []string{"aws:ResourceTag/team", "data", "aws:RequestTag/union:managed-by", "biplane"}})
		}
	})
}

// G10: tag a thing of the customer's as ours, then manage it.
func TestG10NothingCanBeMadeOursByATag(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		vpc := s.ec2("vpc/vpc-0c1")
		for _, a := range []attempt{
			{"ec2:CreateTags", vpc, nil},
			{"ec2:CreateTags", vpc, []string{"aws:TagKeys", "union:managed-by", "aws:RequestTag/union:managed-by", "biplane"}},
			{"ec2:CreateTags", vpc, []string{"aws:TagKeys", "Name"}},
			{"ec2:CreateTags", vpc, []string{"aws:TagKeys", "union:managed-by", "aws:ResourceTag/union:managed-by", "biplane"}},
			{"ec2:DeleteTags", vpc, []string{"aws:TagKeys", "union:managed-by", "aws:ResourceTag/union:managed-by", "biplane"}},
			{"ec2:DeleteTags", vpc, []string{"aws:ResourceTag/union:managed-by", "biplane"}}, // no tag named: all of them
			{"ec2:CreateVpc", vpc, nil},
			{"ec2:CreateVpc", vpc, []string{"aws:RequestTag/union:managed-by", "somebody"}},
		} {
			s.refuses(t, who, a)
		}
	})
}

// G11: open a shell on a machine or a task of the customer's.
func TestG11NoShellButOnThePrivateEndpointsTasks(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, resource := range []string{
			s.ec2("instance/i-0c1"), s.arn("ssm", s.Region, "managed-instance/mi-1"), s.arn("ecs", s.Region, "task/customer/abc"),
		} {
			s.refuses(t, who, attempt{"ssm:StartSession", resource, nil})
			s.refuses(t, who, attempt{"ssm:SendCommand", resource, nil})
			s.refuses(t, who, attempt{"ecs:ExecuteCommand", resource, nil})
		}
		if who != operations.BreakGlass {
			s.refuses(t, who, attempt{"ssm:StartSession", s.arn("ecs", s.Region, "task/unionai-access-acme/abc"), nil})
			s.refuses(t, who, attempt{"ecs:ExecuteCommand", s.arn("ecs", s.Region, "task/unionai-access-acme/abc"), nil})
		}
	})
}

// G12: change how the account encrypts every volume.
func TestG12SettingsOfTheAccountStay(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, action := range []string{"ec2:EnableEbsEncryptionByDefault", "ec2:DisableEbsEncryptionByDefault", "ec2:ModifyEbsDefaultKmsKeyId", "ec2:ResetEbsDefaultKmsKeyId", "ecr:PutReplicationConfiguration", "ecr:PutRegistryPolicy", "s3:PutAccountPublicAccessBlock"} {
			s.refuses(t, who, attempt{action, "*", nil})
		}
	})
}

// G13: delete images in another region, or read what is in them.
func TestG13ImagesOfOtherRegionsStay(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for _, action := range []string{"ecr:BatchDeleteImage", "ecr:DeleteRepository", "ecr:SetRepositoryPolicy", "ecr:TagResource"} {
			s.refuses(t, who, attempt{action, s.arn("ecr", "sa-east-1", "repository/union/acme"), []string{"aws:RequestTag/union:managed-by", "biplane"}})
			s.refuses(t, who, attempt{action, s.arn("ecr", s.Region, "repository/customer"), []string{"aws:RequestTag/union:managed-by", "biplane"}})
		}
		for _, action := range []string{"ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:PutImage", "ecr:SetRepositoryPolicy"} {
			s.refuses(t, who, attempt{action, s.arn("ecr", s.Region, "repository/union/acme"), nil})
		}
	})
}

// What else is the customer's data, by an explicit deny.
func TestOtherDataIsTheCustomers(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		for action, resource := range map[string]string{
			"secretsmanager:GetSecretValue": s.arn("secretsmanager", s.Region, "secret:x"),
			"ssm:GetParameter":              s.arn("ssm", s.Region, "parameter/customer"),
			"ssm:GetParametersByPath":       s.arn("ssm", s.Region, "parameter/customer"),
			"dynamodb:GetItem":              s.arn("dynamodb", s.Region, "table/opta-x"),
			"dynamodb:Scan":                 s.arn("dynamodb", s.Region, "table/opta-x"),
			"logs:GetLogEvents":             s.arn("logs", s.Region, "log-group:/customer:log-stream:x"),
			"logs:FilterLogEvents":          s.arn("logs", s.Region, "log-group:union-acme-workflows"),
			"ec2:GetConsoleOutput":          s.ec2("instance/i-1"),
			"ec2:GetPasswordData":           s.ec2("instance/i-1"),
			"ebs:GetSnapshotBlock":          "arn:" + s.region.Partition + ":ec2:" + s.Region + "::snapshot/s-1",
			"kms:Decrypt":                   s.arn("kms", s.Region, "key/1-2"),
			"sqs:ReceiveMessage":            s.arn("sqs", s.Region, "Karpenter-union-acme"),
		} {
			if got := s.may(who, action, resource); got != iampolicy.ExplicitDeny {
				t.Errorf("%s: got %v, want explicitDeny", action, got)
			}
		}
	})
}

// The whole of a way that must stay open: a role with the boundary is made, given
// a listed policy, handed to EKS, and nothing of it needs more than the table says.
func TestARoleWithTheBoundaryCanBeMadeAndUsed(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		made := s.role("/union/union-acme-node")
		services := []string{"eks.amazonaws.com", "ec2.amazonaws.com"}
		if s.region.Partition == "aws-cn" {
			services = append(services, "ec2.amazonaws.com.cn")
		}
		calls := []attempt{
			{"iam:CreateRole", made, s.bounded()},
			{"iam:AttachRolePolicy", made, s.bounded("iam:PolicyARN", s.awsPolicy("AmazonEKSWorkerNodePolicy"))},
			{"iam:CreatePolicy", s.policy("/union/union-acme-x"), nil},
			{"iam:AttachRolePolicy", made, s.bounded("iam:PolicyARN", s.policy("/union/union-acme-x"))},
			{"iam:PutRolePolicy", made, s.bounded()},
		}
		for _, service := range services {
			calls = append(calls, attempt{"iam:PassRole", made, []string{"iam:PassedToService", service}})
		}
		for _, c := range calls {
			if got := s.may(operations.Provision, c.action, c.resource, c.context...); got != iampolicy.Allowed {
				t.Errorf("%s: %s on %s with %v: got %v, want allowed", region, c.action, c.resource, fmt.Sprint(c.context), got)
			}
		}
	}
}

// Disks: whatever a role made by the vendor is given, it makes no copy of a disk
// that is not the cluster's, and attaches none, because it could read it then.
func TestARoleWithTheBoundaryReachesNoDiskOfTheCustomer(t *testing.T) {
	t.Parallel()
	for _, region := range []string{"eu-central-1", "us-gov-west-1", "cn-northwest-1"} {
		s := newStrictSet(t, region)
		snapshot := "arn:" + s.region.Partition + ":ec2:" + s.Region + "::snapshot/snap-1"
		image := "arn:" + s.region.Partition + ":ec2:" + s.Region + "::image/ami-1"
		ofCluster := []string{"aws:ResourceTag/KubernetesCluster", "union-acme"}
		decide := s.capped(t)
		interfaceOfCluster := []string{"aws:ResourceTag/cluster.k8s.amazonaws.com/name", "union-acme"}
		for _, c := range []struct {
			attempt
			want iampolicy.Decision
		}{
			{attempt{"ec2:CreateSnapshot", s.ec2("volume/vol-1"), nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:CreateVolume", snapshot, nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:AttachVolume", s.ec2("volume/vol-1"), nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:DetachVolume", s.ec2("volume/vol-1"), nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:RunInstances", snapshot, nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:CreateFleet", snapshot, nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:CopySnapshot", snapshot, nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:DetachNetworkInterface", s.ec2("network-interface/eni-1"), nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:ModifyNetworkInterfaceAttribute", s.ec2("network-interface/eni-1"), nil}, iampolicy.ImplicitDeny},
			{attempt{"ec2:CreateTags", s.ec2("volume/vol-1"), []string{"aws:TagKeys", "KubernetesCluster"}}, iampolicy.ImplicitDeny},
			{attempt{"ec2:CreateTags", s.ec2("instance/i-1"), []string{"aws:TagKeys", "union:managed-by", "ec2:CreateAction", "RunInstances"}}, iampolicy.ExplicitDeny},

			{attempt{"ec2:CreateSnapshot", s.ec2("volume/vol-1"), ofCluster}, iampolicy.Allowed},
			{attempt{"ec2:CreateSnapshot", snapshot, nil}, iampolicy.Allowed}, // the one that is made
			{attempt{"ec2:CreateVolume", snapshot, ofCluster}, iampolicy.Allowed},
			{attempt{"ec2:CreateVolume", s.ec2("volume/vol-1"), nil}, iampolicy.Allowed},
			{attempt{"ec2:AttachVolume", s.ec2("volume/vol-1"), ofCluster}, iampolicy.Allowed},
			{attempt{"ec2:AttachVolume", s.ec2("instance/i-1"), nil}, iampolicy.Allowed},
			{attempt{"ec2:RunInstances", image, nil}, iampolicy.Allowed},
			{attempt{"ec2:RunInstances", s.ec2("instance/i-1"), nil}, iampolicy.Allowed},
			{attempt{"ec2:RunInstances", "arn:" + s.region.Partition + ":ec2:" + s.Region + ":999999999999:subnet/subnet-1", nil}, iampolicy.Allowed}, // shared by another account
			{attempt{"ec2:CreateTags", s.ec2("volume/vol-1"), []string{"aws:TagKeys", "KubernetesCluster", "ec2:CreateAction", "CreateVolume"}}, iampolicy.Allowed},
			{attempt{"ec2:AttachNetworkInterface", s.ec2("network-interface/eni-1"), interfaceOfCluster}, iampolicy.Allowed},
			{attempt{"ec2:ModifyNetworkInterfaceAttribute", s.ec2("network-interface/eni-1"), interfaceOfCluster}, iampolicy.Allowed},
			{attempt{"ec2:AssignPrivateIpAddresses", s.ec2("network-interface/eni-1"), nil}, iampolicy.Allowed},
		} {
			if got := decide(c.attempt); got != c.want {
				t.Errorf("%s: %s on %s with %v: got %v, want %v", region, c.action, c.resource, c.context, got, c.want)
			}
		}
	}
}

// Events: all that happens in an account passes its event bus. A rule of the data
// plane watches two services and tells the queue, and nobody else.
func TestEventsOfTheAccountGoNowhere(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		rule := s.arn("events", s.Region, "rule/Karpenter-union-acme-spot")
		for _, a := range []attempt{
			{"events:PutRule", rule, nil}, // a pattern that names no source is one for all
			{"events:PutRule", rule, []string{"events:source", "aws.secretsmanager"}},
			{"events:PutTargets", rule, []string{"events:TargetArn", s.arn("lambda", s.Region, "function:x")}},
			{"events:PutTargets", rule, []string{"events:TargetArn", "arn:" + s.region.Partition + ":events:" + s.Region + ":999999999999:event-bus/default"}},
			{"events:PutTargets", rule, []string{"events:TargetArn", "arn:" + s.region.Partition + ":sqs:" + s.Region + ":999999999999:Karpenter-union-acme"}},
		} {
			s.refuses(t, who, a)
		}
		if who != operations.Provision {
			return
		}
		for _, a := range []attempt{
			{"events:PutRule", rule, []string{"events:source", "aws.health"}},
			{"events:PutTargets", rule, []string{"events:TargetArn", s.arn("sqs", s.Region, "Karpenter-union-acme")}},
		} {
			if got := s.may(who, a.action, a.resource, a.context...); got != iampolicy.Allowed {
				t.Errorf("%s on %s with %v: got %v, want allowed", a.action, a.resource, a.context, got)
			}
		}
	})
}

// Identity providers and access entries of the customer's other clusters.
func TestWhatLetsWorkloadsIntoOtherClustersStays(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		provider := s.arn("iam", "", "oidc-provider/oidc.eks."+s.Region+"."+s.region.DNSSuffix+"/id/ABC")
		entry := s.arn("eks", s.Region, "access-entry/union-customers/role/123456789012/x/1-2")
		for _, a := range []attempt{
			{"iam:DeleteOpenIDConnectProvider", provider, nil},
			{"iam:UpdateOpenIDConnectProviderThumbprint", provider, nil},
			{"eks:CreateAccessEntry", s.arn("eks", s.Region, "cluster/union-customers"), []string{"aws:RequestTag/union:managed-by", "biplane", "eks:principalArn", s.role("/union/union-acme-x")}},
			{"eks:AssociateAccessPolicy", entry, nil}, {"eks:UpdateAccessEntry", entry, nil}, {"eks:DeleteAccessEntry", entry, nil},
			{"eks:CreatePodIdentityAssociation", s.arn("eks", s.Region, "cluster/union-customers"), []string{"aws:RequestTag/union:managed-by", "biplane"}},
		} {
			s.refuses(t, who, a)
		}
	})
}

// Buckets of other accounts whose names fit.
func TestBucketsOfOtherAccountsAreNotTouched(t *testing.T) {
	everywhere(t, func(t *testing.T, s *strictSet, who operations.Roles) {
		bucket := "arn:" + s.region.Partition + ":s3:::union-acme"
		for _, action := range []string{"s3:DeleteBucket", "s3:ListBucket", "s3:DeleteObject", "s3:PutBucketTagging", "s3:GetBucketLocation"} {
			if got := s.may(who, action, bucket, "aws:ResourceAccount", "999999999999"); got != iampolicy.ExplicitDeny {
				t.Errorf("%s: got %v, want explicitDeny", action, got)
			}
		}
	})
}
