package awsdouble

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"time"

	"biplane.dev/biplane/internal/awsidentity"
	"biplane.dev/biplane/internal/usererr"
	"biplane.dev/biplane/provision/iampolicy"
)

// ServeHTTP is what happens to every request, in order: it is recognised, may
// meet a fault, is authenticated and decided, performed, and answered.
func (d *Double) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	requestID := newRequestID()
	control := http.NewResponseController(w)
	control.SetReadDeadline(time.Now().Add(d.patience))
	if d.world.lambdas.takeAnswer(w, r) {
		return
	}
	var decided []iampolicy.Request
	r = r.WithContext(awsidentity.Watch(r.Context(), func(q iampolicy.Request, _ iampolicy.Decision) { decided = append(decided, q) }))
	c, err := recognise(r, d.routes)
	if err == nil {
		control.SetReadDeadline(time.Time{}) // objects may take their time
		// What was not read by then, the server throws away, and waits for it.
		defer func() { control.SetReadDeadline(time.Now().Add(d.patience)) }()
	}
	seen := Call{N: int(d.count.Add(1)), Service: c.Service, Operation: c.Operation, Region: c.Region}
	var answer *http.Response
	lost := false
	if err == nil {
		answer, lost, err = d.serve(c, &seen)
	}
	if err != nil {
		if r.Context().Err() != nil {
			panic(http.ErrAbortHandler) // nobody listens any more
		}
		refused, internal := asRefusal(err)
		if internal {
			d.log.Error("call failed", "service", c.Service, "operation", c.Operation, "error", usererr.Chain(err))
		}
		answer = refused.answer(c, requestID, fieldsOf(err))
		if seen.Decision == "" {
			seen.Decision = Undecided
		}
	}
	defer answer.Body.Close()
	seen.Status = answer.StatusCode
	d.complete(c, &seen, decided)
	d.callLog.write(seen)
	if d.observe != nil {
		d.observe(seen)
	}
	if lost {
		io.Copy(io.Discard, answer.Body) // until then it may still be under way
		panic(http.ErrAbortHandler)
	}
	maps.Copy(w.Header(), answer.Header)
	w.Header().Set("Date", d.now().UTC().Format(http.TimeFormat))
	w.WriteHeader(answer.StatusCode)
	if _, err := io.Copy(flushing{w}, answer.Body); err != nil {
		panic(http.ErrAbortHandler) // a cut answer must not look like a whole one
	}
}

// complete fills in what is known of a call only at its end.
func (d *Double) complete(c *call, seen *Call, decided []iampolicy.Request) {
	seen.Asked = decided
	if len(seen.Actions) == 0 { // IAM and STS ask by themselves
		for _, q := range decided {
			seen.Actions, seen.Resources = append(seen.Actions, q.Action), append(seen.Resources, q.Resource)
		}
	}
	if seen.Caller == "" && c.signed != nil {
		// A key that is not known has no owner, and a store that fails says so elsewhere.
		seen.Caller, _, _, _ = d.identity.KnownKey(c.signed.AccessKeyID)
	}
}

// flushing sends what it gets at once, so that streams stay streams.
type flushing struct{ w http.ResponseWriter }

func (f flushing) Write(p []byte) (int, error) {
	n, err := f.w.Write(p)
	if flusher, ok := f.w.(http.Flusher); ok && err == nil {
		flusher.Flush()
	}
	return n, err
}

