package awsdouble

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iam"

	"biplane.dev/biplane/internal/awsdouble/cloudformation"
	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/provision/iampolicy"
)

// cloudFormation performs a decided call of CloudFormation, which is not moto's.
func (d *Double) cloudFormation(ctx context.Context, c *call) (*http.Response, error) {
	if c.protocol != queryProtocol {
		return nil, &refusal{codeUnknown, "CloudFormation speaks the Query protocol.", http.StatusBadRequest}
	}
	result, err := d.world.stacks.Serve(ctx, cloudformation.Call{
		Operation: c.Operation, Input: c.form, Fail: c.fail,
		Where: cloudformation.Where{Partition: c.Partition, Account: c.Account, Region: c.Region},
		Who:   cloudformation.Caller{Account: c.Account, ARN: c.principal, AccessKeyID: c.signed.AccessKeyID},
	})
	if err != nil {
		return nil, err
	}
	requestID := newRequestID()
	text := xml.Header + "<" + c.Operation + `Response xmlns="` + cloudformation.Namespace + `">` + string(result) +
		"<ResponseMetadata><RequestId>" + requestID + "</RequestId></ResponseMetadata></" + c.Operation + "Response>"
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"text/xml"}, "X-Amzn-Requestid": {requestID}},
		Body: io.NopCloser(strings.NewReader(text)), ContentLength: int64(len(text))}, nil
}

// openStacks makes CloudFormation, with the stacks that the directory has.
func (d *Double) openStacks(c interface{ Now() time.Time }) (err error) {
	d.world.stacks, err = cloudformation.New(cloudformation.Options{Clock: c, World: stackWorld{d}, File: filepath.Join(d.dir, "stacks.json"), Log: d.log})
	return err
}

// settleStacks lets stacks do what is due before somebody looks at what they make.
func (d *Double) settleStacks(ctx context.Context) {
	if d.world.stacks.Pending() {
		d.world.stacks.Settle(ctx)
	}
}

// cloudFormationService is who calls in a stack's name.
const cloudFormationService = "cloudformation.amazonaws.com"

// stackWorld is the double around CloudFormation.
type stackWorld struct{ *Double }

// IAM is a client that calls as somebody, in this process.
func (w stackWorld) IAM(who cloudformation.Caller) *iam.Client {
	return iam.New(iam.Options{
		Region: w.region, BaseEndpoint: aws.String("http://iam.amazonaws.com"), Credentials: aws.AnonymousCredentials{},
		HTTPClient: &http.Client{Transport: onBehalf{w.Double, who}},
		// CloudFormation tries again what was too much, or failed; there is no one to wait for here.
		Retryer: retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 5, time.Millisecond }),
	})
}

// onBehalf performs a stack's calls to IAM. They meet faults as everybody's do, but that
// an answer cannot be lost.
type onBehalf struct {
	d   *Double
	who cloudformation.Caller
}

func (o onBehalf) RoundTrip(r *http.Request) (*http.Response, error) {
	body, err := readBody(r)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, err
	}
	c := &call{Service: "iam", signing: "iam", Operation: form.Get("Action"), protocol: queryProtocol, Account: o.who.Account, form: form, body: body, request: r}
	seen := Call{Service: "iam", Operation: c.Operation, Region: o.d.region, Caller: o.who.ARN, Via: cloudFormationService, Decision: Undecided}
	defer func() { o.d.callLog.write(seen) }()
	refuse := func(refused *refusal) (*http.Response, error) {
		seen.Status = refused.Status
		return refused.answer(c, newRequestID(), nil), nil
	}
	if _, _, refused := o.d.faults.strike(c); refused != nil {
		return refuse(refused)
	}
	caller, err := o.d.identity.OnBehalf(o.who.AccessKeyID, cloudFormationService)
	if err != nil {
		refused, _ := asRefusal(err)
		return refuse(refused)
	}
	seen.Caller = caller.ARN
	w := &recorder{header: http.Header{}}
	o.d.identity.ServeAs(caller, w, r.WithContext(awsidentity.Watch(r.Context(), func(q iampolicy.Request, _ iampolicy.Decision) {
		seen.Actions, seen.Resources = append(seen.Actions, q.Action), append(seen.Resources, q.Resource)
	})))
	answer := w.response()
	seen.Decision, seen.Status = Allowed, answer.StatusCode
	if answer.StatusCode == http.StatusForbidden {
		seen.Decision = Refused
	}
	if answer.StatusCode < 300 {
		o.d.mirror(r.Context(), c)
	}
	return answer, nil
}

