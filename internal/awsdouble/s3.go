package awsdouble

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"biplane.dev/biplane/provision/iampolicy"
)

// s3Keys are the condition keys that come from an S3 request itself. Which of
// them an action knows is for the reference to say.
func s3Keys(c *call) iampolicy.Context {
	keys := iampolicy.Context{}
	p := c.params
	for name, key := range map[string]string{
		"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys", "versionId": "s3:VersionId",
	} {
		if n := p.get(name); n != nil {
			keys.Set(key, n.value)
		}
	}
	for name, values := range c.request.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") {
			keys.Set("s3:"+name, values...)
		}
	}
	if location := p.one("LocationConstraint"); location != "" {
		keys.Set("s3:locationconstraint", location)
	}
	if tagging, err := url.ParseQuery(c.request.Header.Get("X-Amz-Tagging")); err == nil && len(tagging) > 0 {
		var names []string
		for name, values := range tagging {
			keys.Set("s3:RequestObjectTag/"+name, values[0])
			names = append(names, name)
		}
		keys.Set("s3:RequestObjectTagKeys", names...)
	}
	if signed := c.signed; signed != nil {
		keys.Set("s3:authType", "REST-HEADER")
		keys.Set("s3:signatureversion", "AWS4-HMAC-SHA256")
		if signed.Presigned {
			keys.Set("s3:authType", "REST-QUERY-STRING")
			// Only a presigned request has an age.
			keys.Set("s3:signatureAge", strconv.FormatInt(max(0, signed.Age(time.Now()).Milliseconds()), 10))
		}
	}
	return keys
}

// s3Variants adds what a request's headers ask for beyond its operation, and
// turns to the actions on versions where one is named.
func (x *expansion) s3Variants(all []question) []question {
	p, header := x.call.params, x.call.request.Header
	bucket, key := p.one("Bucket"), p.one("Key")
	start := "arn:" + x.call.Partition + ":s3:::"
	also := func(action, resource string) {
		all = append(all, question{Request: iampolicy.Request{Action: "s3:" + action, Resource: start + resource, Context: s3Keys(x.call)}})
	}
	if n := p.get("versionId"); n != nil && len(all) > 0 {
		versioned := map[string]string{
			"GetObject": "GetObjectVersion", "HeadObject": "GetObjectVersion", "DeleteObject": "DeleteObjectVersion",
			"GetObjectAcl": "GetObjectVersionAcl", "PutObjectAcl": "PutObjectVersionAcl",
			"GetObjectTagging": "GetObjectVersionTagging", "PutObjectTagging": "PutObjectVersionTagging",
			"DeleteObjectTagging": "DeleteObjectVersionTagging", "GetObjectAttributes": "GetObjectVersionAttributes",
		}[x.call.Operation]
		if versioned != "" {
			all[0].Action = "s3:" + versioned
		}
	}
	switch x.call.Operation {
	case "DeleteObjects":
		for _, object := range p.at("Object") {
			if object.one("VersionId") != "" {
				also("DeleteObjectVersion", bucket+"/"+object.one("Key"))
			}
		}
	case "PutObject", "CopyObject", "CreateMultipartUpload":
		if hasACL(header) {
			also("PutObjectAcl", bucket+"/"+key)
		}
		if header.Get("X-Amz-Tagging") != "" {
			also("PutObjectTagging", bucket+"/"+key)
		}
		if header.Get("X-Amz-Object-Lock-Mode") != "" {
			also("PutObjectRetention", bucket+"/"+key)
		}
		if header.Get("X-Amz-Object-Lock-Legal-Hold") != "" {
			also("PutObjectLegalHold", bucket+"/"+key)
		}
	case "CreateBucket":
		if tags, tagged := requestTags(p); tagged {
			also("TagResource", bucket)
			all[len(all)-1].tags = tags
		}
		if hasACL(header) {
			also("PutBucketAcl", bucket)
		}
		if header.Get("X-Amz-Object-Ownership") != "" {
			also("PutBucketOwnershipControls", bucket)
		}
		if strings.EqualFold(header.Get("X-Amz-Bucket-Object-Lock-Enabled"), "true") {
			also("PutBucketObjectLockConfiguration", bucket)
			also("PutBucketVersioning", bucket)
		}
	}
	return all
}

func hasACL(header http.Header) bool {
	if acl := header.Get("X-Amz-Acl"); acl != "" && acl != "private" {
		return true
	}
	for name := range header {
		if strings.HasPrefix(name, "X-Amz-Grant-") {
			return true
		}
	}
	return false
}

// copySource asks about reading what is copied.
func (x *expansion) copySource() []question {
	source, version, _ := strings.Cut(x.call.request.Header.Get("X-Amz-Copy-Source"), "?versionId=")
	source, err := url.PathUnescape(source)
	if err != nil {
		x.fail(&sourceError{x.call.request.Header.Get("X-Amz-Copy-Source")})
		return nil
	}
	q := question{Request: iampolicy.Request{
		Action: "s3:GetObject", Resource: "arn:" + x.call.Partition + ":s3:::" + strings.TrimPrefix(source, "/"), Context: s3Keys(x.call),
	}}
	if version != "" {
		q.Action = "s3:GetObjectVersion"
		q.Context.Set("s3:VersionId", version)
	}
	return []question{q}
}

// A sourceError is a copy source that cannot be read.
type sourceError struct{ source string }

func (e *sourceError) Error() string {
	return "the copy source " + strconv.Quote(e.source) + " is not URL-encoded"
}

// bucketOf is the bucket in an S3 ARN.
func bucketOf(arn string) string {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || f[2] != "s3" {
		return ""
	}
	bucket, _, _ := strings.Cut(f[5], "/")
	return bucket
}
