package iampolicy

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// accessPath is one way in which a grant reaches further than it looks: to the
// whole account, or to things that have nothing to do with the grant's purpose.
type accessPath struct {
	code    string
	actions []string
	// reach says whether a Resource pattern goes too far; nil: every one does.
	reach func(pattern string) bool
	// keys are those whose conditions close the path.
	keys []pathKey
	// lead says what follows: "… can attach AdministratorAccess to any role".
	lead   string
	remedy string
}

// accessPaths is the table that lintPaths goes through.
func accessPaths() []accessPath {
	boundary := pathKey{name: "iam:permissionsboundary"}
	policy := pathKey{name: "iam:policyarn", tooWide: namesAdministrator}
	tag := pathKey{name: "aws:resourcetag/"}
	return []accessPath{
		// To the whole account.
		{"escalate-attach-role-policy", []string{"iam:AttachRolePolicy"}, nil, []pathKey{policy, boundary},
			"can attach AdministratorAccess to a role, its own included",
			"limit iam:PolicyARN to the policies that may be attached, and deny it on its own role"},
		{"escalate-put-role-policy", []string{"iam:PutRolePolicy"}, nil, []pathKey{boundary},
			"can write any permission into a role, its own included",
			"require iam:PermissionsBoundary, and deny it on its own role; or drop it and attach managed policies"},
		{"escalate-attach-user-policy", []string{"iam:AttachUserPolicy", "iam:AttachGroupPolicy"}, nil, []pathKey{policy, boundary},
			"can attach AdministratorAccess to a user or group", "limit iam:PolicyARN to the policies that may be attached"},
		{"escalate-put-user-policy", []string{"iam:PutUserPolicy", "iam:PutGroupPolicy"}, nil, []pathKey{boundary},
			"can write any permission into a user or group", "require iam:PermissionsBoundary, or drop it"},
		{"escalate-create-role", []string{"iam:CreateRole"}, nil, []pathKey{boundary},
			"can create a role that trusts anybody and has no boundary",
			"require iam:PermissionsBoundary, and a path of its own"},
		{"escalate-remove-boundary", []string{"iam:DeleteRolePermissionsBoundary", "iam:DeleteUserPermissionsBoundary"}, nil, nil,
			"can take the boundary off a role or user", "drop it, or deny it where a boundary is required"},
		{"escalate-change-boundary", []string{"iam:PutRolePermissionsBoundary", "iam:PutUserPermissionsBoundary"}, nil, []pathKey{boundary},
			"can put another boundary in place of the one required", "limit iam:PermissionsBoundary to the boundary wanted"},
		{"escalate-policy-version", []string{"iam:CreatePolicyVersion", "iam:SetDefaultPolicyVersion"}, names("policy/" + stranger), []pathKey{tag, {name: "iam:resourcetag/"}},
			"can rewrite every policy of the account, those attached to administrators too",
			"list policies by a path or prefix of their own"},
		{"escalate-update-trust", []string{"iam:UpdateAssumeRolePolicy"}, names("role/" + stranger), []pathKey{tag, {name: "iam:resourcetag/"}},
			"can let anybody assume any role of the account", "list roles by a path or prefix of their own"},
		{"escalate-identity-provider", []string{"iam:CreateOpenIDConnectProvider", "iam:AddClientIDToOpenIDConnectProvider", "iam:UpdateOpenIDConnectProviderThumbprint", "iam:CreateSAMLProvider", "iam:UpdateSAMLProvider"},
			names("oidc-provider/"+stranger, "saml-provider/"+stranger), nil,
			"can add an identity provider of anybody's, a way back in that outlasts the grant",
			"limit the ARN to the issuers wanted, such as oidc-provider/oidc.eks.*"},
		{"escalate-add-user-to-group", []string{"iam:AddUserToGroup"}, names("group/" + stranger), nil,
			"can put a user into the administrators' group", "list the groups wanted"},
		{"escalate-access-key", []string{"iam:CreateAccessKey"}, names("user/" + stranger), nil,
			"can make an access key for any user", "list users by a path of their own, or user/${aws:username}"},
		{"escalate-login-profile", []string{"iam:CreateLoginProfile", "iam:UpdateLoginProfile"}, names("user/" + stranger), nil,
			"can set any user's console password", "list users by a path of their own, or user/${aws:username}"},
		{"escalate-lambda-code", []string{"lambda:UpdateFunctionCode", "lambda:UpdateFunctionConfiguration"}, names("function:" + stranger), []pathKey{tag},
			"can run its own code as any function's role", "list functions by name or prefix"},
		{"escalate-assume-role", []string{"sts:AssumeRole"}, names("role/" + stranger), []pathKey{tag, {name: "iam:resourcetag/"}},
			"can become every role that trusts the account", "list the roles wanted"},

		// To things that are none of its business.
		{"kms-any-key", []string{"kms:PutKeyPolicy", "kms:CreateGrant", "kms:ScheduleKeyDeletion", "kms:DisableKey", "kms:DeleteImportedKeyMaterial"},
			names("key/01234567-89ab-cdef-0123-456789abcdef"),
			[]pathKey{tag, {name: "kms:resourcealiases"}, {name: "kms:grantisforawsresource"}, {name: "kms:viaservice"}, {name: "kms:requestalias"}},
			"can take over or destroy every KMS key of the region", "limit it by aws:ResourceTag or kms:ResourceAliases"},
		{"bucket-by-prefix", []string{"s3:GetObject", "s3:PutObject", "s3:DeleteObject"}, anyBucket, []pathKey{tag, {name: "s3:buckettag/"}},
			"reaches the objects of every bucket with such a name, those of others included",
			"put the account's number or another unique part into the bucket's name, or deny access to objects"},
		{"eks-any-cluster", []string{
			"eks:UpdateClusterConfig", "eks:UpdateClusterVersion", "eks:DeleteCluster", "eks:DeleteNodegroup",
			"eks:CreateAccessEntry", "eks:AssociateAccessPolicy"},
			names("cluster/"+stranger, "nodegroup/"+stranger+"/a/b", "access-entry/"+stranger+"/role/123456789012/a/b"), []pathKey{tag},
			"can open, change or empty every EKS cluster of the account", "list clusters by name or prefix"},
		{"network-any", []string{
			"ec2:DeleteVpc", "ec2:ModifyVpcAttribute", "ec2:DeleteSubnet", "ec2:ModifySubnetAttribute", "ec2:DeleteRouteTable",
			"ec2:CreateRoute", "ec2:ReplaceRoute", "ec2:DeleteRoute", "ec2:AssociateRouteTable", "ec2:DisassociateRouteTable", "ec2:ReplaceRouteTableAssociation",
			"ec2:AuthorizeSecurityGroupIngress", "ec2:AuthorizeSecurityGroupEgress", "ec2:RevokeSecurityGroupIngress", "ec2:RevokeSecurityGroupEgress", "ec2:DeleteSecurityGroup",
			"ec2:DetachInternetGateway", "ec2:DeleteInternetGateway", "ec2:DeleteNatGateway", "ec2:DeleteFlowLogs",
			"ec2:ModifyVpcEndpoint", "ec2:DeleteVpcEndpoints", "ec2:ReleaseAddress", "ec2:DisassociateAddress"},
			names("vpc/vpc-0123456789abcdef0", "subnet/subnet-0123456789abcdef0", "route-table/rtb-0123456789abcdef0",
				"security-group/sg-0123456789abcdef0", "internet-gateway/igw-0123456789abcdef0", "natgateway/nat-0123456789abcdef0",
				"vpc-flow-log/fl-0123456789abcdef0", "vpc-endpoint/vpce-0123456789abcdef0", "elastic-ip/eipalloc-0123456789abcdef0"),
			[]pathKey{tag, {name: "ec2:resourcetag/"}, {name: "ec2:vpc"}, {name: "ec2:vpcid"}},
			"can delete or reroute every network of the account", "limit it by aws:ResourceTag, or by ec2:Vpc"},
		{"retag-any", []string{"ec2:CreateTags", "ec2:DeleteTags"}, names("instance/i-0123456789abcdef0"),
			[]pathKey{{name: "ec2:createaction"}, tag, {name: "ec2:resourcetag/"}, {name: "aws:tagkeys", always: "ec2:CreateTags"}},
			"can put any tag on anything, which defeats every rule that goes by tags",
			"allow it at creation only, by ec2:CreateAction, or only on what is tagged already"},
		{"shell-any-host", []string{"ssm:StartSession", "ssm:SendCommand", "ssm:ResumeSession", "ecs:ExecuteCommand", "ec2-instance-connect:SendSSHPublicKey"},
			names("instance/i-0123456789abcdef0", "managed-instance/mi-0123456789abcdef0", "task/"+stranger+"/0123456789abcdef0123456789abcdef"),
			[]pathKey{tag, {name: "ssm:resourcetag/"}, {name: "ec2:resourcetag/"}, {name: "ecs:resourcetag/"}, {name: "ecs:cluster"}},
			"can open a shell on every host that the service manages", "list the targets, or limit them by aws:ResourceTag"},
		{"ebs-encryption-default", []string{"ec2:DisableEbsEncryptionByDefault", "ec2:ModifyEbsDefaultKmsKeyId", "ec2:ResetEbsDefaultKmsKeyId"}, nil, nil,
			"can turn off or redirect the encryption of every new volume in the region", "drop it, and encrypt each volume"},
		{"ecr-delete-any-region", []string{"ecr:BatchDeleteImage", "ecr:DeleteRepository"}, anyRegion, []pathKey{{name: "aws:requestedregion"}, tag},
			"can delete images in every region", "name the region in the ARN"},
	}
}

