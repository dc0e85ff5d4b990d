package iampolicy

import (
	"testing"
)

func TestConditions(t *testing.T) {
	t.Parallel()
	type values = []string
	absent := values(nil)
	for name, c := range map[string]struct {
		operator string
		want     values // in the policy
		have     values // in the request
		holds    bool
	}{
		"finds an equal string":                              {"StringEquals", values{"a", "b"}, values{"b"}, true},
		"minds case":                                         {"StringEquals", values{"a"}, values{"A"}, false},
		"takes * as a star in StringEquals":                  {"StringEquals", values{"a*"}, values{"ab"}, false},
		"finds no equal to an absent key":                    {"StringEquals", values{"a"}, absent, false},
		"finds an empty value":                               {"StringEquals", values{""}, values{""}, true},
		"reads a key without values as an empty one":         {"StringEquals", values{""}, values{}, true},
		"passes an absent key by IfExists":                   {"StringEqualsIfExists", values{"a"}, absent, true},
		"does not pass an empty one by IfExists":             {"StringEqualsIfExists", values{"a"}, values{""}, false},
		"compares a key that is there by IfExists":           {"StringEqualsIfExists", values{"a"}, values{"b"}, false},
		"passes an absent key by a negated operator":         {"StringNotEquals", values{"a"}, absent, true},
		"passes another value by a negated operator":         {"StringNotEquals", values{"a", "b"}, values{"c"}, true},
		"refuses any of the values when negated":             {"StringNotEquals", values{"a", "b"}, values{"b"}, false},
		"passes negated IfExists on an absent key":           {"StringNotEqualsIfExists", values{"a"}, absent, true},
		"ignores case":                                       {"StringEqualsIgnoreCase", values{"aB"}, values{"Ab"}, true},
		"ignores case when negated":                          {"StringNotEqualsIgnoreCase", values{"aB"}, values{"Ab"}, false},
		"takes wildcards":                                    {"StringLike", values{"a?c*"}, values{"abcd/e:f"}, true},
		"refuses wildcards when negated":                     {"StringNotLike", values{"a*"}, values{"ab"}, false},
		"finds any of several values":                        {"StringEquals", values{"b"}, values{"a", "b"}, true},
		"refuses any of several values when negated":         {"StringNotEquals", values{"b"}, values{"a", "b"}, false},
		"passes none of several values when negated":         {"StringNotEquals", values{"c"}, values{"a", "b"}, true},
		"wants every value":                                  {"ForAllValues:StringEquals", values{"a", "b"}, values{"a", "b"}, true},
		"refuses one value too many":                         {"ForAllValues:StringEquals", values{"a"}, values{"a", "b"}, false},
		"is true for every value of an absent key":           {"ForAllValues:StringEquals", values{"a"}, absent, true},
		"is true for every value of an empty key":            {"ForAllValues:StringEquals", values{"a"}, values{""}, true},
		"is true for every value of no values":               {"ForAllValues:StringEquals", values{"a"}, values{}, true},
		"wants every value to differ":                        {"ForAllValues:StringNotEquals", values{"a"}, values{"b", "a"}, false},
		"is content when every value differs":                {"ForAllValues:StringNotEquals", values{"a"}, values{"b", "c"}, true},
		"wants some value":                                   {"ForAnyValue:StringEquals", values{"a"}, values{"b", "a"}, true},
		"refuses where no value is":                          {"ForAnyValue:StringEquals", values{"a"}, values{"b"}, false},
		"is false for some value of an absent key":           {"ForAnyValue:StringEquals", values{"a"}, absent, false},
		"is false for some value of no values":               {"ForAnyValue:StringLike", values{"*"}, values{}, false},
		"is false for some differing value of nothing there": {"ForAnyValue:StringNotEquals", values{"a"}, values{""}, false},
		"is false for some value of an empty one":            {"ForAnyValue:StringLike", values{"*"}, values{""}, false},
		"wants some value to differ":                         {"ForAnyValue:StringNotEquals", values{"a"}, values{"a", "b"}, true},
		"refuses where no value differs":                     {"ForAnyValue:StringNotEquals", values{"a"}, values{"a", "a"}, false},
		"is false for some differing value of nothing":       {"ForAnyValue:StringNotEquals", values{"a"}, absent, false},
		"passes ForAnyValue IfExists on an absent key":       {"ForAnyValue:StringEqualsIfExists", values{"a"}, absent, true},

		"sees an absent key":                            {"Null", values{"true"}, absent, true},
		"sees that a key is there":                      {"Null", values{"true"}, values{"a"}, false},
		"wants a key to be there":                       {"Null", values{"false"}, absent, false},
		"is content with a key that is there":           {"Null", values{"false"}, values{"a"}, true},
		"takes an empty key as there":                   {"Null", values{"false"}, values{""}, true},
		"compares numbers":                              {"NumericEquals", values{"10"}, values{"10.0"}, true},
		"compares numbers as such":                      {"NumericLessThan", values{"10"}, values{"9"}, true},
		"compares less or equal":                        {"NumericLessThanEquals", values{"10"}, values{"10"}, true},
		"compares greater":                              {"NumericGreaterThan", values{"10"}, values{"10"}, false},
		"compares greater or equal":                     {"NumericGreaterThanEquals", values{"-1.5"}, values{"-1.5"}, true},
		"passes other numbers when negated":             {"NumericNotEquals", values{"10"}, values{"11"}, true},
		"passes an absent number when negated":          {"NumericNotEquals", values{"10"}, absent, true},
		"refuses a word for a number":                   {"NumericLessThan", values{"10"}, values{"few"}, false},
		"refuses nan for a number":                      {"NumericLessThan", values{"10"}, values{"nan"}, false},
		"compares dates":                                {"DateLessThan", values{"2026-01-02T00:00:00Z"}, values{"2026-01-01T23:59:59Z"}, true},
		"compares dates in zones":                       {"DateEquals", values{"2026-01-01T12:00:00Z"}, values{"2026-01-01T13:00:00+01:00"}, true},
		"compares dates in zones without colon":         {"DateEquals", values{"2026-01-01T12:00:00Z"}, values{"2026-01-01T13:00:00+0100"}, true},
		"compares fractions of seconds":                 {"DateGreaterThan", values{"2026-01-01T12:00:00Z"}, values{"2026-01-01T12:00:00.001Z"}, true},
		"compares days":                                 {"DateGreaterThanEquals", values{"2026-01-01"}, values{"2026-01-01T00:00:00Z"}, true},
		"compares dates with seconds since 1970":        {"DateEquals", values{"2026-01-01T00:00:00Z"}, values{"1767225600"}, true},
		"takes four digits as a year":                   {"DateEquals", values{"2026"}, values{"1767225600"}, true},
		"passes another date when negated":              {"DateNotEquals", values{"2026-01-01"}, values{"2026-01-02"}, true},
		"compares not after":                            {"DateLessThanEquals", values{"2026-01-01"}, values{"2026-01-02"}, false},
		"refuses a word for a date":                     {"DateLessThan", values{"2026-01-01"}, values{"yesterday"}, false},
		"compares true":                                 {"Bool", values{"true"}, values{"true"}, true},
		"compares true without case":                    {"Bool", values{"true"}, values{"True"}, true},
		"refuses false for true":                        {"Bool", values{"true"}, values{"false"}, false},
		"refuses an absent key for false":               {"Bool", values{"false"}, absent, false},
		"passes an absent key for true by IfExists":     {"BoolIfExists", values{"true"}, absent, true},
		"compares bytes":                                {"BinaryEquals", values{"aGVsbG8="}, values{"aGVsbG8="}, true},
		"refuses other bytes":                           {"BinaryEquals", values{"aGVsbG8="}, values{"aGVsbG9="}, false},
		"finds an address in a network":                 {"IpAddress", values{"203.0.113.0/24"}, values{"203.0.113.9"}, true},
		"ignores the host bits of a network":            {"IpAddress", values{"203.0.113.7/24"}, values{"203.0.113.9"}, true},
		"finds a single address":                        {"IpAddress", values{"203.0.113.9"}, values{"203.0.113.9"}, true},
		"refuses an address outside":                    {"IpAddress", values{"203.0.113.0/24"}, values{"203.0.114.9"}, false},
		"finds an address of version 6":                 {"IpAddress", values{"2001:db8::/32"}, values{"2001:DB8:0:0::1"}, true},
		"tells the versions apart":                      {"IpAddress", values{"::/0"}, values{"203.0.113.9"}, false},
		"takes a version 4 address in version 6 as one": {"IpAddress", values{"203.0.113.0/24"}, values{"::ffff:203.0.113.9"}, true},
		"passes an address outside when negated":        {"NotIpAddress", values{"203.0.113.0/24"}, values{"198.51.100.1"}, true},
		"refuses an address inside any when negated":    {"NotIpAddress", values{"10.0.0.0/8", "203.0.113.0/24"}, values{"203.0.113.1"}, false},
		"passes an absent address when negated":         {"NotIpAddress", values{"10.0.0.0/8"}, absent, true},
		"compares ARNs by field":                        {"ArnLike", values{"arn:aws:sns:*:1:*"}, values{"arn:aws:sns:r:1:topic:sub"}, true},
		"keeps wildcards in their field":                {"ArnLike", values{"arn:aws:sns:*:topic:topic"}, values{"arn:aws:sns:r:1:topic:topic"}, false},
		"gives ArnEquals wildcards too":                 {"ArnEquals", values{"arn:aws:iam::1:role/*"}, values{"arn:aws:iam::1:role/a/b"}, true},
		"refuses a like ARN when negated":               {"ArnNotLike", values{"arn:aws:iam::1:role/*"}, values{"arn:aws:iam::1:role/a"}, false},
		"passes an unlike ARN when negated":             {"ArnNotEquals", values{"arn:aws:iam::1:role/a"}, values{"arn:aws:iam::1:role/b"}, true},
		"passes an absent ARN when negated":             {"ArnNotLike", values{"arn:aws:iam::1:role/*"}, absent, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cond, err := newCondition(&Condition{Operator: c.operator, Key: "aws:Key", Values: c.want}, true)
			if err != nil {
				t.Fatal(err)
			}
			r := &Request{Context: Context{}}
			if c.have != nil {
				r.Context.Set("aws:Key", c.have...)
				if r.Context["aws:key"] == nil {
					r.Context["aws:key"] = []string{}
				}
			}
			if got := cond.holds(r); got != c.holds {
				t.Errorf("%s %q on %q: got %v, want %v", c.operator, c.want, c.have, got, c.holds)
			}
		})
	}
}
