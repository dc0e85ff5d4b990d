package foreign

import (
	"slices"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// chooser picks one of n; a seeded generator or the fuzzer's bytes.
type chooser func(n int) int

// bytesChooser lets the fuzzer steer; when its bytes end, the first choice is
// always taken, which ends every loop.
func bytesChooser(data []byte) chooser {
	return func(n int) int {
		if len(data) == 0 || n < 2 {
			return 0
		}
		b := data[0]
		data = data[1:]
		return int(b) % n
	}
}

func (c chooser) word(words ...string) string { return words[c(len(words))] }

// chance is true once in n.
func (c chooser) chance(n int) bool { return c(n) == n-1 }

func (c chooser) words(most int, next func() string) []string {
	words := []string{next()}
	for len(words) < most && c.chance(3) {
		if w := next(); !slices.Contains(words, w) {
			words = append(words, w)
		}
	}
	return words
}

// text strings together up to most pieces.
func (c chooser) text(most int, pieces ...string) string {
	var b strings.Builder
	for range c(most + 1) {
		b.WriteString(c.word(pieces...))
	}
	return b.String()
}

// document is of S3 actions, S3 resources, and keys that all engines know.
func (c chooser) document() *iampolicy.Document {
	d := &iampolicy.Document{Name: "generated", Version: "2012-10-17"}
	if c.chance(12) {
		d.Version = c.word("2008-10-17", "")
	}
	for {
		d.Statements = append(d.Statements, c.statement())
		if len(d.Statements) == 3 || !c.chance(2) {
			return d
		}
	}
}

func (c chooser) statement() iampolicy.Statement {
	s := iampolicy.Statement{Effect: iampolicy.Allow}
	if c.chance(5) {
		s.Effect = iampolicy.Deny
	}
	actions := c.words(3, c.actionPattern)
	if c.chance(6) {
		s.NotAction = actions
	} else {
		s.Action = actions
	}
	resources := c.words(3, c.resourcePattern)
	if c.chance(6) {
		s.NotResource = resources
	} else {
		s.Resource = resources
	}
	for len(s.Condition) < 2 && c.chance(2) {
		condition := c.condition()
		if len(s.Condition) == 0 || s.Condition[0].Operator != condition.Operator {
			s.Condition = append(s.Condition, condition)
		}
	}
	return s
}

func (c chooser) actionPattern() string {
	if c.chance(30) {
		return c.word("*", "S3:getobject", "s3:PUTOBJECT", "s3:GetObjectVersion")
	}
	return c.word("s3:*", "s3:*", "s3:*", "s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:Get*", "s3:*Object", "s3:?etObject",
		"s3:GetObject*", "s3:DeleteObject")
}

func (c chooser) action() string {
	return c.word("s3:GetObject", "s3:PutObject", "s3:ListBucket", "s3:DeleteObject", "s3:GetBucketLocation", "s3:GetObjectVersion")
}

func (c chooser) resourcePattern() string {
	if c.chance(8) {
		return c.word("*", "arn:aws:s3:::*", "arn:aws:s3:*:*:bucket/*", "arn:aws:s3:*:*:a*", "arn:aws:s3:::bucket/${aws:username}/*",
			"arn:aws:s3:::bucket/${aws:username, 'a'}/*", "arn:aws:s3:::bucket/${*}", "arn:aws:s3:::bucket/é?")
	}
	if !c.chance(3) {
		return c.word("*", "arn:aws:s3:::*", "arn:aws:s3:::bucket/*", "arn:aws:s3:::b*", "arn:aws:s3:::*/a*", "arn:aws:s3:::bucket")
	}
	return "arn:aws:s3:::" + c.word("bucket", "bucke?", "bucket", "b*t", "b*", "other") + c.text(5, "/", "a", "b", "*", "/", "?", "a", ":")
}

func (c chooser) resource() string {
	bucket := "arn:aws:s3:::" + c.word("bucket", "bucket", "other")
	if c.chance(4) {
		return bucket
	}
	return bucket + "/" + c.word("a", "b", "ann", "é", "*", "a/a") + c.text(4, "/a", "a", "b", "/b", ":", "é", "/")
}

// kinds are the keys with the operators that suit them and what their values are.
var kinds = []struct {
	keys      []string
	operators []string
	values    []string
}{
	{
		[]string{"aws:username", "aws:Referer", "s3:prefix", "aws:userid"},
		[]string{"StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"},
		[]string{"ann", "bob", "Ann", "a*", "?nn", "", "*", "${aws:username}", "a${*}", "${aws:username, 'bob'}"},
	},
	{
		[]string{"aws:SourceIp"},
		[]string{"IpAddress", "NotIpAddress"},
		[]string{"10.0.0.0/8", "10.1.2.3", "0.0.0.0/0", "2001:db8::/32", "::/0", "192.0.2.0/24"},
	},
	{
		[]string{"s3:max-keys"},
		[]string{"NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"},
		[]string{"10", "9", "100", "0", "-1", "1.5", "10.0"},
	},
	{
		[]string{"aws:CurrentTime"},
		[]string{"DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals", "DateGreaterThan", "DateGreaterThanEquals"},
		[]string{"2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-06-01T00:00:00Z", "2026-01-01", "1767225600"},
	},
	{
		[]string{"aws:SecureTransport"},
		[]string{"Bool"},
		[]string{"true", "false", "True"},
	},
	{
		[]string{"aws:username", "s3:prefix", "aws:SourceIp"},
		[]string{"Null"},
		[]string{"true", "false"},
	},
}

func (c chooser) condition() iampolicy.Condition {
	kind := kinds[c(len(kinds))]
	if c.chance(5) {
		kind = kinds[0]
	}
	condition := iampolicy.Condition{Operator: c.word(kind.operators...), Key: c.word(kind.keys...)}
	if condition.Operator == "Null" {
		condition.Values = []string{c.word(kind.values...)}
		return condition
	}
	if c.chance(4) {
		condition.Operator = c.word("ForAllValues:", "ForAnyValue:") + condition.Operator
	}
	if c.chance(6) {
		condition.Operator += "IfExists"
	}
	condition.Values = c.words(3, func() string { return c.word(kind.values...) })
	return condition
}

func (c chooser) request() *iampolicy.Request {
	r := &iampolicy.Request{
		Principal: iampolicy.Principal{Type: iampolicy.AWS, ARN: "arn:aws:iam::123456789012:user/ann", Account: "123456789012"},
		Action:    c.action(), Resource: c.resource(), Context: iampolicy.Context{},
	}
	for _, k := range []struct {
		key    string
		values []string
	}{
		{"aws:username", []string{"ann", "bob", "Ann", "a*", "", "é"}},
		{"aws:Referer", []string{"ann", "bob", "abc"}},
		{"aws:userid", []string{"ann", "bob"}},
		{"s3:prefix", []string{"ann", "bob", "annb", "a*", ""}},
		{"aws:SourceIp", []string{"10.1.2.3", "10.9.9.9", "192.0.2.7", "2001:db8::1", "::ffff:10.1.2.3", "nowhere", "nowhere"}},
		{"s3:max-keys", []string{"10", "9", "11", "0", "1.5", "few"}},
		{"aws:CurrentTime", []string{"2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "2027-01-01T00:00:00+02:00", "1767225600"}},
		{"aws:SecureTransport", []string{"true", "false", "TRUE"}},
	} {
		switch {
		case c.chance(3):
		case c.chance(12):
			r.Context[strings.ToLower(k.key)] = []string{}
		case c.chance(4):
			r.Context.Set(k.key, c.word(k.values...), c.word(k.values...))
		default:
			r.Context.Set(k.key, c.word(k.values...))
		}
	}
	return r
}
