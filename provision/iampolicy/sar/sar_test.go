package sar_test

import (
	"encoding/csv"
	"os"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

// testdata/seed-actions.tsv was made by another reader from AWS's own pages of
// the same day; the two must agree on every action in it.
func TestDataAgreesWithAWSPages(t *testing.T) {
	t.Parallel()
	file, err := os.Open("testdata/seed-actions.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	reader := csv.NewReader(file)
	reader.Comma = '\t'
	reader.LazyQuotes = true
	rows, err := reader.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	// The older of two pages requires this type, the newer does not know it.
	optional := map[string]string{
		"elasticloadbalancing:AddTags":                      "loadbalancer",
		"elasticloadbalancing:DeleteLoadBalancer":           "loadbalancer",
		"elasticloadbalancing:ModifyLoadBalancerAttributes": "loadbalancer",
	}
	seen := map[string]bool{}
	for _, row := range rows[1:] {
		name, level, types := row[3], row[4], row[6]
		if seen[name] || strings.HasSuffix(name, "*") {
			continue
		}
		seen[name] = true
		action, ok := sar.Default().Action(name)
		if !ok {
			t.Errorf("%s: got nothing, want an action", name)
			continue
		}
		if action.AccessLevel != level {
			t.Errorf("%s: got access level %s, want %s", name, action.AccessLevel, level)
		}
		var got []string
		for _, resource := range action.Resources {
			if resource.Required {
				resource.Type += "*"
			}
			got = append(got, resource.Type)
		}
		want := strings.Split(types, ",")
		if strings.HasPrefix(types, "(none") {
			want = nil
		}
		for i := range want {
			if want[i] == optional[name]+"*" {
				want[i] = optional[name]
			}
		}
		slices.Sort(got)
		slices.Sort(want)
		if !slices.Equal(got, want) {
			t.Errorf("%s: got types %v, want %v", name, got, want)
		}
	}
	if len(seen) != 306 { // 303 distinct names less s3:* and dynamodb:*, and 5 of the ECS task role
		t.Errorf("got %d actions compared, want 306", len(seen))
	}
}

func TestEveryServiceReads(t *testing.T) {
	t.Parallel()
	services := sar.Default().Services()
	if len(services) != 449 {
		t.Errorf("got %d services, want 449", len(services))
	}
	actions := 0
	for _, prefix := range services {
		service, ok := sar.Default().Service(prefix)
		if !ok || len(service.Actions) == 0 {
			t.Errorf("%s: got no actions, want some", prefix)
			continue
		}
		actions += len(service.Actions)
		for _, action := range service.Actions {
			if !slices.Contains([]string{sar.List, sar.Read, sar.Write, sar.Tagging, sar.PermissionsManagement}, action.AccessLevel) {
				t.Errorf("%s: got access level %q, want one of the five", action, action.AccessLevel)
			}
			for _, resource := range action.Resources {
				if _, ok := sar.Default().ResourceType(prefix, resource.Type); !ok {
					t.Errorf("%s: got resource type %q, which %s does not have", action, resource.Type, prefix)
				}
			}
		}
		for _, r := range service.ResourceTypes {
			if strings.Count(r.ARN, ":") < 5 || !strings.HasPrefix(r.ARN, "arn:") {
				t.Errorf("%s %s: got ARN %q, want six fields", prefix, r.Name, r.ARN)
			}
		}
	}
	t.Logf("%d services, %d actions", len(services), actions)
}

func TestActionIgnoresCase(t *testing.T) {
	t.Parallel()
	got, ok := sar.Default().Action("EC2:createvpc")
	if !ok || got.String() != "ec2:CreateVpc" {
		t.Errorf("got %v, want ec2:CreateVpc", got)
	}
	for _, unknown := range []string{"ec2:CreateVPCs", "ec2", "", "nosuch:Thing", "ec2:*"} {
		if got, ok := sar.Default().Action(unknown); ok {
			t.Errorf("%q: got %v, want nothing", unknown, got)
		}
	}
}

func TestExpand(t *testing.T) {
	t.Parallel()
	for pattern, want := range map[string][]string{
		"iam:*OpenIDConnectProviderThumb*": {"iam:UpdateOpenIDConnectProviderThumbprint"},
		"IAM:passrole":                     {"iam:PassRole"},
		"sts:Get?allerIdentity":            {"sts:GetCallerIdentity"},
		"iam:NoSuch*":                      nil,
		"noservice:*":                      nil,
		"ec*:DescribeRepositories":         nil, // no wildcard in the name, but one in the service
	} {
		var got []string
		for _, action := range sar.Default().Expand(pattern) {
			got = append(got, action.String())
		}
		if pattern == "ec*:DescribeRepositories" {
			want = []string{"ecr:DescribeRepositories", "ecr-public:DescribeRepositories"}
			slices.Sort(got)
			slices.Sort(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", pattern, got, want)
		}
	}
	if got := len(sar.Default().Expand("*")); got < 20000 {
		t.Errorf("*: got %d actions, want all", got)
	}
}

func TestCanMatch(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, action, pattern string
		want                  sar.Match
	}{
		{"takes a type that the action acts on", "ec2:CreateVpc", "arn:aws:ec2:us-east-1:123456789012:vpc/*", sar.Can},
		{"takes the star for everything", "ec2:DescribeVpcs", "*", sar.Can},
		{"refuses an ARN for an action without types", "ec2:DescribeVpcs", "arn:aws:ec2:us-east-1:123456789012:vpc/*", sar.Never},
		{"refuses another type", "iam:UpdateAssumeRolePolicy", "arn:aws:iam::123456789012:instance-profile/*", sar.Never},
		{"refuses a region where the type has none", "iam:GetRole", "arn:aws:iam::123456789012:user/x", sar.Never},
		{"refuses objects for an action on buckets", "s3:ListBucket", "arn:aws:s3:::data/*", sar.Never},
		{"takes a bucket", "s3:ListBucket", "arn:aws:s3:::data*", sar.Can},
		{"takes objects", "s3:GetObject", "arn:aws:s3:::data*", sar.Can},
		{"refuses a bucket for an action on objects", "s3:GetObject", "arn:aws:s3:::data", sar.Never},
		{"reads placeholders as wildcards", "eks:DescribeCluster", "arn:aws:eks:${AWS::Region}:${AWS::AccountId}:cluster/x-*", sar.Can},
		{"reads variables as wildcards", "s3:GetObject", "arn:aws:s3:::data/${aws:username, 'x'}/*", sar.Can},
		{"knows what the live authorizer tests for log groups", "logs:DescribeLogGroups", "arn:aws:logs:eu-west-1:123456789012:log-group::log-stream*", sar.LiveOnly},
		{"knows that the colon at the end matters", "logs:DescribeLogGroups", "arn:aws:logs:eu-west-1:123456789012:log-group::log-stream", sar.Never},
		{"knows what the live authorizer tests for certificates", "acm:RequestCertificate", "arn:aws:acm:eu-west-1:123456789012:certificate/*", sar.LiveOnly},
		{"takes single-character wildcards", "sqs:SendMessage", "arn:aws:sqs:us-east-?:123456789012:queue", sar.Can},
		{"takes other partitions", "s3:GetObject", "arn:aws-cn:s3:::b/*", sar.Can},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			action, ok := sar.Default().Action(c.action)
			if !ok {
				t.Fatalf("got no %s, want an action", c.action)
			}
			if got := sar.Default().CanMatch(action, c.pattern); got != c.want {
				t.Errorf("%s on %s: got %d, want %d", c.action, c.pattern, got, c.want)
			}
		})
	}
}

