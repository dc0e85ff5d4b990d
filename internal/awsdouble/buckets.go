package awsdouble

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"

	"biplane.dev/biplane/provision/iampolicy"
)

// buckets is what the double knows of moto's buckets: who has them, which moto
// tells, and their policies, which are kept here. moto would enforce a policy
// without looking at its conditions, and so refuse what AWS allows.
type buckets struct {
	lock     sync.Mutex
	owners   map[string]string // account by bucket, of those that were looked up
	policies map[string]bucketPolicy
}

type bucketPolicy struct {
	text     string
	document *iampolicy.Document
}

// reset forgets everything, with the moto that had the buckets.
func (b *buckets) reset() {
	b.lock.Lock()
	defer b.lock.Unlock()
	b.owners, b.policies = map[string]string{}, map[string]bucketPolicy{}
}

func (b *buckets) forget(bucket string) {
	b.lock.Lock()
	defer b.lock.Unlock()
	delete(b.owners, bucket)
	delete(b.policies, bucket)
}

// policy is the policy on a bucket, or nil.
func (b *buckets) policy(bucket string) *iampolicy.Document {
	b.lock.Lock()
	defer b.lock.Unlock()
	return b.policies[bucket].document
}

// s3 performs a decided call of S3.
func (d *Double) s3(ctx context.Context, c *call) (*http.Response, error) {
	if err := d.expectedOwner(ctx, c); err != nil {
		return nil, err
	}
	switch c.Operation {
	case "CreateBucket":
		if name := c.params.one("Bucket"); !validBucket(name) {
			return nil, &refusal{"InvalidBucketName", "The specified bucket is not valid.", http.StatusBadRequest}
		}
	case "PutBucketPolicy":
		if err := d.bucketPolicyFits(ctx, c); err != nil {
			return nil, err
		}
		fallthrough
	case "GetBucketPolicy", "DeleteBucketPolicy":
		answer, err := d.world.buckets.policyCall(c)
		if b := d.world.backed; err != nil || b == nil || c.Account != b.account || c.Operation == "GetBucketPolicy" {
			return answer, err
		}
		answer.Body.Close() // the sandbox's pods go by the policy too
	}
	return d.forward(ctx, c)
}

// expectedOwner refuses a call on a bucket that another account has than the call
// says (Amazon S3 User Guide, Verifying bucket ownership with bucket owner condition).
// moto takes any account for right.
func (d *Double) expectedOwner(ctx context.Context, c *call) error {
	source, _, _ := strings.Cut(strings.TrimPrefix(c.request.Header.Get("X-Amz-Copy-Source"), "/"), "/")
	for header, bucket := range map[string]string{"X-Amz-Expected-Bucket-Owner": c.params.one("Bucket"), "X-Amz-Source-Expected-Bucket-Owner": source} {
		expected := c.request.Header.Get(header)
		if expected == "" { // in a presigned URL
			expected = queryFold(c.request.URL.Query(), header)
		}
		if expected == "" || bucket == "" {
			continue
		}
		owner, err := d.world.bucketOwner(ctx, c, bucket)
		if err != nil {
			return err
		}
		if owner != "" && owner != expected {
			return &refusal{codeDenied, "Access Denied", http.StatusForbidden}
		}
	}
	return nil
}

func queryFold(query url.Values, name string) string {
	for key, values := range query {
		if strings.EqualFold(key, name) {
			return values[0]
		}
	}
	return ""
}

var bucketForm = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// validBucket says whether a bucket can have a name (Amazon S3 User Guide, General
// purpose bucket naming rules).
func validBucket(name string) bool {
	_, notAddress := netip.ParseAddr(name)
	return bucketForm.MatchString(name) && notAddress != nil && !strings.Contains(name, "..") && !strings.HasPrefix(name, "xn--") &&
		!strings.HasPrefix(name, "sthree-") && !strings.HasSuffix(name, "-s3alias") && !strings.HasSuffix(name, "--ol-s3")
}

