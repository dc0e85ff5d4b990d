package iampolicy

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// doc is an identity document of the statements given.
func lintDoc(statements ...string) string {
	return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
}

// allow is a statement; more is put before its closing brace.
func lintAllow(action, resource string, more ...string) string {
	return lintStatement("Allow", action, resource, more...)
}
func lintDeny(action, resource string, more ...string) string {
	return lintStatement("Deny", action, resource, more...)
}

func lintStatement(effect, action, resource string, more ...string) string {
	return fmt.Sprintf(`{"Effect":%q,"Action":%s,"Resource":%s%s}`, effect, lintList(action), lintList(resource), strings.Join(more, ""))
}

func lintList(spaced string) string {
	text, err := json.Marshal(strings.Fields(spaced))
	if err != nil {
		panic(err)
	}
	return string(text)
}

func lintWhen(operator, key, value string) string {
	return fmt.Sprintf(`,"Condition":{%q:{%q:%s}}`, operator, key, lintList(value))
}

func lintTrusting(principal string, more ...string) string {
	return fmt.Sprintf(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":%s,"Action":"sts:AssumeRole"%s}}`, principal, strings.Join(more, ""))
}

func lintFederated(conditions string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Federated":"arn:aws:iam::123456789012:oidc-provider/oidc.eks.eu-west-1.amazonaws.com/id/ABC"},
		"Action":"sts:AssumeRoleWithWebIdentity","Condition":` + conditions + `}}`
}

func lintBucket(principal, more string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":` + principal + `,"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"` + more + `}}`
}

// allowNot is a document of one Allow with the elements given.
func allowNot(elements string) string {
	return `{"Version":"2012-10-17","Statement":{"Effect":"Allow",` + elements + `}}`
}

// twins is a resource policy of two statements about two buckets.
func twins(first, second string) string {
	statement := func(sid, bucket string) string {
		return `{"Sid":"` + sid + `","Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":["s3:GetObject","s3:PutObject"],"Resource":"arn:aws:s3:::` + bucket + `/*"}`
	}
	return `{"Version":"2012-10-17","Statement":[` + statement("x", first) + `,` + statement("y", second) + `]}`
}

const (
	role      = "arn:aws:iam::123456789012:role/"
	policyARN = "arn:aws:iam::123456789012:policy/"
	issuer    = "oidc.eks.eu-west-1.amazonaws.com/id/ABC"
	audience  = `"` + issuer + `:aud":"sts.amazonaws.com"`
	vendor    = `{"AWS":"arn:aws:iam::479331373192:root"}`
	oldDoc    = `{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"ec2:DescribeVpcs","Resource":"*"}}`
)