// stranger is a name that only a wildcard matches.
const stranger = "~other~"

// lintPaths reports each path once for a statement that opens it.
func (l *linter) lintPaths() {
	paths := accessPaths()
	l.each(Allow, func(i int, s *Statement) {
		for _, path := range paths {
			actions, resource, at := l.open(i, s, path)
			if len(actions) > 0 {
				l.report(path.code, i, at, some(actions)+" on "+resource+": it "+path.lead, path.remedy)
			}
		}
		l.lintPassRole(i, s)
	})
}

// open returns the actions of the path that a statement allows without a
// condition that closes it, a resource that shows it, and the place of the first
// action.
func (l *linter) open(i int, s *Statement, path accessPath) (actions []string, resource, at string) {
	resources := s.Resource
	if s.NotResource != nil {
		resources = []string{"*"} // near enough: it allows nearly everything
	}
	for _, name := range path.actions {
		action, ok := l.reference.Action(name)
		if !ok {
			continue // a reference of another day
		}
		if slices.ContainsFunc(s.Condition, func(c Condition) bool {
			return slices.ContainsFunc(path.keys, func(k pathKey) bool { return k.limitsAllow(&c, name) })
		}) {
			continue
		}
		entry, ok := l.actionEntry(i, s, name)
		if !ok {
			continue
		}
		for _, pattern := range resources {
			if l.canMatch(action, pattern) == sar.Never || path.reach != nil && !path.reach(pattern) {
				continue
			}
			if l.denied(action, deniable(action, pattern), path.keys...) {
				continue
			}
			if len(actions) == 0 {
				resource, at = pattern, entry
			}
			actions = append(actions, name)
			break
		}
	}
	return actions, resource, at
}

