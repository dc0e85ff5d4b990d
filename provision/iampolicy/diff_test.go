package iampolicy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"biplane.dev/biplane/provision/iampolicy/sar"
)

func mustParse(t testing.TB, text string) *Document {
	t.Helper()
	d, err := Parse("p.json", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// line is a Difference on one line, for comparing.
func (d Difference) line() string {
	sign := map[Class]string{Widening: "+", Narrowing: "-"}[d.Class]
	parts := []string{sign, string(d.Effect), "[" + d.AccessLevel + "]", d.Action}
	if len(d.Actions) > 0 {
		parts = append(parts, fmt.Sprintf("(%d)", len(d.Actions)))
	}
	for _, s := range []string{d.Resource, d.Principal, d.Condition} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	if d.Dead {
		parts = append(parts, "dead")
	}
	if d.Future {
		parts = append(parts, "future")
	}
	return strings.Join(parts, " ")
}

func TestDiff(t *testing.T) {
	t.Parallel()
	allow := func(action, resource, more string) string {
		return `{"Effect":"Allow","Action":` + action + `,"Resource":` + resource + more + `}`
	}
	doc := func(statements ...string) string {
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	const vpc = `"arn:aws:ec2:us-east-1:123456789012:vpc/*"`
	for name, c := range map[string]struct {
		old, current string
		want         []string
	}{
		"sees nothing between two spellings": {
			doc(allow(`["s3:GetObject","s3:PutObject"]`, `"arn:aws:s3:::b/*"`, "")),
			doc(allow(`"S3:putobject"`, `"arn:aws:s3:::b/*"`, ""), allow(`"s3:GetObject"`, `["arn:aws:s3:::b/*"]`, "")), nil,
		},
		"sees an action that came, with its access level": {
			doc(allow(`"ec2:CreateVpc"`, vpc, "")), doc(allow(`["ec2:CreateVpc","ec2:DeleteVpc"]`, vpc, "")),
			[]string{"+ Allow [Write] ec2:DeleteVpc arn:aws:ec2:us-east-1:123456789012:vpc/*"},
		},
		"sees an action that went": {
			doc(allow(`["ec2:DescribeVpcs","iam:ListRoles"]`, `"*"`, "")), doc(allow(`"iam:ListRoles"`, `"*"`, "")),
			[]string{"- Allow [List] ec2:DescribeVpcs *"},
		},
		"puts the weightiest level first": {
			doc(allow(`"iam:ListRoles"`, `"*"`, "")), doc(allow(`["iam:ListRoles","ec2:DescribeVpcs","ec2:CreateTags","iam:GetRole","iam:PassRole","iam:PutRolePolicy"]`, `"*"`, "")),
			[]string{
				"+ Allow [Permissions management] iam:PutRolePolicy *", "+ Allow [Write] iam:PassRole *", "+ Allow [Tagging] ec2:CreateTags *",
				"+ Allow [Read] iam:GetRole *", "+ Allow [List] ec2:DescribeVpcs *",
			},
		},
		"calls a narrower resource a narrowing and no widening": {
			doc(allow(`"ec2:DeleteVpc"`, vpc, "")), doc(allow(`"ec2:DeleteVpc"`, `"arn:aws:ec2:us-east-1:123456789012:vpc/vpc-1"`, "")),
			[]string{"- Allow [Write] ec2:DeleteVpc arn:aws:ec2:us-east-1:123456789012:vpc/*"},
		},
		"sees nothing in a grant within a wider one": {
			doc(allow(`"ec2:*"`, `"*"`, "")), doc(allow(`"ec2:*"`, `"*"`, ""), allow(`"ec2:DeleteVpc"`, vpc, "")), nil,
		},
		"calls a new condition a narrowing": {
			doc(allow(`"ec2:DeleteVpc"`, vpc, "")), doc(allow(`"ec2:DeleteVpc"`, vpc, `,"Condition":{"Bool":{"aws:SecureTransport":true}}`)),
			[]string{"- Allow [Write] ec2:DeleteVpc arn:aws:ec2:us-east-1:123456789012:vpc/*"},
		},
		"calls a dropped condition a widening": {
			doc(allow(`"ec2:DeleteVpc"`, vpc, `,"Condition":{"Bool":{"aws:SecureTransport":true}}`)), doc(allow(`"ec2:DeleteVpc"`, vpc, "")),
			[]string{"+ Allow [Write] ec2:DeleteVpc arn:aws:ec2:us-east-1:123456789012:vpc/*"},
		},
		"calls a second value of a condition a widening alone": {
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"a"}}}}`,
			`{"Version":"2012-10-17","Statement":{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::123456789012:root"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":["a","b"]}}}}`,
			[]string{`+ Allow [Write] sts:AssumeRole AWS 123456789012 {"StringEquals":{"sts:ExternalId":["a","b"]}}`},
		},
		"calls a new Deny a narrowing": {
			doc(allow(`"s3:*"`, `"*"`, "")), doc(allow(`"s3:*"`, `"*"`, ""), `{"Effect":"Deny","Action":"s3:DeleteBucket","Resource":"*"}`),
			[]string{"- Deny [Write] s3:DeleteBucket *"},
		},
		"calls a Deny that went a widening": {
			doc(`{"Effect":"Deny","Action":"s3:DeleteBucket","Resource":"*"}`, allow(`"s3:ListBucket"`, `"*"`, "")), doc(allow(`"s3:ListBucket"`, `"*"`, "")),
			[]string{"+ Deny [Write] s3:DeleteBucket *"},
		},
		"calls a condition that is turned into its IfExists a widening": {
			doc(allow(`"ec2:DeleteVpc"`, vpc, `,"Condition":{"StringEquals":{"aws:ResourceTag/a":"b"}}`)),
			doc(allow(`"ec2:DeleteVpc"`, vpc, `,"Condition":{"StringEqualsIfExists":{"aws:ResourceTag/a":"b"}}`)),
			[]string{`+ Allow [Write] ec2:DeleteVpc arn:aws:ec2:us-east-1:123456789012:vpc/* {"StringEqualsIfExists":{"aws:ResourceTag/a":"b"}}`},
		},
		"marks what can never match": {
			doc(allow(`"eks:CreateCluster"`, `"*"`, "")),
			doc(allow(`"eks:CreateCluster"`, `"*"`, ""), allow(`"iam:UpdateAssumeRolePolicy"`, `"arn:aws:iam::123456789012:instance-profile/*"`, "")),
			[]string{"+ Allow [Permissions management] iam:UpdateAssumeRolePolicy arn:aws:iam::123456789012:instance-profile/* dead"},
		},
		"shows an action that the reference does not know": {
			doc(allow(`"ec2:DeleteVpc"`, `"*"`, "")), doc(allow(`["ec2:DeleteVpc","nosuch:Thing"]`, `"*"`, "")),
			[]string{"+ Allow [] nosuch:Thing *"},
		},
		"sees another principal": {
			trusting(`{"Service":"ec2.amazonaws.com"}`), trusting(`{"Service":["ec2.amazonaws.com","eks.amazonaws.com"]}`),
			[]string{"+ Allow [Write] sts:AssumeRole Service eks.amazonaws.com"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, d := range Diff(mustParse(t, c.old), mustParse(t, c.current), sar.Default()) {
				got = append(got, d.line())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestDiffExpandsPatterns(t *testing.T) {
	t.Parallel()
	facts := sar.Default()
	all := facts.Expand("eks:List*")
	if len(all) < 5 {
		t.Fatalf("got %d actions eks:List*, want several", len(all))
	}
	document := func(actions ...string) *Document {
		return &Document{Version: currentVersion, Statements: []Statement{{Effect: Allow, Action: actions, Resource: []string{"*"}}}}
	}
	var names []string
	for _, a := range all {
		names = append(names, a.String())
	}

	t.Run("shows only the actions that differ", func(t *testing.T) {
		t.Parallel()
		got := Diff(document(names[2:]...), document("eks:List*"), facts)
		if len(got) != 2 || got[0].Action != names[0] || got[1].Action != names[1] || got[0].Class != Widening {
			t.Errorf("got %+v, want %v widened", got, names[:2])
		}
	})
	t.Run("shows a pattern whole where all of it differs, by access level", func(t *testing.T) {
		t.Parallel()
		got := Diff(document("s3:ListBucket"), document("s3:ListBucket", "eks:List*"), facts)
		count := 0
		for _, d := range got {
			if d.Action != "eks:List*" || d.AccessLevel == "" {
				t.Errorf("got %s, want eks:List* with its access level", d.line())
			}
			count += len(d.Actions)
		}
		if count != len(all) {
			t.Errorf("got %d actions, want %d", count, len(all))
		}
	})
	t.Run("says that only what AWS adds later differs", func(t *testing.T) {
		t.Parallel()
		got := Diff(document("eks:List*"), document(names...), facts)
		if len(got) != 1 || !got[0].Future || got[0].Class != Narrowing || got[0].Action != "eks:List*" {
			t.Errorf("got %+v, want one narrowing of the future", got)
		}
	})
	t.Run("shows a pattern over all services whole", func(t *testing.T) {
		t.Parallel()
		for _, d := range Diff(document("s3:*"), document("*"), facts) {
			if d.Action != "*" || len(d.Actions) == 0 || slices.Contains(d.Actions, "s3:GetObject") {
				t.Errorf("got %s, want * with the actions that s3:* has not", d.line())
			}
		}
	})
	t.Run("expands what NotAction leaves", func(t *testing.T) {
		t.Parallel()
		wide := &Document{Version: currentVersion, Statements: []Statement{{Effect: Allow, NotAction: []string{"iam:*"}, Resource: []string{"*"}}}}
		got := Diff(document("s3:*"), wide, facts)
		if len(got) == 0 {
			t.Fatal("got no difference")
		}
		for _, d := range got {
			if d.Action != "NotAction iam:*" || slices.ContainsFunc(d.Actions, func(a string) bool { return strings.HasPrefix(a, "iam:") || strings.HasPrefix(a, "s3:") }) {
				t.Errorf("got %s, want what neither iam:* nor s3:* has", d.line())
			}
		}
	})
	t.Run("compares patterns as they are without a reference", func(t *testing.T) {
		t.Parallel()
		got := Diff(document("eks:ListClusters"), document("eks:List*"), nil)
		if len(got) != 1 || got[0].line() != "+ Allow [] eks:List* *" {
			t.Errorf("got %+v, want eks:List* widened", got)
		}
	})
}

// What is equal has no difference, and what has none is equal.
func TestDiffOfSeed(t *testing.T) {
	t.Parallel()
	facts := sar.Default()
	main, private := seedDocument(t, "main", "us-east-1"), seedDocument(t, "private", "us-east-1")
	if got := Diff(main, Minify(main), facts); len(got) != 0 {
		t.Errorf("got %d differences after Minify, want none", len(got))
	}
	got := Diff(main, Merge(main, private), facts)
	byLevel := map[string]int{}
	for _, d := range got {
		if d.Class != Widening {
			t.Errorf("got %s, want only widenings", d.line())
		}
		if d.AccessLevel == "" {
			t.Errorf("got %s, want its access level", d.line())
		}
		byLevel[d.AccessLevel]++
	}
	t.Logf("the private document widens the main one by %d: %v", len(got), byLevel)
	back := Diff(Merge(main, private), main, facts)
	if len(back) != len(got) {
		t.Errorf("got %d differences backwards, want %d", len(back), len(got))
	}
	if len(Diff(main, seedDocument(t, "main", "eu-central-1"), facts)) == 0 {
		t.Error("got no difference between regions")
	}
}

func ExampleDiff() {
	old, _ := Parse("v1", []byte(`{"Version":"2012-10-17","Statement":
		{"Effect":"Allow","Action":["iam:GetRole","iam:PassRole"],"Resource":"arn:aws:iam::123456789012:role/*"}}`))
	current, _ := Parse("v2", []byte(`{"Version":"2012-10-17","Statement":
		{"Effect":"Allow","Action":["iam:GetRole","iam:PassRole","iam:PutRolePolicy"],"Resource":"arn:aws:iam::123456789012:role/biplane/*"}}`))
	for _, d := range Diff(old, current, sar.Default()) {
		fmt.Printf("%s %s (%s) on %s\n", d.Class, d.Action, d.AccessLevel, d.Resource)
	}
	// Output:
	// widening iam:PutRolePolicy (Permissions management) on arn:aws:iam::123456789012:role/biplane/*
	// narrowing iam:PassRole (Write) on arn:aws:iam::123456789012:role/*
	// narrowing iam:GetRole (Read) on arn:aws:iam::123456789012:role/*
}

// A decision that changes must show as a difference of its class.
func TestDiffMissesNoDecision(t *testing.T) {
	t.Parallel()
	changed := 0
	for seed := range uint64(120) {
		a := author{rand.New(rand.NewPCG(seed, 9))}
		old, current := a.document(false), a.document(false)
		classes := map[Class]bool{}
		for _, d := range Diff(old, current, nil) {
			classes[d.Class] = true
		}
		if Equal(old, current) && len(classes) > 0 {
			t.Errorf("seed %d: got differences between equal documents", seed)
		}
		before, err := Compile(Policies{Identity: []*Document{old}})
		if err != nil {
			t.Fatal(err)
		}
		after, err := Compile(Policies{Identity: []*Document{current}})
		if err != nil {
			t.Fatal(err)
		}
		for range 40 {
			r := a.request()
			was, is := before.Decide(r) == Allowed, after.Decide(r) == Allowed
			if was == is {
				continue
			}
			changed++
			if want := map[bool]Class{true: Widening, false: Narrowing}[is]; !classes[want] {
				t.Fatalf("seed %d: got no %s, want one for %+v\nold %s\nnew %s", seed, want, r, old.Text(), current.Text())
			}
		}
	}
	t.Logf("%d decisions changed", changed)
	if changed < 300 {
		t.Errorf("got %d changed decisions, want enough to mean something", changed)
	}
}
