package roles

import (
	"slices"
	"strconv"
	"strings"

	"biplane.dev/biplane/provision/iampolicy"
)

// audience is what a token for AWS is minted for, in every partition.
const audience = "sts.amazonaws.com"

// trust lets in whoever has a token of exactly these accounts. Both keys are
// demanded: without aud a token for another service would do, without sub that of
// any pod of the cluster.
func (c *Config) trust(accounts []ServiceAccount) *iampolicy.Document {
	document := &iampolicy.Document{Version: "2012-10-17"}
	for _, issuer := range c.providers() {
		var subjects []string
		for _, a := range accounts {
			if c.issuerOf(a) == issuer {
				subjects = append(subjects, c.subjects(a)...)
			}
		}
		if len(subjects) == 0 {
			continue
		}
		operator := "StringEquals"
		if slices.ContainsFunc(subjects, func(s string) bool { return strings.Contains(s, "*") }) {
			operator = "StringLike" // only a domain has one
		}
		document.Statements = append(document.Statements, iampolicy.Statement{
			Effect:    iampolicy.Allow,
			Principal: &iampolicy.Principals{Federated: []string{c.providerARN(issuer)}},
			Action:    []string{"sts:AssumeRoleWithWebIdentity"},
			Condition: []iampolicy.Condition{
				{Operator: "StringEquals", Key: issuer + ":aud", Values: []string{audience}},
				{Operator: operator, Key: issuer + ":sub", Values: subjects},
			},
		})
	}
	return document
}

// permissions are rights in buckets, those that are alike in one statement: for
// each of the rights one on buckets, and one on the objects in them.
//
// Every statement names the account: a bucket's ARN does not, and a bucket of
// that name may one day be somebody else's.
func (c *Config) permissions(rights []Right) *iampolicy.Document {
	document := &iampolicy.Document{Version: "2012-10-17"}
	add := func(resources, actions []string, when ...iampolicy.Condition) {
		when = append(when, iampolicy.Condition{Operator: "StringEquals", Key: "aws:ResourceAccount", Values: []string{c.Account}})
		document.Statements = append(document.Statements, iampolicy.Statement{Effect: iampolicy.Allow, Action: actions, Resource: resources, Condition: when})
	}
	for _, kind := range []Rights{ReadWrite, Read, Presign} {
		var buckets, objects []string
		for _, r := range rights {
			if r.Rights == kind {
				arn := "arn:" + c.Partition + ":s3:::" + c.bucket(r.Bucket)
				buckets, objects = append(buckets, arn), append(objects, arn+"/*")
			}
		}
		if len(buckets) == 0 {
			continue
		}
		switch kind {
		case ReadWrite:
			add(buckets, []string{"s3:GetBucketLocation", "s3:ListBucket", "s3:ListBucketMultipartUploads"})
			add(objects, []string{"s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:ListMultipartUploadParts", "s3:PutObject"})
		case Read:
			add(buckets, []string{"s3:GetBucketLocation", "s3:ListBucket"})
			add(objects, []string{"s3:GetObject"})
		case Presign:
			// A URL runs with the rights of who signed it, so there must be some. They are of
			// use by a URL only, and only by a young one.
			add(objects, []string{"s3:GetObject", "s3:PutObject"},
				iampolicy.Condition{Operator: "NumericLessThanEquals", Key: "s3:signatureAge", Values: []string{strconv.FormatInt(c.SignatureAge.Milliseconds(), 10)}},
				iampolicy.Condition{Operator: "StringEquals", Key: "s3:authType", Values: []string{"REST-QUERY-STRING"}})
		}
	}
	if c.KMSKey != "" && len(document.Statements) > 0 {
		actions := []string{"kms:Decrypt"}
		if slices.ContainsFunc(rights, func(r Right) bool { return r.Rights == ReadWrite || r.Rights == Presign }) {
			actions = append(actions, "kms:GenerateDataKey")
		}
		region := strings.Split(c.KMSKey, ":")[3]
		suffix := ".amazonaws.com"
		if c.Partition == "aws-cn" {
			suffix += ".cn"
		}
		// Through S3 alone: the key encrypts other things, too.
		document.Statements = append(document.Statements, iampolicy.Statement{Effect: iampolicy.Allow, Action: actions, Resource: []string{c.KMSKey},
			Condition: []iampolicy.Condition{{Operator: "StringEquals", Key: "kms:ViaService", Values: []string{"s3." + region + suffix}}}})
	}
	return document
}

func (c *Config) bucket(b Bucket) string {
	if b == FastRegistration {
		return c.FastRegistration
	}
	return c.Metadata
}
