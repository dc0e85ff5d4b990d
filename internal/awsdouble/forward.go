package awsdouble

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// forward hands a decided call to moto.
func (d *Double) forward(ctx context.Context, c *call) (*http.Response, error) {
	out, err := d.toMoto(ctx, c)
	if err != nil {
		return nil, err
	}
	if b := d.world.backed; b != nil && c.Service == "s3" && c.Account == b.account {
		answer, err := b.serveS3(ctx, c, out)
		if err != nil {
			return nil, err
		}
		bucket := c.params.one("Bucket")
		if answer.StatusCode < 300 && (c.Operation == "CreateBucket" || c.Operation == "DeleteBucket") {
			d.world.buckets.forget(bucket)
			return answer, d.shadow(ctx, c, http.MethodDelete) // of an earlier one, or of this one
		}
		if answer.StatusCode != http.StatusNotImplemented || bucket == "" || c.params.has("Key") {
			return answer, nil
		}
		// A setting that the sandbox's S3 does not have: moto keeps it.
		answer.Body.Close()
		if err := d.shadow(ctx, c, http.MethodPut); err != nil {
			return nil, err
		}
		if out, err = d.toMoto(ctx, c); err != nil {
			return nil, err
		}
	}
	if err := d.world.moto.ready(); err != nil {
		return nil, err
	}
	answer, err := d.world.moto.transport.RoundTrip(out)
	if err != nil {
		return nil, fmt.Errorf("handing %s of %s to moto: %w", c.Operation, c.Service, err)
	}
	if gaveUp(answer) {
		answer.Body.Close()
		d.log.Warn("moto cannot do this", "service", c.Service, "operation", c.Operation, "status", answer.StatusCode)
		return nil, &refusal{codeNotThere, "The emulator behind the AWS double, moto, cannot perform " + c.Operation + " of " + c.Service + " as it was asked for.", http.StatusNotImplemented}
	}
	if answer.StatusCode < 300 && (c.Operation == "CreateBucket" || c.Operation == "DeleteBucket") {
		d.world.buckets.forget(c.params.one("Bucket"))
	}
	if tags, tagged := requestTags(c.params); tagged && c.Operation == "CreateBucket" && c.Service == "s3" && answer.StatusCode < 300 {
		if err := d.tagBucket(ctx, c, tags); err != nil {
			answer.Body.Close()
			return nil, err
		}
	}
	answer.Header.Del("Connection")
	if namesBalancers(c) {
		return d.fromMotoBalancers(c, answer)
	}
	return answer, nil
}

