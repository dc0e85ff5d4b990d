package iampolicy

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// allowing returns a document with one Allow statement that has more as well.
func allowing(more string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":"*"` + more + `}]}`
}

func conditioned(condition string) string { return allowing(`,"Condition":` + condition) }

func trusting(principal string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":` + principal + `,"Action":"sts:AssumeRole"}]}`
}

func acting(action string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":` + action + `,"Resource":"*"}]}`
}

func on(resource string) string {
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:GetObject","Resource":` + resource + `}]}`
}

// problemCases are one document each with what Scan finds: code and path of
// every problem. They are also the fuzzers' first input.
var problemCases = []struct {
	it   string
	text string
	want []string
}{
	{"refuses an element twice", allowing(`,"Action":"s3:PutObject"`), []string{"duplicate-key Statement[0].Action"}},
	{"refuses an element of the document twice", `{"Statement":[],"Version":"2012-10-17","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`,
		[]string{"duplicate-key Statement"}},
	{"refuses a condition operator twice", conditioned(`{"Bool":{"aws:a":"true"},"Bool":{"aws:b":"true"}}`),
		[]string{"duplicate-key Statement[0].Condition.Bool"}},
	{"refuses a condition key twice", conditioned(`{"Bool":{"aws:a":"true","aws:a":"false"}}`),
		[]string{"duplicate-key Statement[0].Condition.Bool.aws:a"}},
	{"refuses condition keys that differ in case only", conditioned(`{"StringLike":{"aws:SourceVpc":"a","aws:sourcevpc":"b"}}`),
		[]string{"duplicate-key Statement[0].Condition.StringLike.aws:sourcevpc"}},
	{"refuses a principal key twice", trusting(`{"Service":"a.b","Service":"c.d"}`), []string{"duplicate-key Statement[0].Principal.Service"}},
	{"refuses a Sid twice", `{"Statement":[{"Sid":"a","Effect":"Deny","Action":"*","Resource":"*"},{"Sid":"a","Effect":"Deny","Action":"*","Resource":"*"}]}`,
		[]string{"duplicate-sid Statement[1].Sid"}},
	{"refuses an unknown element of the document", `{"Comment":"x","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`, []string{"unknown-element Comment"}},
	{"refuses an unknown element of a statement", allowing(`,"Actions":"*"`), []string{"unknown-element Statement[0].Actions"}},
	{"refuses an unknown kind of principal", trusting(`{"Role":"x"}`), []string{"unknown-element Statement[0].Principal.Role"}},
	{"refuses an element in another case", `{"statement":{"effect":"Allow","Action":"*","RESOURCE":"*"},"version":"2012-10-17"}`,
		[]string{"wrong-case statement", "wrong-case Statement[0].effect", "wrong-case Statement[0].RESOURCE", "wrong-case version"}},
	{"refuses an effect in another case", `{"Statement":{"Effect":"allow","Action":"*","Resource":"*"}}`, []string{"wrong-case Statement[0].Effect"}},
	{"refuses a principal key in another case", trusting(`{"aws":"123456789012"}`), []string{"wrong-case Statement[0].Principal.aws"}},
	{"refuses an operator in another case", conditioned(`{"forallvalues:stringequalsifexists":{"aws:TagKeys":"a"}}`),
		[]string{"wrong-case Statement[0].Condition.forallvalues:stringequalsifexists"}},
	{"refuses a Version that is no string", `{"Version":20121017,"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`, []string{"bad-type Version"}},
	{"refuses a Statement that is a string", `{"Statement":"x"}`, []string{"bad-type Statement"}},
	{"refuses a statement that is a string", `{"Statement":["x"]}`, []string{"bad-type Statement[0]"}},
	{"refuses an Effect that is a boolean", `{"Statement":{"Effect":true,"Action":"*","Resource":"*"}}`, []string{"bad-type Statement[0].Effect"}},
	{"refuses an action that is a number", acting(`["s3:GetObject",7]`), []string{"bad-type Statement[0].Action[1]"}},
	{"refuses an Action that is an object", acting(`{}`), []string{"bad-type Statement[0].Action"}},
	{"refuses a Resource that is null", on(`null`), []string{"bad-type Statement[0].Resource"}},
	{"refuses a Principal that is a list", trusting(`["123456789012"]`), []string{"bad-type Statement[0].Principal"}},
	{"refuses a Condition that is a list", conditioned(`[]`), []string{"bad-type Statement[0].Condition"}},
	{"refuses an operator whose value is a list", conditioned(`{"Bool":[]}`), []string{"bad-type Statement[0].Condition.Bool"}},
	{"refuses a condition value that is an object", conditioned(`{"Bool":{"aws:a":{}}}`), []string{"bad-type Statement[0].Condition.Bool.aws:a"}},
	{"refuses an object without elements", `{}`, []string{"missing-element Statement"}},
	{"refuses a statement without anything", `{"Statement":{}}`,
		[]string{"missing-element Statement[0].Effect", "missing-element Statement[0].Action", "missing-element Statement[0].Resource"}},
	{"refuses Action beside NotAction", allowing(`,"NotAction":"s3:PutObject"`), []string{"conflicting-elements Statement[0].NotAction"}},
	{"refuses Resource beside NotResource", allowing(`,"NotResource":"*"`), []string{"conflicting-elements Statement[0].NotResource"}},
	{"refuses Principal beside NotPrincipal", allowing(`,"Principal":"*","NotPrincipal":{"AWS":"123456789012"}`),
		[]string{"conflicting-elements Statement[0].NotPrincipal"}},
	{"refuses a document without a statement", `{"Statement":[]}`, []string{"empty-list Statement"}},
	{"refuses an empty Action", acting(`[]`), []string{"empty-list Statement[0].Action"}},
	{"refuses an empty Resource", on(`[]`), []string{"empty-list Statement[0].Resource"}},
	{"refuses a condition key without values", conditioned(`{"Bool":{"aws:a":[]}}`), []string{"empty-list Statement[0].Condition.Bool.aws:a"}},
	{"refuses a Version of another day", `{"Version":"2012-10-18","Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`, []string{"bad-version Version"}},
	{"refuses another Effect", `{"Statement":{"Effect":"Permit","Action":"*","Resource":"*"}}`, []string{"bad-effect Statement[0].Effect"}},
	{"refuses a Sid with a space in an identity policy", allowing(`,"Sid":"read objects"`), []string{"bad-sid Statement[0].Sid"}},
	{"refuses an action without a service", acting(`"GetObject"`), []string{"bad-action Statement[0].Action"}},
	{"refuses an action with a space", acting(`["s3:Get Object"]`), []string{"bad-action Statement[0].Action[0]"}},
	{"refuses an action without a name", acting(`"s3:"`), []string{"bad-action Statement[0].Action"}},
	{"refuses a policy variable in an action", acting(`"s3:${aws:username}"`), []string{"bad-action Statement[0].Action"}},
	{"refuses an ARN as an action", acting(`"arn:aws:s3:::b"`), []string{"bad-action Statement[0].Action"}},
	{"refuses a resource that is a name", on(`"bucket"`), []string{"bad-arn Statement[0].Resource"}},
	{"refuses an ARN of five fields", on(`["*","arn:aws:s3::b"]`), []string{"bad-arn Statement[0].Resource[1]"}},
	{"refuses an ARN of another partition", on(`"arn:azure:s3:::b"`), []string{"bad-arn Statement[0].Resource"}},
	{"refuses an ARN without a service", on(`"arn:aws::::b"`), []string{"bad-arn Statement[0].Resource"}},
	{"refuses an ARN without a resource", on(`"arn:aws:s3:::"`), []string{"bad-arn Statement[0].Resource"}},
	{"refuses an ARN in capitals", on(`"ARN:aws:s3:::b"`), []string{"bad-arn Statement[0].Resource"}},
	{"refuses a principal without a type", trusting(`"123456789012"`), []string{"bad-principal Statement[0].Principal"}},
	{"refuses a principal that names nobody", trusting(`{}`), []string{"bad-principal Statement[0].Principal"}},
	{"refuses an account of eleven digits", trusting(`{"AWS":"12345678901"}`), []string{"bad-principal Statement[0].Principal.AWS"}},
	{"refuses an ARN of another service as principal", trusting(`{"AWS":["arn:aws:s3:::b"]}`), []string{"bad-principal Statement[0].Principal.AWS[0]"}},
	{"refuses a wildcard inside a principal", trusting(`{"AWS":"arn:aws:iam::123456789012:role/*"}`), []string{"bad-principal Statement[0].Principal.AWS"}},
	{"refuses a service principal without a dot", trusting(`{"Service":"ec2"}`), []string{"bad-principal Statement[0].Principal.Service"}},
	{"refuses a provider that is a word", trusting(`{"Federated":"google"}`), []string{"bad-principal Statement[0].Principal.Federated"}},
	{"refuses a short canonical user", trusting(`{"CanonicalUser":"abc"}`), []string{"bad-principal Statement[0].Principal.CanonicalUser"}},
	{"refuses an operator that does not exist", conditioned(`{"StringMatches":{"aws:a":"b"}}`), []string{"bad-operator Statement[0].Condition.StringMatches"}},
	{"refuses Null with IfExists", conditioned(`{"NullIfExists":{"aws:a":"true"}}`), []string{"bad-operator Statement[0].Condition.NullIfExists"}},
	{"refuses a prefix that does not exist", conditioned(`{"ForEachValue:StringEquals":{"aws:a":"b"}}`), []string{"bad-operator Statement[0].Condition.ForEachValue:StringEquals"}},
	{"refuses two prefixes", conditioned(`{"ForAllValues:ForAllValues:StringEquals":{"aws:a":"b"}}`),
		[]string{"bad-operator Statement[0].Condition.ForAllValues:ForAllValues:StringEquals"}},
	{"refuses a condition key without a service", conditioned(`{"StringEquals":{"SourceIp":"b"}}`), []string{"bad-condition-key Statement[0].Condition.StringEquals.SourceIp"}},
	{"refuses a word under a numeric operator", conditioned(`{"NumericLessThan":{"s3:max-keys":["10","ten"]}}`),
		[]string{"bad-condition-value Statement[0].Condition.NumericLessThan.s3:max-keys[1]"}},
	{"refuses an infinite number", conditioned(`{"NumericLessThan":{"s3:max-keys":"Inf"}}`), []string{"bad-condition-value Statement[0].Condition.NumericLessThan.s3:max-keys"}},
	{"refuses a date that is none", conditioned(`{"DateLessThan":{"aws:CurrentTime":"tomorrow"}}`), []string{"bad-condition-value Statement[0].Condition.DateLessThan.aws:CurrentTime"}},
	{"refuses yes under Bool", conditioned(`{"BoolIfExists":{"aws:SecureTransport":"yes"}}`), []string{"bad-condition-value Statement[0].Condition.BoolIfExists.aws:SecureTransport"}},
	{"refuses a name under Null", conditioned(`{"Null":{"aws:a":"absent"}}`), []string{"bad-condition-value Statement[0].Condition.Null.aws:a"}},
	{"refuses an address that is none", conditioned(`{"IpAddress":{"aws:SourceIp":"203.0.113.0/33"}}`), []string{"bad-condition-value Statement[0].Condition.IpAddress.aws:SourceIp"}},
	{"refuses a name under an ARN operator", conditioned(`{"ArnLike":{"aws:PrincipalArn":"role/x"}}`), []string{"bad-condition-value Statement[0].Condition.ArnLike.aws:PrincipalArn"}},
	{"refuses what is not base64", conditioned(`{"BinaryEquals":{"aws:a":"%"}}`), []string{"bad-condition-value Statement[0].Condition.BinaryEquals.aws:a"}},
	{"refuses half a surrogate pair", allowing(`,"Sid":"\ud800"`), []string{"bad-text Statement[0].Sid", "bad-sid Statement[0].Sid"}},
	{"refuses a byte order mark", "\uFEFF" + allowing(""), []string{"byte-order-mark "}},
	{"goes on after a problem", `{"Version":"x","Statement":[7,{"Effect":"allow","Action":["a"],"Resource":"b"}]}`,
		[]string{"bad-version Version", "bad-type Statement[0]", "wrong-case Statement[1].Effect", "bad-action Statement[1].Action[0]", "bad-arn Statement[1].Resource"}},
}