// actionEntry is the place where a statement allows an action: an entry of
// Action, or NotAction where that leaves it in. "*" has its own finding.
func (l *linter) actionEntry(i int, s *Statement, name string) (path string, ok bool) {
	matches := func(pattern string) bool { return MatchAction(pattern, name) }
	if s.NotAction != nil {
		return fmt.Sprintf("Statement[%d].NotAction", i), !slices.ContainsFunc(s.NotAction, matches)
	}
	n := slices.IndexFunc(s.Action, func(pattern string) bool { return !isEveryAction(pattern) && matches(pattern) })
	if n < 0 {
		return "", false
	}
	return l.entry(i, "Action", n), true
}

// deniable is the part of a pattern that matters to an action. On objects that
// is what has a slash, so a Deny on bucket/* takes back a grant on bucket*.
func deniable(action *sar.Action, pattern string) string {
	arn, ok := ParseARN(pattern)
	if !ok || action.Service != "s3" || strings.Contains(arn.Resource, "/") || !strings.HasSuffix(action.Name, "Object") {
		return pattern
	}
	arn.Resource += "/*"
	return arn.String()
}

// runsAsRole are the actions that start something with the role that is passed.
func runsAsRole() []string {
	return []string{
		"ec2:RunInstances", "autoscaling:CreateAutoScalingGroup", "autoscaling:CreateLaunchConfiguration", "eks:CreateNodegroup", "eks:CreateCluster", "eks:CreatePodIdentityAssociation",
		"ecs:RegisterTaskDefinition", "ecs:RunTask", "ecs:StartTask", "ecs:CreateService", "lambda:CreateFunction", "lambda:UpdateFunctionConfiguration",
		"cloudformation:CreateStack", "cloudformation:UpdateStack", "cloudformation:CreateChangeSet", "batch:RegisterJobDefinition", "states:CreateStateMachine",
		"glue:CreateJob", "glue:UpdateJob", "glue:CreateDevEndpoint", "sagemaker:CreateNotebookInstance", "sagemaker:CreateTrainingJob", "sagemaker:CreateProcessingJob",
		"codebuild:CreateProject", "codebuild:UpdateProject", "codepipeline:CreatePipeline", "ssm:StartAutomationExecution", "datapipeline:CreatePipeline",
		"datapipeline:PutPipelineDefinition", "elasticmapreduce:RunJobFlow", "emr-serverless:StartJobRun", "apprunner:CreateService", "scheduler:CreateSchedule", "bedrock-agentcore:CreateAgentRuntime",
	}
}