// shadow makes or removes moto's bucket of the name of one in the sandbox, which
// has its settings and no objects. That it is there, or not, is no error.
func (d *Double) shadow(ctx context.Context, c *call, method string) error {
	if err := d.world.moto.ready(); errors.Is(err, ErrNoMoto) {
		return nil
	} else if err != nil {
		return err
	}
	body := ""
	if method == http.MethodPut && d.region != "us-east-1" {
		body = "<CreateBucketConfiguration><LocationConstraint>" + d.region + "</LocationConstraint></CreateBucketConfiguration>"
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://moto/"+url.PathEscape(c.params.one("Bucket")), strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Host = strings.TrimPrefix(d.url, "http://")
	r.Header["User-Agent"] = nil
	signForMoto(r, c.Account, d.region, c.signing)
	answer, err := d.world.moto.transport.RoundTrip(r)
	if err != nil {
		return fmt.Errorf("asking moto for the settings of a bucket: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 && answer.StatusCode != http.StatusConflict && answer.StatusCode != http.StatusNotFound {
		return fmt.Errorf("moto answers with status %d to a bucket that is to have settings", answer.StatusCode)
	}
	return nil
}

// tagBucket gives moto's new bucket the tags of the call that made it, which moto
// does not read there.
func (d *Double) tagBucket(ctx context.Context, c *call, tags map[string]string) error {
	text, err := xml.Marshal(taggingOf(tags))
	if err != nil {
		return fmt.Errorf("writing a bucket's tags: %w", err)
	}
	out, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://moto/"+url.PathEscape(c.params.one("Bucket"))+"?tagging", bytes.NewReader(text))
	if err != nil {
		return err
	}
	out.Host = strings.TrimPrefix(d.url, "http://")
	out.Header["User-Agent"] = nil
	signForMoto(out, c.Account, cmp.Or(c.Region, d.region), c.signing)
	answer, err := d.world.moto.transport.RoundTrip(out)
	if err != nil {
		return fmt.Errorf("handing a bucket's tags to moto: %w", err)
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 300 {
		return fmt.Errorf("moto refuses a bucket's tags with status %d", answer.StatusCode)
	}
	return nil
}

// tagging is the body of PutBucketTagging.
type tagging struct {
	XMLName struct{} `xml:"Tagging"`
	Tags    []tag    `xml:"TagSet>Tag"`
}

type tag struct{ Key, Value string }

func taggingOf(tags map[string]string) tagging {
	var body tagging
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		body.Tags = append(body.Tags, tag{key, tags[key]})
	}
	return body
}

// toMoto makes the request that moto gets, of what was decided and not of what
// was sent. moto looks for the operation, its parameters, the region and the
// bucket in more places than AWS does: in a form, the query and the body at
// once, in the host's name and in the user agent. Whatever was not looked at
// here could have it do another thing than the one that was allowed.
func (d *Double) toMoto(ctx context.Context, c *call) (*http.Request, error) {
	method, path, query, header := http.MethodPost, "/", "", http.Header{}
	keep := func(names ...string) {
		for _, name := range names {
			if value := c.request.Header.Get(name); value != "" {
				header.Set(name, value)
			}
		}
	}
	var body io.ReadCloser
	length := int64(0)
	whole := func(b []byte) { body, length = io.NopCloser(bytes.NewReader(b)), int64(len(b)) }
	switch c.protocol {
	case queryProtocol, ec2Protocol:
		header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
		whole([]byte(formForMoto(c.form).Encode()))
	case jsonProtocol:
		keep("X-Amz-Target", "X-Amzn-Query-Mode", "Accept")
		header.Set("Content-Type", "application/x-amz-json-1.1")
		if kind := c.request.Header.Get("Content-Type"); strings.HasPrefix(kind, "application/x-amz-json-") {
			header.Set("Content-Type", kind)
		}
		whole(noForm(c.body))
	case cborProtocol:
		keep("Smithy-Protocol", "Accept")
		header.Set("Content-Type", "application/cbor")
		// What is in the query, moto does not look for in the body.
		path, query = c.request.URL.EscapedPath(), url.Values{"Action": {c.Operation}}.Encode()
		whole(c.body)
	case restJSONProtocol, restXMLProtocol:
		method, path, query = c.request.Method, c.request.URL.EscapedPath(), c.request.URL.RawQuery
		keep("Accept")
		if c.protocol == restJSONProtocol {
			header.Set("Content-Type", "application/json")
			whole(noForm(c.body))
		} else {
			header.Set("Content-Type", "application/xml")
			whole(c.body)
		}
	case s3Protocol:
		method, path, query = c.request.Method, c.request.URL.EscapedPath(), c.request.URL.RawQuery
		if bucket := hostBucket(c.request.Host); bucket != "" {
			path = "/" + bucket + path
		}
		header = c.request.Header.Clone()
		for name := range header {
			if strings.HasPrefix(name, "X-Moto-") {
				header.Del(name)
			}
		}
		for _, name := range []string{"Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Expect", "X-Amz-Target"} {
			header.Del(name)
		}
		switch kind, _, _ := mime.ParseMediaType(header.Get("Content-Type")); kind {
		case "application/x-www-form-urlencoded", "multipart/form-data":
			// moto would take the object's bytes for parameters.
			header.Set("Content-Type", "binary/octet-stream")
		}
		if !c.stream {
			whole(c.body)
		} else if c.request.ContentLength != 0 {
			body, length = c.request.Body, c.request.ContentLength
		}
	}
	if c.signed == nil || c.signed.Presigned {
		query = withoutSignature(query)
	}
	out, err := http.NewRequestWithContext(ctx, method, "http://moto"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: the path %s cannot be read", errNotACall, path)
	}
	for _, own := range []string{"moto-api", "latest", "favicon.ico", "v20180820"} {
		// moto takes these for its own, whatever service is meant.
		if first, _, _ := strings.Cut(strings.TrimLeft(out.URL.Path, "/"), "/"); first == own || own == "moto-api" && strings.HasPrefix(first, own) {
			return nil, &refusal{codeMalformed, "The path /" + own + " cannot be served by the AWS double.", http.StatusBadRequest}
		}
	}
	out.URL.RawQuery, out.Header, out.Body, out.ContentLength = query, header, body, length
	out.Host = strings.TrimPrefix(d.url, "http://")
	out.Header["User-Agent"] = nil // none: moto would look for a region in it
	region := c.Region
	if region == "" {
		region = d.region
	}
	signForMoto(out, c.Account, region, c.signing)
	return out, nil
}

// noForm writes JSON so that nobody can take it for a form.
func noForm(body []byte) []byte { return bytes.ReplaceAll(body, []byte("&"), []byte(`\u0026`)) }

// gaveUp says whether moto answered with a page for people: it has no such
// operation, or failed at it. The start of the answer stays readable.
func gaveUp(answer *http.Response) bool {
	if answer.StatusCode < 400 {
		return false
	}
	r := bufio.NewReader(answer.Body)
	start, _ := r.Peek(len("<!doctype html>"))
	answer.Body = struct {
		io.Reader
		io.Closer
	}{r, answer.Body}
	return strings.EqualFold(string(start), "<!doctype html>")
}

// withoutSignature takes a presigned request's signature out of its query. What
// else stands there, moto must see as it was sent.
func withoutSignature(raw string) string {
	var kept []string
	for field := range strings.SplitSeq(raw, "&") {
		name, _, _ := strings.Cut(field, "=")
		if name, err := url.QueryUnescape(name); err == nil {
			switch name {
			case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
				"X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Content-Sha256":
				continue
			}
		}
		kept = append(kept, field)
	}
	return strings.Join(kept, "&")
}
