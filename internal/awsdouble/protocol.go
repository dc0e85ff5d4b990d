package awsdouble

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"biplane.dev/biplane/internal/awsdouble/eks"
	"biplane.dev/biplane/internal/sigv4"
)

// protocol is how a service is spoken to, which is also how it refuses.
type protocol string

const (
	queryProtocol    protocol = "query"     // IAM, STS, Auto Scaling, …: a form in, XML out
	ec2Protocol      protocol = "ec2"       // Query with names and errors of its own
	jsonProtocol     protocol = "json"      // X-Amz-Target names the operation
	cborProtocol     protocol = "cbor"      // the path names it
	restJSONProtocol protocol = "rest-json" // method and path are the operation
	restXMLProtocol  protocol = "rest-xml"
	s3Protocol       protocol = "s3" // rest-xml with errors of its own
)

// A call is what one request asks for.
type call struct {
	Service   string // as IAM calls it: "elasticloadbalancing", "cloudwatch"
	Operation string // as the SDKs call it: "ListObjectsV2"
	Region    string
	Account   string // the caller's; "" while nobody has signed
	Partition string
	principal string // the ARN of the role or user that calls

	signing  string // the service as signatures name it: "monitoring"
	protocol protocol
	params   *node
	labels   map[string]string // of a REST call: what its path names
	request  *http.Request
	signed   *sigv4.Signed // nil for an unsigned request
	form     url.Values    // of the Query protocols, from the body and the query
	body     []byte        // of what is no stream
	stream   bool          // the body is an object's bytes, not read
	fail     bool          // what the call makes shall end badly, by a fault
}

// where is where a call's things are.
func (c *call) where() eks.Where {
	return eks.Where{Partition: c.Partition, Account: c.Account, Region: c.Region}
}

// fill puts the call's own values into a template.
func (c *call) fill(template string) string {
	if !strings.Contains(template, "{") {
		return template
	}
	return strings.NewReplacer("{partition}", c.Partition, "{region}", c.Region, "{account}", c.Account).Replace(template)
}

// maxBody bounds a request that is read before it is decided. S3 objects are not.
const maxBody = 1 << 20

// services are the names under which IAM knows those that sign with another one.
func iamName(signing string) string {
	switch signing {
	case "monitoring":
		return "cloudwatch"
	case "tagging":
		return "tag"
	case "email":
		return "ses"
	}
	return signing
}

// errNotACall is a request that asks for nothing that can be told.
var errNotACall = errors.New("the request is none of AWS's protocols")

// recognise tells what r asks for. It reads the body, except an S3 object's, and
// puts it back. It believes nothing: the signature is checked by others. The
// call that it returns with an error is good enough to answer in its protocol.
func recognise(r *http.Request, known routes) (*call, error) {
	c := &call{request: r, params: &node{}, Partition: "aws", protocol: queryProtocol}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return c, fmt.Errorf("%w: the query string cannot be read", errNotACall)
	}
	signed, signError := sigv4.Parse(r)
	if signError == nil {
		c.signed, c.signing, c.Region = signed, signed.Service, signed.Region
	}
	c.protocol = protocolOf(r, c.signing)
	if c.signing == "" && c.protocol != queryProtocol {
		// Nobody signed. Only S3 answers such a request, if a bucket's policy lets it.
		if c.protocol != s3Protocol {
			return c, signError
		}
		c.signing = "s3"
	}
	c.Service, c.Partition = iamName(c.signing), partitionOf(c.Region)
	if query.Has("Action") && c.protocol != queryProtocol && c.protocol != ec2Protocol {
		return c, fmt.Errorf("%w: the query names an Action, which %s does not take there", errNotACall, c.signing)
	}

	if c.protocol == s3Protocol {
		return c, c.recogniseS3(known, query)
	}
	if c.body, err = readBody(r); err != nil {
		return c, err
	}
	switch c.protocol {
	case queryProtocol, ec2Protocol:
		form := url.Values{}
		if isForm(r) {
			if form, err = url.ParseQuery(string(c.body)); err != nil {
				return c, fmt.Errorf("%w: the form cannot be read", errNotACall)
			}
		}
		for key, values := range query {
			if !strings.HasPrefix(key, "X-Amz-") {
				form[key] = append(form[key], values...)
			}
		}
		for key, values := range form {
			if len(values) > 1 {
				return c, fmt.Errorf("%w: %s is given %d times", errNotACall, key, len(values))
			}
		}
		c.form, c.Operation = form, form.Get("Action")
		if c.signing == "" { // AssumeRoleWithWebIdentity and its like
			c.signing, c.Service = "sts", "sts"
			if !strings.HasPrefix(c.Operation, "AssumeRoleWith") {
				return c, signError
			}
		}
		if c.params, err = fromForm(form, c.protocol == ec2Protocol); err != nil {
			return c, err
		}
	case jsonProtocol: // CloudTrail has dots before the last one
		target := r.Header.Get("X-Amz-Target")
		c.Operation = target[strings.LastIndexByte(target, '.')+1:]
		c.params, err = fromJSON(c.body)
	case cborProtocol:
		_, c.Operation, _ = strings.Cut(r.URL.Path, "/operation/")
		c.params, err = fromCBOR(c.body)
	default:
		operation, labels, ok := known.find(c.signing, r.Method, r.URL.EscapedPath(), query, r.Header)
		if !ok {
			return c, &unknownOperation{c.signing, r.Method + " " + r.URL.Path}
		}
		c.Operation, c.labels = operation, labels
		c.params, err = c.restParams(labels, query)
	}
	if err == nil && (c.Operation == "" || len(c.Operation) > 100) {
		err = fmt.Errorf("%w: it names no operation", errNotACall)
	}
	if err != nil {
		c.params = &node{}
	}
	return c, err
}

