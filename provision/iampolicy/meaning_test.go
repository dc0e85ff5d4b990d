package iampolicy

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

// author writes random documents from a vocabulary so small that grants repeat,
// cover and contradict each other all the time.
type author struct{ *rand.Rand }

func (a author) some(from ...string) []string {
	var out []string
	for range 1 + a.IntN(3) {
		out = append(out, from[a.IntN(len(from))])
	}
	return out
}

func (a author) document(principals bool) *Document {
	d := &Document{Name: "random", Version: a.some("2012-10-17", "2012-10-17", "2008-10-17", "")[0]}
	for range 1 + a.IntN(6) {
		st := Statement{Effect: Allow}
		if a.IntN(4) == 0 {
			st.Effect = Deny
		}
		actions := a.some("s3:GetObject", "S3:getobject", "s3:PutObject", "s3:Get*", "s3:*", "*", "ec2:RunInstances", "ec2:Describe?pcs", "ec2:DescribeVpcs")
		if a.IntN(6) == 0 {
			st.NotAction = actions
		} else {
			st.Action = actions
		}
		resources := a.some("*", "arn:aws:s3:::a", "arn:aws:s3:::a/*", "arn:aws:s3:::*", "arn:aws:s3:::a/b/?", "arn:aws:ec2:*:123456789012:vpc/*",
			"arn:aws:ec2:us-east-1:123456789012:vpc/v1", "arn:aws:s3:::a/${aws:username}", "arn:aws:s3:::a/${*}")
		switch a.IntN(6) {
		case 0:
			st.NotResource = resources
		default:
			st.Resource = resources
		}
		if a.IntN(2) == 0 {
			st.Condition = a.conditions()
		}
		if principals {
			p := &Principals{}
			switch a.IntN(5) {
			case 0:
				p.Any = true
			case 1:
				p.Service = a.some("ec2.amazonaws.com", "eks.amazonaws.com")
			case 2:
				p.Federated = a.some("accounts.google.com")
				fallthrough
			default:
				p.AWS = a.some("123456789012", "arn:aws:iam::123456789012:root", "arn:aws:iam::123456789012:role/r", "*", "arn:aws:iam::210987654321:user/u")
			}
			if st.Effect == Deny && a.IntN(3) == 0 {
				st.NotPrincipal = p
			} else {
				st.Principal = p
			}
		}
		d.Statements = append(d.Statements, st)
	}
	return d
}

func (a author) conditions() []Condition {
	all := []Condition{
		{"StringEquals", "aws:RequestTag/Team", a.some("data", "ml")},
		{"StringLike", "aws:requesttag/team", a.some("d*", "data", "${aws:username}")},
		{"Bool", "aws:SecureTransport", a.some("true", "True")},
		{"IpAddress", "aws:SourceIp", a.some("10.0.0.1", "10.0.0.1/32", "10.0.0.0/8")},
		{"ArnEquals", "aws:SourceArn", a.some("arn:aws:s3:::*")},
		{"ArnLike", "aws:SourceArn", a.some("arn:aws:s3:::*")},
		{"ForAllValues:StringEquals", "aws:TagKeys", a.some("Team", "Owner")},
		{"StringNotEquals", "aws:RequestTag/Team", a.some("data", "ml", "${aws:username}")},
		{"StringNotEqualsIfExists", "aws:RequestTag/Team", a.some("data", "ml")},
		{"StringEqualsIfExists", "aws:RequestTag/Team", a.some("data", "ml")},
		{"ForAnyValue:StringNotLike", "aws:TagKeys", a.some("T*", "Team", "Owner")},
		{"ForAnyValue:StringLike", "aws:TagKeys", a.some("T*", "Team", "Owner", "*")},
		{"ForAllValues:StringNotEquals", "aws:TagKeys", a.some("Team", "Owner")},
		{"ArnNotLike", "aws:SourceArn", a.some("arn:aws:s3:::*", "arn:aws:s3:::a")},
		{"Null", "aws:SecureTransport", a.some("true", "false")},
	}
	a.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	var out []Condition
	for _, c := range all[:1+a.IntN(2)] {
		if len(out) == 0 || out[0].Operator != c.Operator {
			out = append(out, c)
		}
	}
	return out
}

