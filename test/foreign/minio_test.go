package foreign

import (
	"bytes"
	"path"
	"slices"
	"strings"

	"github.com/minio/pkg/v3/policy"

	"biplane.dev/biplane/provision/iampolicy"
)

// minioNames are the condition keys as minio's server names them in a request.
var minioNames = map[string]string{
	"aws:username": "username", "aws:userid": "userid", "aws:referer": "Referer", "aws:sourceip": "SourceIp",
	"aws:currenttime": "CurrentTime", "aws:securetransport": "SecureTransport", "s3:prefix": "prefix", "s3:max-keys": "max-keys",
}

func minio() *evaluator {
	return &evaluator{
		name: "minio",
		compile: func(text []byte) (func(*iampolicy.Request) iampolicy.Decision, error) {
			p, err := policy.ParseConfig(bytes.NewReader(text))
			if err != nil {
				return nil, err
			}
			return func(r *iampolicy.Request) iampolicy.Decision {
				if p.IsAllowed(minioArgs(r)) {
					return iampolicy.Allowed
				}
				return iampolicy.ImplicitDeny
			}, nil
		},
		differences: minioDifferences,
	}
}

func minioArgs(r *iampolicy.Request) policy.Args {
	bucket, object, _ := strings.Cut(strings.TrimPrefix(r.Resource, "arn:aws:s3:::"), "/")
	values := make(map[string][]string, len(r.Context))
	for key, v := range r.Context {
		if len(v) > 0 { // minio panics on a key without values
			values[minioNames[key]] = v
		}
	}
	return policy.Args{AccountName: "ann", Action: policy.Action(r.Action), BucketName: bucket, ObjectName: object, ConditionValues: values}
}

// minioObject is what minio compares a resource pattern with.
func minioObject(r *iampolicy.Request) string {
	object := strings.TrimPrefix(r.Resource, "arn:aws:s3:::")
	if !strings.Contains(object, "/") {
		object += "/"
	}
	return object
}

var minioDifferences = []difference{
	{
		"* is for administrators", "Action * counts as an administrator's statement, whose resources are ignored",
		func(e element, r *iampolicy.Request) bool { return e.nowhere && e.action == "*" },
	},
	{
		"case of actions", "actions compare with regard to case",
		func(e element, r *iampolicy.Request) bool {
			return strings.EqualFold(e.action, r.Action) && e.action != r.Action
		},
	},
	{
		"version implies object", "s3:GetObjectVersion also grants s3:GetObject",
		func(e element, r *iampolicy.Request) bool {
			return e.action == "s3:GetObjectVersion" && r.Action == "s3:GetObject"
		},
	},
	{
		"a bucket is a folder", "a bucket is compared as bucket/, and an object's name after path.Clean too",
		func(e element, r *iampolicy.Request) bool {
			const s3 = "arn:aws:s3:::"
			object := minioObject(r)
			theirs := iampolicy.MatchARN(e.resource, s3+object) || e.resource == s3+path.Clean(object)
			return e.resource != "" && theirs != iampolicy.MatchARN(e.resource, r.Resource)
		},
	},
	{
		"variables", "an unknown variable stays as text, a value's wildcards count, and there are no defaults and escapes",
		func(e element, r *iampolicy.Request) bool { return e.hasVariables() },
	},
	bytesForCharacters, keyWithoutValues, nullDataSet, dateForms,
	{
		"negated sets", "the result of a set operator is negated, not each comparison",
		func(e element, r *iampolicy.Request) bool {
			set, _, _ := e.operator()
			return set != "" && e.isNegated()
		},
	},
	{
		"no sets of such", "ForAllValues and ForAnyValue are ignored except on strings",
		func(e element, r *iampolicy.Request) bool {
			set, _, _ := e.operator()
			return set != "" && !e.isOf("String")
		},
	},
	{
		"first value only", "of several numbers, dates or booleans only the first is compared",
		func(e element, r *iampolicy.Request) bool {
			values, _ := e.values(r)
			return e.isOf("Numeric", "Date", "Bool") && len(values) > 1
		},
	},
	{
		"absent is not unequal", "a negated comparison of a number or date is false for an absent key",
		func(e element, r *iampolicy.Request) bool {
			_, present := e.values(r)
			return e.isOf("Numeric", "Date") && e.isNegated() && !present
		},
	},
	{
		"whole numbers only", "a number with a fraction, or a word, is no number, and is not unequal either",
		func(e element, r *iampolicy.Request) bool {
			return e.isOf("Numeric") && slices.ContainsFunc(e.compared(r), func(s string) bool { return strings.ContainsAny(s, ".w") })
		},
	},
	{
		"case of booleans", "true and True differ",
		func(e element, r *iampolicy.Request) bool {
			return e.isOf("Bool") && slices.ContainsFunc(slices.Concat(e.texts(), e.compared(r)), func(s string) bool { return s != strings.ToLower(s) })
		},
	},
	{
		"one bad address", "an address that cannot be read hides the others",
		func(e element, r *iampolicy.Request) bool {
			return e.isOf("IpAddress", "NotIpAddress") && slices.Contains(e.compared(r), "nowhere")
		},
	},
}
