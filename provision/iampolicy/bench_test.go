package iampolicy

import (
	"fmt"
	"testing"
)

// decisions are calls on the seed's main policy, packed into managed policies,
// that take different ways through it.
func decisions(t testing.TB) (*Evaluator, map[string]*Request) {
	t.Helper()
	packed, err := PackFewest("main", seedDocument(t, "main", "us-east-1"), 6144)
	if err != nil {
		t.Fatal(err)
	}
	var documents []*Document
	for _, p := range packed {
		documents = append(documents, p.Document)
	}
	e, err := Compile(Policies{Identity: documents})
	if err != nil {
		t.Fatal(err)
	}
	caller := Principal{Type: AWS, ARN: "arn:aws:sts::123456789012:assumed-role/union-ai-admin/s", RoleARN: "arn:aws:iam::123456789012:role/union-ai-admin", Account: "123456789012"}
	requests := map[string]*Request{}
	for name, c := range map[string][2]string{
		"allowed by ARN":       {"ec2:CreateVpc", "arn:aws:ec2:us-east-1:123456789012:vpc/vpc-0a1"},
		"allowed by *":         {"ec2:DescribeVpcs", "*"},
		"allowed by wildcards": {"s3:PutObject", "arn:aws:s3:::union-acme-metadata/a/b"},
		"denied by ARN":        {"eks:DeleteCluster", "arn:aws:eks:us-east-1:123456789012:cluster/other"},
		"unknown action":       {"ec2:TerminateInstances", "arn:aws:ec2:us-east-1:123456789012:instance/i-0a1"},
	} {
		requests[name] = &Request{Principal: caller, Action: c[0], Resource: c[1], Context: Context{"aws:principalarn": {caller.RoleARN}}}
	}
	return e, requests
}

func BenchmarkDecide(b *testing.B) {
	e, requests := decisions(b)
	for name, r := range requests {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Decide(r)
			}
		})
	}
}

func BenchmarkExplain(b *testing.B) {
	e, requests := decisions(b)
	for name, r := range requests {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				e.Explain(r)
			}
		})
	}
}

// TestDecideAllocatesNothing cannot be parallel: AllocsPerRun counts for all.
func TestDecideAllocatesNothing(t *testing.T) {
	e, requests := decisions(t)
	conditions, err := Compile(Policies{
		Identity: []*Document{doc(t, `{"Effect":"Allow","Action":"s3:*","Resource":"arn:aws:s3:::bucket/${aws:username}/*","Condition":{
			"StringEquals":{"aws:PrincipalTag/team":["a","b"]},"StringLike":{"s3:prefix":"*/${aws:username}/*"},
			"IpAddress":{"aws:SourceIp":["10.0.0.0/8","2001:db8::/32"]},"NumericLessThan":{"s3:max-keys":"10"},
			"Bool":{"aws:SecureTransport":"true"},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/*"},
			"DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"},"ForAllValues:StringEquals":{"aws:TagKeys":["x","y"]}}}`)},
		Boundary: doc(t, allowAll),
		Session:  []*Document{doc(t, allowAll)},
		SCP:      [][]*Document{{doc(t, allowAll)}},
		Resource: bucketPolicy(t, "Allow", aws(userARN, roleARN, rootARN)),
	})
	if err != nil {
		t.Fatal(err)
	}
	withConditions := &Request{Principal: aSession, Action: "s3:GetObject", Resource: "arn:aws:s3:::bucket/ann/x", ResourceAccount: "222222222222", Context: Context{
		"aws:username": {"ann"}, "aws:principaltag/team": {"b"}, "s3:prefix": {"x/ann/y"}, "aws:sourceip": {"2001:db8::1"}, "s3:max-keys": {"9"},
		"aws:securetransport": {"true"}, "aws:principalarn": {roleARN}, "aws:currenttime": {"2026-02-01T00:00:00Z"}, "aws:tagkeys": {"x", "y"},
	}}
	if got := conditions.Decide(withConditions); got != Allowed {
		t.Fatalf("with every kind of condition: got %v, want %v", got, Allowed)
	}
	count := func(name string, e *Evaluator, r *Request) {
		if got := testing.AllocsPerRun(100, func() { e.Decide(r) }); got != 0 {
			t.Errorf("%s: got %v allocations, want 0", name, got)
		}
	}
	for name, r := range requests {
		count(name, e, r)
	}
	count("with every kind of condition", conditions, withConditions)
}

func ExampleEvaluator_Explain() {
	document, err := Parse("trust.json", []byte(`{"Version": "2012-10-17", "Statement": {
		"Effect": "Allow", "Principal": {"AWS": "111122223333"}, "Action": "sts:AssumeRole",
		"Condition": {"StringEquals": {"sts:ExternalId": "abc"}}}}`))
	if err != nil {
		panic(err)
	}
	evaluator, err := Compile(Policies{Resource: document})
	if err != nil {
		panic(err)
	}
	request := &Request{
		Principal: Principal{Type: AWS, ARN: "arn:aws:iam::111122223333:role/control-plane", Account: "111122223333"},
		Action:    "sts:AssumeRole",
		Resource:  "arn:aws:iam::444455556666:role/data-plane",
		Context:   Context{},
	}
	fmt.Println(evaluator.Decide(request))
	for _, miss := range evaluator.Explain(request).NearMisses {
		fmt.Println(miss.Element, miss.Reason)
	}
	// Output:
	// implicitDeny
	// Condition.StringEquals.sts:ExternalId needs sts:ExternalId = "abc"; the request has none
}