// Object reads an object with somebody's rights.
func (w stackWorld) Object(ctx context.Context, who cloudformation.Caller, at cloudformation.Where, bucket, key, version string) ([]byte, error) {
	query := ""
	params := branch("", leaf("Bucket", bucket), leaf("Key", key))
	if version != "" {
		query = "?versionId=" + url.QueryEscape(version)
		params.set("versionId", version)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/"+url.PathEscape(bucket)+"/"+(&url.URL{Path: key}).EscapedPath()+query, nil)
	if err != nil {
		return nil, &cloudformation.Error{Code: "NoSuchKey", Message: "The specified key does not exist.", Status: http.StatusNotFound}
	}
	c := &call{Service: "s3", signing: "s3", Operation: "GetObject", protocol: s3Protocol, Account: who.Account, Partition: at.Partition, Region: at.Region,
		principal: who.ARN, params: params, request: r}
	denied := &cloudformation.Error{Code: codeDenied, Message: "Access Denied", Status: http.StatusForbidden}
	if _, _, refused := w.faults.strike(c); refused != nil {
		return nil, denied
	}
	caller, err := w.identity.OnBehalf(who.AccessKeyID, cloudFormationService)
	if err != nil {
		return nil, err
	}
	questions, err := w.mapping.questions(ctx, c, w.world)
	if err != nil {
		return nil, err
	}
	if err := w.decide(ctx, c, caller, questions); err != nil {
		var refused *awsidentity.Error
		if errors.As(err, &refused) {
			return nil, denied
		}
		return nil, err
	}
	answer, err := w.behind(ctx, c)
	var refused *refusal
	if errors.As(err, &refused) {
		return nil, &cloudformation.Error{Code: refused.Code, Message: refused.Message, Status: refused.Status}
	}
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, 2<<20)) // above what a template may have
	if err != nil {
		return nil, fmt.Errorf("reading %s of bucket %s: %w", key, bucket, err)
	}
	if answer.StatusCode >= 300 {
		said, err := fromXML(content)
		if err != nil || said.one("Message") == "" {
			return nil, denied
		}
		return nil, &cloudformation.Error{Code: said.one("Code"), Message: said.one("Message"), Status: answer.StatusCode}
	}
	return content, nil
}

// Assume gives CloudFormation a session of a role that trusts it, which is kept for as
// long as a stack's operation may take.
func (w stackWorld) Assume(ctx context.Context, arn string) (cloudformation.Caller, error) {
	role, err := w.world.Role(ctx, arn)
	if err != nil {
		return cloudformation.Caller{}, err
	}
	if role == nil || !slices.Contains(role.Trusts, cloudFormationService) {
		return cloudformation.Caller{}, &cloudformation.Error{Code: codeDenied, Message: "The role cannot be assumed.", Status: http.StatusForbidden}
	}
	session, err := w.identity.Session(arn, "AWSCloudFormation", sessionLength)
	if err != nil {
		return cloudformation.Caller{}, err
	}
	return cloudformation.Caller{Account: strings.Split(arn, ":")[4], ARN: arn, AccessKeyID: session.AccessKeyID}, nil
}

// Endpoint says whether a host is on this machine: there is no S3 but the double's, whatever
// stands before it.
func (w stackWorld) Endpoint(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || ip != nil && ip.IsLoopback()
}