func (a author) request() *Request {
	r := &Request{
		Action: a.some("s3:GetObject", "s3:PutObject", "s3:GetBucketAcl", "ec2:RunInstances", "ec2:DescribeVpcs", "iam:GetRole")[0],
		Resource: a.some("*", "arn:aws:s3:::a", "arn:aws:s3:::a/x", "arn:aws:s3:::a/b/c", "arn:aws:s3:::a/jo", "arn:aws:s3:::a/*",
			"arn:aws:s3:::a/${aws:username}", "arn:aws:ec2:us-east-1:123456789012:vpc/v1", "arn:aws:ec2:eu-west-1:123456789012:vpc/v2")[0],
		Context: Context{},
	}
	switch a.IntN(5) {
	case 0:
		r.Principal = Principal{Type: Service, ARN: "ec2.amazonaws.com"}
	case 1:
		r.Principal = Principal{Type: AWS, ARN: "arn:aws:iam::210987654321:user/u", Account: "210987654321"}
	case 2:
		r.Principal = Principal{Type: Anonymous}
	default:
		r.Principal = Principal{
			Type: AWS, ARN: "arn:aws:sts::123456789012:assumed-role/r/s", RoleARN: "arn:aws:iam::123456789012:role/r", Account: "123456789012",
		}
	}
	for key, values := range map[string][]string{
		"aws:username": {"jo", "*"}, "aws:RequestTag/team": {"data", "ml", "d"}, "aws:SecureTransport": {"true", "false"},
		"aws:SourceIp": {"10.0.0.1", "10.1.1.1", "192.0.2.1"}, "aws:SourceArn": {"arn:aws:s3:::a", "arn:aws:sns:us-east-1:1:t"}, "aws:TagKeys": {"Team", "Other"},
	} {
		if a.IntN(3) > 0 {
			r.Context.Set(key, values[a.IntN(len(values))])
		}
	}
	return r
}

// Every way of rewriting a document must leave every decision as it was.
func TestRewritingKeepsDecisions(t *testing.T) {
	t.Parallel()
	decisions, byKind := 0, map[Decision]int{}
	for seed := range uint64(120) {
		a := author{rand.New(rand.NewPCG(seed, 3))}
		resource := seed%2 == 0
		d := a.document(resource)
		parsed, err := Parse("random", d.Text())
		if err != nil {
			t.Fatalf("%v in %s", err, d.Text())
		}
		packed, err := PackFewest("p", d, 700)
		if err != nil {
			t.Fatal(err)
		}
		stable, err := Pack([]Group{{"g", d}}, 900)
		if err != nil {
			t.Fatal(err)
		}
		join := func(packed []Packed) *Document {
			var all []*Document
			for _, p := range packed {
				all = append(all, p.Document)
			}
			return Merge(all...)
		}
		rewritten := map[string]*Document{
			"Parse(Text)": parsed, "Canonical": Canonical(d), "Minify": Minify(d), "Merge": Merge(d, d),
			"PackFewest": join(packed), "Pack": join(stable), "Minify(Merge)": Minify(Merge(d, Canonical(d))),
		}
		compile := func(d *Document) *Evaluator {
			p := Policies{Identity: []*Document{d}}
			if resource {
				p = Policies{Resource: d}
			}
			e, err := Compile(p)
			if err != nil {
				t.Fatalf("%v in %s", err, d.Text())
			}
			return e
		}
		original := compile(d)
		requests := make([]*Request, 40)
		for i := range requests {
			requests[i] = a.request()
		}
		for how, other := range rewritten {
			if !Equal(d, other) {
				t.Errorf("seed %d: got %s not Equal to the original:\n%s\n%s", seed, how, d.Text(), other.Text())
			}
			if _, err := Parse("", other.Text()); err != nil {
				t.Errorf("seed %d: %s: %v", seed, how, err)
			}
			if how == "Minify" && other.Size() > d.Size() {
				t.Errorf("seed %d: got %d characters after Minify, want at most %d", seed, other.Size(), d.Size())
			}
			e := compile(other)
			for _, r := range requests {
				got, want := e.Decide(r), original.Decide(r)
				decisions++
				byKind[want]++
				if got != want {
					t.Fatalf("seed %d: %s: got %v, want %v for %+v\noriginal %s\nrewritten %s", seed, how, got, want, r, d.Text(), other.Text())
				}
			}
		}
	}
	t.Logf("%d decisions compared: %v", decisions, byKind)
	for _, kind := range []Decision{Allowed, ExplicitDeny, ImplicitDeny} {
		if byKind[kind] < decisions/50 {
			t.Errorf("got %d of %d decisions %v, want enough of each kind to mean something", byKind[kind], decisions, kind)
		}
	}
}

// Documents that are Equal must decide alike. The vocabulary is smaller still,
// so that many are.
func TestEqualDocumentsDecideAlike(t *testing.T) {
	t.Parallel()
	a := author{rand.New(rand.NewPCG(1, 1))}
	small := func() *Document {
		d := &Document{Version: currentVersion}
		for range 1 + a.IntN(2) {
			d.Statements = append(d.Statements, Statement{
				Effect: Effect(a.some("Allow", "Allow", "Deny")[0]), Action: a.some("s3:GetObject", "s3:*", "*"), Resource: a.some("*", "arn:aws:s3:::a/*"),
			})
		}
		return d
	}
	equal := 0
	for range 5000 {
		x, y := small(), small()
		if !Equal(x, y) {
			continue
		}
		equal++
		ex, err := Compile(Policies{Identity: []*Document{x}})
		if err != nil {
			t.Fatal(err)
		}
		ey, err := Compile(Policies{Identity: []*Document{y}})
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			r := a.request()
			if got, want := ex.Decide(r), ey.Decide(r); got != want {
				t.Fatalf("got %v and %v for %+v by\n%s\n%s", got, want, r, x.Text(), y.Text())
			}
		}
	}
	t.Logf("%d of 5000 pairs were equal", equal)
	if equal < 100 {
		t.Errorf("got %d equal pairs, want enough to mean something", equal)
	}
}