// lintPassRole finds roles that may be handed to any service. One role named in
// full is the author's choice; a pattern is not.
func (l *linter) lintPassRole(i int, s *Statement) {
	path := accessPath{
		actions: []string{"iam:PassRole"},
		reach:   func(pattern string) bool { return strings.ContainsAny(pattern, "*?") },
		keys:    []pathKey{{name: "iam:passedtoservice", tooWide: anyService}, {name: "iam:associatedresourcearn"}},
	}
	actions, resource, at := l.open(i, s, path)
	if len(actions) == 0 {
		return
	}
	var with []string
	for _, name := range runsAsRole() {
		action, ok := l.reference.Action(name)
		if !ok {
			continue
		}
		l.each(Allow, func(_ int, other *Statement) {
			if !slices.Contains(with, name) && other.allowsAction(action) && !slices.ContainsFunc(other.Action, isEveryAction) &&
				slices.ContainsFunc(other.Resource, func(r string) bool { return l.canMatch(action, r) != sar.Never && !l.denied(action, r) }) {
				with = append(with, name)
			}
		})
	}
	lead := "it can hand such a role to any service, and together with a grant to start something there, run code as it"
	if len(with) > 0 {
		lead = "with " + some(with) + " of the same document it can run code as every such role"
	}
	l.report("escalate-pass-role", i, at, "iam:PassRole on "+resource+" to any service: "+lead,
		"limit iam:PassedToService to the services wanted, and the ARN to roles made for them")
}