func TestScan(t *testing.T) {
	t.Parallel()
	for _, c := range problemCases {
		t.Run(c.it, func(t *testing.T) {
			t.Parallel()
			d, problems, err := Scan("p.json", []byte(c.text))
			if err != nil {
				t.Fatal(err)
			}
			if d == nil {
				t.Fatal("got no document, want the best that could be read")
			}
			var got []string
			for _, p := range problems {
				got = append(got, p.Code+" "+p.Path)
				if p.Message == "" || p.Remedy == "" || p.Position.Line == 0 {
					t.Errorf("got %+v, want a message, a remedy and a position", p)
				}
				if want, ok := strings.CutPrefix(p.Path, "Statement["); ok && !strings.HasPrefix(want, fmt.Sprint(p.Statement)) {
					t.Errorf("got statement %d for %s", p.Statement, p.Path)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
			var form *FormError
			if _, err := Parse("p.json", []byte(c.text)); !errors.As(err, &form) || len(form.Problems) != len(problems) {
				t.Errorf("got %v from Parse, want a FormError with the same problems", err)
			}
		})
	}
}

func TestEveryCodeHasACase(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("parse.go")
	if err != nil {
		t.Fatal(err)
	}
	table := regexp.MustCompile(`(?m)^\t\w+ += "([a-z-]+)" +// `).FindAllSubmatch(source, -1)
	if len(table) < 15 {
		t.Fatalf("got %d codes from the table in parse.go, want all of them", len(table))
	}
	for _, row := range table {
		code := string(row[1])
		if !slices.ContainsFunc(problemCases, func(c struct {
			it   string
			text string
			want []string
		}) bool {
			return slices.ContainsFunc(c.want, func(w string) bool { return strings.HasPrefix(w, code+" ") })
		}) {
			t.Errorf("got no case for %s", code)
		}
	}
}

// validCases are documents that IAM takes, each with what a strict reader may trip on.
var validCases = map[string]string{
	"a single statement":                    `{"Statement":{"Effect":"Deny","Action":"*","Resource":"*"}}`,
	"the old Version and an Id":             `{"Version":"2008-10-17","Id":"a b","Statement":[{"Effect":"Deny","Action":"*","Resource":"*"}]}`,
	"everybody":                             trusting(`"*"`),
	"every AWS principal":                   trusting(`{"AWS":"*"}`),
	"each kind of principal":                trusting(`{"AWS":["123456789012","arn:aws:iam::123456789012:root","arn:aws-cn:sts::123456789012:assumed-role/r/s","AROAIOSFODNN7EXAMPLE"],"Service":"ec2.amazonaws.com","Federated":["accounts.google.com","arn:aws:iam::123456789012:oidc-provider/oidc.eks.us-east-1.amazonaws.com/id/A"],"CanonicalUser":"79a59df900b949e55d96a1e698fbacedfd6e09d98eacf8f8d5218e7cd47ef2be"}`),
	"an empty Sid, twice":                   `{"Statement":[{"Sid":"","Effect":"Deny","Action":"*","Resource":"*"},{"Sid":"","Effect":"Deny","Action":"*","Resource":"*"}]}`,
	"a Sid with a space beside a Principal": trusting(`"*","Sid":"all of them"`),
	"wildcards in an action":                acting(`["s3:*","s3:Get?bject","s*:Get*","execute-api:Invoke"]`),
	"wildcards in every field":              on(`["arn:*:*:*:*:*","arn:aws:s3:::b/*","arn:aws-us-gov:ec2:*:*:vpc/?"]`),
	"variables in an ARN":                   on(`["arn:aws:s3:::b/${aws:username}/*","arn:${aws:partition}:s3:::b","arn:aws:iam::${aws:PrincipalAccount}:role/x"]`),
	"a resource with colons":                on(`"arn:aws:logs:us-east-1:123456789012:log-group:/aws/eks/x:*"`),
	"booleans and numbers as values":        conditioned(`{"Bool":{"aws:SecureTransport":true},"NumericLessThan":{"s3:max-keys":[1,2.5]}}`),
	"every form of date":                    conditioned(`{"DateLessThan":{"aws:CurrentTime":["2026-01-31T00:00:00Z","2026-01-31T00:00:00.5+01:00","2026-01-31","1767225600"]}}`),
	"addresses of both families":            conditioned(`{"NotIpAddressIfExists":{"aws:SourceIp":["203.0.113.0/24","203.0.113.7","2001:db8::/32"]}}`),
	"set operators":                         conditioned(`{"ForAllValues:StringLikeIfExists":{"aws:TagKeys":["a*"]},"ForAnyValue:ArnLike":{"aws:SourceArn":"arn:aws:s3:::*"}}`),
	"variables in place of a value":         conditioned(`{"NumericEquals":{"s3:max-keys":"${aws:PrincipalTag/n}"},"IpAddress":{"aws:SourceIp":"${aws:PrincipalTag/ip}"}}`),
	"keys with slashes and more":            conditioned(`{"StringEquals":{"aws:RequestTag/my key":"x","oidc.eks.us-east-1.amazonaws.com/id/A:sub":"y"}}`),
	"an empty Condition":                    conditioned(`{}`),
	"an empty value":                        conditioned(`{"StringEquals":{"aws:RequestTag/a":""}}`),
	"NotAction, NotResource, Null":          `{"Statement":{"Effect":"Deny","NotAction":"iam:*","NotResource":"arn:aws:iam::*:role/x","Condition":{"Null":{"aws:a":"true"}}}}`,
	"a NotPrincipal without Resource":       `{"Statement":{"Effect":"Deny","NotPrincipal":{"AWS":"123456789012"},"Action":"sts:AssumeRole"}}`,
}

func TestParseAccepts(t *testing.T) {
	t.Parallel()
	for it, text := range validCases {
		t.Run("accepts "+it, func(t *testing.T) {
			t.Parallel()
			d, err := Parse("p.json", []byte(text))
			if err != nil {
				t.Fatal(err)
			}
			again, err := Parse("p.json", d.Text())
			if err != nil {
				t.Fatalf("reading %s: %v", d.Text(), err)
			}
			if got, want := string(again.Text()), string(d.Text()); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
}

func TestParseRefusesWhatIsNoDocument(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		text string
		want Position
	}{
		"refuses nothing":               {"", Position{1, 1}},
		"refuses white space":           {" \n ", Position{2, 2}},
		"refuses a word":                {"{\n  Version", Position{2, 3}},
		"refuses a trailing comma":      {"{\"a\":[1,\n]}", Position{2, 1}},
		"refuses a comment":             {"// x\n{}", Position{1, 1}},
		"refuses text after the object": {"{}\n{}", Position{2, 1}},
		"refuses a cut document":        {`{"Version"`, Position{1, 11}},
		"refuses a list":                {" []", Position{1, 2}},
		"refuses a string":              {`"x"`, Position{1, 1}},
		"refuses another encoding":      {"{\"a\":\"\xe9\"}", Position{1, 7}},
		"refuses a raw line break":      {"{\"a\":\"\n\"}", Position{1, 7}},
		"refuses a deep document":       {strings.Repeat(`{"a":`, 40) + "1" + strings.Repeat("}", 40), Position{1, 166}},
		"refuses a large document":      {`{"a":"` + strings.Repeat("x", maxBytes) + `"}`, Position{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Parse("p.json", []byte(c.text))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) {
				t.Fatalf("got %v, want a SyntaxError", err)
			}
			if syntax.Position != c.want {
				t.Errorf("got %v (%v), want %v", syntax.Position, err, c.want)
			}
			if !strings.HasPrefix(err.Error(), "p.json:") {
				t.Errorf("got %q, want it to begin with the name", err)
			}
		})
	}
}

func TestScanKeepsWhatItUnderstands(t *testing.T) {
	t.Parallel()
	d, _, err := Scan("p.json", []byte(`{"version":"2012-10-17","Statement":[7,
  {"effect":"allow","Action":["s3:GetObject",3],"Resource":"*","Condition":{"bool":{"aws:SecureTransport":true},"No":{"aws:a":"b"}}}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got := string(d.Text())
	want := `{"Version":"2012-10-17","Statement":[{},{"Effect":"Allow","Action":"s3:GetObject","Resource":"*","Condition":{"Bool":{"aws:SecureTransport":"true"}}}]}`
	if got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := d.Statements[1].Position, (Position{2, 3}); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

// The seed's documents, counted by hand elsewhere.
func TestSeedIsReadInFull(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][3]int{
		"main": {31, 243, 223}, "private": {10, 119, 102}, "ecs-task": {2, 5, 5},
		"ecs-execution-trust": {1, 1, 1}, "ecs-task-trust": {1, 1, 1},
	} {
		for _, text := range [][]byte{seedText(t, name, "us-east-1"), seedText(t, name, "${AWS::Region}")} {
			d, err := Parse(name, text)
			if err != nil {
				t.Fatal(err)
			}
			entries, distinct := 0, map[string]bool{}
			for _, st := range d.Statements {
				entries += len(st.Action)
				for _, a := range st.Action {
					distinct[a] = true
				}
			}
			if got := [3]int{len(d.Statements), entries, len(distinct)}; got != want {
				t.Errorf("%s: got %v statements, entries and distinct actions, want %v", name, got, want)
			}
		}
	}
}

func ExampleParse() {
	_, err := Parse("trust.json", []byte(`{
  "Version": "2012-10-17",
  "Statement": {
    "Effect": "Allow",
    "Principal": {"AWS": "arn:aws:iam::479331373192:root"},
    "Action": "sts:AssumeRole",
    "Condition": {"StringEqual": {"sts:ExternalId": "s3cr3t"}}
  }
}`))
	var form *FormError
	if errors.As(err, &form) {
		for _, p := range form.Problems {
			fmt.Printf("%d:%d %s: %s\n", p.Position.Line, p.Position.Column, p.Code, p.Message)
		}
	}
	// Output: 7:32 bad-operator: there is no condition operator "StringEqual"
}