// serve performs a call that was recognised, or returns why not. seen is filled
// in on the way; lost says that the answer must not reach the client.
func (d *Double) serve(c *call, seen *Call) (answer *http.Response, lost bool, err error) {
	ctx := c.request.Context()
	delay, lost, refused := d.faults.strike(c) // and may have what the call makes fail
	if delay += d.latency; delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return nil, false, context.Cause(ctx)
		}
	}
	if refused != nil {
		return nil, false, refused
	}

	d.settleStacks(ctx)

	// IAM and STS authenticate and decide by themselves, on the same engine.
	if c.Service == "iam" || c.Service == "sts" {
		cut, err := d.ask(*seen)
		if err != nil {
			return nil, false, err
		}
		answer := d.perform(c)
		seen.Decision = Allowed
		if answer.StatusCode == http.StatusForbidden {
			seen.Decision = Refused
		}
		if answer.StatusCode < 300 {
			d.mirror(ctx, c)
		}
		return answer, lost || cut, nil
	}

	caller, err := d.authenticate(c)
	if err != nil {
		return nil, false, err
	}
	if caller != nil {
		seen.Caller, c.Account, c.Partition, c.principal = caller.ARN, caller.Account, caller.Partition, caller.PrincipalARN
	}
	if c.protocol == s3Protocol {
		if err := c.readS3Body(); err != nil {
			return nil, false, err
		}
	}
	if c.Service == "elasticloadbalancing" && c.params.one("Version") == "2012-06-01" {
		return nil, false, &refusal{codeUnknown, "Classic load balancers are not known to the AWS double.", http.StatusBadRequest}
	}
	questions, err := d.mapping.questions(ctx, c, d.world)
	if err != nil {
		return nil, false, err
	}
	for _, q := range questions {
		seen.Actions = append(seen.Actions, q.Action)
		seen.Resources = append(seen.Resources, q.Resource)
	}
	seen.Decision = Refused
	if err := d.decide(ctx, c, caller, questions); err != nil {
		return nil, false, err
	}
	seen.Decision = Allowed
	if c.Service == "ec2" && strings.EqualFold(c.params.one("DryRun"), "true") {
		return nil, false, &refusal{"DryRunOperation", "Request would have succeeded, but DryRun flag is set.", http.StatusPreconditionFailed}
	}
	cut, err := d.ask(*seen)
	if err != nil {
		return nil, false, err
	}
	// To its end, though the client may be gone by then: a call that AWS has begun is
	// performed whole, and one of ours may consist of several of the emulator's.
	answer, err = d.behind(context.WithoutCancel(ctx), c)
	if err == nil && answer.StatusCode < 300 {
		d.linkRoles(c.Account, questions)
	}
	return answer, lost || cut, err
}

// behind has a decided call performed, by whoever has the service.
func (d *Double) behind(ctx context.Context, c *call) (*http.Response, error) {
	switch c.Service {
	case "eks":
		return d.eks(ctx, c)
	case "cloudformation":
		return d.cloudFormation(ctx, c)
	case "ec2":
		return d.ec2(ctx, c)
	case "elasticloadbalancing":
		return d.elb(ctx, c)
	case "ecs":
		return d.ecs(ctx, c)
	case "lambda":
		return d.lambda(ctx, c)
	case "kms":
		return d.kms(ctx, c)
	case "logs":
		return d.logs(ctx, c)
	case "sqs":
		return d.sqs(ctx, c)
	case "s3":
		return d.s3(ctx, c)
	case "route53":
		return d.route53(ctx, c)
	case "ssm":
		return d.ssm(ctx, c)
	case "organizations":
		return d.organizations(c)
	}
	return d.forward(ctx, c)
}

// mirror has the sandbox behind the customer's account write what IAM wrote here.
func (d *Double) mirror(ctx context.Context, c *call) {
	b := d.world.backed
	if b == nil || c.Service != "iam" || !isMirrored(c.Operation) {
		return
	}
	account, err := c.Account, error(nil) // of a stack's call; of others the key says it
	if c.signed != nil {
		var arn string
		arn, _, _, err = d.identity.KnownKey(c.signed.AccessKeyID)
		account = ownerOf(iampolicy.Request{Resource: arn})
	}
	if err == nil && account == b.account {
		err = b.mirror(ctx, c)
	}
	if err != nil {
		d.log.Error("what IAM wrote did not reach the sandbox", "operation", c.Operation, "error", err)
	}
}

// ask gives the hook its say, just before a call is performed.
func (d *Double) ask(seen Call) (cut bool, err error) {
	if d.hook == nil {
		return false, nil
	}
	v := d.hook(seen)
	if v.refusal != nil {
		return false, v.refusal
	}
	return v.drop, nil
}