// For each code a document that has it, and a near one that has no finding of
// that code. The near one is what its author should have written.
func lintCases() map[string][]lintCase {
	unversioned := strings.Replace(lintDoc(lintAllow("ec2:DescribeVpcs", "*")), `"Version":"2012-10-17",`, "", 1)
	good := lintDoc(lintAllow("ec2:DescribeVpcs", "*"))
	wide := func(n int) string {
		var arns []string
		for i := range n {
			arns = append(arns, fmt.Sprintf("arn:aws:sqs:eu-west-1:123456789012:queue-%04d", i))
		}
		return lintDoc(lintAllow("sqs:SendMessage", strings.Join(arns, " ")))
	}
	many := func(n int) string {
		var arns []string
		for i := range n {
			arns = append(arns, fmt.Sprintf("%q", fmt.Sprintf("arn:aws:iam::%012d:root", i)))
		}
		return lintTrusting(`{"AWS":[`+strings.Join(arns, ",")+`]}`, lintWhen("StringEquals", "sts:ExternalId", "x1"))
	}
	path := func(action, wide, narrow string) []lintCase {
		return []lintCase{{lintDoc(lintAllow(action, wide)), lintDoc(lintAllow(action, narrow))}, {lintDoc(lintAllow(action, "*")), lintDoc(lintAllow(action, wide), lintDeny(action, "*"))}}
	}
	byCondition := func(action, resource, operator, key, value string) lintCase {
		return lintCase{lintDoc(lintAllow(action, resource, lintWhen(operator+"IfExists", key, value))), lintDoc(lintAllow(action, resource, lintWhen(operator, key, value)))}
	}
	boundary := policyARN + "union/boundary"
	return map[string][]lintCase{
		duplicateKey:       {{`{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}`, good}},
		duplicateSid:       {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", `,"Sid":"a"`), lintAllow("ec2:DescribeSubnets", "*", `,"Sid":"a"`)), lintDoc(lintAllow("ec2:DescribeVpcs", "*", `,"Sid":"a"`), lintAllow("ec2:DescribeSubnets", "*", `,"Sid":"b"`))}},
		unknownElement:     {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", `,"Comment":"x"`)), good}},
		wrongCase:          {{strings.Replace(good, `"Action"`, `"action"`, 1), good}, {strings.Replace(good, `Allow`, `allow`, 1), good}},
		badType:            {{strings.Replace(good, `["*"]`, `7`, 1), good}},
		missingElement:     {{`{"Version":"2012-10-17"}`, good}, {`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:DescribeVpcs"}}`, good}},
		conflictingElement: {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", `,"NotAction":"s3:*"`)), good}},
		emptyList:          {{`{"Version":"2012-10-17","Statement":[]}`, good}},
		badVersion:         {{strings.Replace(good, "2012-10-17", "2012-10-18", 1), good}},
		badEffect:          {{strings.Replace(good, "Allow", "Permit", 1), good}},
		badSid:             {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", `,"Sid":"a b"`)), lintDoc(lintAllow("ec2:DescribeVpcs", "*", `,"Sid":"ab"`))}},
		badAction:          {{lintDoc(lintAllow("DescribeVpcs", "*")), good}},
		badARN:             {{lintDoc(lintAllow("s3:GetObject", "bucket/*")), lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::bucket/*"))}, {lintDoc(lintAllow("organizations:DescribeAccount", "arn:aws:organizations::123456789012:")), lintDoc(lintAllow("organizations:DescribeAccount", "arn:aws:organizations::*:"))}},
		badPrincipal:       {{lintTrusting(`{"AWS":"arn:aws:iam::*:role/x"}`, lintWhen("StringEquals", "sts:ExternalId", "x1")), lintTrusting(`{"AWS":"arn:aws:iam::479331373192:role/x"}`, lintWhen("StringEquals", "sts:ExternalId", "x1"))}},
		badOperator:        {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringIs", "aws:RequestedRegion", "x"))), lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "aws:RequestedRegion", "x")))}},
		badConditionKey:    {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "RequestedRegion", "x"))), good}},
		badConditionValue:  {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("Bool", "aws:SecureTransport", "yes"))), lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("Bool", "aws:SecureTransport", "true")))}},
		badText:            {{strings.Replace(good, `["*"]`, `["*","arn:aws:s3:::\ud800"]`, 1), good}},
		byteOrderMarkCode:  {{"\uFEFF" + good, good}},

		"resource-in-trust":       {{lintTrusting(`{"Service":"ec2.amazonaws.com"}`, `,"Resource":"*"`), lintTrusting(`{"Service":"ec2.amazonaws.com"}`)}},
		"action-in-trust":         {{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":["sts:AssumeRole","s3:GetObject"]}}`, lintBucket(`{"AWS":"123456789012"}`, "")}},
		"missing-principal":       {{`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"},{"Effect":"Allow","Action":"sts:TagSession","Resource":"*"}]}`, lintTrusting(`{"Service":"ec2.amazonaws.com"}`)}},
		"missing-version":         {{unversioned, good}},
		"old-version":             {{oldDoc, good}},
		"variable-in-old-version": {{strings.Replace(unversioned, `["*"]`, `["arn:aws:s3:::b/${aws:username}"]`, 1), lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::b/${aws:username}"))}},
		"unknown-variable":        {{lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::b/${aws:user}")), lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::b/${aws:username}/${*}"))}},
		"template": {
			{lintDoc(lintAllow("eks:DescribeCluster", "arn:aws:eks:${AWS::Region}:123456789012:cluster/a")), lintDoc(lintAllow("eks:DescribeCluster", "arn:aws:eks:eu-west-1:123456789012:cluster/${aws:PrincipalTag/cluster}"))},
			{lintDoc(lintAllow("eks:DescribeCluster", "arn:aws:eks:<REGION>:<<ACCOUNT>>:cluster/a")), good},
		},

		"size-any":     {{wide(700), wide(600)}},
		"size-inline":  {{wide(220), wide(100)}},
		"size-managed": {{wide(150), wide(100)}, {strings.ReplaceAll(wide(126), "eu-west-1", "<REGION>"), strings.ReplaceAll(wide(110), "eu-west-1", "<REGION>")}},
		"size-session": {{wide(60), wide(20)}},
		"size-trust":   {{many(80), many(20)}},

		"wildcard-service": {{lintDoc(lintAllow("ec*:DescribeVpcs", "*")), good}, {lintDoc(lintAllow("*:DescribeVpcs", "*")), good}},
		"unknown-service":  {{lintDoc(lintAllow("ec3:DescribeVpcs", "*")), good}, {lintDoc(lintDeny("sso-x:*", "*")), lintDoc(lintDeny("sso:*", "*"))}},
		"unknown-action":   {{lintDoc(lintAllow("ec2:DescribeVpc", "*")), good}, {lintDoc(lintAllow("ec2:Deskribe*", "*")), lintDoc(lintAllow("ec2:Describe*", "*"))}},
		"dead-grant": {
			{lintDoc(lintAllow("iam:UpdateAssumeRolePolicy", "arn:aws:iam::123456789012:instance-profile/*")), lintDoc(lintAllow("iam:UpdateAssumeRolePolicy", role+"union/*"))},
			{lintDoc(lintAllow("s3:ListBucket", "arn:aws:s3:::b/*")), lintDoc(lintAllow("s3:ListBucket", "arn:aws:s3:::b"))},
			{lintDoc(lintAllow("s3:Get*Object", "arn:aws:s3:::b")), lintDoc(lintAllow("s3:Get*Object", "arn:aws:s3:::b/*"))},
			{lintDoc(lintAllow("ec2:DescribeVpcs", "arn:aws:ec2:eu-west-1:123456789012:vpc/*")), good},
		},
		"dead-grant-covered": {{lintDoc(lintAllow("ec2:DescribeVpcs", "arn:aws:ec2:eu-west-1:123456789012:vpc/*"), lintAllow("ec2:Describe*", "*")), good}},
		"dead-grant-live":    {{lintDoc(lintAllow("logs:DescribeLogGroups", "arn:aws:logs:eu-west-1:123456789012:log-group::log-stream:")), lintDoc(lintAllow("ssm:GetParameter", "arn:aws:ssm:eu-west-1::parameter/aws/service/eks/*"))}, {lintDoc(lintAllow("acm:RequestCertificate", "arn:aws:acm:eu-west-1:123456789012:certificate/*")), lintDoc(lintAllow("acm:RequestCertificate", "*"))}},
		"dead-deny":          {{lintDoc(lintDeny("s3:DeleteBucket", "arn:aws:s3:::b/*")), lintDoc(lintDeny("s3:DeleteBucket", "arn:aws:s3:::b"))}},
		"dead-resource":      {{lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::b/* arn:aws:s3:::b")), lintDoc(lintAllow("s3:GetObject s3:ListBucket", "arn:aws:s3:::b/* arn:aws:s3:::b"))}},
		"incomplete-grant": {
			{lintDoc(lintAllow("ec2:CreateSubnet", "arn:aws:ec2:eu-west-1:123456789012:subnet/*")), lintDoc(lintAllow("ec2:CreateSubnet", "arn:aws:ec2:eu-west-1:123456789012:subnet/*"), lintAllow("ec2:Create*", "arn:aws:ec2:eu-west-1:123456789012:vpc/*"))},
			{lintDoc(lintAllow("ecs:DescribeServiceRevisions", "arn:aws:ecs:eu-west-1:123456789012:service/a/b")), lintDoc(lintAllow("elasticloadbalancing:DeleteListener", "arn:aws:elasticloadbalancing:eu-west-1:123456789012:listener/net/a/b/c"))},
			{lintDoc(lintAllow("kms:CreateAlias", "arn:aws:kms:eu-west-1:123456789012:alias/a")), lintDoc(lintAllow("bedrock:InvokeModel", "arn:aws:bedrock:eu-west-1::foundation-model/m"))},
			{lintDoc(lintAllow("ec2:CreateNatGateway", "arn:aws:ec2:eu-west-1:123456789012:natgateway/*")), lintDoc(lintAllow("ssm:StartSession", "arn:aws:ec2:eu-west-1:123456789012:instance/i-1"))},
		},

		"redundant-grant": {
			{lintDoc(lintAllow("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:a"), lintAllow("sqs:Send*", "arn:aws:sqs:eu-west-1:123456789012:*")), lintDoc(lintAllow("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:a"), lintAllow("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:b"))},
			{lintDoc(lintDeny("s3:DeleteBucket", "*"), lintDeny("s3:Delete*", "*")), lintDoc(lintDeny("s3:DeleteBucket", "*"), lintDeny("s3:Delete*", "*", lintWhen("Bool", "aws:SecureTransport", "false")))},
			{`{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotAction":["iam:*","iam:GetRole"],"Resource":"*"}}`, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotAction":["iam:*","sts:*"],"Resource":"*"}}`},
			{lintDoc(lintAllow("sqs:SendMessage sqs:sendmessage", "arn:aws:sqs:eu-west-1:123456789012:a")), lintDoc(lintAllow("sqs:SendMessage sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1:123456789012:a"))},
			{lintDoc(lintAllow("sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1:123456789012:a", lintWhen("StringEquals", "aws:ResourceTag/a", "b")), lintAllow("sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1:123456789012:a")),
				lintDoc(lintAllow("sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1:123456789012:a", lintWhen("StringEquals", "aws:ResourceTag/a", "b")), lintAllow("sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1:123456789012:*", lintWhen("StringEquals", "aws:ResourceTag/a", "c")))},
		},
		"redundant-resource": {{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"s3:GetObject","Resource":["arn:aws:s3:::b/*","arn:aws:s3:::b/a"]}}`, lintBucket(`{"AWS":"123456789012"}`, "")}, {lintDoc(lintAllow("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:a* arn:aws:sqs:eu-west-1:123456789012:ab")), lintDoc(lintAllow("sqs:SendMessage", "arn:aws:sqs:eu-west-1:123456789012:a* arn:aws:sqs:eu-west-1:123456789012:b"))}},
		"redundant-statement": {
			{lintDoc(lintDeny("sqs:SendMessage sqs:GetQueueUrl", "*"), lintDeny("sqs:GetQueueUrl sqs:SendMessage", "*")), lintDoc(lintDeny("sqs:SendMessage", "*"), lintDeny("sqs:GetQueueUrl", "*"))},
			{twins("a", "a"), twins("a", "b")}, {lintDoc(lintAllow("sqs:SendMessage sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1:123456789012:a"), lintAllow("sqs:*", "arn:aws:sqs:eu-west-1:123456789012:a*")), lintDoc(lintAllow("sqs:SendMessage sqs:GetQueueUrl", "arn:aws:sqs:eu-west-1:123456789012:a"), lintAllow("sqs:*", "arn:aws:sqs:eu-west-1:123456789012:b"))}},

		"all-actions":         {{lintDoc(lintAllow("*", "*")), good}, {lintDoc(lintAllow("*:*", "*")), lintDoc(lintDeny("*", "*", lintWhen("Bool", "aws:SecureTransport", "false")))}},
		"allow-not-action":    {{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}}`, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotAction":"iam:*","Resource":"*"}}`}},
		"allow-not-resource":  {{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"s3:GetObject","NotResource":"arn:aws:s3:::b/*"}}`, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"s3:GetObject","NotResource":"arn:aws:s3:::b/*"}}`}},
		"allow-not-principal": {{`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotPrincipal":{"AWS":"123456789012"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}}`, `{"Version":"2012-10-17","Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"123456789012"},"Action":"s3:GetObject","Resource":"arn:aws:s3:::b/*"}}`}},
		"unconditioned-write": {
			{lintDoc(lintAllow("sqs:DeleteQueue", "*")), lintDoc(lintAllow("sqs:DeleteQueue", "arn:aws:sqs:eu-west-1:123456789012:*"))},
			{lintDoc(lintAllow("sqs:*", "*")), lintDoc(lintAllow("sqs:ListQueues sqs:GetQueueUrl", "*"))},
			{lintDoc(lintAllow("sqs:DeleteQueue", "*")), lintDoc(lintAllow("sqs:DeleteQueue", "*", lintWhen("StringEquals", "aws:ResourceTag/a", "b")))},
			{lintDoc(lintAllow("sqs:DeleteQueue", "arn:aws:sqs:*:*:*")), lintDoc(lintAllow("sqs:DeleteQueue", "arn:aws:sqs:*:*:a*"))},
			{lintDoc(lintAllow("s3:PutObject", "arn:aws:s3:::*/*")), lintDoc(lintAllow("s3:PutObject", "arn:aws:s3:::b/*"))},
			{allowNot(`"NotAction":"iam:*","Resource":"*"`), allowNot(`"NotAction":"iam:*","Resource":"*","Condition":{"StringEquals":{"aws:RequestedRegion":"eu-west-1"}}`)},
			{allowNot(`"Action":"sqs:DeleteQueue","NotResource":"arn:aws:sqs:eu-west-1:123456789012:a"`), allowNot(`"Action":"sqs:GetQueueUrl","NotResource":"arn:aws:sqs:eu-west-1:123456789012:a"`)},
			{lintDoc(lintAllow("sqs:DeleteQueue", "*")), lintDoc(lintAllow("ssmmessages:CreateControlChannel", "*"))}, // which AWS cannot limit
		},

		"unknown-condition-key":        {{lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "aws:RequestRegion", "x"))), lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "aws:requestedregion", "x")))}, {lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "ec2:Regoin", "x"))), lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "ec2:Region", "x")))}},
		"condition-key-never-there":    {{lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::b/*", lintWhen("StringEquals", "s3:delimiter", "/"))), lintDoc(lintAllow("aws-marketplace:Subscribe", "*", lintWhen("ForAnyValue:StringEquals", "aws-marketplace:ProductId", "p")))}, {lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::b/*", lintWhen("StringLike", "s3:prefix", "x/*"))), lintDoc(lintAllow("s3:ListBucket", "arn:aws:s3:::b", lintWhen("StringLike", "s3:prefix", "x/*")))}, {lintDoc(lintAllow("ec2:DeleteVpc", "arn:aws:ec2:eu-west-1:123456789012:vpc/*", lintWhen("StringEquals", "aws:RequestTag/a", "b"))), lintDoc(lintAllow("ec2:DeleteVpc", "arn:aws:ec2:eu-west-1:123456789012:vpc/*", lintWhen("StringEquals", "aws:ResourceTag/a", "b")))}},
		"condition-key-not-for-action": {{lintDoc(lintAllow("s3:ListBucket s3:GetObject", "arn:aws:s3:::b arn:aws:s3:::b/*", lintWhen("StringLike", "s3:prefix", "x/*"))), lintDoc(lintAllow("s3:ListBucket s3:GetObject", "arn:aws:s3:::b arn:aws:s3:::b/*", lintWhen("StringLikeIfExists", "s3:prefix", "x/*")))}},
		"operator-for-another-type": {
			{lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "aws:SourceIp", "203.0.113.0/24"))), lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("IpAddress", "aws:SourceIp", "203.0.113.0/24")))},
			{lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("NumericEquals", "aws:PrincipalAccount", "123456789012"))), lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringEquals", "aws:PrincipalAccount", "123456789012")))},
			{lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("StringLike", "aws:CurrentTime", "2026*"))), lintDoc(lintAllow("ec2:DescribeVpcs", "*", lintWhen("DateLessThan", "aws:CurrentTime", "2027-01-01T00:00:00Z")))},
		},
		"for-all-values": {
			{lintDoc(lintAllow("ec2:CreateVpc", "*", lintWhen("ForAllValues:StringEquals", "aws:TagKeys", "x"))), lintDoc(lintAllow("ec2:CreateVpc", "*", `,"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"x"},"Null":{"aws:TagKeys":"false"}}`))},
			{lintDoc(lintAllow("ec2:CreateVpc", "*", lintWhen("ForAllValues:StringEquals", "aws:PrincipalTag/a", "x"))), lintDoc(lintAllow("ec2:CreateVpc", "*", `,"Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":"x"},"StringEquals":{"aws:RequestTag/x":"y"}}`))},
			{lintDoc(lintAllow("ec2:CreateVpc", "*", lintWhen("ForAllValues:StringEquals", "aws:TagKeys", "x"))), lintDoc(lintAllow("ec2:CreateTags", "*", lintWhen("ForAllValues:StringEquals", "aws:TagKeys", "x")))},
			{lintDoc(lintAllow("ec2:CreateVpc", "*", lintWhen("ForAllValues:StringEquals", "aws:TagKeys", "x"))), lintDoc(lintDeny("ec2:CreateVpc", "*", lintWhen("ForAllValues:StringEquals", "aws:TagKeys", "x")))},
		},

		"escalate-attach-role-policy": {
			byCondition("iam:AttachRolePolicy", role+"*", "ArnLike", "iam:PolicyARN", policyARN+"union/*"),
			{lintDoc(lintAllow("iam:AttachRolePolicy", role+"*", lintWhen("ArnLike", "iam:PolicyARN", "arn:aws:iam::aws:policy/*"))), lintDoc(lintAllow("iam:AttachRolePolicy", role+"*", lintWhen("StringEquals", "iam:PermissionsBoundary", boundary)))},
			{lintDoc(lintAllow("iam:Attach*", "*"), lintDeny("iam:AttachRolePolicy", role+"self")), lintDoc(lintAllow("iam:AttachRolePolicy", "*"), lintDeny("iam:*", "*", lintWhen("ArnNotLike", "iam:PolicyARN", policyARN+"union/*")))},
			{lintDoc(lintAllow("iam:*", "*"), lintDeny("iam:AttachRolePolicy", "*", lintWhen("StringEquals", "iam:PolicyARN", policyARN+"x"))), lintDoc(lintAllow("iam:*", "*"), lintDeny("iam:*", "*"))},
		},
		"escalate-put-role-policy":    {byCondition("iam:PutRolePolicy", role+"union/*", "StringEquals", "iam:PermissionsBoundary", boundary)},
		"escalate-attach-user-policy": {byCondition("iam:AttachUserPolicy", "arn:aws:iam::123456789012:user/*", "ArnEquals", "iam:PolicyARN", policyARN+"union/x")},
		"escalate-put-user-policy":    {byCondition("iam:PutUserPolicy", "arn:aws:iam::123456789012:user/*", "StringEquals", "iam:PermissionsBoundary", boundary)},
		"escalate-create-role": {
			byCondition("iam:CreateRole", role+"*", "StringEquals", "iam:PermissionsBoundary", boundary),
			{lintDoc(lintAllow("iam:CreateRole", role+"*", lintWhen("Null", "iam:PermissionsBoundary", "false"))), lintDoc(lintAllow("iam:CreateRole", role+"*"), lintDeny("iam:CreateRole", "*", lintWhen("StringNotEquals", "iam:PermissionsBoundary", boundary)))},
		},
		"escalate-remove-boundary":   {{lintDoc(lintAllow("iam:DeleteRolePermissionsBoundary", role+"*")), lintDoc(lintAllow("iam:Delete*Boundary", role+"*"), lintDeny("iam:DeleteRolePermissionsBoundary iam:DeleteUserPermissionsBoundary", "*"))}},
		"escalate-change-boundary":   {byCondition("iam:PutRolePermissionsBoundary", role+"*", "StringEquals", "iam:PermissionsBoundary", boundary)},
		"escalate-policy-version":    path("iam:CreatePolicyVersion", policyARN+"*", policyARN+"union/*"),
		"escalate-update-trust":      path("iam:UpdateAssumeRolePolicy", role+"*", role+"union/*"),
		"escalate-identity-provider": append(path("iam:CreateOpenIDConnectProvider", "arn:aws:iam::123456789012:oidc-provider/*", "arn:aws:iam::123456789012:oidc-provider/oidc.eks.*"), path("iam:CreateSAMLProvider", "arn:aws:iam::123456789012:saml-provider/*", "arn:aws:iam::123456789012:saml-provider/corp")...),
		"escalate-add-user-to-group": path("iam:AddUserToGroup", "arn:aws:iam::123456789012:group/*", "arn:aws:iam::123456789012:group/dev/*"),
		"escalate-access-key":        path("iam:CreateAccessKey", "arn:aws:iam::123456789012:user/*", "arn:aws:iam::123456789012:user/${aws:username}"),
		"escalate-login-profile":     path("iam:UpdateLoginProfile", "arn:aws:iam::123456789012:user/*", "arn:aws:iam::123456789012:user/${aws:username}"),
		"escalate-lambda-code":       path("lambda:UpdateFunctionCode", "arn:aws:lambda:eu-west-1:123456789012:function:*", "arn:aws:lambda:eu-west-1:123456789012:function:union-*"),
		"escalate-assume-role":       path("sts:AssumeRole", role+"*", role+"union/*"),
		"escalate-pass-role": {
			byCondition("iam:PassRole", role+"union/*", "StringEquals", "iam:PassedToService", "eks.amazonaws.com"),
			{lintDoc(lintAllow("iam:PassRole", "*")), lintDoc(lintAllow("iam:PassRole", role+"union/node"))},
			{lintDoc(lintAllow("IAM:pass*", "*")), lintDoc(lintAllow("iam:Get*", "*"))},
			{allowNot(`"NotAction":["s3:*"],"Resource":"*"`), allowNot(`"NotAction":["IAM:pass*"],"Resource":"*"`)},
			{lintDoc(lintAllow("iam:PassRole", role+"*", lintWhen("StringLike", "iam:PassedToService", "*.amazonaws.com"))), lintDoc(lintAllow("iam:PassRole", role+"*"), lintDeny("iam:PassRole", "*", lintWhen("StringNotEquals", "iam:PassedToService", "ec2.amazonaws.com")))},
		},

		"kms-any-key": append(path("kms:ScheduleKeyDeletion", "arn:aws:kms:eu-west-1:123456789012:key/*", "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"),
			byCondition("kms:PutKeyPolicy", "arn:aws:kms:eu-west-1:123456789012:key/*", "StringEquals", "aws:ResourceTag/a", "b"),
			lintCase{lintDoc(lintAllow("kms:CreateGrant", "arn:aws:kms:eu-west-1:123456789012:key/*")), lintDoc(lintAllow("kms:CreateGrant", "arn:aws:kms:eu-west-1:123456789012:key/*", lintWhen("Bool", "kms:GrantIsForAWSResource", "true")))}),
		"bucket-by-prefix": {
			{lintDoc(lintAllow("s3:*", "arn:aws:s3:::union-*")), lintDoc(lintAllow("s3:*", "arn:aws:s3:::union-123456789012-*"))},
			{lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::union-*/*")), lintDoc(lintAllow("s3:GetObject", "arn:aws:s3:::union-a/*"))},
			{lintDoc(lintAllow("s3:*", "arn:aws:s3:::union-*")), lintDoc(lintAllow("s3:*", "arn:aws:s3:::union-*"), lintDeny("s3:GetObject s3:PutObject s3:DeleteObject", "arn:aws:s3:::union-*/*"))},
			{lintDoc(lintAllow("s3:PutObject", "*")), lintDoc(lintAllow("s3:*", "arn:aws:s3:::union-${AWS::AccountId}-*"))},
			{lintDoc(lintAllow("s3:PutObject", "*")), lintDoc(lintAllow("s3:CreateBucket s3:PutBucketTagging", "arn:aws:s3:::union-*"))},
		},
		"eks-any-cluster": append(path("eks:UpdateClusterConfig", "arn:aws:eks:eu-west-1:123456789012:cluster/*", "arn:aws:eks:eu-west-1:123456789012:cluster/union-*"),
			byCondition("eks:DeleteNodegroup", "arn:aws:eks:eu-west-1:123456789012:nodegroup/*", "StringEquals", "aws:ResourceTag/a", "b")),
		"network-any": append(path("ec2:DeleteVpc", "arn:aws:ec2:eu-west-1:123456789012:vpc/vpc-*", "arn:aws:ec2:eu-west-1:123456789012:vpc/vpc-1111"),
			byCondition("ec2:DeleteRoute", "arn:aws:ec2:eu-west-1:123456789012:route-table/*", "StringEquals", "ec2:ResourceTag/a", "b")),
		"retag-any": {
			byCondition("ec2:CreateTags", "arn:aws:ec2:*:*:*/*", "StringEquals", "ec2:CreateAction", "CreateVpc"),
			{lintDoc(lintAllow("ec2:CreateTags", "*", lintWhen("StringEquals", "aws:RequestTag/managed-by", "union"))), lintDoc(lintAllow("ec2:CreateTags", "arn:aws:ec2:eu-west-1:123456789012:vpc-endpoint-service/*"))},
			{lintDoc(lintAllow("ec2:DeleteTags", "*", lintWhen("ForAllValues:StringEquals", "aws:TagKeys", "Name"))), lintDoc(lintAllow("ec2:CreateTags", "*", lintWhen("ForAllValues:StringEquals", "aws:TagKeys", "Name")))},
		},
		"shell-any-host": {
			{lintDoc(lintAllow("ssm:StartSession", "arn:aws:ec2:eu-west-1:123456789012:instance/*")), lintDoc(lintAllow("ssm:StartSession", "arn:aws:ec2:eu-west-1:123456789012:instance/i-0123456789abcdef0"))},
			byCondition("ssm:StartSession", "*", "StringEquals", "aws:ResourceTag/a", "b"),
			{lintDoc(lintAllow("ecs:ExecuteCommand", "arn:aws:ecs:eu-west-1:123456789012:*")), lintDoc(lintAllow("ecs:ExecuteCommand", "arn:aws:ecs:eu-west-1:123456789012:cluster/a arn:aws:ecs:eu-west-1:123456789012:task/a/*"))},
		},
		"ebs-encryption-default": {{lintDoc(lintAllow("ec2:DisableEbsEncryptionByDefault", "*")), lintDoc(lintAllow("ec2:GetEbsEncryptionByDefault", "*"))}, {lintDoc(lintAllow("ec2:*", "*")), lintDoc(lintAllow("ec2:Modify*", "*"), lintDeny("ec2:*Ebs*Default*", "*"))}},
		"ecr-delete-any-region": {
			{lintDoc(lintAllow("ecr:BatchDeleteImage", "arn:aws:ecr:*:123456789012:repository/union/*")), lintDoc(lintAllow("ecr:BatchDeleteImage", "arn:aws:ecr:eu-west-1:123456789012:repository/union/*"))},
			byCondition("ecr:DeleteRepository", "arn:aws:ecr:*:123456789012:repository/union/*", "StringEquals", "aws:RequestedRegion", "eu-west-1"),
		},

		"trust-anyone": {
			{lintTrusting(`"*"`), lintTrusting(vendor, lintWhen("StringEquals", "sts:ExternalId", "x1"))},
			{lintTrusting(`{"AWS":"*"}`, lintWhen("StringEquals", "sts:ExternalId", "x1")), lintTrusting(`{"AWS":"*"}`, `,"Condition":{"StringEquals":{"sts:ExternalId":"x1","aws:PrincipalAccount":"479331373192"}}`)},
		},
		"trust-without-external-id": {
			{lintTrusting(vendor), lintTrusting(vendor, lintWhen("StringEquals", "sts:ExternalId", "x1 x2"))},
			{lintTrusting(`{"AWS":"479331373192"}`, lintWhen("ArnEquals", "aws:PrincipalArn", "arn:aws:iam::479331373192:role/a")), lintTrusting(`{"AWS":"123456789012"}`)},
			{lintTrusting(`{"AWS":["123456789012","arn:aws:iam::479331373192:role/a"]}`), lintTrusting(`{"Service":"ec2.amazonaws.com"}`)},
			{lintTrusting(vendor), lintTrusting(vendor, lintWhen("StringEquals", "aws:PrincipalOrgID", "o-abc"))},
			{strings.Replace(lintTrusting(vendor), "sts:AssumeRole", "*", 1), lintBucket(vendor, "")},
		},
		"external-id-for-all-values": {{lintTrusting(vendor, lintWhen("ForAllValues:StringEquals", "sts:ExternalId", "x1 x2")), lintTrusting(vendor, lintWhen("StringEquals", "sts:ExternalId", "x1 x2"))}},
		"external-id-optional":       {{lintTrusting(vendor, lintWhen("StringEqualsIfExists", "sts:ExternalId", "x1")), lintTrusting(vendor, lintWhen("StringEquals", "sts:externalid", "x1"))}, {lintTrusting(vendor, lintWhen("StringNotEquals", "sts:ExternalId", "x1")), lintTrusting(vendor, `,"Condition":{"Null":{"sts:ExternalId":"false"},"StringEquals":{"sts:ExternalId":"x1"}}`)}},
		"external-id-pattern":        {{lintTrusting(vendor, lintWhen("Null", "sts:ExternalId", "false")), lintTrusting(vendor, `,"Condition":{"Null":{"sts:ExternalId":"false"},"StringEquals":{"sts:ExternalId":"x1"}}`)}, {lintTrusting(vendor, lintWhen("StringLike", "sts:ExternalId", "x*")), lintTrusting(vendor, lintWhen("StringEquals", "sts:ExternalId", "x1"))}},
		"service-trust-open":         {{lintTrusting(`{"Service":"ecs-tasks.amazonaws.com"}`), lintTrusting(`{"Service":"ecs-tasks.amazonaws.com"}`, lintWhen("StringEquals", "aws:SourceAccount", "123456789012"))}},
		"web-identity-without-subject": {
			{lintFederated(`{"StringEquals":{` + audience + `}}`), lintFederated(`{"StringEquals":{` + audience + `,"` + issuer + `:sub":"system:serviceaccount:union:operator"}}`)},
			{lintFederated(`{"StringEquals":{` + audience + `},"StringEqualsIfExists":{"` + issuer + `:sub":"x"}}`), lintFederated(`{"StringEquals":{` + audience + `},"StringLike":{"` + issuer + `:sub":"system:serviceaccount:union-*:default"}}`)},
		},
		"web-identity-any-subject": {{lintFederated(`{"StringEquals":{` + audience + `},"StringLike":{"` + issuer + `:sub":"system:serviceaccount:*"}}`), lintFederated(`{"StringEquals":{` + audience + `},"StringLike":{"` + issuer + `:sub":"system:serviceaccount:*:default"}}`)},
			{lintFederated(`{"StringEquals":{` + audience + `},"StringLike":{"` + issuer + `:sub":["repo:acme/a:*","*"]}}`), lintFederated(`{"StringEquals":{` + audience + `},"StringLike":{"` + issuer + `:sub":"repo:acme/a:*"}}`)}},
		"web-identity-without-audience": {{lintFederated(`{"StringEquals":{"` + issuer + `:sub":"system:serviceaccount:a:b"}}`), lintFederated(`{"StringEquals":{` + audience + `,"` + issuer + `:sub":"system:serviceaccount:a:b"}}`)}},

		"open-to-everyone": {{lintBucket(`"*"`, lintWhen("IpAddress", "aws:SourceIp", "0.0.0.0/0")), lintBucket(`"*"`, lintWhen("IpAddress", "aws:SourceIp", "203.0.113.0/24"))}, {lintBucket(`"*"`, ""), lintBucket(`"*"`, lintWhen("StringEquals", "aws:PrincipalOrgID", "o-abc"))}, {lintBucket(`{"AWS":"*"}`, lintWhen("StringNotEquals", "aws:SourceVpce", "vpce-1")), lintBucket(`{"AWS":"123456789012"}`, "")}},
	}
}

type lintCase struct{ has, hasNot string }

func lint(t testing.TB, src string, o LintOptions) []Finding {
	t.Helper()
	findings, err := Lint("x.json", []byte(src), o)
	if err != nil {
		t.Fatalf("%s\n%v", src, err)
	}
	return findings
}

func optionsFor(code string) LintOptions {
	return LintOptions{Account: "123456789012", Session: code == "size-session"}
}

func hasCode(findings []Finding, code string) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Code == code })
}

func TestLintEveryCode(t *testing.T) {
	t.Parallel()
	cases := lintCases()
	for _, code := range Codes() {
		if len(cases[code.Code]) == 0 {
			t.Errorf("%s: got no case, want a document that has it and one that has not", code.Code)
		}
		for i, c := range cases[code.Code] {
			t.Run(fmt.Sprintf("finds %s %d", code.Code, i), func(t *testing.T) {
				t.Parallel()
				findings := lint(t, c.has, optionsFor(code.Code))
				if !hasCode(findings, code.Code) {
					t.Errorf("got %v, want %s in\n%s", codesOf(findings), code.Code, c.has)
				}
				for _, f := range findings {
					if f.Line < 1 || f.Column < 1 || f.Message == "" || f.Remedy == "" || f.File != "x.json" || f.Severity != severityOf(f.Code) {
						t.Errorf("got %+v, want every field", f)
					}
				}
				if findings := lint(t, c.hasNot, optionsFor(code.Code)); hasCode(findings, code.Code) {
					t.Errorf("got %v, want no %s in\n%s", codesOf(findings), code.Code, c.hasNot)
				}
			})
		}
	}
	for code := range cases {
		if !slices.ContainsFunc(Codes(), func(c Code) bool { return c.Code == code }) {
			t.Errorf("got a case for %s, which is not in Codes", code)
		}
	}
}

func codesOf(findings []Finding) []string {
	var codes []string
	for _, f := range findings {
		codes = append(codes, f.Code)
	}
	return codes
}

func TestLintSaysNothingOfSoundDocuments(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir("testdata/lint/sound")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 8 {
		t.Errorf("got %d documents, want 8 at least", len(files))
	}
	for _, file := range files {
		src, err := os.ReadFile("testdata/lint/sound/" + file.Name())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range lint(t, string(src), LintOptions{Account: "123456789012"}) {
			t.Errorf("%s:%d:%d: got %s: %s, want nothing", file.Name(), f.Line, f.Column, f.Code, f.Message)
		}
	}
}

func TestLintPositionsAndOrder(t *testing.T) {
	t.Parallel()
	src := "{\n  \"Version\": \"2012-10-17\",\n  \"Statement\": [\n    {\n      \"Effect\": \"Allow\",\n      \"Action\": [\n        \"ec2:DescribeVpcs\",\n        \"ec2:DescribeSubnetz\"\n      ],\n      \"Resource\": \"*\"\n    },\n    {\"Effect\": \"Allow\", \"Action\": \"*\", \"Resource\": \"*\"}\n  ]\n}\n"
	got := lint(t, src, LintOptions{})
	want := []Finding{
		{File: "x.json", Code: "redundant-grant", Severity: Info, Statement: 0, Path: "Statement[0].Action[0]", Line: 7, Column: 9},
		{File: "x.json", Code: "unknown-action", Severity: Error, Statement: 0, Path: "Statement[0].Action[1]", Line: 8, Column: 9, Remedy: "did you mean ec2:DescribeSubnets?"},
		{File: "x.json", Code: "all-actions", Severity: Error, Statement: 1, Path: "Statement[1].Action", Line: 12, Column: 35},
	}
	for i := range got {
		got[i].Message = ""
		if i < len(want) && want[i].Remedy == "" {
			got[i].Remedy = ""
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %+v\nwant %+v", got, want)
	}
}

func TestLintNames(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"ec2:DescribeVpc": "did you mean ec2:DescribeVpcs?",
		"ekss:ListNodes":  "did you mean eks?",
		"iam:PasRole":     "did you mean iam:PassRole?",
		"iam:Zzzzzzzzzz":  "look the name up in AWS's Service Authorization Reference of iam",
	} {
		findings := lint(t, lintDoc(lintAllow(given, "*")), LintOptions{})
		if len(findings) != 1 || findings[0].Remedy != want {
			t.Errorf("%s: got %+v, want remedy %q", given, findings, want)
		}
	}
}

func TestLintRefusesWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	for _, src := range []string{"", "{", "[]", "null", "version: 1", `{"a":1}}`} {
		_, err := Lint("x.json", []byte(src), LintOptions{})
		if syntax := (*SyntaxError)(nil); !errors.As(err, &syntax) {
			t.Errorf("%q: got %v, want a SyntaxError", src, err)
		}
	}
}

// deadEntries are the entries of the seed's documents that its table flags DEAD.
func deadEntries(t *testing.T, block string) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("sar/testdata/seed-actions.tsv")
	if err != nil {
		t.Fatal(err)
	}
	dead := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		column := strings.Split(strings.TrimRight(line, "\n"), "\t")
		if column[0] == block && column[9] == "DEAD" {
			dead[column[1]+" "+column[3]] = true
		}
	}
	return dead
}