// bucketPolicyFits refuses a policy on something else than its bucket, with principals
// that are not there, or, where the bucket blocks those, one for everybody.
func (d *Double) bucketPolicyFits(ctx context.Context, c *call) error {
	bucket := c.params.one("Bucket")
	if owner, err := d.world.bucketOwner(ctx, c, bucket); err != nil || owner == "" {
		return err // policyCall says that it is not there
	}
	document, err := iampolicy.Parse("the policy of bucket "+bucket, c.body)
	if err != nil {
		return nil // policyCall says what is wrong
	}
	public := false
	for _, statement := range document.Statements {
		for _, resource := range statement.Resource {
			if of := bucketOf(resource); of != bucket && !wildcard(of, bucket) {
				return &refusal{"MalformedPolicy", "Policy has invalid resource", http.StatusBadRequest}
			}
		}
		if statement.Principal == nil {
			continue
		}
		for _, arn := range statement.Principal.AWS {
			if there, err := d.principalThere(ctx, arn); err != nil || !there {
				return cmp.Or[error](err, &refusal{"MalformedPolicy", "Invalid principal in policy", http.StatusBadRequest})
			}
		}
		everybody := statement.Principal.Any || slices.Contains(statement.Principal.AWS, "*")
		public = public || everybody && statement.Effect == iampolicy.Allow && len(statement.Condition) == 0
	}
	if !public || d.world.backed != nil && d.world.backed.account == c.Account {
		return nil
	}
	text, err := d.world.raw(ctx, c.Account, c.Region, want{service: "s3", operation: "GetPublicAccessBlock", path: "/" + bucket + "?publicAccessBlock"})
	if err != nil || text == nil {
		return err // it has no block
	}
	block, err := fromXML(text)
	if err != nil {
		return fmt.Errorf("reading what bucket %s blocks: %w", bucket, err)
	}
	if strings.EqualFold(block.one("BlockPublicPolicy"), "true") {
		return &refusal{codeDenied, "public policies are blocked by the BlockPublicPolicy block public access setting", http.StatusForbidden}
	}
	return nil
}

// principalThere says whether a policy of a resource can name a principal: roles and
// users must be there, and be seen.
func (d *Double) principalThere(ctx context.Context, arn string) (bool, error) {
	f := strings.SplitN(arn, ":", 6)
	if len(f) != 6 || !strings.HasPrefix(f[5], "role/") && !strings.HasPrefix(f[5], "user/") {
		return true, nil
	}
	return d.world.PrincipalExists(ctx, arn)
}

// policyCall answers the three operations on a bucket's policy.
func (b *buckets) policyCall(c *call) (*http.Response, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	bucket := c.params.one("Bucket")
	if b.owners[bucket] == "" {
		return nil, &refusal{"NoSuchBucket", "The specified bucket does not exist", http.StatusNotFound}
	}
	switch c.Operation {
	case "PutBucketPolicy":
		document, err := iampolicy.Parse("the policy of bucket "+bucket, c.body)
		if err != nil {
			return nil, &refusal{"MalformedPolicy", capital(err.Error()) + ".", http.StatusBadRequest}
		}
		b.policies[bucket] = bucketPolicy{string(c.body), document}
	case "DeleteBucketPolicy":
		delete(b.policies, bucket)
	case "GetBucketPolicy":
		policy, ok := b.policies[bucket]
		if !ok {
			return nil, &refusal{"NoSuchBucketPolicy", "The bucket policy does not exist", http.StatusNotFound}
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}},
			Body: io.NopCloser(strings.NewReader(policy.text))}, nil
	}
	return &http.Response{StatusCode: http.StatusNoContent, Header: http.Header{}, Body: http.NoBody}, nil
}

// bucketOwner is the account that has a bucket, or "".
func (w *world) bucketOwner(ctx context.Context, c *call, bucket string) (string, error) {
	b := &w.buckets
	b.lock.Lock()
	owner, ok := b.owners[bucket]
	b.lock.Unlock()
	if ok {
		return owner, nil
	}
	for account := range w.identity.keys {
		text, err := w.listBuckets(ctx, account, c.Region)
		if err != nil {
			return "", err
		}
		list, err := fromXML(text)
		if err != nil {
			return "", fmt.Errorf("reading moto's buckets: %w", err)
		}
		for _, name := range list.all("Buckets.Bucket.Name") {
			if name == bucket {
				b.lock.Lock()
				b.owners[bucket] = account
				b.lock.Unlock()
				return account, nil
			}
		}
	}
	return "", nil
}

func (w *world) listBuckets(ctx context.Context, account, region string) ([]byte, error) {
	if w.backed != nil && w.backed.account == account {
		return w.backed.listBuckets(ctx)
	}
	return w.raw(ctx, account, region, want{service: "s3", operation: "ListBuckets", path: "/"})
}