func TestEqual(t *testing.T) {
	t.Parallel()
	st := func(rest string) string { return `{"Version":"2012-10-17","Statement":[` + rest + `]}` }
	for name, c := range map[string]struct {
		a, b string
		want bool
	}{
		"ignores Sids, order and scalars": {
			st(`{"Sid":"A","Effect":"Allow","Action":["s3:a","s3:b"],"Resource":"*"},{"Effect":"Deny","Action":"*","Resource":["*"]}`),
			st(`{"Effect":"Deny","Action":["*"],"Resource":"*"},{"Sid":"B","Effect":"Allow","Action":["s3:b","s3:a","s3:A"],"Resource":["*","*"]}`), true,
		},
		"ignores how grants are split": {
			st(`{"Effect":"Allow","Action":["s3:a","s3:b"],"Resource":["arn:aws:s3:::x","arn:aws:s3:::y"]}`),
			st(`{"Effect":"Allow","Action":"s3:a","Resource":["arn:aws:s3:::x","arn:aws:s3:::y"]},{"Effect":"Allow","Action":"s3:b","Resource":"arn:aws:s3:::y"},{"Effect":"Allow","Action":"s3:b","Resource":"arn:aws:s3:::x"}`), true,
		},
		"ignores a grant within a wider one": {
			st(`{"Effect":"Allow","Action":"s3:*","Resource":"*"},{"Effect":"Allow","Action":"s3:a","Resource":"arn:aws:s3:::x","Condition":{"Bool":{"aws:SecureTransport":"true"}}}`),
			st(`{"Effect":"Allow","Action":"s3:*","Resource":"*"}`), true,
		},
		"takes an account for its root": {
			trusting(`{"AWS":["123456789012","210987654321"]}`), trusting(`{"AWS":["arn:aws:iam::210987654321:root","arn:aws:iam::123456789012:root"]}`), true,
		},
		"ignores how principals are split": {
			trusting(`{"AWS":"123456789012","Service":"a.b"}`),
			`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"},{"Effect":"Allow","Principal":{"Service":"a.b"},"Action":"sts:AssumeRole"}]}`, true,
		},
		"ignores the case of condition keys and of booleans": {
			conditioned(`{"Bool":{"aws:SecureTransport":true}}`), conditioned(`{"Bool":{"aws:securetransport":"True"}}`), true,
		},
		"ignores the Version where there are no variables": {
			allowing(""), `{"Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"}]}`, true,
		},
		"sees the Version where there are variables": {
			on(`"arn:aws:s3:::b/${aws:username}"`), `{"Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::b/${aws:username}"}]}`, false,
		},
		"sees a different effect":         {st(`{"Effect":"Allow","Action":"*","Resource":"*"}`), st(`{"Effect":"Deny","Action":"*","Resource":"*"}`), false},
		"sees a resource less":            {on(`["arn:aws:s3:::a","arn:aws:s3:::b"]`), on(`"arn:aws:s3:::a"`), false},
		"sees the case of a resource":     {on(`"arn:aws:s3:::a"`), on(`"arn:aws:s3:::A"`), false},
		"sees a condition":                {allowing(""), conditioned(`{"Bool":{"aws:a":"true"}}`), false},
		"sees the case of a string value": {conditioned(`{"StringEquals":{"aws:a":"b"}}`), conditioned(`{"StringEquals":{"aws:a":"B"}}`), false},
		"sees crossed pairs": {
			st(`{"Effect":"Allow","Action":"s3:a","Resource":"arn:aws:s3:::x"},{"Effect":"Allow","Action":"s3:b","Resource":"arn:aws:s3:::y"}`),
			st(`{"Effect":"Allow","Action":["s3:a","s3:b"],"Resource":["arn:aws:s3:::x","arn:aws:s3:::y"]}`), false,
		},
		"sees NotAction": {acting(`"s3:a"`), `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","NotAction":"s3:a","Resource":"*"}]}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, err := Parse("a", []byte(c.a))
			if err != nil {
				t.Fatal(err)
			}
			b, err := Parse("b", []byte(c.b))
			if err != nil {
				t.Fatal(err)
			}
			if got := Equal(a, b); got != c.want {
				t.Errorf("got %v, want %v for\n%s\n%s", got, c.want, Canonical(a).Text(), Canonical(b).Text())
			}
		})
	}
}

func TestCanonicalOfALargeDocument(t *testing.T) {
	t.Parallel()
	st := Statement{Effect: Allow}
	for i := range 400 {
		st.Action = append(st.Action, fmt.Sprintf("s3:Action%d", i))
		st.Resource = append(st.Resource, fmt.Sprintf("arn:aws:s3:::b%d/*", i))
	}
	d := &Document{Version: currentVersion, Statements: []Statement{st}}
	if c := Canonical(d); len(c.Statements) != 1 || len(c.Statements[0].Action) != 400 {
		t.Errorf("got %d statements, want the one, compared whole", len(c.Statements))
	}
	if !Equal(d, Minify(d)) {
		t.Error("got another meaning from Minify")
	}
}