func TestLintSeedDeadGrants(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		document, block     string
		dead, covered, live int
	}{
		{"main", "block0", 6, 1, 1},
		{"private", "block4", 3, 13, 1},
	} {
		t.Run(c.document, func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile("testdata/seed/" + c.document + ".json")
			if err != nil {
				t.Fatal(err)
			}
			document, err := Parse(c.document, src)
			if err != nil {
				t.Fatal(err)
			}
			got, count := map[string]bool{}, map[string]int{}
			for _, f := range lint(t, string(src), LintOptions{}) {
				count[f.Code]++
				if strings.HasPrefix(f.Code, "dead-grant") {
					n, err := strconv.Atoi(strings.TrimSuffix(f.Path[strings.LastIndexByte(f.Path, '[')+1:], "]"))
					if err != nil {
						t.Fatalf("path %s: %v", f.Path, err)
					}
					got[fmt.Sprintf("%d %s", f.Statement, document.Statements[f.Statement].Action[n])] = true
				}
			}
			if want := deadEntries(t, c.block); !maps.Equal(got, want) {
				t.Errorf("got %v, want %v", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
			}
			if got := [3]int{count["dead-grant"], count["dead-grant-covered"], count["dead-grant-live"]}; got != [3]int{c.dead, c.covered, c.live} {
				t.Errorf("got %v not granted, covered, live, want %v", got, [3]int{c.dead, c.covered, c.live})
			}
		})
	}
}