// authenticate finds the caller; nil is nobody, whom only S3 listens to.
func (d *Double) authenticate(c *call) (*awsidentity.Caller, error) {
	if c.signed == nil {
		c.Account = d.customer
		return nil, nil
	}
	caller, err := d.identity.Authenticate(c.request)
	if err != nil {
		return nil, err
	}
	return caller, nil
}

// decide returns nil when every question is answered with yes.
func (d *Double) decide(ctx context.Context, c *call, caller *awsidentity.Caller, questions []iampolicy.Request) error {
	if len(questions) == 0 {
		return fmt.Errorf("%s:%s came to no question, which would let it pass undecided", c.Service, c.Operation)
	}
	for _, q := range questions {
		var policy *iampolicy.Document
		if bucket := bucketOf(q.Resource); bucket != "" && bucket != "*" && c.Operation != "CreateBucket" {
			owner, err := d.world.bucketOwner(ctx, c, bucket)
			if err != nil {
				return err
			}
			if owner != "" {
				q.ResourceAccount = owner
				policy = d.world.buckets.policy(bucket)
				if bucket == c.params.one("Bucket") {
					c.Account = owner // moto keeps a bucket under its owner
				}
			}
		}
		if policy == nil && caller != nil && ownerOf(q) != "" && ownerOf(q) != caller.Account {
			// Across accounts the resource's policy must allow; this one has none
			// that is known here.
			policy = &iampolicy.Document{Name: "no resource policy", Version: "2012-10-17"}
		}
		if caller == nil {
			if err := decideNobody(q, policy, c.request); err != nil {
				return err
			}
			continue
		}
		if err := d.identity.Authorize(caller, []iampolicy.Request{q}, policy); err != nil {
			return err
		}
	}
	return nil
}

// ownerOf is the account that a question's resource belongs to, or "" where it
// does not say.
func ownerOf(q iampolicy.Request) string {
	if q.ResourceAccount != "" {
		return q.ResourceAccount
	}
	if f := strings.SplitN(q.Resource, ":", 6); len(f) == 6 && accountForm.MatchString(f[4]) {
		return f[4]
	}
	return ""
}

// decideNobody decides an unsigned request: only the bucket's policy can allow it.
func decideNobody(q iampolicy.Request, policy *iampolicy.Document, r *http.Request) error {
	denied := &refusal{codeDenied, "Access Denied", http.StatusForbidden}
	if policy == nil {
		return denied
	}
	evaluator, err := iampolicy.Compile(iampolicy.Policies{Resource: policy})
	if err != nil {
		return fmt.Errorf("compiling a bucket's policy: %w", err)
	}
	q.Principal = iampolicy.Principal{Type: iampolicy.Anonymous}
	q.Context.Set("aws:SecureTransport", "true")
	q.Context.Set("aws:PrincipalType", "Anonymous")
	if agent := r.UserAgent(); agent != "" {
		q.Context.Set("aws:UserAgent", agent)
	}
	if evaluator.Decide(&q) != iampolicy.Allowed {
		return denied
	}
	return nil
}

// perform lets the identity service answer.
func (d *Double) perform(c *call) *http.Response {
	w := &recorder{header: http.Header{}}
	d.identity.ServeHTTP(w, c.request)
	return w.response()
}

// linkRoles makes the service-linked roles that a call needed, as the service
// would have done itself.
func (d *Double) linkRoles(account string, questions []iampolicy.Request) {
	for _, q := range questions {
		if service, ok := q.Context.Get("iam:AWSServiceName"); ok && q.Action == "iam:CreateServiceLinkedRole" {
			d.world.identity.ask(account, "CreateServiceLinkedRole", "AWSServiceName", service[0])
		}
	}
}

// recorder keeps an answer, so that it can be looked at and be lost.
type recorder struct {
	header http.Header
	status int
	body   bytes.Buffer
}

func (w *recorder) Header() http.Header { return w.header }

func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
}

func (w *recorder) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.body.Write(p)
}

func (w *recorder) response() *http.Response {
	w.WriteHeader(http.StatusOK)
	return &http.Response{StatusCode: w.status, Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len())}
}

func newRequestID() string {
	var b [16]byte
	rand.Read(b[:])
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