// protocolOf tells the protocol by what only that one has.
func protocolOf(r *http.Request, signing string) protocol {
	switch {
	case signing == "s3":
		return s3Protocol
	case signing == "ec2":
		return ec2Protocol
	case r.Header.Get("X-Amz-Target") != "":
		return jsonProtocol
	case r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor":
		return cborProtocol
	case signing == "route53", signing == "cloudfront":
		return restXMLProtocol
	case isForm(r) || r.URL.Query().Has("Action") && strings.Trim(r.URL.Path, "/") == "":
		return queryProtocol
	case signing == "":
		return s3Protocol
	}
	return restJSONProtocol
}

func isForm(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind == "application/x-www-form-urlencoded"
}

// readBody reads the body within bounds and puts it back.
func readBody(r *http.Request) ([]byte, error) {
	if r.Body == nil {
		return nil, nil
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("reading the request: %w", err)
	}
	if len(body) > maxBody {
		return nil, &sigv4.Error{Code: "RequestEntityTooLarge", Status: http.StatusRequestEntityTooLarge,
			Message: fmt.Sprintf("Request body is larger than %d bytes.", maxBody)}
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	return body, nil
}

// restParams are a REST call's names in the path, in the query and in the body.
func (c *call) restParams(labels map[string]string, query url.Values) (*node, error) {
	params := &node{}
	var err error
	switch {
	case len(bytes.TrimSpace(c.body)) == 0:
	case c.protocol == restJSONProtocol:
		if params, err = fromJSON(c.body); err != nil {
			return nil, err
		}
	default:
		if params, err = fromXML(c.body); err != nil {
			return nil, err
		}
	}
	// A name stands in one place only: of two, we could decide one and the
	// service could go by the other.
	add := func(name string) (*node, error) {
		if params.get(name) != nil {
			return nil, fmt.Errorf("%w: %s is given in two places", errNotACall, name)
		}
		return params.child(name), nil
	}
	for name, value := range labels {
		n, err := add(name)
		if err != nil {
			return nil, err
		}
		n.value = value
	}
	for name, values := range query {
		if strings.HasPrefix(name, "X-Amz-") {
			continue
		}
		n, err := add(name)
		if err != nil {
			return nil, err
		}
		if len(values) == 1 {
			n.value = values[0]
			continue
		}
		for i, value := range values {
			n.child(strconv.Itoa(i + 1)).value = value
		}
	}
	return params, nil
}

// recogniseS3 also turns a bucket in the host's name into one in the path, which
// is how moto behind us wants it.
func (c *call) recogniseS3(known routes, query url.Values) error {
	r := c.request
	path := r.URL.EscapedPath()
	if bucket := hostBucket(r.Host); bucket != "" {
		path = "/" + bucket + path
	}
	operation, labels, ok := known.find("s3", r.Method, path, query, c.s3Header())
	if !ok {
		return fmt.Errorf("%w: S3 has no one operation at %s %s", errNotACall, r.Method, r.URL.Path)
	}
	c.Operation = operation
	switch operation {
	case "PutObject", "UploadPart": // bytes, of any number
		c.stream = true
	}
	var err error
	c.params, err = c.restParams(labels, query)
	return err
}

// readS3Body reads the body of an S3 call that is no stream, after the signature
// has been checked, since that wraps the body and counts the headers.
func (c *call) readS3Body() error {
	c.request.Header = c.s3Header()
	if c.stream {
		return nil
	}
	body, err := readBody(c.request)
	if err != nil {
		return err
	}
	c.body = body
	switch c.Operation {
	case "CreateBucket", "DeleteObjects", "PutBucketReplication", "PutBucketTagging", "PutObjectTagging":
	default: // nothing in the body of the others is asked about
		return nil
	}
	given, err := fromXML(body)
	if err != nil {
		return err
	}
	for _, n := range given.children {
		if n.name != "Bucket" && n.name != "Key" { // those are in the path
			c.params.children = append(c.params.children, n)
		}
	}
	return nil
}

// s3Header are the headers, and those that a presigned URL has in its query
// instead, which S3 takes for the same.
func (c *call) s3Header() http.Header {
	header := c.request.Header
	if c.signed == nil || !c.signed.Presigned {
		return header
	}
	header = header.Clone()
	for name, values := range c.request.URL.Query() {
		if strings.HasPrefix(strings.ToLower(name), "x-amz-") && !strings.HasPrefix(name, "X-Amz-") && header.Get(name) == "" {
			header[http.CanonicalHeaderKey(name)] = values
		}
	}
	return header
}

// hostBucket is the bucket of bucket.localhost or bucket.s3.eu-west-1.amazonaws.com.
func hostBucket(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if net.ParseIP(strings.Trim(host, "[]")) != nil {
		return ""
	}
	if bucket, ok := strings.CutSuffix(host, ".localhost"); ok {
		return strings.TrimSuffix(bucket, ".s3")
	}
	if bucket, _, ok := strings.Cut(host, ".s3."); ok {
		return bucket
	}
	return ""
}

// partitionOf goes by the region, as AWS's own endpoints do.
func partitionOf(region string) string {
	switch {
	case strings.HasPrefix(region, "cn-"):
		return "aws-cn"
	case strings.HasPrefix(region, "us-gov-"):
		return "aws-us-gov"
	}
	return "aws"
}

// asJSON is a value that is known to have a form in JSON.
func asJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		return "{}"
	}
	return string(b)
}