func TestLintSeedPaths(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, document, code string
		statements           []int
	}{
		{"G1 attach to itself", "main", "escalate-attach-role-policy", []int{15}},
		{"G1 write into itself", "main", "escalate-put-role-policy", []int{15}},
		{"G2 create a role", "main", "escalate-create-role", []int{15}},
		{"G3 rewrite a policy", "main", "escalate-policy-version", []int{14}},
		{"G4 pass any role", "main", "escalate-pass-role", []int{15}},
		{"G5 add an identity provider", "main", "escalate-identity-provider", []int{13}},
		{"G6 any key", "main", "kms-any-key", []int{4}},
		{"G7 any bucket of a name", "main", "bucket-by-prefix", []int{18}},
		{"G8 any cluster", "main", "eks-any-cluster", []int{4, 16, 25}},
		{"G9 any network", "main", "network-any", []int{4, 5, 6, 8, 9, 11, 12, 16, 27}},
		{"G9 any security group", "private", "network-any", []int{3}},
		{"G10 any tag", "main", "retag-any", []int{16, 23}},
		{"G11 any shell", "private", "shell-any-host", []int{1}},
		{"G12 default encryption", "main", "ebs-encryption-default", []int{16}},
		{"G13 images in every region", "main", "ecr-delete-any-region", []int{29}},
		// UpdateAssumeRolePolicy is granted on instance profiles only, which it never matches.
		{"no way to rewrite trust", "main", "escalate-update-trust", nil},
		{"no way to pass a role by itself", "private", "escalate-pass-role", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			src, err := os.ReadFile("testdata/seed/" + c.document + ".json")
			if err != nil {
				t.Fatal(err)
			}
			var got []int
			for _, f := range lint(t, string(src), LintOptions{}) {
				if f.Code == c.code {
					got = append(got, f.Statement)
				}
			}
			if !slices.Equal(got, c.statements) {
				t.Errorf("%s: got statements %v, want %v", c.code, got, c.statements)
			}
		})
	}
}

