package iampolicy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// FuzzDecide feeds text to the parser and, where it is a policy, decides a
// request by it in every part. Nothing may panic, the answer must be the same
// each time, and Explain must give the same.
func FuzzDecide(f *testing.F) {
	f.Add([]byte(`{"Version":"2012-10-17","Statement":[`+allowGet+`,`+denyGet+`]}`), "s3:GetObject", objectARN, "aws:username", "ann", uint8(0))
	f.Add([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:s3:::${aws:username, 'x'}/*","Condition":{"ForAllValues:StringLike":{"aws:TagKeys":["a*","${*}"]},"NumericLessThanIfExists":{"s3:max-keys":10}}}}`), "s3:PutObject", "*", "aws:TagKeys", "a", uint8(1))
	f.Add([]byte(`{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"`+userARN+`"},"Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"::/0"},"Null":{"aws:username":true}}}}`), "sts:AssumeRole", roleARN, "aws:SourceIp", "10.0.0.1", uint8(2))
	f.Add([]byte(`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":"*","Action":"sts:AssumeRole","Condition":{"DateLessThan":{"aws:CurrentTime":"2026"},"ArnLike":{"aws:PrincipalArn":"arn:*:iam::*:role/*"},"BinaryEquals":{"x:y":"aGk="}}}}`), "sts:AssumeRole", roleARN, "aws:CurrentTime", "0", uint8(3))
	// The large documents are left to the tests: making them small would take
	// the fuzzer most of its time.
	f.Add(seedText(f, "ecs-task-trust", "us-east-1"), "sts:AssumeRole", roleARN, "", "", uint8(2))
	callers := []Principal{aUser, aSession, aService, aFederated, nobody}
	f.Fuzz(func(t *testing.T, text []byte, action, resource, key, value string, variant uint8) {
		d, err := Parse("fuzz", text)
		if err != nil {
			return
		}
		context := Context{}
		context.Set(key, value)
		r := &Request{Principal: callers[int(variant)%len(callers)], Action: action, Resource: resource, Context: context}
		for _, p := range []Policies{
			{Identity: []*Document{d}},
			{Identity: []*Document{d}, Boundary: d, Session: []*Document{d}, SCP: [][]*Document{{d}}},
			{Resource: d},
		} {
			e, err := Compile(p)
			if err != nil {
				continue // a trust policy is no identity policy, and the reverse
			}
			first := e.Decide(r)
			if again := e.Decide(r); again != first {
				t.Errorf("got %v, then %v", first, again)
			}
			checkExplanation(t, e, r, first)
		}
	})
}

// TestExplainAgrees runs many policies made of a few words, where most
// combinations of parts and grants come up, and holds the index against trying
// every statement.
func TestExplainAgrees(t *testing.T) {
	t.Parallel()
	const rounds = 5000
	rng := rand.New(rand.NewPCG(1, 2))
	pick := func(words ...string) string { return words[rng.IntN(len(words))] }
	document := func(resourcePolicy bool) *Document {
		d := &Document{Name: "random", Version: "2012-10-17"}
		for range 1 + rng.IntN(3) {
			s := Statement{Effect: Effect(pick("Allow", "Allow", "Deny"))}
			actions := []string{pick("s3:GetObject", "s3:Get*", "*", "kms:*", "sts:AssumeRole"), pick("S3:getobject", "s3:?etObject", "ec2:*")}
			if rng.IntN(4) == 0 {
				s.NotAction = actions
			} else {
				s.Action = actions
			}
			resources := []string{pick("*", "arn:aws:s3:::bucket/*", "arn:aws:s3:::${aws:username}/*", "arn:aws:iam::*:role/*", "arn:aws:s3:*")}
			if rng.IntN(4) == 0 {
				s.NotResource = resources
			} else {
				s.Resource = resources
			}
			if resourcePolicy {
				ps := &Principals{AWS: []string{pick("*", userARN, roleARN, sessionARN, rootARN, "111111111111")}, Service: []string{aService.ARN}}
				if rng.IntN(5) == 0 {
					ps.AWS = append(ps.AWS, rootARN)
					s.NotPrincipal = ps
				} else {
					s.Principal = ps
				}
			}
			if rng.IntN(3) == 0 {
				s.Condition = []Condition{{
					Operator: pick("", "ForAllValues:", "ForAnyValue:") + pick("StringEquals", "StringNotEquals", "StringLike") + pick("", "IfExists"),
					Key:      pick("aws:username", "aws:TagKeys"), Values: []string{pick("ann", "a*", "bob")},
				}}
			}
			d.Statements = append(d.Statements, s)
		}
		return d
	}
	answers := map[Decision]int{}
	for range rounds {
		p := Policies{Identity: []*Document{document(false)}}
		if rng.IntN(2) == 0 {
			p.Boundary = document(false)
		}
		if rng.IntN(3) == 0 {
			p.Session = []*Document{document(false), document(false)}
		}
		if rng.IntN(3) == 0 {
			p.SCP = [][]*Document{{document(false)}, {document(false), document(false)}}
		}
		if rng.IntN(2) == 0 {
			p.Resource = document(true)
		}
		e, err := Compile(p)
		if err != nil {
			t.Fatal(err)
		}
		r := &Request{
			Principal: []Principal{aUser, aSession, aService, aFederated, nobody}[rng.IntN(5)],
			Action:    pick("s3:GetObject", "s3:GetObject", "s3:PutObject", "sts:AssumeRole", "kms:Decrypt"),
			Resource:  pick(objectARN, "*", "arn:aws:s3:::ann/x", "arn:aws:iam::222222222222:role/x"),
			Context:   Context{},
		}
		if rng.IntN(2) == 0 {
			r.Context.Set("aws:username", pick("ann", "bob", ""))
		}
		if rng.IntN(2) == 0 {
			r.Context.Set("aws:TagKeys", pick("ann", "bob"), pick("ann", "bob"))
		}
		d := e.Decide(r)
		answers[d]++
		checkExplanation(t, e, r, d)

		c := newCall(r)
		if denied := len(matching(&c, Deny, e.parts(&c)...)) > 0; denied != (d == ExplicitDeny) {
			t.Fatalf("got %v, want a Deny to decide: %v", d, denied)
		}
		for _, part := range e.parts(&c) {
			statements, known := part.lookup(r.Action)
			for i := range part.statements {
				s := &part.statements[i]
				want := s.matchesAction(&c.action)
				if got := slices.Contains(statements, s) && (known || want); got != want {
					t.Fatalf("%s, statement %d on %s: got found %v, want %v", part.kind, i, r.Action, got, want)
				}
			}
		}
	}
	for _, d := range []Decision{Allowed, ImplicitDeny, ExplicitDeny} {
		if answers[d] < rounds/20 {
			t.Errorf("got %d of %d decisions %v, too few to tell", answers[d], rounds, d)
		}
	}
	t.Logf("%d policies: %v", rounds, answers)
}