func TestUnmatched(t *testing.T) {
	t.Parallel()
	action, _ := sar.Default().Action("ecs:DescribeServiceRevisions")
	got := sar.Default().Unmatched(action, []string{"arn:aws:ecs:us-east-1:123456789012:service/a/*"})
	if want := []string{"service-revision"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if got := sar.Default().Unmatched(action, []string{"*"}); len(got) != 0 {
		t.Errorf("*: got %v, want none", got)
	}
	invoke, _ := sar.Default().Action("bedrock:InvokeModel")
	if got := sar.Default().Unmatched(invoke, []string{"arn:aws:bedrock:us-east-1::foundation-model/m"}); len(got) != 0 {
		t.Errorf("one kind of model: got %v, want none", got)
	}
}

// A row of together.tsv that names what the reference does not have would be
// reported for every policy.
func TestTogether(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("together.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		rows++
		column := strings.Split(strings.TrimSuffix(line, "\n"), "\t")
		if len(column) != 3 || column[2] == "" {
			t.Errorf("got the row %q, want action, types and source", line)
			continue
		}
		action, ok := sar.Default().Action(column[0])
		if !ok {
			t.Errorf("got the action %s, want one of the reference", column[0])
			continue
		}
		for _, name := range strings.Split(column[1], ",") {
			if !slices.ContainsFunc(action.Resources, func(r sar.ActionResource) bool { return r.Type == name }) {
				t.Errorf("%s: got the type %s, want one that the action acts on", action, name)
			}
		}
	}
	if rows == 0 {
		t.Error("got no rows, want some")
	}
}

func TestConditionKeys(t *testing.T) {
	t.Parallel()
	attach, _ := sar.Default().Action("iam:AttachRolePolicy")
	run, _ := sar.Default().Action("ec2:RunInstances")
	subscribe, _ := sar.Default().Action("aws-marketplace:Subscribe")
	for _, c := range []struct {
		name   string
		action *sar.Action
		key    string
		want   bool
	}{
		{"finds a key of the action", attach, "iam:policyarn", true},
		{"finds a key of the resource type", run, "ec2:InstanceType", true},
		{"finds a key with a tag's name in it", run, "ec2:ResourceTag/team", true},
		{"finds a key that the reference forgets", subscribe, "aws-marketplace:ProductId", true},
		{"refuses a key of another action", attach, "iam:PassedToService", false},
		{"leaves global keys to GlobalKey", attach, "aws:SourceIp", false},
	} {
		if _, got := sar.Default().ActionKey(c.action, c.key); got != c.want {
			t.Errorf("%s: %s %s: got %t, want %t", c.name, c.action, c.key, got, c.want)
		}
	}
	for key, want := range map[string]bool{"s3:prefix": true, "iottwinmaker:linkedServices": false, "token.example.com:sub": true} {
		if got := sar.Default().KeyHasAction(key); got != want {
			t.Errorf("%s: got %t for whether an action has it, want %t", key, got, want)
		}
	}
	key, ok := sar.Default().GlobalKey("AWS:requesttag/Team")
	if !ok || key.Type != "String" || key.Multivalued {
		t.Errorf("got %+v, want a single string", key)
	}
	if key, ok := sar.Default().GlobalKey("aws:tagkeys"); !ok || !key.Multivalued {
		t.Errorf("got %+v, want a multivalued key", key)
	}
}

func BenchmarkCanMatch(b *testing.B) {
	action, _ := sar.Default().Action("ec2:CreateTags")
	for b.Loop() {
		sar.Default().CanMatch(action, "arn:aws:ec2:eu-central-1:123456789012:vpc-endpoint-service/*")
	}
}