func TestLintSeedDuplicates(t *testing.T) {
	t.Parallel()
	for document, want := range map[string]struct{ repeated, surplus, redundant int }{
		"main": {19, 20, 9}, "private": {16, 17, 2},
	} {
		d := seedDocument(t, document, "us-east-1")
		seen := map[string]int{}
		for _, s := range d.Statements {
			for _, action := range s.Action {
				seen[action]++
			}
		}
		repeated, surplus := 0, 0
		for _, n := range seen {
			if n > 1 {
				repeated++
				surplus += n - 1
			}
		}
		redundant := 0
		for _, f := range lint(t, string(seedText(t, document, "us-east-1")), LintOptions{}) {
			if f.Code == "redundant-grant" {
				redundant++
			}
		}
		if repeated != want.repeated || surplus != want.surplus || redundant != want.redundant {
			t.Errorf("%s: got %d actions repeated, %d surplus, %d redundant, want %+v", document, repeated, surplus, redundant, want)
		}
	}
}

func TestLintTemplateIsLookedAtInEveryRegion(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/seed/main.json")
	if err != nil {
		t.Fatal(err)
	}
	findings := lint(t, string(src), LintOptions{})
	i := slices.IndexFunc(findings, func(f Finding) bool { return f.Code == "size-inline" })
	if i < 0 {
		t.Fatalf("got %v, want size-inline", codesOf(findings))
	}
	for _, want := range []string{"us-east-1 (10395)", "eu-central-1 (10515)", "ap-northeast-1 (10595)", "34 of 34 regions"} {
		if !strings.Contains(findings[i].Message, want) {
			t.Errorf("got %q, want %q in it", findings[i].Message, want)
		}
	}
	templates := slices.DeleteFunc(findings, func(f Finding) bool { return f.Code != "template" })
	if len(templates) != 1 {
		t.Errorf("got %d findings about placeholders, want 1", len(templates))
	}
}