// names is the reach of patterns that match some thing of no particular name. A
// pattern without a wildcard names one thing, even where it is the one below.
func names(strangers ...string) func(string) bool {
	return func(pattern string) bool {
		if isAny(pattern) {
			return true
		}
		fields, count := splitFields(pattern, arnFields, true)
		if count < arnFields {
			return strings.HasSuffix(pattern, "*")
		}
		if !strings.ContainsAny(fields[arnFields-1], "*?") {
			return false
		}
		return slices.ContainsFunc(strangers, func(name string) bool { return globMatch(fields[arnFields-1], name, false) })
	}
}

// unique finds an account's number in a name.
var unique = regexp.MustCompile(`[0-9]{12}`)

// anyBucket is the reach of patterns whose bucket is known by a common prefix only.
func anyBucket(pattern string) bool {
	if isAny(pattern) {
		return true
	}
	arn, ok := ParseARN(pattern)
	if !ok {
		return strings.HasSuffix(pattern, "*")
	}
	bucket, _, _ := strings.Cut(arn.Resource, "/")
	wild := strings.ContainsAny(dollar.ReplaceAllString(bucket, ""), "*?")
	return wild && !unique.MatchString(bucket) && len(placeholders(bucket)) == 0 && len(variables(bucket)) == 0
}

// anyRegion is the reach of patterns that leave the region open.
func anyRegion(pattern string) bool {
	if isAny(pattern) {
		return true
	}
	arn, ok := ParseARN(pattern)
	return !ok || strings.ContainsAny(dollar.ReplaceAllString(arn.Region, ""), "*?")
}

// pathKey is a condition key that closes a path. A name that ends in / is a
// family of keys, one for each tag.
type pathKey struct {
	name    string                    // in lower case
	tooWide func(pattern string) bool // nil: a value that matches everything
	always  string                    // the action whose requests always have the key, so that ForAllValues will do
}

func (k pathKey) is(key string) bool {
	key = strings.ToLower(key)
	return key == k.name || strings.HasSuffix(k.name, "/") && strings.HasPrefix(key, k.name)
}

// limitsAllow is whether the condition, in an Allow of the action, demands the
// key and limits it.
func (k pathKey) limitsAllow(c *Condition, action string) bool {
	set, bare, ifExists := cutOperator(c.Operator)
	compare, negated, ok := baseOperator(bare)
	if !k.is(c.Key) || !ok || negated || ifExists || compare == null || set == allValuesPrefix && k.always != action {
		return false
	}
	return !k.wide(c, compare)
}

// limitsDeny is whether the condition, in a Deny, spares only requests whose
// key has one of some values: "deny where it is not X", absent included.
func (k pathKey) limitsDeny(c *Condition) bool {
	set, bare, _ := cutOperator(c.Operator)
	compare, negated, ok := baseOperator(bare)
	if !k.is(c.Key) || !ok || !negated || set != "" {
		return false
	}
	return !k.wide(c, compare)
}

func (k pathKey) wide(c *Condition, compare comparison) bool {
	return slices.ContainsFunc(c.Values, func(value string) bool {
		if compare == stringEquals || compare == stringEqualsIgnoreCase {
			value = strings.NewReplacer("*", "x", "?", "x").Replace(value) // no wildcards there
		}
		if k.tooWide != nil {
			return k.tooWide(value)
		}
		if compare == ipAddress {
			prefix, ok := parsePrefix(value)
			return ok && prefix.Bits() == 0
		}
		return isAny(value)
	})
}

// namesAdministrator is whether a pattern of policy ARNs lets in one of AWS's
// policies that give the account away.
func namesAdministrator(pattern string) bool {
	if isAny(pattern) {
		return true
	}
	arn, ok := ParseARN(pattern)
	return !ok && strings.Contains(pattern, "*") || ok && globMatch(arn.Account, "aws", false) &&
		slices.ContainsFunc([]string{"policy/AdministratorAccess", "policy/IAMFullAccess", "policy/PowerUserAccess"},
			func(name string) bool { return globMatch(arn.Resource, name, false) })
}

func anyService(pattern string) bool {
	return globMatch(pattern, "other.amazonaws.com", false)
}
