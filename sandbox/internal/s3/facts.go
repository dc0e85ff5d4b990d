package s3

import (
	"encoding/xml"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v3"
	"github.com/valyala/fasthttp"
	"github.com/versity/versitygw/s3api/middlewares"
	"github.com/versity/versitygw/s3api/utils"
	"github.com/versity/versitygw/s3err"

	"biplane.dev/biplane/provision/iampolicy"
)

// facts are what a request shows. Nothing in them says who asks, and they are
// used only once versitygw has verified the signature, which covers the query
// and the x-amz- headers that they come from.
type facts struct {
	bucket, key string // as the path has them
	anonymous   bool
	keys        iampolicy.Context // condition keys
	policy      bool              // reads the bucket's policy: GetBucketPolicy, GetBucketPolicyStatus
	source      string            // of a copy: bucket/key
	version     string            // of the source
	form        func() string     // of an upload by a form: its key, once versitygw has read it

	query *fasthttp.Args

	// What is found out while the request is decided.
	caller   *caller
	decided  bool              // versitygw has asked, and was answered
	policies map[string]string // texts of buckets' policies, each read once
}

func (one *facts) has(parameter string) bool { return one.query.Has(parameter) }

// overridesHeaders says that a request asks for other headers in the answer,
// which S3 does for those alone who sign, whatever they may do.
func (one *facts) overridesHeaders() bool {
	for name := range one.query.All() {
		if strings.HasPrefix(string(name), "response-") {
			return true
		}
	}
	return false
}

// maxDocument is how long a body may be that is a document and not an object's
// content.
const maxDocument = 128 << 10

// factsOf reads a request. It refuses those that would not show everything that
// a policy may ask for.
func (f *front) factsOf(ctx fiber.Ctx) (*facts, s3err.S3Error) {
	request := ctx.Request()
	one := &facts{keys: make(iampolicy.Context, 16), query: request.URI().QueryArgs(), policies: map[string]string{}}
	one.bucket, one.key = f.path(ctx)
	method := ctx.Method()
	if err := checkBody(ctx, one); err != nil {
		return nil, err
	}
	one.policy = method == fiber.MethodGet && (one.has("policy") || one.has("policyStatus"))

	switch {
	case utils.IsPresignedURLAuth(ctx):
		// The same question by which versitygw chooses to check the query's
		// signature and nothing else.
		one.keys.Set("s3:authType", "REST-QUERY-STRING")
		one.keys.Set("s3:signatureversion", "AWS4-HMAC-SHA256")
		if signed, err := time.Parse("20060102T150405Z", ctx.Query("X-Amz-Date")); err == nil {
			// Only a presigned request has an age.
			age := max(0, f.clock().Sub(signed).Milliseconds())
			one.keys.Set("s3:signatureAge", strconv.FormatInt(age, 10))
		}
	case ctx.Get("Authorization") != "":
		one.keys.Set("s3:authType", "REST-HEADER")
		one.keys.Set("s3:signatureversion", "AWS4-HMAC-SHA256")
	case method == fiber.MethodPost && strings.HasPrefix(ctx.Get("Content-Type"), "multipart/form-data"):
		one.anonymous = true // until its form says otherwise
		one.keys.Set("s3:authType", "POST")
		one.form = func() string {
			read, _ := ctx.Locals(string(utils.ContextKeyObjectPostResult)).(middlewares.PostObjectResult)
			return read.Fields["key"]
		}
	default:
		one.anonymous = true
	}

	one.keys.Set("aws:SourceIp", ctx.RequestCtx().RemoteIP().String())
	one.keys.Set("aws:SecureTransport", strconv.FormatBool(ctx.RequestCtx().IsTLS()))
	if state := ctx.RequestCtx().TLSConnectionState(); state != nil {
		one.keys.Set("s3:TlsVersion", "1."+strconv.Itoa(int(state.Version)-0x0301))
	}
	one.keys.Set("aws:RequestedRegion", f.region)
	one.keys.Set("aws:ResourceAccount", f.account)
	one.keys.Set("s3:ResourceAccount", f.account)
	for header, key := range map[string]string{
		"User-Agent": "aws:UserAgent", "Referer": "aws:Referer", "If-Match": "s3:if-match", "If-None-Match": "s3:if-none-match",
	} {
		if value := request.Header.Peek(header); len(value) > 0 {
			one.keys.Set(key, string(value))
		}
	}
	for parameter, key := range map[string]string{
		"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys", "versionId": "s3:VersionId",
	} {
		if one.has(parameter) {
			one.keys.Set(key, string(one.query.Peek(parameter)))
		}
	}
	for name, value := range request.Header.All() {
		lower := strings.ToLower(string(name))
		if strings.HasPrefix(lower, "x-amz-") && lower != "x-amz-security-token" {
			one.keys.Set("s3:"+lower, string(value))
		}
	}
	if err := one.tags(request.Header.Peek("X-Amz-Tagging")); err != nil {
		return nil, err
	}
	if source := strings.TrimPrefix(ctx.Get("X-Amz-Copy-Source"), "/"); source != "" {
		one.source, one.version, _ = strings.Cut(source, "?versionId=")
		if decoded, err := url.QueryUnescape(one.source); err == nil {
			one.source = decoded
		}
	}
	if method == fiber.MethodPut && one.bucket != "" {
		one.fromBody(ctx)
	}
	return one, nil
}

// path is the bucket and the key, by path or by host name.
func (f *front) path(ctx fiber.Ctx) (bucket, key string) {
	path := string(ctx.Request().URI().PathOriginal())
	if decoded, err := url.PathUnescape(path); err == nil {
		path = decoded
	}
	path = strings.TrimPrefix(path, "/")
	if f.domain != "" {
		if name, _, ok := strings.Cut(string(ctx.Request().Host()), "."+f.domain); ok && name != "" {
			return name, path
		}
	}
	bucket, key, _ = strings.Cut(path, "/")
	return bucket, key
}

// tags are those that an object is to have, as in the x-amz-tagging header.
func (one *facts) tags(encoded []byte) s3err.S3Error {
	if len(encoded) == 0 {
		return nil
	}
	tags, err := url.ParseQuery(string(encoded))
	if err != nil {
		return s3err.APIError{Code: "InvalidArgument", HTTPStatusCode: http.StatusBadRequest,
			Description: "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL query parameters without tag name duplicates."}
	}
	one.setTags(tags)
	return nil
}

func (one *facts) setTags(tags map[string][]string) {
	var names []string
	for name, values := range tags {
		one.keys.Set("s3:RequestObjectTag/"+name, values...)
		names = append(names, name)
	}
	if len(names) > 0 {
		one.keys.Set("s3:RequestObjectTagKeys", names...)
	}
}

// fromBody reads what two operations have in their bodies.
func (one *facts) fromBody(ctx fiber.Ctx) {
	if ctx.Request().Header.ContentLength() <= 0 {
		return
	}
	switch {
	case one.key == "" && one.query.Len() == 0: // CreateBucket
		var body struct{ LocationConstraint string }
		if xml.Unmarshal(ctx.BodyRaw(), &body) == nil && body.LocationConstraint != "" {
			one.keys.Set("s3:locationconstraint", body.LocationConstraint)
		}
	case one.key != "" && one.has("tagging"): // PutObjectTagging
		var body struct {
			TagSet struct {
				Tag []struct{ Key, Value string }
			}
		}
		if xml.Unmarshal(ctx.BodyRaw(), &body) != nil {
			return
		}
		tags := map[string][]string{}
		for _, tag := range body.TagSet.Tag {
			tags[tag.Key] = []string{tag.Value}
		}
		one.setTags(tags)
	}
}