func TestLintPassRoleNamesWhatRunsAsTheRole(t *testing.T) {
	t.Parallel()
	findings := lint(t, lintDoc(lintAllow("iam:PassRole", role+"*"), lintAllow("lambda:CreateFunction", "arn:aws:lambda:eu-west-1:123456789012:function:union-*")), LintOptions{})
	if len(findings) != 1 || !strings.Contains(findings[0].Message, "lambda:CreateFunction") || strings.Contains(findings[0].Message, "ec2:RunInstances") {
		t.Errorf("got %+v, want one finding that names lambda:CreateFunction only", findings)
	}
}

func TestLintUnknownOwnAccount(t *testing.T) {
	t.Parallel()
	if findings := lint(t, lintTrusting(`{"AWS":"123456789012"}`), LintOptions{}); !hasCode(findings, "trust-without-external-id") {
		t.Errorf("got %v, want trust-without-external-id where the own account is not known", codesOf(findings))
	}
}

func TestLintJSON(t *testing.T) {
	t.Parallel()
	got, err := json.Marshal(lint(t, lintDoc(lintAllow("*", "*")), LintOptions{})[0])
	if err != nil {
		t.Fatal(err)
	}
	want := `{"file":"x.json","code":"all-actions","severity":"error","statement":0,"path":"Statement[0].Action[0]","line":1,"column":66,` +
		`"message":"the statement allows every action of every service, those of tomorrow included","remedy":"list the actions that are needed"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

var update = flag.Bool("update-lint-page", false, "write docs/lint.md")

// The page is Codes for people; this test writes it and keeps it so.
func TestLintPage(t *testing.T) {
	t.Parallel()
	const page = "../../docs/lint.md"
	var b strings.Builder
	b.WriteString(`<!-- generated from Codes in provision/iampolicy/lint_codes.go, do not edit;
     go test ./provision/iampolicy -run TestLintPage -update-lint-page -->

# What ` + "`biplane access lint`" + ` finds

Lint reads a policy document of any kind: for a role, a boundary, a session, a trust policy, the policy of a bucket or key. A
` + "`Principal`" + ` makes it a trust policy, where every action is one of STS's, or a resource policy. Each finding has a code:

- **error**: IAM refuses it, it has no effect, or whoever holds it can take over the account or the role.
- **warning**: it reaches further than a reader would expect.
- **info**: it works, and could be shorter or surer.

A finding about the whole document has the statement -1. What exists and what matches is judged by AWS's Service Authorization
Reference of ` + sar.Date + `. A Deny of the same document is taken into account, and so are conditions that truly limit a grant;
` + "`IfExists`" + ` and ` + "`ForAllValues`" + ` do not, because they hold where the key is absent.

| code | severity | meaning |
|---|---|---|
`)
	for _, c := range Codes() {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Code, c.Severity, c.Meaning)
	}
	if *update {
		if err := os.WriteFile(page, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != b.String() {
		t.Error("got docs/lint.md out of date; run: go test ./provision/iampolicy -run TestLintPage -update-lint-page")
	}
}

func FuzzLint(f *testing.F) {
	for _, cases := range lintCases() {
		for _, c := range cases {
			f.Add([]byte(c.has))
		}
	}
	for _, name := range []string{"main", "private", "ecs-task", "ecs-task-trust"} {
		src, err := os.ReadFile("testdata/seed/" + name + ".json")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		findings, err := Lint("fuzz", src, LintOptions{Account: "123456789012"})
		if err != nil {
			if syntax := (*SyntaxError)(nil); !errors.As(err, &syntax) {
				t.Errorf("got %v, want a SyntaxError", err)
			}
			return
		}
		lines := strings.Count(string(src), "\n") + 1
		for i, finding := range findings {
			if finding.Line < 1 || finding.Line > lines || finding.Column < 1 || finding.Statement < -1 {
				t.Errorf("got %+v, want a place in the text", finding)
			}
			if i > 0 && findings[i-1].Line > finding.Line {
				t.Errorf("got line %d after %d, want the order of the text", finding.Line, findings[i-1].Line)
			}
		}
	})
}

// The documents that take Lint longest are long lists of different things.
func BenchmarkLintWorst(b *testing.B) {
	var actions, resources []string
	for _, action := range sar.Default().Expand("ec2:*")[:500] {
		actions = append(actions, action.String())
	}
	for i := range 400 {
		resources = append(resources, fmt.Sprintf("arn:aws:ec2:*:*:x%03d*y*", i))
	}
	src := []byte(lintDoc(lintAllow(strings.Join(actions, " "), strings.Join(resources, " "))))
	if size, err := Size(src); err != nil || size > largestPolicy {
		b.Fatalf("got %d characters and %v, want a document that Lint looks into", size, err)
	}
	for b.Loop() {
		if _, err := Lint("worst", src, LintOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLintSeed(b *testing.B) {
	src, err := os.ReadFile("testdata/seed/main.json")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := Lint("main", src, LintOptions{}); err != nil {
			b.Fatal(err)
		}
	}
}

// Problems by the thousand must not make lint slow: positions are looked up, and
// comparisons of patterns share one budget.
func TestLineStarts(t *testing.T) {
	t.Parallel()
	src := []byte("a\nbc\n\nd")
	starts := newLineStarts(src)
	for offset, want := range []Position{{1, 1}, {1, 2}, {2, 1}, {2, 2}, {2, 3}, {3, 1}, {4, 1}, {4, 2}} {
		if got := starts.position(offset); got != want {
			t.Errorf("offset %d: got %v, want %v", offset, got, want)
		}
	}
}
